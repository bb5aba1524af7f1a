//! Which staged bytes lie on this replica, and which entries of its log name them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::messages::{Entry, Payload, PayloadId};
use crate::{ErrorCode, Failure, Instant, limits};

/// The payloads of one group on one replica.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    known: BTreeMap<PayloadId, Known>,
    /// Those of `known` that no entry names.
    unnamed: usize,
}

#[derive(Debug)]
struct Known {
    ready: bool,
    /// Entries of the log that name it.
    named: usize,
    since: Instant,
}

impl Payloads {
    /// The bytes of a payload lie here.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Overloaded`] when too many lie here that nobody names.
    pub(super) fn ready(&mut self, id: PayloadId, now: Instant) -> Result<(), Failure> {
        if let Some(known) = self.known.get_mut(&id) {
            known.ready = true;
            return Ok(());
        }
        if self.unnamed >= limits::PAYLOADS_READY_MAX {
            let message = format!("{} staged writes wait to be named", self.unnamed);
            return Err(Failure::new(ErrorCode::Overloaded, message).retry_after_ms(50));
        }
        self.unnamed += 1;
        self.known.insert(id, Known { ready: true, named: 0, since: now });
        Ok(())
    }

    /// An entry came into the log.
    pub(super) fn name(&mut self, entry: &Entry, now: Instant) {
        let Some(payload) = entry.payload else { return };
        match self.known.get_mut(&payload.id) {
            Some(known) => {
                self.unnamed -= usize::from(known.named == 0);
                known.named += 1;
            }
            None => {
                self.known.insert(payload.id, Known { ready: false, named: 1, since: now });
            }
        }
    }

    /// An entry left the log; gives back the payload when it was the last to name it.
    pub(super) fn unname(&mut self, entry: &Entry) -> Option<PayloadId> {
        let id = entry.payload?.id;
        let known = self.known.get_mut(&id)?;
        known.named = known.named.saturating_sub(1);
        if known.named > 0 {
            return None;
        }
        self.known.remove(&id);
        Some(id)
    }

    /// Whether nothing of the entry is missing here.
    pub(super) fn has(&self, payload: Option<Payload>) -> bool {
        payload.is_none_or(|payload| self.known.get(&payload.id).is_some_and(|known| known.ready))
    }

    /// Whether the payload lies here and no entry names it yet.
    pub(super) fn is_fresh(&self, id: PayloadId) -> bool {
        self.known.get(&id).is_some_and(|known| known.ready && known.named == 0)
    }

    /// Forgets a payload that no entry names; says whether it was known.
    pub(super) fn drop_unnamed(&mut self, id: PayloadId) -> bool {
        let unnamed = self.known.get(&id).is_some_and(|known| known.named == 0);
        if unnamed {
            self.known.remove(&id);
            self.unnamed -= 1;
        }
        unnamed
    }

    /// Forgets what no entry has named for `keep`.
    pub(super) fn expire(&mut self, now: Instant, keep: Duration) -> Vec<PayloadId> {
        if self.unnamed == 0 {
            return Vec::new();
        }
        let is_old = |known: &Known| known.named == 0 && now.since(known.since) >= keep;
        let old: Vec<_> =
            self.known.iter().filter(|(_, known)| is_old(known)).map(|(id, _)| *id).collect();
        for id in &old {
            self.drop_unnamed(*id);
        }
        old
    }

    /// Forgets everything, and says what it was.
    pub(super) fn clear(&mut self) -> Vec<PayloadId> {
        self.unnamed = 0;
        std::mem::take(&mut self.known).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;
    use crate::group::Seq;
    use crate::replication::{EntryOp, ReplicaId, SessionId};

    fn payload(number: u64) -> Payload {
        Payload { id: PayloadId { origin: ReplicaId::default(), number }, len: 5 }
    }

    fn entry(number: u64) -> Entry {
        Entry {
            epoch: Epoch(1),
            seq: Seq(1),
            request: None,
            expired_below: SessionId(0),
            op: EntryOp::Barrier,
            payload: Some(payload(number)),
        }
    }

    #[test]
    fn bytes_may_come_before_or_after_the_entry_that_names_them() {
        let mut payloads = Payloads::default();
        payloads.ready(payload(1).id, Instant(0)).unwrap();
        assert!(payloads.is_fresh(payload(1).id));
        payloads.name(&entry(1), Instant(0));
        assert!(payloads.has(Some(payload(1))) && !payloads.is_fresh(payload(1).id));
        payloads.name(&entry(2), Instant(0));
        assert!(!payloads.has(Some(payload(2))));
        payloads.ready(payload(2).id, Instant(0)).unwrap();
        assert!(payloads.has(Some(payload(2))) && payloads.has(None));
        assert_eq!(payloads.unname(&entry(1)), Some(payload(1).id));
        assert_eq!(payloads.clear(), [payload(2).id]);
    }

    #[test]
    fn what_two_entries_name_is_kept_for_the_second() {
        let mut payloads = Payloads::default();
        payloads.name(&entry(1), Instant(0));
        payloads.name(&entry(1), Instant(0));
        assert_eq!(payloads.unname(&entry(1)), None);
        assert_eq!(payloads.unname(&entry(1)), Some(payload(1).id));
    }

    #[test]
    fn what_nobody_names_is_bounded_and_given_up_after_a_while() {
        let mut payloads = Payloads::default();
        for number in 0..limits::PAYLOADS_READY_MAX as u64 {
            payloads.ready(payload(number).id, Instant(number)).unwrap();
        }
        let refused = payloads.ready(payload(u64::MAX).id, Instant(0)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        payloads.name(&entry(0), Instant(0));
        let old = payloads.expire(Instant(10), Duration::from_nanos(8));
        assert_eq!(old, [payload(1).id, payload(2).id]);
        assert!(payloads.has(Some(payload(0))), "an entry names it");
    }
}
