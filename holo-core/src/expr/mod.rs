//! Expressions: a small typed program over the elements of colocated arrays.
//!
//! Text or a client's tree becomes a [`Program`]: a DAG in which every node has a dtype and both operands of every
//! binary operation have the same one. `holo-exec` lowers it to WASM, `holo-gpu` to WGSL, and the interpreter here
//! is the reference that both are compared with.
//!
//! - [`parse`] reads NumPy-like text and inserts NumPy 2's promotions as casts;
//! - [`Program::encode`] and [`Program::decode`] carry a program over the wire;
//! - [`lower`] writes transcendental functions out as primitive operations, so that every engine gives the same bits;
//! - [`evaluate`], [`reduce_shard`], [`combine`] and [`finish`] define what a program means, bit for bit.

mod builder;
mod column;
mod element;
mod interpret;
mod ir;
mod lower;
mod parse;
mod promote;
mod reduce;
mod wire;

pub use interpret::evaluate;
pub use ir::{BinaryOp, CompareOp, Input, NodeIndex, Op, Program, Reduction, UnaryOp};
pub use lower::lower;
pub use parse::{Parsed, parse};
pub use promote::promote;
pub use reduce::{REDUCE_LANES, combine, finish, identity, reduce_shard};
