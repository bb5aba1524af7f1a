//! The host's half of a reduction: partial values of workgroups become one.

use holo_core::expr::Reduction;
use holo_core::{DType, Scalar};

/// Folds the partial values of one launch into an accumulator, in the order of the elements.
///
/// `bytes` holds whole partial values of `words` words each; the accumulator has the dtype of
/// [`Reduction::accumulator_dtype`].
pub(crate) fn fold_partials(
    reduction: Reduction,
    element: DType,
    words: usize,
    accumulator: Option<Scalar>,
    bytes: &[u8],
) -> Option<Scalar> {
    let accumulator_dtype = reduction.accumulator_dtype(element);
    let partials = bytes.chunks_exact(4 * words.max(1)).map(|partial| {
        let mut wide = [0u8; 8];
        wide[..partial.len()].copy_from_slice(partial);
        let bits = u64::from_le_bytes(wide);
        match reduction {
            Reduction::Sum | Reduction::Prod if element == DType::F32 => {
                Scalar::f64(Scalar::from_bits(DType::F32, bits).to_f64())
            }
            _ => Scalar::from_bits(accumulator_dtype, bits),
        }
    });
    accumulator.into_iter().chain(partials).reduce(|a, b| combine(reduction, a, b))
}

fn combine(reduction: Reduction, a: Scalar, b: Scalar) -> Scalar {
    let dtype = a.dtype();
    let is_nan = |value: Scalar| dtype.is_float() && value.to_f64().is_nan();
    match reduction {
        Reduction::Sum if dtype == DType::F64 => Scalar::f64(a.to_f64() + b.to_f64()),
        Reduction::Prod if dtype == DType::F64 => Scalar::f64(a.to_f64() * b.to_f64()),
        Reduction::Sum => Scalar::from_bits(dtype, a.bits().wrapping_add(b.bits())),
        Reduction::Prod => Scalar::from_bits(dtype, a.bits().wrapping_mul(b.bits())),
        Reduction::Min | Reduction::Max if is_nan(a) => a,
        Reduction::Min | Reduction::Max if is_nan(b) => b,
        Reduction::Min => {
            if less(b, a) {
                b
            } else {
                a
            }
        }
        Reduction::Max => {
            if less(a, b) {
                b
            } else {
                a
            }
        }
    }
}

fn less(a: Scalar, b: Scalar) -> bool {
    if a.dtype().is_float() { a.to_f64() < b.to_f64() } else { a.to_i128() < b.to_i128() }
}
