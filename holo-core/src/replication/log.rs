//! The log of one replica: the entries that it still keeps, in order.

use std::collections::VecDeque;

use super::messages::{Entry, LogPosition};
use crate::group::Seq;
use crate::{Epoch, limits};

/// Consecutive entries after a place.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The place before the first kept entry.
    start: LogPosition,
    entries: VecDeque<Entry>,
    bytes: u64,
}

impl Log {
    /// A log that goes on after `start`.
    pub(super) fn after(start: LogPosition) -> Self {
        Self { start, ..Self::default() }
    }

    /// Appends the next entry.
    ///
    /// # Panics
    ///
    /// When it is not the next: a bug of the caller.
    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(entry.seq, self.last().seq.next(), "a log has no gaps");
        self.bytes += entry.log_bytes();
        self.entries.push_back(entry);
    }

    /// Takes off every entry after `seq`.
    pub(super) fn cut_after(&mut self, seq: Seq) -> Vec<Entry> {
        let keep = self.index_after(seq).min(self.entries.len());
        let cut: Vec<Entry> = self.entries.drain(keep..).collect();
        self.bytes -= cut.iter().map(Entry::log_bytes).sum::<u64>();
        cut
    }

    /// Takes off the first entry when it is at most `up_to`.
    pub(super) fn trim_first(&mut self, up_to: Seq) -> Option<Entry> {
        if self.entries.front()?.seq > up_to {
            return None;
        }
        let first = self.entries.pop_front()?;
        self.bytes -= first.log_bytes();
        self.start = first.position();
        Some(first)
    }

    /// Whether another entry of `bytes` finds room.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.entries.is_empty()
            || (self.entries.len() < limits::GROUP_LOG_ENTRIES_MAX
                && self.bytes.saturating_add(bytes) <= limits::GROUP_LOG_BYTES_MAX)
    }

    /// The entry of a number, when it is kept.
    pub(super) fn get(&self, seq: Seq) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq.0.checked_sub(self.start.seq.0 + 1)?).ok()?)
    }

    /// The epoch at a number, the one at the start included.
    pub(super) fn epoch_at(&self, seq: Seq) -> Option<Epoch> {
        if seq == self.start.seq {
            return Some(self.start.epoch);
        }
        self.get(seq).map(|entry| entry.epoch)
    }

    /// The place before the first kept entry.
    pub(super) fn start(&self) -> LogPosition {
        self.start
    }

    /// The place of the last entry.
    pub(super) fn last(&self) -> LogPosition {
        self.entries.back().map_or(self.start, Entry::position)
    }

    /// The kept entries after `seq`.
    pub(super) fn after_seq(&self, seq: Seq) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.index_after(seq).min(self.entries.len())..)
    }

    /// Kept entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Their bytes, payloads included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn index_after(&self, seq: Seq) -> usize {
        usize::try_from(seq.0.saturating_sub(self.start.seq.0)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::{EntryOp, SessionId};

    fn entry(epoch: u64, seq: u64) -> Entry {
        Entry {
            epoch: Epoch(epoch),
            seq: Seq(seq),
            request: None,
            expired_below: SessionId(0),
            op: EntryOp::Barrier,
            payload: None,
        }
    }

    fn position(epoch: u64, seq: u64) -> LogPosition {
        LogPosition { epoch: Epoch(epoch), seq: Seq(seq) }
    }

    #[test]
    fn entries_are_found_by_number_whatever_was_cut_or_trimmed() {
        let mut log = Log::after(position(2, 10));
        assert_eq!((log.last(), log.epoch_at(Seq(10))), (position(2, 10), Some(Epoch(2))));
        for seq in 11..=15 {
            log.push(entry(3, seq));
        }
        assert_eq!(log.trim_first(Seq(11)).map(|e| e.seq), Some(Seq(11)));
        assert_eq!(log.trim_first(Seq(11)), None);
        assert_eq!((log.start(), log.epoch_at(Seq(10))), (position(3, 11), None));
        assert_eq!(log.get(Seq(12)).map(|e| e.seq), Some(Seq(12)));
        let cut: Vec<_> = log.cut_after(Seq(13)).iter().map(|e| e.seq.0).collect();
        assert_eq!(cut, [14, 15]);
        assert_eq!((log.last(), log.len()), (position(3, 13), 2));
        assert_eq!(log.after_seq(Seq(12)).count(), 1);
        assert_eq!(log.after_seq(Seq(0)).count(), 2);
        assert_eq!(log.after_seq(Seq(99)).count(), 0);
        assert!(log.cut_after(Seq(0)).len() == 2 && log.bytes() == 0);
        assert_eq!(log.last(), log.start());
    }

    #[test]
    #[should_panic(expected = "no gaps")]
    fn a_gap_is_a_bug() {
        Log::default().push(entry(1, 2));
    }
}
