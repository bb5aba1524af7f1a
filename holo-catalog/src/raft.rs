//! The types that the Raft library is instantiated with. Nothing outside this crate names them.

use std::fmt;

use bytes::Bytes;
use openraft::EmptyNode;

use crate::VoterId;

openraft::declare_raft_types!(
    /// Commands and answers are bytes, a snapshot is bytes, a member is an id.
    pub(crate) TypeConfig:
        D = Command,
        R = Answer,
        NodeId = VoterId,
        Node = EmptyNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Bytes,
        Responder = openraft::impls::OneshotResponder<TypeConfig>,
        AsyncRuntime = crate::rhythm::Rhythm,
);

/// A proposed command.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What the state machine answered. Empty for entries that are no commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer(pub(crate) Bytes);

pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<VoterId>;
pub(crate) type Vote = openraft::Vote<VoterId>;
pub(crate) type Membership = openraft::Membership<VoterId, EmptyNode>;
pub(crate) type StoredMembership = openraft::StoredMembership<VoterId, EmptyNode>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<VoterId, EmptyNode>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type StorageError = openraft::StorageError<VoterId>;
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub(crate) type AppendReply = openraft::raft::AppendEntriesResponse<VoterId>;
pub(crate) type VoteRequest = openraft::raft::VoteRequest<VoterId>;
pub(crate) type VoteReply = openraft::raft::VoteResponse<VoterId>;
