//! NumPy 2's dtype promotion.

use crate::DType;

/// The dtype that both operands of a binary operation are cast to, as `numpy.promote_types`.
///
/// Bool gives way to everything, a smaller integer to a larger one, a signed and an unsigned integer meet in the next
/// larger signed one and beyond 64 bits in `float64`. A float keeps its dtype beside integers that it can hold:
/// `float32` beside 8 and 16 bits; else `float64`.
pub fn promote(a: DType, b: DType) -> DType {
    if a == b || b == DType::Bool {
        return a;
    }
    if a == DType::Bool {
        return b;
    }
    match (a.is_float(), b.is_float()) {
        (true, true) => DType::F64,
        (true, false) => float_beside(a, b),
        (false, true) => float_beside(b, a),
        (false, false) => integers(a, b),
    }
}

fn float_beside(float: DType, integer: DType) -> DType {
    if integer.size() <= 2 { float } else { DType::F64 }
}

fn integers(a: DType, b: DType) -> DType {
    if a.is_signed_int() == b.is_signed_int() {
        return if a.size() >= b.size() { a } else { b };
    }
    let (signed, unsigned) = if a.is_signed_int() { (a, b) } else { (b, a) };
    if signed.size() > unsigned.size() {
        return signed;
    }
    match unsigned {
        DType::U8 => DType::I16,
        DType::U16 => DType::I32,
        DType::U32 => DType::I64,
        _ => DType::F64,
    }
}

#[cfg(test)]
mod tests;
