//! What travels between nodes, clients and the catalog, and what else happens in a run.

use std::sync::Arc;

use holo_core::Epoch;
use holo_core::catalog::{CloseId, Held, PastReplica, Resumption};
use holo_core::replication::{
    GroupId, Message, PayloadId, Proposal, ReplicaId, RequestKey, SnapshotId,
};

use crate::disk::FileName;
use crate::history::Element;
use crate::linear::Action;
use crate::network::End;
use crate::queue::Time;

/// Something that happens at its time.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrives.
    Deliver {
        /// Who sent it.
        from: End,
        /// To whom.
        to: End,
        /// What; apart, for it is many times as large as other events.
        packet: Box<Packet>,
    },
    /// A node's machine wanted to be called.
    NodeTimer {
        /// Index of the node.
        node: usize,
    },
    /// A node's driver goes on with something.
    Job {
        /// Index of the node.
        node: usize,
        /// In which life; another one knows nothing of it.
        life: ReplicaId,
        /// With what; apart, for the sake of all other events.
        job: Box<Job>,
    },
    /// A client looks at its calls.
    ClientTimer {
        /// Index of the client.
        client: usize,
    },
    /// The catalog judges who is there, and plans.
    CatalogTimer,
    /// The next fault.
    Fault,
    /// A node crashes.
    Crash {
        /// Index of the node.
        node: usize,
    },
    /// A node starts again.
    Start {
        /// Index of the node.
        node: usize,
    },
    /// A node asks the catalog for news, or for its incarnation.
    Poll {
        /// Index of the node.
        node: usize,
        /// Of which start of the node this is part.
        boot: u64,
    },
    /// A node has room again.
    Room {
        /// Index of the node.
        node: usize,
    },
    /// The operator stops the whole cluster, or takes that back.
    Close,
    /// All machines are told to stop, and start again.
    Reboot,
    /// A process is told to stop.
    Stop {
        /// Index of the node.
        node: usize,
        /// How long until it starts again, if it does.
        away: Option<Time>,
    },
    /// Faults end.
    Heal,
    /// Invariants over all nodes are looked at.
    Look,
}

/// Work that a driver has put off.
#[derive(Debug)]
pub(crate) enum Job {
    /// The page of a group's next operation has come from disk.
    Apply {
        /// Index of the group.
        group: usize,
        /// Of which filling of the store.
        filling: u64,
    },
    /// A read has copied its bytes and looks at the gate once more.
    FinishRead(ReadUnderWay),
    /// The operation of staged bytes is proposed.
    Propose(Request),
    /// A snapshot has not come: ask again or give up.
    FetchAgain {
        /// Index of the group.
        group: usize,
        /// Which.
        snapshot: SnapshotId,
    },
    /// The node looks again what a close asks of it.
    Keep,
    /// A file has reached the disk.
    Synced(FileName),
    /// A file was read.
    Read {
        /// Which.
        name: FileName,
        /// The epoch after which it is the group's data.
        at: Epoch,
    },
    /// What an earlier life left was read, or not found.
    Restore(PastReplica),
    /// The node says again what became of what its earlier lives left.
    Resume,
    /// The process ends.
    End,
}

/// A read between its two looks at the gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadUnderWay {
    /// The request.
    pub(crate) request: Request,
    /// The epoch in which it began.
    pub(crate) epoch: Epoch,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// Machine to machine; the channel proves both ends.
    Peer {
        /// The sender.
        from: ReplicaId,
        /// The receiver: another life of its node does not get it.
        to: ReplicaId,
        /// What it says.
        message: Message,
    },
    /// Driver to driver.
    Bulk {
        /// The sender.
        from: ReplicaId,
        /// The receiver.
        to: ReplicaId,
        /// Index of the group.
        group: usize,
        /// What it carries.
        bulk: Bulk,
    },
    /// Client to node.
    Request(Request),
    /// Node to client.
    Response {
        /// The request that it answers.
        request: Request,
        /// How it went.
        outcome: Outcome,
    },
    /// Node to catalog.
    ToCatalog(ToCatalog),
    /// Catalog to node.
    FromCatalog(FromCatalog),
}

impl Packet {
    /// What an empty envelope holds.
    pub(crate) const NOTHING: Self = Self::FromCatalog(FromCatalog::News { known: 0 });
}

/// Data beside the log.
#[derive(Clone, Debug)]
pub(crate) enum Bulk {
    /// Staged bytes, whole or lost.
    Stage {
        /// Their name.
        id: PayloadId,
        /// What they are.
        value: u64,
    },
    /// Send me staged bytes.
    WantPayload(PayloadId),
    /// Send me a snapshot.
    WantSnapshot(SnapshotId),
    /// Send me the digests of a snapshot's elements.
    WantIndex(SnapshotId),
    /// The digests of a snapshot's elements.
    Index {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// In the order of the elements.
        digests: Vec<u64>,
    },
    /// Send me some elements of a snapshot.
    WantPieces {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// Which elements, as bits.
        missing: u32,
    },
    /// One element of a snapshot.
    Piece {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// The state that it is part of.
        state: Arc<Frozen>,
        /// Which element.
        index: usize,
        /// Its checksum does not fit.
        torn: bool,
    },
    /// There is no such snapshot.
    NoSnapshot(SnapshotId),
}

/// A group's state at one place of its log.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    /// The elements.
    pub(crate) values: Vec<u64>,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Index of the client.
    pub(crate) client: usize,
    /// The client's number for the call; all its tries have the same.
    pub(crate) call: u64,
    /// What makes it happen once; unused by reads.
    pub(crate) key: RequestKey,
    /// Where.
    pub(crate) element: Element,
    /// What.
    pub(crate) action: Action,
    /// Its bytes are to be staged beside the log.
    pub(crate) is_bulk: bool,
    /// The staged bytes, as the node named them.
    pub(crate) payload: Option<PayloadId>,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done: what the element held before.
    Done(u64),
    /// Refused for good, nothing changed.
    Refused,
    /// Ask another node.
    Elsewhere(Option<usize>),
    /// Ask again later.
    Later,
    /// It may have happened or not, and asking again does not help.
    Unknown,
    /// The group's data is lost.
    Lost,
}

/// What nodes say to the catalog.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ToCatalog {
    /// A process has started.
    Register {
        /// Index of the node.
        node: usize,
        /// Of its process.
        boot: u64,
        /// Earlier lives have left something.
        keeps: bool,
    },
    /// I have looked for what an earlier life of mine left of a group.
    Resume {
        /// Who.
        by: ReplicaId,
        /// What came of it.
        found: Resumption,
    },
    /// A change is wanted.
    Propose(Proposal),
    /// I am here, and know the news up to this one.
    Poll {
        /// Who.
        replica: ReplicaId,
        /// How many news it knows.
        known: usize,
    },
    /// I have a group on disk.
    Hold {
        /// Who.
        by: ReplicaId,
        /// For which close.
        close: CloseId,
        /// What.
        held: Held,
    },
    /// I have put a group back.
    Reopen {
        /// Who.
        by: ReplicaId,
        /// After which close.
        close: CloseId,
        /// What.
        held: Held,
    },
}

/// What the catalog says to nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FromCatalog {
    /// The incarnation of a process.
    Registered {
        /// Of its process.
        boot: u64,
        /// It, in its present life.
        replica: ReplicaId,
    },
    /// There are news up to this one.
    News {
        /// Their number.
        known: usize,
    },
    /// A proposal was refused.
    Refused {
        /// Of which group.
        group: GroupId,
        /// The epoch that it named.
        epoch: Epoch,
    },
}
