//! What is under way, for those who wait until all of it has ended.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The calls of one client that change something.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    open: Mutex<Open>,
    ended: Notify,
}

/// A call that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    number: u64,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    numbers: BTreeSet<u64>,
}

impl Flights {
    /// Notes a call that begins.
    pub(crate) fn begin(&self) -> Flight<'_> {
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.numbers.insert(number);
        Flight { flights: self, number }
    }

    /// Waits until all calls that have begun so far have ended; later ones do not matter.
    pub(crate) async fn landed(&self) {
        let below = self.lock().next;
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            if self.lock().numbers.first().is_none_or(|first| *first >= below) {
                return;
            }
            ended.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.lock().numbers.remove(&self.number);
        self.flights.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_waits_for_those_before_and_not_for_those_after() {
        let flights = Flights::default();
        assert!(flights.landed().now_or_never().is_some(), "nothing is under way");
        let (first, second) = (flights.begin(), flights.begin());
        let mut landed = std::pin::pin!(flights.landed());
        assert!(landed.as_mut().now_or_never().is_none());
        let later = flights.begin();
        drop(second);
        assert!(landed.as_mut().now_or_never().is_none());
        drop(first);
        assert!(landed.as_mut().now_or_never().is_some());
        drop(later);
    }
}
