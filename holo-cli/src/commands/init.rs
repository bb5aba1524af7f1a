//! `holo init`.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holo_core::{ErrorCode, Failure};
use holo_node::{Config, InitOptions, Initialized, NodeSettings};
use serde::Serialize;

use super::Context;
use super::agent::{NodeFlags, default_dir, serve};
use super::dev::shell_quoted;
use crate::argument::{self, argument};
use crate::logging;
use crate::quantity;

/// Found a cluster: make its first node and run it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo init --name lab --listen 10.0.0.1:7400
  holo init --name lab --listen 0.0.0.0:7400 --advertise lab1.example:7400 --zone rack1 --memory 16GiB
  holo init --name lab --no-start

Prints the `holo join` line for the next node and the two lines with which to use the cluster, then runs the node as
`holo agent` does. Its directory holds the cluster's root key and the operator's key: keep it safe. `holo agent --dir DIR`
starts the node again.")]
pub(crate) struct Args {
    /// Name of the cluster
    #[arg(long, value_name = "NAME", value_parser = argument(argument::cluster_name))]
    name: String,
    /// Name of this node [default: the machine's]
    #[arg(long, value_name = "NAME", env = "HOLO_NAME", value_parser = argument(argument::node_name), hide_env_values = true)]
    node: Option<String>,
    /// Directory to make for the node [default: ./holo-NODE]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    settings: NodeFlags,
    /// How long the first ticket is good for
    #[arg(long, value_name = "TIME", value_parser = argument(quantity::parse_duration), default_value = "1h")]
    valid: Duration,
    /// Only make the directory; `holo agent --dir DIR` starts the node
    #[arg(long)]
    no_start: bool,
}

#[derive(Serialize)]
struct Founded<'a> {
    cluster: &'a str,
    cluster_id: String,
    node: &'a str,
    addresses: [&'a str; 1],
    dir: &'a Path,
    identity: &'a Path,
    ticket: &'a str,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let settings = args.settings.settings(args.node.as_deref());
    let dir = match args.dir {
        Some(dir) => dir,
        None => default_dir(&own_name(&settings)?),
    };
    let options = InitOptions {
        cluster_name: args.name.clone(),
        node: settings,
        tickets: 1,
        ticket_lifetime: args.valid,
        ..InitOptions::default()
    };
    if !args.no_start {
        refuse_unusable_address(&options.node)?;
    }
    let made = holo_node::init(&dir, &options)?;
    let say = || announce(&made, &args.name, args.valid, context);
    if args.no_start {
        say()?;
        let dir = shell_quoted(&made.home);
        context.output.note(&format!("\n`holo agent --dir {dir}` starts the node"));
        return Ok(());
    }
    logging::start(&context.output, Some(logging::NODE_DEFAULT))?;
    let config = Config::load(&made.home, &NodeSettings::default())?;
    let mut said = Ok(());
    let served = serve(config, false, context, |_ready| said = say()).await;
    served.and(said)
}

/// The name that the node gets when nobody names it.
pub(super) fn own_name(settings: &NodeSettings) -> Result<String, Failure> {
    Ok(resolve(settings)?.name)
}

fn resolve(settings: &NodeSettings) -> Result<Config, Failure> {
    Config::resolve("", Path::new("."), &Default::default(), settings)
}

/// An address that nobody can listen on is said before there is a directory, which nobody would overwrite afterwards, or
/// a ticket is used.
pub(super) fn refuse_unusable_address(settings: &NodeSettings) -> Result<(), Failure> {
    let listen = resolve(settings)?.listen;
    let Err(source) = UdpSocket::bind(listen) else { return Ok(()) };
    let help = match source.kind() {
        ErrorKind::AddrInUse => "name another port: `--listen ADDRESS:PORT`",
        ErrorKind::PermissionDenied => "name a port from 1024 on: `--listen ADDRESS:PORT`",
        _ => {
            "name an address of this machine: `--listen ADDRESS:PORT`; where others reach it from elsewhere is `--advertise`"
        }
    };
    let message = format!("cannot listen on {listen}: {source}");
    Err(Failure::new(ErrorCode::ConfigInvalid, message).help(help))
}

fn announce(
    made: &Initialized,
    cluster: &str,
    valid: Duration,
    context: &Context,
) -> Result<(), Failure> {
    let identity =
        std::path::absolute(&made.client_identity).unwrap_or_else(|_| made.client_identity.clone());
    let ticket = made.tickets.first().map_or("", |ticket| ticket.as_str());
    if context.output.is_json() {
        context.output.json_line(&Founded {
            cluster,
            cluster_id: made.cluster.to_hex(),
            node: &made.name,
            addresses: [&made.address],
            dir: &made.home,
            identity: &identity,
            ticket,
        });
        return Ok(());
    }
    let output = &context.output;
    output.note(&format!(
        "cluster {cluster} ({}), first node {} at {}\n\nOn the next machine, within {}; `holo ticket create` makes more such lines:",
        made.cluster.short(),
        made.name,
        made.address,
        quantity::rough_duration(valid),
    ));
    output.data(&format!("holo join {ticket}"));
    output.note("\nTo use the cluster, here or wherever you copy the identity to:");
    output.data(&format!("export HOLO_CLUSTER={}", made.address));
    output.data(&format!("export HOLO_IDENTITY={}", shell_quoted(&identity)));
    output.note("");
    Ok(())
}
