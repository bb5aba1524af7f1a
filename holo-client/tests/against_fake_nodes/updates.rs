//! Atomic updates, fills, keys and waiting for all of them.

use futures_util::FutureExt;
use futures_util::future::join_all;
use holo_client::{AxisIndex, Cluster, ErrorCode, Scalar, Selection, Slice, UpdateKind};
use holo_core::limits;
use holo_core::wire::Kind;

use super::fake::{CLUSTER, FakeNode, Fault, WHILE};
use super::open;
use super::store::ELEMS;

#[tokio::test]
async fn every_update_returns_what_was_there_before() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    array.set(5, 10).await.unwrap();
    assert_eq!(array.fetch_add(5, -3).await.unwrap(), 10);
    assert_eq!(array.fetch_min(5, 100).await.unwrap(), 7);
    assert_eq!(array.fetch_max(5, 12).await.unwrap(), 7);
    assert_eq!(array.fetch_and(5, 0b0110).await.unwrap(), 12);
    assert_eq!(array.fetch_or(5, 0b0001).await.unwrap(), 4);
    assert_eq!(array.swap(5, -1).await.unwrap(), 5);
    assert_eq!(array.compare_exchange(5, 0, 9).await.unwrap(), Err(-1));
    assert_eq!(array.compare_exchange(5, -1, 9).await.unwrap(), Ok(-1));
    assert_eq!(array.get(5).await.unwrap(), 9);
    let refused = array.fetch_add(ELEMS, 1).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::OutOfRange);
    let float = array.update(5, UpdateKind::FetchAdd, Scalar::f64(1.0), None).await.unwrap_err();
    assert_eq!(float.code(), ErrorCode::DtypeMismatch);
    let one = Scalar::i64(1);
    let expects = array.update(5, UpdateKind::Swap, one, Some(one)).await.unwrap_err();
    assert_eq!(expects.code(), ErrorCode::InvalidArgument);
    assert_eq!(node.count(Kind::Update), 8, "what cannot be asks nobody");
}

#[tokio::test]
async fn a_fill_sends_its_value_and_no_elements() {
    let node = FakeNode::start(Fault::None);
    let array = open(&node).await;
    array.fill(6).await.unwrap();
    array.fill_range(10..70_000, 7).await.unwrap();
    let every_third = Slice { start: Some(0), stop: Some(9), step: 3 };
    let third = Selection::new(&[AxisIndex::Slice(every_third)], array.layout().shape()).unwrap();
    array.fill_selection(&third, 8).await.unwrap();
    assert_eq!(node.store.elems(0..11), [8, 6, 6, 8, 6, 6, 8, 6, 6, 6, 7]);
    assert_eq!(node.store.elems(69_999..70_001), [7, 6]);
    assert!(node.store.elems(70_000..ELEMS).iter().all(|value| *value == 6));
    assert_eq!(node.count(Kind::Put) + node.count(Kind::WriteShard), 0);
    assert_eq!(node.count(Kind::Fill), 4 + 2 + 3);
    array.fill_range(4..4, 1).await.unwrap();
    assert_eq!(node.count(Kind::Fill), 9, "nothing asks nobody");
}

#[tokio::test]
async fn an_outcome_that_nobody_knows_is_told_and_its_session_left() {
    let node = FakeNode::start(Fault::Refuses(ErrorCode::OutcomeUnknown, 1));
    let array = open(&node).await;
    let refused = array.fetch_add(1, 1).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::OutcomeUnknown);
    assert!(refused.is_outcome_unknown() && !refused.is_retryable());
    assert_eq!(node.count(Kind::Update), 1, "it is never executed again");
    array.fetch_add(1, 1).await.unwrap();
    assert_eq!(node.count(Kind::OpenSession), 2);
}

#[tokio::test]
async fn a_write_that_hangs_stops_its_session_and_not_the_others() {
    let node = FakeNode::start(Fault::HoldsTheFirstWrite);
    let array = open(&node).await;
    let mut hangs = Box::pin(array.set(0, 1));
    assert!(hangs.as_mut().now_or_never().is_none());
    // The first of every session hangs; the store checks that none runs 64 ahead of it.
    let others = join_all((1..200).map(|index| array.set(index, 1)));
    let drive = async {
        node.has_heard(Kind::Put, 200).await;
        node.release();
    };
    let (others, first, ()) = tokio::join!(others, hangs, drive);
    first.unwrap();
    for other in others {
        other.unwrap();
    }
    assert_eq!(node.store.elems(0..200), [1; 200]);
    let sessions = 200u64.div_ceil(limits::SESSION_WINDOW);
    assert_eq!(node.count(Kind::OpenSession) as u64, sessions);
}

#[tokio::test]
async fn syncing_waits_for_what_was_begun_before() {
    let node = FakeNode::start(Fault::HoldsTheFirstWrite);
    let array = open(&node).await;
    let cluster = array.cluster().clone();
    cluster.sync().await.unwrap();
    let mut write = Box::pin(array.set(0, 1));
    assert!(write.as_mut().now_or_never().is_none());
    let hurried = cluster.with_deadline(WHILE);
    let (synced, ()) = tokio::join!(hurried.sync(), async {
        tokio::select! {
            biased;
            _ = &mut write => panic!("nobody answered it"),
            () = node.has_heard(Kind::Put, 1) => {}
        }
    });
    assert_eq!(synced.unwrap_err().code(), ErrorCode::DeadlineExceeded);
    node.release();
    let (synced, written) = tokio::join!(cluster.sync(), write);
    synced.unwrap();
    written.unwrap();
}

#[tokio::test]
async fn a_deadline_bounds_a_call_with_all_its_requests() {
    let node = FakeNode::start(Fault::Hangs);
    let array = open(&node).await;
    let hurried = array.with_deadline(WHILE);
    let (read, written, filled, summed) = tokio::join!(
        hurried.read(..),
        hurried.write(0, &[1; 100_000]),
        hurried.fill(1),
        hurried.sum()
    );
    for outcome in [read.map(drop), written, filled, summed.map(drop)] {
        assert_eq!(outcome.unwrap_err().code(), ErrorCode::DeadlineExceeded);
    }
    let refused = hurried.cluster().open_any("b").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound, "what is quick is not hurt");
}

#[tokio::test]
async fn reads_need_no_session() {
    let node = FakeNode::start(Fault::None);
    let cluster = Cluster::connect(node.options(CLUSTER)).await.unwrap();
    let array = cluster.open::<i64>("a").await.unwrap();
    array.read(..).await.unwrap();
    array.sum().await.unwrap();
    assert_eq!(node.count(Kind::OpenSession), 0);
    array.set(0, 0).await.unwrap();
    array.set(0, 0).await.unwrap();
    assert_eq!(node.count(Kind::OpenSession), 1);
}
