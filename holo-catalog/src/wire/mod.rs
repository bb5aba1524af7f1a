//! What voters send each other, and the shape of what lies in their files: protobuf, so that fields can be added.
//!
//! These are shapes, not values to trust: each is turned into checked values before it is used. A field that a reader
//! does not know is passed over, a field that is missing has its default, tags are never reused.

use bytes::Bytes;
use holo_core::limits;

pub(crate) mod convert;
#[cfg(test)]
mod tests;

/// Bytes of one command: what fits with its wrapping into one small message, of a voter or of whoever forwards it.
pub const COMMAND_BYTES_MAX: usize = limits::CATALOG_COMMAND_BYTES_MAX;
/// Bytes of entries that one `Append` carries, unless its only entry is larger.
pub const APPEND_BYTES: usize = 512 << 10;
/// Entries of one `Append`.
pub const APPEND_ENTRIES_MAX: usize = 1024;
/// Bytes of one piece of a snapshot.
pub const SNAPSHOT_PIECE_BYTES: usize = 512 << 10;
/// Bytes of a snapshot.
pub const SNAPSHOT_BYTES_MAX: u64 = limits::CATALOG_STATE_BYTES_MAX as u64;
/// Voters of the catalog.
pub const VOTERS_MAX: usize = 7;
/// Voters and learners while a change of voters is under way.
pub const MEMBERS_MAX: usize = 3 * VOTERS_MAX;
/// Largest index and term: far beyond what is ever reached, and far from overflow.
pub const ORDINAL_MAX: u64 = 1 << 60;

/// A request of one voter to another: exactly one of its fields.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RaftRequest {
    /// Append entries, or only say who leads.
    #[prost(message, optional, tag = "1")]
    pub append: Option<AppendBody>,
    /// Ask for a vote.
    #[prost(message, optional, tag = "2")]
    pub vote: Option<VoteRequestBody>,
    /// A piece of a snapshot.
    #[prost(message, optional, tag = "3")]
    pub snapshot: Option<SnapshotPieceBody>,
}

/// The reply to a [`RaftRequest`]: the field of the same number.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RaftReply {
    /// To an append.
    #[prost(message, optional, tag = "1")]
    pub append: Option<AppendReplyBody>,
    /// To a request for a vote.
    #[prost(message, optional, tag = "2")]
    pub vote: Option<VoteReplyBody>,
    /// To a piece of a snapshot.
    #[prost(message, optional, tag = "3")]
    pub snapshot: Option<SnapshotReplyBody>,
}

/// Place of an entry in the log.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LogIdBody {
    /// Term of the leader that appended it.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// That leader's voter id.
    #[prost(uint64, tag = "2")]
    pub leader: u64,
    /// Its index; the first entry of all has 0.
    #[prost(uint64, tag = "3")]
    pub index: u64,
}

/// Whom a voter follows or votes for.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct VoteBody {
    /// Term.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// Voter id of the candidate or leader.
    #[prost(uint64, tag = "2")]
    pub candidate: u64,
    /// Whether a majority voted so: it is the leader.
    #[prost(bool, tag = "3")]
    pub elected: bool,
}

/// One set of voters.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VoterSetBody {
    /// Voter ids, each once.
    #[prost(uint64, repeated, tag = "1")]
    pub voters: Vec<u64>,
}

/// Who takes part.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MembersBody {
    /// One set of voters, or two while a change is under way: then a majority of each is needed.
    #[prost(message, repeated, tag = "1")]
    pub sets: Vec<VoterSetBody>,
    /// Voter ids of those that receive the log without a vote.
    #[prost(uint64, repeated, tag = "2")]
    pub learners: Vec<u64>,
}

/// One entry of the log: a command, new members, or neither, which is how a new leader begins.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct EntryBody {
    /// Its place.
    #[prost(message, optional, tag = "1")]
    pub id: Option<LogIdBody>,
    /// A command of the state machine; at most `COMMAND_BYTES_MAX` bytes.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub command: Option<Bytes>,
    /// Who takes part from here on.
    #[prost(message, optional, tag = "3")]
    pub members: Option<MembersBody>,
}

/// Append `entries` after `previous`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AppendBody {
    /// The sender's claim to lead.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteBody>,
    /// Place of the entry before the first one; absent before the very first.
    #[prost(message, optional, tag = "2")]
    pub previous: Option<LogIdBody>,
    /// At most `APPEND_ENTRIES_MAX`, with consecutive indexes.
    #[prost(message, repeated, tag = "3")]
    pub entries: Vec<EntryBody>,
    /// Place of the last entry that the leader knows to be committed.
    #[prost(message, optional, tag = "4")]
    pub committed: Option<LogIdBody>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AppendOutcome {
    /// Never sent.
    Unspecified = 0,
    /// All entries are on disk.
    Appended = 1,
    /// Those up to `matching` are.
    PartlyAppended = 2,
    /// The entry at `previous` is another one, or there is none.
    Conflict = 3,
    /// `vote` is newer than the sender's.
    NewerVote = 4,
}

/// Reply to an append.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AppendReplyBody {
    /// What became of it.
    #[prost(enumeration = "AppendOutcome", tag = "1")]
    pub outcome: i32,
    /// With `PartlyAppended`: place of the last entry on disk.
    #[prost(message, optional, tag = "2")]
    pub matching: Option<LogIdBody>,
    /// With `NewerVote`: that vote.
    #[prost(message, optional, tag = "3")]
    pub vote: Option<VoteBody>,
}

/// Asks for a vote.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VoteRequestBody {
    /// The term and the sender.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteBody>,
    /// Place of the sender's last entry; absent when it has none.
    #[prost(message, optional, tag = "2")]
    pub last: Option<LogIdBody>,
}

/// Reply to a request for a vote.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VoteReplyBody {
    /// Whom the replier follows or votes for now.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteBody>,
    /// Whether the sender has the vote.
    #[prost(bool, tag = "2")]
    pub granted: bool,
    /// Place of the replier's last entry; absent when it has none.
    #[prost(message, optional, tag = "3")]
    pub last: Option<LogIdBody>,
}

/// What a snapshot is a snapshot of.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotMetaBody {
    /// Place of the last entry in it; absent when there was none.
    #[prost(message, optional, tag = "1")]
    pub last: Option<LogIdBody>,
    /// Who takes part.
    #[prost(message, optional, tag = "2")]
    pub members: Option<MembersBody>,
    /// Place of the entry that named them; absent when there was none.
    #[prost(message, optional, tag = "3")]
    pub members_at: Option<LogIdBody>,
    /// Bytes of the state.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// BLAKE3 of the state; 32 bytes.
    #[prost(bytes = "bytes", tag = "5")]
    pub digest: Bytes,
}

/// A piece of a snapshot. Pieces come in order; the first has offset 0 and starts anew.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotPieceBody {
    /// The sender's claim to lead.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteBody>,
    /// The snapshot, the same in every piece.
    #[prost(message, optional, tag = "2")]
    pub meta: Option<SnapshotMetaBody>,
    /// Where in the state this piece begins.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Bytes of the state.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

/// Reply to a piece of a snapshot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotReplyBody {
    /// Whom the replier follows or votes for now.
    #[prost(message, optional, tag = "1")]
    pub vote: Option<VoteBody>,
    /// How many bytes of this snapshot it has: where the next piece begins. All of them: it is installed.
    #[prost(uint64, tag = "2")]
    pub have: u64,
}
