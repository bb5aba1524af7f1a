//! What atomic updates do to one element: pure, and the same on every replica.

use crate::{DType, ErrorCode, Failure};

/// How an atomic update changes an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum UpdateKind {
    /// Adds; integers wrap.
    FetchAdd = 1,
    /// The smaller of the two. A NaN loses against a number, as in IEEE 754's `minimumNumber`.
    FetchMin = 2,
    /// The larger of the two. A NaN loses against a number, as in IEEE 754's `maximumNumber`.
    FetchMax = 3,
    /// Bitwise and; integers and bool only.
    FetchAnd = 4,
    /// Bitwise or; integers and bool only.
    FetchOr = 5,
    /// The operand itself.
    Swap = 6,
    /// The operand, when the element's bits are those expected.
    CompareExchange = 7,
}

impl UpdateKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::FetchAdd,
        Self::FetchMin,
        Self::FetchMax,
        Self::FetchAnd,
        Self::FetchOr,
        Self::Swap,
        Self::CompareExchange,
    ];

    /// The wire byte.
    pub fn to_byte(self) -> u8 {
        self as u8
    }

    /// The kind of a wire byte.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] for an unknown byte.
    pub fn from_byte(byte: u32) -> Result<Self, Failure> {
        let known = Self::ALL.iter().find(|kind| u32::from(kind.to_byte()) == byte);
        known
            .copied()
            .ok_or_else(|| Failure::new(ErrorCode::Malformed, format!("{byte} is no update")))
    }

    fn is_bitwise(self) -> bool {
        matches!(self, Self::FetchAnd | Self::FetchOr)
    }

    fn is_arithmetic(self) -> bool {
        matches!(self, Self::FetchAdd | Self::FetchMin | Self::FetchMax)
    }
}

/// Checks that the dtype has the update and that the values fit the dtype.
pub(super) fn check(
    dtype: DType,
    kind: UpdateKind,
    operand: &[u8; 8],
    expected: &[u8; 8],
) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
    if (dtype.is_float() && kind.is_bitwise()) || (dtype == DType::Bool && kind.is_arithmetic()) {
        return refuse(format!("{dtype} has no {kind:?}"));
    }
    let is_long = |value: &[u8; 8]| value.iter().skip(dtype.size()).any(|byte| *byte != 0);
    let is_no_bool = |value: &[u8; 8]| dtype == DType::Bool && value[0] > 1;
    if [operand, expected].into_iter().any(|value| is_long(value) || is_no_bool(value)) {
        return refuse(format!("a value of an update is no {dtype}"));
    }
    if kind != UpdateKind::CompareExchange && *expected != [0; 8] {
        return refuse(format!("{kind:?} expects nothing"));
    }
    Ok(())
}

/// Changes the element in `current` and gives back its bytes before, little-endian, as many as the dtype has.
///
/// Integers wrap. Float results are canonical: every NaN becomes the one quiet NaN with no payload, whatever the
/// machine. [`UpdateKind::Swap`] and [`UpdateKind::CompareExchange`] compare and store bits and change none of them,
/// except that a NaN is stored canonical.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`] when `current` has not the dtype's bytes or the dtype has no such update; nothing
/// has changed then.
pub fn apply_update(
    dtype: DType,
    kind: UpdateKind,
    current: &mut [u8],
    operand: [u8; 8],
    expected: [u8; 8],
) -> Result<bytes::Bytes, Failure> {
    check(dtype, kind, &operand, &expected)?;
    if current.len() != dtype.size() {
        let message = format!("{dtype} has {} bytes, got {}", dtype.size(), current.len());
        return Err(Failure::new(ErrorCode::InvalidArgument, message));
    }
    let before = bytes::Bytes::copy_from_slice(current);
    let mut wide = [0u8; 8];
    wide[..current.len()].copy_from_slice(current);
    let (old, operand) = (u64::from_le_bytes(wide), u64::from_le_bytes(operand));
    let new = match kind {
        UpdateKind::CompareExchange if old != u64::from_le_bytes(expected) => return Ok(before),
        UpdateKind::CompareExchange | UpdateKind::Swap => operand,
        UpdateKind::FetchAnd => old & operand,
        UpdateKind::FetchOr => old | operand,
        UpdateKind::FetchAdd => add(dtype, old, operand),
        UpdateKind::FetchMin => pick(dtype, old, operand, false),
        UpdateKind::FetchMax => pick(dtype, old, operand, true),
    };
    let new = canonical(dtype, new).to_le_bytes();
    current.copy_from_slice(&new[..current.len()]);
    Ok(before)
}

fn f32_of(bits: u64) -> f32 {
    f32::from_bits(u32::try_from(bits).unwrap_or(0))
}

fn canonical(dtype: DType, bits: u64) -> u64 {
    match dtype {
        DType::F32 if f32_of(bits).is_nan() => 0x7fc0_0000,
        DType::F64 if f64::from_bits(bits).is_nan() => 0x7ff8_0000_0000_0000,
        _ => bits,
    }
}

/// The sum's bits; those above the dtype's size are cut off by the caller.
fn add(dtype: DType, old: u64, operand: u64) -> u64 {
    match dtype {
        DType::F32 => u64::from((f32_of(old) + f32_of(operand)).to_bits()),
        DType::F64 => (f64::from_bits(old) + f64::from_bits(operand)).to_bits(),
        _ => old.wrapping_add(operand),
    }
}

/// The smaller or larger of two; `old` when they are equal. -0.0 is smaller than +0.0.
fn pick(dtype: DType, old: u64, operand: u64, larger: bool) -> u64 {
    let by_float = |old: f64, operand: f64| match (old.is_nan(), operand.is_nan()) {
        (true, _) => std::cmp::Ordering::Less,
        (_, true) => std::cmp::Ordering::Greater,
        _ if larger => operand.total_cmp(&old).reverse(),
        _ => operand.total_cmp(&old),
    };
    let by_sign = |bits: u64| {
        let shift = 64 - 8 * dtype.size();
        (bits << shift).cast_signed()
    };
    // `Less` means that the operand wins.
    let order = match dtype {
        DType::F32 => by_float(f64::from(f32_of(old)), f64::from(f32_of(operand))),
        DType::F64 => by_float(f64::from_bits(old), f64::from_bits(operand)),
        _ if dtype.is_signed_int() && larger => by_sign(old).cmp(&by_sign(operand)),
        _ if dtype.is_signed_int() => by_sign(operand).cmp(&by_sign(old)),
        _ if larger => old.cmp(&operand),
        _ => operand.cmp(&old),
    };
    if order.is_lt() { operand } else { old }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dtype: DType, kind: UpdateKind, old: u64, operand: u64, expected: u64) -> (u64, u64) {
        let mut current = old.to_le_bytes()[..dtype.size()].to_vec();
        let before =
            apply_update(dtype, kind, &mut current, operand.to_le_bytes(), expected.to_le_bytes())
                .unwrap();
        let wide = |bytes: &[u8]| {
            let mut wide = [0u8; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(wide)
        };
        (wide(&before), wide(&current))
    }

    #[test]
    fn integers_of_every_width_wrap_and_compare_with_their_sign() {
        assert_eq!(run(DType::U8, UpdateKind::FetchAdd, 250, 10, 0), (250, 4));
        assert_eq!(run(DType::I64, UpdateKind::FetchAdd, u64::MAX, 3, 0), (u64::MAX, 2));
        assert_eq!(run(DType::I16, UpdateKind::FetchMin, 5, 0xffff, 0), (5, 0xffff));
        assert_eq!(run(DType::I16, UpdateKind::FetchMax, 5, 0xffff, 0), (5, 5));
        assert_eq!(run(DType::U16, UpdateKind::FetchMax, 5, 0xffff, 0), (5, 0xffff));
        assert_eq!(run(DType::U64, UpdateKind::FetchMin, 5, 7, 0), (5, 5));
        assert_eq!(run(DType::U32, UpdateKind::FetchAnd, 0b1100, 0b1010, 0), (12, 8));
        assert_eq!(run(DType::U32, UpdateKind::FetchOr, 0b1100, 0b1010, 0), (12, 14));
        assert_eq!(run(DType::Bool, UpdateKind::FetchOr, 0, 1, 0), (0, 1));
    }

    #[test]
    fn exchanges_compare_bits() {
        assert_eq!(run(DType::I32, UpdateKind::Swap, 1, 2, 0), (1, 2));
        assert_eq!(run(DType::I32, UpdateKind::CompareExchange, 1, 2, 1), (1, 2));
        assert_eq!(run(DType::I32, UpdateKind::CompareExchange, 1, 2, 3), (1, 1));
        let minus_zero = (-0.0f64).to_bits();
        assert_eq!(run(DType::F64, UpdateKind::CompareExchange, minus_zero, 1, 0).1, minus_zero);
    }

    #[test]
    fn floats_add_and_every_nan_is_the_same_one() {
        let bits = |value: f64| value.to_bits();
        assert_eq!(run(DType::F64, UpdateKind::FetchAdd, bits(1.5), bits(2.0), 0).1, bits(3.5));
        let odd = 0xfff8_0000_0000_1234;
        let one = 0x7ff8_0000_0000_0000;
        assert_eq!(run(DType::F64, UpdateKind::Swap, 0, odd, 0).1, one);
        let infinite = bits(f64::INFINITY);
        let sum = run(DType::F64, UpdateKind::FetchAdd, infinite, bits(f64::NEG_INFINITY), 0).1;
        assert_eq!(sum, one);
        for kind in [UpdateKind::FetchMin, UpdateKind::FetchMax] {
            assert_eq!(run(DType::F64, kind, odd, bits(1.0), 0).1, bits(1.0));
            assert_eq!(run(DType::F64, kind, bits(1.0), odd, 0).1, bits(1.0));
        }
        let f32_bits = |value: f32| u64::from(value.to_bits());
        let (low, high) = (f32_bits(-2.0), f32_bits(1.0));
        assert_eq!(run(DType::F32, UpdateKind::FetchMin, high, low, 0).1, low);
        assert_eq!(run(DType::F32, UpdateKind::FetchMax, low, high, 0).1, high);
        let (minus, plus) = (bits(-0.0), bits(0.0));
        assert_eq!(run(DType::F64, UpdateKind::FetchMax, minus, plus, 0).1, plus);
        assert_eq!(run(DType::F64, UpdateKind::FetchMin, plus, minus, 0).1, minus);
    }

    #[test]
    fn what_a_dtype_does_not_have_is_refused_and_changes_nothing() {
        let mut current = [1u8; 8];
        for (dtype, kind, operand, expected) in [
            (DType::F64, UpdateKind::FetchAnd, 0u64, 0u64),
            (DType::Bool, UpdateKind::FetchAdd, 0, 0),
            (DType::Bool, UpdateKind::Swap, 2, 0),
            (DType::U8, UpdateKind::FetchAdd, 256, 0),
            (DType::I64, UpdateKind::Swap, 0, 1),
            (DType::I32, UpdateKind::Swap, 0, 0),
        ] {
            let refused = apply_update(
                dtype,
                kind,
                &mut current,
                operand.to_le_bytes(),
                expected.to_le_bytes(),
            );
            assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidArgument, "{dtype} {kind:?}");
        }
        assert_eq!(current, [1; 8]);
        assert!(UpdateKind::from_byte(0).is_err());
        for kind in UpdateKind::ALL {
            assert_eq!(UpdateKind::from_byte(u32::from(kind.to_byte())).unwrap(), *kind);
        }
    }
}
