//! A man in the middle who rewrites the suite. Initial packets are no secret, so he can open and seal them like anybody.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use holo_core::{ErrorCode, Failure};
use quinn_proto::ConnectionId;

use super::*;
use crate::clock::wall_clock_now;
use crate::{Connection, Endpoint, EndpointOptions};

// The relay of the tests over sockets, which cannot see what this one needs of the handshake.
#[path = "../../../tests/net/relay.rs"]
mod relay;

use relay::{Relay, Way};

struct Refuser;

impl crate::Service for Refuser {
    fn admit(&self, _peer: &crate::Peer) -> Result<(), Failure> {
        Ok(())
    }

    fn call(
        &self,
        _peer: &Arc<crate::Peer>,
        _header: &holo_core::wire::FrameHeader,
        _body: bytes::Bytes,
    ) -> crate::Response {
        crate::Response::Now(Err(Failure::new(ErrorCode::NotFound, "nothing here")))
    }

    fn bulk(
        &self,
        _peer: Arc<crate::Peer>,
        _header: holo_core::wire::FrameHeader,
        _body: bytes::Bytes,
        _incoming: crate::BulkReader,
    ) -> crate::BoxFuture<Result<crate::BulkReply, Failure>> {
        Box::pin(async { Err(Failure::new(ErrorCode::NotFound, "nothing here")) })
    }
}

/// Dials through a relay that writes `rewritten` into the client's first flight.
async fn dial_through(offered: Suite, rewritten: Suite) -> Result<Connection, Failure> {
    let hour = Duration::from_secs(3600);
    let options = |role| {
        let identity = Identity::generate(role, CLUSTER, hour, wall_clock_now()).unwrap();
        let mut options = EndpointOptions::new("127.0.0.1:0".parse().unwrap(), identity);
        options.suites_accepted = Suite::ALL.to_vec();
        options.suite_offered = offered;
        options.socket_buffer_bytes = 128 << 10;
        options
    };
    let node = Endpoint::bind(options(Role::Node), Some(Arc::new(Refuser))).unwrap();
    let client = Endpoint::bind(options(Role::Client), None).unwrap();
    let rewrites = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&rewrites);
    let meddler = move |way, mut datagram: Vec<u8>| {
        if way == Way::ToNode && rewrite_suite(&mut datagram, offered, rewritten).is_some() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        vec![datagram]
    };
    let relay = Relay::new(node.local_addr(), Box::new(meddler)).await;
    let dialled = client.connect(relay.address, EXPECTED, Duration::from_secs(30)).await;
    assert!(rewrites.load(Ordering::SeqCst) > 0, "the relay found nothing to rewrite");
    client.close().await;
    node.close().await;
    dialled
}

#[tokio::test]
async fn a_downgrade_in_flight_is_refused() {
    for rewritten in [Suite::HybridChaCha20, Suite::ClassicalAes256] {
        let failure = dial_through(Suite::HybridAes256, rewritten).await.unwrap_err();
        assert!(
            matches!(failure.code, ErrorCode::Unauthenticated | ErrorCode::Malformed),
            "{rewritten:?}: {failure}"
        );
    }
}

#[tokio::test]
async fn the_relay_that_rewrites_suites_does_no_other_harm() {
    // The control of the test above: the same relay writing what stood there already.
    let connection = dial_through(Suite::HybridAes256, Suite::HybridAes256).await.unwrap();
    assert_eq!(connection.peer().suite, Suite::HybridAes256);
}

/// Opens an Initial packet, replaces the suite in the hello that it starts with, and seals it again; `None` when the
/// datagram holds no such packet, which is left as it is.
fn rewrite_suite(datagram: &mut [u8], offered: Suite, rewritten: Suite) -> Option<()> {
    // Long header, type Initial: the type is not masked.
    if datagram.first()? & 0xf0 != 0xc0 {
        return None;
    }
    let mut at = 5;
    let destination_len = usize::from(*datagram.get(at)?);
    let destination = ConnectionId::new(datagram.get(at + 1..at + 1 + destination_len)?);
    at += 1 + destination_len;
    at += 1 + usize::from(*datagram.get(at)?);
    let token_len = take_varint(datagram, &mut at)?;
    at += token_len;
    let len = take_varint(datagram, &mut at)?;
    let (number_at, end) = (at, at + len);
    let packet = datagram.get_mut(..end)?;

    // The server's keys: what is remote to it is the client's.
    let keys = initial_keys(&destination, false);
    let original = packet.to_vec();
    keys.header.remote.decrypt(number_at, packet);
    let header_len = number_at + usize::from(packet[0] & 3) + 1;
    let number = packet[number_at..header_len]
        .iter()
        .fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let mut payload = BytesMut::from(&packet[header_len..]);
    let opened = keys.packet.remote.decrypt(number, &packet[..header_len], &mut payload).is_ok();
    // CRYPTO frame at offset 0, a two-byte length, the message's length, the suite.
    let hello_at = 1 + 1 + 2 + 2;
    if !opened || payload[..2] != [0x06, 0] || payload[hello_at] != offered.to_byte() {
        packet.copy_from_slice(&original);
        return None;
    }
    payload[hello_at] = rewritten.to_byte();
    let sealed_end = header_len + payload.len();
    packet[header_len..sealed_end].copy_from_slice(&payload);
    keys.packet.remote.encrypt(number, packet, header_len);
    keys.header.remote.encrypt(number_at, packet);
    Some(())
}

fn take_varint(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let first = *bytes.get(*at)?;
    let len = 1 << (first >> 6);
    let mut value = usize::from(first & 0x3f);
    for byte in bytes.get(*at + 1..*at + len)? {
        value = value << 8 | usize::from(*byte);
    }
    *at += len;
    Some(value)
}
