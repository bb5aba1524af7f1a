//! The running node: configuration, services, composition.
//!
//! A [`Node`] is embeddable: it runs on the caller's tokio runtime, listens on one UDP port for members and clients
//! alike, keeps pages in frames of `holo-mem` and runs programs with `holo-exec` and `holo-gpu` where the pages lie.
//!
//! # Example
//!
//! ```no_run
//! # async fn run() -> Result<(), holo_core::Failure> {
//! let config = holo_node::Config::load("node.toml".as_ref())?;
//! let node = holo_node::Node::start(config)?;
//! println!("listening on {}", node.local_addr());
//! node.stopped().await;
//! node.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Not here
//!
//! What decides lives in `holo-core`; commands and output in `holo-cli`.

mod arrays;
mod bytes_text;
mod clock;
mod compute;
mod config;
mod directory;
mod links;
mod modules;
mod node;
mod process;
mod run;
mod service;
mod workers;

pub mod dev;

pub use bytes_text::parse_bytes;
pub use config::Config;
pub use node::Node;
