//! Bounds on what one connection has open at once, counted over all of its streams, and on how long silence is borne.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holo_core::wire::{Decode, FailureBody, FrameHeader, HEADER_BYTES, Kind};
use holo_core::{ErrorCode, Failure, RequestId, Role, limits};
use holo_net::{
    BoxFuture, BulkReader, BulkReply, Connection, Endpoint, EndpointOptions, Peer, Request,
    Response, Service,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::party::{PATIENCE, Pair, WHILE, echo, expect_node, identity, options, request};

/// More than the receive window of a stream, so that it is not sent unless somebody reads it.
const LARGE_BYTES: usize = 24 << 20;

/// Answers when it is let go, but for `Get`, which is answered at once, and `ReadShard`, which is answered at once with
/// a large bulk.
#[derive(Debug)]
struct Gate {
    running: AtomicUsize,
    most: AtomicUsize,
    go: Semaphore,
}

impl Gate {
    fn new() -> Arc<Self> {
        let (running, most) = Default::default();
        Arc::new(Self { running, most, go: Semaphore::new(0) })
    }

    async fn pass(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.go.acquire().await.unwrap().forget();
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    async fn until_running(&self, count: usize) {
        let reached = async {
            while self.running.load(Ordering::SeqCst) < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.unwrap();
    }
}

struct Gated(Arc<Gate>);

impl Service for Gated {
    fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&self, _peer: &Arc<Peer>, header: &FrameHeader, body: Bytes) -> Response {
        let gate = Arc::clone(&self.0);
        match header.kind {
            Kind::Get => Response::Now(Ok(body)),
            _ => Response::Later(Box::pin(async move {
                gate.pass().await;
                Ok(body)
            })),
        }
    }

    fn bulk(
        &self,
        _peer: Arc<Peer>,
        header: FrameHeader,
        body: Bytes,
        _incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        let gate = Arc::clone(&self.0);
        Box::pin(async move {
            if header.kind == Kind::ReadShard {
                return Ok(BulkReply { body, bulk: vec![Bytes::from(vec![7; LARGE_BYTES])] });
            }
            gate.pass().await;
            Ok(BulkReply { body, bulk: Vec::new() })
        })
    }
}

struct Scene {
    node: Endpoint,
    client: Endpoint,
    connection: Connection,
    gate: Arc<Gate>,
}

impl Scene {
    async fn new(node: EndpointOptions) -> Self {
        let gate = Gate::new();
        let node = Endpoint::bind(node, Some(Arc::new(Gated(Arc::clone(&gate))))).unwrap();
        let client = Endpoint::bind(options(identity(Role::Client)), None).unwrap();
        let connection = client.connect(node.local_addr(), expect_node(), PATIENCE).await.unwrap();
        Self { node, client, connection, gate }
    }

    async fn close(self) {
        self.client.close().await;
        self.node.close().await;
    }
}

/// A stream that a peer opens by hand, with these bytes as its beginning.
async fn open(connection: &Connection, bytes: &[u8]) -> (quinn::SendStream, quinn::RecvStream) {
    let (mut send, recv) = connection.danger_raw_for_testing_only().open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    (send, recv)
}

/// The failure that is the answer on a stream.
async fn failure_on(mut recv: quinn::RecvStream) -> Failure {
    let reading = recv.read_to_end(1 << 20);
    let answer = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    let (head, body) = answer.split_first_chunk::<HEADER_BYTES>().unwrap();
    assert!(FrameHeader::decode(head).unwrap().failure);
    Failure::from(FailureBody::decode_body(body).unwrap())
}

/// The code that the peer breaks a stream off with.
async fn reset_of(recv: &mut quinn::RecvStream) -> u64 {
    let reset = tokio::time::timeout(PATIENCE, recv.received_reset()).await.unwrap();
    reset.unwrap().unwrap().into_inner()
}

#[tokio::test]
async fn requests_in_flight_are_counted_over_all_streams_of_a_connection() {
    let scene = Scene::new(options(identity(Role::Node))).await;
    let mut streams = Vec::new();
    for stream in 0..3u64 {
        let mut wire = vec![1];
        for id in 0..700 {
            let id = RequestId(stream << 32 | id);
            wire.extend_from_slice(&FrameHeader::request(Kind::Put, id, 0).encode());
        }
        let (mut send, recv) = open(&scene.connection, &wire).await;
        send.finish().unwrap();
        streams.push(recv);
    }
    // Bulk requests count too.
    let header = FrameHeader::request(Kind::WriteShard, RequestId(0), 0).encode();
    let (mut send, recv) = open(&scene.connection, &[&[2][..], &header].concat()).await;
    send.finish().unwrap();
    streams.push(recv);
    scene.gate.until_running(limits::REQUESTS_IN_FLIGHT_MAX).await;
    // What is answered at once needs no place.
    for _ in 0..20 {
        assert_eq!(scene.connection.call(request(Kind::Get, "now")).await.unwrap(), "now");
    }
    scene.gate.go.add_permits(3 * 700 + 1);
    let mut answers = 0;
    for mut recv in streams {
        let bytes = recv.read_to_end(1 << 20).await.unwrap();
        answers += bytes.len() / HEADER_BYTES;
    }
    assert_eq!(answers, 3 * 700 + 1);
    assert_eq!(scene.gate.most.load(Ordering::SeqCst), limits::REQUESTS_IN_FLIGHT_MAX);
    scene.close().await;
}

#[tokio::test]
async fn bulk_streams_beyond_the_limit_wait_for_their_turn() {
    let scene = Scene::new(options(identity(Role::Node))).await;
    let header = FrameHeader::request(Kind::WriteShard, RequestId(0), 0).encode();
    let mut streams = Vec::new();
    for _ in 0..100 {
        let (mut send, recv) = open(&scene.connection, &[&[2][..], &header].concat()).await;
        send.finish().unwrap();
        streams.push(recv);
    }
    scene.gate.until_running(limits::BULK_STREAMS_MAX).await;
    // Small requests pass them meanwhile.
    for _ in 0..20 {
        assert_eq!(scene.connection.call(request(Kind::Get, "now")).await.unwrap(), "now");
    }
    scene.gate.go.add_permits(100);
    for mut recv in streams {
        assert_eq!(recv.read_to_end(1000).await.unwrap().len(), HEADER_BYTES);
    }
    assert_eq!(scene.gate.most.load(Ordering::SeqCst), limits::BULK_STREAMS_MAX);
    scene.close().await;
}

#[tokio::test]
async fn one_multiplexed_stream_too_many_ends_the_connection() {
    let pair = Pair::new().await;
    let mut streams = Vec::new();
    for _ in 0..limits::MULTIPLEXED_STREAMS_MAX {
        streams.push(open(&pair.connection, &[1]).await);
    }
    // The last of them is served still.
    let header = FrameHeader::request(Kind::Get, RequestId(1), 0).encode();
    let (send, recv) = streams.last_mut().unwrap();
    send.write_all(&header).await.unwrap();
    recv.read_exact(&mut [0; HEADER_BYTES]).await.unwrap();
    streams.push(open(&pair.connection, &[1]).await);
    let failure = pair.connection.closed().await;
    assert_eq!(failure.code, ErrorCode::Malformed);
    assert!(failure.message.contains("multiplexed"), "{failure}");
    pair.close().await;
}

#[tokio::test]
async fn a_caller_keeps_to_the_limits_by_waiting() {
    let pair = Pair::new().await;
    let mut callers = JoinSet::new();
    for _ in 0..300 {
        let connection = pair.connection.clone();
        callers.spawn(async move { echo(&connection, 2000).await });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    let mut unread = Vec::new();
    for _ in 0..limits::BULK_STREAMS_MAX {
        let bulk = vec![Bytes::from_static(b"unread")];
        unread.push(pair.connection.bulk(request(Kind::WriteShard, ""), bulk).await.unwrap().1);
    }
    let soon = Request::new(Kind::WriteShard, Duration::from_millis(50), "");
    let failure = pair.connection.bulk(soon, Vec::new()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
    assert_eq!(unread[0].chunk().await.unwrap().unwrap(), "unread");
    // One that has been read to its end takes no place, though it is still there.
    pair.connection.bulk(request(Kind::WriteShard, ""), Vec::new()).await.unwrap();
    drop(unread);
    echo(&pair.connection, 2000).await;
    pair.close().await;
}

#[tokio::test]
async fn callers_who_wait_for_a_place_hear_at_once_that_the_connection_has_ended() {
    let pair = Pair::new().await;
    let mut unread = Vec::new();
    for _ in 0..limits::BULK_STREAMS_MAX {
        let bulk = vec![Bytes::from_static(b"unread")];
        unread.push(pair.connection.bulk(request(Kind::WriteShard, ""), bulk).await.unwrap().1);
    }
    let for_ever = Request::new(Kind::WriteShard, Duration::MAX, "");
    let (answer, ()) = tokio::join!(pair.connection.bulk(for_ever, Vec::new()), async {
        pair.node.connections().remove(0).close(ErrorCode::Denied, "enough");
    });
    assert_eq!(answer.unwrap_err().code, ErrorCode::Denied);
    pair.close().await;
}

#[tokio::test]
async fn a_sender_of_bulk_who_falls_silent_is_answered_at_its_deadline() {
    let pair = Pair::new().await;
    let mut header = FrameHeader::request(Kind::WriteShard, RequestId(1), 0);
    header.bulk_len = 1000;
    header.deadline_ms = 30;
    let wire = [&[2][..], &header.encode(), b"and then nothing"].concat();
    let (_send, recv) = open(&pair.connection, &wire).await;
    assert_eq!(failure_on(recv).await.code, ErrorCode::DeadlineExceeded);
    echo(&pair.connection, 2000).await;
    pair.close().await;
}

#[tokio::test]
async fn no_deadline_lets_a_silent_sender_of_bulk_stay_for_ever() {
    // The answer has as long to be taken.
    let node = options(identity(Role::Node)).danger_bulk_time_for_testing_only(WHILE);
    let pair = Pair::with(node, options(identity(Role::Client))).await;
    let silent = async |deadline_ms| {
        let mut header = FrameHeader::request(Kind::WriteShard, RequestId(1), 0);
        header.bulk_len = 1000;
        header.deadline_ms = deadline_ms;
        let (_send, recv) = open(&pair.connection, &[&[2][..], &header.encode()].concat()).await;
        assert_eq!(failure_on(recv).await.code, ErrorCode::DeadlineExceeded);
    };
    // There is nothing to answer to half a header.
    let silent_early = async {
        let (_send, mut recv) = open(&pair.connection, &[2, 1, 2, 3]).await;
        let code = u64::from(ErrorCode::DeadlineExceeded.number());
        assert_eq!(reset_of(&mut recv).await, code);
    };
    tokio::join!(silent(0), silent(u32::MAX), silent_early);
    assert!(!pair.connection.is_closed());
    pair.close().await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_let_go() {
    let node =
        options(identity(Role::Node)).danger_bulk_time_for_testing_only(Duration::from_millis(300));
    let scene = Scene::new(node).await;
    let header = FrameHeader::request(Kind::ReadShard, RequestId(1), 0).encode();
    let (_send, mut recv) = open(&scene.connection, &[&[2][..], &header].concat()).await;
    let code = u64::from(ErrorCode::DeadlineExceeded.number());
    assert_eq!(reset_of(&mut recv).await, code);
    assert_eq!(scene.connection.call(request(Kind::Get, "on")).await.unwrap(), "on");
    scene.close().await;
}

#[tokio::test]
async fn a_peer_that_only_dials_says_so_when_it_is_asked() {
    let pair = Pair::new().await;
    let back = pair.node.connections().remove(0);
    let small = back.call(request(Kind::Get, "")).await.unwrap_err();
    let bulk = vec![Bytes::from(vec![0; 1 << 20])];
    let large = back.bulk(request(Kind::WriteShard, ""), bulk).await.unwrap_err();
    for failure in [small, large] {
        assert_eq!(failure.code, ErrorCode::NotFound);
        assert!(failure.message.contains("only dials"), "{failure}");
    }
    echo(&pair.connection, 2000).await;
    pair.close().await;
}
