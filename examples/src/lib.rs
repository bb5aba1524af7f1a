//! Runnable examples of the Rust API lie beside this crate's manifest: `cargo run -p holo-examples --example NAME`.
//!
//! - `quadratic_sum`: fill and sum a shared array by expressions;
//! - `wasm_vector_add`: add two arrays by a WASM module;
//! - `kernels/`: modules in Rust, built for `wasm32-unknown-unknown` with `holo-guest`;
//! - `notebooks/first_steps.ipynb`: the Python package.
