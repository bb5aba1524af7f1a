//! Nodes that `holo init`, `holo join` and `holo agent` run in the foreground.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Signal, kill_process};

use crate::harness::{Ran, finish, holo, pid_of, run, text};

/// A node in the foreground. Killed when a test fails.
#[derive(Debug)]
pub(crate) struct Running {
    child: Option<Child>,
    /// Read on, so that the node never blocks on a full pipe.
    _stdout: BufReader<ChildStdout>,
    log: PathBuf,
    /// What it said on stdout until it was ready.
    pub(crate) said: Vec<String>,
}

impl Running {
    /// Starts it and waits until it says that it is ready.
    #[track_caller]
    pub(crate) fn start(mut command: Command, log: &Path) -> Self {
        command.stdout(Stdio::piped()).stderr(File::create(log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let ended = finish(child);
                let log = std::fs::read_to_string(log).unwrap();
                panic!("it ended before it was ready: {ended:?} {said:?} {log}");
            }
            let ready = line.starts_with("ready: ");
            said.push(line.trim_end().to_owned());
            if ready {
                break;
            }
        }
        Self { child: Some(child), _stdout: stdout, log: log.to_owned(), said }
    }

    /// What follows the first line that begins so.
    #[track_caller]
    pub(crate) fn line(&self, start: &str) -> &str {
        let found = self.said.iter().find_map(|line| line.strip_prefix(start));
        found.unwrap_or_else(|| panic!("{start:?} is missing: {:?}", self.said))
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(pid_of(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits for its end; returns it with the log in the place of stderr.
    #[track_caller]
    pub(crate) fn ends(mut self) -> Ran {
        let ended = finish(self.child.take().unwrap());
        Ran { stderr: std::fs::read_to_string(&self.log).unwrap(), ..ended }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Gone already is as good.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// A cluster of nodes that were founded and joined by hand.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    _first: Running,
    address: String,
    identity: String,
    /// The ticket that `init` printed.
    pub(crate) ticket: String,
}

impl Lab {
    /// Founds one with a node named n1.
    #[track_caller]
    pub(crate) fn found() -> Self {
        let folder = crate::harness::folder();
        let dir = folder.path().join("n1");
        let mut command = holo(&["init", "--name", "lab", "--node", "n1", "--listen"]);
        command.args(["127.0.0.1:0", "--memory", "64MiB", "--workers", "1", "--dir", text(&dir)]);
        let first = Running::start(command, &folder.path().join("n1.log"));
        let address = first.line("export HOLO_CLUSTER=").to_owned();
        let identity = first.line("export HOLO_IDENTITY=").to_owned();
        let ticket = first.line("holo join ").to_owned();
        Self { folder, _first: first, address, identity, ticket }
    }

    /// The directory of a node.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// `holo join` as a person types it.
    pub(crate) fn join_command(&self, ticket: &str, name: &str) -> Command {
        self.join_command_in(ticket, name, &self.dir(name))
    }

    /// The same with another directory than that of the name.
    pub(crate) fn join_command_in(&self, ticket: &str, name: &str, dir: &Path) -> Command {
        let mut command = holo(&["join", ticket, "--name", name, "--listen", "127.0.0.1:0"]);
        command.args(["--memory", "64MiB", "--workers", "1", "--dir", text(dir)]);
        command
    }

    /// Joins a node with a ticket of its own.
    #[track_caller]
    pub(crate) fn join(&self, name: &str) -> Running {
        let made = self.run(&["ticket", "create"]).ok();
        let ticket = made.trim_end().strip_prefix("holo join ").unwrap();
        Running::start(self.join_command(ticket, name), &self.log(name))
    }

    /// Starts a node again.
    #[track_caller]
    pub(crate) fn agent(&self, name: &str) -> Running {
        let dir = self.dir(name);
        Running::start(holo(&["agent", "--dir", text(&dir)]), &self.log(&format!("{name}.again")))
    }

    /// Runs a command against the cluster.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let mut command = holo(args);
        command.env("HOLO_CLUSTER", &self.address).env("HOLO_IDENTITY", &self.identity);
        run(command)
    }

    /// The states of the nodes, by name, once `wanted` likes them.
    #[track_caller]
    pub(crate) fn states_until(&self, wanted: impl Fn(&[(String, String, bool)]) -> bool) {
        crate::harness::until("the states of the nodes", || {
            let rows = self.run(&["node", "ls", "-o", "json"]).json();
            let states: Vec<(String, String, bool)> = rows["nodes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|node| {
                    let text = |key: &str| node[key].as_str().unwrap().to_owned();
                    (text("name"), text("state"), node["up"].as_bool().unwrap())
                })
                .collect();
            wanted(&states).then_some(()).ok_or_else(|| format!("{states:?}"))
        });
    }
}
