//! Nodes as processes of their own that can be killed and started again, made with the command like a user makes them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use holo_client::{Cluster, Options};
use holo_core::wire::ClusterReport;
use serde_json::Value;

use crate::timing::{Stopwatch, pause_ms};

/// No step of a measurement takes nearly as long; one that does is stuck.
const PATIENCE_S: f64 = 120.0;

/// A cluster of processes on this machine. Dropping it kills them.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
    binary: PathBuf,
    nodes: Vec<Node>,
    identity: PathBuf,
}

struct Node {
    dir: PathBuf,
    address: String,
    process: Option<(Child, BufReader<ChildStdout>)>,
}

impl Lab {
    /// Founds a cluster of `count` nodes named n1, n2, ... and starts them all.
    ///
    /// # Errors
    ///
    /// When a command fails.
    pub(crate) fn found(count: usize) -> Result<Self> {
        let binary = std::env::var_os("HOLO_BIN").context("HOLO_BIN names no holo program")?;
        let folder = tempfile::tempdir()?;
        let identity = folder.path().join("n1/client.identity");
        let mut lab = Self { folder, binary: binary.into(), nodes: Vec::new(), identity };
        let founding = ["init", "--name", "bench", "--node", "n1"];
        lab.make("n1", &founding)?;
        for number in 2..=count {
            let name = format!("n{number}");
            let made = lab.holo(&["ticket", "create", "-o", "json"])?;
            let ticket = text(&made, "ticket")?;
            lab.make(&name, &["join", &ticket, "--name", &name])?;
        }
        Ok(lab)
    }

    /// A client that knows the addresses of all nodes.
    ///
    /// # Errors
    ///
    /// When no node answers.
    pub(crate) async fn client(&self) -> Result<Cluster> {
        let options = Options::new().identity(&self.identity);
        Ok(Cluster::connect(options.addresses_from(self.addresses())).await?)
    }

    /// Kills a node without warning.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub(crate) fn kill(&mut self, index: usize) -> Result<()> {
        let node = self.nodes.get_mut(index).context("no such node")?;
        let (mut child, _stdout) = node.process.take().context("it does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Starts a node and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When it ends instead; what it said last.
    pub(crate) fn start(&mut self, index: usize) -> Result<()> {
        let log = self.folder.path().join(format!("n{}.log", index + 1));
        let node = self.nodes.get_mut(index).context("no such node")?;
        let mut child = Command::new(&self.binary)
            .args(["agent", "-o", "json", "--dir"])
            .arg(&node.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no pipe")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        node.process = Some((child, stdout));
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        ensure!(line.starts_with('{'), "node {} did not start: {line}{}", index + 1, said());
        Ok(())
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// Makes the directory of a node with `init` or `join`, and starts it.
    fn make(&mut self, name: &str, command: &[&str]) -> Result<()> {
        let dir = self.folder.path().join(name);
        let address = free_address()?;
        let place = dir.to_str().context("a path that is no text")?;
        let more = ["--listen", &address, "--dir", place, "--no-start", "-o", "json"];
        self.holo(&[command, &more].concat())?;
        self.nodes.push(Node { dir, address, process: None });
        self.start(self.nodes.len() - 1)
    }

    /// Runs the command and reads the document that it prints.
    fn holo(&self, args: &[&str]) -> Result<Value> {
        let out = Command::new(&self.binary)
            .args(args)
            .env("HOLO_CLUSTER", self.addresses().join(","))
            .env("HOLO_IDENTITY", &self.identity)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "holo {}: {said}", args.join(" "));
        Ok(serde_json::from_slice(&out.stdout)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (child, _stdout) in self.nodes.iter_mut().filter_map(|node| node.process.as_mut()) {
            // One that has ended already is gone, which is what is wanted.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Asks for the cluster's report until it is as wished.
///
/// # Errors
///
/// When that takes too long: the last report.
pub(crate) async fn until(
    cluster: &Cluster,
    what: &str,
    wish: impl Fn(&ClusterReport) -> bool,
) -> Result<ClusterReport> {
    let watch = Stopwatch::start();
    loop {
        let seen = cluster.report().await;
        match seen {
            Ok(report) if wish(&report) => return Ok(report),
            seen => ensure!(watch.seconds() < PATIENCE_S, "never {what}: {seen:?}"),
        }
        pause_ms(20).await;
    }
}

/// Whether `nodes` nodes are up and hold as many copies of everything as they shall.
pub(crate) fn whole(report: &ClusterReport, nodes: usize) -> bool {
    let up = |node: &&holo_core::wire::NodeReport| node.member.as_ref().is_some_and(|it| it.up);
    report.leader > 0
        && report.groups > 0
        && report.groups_degraded == 0
        && report.groups_lost == 0
        && report.repairs == 0
        && report.nodes.iter().filter(up).count() == nodes
}

fn free_address() -> Result<String> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    Ok(socket.local_addr()?.to_string())
}

fn text(document: &Value, key: &str) -> Result<String> {
    let text = document.get(key).and_then(Value::as_str);
    Ok(text.with_context(|| format!("{key} is missing: {document}"))?.to_owned())
}
