//! What `holo` says about itself.

use crate::harness::{holo, run, shared};

const COMMANDS: [&[&str]; 39] = [
    &[],
    &["demo"],
    &["dev"],
    &["init"],
    &["join"],
    &["agent"],
    &["status"],
    &["allocate"],
    &["array"],
    &["array", "ls"],
    &["array", "info"],
    &["array", "get"],
    &["array", "put"],
    &["array", "rm"],
    &["run"],
    &["node"],
    &["node", "ls"],
    &["node", "show"],
    &["node", "cordon"],
    &["node", "uncordon"],
    &["node", "evict"],
    &["drain"],
    &["undrain"],
    &["ring"],
    &["ring", "show"],
    &["ring", "plan"],
    &["ring", "apply"],
    &["ticket"],
    &["ticket", "create"],
    &["ticket", "ls"],
    &["ticket", "revoke"],
    &["principal"],
    &["principal", "add"],
    &["principal", "ls"],
    &["principal", "rm"],
    &["leave"],
    &["shutdown"],
    &["version"],
    &["completions"],
];

#[test]
fn help_of_every_command_has_an_example() {
    for command in COMMANDS {
        let help = run(holo(&[command, &["--help"]].concat())).ok();
        assert!(help.contains("Example"), "{command:?}: {help}");
        assert!(help.contains("holo "), "{command:?}: {help}");
    }
}

#[test]
fn every_command_that_help_lists_is_in_these_tests() {
    let help = run(holo(&["--help"])).ok();
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // Lines that are indented deeper go on with the text of the one above.
    for line in commands.lines().filter(|line| !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        assert!(COMMANDS.iter().any(|command| command.first() == Some(&name)), "{name}");
    }
    assert!(!help.contains("gpu-worker"), "{help}");
}

#[test]
fn the_usage_of_a_shutdown_says_each_way_once() {
    // It had `--cluster <ADDRS>` in it, which is where the cluster is, next to `--cluster`, which is all of it.
    let usage =
        "Usage: holo shutdown [OPTIONS] --node <NODE>\n       holo shutdown [OPTIONS] --all\n";
    let help = run(holo(&["shutdown", "--help"])).ok();
    assert!(help.contains(usage), "{help}");
    for wrong in [&["shutdown"][..], &["shutdown", "--cluster", "a:1", "--node", "n", "--all"]] {
        let said = run(holo(wrong));
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains(usage), "{wrong:?}: {said:?}");
    }
}

#[test]
fn the_great_verbs_work_in_capitals() {
    let cluster = shared();
    for verb in ["ALLOCATE", "RUN", "DRAIN", "SHUTDOWN"] {
        let help = run(holo(&[verb, "--help"])).ok();
        assert!(help.contains(&format!("holo {}", verb.to_lowercase())), "{help}");
    }
    cluster.run(&["ALLOCATE", "capitals/a", "--shape", "10", "--dtype", "int64"]).ok();
    let sum = cluster.run(&["RUN", "--expr", "sum(x + i)", "--in", "x=capitals/a"]).ok();
    assert_eq!(sum, "45\n");
}

#[test]
fn the_version_is_that_of_the_package() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(holo(&["--version"])).ok(), format!("holo {version}\n"));
    assert!(run(holo(&["version"])).ok().starts_with(&format!("holo {version} (")));
    assert_eq!(run(holo(&["version", "-o", "json"])).json()["holo"], version);
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(holo(&["completions", shell])).ok();
        for word in ["allocate", "undrain", "uncordon", "revoke"] {
            assert!(script.contains(word), "{shell}: {word} is missing: {script}");
        }
    }
}

#[test]
fn a_mistake_on_the_command_line_is_exit_code_2() {
    let wrong: [&[&str]; 10] = [
        &["fish"],
        &[],
        &["status", "--fish"],
        &["--timeout", "soon", "status"],
        &["run"],
        &["allocate", "a", "--shape", "1", "--dtype", "complex64"],
        &["init"],
        &["shutdown", "--now"],
        &["ring", "apply"],
        &["drain", "n1", "--plan", "--detach"],
    ];
    for args in wrong {
        let ran = run(holo(args));
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
        assert_ne!(ran.stderr, "", "{args:?}");
    }
}

#[test]
fn a_value_that_is_wrong_is_explained_with_its_code() {
    let ran = run(holo(&["array", "get", "demo/a[5"]));
    assert_eq!(ran.code, 2, "{ran:?}");
    let explained = "error: invalid value 'demo/a[5' for '<ARRAY[SLICE]>': \
                     \"demo/a[5\": the slice has no end [HC1001]\n  \
                     help: write it like 'demo/a[0:10, ::2]', in quotes\n";
    assert!(ran.stderr.starts_with(explained), "{}", ran.stderr);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut command = holo(&["completions", "bash"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = command.stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
    // The command holds the only writer now.
    drop(command);
    let ran = crate::harness::finish(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
