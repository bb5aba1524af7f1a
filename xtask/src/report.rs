//! Everything that xtask prints.

use std::io::Write;
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
    // A reader that went away wants to hear no more; that is no reason to stop checking.
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// Prints an error.
pub(crate) fn problem(text: &str) {
    drop(writeln!(std::io::stderr(), "error: {text}"));
}

/// Prints a finding.
pub(crate) fn finding(finding: &Finding) {
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    say(&format!("{level}: {}: {}", finding.place, finding.message));
}

/// Prints the heading of a step.
pub(crate) fn heading(number: usize, of: usize, name: &str, about: &str) {
    say(&format!("\n==== [{number}/{of}] {name}: {about}"));
}

/// Prints the table of all steps and the closing line `N passed, N failed`.
pub(crate) fn summary(outcomes: &[Outcome]) {
    say("\n==== summary");
    for outcome in outcomes {
        let (mark, note) = match &outcome.result {
            Ok(note) => ("ok    ", note.as_str()),
            Err(why) => ("FAILED", why.lines().next().unwrap_or_default()),
        };
        say(&format!("{mark}  {:<10} {:>7.1} s  {note}", outcome.step, outcome.took.as_secs_f64()));
    }
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
    for outcome in &failed {
        if let Err(why) = &outcome.result {
            say(&format!("\n---- {} failed:\n{why}", outcome.step));
        }
    }
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    say(&format!("\nin {:.0} s", total.as_secs_f64()));
    say(&format!("{} passed, {} failed", outcomes.len() - failed.len(), failed.len()));
}
