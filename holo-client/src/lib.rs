//! The Rust API of HoloCompute: shared arrays that lie on many machines, and programs that run beside them.
//!
//! [`Cluster::connect`] reaches a running cluster, [`Cluster::local`] starts one on this machine. An array is made by
//! [`Cluster::array`], read and written by [`SharedArray`], computed with by [`Cluster::expr`] (text such as
//! `y = sqrt(x*x + 1)`) and [`Cluster::task`] (a WASM module).
//!
//! Requests go to the primary of each shard. When it dies they go to the replica that takes over, under the same key,
//! so that every write and update takes effect exactly once; the caller sees a pause. Every call has a deadline, returns
//! an [`Error`] with a stable code, and may be cancelled by dropping its future: a read then leaves the destination
//! unspecified, a write may be done in part.
//!
//! # Example
//!
//! ```no_run
//! use holo_client::Cluster;
//!
//! # async fn example() -> holo_client::Result<()> {
//! let cluster = Cluster::local(3).await?;
//! let a = cluster.array("demo/a").shape([1_000_000]).create::<f64>().await?;
//! a.fill(2.0).await?;
//! a.write(10, &[3.0, 4.0]).await?;
//! let before = a.fetch_add(10, 0.5).await?;
//! cluster.expr("y = sqrt(x*x + 1)").input("x", &a).output("y", "demo/b").run().await?;
//! let b = cluster.open::<f64>("demo/b").await?;
//! println!("{before} {:?} {}", b.read(9..12).await?, b.sum().await?);
//! cluster.close().await
//! # }
//! ```
//!
//! # Not here
//!
//! Handshakes and streams (`holo-net`), what decides (`holo-core`), nodes (`holo-node`).

mod admin;
mod array;
mod atomic;
mod call;
mod cluster;
mod element;
mod error;
mod expression;
mod flights;
mod introduce;
mod keys;
mod links;
mod local;
mod modules;
mod options;
mod progress;
mod retry;
mod run;
mod segments;
mod session;
mod shares;
mod strided;
mod task;
mod transfer;
mod typed;
mod verify;
mod views;
mod windows;

pub use array::{AnyArray, ArrayBuilder};
pub use atomic::{Atomic, AtomicBits};
pub use cluster::{Cluster, MemberStatus};
pub use element::{Bool, Element, Total};
pub use error::{Error, Result};
pub use expression::{Expression, Operand};
pub use local::LocalCluster;
pub use options::{ENV_BINARY, ENV_CLUSTER, ENV_IDENTITY, ENV_NODES, Options};
pub use progress::{Progress, Unwatched};
pub use run::{Device, NodeRun, RunReport};
pub use task::{CallReport, Task};
pub use typed::SharedArray;
pub use verify::{ComparedCopy, ComparedGroup, Verification};

pub use holo_core::expr::Reduction;
pub use holo_core::group::UpdateKind;
pub use holo_core::placement::{ClusterView, MemberView};
pub use holo_core::{
    ArrayLayout, AxisIndex, DType, ErrorCode, Failure, Member, ModuleId, NodeId, PublicKey, Scalar,
    Selection, Shape, Slice,
};
