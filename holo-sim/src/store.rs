//! One group's data at one replica: what the driver of the memory would hold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use holo_core::group::{Op, Seq};
use holo_core::replication::{
    Incarnation, LogPosition, PayloadId, ReadGate, Remains, ReplicaId, Role, SnapshotId,
};

use holo_core::{Epoch, ErrorCode, Failure};

use crate::linear::Action;
use crate::operation::{Operation, REFUSED_MULTIPLE};
use crate::packet::Frozen;
use crate::rng::mix;
use crate::watch::Applied;

/// Tries of one snapshot before its fetch is given up.
pub(crate) const FETCH_TRIES: u32 = 5;

/// The state of a group at a replica, and what is on its way into it.
#[derive(Debug)]
pub(crate) struct Store {
    /// The elements.
    pub(crate) values: Vec<u64>,
    /// The last operation in `values`.
    pub(crate) applied: Seq,
    /// Operations to apply, in order.
    pub(crate) queue: VecDeque<Waiting>,
    /// The first of them waits for its page.
    pub(crate) is_blocked: bool,
    /// Grows when everything is dropped, so that work put off before does not touch what came after.
    pub(crate) filling: u64,
    /// Permission to read.
    pub(crate) gate: ReadGate,
    /// The machine's role.
    pub(crate) role: Role,
    /// Staged bytes; the machine knows of those that are ready.
    pub(crate) staged: BTreeMap<PayloadId, Staged>,
    /// Frozen states that peers may fetch.
    pub(crate) snapshots: BTreeMap<SnapshotId, Arc<Frozen>>,
    /// A state on its way here.
    pub(crate) fetch: Option<Fetch>,
    /// How far the machine said that the group is committed.
    pub(crate) commit_seen: Seq,
}

/// An operation to apply.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Its number.
    pub(crate) seq: Seq,
    /// It.
    pub(crate) op: Op,
    /// The staged bytes that it publishes.
    pub(crate) payload: Option<PayloadId>,
}

/// Staged bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged {
    /// The bytes.
    pub(crate) value: u64,
    /// There is room for them, and the machine knows.
    pub(crate) is_ready: bool,
}

/// A snapshot on its way.
#[derive(Debug)]
pub(crate) struct Fetch {
    /// Who has it.
    pub(crate) from: ReplicaId,
    /// Its name there.
    pub(crate) snapshot: SnapshotId,
    /// The last entry that it contains.
    pub(crate) at: LogPosition,
    /// The elements that have come.
    pub(crate) pieces: Vec<Option<u64>>,
    /// How often it was asked for.
    pub(crate) tries: u32,
    /// What an earlier life has kept is yet to be compared with it.
    pub(crate) compares: bool,
}

/// What lives that were told to stop have left of one group, the newest last.
pub(crate) type Kept = Arc<Vec<Vec<Left>>>;

/// What one life has left of a group.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    /// Which life.
    pub(crate) life: Incarnation,
    /// The elements.
    pub(crate) values: Vec<u64>,
    /// Where they stand.
    pub(crate) remains: Remains,
    /// The operations that were applied only when the process ended, and what each did.
    pub(crate) tail: Vec<(Seq, Applied)>,
    /// The disk gives it back as it was.
    pub(crate) is_readable: bool,
}

impl Fetch {
    /// The elements that have not come, as bits.
    pub(crate) fn missing(&self) -> u32 {
        let missing = self.pieces.iter().enumerate().filter(|(_, piece)| piece.is_none());
        missing.fold(0, |bits, (index, _)| bits | 1 << index)
    }
}

/// What applying did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    /// The operation.
    pub(crate) operation: Operation,
    /// Fingerprint of the operation and its bytes.
    pub(crate) fingerprint: u64,
    /// What the element held before; `None` when the operation was refused.
    pub(crate) before: Option<u64>,
}

impl Effect {
    /// What the machine is told of it.
    pub(crate) fn outcome(&self) -> Result<Bytes, Failure> {
        let refused = || Failure::new(ErrorCode::InvalidArgument, "not this value");
        self.before.map(|before| Bytes::copy_from_slice(&before.to_le_bytes())).ok_or_else(refused)
    }
}

impl Store {
    /// A store of zeros.
    pub(crate) fn new(elements: usize) -> Self {
        Self {
            values: vec![0; elements],
            applied: Seq(0),
            queue: VecDeque::new(),
            is_blocked: false,
            filling: 0,
            gate: ReadGate::closed(Epoch(0)),
            role: Role::Empty,
            staged: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            fetch: None,
            commit_seen: Seq(0),
        }
    }

    /// Drops what the replica held; staged bytes stay until the machine releases them.
    pub(crate) fn reset(&mut self) {
        self.values.fill(0);
        self.applied = Seq(0);
        self.queue.clear();
        self.is_blocked = false;
        self.filling += 1;
        self.fetch = None;
        self.commit_seen = Seq(0);
    }

    /// Makes values that came from disk this state, as of no operation at all: the group starts again.
    pub(crate) fn put_back(&mut self, values: &[u64]) {
        self.reset();
        self.values.copy_from_slice(values);
    }

    /// Makes what an earlier life has left this state.
    pub(crate) fn restore(&mut self, left: &Left) {
        self.put_back(&left.values);
        self.applied = left.remains.at.seq;
    }

    /// Makes a fetched state this one.
    pub(crate) fn install(&mut self, state: &Fetch) {
        self.reset();
        for (value, piece) in self.values.iter_mut().zip(&state.pieces) {
            *value = piece.unwrap_or(0);
        }
        self.applied = state.at.seq;
    }

    /// Applies an operation; an error says why a correct machine would not have handed it out.
    pub(crate) fn apply(&mut self, waiting: &Waiting) -> Result<Effect, &'static str> {
        if waiting.seq <= self.applied {
            return Err("an operation is handed out again");
        }
        self.applied = waiting.seq;
        let operation = Operation::read(&waiting.op).ok_or("an operation that no client made")?;
        let action = match (operation.action, waiting.payload) {
            (Some(action), None) => action,
            (None, Some(id)) => {
                let staged = self.staged.get(&id).ok_or("published bytes are not here")?;
                Action::Write(staged.value)
            }
            _ => return Err("an operation and its bytes do not belong together"),
        };
        let value = self.values.get_mut(operation.element).ok_or("no such element")?;
        let before = *value;
        let fingerprint = mix(Operation { action: Some(action), ..operation }.fingerprint());
        if matches!(action, Action::Write(new) if new % REFUSED_MULTIPLE == 0) {
            return Ok(Effect { operation, fingerprint, before: None });
        }
        *value = action.apply(before);
        Ok(Effect { operation, fingerprint, before: Some(before) })
    }

    /// What was just done, for those who watch.
    pub(crate) fn seen(&self, effect: &Effect) -> Applied {
        let Effect { operation, fingerprint, .. } = effect;
        let request = (operation.session, operation.number);
        Applied { operation: *fingerprint, state: self.digest(), request }
    }

    /// Digest of the elements.
    pub(crate) fn digest(&self) -> u64 {
        digest(&self.values)
    }
}

/// Digest of one element, by which kept ones are compared.
pub(crate) fn digest_of_one(value: u64) -> u64 {
    mix(value ^ 0x6B65_7074)
}

/// Digest of the elements of a group.
pub(crate) fn digest(values: &[u64]) -> u64 {
    values.iter().fold(1, |digest, value| mix(digest ^ value).wrapping_add(1))
}
