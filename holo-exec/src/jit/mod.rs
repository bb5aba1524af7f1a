//! The expression compiler: a typed program becomes SIMD WASM, run on an engine without metering.

mod assemble;
mod code;
mod expression;
mod float;
mod scalar;
mod simd;
mod vector;

pub use expression::Expression;
