//! Where an element lives: array -> shards -> pages. Every element has exactly one place.

use std::ops::Range;

use crate::{DType, ErrorCode, Failure, PageIndex, Shape, ShardIndex, limits};

/// Bytes of a page: the unit of memory, checksum and repair.
pub const PAGE_BYTES: usize = 65_536;

const PAGE: u64 = PAGE_BYTES as u64;

/// Shape, dtype and shard length of an array: everything that placing its elements needs.
///
/// # Invariants
///
/// Elements, bytes, shards and pages all fit their limits, so no arithmetic below can overflow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ArrayLayout {
    shape: Shape,
    dtype: DType,
    shard_elems: u64,
}

impl ArrayLayout {
    /// Elements of a shard unless somebody asks for another count: 4 MiB of `float64`.
    pub const SHARD_ELEMS_DEFAULT: u64 = 1 << 19;

    /// Checks that the array and its shards are within [`limits`].
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ShapeOverflow`] when the array has too many bytes or shards, [`ErrorCode::InvalidArgument`] for a
    /// shard length outside 1..=2^22.
    pub fn new(shape: Shape, dtype: DType, shard_elems: u64) -> Result<Self, Failure> {
        if shard_elems == 0 || shard_elems > limits::SHARD_ELEMS_MAX {
            let message = format!(
                "{shard_elems} elements a shard; 1 to {} are possible",
                limits::SHARD_ELEMS_MAX
            );
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        }
        let bytes = shape
            .elems()
            .checked_mul(dtype.size() as u64)
            .filter(|bytes| *bytes <= limits::ARRAY_BYTES_MAX);
        if bytes.is_none() {
            let message = format!("shape {shape} of {dtype} has more than 2^50 bytes");
            return Err(Failure::new(ErrorCode::ShapeOverflow, message));
        }
        if shape.elems().div_ceil(shard_elems) > limits::SHARDS_MAX {
            let message =
                format!("shape {shape} has more than 2^31 shards of {shard_elems} elements");
            return Err(Failure::new(ErrorCode::ShapeOverflow, message).help("use longer shards"));
        }
        Ok(Self { shape, dtype, shard_elems })
    }

    /// Extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Elements of every shard but the last.
    pub fn shard_elems(&self) -> u64 {
        self.shard_elems
    }

    /// Elements of the array.
    pub fn elems(&self) -> u64 {
        self.shape.elems()
    }

    /// Bytes of the array's elements.
    pub fn bytes(&self) -> u64 {
        self.elems() * self.dtype.size() as u64
    }

    /// Shards of the array.
    pub fn shards(&self) -> u64 {
        self.elems().div_ceil(self.shard_elems)
    }

    /// Elements of `shard`; 0 past the last one.
    pub fn elems_in_shard(&self, shard: ShardIndex) -> u64 {
        let start = shard.0.saturating_mul(self.shard_elems);
        self.elems().saturating_sub(start).min(self.shard_elems)
    }

    /// Bytes of the elements in `shard`; 0 past the last one.
    pub fn bytes_in_shard(&self, shard: ShardIndex) -> u64 {
        self.elems_in_shard(shard) * self.dtype.size() as u64
    }

    /// Pages of `shard`, the last one perhaps in part.
    pub fn pages_in_shard(&self, shard: ShardIndex) -> u32 {
        u32::try_from(self.bytes_in_shard(shard).div_ceil(PAGE)).unwrap_or(u32::MAX)
    }

    /// Flat index of the first element of `shard`.
    pub fn first_elem(&self, shard: ShardIndex) -> u64 {
        shard.0.saturating_mul(self.shard_elems)
    }

    /// The place of the element with the flat C-order index `elem`; `None` past the end.
    pub fn locate(&self, elem: u64) -> Option<Place> {
        if elem >= self.elems() {
            return None;
        }
        let shard = ShardIndex(elem / self.shard_elems);
        let byte = (elem % self.shard_elems) * self.dtype.size() as u64;
        let page = PageIndex(u32::try_from(byte / PAGE).ok()?);
        Some(Place { shard, byte, page })
    }

    /// Cuts a range of flat elements at shard borders, in order.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfRange`] when the range leaves the array or runs backwards.
    pub fn shard_runs(
        &self,
        elems: Range<u64>,
    ) -> Result<impl Iterator<Item = ShardRun> + use<>, Failure> {
        if elems.start > elems.end || elems.end > self.elems() {
            let message =
                format!("elements {}..{} of an array of {}", elems.start, elems.end, self.elems());
            return Err(Failure::new(ErrorCode::OutOfRange, message)
                .help(format!("ask for 0..{} at most", self.elems())));
        }
        let (shard_elems, size) = (self.shard_elems, self.dtype.size() as u64);
        let mut next = elems.start;
        Ok(std::iter::from_fn(move || {
            if next >= elems.end {
                return None;
            }
            let within = next % shard_elems;
            let count = (shard_elems - within).min(elems.end - next);
            let run = ShardRun {
                shard: ShardIndex(next / shard_elems),
                byte: within * size,
                bytes: count * size,
                first_elem: next,
                elems: count,
            };
            next += count;
            Some(run)
        }))
    }
}

/// Where one element lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its shard.
    pub shard: ShardIndex,
    /// Its first byte within the shard.
    pub byte: u64,
    /// The page of the shard that holds it.
    pub page: PageIndex,
}

/// A contiguous run of elements inside one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRun {
    /// The shard.
    pub shard: ShardIndex,
    /// First byte within the shard.
    pub byte: u64,
    /// Bytes of the run.
    pub bytes: u64,
    /// Flat index in the array of the first element.
    pub first_elem: u64,
    /// Elements of the run.
    pub elems: u64,
}

#[cfg(test)]
mod tests;
