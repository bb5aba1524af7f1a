//! Networks that lose, double, delay and part.

use std::time::Duration;

use crate::lab::{Lab, PATIENCE, now, said, until_report, up};
use crate::relay::Spoil;
use crate::trial::{ARRAY, Trial};

/// What a refusal for want of voters or of copies in sync ends with.
const REFUSED: i32 = 8;

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
    refuses(&trial, lonely, &["allocate", "t/y", "--shape", "8", "--dtype", "int64"]).await;
    let place = format!("{ARRAY}[{element}:{}]", element + 1);
    refuses(&trial, lonely, &["array", "get", &place]).await;
    trial.array.set(element, element).await.unwrap();
    trial.whole(2).await;
    trial.lab.network().heal();
    trial.whole(3).await;
    trial.end(&[lonely]).await;
}

/// Asks a node that is cut off, from its side of the network, until it says that it may not. Right after the cut it may
/// have taken an order that it cannot finish: then it says that the outcome is unknown. It never says that it is done.
async fn refuses(trial: &Trial, node: usize, args: &[&str]) {
    let start = now();
    loop {
        let output = trial.lab.holo_at(node, &[args, &["--timeout", "5s"]].concat()).await;
        let stderr = said(&output);
        assert!(!output.status.success(), "{args:?} was done: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        if output.status.code() == Some(REFUSED) {
            assert!(stderr.contains("error[HC14") && stderr.contains("help: "), "{stderr}");
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{args:?}: {stderr}");
    }
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
    trial.end(&[node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_speaks_and_cannot_hear_breaks_nothing() {
    let trial = Trial::start(Lab::start_relayed(3), 3, 2).await;
    let node = trial.leader().await;
    trial.lab.network().deafen(node);
    // It goes on to say that it is there, so what it leads may wait until it hears again; nobody is told a lie meanwhile.
    until_report(&trial.cluster, "the deaf node is missed", |it| up(it) == 2).await;
    trial.lab.network().heal();
    trial.whole(3).await;
    trial.end(&[node]).await;
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
    trial.end(&[1]).await;
}
