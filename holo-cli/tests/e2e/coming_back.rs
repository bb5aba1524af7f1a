//! A node stops alone and starts again.

use std::time::Duration;

use holo_client::Cluster;
use holo_core::PAGE_BYTES;
use holo_core::wire::{ClusterReport, NodeLoad, NodeReport, SettingsBody};

use crate::lab::{Lab, until_report, until_whole};

const ELEMS: u64 = 4 << 20;
/// Elements of one shard.
const SHARD_ELEMS: u64 = 1 << 16;
/// Bytes that one of three nodes has at the least.
const SHARE: u64 = 8 << 20;
/// Nobody takes the place of a node that is away so shortly.
const REPAIR_DELAY: Duration = Duration::from_secs(600);

fn values() -> Vec<u64> {
    (0..ELEMS).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}

/// What a node holds and does, as it said last.
fn load(report: &ClusterReport, node: &str) -> NodeLoad {
    let of = |it: &&NodeReport| it.member.as_ref().is_some_and(|member| member.name == node);
    report.nodes.iter().find(of).and_then(|it| it.load).unwrap_or_default()
}

async fn write_all(cluster: &Cluster) {
    let array = cluster.array("big").shape([ELEMS]).shard_elems(SHARD_ELEMS).replicas(2);
    array.create::<u64>().await.unwrap().write(0, &values()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_and_starts_again_is_brought_only_what_was_written_meanwhile() {
    let mut lab = Lab::start(3);
    let cluster = lab.client().await;
    let delay = u64::try_from(REPAIR_DELAY.as_millis()).unwrap();
    let settings = SettingsBody { repair_delay_ms: Some(delay), ..SettingsBody::default() };
    cluster.settings(settings).await.unwrap();
    write_all(&cluster).await;
    until_whole(&cluster, 3).await;
    let has_its_share = |report: &ClusterReport| load(report, "n3").frame_bytes > SHARE;
    until_report(&cluster, "the share of n3", has_its_share).await;

    lab.terminate(2);
    let kept: Vec<_> = std::fs::read_dir(lab.home(2).join("kept")).unwrap().collect();
    assert!(!kept.is_empty());
    let cluster = lab.client_of(&[0, 1]).await;
    let array = cluster.open::<u64>("big").await.unwrap();
    let mut expected = values();
    for shard in (0..ELEMS / SHARD_ELEMS).step_by(8) {
        let index = shard * SHARD_ELEMS + 77;
        array.set(index, 5).await.unwrap();
        expected[usize::try_from(index).unwrap()] = 5;
    }

    lab.restart(2);
    let whole = until_whole(&cluster, 3).await;
    // What was copied last is told with the next beat.
    let then = load(&whole, "n3").uptime_ms;
    let heard = |report: &ClusterReport| load(report, "n3").uptime_ms > then + 1000;
    let moved = load(&until_report(&cluster, "heard of since", heard).await, "n3").fetched_bytes;
    let written = ELEMS / SHARD_ELEMS / 8 * PAGE_BYTES as u64;
    assert!(moved > 0, "it was brought nothing, and elements of its shards were written");
    assert!(moved <= written, "{moved} bytes moved, {written} were written");
    assert!(moved < SHARE / 4, "{moved} bytes moved");
    // What it was not brought is right all the same: it alone is asked.
    lab.kill(0);
    assert!(array.read(..).await.unwrap() == expected);
    let left = std::fs::read_dir(lab.home(2).join("kept")).unwrap().count();
    assert_eq!(left, 0, "what came back is not kept twice");
}
