//! The catalog's driver: one Raft group around a pure state machine, its log and snapshots in one encrypted file.
//!
//! [`Catalog`] runs one voter. What is decided is decided by [`ReplicatedState`], which is handed committed commands
//! in the same order on every voter; how voters reach each other is [`Transport`]'s matter. The rest of a node sees
//! [`ControlLog`], which names no Raft library.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use holo_catalog::{Catalog, ControlLog, LogIndex, Options, ReplicatedState, Transport, VoterId};
//! use holo_core::{ErrorCode, Failure};
//!
//! /// Adds up the lengths of all commands.
//! struct Total(u64);
//!
//! impl ReplicatedState for Total {
//!     fn apply(&mut self, _index: LogIndex, command: &[u8]) -> Bytes {
//!         self.0 += command.len() as u64;
//!         Bytes::copy_from_slice(&self.0.to_le_bytes())
//!     }
//!     fn snapshot(&self) -> Vec<u8> {
//!         self.0.to_le_bytes().to_vec()
//!     }
//!     fn restore(&mut self, snapshot: &[u8]) -> Result<(), Failure> {
//!         let bytes = snapshot
//!             .try_into()
//!             .map_err(|_| Failure::new(ErrorCode::Malformed, "a total has eight bytes"))?;
//!         self.0 = u64::from_le_bytes(bytes);
//!         Ok(())
//!     }
//! }
//!
//! /// There is nobody else.
//! struct Alone;
//!
//! impl Transport for Alone {
//!     fn call(
//!         &self,
//!         to: VoterId,
//!         _request: Bytes,
//!         _deadline: Duration,
//!     ) -> futures_util::future::BoxFuture<'static, Result<Bytes, Failure>> {
//!         let failure = Failure::new(ErrorCode::Unreachable, format!("no voter {to}"));
//!         Box::pin(std::future::ready(Err(failure)))
//!     }
//! }
//!
//! # let directory = tempfile::tempdir().unwrap();
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let options = Options::new(VoterId(1), directory.path());
//! let catalog = Catalog::open(options, Total(0), Arc::new(Alone)).await?;
//! catalog.initialize().await?;
//! let proposed = catalog.propose(Bytes::from_static(b"abc"), Duration::from_secs(30)).await?;
//! assert_eq!(proposed.answer, 3_u64.to_le_bytes().as_slice());
//! assert_eq!(catalog.with_state(|total, _index| total.0), 3);
//! catalog.shutdown().await;
//! # Ok::<(), Failure>(()) }).unwrap();
//! ```
//!
//! # Not here
//!
//! What commands mean and who may propose them (`holo_core::catalog`), connections (`holo-net`), and who becomes a
//! voter (`holo-node`). No page and no single call of a client goes through the catalog.

mod appends;
mod contacts;
mod control_log;
mod driver;
mod error;
mod network;
mod options;
mod raft;
mod receive;
mod rhythm;
mod standing;
mod state;
mod store;
mod voters;

pub mod wire;

pub use control_log::{ControlLog, LogIndex, Proposed, ReplicatedState, Transport, VoterId};
pub use driver::Catalog;
pub use error::{CatalogError, Quorum};
pub use options::{AtRestKey, Compaction, Options, Timers};
pub use rhythm::{go_along, rest};
pub use standing::Standing;
pub use store::FILE_NAME;
pub use wire::COMMAND_BYTES_MAX;
