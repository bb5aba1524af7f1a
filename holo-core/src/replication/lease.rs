//! Permission to read locally, granted between two replicas for all groups that they share at once.
//!
//! The *holder* leads groups of which the *grantor* is a member. It beats; the grantor answers with the version of
//! the *lease set*: the groups for which it promises to serve nobody else's reads until its receipt of the beat plus
//! the lease and a margin for drifting clocks. The holder counts the lease from the *sending* of the beat. So no clock
//! is compared with another one; only their rates matter.
//!
//! # Invariants
//!
//! 1. A group leaves the set, which gets a new version, before the grantor adopts a config with another primary; the
//!    promise stays behind, frozen at its last value, until it passes or the holder gives it back.
//! 2. The holder counts an ack for a group only at a version whose set, as the grantor sent it, has the group.
//! 3. The promise of a pair never gets shorter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::config::GroupId;
use super::messages::{BeatAck, SetVersion};
use super::mutant::Mutant;
use crate::{Epoch, ErrorCode, Failure, Instant, limits};

/// Both sides of one pair of replicas, as one of them keeps them.
#[derive(Debug, Default)]
pub(super) struct PeerLease {
    /// What the peer granted us.
    pub(super) held: HeldLease,
    /// What we granted the peer.
    pub(super) granted: GrantedLease,
}

/// The holder's side.
#[derive(Debug, Default)]
pub(super) struct HeldLease {
    known: SetVersion,
    set: BTreeSet<GroupId>,
    until: Instant,
    /// The send time of the newest beat: nobody answers a later one.
    beaten_at: Instant,
    /// Groups were taken out of the set here; ask for the whole set.
    refresh: bool,
}

impl HeldLease {
    /// Notes that a beat leaves, and says which version of the set it shall name.
    pub(super) fn beat(&mut self, now: Instant) -> SetVersion {
        self.beaten_at = self.beaten_at.max(now);
        if self.refresh { SetVersion(0) } else { self.known }
    }

    /// Takes the answer to a beat; says whether a lease may have changed.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] for an answer to a beat that was never sent, or a set that is too large.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        ack: BeatAck,
        lease: Duration,
        mutant: Mutant,
    ) -> Result<bool, Failure> {
        if ack.sent_at > self.beaten_at {
            return Err(Failure::new(ErrorCode::Malformed, "an answer to a beat of the future"));
        }
        let from = if mutant == Mutant::LeaseFromAckArrival { now } else { ack.sent_at };
        let until = from.after(lease);
        match ack.set {
            Some(set) if set.len() > limits::HOST_GROUPS_MAX => {
                let message = format!("a lease set of {} groups", set.len());
                return Err(Failure::new(ErrorCode::Malformed, message));
            }
            Some(_) if ack.set_version < self.known => return Ok(false),
            Some(set) => {
                let newer = ack.set_version > self.known;
                self.known = ack.set_version;
                self.refresh = false;
                // The bug: the newer promise is taken for the groups of the older set as well.
                if mutant != Mutant::AckOfOldSetVersion {
                    self.set.clear();
                }
                self.set.extend(set);
                // A group that is new in the set has only what this answer grants.
                self.until = if newer { until } else { self.until.max(until) };
            }
            None if ack.set_version == self.known => {
                self.until = self.until.max(until);
            }
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Gives up the lease for one group: its promise is about to be given back.
    pub(super) fn void(&mut self, group: GroupId) {
        self.set.remove(&group);
        self.refresh = true;
    }

    /// Until when the peer serves nobody else in `group`; `None` when it never said so.
    pub(super) fn until(&self, group: GroupId) -> Option<Instant> {
        self.set.contains(&group).then_some(self.until)
    }

    /// The groups of the set that is known.
    pub(super) fn groups(&self) -> &BTreeSet<GroupId> {
        &self.set
    }

    /// Until when the lease of the groups in the set lives.
    pub(super) fn lives_until(&self) -> Instant {
        self.until
    }

    /// Whether the peer has told a set and the group is not in it: it may have moved on.
    pub(super) fn lacks(&self, group: GroupId) -> bool {
        self.known != SetVersion(0) && !self.set.contains(&group)
    }
}

/// The grantor's side.
#[derive(Debug, Default)]
pub(super) struct GrantedLease {
    version: SetVersion,
    /// The groups, each with the newest epoch in which the peer was its primary here.
    set: BTreeMap<GroupId, Epoch>,
    promised: Instant,
    /// Promises about groups that have left the set.
    frozen: BTreeMap<GroupId, Frozen>,
    /// What the peer has given back of groups that are still in the set.
    released: BTreeMap<GroupId, Epoch>,
}

#[derive(Clone, Copy, Debug)]
struct Frozen {
    until: Instant,
    epoch: Epoch,
}

impl GrantedLease {
    /// The peer is the primary of `group` in `epoch`; `version` is one that was never used.
    pub(super) fn enter(&mut self, group: GroupId, epoch: Epoch, version: SetVersion) {
        if self.set.insert(group, epoch).is_none() {
            self.version = version;
        }
    }

    /// The group is about to have another primary here; `version` is one that was never used.
    pub(super) fn leave(&mut self, group: GroupId, version: SetVersion, mutant: Mutant) {
        if mutant == Mutant::LeaveSetAfterAdopting {
            return;
        }
        let Some(epoch) = self.set.remove(&group) else { return };
        self.version = version;
        if self.released.remove(&group).is_some_and(|up_to| epoch <= up_to) {
            return;
        }
        let frozen = self.frozen.entry(group).or_insert(Frozen { until: self.promised, epoch });
        frozen.until = frozen.until.max(self.promised);
        frozen.epoch = frozen.epoch.max(epoch);
    }

    /// Answers a beat that named `known`.
    pub(super) fn on_beat(
        &mut self,
        now: Instant,
        sent_at: Instant,
        known: SetVersion,
        promise: Duration,
    ) -> BeatAck {
        self.promised = self.promised.max(now.after(promise));
        let set = (known != self.version || known == SetVersion(0))
            .then(|| self.set.keys().copied().collect());
        BeatAck { sent_at, set_version: self.version, set }
    }

    /// The peer gives back what was promised for `group` in epochs up to `up_to`.
    pub(super) fn on_release(&mut self, group: GroupId, up_to: Epoch, mutant: Mutant) {
        let up_to = if mutant == Mutant::ReleaseIgnoresEpoch { Epoch(u64::MAX) } else { up_to };
        if self.frozen.get(&group).is_some_and(|frozen| frozen.epoch <= up_to) {
            self.frozen.remove(&group);
        }
        if self.set.contains_key(&group) {
            let released = self.released.entry(group).or_default();
            *released = up_to.max(*released);
        }
    }

    /// Until when we may not serve `group` ourselves because of this peer.
    pub(super) fn blocks(&self, group: GroupId) -> Option<Instant> {
        self.frozen.get(&group).map(|frozen| frozen.until)
    }

    /// Whether the peer leads a group of ours: its beats are awaited.
    pub(super) fn is_granting(&self) -> bool {
        !self.set.is_empty()
    }

    /// Whether nothing is promised, nor will be by the next beat.
    pub(super) fn is_free(&self) -> bool {
        self.set.is_empty() && self.frozen.is_empty()
    }

    /// Forgets promises that have passed.
    pub(super) fn expire(&mut self, now: Instant) {
        if !self.frozen.is_empty() {
            self.frozen.retain(|_, frozen| now < frozen.until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartitionId;
    use crate::replication::Class;

    const LEASE: Duration = Duration::from_nanos(300);
    const PROMISE: Duration = Duration::from_nanos(336);
    const NONE: Mutant = Mutant::None;

    fn group(n: u32) -> GroupId {
        let class = Class { replicas: 2, min_in_sync: 1 };
        GroupId { partition: PartitionId(n), class }
    }

    /// A pair: what A holds of B, what B granted A.
    #[derive(Default)]
    struct Pair {
        held: HeldLease,
        granted: GrantedLease,
        versions: u64,
    }

    impl Pair {
        fn version(&mut self) -> SetVersion {
            self.versions += 1;
            SetVersion(self.versions)
        }

        fn enter(&mut self, n: u32, epoch: u64) {
            let version = self.version();
            self.granted.enter(group(n), Epoch(epoch), version);
        }

        fn leave(&mut self, n: u32) {
            let version = self.version();
            self.granted.leave(group(n), version, NONE);
        }

        fn beat(&mut self, sent: u64, received: u64) -> BeatAck {
            let known = self.held.beat(Instant(sent));
            self.granted.on_beat(Instant(received), Instant(sent), known, PROMISE)
        }

        fn ack(&mut self, now: u64, ack: BeatAck) -> bool {
            self.held.on_ack(Instant(now), ack, LEASE, NONE).unwrap()
        }
    }

    #[test]
    fn a_lease_counts_from_the_sending_and_a_promise_from_the_receipt() {
        let mut pair = Pair::default();
        pair.enter(1, 1);
        let ack = pair.beat(1000, 5);
        assert!(pair.ack(1090, ack));
        assert_eq!(pair.held.until(group(1)), Some(Instant(1300)));
        assert_eq!(pair.held.until(group(2)), None);
        assert_eq!(pair.granted.blocks(group(1)), None, "it serves nobody else while in the set");
        pair.leave(1);
        assert_eq!(pair.granted.blocks(group(1)), Some(Instant(341)));
        pair.granted.expire(Instant(340));
        assert!(pair.granted.blocks(group(1)).is_some());
        pair.granted.expire(Instant(341));
        assert_eq!(pair.granted.blocks(group(1)), None);
    }

    #[test]
    fn an_ack_that_left_after_the_group_had_left_renews_the_others_only() {
        let mut pair = Pair::default();
        pair.enter(1, 1);
        pair.enter(2, 1);
        let first = pair.beat(1000, 5);
        pair.ack(1010, first);
        pair.leave(1);
        let second = pair.beat(1100, 105);
        assert!(pair.ack(1110, second));
        assert_eq!(pair.held.until(group(1)), None);
        assert_eq!(pair.held.until(group(2)), Some(Instant(1400)));
        assert_eq!(pair.granted.blocks(group(1)), Some(Instant(341)), "frozen at its last value");
    }

    #[test]
    fn an_ack_of_another_version_without_its_set_counts_for_nothing() {
        let mut pair = Pair::default();
        pair.enter(1, 1);
        let first = pair.beat(1000, 5);
        pair.ack(1010, first.clone());
        let newer = BeatAck { sent_at: Instant(1000), set_version: SetVersion(9), set: None };
        assert!(!pair.ack(1020, newer));
        pair.enter(2, 1);
        let second = pair.beat(1100, 105);
        pair.ack(1110, second);
        assert!(!pair.ack(1120, first), "an older version came late");
        assert_eq!(pair.held.until(group(2)), Some(Instant(1400)));
    }

    #[test]
    fn a_group_that_is_new_in_the_set_does_not_inherit_an_older_lease() {
        let mut pair = Pair::default();
        pair.enter(1, 1);
        let early = pair.beat(1000, 5);
        let late = pair.beat(1200, 205);
        pair.enter(2, 1);
        let answer = pair.granted.on_beat(Instant(210), Instant(1000), SetVersion(0), PROMISE);
        pair.ack(1210, early);
        pair.ack(1215, late);
        pair.ack(1220, answer);
        assert_eq!(pair.held.until(group(2)), Some(Instant(1300)));
    }

    #[test]
    fn an_answer_to_a_beat_that_was_never_sent_is_refused() {
        let mut held = HeldLease::default();
        held.beat(Instant(10));
        let ack = BeatAck { sent_at: Instant(11), set_version: SetVersion(1), set: None };
        let refused = held.on_ack(Instant(20), ack, LEASE, NONE).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed);
    }

    #[test]
    fn a_late_release_does_not_free_a_promise_of_a_later_epoch() {
        let mut pair = Pair::default();
        pair.enter(1, 5);
        let _ack = pair.beat(1000, 5);
        pair.leave(1);
        pair.enter(1, 7);
        let _ack = pair.beat(1100, 105);
        pair.granted.on_release(group(1), Epoch(5), NONE);
        pair.leave(1);
        assert_eq!(pair.granted.blocks(group(1)), Some(Instant(441)));
        pair.granted.on_release(group(1), Epoch(6), NONE);
        assert!(pair.granted.blocks(group(1)).is_some());
        pair.granted.on_release(group(1), Epoch(7), NONE);
        assert_eq!(pair.granted.blocks(group(1)), None);
    }

    #[test]
    fn a_release_that_comes_before_the_grantor_hears_of_the_new_config_is_not_lost() {
        let mut pair = Pair::default();
        pair.enter(1, 5);
        let _ack = pair.beat(1000, 5);
        pair.granted.on_release(group(1), Epoch(5), NONE);
        pair.leave(1);
        assert_eq!(pair.granted.blocks(group(1)), None);
    }

    #[test]
    fn after_giving_up_a_group_the_holder_asks_for_the_whole_set_and_keeps_the_others() {
        let mut pair = Pair::default();
        pair.enter(1, 5);
        pair.enter(2, 5);
        let ack = pair.beat(1000, 5);
        pair.ack(1001, ack);
        pair.held.void(group(1));
        assert_eq!(pair.held.until(group(1)), None);
        assert_eq!(pair.held.until(group(2)), Some(Instant(1300)));
        let ack = pair.beat(1100, 105);
        assert!(ack.set.is_some());
        pair.ack(1101, ack);
        assert_eq!(pair.held.until(group(1)), Some(Instant(1400)));
    }
}
