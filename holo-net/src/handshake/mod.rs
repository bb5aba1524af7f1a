//! The handshake: Noise XX with a hybrid ephemeral exchange, as the source of QUIC's keys.
//!
//! Sans-io: [`Handshake`] takes the bytes of QUIC's CRYPTO streams and gives bytes and secrets. It opens no socket and
//! reads no clock. [`session`] is the adapter to quinn.
//!
//! ```text
//! prologue = protocol name || QUIC version || suite
//! Initial   C->S  M1 = suite || [ e, e1             ; transport parameters, ALPN ]
//! Initial   S->C  M2 =         [ e, ee, ekem1, s, es; transport parameters, ALPN, certificate ]
//! Handshake S->C  F  = keyed BLAKE3 over the transcript
//! Handshake C->S  M3 =         [ s, se              ; certificate ]
//! ```
//!
//! Each message and each field of a payload is preceded by its length, a little-endian `u16`. The classical suite lacks
//! `e1` and `ekem1` and is otherwise the same.
//!
//! # Why F
//!
//! quinn leaves its handshake state only while it handles a Handshake-space packet, so the responder must send one. F
//! needs no secret: M2's authenticator already binds the transcript for the initiator. Handshake-space keys come from
//! the handshake hash, which is public, and only keep middleboxes out; M3 is encrypted by Noise itself.
//!
//! # Invariants
//!
//! 1. After an error nothing is read, written or exported: [`Step::Failed`] is final.
//! 2. Application secrets exist only after Noise has finished and the peer's certificate has been checked.

mod keys;
mod primitives;
mod refusal;
mod session;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use holo_core::{ClusterId, UnixMillis, limits};
use snow::{Builder, HandshakeState};
use zeroize::Zeroizing;

#[cfg(test)]
pub(crate) use keys::initial_keys;
pub(crate) use keys::{ResetKey, TokenKey};
pub(crate) use primitives::{Primitives, production};
pub(crate) use refusal::Refusal;
pub(crate) use session::{ClientHandshake, PeerFacts, ServerHandshake, Verdict};

use crate::certificate::Certificate;
use crate::identity::Credentials;
use crate::{Expected, Suite};

/// The QUIC version of our wire: never 1, which means TLS, and not of the form 0x?a?a?a?a, which is reserved.
pub(crate) const QUIC_VERSION: u32 = 0x686f_0001;

/// The one application protocol.
pub(crate) const APPLICATION_PROTOCOL: &[u8] = b"holo/1";

const PROTOCOL_NAME: &[u8] = b"holocompute net v1";
/// Noise messages of ours stay below this; the largest is M1 with 1,184 + 32 bytes of keys and the parameters.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What a side brings to each handshake.
#[derive(Clone)]
pub(crate) struct Party {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) cluster: ClusterId,
    pub(crate) now: UnixMillis,
    pub(crate) version: u32,
    pub(crate) primitives: Primitives,
}

/// One side of one handshake.
pub(crate) struct Handshake {
    party: Party,
    side: Side,
    step: Step,
    /// Bytes of a message that has not arrived whole.
    inbox: Vec<u8>,
    transcript: blake3::Hasher,
    parameters: Vec<u8>,
    peer_parameters: Option<Vec<u8>>,
    suite: Option<Suite>,
    peer: Option<Certificate>,
}

enum Side {
    Client { offered: Suite, expected: Expected },
    Server { accepted: Arc<[Suite]> },
}

/// What happens next. The Noise state lives in the step, so that no step can use what it must not have.
enum Step {
    ClientSendsHello,
    ClientAwaitsReply(Box<HandshakeState>),
    ClientRaisesKeys(Box<HandshakeState>),
    ClientAwaitsFinish(Box<HandshakeState>, FinishTag),
    ClientSendsProof(Box<HandshakeState>),
    ServerAwaitsHello,
    ServerSendsReply(Box<HandshakeState>),
    ServerSendsFinish(Box<HandshakeState>, FinishTag),
    ServerAwaitsProof(Box<HandshakeState>),
    ServerRaisesKeys(Box<HandshakeState>),
    Done,
    Failed(Refusal),
}

type FinishTag = blake3::Hash;

/// Secret of an encryption level, from which the keys of both directions are derived.
pub(crate) enum LevelSecret {
    Handshake(Zeroizing<[u8; 32]>),
    Application(Zeroizing<[u8; 32]>),
}

impl Handshake {
    pub(crate) fn client(
        party: Party,
        offered: Suite,
        expected: Expected,
        parameters: Vec<u8>,
    ) -> Self {
        Self::new(party, Side::Client { offered, expected }, Step::ClientSendsHello, parameters)
    }

    pub(crate) fn server(party: Party, accepted: Arc<[Suite]>, parameters: Vec<u8>) -> Self {
        Self::new(party, Side::Server { accepted }, Step::ServerAwaitsHello, parameters)
    }

    fn new(party: Party, side: Side, step: Step, parameters: Vec<u8>) -> Self {
        Self {
            party,
            side,
            step,
            inbox: Vec::new(),
            transcript: blake3::Hasher::new_derive_key("holocompute net v1 handshake transcript"),
            parameters,
            peer_parameters: None,
            suite: None,
            peer: None,
        }
    }

    /// Takes bytes of the CRYPTO stream, in order and cut anywhere.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], after which the handshake is over.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let result = self.try_receive(bytes);
        if let Err(refusal) = result {
            self.fail(refusal);
        }
        result
    }

    /// Appends what is to be sent now to `out`, and gives the secret of the next level when it is due.
    ///
    /// Bytes belong to the level before that secret. A failure shows with the next [`Self::receive`].
    pub(crate) fn transmit(&mut self, out: &mut Vec<u8>) -> Option<LevelSecret> {
        match self.try_transmit(out) {
            Ok(secret) => secret,
            Err(refusal) => {
                self.fail(refusal);
                None
            }
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    /// The peer's transport parameters, authentic once the handshake is done.
    pub(crate) fn peer_parameters(&self) -> Option<&[u8]> {
        self.peer_parameters.as_deref()
    }

    pub(crate) fn suite(&self) -> Option<Suite> {
        self.suite
    }

    /// The peer's checked certificate.
    pub(crate) fn peer(&self) -> Option<Certificate> {
        self.peer
    }

    pub(crate) fn party(&self) -> &Party {
        &self.party
    }

    pub(crate) fn expected(&self) -> Option<Expected> {
        match self.side {
            Side::Client { expected, .. } => Some(expected),
            Side::Server { .. } => None,
        }
    }

    fn fail(&mut self, refusal: Refusal) {
        self.inbox = Vec::new();
        self.step = Step::Failed(refusal);
    }

    fn try_receive(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if let Step::Failed(refusal) = self.step {
            return Err(refusal);
        }
        if bytes.len() > limits::HANDSHAKE_BYTES_MAX - self.inbox.len() {
            return Err(Refusal::Malformed);
        }
        self.inbox.extend_from_slice(bytes);
        while self.awaits_message() {
            let mut rest = &*self.inbox;
            let Some(message) = take_field(&mut rest) else { return Ok(()) };
            let message = message.to_vec();
            self.inbox = rest.to_vec();
            self.handle_message(&message)?;
        }
        // A peer never has reason to send the next message before it has seen our answer to this one.
        if self.inbox.is_empty() { Ok(()) } else { Err(Refusal::Malformed) }
    }

    fn awaits_message(&self) -> bool {
        matches!(
            self.step,
            Step::ClientAwaitsReply(_)
                | Step::ClientAwaitsFinish(..)
                | Step::ServerAwaitsHello
                | Step::ServerAwaitsProof(_)
        )
    }

    fn handle_message(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let step = std::mem::replace(&mut self.step, Step::Failed(Refusal::Internal));
        self.step = match step {
            Step::ServerAwaitsHello => Step::ServerSendsReply(self.read_hello(message)?),
            Step::ClientAwaitsReply(noise) => {
                Step::ClientRaisesKeys(self.read_reply(noise, message)?)
            }
            Step::ClientAwaitsFinish(noise, tag) => {
                // Comparing hashes of the blake3 crate takes constant time.
                let theirs: [u8; 32] = message.try_into().or(Err(Refusal::Malformed))?;
                if tag != theirs {
                    return Err(Refusal::Cipher);
                }
                Step::ClientSendsProof(noise)
            }
            Step::ServerAwaitsProof(noise) => {
                Step::ServerRaisesKeys(self.read_proof(noise, message)?)
            }
            _ => return Err(Refusal::Malformed),
        };
        self.record(message);
        Ok(())
    }

    fn read_hello(&mut self, message: &[u8]) -> Result<Box<HandshakeState>, Refusal> {
        let (&suite, noise_message) = message.split_first().ok_or(Refusal::Malformed)?;
        let Side::Server { accepted } = &self.side else { return Err(Refusal::Internal) };
        let suite = Suite::from_byte(suite)
            .filter(|suite| accepted.contains(suite))
            .ok_or(Refusal::Suite)?;
        let mut noise = self.start_noise(suite)?;
        let payload = open(&mut noise, noise_message)?;
        let mut rest = &*payload;
        let [parameters, protocol] = take_fields(&mut rest)?;
        if protocol != APPLICATION_PROTOCOL {
            return Err(Refusal::Protocol);
        }
        self.suite = Some(suite);
        self.peer_parameters = Some(parameters.to_vec());
        Ok(noise)
    }

    fn read_reply(
        &mut self,
        mut noise: Box<HandshakeState>,
        message: &[u8],
    ) -> Result<Box<HandshakeState>, Refusal> {
        let payload = open(&mut noise, message)?;
        let mut rest = &*payload;
        let [parameters, protocol, certificate] = take_fields(&mut rest)?;
        self.peer = Some(self.check_certificate(certificate, &noise)?);
        if protocol != APPLICATION_PROTOCOL {
            return Err(Refusal::Protocol);
        }
        self.peer_parameters = Some(parameters.to_vec());
        Ok(noise)
    }

    fn read_proof(
        &mut self,
        mut noise: Box<HandshakeState>,
        message: &[u8],
    ) -> Result<Box<HandshakeState>, Refusal> {
        let payload = open(&mut noise, message)?;
        let mut rest = &*payload;
        let [certificate] = take_fields(&mut rest)?;
        self.peer = Some(self.check_certificate(certificate, &noise)?);
        Ok(noise)
    }

    /// From the general to the particular: a stranger hears only that its certificate does not hold.
    fn check_certificate(
        &self,
        encoded: &[u8],
        noise: &HandshakeState,
    ) -> Result<Certificate, Refusal> {
        let static_public = noise
            .get_remote_static()
            .and_then(|key| <&[u8; 32]>::try_from(key).ok())
            .ok_or(Refusal::Certificate)?;
        let certificate =
            Certificate::verify(encoded, static_public).ok_or(Refusal::Certificate)?;
        if certificate.not_after <= self.party.now {
            return Err(Refusal::Expired { not_after: certificate.not_after });
        }
        if certificate.cluster != self.party.cluster {
            return Err(Refusal::Cluster { theirs: certificate.cluster });
        }
        if let Side::Client { expected, .. } = &self.side {
            if expected.key.is_some_and(|key| key != certificate.key) {
                return Err(Refusal::Identity { theirs: certificate.key });
            }
            if expected.role != certificate.role {
                return Err(Refusal::Role { theirs: certificate.role });
            }
        }
        Ok(certificate)
    }

    fn try_transmit(&mut self, out: &mut Vec<u8>) -> Result<Option<LevelSecret>, Refusal> {
        let step = std::mem::replace(&mut self.step, Step::Failed(Refusal::Internal));
        let (next, secret) = match step {
            Step::ClientSendsHello => (Step::ClientAwaitsReply(self.write_hello(out)?), None),
            Step::ClientRaisesKeys(noise) => {
                let level = self.handshake_level(&noise);
                let tag = self.finish_tag(&level);
                (Step::ClientAwaitsFinish(noise, tag), Some(LevelSecret::Handshake(level)))
            }
            Step::ClientSendsProof(mut noise) => {
                let certificate = self.party.credentials.certificate;
                let message = seal(&mut noise, 0, &[&certificate])?;
                self.send(&message, out)?;
                (Step::Done, Some(LevelSecret::Application(self.application_level(noise)?)))
            }
            Step::ServerSendsReply(mut noise) => {
                let certificate = self.party.credentials.certificate;
                let message =
                    seal(&mut noise, 0, &[&self.parameters, APPLICATION_PROTOCOL, &certificate])?;
                self.send(&message, out)?;
                let level = self.handshake_level(&noise);
                let tag = self.finish_tag(&level);
                (Step::ServerSendsFinish(noise, tag), Some(LevelSecret::Handshake(level)))
            }
            Step::ServerSendsFinish(noise, tag) => {
                self.send(tag.as_bytes(), out)?;
                (Step::ServerAwaitsProof(noise), None)
            }
            Step::ServerRaisesKeys(noise) => {
                (Step::Done, Some(LevelSecret::Application(self.application_level(noise)?)))
            }
            waiting => (waiting, None),
        };
        self.step = next;
        Ok(secret)
    }

    /// M1 leaves in one piece: quinn keeps exactly that piece to send it again after a Retry.
    fn write_hello(&mut self, out: &mut Vec<u8>) -> Result<Box<HandshakeState>, Refusal> {
        let Side::Client { offered, .. } = self.side else { return Err(Refusal::Internal) };
        let mut noise = self.start_noise(offered)?;
        let mut message = seal(&mut noise, 1, &[&self.parameters, APPLICATION_PROTOCOL])?;
        message[0] = offered.to_byte();
        self.suite = Some(offered);
        self.send(&message, out)?;
        Ok(noise)
    }

    fn start_noise(&self, suite: Suite) -> Result<Box<HandshakeState>, Refusal> {
        let mut prologue = PROTOCOL_NAME.to_vec();
        prologue.extend_from_slice(&self.party.version.to_le_bytes());
        prologue.push(suite.to_byte());
        let builder = Builder::with_resolver(suite.noise_params(), (self.party.primitives)())
            .local_private_key(&*self.party.credentials.static_private)
            .and_then(|builder| builder.prologue(&prologue))
            .or(Err(Refusal::Internal))?;
        let noise = match self.side {
            Side::Client { .. } => builder.build_initiator(),
            Side::Server { .. } => builder.build_responder(),
        };
        noise.map(Box::new).or(Err(Refusal::Internal))
    }

    fn send(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        put_field(out, message)?;
        self.record(message);
        Ok(())
    }

    fn record(&mut self, message: &[u8]) {
        self.transcript.update(&(message.len() as u64).to_le_bytes()).update(message);
    }

    fn handshake_level(&self, noise: &HandshakeState) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key("holocompute net v1 handshake level");
        hasher.update(noise.get_handshake_hash()).update(self.transcript.finalize().as_bytes());
        Zeroizing::new(*hasher.finalize().as_bytes())
    }

    fn finish_tag(&self, level: &[u8; 32]) -> FinishTag {
        let key = blake3::derive_key("holocompute net v1 server finish", level);
        blake3::keyed_hash(&key, self.transcript.finalize().as_bytes())
    }

    /// Consumes the Noise state: its ephemeral and static secrets go with it.
    fn application_level(
        &self,
        mut noise: Box<HandshakeState>,
    ) -> Result<Zeroizing<[u8; 32]>, Refusal> {
        if !noise.is_handshake_finished() || self.peer.is_none() {
            return Err(Refusal::Internal);
        }
        let (first, second) = noise.dangerously_get_raw_split();
        let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
        let mut hasher = blake3::Hasher::new_derive_key("holocompute net v1 application level");
        hasher
            .update(&*first)
            .update(&*second)
            .update(noise.get_handshake_hash())
            .update(self.transcript.finalize().as_bytes());
        Ok(Zeroizing::new(*hasher.finalize().as_bytes()))
    }
}

/// Decrypts one Noise message to its payload.
fn open(noise: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, Refusal> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    let mut payload = vec![0; message.len()];
    let len = noise.read_message(message, &mut payload).or(Err(Refusal::Cipher))?;
    payload.truncate(len);
    Ok(payload)
}

/// One Noise message with these fields as its payload, after `gap` zero bytes.
fn seal(noise: &mut HandshakeState, gap: usize, fields: &[&[u8]]) -> Result<Vec<u8>, Refusal> {
    let mut payload = Vec::new();
    for field in fields {
        put_field(&mut payload, field)?;
    }
    let mut message = vec![0; MESSAGE_BYTES_MAX];
    let len = noise.write_message(&payload, &mut message[gap..]).or(Err(Refusal::Internal))?;
    message.truncate(gap + len);
    Ok(message)
}

fn put_field(out: &mut Vec<u8>, field: &[u8]) -> Result<(), Refusal> {
    let len = u16::try_from(field.len()).or(Err(Refusal::Internal))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(field);
    Ok(())
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    let (field, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
    *bytes = rest;
    Some(field)
}

/// Exactly `N` fields and nothing behind them.
fn take_fields<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<[&'a [u8]; N], Refusal> {
    let mut fields = [&[] as &[u8]; N];
    for field in &mut fields {
        *field = take_field(bytes).ok_or(Refusal::Malformed)?;
    }
    if bytes.is_empty() { Ok(fields) } else { Err(Refusal::Malformed) }
}
