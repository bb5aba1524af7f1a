//! Node processes of this machine that die with us, whatever happens to us.
//!
//! Three ropes hold each child: it stops when its standard input closes, which the kernel does for us if we are
//! killed; it asks for SIGKILL when its parent dies (Linux); and dropping its handle kills it. Children have a process
//! group of their own, so Ctrl-C in the terminal reaches us alone and we stop them in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use holo_core::{ErrorCode, Failure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Time that a node may take until it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time that a node may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of the line with which a node says that it is ready.
const READY_LINE_BYTES_MAX: u64 = 4096;
/// Bytes of a node's log that an error shows.
const LOG_TAIL_BYTES: usize = 2048;

/// The line that `holo agent --supervised` prints when it serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Name of the node.
    pub(crate) name: String,
    /// Its id.
    pub(crate) node: String,
    /// Where it listens.
    pub(crate) address: String,
}

/// Running node processes. Dropping it kills them; [`NodeProcesses::stop`] is kinder.
#[derive(Debug)]
pub(crate) struct NodeProcesses {
    nodes: Vec<NodeProcess>,
}

#[derive(Debug)]
struct NodeProcess {
    ready: Ready,
    pid: u32,
    child: Child,
    /// Open for as long as the node shall run.
    stdin: Option<ChildStdin>,
    log: PathBuf,
    ended: bool,
}

/// A node process that ended although nobody stopped it.
#[derive(Debug)]
pub(crate) struct Death {
    /// Its name.
    pub(crate) name: String,
    /// Its process id.
    pub(crate) pid: u32,
    /// How it ended: `signal: 9 (SIGKILL)`.
    pub(crate) how: String,
    /// What it said until then.
    pub(crate) log: PathBuf,
    /// Node processes that still run.
    pub(crate) left: usize,
}

impl NodeProcesses {
    /// Starts a node with each of these config files and waits until all of them serve. Logs go beside the nodes'
    /// directories.
    ///
    /// Must run on the main thread: the kernel ties the children to the thread that started them.
    ///
    /// # Errors
    ///
    /// What the first node that did not start says for itself; the others are killed.
    pub(crate) async fn start(configs: &[PathBuf]) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|source| failed(format!("cannot find this program: {source}")))?;
        let mut starting = Vec::with_capacity(configs.len());
        for config in configs {
            let home = config.parent().unwrap_or(config);
            starting.push(Starting::spawn(&program, home)?);
        }
        let mut nodes = Vec::with_capacity(starting.len());
        for node in starting {
            nodes.push(node.ready().await?);
        }
        Ok(Self { nodes })
    }

    /// The processes of the running nodes, by name.
    pub(crate) fn pids(&self) -> BTreeMap<String, u32> {
        let running = self.nodes.iter().filter(|node| !node.ended);
        running.map(|node| (node.ready.name.clone(), node.pid)).collect()
    }

    /// Waits until a node ends by itself; for ever when none does or all have.
    pub(crate) async fn next_death(&mut self) -> Death {
        let running = self.nodes.iter().filter(|node| !node.ended).count();
        let waits = self.nodes.iter_mut().filter(|node| !node.ended).map(NodeProcess::wait);
        let (index, how) = first_of(waits.collect()).await;
        let mut alive = self.nodes.iter_mut().filter(|node| !node.ended);
        match alive.nth(index) {
            Some(node) => {
                node.ended = true;
                Death {
                    name: node.ready.name.clone(),
                    pid: node.pid,
                    how,
                    log: node.log.clone(),
                    left: running - 1,
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Stops all nodes and waits until they are gone; kills those that take too long.
    ///
    /// # Errors
    ///
    /// Names the nodes that had to be killed. All are gone in any case.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        for node in &mut self.nodes {
            drop(node.stdin.take());
        }
        let mut killed = Vec::new();
        for node in self.nodes.iter_mut().filter(|node| !node.ended) {
            if tokio::time::timeout(STOP_TIMEOUT, node.child.wait()).await.is_err() {
                killed.push(format!("{} (process {})", node.ready.name, node.pid));
                // An error means that it is gone already.
                node.child.kill().await.ok();
            }
        }
        if killed.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::DeadlineExceeded,
            format!(
                "{} did not stop in {} s and was killed",
                killed.join(", "),
                STOP_TIMEOUT.as_secs()
            ),
        ))
    }
}

impl NodeProcess {
    async fn wait(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => describe(status),
            Err(source) => format!("cannot be waited for: {source}"),
        }
    }
}

struct Starting {
    home: PathBuf,
    log: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
}

impl Starting {
    fn spawn(program: &Path, home: &Path) -> Result<Self, Failure> {
        let log = home.with_extension("log");
        let log_file = std::fs::File::create(&log)
            .map_err(|source| failed(format!("{}: {source}", log.display())))?;
        let mut command = Command::new(program);
        command
            .args(["agent", "--supervised", "--dir"])
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .process_group(0)
            .kill_on_drop(true);
        // What the user exported is meant for clients; it must not change the nodes of a throw-away cluster.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("HOLO_") && text != "HOLO_LOG" {
                command.env_remove(&name);
            }
        }
        let mut child = command
            .spawn()
            .map_err(|source| failed(format!("cannot start {}: {source}", program.display())))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Ok(Self { home: home.to_owned(), log, child, stdin, stdout })
    }

    async fn ready(mut self) -> Result<NodeProcess, Failure> {
        let stdout = self.stdout.take();
        let waited = tokio::time::timeout(START_TIMEOUT, read_line(stdout)).await;
        let Ok(line) = waited else {
            let message = format!("a node was not ready after {} s", START_TIMEOUT.as_secs());
            return Err(self.explain(Failure::new(ErrorCode::DeadlineExceeded, message)));
        };
        match serde_json::from_str::<Ready>(&line) {
            Ok(ready) => Ok(NodeProcess {
                ready,
                pid: self.child.id().unwrap_or_default(),
                child: self.child,
                stdin: self.stdin,
                log: self.log,
                ended: false,
            }),
            Err(_) => Err(self.explain(failed("a node ended before it was ready".to_owned()))),
        }
    }

    /// Adds what the node itself said last.
    fn explain(&self, failure: Failure) -> Failure {
        let failure = failure.context(self.home.display());
        match log_tail(&self.log) {
            Some(tail) => failure.help(format!("it said:\n{tail}")),
            None => failure,
        }
    }
}

/// The end of a node's log; `None` when it said nothing.
fn log_tail(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let tail = &bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..];
    let text = String::from_utf8_lossy(tail).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

async fn read_line(stdout: Option<ChildStdout>) -> String {
    let mut line = String::new();
    if let Some(stdout) = stdout {
        // A broken pipe or bytes that are no text leave a line that is no ready line.
        BufReader::new(stdout.take(READY_LINE_BYTES_MAX)).read_line(&mut line).await.ok();
    }
    line
}

/// The first of several futures that ends, with its index; never when there are none.
async fn first_of<F: Future>(futures: Vec<F>) -> (usize, F::Output) {
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(move |context| {
        for (index, future) in pinned.iter_mut().enumerate() {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(context) {
                return std::task::Poll::Ready((index, output));
            }
        }
        std::task::Poll::Pending
    })
    .await
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

fn failed(message: String) -> Failure {
    Failure::new(ErrorCode::FileFailed, message)
}
