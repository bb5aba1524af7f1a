//! Where the workspace lies and what is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::shell;

/// Files larger than this are data, not text that rules apply to.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// A checkout of the workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
    metadata: Value,
}

impl Workspace {
    /// The workspace that xtask belongs to.
    ///
    /// # Errors
    ///
    /// When cargo cannot describe it, for one because `Cargo.lock` is not up to date.
    pub(crate) fn find() -> Result<Self> {
        let start = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let start = match start {
            Some(folder) => folder,
            None => std::env::current_dir().context("no current folder")?,
        };
        let mut command = cargo_in(&start);
        command.args(["metadata", "--format-version", "1", "--locked"]);
        let output = command.output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("cargo has no {key}"))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")?, metadata })
    }

    /// Its top folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where build outputs go: `CARGO_TARGET_DIR`, or `target`.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// What `cargo metadata` says.
    pub(crate) fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// A cargo command in the top folder.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo_in(&self.root);
        command.args(args);
        command
    }

    /// Its text files, tracked or new, without ignored ones, by path from the top folder.
    ///
    /// # Errors
    ///
    /// When git cannot list them or a file cannot be read.
    pub(crate) fn text_files(&self) -> Result<Tree> {
        let mut git = shell::command("git", &self.root);
        git.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
        let listing = shell::ask(&mut git).context("git cannot list the files of this checkout")?;
        let mut files = BTreeMap::new();
        for path in listing.split('\0').filter(|path| !path.is_empty()) {
            let full = self.root.join(path);
            // A file that was just removed or is a link is no file of ours.
            let Ok(about) = full.symlink_metadata() else { continue };
            if !about.is_file() || about.len() > TEXT_BYTES_MAX {
                continue;
            }
            let bytes = std::fs::read(&full).with_context(|| format!("cannot read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.insert(path.to_owned(), text);
            }
        }
        Ok(Tree { files })
    }
}

/// The text of a checkout, or of a fixture that stands for one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    /// Text by path from the top folder, with `/` between names.
    pub(crate) files: BTreeMap<String, String>,
}

impl Tree {
    /// The text of one file.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Files whose name ends in `.extension`.
    pub(crate) fn with_extension<'a>(
        &'a self,
        extension: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| Path::new(path).extension().is_some_and(|it| it == extension))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Self {
        Self { files: files.map(|(path, text)| (path.to_owned(), text.to_owned())).into() }
    }
}

fn cargo_in(folder: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    shell::command(cargo, folder)
}
