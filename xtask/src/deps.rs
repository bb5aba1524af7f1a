//! `cargo xtask deps`: which crate may depend on which, as a table.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::report::Finding;
use crate::workspace::Workspace;

/// Crates of the workspace with those that they may depend on. A crate that is not here may not exist.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("holo-core", &[]),
    ("holo-net", &["holo-core"]),
    ("holo-mem", &["holo-core"]),
    ("holo-catalog", &["holo-core"]),
    ("holo-exec", &["holo-core"]),
    ("holo-gpu", &["holo-core"]),
    ("holo-node", &["holo-core", "holo-net", "holo-mem", "holo-catalog", "holo-exec", "holo-gpu"]),
    ("holo-client", &["holo-core", "holo-net"]),
    ("holo-cli", &["holo-core", "holo-net", "holo-node", "holo-client", "holo-gpu"]),
    ("holo-python", &["holo-core", "holo-client"]),
    ("holo-guest", &["holo-guest-macros"]),
    ("holo-guest-macros", &[]),
    ("holo-examples", &["holo-core", "holo-client"]),
    (
        "holo-bench",
        &[
            "holo-core",
            "holo-net",
            "holo-mem",
            "holo-catalog",
            "holo-exec",
            "holo-gpu",
            "holo-node",
            "holo-client",
        ],
    ),
    ("holo-sim", &["holo-core"]),
    ("xtask", &[]),
];

/// Further edges that tests may have.
const ALLOWED_IN_TESTS: [(&str, &str); 2] =
    [("holo-node", "holo-client"), ("holo-cli", "holo-sim")];

/// Packages that no path of dependencies may lead to from `holo-core`: it decides and touches nothing.
const NOT_IN_CORE: [&str; 12] = [
    "tokio",
    "quinn",
    "quinn-proto",
    "wasmtime",
    "wgpu",
    "socket2",
    "rustix",
    "mio",
    "getrandom",
    "rand",
    "libloading",
    "openraft",
];

/// Optional edges that other crates of the workspace turn on: cargo shows them for everyone. Built alone, `holo-core`
/// does not have them (`cargo tree -p holo-core`).
const NOT_OURS: [(&str, &str); 1] = [("crypto-common", "getrandom")];

/// Checks the dependencies of every crate.
///
/// # Errors
///
/// When cargo's description of the workspace is not understood.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    findings(workspace.metadata())
}

fn findings(metadata: &Value) -> Result<Vec<Finding>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    // Packages without a source are ours; all others come from a registry.
    let ours: Vec<&Value> = packages.iter().filter(|package| package["source"].is_null()).collect();
    let names: BTreeSet<&str> =
        ours.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in &ours {
        let name = package["name"].as_str().context("a package has no name")?;
        let Some((_, allowed)) = ALLOWED.iter().find(|(crate_name, _)| *crate_name == name) else {
            let message = "the table in xtask/src/deps.rs does not know it: add it with its edges";
            findings.push(Finding::error(name, message));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"] == "dev";
            let known = allowed.contains(&to)
                || (in_tests && (to == name || ALLOWED_IN_TESTS.contains(&(name, to))));
            if names.contains(to) && !known {
                let kind = if in_tests { " in its tests" } else { "" };
                let message = format!("it may not depend on {to}{kind}; see ARCHITECTURE.md");
                findings.push(Finding::error(name, message));
            }
        }
    }
    for reached in reachable(metadata, "holo-core")? {
        if NOT_IN_CORE.contains(&reached.as_str()) {
            findings
                .push(Finding::error("holo-core", format!("its dependencies lead to {reached}")));
        }
    }
    Ok(findings)
}

/// Names of all packages whose code is linked into `start`: not what its tests or build scripts use.
fn reachable(metadata: &Value, start: &str) -> Result<BTreeSet<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let names: BTreeMap<&str, &str> = packages
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata has no graph")?;
    let nodes: BTreeMap<&str, &Value> =
        nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let first = names.iter().find(|(_, name)| **name == start).map(|(id, _)| *id);
    let mut open: Vec<&str> = vec![first.with_context(|| format!("there is no crate {start}"))?];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for edge in nodes.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            let kinds = edge["dep_kinds"].as_array();
            let product = kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()));
            let Some(to) = edge["pkg"].as_str().filter(|_| product) else { continue };
            let ends = names.get(id).copied().zip(names.get(to).copied());
            if ends.is_none_or(|ends| !NOT_OURS.contains(&ends)) {
                open.push(to);
            }
        }
    }
    Ok(seen.into_iter().filter_map(|id| names.get(id)).map(|name| (*name).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A workspace of `holo-core` and `other`, where `other` depends on `to` in the way of `kind`, and core on `library`.
    fn metadata(other: &str, to: &str, kind: Value, library: &str) -> Value {
        json!({
            "packages": [
                { "name": "holo-core", "id": "1", "source": null, "dependencies": [{ "name": library, "kind": null }] },
                { "name": "holo-exec", "id": "4", "source": null, "dependencies": [] },
                { "name": other, "id": "2", "source": null, "dependencies": [{ "name": to, "kind": kind }] },
                { "name": library, "id": "3", "source": "registry", "dependencies": [] },
            ],
            "resolve": { "nodes": [
                { "id": "1", "deps": [{ "pkg": "3", "dep_kinds": [{ "kind": null }] }] },
                { "id": "3", "deps": [] },
            ] },
        })
    }

    #[test]
    fn allowed_edges_pass() {
        assert_eq!(
            findings(&metadata("holo-mem", "holo-core", Value::Null, "blake3")).unwrap(),
            []
        );
        assert_eq!(findings(&metadata("xtask", "serde_json", Value::Null, "blake3")).unwrap(), []);
    }

    #[test]
    fn siblings_may_not_know_each_other_not_even_in_tests() {
        for kind in [Value::Null, json!("dev"), json!("build")] {
            let found =
                findings(&metadata("holo-mem", "holo-exec", kind.clone(), "blake3")).unwrap();
            assert_eq!(found.len(), 1, "{kind}");
        }
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_found() {
        let found = findings(&metadata("holo-new", "holo-core", Value::Null, "blake3")).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "holo-new");
    }

    #[test]
    fn nothing_that_touches_the_world_is_below_core() {
        let found = findings(&metadata("holo-mem", "holo-core", Value::Null, "tokio")).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("tokio"));
    }

    #[test]
    fn what_only_tests_and_build_scripts_of_core_use_is_no_part_of_it() {
        for kind in ["dev", "build"] {
            let mut metadata = metadata("holo-mem", "holo-core", Value::Null, "rand");
            metadata["resolve"]["nodes"][0]["deps"][0]["dep_kinds"][0]["kind"] = json!(kind);
            assert_eq!(findings(&metadata).unwrap(), [], "{kind}");
        }
    }
}
