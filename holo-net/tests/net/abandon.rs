//! What becomes of work whose caller has gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holo_core::wire::{Decode, FailureBody, FrameHeader, HEADER_BYTES, Kind};
use holo_core::{ErrorCode, Failure, RequestId, Role};
use holo_net::{
    BoxFuture, BulkReader, BulkReply, Connection, Endpoint, Peer, Request, Response, Service,
};
use tokio::sync::{Semaphore, mpsc};

use crate::party::{PATIENCE, WHILE, expect_node, identity, options, request};

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Begun,
    Ended,
    Dropped,
}

/// Tells when a future has begun, has ended, or was dropped before its end.
struct Witness {
    events: mpsc::Sender<Event>,
    ended: bool,
}

impl Witness {
    fn begin(events: &mpsc::Sender<Event>) -> Self {
        events.try_send(Event::Begun).unwrap();
        Self { events: events.clone(), ended: false }
    }

    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        drop(self.events.try_send(if self.ended { Event::Ended } else { Event::Dropped }));
    }
}

/// Answers when it is let go: `Status` while its caller is there, everything else in any case.
#[derive(Debug)]
struct Waiter {
    events: mpsc::Sender<Event>,
    go: Arc<Semaphore>,
}

impl Service for Waiter {
    fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&self, _peer: &Arc<Peer>, header: &FrameHeader, body: Bytes) -> Response {
        let (events, go) = (self.events.clone(), Arc::clone(&self.go));
        let answer: BoxFuture<_> = Box::pin(async move {
            let witness = Witness::begin(&events);
            go.acquire().await.unwrap().forget();
            witness.end();
            Ok(body)
        });
        match header.kind {
            Kind::Status => Response::WhileConnected(answer),
            _ => Response::Later(answer),
        }
    }

    fn bulk(
        &self,
        _peer: Arc<Peer>,
        _header: FrameHeader,
        _body: Bytes,
        _incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        Box::pin(async { Ok(BulkReply::default()) })
    }
}

struct Scene {
    node: Endpoint,
    client: Endpoint,
    connection: Connection,
    events: mpsc::Receiver<Event>,
    go: Arc<Semaphore>,
}

impl Scene {
    async fn new() -> Self {
        let (sender, events) = mpsc::channel(64);
        let go = Arc::new(Semaphore::new(0));
        let service = Arc::new(Waiter { events: sender, go: Arc::clone(&go) });
        let node = Endpoint::bind(options(identity(Role::Node)), Some(service)).unwrap();
        let client = Endpoint::bind(options(identity(Role::Client)), None).unwrap();
        let connection = client.connect(node.local_addr(), expect_node(), PATIENCE).await.unwrap();
        Self { node, client, connection, events, go }
    }

    async fn next(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn close(self) {
        self.client.close().await;
        self.node.close().await;
    }
}

#[tokio::test]
async fn an_answer_while_connected_reaches_a_caller_who_stays() {
    let mut scene = Scene::new().await;
    scene.go.add_permits(2);
    for deadline in [PATIENCE, Duration::MAX] {
        let asked = Request::new(Kind::Status, deadline, "still here");
        assert_eq!(scene.connection.call(asked).await.unwrap(), "still here");
        assert_eq!((scene.next().await, scene.next().await), (Event::Begun, Event::Ended));
    }
    scene.close().await;
}

#[tokio::test]
async fn work_while_connected_is_dropped_when_either_side_closes_the_connection() {
    for node_closes in [false, true] {
        let mut scene = Scene::new().await;
        let connection = scene.connection.clone();
        let caller = tokio::join!(connection.call(request(Kind::Status, "")), async {
            assert_eq!(scene.next().await, Event::Begun);
            let closer = if node_closes {
                scene.node.connections().remove(0)
            } else {
                scene.connection.clone()
            };
            closer.close(ErrorCode::Denied, "enough");
            // Nothing lets it go: it ends by being dropped or never.
            assert_eq!(scene.next().await, Event::Dropped);
        })
        .0;
        assert_eq!(caller.unwrap_err().code, ErrorCode::Denied);
        scene.close().await;
    }
}

#[tokio::test]
async fn work_that_must_not_stop_half_way_ends_after_its_connection() {
    let mut scene = Scene::new().await;
    let accepted = scene.node.connections().remove(0);
    let connection = scene.connection.clone();
    let (caller, ()) = tokio::join!(connection.call(request(Kind::Put, "")), async {
        assert_eq!(scene.next().await, Event::Begun);
        scene.connection.close(ErrorCode::Denied, "enough");
        accepted.closed().await;
        scene.go.add_permits(1);
        assert_eq!(scene.next().await, Event::Ended);
    });
    assert_eq!(caller.unwrap_err().code, ErrorCode::Denied);
    scene.close().await;
}

#[tokio::test]
async fn work_while_connected_is_dropped_and_answered_when_its_deadline_has_passed() {
    let mut scene = Scene::new().await;
    // By hand: a caller stops listening at its own deadline.
    let (mut send, mut recv) =
        scene.connection.danger_raw_for_testing_only().open_bi().await.unwrap();
    let mut header = FrameHeader::request(Kind::Status, RequestId(7), 0);
    // The work has to begin within it.
    header.deadline_ms = u32::try_from(WHILE.as_millis()).unwrap();
    send.write_all(&[&[1][..], &header.encode()].concat()).await.unwrap();
    send.finish().unwrap();
    let answer = recv.read_to_end(1000).await.unwrap();
    let (head, body) = answer.split_first_chunk::<HEADER_BYTES>().unwrap();
    let header = FrameHeader::decode(head).unwrap();
    assert!(header.reply && header.failure && header.request == RequestId(7));
    let failure = Failure::from(FailureBody::decode_body(body).unwrap());
    assert_eq!(failure.code, ErrorCode::DeadlineExceeded);
    assert_eq!((scene.next().await, scene.next().await), (Event::Begun, Event::Dropped));
    assert!(!scene.connection.is_closed());
    scene.close().await;
}
