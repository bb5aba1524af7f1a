//! Regression: an earlier system of this kind printed "Successfully drained" without ever connecting. Every verb that
//! needs the cluster must fail when there is none.

use std::net::UdpSocket;

use crate::harness::{folder, holo, npy_file, run, shared, text};

#[test]
fn every_verb_against_a_dead_address_fails_as_unreachable() {
    let cluster = shared();
    // It takes packets and never answers, like a host behind a firewall.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let folder = folder();
    let file = npy_file(&folder, "a.npy");
    let module = folder.path().join("m.wat");
    std::fs::write(&module, "(module)").unwrap();
    let verbs: [&[&str]; 33] = [
        &["status"],
        &["allocate", "demo/a", "--shape", "10", "--dtype", "int64"],
        &["array", "ls"],
        &["array", "info", "demo/a"],
        &["array", "get", "demo/a"],
        &["array", "put", "demo/a", "--in", text(&file)],
        &["array", "put", "demo/a[0]", "--value", "1"],
        &["array", "rm", "demo/a", "--yes"],
        &["run", "--expr", "sum(x)", "--in", "x=demo/a"],
        &["run", text(&module), "--in", "demo/a"],
        &["run", text(&module), "--call", "00"],
        &["drain", "n1"],
        &["undrain", "n1"],
        &["node", "ls"],
        &["node", "show", "n1"],
        &["node", "cordon", "n1"],
        &["node", "evict", "n1", "--yes"],
        &["ring", "show"],
        &["ring", "plan"],
        &["ring", "apply", "--version", "1"],
        &["ring", "verify"],
        &["ring", "accept-loss", "--yes"],
        &["ring", "accept-loss", "--plan"],
        &["ticket", "create"],
        &["ticket", "ls"],
        &["ticket", "revoke", "0123456789abcdef"],
        &["principal", "ls"],
        &["principal", "rm", "ann", "--yes"],
        &["leave", "--node", "n1", "--yes"],
        &["shutdown", "--node", "n1", "--yes"],
        &["shutdown", "--cluster", "--yes"],
        &["shutdown", "--cluster", "--cancel"],
        &["shutdown", "--cluster", "--now", "--yes"],
    ];
    // All at the same time: each of them waits for its whole timeout.
    let started: Vec<_> = verbs
        .iter()
        .map(|verb| {
            let mut command = holo(&[*verb, &["--timeout", "1s"]].concat());
            command.env("HOLO_CLUSTER", &address).env("HOLO_IDENTITY", &cluster.identity);
            std::thread::spawn(move || run(command))
        })
        .collect();
    for (verb, running) in verbs.iter().zip(started) {
        let ran = running.join().unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (9, ""), "{verb:?}: {ran:?}");
        assert!(ran.stderr.contains("error[HC1401]: "), "{verb:?}: {ran:?}");
        assert!(ran.stderr.contains(&address), "{verb:?}: {ran:?}");
    }
}

#[test]
fn all_addresses_where_nobody_answers_are_named() {
    let silent = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let addresses = silent.each_ref().map(|socket| socket.local_addr().unwrap().to_string());
    // Longer than a node gets for its first word, so that what is said is what the addresses said.
    let mut command = holo(&["status", "--timeout", "30s"]);
    command.env("HOLO_CLUSTER", addresses.join(",")).env("HOLO_IDENTITY", &shared().identity);
    let said = run(command).refused("HC1401", 9);
    let help = said.lines().find(|line| line.starts_with("  help: ")).unwrap();
    assert!(addresses.iter().all(|address| help.contains(address.as_str())), "{said}");
}

#[test]
fn errors_are_json_for_programs() {
    let mut command = holo(&["status", "--timeout", "500ms", "-o", "json"]);
    command.env("HOLO_CLUSTER", "127.0.0.1:9").env("HOLO_IDENTITY", &shared().identity);
    let ran = run(command);
    assert_eq!(ran.code, 9, "{ran:?}");
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["version"], 1);
    assert_eq!(error["error"]["code"], "HC1401");
    assert_eq!(error["error"]["retry"], "later");
}

#[test]
fn without_address_or_identity_the_help_says_where_they_come_from() {
    let said = run(holo(&["status"])).refused("HC1008", 2);
    assert!(said.contains("HOLO_CLUSTER") && said.contains("holo dev"), "{said}");
    let said = run(holo(&["status", "--cluster", "127.0.0.1:9"])).refused("HC1008", 2);
    assert!(said.contains("HOLO_IDENTITY"), "{said}");
}

#[test]
fn an_identity_that_is_not_there_is_named() {
    let ran = run(holo(&["status", "--cluster", "127.0.0.1:9", "--identity", "/nonexistent/me"]));
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("/nonexistent/me"), "{ran:?}");
}

#[test]
fn the_users_file_says_where_the_cluster_is_and_flags_win_over_it() {
    let cluster = shared();
    let folder = folder();
    let settings = folder.path().join("holo");
    std::fs::create_dir(&settings).unwrap();
    let file = settings.join("config.toml");
    let identity = text(&cluster.identity);
    std::fs::write(
        &file,
        format!("cluster = \"{}\"\nidentity = \"{identity}\"\n", cluster.addresses[0]),
    )
    .unwrap();
    let with_file = |args: &[&str]| {
        let mut command = holo(args);
        command.env("XDG_CONFIG_HOME", folder.path());
        run(command)
    };
    assert!(with_file(&["status"]).ok().contains("n1"));
    let ran = with_file(&["status", "--cluster", "127.0.0.1:9", "--timeout", "500ms"]);
    assert_eq!(ran.code, 9, "{ran:?}");

    std::fs::write(&file, "clutser = \"x\"\n").unwrap();
    let said = with_file(&["status"]).refused("HC1008", 2);
    assert!(said.contains("did you mean \"cluster\"?"), "{said}");
}
