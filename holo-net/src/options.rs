//! How an endpoint is set up, and what a profile means to QUIC.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holo_core::{ErrorCode, Failure, PublicKey, Role, limits};
use quinn::congestion::CubicConfig;
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use tokio::runtime::Handle;

use crate::drivers::Urgency;
use crate::handshake::{Primitives, QUIC_VERSION, production};
use crate::{Identity, Suite};

/// Whom a dialler expects at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Its key; `None` takes any member of the cluster.
    pub key: Option<PublicKey>,
    /// Its role.
    pub role: Role,
}

/// What kind of path an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Any network: packets start at 1,200 bytes and grow up to 8,952 where the path takes them.
    Network,
    /// Every peer is on this machine: packets start large.
    SameHost,
}

/// Everything that an endpoint needs to know.
#[derive(Debug)]
pub struct EndpointOptions {
    /// The UDP address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Who we are.
    pub identity: Identity,
    /// Suites that diallers may name. A classical one is in it only where a config says so.
    pub suites_accepted: Vec<Suite>,
    /// The suite that we name when we dial.
    pub suite_offered: Suite,
    /// What kind of path it is for.
    pub profile: Profile,
    /// How long an accepted connection may take until the peer is known.
    pub handshake_timeout: Duration,
    /// Silence after which a connection is lost; a third of it is how often a quiet one is kept alive.
    pub idle_timeout: Duration,
    /// Connections, both directions together.
    pub connections_max: usize,
    /// Unfinished handshakes beyond which every newcomer must first prove its address (a Retry packet).
    pub retry_above: usize,
    /// Unfinished handshakes from one IP address; more are refused.
    pub handshakes_per_address_max: usize,
    /// Bytes of each of the socket's two buffers to ask the system for.
    pub socket_buffer_bytes: usize,
    /// Where background connections are driven, and the requests on them served: a runtime with its I/O and time enabled.
    /// `None`: where all others are.
    pub background: Option<Handle>,
    pub(crate) version: u32,
    pub(crate) primitives: Primitives,
    pub(crate) loss: Option<crate::socket::Loss>,
    pub(crate) bulk_time_max: Duration,
}

impl EndpointOptions {
    /// The defaults: hybrid suites only, the AES one offered, for any network.
    pub fn new(listen: SocketAddr, identity: Identity) -> Self {
        Self {
            listen,
            identity,
            suites_accepted: Suite::HYBRID.to_vec(),
            suite_offered: Suite::HybridAes256,
            profile: Profile::Network,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(15),
            connections_max: limits::CONNECTIONS_MAX,
            retry_above: 64,
            handshakes_per_address_max: 256,
            socket_buffer_bytes: 4 << 20,
            background: None,
            version: QUIC_VERSION,
            primitives: production,
            loss: None,
            bulk_time_max: Duration::from_secs(limits::BULK_SECONDS_MAX),
        }
    }

    /// Loses this many of a thousand datagrams that it sends, by a sequence that `seed` decides.
    #[doc(hidden)]
    #[must_use]
    pub fn danger_lossy_for_testing_only(mut self, per_mille: u32, seed: u64) -> Self {
        self.loss = Some(crate::socket::Loss::new(per_mille, seed));
        self
    }

    /// Speaks another QUIC version.
    #[doc(hidden)]
    #[must_use]
    pub fn danger_other_version_for_testing_only(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    /// Lets the bytes of a bulk request that it serves, and those of its answer, take this long at most.
    #[doc(hidden)]
    #[must_use]
    pub fn danger_bulk_time_for_testing_only(mut self, max: Duration) -> Self {
        self.bulk_time_max = max;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Failure> {
        let refuse = |why: &str| Err(Failure::new(ErrorCode::ConfigInvalid, why));
        if self.connections_max == 0 {
            return refuse("an endpoint needs room for at least one connection");
        }
        if self.handshakes_per_address_max == 0 {
            return refuse("at least one handshake per address must be allowed");
        }
        if self.idle_timeout < Duration::from_millis(100) {
            return refuse("an idle timeout below 100 ms would end connections at random");
        }
        Ok(())
    }
}

/// What QUIC is told of a connection, by what it is for.
#[derive(Clone)]
pub(crate) struct Transports {
    foreground: Arc<TransportConfig>,
    background: Arc<TransportConfig>,
}

impl Transports {
    pub(crate) fn new(options: &EndpointOptions) -> Result<Self, Failure> {
        let of = |urgency| options.profile.transport(options.idle_timeout, urgency).map(Arc::new);
        Ok(Self { foreground: of(Urgency::Foreground)?, background: of(Urgency::Background)? })
    }

    pub(crate) fn of(&self, urgency: Urgency) -> &Arc<TransportConfig> {
        match urgency {
            Urgency::Foreground => &self.foreground,
            Urgency::Background => &self.background,
        }
    }
}

impl Profile {
    /// Bytes of a packet at the start.
    pub(crate) fn initial_mtu(self) -> u16 {
        match self {
            Self::Network => 1200,
            Self::SameHost => 32_700,
        }
    }

    /// Bytes of a packet at most.
    pub(crate) fn largest_mtu(self) -> u16 {
        match self {
            Self::Network => 8952,
            Self::SameHost => 32_700,
        }
    }

    /// Bytes in flight before the first acknowledgement: ten packets of the largest size, or a start at 12 kB would not
    /// even let one leave.
    fn initial_window(self) -> u64 {
        match self {
            Self::Network => 10 * u64::from(self.largest_mtu()),
            Self::SameHost => 1 << 20,
        }
    }

    pub(crate) fn transport(
        self,
        idle_timeout: Duration,
        urgency: Urgency,
    ) -> Result<TransportConfig, Failure> {
        // One for background work goes when there is none.
        let keep_alive = (urgency == Urgency::Foreground).then_some(idle_timeout / 3);
        let idle = IdleTimeout::try_from(idle_timeout).map_err(|source| {
            Failure::new(ErrorCode::ConfigInvalid, format!("idle timeout: {source}"))
        })?;
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(self.largest_mtu());
        let mut congestion = CubicConfig::default();
        congestion.initial_window(self.initial_window());
        // Without it the sender may wait out a 25 ms delay at the tail of a transfer.
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(10))
            .max_ack_delay(Some(Duration::from_millis(2)));
        // Twice what may be served at once, so that streams whose requester has given up, and the slow news of ended
        // ones, hold back no honest peer.
        let streams = 2 * (limits::BULK_STREAMS_MAX + limits::MULTIPLEXED_STREAMS_MAX);
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(keep_alive)
            .initial_mtu(self.initial_mtu())
            .mtu_discovery_config(Some(discovery))
            .congestion_controller_factory(Arc::new(congestion))
            .ack_frequency_config(Some(acks))
            .stream_receive_window(VarInt::from_u32(16 << 20))
            .receive_window(VarInt::from_u32(64 << 20))
            .send_window(64 << 20)
            .max_concurrent_bidi_streams(VarInt::try_from(streams).unwrap_or(VarInt::MAX))
            // One: the acceptor's word that the dialler is admitted.
            .max_concurrent_uni_streams(VarInt::from_u32(1))
            .crypto_buffer_size(limits::HANDSHAKE_BYTES_MAX);
        if self == Self::SameHost {
            transport.initial_rtt(Duration::from_millis(2));
        }
        Ok(transport)
    }
}
