//! `holo ring`: who shall hold what, how that would change, and whether what is held is sound.

mod accept_loss;
mod verify;

use holo_client::ClusterView;
use holo_core::Failure;
use holo_core::wire::{RingReport, RingTable};
use serde::Serialize;

use super::Context;
use super::status::{Snapshot, ring_of};
use crate::members;
use crate::quantity;
use crate::table::Table;

/// Look at the placement of the data, change it, compare the copies, give up what is lost
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo ring show --draw
  holo ring plan
  holo ring apply --version 7
  holo ring verify
  holo ring accept-loss --plan

The cluster plans by itself when nodes join, leave or stay away; `plan` and `apply` are for what it does not do unasked,
such as an even spread after many small changes.")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Show(ShowArgs),
    Plan(PlanArgs),
    Apply(ApplyArgs),
    Verify(verify::Args),
    AcceptLoss(accept_loss::Args),
}

/// Show which node shall hold how many partitions
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo ring show --draw")]
struct ShowArgs {
    /// Draw who holds what right now, too
    #[arg(long)]
    draw: bool,
}

/// Show what a new placement would move; changes nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo ring plan")]
struct PlanArgs {}

/// Have the plan carried out
#[derive(Debug, clap::Args)]
// Its --version is not the program's.
#[command(disable_version_flag = true)]
#[command(after_help = "\
Example:
  holo ring apply --version 7

The version is that of the tables that `holo ring plan` started from. Exit code 6 when they have changed since: plan
again.")]
struct ApplyArgs {
    /// The version that `holo ring plan` showed
    #[arg(long, value_name = "N")]
    version: u64,
}

#[derive(Serialize)]
struct Ring {
    table_version: u64,
    partitions: u32,
    moves: u64,
    bytes: u64,
    handovers: u64,
    tables: Vec<Placement>,
}

#[derive(Serialize)]
struct Placement {
    replicas: u32,
    in_use: bool,
    shares: Vec<Share>,
}

#[derive(Serialize)]
struct Share {
    node: String,
    partitions: u32,
    primaries: u32,
    gains: u32,
    losses: u32,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.command {
        Command::Show(args) => show(&args, context).await,
        Command::Plan(PlanArgs {}) => plan(context).await,
        Command::Apply(args) => apply(&args, context).await,
        Command::Verify(args) => verify::run(&args, context).await,
        Command::AcceptLoss(args) => accept_loss::run(args, context).await,
    }
}

async fn show(args: &ShowArgs, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let (output, color) = (&context.output, context.output.color());
    let ring = Ring::new(&cluster.ring().await?, &cluster.view());
    if output.is_json() {
        output.json(&ring);
        return Ok(());
    }
    output.data(&ring.in_words(color, false));
    if args.draw {
        let snapshot = Snapshot::take(&cluster).await;
        output.data(&format!("\n{}", ring_of(&snapshot, None).draw(color)));
    }
    Ok(())
}

async fn plan(context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let output = &context.output;
    let ring = Ring::new(&cluster.plan_ring().await?, &cluster.view());
    if output.is_json() {
        output.json(&ring);
        return Ok(());
    }
    output.data(&ring.in_words(output.color(), true));
    if ring.changes_anything() {
        output.note(&format!(
            "\n`holo ring apply --version {}` has it carried out, a few copies at a time",
            ring.table_version
        ));
    }
    Ok(())
}

async fn apply(args: &ApplyArgs, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let output = &context.output;
    let ring = Ring::new(&cluster.apply_ring(args.version).await?, &cluster.view());
    if output.is_json() {
        output.json(&ring);
        return Ok(());
    }
    output.data(&format!("tables {} apply", ring.table_version));
    output.note("`holo status -w` shows how far it is");
    Ok(())
}

impl Ring {
    fn new(report: &RingReport, view: &ClusterView) -> Self {
        let placement = |table: &RingTable| {
            let shares = table.shares.iter().map(|share| Share {
                node: members::name_of(view, share.number),
                partitions: share.partitions,
                primaries: share.primaries,
                gains: share.gains,
                losses: share.losses,
            });
            let mut shares: Vec<Share> = shares.collect();
            members::sort_by_name(&mut shares, |share| &share.node);
            Placement { replicas: table.replicas, in_use: table.in_use, shares }
        };
        Self {
            table_version: report.version,
            partitions: report.partitions,
            moves: report.moves,
            bytes: report.bytes,
            handovers: report.handovers,
            tables: report.tables.iter().map(placement).collect(),
        }
    }

    fn changes_anything(&self) -> bool {
        self.moves > 0 || self.handovers > 0
    }

    fn in_words(&self, color: bool, planned: bool) -> String {
        let head = match (planned, self.changes_anything()) {
            (false, _) => {
                let partitions = quantity::counted(u64::from(self.partitions), "partition");
                format!("tables {}, {partitions}", self.table_version)
            }
            (true, false) => format!(
                "tables {} are as good as they get: a new plan moves nothing",
                self.table_version
            ),
            (true, true) => format!(
                "a new plan from tables {} moves {}, about {}{}",
                self.table_version,
                quantity::copies(self.moves),
                quantity::bytes(self.bytes),
                match self.handovers {
                    0 => String::new(),
                    handovers => {
                        let partitions = quantity::counted(handovers, "partition");
                        format!("; {partitions} get another primary without a move")
                    }
                },
            ),
        };
        let mut text = head;
        // Tables that no array uses say nothing, unless no array uses any.
        let any_used = self.tables.iter().any(|table| table.in_use);
        for placement in self.tables.iter().filter(|table| table.in_use || !any_used) {
            text.push_str(&format!("\n\n{}", placement.in_words(color, planned)));
        }
        text
    }
}

impl Placement {
    fn in_words(&self, color: bool, planned: bool) -> String {
        let titles: &[&'static str] = match planned {
            true => &["node", ">holds", ">primary", ">gets", ">gives"],
            false => &["node", ">holds", ">primary"],
        };
        let mut table = Table::new(titles);
        for share in &self.shares {
            let numbers = [share.partitions, share.primaries, share.gains, share.losses];
            let cells = numbers.iter().map(|number| quantity::count(u64::from(*number)));
            table.row(std::iter::once(share.node.clone()).chain(cells));
        }
        let used = if self.in_use { "" } else { ", which none has yet" };
        let copies = quantity::copies(u64::from(self.replicas));
        format!("arrays of {copies}{used}:\n{}", table.render(color))
    }
}
