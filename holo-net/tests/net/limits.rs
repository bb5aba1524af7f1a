//! Bounds that hold against peers who do not keep to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holo_core::wire::{FrameHeader, Kind};
use holo_core::{ErrorCode, Failure, RequestId, Role, limits};
use holo_net::Endpoint;

use crate::party::{Echo, PATIENCE, Pair, WHILE, echo, expect_node, identity, options, request};
use crate::relay::{Relay, Way};

/// What a connection ends with when these bytes are all that a stream carries.
async fn end_after(stream: &[u8]) -> Failure {
    let pair = Pair::new().await;
    let (mut send, _recv) = pair.connection.danger_raw_for_testing_only().open_bi().await.unwrap();
    send.write_all(stream).await.unwrap();
    send.finish().unwrap();
    let failure = pair.connection.closed().await;
    pair.close().await;
    failure
}

#[tokio::test]
async fn a_length_beyond_the_limit_ends_the_connection_on_either_kind_of_stream() {
    for kind in [1u8, 2] {
        let header = FrameHeader::request(Kind::Get, RequestId(1), u32::MAX).encode();
        let failure = end_after(&[&[kind], &header[..]].concat()).await;
        assert_eq!(failure.code, ErrorCode::TooLarge, "stream kind {kind}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_request_end_the_connection() {
    let mut answer = FrameHeader::request(Kind::Get, RequestId(1), 0);
    answer.reply = true;
    let mut bulk = FrameHeader::request(Kind::Get, RequestId(1), 0);
    bulk.bulk_len = 5;
    let cut_short = FrameHeader::request(Kind::Get, RequestId(1), 10).encode();
    for stream in [
        vec![9],
        [&[1][..], &[0xff; 60]].concat(),
        [&[1][..], &answer.encode()].concat(),
        [&[2][..], &answer.encode()].concat(),
        [&[1][..], &bulk.encode()].concat(),
        [&[1][..], &cut_short, b"abc"].concat(),
        [&[2][..], &cut_short, b"abc"].concat(),
    ] {
        assert_eq!(end_after(&stream).await.code, ErrorCode::Malformed, "{stream:02x?}");
    }
    let mut other_version = FrameHeader::request(Kind::Get, RequestId(1), 0).encode();
    other_version[2] = 77;
    let failure = end_after(&[&[1][..], &other_version].concat()).await;
    assert_eq!(failure.code, ErrorCode::VersionMismatch);
}

#[tokio::test]
async fn bulk_that_is_longer_or_shorter_than_announced_fails_its_request_only() {
    let pair = Pair::new().await;
    let mut header = FrameHeader::request(Kind::WriteShard, RequestId(1), 0);
    header.bulk_len = 4;
    for wrong in [&b"abc"[..], b"abcde"] {
        let (mut send, mut recv) =
            pair.connection.danger_raw_for_testing_only().open_bi().await.unwrap();
        send.write_all(&[&[2][..], &header.encode()].concat()).await.unwrap();
        // Apart from the head, so that the service has begun.
        tokio::task::yield_now().await;
        send.write_all(wrong).await.unwrap();
        send.finish().unwrap();
        match recv.read_to_end(1000).await {
            Ok(answer) => {
                let head = answer.first_chunk().unwrap();
                assert!(FrameHeader::decode(head).unwrap().failure, "{wrong:?}");
            }
            // Too many bytes in one piece with the head end the connection.
            Err(_) => assert_eq!(pair.connection.closed().await.code, ErrorCode::Malformed),
        }
        if pair.connection.is_closed() {
            return;
        }
    }
    echo(&pair.connection, 100).await;
    pair.close().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let pair = Pair::new().await;
    let body = vec![0; limits::BODY_BYTES_MAX as usize + 1];
    let failure = pair.connection.call(request(Kind::Get, body)).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::TooLarge);
    let bulk = vec![Bytes::from(vec![0; 33 << 20]); 2];
    let failure = pair.connection.bulk(request(Kind::WriteShard, ""), bulk).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::TooLarge);
    assert_eq!(pair.calls(), 0);
    echo(&pair.connection, 100).await;
    pair.close().await;
}

#[tokio::test]
async fn one_connection_too_many_is_refused_with_a_word_by_either_side() {
    for limited in [Role::Node, Role::Client] {
        refuse_second_connection(limited).await;
    }
}

async fn refuse_second_connection(limited: Role) {
    let (mut node, mut client) = (options(identity(Role::Node)), options(identity(Role::Client)));
    if limited == Role::Node {
        node.connections_max = 1;
    } else {
        client.connections_max = 1;
    }
    let pair = Pair::with(node, client).await;
    let failure =
        pair.client.connect(pair.node.local_addr(), expect_node(), PATIENCE).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Overloaded);
    echo(&pair.connection, 100).await;
    pair.close().await;
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_holds_its_place_for_a_while_only() {
    let mut node = options(identity(Role::Node));
    node.handshakes_per_address_max = 1;
    node.handshake_timeout = WHILE;
    let node = Endpoint::bind(node, Some(Arc::new(Echo::default()))).unwrap();
    // The node hears the first flight and nothing after it.
    let answered = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&answered);
    let relay = Relay::new(
        node.local_addr(),
        Box::new(move |way, datagram| {
            if way == Way::ToClient {
                seen.store(true, Ordering::SeqCst);
                return Vec::new();
            }
            if seen.load(Ordering::SeqCst) { Vec::new() } else { vec![datagram] }
        }),
    )
    .await;
    let client = Endpoint::bind(options(identity(Role::Client)), None).unwrap();
    let stuck = client.connect(relay.address, expect_node(), PATIENCE);
    let others = async {
        while !answered.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let refused = client.connect(node.local_addr(), expect_node(), PATIENCE).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        assert_eq!(node.retries_sent(), 1, "its address was proven before it was refused");
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        loop {
            looks.tick().await;
            match client.connect(node.local_addr(), expect_node(), PATIENCE).await {
                Ok(connection) => break echo(&connection, 100).await,
                Err(failure) => assert_eq!(failure.code, ErrorCode::Overloaded),
            }
        }
    };
    tokio::select! {
        stuck = stuck => panic!("it cannot finish: {stuck:?}"),
        () = others => {}
    }
    client.close().await;
    node.close().await;
}
