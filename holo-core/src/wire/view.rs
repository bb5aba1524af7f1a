//! Bodies about the cluster as its users see it: members, who holds what, sessions.

use bytes::Bytes;

/// Asks for the cluster's view, unless it is still the one that the asker has.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ViewQuery {
    /// Version that the asker has; 0 for none.
    #[prost(uint64, tag = "1")]
    pub known_version: u64,
}

/// Members and who holds what, at one version of the catalog.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ViewBody {
    /// Version of the catalog; grows with every change.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The asker's view is of this version: nothing else is filled in.
    #[prost(bool, tag = "2")]
    pub unchanged: bool,
    /// The name of the cluster.
    #[prost(string, tag = "3")]
    pub cluster_name: String,
    /// There are 2^bits partitions.
    #[prost(uint32, tag = "4")]
    pub partition_bits: u32,
    /// All members, in ascending order of their numbers.
    #[prost(message, repeated, tag = "5")]
    pub members: Vec<MemberEntry>,
    /// Who holds the groups of each class.
    #[prost(message, repeated, tag = "6")]
    pub classes: Vec<ClassBody>,
    /// Numbers of the members that vote in the catalog: what changes the catalog is asked of one of them.
    #[prost(uint32, repeated, tag = "7")]
    pub voters: Vec<u32>,
    /// Groups that nobody holds, because those who have them on disk since the cluster was closed are not back.
    #[prost(message, repeated, tag = "8")]
    pub awaited: Vec<AwaitedBody>,
}

/// A group that waits for who has it on disk.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AwaitedBody {
    /// Of its class: copies wanted.
    #[prost(uint32, tag = "1")]
    pub replicas: u32,
    /// Of its class: in-sync copies without which nothing is written.
    #[prost(uint32, tag = "2")]
    pub min_in_sync: u32,
    /// Its partition.
    #[prost(uint32, tag = "3")]
    pub partition: u32,
    /// Indexes of the members that have it.
    #[prost(uint32, repeated, tag = "4")]
    pub holders: Vec<u32>,
}

/// A member of the cluster.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MemberEntry {
    /// Node id, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// A name for people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Where it listens: `127.0.0.1:7400`.
    #[prost(string, tag = "3")]
    pub address: String,
    /// Failure domain.
    #[prost(string, tag = "4")]
    pub zone: String,
    /// Relative capacity in thousandths; 1000 is normal.
    #[prost(uint32, tag = "5")]
    pub weight_milli: u32,
    /// Its number in the catalog.
    #[prost(uint32, tag = "6")]
    pub number: u32,
    /// `joining`, `active`, `cordoned`, `draining`, `drained`; a reader shows what it does not know as it is.
    #[prost(string, tag = "7")]
    pub state: String,
    /// Whether the catalog's leader hears from it.
    #[prost(bool, tag = "8")]
    pub up: bool,
}

/// Holders of the groups of one class.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClassBody {
    /// Copies wanted.
    #[prost(uint32, tag = "1")]
    pub replicas: u32,
    /// In-sync copies without which nothing is written.
    #[prost(uint32, tag = "2")]
    pub min_in_sync: u32,
    /// For each partition: a count byte, then so many little-endian `u16` indexes of members, the primary first and
    /// only those in sync. Count 0: the data is lost.
    #[prost(bytes = "bytes", tag = "3")]
    pub holders: Bytes,
}

/// Asks for a session, in which each request takes effect once however often it is sent.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OpenSession {}

/// A session.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SessionReply {
    /// Its id; never 0, never given again.
    #[prost(uint64, tag = "1")]
    pub session: u64,
}

/// Names a request within a session; absent where twice is as good as once.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RequestKeyBody {
    /// The session.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Number of the request, counted from 1 within the session.
    #[prost(uint64, tag = "2")]
    pub number: u64,
    /// The lowest number whose answer the client still waits for.
    #[prost(uint64, tag = "3")]
    pub floor: u64,
}

/// Changes one element by a read-modify-write.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UpdateElement {
    /// The array.
    #[prost(uint64, tag = "1")]
    pub array: u64,
    /// The shard.
    #[prost(uint64, tag = "2")]
    pub shard: u64,
    /// First byte of the element in its shard.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// [`crate::group::UpdateKind::to_byte`].
    #[prost(uint32, tag = "4")]
    pub kind: u32,
    /// Little-endian operand, as long as an element.
    #[prost(bytes = "vec", tag = "5")]
    pub operand: Vec<u8>,
    /// For compare-and-exchange: the value that must be there, as long as an element.
    #[prost(bytes = "vec", tag = "6")]
    pub expected: Vec<u8>,
    /// Which request this is.
    #[prost(message, optional, tag = "7")]
    pub key: Option<RequestKeyBody>,
}

/// What an element was before it was changed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UpdateReply {
    /// Little-endian, as long as an element.
    #[prost(bytes = "vec", tag = "1")]
    pub previous: Vec<u8>,
}

/// Sets all elements of a range of one shard to one value.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FillRange {
    /// The array.
    #[prost(uint64, tag = "1")]
    pub array: u64,
    /// The shard.
    #[prost(uint64, tag = "2")]
    pub shard: u64,
    /// First byte.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// Bytes.
    #[prost(uint64, tag = "4")]
    pub len: u64,
    /// Little-endian value, as long as an element.
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
    /// Which request this is.
    #[prost(message, optional, tag = "6")]
    pub key: Option<RequestKeyBody>,
}
