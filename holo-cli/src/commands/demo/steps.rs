//! What the demo has done so far, with times.

use std::time::Duration;

use holo_core::Failure;
use serde::{Serialize, Serializer};

use crate::clock::Stopwatch;
use crate::output::Output;
use crate::progress::Progress;
use crate::quantity;
use crate::table::Table;

/// The steps of a demo, in order.
#[derive(Debug)]
pub(crate) struct Steps<'a> {
    output: &'a Output,
    done: Vec<Step>,
}

/// One step that succeeded.
#[derive(Debug, Serialize)]
struct Step {
    name: String,
    #[serde(rename = "elapsed_us", serialize_with = "as_micros")]
    elapsed: Duration,
    /// Bytes that were written or read; 0 where that says nothing.
    bytes: u64,
    /// What was checked.
    check: String,
}

impl<'a> Steps<'a> {
    /// No step yet.
    pub(crate) fn new(output: &'a Output) -> Self {
        Self { output, done: Vec::new() }
    }

    /// Does a step that moves `bytes`, with a spinner for whoever waits, or a line where nobody sees it turn.
    ///
    /// # Errors
    ///
    /// That of the step, with its name before it.
    pub(crate) async fn take<T, E: Into<Failure>>(
        &mut self,
        name: &str,
        bytes: u64,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let waiting = Progress::spinner(self.output, name);
        if !self.output.shows_progress() {
            self.output.note(&format!("{name} ..."));
        }
        let watch = Stopwatch::start();
        let ended = step.await;
        let elapsed = watch.elapsed();
        drop(waiting);
        let value = ended.map_err(|error| error.into().context(name))?;
        self.done.push(Step { name: name.to_owned(), elapsed, bytes, check: String::new() });
        Ok(value)
    }

    /// Notes what was checked about the last step.
    pub(crate) fn checked(&mut self, check: String) {
        if let Some(last) = self.done.last_mut() {
            last.check = check;
        }
    }

    /// The table of all steps.
    pub(crate) fn table(&self, color: bool) -> String {
        let mut table = Table::new(&["step", ">time", ">rate", "check"]);
        for step in &self.done {
            table.row([
                step.name.clone(),
                quantity::duration(step.elapsed),
                quantity::rate(step.bytes, step.elapsed),
                step.check.clone(),
            ]);
        }
        table.render(color)
    }
}

impl Serialize for Steps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.done.serialize(serializer)
    }
}

fn as_micros<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}
