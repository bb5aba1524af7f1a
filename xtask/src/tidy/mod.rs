//! `cargo xtask tidy`: the house rules that a machine can check.
//!
//! Every check is a function from a [`Tree`] to findings, so that its tests are small trees that break it.

mod documents;
mod pins;
mod rules;
mod threats;

use anyhow::{Context, Result};

use crate::report::Finding;
use crate::workspace::{Tree, Workspace};

/// Runs every check.
///
/// # Errors
///
/// When the files of the checkout cannot be read.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    Ok(findings(&workspace.text_files()?))
}

/// Writes today's hashes into the documents that describe formats; returns the ones that changed.
///
/// # Errors
///
/// When a document cannot be read or written.
pub(crate) fn renew_pins(workspace: &Workspace) -> Result<Vec<String>> {
    let mut changed = Vec::new();
    for (path, text) in pins::renewed(&workspace.text_files()?) {
        std::fs::write(workspace.root().join(&path), text)
            .with_context(|| format!("cannot write {path}"))?;
        changed.push(path);
    }
    Ok(changed)
}

fn findings(tree: &Tree) -> Vec<Finding> {
    let checks: [fn(&Tree) -> Vec<Finding>; 10] = [
        rules::length,
        rules::names,
        rules::inherited_lints,
        rules::unfinished_work,
        rules::foreign_places,
        rules::one_screen_lib,
        pins::check,
        threats::check,
        documents::errors_are_listed,
        documents::links_lead_somewhere,
    ];
    checks.iter().flat_map(|check| check(tree)).collect()
}
