//! What readers ask before and after they copy: whether this replica may answer reads of a group right now.
//!
//! The replication machine runs behind a lock; readers never take it. It leaves its permission in atomics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use holo_core::replication::{GroupId, ReadGate, Role};
use holo_core::{Epoch, ErrorCode, Failure, Instant};

/// Pause that a reader is asked to make while a takeover or a lease is under way.
const AGAIN_AFTER_MS: u32 = 5;

/// The gates of all groups that this node has ever been a member of.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    gates: ArcSwap<BTreeMap<GroupId, Arc<Gate>>>,
}

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
}

/// Permission for the reads of one group, as the replication machine last gave it.
#[derive(Debug)]
pub(crate) struct Gate {
    epoch: AtomicU64,
    /// Nanoseconds; 0 while reads are not allowed.
    until: AtomicU64,
    role: AtomicU8,
}

/// Proof that a gate was open when a read began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entered {
    epoch: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            until: AtomicU64::new(0),
            role: AtomicU8::new(role_byte(Role::Empty)),
        }
    }
}

impl Gate {
    /// Takes over what the machine says. A reader that is inside finds the change when it leaves.
    pub(crate) fn set(&self, gate: ReadGate) {
        // Closed in between, so that no reader sees the new epoch with the old permission.
        self.until.store(0, Ordering::SeqCst);
        self.epoch.store(gate.epoch.0, Ordering::SeqCst);
        self.until.store(gate.until.map_or(0, |until| until.0), Ordering::SeqCst);
    }

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
        let epoch = self.epoch.load(Ordering::SeqCst);
        if now.0 < self.until.load(Ordering::SeqCst) {
            return Ok(Entered { epoch });
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
        let Entered { epoch } = self.enter(now)?;
        if epoch == entered.epoch && self.epoch.load(Ordering::SeqCst) == epoch {
            return Ok(());
        }
        let message = format!("epoch {} of the group ended during the read", Epoch(entered.epoch));
        Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(1))
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

    fn open(epoch: u64, until: u64) -> ReadGate {
        ReadGate { epoch: Epoch(epoch), until: Some(Instant(until)) }
    }

    #[test]
    fn a_read_is_answered_only_if_the_permission_held_all_the_while() {
        let gate = Gate::default();
        assert_eq!(gate.enter(Instant(1)).unwrap_err().code, ErrorCode::WrongNode);
        gate.set_role(Role::Primary);
        assert_eq!(gate.enter(Instant(1)).unwrap_err().code, ErrorCode::NotReady);
        gate.set(open(3, 100));
        let entered = gate.enter(Instant(99)).unwrap();
        gate.leave(entered, Instant(99)).unwrap();
        assert_eq!(gate.leave(entered, Instant(100)).unwrap_err().code, ErrorCode::NotReady);
        gate.set(open(3, 200));
        gate.leave(entered, Instant(150)).unwrap();
        gate.set(open(5, 300));
        assert_eq!(gate.leave(entered, Instant(150)).unwrap_err().code, ErrorCode::NotReady);
        gate.set(ReadGate { epoch: Epoch(6), until: None });
        gate.set_role(Role::Backup);
        assert_eq!(gate.leave(entered, Instant(150)).unwrap_err().code, ErrorCode::WrongNode);
    }

    #[test]
    fn every_group_has_one_gate() {
        let gates = Gates::default();
        let group = GroupId {
            partition: holo_core::PartitionId(1),
            class: holo_core::replication::Class { replicas: 2, min_in_sync: 1 },
        };
        assert!(gates.find(group).is_none());
        let gate = gates.of(group);
        assert!(Arc::ptr_eq(&gate, &gates.of(group)) && !gate.is_member());
    }
}
