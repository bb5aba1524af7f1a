//! Connections for what may wait: driven and served on threads of their own at both ends, with a lane of their own.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holo_core::wire::{FrameHeader, Kind};
use holo_core::{ErrorCode, Failure, Role};
use holo_net::{BoxFuture, BulkReader, BulkReply, Endpoint, Peer, Response, Service};
use tokio::runtime::{Builder, Runtime};

use crate::party::{PATIENCE, expect_node, identity, options, pattern, request};

const NAME: &str = "background";

/// Answers with the name of the thread that serves, and brings bulk bytes back.
struct WhoServes;

impl Service for WhoServes {
    fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&self, _peer: &Arc<Peer>, _header: &FrameHeader, _body: Bytes) -> Response {
        Response::Now(Ok(thread_name()))
    }

    fn bulk(
        &self,
        _peer: Arc<Peer>,
        _header: FrameHeader,
        _body: Bytes,
        mut incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        Box::pin(async move {
            let mut bulk = BytesMut::zeroed(usize::try_from(incoming.remaining()).unwrap());
            incoming.read_exact(&mut bulk).await?;
            Ok(BulkReply { body: thread_name(), bulk: vec![bulk.freeze()] })
        })
    }
}

fn thread_name() -> Bytes {
    Bytes::from(std::thread::current().name().unwrap_or_default().to_owned())
}

/// Two endpoints with a thread each for background work.
struct Two {
    node: Endpoint,
    dialler: Endpoint,
    runtimes: [Runtime; 2],
}

impl Two {
    fn new(retry_above: usize) -> Self {
        let runtimes = [NAME, "dialler's"].map(|name| {
            let threads = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name(name)
                .enable_all()
                .build();
            threads.unwrap()
        });
        let with = |runtime: &Runtime| {
            let mut options = options(identity(Role::Node));
            options.background = Some(runtime.handle().clone());
            options.retry_above = retry_above;
            options
        };
        let node = Endpoint::bind(with(&runtimes[0]), Some(Arc::new(WhoServes))).unwrap();
        let dialler = Endpoint::bind(with(&runtimes[1]), None).unwrap();
        Self { node, dialler, runtimes }
    }

    async fn close(self) {
        self.dialler.close().await;
        self.node.close().await;
        for runtime in self.runtimes {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test]
async fn background_requests_are_served_by_threads_of_their_own() {
    // The second time with a Retry, after which the first packet's connection id is another one.
    for retry_above in [64, 0] {
        let two = Two::new(retry_above);
        let address = two.node.local_addr();
        let open = two.dialler.connect_in_background(address, expect_node(), PATIENCE).await;
        let background = open.unwrap();
        let open = two.dialler.connect(address, expect_node(), PATIENCE).await;
        let foreground = open.unwrap();
        assert!(background.peer().background && !foreground.peer().background);

        let call = || request(Kind::SnapshotIndex, "");
        assert_eq!(background.call(call()).await.unwrap(), NAME);
        assert_ne!(foreground.call(call()).await.unwrap(), NAME);
        let sent = pattern(3 << 20);
        let bulk = request(Kind::SnapshotPages, "");
        let (body, mut back) = background.bulk(bulk, vec![sent.clone()]).await.unwrap();
        assert_eq!(body, NAME);
        let mut bytes = vec![0; sent.len()];
        back.read_exact(&mut bytes).await.unwrap();
        assert!(bytes == sent, "bytes came back changed");
        two.close().await;
    }
}

#[tokio::test]
async fn a_background_connection_that_carries_another_lane_is_closed() {
    let two = Two::new(64);
    let address = two.node.local_addr();
    for kind in [Kind::Get, Kind::Beat, Kind::Admin] {
        let open = two.dialler.connect_in_background(address, expect_node(), PATIENCE).await;
        let connection = open.unwrap();
        let refused = connection.call(request(kind, "")).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed, "{kind:?}: {refused}");
        assert!(connection.is_closed());
    }
    let open = two.dialler.connect_in_background(address, expect_node(), PATIENCE).await;
    let bulk = open.unwrap().bulk(request(Kind::WriteShard, ""), vec![pattern(100)]).await;
    assert_eq!(bulk.unwrap_err().code, ErrorCode::Malformed);
    two.close().await;
}
