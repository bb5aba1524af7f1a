//! The WASM sandbox and the expression compiler.
//!
//! Two kinds of program run over shards. A [`Module`] is a user's WASM: admitted within bounds, compiled with metering,
//! run in a fresh sandbox within [`Limits`], with no capability but those in its [`Grants`]. An [`Expression`] is a
//! typed program of `holo-core` that this crate turns into SIMD WASM of its own.
//!
//! Data reaches both by tiles: at most 128 KiB of each operand is copied into warm guest memory, computed on, and
//! copied out to staging memory, so a program that is stopped leaves no trace.
//!
//! **Architecture Invariant:** nothing here knows where shards live; they come and go as [`holo_core::TileSource`] and
//! [`holo_core::TileSink`]. Native code is never loaded from outside: modules arrive as WASM and are compiled here.

mod cache;
mod clock;
mod engine;
mod error;
mod jit;
mod sandbox;
mod task;
mod ticker;

pub use engine::{Engine, EngineOptions};
pub use error::{ExecError, TrapKind};
pub use jit::Expression;
pub use sandbox::{CallOutput, Capability, Grants, Instance, Limits, LogLine, Module};
pub use task::{RunControl, ShardOutput, ShardTask};
