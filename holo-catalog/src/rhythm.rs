//! When the library looks at its clock, and who else looks now and then: rather when the process is awake anyway than by
//! a timer of their own.
//!
//! The library ticks at one and a half times its heartbeat, whatever happened meanwhile, and a leader speaks at its
//! ticks. Each of them wakes the machine, and those that it speaks to. Where the process exchanges other messages with
//! the same peers all the time, a tick that goes along with them wakes nobody.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// What ticks wait for besides time. One for the process: what is awake is the process.
static AWAKE: Notify = Notify::const_new();

/// How much earlier than at its end a [`rest`] may be over.
const EARLIER: Duration = Duration::from_millis(100);

/// The process is awake and about to talk to its peers: voters whose tick is due soon take it now.
pub fn go_along() {
    AWAKE.notify_waiters();
}

/// Waits for about `pause`: until its end, or until the process is awake anyway in its last tenth of a second, or in its
/// last half.
pub async fn rest(pause: Duration) {
    let now = Instant::now();
    let enough = pause.saturating_sub(EARLIER).max(pause / 2);
    Pause::new(now + enough, now + pause).await;
}

type Tokio = openraft::TokioRuntime;

/// The library's runtime: tokio, but for the pause between two ticks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rhythm;

/// A pause that is over at its end, or when the process is awake once it was long enough.
#[derive(Debug)]
pub(crate) struct Pause {
    enough: Instant,
    end: Pin<Box<tokio::time::Sleep>>,
    awake: Pin<Box<Notified<'static>>>,
}

impl Pause {
    /// The pause between two ticks, of which two thirds are enough: a heartbeat.
    fn of_tick(end: Instant) -> Self {
        let now = Instant::now();
        Self::new(now + end.saturating_duration_since(now) / 3 * 2, end)
    }

    fn new(enough: Instant, end: Instant) -> Self {
        Self {
            enough,
            end: Box::pin(tokio::time::sleep_until(end)),
            awake: Box::pin(AWAKE.notified()),
        }
    }
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        while self.awake.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.enough {
                return Poll::Ready(());
            }
            self.awake.set(AWAKE.notified());
        }
        self.end.as_mut().poll(context)
    }
}

impl AsyncRuntime for Rhythm {
    type JoinError = <Tokio as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Tokio as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Pause;
    type Instant = <Tokio as AsyncRuntime>::Instant;
    type TimeoutError = <Tokio as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Tokio as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Tokio as AsyncRuntime>::ThreadLocalRng;
    type OneshotSender<T: OptionalSend> = <Tokio as AsyncRuntime>::OneshotSender<T>;
    type OneshotReceiver<T: OptionalSend> = <Tokio as AsyncRuntime>::OneshotReceiver<T>;
    type OneshotReceiverError = <Tokio as AsyncRuntime>::OneshotReceiverError;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Tokio::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        let end = Instant::now() + duration;
        Pause::new(end, end)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Pause::of_tick(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        Tokio::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Tokio::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Tokio::thread_rng()
    }

    fn oneshot<T>() -> (Self::OneshotSender<T>, Self::OneshotReceiver<T>)
    where
        T: OptionalSend,
    {
        Tokio::oneshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// How long a pause of 150 ms took, by the paused clock of the test, of whose process somebody says every 10 ms
    /// between two times that it is awake.
    async fn pause_took(awake: std::ops::Range<u32>) -> Duration {
        let begun = Instant::now();
        let mut pause = Box::pin(Pause::of_tick(begun + 150 * MILLISECOND));
        for step in 0..20 {
            let until = begun + 10 * step * MILLISECOND;
            if tokio::time::timeout_at(until, &mut pause).await.is_ok() {
                break;
            }
            if awake.contains(&(10 * step)) {
                go_along();
            }
        }
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tick_goes_along_once_a_heartbeat_has_passed_and_never_comes_late() {
        // A test beside this one may wake all there are, so these are bounds and no times.
        assert!(pause_took(0..1).await >= 100 * MILLISECOND);
        assert!(pause_took(0..200).await >= 100 * MILLISECOND);
        assert!(pause_took(0..200).await <= 111 * MILLISECOND);
        assert!(pause_took(0..1).await <= 151 * MILLISECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_looks_now_and_then_rests_until_the_process_is_awake_or_the_time_is_over() {
        let begun = Instant::now();
        let mut resting = Box::pin(rest(250 * MILLISECOND));
        assert!(tokio::time::timeout(140 * MILLISECOND, &mut resting).await.is_err());
        go_along();
        // A test beside this one may wake it, too, but not before its time.
        let until = begun + 148 * MILLISECOND;
        assert!(tokio::time::timeout_at(until, &mut resting).await.is_err(), "too early");
        tokio::time::advance(3 * MILLISECOND).await;
        go_along();
        resting.await;
        assert!((150..=155).contains(&begun.elapsed().as_millis()));
        let begun = Instant::now();
        rest(1000 * MILLISECOND).await;
        assert!((900..=1001).contains(&begun.elapsed().as_millis()));
    }
}
