//! Orders of operators: drains, cordons, the ring, arrays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holo_client::Cluster;
use holo_core::ErrorCode;
use holo_core::wire::{NodeOrder, NodeOrderKind};
use tokio::task::JoinSet;

use crate::harness::{Harness, until};

fn order(node: &str, kind: NodeOrderKind) -> NodeOrder {
    NodeOrder { node: node.to_owned(), kind: kind.into(), ..NodeOrder::default() }
}

async fn state_of(client: &Cluster, node: &str) -> String {
    let report = client.report_node(node).await.unwrap();
    report.nodes[0].member.clone().unwrap().state
}

#[tokio::test]
async fn a_drained_node_holds_nothing_and_can_be_unplugged() {
    let mut harness = Harness::start(3).await;
    let client = harness.client().await;
    let array = client.array("a").shape([400_000]).shard_elems(4096).replicas(2);
    let array = array.create::<i64>().await.unwrap();
    let values: Vec<i64> = (0..400_000).collect();
    array.write(0, &values).await.unwrap();

    let plan = client.plan_drain("n2").await.unwrap();
    assert!(plan.refusals.is_empty() && plan.groups_left > 0, "{plan:?}");
    client.change_node(order("n2", NodeOrderKind::Drain)).await.unwrap();
    drained(&client, "n2").await;
    let report = client.report_node("n2").await.unwrap();
    let node = &report.nodes[0];
    assert_eq!((node.primaries, node.backups, node.learners), (0, 0, 0));
    assert!(!report.voters.contains(&node.member.clone().unwrap().number));
    harness.kill(1);
    assert_eq!(array.read(..).await.unwrap(), values);
}

/// Waits until a node is drained, and fails when that stands still.
async fn drained(client: &Cluster, node: &str) {
    let mut seen = None;
    loop {
        let what = format!("the drain of {node} goes on after {seen:?}");
        let change = until(&what, async || {
            let report = client.watch_drain(node).await.ok()?;
            let now = (report.state, report.groups_left, report.primaries_left);
            (Some(&now) != seen.as_ref()).then_some(now)
        });
        let now = change.await;
        assert!(now.0 == "draining" || now.0 == "drained", "{now:?}");
        if now.0 == "drained" {
            return;
        }
        seen = Some(now);
    }
}

/// Each drain takes the votes of two nodes of three and gives them back: one that did not hear that its vote was gone
/// stood still with what it knew, and the drain with it.
#[tokio::test]
async fn nodes_are_drained_by_turns_while_somebody_writes_and_no_drain_stands_still() {
    let harness = Harness::start(3).await;
    let client = harness.client().await;
    let array = client.array("a").shape([64_000]).shard_elems(1000).replicas(2);
    let array = array.create::<i64>().await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    let (writing, over) = (array.clone(), Arc::clone(&done));
    writers.spawn(async move {
        let mut round = 0;
        while !over.load(Ordering::Relaxed) {
            round += 1;
            writing.write(0, &vec![round; 64_000]).await.unwrap();
        }
        round
    });
    for node in ["n1", "n2", "n3", "n2", "n1"] {
        client.change_node(order(node, NodeOrderKind::Drain)).await.unwrap();
        drained(&client, node).await;
        client.change_node(order(node, NodeOrderKind::Undrain)).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let last = writers.join_next().await.unwrap().unwrap();
    assert_eq!(array.read(..).await.unwrap(), vec![last; 64_000]);
    until("all vote again", async || {
        let report = client.report().await.ok()?;
        (report.voters_answering.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_drained_or_put_out_is_refused_with_the_reason() {
    let harness = Harness::start(2).await;
    let client = harness.client().await;
    let array = client.array("both").shape([1000]).shard_elems(16).replicas(2).min_in_sync(2);
    array.create::<f64>().await.unwrap();
    let refused = client.change_node(order("n2", NodeOrderKind::Drain)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::DrainRefused, "{refused}");
    assert!(refused.to_string().contains("both"), "{refused}");
    let plan = client.plan_drain("n2").await.unwrap();
    assert_eq!(plan.refusals.len(), 1, "{plan:?}");
    client.remove("both").await.unwrap();

    client.array("one").shape([1000]).shard_elems(16).replicas(1).create::<f64>().await.unwrap();
    let refused = client.change_node(order("n2", NodeOrderKind::Evict)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::LastCopy, "{refused}");
    assert!(refused.to_string().contains("one"), "which arrays: {refused}");
    assert_eq!(state_of(&client, "n2").await, "active", "nothing is half-done");

    let unknown = client.plan_drain("n22").await.unwrap_err();
    assert_eq!(unknown.code(), ErrorCode::NotFound);
    assert!(unknown.to_string().contains("n2"), "{unknown}");
}

/// Its groups stay, with what it wanted in sync: the drain was refused for ever.
#[tokio::test]
async fn an_array_that_is_gone_holds_up_no_drain_and_another_of_its_kind_can_be_made() {
    let harness = Harness::start(2).await;
    let client = harness.client().await;
    let both = || client.array("both").shape([1000]).shard_elems(16).replicas(2).min_in_sync(2);
    both().create::<i64>().await.unwrap();
    let drain = || client.change_node(order("n2", NodeOrderKind::Drain));
    assert_eq!(drain().await.unwrap_err().code(), ErrorCode::DrainRefused);
    client.remove("both").await.unwrap();
    until("the node that is asked knows that the array is gone", async || drain().await.ok()).await;
    drained(&client, "n2").await;
    client.change_node(order("n2", NodeOrderKind::Undrain)).await.unwrap();
    let array = until("two nodes take copies", async || both().create::<i64>().await.ok()).await;
    let values: Vec<i64> = (0..1000).collect();
    until("two copies are in sync", async || array.write(0, &values).await.ok()).await;
    assert_eq!(array.read(..).await.unwrap(), values);
}

#[tokio::test]
async fn the_last_node_is_never_drained() {
    let harness = Harness::start(1).await;
    let client = harness.client().await;
    client.array("a").shape([10]).create::<f64>().await.unwrap();
    for kind in [NodeOrderKind::Drain, NodeOrderKind::Evict] {
        let refused = client.change_node(order("n1", kind)).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::DrainRefused, "{refused}");
        assert!(refused.failure().help.is_some());
    }
    let id = client.view().members()[0].member.node;
    let refused = client.shutdown(id, false).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::DrainRefused, "{refused}");
}

#[tokio::test]
async fn a_drain_can_be_undone_and_a_cordon_lifted() {
    let harness = Harness::start(3).await;
    let client = harness.client().await;
    client.array("a").shape([1000]).shard_elems(16).replicas(2).create::<f64>().await.unwrap();
    for (kind, state) in [
        (NodeOrderKind::Cordon, "cordoned"),
        (NodeOrderKind::Uncordon, "active"),
        (NodeOrderKind::Drain, "drain"),
        (NodeOrderKind::Undrain, "active"),
    ] {
        client.change_node(order("n3", kind)).await.unwrap();
        let now = state_of(&client, "n3").await;
        assert!(now.starts_with(state), "{kind:?}: {now}");
    }
    let refused = client.change_node(order("n3", NodeOrderKind::Unknown)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
}

#[tokio::test]
async fn a_plan_is_applied_at_the_version_that_it_was_made_from_and_at_no_other() {
    let harness = Harness::start(3).await;
    let client = harness.client().await;
    client.array("a").shape([1000]).shard_elems(16).replicas(2).create::<f64>().await.unwrap();
    let plan = client.plan_ring().await.unwrap();
    let refused = client.apply_ring(plan.version + 7).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict, "{refused}");
    client.apply_ring(client.ring().await.unwrap().version).await.unwrap();
    let ring = client.ring().await.unwrap();
    let table = ring.tables.iter().find(|table| table.replicas == 2).unwrap();
    let slots: u32 = table.shares.iter().map(|share| share.partitions).sum();
    assert_eq!(slots, 2 * ring.partitions);
    assert_eq!(table.shares.iter().map(|share| share.primaries).sum::<u32>(), ring.partitions);
}

#[tokio::test]
async fn arrays_get_two_copies_by_default_and_no_more_than_there_are_nodes_or_room() {
    let harness = Harness::start(2).await;
    let client = harness.client().await;
    let array = client.array("a").shape([1000]).create::<f64>().await.unwrap();
    assert_eq!(array.descriptor().replicas, 2);
    let refused = client.array("b").shape([10]).replicas(3).create::<f64>().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::OutOfCapacity, "{refused}");
    assert!(
        refused.to_string().contains("3 copies") && refused.failure().help.is_some(),
        "{refused}"
    );
    let refused = client.array("c").shape([1 << 30]).create::<f64>().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::OutOfCapacity, "{refused}");
    assert!(refused.to_string().contains("GiB on node"), "{refused}");
    let refused = client.array("a").shape([10]).create::<f64>().await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::AlreadyExists);
    client.remove("a").await.unwrap();
    let names: Vec<_> =
        client.arrays().await.unwrap().iter().map(|it| it.name().to_owned()).collect();
    assert!(names.is_empty(), "{names:?}");
}
