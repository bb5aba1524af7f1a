//! Runs the real `holo` program, alone or beside a cluster of real node processes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// No command of these tests takes nearly as long; one that does is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// Time between two looks at something that has to come.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// `holo` with an environment in which nothing of the machine's user matters.
pub(crate) fn holo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holo"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOLO_") {
            command.env_remove(name);
        }
    }
    command
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .args(args);
    command
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The data, when the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// The JSON that it printed, when it succeeded; checks the version.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let value: Value = serde_json::from_str(&self.ok()).unwrap();
        assert_eq!(value["version"], 1, "{value}");
        value
    }

    /// Checks that the command refused with this code and exit code, and said nothing on stdout.
    #[track_caller]
    pub(crate) fn refused(self, code: &str, exit: i32) -> String {
        assert_eq!(self.code, exit, "{self:?}");
        assert!(self.stderr.contains(&format!("error[{code}]: ")), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        self.stderr
    }
}

/// Runs a command to its end; fails the test when it does not end.
#[track_caller]
pub(crate) fn run(command: Command) -> Ran {
    run_within(command, STUCK_AFTER)
}

/// Runs a command to its end; fails the test when that takes longer.
#[track_caller]
pub(crate) fn run_within(mut command: Command, limit: Duration) -> Ran {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    finish_within(child, limit)
}

/// Waits for the end of a child whose output is piped.
#[track_caller]
pub(crate) fn finish(child: Child) -> Ran {
    finish_within(child, STUCK_AFTER)
}

#[track_caller]
fn finish_within(child: Child, limit: Duration) -> Ran {
    let pid = pid_of(&child);
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(limit) else {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        panic!("the command did not end within {limit:?}");
    };
    let Output { status, stdout, stderr } = output.unwrap();
    Ran {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// The process id of a child.
pub(crate) fn pid_of(child: &Child) -> rustix::process::Pid {
    pid(u64::from(child.id()))
}

/// A process id from a number.
pub(crate) fn pid(number: u64) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(number).unwrap()).unwrap()
}

/// A cluster of node processes that `holo dev --child` keeps.
#[derive(Debug)]
pub(crate) struct Dev {
    pub(crate) child: Child,
    /// Open for as long as the cluster shall live.
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) addresses: Vec<String>,
    pub(crate) identity: PathBuf,
}

impl Dev {
    /// Starts one with more arguments for `holo dev`.
    #[track_caller]
    pub(crate) fn start(more: &[&str]) -> Self {
        let mut child = holo(&["dev", "--child"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("holo dev --child said nothing: {:?}", finish(child));
        }
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["version"], 1, "{line}");
        let addresses = ready["addresses"].as_array().unwrap();
        let cluster = Self {
            addresses: addresses
                .iter()
                .map(|address| address.as_str().unwrap().to_owned())
                .collect(),
            identity: ready["identity"].as_str().unwrap().into(),
            child,
            stdin,
        };
        cluster.await_links();
        cluster
    }

    /// Waits for the links between the nodes: an array that is made right after a slow start would find one missing.
    fn await_links(&self) {
        let nodes = self.addresses.len();
        let wanted = nodes * (nodes - 1) / 2;
        let is_node = |end: &Value| end.as_str().is_some_and(|name| !name.contains(' '));
        until("the links between all nodes", || {
            let status = self.run(&["status", "-o", "json"]).json();
            let links = status["links"].as_array().unwrap();
            let open = links.iter().filter(|link| is_node(&link["from"]) && is_node(&link["to"]));
            (open.count() == wanted).then_some(()).ok_or_else(|| status["links"].to_string())
        });
    }

    /// `holo` with the environment to use this cluster.
    pub(crate) fn holo(&self, args: &[&str]) -> Command {
        let mut command = holo(args);
        command.env("HOLO_CLUSTER", self.addresses.join(",")).env("HOLO_IDENTITY", &self.identity);
        command
    }

    /// Runs a command against this cluster.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.holo(args))
    }

    /// Process ids of the nodes, by their names: the order in which they joined may be another.
    #[track_caller]
    pub(crate) fn node_pids(&self) -> Vec<u64> {
        let status = self.run(&["status", "-o", "json"]).json();
        let nodes = status["nodes"].as_array().unwrap();
        let mut named: Vec<(&str, u64)> = nodes
            .iter()
            .map(|node| (node["name"].as_str().unwrap(), node["pid"].as_u64().unwrap()))
            .collect();
        named.sort_unstable();
        named.into_iter().map(|(_, pid)| pid).collect()
    }

    /// Closes the pipe that the cluster lives by and waits for its end.
    #[track_caller]
    pub(crate) fn close(mut self) -> Ran {
        drop(self.stdin.take());
        finish(self.child)
    }

    /// What the cluster says on stderr until it ends or `wanted` was said.
    #[track_caller]
    pub(crate) fn stderr_until(&mut self, wanted: &str) -> String {
        read_until(self.child.stderr.as_mut().unwrap(), wanted)
    }
}

/// One cluster for all tests that leave it as it is. It ends with this process: the kernel closes its pipe.
pub(crate) fn shared() -> &'static Dev {
    static SHARED: OnceLock<Dev> = OnceLock::new();
    SHARED.get_or_init(|| Dev::start(&["--memory", "512MiB"]))
}

/// A process that a test watches from before it ends, so that its number cannot be taken for another's.
#[derive(Debug)]
pub(crate) struct Watched {
    number: u64,
    handle: rustix::fd::OwnedFd,
}

impl Watched {
    pub(crate) fn new(number: u64) -> Self {
        use rustix::process::{PidfdFlags, pidfd_open};
        Self { number, handle: pidfd_open(pid(number), PidfdFlags::empty()).unwrap() }
    }

    /// Waits until the process has ended; fails the test when it does not.
    #[track_caller]
    pub(crate) fn ends(&self) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut watched = [PollFd::new(&self.handle, PollFlags::IN)];
        let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
        let ended = poll(&mut watched, Some(&limit)).unwrap();
        assert_eq!(ended, 1, "process {} lives on", self.number);
    }
}

/// Looks again and again until what it looks for is there; fails the test when that takes too long.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let start = now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) if start.elapsed() > STUCK_AFTER => {
                panic!("{what}: not within {STUCK_AFTER:?}: {seen}")
            }
            Err(_) => pause(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of these tests that reads the clock: what is stuck must not hang for ever"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "every look is a process with a handshake: without a rest they slow down what they wait for"
)]
fn pause() {
    std::thread::sleep(LOOK_INTERVAL);
}

/// The node of a name among the `nodes` of a document.
#[track_caller]
pub(crate) fn node<'a>(document: &'a Value, name: &str) -> &'a Value {
    let nodes = document["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["name"] == name).unwrap_or_else(|| panic!("{name}: {document}"))
}

/// A folder for the files of one test.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("holo-test-").tempdir().unwrap()
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A valid `.npy` file of ten `int64`.
pub(crate) fn npy_file(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    crate::npy::write_i64(&path, "(10,)", 0..10);
    path
}

/// Reads byte by byte until `wanted` was said; fails the test when the stream ends before.
#[track_caller]
pub(crate) fn read_until(stream: &mut impl Read, wanted: &str) -> String {
    let mut said = Vec::new();
    let mut byte = [0u8];
    while !String::from_utf8_lossy(&said).contains(wanted) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&byte);
    }
    String::from_utf8(said).unwrap()
}
