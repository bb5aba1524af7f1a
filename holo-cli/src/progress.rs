//! Bars and spinners where a person waits; nothing at all elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// Something that a person waits for. Vanishes from the terminal when it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Work of unknown length.
    pub(crate) fn spinner(output: &Output, what: &str) -> Self {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").ok();
        Self::new(output, ProgressBar::no_length(), style, what)
    }

    /// A transfer of `bytes`.
    pub(crate) fn bytes(output: &Output, what: &str, bytes: u64) -> Self {
        let template =
            "{msg} [{bar:30}] {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).ok();
        Self::new(output, ProgressBar::new(bytes), style, what)
    }

    /// Work on things that are counted and whose number may change: see [`Self::at`]. Empty until then: a bar of nothing
    /// would be drawn full.
    pub(crate) fn items(output: &Output, what: &str, noun: &str) -> Self {
        let template = format!("{{prefix}} [{{bar:30}}] {{pos}} of {{len}} {noun}, {{msg}}");
        let style = ProgressStyle::with_template(&template).ok();
        let bar = Self::new(output, ProgressBar::no_length(), style, "");
        bar.bar.set_prefix(what.to_owned());
        bar
    }

    fn new(output: &Output, bar: ProgressBar, style: Option<ProgressStyle>, what: &str) -> Self {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        if let Some(style) = style {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        // Shown last: a bar without its style would flash up.
        if output.shows_progress() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// So many of all are done; `words` say more about the rest.
    pub(crate) fn at(&self, done: u64, all: u64, words: &str) {
        self.bar.set_length(all);
        self.bar.set_position(done);
        self.bar.set_message(words.to_owned());
    }

    /// `bytes` more are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

impl holo_client::Progress for Progress {
    fn advanced(&self, bytes: u64) {
        self.advance(bytes);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn a_bar_of_counted_things_is_empty_until_some_of_them_are_done() {
        // The bar of a drain began full: none of no groups were left.
        let bar = Progress::items(&Output::new(Format::Table, true, true), "draining n2", "groups");
        let drawn = || {
            let mut fraction = 0.0;
            bar.bar.update(|state| fraction = state.fraction());
            fraction
        };
        assert_eq!(drawn(), 0.0);
        bar.at(0, 256, "34.0 MiB left");
        assert_eq!(drawn(), 0.0);
        bar.at(64, 256, "25.5 MiB left");
        assert_eq!(drawn(), 0.25);
    }
}
