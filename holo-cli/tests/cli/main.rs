//! The `holo` program as people and scripts use it: real processes, real sockets, real files.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that meets the unexpected has failed"
)]

mod agent;
mod arrays;
mod bad_input;
mod dead_address;
mod demo;
mod dev;
mod founding;
mod harness;
mod help;
mod npy;
mod operators;
mod running;
mod runs;
