//! The product as a user gets it: optimised binaries, and the demo.

use std::path::Path;

use anyhow::{Result, bail};

use crate::shell;
use crate::workspace::Workspace;

/// Programs of `examples/`.
const EXAMPLES: [&str; 2] = ["quadratic_sum", "wasm_vector_add"];

/// Elements of the demo's array.
const DEMO_ELEMS: u64 = 100_000_000;

pub(super) fn release(workspace: &Workspace) -> Result<String> {
    // Together, so that both are built from dependencies with the same features.
    let packages = ["--package", "holo-cli", "--package", "holo-examples"];
    let mut build = workspace.cargo(&["build", "--release", "--locked", "--bins", "--examples"]);
    shell::run(build.args(packages))?;
    let binary = workspace.target().join("release/holo");
    let version = shell::run(shell::command(&binary, workspace.root()).arg("--version"))?;
    Ok(version.trim().to_owned())
}

/// Runs the demo and checks what it printed against the sum worked out here.
pub(super) fn demo(workspace: &Workspace) -> Result<String> {
    let binary = workspace.target().join("release/holo");
    let output = shell::run(shell::command(&binary, workspace.root()).arg("demo"))?;
    let sum = quadratic_sum(DEMO_ELEMS);
    if !has_number(&output, sum) {
        bail!("the demo ended well, but its output lacks the sum {sum}");
    }
    let left = processes_of(&binary);
    if !left.is_empty() {
        bail!("the demo left processes behind: {left:?}");
    }
    Ok(format!("sum {sum}"))
}

/// Runs the Rust examples, each with a cluster of its own.
pub(super) fn examples(workspace: &Workspace) -> Result<String> {
    for name in EXAMPLES {
        let program = workspace.target().join("release/examples").join(name);
        shell::run(&mut shell::command(program, workspace.root()))?;
    }
    Ok(EXAMPLES.join(", "))
}

/// Sum of `i*i + 3*i + 1` over `0..elems`, wrapped to 64 bits as the demo's int64 are.
fn quadratic_sum(elems: u64) -> i64 {
    let n = i128::from(elems);
    let sum = (n - 1) * n * (2 * n - 1) / 6 + 3 * (n * (n - 1) / 2) + n;
    let bytes = sum.to_le_bytes();
    let mut low = [0; 8];
    low.copy_from_slice(&bytes[..8]);
    i64::from_le_bytes(low)
}

/// Whether `text` has the number, perhaps with its digits in groups.
fn has_number(text: &str, number: i64) -> bool {
    let plain: String = text.chars().filter(|c| !"_,'".contains(*c)).collect();
    plain.contains(&number.to_string())
}

/// Ids of the processes that run `binary`, where the system has `/proc`.
fn processes_of(binary: &Path) -> Vec<String> {
    let entries = Path::new("/proc").read_dir().into_iter().flatten().flatten();
    let running = entries.filter(|entry| {
        std::fs::read_link(entry.path().join("exe")).is_ok_and(|program| program == binary)
    });
    running.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closed_form_is_the_sum() {
        for elems in [0, 1, 2, 10, 1000] {
            let by_hand: i64 = (0..elems).map(|i: i64| i * i + 3 * i + 1).sum();
            assert_eq!(quadratic_sum(u64::try_from(elems).unwrap()), by_hand, "{elems}");
        }
        let mut wrapped = 0i64;
        for i in 0..10_000_000i64 {
            wrapped = wrapped.wrapping_add(i.wrapping_mul(i).wrapping_add(3 * i + 1));
        }
        assert_eq!(quadratic_sum(10_000_000), wrapped);
    }

    #[test]
    fn numbers_are_found_with_and_without_groups() {
        assert!(has_number("sum 1,234,567 ok", 1_234_567));
        assert!(has_number("sum -1234567", -1_234_567));
        assert!(!has_number("sum 1234568", 1_234_567));
    }

    #[test]
    fn this_very_process_is_seen() {
        let binary = std::env::current_exe().unwrap();
        assert!(processes_of(&binary).contains(&std::process::id().to_string()));
        assert!(processes_of(Path::new("/nowhere")).is_empty());
    }
}
