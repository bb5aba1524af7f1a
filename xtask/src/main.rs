//! Build tasks of the workspace: `cargo xtask help` lists them.
//!
//! `cargo xtask test` is what `.ci/run` runs and nothing else is: whoever wants to know whether a change is good runs
//! that one command.

mod bench;
mod deps;
mod report;
mod shell;
mod sim;
mod steps;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::workspace::Workspace;

const HELP: &str = "\
cargo xtask test [--only STEP]... [--skip STEP]...   every check, in order; --list names the steps
cargo xtask tidy [--pin]                             house rules; --pin renews the format pins in docs/
cargo xtask deps                                     which crate may depend on which
cargo xtask bench [ARGS]...                          builds and runs holo-bench with ARGS
cargo xtask sim --minutes N [--jobs J] [--from SEED] simulates clusters under faults, seed after seed";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            report::problem(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs one command; `false` when a check found something.
fn run(args: &[String]) -> Result<bool> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            report::say(HELP);
            Ok(true)
        }
        ["test", options @ ..] => steps::test(options),
        ["tidy"] => Ok(found_nothing(&tidy::check(&Workspace::find()?)?)),
        ["tidy", "--pin"] => {
            let workspace = Workspace::find()?;
            for renewed in tidy::renew_pins(&workspace)? {
                report::say(&format!("renewed the pin of {renewed}"));
            }
            Ok(true)
        }
        ["deps"] => Ok(found_nothing(&deps::check(&Workspace::find()?)?)),
        ["sim", options @ ..] => sim::run(&Workspace::find()?, options),
        ["bench", arguments @ ..] => bench::run(&Workspace::find()?, arguments),
        [other, ..] => bail!("no task {other:?}; there are:\n{HELP}"),
    }
}

fn found_nothing(findings: &[report::Finding]) -> bool {
    for finding in findings {
        report::finding(finding);
    }
    findings.iter().all(|finding| finding.level == report::Level::Warning)
}
