//! Creating, finding and removing arrays while nodes come and go.

use holo_client::{DType, ErrorCode};

use crate::harness::Harness;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_back_through_every_method() {
    // An earlier system had a write that returned success and did nothing.
    let harness = Harness::start(3, "64MiB");
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
    let harness = Harness::start(3, "16MiB");
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
    let harness = Harness::start(2, "64MiB");
    let cluster = harness.client().await;
    let first = cluster.array("t/a").shape([10]).create::<u8>().await.unwrap();
    let again = cluster.array("t/a").shape([10]).create::<u8>().await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::AlreadyExists);
    cluster.remove("t/a").await.unwrap();
    assert_eq!(cluster.open::<u8>("t/a").await.unwrap_err().code(), ErrorCode::NotFound);
    let second = cluster.array("t/a").shape([10]).create::<u8>().await.unwrap();
    assert!(second.descriptor().id > first.descriptor().id);
    assert_eq!(first.read(..).await.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_node_is_away_nothing_is_created_and_the_error_names_it() {
    let mut harness = Harness::start(3, "64MiB");
    let cluster = harness.client().await;
    cluster.array("t/a").shape([10]).create::<u8>().await.unwrap();
    harness.stop(2).await;
    let refused = harness
        .until("the directory node notices", async || {
            cluster.array("t/b").shape([10]).create::<u8>().await.err()
        })
        .await;
    assert_eq!(refused.code(), ErrorCode::Unreachable);
    assert!(refused.to_string().contains("n3"), "{refused}");
    let names: Vec<_> =
        cluster.arrays().await.unwrap().iter().map(|array| array.name().to_owned()).collect();
    assert_eq!(names, ["t/a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_reports_its_shards_as_lost_and_never_as_zeros() {
    let mut harness = Harness::start(3, "64MiB");
    let cluster = harness.client().await;
    let array =
        cluster.array("t/a").shape([60_000]).shard_elems(1_000).create::<i64>().await.unwrap();
    array.fill(7).await.unwrap();
    for restarted in [2, 0] {
        harness.stop(restarted).await;
        harness.restart(restarted).await;
        let cluster = harness.client_at_once().await;
        let array = harness
            .until("the restarted node knows the array again", async || {
                cluster.open::<i64>("t/a").await.ok()
            })
            .await;
        let membership = cluster.membership();
        for shard in 0..array.layout().shards() {
            let index = holo_core::ShardIndex(shard);
            let (primary, _) = membership.primary_of(array.descriptor(), index);
            let elem = shard * 1_000 + 3;
            if primary == restarted {
                let refused = harness
                    .until("the node was told of the array", async || {
                        let refused = array.get(elem).await.expect_err("its only copy died");
                        (refused.code() != ErrorCode::NotFound).then_some(refused)
                    })
                    .await;
                assert_eq!(refused.code(), ErrorCode::DataLost, "shard {shard}: {refused}");
            }
        }
        let sum = array.sum().await.unwrap_err();
        assert_eq!(sum.code(), ErrorCode::DataLost);
    }
    // Removing it clears the loss away.
    let cluster = harness.client().await;
    harness.until("all links are open again", async || cluster.remove("t/a").await.ok()).await;
    let fresh = harness
        .until("all links are open again", async || {
            cluster.array("t/a").shape([60_000]).create::<i64>().await.ok()
        })
        .await;
    assert_eq!(fresh.sum().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_node_that_restarts_gives_no_id_that_others_remember() {
    let mut harness = Harness::start(2, "32MiB");
    let cluster = harness.client().await;
    for round in 0..5 {
        let name = format!("t/{round}");
        cluster.array(&name).shape([10]).create::<u8>().await.unwrap();
        cluster.remove(&name).await.unwrap();
    }
    harness.stop(0).await;
    harness.restart(0).await;
    let cluster = harness.client_at_once().await;
    let fresh = harness
        .until("the link is open again", async || {
            cluster.array("t/fresh").shape([10]).create::<u8>().await.ok()
        })
        .await;
    assert!(fresh.descriptor().id.0 > 5, "{:?}", fresh.descriptor().id);
}
