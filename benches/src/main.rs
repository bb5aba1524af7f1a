//! Our workloads as ratios to what the machine can do, measured in one run.
//!
//! `cargo xtask bench` builds this and `holo` with optimisation, starts three nodes and one client, and prints a table
//! and, with `--json FILE`, the same figures for machines. Figures of one run are comparable with each other; those of
//! different runs on shared machines are not.

mod catalog;
mod idle;
mod lab;
mod placement;
mod recovery;
mod references;
mod repair;
mod replicas;
mod report;
mod timing;
mod workloads;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use holo_client::Cluster;
use serde::Serialize;

use crate::references::References;
use crate::report::Row;
use crate::timing::Stopwatch;

/// Measures HoloCompute on this machine.
#[derive(Debug, Parser)]
struct Args {
    /// Where the figures go as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Elements of the fill and sum workloads.
    #[arg(long, default_value_t = 100_000_000)]
    elems: u64,
    /// Nodes; the targets are for three.
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Seconds for which the nodes are left alone.
    #[arg(long, default_value_t = 10)]
    idle: u64,
    /// How often a node is killed.
    #[arg(long, default_value_t = 30)]
    kills: usize,
    /// Balance and movement of placement to 10,000 nodes, too: takes a minute.
    #[arg(long)]
    placement: bool,
    /// Only this; may be given several times. All but placement when it is not given.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// For this program itself: measures a catalog in this folder and prints the figures.
    #[arg(long, value_name = "DIR", hide = true)]
    catalog_in: Option<PathBuf>,
}

/// Parts that can be measured by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Start, idling, transfers, expressions and calls with one copy.
    Single,
    /// What a second copy costs.
    Copies,
    /// Moving data off a node that is drained, and after one has died.
    Repair,
    /// kill -9 under load.
    Recovery,
    /// Nodes that hold groups of two classes and have nothing to do.
    Idle,
    /// Memory and plans of the catalog of a large cluster.
    Catalog,
    /// Balance and movement of placement to 10,000 nodes.
    Placement,
}

impl Args {
    fn asks_for(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    cores: usize,
    rows: &'a [Row],
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(folder) = args.catalog_in {
        print(&catalog::measure(folder).await?);
        return Ok(());
    }
    say("measuring what the machine can do ...");
    let references = References::measure(usize::try_from(args.elems)?)?;
    let mut rows = vec![memcpy_row(&references)];
    if args.asks_for(Part::Single) {
        single(&args, &references, &mut rows).await?;
    }
    if args.asks_for(Part::Copies) {
        say("two copies ...");
        let local = Cluster::local(args.nodes).await.context("local nodes")?;
        replicas::run(&local, &mut rows).await?;
        local.close().await?;
    }
    if args.asks_for(Part::Repair) {
        say("drain and repair ...");
        repair::run(&references, &mut rows).await?;
    }
    if args.asks_for(Part::Recovery) {
        say("kill -9 under load ...");
        recovery::run(args.kills, &mut rows).await?;
    }
    if args.asks_for(Part::Idle) {
        say("idle with arrays ...");
        idle::run(args.idle, &mut rows).await?;
    }
    if args.asks_for(Part::Catalog) {
        say("a large catalog ...");
        catalog::run(&mut rows)?;
    }
    if args.placement || args.only.contains(&Part::Placement) {
        say("placement ...");
        rows.extend(placement::run());
    }
    print(&report::table(&rows));
    if let Some(path) = args.json {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let json = serde_json::to_string_pretty(&Report { version: 1, cores, rows: &rows })?;
        std::fs::write(&path, json).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// What nodes and one client do with arrays of one copy.
async fn single(args: &Args, references: &References, rows: &mut Vec<Row>) -> Result<()> {
    let watch = Stopwatch::start();
    let local = Cluster::local(args.nodes).await.context("local nodes")?;
    rows.push(start_row(watch.seconds()));
    say("idle ...");
    workloads::idle(&local, args.idle, rows).await?;
    say("bulk ...");
    workloads::bulk(&local, references, rows).await?;
    say("single elements and pages ...");
    workloads::small(&local, references, rows).await?;
    say("expressions ...");
    workloads::compute(&local, references, args.elems, rows).await?;
    say("calls ...");
    workloads::calls(&local, references, rows).await?;
    local.close().await?;
    Ok(())
}

fn memcpy_row(references: &References) -> Row {
    Row {
        workload: "(memcpy, one core)".to_owned(),
        ours: references.memcpy_gb_per_s,
        unit: "GB/s",
        more_is_better: true,
        reference: "plain TCP",
        reference_value: references.tcp_gb_per_s,
        target: 0.0,
    }
}

fn start_row(seconds: f64) -> Row {
    Row {
        workload: "start of 3 nodes to first answer".to_owned(),
        ours: seconds,
        unit: "s",
        more_is_better: false,
        reference: "",
        reference_value: 0.0,
        target: 1.0,
    }
}

#[expect(clippy::print_stderr, reason = "progress of a program for the terminal")]
fn say(what: &str) {
    eprintln!("{what}");
}

#[expect(clippy::print_stdout, reason = "the table is this program's output")]
fn print(table: &str) {
    println!("{table}");
}
