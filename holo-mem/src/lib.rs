//! The memory of a node: frames, the page tables of shards, and checksums.
//!
//! A page is a shared handle to a 64 KiB frame. Readers and the network hold the frame; a writer changes it in
//! place only when nobody else holds it, and swaps in a copy otherwise. So no read sees half a write, sending copies
//! nothing, and a snapshot is a walk over handles. Large writes are *staged* in frames of their own while they
//! arrive and *published* by swapping handles.
//!
//! # Example
//!
//! ```
//! use holo_core::{ArrayId, ArrayLayout, DType, Shape, ShardIndex, TenantId};
//! use holo_mem::Store;
//!
//! let store = Store::new(64 << 20);
//! let layout = ArrayLayout::new(Shape::new(&[1_000_000])?, DType::F64, 1 << 18)?;
//! store.install(TenantId(1), ArrayId(7), &layout, (0..layout.shards()).map(ShardIndex))?;
//! let shard = store.shard(ArrayId(7), ShardIndex(2)).expect("installed above");
//!
//! let mut staged = shard.stage(0, shard.bytes())?;
//! staged.buffers().for_each(|page| page.fill(0x2a));
//! shard.publish(staged)?;
//!
//! let run = shard.read(100, 4)?;
//! assert_eq!(&run.to_bytes()[0][..], [0x2a; 4]);
//! # Ok::<(), holo_core::Failure>(())
//! ```
//!
//! # Not here
//!
//! Which node holds which shard, the order of writes among replicas (`holo-core`), sockets (`holo-net`).

mod arena;
mod error;
mod frame;
mod map;
mod payload;
mod run;
mod shard;
mod span;
mod staged;
mod store;

pub use arena::{Arena, ArenaStats};
pub use error::MemError;
pub use frame::{Frame, FrameMut};
pub use payload::Payload;
pub use run::{PageRun, ShardSnapshot};
pub use shard::Shard;
pub use staged::Staged;
pub use store::{Store, StoreUsage};
