//! Real nodes in one process, over real sockets, used through the client.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod directory;
mod harness;
mod refusals;
mod runs;
