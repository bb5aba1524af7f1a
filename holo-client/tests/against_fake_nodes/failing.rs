//! What is left of a cluster when its members are dead, slow or refuse to work.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use holo_client::{Cluster, ErrorCode, NodeId, PublicKey};
use holo_core::wire::Kind;

use super::fake::{CLUSTER, FakeNode, Fault, PATIENCE, WHILE};
use super::open;
use super::store::{ELEMS, SHARD_ELEMS};

/// Where a dead node was: bound, so that nobody else takes the port, and silent.
pub struct Dead(UdpSocket);

impl Dead {
    const KEY: PublicKey = PublicKey([5; 32]);

    pub fn new() -> Self {
        Self(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    pub fn member(&self) -> (PublicKey, String) {
        (Self::KEY, self.address())
    }

    fn address(&self) -> String {
        self.0.local_addr().unwrap().to_string()
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

#[tokio::test]
async fn with_a_dead_member_arrays_are_found_made_and_removed_by_the_others() {
    let (node, dead) = (FakeNode::start(Fault::None), Dead::new());
    node.tells(1, &[dead.member(), node.member()], &[Some(1)]);
    let cluster = Cluster::connect(node.options(CLUSTER)).await.unwrap();
    assert_eq!(cluster.open::<i64>("a").await.unwrap().len(), ELEMS);
    assert_eq!(cluster.arrays().await.unwrap().len(), 1);
    assert_eq!(cluster.find_any("b").await.unwrap().map(|_| ()), None);
    cluster.array("b").shape([8]).replicas(2).create::<i64>().await.unwrap();
    cluster.remove("b").await.unwrap();
    assert_eq!(cluster.find_any("b").await.unwrap().map(|_| ()), None);
    assert_eq!((node.count(Kind::Allocate), node.count(Kind::ArrayRemove)), (1, 1));
}

#[tokio::test]
async fn when_the_member_that_answered_ends_another_one_answers_for_it() {
    let first = FakeNode::start(Fault::None);
    let second = FakeNode::beside(first.store.clone(), Fault::None);
    let members = [first.member(), second.member()];
    first.tells(1, &members, &[Some(0)]);
    second.tells(1, &members, &[Some(0)]);
    let cluster = Cluster::connect(first.options(CLUSTER).connect_timeout(WHILE)).await.unwrap();
    cluster.open_any("a").await.unwrap();
    assert_eq!((first.count(Kind::ArrayInfo), second.count(Kind::ArrayInfo)), (1, 0));
    first.stop().await;
    cluster.open_any("a").await.unwrap();
    assert_eq!((first.count(Kind::ArrayInfo), second.count(Kind::ArrayInfo)), (1, 1));
}

#[tokio::test]
async fn an_array_whose_maker_dies_before_it_answers_is_made_once() {
    let first = FakeNode::start(Fault::None);
    let second = FakeNode::beside(first.store.clone(), Fault::None);
    let members = [first.member(), second.member()];
    first.tells(1, &members, &[Some(1)]);
    second.tells(1, &members, &[Some(1)]);
    let cluster = Cluster::connect(first.options(CLUSTER)).await.unwrap();
    first.turns(Fault::DiesBeforeItAnswers);
    let made = cluster.array("b").shape([8]).create::<i64>().await.unwrap();
    assert_eq!((made.name(), second.count(Kind::Allocate)), ("b", 1));
    let again = cluster.array("b").shape([8]).create::<i64>().await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::AlreadyExists, "another call is about another array");
}

#[tokio::test]
async fn one_address_that_is_dead_does_not_hold_up_the_next() {
    let (node, dead) = (FakeNode::start(Fault::None), Dead::new());
    let options = node.identified(CLUSTER).address(dead.member().1).address(node.address());
    // Whoever waited for the first address would wait for longer than this test may take.
    let connected = tokio::time::timeout(PATIENCE / 2, Cluster::connect(options)).await;
    connected.unwrap().unwrap();
}

#[tokio::test]
async fn a_node_that_has_just_started_is_asked_again_who_its_members_are() {
    let node = FakeNode::start(Fault::HasJustStarted);
    Cluster::connect(node.options(CLUSTER)).await.unwrap();
    assert_eq!((node.count(Kind::Hello), node.count(Kind::View)), (1, 2));
}

#[tokio::test]
async fn a_handshake_ends_with_the_time_of_the_request() {
    let (node, dead) = (FakeNode::start(Fault::None), Dead::new());
    node.tells(1, &[node.member(), dead.member()], &[Some(0)]);
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
    node.tells(1, &[node.member(), dead.member()], &[Some(0)]);
    let cluster = Cluster::connect(node.options(CLUSTER).connect_timeout(WHILE)).await.unwrap();
    let asked = (0..20).map(|_| cluster.shutdown(NodeId(Dead::KEY), true));
    for refused in futures_util::future::join_all(asked).await {
        assert_eq!(refused.unwrap_err().code(), ErrorCode::Unreachable);
    }
    // One after another that had been 20 handshakes.
    let dialed = dead.dialed();
    assert!((1..=2).contains(&dialed), "{dialed} handshakes");
}

/// Longer than any test may take.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_run_ends_with_the_time_of_the_call_and_names_all_who_did_not_answer() {
    // `holo --timeout 6s run` took 40 s, the time of the task and ten seconds, and named one address.
    let node = FakeNode::start(Fault::None);
    let (dead, gone) = (Dead::new(), Dead::new());
    let members = [node.member(), dead.member(), (PublicKey([6; 32]), gone.address())];
    node.tells(1, &members, &[Some(0), Some(1), Some(2)]);
    let options = node.options(CLUSTER).connect_timeout(FOR_EVER).request_timeout(FOR_EVER);
    let cluster = Cluster::connect(options).await.unwrap().with_deadline(WHILE);
    let sum = cluster.expr("sum(x)").input("x", "a").time_limit(FOR_EVER);
    let in_place = cluster.expr("y = x + 1").input("x", "a").output("y", "a").time_limit(FOR_EVER);
    let anew = cluster.expr("y = x * 2").input("x", "a").output("y", "new").time_limit(FOR_EVER);
    for run in [sum, in_place, anew] {
        let ended = tokio::time::timeout(PATIENCE, run.run()).await.expect("it has an end");
        let refused = ended.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Unreachable, "{refused}");
        assert!(refused.message().contains("nodes fake-2, fake-3 did not answer"), "{refused}");
        assert!(refused.advice().unwrap().contains("holo status"), "{refused}");
    }
    assert_eq!((node.count(Kind::Allocate), node.count(Kind::ArrayRemove)), (1, 1));
}

#[tokio::test]
async fn a_member_that_the_others_miss_is_not_waited_for() {
    let (node, dead) = (FakeNode::start(Fault::None), Dead::new());
    node.tells(1, &[node.member(), dead.member()], &[Some(0)]);
    let options = node.options(CLUSTER).connect_timeout(FOR_EVER).request_timeout(FOR_EVER);
    let cluster = Cluster::connect(options).await.unwrap();
    // They find out only now: our view says that it is up.
    node.misses(1);
    let status = tokio::time::timeout(PATIENCE, cluster.status()).await.expect("nobody waits");
    let said = status[1].outcome.as_ref().unwrap_err();
    assert_eq!(said.code(), ErrorCode::Unreachable);
    assert!(said.message().contains(&dead.address()), "{said}");
    // And now it is known.
    assert!(!cluster.view().members()[1].up);
    let again = tokio::time::timeout(PATIENCE, cluster.status()).await.expect("nobody waits");
    assert_eq!(again[1].outcome.as_ref().unwrap_err().code(), ErrorCode::Unreachable);
}

#[tokio::test]
async fn when_nobody_answers_all_addresses_that_were_tried_are_named() {
    let (node, dead, gone) = (FakeNode::start(Fault::None), Dead::new(), Dead::new());
    let options = node.identified(CLUSTER).connect_timeout(WHILE);
    let options = options.address(dead.address()).address(gone.address());
    let refused = Cluster::connect(options).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unreachable);
    let advice = refused.advice().unwrap();
    assert!(advice.contains(&dead.address()) && advice.contains(&gone.address()), "{refused}");
}

#[tokio::test]
async fn a_run_in_place_is_never_sent_twice() {
    let node = FakeNode::start(Fault::IsTooBusyToRun);
    let array = open(&node).await;
    let refused = array.expr("x + 1").store_into("a").run().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded);
    assert_eq!(node.count(Kind::RunShards), 1);
    assert_eq!(node.count(Kind::ArrayRemove), 0, "the output was there before");
    // What only reads may be sent again, as long as there is time.
    let refused = array.with_deadline(WHILE).sum().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded);
    assert!(node.count(Kind::RunShards) > 2);
}

#[tokio::test]
async fn an_output_that_a_failed_run_made_is_gone_again_and_a_filled_one_stays() {
    let node = FakeNode::start(Fault::IsTooBusyToRun);
    let cluster = open(&node).await.cluster().with_deadline(WHILE);
    let double = |cluster: &Cluster| cluster.expr("y = x * 2").input("x", "a").output("y", "new");
    let refused = double(&cluster).run().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Overloaded, "the run's own error is told");
    assert_eq!((node.count(Kind::Allocate), node.count(Kind::ArrayRemove)), (1, 1));
    assert_eq!(*node.store.made.lock().unwrap(), None);

    let node = FakeNode::start(Fault::None);
    let cluster = open(&node).await.cluster().clone();
    let report = double(&cluster).run().await.unwrap();
    assert_eq!((report.shards, report.elems), (ELEMS.div_ceil(SHARD_ELEMS), ELEMS));
    assert_eq!((node.count(Kind::Allocate), node.count(Kind::ArrayRemove)), (1, 0));
    let made = node.store.made.lock().unwrap().clone();
    assert!(matches!(made, Some((name, token)) if name == "new" && token != 0));
}
