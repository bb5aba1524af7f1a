//! Raw bytes behind a message on a stream of its own.

use bytes::Bytes;
use holo_core::{ErrorCode, Failure};
use tokio::time::Instant;

use crate::connection::read_failure;
use crate::places::Place;

/// The bulk bytes of a message, in order.
///
/// Dropping it before the end tells the sender to stop.
pub struct BulkReader {
    stream: quinn::RecvStream,
    /// What arrived together with the message's head.
    rest: Bytes,
    remaining: u64,
    deadline: Instant,
    /// Its stream's place among those of the connection; free again when the stream has ended.
    place: Option<Place>,
}

impl BulkReader {
    pub(crate) fn new(
        stream: quinn::RecvStream,
        rest: Bytes,
        remaining: u64,
        deadline: Instant,
        place: Option<Place>,
    ) -> Result<Self, Failure> {
        if rest.len() as u64 > remaining {
            return Err(too_many());
        }
        Ok(Self { stream, rest, remaining, deadline, place })
    }

    /// Bytes that have not been taken yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next bytes, as the network cut them; `None` after the last.
    ///
    /// # Errors
    ///
    /// `ConnectionLost`, `DeadlineExceeded`, or `Malformed` when the sender sends another count than it announced.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.remaining == 0 {
            return Ok(None);
        }
        let chunk = if self.rest.is_empty() {
            self.receive().await?
        } else {
            std::mem::take(&mut self.rest)
        };
        self.take(chunk).await.map(Some)
    }

    /// Fills `dst` with the next bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Self::chunk`], and `Malformed` when fewer bytes are left than `dst` holds; then none is taken.
    pub async fn read_exact(&mut self, dst: &mut [u8]) -> Result<(), Failure> {
        if dst.len() as u64 > self.remaining {
            let message =
                format!("{} bulk bytes are left where {} are needed", self.remaining, dst.len());
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        let mut filled = 0;
        while filled < dst.len() {
            let mut chunk = if self.rest.is_empty() {
                self.receive().await?
            } else {
                std::mem::take(&mut self.rest)
            };
            if chunk.len() > dst.len() - filled {
                self.rest = chunk.split_off(dst.len() - filled);
            }
            dst[filled..filled + chunk.len()].copy_from_slice(&chunk);
            filled += chunk.len();
            self.take(chunk).await?;
        }
        Ok(())
    }

    /// Counts a chunk as taken; behind the last one the stream must end.
    async fn take(&mut self, chunk: Bytes) -> Result<Bytes, Failure> {
        self.remaining = self.remaining.checked_sub(chunk.len() as u64).ok_or_else(too_many)?;
        if self.remaining == 0 {
            self.expect_end().await?;
        }
        Ok(chunk)
    }

    /// Checks that nothing follows; this also lets the stream end in peace instead of being told to stop.
    pub(crate) async fn expect_end(&mut self) -> Result<(), Failure> {
        if !self.rest.is_empty() || self.read_stream().await?.is_some() {
            return Err(too_many());
        }
        self.place = None;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Bytes, Failure> {
        self.read_stream().await?.ok_or_else(|| {
            Failure::new(
                ErrorCode::Malformed,
                format!("the stream ended {} bulk bytes early", self.remaining),
            )
        })
    }

    async fn read_stream(&mut self) -> Result<Option<Bytes>, Failure> {
        let reading = self.stream.read_chunk(usize::MAX, true);
        let chunk = tokio::time::timeout_at(self.deadline, reading).await.map_err(|_elapsed| {
            Failure::new(ErrorCode::DeadlineExceeded, "bulk bytes did not arrive in time")
        })?;
        Ok(chunk.map_err(|error| read_failure(&error))?.map(|chunk| chunk.bytes))
    }
}

impl std::fmt::Debug for BulkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BulkReader").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

fn too_many() -> Failure {
    Failure::new(
        ErrorCode::Malformed,
        "the stream carries more bulk bytes than its header announced",
    )
}
