//! What operators do to a cluster that is at work.

use std::process::Output;

use holo_core::{ErrorCode, PartitionId};

use crate::lab::{Lab, is_whole, said, until_report, up};
use crate::trial::{Trial, check_the_rest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_comes_another_is_drained_and_unplugged_and_nothing_is_repaired() {
    let mut trial = Trial::start(Lab::start(3), 3, 2).await;
    trial.lab.join(&trial.cluster).await;
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
    trial.end().await;
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
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_data_is_given_up_by_name_and_what_may_come_back_is_not() {
    let mut lab = Lab::start(3);
    let cluster = lab.client().await;
    until_report(&cluster, "three nodes", |report| up(report) == 3).await;
    for (name, copies) in [("lone", 1), ("pair", 2)] {
        let array = cluster.array(name).shape([6_000]).shard_elems(100).replicas(copies);
        array.create::<u64>().await.unwrap().fill(7).await.unwrap();
    }
    until_report(&cluster, "every copy is there", is_whole).await;
    lab.kill(2);
    until_report(&cluster, "it is missed", |report| up(report) == 2).await;
    // It may come back.
    let plan = json(&lab.holo(&["ring", "accept-loss", "--plan", "-o", "json"]).await);
    assert_eq!((&plan["groups"], &plan["waits_for"]), (&0.into(), &serde_json::json!(["n3"])));
    let refused = lab.holo(&["ring", "accept-loss", "--yes"]).await;
    assert_eq!(refused.status.code(), Some(6), "{}", said(&refused));
    let words = said(&refused);
    assert!(
        words.contains("nothing is lost") && words.contains("may come back with n3"),
        "{words}"
    );
    // It does, without what it had in memory.
    lab.restart(2);
    let lost = until_report(&cluster, "its data is lost", |report| report.groups_lost > 0).await;
    let plan = json(&lab.holo(&["ring", "accept-loss", "--plan", "-o", "json"]).await);
    assert_eq!(plan["groups"], lost.groups_lost, "{plan}");
    assert_eq!(
        (&plan["arrays"], &plan["groups_awaited"]),
        (&serde_json::json!(["lone"]), &0.into())
    );
    // It said LOST, ended with 0 and left everybody alone with that.
    let status = lab.holo(&["status"]).await;
    assert_eq!(status.status.code(), Some(10), "{}", said(&status));
    assert!(said(&status).contains("holo ring accept-loss --plan"), "{}", said(&status));
    let asked = lab.holo(&["ring", "accept-loss"]).await;
    assert_eq!(asked.status.code(), Some(2), "{}", said(&asked));
    assert!(said(&asked).contains("Give up parts of lone"), "{}", said(&asked));
    let lone = cluster.open::<u64>("lone").await.unwrap();
    assert_eq!(lone.read(..).await.unwrap_err().code(), ErrorCode::DataLost);
    let done = lab.holo(&["ring", "accept-loss", "--yes"]).await;
    assert!(done.status.success(), "{}", said(&done));
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(words.contains(&format!("gave up {}", lost.groups_lost)), "{words}");
    assert!(words.contains("parts of lone"), "{words}");
    until_report(&cluster, "nothing is lost", |report| report.groups_lost == 0).await;
    let values = lone.read(..).await.unwrap();
    assert!(values.iter().all(|value| [0, 7].contains(value)));
    assert!(values.contains(&0) && values.contains(&7));
    assert_eq!(cluster.open::<u64>("pair").await.unwrap().sum().await.unwrap(), 42_000);
    until_report(&cluster, "every copy is there again", is_whole).await;
    lab.verify().await;
}

/// What a command printed for programs.
fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).unwrap()
}
