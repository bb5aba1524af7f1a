//! Replication of groups: who holds what, and the machines that keep it so.
//!
//! [`Host`] is the machine of one node. Sans-io: it opens no socket, reads no clock, draws no randomness, and never
//! touches the bytes of pages; the same inputs in the same order always give the same outputs.
//!
//! # Contract with the driver
//!
//! After every `handle_*` call, call [`Host::poll_output`] until it returns `None` and carry the outputs out in their
//! order, then arm one timer for [`Host::poll_timeout`]. `now` never goes back. Messages may be lost; everything is
//! repeated where it matters. Operations are applied one after the other per group, and their ends are reported with
//! [`Input::Applied`] in that order, at once or later. When [`Output::Reset`] names a group, what was under way for it
//! is forgotten and never reported.
//!
//! # Not here
//!
//! The catalog, which alone changes configs; bytes and frames (`holo-mem`); sockets.

mod attention;
mod config;
mod dedup;
mod echo;
mod host;
mod io;
mod lease;
mod log;
mod messages;
mod mutant;
mod payloads;
mod peers;
mod progress;
mod remains;
mod replica;
mod summary;
mod timers;

pub use config::{
    Class, ConfigChange, ConfigRole, ConfigVerifier, GroupConfig, GroupId, Incarnation, NodeNumber,
    Proposal, ReplicaId,
};
pub use dedup::{Answer, Outcome, SessionWindow, SessionWindows};
pub use host::Host;
pub use io::{Input, Output, ReadGate, Role};
pub use messages::{
    Append, AppendAck, AppendNack, Beat, BeatAck, CommitNews, ConfigClaim, Entry, EntryOp,
    LogPosition, Message, Payload, PayloadId, Release, RequestKey, SessionId, SetVersion,
    SnapshotId, SnapshotOffer,
};
#[doc(hidden)]
pub use mutant::Mutant;
pub use remains::Remains;
pub use summary::{GroupSummary, LearnerSummary};
pub use timers::Timers;

#[cfg(test)]
mod tests;
