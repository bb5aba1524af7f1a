//! Operation values: small, and all that a log has to carry.

use bytes::Bytes;

use super::update::{self, UpdateKind};
use crate::{ArrayId, DType, ErrorCode, Failure, PAGE_BYTES, PageIndex, ShardIndex, limits};

/// One change to the shards of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes staged frames the content of pages, all or none.
    Publish {
        /// The array.
        array: ArrayId,
        /// The shard.
        shard: ShardIndex,
        /// The staged frames.
        staging: StagingId,
        /// The pages that they become.
        pages: PageSpan,
        /// First byte of the shard that changes; the first page keeps what lies before.
        offset: u64,
        /// Bytes that change; the last page keeps what lies behind.
        len: u64,
    },
    /// Writes a few bytes that travel inside the operation.
    Write {
        /// The array.
        array: ArrayId,
        /// The shard.
        shard: ShardIndex,
        /// First byte of the shard that changes.
        offset: u64,
        /// The bytes, 1 to [`limits::OP_BYTES_MAX`].
        bytes: Bytes,
    },
    /// Changes one element depending on what it is; see [`apply_update`](super::apply_update).
    Update {
        /// The array.
        array: ArrayId,
        /// The shard.
        shard: ShardIndex,
        /// First byte of the element in the shard.
        offset: u64,
        /// The element's type.
        dtype: DType,
        /// How it changes.
        kind: UpdateKind,
        /// The other value, little-endian in the first bytes, the rest zero.
        operand: [u8; 8],
        /// What [`UpdateKind::CompareExchange`] expects, likewise; zero for the other kinds.
        expected: [u8; 8],
    },
    /// Writes one element's bytes again and again.
    Fill {
        /// The array.
        array: ArrayId,
        /// The shard.
        shard: ShardIndex,
        /// First byte of the shard that changes.
        offset: u64,
        /// Bytes that change, a multiple of the pattern's.
        len: u64,
        /// The element's bytes: 1, 2, 4 or 8.
        pattern: Bytes,
    },
}

impl Op {
    /// The array that it changes.
    pub fn array(&self) -> ArrayId {
        match self {
            Self::Publish { array, .. }
            | Self::Write { array, .. }
            | Self::Update { array, .. }
            | Self::Fill { array, .. } => *array,
        }
    }

    /// The shard that it changes.
    pub fn shard(&self) -> ShardIndex {
        match self {
            Self::Publish { shard, .. }
            | Self::Write { shard, .. }
            | Self::Update { shard, .. }
            | Self::Fill { shard, .. } => *shard,
        }
    }

    /// Checks what can be known without the array: ranges inside a shard, the pages being those of the range, an
    /// update that its dtype has.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`], [`ErrorCode::TooLarge`] for a write that should have been staged.
    pub fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Publish { pages, offset, len, .. } => {
                check_range(*offset, *len)?;
                if PageSpan::of_bytes(*offset, *len) != Some(*pages) {
                    let message = format!(
                        "bytes {offset}+{len} are not pages {}+{}",
                        pages.first, pages.count
                    );
                    return Err(Failure::new(ErrorCode::InvalidArgument, message));
                }
                Ok(())
            }
            Self::Write { offset, bytes, .. } => {
                check_range(*offset, bytes.len() as u64)?;
                if bytes.len() > limits::OP_BYTES_MAX {
                    let message = format!(
                        "{} bytes in one operation, at most {} may",
                        bytes.len(),
                        limits::OP_BYTES_MAX
                    );
                    return Err(Failure::new(ErrorCode::TooLarge, message)
                        .help("stage the bytes and publish them"));
                }
                Ok(())
            }
            Self::Update { offset, dtype, kind, operand, expected, .. } => {
                check_range(*offset, dtype.size() as u64)?;
                check_aligned(*offset, dtype.size())?;
                update::check(*dtype, *kind, operand, expected)
            }
            Self::Fill { offset, len, pattern, .. } => {
                check_range(*offset, *len)?;
                if !matches!(pattern.len(), 1 | 2 | 4 | 8) {
                    let message = format!("a pattern of {} bytes is no element's", pattern.len());
                    return Err(Failure::new(ErrorCode::InvalidArgument, message));
                }
                check_aligned(*offset, pattern.len())?;
                check_aligned(*len, pattern.len())
            }
        }
    }
}

fn check_range(offset: u64, len: u64) -> Result<(), Failure> {
    let end = offset.checked_add(len).filter(|end| *end <= limits::SHARD_BYTES_MAX);
    if len == 0 || end.is_none() {
        let message =
            format!("bytes {offset}+{len} of a shard of at most {} bytes", limits::SHARD_BYTES_MAX);
        return Err(Failure::new(ErrorCode::InvalidArgument, message));
    }
    Ok(())
}

fn check_aligned(bytes: u64, element: usize) -> Result<(), Failure> {
    if bytes.is_multiple_of(element as u64) {
        return Ok(());
    }
    let message = format!("{bytes} is no multiple of an element's {element} bytes");
    Err(Failure::new(ErrorCode::InvalidArgument, message))
}

/// Frames that hold bytes which nobody sees yet; named by the driver of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StagingId(pub u64);

/// Consecutive pages of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSpan {
    /// The first page.
    pub first: PageIndex,
    /// How many.
    pub count: u32,
}

impl PageSpan {
    /// The pages that the bytes `offset .. offset + len` touch; `None` for no bytes or more than a shard has.
    pub fn of_bytes(offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len).filter(|end| *end <= limits::SHARD_BYTES_MAX)?;
        let first = u32::try_from(offset / PAGE_BYTES as u64).ok()?;
        let past = u32::try_from(end.div_ceil(PAGE_BYTES as u64)).ok()?;
        (len > 0).then_some(Self { first: PageIndex(first), count: past - first })
    }
}
