//! What crosses the wire: a fixed header, control bodies in protobuf, bulk bytes raw.
//!
//! `docs/wire-format.md` is the byte table. Every length is checked against [`crate::limits`] before anything is
//! allocated, and every body is turned into a checked value before it is used.

mod admin;
pub mod catalog;

mod digests;
mod group;
mod header;
mod join;
mod messages;
mod payload;
mod peer_catalog;
pub mod replication;
mod view;

pub use admin::{
    AdminAction, AdminReply, AdminRequest, AdminResult, CloseOrder, CloseReport, ClusterReport,
    DrainReport, LossOrder, LossReport, NodeOrder, NodeOrderKind, NodeRef, NodeReport,
    PrincipalBody, PrincipalList, PrincipalRef, ReceiverBody, RingOrder, RingReport, RingShare,
    RingTable, SettingsBody, TicketBody, TicketList, TicketOrder, TicketRef,
};
pub use digests::{DigestQuery, GroupDigests, ReplicaDigest, ReplicaDigestBody};
pub use group::GroupBody;
pub use header::{FrameHeader, HEADER_BYTES, Kind, Lane, WIRE_VERSION};
pub use join::{IssuerBody, JoinReply, JoinRequest, welcome_statement};
pub use messages::{
    Allocate, ArrayInfo, ArrayList, ArrayRef, CallModule, CallReply, CombineModule, Decode, Empty,
    FailureBody, GetRange, GetReply, Hello, HelloReply, LinkStatus, ModulePush, ModuleQuery,
    ModuleStatus, NodeEntry, NodeStatus, OperandBinding, PageDigests, PutRange, RunReply,
    RunShards, ShardPartial, Shutdown, StatusQuery, TableBody, WriteShard,
};
pub use payload::{
    FetchPayload, PayloadBody, ShardPages, SnapshotIndex, SnapshotPages, SnapshotQuery,
    StagePayload,
};
pub use peer_catalog::{
    CatalogAnswer, CatalogCommand, CatalogFollow, CatalogNews, Heartbeat, HeartbeatReply, NodeLoad,
    RaftEnvelope, VoterReady, VoterSecrets,
};
pub use replication::{ClaimBody, PeerBatch, PeerMessage, RemainsBody, ReplicaBody};
pub use view::{
    AwaitedBody, ClassBody, FillRange, MemberEntry, OpenSession, RequestKeyBody, SessionReply,
    UpdateElement, UpdateReply, ViewBody, ViewQuery,
};

#[cfg(test)]
mod tests;
