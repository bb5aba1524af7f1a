//! Installs what the other steps need and this machine lacks.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;
use crate::{report, shell};

/// The target that kernels are built for.
pub(super) const KERNEL_TARGET: &str = "wasm32-unknown-unknown";

/// What the Python steps install, with versions.
pub(super) const PYTHON_REQUIREMENTS: &str = "bindings/python/requirements-test.txt";

pub(super) fn run(workspace: &Workspace) -> Result<String> {
    let mut installed = system_packages(workspace)?;
    installed.extend(kernel_target(workspace)?);
    installed.extend(python_environment(workspace)?);
    Ok(if installed.is_empty() {
        "nothing was missing".to_owned()
    } else {
        format!("installed {}", installed.join(", "))
    })
}

/// Debian packages: a Vulkan driver that needs no GPU, and Python's `venv` where Debian's Python came without it.
fn system_packages(workspace: &Workspace) -> Result<Vec<String>> {
    let root = workspace.root();
    if shell::ask(shell::command("python3", root).arg("--version")).is_none() {
        bail!("python3 is missing: install Python 3.10 or newer");
    }
    let venv = shell::command("python3", root).args(["-c", "import venv, ensurepip"]).status();
    let has_venv = venv.is_ok_and(|status| status.success());
    let debian = shell::ask(shell::command("dpkg-query", root).arg("--version")).is_some();
    if !debian {
        return other_system(has_venv);
    }
    let mut wanted = vec!["libvulkan1"];
    if !has_vulkan_driver() {
        wanted.push("mesa-vulkan-drivers");
    }
    if !has_venv {
        wanted.push("python3-venv");
    }
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|package| {
            let mut query = shell::command("dpkg-query", root);
            let state =
                shell::ask(query.args(["--show", "--showformat=${db:Status-Status}", package]));
            state.as_deref() != Some("installed")
        })
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let user = shell::ask(shell::command("id", root).arg("-u")).unwrap_or_default();
    if user.trim() != "0" {
        bail!("these packages are missing: apt-get install {}", missing.join(" "));
    }
    let apt = |args: &[&str]| {
        let mut command = shell::command("apt-get", root);
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    shell::run(&mut apt(&["update", "-q"]))?;
    let mut install = apt(&["install", "-q", "-y", "--no-install-recommends"]);
    shell::run(install.args(&missing))?;
    Ok(missing.into_iter().map(str::to_owned).collect())
}

fn other_system(has_venv: bool) -> Result<Vec<String>> {
    if !has_vulkan_driver() {
        bail!(
            "no Vulkan driver is installed: install Mesa's lavapipe (a software driver) or a GPU's own"
        );
    }
    if !has_venv {
        bail!("python3 has no module `venv`: install it");
    }
    Ok(Vec::new())
}

/// Whether the Vulkan loader would find a driver: a GPU's own, or Mesa's, which needs no GPU.
fn has_vulkan_driver() -> bool {
    let folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    folders.iter().any(|folder| Path::new(folder).read_dir().is_ok_and(|it| it.count() > 0))
}

/// Rust's standard library for kernels.
fn kernel_target(workspace: &Workspace) -> Result<Option<String>> {
    let root = workspace.root();
    let sysroot = shell::ask(shell::command("rustc", root).args(["--print", "sysroot"]))
        .context("rustc does not say where its libraries are")?;
    if Path::new(sysroot.trim()).join("lib/rustlib").join(KERNEL_TARGET).join("lib").is_dir() {
        return Ok(None);
    }
    shell::run(shell::command("rustup", root).args(["target", "add", KERNEL_TARGET]))
        .with_context(|| format!("Rust's library for {KERNEL_TARGET} is missing"))?;
    Ok(Some(KERNEL_TARGET.to_owned()))
}

/// A virtual environment with the tools that build the wheel, made anew when the list of them changes.
fn python_environment(workspace: &Workspace) -> Result<Option<String>> {
    let folder = workspace.target().join("venv");
    let marker = folder.join("requirements");
    let wanted = std::fs::read_to_string(workspace.root().join(PYTHON_REQUIREMENTS))
        .with_context(|| format!("cannot read {PYTHON_REQUIREMENTS}"))?;
    let runs =
        shell::ask(shell::command(folder.join("bin/python"), workspace.root()).arg("--version"));
    if runs.is_some() && std::fs::read_to_string(&marker).is_ok_and(|present| present == wanted) {
        return Ok(None);
    }
    fresh_environment(workspace, &folder)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    let mut install = shell::command(folder.join("bin/python"), workspace.root());
    shell::run(install.args(pip).args(["--requirement", PYTHON_REQUIREMENTS]))?;
    std::fs::write(&marker, wanted)
        .with_context(|| format!("cannot write {}", marker.display()))?;
    report::say(&format!("made {}", folder.display()));
    Ok(Some("a Python environment".to_owned()))
}

/// An empty virtual environment in place of whatever lies in `folder`.
pub(super) fn fresh_environment(workspace: &Workspace, folder: &Path) -> Result<()> {
    let mut venv = shell::command("python3", workspace.root());
    shell::run(venv.args(["-m", "venv", "--clear"]).arg(folder))?;
    Ok(())
}
