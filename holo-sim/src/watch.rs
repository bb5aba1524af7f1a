//! The invariants, as far as they are about what nodes do from event to event.

use std::collections::BTreeMap;
use std::fmt;

use holo_core::Epoch;
use holo_core::group::Seq;
use holo_core::replication::{ReplicaId, SessionId};

use crate::network::NODES_MAX;
use crate::queue::Time;
use crate::trace::Clock;

/// What a run must never do, or must do in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Calls on each element could have happened one at a time.
    I1Linearizable,
    /// At most one active primary in an epoch.
    I2OnePrimary,
    /// The committed prefix and its effect are the same everywhere.
    I3SamePrefix,
    /// Every living in-sync member has a base and holds every committed entry.
    I4InSyncHolds,
    /// At most one replica of a group may read locally at any instant.
    I5OneLease,
    /// A request is applied at most once.
    I6AppliedOnce,
    /// What is committed at a replica never shrinks.
    I7CommitGrows,
    /// An acknowledged write has at least `min_in_sync` copies.
    I8Copies,
    /// Every group that lives has an active primary again soon after the faults end.
    L1Primary,
    /// Every group that lives has its wanted holders in sync again, and clients get their answers.
    L2Repaired,
    /// What a close of the cluster counts as held has every committed operation, and lies synced on the holders' disks.
    I9Held,
    /// A group that starts again from disk has the values with which it was closed.
    I10Reopened,
    /// A group whose data a process left in order is not lost.
    I11Inherited,
    /// The machine did what its contract with the driver excludes.
    Contract,
    /// An assertion of the machine failed.
    Assertion,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I1Linearizable => "I1 linearizable",
            Self::I2OnePrimary => "I2 one primary per epoch",
            Self::I3SamePrefix => "I3 same committed prefix",
            Self::I4InSyncHolds => "I4 in-sync members hold what is committed",
            Self::I5OneLease => "I5 one lease holder",
            Self::I6AppliedOnce => "I6 applied once",
            Self::I7CommitGrows => "I7 commit grows",
            Self::I8Copies => "I8 enough copies",
            Self::L1Primary => "L1 a primary after healing",
            Self::L2Repaired => "L2 repaired after healing",
            Self::I9Held => "I9 what a close holds is on disk",
            Self::I10Reopened => "I10 reopened as it was closed",
            Self::I11Inherited => "I11 what was left in order is not given up",
            Self::Contract => "contract of the machine",
            Self::Assertion => "assertion of the machine",
        })
    }
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// True time in nanoseconds since the start.
    pub at: Time,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.invariant, Clock(self.at), self.what)
    }
}

/// Notes what is applied, who leads and who may read, and sees contradictions.
#[derive(Debug)]
pub(crate) struct Watch {
    groups: Vec<GroupWatch>,
    violation: Option<Violation>,
}

#[derive(Debug)]
struct GroupWatch {
    /// The epoch in which the group last started again from disk; 0 for never. Its log began anew.
    since: Epoch,
    /// The state before the first operation since.
    base: u64,
    /// By number of the entry: the operation and the state after it.
    applied: BTreeMap<Seq, Effect>,
    /// By request: where it was applied.
    requests: BTreeMap<(SessionId, u64), (Epoch, Seq)>,
    /// Who was active in an epoch.
    active: BTreeMap<Epoch, ReplicaId>,
    /// By node: who may read there, and until when.
    gates: [Option<(ReplicaId, Time)>; NODES_MAX],
    /// By number up to which was committed: how many copies there were at that moment.
    copies: BTreeMap<Seq, usize>,
    /// The highest number that was committed anywhere.
    committed: Seq,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Effect {
    operation: u64,
    state: u64,
}

impl Watch {
    /// Nothing seen yet; every group begins with the state `base`.
    pub(crate) fn new(groups: usize, base: u64) -> Self {
        let group = |_| GroupWatch {
            since: Epoch(0),
            base,
            applied: BTreeMap::new(),
            requests: BTreeMap::new(),
            active: BTreeMap::new(),
            gates: [None; NODES_MAX],
            copies: BTreeMap::new(),
            committed: Seq(0),
        };
        Self { groups: (0..groups).map(group).collect(), violation: None }
    }

    /// The cluster is closed with the group as it is after `seq`.
    pub(crate) fn closed(&mut self, at: Time, group: usize, seq: Seq) {
        let (state, committed) = (self.state_at(group, seq), self.groups[group].committed);
        self.groups[group].base = state;
        if committed > seq {
            self.broken(at, Invariant::I9Held, || {
                let (held, seq) = (seq.0, committed.0);
                format!("group {group} is held up to {held}, and committed up to {seq}")
            });
        }
    }

    /// The group starts again from disk in `epoch`: its log is empty, its state that of the close.
    pub(crate) fn begin_again(&mut self, group: usize, epoch: Epoch) {
        let watch = &mut self.groups[group];
        watch.since = epoch;
        watch.applied.clear();
        watch.copies.clear();
        watch.committed = Seq(0);
        watch.gates = [None; NODES_MAX];
    }

    /// A replica without a log begins to lead the group with a state.
    pub(crate) fn begins(&mut self, at: Time, group: usize, by: ReplicaId, state: u64) {
        let watch = &self.groups[group];
        if watch.since > Epoch(0) && state != watch.base {
            self.broken(at, Invariant::I10Reopened, || {
                format!(
                    "group {group}: {by} starts it again with other values than it was closed with"
                )
            });
        }
    }

    /// The epoch in which a group last started again from disk; 0 for never.
    pub(crate) fn since(&self, group: usize) -> Epoch {
        self.groups[group].since
    }

    /// The state before a group's first operation since it last started.
    pub(crate) fn base(&self, group: usize) -> u64 {
        self.groups[group].base
    }

    /// The first broken invariant.
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Takes the first broken invariant.
    pub(crate) fn into_violation(self) -> Option<Violation> {
        self.violation
    }

    /// Notes a broken invariant; only the first counts.
    #[cold]
    #[inline(never)]
    pub(crate) fn broken(&mut self, at: Time, invariant: Invariant, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { invariant, at, what: what() });
        }
    }

    /// A replica has applied an operation.
    pub(crate) fn applied(
        &mut self,
        at: Time,
        group: usize,
        by: ReplicaId,
        seq: Seq,
        seen: Applied,
    ) {
        let watch = &mut self.groups[group];
        let effect = Effect { operation: seen.operation, state: seen.state };
        let known = *watch.applied.entry(seq).or_insert(effect);
        let here = (watch.since, seq);
        let first = *watch.requests.entry(seen.request).or_insert(here);
        if known.operation != effect.operation {
            self.broken(at, Invariant::I3SamePrefix, || {
                format!("group {group}: replica {by} applied another operation as number {}", seq.0)
            });
        } else if first != here {
            self.broken(at, Invariant::I6AppliedOnce, || {
                let (session, number) = seen.request;
                format!(
                    "group {group}: replica {by} applied request {number} of session {} as number {}, and it was {} already",
                    session.0, seq.0, first.1.0
                )
            });
        } else if known.state != effect.state {
            self.broken(at, Invariant::I3SamePrefix, || {
                format!("group {group}: replica {by} has other values after number {}", seq.0)
            });
        }
    }

    /// Digest of the state after the last operation up to `seq`, as any replica had it first.
    pub(crate) fn state_at(&self, group: usize, seq: Seq) -> u64 {
        let watch = &self.groups[group];
        let last = watch.applied.range(..=seq).next_back();
        last.map_or(watch.base, |(_, effect)| effect.state)
    }

    /// Where a request was applied.
    pub(crate) fn place_of(&self, group: usize, request: (SessionId, u64)) -> Place {
        let watch = &self.groups[group];
        match watch.requests.get(&request) {
            None => Place::Nowhere,
            Some((since, seq)) if *since == watch.since => Place::Now(*seq),
            Some(_) => Place::BeforeClose,
        }
    }

    /// Some replica knows the group to be committed up to `seq`.
    pub(crate) fn committed(&mut self, group: usize, seq: Seq) {
        let watch = &mut self.groups[group];
        watch.committed = watch.committed.max(seq);
    }

    /// The group was just committed up to `seq`, with so many copies.
    pub(crate) fn committed_with(&mut self, group: usize, seq: Seq, copies: usize) {
        self.groups[group].copies.insert(seq, copies);
    }

    /// How many copies a number had when it was committed.
    pub(crate) fn copies_of(&self, group: usize, seq: Seq) -> usize {
        let (_, copies) = self.groups[group].copies.range(seq..).next().unwrap_or((&seq, &0));
        *copies
    }

    /// How far the group is committed, as far as any replica knows.
    pub(crate) fn commit(&self, group: usize) -> Seq {
        self.groups[group].committed
    }

    /// A replica has become an active primary.
    pub(crate) fn active(&mut self, at: Time, group: usize, by: ReplicaId, epoch: Epoch) {
        let other = *self.groups[group].active.entry(epoch).or_insert(by);
        if other != by {
            self.broken(at, Invariant::I2OnePrimary, || {
                format!("group {group}: {by} and {other} are both primaries of epoch {}", epoch.0)
            });
        }
    }

    /// A replica on `node` may read until the true time `until`; `None` for not at all.
    pub(crate) fn may_read(
        &mut self,
        at: Time,
        group: usize,
        node: usize,
        by: ReplicaId,
        until: Option<Time>,
    ) {
        let gates = &mut self.groups[group].gates;
        gates[node] = until.filter(|until| *until > at).map(|until| (by, until));
        if gates[node].is_none() {
            return;
        }
        // Permissions begin only here, so two that overlap are seen when the later one begins.
        let other = gates.iter().enumerate().filter(|(other, _)| *other != node);
        let other = other.filter_map(|(_, gate)| *gate).find(|(_, until)| *until > at);
        if let Some((other, _)) = other {
            self.broken(at, Invariant::I5OneLease, || {
                format!("group {group}: {by} and {other} may both read")
            });
        }
    }

    /// A node is dead: it reads no more.
    pub(crate) fn dead(&mut self, node: usize) {
        for group in &mut self.groups {
            group.gates[node] = None;
        }
    }
}

/// Where a request was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere.
    Nowhere,
    /// As this number of the log.
    Now(Seq),
    /// In a log that ended with a close of the cluster.
    BeforeClose,
}

/// What a replica did with an operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    /// Fingerprint of the operation.
    pub(crate) operation: u64,
    /// Digest of the values after it.
    pub(crate) state: u64,
    /// Whose request it is.
    pub(crate) request: (SessionId, u64),
}

#[cfg(test)]
mod tests {
    use holo_core::replication::{Incarnation, NodeNumber};

    use super::*;

    fn replica(node: u32) -> ReplicaId {
        ReplicaId { node: NodeNumber(node), incarnation: Incarnation(1) }
    }

    fn applied(operation: u64, state: u64, number: u64) -> Applied {
        Applied { operation, state, request: (SessionId(1), number) }
    }

    fn invariant(watch: &Watch) -> Option<Invariant> {
        watch.violation().map(|violation| violation.invariant)
    }

    #[test]
    fn replicas_that_do_the_same_are_fine_and_others_are_found() {
        let mut watch = Watch::new(1, 0);
        watch.applied(1, 0, replica(1), Seq(1), applied(7, 70, 1));
        watch.applied(2, 0, replica(2), Seq(1), applied(7, 70, 1));
        assert_eq!(invariant(&watch), None);
        watch.applied(3, 0, replica(2), Seq(2), applied(8, 80, 1));
        assert_eq!(invariant(&watch), Some(Invariant::I6AppliedOnce));
        let mut watch = Watch::new(1, 0);
        watch.applied(1, 0, replica(1), Seq(1), applied(7, 70, 1));
        watch.applied(1, 0, replica(2), Seq(1), applied(7, 71, 1));
        assert_eq!(invariant(&watch), Some(Invariant::I3SamePrefix));
    }

    #[test]
    fn permissions_to_read_may_follow_each_other_but_not_overlap() {
        let mut watch = Watch::new(1, 0);
        watch.may_read(1, 0, 0, replica(1), Some(10));
        watch.may_read(10, 0, 1, replica(2), Some(20));
        watch.may_read(15, 0, 0, replica(1), None);
        assert_eq!(invariant(&watch), None);
        watch.may_read(19, 0, 0, replica(1), Some(30));
        assert_eq!(invariant(&watch), Some(Invariant::I5OneLease));
        let mut watch = Watch::new(1, 0);
        watch.may_read(1, 0, 0, replica(1), Some(10));
        watch.dead(0);
        watch.may_read(5, 0, 1, replica(2), Some(20));
        assert_eq!(invariant(&watch), None);
    }

    #[test]
    fn an_epoch_has_one_primary() {
        let mut watch = Watch::new(1, 0);
        watch.active(1, 0, replica(1), Epoch(3));
        watch.active(2, 0, replica(2), Epoch(4));
        watch.active(2, 0, replica(1), Epoch(3));
        assert_eq!(invariant(&watch), None);
        watch.active(3, 0, replica(2), Epoch(3));
        assert_eq!(invariant(&watch), Some(Invariant::I2OnePrimary));
    }
}
