//! Networks that lose, double, delay and part.

use std::time::Duration;

use holo_core::wire::ClusterReport;

use crate::lab::{Lab, until_report, up};
use crate::relay::Spoil;
use crate::trial::{ARRAY, Trial};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parted_node_serves_nobody_and_comes_back_by_itself() {
    let trial = Trial::start(Lab::start_relayed(3), 3, 2).await;
    // The node with the most to lose: it leads the catalog and is the primary of this element.
    let lonely = trial.leader().await;
    let element = trial.led_by(lonely).await;
    trial.lab.network().part(lonely);
    // It returns when another one is the primary.
    trial.array.set(element, 1).await.unwrap();
    trial.lab.network().newcomers_live_with(lonely);
    trial.refused_at(lonely, &["allocate", "t/y", "--shape", "8", "--dtype", "int64"]).await;
    let place = format!("{ARRAY}[{element}:{}]", element + 1);
    trial.refused_at(lonely, &["array", "get", &place]).await;
    trial.array.set(element, element).await.unwrap();
    trial.whole(2).await;
    trial.lab.network().heal();
    trial.whole(3).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_and_cannot_speak_keeps_nobody_waiting() {
    let trial = Trial::start(Lab::start_relayed(3), 3, 2).await;
    let node = trial.leader().await;
    let element = trial.led_by(node).await;
    trial.lab.network().mute(node);
    // It returns when another one is the primary.
    trial.array.set(element, element).await.unwrap();
    trial.whole(2).await;
    trial.lab.network().heal();
    trial.whole(3).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_speaks_and_cannot_hear_serves_nobody_and_stops_nobody_else() {
    let trial = Trial::start(Lab::start_relayed(3), 3, 2).await;
    let deaf = (trial.leader().await + 1) % 3;
    let own = trial.led_by(deaf).await;
    let led_by_others = trial.not_led_by(deaf).await;
    assert!(!led_by_others.is_empty());
    trial.lab.network().deafen(deaf);
    // Those who lead these do without it: every one of them is written, also where it had the other copy.
    for element in &led_by_others {
        trial.array.set(*element, element + 1).await.unwrap();
    }
    let missed = |report: &ClusterReport| up(report) == 2;
    until_report(&trial.cluster, "the deaf node is missed", missed).await;
    trial.lab.network().newcomers_live_with(deaf);
    trial.refused_at(deaf, &["allocate", "t/y", "--shape", "8", "--dtype", "int64"]).await;
    // It goes on to say that it is there, so what it leads waits until it hears again. It serves nothing of that either:
    // nobody's word reaches it that its leases go on.
    let place = format!("{ARRAY}[{own}:{}]", own + 1);
    trial.refused_at(deaf, &["array", "get", &place]).await;
    for element in &led_by_others {
        assert_eq!(trial.array.get(*element).await.unwrap(), element + 1);
        trial.array.set(*element, *element).await.unwrap();
    }
    trial.lab.network().heal();
    trial.whole(3).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_of_the_catalog_that_speaks_and_cannot_hear_is_replaced_and_tells_no_lie() {
    let trial = Trial::start(Lab::start_relayed(3), 3, 2).await;
    let deaf = trial.leader().await;
    let own = trial.led_by(deaf).await;
    trial.lab.network().deafen(deaf);
    let missed = |report: &ClusterReport| up(report) == 2;
    until_report(&trial.cluster, "the deaf node is missed", missed).await;
    assert_ne!(trial.leader().await, deaf);
    trial.lab.network().newcomers_live_with(deaf);
    trial.refused_at(deaf, &["allocate", "t/y", "--shape", "8", "--dtype", "int64"]).await;
    let place = format!("{ARRAY}[{own}:{}]", own + 1);
    trial.refused_at(deaf, &["array", "get", &place]).await;
    trial.lab.network().heal();
    trial.whole(3).await;
    trial.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_delay_and_doubles_between_nodes_cost_time_and_nothing_else() {
    let mut trial = Trial::start(Lab::start_relayed(3), 3, 2).await;
    let delay = Duration::from_millis(2);
    let spoil = Spoil { cut: false, lost_milli: 30, doubled_milli: 30, delay };
    trial.lab.network().spoil_all(spoil);
    trial.lab.kill(0);
    trial.whole(2).await;
    trial.lab.restart(0);
    trial.whole(3).await;
    trial.lab.network().heal();
    trial.end().await;
}
