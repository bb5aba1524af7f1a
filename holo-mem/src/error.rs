//! What can go wrong in memory.

use holo_core::{ErrorCode, Failure, PageIndex};

/// Milliseconds after which a request that found memory full may try again: staging in flight has settled by then.
const CAPACITY_RETRY_MILLIS: u32 = 250;

/// Why bytes could not be placed, read or trusted. No variant leaves a change behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemError {
    /// Memory is full: the node's fault, or its operator's. Free something, or try again when less is in flight.
    #[error("needs {need} bytes of memory, {have} are free")]
    OutOfCapacity {
        /// Bytes that were asked for, in whole frames.
        need: u64,
        /// Bytes that could have been had.
        have: u64,
    },
    /// The range leaves the shard: the caller's fault.
    #[error("{len} bytes at offset {offset} of a shard of {bytes} bytes")]
    OutOfRange {
        /// First byte of the range.
        offset: u64,
        /// Bytes of the range.
        len: u64,
        /// Bytes of the shard.
        bytes: u64,
    },
    /// Bytes of a page do not have the digest they came with: damaged on their way or at the sender. Fetch them
    /// again, from another replica if it happens twice.
    #[error("page {page} failed its checksum")]
    Corrupt {
        /// The page of the shard.
        page: PageIndex,
    },
    /// A list of digests does not have 32 bytes for every page: the peer's fault.
    #[error("{got} bytes of digests for {pages} pages, which need 32 bytes each")]
    DigestCount {
        /// Bytes of the list.
        got: usize,
        /// Pages that the bytes touch.
        pages: usize,
    },
    /// Staged bytes were made for a shard of another size or of another tenant's arena: a bug of the caller.
    #[error("bytes staged for another shard")]
    ForeignStaging,
    /// An array of this id is here with another tenant or layout: a bug of the caller, ids are never reused.
    #[error("array {array} is already here with another tenant or layout")]
    LayoutConflict {
        /// The array.
        array: holo_core::ArrayId,
    },
    /// The system refused the mapping.
    #[error("the system refused an arena of {bytes} bytes")]
    Map {
        /// Bytes of the arena.
        bytes: u64,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

impl From<MemError> for Failure {
    fn from(error: MemError) -> Self {
        let message = error.to_string();
        match error {
            MemError::OutOfCapacity { .. } => Self::new(ErrorCode::OutOfCapacity, message)
                .help("remove arrays, add a node, or raise `memory` in the node's config")
                .retry_after_ms(CAPACITY_RETRY_MILLIS),
            MemError::OutOfRange { .. } => Self::new(ErrorCode::OutOfRange, message),
            MemError::Corrupt { .. } => {
                Self::new(ErrorCode::Corrupt, message).help("send the bytes again")
            }
            MemError::DigestCount { .. } => Self::new(ErrorCode::Malformed, message),
            MemError::LayoutConflict { .. } => Self::new(ErrorCode::Conflict, message),
            MemError::ForeignStaging => Self::new(ErrorCode::Internal, message),
            MemError::Map { source, .. } => {
                Self::new(ErrorCode::Internal, format!("{message}: {source}")).help(
                    "check the limits on address space (`ulimit -v`) and `vm.overcommit_memory`",
                )
            }
        }
    }
}
