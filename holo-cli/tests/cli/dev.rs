//! Clusters of processes that come and go, and take everything with them.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::harness::{Dev, Watched, finish, holo, node, pid, pid_of};

/// The folder with the nodes' directories.
fn keys(cluster: &Dev) -> PathBuf {
    cluster.identity.ancestors().nth(2).unwrap().to_owned()
}

#[test]
fn a_child_cluster_serves_and_is_gone_when_its_pipe_closes() {
    let cluster = Dev::start(&["--nodes", "2", "--memory", "64MiB"]);
    assert_eq!(cluster.addresses.len(), 2);
    let nodes: Vec<_> = cluster.node_pids().into_iter().map(Watched::new).collect();
    assert_eq!(nodes.len(), 2);
    cluster.run(&["allocate", "a", "--shape", "100", "--dtype", "int64"]).ok();
    let folder = keys(&cluster);
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "it holds keys: nobody else may enter it");

    let ended = cluster.close();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stderr, "", "who started it as a child knows why it ends");
    nodes.iter().for_each(Watched::ends);
    assert!(!folder.exists(), "the keys of a temporary cluster stay behind");
}

#[test]
fn ctrl_c_stops_a_cluster_and_leaves_no_process() {
    for signal in [Signal::INT, Signal::TERM] {
        let cluster = Dev::start(&["--nodes", "1", "--memory", "64MiB"]);
        let nodes: Vec<_> = cluster.node_pids().into_iter().map(Watched::new).collect();
        kill_process(pid_of(&cluster.child), signal).unwrap();
        let Dev { child, stdin: _open, .. } = cluster;
        let ended = finish(child);
        assert_eq!(ended.code, 0, "{ended:?}");
        nodes.iter().for_each(Watched::ends);
    }
}

#[test]
fn a_cluster_whose_keeper_is_killed_leaves_no_process() {
    let cluster = Dev::start(&["--nodes", "2", "--memory", "64MiB"]);
    let nodes: Vec<_> = cluster.node_pids().into_iter().map(Watched::new).collect();
    let folder = keys(&cluster);
    kill_process(pid_of(&cluster.child), Signal::KILL).unwrap();
    assert_eq!(finish(cluster.child).code, -1);
    nodes.iter().for_each(Watched::ends);
    // Nobody was left to do it.
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_demo_that_is_interrupted_leaves_no_process() {
    let mut child = holo(&["demo", "--elems", "50000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    crate::harness::read_until(child.stderr.as_mut().unwrap(), "gather ...");
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let nodes: Vec<Watched> = std::fs::read_to_string(children)
        .unwrap()
        .split_whitespace()
        .map(|number| Watched::new(number.parse().unwrap()))
        .collect();
    assert_eq!(nodes.len(), 3);
    kill_process(pid_of(&child), Signal::INT).unwrap();
    let ended = finish(child);
    assert_eq!(ended.code, 22, "{ended:?}");
    nodes.iter().for_each(Watched::ends);
}

#[test]
fn people_get_lines_to_paste_and_a_warning_that_data_is_in_memory_only() {
    let folder = crate::harness::folder();
    let dir = folder.path().join("it's here");
    let mut child =
        holo(&["dev", "--nodes", "1", "--memory", "64MiB", "--dir", dir.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
    let said = crate::harness::read_until(child.stderr.as_mut().unwrap(), "Ctrl-C");
    assert!(said.contains("in memory only"), "{said}");
    kill_process(pid_of(&child), Signal::INT).unwrap();
    let ended = finish(child);
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut lines = ended.stdout.lines();
    assert!(lines.next().unwrap().starts_with("export HOLO_CLUSTER=127.0.0.1:"), "{ended:?}");
    let quoted = dir.display().to_string().replace('\'', "'\\''");
    assert_eq!(
        lines.next(),
        Some(format!("export HOLO_IDENTITY='{quoted}/n1/client.identity'").as_str())
    );
    assert_eq!(lines.next(), None);
    assert!(dir.join("n1/node.toml").exists(), "a folder that was asked for stays");
    let mode = std::fs::metadata(&dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "it holds keys: nobody else may enter it");
    let log = std::fs::read_to_string(dir.join("n1.log")).unwrap();
    assert!(log.contains("INFO") && !log.contains("WARN") && !log.contains("ERROR"), "{log}");

    let before = std::fs::read(dir.join("n1/root.key")).unwrap();
    let again = crate::harness::run(holo(&["dev", "--dir", dir.to_str().unwrap()]));
    again.refused("HC1102", 6);
    assert_eq!(std::fs::read(dir.join("n1/root.key")).unwrap(), before, "keys were written over");
}

#[test]
fn a_killed_node_is_reported_and_nobody_misses_its_shards() {
    let mut cluster = Dev::start(&["--memory", "64MiB"]);
    let pids = cluster.node_pids();
    let allocate = ["allocate", "a", "--shape", "64", "--dtype", "int64", "--shard-elems", "1"];
    cluster.run(&allocate).ok();
    cluster.run(&["run", "--expr", "i", "--out", "a"]).ok();
    let before = cluster.run(&["array", "info", "a", "-o", "json"]).json();
    let led = node(&before, "n3")["shards"].as_u64().unwrap();
    assert!((1..64).contains(&led), "{before}");

    kill_process(pid(pids[2]), Signal::KILL).unwrap();
    let said = cluster.stderr_until("are left");
    assert!(said.contains("node n3") && said.contains("2 of 3 nodes are left"), "{said}");
    // Reads and writes of all parts, those that the dead node led among them.
    assert_eq!(cluster.run(&["run", "--expr", "sum(x)", "--in", "x=a"]).ok(), "2016\n");
    cluster.run(&["run", "--expr", "x + 1", "--in", "x=a", "--out", "a"]).ok();
    assert_eq!(cluster.run(&["run", "--expr", "sum(x)", "--in", "x=a"]).ok(), "2080\n");

    let status = cluster.run(&["status", "--timeout", "5s"]);
    assert_eq!(status.code, 9, "{status:?}");
    assert!(status.stdout.contains("n1") && status.stderr.contains("n3"), "{status:?}");
    crate::harness::until("the copies of n3 are made again", || {
        let info = cluster.run(&["array", "info", "a", "-o", "json"]).json();
        let of = |name: &str, key: &str| node(&info, name)[key].as_u64().unwrap();
        let copies = |name: &str| of(name, "shards") + of(name, "backups");
        let whole = (copies("n1"), copies("n2"), copies("n3")) == (64, 64, 0);
        whole.then_some(()).ok_or_else(|| info.to_string())
    });
    assert_eq!(cluster.close().code, 0);
}

#[test]
fn shutdown_now_really_stops_the_node() {
    let mut cluster = Dev::start(&["--memory", "64MiB"]);
    let nodes: Vec<_> = cluster.node_pids().into_iter().map(Watched::new).collect();
    let said = cluster.run(&["SHUTDOWN", "--node", "n3", "--now"]).refused("HC1001", 2);
    assert!(said.contains("--yes") && said.contains("loses"), "{said}");
    assert_eq!(cluster.run(&["shutdown", "--node", "n3", "--now", "--yes"]).ok(), "stopped n3\n");
    nodes[2].ends();
    let said = cluster.stderr_until("are left");
    assert!(said.contains("node n3"), "{said}");
    assert_eq!(cluster.run(&["status", "--timeout", "5s"]).code, 9);
    assert_eq!(cluster.close().code, 0);
}
