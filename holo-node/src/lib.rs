//! The running node: configuration, services, composition.
//!
//! A [`Node`] is embeddable: it runs on the caller's tokio runtime, listens on one UDP port for members and clients
//! alike, keeps pages in frames of `holo-mem` and runs programs with `holo-exec` and `holo-gpu` where the pages lie.
//!
//! # Example
//!
//! ```no_run
//! # async fn run() -> Result<(), holo_core::Failure> {
//! use holo_node::{Config, InitOptions, Node, NodeSettings, init};
//!
//! let first = init("/var/lib/holo".as_ref(), &InitOptions::default())?;
//! let node = Node::start(Config::load(&first.home, &NodeSettings::default())?).await?;
//! println!("listening on {}", node.local_addr());
//! node.stopped().await;
//! node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Not here
//!
//! What decides lives in `holo-core`; commands and output in `holo-cli`.

mod background;
mod bytes_text;
mod clock;
mod compute;
mod config;
mod control;
mod data;
mod hold;
mod home;
mod links;
mod modules;
mod node;
mod ports;
mod process;
mod run;
mod service;
mod workers;

pub mod dev;
#[doc(hidden)]
pub mod fuzzing;

pub use bytes_text::parse_bytes;
pub use config::{Config, NodeSettings, TimerSettings, Timers};
pub use home::{InitOptions, Initialized, JoinOptions, Joined, TicketText, init, join};
pub use node::Node;
