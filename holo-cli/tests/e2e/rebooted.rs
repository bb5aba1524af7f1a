//! Machines that are told to stop, as for a reboot, when nobody has told the cluster that they will: a node that has
//! something alone, or all of them at once.

use std::fs;

use holo_client::Cluster;
use holo_core::ErrorCode;
use holo_core::wire::ClusterReport;
use rustix::process::Signal;

use crate::lab::{Lab, until_report, until_whole, up};
use crate::trial::{Trial, check_the_rest};

const ELEMS: u64 = 200_000;
const SHARD_ELEMS: u64 = 1_000;

fn values(turn: u64) -> Vec<u64> {
    (0..ELEMS).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ turn).collect()
}

/// An array of one copy, of which every node has a part.
async fn write_alone(cluster: &Cluster) {
    let array = cluster.array("alone").shape([ELEMS]).shard_elems(SHARD_ELEMS).replicas(1);
    array.create::<u64>().await.unwrap().write(0, &values(0)).await.unwrap();
}

/// Every node is told to stop before any has ended.
fn stop_all(lab: &mut Lab, nodes: &[usize]) {
    nodes.iter().for_each(|node| lab.signal(*node, Signal::TERM));
    nodes.iter().for_each(|node| lab.await_end(*node));
}

fn is_served(report: &ClusterReport) -> bool {
    report.groups_lost == 0 && report.groups_silent == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_machines_may_stop_at_once_while_clients_work_and_nothing_is_lost_or_done_twice() {
    let mut trial = Trial::start(Lab::start(3), 3, 2).await;
    for order in [[2, 0, 1], [1, 2, 0]] {
        stop_all(&mut trial.lab, &[0, 1, 2]);
        trial.lab.start_again(&order);
        trial.whole(3).await;
    }
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_machine_of_three_that_does_not_come_back_takes_nothing_along() {
    let mut trial = Trial::start(Lab::start(3), 3, 2).await;
    stop_all(&mut trial.lab, &[0, 1, 2]);
    trial.lab.start_again(&[2, 1]);
    trial.whole(2).await;
    trial.lab.restart(0);
    trial.whole(3).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_one_node_has_is_there_again_when_that_node_is() {
    let mut lab = Lab::start(3);
    let cluster = lab.client().await;
    until_report(&cluster, "three nodes", |report| up(report) == 3).await;
    write_alone(&cluster).await;
    for (turn, node) in (1..).zip([0, 2, 1]) {
        lab.terminate(node);
        lab.restart(node);
        let cluster = lab.client().await;
        until_report(&cluster, "all of it is served", is_served).await;
        let array = cluster.open::<u64>("alone").await.unwrap();
        assert!(array.read(..).await.unwrap() == values(turn - 1), "node {node}");
        // Writes go on, and the next one to stop has them.
        array.write(0, &values(turn)).await.unwrap();
    }
    // At once: the second process begins while the first one still writes.
    lab.signal(1, Signal::TERM);
    lab.succeed(&[1]);
    let cluster = lab.client().await;
    let array = cluster.open::<u64>("alone").await.unwrap();
    assert!(array.read(..).await.unwrap() == values(3));
    until_whole(&cluster, 3).await;
    until_report(&cluster, "nothing is kept twice", |_report| {
        (0..3).all(|node| fs::read_dir(lab.home(node).join("kept")).map_or(0, Iterator::count) == 0)
    })
    .await;
    lab.terminate(1);
    let away = format!("only {} has copies that count, and it does not answer", Lab::name(1));
    until_report(&lab.client().await, "who is missed is named", |report| {
        report.notes.iter().any(|note| note.contains(&away))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_has_damaged_is_lost_and_said_to_be() {
    let mut lab = Lab::start(1);
    let cluster = lab.client().await;
    write_alone(&cluster).await;
    lab.terminate(0);
    let largest = fs::read_dir(lab.home(0).join("kept")).unwrap().map(|entry| entry.unwrap());
    let largest = largest.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap().path();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    lab.restart(0);
    let cluster = lab.client().await;
    let is_settled = |report: &ClusterReport| report.groups_lost > 0 && report.groups_silent == 0;
    let report = until_report(&cluster, "all but one group is back", is_settled).await;
    assert_eq!(report.groups_lost, 1, "{report:#?}");
    let array = cluster.open::<u64>("alone").await.unwrap();
    assert_eq!(array.read(..).await.unwrap_err().code(), ErrorCode::DataLost);
    let said = lab.holo(&["status"]).await;
    assert_eq!(said.status.code(), Some(10), "{said:?}");
    // All the rest is what it was.
    let (mut lost, expected) = (0, values(0));
    for shard in 0..ELEMS / SHARD_ELEMS {
        let at = usize::try_from(shard * SHARD_ELEMS).unwrap();
        match array.get(shard * SHARD_ELEMS).await {
            Ok(value) => assert_eq!(value, expected[at], "shard {shard}"),
            Err(failure) => {
                assert_eq!(failure.code(), ErrorCode::DataLost, "{failure}");
                lost += 1;
            }
        }
    }
    assert!((1..10).contains(&lost), "{lost} shards");
}

/// A process with the only copy ended as soon as the disk refused it; and a disk that was not mounted at the next start
/// was taken for a life that had left nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_trouble_with_the_disk_at_a_stop_or_a_start_loses_what_only_one_node_has() {
    let mut lab = Lab::start(1);
    let cluster = lab.client().await;
    write_alone(&cluster).await;
    let kept = lab.home(0).join("kept");
    fs::write(&kept, b"in the way").unwrap();
    lab.signal(0, Signal::TERM);
    lab.until_said(0, "they cannot be written down").await;
    fs::remove_file(&kept).unwrap();
    lab.await_end(0);
    for name in ["kept", "catalog.key"] {
        let (here, away) = (lab.home(0).join(name), lab.home(0).join("away"));
        fs::rename(&here, &away).unwrap();
        let refused = lab.refuses_to_start(0).await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("HC1010") && said.contains("bring"), "{said}");
        assert!(!here.exists(), "nothing is made in its place");
        fs::rename(&away, &here).unwrap();
    }
    lab.restart(0);
    let cluster = lab.client().await;
    until_report(&cluster, "all of it is served", is_served).await;
    let array = cluster.open::<u64>("alone").await.unwrap();
    assert!(array.read(..).await.unwrap() == values(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_reboot_in_the_middle_of_coming_back_loses_nothing() {
    let mut trial = Trial::start(Lab::start(3), 3, 2).await;
    for _ in 0..3 {
        stop_all(&mut trial.lab, &[0, 1, 2]);
        // They are told to stop again as soon as they are members: some groups are back, others are not.
        trial.lab.start_again(&[0, 1, 2]);
    }
    trial.whole(3).await;
    check_the_rest(&trial.array).await;
    trial.end().await;
}
