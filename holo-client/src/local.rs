//! A cluster of processes on this machine that lives as long as we do.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use holo_core::ErrorCode;

use crate::options::ENV_BINARY;
use crate::{Cluster, Error, Options, Result};

/// How long the nodes may take until they are ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the nodes may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the line in which the child says that it is ready.
const READY_LINE_BYTES_MAX: usize = 64 << 10;
/// The version of that line that we read.
const READY_VERSION: u32 = 1;

/// Nodes on loopback, started by [`Cluster::local`]; use it as the [`Cluster`] that it dereferences to.
///
/// The nodes hold on to the pipe that we keep open: they stop when this value is closed or dropped, and also when our
/// process dies in any way.
#[derive(Debug)]
pub struct LocalCluster {
    cluster: Cluster,
    child: Child,
    stdin: Option<ChildStdin>,
    ready: Ready,
}

impl LocalCluster {
    pub(crate) async fn start(nodes: usize, options: Options) -> Result<Self> {
        if nodes == 0 {
            return Err(Error::new(ErrorCode::InvalidArgument, "a local cluster of 0 nodes"));
        }
        let binary = find_binary(&options)?;
        let mut child = spawn(&binary, nodes)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new(ErrorCode::Internal, "the child has no pipes"));
        };
        let ready = match tokio::time::timeout(START_TIMEOUT, read_ready(stdout)).await {
            Ok(ready) => ready,
            Err(_elapsed) => Err(Error::new(
                ErrorCode::DeadlineExceeded,
                format!("the local nodes were not ready after {} s", START_TIMEOUT.as_secs()),
            )),
        };
        let ready = ready.map_err(|error| error.context(binary.display()))?;
        let options =
            options.addresses_from(ready.addresses.iter().cloned()).identity(&ready.identity);
        let cluster = Cluster::connect(options).await?;
        Ok(Self { cluster, child, stdin: Some(stdin), ready })
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Addresses of the nodes, for other programs that want to use them.
    pub fn addresses(&self) -> &[String] {
        &self.ready.addresses
    }

    /// The identity file with which other programs may use the nodes while they run.
    pub fn identity(&self) -> &Path {
        &self.ready.identity
    }

    /// Stops the nodes and waits until they are gone.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DeadlineExceeded`] when they are still there after 10 s; they are then killed.
    pub async fn close(mut self) -> Result<()> {
        self.cluster.disconnect().await;
        drop(self.stdin.take());
        if let Ok(ended) = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await {
            return match ended {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(Error::new(
                    ErrorCode::Internal,
                    format!("the local nodes ended with {status}"),
                )),
                Err(source) => Err(Error::new(
                    ErrorCode::Internal,
                    format!("cannot wait for the local nodes: {source}"),
                )),
            };
        }
        let killed = self.child.kill().await;
        let outcome = killed.map_or_else(|source| source.to_string(), |()| "killed".to_owned());
        Err(Error::new(
            ErrorCode::DeadlineExceeded,
            format!("the local nodes were still there after {STOP_TIMEOUT:?}: {outcome}"),
        ))
    }
}

impl Deref for LocalCluster {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

/// What the child says when its nodes are ready.
#[derive(Debug, Deserialize)]
struct Ready {
    version: u32,
    addresses: Vec<String>,
    identity: PathBuf,
}

impl Ready {
    fn parse(line: &str) -> Result<Self> {
        let ready: Self = serde_json::from_str(line).map_err(|source| {
            Error::new(
                ErrorCode::Malformed,
                format!("{line:?} does not say where the nodes are: {source}"),
            )
        })?;
        if ready.version != READY_VERSION || ready.addresses.is_empty() {
            let message = format!(
                "{} addresses in a line of version {}; this side reads version {READY_VERSION}",
                ready.addresses.len(),
                ready.version
            );
            return Err(Error::new(ErrorCode::VersionMismatch, message)
                .help("use a holo program of the same release"));
        }
        Ok(ready)
    }
}

async fn read_ready(stdout: ChildStdout) -> Result<Ready> {
    let mut line = Vec::new();
    let mut reader = BufReader::new(stdout);
    while line.last() != Some(&b'\n') && line.len() < READY_LINE_BYTES_MAX {
        let part = reader.fill_buf().await.map_err(|source| {
            Error::new(ErrorCode::Internal, format!("cannot read from the local nodes: {source}"))
        })?;
        if part.is_empty() {
            return Err(Error::new(ErrorCode::Internal, "it ended before its nodes were ready")
                .help("its own messages on standard error say why"));
        }
        let end = part.iter().position(|byte| *byte == b'\n').map_or(part.len(), |at| at + 1);
        line.extend_from_slice(&part[..end]);
        reader.consume(end);
    }
    Ready::parse(String::from_utf8_lossy(&line).trim())
}

fn spawn(binary: &Path, nodes: usize) -> Result<Child> {
    Command::new(binary)
        .arg("dev")
        .arg("--nodes")
        .arg(nodes.to_string())
        .arg("--child")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Its own group: Ctrl-C in a terminal interrupts us, not the nodes that we may still want to use.
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(|source| {
            let message = format!("cannot start {}: {source}", binary.display());
            Error::new(ErrorCode::FileFailed, message)
        })
}

/// Options, the environment, beside our own program, then PATH.
fn find_binary(options: &Options) -> Result<PathBuf> {
    if let Some(path) = options.binary_path() {
        return existing(path.to_owned(), "the options name it");
    }
    if let Some(path) = std::env::var_os(ENV_BINARY).filter(|path| !path.is_empty()) {
        return existing(path.into(), ENV_BINARY);
    }
    let name = format!("holo{}", std::env::consts::EXE_SUFFIX);
    let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
    // Examples and tests lie one folder below the programs of their build.
    let above = beside.as_deref().and_then(Path::parent).map(Path::to_owned);
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(above)
        .chain(std::env::split_paths(&on_path))
        .map(|folder| folder.join(&name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::new(ErrorCode::NotFound, format!("no {name} beside this program or on PATH"))
                .help(format!("build it with `cargo build --release --bin holo`, or set {ENV_BINARY} to its path"))
        })
}

fn existing(path: PathBuf, source: &str) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::new(ErrorCode::NotFound, format!("no program {} ({source})", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read_and_anything_else_refused() {
        let line = r#"{"version":1,"addresses":["127.0.0.1:7"],"identity":"/x/me","more":true}"#;
        let ready = Ready::parse(line).unwrap();
        assert_eq!(ready.addresses, ["127.0.0.1:7"]);
        assert_eq!(ready.identity, Path::new("/x/me"));
        assert_eq!(Ready::parse("hello").unwrap_err().code(), ErrorCode::Malformed);
        let newer = line.replace(":1,", ":2,");
        assert_eq!(Ready::parse(&newer).unwrap_err().code(), ErrorCode::VersionMismatch);
        let nowhere = line.replace("\"127.0.0.1:7\"", "");
        assert_eq!(Ready::parse(&nowhere).unwrap_err().code(), ErrorCode::VersionMismatch);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let options = Options::new().binary("/nowhere/holo");
        let refused = LocalCluster::start(3, options).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NotFound);
        assert!(refused.message().contains("/nowhere/holo"), "{refused}");
    }

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_an_error_and_not_a_wait() {
        let options = Options::new().binary("/bin/true");
        let refused = LocalCluster::start(3, options).await.unwrap_err();
        assert!(refused.message().contains("before its nodes were ready"), "{refused}");
    }

    #[tokio::test]
    async fn no_nodes_are_no_cluster() {
        let refused = LocalCluster::start(0, Options::new()).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    }
}
