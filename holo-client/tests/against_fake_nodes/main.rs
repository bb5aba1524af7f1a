//! The client against a node that keeps its array in a vector and misbehaves on request.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in its parts that are no #[test]"
)]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use fake::{CLUSTER, FakeNode, Fault, PATIENCE, WHILE};
use holo_client::{
    AxisIndex, Cluster, ErrorCode, Options, PublicKey, Selection, SharedArray, Slice,
};
use holo_core::ClusterId;
use holo_core::wire::Kind;
use store::{ELEMS, SHARD_ELEMS};

#[expect(unreachable_pub, reason = "shared by this test's parts only")]
mod failing;
mod failover;
#[expect(unreachable_pub, reason = "shared by this test's parts only")]
mod fake;
#[expect(unreachable_pub, reason = "shared by this test's parts only")]
mod store;
mod updates;

async fn open(node: &FakeNode) -> SharedArray<i64> {
    let cluster = Cluster::connect(node.options(CLUSTER)).await.unwrap();
    cluster.open::<i64>("a").await.unwrap()
}

fn stored(node: &FakeNode, elems: Range<u64>) -> Vec<i64> {
    node.store.elems(elems)
}

#[tokio::test]
async fn short_and_long_ranges_are_read_as_they_are_stored() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    // None, one, inside a page, over a page, over a shard, everything.
    let border = SHARD_ELEMS;
    for range in [5..5, 7..8, 3..900, 8_000..9_000, border - 5..border + 9_000, 0..ELEMS] {
        assert_eq!(
            array.read(range.clone()).await.unwrap(),
            stored(&node, range.clone()),
            "{range:?}"
        );
    }
    assert_eq!(array.read(..).await.unwrap().len() as u64, ELEMS);
    assert_eq!(array.get(9).await.unwrap(), stored(&node, 9..10)[0]);
    assert_eq!(array.name(), "a");
}

#[tokio::test]
async fn small_ranges_ride_in_messages_and_large_ones_on_streams_of_their_own() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    array.read(0..2048).await.unwrap();
    assert_eq!((node.count(Kind::Get), node.count(Kind::ReadShard)), (1, 0), "16 KiB are small");
    array.read(0..2049).await.unwrap();
    assert_eq!((node.count(Kind::Get), node.count(Kind::ReadShard)), (1, 1));
    array.write(0, &[1; 2048]).await.unwrap();
    assert_eq!((node.count(Kind::Put), node.count(Kind::WriteShard)), (1, 0));
    array.write(0, &[1; 2049]).await.unwrap();
    assert_eq!((node.count(Kind::Put), node.count(Kind::WriteShard)), (1, 1));
    array.read(3..3).await.unwrap();
    array.write(3, &[]).await.unwrap();
    assert_eq!((node.count(Kind::Get), node.count(Kind::Put)), (1, 1), "nothing asks nobody");
}

#[tokio::test]
async fn what_is_written_is_stored_and_its_neighbours_stay() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    for (start, len) in [(3u64, 2usize), (8_191, 2_000), (SHARD_ELEMS - 3, 70_000)] {
        let end = start + len as u64;
        let before = (stored(&node, start - 1..start), stored(&node, end..end + 1));
        let values: Vec<i64> = (0..len).map(|i| i64::try_from(i).unwrap() - 17).collect();
        array.write(start, &values).await.unwrap();
        assert_eq!(stored(&node, start..end), values);
        assert_eq!((stored(&node, start - 1..start), stored(&node, end..end + 1)), before);
    }
    array.set(11, -4).await.unwrap();
    assert_eq!(stored(&node, 11..12), [-4]);
}

#[tokio::test]
async fn progress_adds_up_to_the_bytes() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    let seen = AtomicU64::new(0);
    let watch = |bytes: u64| {
        seen.fetch_add(bytes, Ordering::Relaxed);
    };
    let bytes = array.read_bytes_with(10..150_000, &watch).await.unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), bytes.len() as u64);
}

#[tokio::test]
async fn a_range_outside_the_array_asks_nobody() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    assert_eq!(array.read(0..ELEMS + 1).await.unwrap_err().code(), ErrorCode::OutOfRange);
    assert_eq!(array.read(u64::MAX..).await.unwrap_err().code(), ErrorCode::OutOfRange);
    assert_eq!(array.get(ELEMS).await.unwrap_err().code(), ErrorCode::OutOfRange);
    assert_eq!(array.write(ELEMS - 1, &[1, 2]).await.unwrap_err().code(), ErrorCode::OutOfRange);
    let half = array.write_bytes(0, &[1, 2, 3]).await.unwrap_err();
    assert_eq!(half.code(), ErrorCode::InvalidArgument);
    assert_eq!(node.count(Kind::Get) + node.count(Kind::Put), 0);
}

#[tokio::test]
async fn a_flipped_bit_is_never_handed_out() {
    let node = FakeNode::start(Fault::FlipsBits);
    let refused = open(&node).await.read(0..50_000).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Corrupt);
    assert!(refused.message().contains("array a"), "{refused}");
}

#[tokio::test]
async fn a_bit_that_flipped_once_costs_one_more_read() {
    let node = FakeNode::start(Fault::FlipsOneBit);
    let read = open(&node).await.read(0..50_000).await.unwrap();
    assert_eq!(read, stored(&node, 0..50_000));
    assert_eq!(node.count(Kind::ReadShard), 2);
}

#[tokio::test]
async fn digests_and_bytes_that_do_not_fit_the_range_are_refused() {
    for fault in [Fault::ForgetsADigest, Fault::SendsHalf] {
        let node = FakeNode::start(fault);
        let refused = open(&node).await.read(0..50_000).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Malformed, "{fault:?}");
    }
}

#[tokio::test]
async fn a_busy_node_is_asked_again() {
    let node = FakeNode::start(Fault::IsBusyOnce);
    let array = open(&node).await;
    assert_eq!(array.get(1).await.unwrap(), stored(&node, 1..2)[0]);
    assert_eq!(node.count(Kind::Get), 2);
}

#[tokio::test]
async fn a_node_that_never_answers_costs_the_deadline_and_no_more() {
    let node = FakeNode::start(Fault::Hangs);
    let options = node.options(CLUSTER).request_timeout(WHILE);
    let cluster = Cluster::connect(options).await.unwrap();
    let array = cluster.open::<i64>("a").await.unwrap();
    let waited = tokio::time::timeout(PATIENCE, array.get(1)).await.unwrap();
    let error = waited.unwrap_err();
    assert_eq!(error.code(), ErrorCode::DeadlineExceeded);
    assert!(error.is_outcome_unknown());
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable() {
    let node = FakeNode::start(Fault::None);
    // A socket that is bound and silent: nobody else can take its port meanwhile.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let dead = node.identified(CLUSTER).address(address).connect_timeout(WHILE);
    let refused = Cluster::connect(dead.clone()).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unreachable);
    assert!(refused.is_retryable());
    let second = dead.address(node.address());
    Cluster::connect(second).await.expect("one address that answers is enough");
}

#[tokio::test]
async fn a_client_of_another_cluster_is_refused() {
    let node = FakeNode::start(Fault::None);
    let refused = Cluster::connect(node.options(ClusterId([8; 32]))).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ClusterMismatch);
}

#[tokio::test]
async fn a_node_with_another_key_than_the_pinned_one_is_refused() {
    let node = FakeNode::start(Fault::None);
    let wrong = PublicKey([1; 32]);
    let refused = Cluster::connect(node.options(CLUSTER).node_key(wrong)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::IdentityMismatch);
    let two = node.options(CLUSTER).node_key(wrong).node_key(PublicKey([2; 32]));
    assert_eq!(Cluster::connect(two).await.unwrap_err().code(), ErrorCode::IdentityMismatch);
    let right = node.options(CLUSTER).node_key(wrong).node_key(node.key());
    Cluster::connect(right).await.expect("one of the keys is the node's");
}

#[tokio::test]
async fn without_address_or_identity_the_error_says_what_to_set() {
    let node = FakeNode::start(Fault::None);
    for (options, variable) in [
        (Options::new().address("127.0.0.1:1"), "HOLO_IDENTITY"),
        (node.identified(CLUSTER), "HOLO_CLUSTER"),
    ] {
        let refused = Cluster::connect(options).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::ConfigInvalid);
        assert!(refused.advice().unwrap().contains(variable), "{refused}");
    }
}

#[tokio::test]
async fn a_dtype_that_does_not_fit_is_refused() {
    let node = FakeNode::start(Fault::None);
    let cluster = Cluster::connect(node.options(CLUSTER)).await.unwrap();
    let refused = cluster.open::<f32>("a").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::DtypeMismatch);
    let bad = cluster.open::<i64>("no such/../name").await.unwrap_err();
    assert_eq!(bad.code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn every_shard_of_a_sum_must_be_there_once() {
    let node = FakeNode::start(Fault::None);
    let shards = i64::try_from(ELEMS.div_ceil(SHARD_ELEMS)).unwrap();
    assert_eq!(open(&node).await.sum().await.unwrap(), shards);
    let node = FakeNode::start(Fault::ForgetsAPartial);
    let refused = open(&node).await.sum().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
}

#[tokio::test]
async fn an_expression_that_does_not_parse_points_at_the_place_and_asks_nobody_to_run_it() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    let refused = array.expr("sum(x + yy)").run().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ExpressionInvalid);
    assert!(refused.message().contains("^^"), "{refused}");
    let nowhere = array.expr("x + 1").run().await.unwrap_err();
    assert_eq!(nowhere.code(), ErrorCode::InvalidArgument);
    let float = array.expr("x / 2").store_into("a").run().await.unwrap_err();
    assert_eq!(float.code(), ErrorCode::DtypeMismatch);
    assert_eq!(node.count(Kind::RunShards), 0);
}

#[tokio::test]
async fn a_selection_reads_and_writes_exactly_its_elements() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    let every_third = Slice { start: Some(2), stop: Some(50), step: 3 };
    let selection =
        Selection::new(&[AxisIndex::Slice(every_third)], array.layout().shape()).unwrap();
    let all = stored(&node, 0..60);
    let picked: Vec<i64> = all[2..50].iter().step_by(3).copied().collect();
    assert_eq!(array.read_selection(&selection).await.unwrap(), picked);
    let zeros = vec![0; picked.len()];
    array.write_selection(&selection, &zeros).await.unwrap();
    for (index, (was, is)) in all.iter().zip(stored(&node, 0..60)).enumerate() {
        let chosen = (2..50).contains(&index) && (index - 2) % 3 == 0;
        assert_eq!(is, if chosen { 0 } else { *was }, "element {index}");
    }
}

#[tokio::test]
async fn a_closed_cluster_refuses_at_once() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    array.cluster().disconnect().await;
    let refused = array.get(1).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    assert_eq!(node.count(Kind::Get), 0);
}
