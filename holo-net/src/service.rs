//! What a program offers to its peers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use holo_core::wire::FrameHeader;
use holo_core::{ErrorCode, Failure};

use crate::{BulkReader, Peer};

/// A boxed future that may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers requests. One value serves every connection of an endpoint, dialled and accepted alike.
///
/// A panic inside a method fails that request with `Internal` and harms nothing else.
pub trait Service: Send + Sync + 'static {
    /// Decides whether this peer may talk to us at all: after the handshake, before any stream of its is read.
    ///
    /// # Errors
    ///
    /// The failure closes the connection and reaches the peer's callers as it is.
    fn admit(&self, peer: &Peer) -> Result<(), Failure>;

    /// Answers a small request. Runs on the connection's own task: never blocks, and does in place only what takes
    /// microseconds.
    fn call(&self, peer: &Arc<Peer>, header: &FrameHeader, body: Bytes) -> Response;

    /// Answers a request on a stream of its own, which may carry bulk bytes either way.
    ///
    /// The future runs to its end even when the connection breaks; reads from `incoming` fail then.
    fn bulk(
        &self,
        peer: Arc<Peer>,
        header: FrameHeader,
        body: Bytes,
        incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>>;
}

/// The answer to a small request.
pub enum Response {
    /// It is here already.
    Now(Result<Bytes, Failure>),
    /// It comes later; other requests are answered meanwhile. The future runs to its end, even when the connection
    /// breaks or the request's deadline passes: for work that must not stop half-way, such as a write.
    Later(BoxFuture<Result<Bytes, Failure>>),
    /// As [`Self::Later`], but the future is dropped as soon as nobody can use its answer: when either side closes the
    /// connection, or when the request's deadline has passed, which is answered with `DeadlineExceeded`. For waiting,
    /// and for work that may stop at any await.
    WhileConnected(BoxFuture<Result<Bytes, Failure>>),
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Now(answer) => f.debug_tuple("Now").field(answer).finish(),
            Self::Later(_) => f.write_str("Later(..)"),
            Self::WhileConnected(_) => f.write_str("WhileConnected(..)"),
        }
    }
}

/// The answer to a bulk request.
#[derive(Clone, Debug, Default)]
pub struct BulkReply {
    /// The protobuf body.
    pub body: Bytes,
    /// The raw bytes behind it, in order, at most [`holo_core::limits::BULK_BYTES_MAX`] in all.
    pub bulk: Vec<Bytes>,
}

/// The service of an endpoint that has none: whoever it dialled is welcome, and gets nothing from it.
pub(crate) struct NoService;

impl Service for NoService {
    fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&self, _peer: &Arc<Peer>, header: &FrameHeader, _body: Bytes) -> Response {
        Response::Now(Err(nothing_served(header)))
    }

    fn bulk(
        &self,
        _peer: Arc<Peer>,
        header: FrameHeader,
        _body: Bytes,
        _incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        Box::pin(async move { Err(nothing_served(&header)) })
    }
}

fn nothing_served(header: &FrameHeader) -> Failure {
    let message = format!("{:?}: this peer only dials and answers no requests", header.kind);
    Failure::new(ErrorCode::NotFound, message)
}
