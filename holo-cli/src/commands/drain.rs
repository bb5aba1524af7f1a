//! `holo drain` and `holo undrain`.

mod progress;
mod report;

use std::time::Duration;

use holo_client::{Cluster, MemberView};
use holo_core::wire::{NodeOrder, NodeOrderKind};
use holo_core::{ErrorCode, Failure};
use serde::Serialize;

use super::Context;
use crate::argument::argument;
use crate::clock::Deadline;
use crate::members;
use crate::quantity;

pub(crate) use progress::follow;
pub(crate) use report::Report;

/// Move everything off a node, so that it can be switched off
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo drain n2 --plan
  holo drain n2
  holo drain n2 --deadline 10m --detach
  holo undrain n2

The data is copied first and only then given up: nothing has fewer copies meanwhile. The cluster does it, this command
only watches: Ctrl-C leaves it to go on, and `holo drain n2` watches again. It ends with exit code 0 only when the node
holds nothing any more; then the node can be unplugged.")]
pub(crate) struct Args {
    /// The node: its name, or the first letters of its name or id
    node: String,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// When it should be done: 10m, 2h; exit code 9 when it is not, and the drain goes on
    #[arg(long, value_name = "TIME", value_parser = argument(quantity::parse_duration), conflicts_with = "plan")]
    deadline: Option<Duration>,
    /// Do not wait for the end
    #[arg(long, conflicts_with = "plan")]
    detach: bool,
}

/// Take a node back into service while it is being emptied, or afterwards
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  holo undrain n2

A node that is in service stays as it is: the command says so and ends with exit code 0.")]
pub(crate) struct UndrainArgs {
    /// The node: its name, or the first letters of its name or id
    node: String,
}

#[derive(Serialize)]
struct Undrained {
    node: String,
    /// What it was before: `active` when there was nothing to take back.
    was: String,
    /// Whether it answers: nothing comes to it before.
    up: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let member = members::find(&view, &args.node)?;
    let name = &member.member.name;
    let plan = plan(&cluster, member).await?;
    if args.plan {
        show_plan(&plan, context);
        return plan.refusal();
    }
    if plan.is_over() {
        context.output.note(&format!("{name} is drained already"));
        return finished(&plan, context);
    }
    plan.refusal()?;
    if !plan.is_under_way() {
        context.output.note(&plan.in_words());
    }
    tell_warnings(&plan.warnings, context);
    begin(&cluster, member, args.deadline).await?;
    if args.detach {
        if context.output.is_json() {
            context.output.json(&read(&cluster, member).await?);
        } else {
            context.output.data(&format!("draining {name}"));
        }
        context
            .output
            .note(&format!("`holo drain {name}` watches it, `holo undrain {name}` takes it back"));
        return Ok(());
    }
    let ended = follow(&cluster, member, &plan.warnings, args.deadline, context).await?;
    finished(&ended, context)
}

pub(crate) async fn run_undrain(args: UndrainArgs, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let member = members::find(&view, &args.node)?;
    // The order is given whatever it is: somebody may be draining it this moment.
    let was = read(&cluster, member).await?;
    let order = order(member, NodeOrderKind::Undrain);
    cluster.change_node(order).await?;
    let name = member.member.name.clone();
    let output = &context.output;
    if output.is_json() {
        output.json(&Undrained { node: name, was: was.state, up: member.up });
        return Ok(());
    }
    let (silent, start) = match member.up {
        true => ("", None),
        false => (
            ", but it does not answer",
            Some("start it with `holo agent --dir DIR`: nothing comes to it before"),
        ),
    };
    if was.is_in_service() {
        output.data(&format!("{name} was not being drained: it is in service{silent}"));
    } else {
        output.data(&format!("{name} is back in service{silent}"));
        let share = "its share of the data comes back to it; `holo status` shows how far that is";
        if start.is_none() {
            output.note(share);
        }
    }
    if let Some(start) = start {
        output.note(start);
    }
    Ok(())
}

/// Says what will be less than was asked for.
pub(crate) fn tell_warnings(warnings: &[String], context: &Context) {
    for warning in warnings {
        context.output.note(&format!("note: {warning}"));
    }
}

/// An order about a node with nothing said but what shall happen.
pub(crate) fn order(member: &MemberView, kind: NodeOrderKind) -> NodeOrder {
    NodeOrder { node: members::reference(member), kind: kind.into(), ..NodeOrder::default() }
}

/// What emptying the node would do.
///
/// # Errors
///
/// Those of asking.
pub(crate) async fn plan(cluster: &Cluster, member: &MemberView) -> Result<Report, Failure> {
    let plan = cluster.plan_drain(&members::reference(member)).await?;
    Ok(Report::new(&plan, &cluster.view()))
}

/// Tells the catalog to empty the node; done as well when it is at it already.
///
/// # Errors
///
/// [`ErrorCode::DrainRefused`] with what stands in the way.
pub(crate) async fn begin(
    cluster: &Cluster,
    member: &MemberView,
    within: Option<Duration>,
) -> Result<(), Failure> {
    let deadline_unix_ms = within.map_or(0, |within| Deadline::after(within).unix_ms());
    let order = NodeOrder { deadline_unix_ms, ..order(member, NodeOrderKind::Drain) };
    Ok(cluster.change_node(order).await?)
}

async fn read(cluster: &Cluster, member: &MemberView) -> Result<Report, Failure> {
    let drain = cluster.watch_drain(&members::reference(member)).await?;
    Ok(Report::new(&drain, &cluster.view()))
}

/// The plan, with what stands in the way of it.
pub(crate) fn show_plan(plan: &Report, context: &Context) {
    if context.output.is_json() {
        context.output.json(plan);
        return;
    }
    context.output.data(&plan.plan_in_words(context.output.color()));
}

fn finished(report: &Report, context: &Context) -> Result<(), Failure> {
    if !report.is_over() {
        let message = format!("{} is {} after its drain", report.node, report.state);
        return Err(Failure::new(ErrorCode::Internal, message));
    }
    if context.output.is_json() {
        context.output.json(report);
    } else {
        context
            .output
            .data(&format!("drained {}: it holds nothing and can be switched off", report.node));
    }
    Ok(())
}
