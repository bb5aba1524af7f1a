//! Two copies of everything: what happens to data when nodes die, return, join and leave, while others write.

use holo_client::Cluster;
use holo_core::wire::{ClusterReport, NodeOrder, NodeOrderKind, NodeReport, TicketOrder};
use holo_node::dev::DevOptions;
use holo_node::{JoinOptions, NodeSettings, TimerSettings, join};

use crate::harness::{self, Harness, PATIENCE, until};
use crate::load::Load;
use crate::with_memory;

/// Times with which nobody takes a node for dead because the machine is slow: a replica that is put out for that just
/// before another one really dies would be the only one with the data.
fn patient() -> TimerSettings {
    TimerSettings {
        lease_ms: Some(2_000),
        take_over_ms: Some(2_900),
        evict_ms: Some(2_800),
        ..TimerSettings::default()
    }
}

fn options() -> DevOptions {
    DevOptions { timers: Some(patient()), ..with_memory("64MiB") }
}

fn named<'a>(report: &'a ClusterReport, name: &str) -> Option<&'a NodeReport> {
    let is = |node: &&NodeReport| node.member.as_ref().is_some_and(|member| member.name == name);
    report.nodes.iter().find(is)
}

/// Waits until all groups have all their copies, and nodes hold what they shall.
async fn whole(cluster: &Cluster) -> ClusterReport {
    until("all groups have all their copies where they shall be", async || {
        let report = cluster.report().await.ok()?;
        assert_eq!(report.groups_lost, 0, "{report:?}");
        let settled =
            |node: &NodeReport| node.learners == 0 && node.primaries + node.backups == node.targets;
        let whole = report.groups > 0 && report.groups_degraded == 0 && report.repairs == 0;
        (whole && report.nodes.iter().all(settled)).then_some(report)
    })
    .await
}

/// One of three nodes ends while others write: killed, or in order.
async fn one_of_three_ends(index: usize, killed: bool) {
    let mut harness = Harness::start_with(3, &options()).await;
    let cluster = harness.client().await;
    let mut load = Load::begin(&cluster, "t/a").await;
    load.once_around().await;
    whole(&cluster).await;
    if killed {
        harness.kill(index);
    } else {
        harness.stop(index).await;
    }
    load.once_around().await;
    let ledger = load.end().await;
    let array = harness.client().await.open::<i64>("t/a").await.unwrap();
    ledger.check(&array).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_node_that_is_killed_and_every_addition_counts_once() {
    one_of_three_ends(2, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_node_that_is_stopped() {
    // The first one leads the catalog, too, as a rule.
    one_of_three_ends(0, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_again_gets_its_copies_back_and_can_stand_in_for_another() {
    let mut harness = Harness::start_with(3, &options()).await;
    let cluster = harness.client().await;
    let mut load = Load::begin(&cluster, "t/a").await;
    load.once_around().await;
    whole(&cluster).await;
    harness.kill(1);
    load.once_around().await;
    harness.restart(1).await;
    let life = harness.nodes[1].as_ref().unwrap().ready(PATIENCE).await.unwrap();
    assert_eq!(life.incarnation.0, 2);
    let report = whole(&cluster).await;
    let again = named(&report, "n2").unwrap();
    assert!(again.primaries + again.backups > 0, "{again:?}");
    load.once_around().await;
    // What the returned one holds is worth something: it is the only copy of some of it now.
    whole(&cluster).await;
    harness.kill(2);
    load.once_around().await;
    let ledger = load.end().await;
    let array = harness.client().await.open::<i64>("t/a").await.unwrap();
    ledger.check(&array).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_while_others_write_takes_groups_over() {
    let harness = Harness::start_with(2, &options()).await;
    let cluster = harness.client().await;
    let mut load = Load::begin(&cluster, "t/a").await;
    load.once_around().await;
    let ticket = cluster.create_ticket(TicketOrder::default()).await.unwrap().text;
    let home = harness.dir.path().join("late");
    let node = NodeSettings {
        name: Some("late".to_owned()),
        listen: Some("127.0.0.1:0".to_owned()),
        memory: Some("64MiB".to_owned()),
        workers: Some(2),
        profile: Some("same-host".to_owned()),
        timers: Some(patient()),
        ..NodeSettings::default()
    };
    join(&home, &ticket, &JoinOptions { node, deadline: PATIENCE }).await.unwrap();
    let late = harness::start(&home).await.unwrap();
    late.ready(PATIENCE).await.unwrap();
    let holds = until("the new node leads groups and backs others up", async || {
        let report = whole(&cluster).await;
        let node = named(&report, "late")?;
        (node.primaries > 0 && node.backups > 0).then(|| node.primaries + node.backups)
    })
    .await;
    assert!(holds >= 100, "a third of 512 copies is 171, not {holds}");
    load.once_around().await;
    let ledger = load.end().await;
    let array = harness.client().await.open::<i64>("t/a").await.unwrap();
    ledger.check(&array).await;
    let view = cluster.refresh().await.unwrap();
    let index = view.index_of(late.id()).unwrap();
    assert!(view.shards_of(array.descriptor(), index).count() > 0, "it has shards of the array");
    late.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_drained_while_others_write_can_be_stopped_and_nobody_misses_it() {
    let mut harness = Harness::start_with(3, &options()).await;
    let cluster = harness.client().await;
    let mut load = Load::begin(&cluster, "t/a").await;
    load.once_around().await;
    let third = harness.nodes[2].as_ref().unwrap().id();
    let kind = NodeOrderKind::Drain.into();
    let order = NodeOrder { node: "n3".to_owned(), kind, ..NodeOrder::default() };
    cluster.change_node(order).await.unwrap();
    until("the drain is complete", async || {
        (cluster.watch_drain("n3").await.ok()?.state == "drained").then_some(())
    })
    .await;
    load.once_around().await;
    // In order, which a node that holds anything refuses.
    until("it knows that it holds nothing", async || cluster.shutdown(third, false).await.ok())
        .await;
    let why = harness.nodes[2].as_ref().unwrap().stopped();
    assert!(tokio::time::timeout(PATIENCE, why).await.unwrap().is_none());
    harness.stop(2).await;
    load.once_around().await;
    let ledger = load.end().await;
    let others: Vec<_> = harness.prepared.addresses[..2].iter().map(ToString::to_string).collect();
    let array = harness.client_at(&others).await.open::<i64>("t/a").await.unwrap();
    ledger.check(&array).await;
    let report = harness.report().await;
    assert_eq!((report.groups_degraded, report.groups_lost), (0, 0), "{report:?}");
}

#[tokio::test]
async fn a_report_names_data_whose_holders_are_silent_and_counts_none_of_removed_arrays() {
    let mut harness = Harness::start_with(3, &options()).await;
    let cluster = harness.client().await;
    let array = cluster.array("t/a").shape([60_000]).shard_elems(1_000).replicas(1);
    array.create::<i64>().await.unwrap();
    let report = whole(&cluster).await;
    assert_eq!(report.groups_silent, 0, "{report:?}");
    harness.kill(2);
    let silent = |report: ClusterReport| (report.groups_silent > 0).then_some(report);
    let report =
        until("its groups are missed", async || silent(cluster.report().await.ok()?)).await;
    assert_eq!((report.groups_single, report.groups_lost), (0, 0), "{report:?}");
    assert_eq!(report.groups_degraded, report.groups_silent);
    cluster.remove("t/a").await.unwrap();
    let report = cluster.report().await.unwrap();
    assert_eq!((report.groups, report.groups_degraded, report.arrays), (0, 0, 0), "{report:?}");
}
