//! Running other programs: their output is shown as it comes and kept for the report.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::report;

/// Lines of a failed program's output that the report repeats.
const TAIL_LINES: usize = 60;

/// A command that runs in `folder`, free of what cargo set for xtask itself.
///
/// Cargo tells the programs that it runs about their package; a nested cargo would take that for a changed environment
/// and build crates again whose build scripts watch it.
pub(crate) fn command(program: impl AsRef<OsStr>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a program to its end, showing its output, and returns what it wrote to its standard output.
///
/// # Errors
///
/// When it cannot be started or fails; the error carries the last lines of its output.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let line = display(command);
    report::say(&format!("$ {line}"));
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let tail = Mutex::new(VecDeque::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let stdout = thread::scope(|scope| {
        let errors = scope.spawn(|| err.map(|pipe| show(pipe, &tail)));
        let stdout = out.map(|pipe| show(pipe, &tail)).unwrap_or_default();
        errors.join().map(|_| stdout).map_err(|_panic| anyhow::anyhow!("reading `{line}` failed"))
    })?;
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    if !status.success() {
        let tail = tail.into_inner().unwrap_or_default();
        let tail: Vec<_> = tail.into_iter().collect();
        bail!("`{line}` ended with {status}; its last lines:\n{}", tail.join("\n"));
    }
    Ok(stdout)
}

/// Runs a program quietly and returns its standard output; `None` when it cannot be started or fails.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn show(pipe: impl Read, tail: &Mutex<VecDeque<String>>) -> String {
    let mut all = String::new();
    let mut reader = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        report::say(text);
        all.push_str(text);
        all.push('\n');
        if let Ok(mut tail) = tail.lock() {
            tail.push_back(text.to_owned());
            if tail.len() > TAIL_LINES {
                tail.pop_front();
            }
        }
        bytes.clear();
    }
    all
}

fn display(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = command("sh", Path::new("/"));
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failing_program_is_an_error_with_its_output() {
        let error = run(&mut sh("echo before; echo why >&2; exit 3")).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(error.contains("why") && error.contains("before"), "{error}");
        assert!(ask(&mut sh("exit 1")).is_none());
    }

    #[test]
    fn a_program_that_succeeds_gives_its_standard_output_only() {
        assert_eq!(run(&mut sh("echo one; echo two >&2")).unwrap(), "one\n");
    }

    #[test]
    fn cargos_words_about_xtask_do_not_reach_other_programs() {
        let seen = ask(&mut sh("echo ${CARGO_PKG_NAME:-none}")).unwrap();
        assert_eq!(seen, "none\n");
    }
}
