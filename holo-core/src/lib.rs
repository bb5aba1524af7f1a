//! Everything that decides in HoloCompute, and nothing that touches the world.
//!
//! Ids, dtypes, shapes, the ring and placement, the expression IR, wire messages, limits, error codes and
//! authorization live here because two or more crates must agree on them. The crate opens no socket or file, reads
//! no clock, draws no randomness and holds no unsafe code; its machines are sans-io, so the same code runs in the
//! node and in a simulator.
//!
//! # Example
//!
//! ```
//! use holo_core::{ArrayLayout, DType, Shape};
//!
//! let layout = ArrayLayout::new(Shape::new(&[1_000_000])?, DType::F64, ArrayLayout::SHARD_ELEMS_DEFAULT)?;
//! assert_eq!(layout.shards(), 2);
//! assert_eq!(layout.locate(524_288).map(|place| place.shard.0), Some(1));
//! # Ok::<(), holo_core::Failure>(())
//! ```
//!
//! # Not here
//!
//! Sockets and cryptography (`holo-net`), frames (`holo-mem`), engines (`holo-exec`, `holo-gpu`).

mod auth;
mod byte_count;
mod count;
mod descriptor;
mod dtype;
mod error;
mod ids;
mod layout;
mod nearest;
mod shape;
mod ticket;
mod tile;
mod time;

pub mod catalog;
pub mod expr;
#[doc(hidden)]
pub mod fuzzing;
pub mod group;
pub mod limits;
pub mod npy;
pub mod placement;
pub mod replication;
pub mod selection;
pub mod wire;

pub use auth::{Action, Authorized, Grant, Policy, Principal, Verb, action};
pub use byte_count::ByteCount;
pub use count::Count;
pub use descriptor::ArrayDescriptor;
pub use dtype::{DType, Scalar};
pub use error::{ErrorCode, Failure, Retry};
pub use ids::{
    ArrayId, ArrayName, ClusterId, ColocationId, Epoch, ModuleId, NodeId, PageIndex, PartitionId,
    PublicKey, RequestId, Role, ShardIndex, TableVersion, TenantId,
};
pub use layout::{ArrayLayout, PAGE_BYTES, Place, ShardRun};
pub use nearest::nearest;
pub use placement::{Member, PlacementTable, check_name};
pub use selection::{AxisIndex, Selection, Slice};
pub use shape::Shape;
pub use ticket::JoinTicket;
pub use tile::{TileSink, TileSource};
pub use time::{Instant, UnixMillis};
