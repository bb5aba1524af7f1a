//! The Python package as a user gets it: a wheel, installed into a fresh environment.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::bootstrap::{PYTHON_REQUIREMENTS, fresh_environment};
use super::rust::files_with_extension;
use crate::shell;
use crate::workspace::Workspace;

const PACKAGE: &str = "bindings/python";
const BUILD: &str = "bindings/python/build_wheel.py";
const NOTEBOOK: &str = "examples/notebooks/first_steps.ipynb";
const EXECUTE: &str = "xtask/src/steps/execute_notebook.py";

/// Builds the wheel with the `holo` of the step `release` in it, installs it into a fresh environment and runs the
/// package's tests against it.
pub(super) fn wheel(workspace: &Workspace) -> Result<String> {
    let wheels = workspace.target().join("wheels");
    let mut build = shell::command(workspace.target().join("venv/bin/python"), workspace.root());
    build.arg(BUILD).arg("--holo").arg(workspace.target().join("release/holo"));
    build.arg("--out").arg(&wheels).env("CARGO_TARGET_DIR", workspace.target());
    shell::run(&mut build)?;
    let wheels = files_with_extension(&wheels, "whl")?;
    let [wheel] = wheels.as_slice() else { bail!("one wheel was expected, not {}", wheels.len()) };
    let fresh = environment(workspace);
    fresh_environment(workspace, &fresh)?;
    let mut install = python(workspace);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    shell::run(install.args(["--requirement", PYTHON_REQUIREMENTS]).arg(wheel))?;
    let mut tests = python(workspace);
    // From elsewhere than the sources, so that the installed package is what is imported.
    tests.args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir"]);
    tests.arg(workspace.root().join(PACKAGE)).arg(workspace.root().join(PACKAGE).join("tests"));
    let output = shell::run(tests.current_dir(workspace.target()))?;
    Ok(output.lines().last().unwrap_or_default().trim_matches(['=', ' ']).to_owned())
}

/// Executes the notebook in the environment that [`wheel`] made; it must draw at least one picture.
pub(super) fn notebook(workspace: &Workspace) -> Result<String> {
    let executed = workspace.target().join("first_steps.executed.ipynb");
    let mut run = python(workspace);
    run.args([EXECUTE, NOTEBOOK]).arg(&executed);
    shell::run(&mut run)?;
    let text = std::fs::read_to_string(&executed)
        .with_context(|| format!("cannot read {}", executed.display()))?;
    match pictures(&serde_json::from_str(&text).context("the executed notebook is no JSON")?) {
        0 => bail!("the notebook ran, but drew nothing"),
        count => Ok(format!("{count} pictures")),
    }
}

fn pictures(notebook: &Value) -> usize {
    let cells = notebook["cells"].as_array().into_iter().flatten();
    let outputs = cells.flat_map(|cell| cell["outputs"].as_array().into_iter().flatten());
    outputs.filter(|output| output["data"]["image/png"].is_string()).count()
}

/// The fresh environment.
fn environment(workspace: &Workspace) -> PathBuf {
    workspace.target().join("venv-wheel")
}

/// The fresh environment's Python.
fn python(workspace: &Workspace) -> Command {
    shell::command(environment(workspace).join("bin/python"), workspace.root())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_drawn_pictures_count() {
        let picture = json!({ "data": { "image/png": "iVBORw0" } });
        let text = json!({ "data": { "text/plain": "image/png" } });
        let book = json!({ "cells": [
            { "outputs": [&text, picture] },
            { "source": "image/png" },
        ] });
        assert_eq!(pictures(&book), 1);
        assert_eq!(pictures(&json!({ "cells": [{ "outputs": [text] }] })), 0);
    }
}
