//! An endpoint: one UDP socket that dials and accepts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use holo_core::{ErrorCode, Failure, UnixMillis};
use parking_lot::Mutex;
use quinn::{ClientConfig, ConnectionError, EndpointConfig, Incoming, ServerConfig};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::runtime::Handle;

use crate::clock::whole_millis;
use crate::close::{close_frame, failure_of};
use crate::connection::{Connection, Peer, write_failure};
use crate::drivers::{Drivers, Runtimes, Urgency, background_first_id, making};
use crate::frame::StreamKind;
use crate::handshake::{
    ClientHandshake, PeerFacts, Primitives, ResetKey, ServerHandshake, TokenKey, Verdict,
};
use crate::options::{EndpointOptions, Expected, Transports};
use crate::serve::{admit, serve};
use crate::service::{NoService, Service};
use crate::tasks::Tasks;
use crate::{Identity, Suite, socket};

/// How long closing waits for peers to hear of it and for running requests to end.
const CLOSE_GRACE: Duration = Duration::from_secs(3);

/// A UDP socket with an identity; clones are the same endpoint.
///
/// Connections live no longer than their endpoint: when its last clone goes, they are closed.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<EndpointShared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.quinn.close(0u32.into(), b"");
        self.shared.tasks.abort();
    }
}

/// What the endpoint's tasks need. They hold it and not [`Inner`], whose end is theirs.
struct EndpointShared {
    quinn: quinn::Endpoint,
    local_addr: SocketAddr,
    identity: Arc<Identity>,
    suite_offered: Suite,
    transport: Transports,
    background_server: Option<Arc<ServerConfig>>,
    handshake_timeout: Duration,
    connections_max: usize,
    retry_above: usize,
    handshakes_per_address_max: usize,
    version: u32,
    primitives: Primitives,
    service: Arc<dyn Service>,
    bulk_time_max: Duration,
    tasks: Arc<Tasks>,
    open: Mutex<Open>,
}

/// Connections, and handshakes under way.
#[derive(Default)]
struct Open {
    connections: BTreeMap<u64, Connection>,
    next: u64,
    handshakes: BTreeMap<IpAddr, usize>,
    handshakes_total: usize,
    retries_sent: u64,
    closing: bool,
}

impl Endpoint {
    /// Opens the socket. With a service it also accepts; without one it only dials, and requests of its peers are
    /// answered with `NotFound`.
    ///
    /// # Errors
    ///
    /// [`NetError`] when the address is taken or an option makes no sense; nothing is left open.
    pub fn bind(
        options: EndpointOptions,
        service: Option<Arc<dyn Service>>,
    ) -> Result<Self, NetError> {
        let foreground = Handle::try_current().map_err(NetError::NoRuntime)?;
        let runtimes = Runtimes::new(foreground, options.background.clone());
        options.check().map_err(NetError::Options)?;
        let serves = service.is_some();
        let transport = Transports::new(&options).map_err(NetError::Options)?;
        let socket = socket::bind(&options)
            .map_err(|source| NetError::Bind { address: options.listen, source })?;
        let bind_error = |source| NetError::Bind { address: options.listen, source };
        let local_addr = socket.local_addr().map_err(bind_error)?;
        let identity = Arc::new(options.identity);
        let server = serves.then(|| {
            let crypto = ServerHandshake {
                identity: Arc::clone(&identity),
                primitives: options.primitives,
                accepted: options.suites_accepted.into(),
                version: options.version,
            };
            let token_key = TokenKey(identity.derive("holocompute net v1 address token key"));
            let mut config = ServerConfig::new(Arc::new(crypto), Arc::new(token_key));
            config
                .transport_config(Arc::clone(transport.of(Urgency::Foreground)))
                .max_incoming(options.connections_max)
                .incoming_buffer_size(64 << 10)
                .incoming_buffer_size_total(16 << 20);
            config
        });
        let background_server = server.clone().map(|mut config| {
            config.transport_config(Arc::clone(transport.of(Urgency::Background)));
            Arc::new(config)
        });
        let config = endpoint_config(&identity, options.profile.largest_mtu(), options.version)?;
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            config,
            server,
            socket,
            Arc::new(Drivers(runtimes.clone())),
        )
        .map_err(bind_error)?;
        let shared = Arc::new(EndpointShared {
            quinn,
            local_addr,
            identity,
            suite_offered: options.suite_offered,
            transport,
            background_server,
            handshake_timeout: options.handshake_timeout,
            connections_max: options.connections_max,
            retry_above: options.retry_above,
            handshakes_per_address_max: options.handshakes_per_address_max,
            version: options.version,
            primitives: options.primitives,
            service: service.unwrap_or_else(|| Arc::new(NoService)),
            bulk_time_max: options.bulk_time_max,
            tasks: Arc::new(Tasks::new(runtimes)),
            open: Mutex::default(),
        });
        if serves {
            shared.tasks.start(Urgency::Foreground, accept(Arc::clone(&shared)));
        }
        Ok(Self { inner: Arc::new(Inner { shared }) })
    }

    /// The address it listens on, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.shared.local_addr
    }

    /// Dials a peer of our own cluster; ready when the peer has admitted us.
    ///
    /// # Errors
    ///
    /// `Unreachable` when nobody answers within `deadline`; `IdentityMismatch`, `ClusterMismatch`,
    /// `CertificateExpired`, `SuiteRefused`, `VersionMismatch` or `Unauthenticated` as the handshake found on either
    /// side; the peer's own failure when its service did not admit us.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        expected: Expected,
        deadline: Duration,
    ) -> Result<Connection, Failure> {
        self.connect_with(addr, expected, deadline, Urgency::Foreground).await
    }

    /// Dials a peer for what may wait: both ends drive the connection where they do background work, and it carries the
    /// repair lane only.
    ///
    /// # Errors
    ///
    /// Those of [`Self::connect`].
    pub async fn connect_in_background(
        &self,
        addr: SocketAddr,
        expected: Expected,
        deadline: Duration,
    ) -> Result<Connection, Failure> {
        self.connect_with(addr, expected, deadline, Urgency::Background).await
    }

    async fn connect_with(
        &self,
        addr: SocketAddr,
        expected: Expected,
        deadline: Duration,
        urgency: Urgency,
    ) -> Result<Connection, Failure> {
        let dialling = self.inner.shared.dial(addr, expected, urgency);
        match tokio::time::timeout(deadline, dialling).await {
            Ok(dialled) => dialled.map_err(|failure| failure.context(addr)),
            Err(_elapsed) => Err(unreachable_at(addr, deadline)),
        }
    }

    /// The open connections, dialled and accepted.
    pub fn connections(&self) -> Vec<Connection> {
        self.inner.shared.open.lock().connections.values().cloned().collect()
    }

    /// Retry packets sent so far.
    pub fn retries_sent(&self) -> u64 {
        self.inner.shared.open.lock().retries_sent
    }

    /// Takes no more connections, tells every peer that we are leaving, and waits a while until they have heard it and
    /// running requests have ended.
    pub async fn close(&self) {
        let shared = &self.inner.shared;
        let connections = {
            let mut open = shared.open.lock();
            open.closing = true;
            std::mem::take(&mut open.connections)
        };
        shared.quinn.set_server_config(None);
        let failure = Failure::new(ErrorCode::ShuttingDown, "the node is stopping");
        for connection in connections.values() {
            connection.shared.close(failure.clone());
        }
        let (code, reason) = close_frame(&failure);
        shared.quinn.close(code, &reason);
        drop(tokio::time::timeout(CLOSE_GRACE, shared.quinn.wait_idle()).await);
        shared.tasks.close(CLOSE_GRACE).await;
    }
}

impl EndpointShared {
    async fn dial(
        self: &Arc<Self>,
        addr: SocketAddr,
        expected: Expected,
        urgency: Urgency,
    ) -> Result<Connection, Failure> {
        let verdict = Verdict::default();
        let crypto = ClientHandshake {
            identity: Arc::clone(&self.identity),
            primitives: self.primitives,
            suite: self.suite_offered,
            expected,
            verdict: Arc::clone(&verdict),
        };
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.version(self.version).transport_config(Arc::clone(self.transport.of(urgency)));
        if urgency == Urgency::Background {
            config.initial_dst_cid_provider(Arc::new(background_first_id));
        }
        let refused =
            |error: &ConnectionError| verdict.lock().take().unwrap_or_else(|| dial_failure(error));
        let connecting = making(urgency, || self.quinn.connect_with(config, addr, "holo"));
        let connecting = connecting.map_err(|source| {
            Failure::new(ErrorCode::InvalidArgument, format!("it cannot be dialled: {source}"))
        })?;
        let quinn = connecting.await.map_err(|error| refused(&error))?;
        // The acceptor's word, or its refusal, is one more packet: waiting for it gives the caller the true reason.
        let mut word = quinn.accept_uni().await.map_err(|error| refused(&error))?;
        let mut kind = [0];
        if word.read_exact(&mut kind).await.is_err() || kind[0] != StreamKind::Admitted as u8 {
            return Err(quinn.close_reason().map_or_else(
                || {
                    Failure::new(
                        ErrorCode::Malformed,
                        "the peer does not say whether we are admitted",
                    )
                },
                |error| refused(&error),
            ));
        }
        let connection = self.connection(quinn, urgency)?;
        self.admit(&connection)?;
        self.register(&connection)
            .inspect_err(|failure| connection.shared.close(failure.clone()))?;
        Ok(connection)
    }

    /// Takes one newcomer in, after cheap checks.
    fn take_incoming(self: &Arc<Self>, incoming: Incoming) {
        let address = incoming.remote_address();
        let decision = {
            let mut open = self.open.lock();
            let decision = self.decide(&open, &incoming);
            match decision {
                Decision::Accept => {
                    open.handshakes_total += 1;
                    *open.handshakes.entry(address.ip()).or_default() += 1;
                }
                Decision::Retry => open.retries_sent += 1,
                Decision::Refuse => {}
            }
            decision
        };
        match decision {
            Decision::Accept => {
                let slot = HandshakeSlot { shared: Arc::clone(self), address: address.ip() };
                self.tasks.start(Urgency::Foreground, Arc::clone(self).greet(incoming, slot));
            }
            Decision::Retry => {
                if let Err(error) = incoming.retry() {
                    tracing::debug!(%address, %error, "no retry packet for a newcomer");
                }
            }
            Decision::Refuse => {
                tracing::debug!(%address, "newcomer refused: too many connections or handshakes");
                incoming.refuse();
            }
        }
    }

    fn decide(&self, open: &Open, incoming: &Incoming) -> Decision {
        if open.closing || open.connections.len() + open.handshakes_total >= self.connections_max {
            return Decision::Refuse;
        }
        let from_there = open.handshakes.get(&incoming.remote_address().ip()).copied().unwrap_or(0);
        let crowded = open.handshakes_total >= self.retry_above;
        let crowded_there = from_there >= self.handshakes_per_address_max;
        // A refusal by address counts only against addresses that are proven, or anybody could shut anybody out.
        if (crowded || crowded_there)
            && !incoming.remote_address_validated()
            && incoming.may_retry()
        {
            return Decision::Retry;
        }
        if crowded_there { Decision::Refuse } else { Decision::Accept }
    }

    /// Sees an accepted connection through its handshake, and serves it.
    async fn greet(self: Arc<Self>, incoming: Incoming, slot: HandshakeSlot) {
        let address = incoming.remote_address();
        let greeted =
            tokio::time::timeout(self.handshake_timeout, self.admit_incoming(incoming)).await;
        drop(slot);
        match greeted {
            Ok(Ok(connection)) => {
                if let Err(failure) = self.register(&connection) {
                    connection.shared.close(failure);
                }
            }
            Ok(Err(failure)) => tracing::debug!(%address, %failure, "newcomer not admitted"),
            Err(_elapsed) => {
                tracing::debug!(%address, "newcomer did not finish its handshake in time");
            }
        }
    }

    async fn admit_incoming(self: &Arc<Self>, incoming: Incoming) -> Result<Connection, Failure> {
        let urgency = Urgency::of_first_id(&incoming.orig_dst_cid());
        let config = self.background_server.clone().filter(|_| urgency == Urgency::Background);
        let connecting = making(urgency, || match config {
            Some(config) => incoming.accept_with(config),
            None => incoming.accept(),
        });
        let connecting = connecting.map_err(|error| failure_of(&error))?;
        let quinn = connecting.await.map_err(|error| failure_of(&error))?;
        let connection = self.connection(quinn, urgency)?;
        self.admit(&connection)?;
        let ended = |_error| connection.shared.end_reason();
        let mut word = connection.shared.quinn.open_uni().await.map_err(ended)?;
        word.write_all(&[StreamKind::Admitted as u8])
            .await
            .map_err(|error| write_failure(&error))?;
        drop(word.finish());
        Ok(connection)
    }

    /// Asks the service whether the peer may come in, and closes the connection when it may not.
    fn admit(&self, connection: &Connection) -> Result<(), Failure> {
        admit(&*self.service, connection.peer())
            .inspect_err(|failure| connection.shared.close(failure.clone()))
    }

    fn connection(
        &self,
        quinn: quinn::Connection,
        urgency: Urgency,
    ) -> Result<Connection, Failure> {
        let facts = quinn
            .peer_identity()
            .and_then(|facts| facts.downcast::<PeerFacts>().ok())
            .ok_or_else(|| Failure::new(ErrorCode::Internal, "a connection without an identity"))?;
        let peer = Peer {
            key: facts.key,
            role: facts.role,
            cluster: facts.cluster,
            not_after: facts.not_after,
            address: quinn.remote_address(),
            suite: facts.suite,
            background: urgency == Urgency::Background,
        };
        let ends_at = UnixMillis(facts.not_after.0.min(facts.own_not_after.0));
        Ok(Connection::new(quinn, peer, ends_at, Arc::clone(&self.tasks), self.bulk_time_max))
    }

    /// Lists a connection, watches it and serves its peer.
    fn register(self: &Arc<Self>, connection: &Connection) -> Result<(), Failure> {
        let number = {
            let mut open = self.open.lock();
            if open.closing {
                return Err(Failure::new(ErrorCode::ShuttingDown, "the endpoint is closing"));
            }
            if open.connections.len() >= self.connections_max {
                let message = format!("{} connections are open, the limit", self.connections_max);
                return Err(Failure::new(ErrorCode::Overloaded, message));
            }
            let number = open.next;
            open.next += 1;
            open.connections.insert(number, connection.clone());
            number
        };
        let (this, shared) = (Arc::clone(self), Arc::clone(&connection.shared));
        self.tasks.start(connection.shared.urgency(), async move {
            shared.watch().await;
            this.open.lock().connections.remove(&number);
        });
        let serving = serve(Arc::clone(&connection.shared), Arc::clone(&self.service));
        self.tasks.start(connection.shared.urgency(), serving);
        Ok(())
    }
}

impl std::fmt::Debug for EndpointShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointShared")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
enum Decision {
    Accept,
    Retry,
    Refuse,
}

/// A place among the handshakes under way; dropping it makes room.
struct HandshakeSlot {
    shared: Arc<EndpointShared>,
    address: IpAddr,
}

impl Drop for HandshakeSlot {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock();
        open.handshakes_total -= 1;
        if let Some(count) = open.handshakes.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.handshakes.remove(&self.address);
            }
        }
    }
}

async fn accept(shared: Arc<EndpointShared>) {
    while let Some(incoming) = shared.quinn.accept().await {
        shared.take_incoming(incoming);
    }
}

fn endpoint_config(
    identity: &Identity,
    largest_mtu: u16,
    version: u32,
) -> Result<EndpointConfig, NetError> {
    // Both keys outlive the process, so that peers of the process before this one are told that it is gone.
    let reset_key = ResetKey(identity.derive("holocompute net v1 stateless reset key"));
    let id_key = identity.derive("holocompute net v1 connection id key");
    let id_key = id_key.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config
        .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)))
        .supported_versions(vec![version])
        .max_udp_payload_size(largest_mtu)
        .map_err(|source| {
            NetError::Options(Failure::new(ErrorCode::ConfigInvalid, source.to_string()))
        })?;
    Ok(config)
}

/// Nobody knew the peer yet, so silence means that nobody is there.
fn dial_failure(error: &ConnectionError) -> Failure {
    match error {
        ConnectionError::TimedOut => Failure::new(ErrorCode::Unreachable, "nobody answers"),
        other => failure_of(other),
    }
}

fn unreachable_at(addr: SocketAddr, deadline: Duration) -> Failure {
    let millis = whole_millis(deadline);
    Failure::new(ErrorCode::Unreachable, format!("{addr}: nobody answers within {millis} ms"))
        .help("check the address, that the node runs, and that UDP passes")
}

/// Why an endpoint could not be opened. Nothing is left open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// It was called outside a tokio runtime: a bug of the caller.
    #[error("no tokio runtime here: {0}")]
    NoRuntime(#[source] tokio::runtime::TryCurrentError),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Options(#[source] Failure),
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        match error {
            NetError::NoRuntime(_) => Self::new(ErrorCode::Internal, error.to_string()),
            NetError::Bind { .. } => Self::new(ErrorCode::ConfigInvalid, error.to_string())
                .help("choose another address or port, or port 0 for any"),
            NetError::Options(failure) => failure,
        }
    }
}
