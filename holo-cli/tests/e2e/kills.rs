//! Processes that end without a word, and processes that stand still.

use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::lab::Lab;
use crate::trial::{Trial, quiet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_minus_nine_of_the_leader_a_primary_and_a_backup_loses_nothing() {
    let mut trial = Trial::start(Lab::start(3), 3, 2).await;
    let element = quiet().next().unwrap();
    for role in ["leader of the catalog", "primary", "backup"] {
        let victim = match role {
            "primary" => trial.holders(element).await[0],
            "backup" => trial.holders(element).await[1],
            _ => trial.leader().await,
        };
        println!("kill -9 of the {role}");
        trial.lab.kill(victim);
        trial.whole(2).await;
        trial.lab.restart(victim);
        trial.whole(3).await;
    }
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_may_die_at_once_with_three_copies() {
    let mut trial = Trial::start(Lab::start(5), 5, 3).await;
    let first = trial.leader().await;
    let second = (first + 1) % 5;
    trial.lab.kill(first);
    trial.lab.kill(second);
    trial.whole(3).await;
    // Three of five voters answer: one more must not die.
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stood_still_serves_nothing_stale() {
    let trial = Trial::start(Lab::start(3), 3, 2).await;
    let leader = trial.leader().await;
    for node in [leader, (leader + 1) % 3] {
        let held = trial.led_by(node).await;
        trial.lab.signal(node, Signal::STOP);
        // These return when the others have gone on without it: then each of these elements has another primary.
        for element in quiet() {
            trial.array.set(element, element + 1).await.unwrap();
        }
        assert_ne!(trial.holders(held).await[0], node);
        trial.lab.signal(node, Signal::CONT);
        for element in quiet() {
            assert_eq!(trial.array.get(element).await.unwrap(), element + 1);
            trial.array.set(element, element).await.unwrap();
        }
        trial.whole(3).await;
    }
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_majority_was_needed_for_goes_on_when_it_is_back() {
    let mut trial = Trial::start(Lab::start(3), 3, 3).await;
    for victim in [1, 2] {
        trial.lab.kill(victim);
    }
    // An array, and a write that takes a config without the two that died.
    let (cluster, array) = (trial.cluster.clone(), trial.array.clone());
    let mut waiting = JoinSet::new();
    waiting.spawn(async move {
        let made = cluster.array("t/y").shape([8]).replicas(3).create::<u64>().await?;
        made.fill(5).await
    });
    let element = quiet().next().unwrap();
    waiting.spawn(async move { array.set(element, element + 1).await });
    trial.refused_at(0, &["allocate", "t/z", "--shape", "8", "--dtype", "int64"]).await;
    let done = waiting.try_join_next();
    assert!(done.is_none(), "without a majority: {done:?}");
    for victim in [1, 2] {
        trial.lab.restart(victim);
    }
    while let Some(done) = waiting.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(trial.cluster.open::<u64>("t/y").await.unwrap().sum().await.unwrap(), 40);
    assert_eq!(trial.array.get(element).await.unwrap(), element + 1);
    trial.array.set(element, element).await.unwrap();
    trial.whole(3).await;
    trial.end().await;
}
