//! `cargo xtask bench`: the workloads of `benches/`.

use anyhow::{Context, Result};

use crate::shell;
use crate::workspace::Workspace;

/// Builds `holo` and `holo-bench` with optimisation and runs the latter with `arguments` on this terminal; `false` when
/// it fails.
///
/// # Errors
///
/// When the build fails or the program cannot be started.
pub(crate) fn run(workspace: &Workspace, arguments: &[&str]) -> Result<bool> {
    let build =
        ["build", "--release", "--locked", "--package", "holo-cli", "--package", "holo-bench"];
    shell::run(&mut workspace.cargo(&build))?;
    let program = workspace.target().join("release/holo-bench");
    let status = shell::command(&program, workspace.root())
        .args(arguments)
        .env("HOLO_BIN", workspace.target().join("release/holo"))
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status.success())
}
