//! Rust types that can be elements of an array.

use holo_core::{DType, Scalar};

/// A Rust type whose memory is an element of an array: the integers, the floats and [`Bool`].
///
/// Elements are little-endian on the wire and in memory; this crate builds for little-endian machines only.
pub trait Element: bytemuck::Pod + Send + Sync + PartialEq {
    /// The dtype of the arrays that hold it.
    const DTYPE: DType;

    /// Type of a sum or product of such elements: 64 bits wide for integers.
    type Total: Element;
}

/// Type of a sum or product of elements of `T`.
pub type Total<T> = <T as Element>::Total;

#[cfg(target_endian = "big")]
compile_error!("elements are little-endian in memory: big-endian machines are not supported");

macro_rules! elements {
    ($($rust:ty = $dtype:ident, $total:ty;)*) => {
        $(impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
            type Total = $total;
        })*
    };
}

elements! {
    Bool = Bool, i64;
    i8 = I8, i64;
    i16 = I16, i64;
    i32 = I32, i64;
    i64 = I64, i64;
    u8 = U8, u64;
    u16 = U16, u64;
    u32 = U32, u64;
    u64 = U64, u64;
    f32 = F32, f32;
    f64 = F64, f64;
}

/// An element of a `bool` array: one byte, 0 or 1. (Rust's own `bool` cannot be read from bytes of others.)
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
#[repr(transparent)]
pub struct Bool(u8);

impl From<bool> for Bool {
    fn from(value: bool) -> Self {
        Self(u8::from(value))
    }
}

impl From<Bool> for bool {
    fn from(value: Bool) -> Self {
        value.0 != 0
    }
}

/// The value as a [`Scalar`], for expressions.
pub(crate) fn scalar_of<T: Element>(value: T) -> Scalar {
    let mut wide = [0u8; 8];
    let bytes = bytemuck::bytes_of(&value);
    wide[..bytes.len()].copy_from_slice(bytes);
    Scalar::from_bits(T::DTYPE, u64::from_le_bytes(wide))
}

/// The value as an element; `None` when it is of another dtype.
pub(crate) fn from_scalar<T: Element>(value: Scalar) -> Option<T> {
    (value.dtype() == T::DTYPE)
        .then(|| bytemuck::pod_read_unaligned(&value.le_bytes()[..size_of::<T>()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_the_size_of_their_dtype_and_keep_their_value() {
        fn check<T: Element>(value: T, expected: f64) {
            assert_eq!(size_of::<T>(), T::DTYPE.size());
            assert!((scalar_of(value).to_f64() - expected).abs() < f64::EPSILON);
            assert!(from_scalar::<T>(scalar_of(value)) == Some(value));
        }
        check(Bool::from(true), 1.0);
        check(-1i8, -1.0);
        check(-2i16, -2.0);
        check(-3i32, -3.0);
        check(-4i64, -4.0);
        check(5u8, 5.0);
        check(6u16, 6.0);
        check(7u32, 7.0);
        check(8u64, 8.0);
        check(0.5f32, 0.5);
        check(0.25f64, 0.25);
        assert!(bool::from(Bool::from(true)));
    }
}
