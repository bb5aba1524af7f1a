//! What is wrong is refused with a code, and nothing is half-done.

use crate::harness::{Dev, folder, holo, npy_file, run, shared, text};
use crate::npy;

#[test]
fn shapes_that_overflow_are_refused() {
    let cluster = shared();
    for shape in ["4294967296,4294967296", "1125899906842625", "1,1,1,1,1,1,1,1,1"] {
        cluster
            .run(&["allocate", "bad/shape", "--shape", shape, "--dtype", "bool"])
            .refused("HC1002", 2);
    }
    cluster
        .run(&["allocate", "bad/shape", "--shape", "2^10", "--dtype", "bool"])
        .refused("HC1001", 2);
    cluster.run(&["allocate", "bad name", "--shape", "1", "--dtype", "bool"]).refused("HC1001", 2);
    cluster.run(&["array", "info", "bad/shape"]).refused("HC1101", 3);
}

#[test]
fn names_that_are_none_are_refused_before_anything_is_made() {
    let folder = folder();
    let long = "n".repeat(65);
    for name in ["n 0/..", "..", "../n", "", ".n", "n\u{1b}[2J", &long] {
        let lines: [&[&str]; 4] = [
            &["init", "--name", name, "--node", "n1", "--no-start"],
            &["init", "--name", "lab", "--node", name, "--no-start"],
            &["join", "holo1", "--name", name],
            &["ticket", "create", "--name", name],
        ];
        for line in lines {
            let mut command = holo(line);
            command.current_dir(folder.path());
            let ran = run(command);
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{line:?}: {ran:?}");
            assert!(ran.stderr.contains("is no name for a "), "{line:?}: {ran:?}");
            assert!(ran.stderr.contains("[HC1001]\n  help: take 1 to 64 letters"), "{ran:?}");
        }
        let mut command = holo(&["init", "--name", "lab", "--no-start"]);
        command.current_dir(folder.path()).env("HOLO_NAME", name);
        assert_eq!(run(command).code, 2, "HOLO_NAME={name:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_identity_that_is_missing_or_of_another_cluster_is_refused_with_what_to_do() {
    let (cluster, folder) = (shared(), folder());
    let status = |identity: &str| {
        let mut command = cluster.holo(&["status"]);
        command.env("HOLO_IDENTITY", identity);
        run(command)
    };
    let said = status("/nonexistent").refused("HC1101", 3);
    assert!(said.contains("  help: ") && said.contains("HOLO_IDENTITY"), "{said}");
    // As if there were none; it was an error about the words of the command.
    let said = status("").refused("HC1008", 2);
    assert!(said.contains("  help: ") && said.contains("export HOLO_IDENTITY="), "{said}");
    let dir = folder.path().join("other");
    let init = ["init", "--name", "other", "--listen", "127.0.0.1:0", "--no-start", "--dir"];
    run(holo(&[&init[..], &[text(&dir)]].concat())).ok();
    let said = status(text(&dir.join("client.identity"))).refused("HC1304", 4);
    assert!(said.contains("  help: the identity is of one cluster"), "{said}");
}

#[test]
fn slices_that_leave_the_array_are_refused() {
    let cluster = shared();
    cluster.run(&["allocate", "bad/slice", "--shape", "10,10", "--dtype", "int64"]).ok();
    for slice in ["[10, 0]", "[0, -11]", "[0, 0, 0]"] {
        let ran = cluster.run(&["array", "get", &format!("bad/slice{slice}")]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{slice}: {ran:?}");
        assert!(ran.stderr.contains("error[HC100"), "{slice}: {ran:?}");
    }
    let said = cluster.run(&["array", "get", "bad/slice[10, 0]"]).refused("HC1003", 2);
    assert!(said.contains("  help: ask for 0 to 9, or for -10 to -1 from the end"), "{said}");
    cluster.run(&["array", "put", "bad/slice[0, 10]", "--value", "1"]).refused("HC1003", 2);
    for slice in ["[::0]", "[x]", "[1"] {
        let ran = cluster.run(&["array", "get", &format!("bad/slice{slice}")]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{slice}: {ran:?}");
    }
}

#[test]
fn dtypes_that_do_not_fit_are_refused() {
    let (cluster, folder) = (shared(), folder());
    cluster.run(&["allocate", "bad/dtype", "--shape", "10", "--dtype", "float32"]).ok();
    let file = npy_file(&folder, "a.npy");
    let said =
        cluster.run(&["array", "put", "bad/dtype", "--in", text(&file)]).refused("HC1004", 2);
    assert!(said.contains("int64") && said.contains("float32"), "{said}");
    cluster.run(&["run", "--expr", "i", "--out", "bad/dtype"]).refused("HC1004", 2);
}

#[test]
fn files_that_are_no_arrays_of_ours_are_refused_before_anything_is_made() {
    let (cluster, folder) = (shared(), folder());
    let path = folder.path().join("bad.npy");
    let refuse = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        cluster.run(&["array", "put", "bad/file", "--in", text(&path)]).refused("HC1006", 2)
    };
    let said = refuse(&npy::file("<c16", false, "(1,)", &[0; 16]));
    assert!(said.contains("c16"), "{said}");
    refuse(&npy::file("|O", false, "(1,)", &[0; 8]));
    refuse(b"PK\x03\x04 this is a zip file");
    refuse(b"");
    // Cut off, and with something behind the end.
    refuse(&npy::file("<i8", false, "(2,)", &[0; 15]));
    refuse(&npy::file("<i8", false, "(2,)", &[0; 17]));

    std::fs::write(&path, npy::file("<i8", false, "(4294967296, 4294967296)", &[])).unwrap();
    cluster.run(&["array", "put", "bad/file", "--in", text(&path)]).refused("HC1002", 2);
    cluster.run(&["array", "info", "bad/file"]).refused("HC1101", 3);
}

/// They ended with exit code 1, like a full disk.
#[test]
fn files_that_are_not_there_are_told_as_not_found_and_folders_as_wrong_arguments() {
    let (cluster, folder) = (shared(), folder());
    cluster.run(&["allocate", "bad/there", "--shape", "10", "--dtype", "int64"]).ok();
    let missing: [&[&str]; 8] = [
        &["array", "put", "bad/there", "--in", "/nonexistent.npy"],
        &["array", "put", "bad/new", "--in", "/nonexistent.npy"],
        &["array", "get", "bad/there", "--out", "/nonexistent/a.npy"],
        &["run", "/nonexistent.wasm", "--in", "bad/there"],
        &["run", "/nonexistent.wasm", "--call", "00"],
        &["principal", "add", "x", "--new", "/nonexistent/x.identity", "--grant", "READ"],
        &["status", "--identity", "/nonexistent/me"],
        &["leave", "--dir", "/nonexistent", "--yes"],
    ];
    for line in missing {
        let said = cluster.run(line).refused("HC1101", 3);
        assert!(said.contains("/nonexistent") && !said.contains(".holo-"), "{line:?}: {said}");
    }
    let place = text(folder.path());
    let folders: [&[&str]; 3] = [
        &["array", "put", "bad/there", "--in", place],
        &["array", "get", "bad/there", "--out", place],
        &["run", place, "--in", "bad/there"],
    ];
    for line in folders {
        let said = cluster.run(line).refused("HC1001", 2);
        assert!(said.contains(place), "{line:?}: {said}");
    }
    cluster.run(&["array", "info", "bad/new"]).refused("HC1101", 3);
}

#[test]
fn expressions_that_are_wrong_are_shown_the_place() {
    let cluster = shared();
    cluster.run(&["allocate", "bad/x", "--shape", "10", "--dtype", "float64"]).ok();
    let wrong = |expr: &str| {
        cluster
            .run(&["run", "--expr", expr, "--in", "x=bad/x", "--out", "bad/y"])
            .refused("HC1005", 2)
    };
    let said = wrong("sqrt(x*x + zz)");
    assert!(said.contains("zz"), "{said}");
    let caret = said
        .lines()
        .find(|line| line.trim_start().starts_with('^'))
        .unwrap_or_else(|| panic!("{said}"));
    let text = said.lines().find(|line| line.contains("sqrt(")).unwrap();
    assert_eq!(caret.find('^'), text.find("zz"), "{said}");
    wrong("x +");
    wrong("x & 1.5");
    wrong("");
    cluster.run(&["array", "info", "bad/y"]).refused("HC1101", 3);

    let said = cluster
        .run(&["run", "--expr", "x", "--in", "bad/x", "--out", "bad/y"])
        .refused("HC1001", 2);
    assert!(said.contains("--in x=bad/x"), "{said}");
    cluster.run(&["run", "--expr", "x", "--in", "x=bad/x"]).refused("HC1001", 2);
    cluster
        .run(&["run", "--expr", "x", "--in", "x=bad/none", "--out", "bad/y"])
        .refused("HC1101", 3);
}

#[test]
fn modules_that_do_not_validate_are_refused() {
    let (cluster, folder) = (shared(), folder());
    cluster.run(&["allocate", "bad/m", "--shape", "10", "--dtype", "int64"]).ok();
    let path = folder.path().join("bad.wasm");
    let run = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        cluster.run(&["run", text(&path), "--in", "bad/m"])
    };
    // Text that is no module is refused here, bytes that only look like one by the node.
    run(b"(module (func (result i32) unknown.op))").refused("HC1602", 20);
    run(b"\0asm\x01\0\0\0\x01\x02").refused("HC1602", 20);
    run(b"(module (func (result i32) i64.const 0))").refused("HC1602", 20);
    run(b"(module)").refused("HC1602", 20);
    cluster.run(&["run", text(&path), "--call", "0"]).refused("HC1001", 2);
}

#[test]
fn a_full_arena_fails_the_request_with_numbers_and_serves_on() {
    let folder = folder();
    let cluster = Dev::start(&["--nodes", "1", "--memory", "16MiB"]);
    let said = cluster.run(&["allocate", "big", "--shape", "4_000_000", "--dtype", "float64"]);
    assert_eq!((said.code, said.stdout.as_str()), (7, ""), "{said:?}");
    assert!(said.stderr.contains("error[HC1201]: "), "{said:?}");
    assert!(said.stderr.contains(" MiB on node n1, which takes 14.0 MiB at most"), "{said:?}");
    cluster.run(&["array", "info", "big"]).refused("HC1101", 3);
    // While the room of another array was promised, it was asked for six times over more than five seconds.
    cluster.run(&["allocate", "tiny", "--shape", "10", "--dtype", "float64"]).ok();
    let said = cluster
        .run(&["allocate", "big", "--shape", "4_000_000", "--dtype", "float64"])
        .refused("HC1201", 7);
    assert!(!said.contains("tried"), "{said}");

    // The same by way of a file: what was made for it goes again.
    let path = folder.path().join("big.npy");
    npy::write_i64(&path, "(4000000,)", (0..4_000_000).map(|_| 1));
    let said = cluster.run(&["array", "put", "big", "--in", text(&path)]);
    assert_eq!(said.code, 7, "{said:?}");
    cluster.run(&["array", "info", "big"]).refused("HC1101", 3);

    let file = npy_file(&folder, "small.npy");
    cluster.run(&["array", "put", "small", "--in", text(&file)]).ok();
    assert_eq!(cluster.run(&["run", "--expr", "sum(x)", "--in", "x=small"]).ok(), "45\n");
    assert_eq!(cluster.close().code, 0);
}
