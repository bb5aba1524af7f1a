//! `cargo xtask sim`: the simulator for as long as one likes, and the seeds that every change must pass.

use std::num::NonZeroUsize;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::shell;
use crate::workspace::Workspace;

/// Seeds that every change must pass.
const SEEDS: &str = "0..20000";
/// Seeds in which every planted bug must be caught.
const MUTANT_SEEDS: &str = "20000";
/// Seeds of a long run begin here, so that they are others than those of every change.
const LONG_RUN_FROM: u64 = 1_000_000;
/// Seeds between two reports of a long run.
const LONG_RUN_STEP: u64 = 100_000;

/// `--minutes N [--jobs J] [--from SEED]`: builds with optimisation and runs further seeds until a violation or the end.
///
/// # Errors
///
/// For options that are not understood, or when the build fails.
pub(crate) fn run(workspace: &Workspace, options: &[&str]) -> Result<bool> {
    let Options { minutes, jobs, from } = parse(options)?;
    let build = ["build", "--profile", "sim", "--locked", "--package", "holo-sim"];
    shell::run(&mut workspace.cargo(&build))?;
    let program = workspace.target().join("sim/holo-sim");
    let status = shell::command(&program, workspace.root())
        .args(["run", "--minutes", &minutes.to_string(), "--jobs", &jobs.to_string()])
        .args(["--seeds", &format!("{from}..{}", from + LONG_RUN_STEP)])
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    Ok(status.success())
}

/// The step of `cargo xtask test`: all seeds of every change, and all planted bugs.
pub(crate) fn step(workspace: &Workspace) -> Result<String> {
    // With the whole workspace's features, so that nothing is built again that the tests have built.
    shell::run(&mut workspace.cargo(&["build", "--workspace", "--locked", "--bin", "holo-sim"]))?;
    let program = workspace.target().join("debug/holo-sim");
    let jobs = processors().to_string();
    let sim = |arguments: &[&str]| {
        let mut command = shell::command(&program, workspace.root());
        command.args(arguments).args(["--jobs", &jobs]);
        shell::run(&mut command)
    };
    sim(&["run", "--seeds", SEEDS])?;
    let table = sim(&["mutants", "--seeds", MUTANT_SEEDS])?;
    Ok(format!("seeds {SEEDS}, {} planted bugs caught", table.lines().skip(1).count()))
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    minutes: u64,
    jobs: usize,
    from: u64,
}

fn parse(options: &[&str]) -> Result<Options> {
    let (mut minutes, mut jobs, mut from) = (None, processors(), LONG_RUN_FROM);
    for pair in options.chunks(2) {
        let [option, value] = pair else { bail!("{:?} needs a value", pair.concat()) };
        let number = value.parse::<u64>().with_context(|| format!("{value:?} is no number"))?;
        match *option {
            "--minutes" => minutes = Some(number),
            "--jobs" => jobs = usize::try_from(number)?.max(1),
            "--from" => from = number,
            other => bail!("no option {other:?}; there are --minutes N, --jobs J and --from SEED"),
        }
    }
    let minutes = minutes.context("say for how long: --minutes N")?;
    Ok(Options { minutes, jobs, from })
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_those_that_are_not_understood_are_errors() {
        let options = parse(&["--minutes", "3", "--jobs", "2", "--from", "7"]).unwrap();
        assert_eq!(options, Options { minutes: 3, jobs: 2, from: 7 });
        assert_eq!(parse(&["--minutes", "1"]).unwrap().from, LONG_RUN_FROM);
        for bad in [&[][..], &["--jobs", "2"], &["--minutes"], &["--minutes", "x"], &["--x", "1"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
