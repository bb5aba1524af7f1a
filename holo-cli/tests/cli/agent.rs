//! Regression: an earlier system of this kind lost its defaults when a config file existed, passed over keys that it
//! did not know, and never read the variables that it documented.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use holo_node::dev::{DevCluster, DevOptions, prepare};
use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::{Ran, finish, folder, holo, pid_of, run, text};

struct Prepared {
    _folder: tempfile::TempDir,
    cluster: DevCluster,
    /// Directory of the node.
    home: PathBuf,
}

impl Prepared {
    fn agent(&self, more: &[&str]) -> Ran {
        run(holo(&[&["agent", "--dir", text(&self.home)][..], more].concat()))
    }
}

/// One node, with some lines of its config left out and some put before the first.
fn prepared(without: &[&str], with: &str) -> Prepared {
    let folder = folder();
    let cluster = prepare(folder.path(), 1, &DevOptions::default()).unwrap();
    let config = &cluster.configs[0];
    let lines = std::fs::read_to_string(config).unwrap();
    let kept = lines
        .lines()
        .filter(|line| !without.iter().any(|key| line.starts_with(&format!("{key} ="))));
    let edited: Vec<&str> = with.lines().chain(kept).collect();
    std::fs::write(config, edited.join("\n")).unwrap();
    let home = config.parent().unwrap().to_owned();
    Prepared { _folder: folder, cluster, home }
}

/// Starts the node and waits until it is ready.
fn start(home: &Path, variables: &[(&str, &str)], flags: &[&str]) -> (Child, String) {
    let mut command = holo(&[&["agent", "--dir", text(home)][..], flags].concat());
    command.envs(variables.iter().copied());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        panic!("the node said nothing: {:?}", finish(child));
    }
    (child, line)
}

fn status(prepared: &Prepared) -> Value {
    let mut command = holo(&["status", "-o", "json"]);
    command.env("HOLO_CLUSTER", prepared.cluster.addresses[0].to_string());
    command.env("HOLO_IDENTITY", &prepared.cluster.client_identity);
    run(command).json()["nodes"][0].clone()
}

#[test]
fn a_partial_config_keeps_the_defaults_and_sigterm_stops_the_node_cleanly() {
    let prepared = prepared(&["memory", "workers", "profile"], "");
    let (child, line) = start(&prepared.home, &[], &[]);
    assert!(line.starts_with("ready: n1 ("), "{line}");
    assert!(line.contains(&prepared.cluster.addresses[0].to_string()), "{line}");
    assert_eq!(status(&prepared)["frame_bytes_max"], 2u64 << 30);
    kill_process(pid_of(&child), Signal::TERM).unwrap();
    let ended = finish(child);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(!ended.stderr.contains("WARN") && !ended.stderr.contains("ERROR"), "{ended:?}");
    assert!(ended.stderr.contains("SIGTERM"), "{ended:?}");
}

#[test]
fn flags_go_over_variables_and_variables_over_the_file() {
    let prepared = prepared(&[], "");
    let quiet = ("HOLO_LOG", "warn");
    let end = |child: Child| {
        kill_process(pid_of(&child), Signal::INT).unwrap();
        let ended = finish(child);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    };
    let (child, _) = start(&prepared.home, &[("HOLO_MEMORY", "64MiB"), quiet], &[]);
    assert_eq!(status(&prepared)["frame_bytes_max"], 64 << 20);
    end(child);
    let variables = [("HOLO_MEMORY", "64MiB"), quiet];
    let (child, _) = start(&prepared.home, &variables, &["--memory", "48MiB"]);
    assert_eq!(status(&prepared)["frame_bytes_max"], 48 << 20);
    end(child);
}

#[test]
fn a_directory_runs_one_node_at_a_time() {
    let prepared = prepared(&[], "");
    let (child, _) = start(&prepared.home, &[], &[]);
    let said = prepared.agent(&[]).refused("HC1103", 6);
    assert!(said.contains("runs in") && said.contains(text(&prepared.home)), "{said}");
    kill_process(pid_of(&child), Signal::KILL).unwrap();
    finish(child);
    // Whoever was killed holds nothing any more.
    let (child, _) = start(&prepared.home, &[], &[]);
    kill_process(pid_of(&child), Signal::TERM).unwrap();
    assert_eq!(finish(child).code, 0);
}

#[test]
fn an_unknown_key_names_the_nearest_one() {
    let prepared = prepared(&[], "memroy = \"1GiB\"");
    let said = prepared.agent(&[]).refused("HC1008", 2);
    assert!(
        said.contains("memroy") && said.contains("did you mean") && said.contains("memory"),
        "{said}"
    );
}

#[test]
fn values_that_are_wrong_name_their_key_and_where_they_come_from() {
    for (key, line) in [
        ("memory", "memory = \"lots\""),
        ("listen", "listen = \"nowhere\""),
        ("profile", "profile = \"fast\""),
        ("weight", "weight = 0.0"),
        ("suites", "suites = []"),
        ("timers", "timers = { down_after_ms = 1 }"),
    ] {
        let prepared = prepared(&[key], line);
        let said = prepared.agent(&[]).refused("HC1008", 2);
        assert!(said.contains(key), "{key}: {said}");
    }
    let prepared = prepared(&[], "");
    let said = prepared.agent(&["--listen", "nowhere"]).refused("HC1008", 2);
    assert!(said.contains("--listen"), "{said}");
    let mut command = holo(&["agent", "--dir", text(&prepared.home)]);
    command.env("HOLO_WORKERS", "many");
    let said = run(command).refused("HC1008", 2);
    assert!(said.contains("HOLO_WORKERS"), "{said}");
    let ran = run(holo(&["agent", "--dir", "/nonexistent"]));
    let said = ran.refused("HC1101", 3);
    assert!(said.contains("node's directory /nonexistent: "), "{said}");
    assert!(said.contains("holo init"), "{said}");
}

#[test]
fn a_wrong_log_filter_is_refused() {
    let prepared = prepared(&[], "");
    let mut command = holo(&["agent", "--dir", text(&prepared.home)]);
    command.env("HOLO_LOG", "holo_node=loud");
    let said = run(command).refused("HC1008", 2);
    assert!(said.contains("HOLO_LOG"), "{said}");
}
