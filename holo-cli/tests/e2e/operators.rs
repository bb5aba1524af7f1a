//! What operators do to a cluster that is at work.

use holo_core::PartitionId;

use crate::lab::{Lab, said, until_report, up};
use crate::trial::{Trial, check_the_rest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_comes_another_is_drained_and_unplugged_and_nothing_is_repaired() {
    let mut trial = Trial::start(Lab::start(3), 3, 2).await;
    let newcomer = trial.lab.join(&trial.cluster).await;
    trial.whole(4).await;
    let victim = trial.leader().await;
    let name = Lab::name(victim);
    let drained = trial.lab.holo(&["drain", &name]).await;
    assert!(drained.status.success(), "{}", said(&drained));
    let before = holders(&trial).await;

    // Without warning, and without a pause for anything to be copied.
    trial.lab.kill(victim);
    check_the_rest(&trial.array).await;
    let report = until_report(&trial.cluster, "three nodes up", |it| up(it) == 3).await;
    assert_eq!((report.groups_degraded, report.repairs), (0, 0), "{report:#?}");
    assert_eq!(holders(&trial).await, before, "somebody had to make up for it");

    trial.lab.restart(victim);
    let back = trial.lab.holo(&["undrain", &name]).await;
    assert!(back.status.success(), "{}", said(&back));
    trial.whole(4).await;
    trial.end(&[newcomer]).await;
}

/// Who holds what, as sets: primaries may change hands.
async fn holders(trial: &Trial) -> Vec<Vec<u16>> {
    let view = trial.cluster.refresh().await.unwrap();
    let class = trial.array.descriptor().class();
    let partitions = (0..view.partitions()).map(PartitionId);
    partitions
        .map(|partition| {
            let mut holders = view.holders(class, partition).to_vec();
            holders.sort_unstable();
            holders
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restarted_one_after_the_other_keep_everything() {
    let mut trial = Trial::start(Lab::start(3), 3, 2).await;
    for node in 0..3 {
        trial.lab.terminate(node);
        trial.lab.restart(node);
        trial.whole(3).await;
    }
    trial.end(&[0]).await;
}
