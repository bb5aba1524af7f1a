//! `holo node`: look at the nodes of the cluster and say what shall become of them.

mod evict;
mod ls;
mod show;

use holo_core::Failure;
use holo_core::wire::NodeOrderKind;
use serde::Serialize;

use super::Context;
use super::drain::order;
use crate::members;

/// List, look at, cordon, uncordon and evict nodes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo node ls
  holo node show n2
  holo node cordon n2
  holo node evict n2 --plan")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ls(ls::Args),
    Show(show::Args),
    Cordon(CordonArgs),
    Uncordon(UncordonArgs),
    Evict(evict::Args),
}

/// Give a node no further partitions; those that it has stay, with what new arrays put into them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  holo node cordon n2

Arrays lie in partitions. A node's share of them stays on it, so new arrays lie there as well; it gets no more of them when
others leave or join, unless there would be too few copies without it. `holo drain` takes everything off a node.")]
struct CordonArgs {
    /// The node: its name, or the first letters of its name or id
    node: String,
}

/// Let a node be given further partitions again
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo node uncordon n2")]
struct UncordonArgs {
    /// The node: its name, or the first letters of its name or id
    node: String,
}

#[derive(Serialize)]
struct Changed {
    node: String,
    state: &'static str,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    match args.command {
        Command::Ls(args) => ls::run(&args, context).await,
        Command::Show(args) => show::run(args, context).await,
        Command::Cordon(args) => {
            let changed = change(&args.node, NodeOrderKind::Cordon, "cordoned", context);
            let name = changed.await?;
            context.output.note(&format!(
                "its share of the partitions stays on it and is served, and new arrays lie there as well; `holo drain {name}` would move all of it away"
            ));
            Ok(())
        }
        Command::Uncordon(args) => {
            change(&args.node, NodeOrderKind::Uncordon, "active", context).await.map(drop)
        }
        Command::Evict(args) => Box::pin(evict::run(args, context)).await,
    }
}

async fn change(
    wanted: &str,
    kind: NodeOrderKind,
    state: &'static str,
    context: &Context,
) -> Result<String, Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let member = members::find(&view, wanted)?;
    cluster.change_node(order(member, kind)).await?;
    let node = member.member.name.clone();
    if context.output.is_json() {
        context.output.json(&Changed { node: node.clone(), state });
    } else {
        context.output.data(&format!("{node} is {state}"));
    }
    Ok(node)
}
