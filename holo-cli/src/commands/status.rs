//! `holo status`.

mod links;
mod report;
mod ring;

use std::time::Duration;

use holo_client::Cluster;
use holo_core::Failure;

use super::Context;
use crate::argument::argument;
use crate::quantity;
use crate::signals::StopSignals;

pub(crate) use report::{CATALOG_WITHIN, Report, Snapshot, no_quorum};
pub(crate) use ring::ring_of;

/// Show the nodes, their state and load, the copies of the data, and the links between the nodes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo status
  holo status --watch
  holo status --ring
  holo status -o json

Ends with exit code 8 when the catalog has no quorum, 10 when the last copy of some data is lost, 9 when a node does not
answer, and 8 when all do and some data is not served yet; what is known is shown all the same. --watch ends with Ctrl-C.")]
pub(crate) struct Args {
    /// Draw the ring, too
    #[arg(long)]
    ring: bool,
    /// Show it again and again
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks with --watch
    #[arg(long, value_name = "TIME", value_parser = argument(quantity::parse_duration), default_value = "1s")]
    every: Duration,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.watch {
        return watch(&args, context).await;
    }
    let cluster = context.connect().await?;
    let snapshot = Snapshot::take(&cluster).await;
    show(&snapshot, &args, context);
    // Programs know what a cluster is.
    if !context.output.is_json() {
        context.output.note(&format!("\n{}", snapshot.footer()));
    }
    snapshot.verdict()
}

/// Shows the cluster until somebody has seen enough: on a terminal in one place, elsewhere one report after the other.
async fn watch(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut signals = StopSignals::catch()?;
    let looking = async {
        let cluster = context.connect().await?;
        let mut ticks = tokio::time::interval(args.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            look(&cluster, args, context).await;
            // Whoever read us has gone.
            if !context.output.is_open() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = looking => ended,
        _ = signals.next() => Ok(()),
    }
}

async fn look(cluster: &Cluster, args: &Args, context: &Context) {
    let snapshot = Snapshot::take(cluster).await;
    if context.output.redraws() {
        context.output.clear_screen();
    }
    show(&snapshot, args, context);
    if let Err(failure) = snapshot.verdict() {
        context.output.note(&failure.to_string());
    }
    if !context.output.redraws() && !context.output.is_json() {
        context.output.data("");
    }
}

fn show(snapshot: &Snapshot, args: &Args, context: &Context) {
    let (output, color) = (&context.output, context.output.color());
    let report = Report::new(snapshot);
    if output.is_json() {
        output.json(&report);
        return;
    }
    output.data(&report.in_words(color));
    if args.ring {
        output.data(&format!("\n{}", ring_of(snapshot, None).draw(color)));
    }
}
