//! Bodies between nodes about the catalog: following it, proposing to it, voting in it, and beats.

use std::fmt;

use bytes::Bytes;

/// Asks for what changed since a version; waits when nothing did. The answer's bytes come as bulk.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CatalogFollow {
    /// The version that the asker has; 0 for none.
    #[prost(uint64, tag = "1")]
    pub known_version: u64,
    /// How long to wait for a higher one, in milliseconds.
    #[prost(uint32, tag = "2")]
    pub wait_ms: u32,
    /// Not 0: the rest of the whole state at this version is wanted, from `offset` on.
    #[prost(uint64, tag = "3")]
    pub state_version: u64,
    /// Where in the bytes of the whole state to begin.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
}

/// What comes before the bytes of `catalog::Changes`, or of a piece of them.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CatalogNews {
    /// The version that the bytes lead to. With no bytes: nothing changed after `known_version`.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// All bytes of the changes; when more than came, the rest is to be asked for.
    #[prost(uint64, tag = "2")]
    pub total_bytes: u64,
    /// The voter's signing key, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub issuer: Vec<u8>,
    /// Its signature over the Merkle root of the configs in the changes, in their order, 64 bytes: the receiver makes
    /// each one's proof itself. Empty when there are none.
    #[prost(bytes = "vec", tag = "4")]
    pub signature: Vec<u8>,
    /// Number of the node that leads the catalog; 0 when that is not known.
    #[prost(uint32, tag = "5")]
    pub leader: u32,
}

/// A command for the catalog.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CatalogCommand {
    /// `catalog::Command` as bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub command: Bytes,
    /// It was passed on by a voter: it is not passed on again.
    #[prost(bool, tag = "2")]
    pub passed_on: bool,
}

/// What came of a command.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CatalogAnswer {
    /// Index in the log; a node whose version is as high has seen its effect. 0 when it was not proposed.
    #[prost(uint64, tag = "1")]
    pub index: u64,
    /// `catalog::Answer` as bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub answer: Bytes,
    /// Nothing was done: this node leads, as far as the answerer knows; 0 when somebody did it.
    #[prost(uint32, tag = "3")]
    pub leader: u32,
}

/// A message of the catalog's agreement, with the lives of the two voters.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RaftEnvelope {
    /// Who sends.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// For whom it is.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// Known to the catalog's driver only.
    #[prost(bytes = "bytes", tag = "3")]
    pub body: Bytes,
}

/// What a node needs to become a voter; from the catalog's leader.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct VoterSecrets {
    /// The secret that placement keys come from, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub placement_secret: Vec<u8>,
    /// Seed of the signing key that the voters share, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub issuer_seed: Vec<u8>,
}

impl fmt::Debug for VoterSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VoterSecrets(<redacted>)")
    }
}

/// The node is ready to vote.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VoterReady {
    /// The voter that its file stands for.
    #[prost(uint64, tag = "1")]
    pub voter: u64,
}

/// A node lives, and how it does.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Heartbeat {
    /// Its present life.
    #[prost(uint32, tag = "1")]
    pub incarnation: u32,
    /// Its wall clock: Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub unix_ms: u64,
    /// Never seen before, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub nonce: Vec<u8>,
    /// The catalog's version that it has.
    #[prost(uint64, tag = "4")]
    pub version: u64,
    /// How it does.
    #[prost(message, optional, tag = "5")]
    pub load: Option<NodeLoad>,
    /// Why it cannot write down what it holds, while the whole cluster is being shut down; empty when it can.
    #[prost(string, tag = "6")]
    pub cannot_write: String,
}

/// What a node holds and does.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct NodeLoad {
    /// Bytes of page frames in use.
    #[prost(uint64, tag = "1")]
    pub frame_bytes: u64,
    /// Bytes of page frames that it may use.
    #[prost(uint64, tag = "2")]
    pub frame_bytes_max: u64,
    /// Bytes promised to the shards that it holds.
    #[prost(uint64, tag = "3")]
    pub reserved_bytes: u64,
    /// Groups whose primary it is.
    #[prost(uint32, tag = "4")]
    pub groups_primary: u32,
    /// Groups that it holds otherwise.
    #[prost(uint32, tag = "5")]
    pub groups_backup: u32,
    /// Replicas that it is bringing up as their primary, right now.
    #[prost(uint32, tag = "6")]
    pub copies_out: u32,
    /// Bytes that it has copied to other replicas since it started.
    #[prost(uint64, tag = "7")]
    pub copied_bytes: u64,
    /// Resident bytes of its process.
    #[prost(uint64, tag = "8")]
    pub resident_bytes: u64,
    /// Processor time of its process.
    #[prost(uint64, tag = "9")]
    pub cpu_ms: u64,
    /// Milliseconds since it started.
    #[prost(uint64, tag = "10")]
    pub uptime_ms: u64,
    /// The most bytes that it can promise; 0 while it promises nothing yet.
    #[prost(uint64, tag = "11")]
    pub reserved_bytes_max: u64,
    /// Groups that it has on disk since the cluster or an earlier process of it was stopped, and cannot read.
    #[prost(uint64, tag = "12")]
    pub holds_unreadable: u64,
    /// Bytes that it has copied from other replicas since it started.
    #[prost(uint64, tag = "13")]
    pub fetched_bytes: u64,
}

/// The leader heard it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HeartbeatReply {
    /// The leader's wall clock: Unix milliseconds.
    #[prost(uint64, tag = "1")]
    pub unix_ms: u64,
    /// Nobody heard it: this node leads, as far as the answerer knows; 0 from the leader.
    #[prost(uint32, tag = "2")]
    pub leader: u32,
}
