//! Everything that xtask prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a build task talks on its standard streams"
)]

use std::time::Duration;

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether it fails the check.
    pub(crate) level: Level,
    /// File, crate or row.
    pub(crate) place: String,
    /// What is wrong there and what to do.
    pub(crate) message: String,
}

/// Whether a finding fails the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

impl Finding {
    /// A finding that fails the check.
    pub(crate) fn error(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Error, place: place.into(), message: message.into() }
    }

    /// A finding that is only shown.
    pub(crate) fn warning(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { level: Level::Warning, place: place.into(), message: message.into() }
    }
}

/// How one step of `test` went.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The step's name.
    pub(crate) step: &'static str,
    /// How long it took.
    pub(crate) took: Duration,
    /// What it has to say, or why it failed.
    pub(crate) result: Result<String, String>,
}

/// Prints a line.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Prints an error.
pub(crate) fn problem(text: &str) {
    eprintln!("error: {text}");
}

/// Prints a finding.
pub(crate) fn finding(finding: &Finding) {
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    println!("{level}: {}: {}", finding.place, finding.message);
}

/// Prints the heading of a step.
pub(crate) fn heading(number: usize, of: usize, name: &str, about: &str) {
    println!("\n==== [{number}/{of}] {name}: {about}");
}

/// Prints the table of all steps and the closing line `N passed, N failed`.
pub(crate) fn summary(outcomes: &[Outcome]) {
    println!("\n==== summary");
    for outcome in outcomes {
        let (mark, note) = match &outcome.result {
            Ok(note) => ("ok    ", note.as_str()),
            Err(why) => ("FAILED", why.lines().next().unwrap_or_default()),
        };
        println!("{mark}  {:<10} {:>7.1} s  {note}", outcome.step, outcome.took.as_secs_f64());
    }
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
    for outcome in &failed {
        if let Err(why) = &outcome.result {
            println!("\n---- {} failed:\n{why}", outcome.step);
        }
    }
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    println!("\nin {:.0} s", total.as_secs_f64());
    println!("{} passed, {} failed", outcomes.len() - failed.len(), failed.len());
}
