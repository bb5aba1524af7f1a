//! Clusters that come into being, lose nodes and get them back.

use std::time::Duration;

use holo_client::{Cluster, Options};
use holo_core::wire::{
    ClusterReport, GetRange, Kind, NodeOrder, NodeOrderKind, NodeReport, TicketOrder,
};
use holo_core::{ErrorCode, Role};
use holo_net::{Endpoint, EndpointOptions, Expected, Identity, Request};
use holo_node::{Config, Node, NodeSettings};
use prost::Message;

use crate::harness::{Harness, PATIENCE, now, until};

fn of(report: &ClusterReport, number: u32) -> NodeReport {
    let number_of = |node: &&NodeReport| node.member.as_ref().is_some_and(|it| it.number == number);
    report.nodes.iter().find(number_of).cloned().unwrap_or_default()
}

fn is_up(report: &ClusterReport, number: u32) -> bool {
    of(report, number).member.is_some_and(|member| member.up)
}

#[tokio::test]
async fn three_nodes_found_a_cluster_join_it_with_tickets_and_all_vote() {
    let harness = Harness::start(3).await;
    let report = harness.report().await;
    assert_eq!(report.cluster_name, "dev");
    assert_eq!(report.cluster, harness.prepared.cluster_id.0);
    assert_eq!(report.voters, [1, 2, 3]);
    // The order in which the other two joined is theirs.
    let mut names: Vec<_> =
        report.nodes.iter().map(|node| node.member.clone().unwrap().name).collect();
    names.sort();
    assert_eq!(names, ["n1", "n2", "n3"]);
    // The word about the change of voters outlasts the change by a moment.
    until("nothing is to be said", async || harness.report().await.notes.is_empty().then_some(()))
        .await;
    let view = harness.client().await.refresh().await.unwrap();
    assert_eq!(view.members().len(), 3);
    for node in harness.nodes.into_iter().flatten() {
        node.shutdown().await.unwrap();
    }
}

/// It said that it waits for a majority, and not for whom.
#[tokio::test]
async fn a_node_that_comes_back_alone_says_whom_it_waits_for() {
    let mut harness = Harness::start(3).await;
    for index in 0..3 {
        harness.kill(index);
    }
    harness.restart(0).await;
    let node = harness.nodes[0].as_ref().unwrap();
    until("it says whom it waits for", async || {
        let waits = node.ready(Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(waits.code, ErrorCode::NotReady, "{waits}");
        let counted = waits.message.contains("1 of 3 voters answers (n1 of n1, n");
        (counted && waits.message.contains("; start n2, n3 too: `holo agent")).then_some(())
    })
    .await;
    harness.restart(1).await;
    harness.nodes[0].as_ref().unwrap().ready(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn two_nodes_have_one_voter_and_a_word_about_it() {
    let harness = Harness::start(2).await;
    let report = harness.report().await;
    assert_eq!((report.leader, report.voters.as_slice()), (1, &[1][..]));
    assert!(report.notes.iter().any(|note| note.contains("three nodes")), "{:?}", report.notes);
    // The one that does not vote answers questions, and sends orders to the one that does.
    let second = [harness.prepared.addresses[1].to_string()];
    let client = harness.client_at(&second).await;
    assert_eq!(client.report().await.unwrap().leader, 1);
    client.create_ticket(TicketOrder::default()).await.unwrap();
}

#[tokio::test]
async fn a_node_that_starts_again_is_a_new_replica_under_its_old_number() {
    let mut harness = Harness::start(3).await;
    let before = of(&harness.report().await, 3);
    let address = before.member.clone().unwrap().address;
    let index = harness.prepared.addresses.iter().position(|it| it.to_string() == address).unwrap();
    harness.kill(index);
    harness.restart(index).await;
    let replica = harness.nodes[index].as_ref().unwrap().ready(PATIENCE).await.unwrap();
    assert_eq!((replica.node.0, replica.incarnation.0), (3, before.incarnation + 1));
    let client = harness.client().await;
    until("the leader hears the new life", async || {
        let report = client.report().await.ok()?;
        let node = of(&report, 3);
        (node.incarnation == replica.incarnation.0 && is_up(&report, 3) && node.load.is_some())
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_death_of_the_leader_is_noticed_and_another_one_leads() {
    let mut harness = Harness::start(3).await;
    let report = harness.report().await;
    let leader = report.leader;
    let address = of(&report, leader).member.unwrap().address;
    let index = harness.prepared.addresses.iter().position(|it| it.to_string() == address).unwrap();
    harness.kill(index);
    let client = harness.client().await;
    until("another one leads and finds it down", async || {
        let report = client.report().await.ok()?;
        (report.leader != leader && !is_up(&report, leader)).then_some(())
    })
    .await;
    client.create_ticket(TicketOrder::default()).await.unwrap();
    harness.restart(index).await;
    until("it is back", async || {
        let report = client.report().await.ok()?;
        (is_up(&report, leader) && report.voters_answering.len() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_minority_changes_nothing_and_says_why() {
    let mut harness = Harness::start(3).await;
    let client = harness.client().await;
    for index in [1, 2] {
        harness.kill(index);
    }
    let refused = until("the majority is found missing", async || {
        let asked = client.with_deadline(Duration::from_secs(15));
        let refused = asked.create_ticket(TicketOrder::default()).await.err()?;
        println!("{refused}");
        // An order that a leader took before it lost its majority may still be carried out, and says so.
        (refused.code() != ErrorCode::DeadlineExceeded).then_some(refused)
    })
    .await;
    assert_eq!(refused.code(), ErrorCode::NoQuorum, "{refused}");
    assert_eq!(refused.code().exit_code(), 8);
    for index in [1, 2] {
        harness.restart(index).await;
    }
    // Healing needs nobody.
    until("orders are taken again", async || {
        client.create_ticket(TicketOrder::default()).await.ok()
    })
    .await;
}

#[tokio::test]
async fn a_whole_cluster_that_was_stopped_starts_again() {
    let mut harness = Harness::start(3).await;
    for index in 0..3 {
        harness.stop(index).await;
    }
    for index in 0..3 {
        harness.restart(index).await;
    }
    harness.settle(3).await;
    let report = harness.report().await;
    assert!(report.nodes.iter().all(|node| node.incarnation == 2), "{report:?}");
}

#[tokio::test]
async fn an_evicted_node_ends_and_its_key_never_comes_back() {
    let mut harness = Harness::start(3).await;
    let client = harness.client().await;
    let order = |kind: NodeOrderKind| NodeOrder {
        node: "n3".to_owned(),
        kind: kind.into(),
        ..NodeOrder::default()
    };
    client.change_node(order(NodeOrderKind::Evict)).await.unwrap();
    let node = harness.nodes[2].take().unwrap();
    let why = tokio::time::timeout(PATIENCE, node.stopped()).await.unwrap().unwrap();
    assert_eq!(why.code, ErrorCode::Denied, "{why}");
    assert!(why.message.contains("evicted") || why.message.contains("put out"), "{why}");
    node.shutdown().await.unwrap();
    until("the voters change", async || {
        let report = client.report().await.ok()?;
        (report.voters.len() == 1 && report.nodes.len() == 2).then_some(())
    })
    .await;
    let gone = client.change_node(order(NodeOrderKind::Cordon)).await.unwrap_err();
    assert_eq!(gone.code(), ErrorCode::NotFound);
}

/// Two processes with the directory of one node, on two machines: the later one is the node.
#[tokio::test]
async fn a_second_process_takes_a_nodes_place_and_the_first_ends_and_says_why() {
    let mut harness = Harness::start(2).await;
    // Whichever does not vote: it has no catalog of its own that could be copied half-written.
    let address = of(&harness.report().await, 2).member.unwrap().address;
    let index = harness.prepared.addresses.iter().position(|it| it.to_string() == address).unwrap();
    let original = harness.prepared.configs[index].parent().unwrap().to_owned();
    let copied = harness.dir.path().join("copied");
    std::fs::create_dir(&copied).unwrap();
    for file in std::fs::read_dir(&original).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copied.join(file.file_name())).unwrap();
    }
    let config = copied.join(harness.prepared.configs[index].file_name().unwrap());
    let elsewhere =
        NodeSettings { listen: Some("127.0.0.1:0".to_owned()), ..NodeSettings::default() };
    let second = Node::start(Config::load(&config, &elsewhere).unwrap()).await.unwrap();
    let replica = second.ready(PATIENCE).await.unwrap();
    assert_eq!((replica.node.0, replica.incarnation.0), (2, 2));
    let first = harness.nodes[index].take().unwrap();
    let why = tokio::time::timeout(PATIENCE, first.stopped()).await.unwrap().unwrap();
    assert_eq!(why.code, ErrorCode::Conflict, "{why}");
    assert!(why.message.contains("another process") && why.help.is_some(), "{why}");
    first.shutdown().await.unwrap();
    let life = of(&harness.report().await, 2).incarnation;
    assert_eq!(life, 2, "the one that ended did not come back");
}

/// A node that had started again knew of no array that was removed before, and told whoever asked to come again.
#[tokio::test]
async fn after_a_restart_a_removed_array_is_not_found() {
    let mut harness = Harness::start(1).await;
    let client = harness.client().await;
    let array = client.array("past").shape([100]).create::<u8>().await.unwrap();
    let id = array.descriptor().id.0;
    client.remove("past").await.unwrap();
    harness.kill(0);
    harness.restart(0).await;
    harness.settle(1).await;
    let hour = Duration::from_secs(3600);
    let identity = Identity::load(&harness.prepared.client_identity, hour, now()).unwrap();
    let options = EndpointOptions::new("127.0.0.1:0".parse().unwrap(), identity);
    let endpoint = Endpoint::bind(options, None).unwrap();
    let expected = Expected { key: None, role: Role::Node };
    let node = endpoint.connect(harness.prepared.addresses[0], expected, PATIENCE).await.unwrap();
    let get = GetRange { array: id, shard: 0, offset: 0, len: 8 };
    let refused = until("the data plane has begun and heard what there is", async || {
        let request = Request::new(Kind::Get, PATIENCE, get.encode_to_vec());
        let refused = node.call(request).await.unwrap_err();
        (refused.code != ErrorCode::NotReady).then_some(refused)
    })
    .await;
    assert_eq!(refused.code, ErrorCode::NotFound, "{refused}");
}

#[tokio::test]
async fn five_nodes_have_five_voters() {
    let harness = Harness::start(5).await;
    assert_eq!(harness.report().await.voters, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn somebody_whom_the_cluster_does_not_know_is_nobody() {
    let harness = Harness::start(1).await;
    let stranger = harness.dir.path().join("stranger.identity");
    let cluster = harness.prepared.cluster_id;
    let now = holo_core::UnixMillis(u64::MAX / 2);
    let identity = Identity::generate(Role::Client, cluster, Duration::from_secs(60), now);
    identity.unwrap().save(&stranger).unwrap();
    let address = harness.prepared.addresses[0].to_string();
    let options = Options::new().addresses_from([address]).identity(stranger);
    let refused = Cluster::connect(options).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unauthenticated, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_while_the_process_that_ran_it_before_still_takes_leave() {
    // Whoever started a node again at once after `holo shutdown` was told that it runs already.
    let mut harness = Harness::start(1).await;
    let before = harness.nodes[0].take().unwrap();
    let config = harness.prepared.configs[0].clone();
    // The new one looks first: the directory and the port are still the old one's.
    let (after, before) = tokio::join!(biased; crate::harness::start(&config), before.shutdown());
    before.unwrap();
    let after = after.unwrap();
    after.ready(PATIENCE).await.unwrap();
    after.shutdown().await.unwrap();
}
