//! What happened: a hash of every event, and, when somebody wants to read it, a line for each.

use std::fmt;

use crate::queue::Time;
use crate::rng::mix;

/// Lines that are kept; a run that goes on beyond is cut in the middle of its story, not in memory.
const LINES_MAX: usize = 400_000;

/// The log of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty log; without `readable` only the hash is kept.
    pub(crate) fn new(readable: bool) -> Self {
        Self { hash: 0, events: 0, lines: readable.then(Vec::new) }
    }

    /// Counts an event in: its time and a number that tells it from others.
    pub(crate) fn event(&mut self, at: Time, digest: u64) {
        self.events += 1;
        self.hash = mix(self.hash ^ at.rotate_left(32) ^ digest).wrapping_add(self.events);
    }

    /// Adds a line when somebody reads; the words are only then put together.
    pub(crate) fn say(&mut self, at: Time, line: impl FnOnce() -> String) {
        if self.lines.is_some() {
            self.write_down(at, line);
        }
    }

    /// Apart from the way of all those runs that nobody reads.
    #[cold]
    #[inline(never)]
    fn write_down(&mut self, at: Time, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines
            && lines.len() < LINES_MAX
        {
            lines.push(format!("{} {}", Clock(at), line()));
        }
    }

    /// Hash of all events so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events there were.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The lines.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// True time for people: seconds with microseconds.
pub(crate) struct Clock(pub(crate) Time);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>3}.{:06}", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}
