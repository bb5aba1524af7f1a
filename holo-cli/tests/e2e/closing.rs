//! The whole cluster stops and starts again.

use std::fs;
use std::path::Path;
use std::time::Duration;

use holo_client::{Cluster, SharedArray};
use holo_core::ErrorCode;
use holo_core::wire::ClusterReport;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::lab::{Lab, is_whole, until_report, up};

const WIDE: u64 = 60_000;
const DENSE: u64 = 3 << 20;
const SPARSE: u64 = 5_000_000;
/// The few elements of the sparse array that somebody wrote.
const WRITTEN: [u64; 5] = [0, 524_287, 524_288, 2_000_001, SPARSE - 1];
/// Elements of the array with one copy, and of each of its shards.
const LONE: u64 = 12_000;
const LONE_LEN: usize = 12_000;
const LONE_SHARD: u64 = 300;
const LONE_SHARDS: usize = 40;
/// How long a read that cannot succeed is tried.
const BRIEFLY: Duration = Duration::from_secs(3);

/// Arrays that differ in type, size and fullness, with so many copies.
async fn fill(cluster: &Cluster, copies: u32) {
    let wide = cluster.array("wide").shape([WIDE]).shard_elems(1000).replicas(copies);
    let wide = wide.create::<f64>().await.unwrap();
    wide.write(0, &wide_values(0)).await.unwrap();
    let dense = cluster.array("dense").shape([DENSE]).replicas(copies);
    let dense = dense.create::<u8>().await.unwrap();
    dense.write(0, &dense_values()).await.unwrap();
    let sparse = cluster.array("sparse").shape([SPARSE]).replicas(copies);
    let sparse = sparse.create::<i32>().await.unwrap();
    for (index, value) in WRITTEN.into_iter().zip(-7..) {
        sparse.set(index, value).await.unwrap();
    }
    let empty = cluster.array("empty").shape([1000]).replicas(copies);
    empty.create::<u16>().await.unwrap();
    // A group that was made before all nodes were there gets its second copy a moment later.
    until_report(cluster, "every copy is there", is_whole).await;
}

fn wide_values(turn: u32) -> Vec<f64> {
    (0..WIDE).map(|index| index as f64 * 0.5 + f64::from(turn)).collect()
}

fn dense_values() -> Vec<u8> {
    (0..DENSE).map(|index| (index % 251) as u8).collect()
}

async fn wide(cluster: &Cluster) -> SharedArray<f64> {
    cluster.open::<f64>("wide").await.unwrap()
}

/// Every byte is what it was.
async fn check(cluster: &Cluster, turn: u32) {
    assert!(wide(cluster).await.read(..).await.unwrap() == wide_values(turn), "wide, {turn}");
    let dense = cluster.open::<u8>("dense").await.unwrap();
    assert!(dense.read(..).await.unwrap() == dense_values(), "dense");
    let sparse = cluster.open::<i32>("sparse").await.unwrap();
    let mut expected = vec![0; usize::try_from(SPARSE).unwrap()];
    for (index, value) in WRITTEN.into_iter().zip(-7..) {
        expected[usize::try_from(index).unwrap()] = value;
    }
    assert!(sparse.read(..).await.unwrap() == expected, "sparse");
    let empty = cluster.open::<u16>("empty").await.unwrap();
    assert!(empty.read(..).await.unwrap() == vec![0; 1000], "empty");
}

/// Stops the whole cluster as operators do, and sees that every process ends.
async fn shut_down(lab: &mut Lab, nodes: &[usize]) {
    close(lab).await;
    nodes.iter().for_each(|node| lab.await_end(*node));
}

/// Stops the whole cluster as operators do.
async fn close(lab: &Lab) {
    let said = lab.holo(&["shutdown", "--cluster", "--yes"]).await;
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{words}");
    assert!(words.contains("are on disk"), "{words}");
}

/// Waits until nothing of the stop is left but what the nodes tell of it.
async fn until_open(cluster: &Cluster) {
    until_report(cluster, "open", |report| {
        report.groups_lost == 0 && !report.notes.iter().any(|note| note.contains("shut down"))
    })
    .await;
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_shut_down_and_started_again_has_lost_nothing() {
    let mut lab = Lab::start(3);
    let cluster = lab.client().await;
    fill(&cluster, 2).await;
    let of_before = wide(&cluster).await;
    for (turn, order) in (1..).zip([[2, 0, 1], [1, 2, 0]]) {
        close(&lab).await;
        for node in 0..3 {
            assert!(!files(&lab.home(node).join("hold")).is_empty(), "node {node}");
        }
        // At once: the processes that were told to stop may still take leave of each other.
        lab.succeed(&order);
        let cluster = lab.client().await;
        check(&cluster, turn - 1).await;
        let report = until_report(&cluster, "all are back", |report| up(report) == 3).await;
        assert_eq!(report.groups_lost, 0);
        // Writes go on, and are kept like any others.
        wide(&cluster).await.write(0, &wide_values(turn)).await.unwrap();
        check(&cluster, turn).await;
        until_open(&cluster).await;
    }
    // A session of before is over: what was asked in it is never done twice. The next request begins another one.
    if let Err(failure) = of_before.set(0, 0.25).await {
        assert_eq!(failure.code(), ErrorCode::OutcomeUnknown, "{failure}");
    }
    of_before.set(0, 0.5).await.unwrap();
    assert_eq!(of_before.get(0).await.unwrap(), 0.5);
    // What was on disk is of no use any more, and goes.
    let cluster = lab.client().await;
    until_report(&cluster, "nothing is left on disk", |_| {
        (0..3).all(|node| !lab.home(node).join("hold").exists())
    })
    .await;
    lab.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_nodes_bring_back_everything_that_had_two_copies() {
    let mut lab = Lab::start(3);
    fill(&lab.client().await, 2).await;
    shut_down(&mut lab, &[0, 1, 2]).await;
    lab.start_again(&[2, 1]);
    let cluster = lab.client().await;
    check(&cluster, 0).await;
    wide(&cluster).await.write(0, &wide_values(5)).await.unwrap();
    check(&cluster, 5).await;
    until_open(&cluster).await;
    // The one that comes late has what was before the write, and brings none of it back.
    lab.start_again(&[0]);
    until_report(&cluster, "three nodes", |report| up(report) == 3).await;
    check(&cluster, 5).await;
    lab.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_while_the_cluster_stops_takes_nothing_with_it() {
    let mut lab = Lab::start(3);
    let cluster = lab.client().await;
    fill(&cluster, 2).await;
    let report = until_report(&cluster, "a leader", |report| report.leader > 0).await;
    let leader = report.nodes.iter().find_map(|node| {
        let member = node.member.as_ref()?;
        (member.number == report.leader).then(|| member.name.clone())
    });
    let victim = (0..3).find(|node| Some(Lab::name(*node)) != leader).unwrap();
    // It stands still, so that it has surely not held everything when it dies.
    let others: Vec<usize> = (0..3).filter(|node| *node != victim).collect();
    let operator = lab.client_of(&others).await;
    lab.signal(victim, Signal::STOP);
    operator.close_cluster(false).await.unwrap();
    lab.kill(victim);
    others.iter().for_each(|node| lab.await_end(*node));
    lab.start_again(&[victim, others[1], others[0]]);
    // Another one dies while everything is on its way back.
    lab.kill(others[1]);
    lab.restart(others[1]);
    let cluster = lab.client().await;
    check(&cluster, 0).await;
    wide(&cluster).await.write(0, &wide_values(1)).await.unwrap();
    check(&cluster, 1).await;
    lab.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_is_taken_back_leaves_a_cluster_that_goes_on() {
    let lab = Lab::start(3);
    let cluster = lab.client().await;
    fill(&cluster, 2).await;
    // A node that cannot write holds the others up.
    for node in 0..3 {
        fs::write(lab.home(node).join("hold"), "in the way").unwrap();
    }
    cluster.close_cluster(false).await.unwrap();
    let report = cluster.watch_close().await.unwrap();
    assert_eq!((report.stage.as_str(), report.groups_done), ("closing", 0));
    assert!(!report.waits_for.is_empty());
    until_report(&cluster, "it is told", |report| {
        report.notes.iter().any(|note| note.contains("being shut down"))
    })
    .await;
    // And why, by each of them: only its log had it.
    let report = until_report(&cluster, "the reasons are told", |report| {
        report.notes.iter().filter(|note| note.contains("cannot write down")).count() == 3
    })
    .await;
    let why = report.notes.iter().find(|note| note.contains("cannot write down")).unwrap();
    assert!(why.contains("hold") && why.contains("`holo shutdown --cluster --cancel`"), "{why}");
    let array = wide(&cluster).await.with_deadline(BRIEFLY);
    let refused = array.write(0, &wide_values(1)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ShuttingDown, "{refused}");
    let briefly = cluster.with_deadline(BRIEFLY);
    let made = briefly.array("late").shape([10]).create::<u8>().await.unwrap_err();
    assert_eq!(made.code(), ErrorCode::ShuttingDown, "{made}");
    check(&cluster, 0).await;
    let cancelled = lab.holo(&["shutdown", "--cluster", "--cancel"]).await;
    assert!(cancelled.status.success(), "{}", String::from_utf8_lossy(&cancelled.stderr));
    wide(&cluster).await.write(0, &wide_values(2)).await.unwrap();
    check(&cluster, 2).await;
    lab.verify().await;
}

/// Makes the array with one copy: of shards enough that every node has some, however they fall.
async fn make_lone(cluster: &Cluster, values: &[f64]) {
    let lone = cluster.array("wide").shape([LONE]).shard_elems(LONE_SHARD).replicas(1);
    lone.create::<f64>().await.unwrap().write(0, values).await.unwrap();
}

/// Reads every shard of the array with one copy, all at the same time: each gives what was written, or says that it is
/// not back.
async fn read_lone(cluster: &Cluster, expected: &[f64]) -> (usize, Vec<String>) {
    let array = wide(cluster).await.with_deadline(BRIEFLY);
    let mut reads = JoinSet::new();
    for start in (0..LONE).step_by(usize::try_from(LONE_SHARD).unwrap()) {
        let array = array.clone();
        reads.spawn(async move { (start, array.read(start..start + LONE_SHARD).await) });
    }
    let (mut good, mut refused) = (0, Vec::new());
    while let Some(read) = reads.join_next().await {
        match read.unwrap() {
            (start, Ok(read)) => {
                let start = usize::try_from(start).unwrap();
                assert!(read == expected[start..start + read.len()], "from {start}");
                good += 1;
            }
            (_, Err(failure)) => refused.push(failure.to_string()),
        }
    }
    (good, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_never_served_and_other_copies_stand_in_for_it() {
    let mut lab = Lab::start(3);
    let cluster = lab.client().await;
    let values = &wide_values(3)[..LONE_LEN];
    make_lone(&cluster, values).await;
    let pair = cluster.array("pair").shape([WIDE]).shard_elems(1000).replicas(2);
    pair.create::<f64>().await.unwrap().write(0, &wide_values(4)).await.unwrap();
    // Two of its neighbours hold what the first has as well, but for the array with one copy.
    shut_down(&mut lab, &[0, 1, 2]).await;
    let hold = lab.home(0).join("hold");
    let kept = lab.home(0).join("kept");
    fs::create_dir(&kept).unwrap();
    for file in files(&hold) {
        fs::copy(&file, kept.join(file.file_name().unwrap())).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    }
    lab.start_again(&[0, 1, 2]);
    let cluster = lab.client().await;
    let pair = cluster.open::<f64>("pair").await.unwrap();
    assert!(pair.read(..).await.unwrap() == wide_values(4));
    until_report(&cluster, "the damage is told", |report| {
        report.notes.iter().any(|note| note.contains("n1") && note.contains("cannot read"))
    })
    .await;
    let (good, refused) = read_lone(&cluster, values).await;
    assert!(good > 0 && !refused.is_empty(), "{good} {refused:?}");
    assert!(
        refused.iter().all(|words| words.contains("not back") && words.contains("n1")),
        "{refused:?}"
    );
    // With the files as they were, it is all there.
    lab.kill(0);
    for file in files(&kept) {
        fs::copy(&file, hold.join(file.file_name().unwrap())).unwrap();
    }
    lab.restart(0);
    let array = wide(&cluster).await;
    assert!(array.read(..).await.unwrap() == values);
    lab.verify().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_stop_left_on_disk_is_not_taken() {
    let mut lab = Lab::start(3);
    let cluster = lab.client().await;
    make_lone(&cluster, &wide_values(1)[..LONE_LEN]).await;
    shut_down(&mut lab, &[0, 1, 2]).await;
    for node in 0..3 {
        fs::rename(lab.home(node).join("hold"), lab.home(node).join("old")).unwrap();
        fs::create_dir(lab.home(node).join("hold")).unwrap();
        for file in files(&lab.home(node).join("old")) {
            let name = file.file_name().unwrap();
            fs::copy(&file, lab.home(node).join("hold").join(name)).unwrap();
        }
    }
    lab.start_again(&[0, 1, 2]);
    let cluster = lab.client().await;
    let values = &wide_values(2)[..LONE_LEN];
    wide(&cluster).await.write(0, values).await.unwrap();
    until_open(&cluster).await;
    shut_down(&mut lab, &[0, 1, 2]).await;
    for node in 0..3 {
        fs::rename(lab.home(node).join("hold"), lab.home(node).join("new")).unwrap();
        fs::rename(lab.home(node).join("old"), lab.home(node).join("hold")).unwrap();
    }
    lab.start_again(&[0, 1, 2]);
    let cluster = lab.client().await;
    until_report(&cluster, "what is there is not taken", |report| {
        report.notes.iter().any(|note| note.contains("cannot read"))
    })
    .await;
    let (good, refused) = read_lone(&cluster, values).await;
    assert_eq!((good, refused.len()), (0, LONE_SHARDS), "{refused:?}");
    for node in 0..3 {
        lab.kill(node);
        fs::remove_dir_all(lab.home(node).join("hold")).unwrap();
        fs::rename(lab.home(node).join("new"), lab.home(node).join("hold")).unwrap();
    }
    lab.start_again(&[2, 1, 0]);
    let cluster = lab.client().await;
    until_open(&cluster).await;
    let (good, refused) = read_lone(&cluster, values).await;
    assert_eq!((good, refused.len()), (LONE_SHARDS, 0), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_room_for_what_it_has_on_disk_reads_it_when_there_is_room() {
    // It counted as damage once, and was not offered again.
    const BYTES: u64 = 12 << 20;
    let mut lab = Lab::start(1);
    let cluster = lab.client().await;
    for (name, value) in [("one", 1u8), ("two", 2)] {
        let array = cluster.array(name).shape([BYTES]).replicas(1).create::<u8>().await.unwrap();
        array.fill(value).await.unwrap();
    }
    shut_down(&mut lab, &[0]).await;
    let file = lab.home(0).join("node.toml");
    let settings = fs::read_to_string(&file).unwrap();
    assert!(settings.contains("64MiB"), "{settings}");
    fs::write(&file, settings.replace("64MiB", "20MiB")).unwrap();
    lab.start_again(&[0]);
    let cluster = lab.client().await;
    let told =
        |report: &ClusterReport| report.notes.iter().any(|note| note.contains("cannot read"));
    until_report(&cluster, "it cannot read everything", told).await;
    cluster.remove("one").await.unwrap();
    let two = cluster.open::<u8>("two").await.unwrap();
    assert!(two.read(..).await.unwrap().iter().all(|value| *value == 2));
    until_report(&cluster, "everything is back", |report| !told(report)).await;
    until_open(&cluster).await;
}
