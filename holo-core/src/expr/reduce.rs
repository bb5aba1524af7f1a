//! How many values become one: the contract that every engine matches bit for bit.
//!
//! **Accumulator.** Every element is cast to [`Reduction::accumulator_dtype`]; sums and products of `float32` are thus
//! accumulated in `float64`.
//!
//! **Inside a shard** there are [`REDUCE_LANES`] = 16 lanes, each starting from the [`identity`]. Lane k takes, in
//! ascending order, the elements whose index *within the shard* is k mod 16: `lane = lane op element`. At the end the
//! lanes are combined in a tree: lane k with lane k+8 for k in 0..8, then k with k+4, k with k+2, k with k+1, the lower
//! lane on the left. Lane 0 is the shard's accumulator.
//!
//! **Across shards** the accumulators, in ascending order of their shard index, are combined level by level: first with
//! second, third with fourth and so on, an odd last one passing up as it is, until one is left ([`combine`]).
//!
//! **At the end** the accumulator is cast to [`Reduction::output_dtype`] ([`finish`]).
//!
//! `op` is [`BinaryOp::Add`], `Mul`, `Min` or `Max` as the interpreter defines it: integers wrap, NaN wins, -0 is smaller
//! than +0. A NaN that leaves [`reduce_shard`], [`combine`] or [`finish`] is the canonical one.

use crate::expr::column::Column;
use crate::expr::interpret::Interpreter;
use crate::expr::{BinaryOp, Program, Reduction};
use crate::{DType, ErrorCode, Failure, Scalar, ShardIndex};

/// Partial values that a shard's reduction keeps side by side.
pub const REDUCE_LANES: usize = 16;

/// The value that changes nothing: 0, 1, the largest or the smallest value of the accumulator of `element`.
pub fn identity(reduction: Reduction, element: DType) -> Scalar {
    let dtype = reduction.accumulator_dtype(element);
    let bits = match (reduction, dtype) {
        (Reduction::Sum, _) => 0,
        (Reduction::Prod, DType::F32) => u64::from(1f32.to_bits()),
        (Reduction::Prod, DType::F64) => 1f64.to_bits(),
        (Reduction::Prod, _) => 1,
        (Reduction::Min, DType::F32) => u64::from(f32::INFINITY.to_bits()),
        (Reduction::Min, DType::F64) => f64::INFINITY.to_bits(),
        (Reduction::Min, dtype) if dtype.is_signed_int() => u64::MAX >> (65 - 8 * dtype.size()),
        (Reduction::Min, _) => u64::MAX,
        (Reduction::Max, DType::F32) => u64::from(f32::NEG_INFINITY.to_bits()),
        (Reduction::Max, DType::F64) => f64::NEG_INFINITY.to_bits(),
        (Reduction::Max, dtype) if dtype.is_signed_int() => 1 << (8 * dtype.size() - 1),
        (Reduction::Max, _) => 0,
    };
    Scalar::from_bits(dtype, bits)
}

/// The accumulator of one shard: `inputs` holds the `elems` elements of the shard of each input, the first of which
/// has the flat index `first_index`. Of no elements it is the identity.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`] when the program has no reduction or `inputs` does not fit it.
pub fn reduce_shard(
    program: &Program,
    inputs: &[&[u8]],
    first_index: u64,
    elems: usize,
) -> Result<Scalar, Failure> {
    let reduction = program.reduction().ok_or_else(|| {
        Failure::new(ErrorCode::InvalidArgument, "the expression has no reduction")
    })?;
    let mut machine = Interpreter::new(program, inputs, first_index, elems)?;
    let element = machine.dtype();
    let op = operation(reduction);
    let mut lanes = Column::splat(identity(reduction, element), REDUCE_LANES);
    let accumulator = lanes.dtype();
    // Every block but the last has a multiple of 16 elements, so a block's lanes are the shard's lanes.
    while let Some(block) = machine.next_block()? {
        let folded = match element == accumulator {
            true => block.fold_into(op, &mut lanes),
            false => block.cast(accumulator).fold_into(op, &mut lanes),
        };
        folded.ok_or_else(mixed)?;
    }
    let mut width = REDUCE_LANES;
    while width > 1 {
        width /= 2;
        let (low, high) = lanes.split(width);
        lanes = low.binary(op, &high).ok_or_else(mixed)?;
    }
    Ok(lanes.scalar(0))
}

/// Combines the accumulators of shards, given in any order. Of none it is the identity for sums and products, and
/// nothing for the smallest and largest.
///
/// # Errors
///
/// [`ErrorCode::DtypeMismatch`] when an accumulator is of another dtype than `element` needs,
/// [`ErrorCode::InvalidArgument`] when a shard comes twice.
pub fn combine(
    reduction: Reduction,
    element: DType,
    partials: &[(ShardIndex, Scalar)],
) -> Result<Option<Scalar>, Failure> {
    let accumulator = reduction.accumulator_dtype(element);
    let mut sorted = partials.to_vec();
    sorted.sort_unstable_by_key(|(shard, _)| *shard);
    for pair in sorted.windows(2) {
        if pair[0].0 == pair[1].0 {
            let message = format!("shard {} is there twice", pair[0].0);
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        }
    }
    if let Some((shard, other)) = sorted.iter().find(|(_, value)| value.dtype() != accumulator) {
        let message = format!("shard {shard} gave {}, not {accumulator}", other.dtype());
        return Err(Failure::new(ErrorCode::DtypeMismatch, message));
    }
    let mut level: Vec<Scalar> = sorted.into_iter().map(|(_, value)| value).collect();
    while level.len() > 1 {
        let pairs = level.chunks(2).map(|pair| match pair {
            [a, b] => combine_two(reduction, *a, *b),
            rest => rest.first().copied().ok_or_else(mixed),
        });
        level = pairs.collect::<Result<_, _>>()?;
    }
    let empty = match reduction {
        Reduction::Sum | Reduction::Prod => Some(identity(reduction, element)),
        Reduction::Min | Reduction::Max => None,
    };
    Ok(level.first().map(|value| Column::splat(*value, 1).scalar(0)).or(empty))
}

/// The result from the last accumulator: cast to the output's dtype, NaN canonical.
pub fn finish(reduction: Reduction, element: DType, accumulator: Scalar) -> Scalar {
    Column::splat(accumulator, 1).cast(reduction.output_dtype(element)).scalar(0)
}

fn combine_two(reduction: Reduction, a: Scalar, b: Scalar) -> Result<Scalar, Failure> {
    let (a, b) = (Column::splat(a, 1), Column::splat(b, 1));
    Ok(a.binary(operation(reduction), &b).ok_or_else(mixed)?.scalar(0))
}

fn operation(reduction: Reduction) -> BinaryOp {
    match reduction {
        Reduction::Sum => BinaryOp::Add,
        Reduction::Prod => BinaryOp::Mul,
        Reduction::Min => BinaryOp::Min,
        Reduction::Max => BinaryOp::Max,
    }
}

fn mixed() -> Failure {
    Failure::new(ErrorCode::Internal, "accumulators of two dtypes")
}

#[cfg(test)]
mod tests;
