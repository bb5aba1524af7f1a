//! `holo join`.

use std::path::PathBuf;
use std::time::Duration;

use holo_core::{Failure, JoinTicket};
use holo_node::{Config, JoinOptions, Joined, NodeSettings};
use serde::Serialize;

use super::Context;
use super::agent::{NodeFlags, default_dir, serve};
use super::dev::shell_quoted;
use super::init::{own_name, refuse_unusable_address};
use crate::argument::{self, argument};
use crate::clock::pause;
use crate::logging;
use crate::quantity;
use crate::settings::Settings;

/// After how long a join that has no answer yet says whom it asks.
const WORD_AFTER: Duration = Duration::from_millis(2500);

/// Join a cluster with a ticket: make a node and run it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo join holo1... --listen 10.0.0.2:7400
  holo join holo1... --name n2 --zone rack2 --memory 16GiB
  holo join - < ticket.txt

The ticket comes from `holo init` or `holo ticket create`; it lets one node in, once. It names the key of the cluster, so
nobody else can pose as it. The node then runs as with `holo agent`, which starts it again later: no ticket is needed
for that. When nobody knows whether it was let in, the same line finds out.")]
pub(crate) struct Args {
    /// The ticket, or - to read it from standard input
    ticket: String,
    /// Name of this node [default: the machine's]
    #[arg(long, value_name = "NAME", env = "HOLO_NAME", value_parser = argument(argument::node_name), hide_env_values = true)]
    name: Option<String>,
    /// Directory to make for the node [default: ./holo-NAME]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    settings: NodeFlags,
    /// Only join; `holo agent --dir DIR` starts the node
    #[arg(long)]
    no_start: bool,
}

#[derive(Serialize)]
struct Member<'a> {
    cluster: &'a str,
    cluster_id: String,
    node: &'a str,
    number: u32,
    address: &'a str,
    dir: &'a std::path::Path,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let ticket = match args.ticket.as_str() {
        "-" => argument::stdin_text()?,
        ticket => ticket.to_owned(),
    };
    let settings = args.settings.settings(args.name.as_deref());
    let dir = match args.dir {
        Some(dir) => dir,
        None => default_dir(&own_name(&settings)?),
    };
    if !args.no_start {
        refuse_unusable_address(&settings)?;
    }
    let options =
        JoinOptions { node: settings, deadline: Settings::resolve(&context.flags)?.timeout() };
    let mut joining = std::pin::pin!(holo_node::join(&dir, &ticket, &options));
    let joined = tokio::select! {
        biased;
        () = pause(WORD_AFTER) => {
            context.output.note(&waiting_in_words(&ticket, options.deadline)?);
            joining.await
        }
        joined = &mut joining => joined,
    }?;
    announce(&joined, context);
    if args.no_start {
        let dir = shell_quoted(&joined.home);
        context.output.note(&format!("`holo agent --dir {dir}` starts the node"));
        return Ok(());
    }
    logging::start(&context.output, Some(logging::NODE_DEFAULT))?;
    let config = Config::load(&joined.home, &NodeSettings::default())?;
    serve(config, false, context, |_ready| {}).await
}

/// Whom a join that takes long asks, and for how long.
fn waiting_in_words(ticket: &str, deadline: Duration) -> Result<String, Failure> {
    let addresses = JoinTicket::parse(ticket)?.addresses.join(", ");
    let deadline = quantity::rough_duration(deadline);
    Ok(format!("not let in yet; asking at {addresses}, for {deadline} in all"))
}

fn announce(joined: &Joined, context: &Context) {
    let (cluster, node) = (&joined.cluster_name, &joined.name);
    if context.output.is_json() {
        context.output.json_line(&Member {
            cluster,
            cluster_id: joined.cluster.to_hex(),
            node,
            number: joined.number.0,
            address: &joined.address,
            dir: &joined.home,
        });
        return;
    }
    let dir = shell_quoted(&joined.home);
    context.output.data(&format!("{node} has joined cluster {cluster}"));
    context.output.note(&format!(
        "others reach it at {}; its directory is {dir}, by which `holo agent --dir {dir}` starts it again",
        joined.address
    ));
}
