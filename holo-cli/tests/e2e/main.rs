//! Clusters of real processes under load, while they are killed, stopped, parted and moved about.
//!
//! Every test records what its clients asked and were told, and looks for an order that explains it; whatever was
//! acknowledged has to be there at the end.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that meets the unexpected has failed, and says what it saw"
)]

mod closing;
mod coming_back;
mod kills;
mod lab;
mod load;
mod namespaces;
mod network;
mod operators;
mod rebooted;
mod relay;
mod trial;
