//! The whole cluster: everything goes to disk, then all nodes stop.

use std::time::Duration;

use holo_client::{Cluster, MemberView};
use holo_core::wire::CloseReport;
use holo_core::{ErrorCode, Failure, Retry};
use serde::Serialize;

use super::{Args, Context, confirm, ended};
use crate::clock::Deadline;
use crate::progress::Progress;
use crate::quantity;
use crate::signals::StopSignals;

/// Time between two looks: often enough to see the end, after which the nodes answer for a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Time between two lines where no bar can be drawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Looks in a row that may fail: the catalog's leader may be replaced meanwhile.
const BLIND_LOOKS_MAX: u32 = 3;

/// How long one look at the nodes' end may take, and all of them together.
const GONE_LOOK: Duration = Duration::from_secs(1);
const GONE_PATIENCE: Duration = Duration::from_secs(15);

/// How the stop went.
#[derive(Serialize)]
struct Closed {
    /// Nodes that were told to stop.
    stopped: Vec<String>,
    /// Groups with data, each of them on the disks of all its holders.
    groups: u64,
    /// Bytes of pages on all disks together.
    bytes: u64,
}

#[derive(Serialize)]
struct Plan {
    nodes: Vec<String>,
}

#[derive(Serialize)]
struct Cancelled {
    stage: String,
}

pub(super) async fn run(
    cluster: &Cluster,
    members: &[&MemberView],
    args: &Args,
    context: &Context,
) -> Result<(), Failure> {
    let nodes: Vec<String> = members.iter().map(|node| node.member.name.clone()).collect();
    if args.cancel {
        cluster.close_cluster(true).await?;
        let goes_on = Cancelled { stage: "open".to_owned() };
        match context.output.is_json() {
            true => context.output.json(&goes_on),
            false => context.output.data("the cluster goes on"),
        }
        return Ok(());
    }
    let words = format!(
        "{}: they take no writes, write what they hold to disk, and stop; nothing is lost",
        nodes.join(", ")
    );
    if args.plan {
        match context.output.is_json() {
            true => context.output.json(&Plan { nodes }),
            false => context.output.data(&format!("stopping {words}")),
        }
        return Ok(());
    }
    confirm(context, args.yes, &format!("Stop {}? It can be started again.", nodes.join(", ")))?;
    context.output.note(&format!("stopping {words}"));
    cluster.close_cluster(false).await?;
    let report = follow(cluster, context).await?;
    until_gone(cluster).await;
    // What matters is on disk: one whose end cannot be seen has stopped all the same.
    ended::until_ended(members, ended::Left::Nothing, context).await?;
    let closed = Closed { stopped: nodes, groups: report.groups, bytes: report.bytes };
    if context.output.is_json() {
        context.output.json(&closed);
    } else {
        context.output.data(&format!("stopped {}", closed.stopped.join(", ")));
    }
    context.output.note(&format!(
        "{} of {} are on disk, all copies counted",
        quantity::bytes(closed.bytes),
        quantity::counted(closed.groups, "group")
    ));
    context.output.note(
        "`holo agent --dir DIR` on each node starts the cluster again; `holo status` says when everything is back",
    );
    Ok(())
}

/// Waits until no node answers any more, so that whoever starts them again finds their directories free. A node that is
/// slow to end is not waited for without end: what counts is on disk.
async fn until_gone(cluster: &Cluster) {
    let cluster = cluster.with_deadline(GONE_LOOK);
    let patience = Deadline::after(GONE_PATIENCE);
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !patience.is_past() && cluster.status().await.iter().any(|member| member.outcome.is_ok())
    {
        looks.tick().await;
    }
}

/// Watches until everything is on disk. Interrupted, the stop goes on.
async fn follow(cluster: &Cluster, context: &Context) -> Result<CloseReport, Failure> {
    let mut signals = StopSignals::catch()?;
    let reattach = "`holo shutdown --cluster` watches it, --cancel takes it back";
    tokio::select! {
        ended = watch(cluster, context) => ended,
        signal = signals.next() => {
            let message = format!("{signal}: the stop of the cluster goes on");
            Err(Failure::new(ErrorCode::Cancelled, message).help(reattach))
        }
    }
}

async fn watch(cluster: &Cluster, context: &Context) -> Result<CloseReport, Failure> {
    let bar = Progress::items(&context.output, "writing to disk", "groups");
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut blind = 0;
    let mut next_line = Deadline::after(LINE_INTERVAL);
    loop {
        looks.tick().await;
        let report = match cluster.watch_close().await {
            Ok(report) => report,
            Err(error) => {
                let failure = Failure::from(error);
                blind += 1;
                if failure.code.retry() == Retry::Never || blind > BLIND_LOOKS_MAX {
                    return Err(failure.help(
                        "whether everything is on disk is not known; start the nodes again, and `holo status` says",
                    ));
                }
                continue;
            }
        };
        blind = 0;
        match report.stage.as_str() {
            "closed" => return Ok(report),
            "closing" => {}
            _ => {
                return Err(Failure::new(
                    ErrorCode::Conflict,
                    "the stop of the cluster was taken back",
                )
                .help("`holo status` shows what has changed"));
            }
        }
        bar.at(report.groups_done, report.groups, &quantity::bytes(report.bytes));
        if next_line.is_past() && !context.output.shows_progress() {
            context.output.note(&in_words(&report));
            next_line = Deadline::after(LINE_INTERVAL);
        }
    }
}

fn in_words(report: &CloseReport) -> String {
    let waits = match report.waits_for.as_slice() {
        [] => String::new(),
        names => format!("; it waits for {}", names.join(", ")),
    };
    format!(
        "{} of {} on disk, {}{waits}",
        quantity::count(report.groups_done),
        quantity::counted(report.groups, "group"),
        quantity::bytes(report.bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_whom_it_waits_for() {
        let report = CloseReport {
            stage: "closing".to_owned(),
            groups: 256,
            groups_done: 20,
            bytes: 3 << 20,
            waits_for: vec!["n2".to_owned(), "n3".to_owned()],
            ..CloseReport::default()
        };
        assert_eq!(in_words(&report), "20 of 256 groups on disk, 3.0 MiB; it waits for n2, n3");
    }
}
