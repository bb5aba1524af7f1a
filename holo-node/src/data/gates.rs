//! What readers ask before and after they copy: whether this replica may answer reads of a group right now.
//!
//! The replication machine runs behind a lock; readers never take it. It leaves its permission in atomics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use holo_core::replication::{GroupId, ReadGate, ReplicaId, Role};
use holo_core::{Epoch, ErrorCode, Failure, Instant};
use parking_lot::Mutex;

/// Pause that a reader is asked to make while a takeover or a lease is under way.
const AGAIN_AFTER_MS: u32 = 5;

/// The gates of all groups that this node has ever been a member of, and the leases of its peers on which they rest.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    gates: ArcSwap<BTreeMap<GroupId, Arc<Gate>>>,
    /// Only the driver takes it; readers know the leases of their gate.
    leases: Mutex<BTreeMap<ReplicaId, Lease>>,
}

/// Until when one peer serves nobody else in the groups that rest on it: nanoseconds, 0 for not at all.
type Lease = Arc<AtomicU64>;

impl Gates {
    /// The gate of a group; `None` where this node was never a member.
    pub(crate) fn find(&self, group: GroupId) -> Option<Arc<Gate>> {
        self.gates.load().get(&group).cloned()
    }

    /// The gate of a group, made when there is none. Only the driver calls it, under its lock.
    pub(crate) fn of(&self, group: GroupId) -> Arc<Gate> {
        if let Some(gate) = self.find(group) {
            return gate;
        }
        let gate = Arc::new(Gate::default());
        let mut next = BTreeMap::clone(&self.gates.load());
        next.insert(group, Arc::clone(&gate));
        self.gates.store(Arc::new(next));
        gate
    }

    /// Takes over what the machine says of a group. A reader that is inside finds the change when it leaves.
    pub(crate) fn set(&self, group: GroupId, gate: &ReadGate) {
        let leases = gate.leased_by.as_ref().map(|peers| {
            let mut leases = self.leases.lock();
            peers.iter().map(|peer| Arc::clone(leases.entry(*peer).or_default())).collect()
        });
        self.of(group).permit.store(Arc::new(Permit { epoch: gate.epoch, leases }));
    }

    /// Takes over what the machine says of a peer's lease.
    pub(crate) fn renew(&self, peer: ReplicaId, until: Instant) {
        self.leases.lock().entry(peer).or_default().store(until.0, Ordering::SeqCst);
    }

    /// Forgets the leases of replicas that live no more and on whom no gate rests.
    pub(crate) fn retain(&self, living: &[ReplicaId]) {
        let rests = |lease: &Lease| Arc::strong_count(lease) > 1;
        self.leases.lock().retain(|peer, lease| living.contains(peer) || rests(lease));
    }
}

/// Permission for the reads of one group, as the replication machine last gave it.
#[derive(Debug)]
pub(crate) struct Gate {
    permit: ArcSwap<Permit>,
    role: AtomicU8,
}

/// What reads of a group rest on.
#[derive(Debug)]
struct Permit {
    epoch: Epoch,
    /// All of them have to live; `None` while reads are not allowed.
    leases: Option<Box<[Lease]>>,
}

/// Proof that a gate was open when a read began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    epoch: Epoch,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            permit: ArcSwap::from_pointee(Permit { epoch: Epoch(0), leases: None }),
            role: AtomicU8::new(role_byte(Role::Empty)),
        }
    }
}

impl Permit {
    fn is_open(&self, now: Instant) -> bool {
        let lives = |lease: &Lease| now.0 < lease.load(Ordering::SeqCst);
        self.leases.as_ref().is_some_and(|leases| leases.iter().all(lives))
    }
}

impl Gate {
    /// Takes over a new role, which only words errors.
    pub(crate) fn set_role(&self, role: Role) {
        self.role.store(role_byte(role), Ordering::SeqCst);
    }

    /// Whether this node is a member that holds, or is being brought, the shards.
    pub(crate) fn is_member(&self) -> bool {
        self.role.load(Ordering::SeqCst) != role_byte(Role::Empty)
    }

    /// Whether this node orders the group's operations, be it ready to or not.
    pub(crate) fn is_primary(&self) -> bool {
        self.role.load(Ordering::SeqCst) >= role_byte(Role::PrimaryPending)
    }

    /// Begins a read.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::WrongNode`] when another replica is the primary, [`ErrorCode::NotReady`] while a takeover or a
    /// lease is under way.
    pub(crate) fn enter(&self, now: Instant) -> Result<Entered, Failure> {
        let permit = self.permit.load();
        // Looked at again after its leases: it is closed before a lease on which it must not rest any more is renewed, so
        // what is still there was good for the leases as they were read.
        if permit.is_open(now) && self.is_still(&permit) {
            return Ok(Entered { epoch: permit.epoch });
        }
        if !self.is_primary() {
            return Err(not_primary());
        }
        let message = "the replicas have not confirmed that this node may answer reads";
        Err(Failure::new(ErrorCode::NotReady, message)
            .help("it lasts as long as a takeover, or as this node is cut off from its replicas")
            .retry_after_ms(AGAIN_AFTER_MS))
    }

    /// Ends a read: what was copied may be answered only if this succeeds.
    ///
    /// # Errors
    ///
    /// As [`Self::enter`].
    pub(crate) fn leave(&self, entered: Entered, now: Instant) -> Result<(), Failure> {
        if self.enter(now)?.epoch == entered.epoch {
            return Ok(());
        }
        let message = format!("epoch {} of the group ended during the read", entered.epoch);
        Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(1))
    }

    fn is_still(&self, permit: &Guard<Arc<Permit>>) -> bool {
        Arc::ptr_eq(permit, &self.permit.load())
    }
}

/// This node is not the primary of a group.
pub(crate) fn not_primary() -> Failure {
    Failure::new(ErrorCode::WrongNode, "another node is the primary of this shard")
        .help("fetch the view of the cluster again")
}

const fn role_byte(role: Role) -> u8 {
    match role {
        Role::Empty => 0,
        Role::Learner => 1,
        Role::Backup => 2,
        Role::PrimaryPending => 3,
        Role::Primary => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(partition: u32) -> GroupId {
        let class = holo_core::replication::Class { replicas: 2, min_in_sync: 1 };
        GroupId { partition: holo_core::PartitionId(partition), class }
    }

    fn peer(number: u32) -> ReplicaId {
        let node = holo_core::replication::NodeNumber(number);
        ReplicaId { node, incarnation: holo_core::replication::Incarnation(1) }
    }

    fn by(epoch: u64, peers: &[u32]) -> ReadGate {
        let peers = peers.iter().map(|number| peer(*number)).collect();
        ReadGate { epoch: Epoch(epoch), leased_by: Some(peers) }
    }

    #[test]
    fn a_read_is_answered_only_if_the_permission_held_all_the_while() {
        let gates = Gates::default();
        let gate = gates.of(group(1));
        assert_eq!(gate.enter(Instant(1)).unwrap_err().code, ErrorCode::WrongNode);
        gate.set_role(Role::Primary);
        assert_eq!(gate.enter(Instant(1)).unwrap_err().code, ErrorCode::NotReady);
        gates.set(group(1), &by(3, &[2]));
        assert_eq!(gate.enter(Instant(1)).unwrap_err().code, ErrorCode::NotReady);
        gates.renew(peer(2), Instant(100));
        let entered = gate.enter(Instant(99)).unwrap();
        gate.leave(entered, Instant(99)).unwrap();
        assert_eq!(gate.leave(entered, Instant(100)).unwrap_err().code, ErrorCode::NotReady);
        gates.renew(peer(2), Instant(200));
        gate.leave(entered, Instant(150)).unwrap();
        gates.set(group(1), &by(5, &[2]));
        assert_eq!(gate.leave(entered, Instant(150)).unwrap_err().code, ErrorCode::NotReady);
        gates.set(group(1), &ReadGate::closed(Epoch(6)));
        gate.set_role(Role::Backup);
        assert_eq!(gate.leave(entered, Instant(150)).unwrap_err().code, ErrorCode::WrongNode);
    }

    #[test]
    fn one_renewal_is_for_all_groups_that_rest_on_the_peer_and_for_no_others() {
        let gates = Gates::default();
        gates.set(group(1), &by(1, &[2]));
        gates.set(group(2), &by(1, &[2, 3]));
        gates.set(group(3), &by(1, &[]));
        gates.renew(peer(2), Instant(100));
        let opens = |n: u32, at: u64| gates.of(group(n)).enter(Instant(at)).is_ok();
        assert_eq!([1, 2, 3].map(|n| opens(n, 50)), [true, false, true]);
        gates.renew(peer(3), Instant(40));
        assert_eq!([opens(2, 39), opens(2, 40)], [true, false]);
        gates.set(group(1), &ReadGate::closed(Epoch(1)));
        gates.renew(peer(2), Instant(200));
        gates.renew(peer(3), Instant(200));
        assert_eq!([1, 2, 3].map(|n| opens(n, 199)), [false, true, true]);
        gates.retain(&[]);
        gates.renew(peer(2), Instant(300));
        gates.renew(peer(3), Instant(300));
        assert!(opens(2, 299), "a gate still rests on them");
        gates.set(group(2), &by(2, &[3]));
        gates.retain(&[]);
        assert_eq!(gates.leases.lock().keys().copied().collect::<Vec<_>>(), [peer(3)]);
    }

    #[test]
    fn every_group_has_one_gate() {
        let gates = Gates::default();
        let group = group(1);
        assert!(gates.find(group).is_none());
        let gate = gates.of(group);
        assert!(Arc::ptr_eq(&gate, &gates.of(group)) && !gate.is_member());
    }
}
