//! The timers of QUIC connections: tokio's, but for those that are put off.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use quinn::AsyncTimer;
use tokio::time::Sleep;

/// A timer that is put off by less stays where tokio has it. That costs a wake-up for nothing at its old time, never
/// lateness; a new timer costs none, but two visits to tokio's wheel under its lock, which a timer that every packet of a
/// transfer puts off by microseconds must not pay each time. A millisecond is the wheel's step: below it the old time and
/// the new one are about the same wake-up, and above it each put-off within this would be one more.
const MUCH: Duration = Duration::from_millis(1);

/// A timer that goes off at `at`.
pub(crate) fn alarm(at: Instant) -> Pin<Box<dyn AsyncTimer>> {
    Box::pin(Alarm { sleep: Box::pin(tokio::time::sleep_until(at.into())) })
}

/// A timer. Every exchange on a quiet connection sets one for a lost packet, and puts it off for seconds when the answer
/// is there. Tokio leaves a timer that is put off in its place, wakes the process there, and sees then that it is for
/// later. A new one has no such place.
#[derive(Debug)]
struct Alarm {
    sleep: Pin<Box<Sleep>>,
}

impl AsyncTimer for Alarm {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        let at = tokio::time::Instant::from(at);
        if at.saturating_duration_since(self.sleep.deadline()) > MUCH {
            self.sleep.set(tokio::time::sleep_until(at));
        } else {
            Sleep::reset(self.sleep.as_mut(), at);
        }
    }

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(self.sleep.as_mut(), context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use quinn::{Runtime, TokioRuntime};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_timer_goes_off_when_it_was_last_set_to() {
        let start = TokioRuntime.now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut timer = alarm(after(50));
        for millis in [20, 22, 30, 500, 400] {
            timer.as_mut().reset(after(millis));
            // Tokio has it from here on.
            assert!(
                poll_fn(|context| Poll::Ready(timer.as_mut().poll(context))).await.is_pending()
            );
        }
        poll_fn(|context| timer.as_mut().poll(context)).await;
        assert_eq!(TokioRuntime.now(), after(400));
        timer.as_mut().reset(after(600));
        poll_fn(|context| timer.as_mut().poll(context)).await;
        assert_eq!(TokioRuntime.now(), after(600));
    }
}
