//! Connections between members of a cluster: QUIC whose handshake is Noise with hybrid post-quantum keys.
//!
//! An [`Endpoint`] is one UDP socket with an [`Identity`]. It dials peers and, given a [`Service`], accepts them; either
//! way a [`Connection`] carries small requests ([`Connection::call`]) and requests with bulk bytes
//! ([`Connection::bulk`]) in both directions. There is no plaintext, no TLS and no negotiation of ciphers.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, SystemTime};
//!
//! use bytes::Bytes;
//! use holo_core::wire::{FrameHeader, Kind};
//! use holo_core::{ClusterId, Failure, Role, UnixMillis};
//! use holo_net::{
//!     BoxFuture, BulkReader, BulkReply, Endpoint, EndpointOptions, Expected, Identity, Peer, Request, Response, Service,
//! };
//!
//! struct Echo;
//!
//! impl Service for Echo {
//!     fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
//!         Ok(())
//!     }
//!     fn call(&self, _peer: &Arc<Peer>, _header: &FrameHeader, body: Bytes) -> Response {
//!         Response::Now(Ok(body))
//!     }
//!     fn bulk(&self, _: Arc<Peer>, _: FrameHeader, body: Bytes, _: BulkReader) -> BoxFuture<Result<BulkReply, Failure>> {
//!         Box::pin(async move { Ok(BulkReply { body, bulk: Vec::new() }) })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # #[expect(clippy::disallowed_methods)]
//! let now = UnixMillis(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis().try_into()?);
//! let (cluster, day, second) = (ClusterId([1; 32]), Duration::from_secs(86_400), Duration::from_secs(1));
//! let node = Identity::generate(Role::Node, cluster, day, now)?;
//! let expected = Expected { key: Some(node.key()), role: Role::Node };
//! let node = Endpoint::bind(EndpointOptions::new("127.0.0.1:0".parse()?, node), Some(Arc::new(Echo)))?;
//!
//! let client = Identity::generate(Role::Client, cluster, day, now)?;
//! let client = Endpoint::bind(EndpointOptions::new("127.0.0.1:0".parse()?, client), None)?;
//! let connection = client.connect(node.local_addr(), expected, second).await?;
//! let answer = connection.call(Request::new(Kind::Get, second, "hello")).await?;
//! assert_eq!(answer, "hello");
//! client.close().await;
//! node.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Not here
//!
//! What messages mean (`holo-core`), who may do what (`holo-node`'s services), which node to ask (`holo-client`).

mod alarm;
mod bulk;
mod certificate;
mod clock;
mod close;
mod connection;
mod drivers;
mod endpoint;
mod frame;
mod handshake;
mod identity;
mod options;
mod outbox;
mod pending;
mod places;
mod serve;
mod service;
mod socket;
mod suite;
mod tasks;

#[doc(hidden)]
pub mod fuzzing;

pub use bulk::BulkReader;
pub use connection::{Connection, LinkStats, Peer, Request};
pub use endpoint::{Endpoint, NetError};
pub use identity::{Identity, IdentityError};
pub use options::{EndpointOptions, Expected, Profile};
pub use service::{BoxFuture, BulkReply, Response, Service};
pub use suite::Suite;
