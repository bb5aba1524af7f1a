//! `cargo xtask test`: every check, one after the other; a failed one does not stop the next.

mod bootstrap;
mod product;
mod python;
mod rust;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::report::{self, Finding, Level, Outcome};
use crate::workspace::Workspace;
use crate::{deps, sim, tidy};

/// One check.
struct Step {
    name: &'static str,
    about: &'static str,
    /// Does it; what it returns stands in the summary.
    run: fn(&Workspace) -> Result<String>,
}

/// Cheap ones first; each builds on what the ones before it built.
const STEPS: [Step; 15] = [
    Step { name: "bootstrap", about: "install what is missing", run: bootstrap::run },
    Step { name: "fmt", about: "rustfmt changes nothing", run: rust::fmt },
    Step { name: "tidy", about: "house rules", run: |it| count(&tidy::check(it)?) },
    Step {
        name: "deps",
        about: "allowed edges between crates",
        run: |it| count(&deps::check(it)?),
    },
    Step { name: "clippy", about: "no lint speaks", run: rust::clippy },
    Step { name: "doc", about: "documentation builds without a warning", run: rust::doc },
    Step { name: "kernels", about: "the example kernels build for wasm32", run: rust::kernels },
    Step {
        name: "test",
        about: "unit tests, integration tests, examples in the documentation",
        run: rust::test,
    },
    Step {
        name: "sim",
        about: "clusters under faults, seed by seed, and planted bugs",
        run: sim::step,
    },
    Step { name: "gpu", about: "GPU tests, which may not skip here", run: rust::gpu },
    Step { name: "release", about: "the optimised binaries", run: product::release },
    Step { name: "demo", about: "`holo demo`, as a user runs it", run: product::demo },
    Step { name: "examples", about: "the Rust examples", run: product::examples },
    Step { name: "python", about: "the wheel in a fresh environment", run: python::wheel },
    Step { name: "notebook", about: "the notebook runs and draws", run: python::notebook },
];

/// Runs the steps that `options` choose; `false` when one failed.
///
/// # Errors
///
/// For options that are not understood, or when this is no workspace.
pub(crate) fn test(options: &[&str]) -> Result<bool> {
    if options == ["--list"] {
        for step in &STEPS {
            report::say(&format!("{:<10} {}", step.name, step.about));
        }
        return Ok(true);
    }
    let chosen = choose(options)?;
    let workspace = Workspace::find()?;
    let mut outcomes = Vec::with_capacity(chosen.len());
    for (index, step) in chosen.iter().enumerate() {
        report::heading(index + 1, chosen.len(), step.name, step.about);
        let start = now();
        let result = (step.run)(&workspace).map_err(|error| format!("{error:#}"));
        if let Err(why) = &result {
            report::problem(why);
        }
        outcomes.push(Outcome { step: step.name, took: start.elapsed(), result });
    }
    report::summary(&outcomes);
    Ok(outcomes.iter().all(|outcome| outcome.result.is_ok()))
}

/// The steps that `--only` and `--skip` leave, in order.
fn choose(options: &[&str]) -> Result<Vec<&'static Step>> {
    let (mut only, mut skip) = (BTreeSet::new(), BTreeSet::new());
    for pair in options.chunks(2) {
        let [option, name] = pair else { bail!("{:?} needs the name of a step", pair.concat()) };
        if !STEPS.iter().any(|step| step.name == *name) {
            let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
            bail!("no step {name:?}; there are {}", names.join(", "));
        }
        match *option {
            "--only" => only.insert(*name),
            "--skip" => skip.insert(*name),
            other => bail!("no option {other:?}; there are --only STEP, --skip STEP and --list"),
        };
    }
    let chosen = STEPS
        .iter()
        .filter(|step| (only.is_empty() || only.contains(step.name)) && !skip.contains(step.name));
    Ok(chosen.collect())
}

/// Prints findings; an error when one of them is.
fn count(findings: &[Finding]) -> Result<String> {
    for finding in findings {
        report::finding(finding);
    }
    let errors = findings.iter().filter(|finding| finding.level == Level::Error).count();
    let warnings = findings.len() - errors;
    if errors > 0 {
        bail!("{errors} errors, {warnings} warnings, listed above");
    }
    Ok(format!("{warnings} warnings"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a build task is a driver: it measures its own steps"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(options: &[&str]) -> Vec<&'static str> {
        choose(options).unwrap().iter().map(|step| step.name).collect()
    }

    #[test]
    fn steps_can_be_chosen_and_left_out() {
        assert_eq!(names(&[]).len(), STEPS.len());
        assert_eq!(names(&["--only", "tidy", "--only", "fmt"]), ["fmt", "tidy"]);
        assert!(!names(&["--skip", "demo"]).contains(&"demo"));
    }

    #[test]
    fn options_that_are_not_understood_are_errors() {
        for bad in [&["--only"][..], &["--only", "nothing"], &["--never", "tidy"], &["tidy"]] {
            assert!(choose(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_check_that_found_an_error_fails_and_one_that_only_warns_does_not() {
        assert!(count(&[Finding::error("a", "b")]).is_err());
        assert_eq!(count(&[Finding::warning("a", "b")]).unwrap(), "1 warnings");
    }
}
