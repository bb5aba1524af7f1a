//! SDK for kernels written in Rust: `no_std`, no allocator, no `core::fmt`.
//!
//! A kernel is a plain function with an attribute that writes the exports of ABI `holo` v1 around it:
//!
//! ```
//! use holo_guest::{Tile, TileMut};
//!
//! #[holo_guest::kernel(map)]
//! fn add(x: Tile<'_, f32>, y: Tile<'_, f32>, mut out: TileMut<'_, f32>) {
//!     for ((out, x), y) in out.iter_mut().zip(x.iter()).zip(y.iter()) {
//!         *out = x + y;
//!     }
//! }
//!
//! // The exports exist only for wasm32, so natively it is a function to test.
//! let mut sum = [0.0; 2];
//! add(Tile::new(&[1.0, 2.0]), Tile::new(&[0.5, 0.5]), TileMut::new(&mut sum));
//! assert_eq!(sum, [1.5, 2.5]);
//! ```
//!
//! Build a `cdylib` with one kernel or task: `cargo build --release --target wasm32-unknown-unknown`.
//!
//! Loops that accumulate want eight accumulators or more: fuel metering spills fewer ones to memory every iteration.
#![no_std]

pub mod export;

#[cfg(target_arch = "wasm32")]
mod host;
mod tile;

pub use holo_guest_macros::{kernel, task};
#[cfg(target_arch = "wasm32")]
pub use host::{Level, fail, log, monotonic_nanos, random, result};
pub use tile::{Element, FirstIndex, Tile, TileMut};
