//! The machines of `holo-core` as a whole cluster in one deterministic process.
//!
//! Nodes with drifting clocks, a network that loses, doubles, delays and cuts, a catalog that fails over, clients that
//! retry: all in virtual time, and all drawn from one seed, the mix of faults included. The same seed gives the same
//! run, event by event. A run has a safety phase with faults and a liveness phase without; the invariants of the
//! protocol are checked after every event, the histories of the clients at the end.
//!
//! # Example
//!
//! ```
//! use holo_sim::{Plant, run};
//!
//! let report = run(1, Plant::None, false);
//! assert_eq!(report.violation, None);
//! assert_eq!(report.hash, run(1, Plant::None, false).hash);
//! ```
//!
//! # Not here
//!
//! Real sockets, disks and threads, and the catalog's Raft: tests with real processes have those.

mod brief;
mod campaign;
mod catalog;
mod client;
mod clock;
mod digest;
mod disk;
mod env;
mod faults;
mod forger;
mod founding;
mod history;
mod life;
pub mod linear;
mod mutant;
mod network;
mod node;
mod operation;
mod packet;
mod proof;
mod queue;
mod rng;
mod scenario;
mod store;
mod trace;
mod watch;
mod world;

pub use campaign::{Campaign, Hunt, Summary};
pub use mutant::Plant;
pub use watch::{Invariant, Violation};
pub use world::{Report, run};
