//! What a replication group does to its shards, one operation after the other.
//!
//! Bytes never come here: they are staged into frames first, and a small [`Op`] publishes them. Who orders operations and
//! when each is applied is decided in [`crate::replication`]; what an operation does to pages belongs to `holo-mem`.

mod op;
mod update;

pub use op::{Op, PageSpan, StagingId};
pub use update::{UpdateKind, apply_update};

/// Who waits for an operation; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Place of an operation in its group's order; the first has 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests;
