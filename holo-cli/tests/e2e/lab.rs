//! Real node processes of one cluster, each of which a test can kill, stop, resume and start again.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use holo_client::{Cluster, Options};
use holo_core::wire::{ClusterReport, NodeReport, TicketOrder};
use holo_node::dev::{DevOptions, prepare};
use holo_node::{NodeSettings, TimerSettings};
use rustix::process::{Pid, Signal, kill_process};

use crate::relay::Network;

/// No step of these tests takes nearly as long; one that does is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that has to come.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// A node that does not answer is planned around after this long.
const REPAIR_DELAY_MS: u64 = 1_000;
/// The nodes' times between beats and until silence means something, three times as long as usual: the machine may be
/// slow and busy, and whoever takes the slow for dead all the time gets nothing done.
const TIMERS: TimerSettings = TimerSettings {
    beat_ms: Some(300),
    lease_ms: Some(900),
    take_over_ms: Some(1_620),
    evict_ms: Some(1_200),
    catalog_beat_ms: Some(300),
    catalog_election_min_ms: Some(1_000),
    catalog_election_max_ms: Some(2_000),
    liveness_ms: None,
    down_after_ms: None,
};
/// Memory of each node.
const MEMORY: &str = "64MiB";
/// Lines of each node's log that a failed test shows.
const LOG_LINES: usize = 40;

/// A cluster of processes on this machine.
pub(crate) struct Lab {
    nodes: Vec<NodeProcess>,
    identity: PathBuf,
    network: Option<Network>,
    folder: tempfile::TempDir,
}

/// One node.
struct NodeProcess {
    home: PathBuf,
    /// Where it listens.
    address: SocketAddr,
    child: Option<Child>,
}

impl Lab {
    /// Starts `count` nodes that reach each other directly.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, false)
    }

    /// Starts `count` nodes with a relay between them.
    pub(crate) fn start_relayed(count: usize) -> Self {
        Self::start_with(count, true)
    }

    fn start_with(count: usize, relayed: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("holo-e2e-").tempdir().unwrap();
        let mut options = DevOptions { memory: MEMORY.to_owned(), ..DevOptions::default() };
        options.workers = Some(1);
        options.timers = Some(TIMERS);
        options.settings.repair_delay_ms = REPAIR_DELAY_MS;
        let prepared = prepare(folder.path(), count, &options).unwrap();
        let network = relayed.then(|| Network::new(prepared.addresses.clone()));
        let homes = prepared.configs.iter().map(|config| config.parent().unwrap().to_owned());
        let nodes = homes.zip(prepared.addresses).map(|(home, address)| NodeProcess {
            home,
            address,
            child: None,
        });
        let identity = prepared.client_identity;
        let mut lab = Self { nodes: nodes.collect(), identity, network, folder };
        (0..count).for_each(|node| lab.spawn_agent(node));
        (0..count).for_each(|node| lab.await_ready(node));
        lab
    }

    /// Starts a node again that has ended, and waits until it is a member.
    pub(crate) fn restart(&mut self, node: usize) {
        self.spawn_agent(node);
        self.await_ready(node);
    }

    /// Adds a node, with a ticket, and waits until it is a member. Returns its position.
    pub(crate) async fn join(&mut self, cluster: &Cluster) -> usize {
        let ticket = cluster.create_ticket(TicketOrder::default()).await.unwrap();
        let node = self.nodes.len();
        let home = self.folder.path().join(Self::name(node));
        let address = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        self.nodes.push(NodeProcess { home: home.clone(), address, child: None });
        let mut command = holo();
        command.args(["join", &ticket.text, "--no-start", "--name", &Self::name(node)]);
        command.args(["--memory", MEMORY, "--listen", &address.to_string(), "--dir"]).arg(&home);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let timers = NodeSettings { timers: Some(TIMERS), ..NodeSettings::default() };
        let file = std::fs::OpenOptions::new().append(true).open(home.join("node.toml"));
        file.unwrap().write_all(toml::to_string(&timers).unwrap().as_bytes()).unwrap();
        self.restart(node);
        node
    }

    /// Starts nodes again that have ended, in this order, and waits until all of them are members: what one waits for
    /// may be another.
    pub(crate) fn start_again(&mut self, nodes: &[usize]) {
        nodes.iter().for_each(|node| self.spawn_agent(*node));
        nodes.iter().for_each(|node| self.await_ready(*node));
    }

    /// Starts nodes again at once while the processes that ran them still take leave. Waits for the end of these, and
    /// until all of the new ones are members.
    pub(crate) fn succeed(&mut self, nodes: &[usize]) {
        let leaving = nodes.iter().map(|node| self.nodes[*node].child.take().unwrap());
        let leaving: Vec<Child> = leaving.collect();
        nodes.iter().for_each(|node| self.spawn_agent(*node));
        for (node, mut child) in nodes.iter().zip(leaving) {
            let status = child.wait().unwrap();
            assert!(status.success(), "node {node} ended with {status}");
        }
        nodes.iter().for_each(|node| self.await_ready(*node));
    }

    /// Waits until a node ends by itself, and in order.
    pub(crate) fn await_end(&mut self, node: usize) {
        let status = self.nodes[node].child.take().unwrap().wait().unwrap();
        assert!(status.success(), "node {node} ended with {status}");
    }

    /// Waits until a node has said something in its log.
    pub(crate) async fn until_said(&self, node: usize, what: &str) {
        let start = now();
        loop {
            let said = std::fs::read_to_string(self.log(node)).unwrap();
            if said.contains(what) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "node {node} never said {what:?}");
            pause(LOOK_INTERVAL).await;
        }
    }

    /// What a node says that does not start, or ends before it is a member.
    pub(crate) async fn refuses_to_start(&self, node: usize) -> Output {
        let mut command = holo();
        command.args(["agent", "--dir"]).arg(&self.nodes[node].home);
        command.env("HOLO_ADVERTISE", self.front(node).to_string());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let start = now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > PATIENCE {
                end(&mut child);
                panic!("node {node} started");
            }
            pause(LOOK_INTERVAL).await;
        }
        child.wait_with_output().unwrap()
    }

    /// Kills a node without warning and waits for its end.
    pub(crate) fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks a node to stop, as an init system does, and waits for its end.
    pub(crate) fn terminate(&mut self, node: usize) {
        self.signal(node, Signal::TERM);
        let status = self.nodes[node].child.take().unwrap().wait().unwrap();
        assert!(status.success(), "node {node} ended with {status}");
    }

    /// Makes a node stand still, or go on.
    pub(crate) fn signal(&self, node: usize, signal: Signal) {
        let child = self.nodes[node].child.as_ref().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// The network between the nodes.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().unwrap()
    }

    /// The name of a node, by its position here.
    pub(crate) fn name(node: usize) -> String {
        format!("n{}", node + 1)
    }

    /// The position here of the node that a report or a view calls so.
    pub(crate) fn position(name: &str) -> usize {
        name.strip_prefix('n').unwrap().parse::<usize>().unwrap() - 1
    }

    /// A client that knows the addresses of all nodes.
    pub(crate) async fn client(&self) -> Cluster {
        self.client_of(&(0..self.nodes.len()).collect::<Vec<_>>()).await
    }

    /// A client that begins at some of the nodes.
    pub(crate) async fn client_of(&self, nodes: &[usize]) -> Cluster {
        let options = Options::new()
            .addresses_from(nodes.iter().map(|node| self.front(*node).to_string()))
            .identity(&self.identity)
            .connect_timeout(PATIENCE)
            .request_timeout(PATIENCE);
        Cluster::connect(options).await.unwrap()
    }

    /// Runs a `holo` command that knows the addresses of all nodes.
    pub(crate) async fn holo(&self, args: &[&str]) -> Output {
        let addresses: Vec<String> =
            (0..self.nodes.len()).map(|node| self.front(node).to_string()).collect();
        self.run(args, &addresses.join(",")).await
    }

    /// Runs a `holo` command that knows the address of one node.
    pub(crate) async fn holo_at(&self, node: usize, args: &[&str]) -> Output {
        self.run(args, &self.front(node).to_string()).await
    }

    async fn run(&self, args: &[&str], addresses: &str) -> Output {
        let mut command = holo();
        command.args(args).env("HOLO_CLUSTER", addresses).env("HOLO_IDENTITY", &self.identity);
        // The load goes on beside it on this thread's runtime.
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Fails the test unless all copies of all data are the same, byte by byte.
    pub(crate) async fn verify(&self) {
        let output = self.holo(&["ring", "verify", "--timeout", "60s"]).await;
        let found = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{found}{}", said(&output));
        assert!(found.contains("copies are equal"), "{found}");
    }

    /// The directory of a node.
    pub(crate) fn home(&self, node: usize) -> &Path {
        &self.nodes[node].home
    }

    fn front(&self, node: usize) -> SocketAddr {
        self.network.as_ref().map_or(self.nodes[node].address, |network| network.front(node))
    }

    fn log(&self, node: usize) -> PathBuf {
        log_beside(&self.nodes[node].home)
    }

    fn spawn_agent(&mut self, node: usize) {
        let mut command = holo();
        command.args(["agent", "--dir"]).arg(&self.nodes[node].home);
        command.env("HOLO_ADVERTISE", self.front(node).to_string());
        self.spawn(node, command);
    }

    fn spawn(&mut self, node: usize, mut command: Command) {
        assert!(self.nodes[node].child.is_none(), "node {node} runs");
        let errors = std::fs::OpenOptions::new().create(true).append(true).open(self.log(node));
        command.stdout(Stdio::piped()).stderr(errors.unwrap());
        self.nodes[node].child = Some(command.spawn().unwrap());
    }

    fn await_ready(&mut self, node: usize) {
        let log = self.log(node);
        let child = self.nodes[node].child.as_mut().unwrap();
        let line = read_line(child);
        let said = std::fs::read_to_string(log).unwrap_or_default();
        assert!(!line.is_empty(), "node {node} did not start: {said}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            end(child);
        }
        if std::thread::panicking() {
            self.nodes.iter().for_each(|node| show_log(&node.home));
        }
    }
}

/// `holo` with an environment in which nothing of the machine's user matters but how much is to be logged.
pub(crate) fn holo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holo"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("HOLO_") && text != "HOLO_LOG" {
            command.env_remove(name);
        }
    }
    command.env("XDG_CONFIG_HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// The next line that a process says, byte by byte: what follows it is for the next one who asks.
pub(crate) fn read_line(child: &mut Child) -> String {
    let mut line = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    BufReader::with_capacity(1, stdout).read_line(&mut line).unwrap();
    line
}

/// Kills a process that may have ended already, and waits for its end.
pub(crate) fn end(child: &mut Child) {
    child.kill().ok();
    child.wait().ok();
}

/// Where the log of a node with this directory goes.
pub(crate) fn log_beside(home: &Path) -> PathBuf {
    home.with_extension("log")
}

/// Shows the end of a node's log.
pub(crate) fn show_log(home: &Path) {
    let said = std::fs::read_to_string(log_beside(home)).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    println!("--- {} said last:", home.display());
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().for_each(|line| println!("{line}"));
}

/// Asks for the cluster's report until it is as wished.
pub(crate) async fn until_report(
    cluster: &Cluster,
    what: &str,
    wish: impl Fn(&ClusterReport) -> bool,
) -> ClusterReport {
    let start = now();
    loop {
        let seen = cluster.report().await;
        if let Ok(report) = &seen
            && wish(report)
        {
            return report.clone();
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {seen:#?}");
        pause(LOOK_INTERVAL).await;
    }
}

/// Waits until so many nodes are up and every group has all its copies among them.
pub(crate) async fn until_whole(cluster: &Cluster, nodes: usize) -> ClusterReport {
    until_report(cluster, &format!("{nodes} whole nodes"), |report| {
        is_whole(report) && report.repairs == 0 && up(report) == nodes
    })
    .await
}

/// Whether no group lacks a copy.
pub(crate) fn is_whole(report: &ClusterReport) -> bool {
    report.groups > 0 && report.groups_degraded == 0 && report.groups_lost == 0
}

/// How many nodes the cluster takes for up.
pub(crate) fn up(report: &ClusterReport) -> usize {
    let is_up = |node: &&NodeReport| node.member.as_ref().is_some_and(|member| member.up);
    report.nodes.iter().filter(is_up).count()
}

/// What a command said on stderr.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of these tests that reads the clock: histories need times"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever asks all the time slows down what it waits for"
)]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
