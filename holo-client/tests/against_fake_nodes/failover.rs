//! A primary dies, or is replaced, while requests are on their way to it.

use std::sync::Arc;

use futures_util::future::{join, join_all};
use holo_client::{Cluster, ErrorCode, SharedArray};
use holo_core::wire::Kind;

use super::failing::Dead;
use super::fake::{CLUSTER, FakeNode, Fault, PATIENCE, WHILE};
use super::store::{ELEMS, SHARD_ELEMS, Store};

/// Two replicas of everything; the first is the primary.
struct Pair {
    first: FakeNode,
    second: FakeNode,
}

impl Pair {
    fn start(fault: Fault) -> Self {
        let store = Arc::new(Store::new());
        let first = FakeNode::beside(Arc::clone(&store), fault);
        let pair = Self { first, second: FakeNode::beside(store, Fault::None) };
        pair.first.tells(1, &pair.members(), &[Some(0)]);
        pair.second.tells(1, &pair.members(), &[Some(0)]);
        pair
    }

    fn members(&self) -> [(holo_client::PublicKey, String); 2] {
        [self.first.member(), self.second.member()]
    }

    /// The second one takes over, and only it knows.
    fn takes_over(&self) {
        self.second.tells(2, &self.members(), &[Some(1)]);
    }

    async fn open(&self) -> SharedArray<i64> {
        let cluster = Cluster::connect(self.first.options(CLUSTER)).await.unwrap();
        cluster.open::<i64>("a").await.unwrap()
    }

    /// Does `work`, and lets the second one take over when the first has heard of it.
    async fn fails_over_during<T>(&self, kind: Kind, work: impl Future<Output = T>) -> T {
        let takeover = async {
            self.first.has_heard(kind, 1).await;
            self.takes_over();
        };
        // A request has a minute: who waited for the first one's answer would not be done in half of it.
        tokio::time::timeout(PATIENCE / 2, join(work, takeover)).await.unwrap().0
    }
}

#[tokio::test]
async fn an_update_whose_primary_dies_before_it_answers_happens_once() {
    let pair = Pair::start(Fault::DiesBeforeItAnswers);
    let array = pair.open().await;
    let before = pair.first.store.elems(7..8)[0];
    let previous = pair.fails_over_during(Kind::Update, array.fetch_add(7, 5)).await.unwrap();
    assert_eq!(previous, before);
    assert_eq!(pair.first.store.elems(7..8), [before.wrapping_add(5)]);
    let keys = pair.first.store.keys();
    assert_eq!((keys.len(), keys[0]), (2, keys[1]), "both attempts have the same key");
    assert_eq!(pair.first.store.executed(), 1);
    assert_eq!(pair.second.count(Kind::Update), 1);
}

#[tokio::test]
async fn small_and_bulk_writes_are_sent_to_the_new_primary_under_the_same_key() {
    for len in [3usize, 30_000] {
        let pair = Pair::start(Fault::DiesBeforeItAnswers);
        let array = pair.open().await;
        let values: Vec<i64> = (0..len).map(|i| i64::try_from(i).unwrap()).collect();
        let kind = if len == 3 { Kind::Put } else { Kind::WriteShard };
        pair.fails_over_during(kind, array.write(10, &values)).await.unwrap();
        assert_eq!(pair.first.store.elems(10..10 + len as u64), values);
        let keys = pair.first.store.keys();
        assert_eq!((keys.len(), keys[0]), (2, keys[1]), "{len} elements");
        assert_eq!(pair.first.store.executed(), 1, "{len} elements");
    }
}

#[tokio::test]
async fn reads_of_a_silent_primary_are_answered_by_the_next_one() {
    for (len, kind) in [(3, Kind::Get), (30_000, Kind::ReadShard)] {
        let pair = Pair::start(Fault::Hangs);
        let array = pair.open().await;
        let read = pair.fails_over_during(kind, array.read(5..5 + len)).await.unwrap();
        assert_eq!(read, pair.first.store.elems(5..5 + len));
        assert_eq!((pair.first.count(kind), pair.second.count(kind)), (1, 1));
    }
}

#[tokio::test]
async fn a_primary_that_nobody_can_reach_is_left_when_another_takes_over() {
    let (node, dead) = (FakeNode::start(Fault::None), Dead::new());
    let members = [dead.member(), node.member()];
    node.tells(1, &members, &[Some(0)]);
    // A handshake may take a minute: nobody waits for its end.
    let cluster = Cluster::connect(node.options(CLUSTER)).await.unwrap();
    let array = cluster.open::<i64>("a").await.unwrap();
    let asked_before = node.count(Kind::View);
    let takeover = async {
        node.has_heard(Kind::View, asked_before + 1).await;
        node.tells(2, &members, &[Some(1)]);
    };
    let work = join(array.set(3, 4), takeover);
    tokio::time::timeout(PATIENCE / 2, work).await.unwrap().0.unwrap();
    assert_eq!(node.store.elems(3..4), [4]);
}

#[tokio::test]
async fn a_slow_primary_that_still_is_one_is_asked_once() {
    let pair = Pair::start(Fault::HoldsTheFirstWrite);
    let array = pair.open().await;
    let release = async {
        // The silent one is asked last: it is the other one that says, again and again, that nothing has changed.
        pair.second.has_heard(Kind::View, 3).await;
        pair.first.release();
    };
    join(array.set(3, 4), release).await.0.unwrap();
    assert_eq!((pair.first.count(Kind::Put), pair.second.count(Kind::Put)), (1, 0));
}

#[tokio::test]
async fn a_refusal_that_passes_is_absorbed_and_one_that_stays_is_told() {
    let codes = [ErrorCode::NoQuorum, ErrorCode::NotReady, ErrorCode::WrongNode];
    join_all(codes.map(|code| async move {
        let node = FakeNode::start(Fault::Refuses(code, 3));
        let array = super::open(&node).await;
        array.set(1, 2).await.unwrap();
        assert_eq!((node.count(Kind::Put), node.store.executed()), (4, 1), "{code}");
        node.turns(Fault::Refuses(code, usize::MAX));
        let hurried = array.with_deadline(WHILE);
        let (written, read) = join(hurried.set(1, 3), hurried.get(1)).await;
        let (written, read) = (written.unwrap_err(), read.unwrap_err());
        assert_eq!(read.code(), code);
        // The last attempt may be on its way when the time is over: then nobody knows.
        assert!(written.code() == code || written.is_outcome_unknown(), "{written}");
        for refused in [written, read] {
            assert!(refused.message().contains("not now"), "{refused}");
            assert!(refused.message().contains("tried"), "{refused}");
        }
        assert_eq!(node.store.elems(1..2), [2]);
    }))
    .await;
}

#[tokio::test]
async fn all_who_are_refused_at_once_ask_for_the_view_together() {
    let node = FakeNode::start(Fault::Refuses(ErrorCode::WrongNode, 100));
    let array = super::open(&node).await;
    let asked = node.count(Kind::View);
    for read in join_all((0..100).map(|index| array.get(index))).await {
        read.unwrap();
    }
    let asked = node.count(Kind::View) - asked;
    assert!((1..50).contains(&asked), "{asked} questions of 100 requests");
}

#[tokio::test]
async fn lost_data_is_an_error_at_once() {
    let node = FakeNode::start(Fault::None);
    node.tells(2, &[node.member()], &[None]);
    let array = super::open(&node).await;
    assert_eq!(array.get(1).await.unwrap_err().code(), ErrorCode::DataLost);
    assert_eq!(array.set(1, 1).await.unwrap_err().code(), ErrorCode::DataLost);
    assert_eq!(array.sum().await.unwrap_err().code(), ErrorCode::DataLost);
    assert_eq!(node.count(Kind::Get) + node.count(Kind::Put) + node.count(Kind::RunShards), 0);
}

#[tokio::test]
async fn a_run_whose_node_dies_goes_on_where_its_shards_are_now() {
    let pair = Pair::start(Fault::Hangs);
    // Every second partition at each of the two.
    for node in [&pair.first, &pair.second] {
        node.tells(1, &pair.members(), &[Some(0), Some(1)]);
    }
    let array = pair.open().await;
    let sum = pair.fails_over_during(Kind::RunShards, array.sum()).await.unwrap();
    let shards = ELEMS.div_ceil(SHARD_ELEMS);
    assert_eq!(sum, i64::try_from(shards).unwrap());
    let count = |runs: &[u64]| runs.chunks(2).map(|pair| pair[1]).sum::<u64>();
    let (first, second) = (pair.first.runs(), pair.second.runs());
    assert!(first.is_empty(), "it hangs before it notes anything");
    assert_eq!(second.iter().map(|runs| count(runs)).sum::<u64>(), shards, "each of them once");
}

#[tokio::test]
async fn a_run_in_place_whose_node_dies_says_that_nobody_knows() {
    let pair = Pair::start(Fault::Hangs);
    let array = pair.open().await;
    let run = async { array.expr("x + 1").store_into("a").run().await };
    let failed = pair.fails_over_during(Kind::RunShards, run).await.unwrap_err();
    assert!(failed.is_outcome_unknown(), "{failed}");
    assert_eq!((pair.first.count(Kind::RunShards), pair.second.count(Kind::RunShards)), (1, 0));
}
