//! What crosses the wire: a fixed header, control bodies in protobuf, bulk bytes raw.
//!
//! `docs/wire-format.md` is the byte table. Every length is checked against [`crate::limits`] before anything is
//! allocated, and every body is turned into a checked value before it is used.

pub mod catalog;

mod header;
mod messages;
mod payload;
pub mod replication;
mod view;

pub use header::{FrameHeader, HEADER_BYTES, Kind, Lane, WIRE_VERSION};
pub use messages::{
    Allocate, ArrayInfo, ArrayInstall, ArrayList, ArrayRef, CallModule, CallReply, CombineModule,
    Decode, Empty, FailureBody, GetRange, GetReply, Hello, HelloReply, LinkStatus, ModulePush,
    ModuleQuery, ModuleStatus, NodeEntry, NodeStatus, OperandBinding, PageDigests, PutRange,
    RunReply, RunShards, ShardPartial, Shutdown, StatusQuery, TableBody, WriteShard,
};
pub use payload::{
    FetchPayload, GroupBody, PayloadBody, ShardPages, SnapshotIndex, SnapshotPages, SnapshotQuery,
    StagePayload,
};
pub use replication::{ConfigBody, PeerBatch, PeerMessage, ReplicaBody};
pub use view::{
    ClassBody, FillRange, MemberEntry, OpenSession, RequestKeyBody, SessionReply, UpdateElement,
    UpdateReply, ViewBody, ViewQuery,
};

#[cfg(test)]
mod tests;
