//! What is left of a cluster when its members are dead, slow or refuse to work.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use holo_client::{Cluster, ErrorCode, NodeId, PublicKey};
use holo_core::wire::Kind;

use super::fake::{CLUSTER, ELEMS, FakeNode, Fault, PATIENCE, SHARD_ELEMS, WHILE};
use super::open;

/// Where a dead node was: bound, so that nobody else takes the port, and silent.
struct Dead(UdpSocket);

impl Dead {
    const KEY: PublicKey = PublicKey([5; 32]);

    fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    fn member(&self) -> (PublicKey, String) {
        (Self::KEY, self.0.local_addr().unwrap().to_string())
    }

    /// How many connections were tried so far: each has a destination id of its own (RFC 9000, section 17.2).
    fn dialed(&self) -> usize {
        self.0.set_nonblocking(true).unwrap();
        let (mut seen, mut packet) = (BTreeSet::new(), [0u8; 2048]);
        while let Ok(len) = self.0.recv(&mut packet) {
            let id = 6..6 + usize::from(packet[5]);
            assert!(id.end <= len, "a packet with a long header");
            seen.insert(packet[id].to_vec());
        }
        seen.len()
    }
}

/// A cluster whose directory died before we came.
async fn without_directory(node: &FakeNode, dead: &Dead) -> Cluster {
    node.knows(&[dead.member(), (node.key(), node.address())]);
    let options = node.options(CLUSTER).connect_timeout(WHILE);
    Cluster::connect(options).await.unwrap()
}

#[tokio::test]
async fn with_a_dead_directory_arrays_are_still_found_but_not_made() {
    let (node, dead) = (FakeNode::start(Fault::None), Dead::new());
    let cluster = without_directory(&node, &dead).await;
    assert_eq!(cluster.open::<i64>("a").await.unwrap().len(), ELEMS);
    assert_eq!(cluster.arrays().await.unwrap().len(), 1);
    assert_eq!(dead.dialed(), 1, "once known to be silent, it is asked last");
    assert_eq!(cluster.find_any("b").await.unwrap().map(|_| ()), None);
    let refused = cluster.array("b").shape([8]).create::<i64>().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unreachable);
    let refused = cluster.remove("a").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unreachable);
    assert_eq!(node.count(Kind::Allocate) + node.count(Kind::ArrayRemove), 0);
}

#[tokio::test]
async fn when_the_directory_ends_another_member_answers_for_it() {
    let (directory, other) = (FakeNode::start(Fault::None), FakeNode::start(Fault::None));
    let members = [(directory.key(), directory.address()), (other.key(), other.address())];
    directory.knows(&members);
    other.knows(&members);
    let options = directory.options(CLUSTER).connect_timeout(WHILE);
    let cluster = Cluster::connect(options).await.unwrap();
    cluster.open_any("a").await.unwrap();
    assert_eq!((directory.count(Kind::ArrayInfo), other.count(Kind::ArrayInfo)), (1, 0));
    directory.stop().await;
    cluster.open_any("a").await.unwrap();
    assert_eq!((directory.count(Kind::ArrayInfo), other.count(Kind::ArrayInfo)), (1, 1));
}

#[tokio::test]
async fn a_handshake_ends_with_the_time_of_the_request() {
    let (node, dead) = (FakeNode::start(Fault::None), Dead::new());
    node.knows(&[(node.key(), node.address()), dead.member()]);
    let options =
        node.options(CLUSTER).connect_timeout(Duration::from_secs(600)).request_timeout(WHILE);
    let cluster = Cluster::connect(options).await.unwrap();
    let asked = cluster.shutdown(NodeId(Dead::KEY), true);
    let refused = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unreachable);
}

#[tokio::test]
async fn all_who_wait_for_a_dead_node_share_one_handshake_and_its_end() {
    let (node, dead) = (FakeNode::start(Fault::None), Dead::new());
    node.knows(&[(node.key(), node.address()), dead.member()]);
    let options = node.options(CLUSTER).connect_timeout(WHILE);
    let cluster = Cluster::connect(options).await.unwrap();
    let asked = (0..20).map(|_| cluster.shutdown(NodeId(Dead::KEY), true));
    for refused in futures_util::future::join_all(asked).await {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::Unreachable);
    }
    // Each request tries twice; one after another that had been 40 handshakes.
    let dialed = dead.dialed();
    assert!((1..=4).contains(&dialed), "{dialed} handshakes");
}

#[tokio::test]
async fn a_run_in_place_is_never_sent_twice() {
    let node = FakeNode::start(Fault::IsTooBusyToRun);
    let array = open(&node).await;
    let refused = array.expr("x + 1").store_into("a").run().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded);
    assert_eq!(node.count(Kind::RunShards), 1);
    assert_eq!(node.count(Kind::ArrayRemove), 0, "the output was there before");
    // What only reads may be sent again.
    assert_eq!(array.sum().await.unwrap_err().code(), ErrorCode::Overloaded);
    assert!(node.count(Kind::RunShards) > 2);
}

#[tokio::test]
async fn an_output_that_a_failed_run_made_is_gone_again_and_a_filled_one_stays() {
    let node = FakeNode::start(Fault::IsTooBusyToRun);
    let cluster = open(&node).await.cluster().clone();
    let double = |cluster: &Cluster| cluster.expr("y = x * 2").input("x", "a").output("y", "new");
    let refused = double(&cluster).run().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded, "the run's own error is told");
    assert_eq!((node.count(Kind::Allocate), node.count(Kind::ArrayRemove)), (1, 1));
    assert_eq!(*node.state.made.lock().unwrap(), None);

    let node = FakeNode::start(Fault::None);
    let cluster = open(&node).await.cluster().clone();
    let report = double(&cluster).run().await.unwrap();
    assert_eq!((report.shards, report.elems), (ELEMS.div_ceil(SHARD_ELEMS), ELEMS));
    assert_eq!((node.count(Kind::Allocate), node.count(Kind::ArrayRemove)), (1, 0));
    assert_eq!(node.state.made.lock().unwrap().as_deref(), Some("new"));
}
