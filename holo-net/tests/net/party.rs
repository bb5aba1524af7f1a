//! Who takes part in these tests: identities, a service that echoes, and a node with a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use holo_core::wire::{FrameHeader, Kind};
use holo_core::{ClusterId, ErrorCode, Failure, Role, UnixMillis};
use holo_net::{
    BoxFuture, BulkReader, BulkReply, Connection, Endpoint, EndpointOptions, Expected, Identity,
    Peer, Request, Response, Service,
};

pub(crate) const CLUSTER: ClusterId = ClusterId([0x11; 32]);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for a loaded machine; no test waits for it unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A limit that a test waits for, but within which a loaded machine has to do something first.
pub(crate) const WHILE: Duration = Duration::from_secs(6);

#[expect(clippy::disallowed_methods, reason = "certificates end by the wall clock")]
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn identity(role: Role) -> Identity {
    Identity::generate(role, CLUSTER, HOUR, now()).unwrap()
}

pub(crate) fn options(identity: Identity) -> EndpointOptions {
    let mut options = EndpointOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)), identity);
    // What the system grants without rights, so that no test warns.
    options.socket_buffer_bytes = 128 << 10;
    // Where these are not what is tested, a machine that is busy elsewhere must not trip them.
    options.handshake_timeout = PATIENCE;
    options.idle_timeout = PATIENCE;
    options
}

/// Echoes. What a request asks for goes by its kind:
/// `Get` at once, `Put` later, `Status` never, `Shutdown` and `ModuleQuery` by panics, bulk as it came.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    pub(crate) refuse: Option<Failure>,
    pub(crate) calls: AtomicUsize,
}

impl Service for Echo {
    fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
        self.refuse.clone().map_or(Ok(()), Err)
    }

    fn call(&self, _peer: &Arc<Peer>, header: &FrameHeader, body: Bytes) -> Response {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match header.kind {
            Kind::Get | Kind::Hello => Response::Now(Ok(body)),
            Kind::Put => Response::Later(Box::pin(async move {
                tokio::task::yield_now().await;
                Ok(body)
            })),
            Kind::Status => Response::Later(Box::pin(std::future::pending())),
            Kind::Shutdown => panic!("the service has a bug"),
            Kind::ModuleQuery => Response::Later(Box::pin(async { panic!("it has another one") })),
            _ => Response::Now(Err(Failure::new(ErrorCode::NotFound, "no such thing")
                .help("look elsewhere")
                .retry_after_ms(9))),
        }
    }

    fn bulk(
        &self,
        _peer: Arc<Peer>,
        header: FrameHeader,
        body: Bytes,
        mut incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match header.kind {
                Kind::WriteShard => {
                    let mut bulk = Vec::new();
                    while let Some(chunk) = incoming.chunk().await? {
                        bulk.push(chunk);
                    }
                    Ok(BulkReply { body, bulk })
                }
                Kind::ModulePush => {
                    let mut bulk = BytesMut::zeroed(usize::try_from(incoming.remaining()).unwrap());
                    incoming.read_exact(&mut bulk).await?;
                    Ok(BulkReply { body, bulk: vec![bulk.freeze()] })
                }
                Kind::ReadShard => panic!("the service has a bug"),
                // Without reading what comes in.
                _ => Err(Failure::new(ErrorCode::QuotaExceeded, "too much of it")),
            }
        })
    }
}

/// A node with a service and a client that is connected to it.
pub(crate) struct Pair {
    pub(crate) node: Endpoint,
    pub(crate) client: Endpoint,
    pub(crate) connection: Connection,
    pub(crate) service: Arc<Echo>,
}

impl Pair {
    pub(crate) async fn new() -> Self {
        Self::with(options(identity(Role::Node)), options(identity(Role::Client))).await
    }

    pub(crate) async fn with(node: EndpointOptions, client: EndpointOptions) -> Self {
        let expected = Expected { key: Some(node.identity.key()), role: Role::Node };
        let service = Arc::new(Echo::default());
        let node = Endpoint::bind(node, Some(Arc::clone(&service) as Arc<dyn Service>)).unwrap();
        let client = Endpoint::bind(client, None).unwrap();
        let connection = client.connect(node.local_addr(), expected, PATIENCE).await.unwrap();
        Self { node, client, connection, service }
    }

    pub(crate) fn calls(&self) -> usize {
        self.service.calls.load(Ordering::SeqCst)
    }

    pub(crate) async fn close(self) {
        self.client.close().await;
        self.node.close().await;
    }
}

pub(crate) fn expect_node() -> Expected {
    Expected { key: None, role: Role::Node }
}

pub(crate) fn request(kind: Kind, body: impl Into<Bytes>) -> Request {
    Request::new(kind, PATIENCE, body)
}

/// Bytes without a pattern that a shifted copy would share.
pub(crate) fn pattern(len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes.into()
}

/// One small request and one of `len` bulk bytes, both ways.
pub(crate) async fn echo(connection: &Connection, len: usize) {
    let answer = connection.call(request(Kind::Get, "small")).await.unwrap();
    assert_eq!(answer, "small");
    let sent = pattern(len);
    let halves = vec![sent.slice(..len / 2), sent.slice(len / 2..)];
    let (body, mut bulk) =
        connection.bulk(request(Kind::WriteShard, "head"), halves).await.unwrap();
    assert_eq!(body, "head");
    assert_eq!(bulk.remaining(), len as u64);
    let mut back = vec![0; len];
    bulk.read_exact(&mut back).await.unwrap();
    assert!(back == sent, "{len} bytes came back changed");
    assert_eq!(bulk.chunk().await.unwrap(), None);
}
