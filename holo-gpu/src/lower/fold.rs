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
                canonical(Scalar::from_bits(DType::F32, bits).to_f64())
            }
            _ => Scalar::from_bits(accumulator_dtype, bits),
        }
    });
    accumulator.into_iter().chain(partials).reduce(|a, b| combine(reduction, a, b))
}

fn combine(reduction: Reduction, a: Scalar, b: Scalar) -> Scalar {
    let dtype = a.dtype();
    if dtype.is_float() {
        return combine_floats(reduction, a, b);
    }
    let (low, high) = if a.to_i128() <= b.to_i128() { (a, b) } else { (b, a) };
    match reduction {
        Reduction::Sum => Scalar::from_bits(dtype, a.bits().wrapping_add(b.bits())),
        Reduction::Prod => Scalar::from_bits(dtype, a.bits().wrapping_mul(b.bits())),
        Reduction::Min => low,
        Reduction::Max => high,
    }
}

/// Sums of `float32` are `float64` here, their minimum and maximum are not. NaN is the one quiet NaN.
fn combine_floats(reduction: Reduction, a: Scalar, b: Scalar) -> Scalar {
    let (x, y) = (a.to_f64(), b.to_f64());
    // -0 is smaller than +0.
    let ordered = (x, x.is_sign_positive()) <= (y, y.is_sign_positive());
    match reduction {
        _ if x.is_nan() || y.is_nan() => quiet_nan(a.dtype()),
        Reduction::Sum => canonical(x + y),
        Reduction::Prod => canonical(x * y),
        Reduction::Min => {
            if ordered {
                a
            } else {
                b
            }
        }
        Reduction::Max => {
            if ordered {
                b
            } else {
                a
            }
        }
    }
}

fn canonical(value: f64) -> Scalar {
    if value.is_nan() { quiet_nan(DType::F64) } else { Scalar::f64(value) }
}

fn quiet_nan(dtype: DType) -> Scalar {
    let bits = if dtype == DType::F32 { 0x7fc0_0000 } else { 0x7ff8_0000_0000_0000 };
    Scalar::from_bits(dtype, bits)
}
