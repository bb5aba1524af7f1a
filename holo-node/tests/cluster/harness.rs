//! A cluster of embedded nodes in a directory of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holo_client::{Cluster, Options};
use holo_node::dev::{DevCluster, DevOptions, prepare};
use holo_node::{Config, Node};
use tempfile::TempDir;

/// Long enough for a machine that is busy elsewhere; no test waits for it unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes that run in this process.
pub(crate) struct Harness {
    pub(crate) prepared: DevCluster,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) dir: TempDir,
}

impl Harness {
    /// Starts `count` nodes with `memory` for pages each.
    pub(crate) fn start(count: usize, memory: &str) -> Self {
        Self::start_with(count, memory, |config| config)
    }

    /// The same, after `change` had its way with the text of every config.
    pub(crate) fn start_with(
        count: usize,
        memory: &str,
        change: impl Fn(String) -> String,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let options =
            DevOptions { memory: memory.to_owned(), workers: Some(2), ..DevOptions::default() };
        let prepared = prepare(dir.path(), count, &options).unwrap();
        for path in &prepared.configs {
            let text = std::fs::read_to_string(path).unwrap();
            std::fs::write(path, change(text)).unwrap();
        }
        let nodes = prepared.configs.iter().map(|path| Some(start_node(path))).collect();
        Self { prepared, nodes, dir }
    }

    /// A client with the identity that `prepare` made. All nodes have to run; it waits for the links between them, or
    /// an array that is made right after a slow start would find one missing.
    pub(crate) async fn client(&self) -> Cluster {
        let cluster = self.client_at_once().await;
        let others = self.nodes.len() - 1;
        if others > 0 {
            self.until("the directory node has a link to every other node", async || {
                let directory = cluster.status().await.into_iter().next()?.outcome.ok()?;
                let open = directory.links.iter().filter(|link| link.role == "node").count();
                (open == others).then_some(())
            })
            .await;
        }
        cluster
    }

    /// The same without the wait.
    pub(crate) async fn client_at_once(&self) -> Cluster {
        self.client_as(&self.prepared.client_identity).await.unwrap()
    }

    /// A client with another identity.
    pub(crate) async fn client_as(&self, identity: &Path) -> holo_client::Result<Cluster> {
        let addresses = self.prepared.addresses.iter().map(ToString::to_string);
        let options = Options::new().addresses_from(addresses).identity(PathBuf::from(identity));
        Cluster::connect(options.connect_timeout(PATIENCE)).await
    }

    /// Stops one node; its memory is gone.
    pub(crate) async fn stop(&mut self, index: usize) {
        let node = self.nodes[index].take().expect("the node runs");
        node.shutdown().await;
    }

    /// Starts a stopped node again, on its old address, which is free once the last task that knew the socket is gone.
    pub(crate) async fn restart(&mut self, index: usize) {
        let config = &self.prepared.configs[index];
        let node = self.until("its old address is free", async || {
            match Node::start(Config::load(config).unwrap()) {
                Ok(node) => Some(node),
                Err(failure) if failure.message.contains("already in use") => None,
                Err(failure) => panic!("{failure}"),
            }
        });
        self.nodes[index] = Some(node.await);
    }

    /// Waits until `done` says so, asking again and again; fails when it takes longer than [`PATIENCE`].
    pub(crate) async fn until<T>(&self, what: &str, mut done: impl AsyncFnMut() -> Option<T>) -> T {
        let asking = async {
            let mut looks = tokio::time::interval(Duration::from_millis(50));
            loop {
                looks.tick().await;
                if let Some(value) = done().await {
                    return value;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(value) => value,
            Err(_elapsed) => panic!("not within {PATIENCE:?}: {what}"),
        }
    }
}

fn start_node(config: &Path) -> Node {
    Node::start(Config::load(config).unwrap()).unwrap()
}
