//! `holo demo`: everything at once, checked, in under a minute.

mod failure;
mod quadratic;
mod steps;

use holo_client::{AnyArray, Cluster, Options, RunReport};
use holo_core::wire::SettingsBody;
use holo_core::{ArrayLayout, DType, ErrorCode, Failure, Scalar};
use serde::Serialize;

use self::failure::{Killer, Survived};
use self::steps::Steps;
use super::dev::{Folder, client_options, gather, interrupted, prepare};
use super::status::{Report, Snapshot, ring_of};
use super::{Context, array};
use crate::clock::Stopwatch;
use crate::picture::Ring;
use crate::processes::NodeProcesses;
use crate::quantity;
use crate::signals::StopSignals;

/// The array of the demo.
const ARRAY: &str = "demo/quadratic";
/// Its elements, by their index.
const EXPRESSION: &str = "i*i + 3*i + 1";
/// The same as a module written by hand.
const FILL_WAT: &str = include_str!("../../../examples/kernels/quadratic.wat");
/// Their sum as a module written by hand.
const SUM_WAT: &str = include_str!("../../../examples/kernels/quadratic_sum.wat");
/// Shards that a node has of a small array, about.
const SHARDS_PER_NODE: u64 = 32;
/// Elements of the shortest shards.
const SHARD_ELEMS_MIN: u64 = 4096;
/// Elements of the slice that is read back.
const SLICE_ELEMS: u64 = 4_000_000;
/// What a node needs beside its share of the array: staging, and shares that are not quite equal.
const MEMORY_SPARE: u64 = 256 << 20;
/// Copies of the array, where there are nodes enough.
const REPLICAS: u16 = 2;
/// Nodes with which one may die: the catalog needs two of three.
const NODES_TO_LOSE_ONE: u16 = 3;
/// How long a silent node is waited for before its copies are made again: nobody is going to start this one.
const REPAIR_DELAY_MS: u64 = 200;

/// Start three nodes, share an array between them, compute on it, kill a node, check that nothing is lost, show it all
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo demo
  holo demo --elems 1000000 --nodes 5

Every part of the array has two copies. In the middle one node is killed (SIGKILL) while somebody writes: the demo measures
how long writes and reads of its part wait, waits until the others have made up for it, and counts every write that was
acknowledged. With fewer than three nodes none is killed.

Ends with exit code 1 and an error when any result differs from what it must be. Nothing of it is left afterwards.")]
pub(crate) struct Args {
    /// How many node processes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Elements of the array, 8 bytes each
    #[arg(long, default_value_t = 100_000_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    elems: u64,
}

/// What is shown at the end.
#[derive(Serialize)]
struct Outcome<'a> {
    #[serde(flatten)]
    found: Found,
    steps: &'a Steps<'a>,
    elapsed_ms: u64,
}

/// What the work on the running cluster found out.
#[derive(Serialize)]
struct Found {
    array: array::Described,
    sum: i64,
    /// What the death of a node did; absent when none was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Survived>,
    cluster: Report,
    #[serde(skip)]
    rings: Vec<(String, Ring)>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut signals = StopSignals::catch()?;
    let total = Stopwatch::start();
    let folder = Folder::new(None)?;
    let mut steps = Steps::new(&context.output);
    let prepared = prepare(folder.path(), "demo", args.nodes, memory(&args))?;
    let starting = format!("start {} node processes", args.nodes);
    let mut nodes = tokio::select! {
        started = steps.take(&starting, 0, NodeProcesses::start(&prepared.configs)) => started?,
        signal = signals.next() => return Err(interrupted(signal)),
    };
    let killer = Killer::new(nodes.pids());
    let worked = {
        let mut work = Box::pin(work(&args, client_options(&prepared), &mut steps, &killer));
        loop {
            tokio::select! {
                worked = &mut work => break worked,
                signal = signals.next() => break Err(interrupted(signal)),
                death = nodes.next_death() => if !killer.has_killed(&death.name) {
                    break Err(Failure::new(
                        ErrorCode::Internal,
                        format!("node {} died in the middle of the demo: {}", death.name, death.how),
                    ));
                },
            }
        }
    };
    let stopped = steps.take("stop the nodes", 0, nodes.stop()).await;
    let found = worked?;
    stopped?;
    let elapsed_ms = u64::try_from(total.elapsed().as_millis()).unwrap_or(u64::MAX);
    show(&Outcome { found, steps: &steps, elapsed_ms }, context);
    Ok(())
}

/// What each node needs, when one less than all of them hold everything.
fn memory(args: &Args) -> u64 {
    let holders = u64::from(args.nodes.saturating_sub(1).max(1));
    let copies = u64::from(args.nodes.min(REPLICAS));
    let share = args.elems.saturating_mul(8 * copies) / holders;
    share.saturating_mul(2).saturating_add(MEMORY_SPARE)
}

/// Everything between the start and the stop of the nodes.
async fn work(
    args: &Args,
    options: Options,
    steps: &mut Steps<'_>,
    killer: &Killer,
) -> Result<Found, Failure> {
    let (elems, nodes) = (args.elems, args.nodes);
    let cluster = steps.take("connect", 0, Cluster::connect(options)).await?;
    steps.take("gather", 0, gather(&cluster, usize::from(nodes))).await?;
    steps.checked(voters(&cluster).await?);
    let hasty = SettingsBody { repair_delay_ms: Some(REPAIR_DELAY_MS), ..SettingsBody::default() };
    cluster.settings(hasty).await?;

    let builder = cluster.array(ARRAY).shape([elems]).shard_elems(shard_elems(elems, nodes.into()));
    let builder = builder.replicas(nodes.min(REPLICAS).into());
    let array = steps.take(&format!("allocate {ARRAY}"), 0, builder.create_any(DType::I64)).await?;
    let described = array::Described::from(array.descriptor());
    steps.checked(described.to_string());
    let bytes = array.byte_len();
    let expected = quadratic::sum(elems);

    let fill = cluster.expr(EXPRESSION).store_into(&array);
    let ran = steps.take(&format!("fill it: {EXPRESSION}"), bytes, fill.run()).await?;
    steps.checked(where_it_ran(&ran, elems)?);
    sum_by_expression("sum it: sum(x)", &array, expected, steps).await?;

    // Nothing that the expression left behind may help the modules to pass.
    let clear = cluster.expr("0").store_into(&array);
    steps.take("clear it", bytes, clear.run()).await?;
    by_modules(&cluster, &array, expected, steps).await?;

    let class = Some(array.descriptor().class());
    let before = Snapshot::take(&cluster).await;
    let mut rings = vec![("before".to_owned(), ring_of(&before, class))];
    let mut failure = None;
    if nodes >= NODES_TO_LOSE_ONE {
        let survived = failure::survive(&cluster, &array, killer, steps).await?;
        sum_by_expression("sum it again: sum(x)", &array, expected, steps).await?;
        rings[0].0 = format!("before {} was killed", survived.node);
        let after = Snapshot::take(&cluster).await;
        rings.push(("and after".to_owned(), ring_of(&after, class)));
        failure = Some(survived);
    }

    let (start, len) = random_slice(elems)?;
    let name = format!("read {} back", quantity::counted(len, "element"));
    let slice = steps.take(&name, len * 8, array.read_bytes(start..start + len)).await?;
    steps.checked(check_slice(start, len, &slice)?);

    let sum = expected.cast_signed();
    let cluster = Report::new(&Snapshot::take(&cluster).await);
    Ok(Found { array: described, sum, failure, cluster, rings })
}

async fn voters(cluster: &Cluster) -> Result<String, Failure> {
    let report = cluster.report().await?;
    let (members, voters) = (report.nodes.len() as u64, report.voters.len() as u64);
    Ok(format!(
        "{}, {} of the catalog",
        quantity::counted(members, "member"),
        quantity::counted(voters, "voter")
    ))
}

async fn sum_by_expression(
    name: &str,
    array: &AnyArray,
    expected: u64,
    steps: &mut Steps<'_>,
) -> Result<(), Failure> {
    let ran = steps.take(name, array.byte_len(), array.expr("sum(x)").run()).await?;
    steps.checked(check_sum("the sum by the expression", bits(ran.value)?, expected)?);
    Ok(())
}

/// Short enough that a small array lies on all nodes, too.
fn shard_elems(elems: u64, members: u64) -> u64 {
    let short = (elems / (members * SHARDS_PER_NODE)).next_power_of_two();
    short.clamp(SHARD_ELEMS_MIN, ArrayLayout::SHARD_ELEMS_DEFAULT)
}

/// Fills and sums the array again, with code that was written by hand, pushed to the nodes under its hash.
async fn by_modules(
    cluster: &Cluster,
    array: &AnyArray,
    expected: u64,
    steps: &mut Steps<'_>,
) -> Result<(), Failure> {
    let fill = cluster.task(assemble("quadratic.wat", FILL_WAT)?).output(array);
    let ran = steps.take("fill it: module quadratic.wat", array.byte_len(), fill.run()).await?;
    steps.checked(format!(
        "{}, module {}",
        where_it_ran(&ran, array.len())?,
        fill.module_id().short()
    ));
    let sum = cluster.task(assemble("quadratic_sum.wat", SUM_WAT)?).input(array);
    let ran = steps.take("sum it: module quadratic_sum.wat", array.byte_len(), sum.run()).await?;
    let output = ran.output.as_deref().unwrap_or_default();
    let value = Scalar::from_le_bytes(DType::I64, output)
        .map_err(|failure| failure.context("quadratic_sum.wat"))?;
    steps.checked(check_sum("the sum by the module", value.bits(), expected)?);
    Ok(())
}

fn assemble(name: &str, text: &str) -> Result<Vec<u8>, Failure> {
    wat::parse_str(text)
        .map_err(|source| Failure::new(ErrorCode::Internal, format!("{name}: {source}")))
}

fn bits(value: Option<Scalar>) -> Result<u64, Failure> {
    value.map(Scalar::bits).ok_or_else(|| mismatch("sum(x) gave no value".to_owned()))
}

fn where_it_ran(ran: &RunReport, elems: u64) -> Result<String, Failure> {
    if ran.elems != elems {
        return Err(mismatch(format!("{} of {elems} elements were computed", ran.elems)));
    }
    let mut engines: Vec<&str> = ran.nodes.iter().map(|node| node.engine.as_str()).collect();
    engines.dedup();
    let shards = quantity::counted(ran.shards, "shard");
    let nodes = quantity::counted(ran.nodes.len() as u64, "node");
    Ok(format!("{shards}, {nodes}, {}", engines.join(", ")))
}

fn check_sum(what: &str, sum: u64, expected: u64) -> Result<String, Failure> {
    let (sum, expected) = (sum.cast_signed(), expected.cast_signed());
    if sum != expected {
        return Err(mismatch(format!("{what} is {sum}, the closed form gives {expected}")));
    }
    Ok(format!("{sum} = closed form mod 2^64"))
}

fn random_slice(elems: u64) -> Result<(u64, u64), Failure> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random)
        .map_err(|source| Failure::new(ErrorCode::Internal, format!("no randomness: {source}")))?;
    let len = elems.min(SLICE_ELEMS);
    Ok((u64::from_le_bytes(random) % (elems - len + 1), len))
}

fn check_slice(start: u64, len: u64, bytes: &[u8]) -> Result<String, Failure> {
    let (values, rest) = bytes.as_chunks::<8>();
    if values.len() as u64 != len || !rest.is_empty() {
        return Err(mismatch(format!("{} bytes came back for {len} elements", bytes.len())));
    }
    for (index, value) in (start..).zip(values) {
        let (got, expected) = (u64::from_le_bytes(*value), quadratic::element(index));
        if got != expected {
            return Err(mismatch(format!(
                "element {index} is {}, it must be {}",
                got.cast_signed(),
                expected.cast_signed()
            )));
        }
    }
    Ok(format!("every element of [{start}:{}] is right", start + len))
}

fn mismatch(message: String) -> Failure {
    Failure::new(ErrorCode::Internal, message)
        .help("this must never happen: please report it with the output of `holo version`")
}

fn show(outcome: &Outcome<'_>, context: &Context) {
    let (output, color) = (&context.output, context.output.color());
    if output.is_json() {
        output.json(outcome);
        return;
    }
    output.data(&outcome.steps.table(color));
    for (title, ring) in &outcome.found.rings {
        let title =
            if outcome.found.rings.len() > 1 { format!("\n{title}:") } else { String::new() };
        output.data(&format!("{title}\n{}", ring.draw(color)));
    }
    output.data(&format!("\n{}", outcome.found.cluster.links_table(color)));
    if let Some(survived) = &outcome.found.failure {
        output.data(&format!("\n{}", survived.in_words()));
    }
    let seconds = outcome.elapsed_ms / 1000;
    let tenths = outcome.elapsed_ms % 1000 / 100;
    output.data(&format!(
        "\nAll checks passed in {seconds}.{tenths} s. Every process of it is gone."
    ));
    output.note(
        "\nHow to go on:\n  \
         holo dev                       keeps such a cluster running and prints how to use it\n  \
         holo allocate demo/a --shape 1000000 --dtype float64\n  \
         holo run --expr 'sqrt(i)' --out demo/a\n  \
         holo array get 'demo/a[0:10]'\n  \
         holo --help                    shows the rest",
    );
}
