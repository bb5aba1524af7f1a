//! What the driver tells the host, and what the host tells the driver to do.

use std::sync::Arc;

use bytes::Bytes;

use super::config::{GroupId, Incarnation, Proposal, ReplicaId};
use super::messages::{
    ConfigClaim, LogPosition, Message, Payload, PayloadId, RequestKey, SessionId, SnapshotId,
};
use super::remains::Remains;
use crate::group::{Op, Seq, Ticket};
use crate::{Epoch, Failure, Instant};

/// What the driver tells the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A config, from the catalog or from anyone: believed only with its proof, and only when it is news.
    Config(ConfigClaim),
    /// The current incarnation of every member node, from the catalog. Older ones are not waited for, and not heard any
    /// more. A driver that finds its own node in a newer incarnation was superseded, and stops its process.
    Living(Vec<ReplicaId>),
    /// The wanted holders of groups, primary first, from the catalog's placement table. Groups that are not named
    /// keep what was said before.
    Targets(Vec<(GroupId, Vec<ReplicaId>)>),
    /// A peer said something.
    Message {
        /// Who, proven by the channel.
        from: ReplicaId,
        /// What.
        message: Message,
    },
    /// Somebody wants an operation. When this is taken, exactly one [`Output::Reply`] follows some day.
    Propose {
        /// Comes back with the reply; the driver's own, unique among those under way.
        ticket: Ticket,
        /// The group.
        group: GroupId,
        /// What makes it happen once; `None` for what the proposer never tries twice.
        request: Option<RequestKey>,
        /// The operation.
        op: Op,
        /// The bytes beside the log, for [`Op::Publish`] and only for that. They must be ready here already
        /// ([`Input::PayloadReady`]).
        payload: Option<Payload>,
    },
    /// All bytes of a payload lie here, their digests are right, and the room to apply it is reserved.
    PayloadReady {
        /// The group.
        group: GroupId,
        /// The payload.
        id: PayloadId,
    },
    /// The driver has applied an operation, or could not.
    Applied {
        /// The group.
        group: GroupId,
        /// The number that it was emitted with.
        seq: Seq,
        /// How it went, with at most [`limits::OUTCOME_BYTES_MAX`](crate::limits::OUTCOME_BYTES_MAX) bytes of result.
        /// Every replica must come to the same end; a failure changed nothing.
        outcome: Result<Bytes, Failure>,
    },
    /// The state of [`Output::FetchSnapshot`] lies here, whole and verified.
    SnapshotFetched {
        /// The group.
        group: GroupId,
        /// The last entry that it contains.
        at: LogPosition,
    },
    /// The state of [`Output::FetchSnapshot`] could not be fetched.
    SnapshotFailed {
        /// The group.
        group: GroupId,
    },
    /// The catalog refused a proposal, and not because the group is in another epoch by now: then its config is to come.
    ProposalRefused {
        /// The group.
        group: GroupId,
        /// The epoch that the proposal named.
        epoch: Epoch,
    },
    /// Sessions below this one have expired, says the catalog.
    ExpireSessions {
        /// The lowest session that lives.
        below: SessionId,
    },
    /// What an earlier life of this node left of a group lies here again, whole. The group goes on from it when the
    /// config right after `after` makes this replica its primary; until then, and with any other config that has no
    /// place for that life, it is nobody's data. Said again with a higher `after`, it is good for that epoch instead.
    Restore {
        /// Which life.
        life: Incarnation,
        /// The epoch in which that life is still in sync, says the catalog.
        after: Epoch,
        /// What it left.
        remains: Remains,
    },
}

/// What the driver shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message. It may be lost, doubled, delayed.
    Send {
        /// To whom.
        to: ReplicaId,
        /// What.
        message: Message,
    },
    /// Apply an operation, after every earlier one of its group; report it with [`Input::Applied`].
    Apply {
        /// The group.
        group: GroupId,
        /// Its number.
        seq: Seq,
        /// The operation.
        op: Op,
        /// The bytes that [`Op::Publish`] publishes.
        payload: Option<PayloadId>,
    },
    /// Answer a proposer.
    Reply {
        /// Who asked.
        ticket: Ticket,
        /// How it went.
        outcome: Result<Bytes, Failure>,
    },
    /// An entry came whose bytes are not here: fetch them, then [`Input::PayloadReady`]. If they are here after all, say
    /// so again. Repeated while they are missing; `from` may change.
    FetchPayload {
        /// The group.
        group: GroupId,
        /// Who has them.
        from: ReplicaId,
        /// Which.
        payload: Payload,
    },
    /// Nobody needs these staged bytes any more; what was published stays as pages.
    ReleasePayload {
        /// The group.
        group: GroupId,
        /// Which.
        id: PayloadId,
    },
    /// Make this replica's state of the group that of a snapshot, then [`Input::SnapshotFetched`] or
    /// [`Input::SnapshotFailed`]. A later one for the group replaces it.
    FetchSnapshot {
        /// The group.
        group: GroupId,
        /// Who has it.
        from: ReplicaId,
        /// Which.
        snapshot: SnapshotId,
        /// The last entry that it contains.
        at: LogPosition,
    },
    /// Freeze the group's state as it is now (by copy on write), with all operations up to `at` applied.
    TakeSnapshot {
        /// The group.
        group: GroupId,
        /// How peers will ask for it.
        snapshot: SnapshotId,
        /// The last applied entry.
        at: LogPosition,
    },
    /// A frozen state is no longer needed.
    DropSnapshot {
        /// The group.
        group: GroupId,
        /// Which.
        snapshot: SnapshotId,
    },
    /// Hand a proposal to the catalog. Repeated until a newer config comes.
    Propose(Proposal),
    /// Somebody spoke of a newer epoch without a proof: fetch the certified config.
    AskCatalog {
        /// The group.
        group: GroupId,
        /// The epoch that is known here; a newer one is wanted.
        above: Epoch,
    },
    /// On whose leases local reads rest. Must reach the readers before any later output is carried out.
    Reads {
        /// The group.
        group: GroupId,
        /// The permission.
        gate: ReadGate,
    },
    /// Until when a peer serves nobody else in the groups whose [`ReadGate`] names it; before the first, it may at any
    /// time. Replaces what was said before, be it later or not. Must reach the readers before any later output is
    /// carried out.
    Lease {
        /// The peer.
        peer: ReplicaId,
        /// Its lease lives strictly before this instant.
        until: Instant,
    },
    /// What this replica holds of the group is void: drop it, forget its operations under way and report none of
    /// them.
    Reset {
        /// The group.
        group: GroupId,
    },
    /// This replica's role has changed: for routing and status.
    Role {
        /// The group.
        group: GroupId,
        /// The role.
        role: Role,
        /// The epoch.
        epoch: Epoch,
    },
}

/// Permission for local reads: it holds while every lease lives that it rests on. Leases are renewed with every beat
/// and belong to pairs of nodes ([`Output::Lease`]), so that a gate changes only when its group does.
///
/// A reader checks it before *and after* it has copied the bytes. Whoever cannot look at a gate and at its leases at one
/// instant looks at the gate once more after the leases: a gate is closed before the lease of a peer that has moved on
/// is renewed for other groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadGate {
    /// The epoch; a reader that began in another one begins again.
    pub epoch: Epoch,
    /// The peers whose leases reads rest on; `None` where reads are not allowed at all.
    pub leased_by: Option<Arc<[ReplicaId]>>,
}

impl ReadGate {
    /// A gate that lets nobody in.
    pub fn closed(epoch: Epoch) -> Self {
        Self { epoch, leased_by: None }
    }

    /// Reads may be answered strictly before this instant, by the leases that `lease` knows; `None` when they may not be
    /// answered at all.
    pub fn until(&self, lease: impl Fn(ReplicaId) -> Option<Instant>) -> Option<Instant> {
        let mut until = Instant::MAX;
        for peer in self.leased_by.as_ref()?.iter() {
            until = until.min(lease(*peer)?);
        }
        Some(until)
    }

    /// Whether a read may be answered at `now`, by the leases that `lease` knows.
    pub fn is_open(&self, now: Instant, lease: impl Fn(ReplicaId) -> Option<Instant>) -> bool {
        self.until(lease).is_some_and(|until| now < until)
    }
}

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It holds nothing.
    Empty,
    /// It is being brought up.
    Learner,
    /// It holds every committed operation.
    Backup,
    /// It is the primary by the config, and waits for promises to pass or for its barrier.
    PrimaryPending,
    /// It orders operations, and serves reads while its leases live.
    Primary,
}
