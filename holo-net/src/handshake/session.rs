//! The adapter between [`Handshake`] and quinn's crypto traits.

use std::any::Any;
use std::sync::Arc;

use holo_core::{ClusterId, Failure, PublicKey, Role, UnixMillis};
use parking_lot::Mutex;
use quinn_proto::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, TransportErrorCode};

use super::keys::{DirectionSecrets, initial_keys, retry_tag};
use super::{Handshake, LevelSecret, Party, Primitives, Refusal};
use crate::clock::wall_clock_now;
use crate::identity::Identity;
use crate::suite::PacketCipher;
use crate::{Expected, Suite};

/// Where a client's handshake leaves the full story of its refusal: the transport error carries a number only.
pub(crate) type Verdict = Arc<Mutex<Option<Failure>>>;

/// Starts the initiator's side of one dialled connection.
pub(crate) struct ClientHandshake {
    pub(crate) identity: Arc<Identity>,
    pub(crate) primitives: Primitives,
    pub(crate) suite: Suite,
    pub(crate) expected: Expected,
    pub(crate) verdict: Verdict,
}

impl crypto::ClientConfig for ClientHandshake {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        _server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn crypto::Session>, ConnectError> {
        let party = party(&self.identity, self.primitives, version);
        let handshake = Handshake::client(party, self.suite, self.expected, encode(params));
        Ok(Box::new(Session::new(handshake, Side::Client, Some(Arc::clone(&self.verdict)))))
    }
}

/// Starts the responder's side of every accepted connection.
pub(crate) struct ServerHandshake {
    pub(crate) identity: Arc<Identity>,
    pub(crate) primitives: Primitives,
    pub(crate) accepted: Arc<[Suite]>,
    pub(crate) version: u32,
}

impl crypto::ServerConfig for ServerHandshake {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        if version != self.version {
            return Err(UnsupportedVersion);
        }
        Ok(initial_keys(dst_cid, false))
    }

    fn retry_tag(&self, _version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        retry_tag(orig_dst_cid, &[packet])
    }

    fn start_session(
        self: Arc<Self>,
        version: u32,
        params: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        let party = party(&self.identity, self.primitives, version);
        let handshake = Handshake::server(party, Arc::clone(&self.accepted), encode(params));
        Box::new(Session::new(handshake, Side::Server, None))
    }
}

/// What a finished handshake says about the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerFacts {
    pub(crate) key: PublicKey,
    pub(crate) role: Role,
    pub(crate) cluster: ClusterId,
    pub(crate) not_after: UnixMillis,
    pub(crate) own_not_after: UnixMillis,
    pub(crate) suite: Suite,
}

struct Session {
    handshake: Handshake,
    side: Side,
    verdict: Option<Verdict>,
    peer_parameters: Option<TransportParameters>,
    /// Secrets of the current key phase, once there are any.
    application: Option<(DirectionSecrets, PacketCipher)>,
}

impl Session {
    fn new(handshake: Handshake, side: Side, verdict: Option<Verdict>) -> Self {
        Self { handshake, side, verdict, peer_parameters: None, application: None }
    }

    fn refuse(&self, refusal: Refusal) -> TransportError {
        let failure = refusal.failure(self.handshake.party().cluster, self.handshake.expected());
        tracing::debug!(%failure, side = ?self.side, "handshake refused");
        if let Some(verdict) = &self.verdict {
            *verdict.lock() = Some(failure);
        }
        // The reason goes to a peer that nobody knows yet: the number must do.
        TransportError {
            code: TransportErrorCode::crypto(refusal.alert()),
            frame: None,
            reason: String::new(),
        }
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        initial_keys(dst_cid, side.is_client())
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.handshake.suite().map(|suite| Box::new(suite) as Box<dyn Any>)
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let (peer, suite) = (self.handshake.peer()?, self.handshake.suite()?);
        Some(Box::new(PeerFacts {
            key: peer.key,
            role: peer.role,
            cluster: peer.cluster,
            not_after: peer.not_after,
            own_not_after: self.handshake.party().credentials.not_after,
            suite,
        }))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        Some(false)
    }

    fn is_handshaking(&self) -> bool {
        !self.handshake.is_done()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.handshake.receive(buf).map_err(|refusal| self.refuse(refusal))?;
        let (None, Some(encoded)) = (self.peer_parameters, self.handshake.peer_parameters()) else {
            return Ok(false);
        };
        // quinn wants our own side here: it refuses what that side must not be told.
        self.peer_parameters = Some(TransportParameters::read(self.side, &mut &*encoded)?);
        Ok(true)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.peer_parameters)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let secret = self.handshake.transmit(buf)?;
        let cipher = self.handshake.suite()?.cipher();
        match secret {
            LevelSecret::Handshake(level) => {
                Some(DirectionSecrets::of_level(&level).keys(cipher, self.side.is_client()))
            }
            LevelSecret::Application(level) => {
                let secrets = DirectionSecrets::of_level(&level);
                let keys = secrets.keys(cipher, self.side.is_client());
                self.application = Some((secrets, cipher));
                Some(keys)
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let (secrets, cipher) = self.application.as_mut()?;
        secrets.update();
        Some(secrets.packet_keys(*cipher, self.side.is_client()))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let Some((packet, tag)) = payload.split_last_chunk::<16>() else { return false };
        retry_tag(orig_dst_cid, &[header, packet]) == *tag
    }

    fn export_keying_material(
        &self,
        _output: &mut [u8],
        _label: &[u8],
        _context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        // Nothing of ours is bound to a connection's keys.
        Err(ExportKeyingMaterialError)
    }
}

fn party(identity: &Identity, primitives: Primitives, version: u32) -> Party {
    let now = wall_clock_now();
    Party {
        credentials: identity.credentials(now),
        cluster: identity.cluster(),
        now,
        version,
        primitives,
    }
}

fn encode(params: &TransportParameters) -> Vec<u8> {
    let mut encoded = Vec::new();
    params.write(&mut encoded);
    encoded
}
