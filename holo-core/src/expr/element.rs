//! What each element type does under each primitive operation: the exact meaning that every engine must match.
//!
//! Where the IR does not define an operation for a dtype, the value stays as it is; [`crate::expr::Program::new`] lets
//! no such program exist.
#![expect(
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    trivial_numeric_casts,
    reason = "one macro for all integer widths; each cast keeps the bits that its comment names"
)]

/// One element type.
pub(super) trait Element: Copy + PartialOrd {
    /// Bytes of one element.
    const BYTES: usize;

    /// Reads exactly [`Self::BYTES`] bytes.
    fn read_le(bytes: &[u8]) -> Self;
    /// Its bits in the low bytes.
    fn to_bits64(self) -> u64;
    /// A NaN becomes the one quiet, positive NaN without payload.
    fn canonical(self) -> Self;
    /// Whether it casts to true; NaN does.
    fn is_nonzero(self) -> bool;

    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn not(self) -> Self;
    fn sqrt(self) -> Self;
    fn floor(self) -> Self;
    fn ceil(self) -> Self;
    fn trunc(self) -> Self;
    fn round(self) -> Self;
    fn exp(self) -> Self;
    fn log(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn tanh(self) -> Self;

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    fn floor_div(self, other: Self) -> Self;
    fn rem(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    fn pow(self, other: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn shl(self, other: Self) -> Self;
    fn shr(self, other: Self) -> Self;
}

/// Operations that a dtype does not have.
macro_rules! keeps {
    (unary $($method:ident),*) => { $(fn $method(self) -> Self { self })* };
    (binary $($method:ident),*) => { $(fn $method(self, _other: Self) -> Self { self })* };
}

macro_rules! integer {
    ($signed:literal, $($type:ident),*) => {$(
        impl Element for $type {
            const BYTES: usize = size_of::<Self>();

            fn read_le(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<Self>()];
                raw.copy_from_slice(bytes);
                Self::from_le_bytes(raw)
            }

            fn to_bits64(self) -> u64 {
                self as u64
            }

            fn canonical(self) -> Self {
                self
            }

            fn is_nonzero(self) -> bool {
                self != 0
            }

            fn neg(self) -> Self {
                self.wrapping_neg()
            }

            fn abs(self) -> Self {
                #[allow(unused_comparisons, reason = "the macro is for unsigned types too")]
                if $signed && self < 0 { self.wrapping_neg() } else { self }
            }

            fn not(self) -> Self {
                !self
            }

            keeps!(unary sqrt, floor, ceil, trunc, round, exp, log, sin, cos, tanh);

            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }

            keeps!(binary div, pow);

            fn floor_div(self, other: Self) -> Self {
                if other == 0 {
                    return 0;
                }
                let quotient = self.wrapping_div(other);
                // Rust's quotient is cut towards zero: one too many where the signs differ and something remains.
                let inexact = self.wrapping_rem(other) != 0;
                #[allow(unused_comparisons, reason = "the macro is for unsigned types too")]
                if inexact && (self < 0) != (other < 0) { quotient.wrapping_sub(1) } else { quotient }
            }

            fn rem(self, other: Self) -> Self {
                if other == 0 {
                    return 0;
                }
                let remainder = self.wrapping_rem(other);
                #[allow(unused_comparisons, reason = "the macro is for unsigned types too")]
                if remainder != 0 && (remainder < 0) != (other < 0) { remainder.wrapping_add(other) } else { remainder }
            }

            fn min(self, other: Self) -> Self {
                Ord::min(self, other)
            }

            fn max(self, other: Self) -> Self {
                Ord::max(self, other)
            }

            fn and(self, other: Self) -> Self {
                self & other
            }

            fn or(self, other: Self) -> Self {
                self | other
            }

            fn xor(self, other: Self) -> Self {
                self ^ other
            }

            fn shl(self, other: Self) -> Self {
                // A negative distance is a huge one once its sign bit counts as value.
                let distance = other as u64;
                if distance < u64::from(Self::BITS) { self << distance } else { 0 }
            }

            fn shr(self, other: Self) -> Self {
                let distance = other as u64;
                let last = u64::from(Self::BITS) - 1;
                if $signed || distance <= last { self >> Ord::min(distance, last) } else { 0 }
            }
        }
    )*};
}

integer!(true, i8, i16, i32, i64);
integer!(false, u8, u16, u32, u64);

macro_rules! float {
    ($type:ident, $canonical:literal) => {
        impl Element for $type {
            const BYTES: usize = size_of::<Self>();

            fn read_le(bytes: &[u8]) -> Self {
                let mut raw = [0; size_of::<Self>()];
                raw.copy_from_slice(bytes);
                Self::from_le_bytes(raw)
            }

            fn to_bits64(self) -> u64 {
                self.to_bits() as u64
            }

            fn canonical(self) -> Self {
                if self.is_nan() { Self::from_bits($canonical) } else { self }
            }

            fn is_nonzero(self) -> bool {
                self != 0.0
            }

            fn neg(self) -> Self {
                -self
            }

            fn abs(self) -> Self {
                self.abs()
            }

            fn sqrt(self) -> Self {
                self.sqrt()
            }

            fn floor(self) -> Self {
                self.floor()
            }

            fn ceil(self) -> Self {
                self.ceil()
            }

            fn trunc(self) -> Self {
                self.trunc()
            }

            fn round(self) -> Self {
                self.round_ties_even()
            }

            // These never run: the interpreter lowers a program first.
            keeps!(unary not, exp, log, sin, cos, tanh);
            keeps!(binary pow, and, or, xor, shl, shr);

            fn add(self, other: Self) -> Self {
                self + other
            }

            fn sub(self, other: Self) -> Self {
                self - other
            }

            fn mul(self, other: Self) -> Self {
                self * other
            }

            fn div(self, other: Self) -> Self {
                self / other
            }

            fn floor_div(self, other: Self) -> Self {
                if other == 0.0 {
                    return self / other;
                }
                let cut = self % other;
                // Exact but for rounding: `cut` is what is left over.
                let mut quotient = (self - cut) / other;
                if cut != 0.0 && (cut < 0.0) != (other < 0.0) {
                    quotient -= 1.0;
                }
                if quotient == 0.0 {
                    return (0.0 as Self).copysign(self / other);
                }
                let floor = quotient.floor();
                if quotient - floor > 0.5 { floor + 1.0 } else { floor }
            }

            fn rem(self, other: Self) -> Self {
                let cut = self % other;
                if other == 0.0 {
                    cut
                } else if cut == 0.0 {
                    (0.0 as Self).copysign(other)
                } else if (cut < 0.0) != (other < 0.0) {
                    cut + other
                } else {
                    cut
                }
            }

            fn min(self, other: Self) -> Self {
                if self.is_nan() || other.is_nan() {
                    Self::NAN
                } else if self < other || (self == other && self.is_sign_negative()) {
                    self
                } else {
                    other
                }
            }

            fn max(self, other: Self) -> Self {
                if self.is_nan() || other.is_nan() {
                    Self::NAN
                } else if self > other || (self == other && self.is_sign_positive()) {
                    self
                } else {
                    other
                }
            }
        }
    };
}

float!(f32, 0x7fc0_0000);
float!(f64, 0x7ff8_0000_0000_0000);

impl Element for bool {
    const BYTES: usize = 1;

    fn read_le(bytes: &[u8]) -> Self {
        bytes.iter().any(|byte| *byte != 0)
    }

    fn to_bits64(self) -> u64 {
        u64::from(self)
    }

    fn canonical(self) -> Self {
        self
    }

    fn is_nonzero(self) -> bool {
        self
    }

    fn not(self) -> Self {
        !self
    }

    keeps!(unary neg, abs, sqrt, floor, ceil, trunc, round, exp, log, sin, cos, tanh);
    keeps!(binary add, sub, mul, div, floor_div, rem, pow, shl, shr);

    fn min(self, other: Self) -> Self {
        self & other
    }

    fn max(self, other: Self) -> Self {
        self | other
    }

    fn and(self, other: Self) -> Self {
        self & other
    }

    fn or(self, other: Self) -> Self {
        self | other
    }

    fn xor(self, other: Self) -> Self {
        self ^ other
    }
}
