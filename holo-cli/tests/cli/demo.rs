//! `holo demo`, smaller than people run it.

use crate::harness::{holo, run};

#[test]
fn the_demo_passes_its_own_checks_and_shows_what_it_did() {
    let shown = run(holo(&["demo", "--elems", "2000000"])).ok();
    for line in [
        "start 3 node processes",
        "3 members, 3 voters of the catalog",
        "allocate demo/quadratic",
        "fill it: i*i + 3*i + 1",
        "sum it: sum(x)",
        "fill it: module quadratic.wat",
        "sum it: module quadratic_sum.wat",
        "its part was written again after ",
        "had a copy too few; ",
        " fetch_add acknowledged, ",
        "sum it again: sum(x)",
        "read 2,000,000 elements back",
        "every element of [0:2000000] is right",
        "demo/quadratic: int64 (2000000,), 15.3 MiB in 62 shards, 2 copies",
        "62 shards, 3 nodes, wasm-jit",
        "62 shards, 3 nodes, wasm, module ",
        "was killed while it was written to",
        ", 0 lost.",
        "and after:",
        "All checks passed in ",
    ] {
        assert!(shown.contains(line), "{line:?} is missing: {shown}");
    }
    // sum of i^2 + 3i + 1 for i below 2,000,000
    let sums = shown.matches("2666670666666000000 = closed form mod 2^64").count();
    assert_eq!(sums, 3, "{shown}");
    for node in ["n1", "n2", "n3"] {
        assert!(shown.contains(&format!(" {node} ")), "{shown}");
    }
    // The two that are left are linked, and the client to both, each with its suite; no colour without a terminal.
    assert!(shown.matches("hfs").count() >= 3, "{shown}");
    assert!(!shown.contains('\x1b'), "{shown}");
}

#[test]
fn the_demo_of_one_node_and_one_element_is_a_demo_too() {
    let outcome = run(holo(&["demo", "--elems", "1", "--nodes", "1", "-o", "json", "-q"])).json();
    assert_eq!(outcome["sum"], 1);
    assert_eq!(outcome["array"]["name"], "demo/quadratic");
    assert_eq!(outcome["cluster"]["nodes"].as_array().unwrap().len(), 1);
    assert_eq!(
        outcome["failure"],
        serde_json::Value::Null,
        "there is nobody to take over: {outcome}"
    );
    assert!(outcome["steps"].as_array().unwrap().len() >= 8, "{outcome}");
}
