//! `holo dev`.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holo_client::{Cluster, ClusterView, Options};
use holo_core::{ErrorCode, Failure};
use holo_node::dev::{DevCluster, DevOptions};
use serde::Serialize;

use super::Context;
use crate::argument::argument;
use crate::clock::{Deadline, pause};
use crate::processes::NodeProcesses;
use crate::progress::Progress;
use crate::quantity;
use crate::signals::{StopSignals, stdin_closed};

/// Mode of a folder that only we may enter.
const OWNER_ONLY: u32 = 0o700;
/// Time that the nodes may take to find each other.
const GATHER_WITHIN: Duration = Duration::from_secs(60);
/// Time between two looks at how far they are.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Keep a cluster of node processes on this machine running
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  holo dev --nodes 3

The first node founds the cluster and the others join it, as with `holo init` and `holo join`. Prints the two lines to use
it from another shell, then runs until Ctrl-C or SIGTERM stops it. The data lives in memory only and is gone when it
stops; while it runs, any one node may die.")]
pub(crate) struct Args {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,
    /// Folder for keys, configs and logs; kept afterwards [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Memory of each node for array data
    #[arg(long, value_name = "BYTES", value_parser = argument(quantity::parse_bytes), default_value = "4GiB")]
    memory: u64,
    /// Say where the cluster is in one line of JSON and stop when standard input closes
    #[arg(long, hide = true)]
    child: bool,
}

/// The line that `--child` prints; `holo-client` reads it.
#[derive(Serialize)]
struct ChildReady {
    addresses: Vec<String>,
    identity: PathBuf,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let mut signals = StopSignals::catch()?;
    let folder = Folder::new(args.dir.as_deref())?;
    let cluster = prepare(folder.path(), "dev", args.nodes, args.memory)?;
    let starting = Progress::spinner(&context.output, "starting the nodes");
    let started = tokio::select! {
        started = start(&cluster) => started,
        signal = signals.next() => Err(interrupted(signal)),
    };
    drop(starting);
    let mut nodes = started?;
    announce(&args, context, &cluster);

    let mut parent_gone = std::pin::pin!(args.child.then(stdin_closed));
    let mut any_left = true;
    let ended = loop {
        tokio::select! {
            signal = signals.next() => break format!("stopped by {signal}"),
            () = until_some(parent_gone.as_mut()) => break "standard input closed".to_owned(),
            death = nodes.next_death(), if any_left => {
                any_left = death.left > 0;
                context.output.warn(&format!(
                    "node {} (process {}) ended: {}; its log is {}. {} of {} nodes are left; `holo status` shows how they make up for it.",
                    death.name, death.pid, death.how, death.log.display(), death.left, args.nodes,
                ));
                if !any_left {
                    return Err(Failure::new(ErrorCode::DataLost, "all nodes of the cluster have died")
                        .help("give --dir DIR to keep their logs"));
                }
            }
        }
    };
    let stopping = nodes.stop().await;
    if !args.child {
        context.output.note(&format!("{ended}; all nodes are gone, and so is their data"));
    }
    stopping
}

/// Starts the nodes; when this returns, they answer.
async fn start(cluster: &DevCluster) -> Result<NodeProcesses, Failure> {
    let nodes = NodeProcesses::start(&cluster.configs).await?;
    let client = Cluster::connect(client_options(cluster)).await?;
    gather(&client, cluster.configs.len()).await?;
    client.disconnect().await;
    Ok(nodes)
}

/// Waits until so many nodes are members, up, and known to all who ask; and as many of them vote as shall.
///
/// # Errors
///
/// [`ErrorCode::DeadlineExceeded`], naming those that are there.
pub(super) async fn gather(cluster: &Cluster, nodes: usize) -> Result<(), Failure> {
    let deadline = Deadline::after(GATHER_WITHIN);
    loop {
        let view = cluster.refresh().await?;
        let there = in_service(&view);
        let voters = match nodes {
            1 | 2 => 1,
            _ => 3,
        };
        if there.len() >= nodes && cluster.report().await?.voters.len() >= voters {
            return Ok(());
        }
        if deadline.is_past() {
            let message = format!(
                "{} of {nodes} nodes joined within {} s: {}",
                there.len(),
                GATHER_WITHIN.as_secs(),
                there.join(", ")
            );
            return Err(Failure::new(ErrorCode::DeadlineExceeded, message)
                .help("give --dir DIR and look into the logs there"));
        }
        pause(LOOK_INTERVAL).await;
    }
}

fn in_service(view: &ClusterView) -> Vec<&str> {
    let there = view.members().iter().filter(|member| member.up && member.state == "active");
    there.map(|member| member.member.name.as_str()).collect()
}

/// How to reach a cluster of this machine.
pub(super) fn client_options(cluster: &DevCluster) -> Options {
    Options::new()
        .addresses_from(cluster.addresses.iter().map(ToString::to_string))
        .identity(&cluster.client_identity)
}

/// Waits for the future, for ever when there is none.
async fn until_some(future: std::pin::Pin<&mut Option<impl Future<Output = ()>>>) {
    match future.as_pin_mut() {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

fn announce(args: &Args, context: &Context, cluster: &DevCluster) {
    let output = &context.output;
    let addresses: Vec<String> = cluster.addresses.iter().map(ToString::to_string).collect();
    if args.child {
        output.json_line(&ChildReady { addresses, identity: cluster.client_identity.clone() });
        return;
    }
    if output.is_json() {
        output.json_line(&ChildReady { addresses, identity: cluster.client_identity.clone() });
    } else {
        output.data(&format!("export HOLO_CLUSTER={}", addresses.join(",")));
        output.data(&format!("export HOLO_IDENTITY={}", shell_quoted(&cluster.client_identity)));
    }
    output.note(&format!(
        "\n{} on this machine. The data lives in memory only and is gone when this command ends.\n\
         Paste the two lines above into another shell, then try:\n\n  \
         holo status\n  \
         holo allocate demo/a --shape 1000000 --dtype float64\n  \
         holo run --expr 'sqrt(i)' --out demo/a\n  \
         holo run --expr 'sum(x)' --in x=demo/a\n  \
         holo array get 'demo/a[0:10]'\n\n\
         Ctrl-C stops the cluster.",
        quantity::counted(u64::from(args.nodes), "node")
    ));
}

/// Quotes a path for a POSIX shell when it needs it.
pub(super) fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Fresh identities, configs and addresses for a cluster on this machine.
pub(super) fn prepare(
    dir: &Path,
    name: &str,
    nodes: u16,
    memory_bytes: u64,
) -> Result<DevCluster, Failure> {
    let options = DevOptions {
        memory: memory_bytes.to_string(),
        cluster_name: name.to_owned(),
        ..DevOptions::default()
    };
    holo_node::dev::prepare(dir, usize::from(nodes), &options)
}

/// What a command ends with that a signal stopped before its end.
pub(super) fn interrupted(signal: &str) -> Failure {
    Failure::new(ErrorCode::Cancelled, format!("stopped by {signal}"))
}

/// Where keys, configs and logs lie: a folder that stays, or one that goes with us.
pub(super) enum Folder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    /// Makes the folder, for us alone: it will hold keys.
    pub(super) fn new(wanted: Option<&Path>) -> Result<Self, Failure> {
        let failed = |source: std::io::Error| {
            Failure::new(
                ErrorCode::FileFailed,
                format!("cannot make a folder for the cluster: {source}"),
            )
        };
        let Some(wanted) = wanted else {
            return tempfile::Builder::new()
                .prefix("holo-")
                .permissions(std::fs::Permissions::from_mode(OWNER_ONLY))
                .tempdir()
                .map(Self::Temporary)
                .map_err(failed);
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(OWNER_ONLY)
            .create(wanted)
            .map_err(failed)?;
        if std::fs::read_dir(wanted).map_err(failed)?.next().is_some() {
            let message = format!("folder {} is not empty", wanted.display());
            return Err(Failure::new(ErrorCode::AlreadyExists, message)
                .help("a cluster gets fresh keys at every start: name a new folder, or none"));
        }
        std::path::absolute(wanted).map(Self::Kept).map_err(failed)
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
