//! Programs from the command line.

use crate::harness::{folder, shared, text};

/// Answers a call with its arguments, backwards in nothing: the same bytes.
const ECHO: &str = include_str!("echo.wat");

#[test]
fn an_expression_makes_its_output_and_reductions_print_their_value() {
    let cluster = shared();
    cluster.run(&["allocate", "run/a", "--shape", "1_000_000", "--dtype", "float64"]).ok();
    let ran = cluster.run(&["run", "--expr", "float64(i)", "--out", "run/a"]);
    assert!(ran.stderr.contains("wasm"), "{ran:?}");
    assert_eq!(ran.ok(), "wrote run/a\n");
    let ran =
        cluster.run(&["run", "--expr", "y = sqrt(x*x + 1)", "--in", "x=run/a", "--out", "y=run/b"]);
    assert_eq!(ran.ok(), "wrote run/b\n");
    assert_eq!(cluster.run(&["array", "get", "run/b[0]"]).ok(), "1.0\n");
    assert_eq!(cluster.run(&["run", "-e", "sum(x)", "--in", "x=run/a"]).ok(), "499999500000.0\n");
    assert_eq!(cluster.run(&["run", "-e", "max(x)", "--in", "x=run/a"]).ok(), "999999.0\n");

    let ran = cluster.run(&["run", "-e", "sum(x)", "--in", "x=run/a", "-o", "json"]).json();
    assert_eq!((&ran["value"], &ran["dtype"]), (&"499999500000.0".into(), &"float64".into()));
    assert_eq!(ran["elems"], 1_000_000);
    let elems: u64 =
        ran["nodes"].as_array().unwrap().iter().map(|node| node["elems"].as_u64().unwrap()).sum();
    assert_eq!(elems, 1_000_000);
}

#[test]
fn a_module_is_called_with_bytes() {
    let (cluster, folder) = (shared(), folder());
    let path = folder.path().join("echo.wat");
    std::fs::write(&path, ECHO).unwrap();
    assert_eq!(
        cluster.run(&["run", text(&path), "--call", "0a00ff", "--grant", "result"]).ok(),
        "0a00ff\n"
    );
    let args = folder.path().join("args");
    std::fs::write(&args, [1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
    let call = format!("@{}", args.display());
    assert_eq!(
        cluster
            .run(&["run", text(&path), "--call", &call, "--result", "int32", "--grant", "result"])
            .ok(),
        "1 2\n"
    );
    let ran = cluster
        .run(&["run", text(&path), "--call", "ff", "--grant", "result", "-o", "json"])
        .json();
    assert_eq!(ran["output_hex"], "ff");
}

#[test]
fn a_limit_that_is_hit_is_named_and_is_exit_code_21() {
    let (cluster, folder) = (shared(), folder());
    let path = folder.path().join("endless.wat");
    std::fs::write(&path, ECHO.replace(";; forever", "(loop $again (br $again))")).unwrap();
    let said = cluster
        .run(&["run", text(&path), "--call", "00", "--grant", "result", "--fuel", "1000000"])
        .refused("HC1610", 21);
    assert!(said.contains("fuel"), "{said}");
    let said = cluster
        .run(&["run", text(&path), "--call", "00", "--grant", "result", "--time", "200ms"])
        .refused("HC1611", 21);
    assert!(said.contains("time"), "{said}");
    // The node has taken no harm.
    assert!(cluster.run(&["status"]).ok().contains("active"));
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_never_a_silent_fallback() {
    let cluster = shared();
    cluster.run(&["allocate", "gpu/a", "--shape", "1000", "--dtype", "float32"]).ok();
    let ran = cluster.run(&["run", "--device", "gpu", "-e", "sum(x + 1)", "--in", "x=gpu/a"]);
    if ran.code == 0 {
        assert!(ran.stderr.contains("gpu"), "{ran:?}");
        assert_eq!(ran.stdout, "1000.0\n");
    } else {
        assert!(ran.stderr.contains("error[HC1701]: "), "{ran:?}");
        assert_eq!(ran.stdout, "");
    }
}
