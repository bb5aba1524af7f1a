//! Nodes of one cluster in this process, each in a directory of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holo_client::{Cluster, Options};
use holo_core::wire::ClusterReport;
use holo_core::{Failure, UnixMillis};
use holo_node::dev::{DevCluster, DevOptions, prepare};
use holo_node::{Config, Node, NodeSettings};
use tempfile::TempDir;

/// How long anything may take: CI is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes that run in this process.
pub(crate) struct Harness {
    pub(crate) prepared: DevCluster,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) dir: TempDir,
}

impl Harness {
    /// Starts `count` nodes and waits until all are members.
    pub(crate) async fn start(count: usize) -> Self {
        let options =
            DevOptions { memory: "64MiB".to_owned(), workers: Some(1), ..DevOptions::default() };
        Self::start_with(count, &options).await
    }

    /// Starts `count` nodes that are not like others, and waits until all are members.
    pub(crate) async fn start_with(count: usize, options: &DevOptions) -> Self {
        show_log();
        let dir = TempDir::new().unwrap();
        let prepared = prepare(dir.path(), count, options).unwrap();
        let mut nodes = Vec::new();
        for path in &prepared.configs {
            nodes.push(Some(start(path).await.unwrap()));
        }
        let harness = Self { prepared, nodes, dir };
        harness.settle(count).await;
        harness
    }

    /// Waits until `count` nodes are active and up, and as many of them vote as should.
    pub(crate) async fn settle(&self, count: usize) {
        for node in self.nodes.iter().flatten() {
            node.ready(PATIENCE).await.unwrap();
        }
        let client = self.client().await;
        let voters = match count {
            1 | 2 => 1,
            3 | 4 => 3,
            _ => 5,
        };
        until("all nodes are active and the voters are chosen", async || {
            let report = client.report().await.ok()?;
            let active = report.nodes.iter().filter(|node| {
                node.member.as_ref().is_some_and(|member| member.state == "active" && member.up)
            });
            let all = active.count() == count && report.voters.len() == voters;
            // Until a change of the voters is through, those of before are needed as well: with one before, its death would
            // leave the two others without a leader.
            let changing = report.notes.iter().any(|note| note.contains("are being changed"));
            (all && !changing && report.voters_answering.len() == voters).then_some(())
        })
        .await;
    }

    /// A client with the identity that `prepare` made.
    pub(crate) async fn client(&self) -> Cluster {
        self.client_as(&self.prepared.client_identity).await.unwrap()
    }

    /// A client with another identity.
    pub(crate) async fn client_as(&self, identity: &Path) -> holo_client::Result<Cluster> {
        connect(self.prepared.addresses.iter().map(ToString::to_string), identity).await
    }

    /// A client that begins at these addresses.
    pub(crate) async fn client_at(&self, addresses: &[String]) -> Cluster {
        connect(addresses.iter().cloned(), &self.prepared.client_identity).await.unwrap()
    }

    /// Stops one node as a process that is killed stops: it tells nobody.
    pub(crate) fn kill(&mut self, index: usize) {
        drop(self.nodes[index].take().expect("the node runs"));
    }

    /// Stops one node in order.
    pub(crate) async fn stop(&mut self, index: usize) {
        self.nodes[index].take().expect("the node runs").shutdown().await.unwrap();
    }

    /// Starts a node again, in the same directory.
    pub(crate) async fn restart(&mut self, index: usize) {
        let path = self.prepared.configs[index].clone();
        // The port of a node that was killed is free when the last task that held its socket has ended.
        let node = until("the node starts again", async || start(&path).await.ok()).await;
        self.nodes[index] = Some(node);
    }

    /// What the leader says.
    pub(crate) async fn report(&self) -> ClusterReport {
        self.client().await.report().await.unwrap()
    }
}

async fn connect(
    addresses: impl Iterator<Item = String>,
    identity: &Path,
) -> holo_client::Result<Cluster> {
    let options = Options::new()
        .addresses_from(addresses.collect::<Vec<_>>())
        .identity(PathBuf::from(identity))
        .connect_timeout(PATIENCE);
    Cluster::connect(options).await
}

/// Shows the log of all nodes of this process where `HOLO_LOG` asks for it.
fn show_log() {
    if let Ok(filter) = std::env::var("HOLO_LOG") {
        let filter = tracing_subscriber::EnvFilter::new(filter);
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer();
        drop(subscriber.try_init());
    }
}

/// What time it is, for those who speak to nodes without being one.
#[expect(clippy::disallowed_methods, reason = "a test speaks for a node, which has a clock")]
pub(crate) fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

/// Starts the node of a config file.
pub(crate) async fn start(config: &Path) -> Result<Node, Failure> {
    Node::start(Config::load(config, &NodeSettings::default())?).await
}

/// Waits until `done` says so, asking again and again.
pub(crate) async fn until<T>(what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(value) = done().await {
                return value;
            }
            let pause = Duration::from_millis(20);
            tokio::time::timeout(pause, std::future::pending::<()>()).await.unwrap_err();
        }
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(value) => value,
        Err(_elapsed) => panic!("not within {PATIENCE:?}: {what}"),
    }
}
