//! Nodes that have a network interface each: network namespaces on a bridge, and links that are really down.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{PATIENCE, end, holo, log_beside, now, pause, read_line, said, show_log};

/// Between two looks at something that has to come.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// What a refusal for want of voters ends with.
const REFUSED: i32 = 8;
/// Sums of the indices below 960, and of twice as much.
const SUM: &str = "460320";
const SUM_OF_DOUBLES: &str = "920640";

#[tokio::test]
async fn a_node_whose_link_is_down_refuses_and_is_whole_again_when_it_is_up() {
    let mut wires = match Wires::lay(3) {
        Ok(wires) => wires,
        Err(why) => {
            eprintln!("SKIPPED: network namespaces are not permitted here: {why}");
            return;
        }
    };
    wires.found();
    for node in [2, 3] {
        let ticket = wires.hub(&["ticket", "create"]).ok();
        wires.join(node, ticket.trim_end().strip_prefix("holo join ").unwrap());
    }
    wires.whole(3).await;
    let allocate = ["allocate", "a", "--shape", "960", "--dtype", "int64", "--shard-elems", "10"];
    wires.hub(&allocate).ok();
    wires.hub(&["run", "--expr", "i", "--out", "a"]).ok();
    assert_eq!(wires.hub(&["run", "--expr", "sum(x)", "--in", "x=a"]).ok().trim_end(), SUM);
    wires.whole(3).await;

    wires.set_link(3, "down");
    // The others go on, with the parts too that the lonely one led.
    wires.hub(&["run", "--expr", "2 * i", "--out", "a"]).ok();
    assert_eq!(
        wires.hub(&["run", "--expr", "sum(x)", "--in", "x=a"]).ok().trim_end(),
        SUM_OF_DOUBLES
    );
    wires.refused_at(3).await;
    let stale = wires.at(3, &["run", "--expr", "sum(x)", "--in", "x=a", "--timeout", "5s"]);
    assert!(!stale.0.status.success() && stale.0.stdout.is_empty(), "{stale:?}");
    wires.whole(2).await;

    wires.set_link(3, "up");
    wires.whole(3).await;
    let sum = wires.at(3, &["run", "--expr", "sum(x)", "--in", "x=a"]).ok();
    assert_eq!(sum.trim_end(), SUM_OF_DOUBLES);
    assert!(wires.hub(&["ring", "verify", "--timeout", "60s"]).ok().contains("copies are equal"));
}

/// A bridge in a namespace of its own, and beside it a namespace for each node with one link to the bridge.
struct Wires {
    /// Names of the namespaces; the first is the bridge's.
    spaces: Vec<String>,
    nodes: Vec<(PathBuf, Child)>,
    identity: PathBuf,
    folder: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
struct Ran(Output);

impl Ran {
    /// What it printed, when it succeeded.
    #[track_caller]
    fn ok(self) -> String {
        assert!(self.0.status.success(), "{}", said(&self.0));
        String::from_utf8(self.0.stdout).unwrap()
    }
}

impl Wires {
    /// Links for so many nodes, or why there are none.
    fn lay(nodes: usize) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("holo-e2e-").tempdir().unwrap();
        let identity = folder.path().join("n1/client.identity");
        let mut wires = Self { spaces: Vec::new(), nodes: Vec::new(), identity, folder };
        wires.add_space("hub")?;
        let hub = wires.spaces[0].clone();
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &hub, "addr", "add", "10.77.0.254/24", "dev", "br0"])?;
        ip(&["-n", &hub, "link", "set", "br0", "up"])?;
        for node in 1..=nodes {
            wires.add_space(&format!("n{node}"))?;
            let (space, port) = (wires.spaces[node].clone(), port(node));
            let pair = ["type", "veth", "peer", "name", "eth0", "netns", &space];
            ip(&[&["-n", &hub, "link", "add", &port][..], &pair].concat())?;
            ip(&["-n", &hub, "link", "set", &port, "master", "br0", "up"])?;
            ip(&["-n", &space, "addr", "add", &format!("10.77.0.{node}/24"), "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
        }
        Ok(wires)
    }

    fn add_space(&mut self, name: &str) -> Result<(), String> {
        let space = format!("holo-e2e-{}-{name}", std::process::id());
        ip(&["netns", "add", &space])?;
        self.spaces.push(space.clone());
        ip(&["-n", &space, "link", "set", "lo", "up"])
    }

    /// Cuts a node's link at the bridge, or mends it.
    fn set_link(&self, node: usize, state: &str) {
        ip(&["-n", &self.spaces[0], "link", "set", &port(node), state]).unwrap();
    }

    /// Founds the cluster with the first node.
    fn found(&mut self) {
        let args = ["init", "--name", "lab", "--node", "n1", "--listen", "10.77.0.1:7400"];
        self.start(1, &args);
    }

    fn join(&mut self, node: usize, ticket: &str) {
        let (name, listen) = (format!("n{node}"), format!("10.77.0.{node}:7400"));
        self.start(node, &["join", ticket, "--name", &name, "--listen", &listen]);
    }

    fn start(&mut self, node: usize, args: &[&str]) {
        let home = self.folder.path().join(format!("n{node}"));
        let mut command = self.inside(node, args);
        command.args(["--memory", "64MiB", "--workers", "1", "--dir"]).arg(&home);
        let log = std::fs::File::create(log_beside(&home)).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        loop {
            let line = read_line(&mut child);
            if line.starts_with("ready: ") {
                break;
            }
            if line.is_empty() {
                show_log(&home);
                panic!("n{node} did not start");
            }
        }
        self.nodes.push((home, child));
    }

    /// `holo` in the namespace of a node, or of the bridge.
    fn inside(&self, space: usize, args: &[&str]) -> Command {
        let holo = holo();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.spaces[space]]).arg(holo.get_program()).args(args);
        for (name, value) in holo.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command beside the bridge, from where every node can be reached whose link is up.
    fn hub(&self, args: &[&str]) -> Ran {
        self.asked(0, "10.77.0.1:7400,10.77.0.2:7400,10.77.0.3:7400", args)
    }

    /// Runs a command beside a node; it knows that node's address.
    fn at(&self, node: usize, args: &[&str]) -> Ran {
        self.asked(node, &format!("10.77.0.{node}:7400"), args)
    }

    fn asked(&self, space: usize, addresses: &str, args: &[&str]) -> Ran {
        let mut command = self.inside(space, args);
        command.env("HOLO_CLUSTER", addresses).env("HOLO_IDENTITY", &self.identity);
        Ran(command.output().unwrap())
    }

    /// Waits until so many nodes are up, hold all copies, and vote.
    async fn whole(&self, up: usize) {
        let start = now();
        loop {
            let ran = self.hub(&["status", "-o", "json"]);
            let status: Value = serde_json::from_slice(&ran.0.stdout).unwrap_or_default();
            let counted = |list: &Value, key: &str| {
                let rows = list.as_array().map_or(&[][..], Vec::as_slice);
                rows.iter().filter(|row| row[key] == true).count()
            };
            let groups = &status["groups"];
            if counted(&status["nodes"], "up") == up
                && counted(&status["catalog"]["voters"], "answers") == up
                && groups["degraded"] == 0
                && groups["lost"] == 0
                && groups["repairs"] == 0
            {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{up} whole nodes: {ran:?}");
            pause(LOOK_INTERVAL).await;
        }
    }

    /// Asks a node that is cut off, from beside it, for something new until it says that it may not. Right after the
    /// cut it may have taken an order that it cannot finish, and says that; it never says that it is done.
    async fn refused_at(&self, node: usize) {
        let start = now();
        loop {
            let wanted = ["allocate", "b", "--shape", "8", "--dtype", "int64", "--timeout", "5s"];
            let ran = self.at(node, &wanted);
            assert!(!ran.0.status.success() && ran.0.stdout.is_empty(), "{ran:?}");
            if ran.0.status.code() == Some(REFUSED) {
                assert!(said(&ran.0).contains("error[HC1405]: "), "{ran:?}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{ran:?}");
            pause(LOOK_INTERVAL).await;
        }
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for (home, child) in &mut self.nodes {
            end(child);
            if std::thread::panicking() {
                show_log(home);
            }
        }
        for space in &self.spaces {
            // Its links go with it; one that stays harms nobody and is seen.
            if let Err(why) = ip(&["netns", "del", space]) {
                eprintln!("{space} stays: {why}");
            }
        }
    }
}

/// The bridge's end of a node's link.
fn port(node: usize) -> String {
    format!("p{node}")
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|source| format!("ip: {source}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("ip {}: {}", args.join(" "), said(&output)))
    }
}
