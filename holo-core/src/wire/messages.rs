//! Bodies of control messages: protobuf by `prost`, so that fields can be added without breaking older peers.
//!
//! These are shapes, not values to trust: the receiver turns each into checked types before it acts.

use bytes::Bytes;
use prost::Message;

use super::view::RequestKeyBody;
use crate::{ErrorCode, Failure, limits};

/// Decodes a body that came from outside.
pub trait Decode: Message + Default {
    /// Reads the body.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::TooLarge`] beyond [`limits::BODY_BYTES_MAX`], [`ErrorCode::Malformed`] when it is no such message.
    fn decode_body(bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.len() > limits::BODY_BYTES_MAX as usize {
            return Err(Failure::new(
                ErrorCode::TooLarge,
                format!("a message body of {} bytes", bytes.len()),
            ));
        }
        Self::decode(bytes)
            .map_err(|source| Failure::new(ErrorCode::Malformed, format!("message body: {source}")))
    }
}

impl<M: Message + Default> Decode for M {}

/// No content.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Empty {}

/// A [`Failure`] on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct FailureBody {
    /// [`ErrorCode::number`].
    #[prost(uint32, tag = "1")]
    pub code: u32,
    /// What happened.
    #[prost(string, tag = "2")]
    pub message: String,
    /// What to do.
    #[prost(string, optional, tag = "3")]
    pub help: Option<String>,
    /// When to try again.
    #[prost(uint32, optional, tag = "4")]
    pub retry_after_ms: Option<u32>,
}

impl From<Failure> for FailureBody {
    fn from(failure: Failure) -> Self {
        Self {
            code: u32::from(failure.code.number()),
            message: failure.message,
            help: failure.help,
            retry_after_ms: failure.retry_after_ms,
        }
    }
}

impl From<FailureBody> for Failure {
    fn from(body: FailureBody) -> Self {
        Self {
            code: ErrorCode::from_number(body.code),
            message: body.message,
            help: body.help,
            retry_after_ms: body.retry_after_ms,
        }
    }
}

/// First request of a connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Hello {
    /// Name and version of the program, for people: `holo 0.1.0`.
    #[prost(string, tag = "1")]
    pub agent: String,
}

/// What a peer needs to work with the cluster.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HelloReply {
    /// The node that answers, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// Name and version of the node's program.
    #[prost(string, tag = "2")]
    pub agent: String,
    /// All members, in the order that the table's indexes mean.
    #[prost(message, repeated, tag = "3")]
    pub members: Vec<NodeEntry>,
    /// The placement table.
    #[prost(message, optional, tag = "4")]
    pub table: Option<TableBody>,
    /// The name of the cluster.
    #[prost(string, tag = "5")]
    pub cluster_name: String,
}

/// A member of the ring.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeEntry {
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
}

impl Eq for NodeEntry {}

/// The placement table: which nodes hold each partition, primary first.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TableBody {
    /// Version; grows with every change.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// There are 2^bits partitions.
    #[prost(uint32, tag = "2")]
    pub partition_bits: u32,
    /// Copies of each partition.
    #[prost(uint32, tag = "3")]
    pub replicas: u32,
    /// `replicas` member indexes per partition, as little-endian `u16`s.
    #[prost(bytes = "vec", tag = "4")]
    pub members: Vec<u8>,
}

/// Asks for a node's state.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StatusQuery {}

/// State of one node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeStatus {
    /// Node id, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub node: Vec<u8>,
    /// A name for people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Name and version of the program.
    #[prost(string, tag = "3")]
    pub agent: String,
    /// Milliseconds since it started.
    #[prost(uint64, tag = "4")]
    pub uptime_ms: u64,
    /// Bytes of page frames in use.
    #[prost(uint64, tag = "5")]
    pub frame_bytes: u64,
    /// Bytes that page frames may use.
    #[prost(uint64, tag = "6")]
    pub frame_bytes_max: u64,
    /// Bytes reserved by arrays.
    #[prost(uint64, tag = "7")]
    pub reserved_bytes: u64,
    /// Shards held.
    #[prost(uint64, tag = "8")]
    pub shards: u64,
    /// Partitions that this node is the primary of.
    #[prost(uint32, tag = "9")]
    pub partitions: u32,
    /// Connections to other nodes and from clients.
    #[prost(message, repeated, tag = "10")]
    pub links: Vec<LinkStatus>,
    /// Resident memory of the process.
    #[prost(uint64, tag = "11")]
    pub resident_bytes: u64,
    /// Processor time of the process so far.
    #[prost(uint64, tag = "12")]
    pub cpu_ms: u64,
    /// Operating-system process id.
    #[prost(uint32, tag = "13")]
    pub pid: u32,
    /// `ready`, or `stopping`.
    #[prost(string, tag = "14")]
    pub state: String,
}

/// One connection.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinkStatus {
    /// Key of the peer, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub peer: Vec<u8>,
    /// `node` or `client`.
    #[prost(string, tag = "2")]
    pub role: String,
    /// The peer's address.
    #[prost(string, tag = "3")]
    pub address: String,
    /// The negotiated suite, in full.
    #[prost(string, tag = "4")]
    pub suite: String,
    /// Smoothed round-trip time.
    #[prost(uint64, tag = "5")]
    pub rtt_us: u64,
    /// Path MTU in bytes.
    #[prost(uint32, tag = "6")]
    pub mtu: u32,
}

/// Stops a node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Shutdown {
    /// Stop without draining: what only this node holds is away until it is started again.
    #[prost(bool, tag = "1")]
    pub now: bool,
}

/// Creates an array.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Allocate {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Extents, outermost first.
    #[prost(uint64, repeated, tag = "2")]
    pub shape: Vec<u64>,
    /// [`crate::DType::to_byte`].
    #[prost(uint32, tag = "3")]
    pub dtype: u32,
    /// Elements of a shard; 0 for the default.
    #[prost(uint64, tag = "4")]
    pub shard_elems: u64,
    /// Name of an array to lie beside; empty for none.
    #[prost(string, tag = "5")]
    pub like: String,
    /// Copies; 0 for the default.
    #[prost(uint32, tag = "6")]
    pub replicas: u32,
    /// In-sync copies without which nothing is written; 0 for the default.
    #[prost(uint32, tag = "7")]
    pub min_in_sync: u32,
    /// Drawn by the client once per request: sending it again makes one array. 0: the receiver draws it.
    #[prost(uint64, tag = "8")]
    pub token: u64,
}

/// Names an array: by name, or by id when it is not 0.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ArrayRef {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its id.
    #[prost(uint64, tag = "2")]
    pub id: u64,
}

/// An array's descriptor.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ArrayInfo {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Extents, outermost first.
    #[prost(uint64, repeated, tag = "3")]
    pub shape: Vec<u64>,
    /// [`crate::DType::to_byte`].
    #[prost(uint32, tag = "4")]
    pub dtype: u32,
    /// Elements of a shard.
    #[prost(uint64, tag = "5")]
    pub shard_elems: u64,
    /// Arrays of one colocation id have their shards of one index on one node.
    #[prost(uint64, tag = "6")]
    pub colocation: u64,
    /// Key of the hash that maps the colocation group's shards to partitions, 32 bytes.
    #[prost(bytes = "vec", tag = "7")]
    pub placement_key: Vec<u8>,
    /// Copies.
    #[prost(uint32, tag = "8")]
    pub replicas: u32,
    /// When it was created.
    #[prost(uint64, tag = "9")]
    pub created_unix_ms: u64,
    /// The tenant that owns it.
    #[prost(uint32, tag = "10")]
    pub tenant: u32,
    /// In-sync copies without which nothing is written; 0 means 1.
    #[prost(uint32, tag = "11")]
    pub min_in_sync: u32,
}

/// All arrays of the caller's tenant that it may read, by name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ArrayList {
    /// The arrays.
    #[prost(message, repeated, tag = "1")]
    pub arrays: Vec<ArrayInfo>,
    /// Between members: every id that the sender has seen is below this one; 0 towards clients.
    #[prost(uint64, tag = "2")]
    pub next_id: u64,
}

/// A byte range of one shard.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetRange {
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
}

/// The bytes of a small range.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetReply {
    /// The bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

/// Writes a small range.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PutRange {
    /// The array.
    #[prost(uint64, tag = "1")]
    pub array: u64,
    /// The shard.
    #[prost(uint64, tag = "2")]
    pub shard: u64,
    /// First byte.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// The bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// Which request this is; absent where nobody sends it twice.
    #[prost(message, optional, tag = "5")]
    pub key: Option<RequestKeyBody>,
}

/// Head of a bulk write: the bytes follow raw.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WriteShard {
    /// The array.
    #[prost(uint64, tag = "1")]
    pub array: u64,
    /// The shard.
    #[prost(uint64, tag = "2")]
    pub shard: u64,
    /// First byte.
    #[prost(uint64, tag = "3")]
    pub offset: u64,
    /// BLAKE3 of the bytes of each page that the range touches, 32 bytes each, in order.
    #[prost(bytes = "bytes", tag = "4")]
    pub digests: Bytes,
    /// Which request this is; absent where nobody sends it twice.
    #[prost(message, optional, tag = "5")]
    pub key: Option<RequestKeyBody>,
}

/// Head of a bulk read's reply: the bytes follow raw.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PageDigests {
    /// BLAKE3 of the bytes of each page that the range touches, 32 bytes each, in order. A page that nobody wrote has
    /// the digest of its zero bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub digests: Bytes,
}

/// An array bound to a name of a program.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OperandBinding {
    /// The name in the expression, or the position of a module's operand.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The array.
    #[prost(uint64, tag = "2")]
    pub array: u64,
}

/// Runs a program on shards that the receiver is the primary of.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RunShards {
    /// An expression, encoded by `holo_core::expr`; empty when a module runs.
    #[prost(bytes = "bytes", tag = "1")]
    pub program: Bytes,
    /// Id of a module, 32 bytes; empty when an expression runs.
    #[prost(bytes = "vec", tag = "2")]
    pub module: Vec<u8>,
    /// Arrays that are read, in the program's binding order.
    #[prost(message, repeated, tag = "3")]
    pub inputs: Vec<OperandBinding>,
    /// Arrays that are written; an expression has at most one.
    #[prost(message, repeated, tag = "4")]
    pub outputs: Vec<OperandBinding>,
    /// Parameters for a module's `holo_init`.
    #[prost(bytes = "bytes", tag = "5")]
    pub params: Bytes,
    /// 0: the node's choice, 1: CPU, 2: GPU.
    #[prost(uint32, tag = "6")]
    pub device: u32,
    /// Fuel per shard; 0 for the default.
    #[prost(uint64, tag = "7")]
    pub fuel: u64,
    /// Wall-clock milliseconds per node; 0 for the default.
    #[prost(uint32, tag = "8")]
    pub time_ms: u32,
    /// Bytes of guest memory per instance; 0 for the default.
    #[prost(uint64, tag = "9")]
    pub memory_bytes: u64,
    /// Version of the view that the caller split the work by.
    #[prost(uint64, tag = "10")]
    pub table_version: u64,
    /// Names of the capabilities that the caller grants to a module; an expression needs none.
    #[prost(string, repeated, tag = "12")]
    pub grants: Vec<String>,
    /// The shards to run, as pairs of a first shard and a count, ascending: exactly these, and refused where the
    /// receiver is not the primary of one. Empty: all that it is the primary of.
    #[prost(uint64, repeated, tag = "13")]
    pub shard_runs: Vec<u64>,
}

/// What a node did of a [`RunShards`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RunReply {
    /// Shards run.
    #[prost(uint64, tag = "1")]
    pub shards: u64,
    /// Elements computed.
    #[prost(uint64, tag = "2")]
    pub elems: u64,
    /// Partial results of a reduction, by shard.
    #[prost(message, repeated, tag = "3")]
    pub partials: Vec<ShardPartial>,
    /// Fuel burned.
    #[prost(uint64, tag = "4")]
    pub fuel: u64,
    /// Microseconds from first to last tile.
    #[prost(uint64, tag = "5")]
    pub elapsed_us: u64,
    /// Where it ran: `wasm`, `wasm-jit`, `gpu: NAME`.
    #[prost(string, tag = "6")]
    pub engine: String,
    /// What a module logged, shard by shard; cut off at [`limits::LOG_BYTES_MAX`].
    #[prost(string, repeated, tag = "7")]
    pub log: Vec<String>,
}

/// Partial result of one shard.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ShardPartial {
    /// The shard.
    #[prost(uint64, tag = "1")]
    pub shard: u64,
    /// What `holo_finish` wrote, or one little-endian accumulator of an expression.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}

/// Asks whether a node has a module.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ModuleQuery {
    /// Its id, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub module: Vec<u8>,
}

/// Head of a module on its way to a node: the bytes follow raw.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ModulePush {
    /// Its id, 32 bytes: BLAKE3 of the bytes, checked on arrival.
    #[prost(bytes = "vec", tag = "1")]
    pub module: Vec<u8>,
}

/// What a node knows of a module.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ModuleStatus {
    /// Whether it is there, compiled and ready.
    #[prost(bool, tag = "1")]
    pub present: bool,
    /// Names of the host functions that it imports.
    #[prost(string, repeated, tag = "2")]
    pub imports: Vec<String>,
    /// Names of the `holo` functions that it exports.
    #[prost(string, repeated, tag = "3")]
    pub exports: Vec<String>,
}

/// Calls `holo_task` of a module.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CallModule {
    /// The module's id, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub module: Vec<u8>,
    /// Its arguments.
    #[prost(bytes = "bytes", tag = "2")]
    pub args: Bytes,
    /// Fuel; 0 for the default.
    #[prost(uint64, tag = "3")]
    pub fuel: u64,
    /// Wall-clock milliseconds; 0 for the default.
    #[prost(uint32, tag = "4")]
    pub time_ms: u32,
    /// Names of the capabilities that the caller grants.
    #[prost(string, repeated, tag = "5")]
    pub grants: Vec<String>,
    /// Bytes of guest memory; 0 for the default.
    #[prost(uint64, tag = "6")]
    pub memory_bytes: u64,
}

/// Folds partial results of a module with `holo_combine`, in a fixed tree order.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CombineModule {
    /// The module's id, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub module: Vec<u8>,
    /// Parameters for `holo_init`.
    #[prost(bytes = "bytes", tag = "2")]
    pub params: Bytes,
    /// The partial results, by shard.
    #[prost(message, repeated, tag = "3")]
    pub partials: Vec<ShardPartial>,
    /// Names of the capabilities that the caller grants.
    #[prost(string, repeated, tag = "4")]
    pub grants: Vec<String>,
    /// Fuel of the whole fold; 0 for the default.
    #[prost(uint64, tag = "5")]
    pub fuel: u64,
    /// Wall-clock milliseconds; 0 for the default.
    #[prost(uint32, tag = "6")]
    pub time_ms: u32,
    /// Bytes of guest memory; 0 for the default.
    #[prost(uint64, tag = "7")]
    pub memory_bytes: u64,
}

/// Output of a module.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CallReply {
    /// The bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub output: Bytes,
    /// Fuel burned.
    #[prost(uint64, tag = "2")]
    pub fuel: u64,
    /// What it logged; cut off at [`limits::LOG_BYTES_MAX`].
    #[prost(string, repeated, tag = "3")]
    pub log: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_the_wire_whole() {
        let failure = Failure::new(ErrorCode::OutOfCapacity, "need 2, have 1")
            .help("free something")
            .retry_after_ms(50);
        let bytes = FailureBody::from(failure.clone()).encode_to_vec();
        assert_eq!(Failure::from(FailureBody::decode_body(&bytes).unwrap()), failure);
    }

    #[test]
    fn fields_of_a_newer_peer_are_passed_over() {
        let newer = ArrayInfo { id: 7, name: "a".into(), created_unix_ms: 5, ..Default::default() };
        let older =
            ArrayRef::decode_body(&ArrayRef { name: "a".into(), id: 7 }.encode_to_vec()).unwrap();
        assert_eq!(older.id, 7);
        // Tag 9 is unknown to `StatusQuery`; it must not matter.
        assert!(StatusQuery::decode_body(&newer.encode_to_vec()).is_ok());
    }

    #[test]
    fn noise_is_refused() {
        assert_eq!(ArrayInfo::decode_body(&[0xff; 9]).unwrap_err().code, ErrorCode::Malformed);
        let long = vec![0u8; limits::BODY_BYTES_MAX as usize + 1];
        assert_eq!(Empty::decode_body(&long).unwrap_err().code, ErrorCode::TooLarge);
    }
}
