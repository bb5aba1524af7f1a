//! `holo drain`.

use holo_core::{ErrorCode, Failure};

use super::Context;
use super::status::find_node;

/// Move everything off a node, so that it can be stopped (not yet)
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  holo drain n2

Refuses with HC1801: shards do not move between nodes yet.")]
pub(crate) struct Args {
    /// Name of the node, or the first digits of its id
    node: String,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    // That the node or the whole cluster is not there is the more urgent news.
    let cluster = context.connect().await?;
    let node = find_node(&cluster, &args.node)?;
    let message =
        format!("node {} cannot be drained: shards do not move between nodes yet", node.name);
    Err(Failure::new(ErrorCode::NotYet, message).help(format!(
        "save the arrays with `holo array get NAME --out FILE`, then stop the node with `holo shutdown --node {} --now`",
        node.name
    )))
}
