//! States, and what changed since a version.

use super::answer::SessionsBody;
use super::parts::{
    ConfigBody, NewNodeBody, NumbersBody, PrincipalRecordBody, SettingsRecordBody, TablesBody,
    TicketRecordBody,
};
use crate::wire::{ArrayInfo, GroupBody, IssuerBody};

/// The whole state, or what changed since a version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangesBody {
    /// The version that a copy needs; 0 with the whole.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// The version that this leads to.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// This is everything.
    #[prost(bool, tag = "3")]
    pub whole: bool,
    /// The catalog's time.
    #[prost(uint64, tag = "4")]
    pub now_unix_ms: u64,
    /// The number that the next node gets.
    #[prost(uint32, tag = "5")]
    pub next_node: u32,
    /// The id that the next array gets.
    #[prost(uint64, tag = "6")]
    pub next_array: u64,
    /// What never changes.
    #[prost(message, optional, tag = "7")]
    pub cluster: Option<ClusterBody>,
    /// The settings.
    #[prost(message, optional, tag = "8")]
    pub settings: Option<SettingsRecordBody>,
    /// The voters.
    #[prost(message, optional, tag = "9")]
    pub voters: Option<NumbersBody>,
    /// Where session ids stand.
    #[prost(message, optional, tag = "10")]
    pub sessions: Option<SessionsBody>,
    /// The target tables.
    #[prost(message, optional, tag = "11")]
    pub tables: Option<TablesBody>,
    /// Nodes.
    #[prost(message, repeated, tag = "12")]
    pub nodes: Vec<NodeBody>,
    /// Numbers of nodes that were forgotten.
    #[prost(uint32, repeated, tag = "13")]
    pub gone_nodes: Vec<u32>,
    /// Tickets.
    #[prost(message, repeated, tag = "14")]
    pub tickets: Vec<TicketRecordBody>,
    /// Keys of tickets that are gone, 32 bytes each.
    #[prost(bytes = "vec", repeated, tag = "15")]
    pub gone_tickets: Vec<Vec<u8>>,
    /// Configs.
    #[prost(message, repeated, tag = "16")]
    pub groups: Vec<ConfigBody>,
    /// Arrays.
    #[prost(message, repeated, tag = "17")]
    pub arrays: Vec<ArrayRecordBody>,
    /// Ids of arrays that were removed.
    #[prost(uint64, repeated, tag = "18")]
    pub gone_arrays: Vec<u64>,
    /// Principals.
    #[prost(message, repeated, tag = "19")]
    pub principals: Vec<PrincipalRecordBody>,
    /// Keys of principals that were removed, 32 bytes each.
    #[prost(bytes = "vec", repeated, tag = "20")]
    pub gone_principals: Vec<Vec<u8>>,
    /// Signing keys.
    #[prost(message, repeated, tag = "21")]
    pub issuers: Vec<IssuerBody>,
    /// Signing keys that are gone, 32 bytes each.
    #[prost(bytes = "vec", repeated, tag = "22")]
    pub gone_issuers: Vec<Vec<u8>>,
    /// A close of the whole cluster.
    #[prost(message, optional, tag = "23")]
    pub close: Option<CloseBody>,
    /// Groups of that close, with who has them on disk.
    #[prost(message, repeated, tag = "24")]
    pub holds: Vec<HoldBody>,
    /// Groups that are groups of that close no more.
    #[prost(message, repeated, tag = "25")]
    pub gone_holds: Vec<GroupBody>,
}

/// A close of the whole cluster.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct CloseBody {
    /// Its number; 0 when there is none any more.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Since when.
    #[prost(uint64, tag = "2")]
    pub since_unix_ms: u64,
    /// Everything is on disk.
    #[prost(bool, tag = "3")]
    pub finished: bool,
}

/// Who has a group on disk.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HoldBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch of its config then; 0 while nobody has it.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The number of its last operation.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    /// Bytes of pages, of all holders together.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// Replicas that have it.
    #[prost(uint64, repeated, tag = "5")]
    pub holders: Vec<u64>,
}

/// What never changes about a cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterBody {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The root public key, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub root: Vec<u8>,
    /// There are 2^bits partitions.
    #[prost(uint32, tag = "3")]
    pub partition_bits: u32,
}

/// A node, living or remembered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeBody {
    /// What it said of itself.
    #[prost(message, optional, tag = "1")]
    pub node: Option<NewNodeBody>,
    /// The node in its present life.
    #[prost(uint64, tag = "2")]
    pub replica: u64,
    /// Of the process that lives it, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub boot: Vec<u8>,
    /// 1 joining, 2 active, 3 cordoned, 4 draining, 5 drained, 6 evicted, 7 left.
    #[prost(uint32, tag = "5")]
    pub state: u32,
    /// While draining: since when.
    #[prost(uint64, tag = "6")]
    pub draining_since_unix_ms: u64,
    /// While draining: when it should be done.
    #[prost(uint64, optional, tag = "7")]
    pub drain_deadline_unix_ms: Option<u64>,
    /// Whether it answers.
    #[prost(bool, tag = "8")]
    pub up: bool,
    /// When that last changed.
    #[prost(uint64, tag = "9")]
    pub up_changed_unix_ms: u64,
    /// When it was admitted.
    #[prost(uint64, tag = "11")]
    pub joined_unix_ms: u64,
    /// A close of the whole cluster has ended its present life.
    #[prost(bool, tag = "12")]
    pub closed: bool,
}

/// An array with the token of the request that made it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ArrayRecordBody {
    /// The array.
    #[prost(message, optional, tag = "1")]
    pub array: Option<ArrayInfo>,
    /// The token.
    #[prost(fixed64, tag = "2")]
    pub token: u64,
}
