//! Creating, finding and removing arrays while nodes come and go.

use holo_client::{DType, ErrorCode};
use holo_core::wire::LossReport;

use crate::harness::{Harness, PATIENCE, until};
use crate::with_memory;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_back_through_every_method() {
    // An earlier system had a write that returned success and did nothing.
    let harness = Harness::start(3).await;
    let cluster = harness.client().await;
    let array =
        cluster.array("t/a").shape([300_000]).shard_elems(10_000).create::<i64>().await.unwrap();
    let values: Vec<i64> = (0..300_000).map(|i| i * 7 - 3).collect();
    array.write(0, &values).await.unwrap();
    assert_eq!(array.read(..).await.unwrap(), values);
    array.set(123_456, -1).await.unwrap();
    assert_eq!(array.get(123_456).await.unwrap(), -1);
    assert_eq!(array.get(123_455).await.unwrap(), values[123_455]);
    // A range that begins and ends inside pages and crosses shards.
    array.write(9_990, &[5; 20_021]).await.unwrap();
    let around = array.read(9_989..30_012).await.unwrap();
    assert_eq!(around[0], values[9_989]);
    assert!(around[1..20_022].iter().all(|value| *value == 5));
    assert_eq!(around[20_022], values[30_011]);
    array.fill(9).await.unwrap();
    assert!(array.read(..).await.unwrap().iter().all(|value| *value == 9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_that_does_not_fit_is_refused_with_the_numbers_and_leaves_nothing() {
    let harness = Harness::start_with(3, &with_memory("16MiB")).await;
    let cluster = harness.client().await;
    let refused =
        cluster.array("t/big").shape([40 << 20]).create_any(DType::F64).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::OutOfCapacity);
    assert!(cluster.arrays().await.unwrap().is_empty());
    // The name and the memory are free again.
    let small = cluster.array("t/big").shape([1 << 18]).create::<f64>().await.unwrap();
    small.fill(1.0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_taken_once_and_ids_never_again() {
    let harness = Harness::start(2).await;
    let cluster = harness.client().await;
    let first = cluster.array("t/a").shape([10]).create::<u8>().await.unwrap();
    let again = cluster.array("t/a").shape([10]).create::<u8>().await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::AlreadyExists);
    cluster.remove("t/a").await.unwrap();
    assert_eq!(cluster.open::<u8>("t/a").await.unwrap_err().code(), ErrorCode::NotFound);
    let second = cluster.array("t/a").shape([10]).create::<u8>().await.unwrap();
    assert!(second.descriptor().id > first.descriptor().id);
    // The nodes that hold it hear of its end a moment after it.
    let gone = until("its elements are gone", async || first.read(..).await.err()).await;
    assert_eq!(gone.code(), ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_array_can_be_used_the_moment_it_is_made_and_from_wherever() {
    let harness = Harness::start(3).await;
    let (maker, user) = (harness.client().await, harness.client().await);
    for round in 0..40u64 {
        let name = format!("t/{round}");
        let made = maker.array(&name).shape([64]).shard_elems(1).create::<u64>().await.unwrap();
        // Its shards lie on all nodes, and not all of them vote or lead.
        made.fill(round).await.unwrap();
        let heard = async || user.open::<u64>(&name).await.ok();
        let opened = until("somebody else's node has heard of it", heard).await;
        assert_eq!(opened.read(..).await.unwrap(), vec![round; 64]);
        assert_eq!(made.fetch_add(round, 1).await.unwrap(), round);
        assert_eq!(opened.sum().await.unwrap(), 64 * round + 1);
        maker.remove(&name).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_node_is_away_arrays_are_made_on_the_others() {
    let mut harness = Harness::start(3).await;
    let cluster = harness.client().await;
    let before = cluster.array("t/before").shape([4_000]).shard_elems(50);
    let before = before.create::<i64>().await.unwrap();
    before.fill(3).await.unwrap();
    // Whether the others have noticed yet makes no difference.
    harness.kill(2);
    let array = cluster.array("t/after").shape([4_000]).shard_elems(50);
    let array = array.create::<i64>().await.unwrap();
    array.fill(4).await.unwrap();
    assert_eq!(array.sum().await.unwrap(), 16_000);
    assert_eq!(before.sum().await.unwrap(), 12_000);
    let names: Vec<_> =
        cluster.arrays().await.unwrap().iter().map(|array| array.name().to_owned()).collect();
    assert_eq!(names, ["t/after", "t/before"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_copy_dies_with_its_node_and_is_lost_and_never_zeros() {
    let mut harness = Harness::start(3).await;
    let cluster = harness.client().await;
    let array = cluster.array("t/a").shape([60_000]).shard_elems(1_000).replicas(1);
    let array = array.create::<i64>().await.unwrap();
    array.fill(7).await.unwrap();
    let on = harness.nodes[2].as_ref().unwrap().id();
    let view = cluster.refresh().await.unwrap();
    let shards: Vec<u64> = (0..60).collect();
    let died = |shard: &u64| {
        let index = holo_core::ShardIndex(*shard);
        view.primary_of(array.descriptor(), index).unwrap().1.node == on
    };
    let (dead, alive): (Vec<u64>, Vec<u64>) = shards.into_iter().partition(died);
    assert!(!dead.is_empty() && !alive.is_empty(), "{dead:?} {alive:?}");
    harness.kill(2);
    harness.restart(2).await;
    harness.nodes[2].as_ref().unwrap().ready(PATIENCE).await.unwrap();
    for shard in &dead {
        let refused = array.get(shard * 1_000 + 3).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::DataLost, "shard {shard}: {refused}");
        let refused = array.set(shard * 1_000 + 3, 1).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::DataLost, "shard {shard}: {refused}");
    }
    for shard in &alive {
        assert_eq!(array.get(shard * 1_000 + 3).await.unwrap(), 7, "shard {shard}");
    }
    assert_eq!(array.sum().await.unwrap_err().code(), ErrorCode::DataLost);
    assert!(harness.report().await.groups_lost > 0);

    // Somebody says that it may be zeros.
    let plan = cluster.plan_loss().await.unwrap();
    assert_eq!((plan.arrays.as_slice(), plan.groups_awaited), (&["t/a".to_owned()][..], 0));
    // What somebody was shown another time is not what is given up.
    let stale = LossReport { mark: vec![0; 32], ..plan.clone() };
    assert_eq!(cluster.accept_loss(&stale).await.unwrap_err().code(), ErrorCode::Conflict);
    let loss = cluster.accept_loss(&plan).await.unwrap();
    assert_eq!((loss.groups, &loss.arrays), (plan.groups, &plan.arrays));
    assert_eq!(cluster.accept_loss(&plan).await.unwrap_err().code(), ErrorCode::Conflict);
    let left = i64::try_from(alive.len()).unwrap() * 7_000;
    assert_eq!(until("the lost shards are there", async || array.sum().await.ok()).await, left);

    // Removing an array clears its loss away, too.
    harness.kill(2);
    harness.restart(2).await;
    harness.nodes[2].as_ref().unwrap().ready(PATIENCE).await.unwrap();
    cluster.remove("t/a").await.unwrap();
    let fresh = cluster.array("t/a").shape([60_000]).shard_elems(1_000).replicas(1);
    let fresh = fresh.create::<i64>().await.unwrap();
    assert_eq!(until("nothing is lost", async || fresh.sum().await.ok()).await, 0);
    assert_eq!(harness.report().await.groups_lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_starts_again_gives_no_id_that_others_remember() {
    let mut harness = Harness::start(2).await;
    let cluster = harness.client().await;
    let mut last = 0;
    for round in 0..5 {
        let name = format!("t/{round}");
        let array = cluster.array(&name).shape([10]).create::<u8>().await.unwrap();
        last = array.descriptor().id.0;
        cluster.remove(&name).await.unwrap();
    }
    for index in 0..2 {
        harness.stop(index).await;
    }
    for index in 0..2 {
        harness.restart(index).await;
    }
    harness.settle(2).await;
    let cluster = harness.client().await;
    let fresh = cluster.array("t/fresh").shape([10]).create::<u8>().await.unwrap();
    assert!(fresh.descriptor().id.0 > last, "{:?} after {last}", fresh.descriptor().id);
    fresh.fill(1).await.unwrap();
    assert_eq!(fresh.sum().await.unwrap(), 10);
}
