//! Clocks and order statistics.

use std::time::Instant;

/// Time since it was started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "measuring is what this crate is for")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    pub(crate) fn seconds(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "what is measured takes its own time")]
pub(crate) async fn pause_ms(millis: u64) {
    tokio::time::sleep(std::time::Duration::from_millis(millis)).await;
}

/// Seconds of the fastest of `rounds` runs.
pub(crate) fn best_of(rounds: usize, mut run: impl FnMut()) -> f64 {
    let seconds = (0..rounds).map(|_| {
        let watch = Stopwatch::start();
        run();
        watch.seconds()
    });
    seconds.fold(f64::INFINITY, f64::min)
}

/// The value below which `percent` of the samples lie; sorts them. 0 of nothing.
pub(crate) fn percentile(samples: &mut [f64], percent: usize) -> f64 {
    samples.sort_by(f64::total_cmp);
    let index = (samples.len() * percent / 100).min(samples.len().saturating_sub(1));
    samples.get(index).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_order_statistics() {
        let mut samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert!((percentile(&mut samples, 50) - 3.0).abs() < f64::EPSILON);
        assert!((percentile(&mut samples, 99) - 5.0).abs() < f64::EPSILON);
        assert!(percentile(&mut [], 50).abs() < f64::EPSILON);
    }
}
