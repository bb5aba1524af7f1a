//! `holo agent`.

use std::path::PathBuf;

use holo_core::{ErrorCode, Failure};
use holo_node::{Config, Node};

use super::Context;
use crate::logging;
use crate::processes::Ready;
use crate::signals::{StopSignals, stdin_closed};

/// Run one node until it is told to stop
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  holo agent --config n1.toml

`holo dev --dir DIR` writes a config file for each of its nodes into DIR: a good start for your own. HOLO_NAME,
HOLO_LISTEN, HOLO_MEMORY and so on override the file. Logs go to stderr; HOLO_LOG=debug shows more of them, or
HOLO_LOG=holo_net=trace of one part. SIGTERM and Ctrl-C stop the node cleanly.")]
pub(crate) struct Args {
    /// The node's config file
    #[arg(long, value_name = "FILE", env = "HOLO_CONFIG")]
    config: PathBuf,
    /// Stop when standard input closes or the parent process dies; say in JSON when ready
    #[arg(long, hide = true)]
    supervised: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    if args.supervised {
        die_with_parent()?;
    }
    logging::start(&context.output, Some("info"))?;
    // Caught before the node starts, so that an early signal stops it too.
    let mut signals = StopSignals::catch()?;
    let config = Config::load(&args.config)?;
    let name = config.name.clone();
    let node = Node::start(config)?;
    let ready = Ready { name, node: node.id().to_string(), address: node.local_addr().to_string() };
    if args.supervised || context.output.is_json() {
        context.output.json_line(&ready);
    } else {
        let short: String = ready.node.chars().take(8).collect();
        context.output.data(&format!("ready: {} ({short}) on {}", ready.name, ready.address));
    }
    let reason = tokio::select! {
        signal = signals.next() => signal,
        () = node.stopped() => "a client's SHUTDOWN",
        () = stdin_closed(), if args.supervised => "the end of standard input",
    };
    tracing::info!(node = %ready.name, reason, "stopping");
    // A second signal does not wait for the end of a clean stop.
    tokio::select! {
        () = node.shutdown() => Ok(()),
        signal = signals.next() => {
            Err(Failure::new(ErrorCode::Cancelled, format!("stopped at once by a second {signal}")))
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
