//! The control plane of embedded nodes: founding, joining, following, voting, draining, and what is refused.

#![expect(clippy::tests_outside_test_module, reason = "an integration test is a test module")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken test ends by its panic")]

mod draining;
mod harness;
mod joining;
mod living;
