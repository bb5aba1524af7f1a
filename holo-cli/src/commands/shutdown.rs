//! `holo shutdown`.

use holo_client::{Cluster, MemberStatus};
use holo_core::{ErrorCode, Failure, Member};
use serde::Serialize;

use super::status::find_node;
use super::{Context, confirm};
use crate::quantity;

/// Stop one node or all of them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo shutdown --node n2 --now
  holo shutdown --all --now --yes

A clean stop would first move the node's shards to others; that is not possible yet, so without --now it refuses with
HC1801. With --now the node stops and what only it held is lost.")]
#[command(group = clap::ArgGroup::new("which").required(true))]
pub(crate) struct Args {
    /// The node: its name, or the first digits of its id
    #[arg(long, value_name = "NODE", group = "which")]
    node: Option<String>,
    /// Every node
    #[arg(long, group = "which")]
    all: bool,
    /// Stop at once, without saving anything
    #[arg(long)]
    now: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Stopped {
    stopped: Vec<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let nodes: Vec<Member> = match &args.node {
        Some(wanted) => vec![find_node(&cluster, wanted)?],
        None => cluster.membership().members().to_vec(),
    };
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    if !args.now {
        let message = format!(
            "{} cannot stop cleanly: shards do not move between nodes yet",
            names.join(", ")
        );
        return Err(Failure::new(ErrorCode::NotYet, message)
            .help("give --now to stop all the same and lose what only these nodes hold"));
    }
    let status = cluster.status().await;
    let lost = what_is_lost(&status, &nodes);
    confirm(context, args.yes, &format!("Stop {}? {lost}", names.join(", ")))?;
    context.output.note(&format!("stopping {}: {lost}", names.join(", ")));
    for node in &nodes {
        let answered = status.iter().any(|said| said.member == *node && said.outcome.is_ok());
        stop(&cluster, node, answered).await?;
    }
    if context.output.is_json() {
        context.output.json(&Stopped { stopped: names });
    } else {
        context.output.data(&format!("stopped {}", names.join(", ")));
    }
    Ok(())
}

async fn stop(cluster: &Cluster, node: &Member, answered: bool) -> Result<(), Failure> {
    let Err(error) = cluster.shutdown(node.node, true).await else { return Ok(()) };
    match error.code() {
        // The node may be gone before its reply is out, or have been told by somebody else.
        ErrorCode::ShuttingDown => Ok(()),
        ErrorCode::ConnectionLost | ErrorCode::Unreachable if answered => Ok(()),
        _ => Err(Failure::from(error).context(format!("node {}", node.name))),
    }
}

/// Says what goes with the nodes; there is only one copy of each shard.
fn what_is_lost(status: &[MemberStatus], nodes: &[Member]) -> String {
    let (mut shards, mut bytes) = (0, 0);
    for status in status {
        if let (true, Ok(said)) = (nodes.contains(&status.member), &status.outcome) {
            shards += said.shards;
            bytes += said.frame_bytes;
        }
    }
    format!(
        "{} with {} of data will be lost.",
        quantity::counted(shards, "shard"),
        quantity::bytes(bytes)
    )
}
