//! What works.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holo_core::wire::{FrameHeader, HEADER_BYTES, Kind};
use holo_core::{ErrorCode, Failure, RequestId, Role};
use holo_net::{Endpoint, Expected, Profile, Request, Suite};
use tokio::task::JoinSet;

use crate::party::{CLUSTER, Echo, PATIENCE, Pair, echo, expect_node, identity, options, request};

#[tokio::test]
async fn small_and_bulk_requests_go_there_and_back_in_every_suite_that_both_name() {
    for suite in Suite::ALL {
        let mut node = options(identity(Role::Node));
        node.suites_accepted.push(Suite::ClassicalAes256);
        let mut client = options(identity(Role::Client));
        client.suite_offered = suite;
        let (node_key, client_key) = (node.identity.key(), client.identity.key());
        let pair = Pair::with(node, client).await;
        echo(&pair.connection, 3_000_000).await;

        let peer = pair.connection.peer();
        assert_eq!((peer.key, peer.role, peer.cluster), (node_key, Role::Node, CLUSTER));
        assert_eq!((peer.suite, peer.address), (suite, pair.node.local_addr()));
        let accepted = pair.node.connections();
        let seen: Vec<_> =
            accepted.iter().map(|link| (link.peer().key, link.peer().suite)).collect();
        assert_eq!(seen, [(client_key, suite)]);
        assert_eq!(accepted[0].peer().role, Role::Client);
        assert_eq!(pair.client.connections().len(), 1);
        let stats = pair.connection.stats();
        assert!(stats.rtt_us > 0 && stats.mtu >= 1200, "{stats:?}");
        pair.close().await;
    }
}

#[tokio::test]
async fn large_packets_carry_bulk_between_processes_of_one_host() {
    for (node_profile, client_profile) in
        [(Profile::SameHost, Profile::SameHost), (Profile::Network, Profile::SameHost)]
    {
        let mut node = options(identity(Role::Node));
        node.profile = node_profile;
        let mut client = options(identity(Role::Client));
        client.profile = client_profile;
        let pair = Pair::with(node, client).await;
        echo(&pair.connection, 20_000_000).await;
        if node_profile == Profile::SameHost {
            assert!(pair.connection.stats().mtu > 30_000);
        }
        pair.close().await;
    }
}

#[tokio::test]
async fn answers_reach_their_callers_whatever_their_order() {
    let pair = Pair::new().await;
    let mut callers = JoinSet::new();
    for number in 0..600u32 {
        let connection = pair.connection.clone();
        callers.spawn(async move {
            // One lane for answers at once, one for later ones, which overtake each other.
            let kind = [Kind::Get, Kind::Put, Kind::Hello][number as usize % 3];
            let body = Bytes::from(number.to_le_bytes().repeat(1 + number as usize % 700));
            assert_eq!(connection.call(request(kind, body.clone())).await.unwrap(), body);
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert_eq!(pair.calls(), 600);
    pair.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_many_threads_share_a_connection() {
    let pair = Pair::new().await;
    let mut callers = JoinSet::new();
    for caller in 0..32u8 {
        let connection = pair.connection.clone();
        callers.spawn(async move {
            for _ in 0..50 {
                let body = vec![caller; 64];
                assert_eq!(connection.call(request(Kind::Get, body.clone())).await.unwrap(), body);
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    assert_eq!(pair.calls(), 32 * 50);
    pair.close().await;
}

#[tokio::test]
async fn the_node_calls_back_over_the_connection_that_it_accepted() {
    let node = options(identity(Role::Node));
    let dialler = options(identity(Role::Node));
    let dialler_key = dialler.identity.key();
    let node = Endpoint::bind(node, Some(Arc::new(Echo::default()))).unwrap();
    let dialler = Endpoint::bind(dialler, Some(Arc::new(Echo::default()))).unwrap();
    let out = dialler.connect(node.local_addr(), expect_node(), PATIENCE).await.unwrap();
    echo(&out, 10_000).await;
    let back = node.connections().into_iter().find(|link| link.peer().key == dialler_key).unwrap();
    echo(&back, 10_000).await;
    dialler.close().await;
    node.close().await;
}

#[tokio::test]
async fn a_failure_of_the_service_reaches_the_caller_whole() {
    let pair = Pair::new().await;
    let failure = pair.connection.call(request(Kind::ArrayInfo, "")).await.unwrap_err();
    let expected =
        Failure::new(ErrorCode::NotFound, "no such thing").help("look elsewhere").retry_after_ms(9);
    assert_eq!(failure, expected);
    pair.close().await;
}

#[tokio::test]
async fn a_service_that_refuses_bulk_unread_answers_before_all_of_it_is_sent() {
    let pair = Pair::new().await;
    let bulk = vec![Bytes::from(vec![1; 1 << 20]); 60];
    let failure = pair.connection.bulk(request(Kind::RunShards, ""), bulk).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::QuotaExceeded);
    echo(&pair.connection, 100).await;
    pair.close().await;
}

#[tokio::test]
async fn bulk_is_read_in_chunks_or_into_place() {
    let pair = Pair::new().await;
    let sent = crate::party::pattern(200_000);
    let (_, mut bulk) =
        pair.connection.bulk(request(Kind::ModulePush, ""), vec![sent.clone()]).await.unwrap();
    let mut head = vec![0; 12_345];
    bulk.read_exact(&mut head).await.unwrap();
    let mut back = head;
    while let Some(chunk) = bulk.chunk().await.unwrap() {
        back.extend_from_slice(&chunk);
    }
    assert!(back == sent);
    assert_eq!(bulk.remaining(), 0);
    let failure = bulk.read_exact(&mut [0]).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Malformed);

    let (_, bulk) = pair.connection.bulk(request(Kind::WriteShard, ""), Vec::new()).await.unwrap();
    assert_eq!(bulk.remaining(), 0);
    pair.close().await;
}

#[tokio::test]
async fn a_panic_in_the_service_fails_its_request_and_no_other() {
    let pair = Pair::new().await;
    for kind in [Kind::Shutdown, Kind::ModuleQuery] {
        let failure = pair.connection.call(request(kind, "")).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::Internal, "{kind:?}");
    }
    let failure = pair.connection.bulk(request(Kind::ReadShard, ""), Vec::new()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Internal);
    echo(&pair.connection, 1000).await;
    pair.close().await;
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_leaves_the_connection_whole() {
    let pair = Pair::new().await;
    let soon = Request::new(Kind::Status, Duration::from_millis(30), "");
    let failure = pair.connection.call(soon).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
    let for_ever = Request::new(Kind::Get, Duration::MAX, "whenever");
    assert_eq!(pair.connection.call(for_ever).await.unwrap(), "whenever");
    let for_ever = Request::new(Kind::WriteShard, Duration::MAX, "whenever");
    assert_eq!(pair.connection.bulk(for_ever, Vec::new()).await.unwrap().0, "whenever");
    pair.close().await;
}

#[tokio::test]
async fn a_request_that_has_no_time_is_refused_unsent() {
    // It was sent once, and answered before the first look at the clock.
    let pair = Pair::new().await;
    let at_once = Request::new(Kind::Get, Duration::ZERO, "");
    let failure = pair.connection.call(at_once).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
    let at_once = Request::new(Kind::WriteShard, Duration::ZERO, "");
    let failure = pair.connection.bulk(at_once, Vec::new()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
    // One of each kind behind them, so that they had been there by now.
    echo(&pair.connection, 100).await;
    assert_eq!(pair.calls(), 2, "the peer has seen what had time and nothing else");
    pair.close().await;
}

#[tokio::test]
async fn keys_change_both_ways_under_traffic() {
    for suite in Suite::HYBRID {
        let mut client = options(identity(Role::Client));
        client.suite_offered = suite;
        let pair = Pair::with(options(identity(Role::Node)), client).await;
        let accepted = pair.node.connections().remove(0);
        for round in 0..6 {
            let mut traffic = JoinSet::new();
            for _ in 0..4 {
                let connection = pair.connection.clone();
                traffic.spawn(async move { echo(&connection, 200_000).await });
            }
            tokio::task::yield_now().await;
            let updater = if round % 2 == 0 { &pair.connection } else { &accepted };
            updater.force_key_update_for_testing_only();
            while let Some(done) = traffic.join_next().await {
                done.unwrap();
            }
        }
        pair.close().await;
    }
}

#[tokio::test]
async fn requests_arrive_whole_when_every_byte_travels_alone() {
    let pair = Pair::new().await;
    let (mut send, mut recv) =
        pair.connection.danger_raw_for_testing_only().open_bi().await.unwrap();
    let mut wire = vec![1];
    for id in 0..2 {
        wire.extend_from_slice(&FrameHeader::request(Kind::Get, RequestId(id), 5).encode());
        wire.extend_from_slice(b"apart");
    }
    for byte in wire {
        send.write_all(&[byte]).await.unwrap();
        // Lets the connection send what it has.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    send.finish().unwrap();
    let answers = recv.read_to_end(1000).await.unwrap();
    assert_eq!(answers.len(), 2 * (HEADER_BYTES + 5));
    let (head, body) = answers.split_first_chunk::<HEADER_BYTES>().unwrap();
    let header = FrameHeader::decode(head).unwrap();
    assert!(header.reply && !header.failure && body.starts_with(b"apart"));
    pair.close().await;
}

#[tokio::test]
async fn closing_tells_the_other_side_why() {
    let pair = Pair::new().await;
    let accepted = pair.node.connections().remove(0);
    let open = pair.connection.call(request(Kind::Status, ""));
    let closing = async {
        while pair.calls() == 0 {
            tokio::task::yield_now().await;
        }
        pair.node.close().await;
    };
    let (answer, ()) = tokio::join!(open, closing);
    assert_eq!(answer.unwrap_err().code, ErrorCode::ShuttingDown);
    assert_eq!(pair.connection.closed().await.code, ErrorCode::ShuttingDown);
    assert!(pair.connection.is_closed() && accepted.is_closed());
    let later = pair.connection.call(request(Kind::Get, "")).await.unwrap_err();
    assert_eq!(later.code, ErrorCode::ShuttingDown);
    let expected = Expected { key: None, role: Role::Node };
    let refused =
        pair.client.connect(pair.node.local_addr(), expected, Duration::from_millis(300)).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Unreachable);
    pair.client.close().await;
}

#[tokio::test]
async fn a_connection_that_one_side_closes_ends_on_both_with_its_reason() {
    let pair = Pair::new().await;
    let accepted = pair.node.connections().remove(0);
    accepted.close(ErrorCode::Denied, "your key was revoked");
    for side in [&pair.connection, &accepted] {
        let failure = side.closed().await;
        assert_eq!((failure.code, &*failure.message), (ErrorCode::Denied, "your key was revoked"));
    }
    pair.close().await;
}
