//! `holo leave`.

use std::path::PathBuf;
use std::time::Duration;

use holo_core::wire::NodeOrderKind;
use holo_core::{ErrorCode, Failure, Retry};
use holo_node::{Config, NodeSettings};
use serde::Serialize;

use super::{Context, confirm, drain};
use crate::argument::argument;
use crate::members;
use crate::quantity;

/// Take this node out of the cluster: drain it, then let it go
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo leave --dir holo-n2
  holo leave --node n2 --plan

The data is copied to the others first. The node's process ends by itself when it has left; to come back it needs a new
ticket and a new directory. Ctrl-C leaves the drain to go on, and nothing more: the node is a member until the same
command, given again, has seen the drain's end. `holo undrain` takes the drain back.")]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct Args {
    /// Directory of the node
    #[arg(long, value_name = "DIR", env = "HOLO_DIR", group = "which", hide_env_values = true)]
    dir: Option<PathBuf>,
    /// The node, when its directory is elsewhere: its name, or the first letters of its name or id
    #[arg(long, value_name = "NODE", group = "which")]
    node: Option<String>,
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// When it should be empty: 10m, 2h; exit code 9 when it is not, and the drain goes on
    #[arg(long, value_name = "TIME", value_parser = argument(quantity::parse_duration), conflicts_with = "plan")]
    deadline: Option<Duration>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Left {
    left: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let wanted = match (&args.dir, args.node) {
        (Some(dir), _) => Config::load(dir, &NodeSettings::default())?.name,
        (None, Some(node)) => node,
        (None, None) => {
            return Err(Failure::new(ErrorCode::InvalidArgument, "neither --dir nor --node"));
        }
    };
    let cluster = context.connect_beside(args.dir.as_deref()).await?;
    let view = cluster.view();
    let member = members::find(&view, &wanted)?;
    let name = &member.member.name;
    let plan = drain::plan(&cluster, member).await?;
    if args.plan {
        drain::show_plan(&plan, context);
        return plan.refusal();
    }
    plan.refusal()?;
    let question = match plan.is_over() {
        true => format!("Take {name} out of the cluster? It holds nothing."),
        false => format!("Drain {name} and take it out of the cluster? {}.", plan.in_words()),
    };
    if !plan.is_over() {
        drain::tell_warnings(&plan.warnings, context);
    }
    confirm(context, args.yes, &question)?;
    if !plan.is_over() {
        drain::begin(&cluster, member, args.deadline).await?;
        let followed = drain::follow(&cluster, member, &plan.warnings, args.deadline, context);
        followed.await.map_err(|failure| unfinished(failure, name))?;
    }
    cluster.change_node(drain::order(member, NodeOrderKind::Leave)).await?;
    if context.output.is_json() {
        context.output.json(&Left { left: name.clone() });
    } else {
        context.output.data(&format!("{name} has left the cluster"));
        context.output.note("its process ends by itself; its directory is of no more use");
    }
    Ok(())
}

/// What is to be done where nobody sees the drain's end: it goes on by itself, the leave does not.
fn unfinished(failure: Failure, name: &str) -> Failure {
    let goes_on = failure.code == ErrorCode::Cancelled || failure.code.retry() != Retry::Never;
    if !goes_on {
        return failure;
    }
    failure.help(format!(
        "{name} stays a member, drained or not, until `holo leave --node {name}` is given again; `holo undrain {name}` takes the drain back"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It named only `holo drain`, after which the node was drained and a member for ever.
    #[test]
    fn whoever_interrupts_a_leave_is_told_to_give_it_again() {
        for code in [ErrorCode::Cancelled, ErrorCode::DeadlineExceeded, ErrorCode::Unreachable] {
            let failure = Failure::new(code, "the drain of n5 goes on").help("`holo drain n5`");
            let help = unfinished(failure, "n5").help.unwrap();
            assert!(help.contains("`holo leave --node n5`"), "{help}");
            assert!(help.contains("`holo undrain n5`"), "{help}");
        }
        let taken_back = Failure::new(ErrorCode::Conflict, "the drain of n5 was taken back");
        assert_eq!(unfinished(taken_back, "n5").help, None);
    }
}
