//! What operators do with a running cluster, and what it refuses them.

use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::harness::{Dev, Watched, finish, node, pid, run_within, shared, until};

/// A cluster with an array of `replicas` copies that has data on every node.
#[track_caller]
fn with_array(nodes: &str, replicas: &str, more: &[&str]) -> Dev {
    let cluster = Dev::start(&["--nodes", nodes, "--memory", "64MiB"]);
    let allocate = ["allocate", "a", "--shape", "960", "--dtype", "int64", "--shard-elems", "10"];
    cluster.run(&[&allocate[..], &["--replicas", replicas], more].concat()).ok();
    cluster.run(&["run", "--expr", "i", "--out", "a"]).ok();
    cluster
}

#[track_caller]
fn sum(cluster: &Dev) -> String {
    cluster.run(&["run", "--expr", "sum(x)", "--in", "x=a"]).ok()
}

#[test]
fn nodes_are_listed_shown_and_found_by_their_beginnings() {
    let cluster = shared();
    let rows = cluster.run(&["node", "ls", "-o", "json"]).json();
    let id = node(&rows, "n2")["id"].as_str().unwrap().to_owned();
    // They had joined in another order, and were shown in that.
    let names = rows["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    let words = cluster.run(&["node", "ls"]).ok();
    for part in ["NAME", "ZONE", "PRIMARY", "n1", "n2", "n3", "active", "up"] {
        assert!(words.contains(part), "{part:?} is missing: {words}");
    }
    let shown = cluster.run(&["node", "show", &id[..12], "-o", "json"]).json();
    assert_eq!((&shown["name"], &shown["id"]), (&"n2".into(), &id.as_str().into()));
    assert_eq!(shown["state"], "active");
    assert!(cluster.run(&["node", "show", "n2"]).ok().contains(&id));
    let said = cluster.run(&["node", "show", "n"]).refused("HC1001", 2);
    assert!(said.contains("n1, n2, n3"), "{said}");
    let said = cluster.run(&["node", "cordon", "n9"]).refused("HC1101", 3);
    assert!(said.contains("n1, n2, n3"), "{said}");
}

#[test]
fn taking_back_a_node_that_nobody_drains_says_that_it_was_in_service() {
    // It said "n1 is back in service", as if it had been away.
    let cluster = shared();
    let said = cluster.run(&["undrain", "n1"]);
    assert_eq!(said.stdout, "n1 was not being drained: it is in service\n", "{said:?}");
    assert_eq!((said.code, said.stderr.contains("comes back")), (0, false), "{said:?}");
    let said = cluster.run(&["undrain", "n1", "-o", "json"]).json();
    assert_eq!((&said["node"], &said["was"]), (&"n1".into(), &"active".into()));
}

/// The dead one was told as a receiver, and the drain went down to one copy without a word.
#[test]
fn a_drain_beside_a_dead_node_says_what_is_left_and_is_refused_where_that_is_too_little() {
    let cluster = with_array("3", "2", &[]);
    kill_process(pid(cluster.node_pids()[1]), Signal::KILL).unwrap();
    until("n2 is down", || {
        let nodes = cluster.run(&["node", "ls", "-o", "json"]).json();
        (node(&nodes, "n2")["up"] == false).then_some(()).ok_or_else(|| nodes.to_string())
    });
    let plan = cluster.run(&["drain", "n3", "--plan", "-o", "json"]).json();
    let to: Vec<&Value> =
        plan["receivers"].as_array().unwrap().iter().map(|it| &it["node"]).collect();
    assert_eq!(to, ["n1"], "{plan}");
    assert_eq!(
        plan["warnings"],
        serde_json::json!(["arrays of 2 copies will have 1: n2 does not answer"])
    );
    let strict =
        ["allocate", "strict", "--shape", "960", "--dtype", "int64", "--shard-elems", "10"];
    cluster.run(&[&strict[..], &["--replicas", "2", "--min-in-sync", "2"]].concat()).ok();
    let said = cluster.run(&["drain", "n3"]).refused("HC1106", 6);
    assert!(said.contains("n2 does not answer") && said.contains("strict"), "{said}");
    assert!(said.contains("  help: start n2 again or add a node first"), "{said}");
    let said = cluster.run(&["undrain", "n2"]);
    assert_eq!(
        said.stdout, "n2 was not being drained: it is in service, but it does not answer\n",
        "{said:?}"
    );
    assert!(said.stderr.contains("holo agent --dir DIR"), "{said:?}");
    drop(cluster.close());
}

#[test]
fn a_run_whose_nodes_are_dead_ends_in_its_time_and_names_them() {
    // With `--timeout 6s` it took 40 s, the time of its task and ten seconds.
    let cluster = with_array("3", "1", &[]);
    for dead in &cluster.node_pids()[1..] {
        kill_process(pid(*dead), Signal::KILL).unwrap();
    }
    let sum = ["run", "--expr", "sum(x)", "--in", "x=a", "--timeout", "6s", "--time", "30s"];
    until("the dead are named", || {
        // On a busy machine the time may be over before the living one has answered.
        let said = run_within(cluster.holo(&sum), Duration::from_secs(35)).refused("HC1401", 9);
        let named = said.contains("nodes n2, n3 did not answer") && said.contains("  help: start");
        named.then_some(()).ok_or(said)
    });
    drop(cluster.close());
}

#[test]
fn all_copies_are_compared_and_are_equal() {
    let cluster = with_array("3", "2", &[]);
    let said = cluster.run(&["ring", "verify"]).ok();
    assert!(said.starts_with("all ") && said.contains("copies are equal"), "{said}");
    let found = cluster.run(&["ring", "verify", "-o", "json"]).json();
    let number = |key: &str| found[key].as_u64().unwrap();
    assert_eq!(number("copies"), 2 * number("equal"), "{found}");
    assert!(number("equal") > 0 && number("bytes") >= 2 * 960 * 8, "{found}");
    assert_eq!((number("unheld"), &found["different"]), (0, &serde_json::json!([])), "{found}");
    assert_eq!(cluster.run(&["ring", "accept-loss", "--plan"]).ok(), "nothing is lost\n");
    let said = cluster.run(&["ring", "accept-loss", "--yes"]).refused("HC1103", 6);
    assert!(said.contains("nothing is lost") && said.contains("  help: "), "{said}");
    assert_eq!(cluster.close().code, 0);
}

#[test]
fn a_cordoned_node_keeps_what_it_has_and_comes_back() {
    let cluster = with_array("2", "2", &[]);
    assert_eq!(cluster.run(&["node", "cordon", "n2"]).ok(), "n2 is cordoned\n");
    let status = cluster.run(&["status", "-o", "json"]).json();
    assert_eq!(node(&status, "n2")["state"], "cordoned");
    assert_eq!(sum(&cluster), "460320\n");
    assert_eq!(cluster.run(&["node", "uncordon", "n2"]).ok(), "n2 is active\n");
    cluster.run(&["undrain", "n2"]).ok();
    assert_eq!(cluster.close().code, 0);
}

#[test]
fn a_drained_node_can_be_unplugged() {
    let mut cluster = with_array("3", "2", &[]);
    let pids = cluster.node_pids();
    let plan = cluster.run(&["drain", "n3", "--plan", "-o", "json"]).json();
    assert!(plan["groups_left"].as_u64().unwrap() > 0, "{plan}");
    assert_eq!(plan["refusals"], serde_json::json!([]));
    assert_eq!(plan["state"], "active", "a plan changes nothing: {plan}");

    let done = cluster.run(&["DRAIN", "n3"]).ok();
    assert_eq!(done, "drained n3: it holds nothing and can be switched off\n");
    let status = cluster.run(&["status", "-o", "json"]).json();
    let drained = node(&status, "n3");
    assert_eq!(
        (&drained["state"], &drained["primaries"], &drained["backups"]),
        (&"drained".into(), &0.into(), &0.into())
    );
    kill_process(pid(pids[2]), Signal::KILL).unwrap();
    cluster.stderr_until("are left");
    assert_eq!(sum(&cluster), "460320\n");
    // A drain of what is drained is done at once, also when the node is off; status is content without it.
    assert!(cluster.run(&["drain", "n3"]).ok().starts_with("drained n3"));
    cluster.run(&["status"]).ok();
    assert_eq!(cluster.close().code, 0);
}

#[test]
fn a_drain_goes_on_by_itself_and_can_be_taken_back() {
    let cluster = with_array("3", "2", &[]);
    let said = cluster.run(&["drain", "n2", "--detach"]);
    assert_eq!(said.stdout, "draining n2\n", "{said:?}");
    assert!(said.stderr.contains("holo drain n2"), "{said:?}");
    until("n2 is drained", || {
        let status = cluster.run(&["status", "-o", "json"]).json();
        (node(&status, "n2")["state"] == "drained").then_some(()).ok_or_else(|| status.to_string())
    });
    assert_eq!(cluster.run(&["undrain", "n2"]).ok(), "n2 is back in service\n");
    until("n2 holds its share again", || {
        let status = cluster.run(&["status", "-o", "json"]).json();
        let holds = node(&status, "n2")["backups"].as_u64().unwrap() > 0;
        holds.then_some(()).ok_or_else(|| status.to_string())
    });
    assert_eq!(sum(&cluster), "460320\n");
    assert_eq!(cluster.close().code, 0);
}

#[test]
fn drains_that_cannot_be_are_refused_with_the_reason_of_their_plan() {
    let alone = with_array("1", "1", &[]);
    for more in [&[][..], &["--plan"], &["--detach"]] {
        let ran = alone.run(&[&["drain", "n1"][..], more].concat());
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!(
            ran.stderr.contains("error[HC1106]: ") && ran.stderr.contains("no other node"),
            "{ran:?}"
        );
    }
    let said = alone.run(&["shutdown", "--node", "n1"]).refused("HC1106", 6);
    assert!(said.contains("--now"), "{said}");
    alone.run(&["node", "evict", "n1", "--yes"]).refused("HC1106", 6);
    let status = alone.run(&["status", "-o", "json"]).json();
    assert_eq!(node(&status, "n1")["state"], "active", "{status}");
    assert_eq!(alone.close().code, 0);

    let pair = with_array("2", "2", &["--min-in-sync", "2"]);
    let said = pair.run(&["drain", "n2"]).refused("HC1106", 6);
    assert!(said.contains("copies must be in sync of a"), "{said}");
    let plan = pair.run(&["drain", "n2", "--plan", "-o", "json"]);
    assert_eq!(plan.code, 6, "{plan:?}");
    let shown: Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(shown["refusals"][0]["code"], "HC1106", "{shown}");
    assert_eq!(pair.close().code, 0);
}

#[test]
fn evicting_the_last_copy_names_the_arrays_and_needs_leave_to_lose_them() {
    let cluster = with_array("2", "1", &[]);
    let plan = cluster.run(&["node", "evict", "n2", "--plan", "-o", "json"]).json();
    assert_eq!(plan["last_copies"], serde_json::json!(["a"]));
    let said = cluster.run(&["node", "evict", "n2"]).refused("HC1001", 2);
    assert!(said.contains("--yes"), "{said}");
    let said = cluster.run(&["node", "evict", "n2", "--yes"]).refused("HC1105", 6);
    assert!(said.contains("data of a") && said.contains("--accept-loss"), "{said}");
    assert_eq!(sum(&cluster), "460320\n", "a refusal changes nothing");

    let said = cluster.run(&["node", "evict", "n2", "--accept-loss"]).refused("HC1001", 2);
    assert!(said.contains("LOST") && said.contains(" a "), "{said}");
    let done = cluster.run(&["node", "evict", "n2", "--accept-loss", "--yes", "-o", "json"]).json();
    assert_eq!((&done["evicted"], &done["lost"]), (&"n2".into(), &serde_json::json!(["a"])));
    cluster.run(&["node", "show", "n2"]).refused("HC1101", 3);
    assert_ne!(sum(&cluster), "460320\n");
    assert_eq!(cluster.close().code, 0);
}

#[test]
fn the_ring_is_shown_planned_and_applied_at_its_version_only() {
    let cluster = with_array("3", "2", &[]);
    let ring = cluster.run(&["ring", "show", "-o", "json"]).json();
    let tables = ring["tables"].as_array().unwrap();
    let used = tables.iter().find(|table| table["in_use"] == true).unwrap();
    let held: u64 = used["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["partitions"].as_u64().unwrap())
        .sum();
    assert_eq!(held, 2 * ring["partitions"].as_u64().unwrap(), "{ring}");
    let words = cluster.run(&["ring", "show", "--draw"]).ok();
    for part in ["arrays of 2 copies", "HOLDS", "PRIMARY", "n3", "primary of", "█"] {
        assert!(words.contains(part), "{part:?} is missing: {words}");
    }

    let plan = cluster.run(&["ring", "plan", "-o", "json"]).json();
    let version = plan["table_version"].as_u64().unwrap();
    assert!(cluster.run(&["ring", "plan"]).ok().contains(&format!("tables {version}")));
    let stale = (version + 7).to_string();
    let said = cluster.run(&["ring", "apply", "--version", &stale]).refused("HC1103", 6);
    assert!(said.contains(&version.to_string()), "{said}");
    cluster.run(&["ring", "apply", "--version", &version.to_string()]).ok();
    assert_eq!(sum(&cluster), "460320\n");
    assert_eq!(cluster.close().code, 0);
}

#[test]
fn a_node_is_drained_before_it_stops_and_now_says_what_is_lost() {
    let cluster = with_array("3", "1", &[]);
    let nodes: Vec<_> = cluster.node_pids().into_iter().map(Watched::new).collect();
    let said = cluster.run(&["shutdown", "--node", "n3"]).refused("HC1001", 2);
    assert!(said.contains("--yes") && said.contains("Drain and stop n3"), "{said}");
    let plan = cluster.run(&["shutdown", "--node", "n2", "--now", "--plan", "-o", "json"]).json();
    assert_eq!(plan["lost"], serde_json::json!(["a"]));
    let said = cluster.run(&["shutdown", "--node", "n2", "--now"]).refused("HC1001", 2);
    assert!(said.contains("parts of a lie nowhere else"), "{said}");

    let ls = cluster.run(&["node", "ls", "-o", "json"]).json();
    let address = node(&ls, "n3")["address"].as_str().unwrap().to_owned();
    let said = cluster.run(&["SHUTDOWN", "--node", "n3", "--yes"]);
    // It said so up to a second before.
    if !said.stderr.contains("cannot be seen from here") {
        std::net::UdpSocket::bind(&address).unwrap();
    }
    assert_eq!(said.ok(), "stopped n3\n");
    nodes[2].ends();
    assert_eq!(sum(&cluster), "460320\n", "one copy, and still nothing is lost");

    // The plan promised what was then refused.
    for how in ["--plan", "--yes"] {
        let said = cluster.run(&["shutdown", "--cluster", how]).refused("HC1801", 1);
        assert!(said.contains("holo dev") && said.contains("--now"), "{how}: {said}");
    }
    // A node that is taken for up and does not answer would be told as one that was not stopped.
    until("n3 is down", || {
        let nodes = cluster.run(&["node", "ls", "-o", "json"]).json();
        (node(&nodes, "n3")["up"] == false).then_some(()).ok_or_else(|| nodes.to_string())
    });
    cluster.run(&["shutdown", "--cluster", "--now", "--yes"]).ok();
    nodes.iter().for_each(Watched::ends);
    // Nothing is left to keep: it ends without being told to.
    let Dev { child, stdin: _open, .. } = cluster;
    assert_eq!(finish(child).code, 10);
}

#[test]
fn without_a_majority_the_catalog_refuses_and_what_is_left_is_shown() {
    let mut cluster = with_array("3", "2", &[]);
    let pids = cluster.node_pids();
    for victim in [pids[1], pids[2]] {
        kill_process(pid(victim), Signal::KILL).unwrap();
    }
    cluster.stderr_until("1 of 3 nodes are left");
    let verbs: [&[&str]; 4] = [
        &["ticket", "create"],
        &["node", "cordon", "n1"],
        &["drain", "n2"],
        &["allocate", "b", "--shape", "10", "--dtype", "int64"],
    ];
    // All at the same time: each of them waits for a leader first. What was given to the old leader while it still
    // took itself for one is honestly told as unknown (exit code 9), so each is asked for until it is refused.
    std::thread::scope(|scope| {
        for verb in verbs {
            let cluster = &cluster;
            scope.spawn(move || {
                let said = until("a refusal", || {
                    let ran = cluster.run(&[verb, &["--timeout", "12s"][..]].concat());
                    assert!(matches!(ran.code, 8 | 9), "{verb:?}: {ran:?}");
                    if ran.code == 8 { Ok(ran.refused("HC1405", 8)) } else { Err(ran.stderr) }
                });
                // Others listed the voters, or said no more than that nobody leads.
                let words = "nobody leads the catalog: 1 of 3 voters answers (n1 of n1, n";
                assert!(said.contains(words), "{verb:?}: {said}");
                assert!(said.contains("help: start n2, n3 again"), "{verb:?}: {said}");
            });
        }
    });
    let status = cluster.run(&["status", "--timeout", "3s"]);
    assert_eq!(status.code, 8, "{status:?}");
    assert!(status.stdout.contains("n1") && status.stderr.contains("HC1405"), "{status:?}");
    // It listed the dead as up, with exit code 0 and not a word.
    let ls = cluster.run(&["node", "ls"]);
    assert!(ls.stdout.contains("n1") && ls.stderr.contains("error[HC1405]"), "{ls:?}");
    assert_eq!(ls.code, 8, "{ls:?}");
    // It had a row for each group, and named one of the addresses.
    let verify = cluster.run(&["ring", "verify", "--timeout", "3s"]);
    assert_eq!(verify.code, 9, "{verify:?}");
    assert!(verify.stderr.contains("could not be compared without n2, n3"), "{verify:?}");
    assert!(verify.stdout.lines().count() < 8, "{verify:?}");
    assert_eq!(cluster.close().code, 0);
}

#[test]
fn watching_prints_one_report_after_the_other_until_it_is_stopped() {
    let cluster = shared();
    let mut command = cluster.holo(&["status", "--watch", "--every", "10ms", "-o", "jsonl"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.as_mut().unwrap();
    let seen = crate::harness::read_until(stdout, "\n");
    let first: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(first["catalog"]["quorum"], true);
    let second = crate::harness::read_until(stdout, "\n");
    assert!(second.contains("\"nodes\"") && !second.contains('\x1b'), "{second}");
    kill_process(crate::harness::pid_of(&child), Signal::INT).unwrap();
    let ended = finish(child);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn principals_may_do_what_they_were_granted_and_nothing_once_removed() {
    let cluster = Dev::start(&["--nodes", "1", "--memory", "64MiB"]);
    let folder = crate::harness::folder();
    let file = folder.path().join("ann.identity");
    let file = crate::harness::text(&file);
    let grants = ["--grant", "STATUS", "--grant", "ALLOCATE:ann/*", "--grant", "READ:ann/*"];
    let add = [&["principal", "add", "ann", "--new", file][..], &grants].concat();
    assert_eq!(cluster.run(&add).ok(), "ann may STATUS, ALLOCATE:ann/*, READ:ann/*\n");
    cluster.run(&add).refused("HC1102", 6);
    let ann = |args: &[&str]| {
        let mut command = cluster.holo(args);
        command.env("HOLO_IDENTITY", file);
        crate::harness::run(command)
    };
    ann(&["allocate", "ann/a", "--shape", "10", "--dtype", "int64"]).ok();
    ann(&["allocate", "bob/a", "--shape", "10", "--dtype", "int64"]).refused("HC1302", 5);
    ann(&["ticket", "create"]).refused("HC1302", 5);
    ann(&["node", "cordon", "n1"]).refused("HC1302", 5);
    ann(&["principal", "ls"]).refused("HC1302", 5);
    ann(&["ring", "verify"]).refused("HC1302", 5);
    ann(&["ring", "accept-loss", "--plan"]).refused("HC1302", 5);
    ann(&["ring", "accept-loss", "--yes"]).refused("HC1302", 5);

    let wrong = folder.path().join("bob.identity");
    let wrong = crate::harness::text(&wrong);
    let add = ["principal", "add", "bob", "--new", wrong, "--grant", "FLY"];
    cluster.run(&add).refused("HC1001", 2);
    assert!(!std::path::Path::new(wrong).exists(), "a key that may do nothing stays behind");
    cluster.run(&["principal", "rm", "ann"]).refused("HC1001", 2);
    cluster.run(&["principal", "rm", "ann", "--yes"]).ok();
    ann(&["array", "ls"]).refused("HC1301", 4);
    cluster.run(&["principal", "rm", "ann", "--yes"]).refused("HC1101", 3);
    assert_eq!(cluster.close().code, 0);
}
