//! Expressions: a small typed program over the elements of colocated arrays.
//!
//! Text or a client's tree becomes a [`Program`]: a DAG in which every node has a dtype and both operands of every
//! binary operation have the same one. `holo-exec` lowers it to WASM, `holo-gpu` to WGSL, and the interpreter here
//! is the reference that both are compared with.

mod ir;

pub use ir::{BinaryOp, CompareOp, Input, NodeIndex, Op, Program, Reduction, UnaryOp};
