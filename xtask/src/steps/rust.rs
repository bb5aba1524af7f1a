//! Steps that are cargo's: format, lints, documentation, tests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::bootstrap::KERNEL_TARGET;
use crate::workspace::Workspace;
use crate::{report, shell};

/// Workspaces of their own, which the one at the top does not build.
const OTHER_WORKSPACES: [&str; 2] = ["examples/kernels", "fuzz"];

/// Set for tests that need a GPU: without an adapter they fail instead of skipping.
const REQUIRE_GPU: &str = "HOLO_REQUIRE_GPU";

pub(super) fn fmt(workspace: &Workspace) -> Result<String> {
    shell::run(&mut workspace.cargo(&["fmt", "--all", "--check"]))?;
    for manifest in other_manifests(workspace) {
        shell::run(workspace.cargo(&["fmt", "--all", "--check", "--manifest-path"]).arg(manifest))?;
    }
    Ok(String::new())
}

pub(super) fn clippy(workspace: &Workspace) -> Result<String> {
    let args = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    shell::run(&mut workspace.cargo(&args))?;
    Ok(String::new())
}

pub(super) fn doc(workspace: &Workspace) -> Result<String> {
    let mut doc = workspace.cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    shell::run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    Ok(String::new())
}

pub(super) fn kernels(workspace: &Workspace) -> Result<String> {
    let folder = workspace.root().join("examples/kernels");
    let kernels = |command: &str| {
        let mut cargo =
            workspace.cargo(&[command, "--release", "--locked", "--target", KERNEL_TARGET]);
        // From inside, since its settings for the target are in a `.cargo/config.toml` there.
        cargo.current_dir(&folder).env("CARGO_TARGET_DIR", folder.join("target"));
        cargo
    };
    shell::run(&mut kernels("build"))?;
    shell::run(kernels("clippy").args(["--", "--deny", "warnings"]))?;
    let built = folder.join("target").join(KERNEL_TARGET).join("release");
    let modules = files_with_extension(&built, "wasm")?;
    if modules.is_empty() {
        bail!("the build left no module in {}", built.display());
    }
    Ok(format!("{} modules", modules.len()))
}

/// Unit tests, integration tests and the examples in the documentation. No target is named: cargo then leaves out those
/// that say `test = false`, as the Python package does, whose tests are in Python.
const TEST: [&str; 3] = ["test", "--workspace", "--locked"];

pub(super) fn test(workspace: &Workspace) -> Result<String> {
    passed(&shell::run(workspace.cargo(&TEST).arg("--no-fail-fast"))?)
}

/// Runs the GPU's own crate and every other test whose name has `gpu` in it, from the programs that `test` built: asking
/// cargo for one crate alone would choose other features and build the dependencies again.
pub(super) fn gpu(workspace: &Workspace) -> Result<String> {
    let mut build = workspace.cargo(&TEST);
    let messages = shell::ask(build.args(["--no-run", "--message-format", "json"]))
        .context("the tests do not build")?;
    let mut output = String::new();
    for program in test_programs(&messages) {
        let mut command = shell::command(&program.path, &program.folder);
        if !program.folder.ends_with("holo-gpu") {
            command.arg("gpu");
        }
        output.push_str(&shell::run(command.env(REQUIRE_GPU, "1"))?);
    }
    passed(&output)
}

/// A program of tests, and the folder that it expects to run in.
#[derive(Debug, PartialEq, Eq)]
struct TestProgram {
    path: PathBuf,
    folder: PathBuf,
}

fn test_programs(messages: &str) -> Vec<TestProgram> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = messages.filter_map(|message| {
        let is_test = message["profile"]["test"] == true;
        let path = message["executable"].as_str().filter(|_| is_test)?;
        let manifest = Path::new(message["manifest_path"].as_str()?);
        Some(TestProgram { path: path.into(), folder: manifest.parent()?.to_owned() })
    });
    programs.collect()
}

/// How many tests passed; an error when none ran, since then nothing was proved.
fn passed(output: &str) -> Result<String> {
    let counts = output.lines().filter_map(|line| {
        line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u64>().ok()
    });
    match counts.sum() {
        0 => bail!("no test ran"),
        count => Ok(format!("{count} tests")),
    }
}

fn other_manifests(workspace: &Workspace) -> Vec<PathBuf> {
    let manifests =
        OTHER_WORKSPACES.iter().map(|folder| workspace.root().join(folder).join("Cargo.toml"));
    manifests.filter(|manifest| manifest.exists()).collect()
}

/// Files directly in `folder` whose name ends in `.extension`.
pub(super) fn files_with_extension(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    report::say(&format!("{} *.{extension} in {}", files.len(), folder.display()));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_tests_proves_nothing() {
        assert!(passed("test result: ok. 0 passed; 0 failed;\n").is_err());
        assert!(passed("").is_err());
        let output =
            "x\ntest result: ok. 3 passed; 0 failed\ntest result: ok. 4 passed; 0 failed\n";
        assert_eq!(passed(output).unwrap(), "7 tests");
    }

    #[test]
    fn test_programs_are_read_from_cargos_messages() {
        let messages = concat!(
            "not json\n",
            r#"{"profile":{"test":true},"executable":"/t/a","manifest_path":"/w/a/Cargo.toml"}"#,
            "\n",
            r#"{"profile":{"test":false},"executable":"/t/holo","manifest_path":"/w/b/Cargo.toml"}"#,
            "\n",
            r#"{"profile":{"test":true},"executable":null,"manifest_path":"/w/c/Cargo.toml"}"#,
        );
        let expected = TestProgram { path: "/t/a".into(), folder: "/w/a".into() };
        assert_eq!(test_programs(messages), [expected]);
    }
}
