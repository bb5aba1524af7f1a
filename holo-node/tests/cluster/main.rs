//! Real nodes in one process, over real sockets, used through the client.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken test ends by its panic")]

use holo_node::dev::DevOptions;

mod arrays;
#[path = "../control/harness.rs"]
mod harness;
mod load;
mod refusals;
mod replicas;
mod runs;

/// Nodes with so much memory for pages, and two threads for kernels.
fn with_memory(memory: &str) -> DevOptions {
    DevOptions { memory: memory.to_owned(), workers: Some(2), ..DevOptions::default() }
}
