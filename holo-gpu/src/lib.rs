//! Expressions on a GPU, in a child process that can be killed.
//!
//! A [`Program`](holo_core::expr::Program) is lowered to WGSL by [`lower_to_wgsl`], a pure function. A [`GpuWorker`]
//! sends the kernel and the bytes of a shard to a child process (`holo gpu-worker`, whose body is [`worker_main`]),
//! because a hung device cannot be recovered inside the process that opened it: a watchdog kills the child and the
//! next call starts another.
//!
//! # What a GPU computes
//!
//! Every dtype but `float64`, which WGSL lacks. 64-bit integers are pairs of 32-bit words, so integer results are
//! exact on every adapter. `float32` results are close to the CPU's, not equal: see [`lower_to_wgsl`] for the bounds.
//!
//! # Example
//!
//! ```
//! use holo_core::{DType, Scalar, expr::{BinaryOp, Input, NodeIndex, Op, Program}};
//!
//! let ops = vec![
//!     Op::Input(0),
//!     Op::Const(Scalar::f32(2.0)),
//!     Op::Binary(BinaryOp::Mul, NodeIndex(0), NodeIndex(1)),
//! ];
//! let inputs = vec![Input { name: "x".into(), dtype: DType::F32 }];
//! let program = Program::new(inputs, ops, NodeIndex(2), None)?;
//! let kernel = holo_gpu::lower_to_wgsl(&program)?;
//! assert!(kernel.source().contains("fn element"));
//! # Ok::<(), holo_core::Failure>(())
//! ```
//!
//! # Not here
//!
//! Which node has a GPU and which shard goes there (`holo-node`); user-written shaders.

mod canary;
mod child;
mod confine;
mod device;
mod error;
mod lower;
mod protocol;
mod report;
mod worker;
mod worker_main;

pub use error::GpuError;
pub use lower::{Kernel, lower_to_wgsl};
pub use report::{AdapterReport, Capabilities, DeviceType};
pub use worker::{GpuOutput, GpuTask, GpuWorker};
pub use worker_main::worker_main;
