//! `holo agent`, and what `init`, `join` and it have in common: running one node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holo_core::{ErrorCode, Failure};
use holo_node::{Config, Node, NodeSettings};

use super::Context;
use crate::argument::argument;
use crate::logging;
use crate::processes::Ready;
use crate::quantity;
use crate::signals::{StopSignals, stdin_closed};

/// Time after which a node that waits for its cluster says so.
const WORD_INTERVAL: Duration = Duration::from_secs(5);

/// Start a node again that `holo init` or `holo join` made, and run it until it is told to stop
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  holo agent --dir holo-n1

The node finds its cluster again by itself and fetches what it missed. node.toml in its directory holds its settings;
HOLO_LISTEN, HOLO_MEMORY and so on go over it, and flags over both. Logs go to stderr; HOLO_LOG=debug shows more of them,
or HOLO_LOG=holo_net=trace of one part. SIGTERM and Ctrl-C stop the node cleanly: it writes down what it
holds first, however long that takes. A second signal ends it at once.")]
pub(crate) struct Args {
    /// Directory of the node
    #[arg(long, value_name = "DIR", env = "HOLO_DIR", hide_env_values = true)]
    dir: PathBuf,
    #[command(flatten)]
    node: NodeFlags,
    /// Stop when standard input closes or the parent process dies; say in JSON when ready
    #[arg(long, hide = true)]
    supervised: bool,
}

/// What can be said of a node on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Node")]
pub(super) struct NodeFlags {
    /// UDP address to listen on [default: 0.0.0.0:7400]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where others reach it, when that is not where it listens
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Failure domain: copies of one thing go to different ones
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Relative capacity [default: 1]
    #[arg(long, value_name = "NUMBER")]
    weight: Option<f64>,
    /// Memory for array data [default: 2GiB]
    #[arg(long, value_name = "BYTES", value_parser = argument(quantity::parse_bytes))]
    memory: Option<u64>,
    /// Threads that run kernels [default: the cores]
    #[arg(long, value_name = "COUNT")]
    workers: Option<usize>,
}

impl NodeFlags {
    /// As settings of a node, with a name where one was given.
    pub(super) fn settings(&self, name: Option<&str>) -> NodeSettings {
        NodeSettings {
            name: name.map(str::to_owned),
            listen: self.listen.clone(),
            advertise: self.advertise.clone(),
            zone: self.zone.clone(),
            weight: self.weight,
            memory: self.memory.map(|bytes| bytes.to_string()),
            workers: self.workers,
            ..NodeSettings::default()
        }
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.supervised {
        die_with_parent()?;
    }
    logging::start(&context.output, Some(logging::NODE_DEFAULT))?;
    let config = Config::load(&args.dir, &args.node.settings(None))?;
    let config = Config { temporary: args.supervised, ..config };
    serve(config, args.supervised, context, |_ready| {}).await
}

/// The directory of a node that nobody named: `holo-NAME` in the current one.
pub(super) fn default_dir(name: &str) -> PathBuf {
    let usable = |letter: char| letter.is_alphanumeric() || "._-".contains(letter);
    let letters: String =
        name.chars().map(|letter| if usable(letter) { letter } else { '-' }).collect();
    Path::new(".").join(format!("holo-{letters}"))
}

/// Runs a node until somebody stops it. `ready` is called once it answers.
///
/// # Errors
///
/// Why it did not start, or why its cluster has put it out.
pub(super) async fn serve(
    config: Config,
    supervised: bool,
    context: &Context,
    ready: impl FnOnce(&Ready),
) -> Result<(), Failure> {
    // Caught before the node starts, so that an early signal stops it too.
    let mut signals = StopSignals::catch()?;
    let name = config.name.clone();
    let node = tokio::select! {
        node = Node::start(config) => node?,
        signal = signals.next() => {
            tracing::info!(signal, "stopped before it had started");
            return Ok(());
        }
    };
    let said = Ready { name, node: node.id().to_string(), address: node.local_addr().to_string() };
    let served = async {
        wait_until_ready(&node, context).await?;
        ready(&said);
        if supervised || context.output.is_json() {
            context.output.json_line(&said);
        } else {
            let short: String = said.node.chars().take(8).collect();
            context.output.data(&format!("ready: {} ({short}) on {}", said.name, said.address));
        }
        node.stopped().await.map_or(Ok("an operator's word"), Err)
    };
    let ended = tokio::select! {
        ended = served => ended,
        signal = signals.next() => Ok(signal),
        () = stdin_closed(), if supervised => Ok("the end of standard input"),
    };
    if let Ok(reason) = ended {
        tracing::info!(node = %said.name, reason, "stopping");
    }
    // A second signal does not wait for the end of a clean stop.
    tokio::select! {
        stopped = node.shutdown() => ended.and(stopped),
        signal = signals.next() => {
            Err(Failure::new(ErrorCode::Cancelled, format!("stopped at once by a second {signal}")))
        }
    }
}

/// Waits until the node has found its cluster; a cluster that has no majority may take as long as it likes.
async fn wait_until_ready(node: &Node, context: &Context) -> Result<(), Failure> {
    let mut told = String::new();
    loop {
        match node.ready(WORD_INTERVAL).await {
            Err(failure) if failure.code == ErrorCode::NotReady => {
                if told != failure.message {
                    context.output.note(&format!("the node is not ready: {}", failure.message));
                    told = failure.message;
                }
            }
            ended => return ended.map(drop),
        }
    }
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> Result<(), Failure> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|source| {
        Failure::new(
            ErrorCode::Internal,
            format!("cannot tie this process to its parent: {source}"),
        )
    })
}

/// Elsewhere the end of standard input has to do.
#[cfg(not(target_os = "linux"))]
fn die_with_parent() -> Result<(), Failure> {
    Ok(())
}
