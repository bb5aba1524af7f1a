//! How much one side of a connection may have open at the other at once.

use std::sync::Arc;

use holo_core::limits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The places for what one side asks of the other. Each side counts both directions: what it asks itself, so that it
/// keeps to the bounds, and what its peer asks, so that the peer does.
#[derive(Debug)]
pub(crate) struct Places {
    requests: Arc<Semaphore>,
    bulk_streams: Arc<Semaphore>,
    multiplexed_streams: Arc<Semaphore>,
}

/// A place that is taken; dropping it makes room.
pub(crate) type Place = OwnedSemaphorePermit;

/// Why there is no place at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// All are taken.
    Full,
    /// The connection has ended.
    Ended,
}

impl Places {
    pub(crate) fn new() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            requests: places(limits::REQUESTS_IN_FLIGHT_MAX),
            bulk_streams: places(limits::BULK_STREAMS_MAX),
            multiplexed_streams: places(limits::MULTIPLEXED_STREAMS_MAX),
        }
    }

    /// Whoever waits for a place, and whoever comes later, gets none.
    pub(crate) fn end(&self) {
        for places in [&self.requests, &self.bulk_streams, &self.multiplexed_streams] {
            places.close();
        }
    }

    /// A place for a request, as soon as there is one; `None` when the connection has ended.
    pub(crate) fn request(&self) -> impl Future<Output = Option<Place>> + Send + 'static {
        let acquiring = Arc::clone(&self.requests).acquire_owned();
        async { acquiring.await.ok() }
    }

    /// A place for a bulk stream, as soon as there is one; `None` when the connection has ended.
    pub(crate) async fn bulk_stream(&self) -> Option<Place> {
        Arc::clone(&self.bulk_streams).acquire_owned().await.ok()
    }

    /// A place for a request, if there is one now.
    pub(crate) fn try_request(&self) -> Result<Place, NoPlace> {
        at_once(&self.requests)
    }

    /// A place for a multiplexed stream, if there is one now: streams of this kind stay as long as the connection, so
    /// that waiting would be in vain.
    pub(crate) fn try_multiplexed_stream(&self) -> Result<Place, NoPlace> {
        at_once(&self.multiplexed_streams)
    }
}

fn at_once(places: &Arc<Semaphore>) -> Result<Place, NoPlace> {
    Arc::clone(places).try_acquire_owned().map_err(|error| match error {
        TryAcquireError::NoPermits => NoPlace::Full,
        TryAcquireError::Closed => NoPlace::Ended,
    })
}
