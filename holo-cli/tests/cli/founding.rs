//! From nothing to a cluster of several nodes by hand: `init`, `join`, `agent`, tickets, `leave`.

use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;

use holo_core::JoinTicket;
use rustix::process::Signal;

use crate::harness::{folder, holo, run, text};
use crate::running::{Lab, Running};

#[test]
fn a_cluster_is_founded_joined_and_found_again_after_a_stop() {
    let lab = Lab::found();
    let second =
        Running::start(lab.join_command(&lab.ticket, "n2"), &lab.folder.path().join("n2.log"));
    assert_eq!(second.said[0], "n2 has joined cluster lab");
    lab.states_until(|nodes| nodes.len() == 2 && nodes.iter().all(|node| node.1 == "active"));
    let mode = std::fs::metadata(lab.dir("n2")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "it holds a key: nobody else may enter it");
    lab.run(&["allocate", "a", "--shape", "1000", "--dtype", "int64"]).ok();
    let info = lab.run(&["array", "info", "a", "-o", "json"]).json();
    assert_eq!(info["replicas"], 2, "two nodes are enough for two copies: {info}");
    lab.run(&["run", "--expr", "i", "--out", "a"]).ok();

    second.signal(Signal::TERM);
    let ended = second.ends();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stderr.contains("SIGTERM"), "{ended:?}");
    assert_eq!(lab.run(&["run", "--expr", "sum(x)", "--in", "x=a"]).ok(), "499500\n");
    let again = lab.agent("n2");
    lab.states_until(|nodes| nodes.iter().all(|node| node.2));
    lab.run(&["status"]).ok();
    again.signal(Signal::INT);
    assert_eq!(again.ends().code, 0);
}

#[test]
fn what_init_prints_is_what_one_needs() {
    let folder = folder();
    let dir = folder.path().join("first");
    let made = run(holo(&[
        "init",
        "--name",
        "lab",
        "--node",
        "n1",
        "--listen",
        "127.0.0.1:0",
        "--no-start",
        "--dir",
        text(&dir),
        "-o",
        "json",
    ]))
    .json();
    let ticket = JoinTicket::parse(made["ticket"].as_str().unwrap()).unwrap();
    assert_eq!(ticket.cluster.to_hex(), made["cluster_id"].as_str().unwrap());
    assert_eq!(ticket.addresses[0], made["addresses"][0].as_str().unwrap());
    assert_eq!(made["identity"].as_str().unwrap(), text(&dir.join("client.identity")));
    for file in ["node.toml", "node.identity", "client.identity", "root.key"] {
        let mode = std::fs::metadata(dir.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    // The same directory is not written over, and a wrong value leaves none behind.
    let again = ["init", "--name", "lab", "--listen", "127.0.0.1:0", "--dir", text(&dir)];
    run(holo(&again)).refused("HC1102", 6);
    let other = folder.path().join("other");
    for wrong in [
        &["--listen", "nowhere"][..],
        // No machine has this address: it is for documents.
        &["--listen", "192.0.2.1:7400"],
        &["--listen", "127.0.0.1:0", "--memory", "1MiB"],
        &["--listen", "127.0.0.1:0", "--weight", "0"],
    ] {
        let args = [&["init", "--name", "lab", "--dir", text(&other)][..], wrong].concat();
        run(holo(&args)).refused("HC1008", 2);
        assert!(!other.exists(), "{wrong:?} left a directory behind");
    }
}

#[test]
fn bad_tickets_are_refused_each_for_its_reason() {
    let (lab, other) = (Lab::found(), Lab::found());
    let refused = |ticket: &str, name: &str, code: &str, exit: i32| {
        let said = run(lab.join_command(ticket, name)).refused(code, exit);
        assert!(!lab.dir(name).exists(), "{name}: a directory stayed: {said}");
        said
    };

    // A clash of names does not use the ticket up.
    let said = run(lab.join_command_in(&lab.ticket, "n1", &lab.dir("x")));
    let said = said.refused("HC1102", 6);
    assert!(said.contains("name") && !lab.dir("x").exists(), "{said}");
    let log = lab.folder.path().join("n2.log");
    let second = Running::start(lab.join_command(&lab.ticket, "n2"), &log);

    // Used.
    let said = refused(&lab.ticket, "n3", "HC1308", 4);
    assert!(said.contains("used already") && said.contains("holo ticket create"), "{said}");

    // Cut off, and no ticket at all.
    refused(&lab.ticket[..lab.ticket.len() - 3], "n3", "HC1308", 4);
    refused("hello", "n3", "HC1308", 4);

    // Expired.
    let created = |more: &[&str]| {
        let made = lab.run(&[&["ticket", "create", "-o", "json"][..], more].concat()).json();
        made["ticket"].as_str().unwrap().to_owned()
    };
    let mut old = JoinTicket::parse(&created(&[])).unwrap();
    old.expires.0 -= 7_200_000;
    let said = refused(&old.to_text().unwrap(), "n3", "HC1308", 4);
    assert!(
        said.contains("expired 60 minutes ago") && said.contains("holo ticket create"),
        "{said}"
    );
    lab.run(&["ticket", "create", "--valid", "200h"]).refused("HC1001", 2);

    // For another name.
    let named = created(&["--name", "n7"]);
    let said = refused(&named, "n3", "HC1308", 4);
    assert!(said.contains("n7") && said.contains("n3"), "{said}");

    // It did not say by which word it is withdrawn.
    let said = lab.run(&["ticket", "create"]);
    let keys = lab.run(&["ticket", "ls"]).ok();
    let named_key =
        said.stderr.split('`').nth(1).and_then(|it| it.strip_prefix("holo ticket revoke "));
    assert!(keys.contains(named_key.unwrap()), "{keys}: {said:?}");
    lab.run(&["ticket", "revoke", named_key.unwrap()]).ok();

    // Withdrawn.
    let key = |ticket: &serde_json::Value| ticket["key"].as_str().unwrap().to_owned();
    let rows = lab.run(&["ticket", "ls", "-o", "json"]).json();
    let rows = rows["tickets"].as_array().unwrap().clone();
    let revoked = rows.iter().find(|row| row["node_name"] == "n7").map(key).unwrap();
    lab.run(&["ticket", "revoke", &revoked[..8]]).ok();
    let said = refused(&named, "n7", "HC1308", 4);
    assert!(said.contains("withdrawn"), "{said}");
    let used = rows.iter().find(|row| row["used_by"] == "n2").map(key).unwrap();
    lab.run(&["ticket", "revoke", &used]).refused("HC1103", 6);
    lab.run(&["ticket", "revoke", "zz"]).refused("HC1101", 3);

    // Of another cluster: its ticket, pointed at a node of ours.
    let mut foreign = JoinTicket::parse(&other.ticket).unwrap();
    foreign.addresses = JoinTicket::parse(&lab.ticket).unwrap().addresses;
    let ran = run(lab.join_command(&foreign.to_text().unwrap(), "n3"));
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{ran:?}");
    assert!(ran.stderr.contains("error[HC1304]") && ran.stderr.contains("  help: "), "{ran:?}");
    assert_eq!(ran.stderr.matches(&foreign.addresses[0]).count(), 1, "{ran:?}");
    assert!(!lab.dir("n3").exists(), "{ran:?}");

    // After all that the cluster is as it was.
    lab.states_until(|nodes| nodes.len() == 2);
    drop(second);
}

/// It said nothing for half a minute, and then named one of the addresses.
#[test]
fn a_join_that_nobody_answers_says_whom_it_asks_and_at_the_end_what_to_do() {
    let silent = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let addresses = silent.each_ref().map(|socket| socket.local_addr().unwrap().to_string());
    let lab = Lab::found();
    let mut ticket = JoinTicket::parse(&lab.ticket).unwrap();
    ticket.addresses = addresses.to_vec();
    let mut command = lab.join_command(&ticket.to_text().unwrap(), "n2");
    command.args(["--timeout", "6s"]);
    let said = run(command).refused("HC1401", 9);
    let asked = addresses.join(", ");
    assert!(said.contains(&format!("asking at {asked}, for 6 s in all\n")), "{said}");
    assert!(said.contains(&format!("nobody answered within 6s; asked at {asked}")), "{said}");
    assert!(said.contains("  help: ") && said.contains("holo ticket create"), "{said}");
    assert!(!lab.dir("n2").exists(), "{said}");
}

/// The plan of a stop promised what was then refused, a drain stood still without a word, and a comparison counted what
/// nobody had read.
#[test]
fn beside_a_dead_node_with_last_copies_every_command_says_what_that_means() {
    let lab = Lab::found();
    let second = lab.join("n2");
    lab.states_until(|nodes| nodes.len() == 2 && nodes.iter().all(|node| node.1 == "active"));
    let lone = ["allocate", "lone", "--shape", "1000", "--dtype", "int64", "--shard-elems", "10"];
    lab.run(&[&lone[..], &["--replicas", "1"]].concat()).ok();
    lab.run(&["run", "--expr", "i", "--out", "lone"]).ok();
    lab.run(&["ring", "verify"]).ok();
    lab.run(&["shutdown", "--cluster", "--plan"]).ok();
    second.signal(Signal::KILL);
    second.ends();
    lab.states_until(|nodes| nodes.iter().any(|node| node.0 == "n2" && !node.2));

    for how in ["--plan", "--yes"] {
        let said = lab.run(&["shutdown", "--cluster", how]).refused("HC1105", 6);
        let words =
            "n2 does not answer and has the last copy of parts of lone\n  help: start n2 again";
        assert!(said.contains(words), "{how}: {said}");
    }
    let plan = lab.run(&["drain", "n2", "--plan", "-o", "json"]).json();
    let warning = plan["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("n2 does not answer: the last copy of "), "{plan}");
    assert!(warning.contains("parts of lone, cannot be moved before it is back"), "{plan}");
    // It said to drain it instead, which waits for the very node.
    let said = lab.run(&["node", "evict", "n2", "--yes"]).refused("HC1105", 6);
    assert!(said.contains("help: start n2 again with `holo agent"), "{said}");
    // A leave told a time left, which grew, and not that it waited; nor that it was to be given again.
    let said =
        lab.run(&["leave", "--node", "n2", "--yes", "--deadline", "1s"]).refused("HC1402", 9);
    let waits = "it waits: n2 does not answer and has the last copy of ";
    assert!(said.contains(waits) && said.contains("`holo leave --node n2`"), "{said}");
    assert!(lab.run(&["status"]).stdout.contains(waits));
    let status: serde_json::Value =
        serde_json::from_str(&lab.run(&["status", "-o", "json"]).stdout).unwrap();
    let drain = &status["drains"][0];
    assert_eq!((&drain["node"], &drain["eta_ms"]), (&"n2".into(), &serde_json::Value::Null));
    lab.run(&["undrain", "n2"]).ok();
    let verify = lab.run(&["ring", "verify"]);
    assert_eq!(verify.code, 9, "{verify:?}");
    assert!(verify.stderr.contains("could not be compared without n2"), "{verify:?}");
    let status = lab.run(&["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let links = status["links"].as_array().unwrap();
    assert!(links.iter().all(|link| link["from"] != "n2" && link["to"] != "n2"), "{status}");

    // It comes back with nothing.
    let _again = lab.agent("n2");
    lab.states_until(|nodes| nodes.iter().all(|node| node.2));
    let verify = lab.run(&["ring", "verify"]);
    assert_eq!(verify.code, 10, "{verify:?}");
    assert!(verify.stderr.contains("error[HC1502]: "), "{verify:?}");
    assert!(verify.stderr.contains("holo ring accept-loss --plan"), "{verify:?}");
    let said = lab.run(&["shutdown", "--cluster", "--plan"]).refused("HC1103", 6);
    assert!(said.contains("lost their data") && said.contains("accept-loss"), "{said}");
}

#[test]
fn a_node_leaves_for_good_when_it_holds_nothing_any_more() {
    let lab = Lab::found();
    let second = lab.join("n2");
    lab.states_until(|nodes| nodes.len() == 2 && nodes.iter().all(|node| node.1 == "active"));
    lab.run(&["allocate", "a", "--shape", "1000", "--dtype", "int64", "--shard-elems", "10"]).ok();
    lab.run(&["run", "--expr", "i", "--out", "a"]).ok();
    let dir = lab.dir("n2");
    let said = lab.run(&["leave", "--dir", text(&dir)]).refused("HC1001", 2);
    assert!(said.contains("--yes") && said.contains("n2"), "{said}");
    let left = lab.run(&["leave", "--dir", text(&dir), "--yes"]).ok();
    assert_eq!(left, "n2 has left the cluster\n");
    assert_eq!(second.ends().code, 0);
    assert_eq!(lab.run(&["run", "--expr", "sum(x)", "--in", "x=a"]).ok(), "499500\n");
    lab.states_until(|nodes| nodes.len() == 1);
    lab.run(&["node", "show", "n2"]).refused("HC1101", 3);
    // It said that it was stopping, and to use another node.
    let again = run(holo(&["agent", "--dir", text(&dir)])).refused("HC1103", 6);
    assert!(again.contains("node n2 has left the cluster"), "{again}");
    assert!(again.contains("  help: to come back, join anew in a new directory"), "{again}");

    // The last one cannot; its own directory says where the cluster is and who we are.
    let first = lab.dir("n1");
    let said = run(holo(&["leave", "--dir", text(&first), "--yes"])).refused("HC1106", 6);
    assert!(said.contains("n1"), "{said}");
    let said = lab.run(&["node", "evict", "n1", "--yes"]).refused("HC1106", 6);
    assert!(said.contains("the last one") && said.contains("holo shutdown --cluster"), "{said}");
    let plan = lab.run(&["node", "evict", "n1", "--plan"]).ok();
    assert!(plan.contains("it cannot be put out: it is the last node"), "{plan}");
}
