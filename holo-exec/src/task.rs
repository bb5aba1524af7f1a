//! What every kind of program is run with.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use holo_core::{DType, Scalar, TileSink, TileSource, limits};

use crate::ExecError;

/// One shard of every operand of a run.
///
/// Sources and sinks cover exactly this shard: byte offsets start at 0 and element `i` of each operand is at
/// `i * dtype.size()`.
#[expect(missing_debug_implementations, reason = "sources and sinks are other crates' memory")]
pub struct ShardTask<'a, 's> {
    /// Flat C-order index in the whole array of the shard's first element.
    pub first_index: u64,
    /// Elements of the shard.
    pub elems: u64,
    /// One source per input, in binding order.
    pub inputs: &'a [&'a dyn TileSource],
    /// One sink per output, in binding order.
    pub outputs: &'a mut [&'s mut dyn TileSink],
}

/// What a shard of an expression came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOutput {
    /// The reduced value of this shard, of the reduction's accumulator dtype; `None` when elements are stored.
    pub accumulator: Option<Scalar>,
    /// Units to bill.
    pub fuel: u64,
}

/// When a run has to stop.
#[derive(Clone, Debug, Default)]
pub struct RunControl {
    /// The request's deadline on the process's monotonic clock; the run's own time limit counts as well.
    pub deadline: Option<Instant>,
    /// Set by anybody to stop the run: within 10 ms for modules, between two tiles for expressions.
    pub cancel: Arc<AtomicBool>,
}

impl RunControl {
    /// Whether somebody asked for the run to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// [`limits::TILE_BYTES`] as a guest counts.
pub(crate) const TILE_BYTES: u32 = 128 << 10;
const _: () = assert!(TILE_BYTES as usize == limits::TILE_BYTES);

/// Elements of one tile: as many as [`limits::TILE_BYTES`] hold of the widest dtype.
pub(crate) fn tile_elems(dtypes: impl IntoIterator<Item = DType>) -> usize {
    let widest = dtypes.into_iter().map(DType::size).max().unwrap_or(8);
    limits::TILE_BYTES / widest
}

/// Refuses shards that no array has.
pub(crate) fn check_elems(elems: u64) -> Result<(), ExecError> {
    if elems > limits::SHARD_ELEMS_MAX {
        let why = format!(
            "a shard of {elems} elements, at most {} are possible",
            limits::SHARD_ELEMS_MAX
        );
        return Err(ExecError::TaskInvalid { why });
    }
    Ok(())
}
