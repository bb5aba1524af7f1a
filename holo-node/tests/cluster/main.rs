//! Real nodes in one process, over real sockets, used through the client.

mod directory;
mod harness;
mod refusals;
mod runs;
