//! Element types and single values of them.

use std::fmt;

use crate::{ErrorCode, Failure};

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $byte:literal, $text:literal, $bytes:literal, $npy:literal;)*) => {
        /// Type of an array's elements. Little-endian, naturally sized.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DType {
            $($(#[$doc])* $name = $byte,)*
        }

        impl DType {
            /// Every dtype, bool first, then signed, unsigned, float by size.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The dtype of a wire byte.
            ///
            /// # Errors
            ///
            /// [`ErrorCode::Malformed`] for an unknown byte.
            pub fn from_byte(byte: u32) -> Result<Self, Failure> {
                match byte {
                    $($byte => Ok(Self::$name),)*
                    _ => Err(Failure::new(ErrorCode::Malformed, format!("{byte} is no dtype"))),
                }
            }

            /// NumPy's name: `int64`, `float32`, `bool`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Bytes of one element.
            pub fn size(self) -> usize {
                match self { $(Self::$name => $bytes,)* }
            }

            /// The `descr` of a little-endian `.npy` file: `<i8`, `|b1`.
            pub fn npy_descr(self) -> &'static str {
                match self { $(Self::$name => $npy,)* }
            }
        }
    };
}

dtypes! {
    /// One byte, 0 or 1.
    Bool = 1, "bool", 1, "|b1";
    /// Signed 8 bits.
    I8 = 2, "int8", 1, "|i1";
    /// Signed 16 bits.
    I16 = 3, "int16", 2, "<i2";
    /// Signed 32 bits.
    I32 = 4, "int32", 4, "<i4";
    /// Signed 64 bits.
    I64 = 5, "int64", 8, "<i8";
    /// Unsigned 8 bits.
    U8 = 6, "uint8", 1, "|u1";
    /// Unsigned 16 bits.
    U16 = 7, "uint16", 2, "<u2";
    /// Unsigned 32 bits.
    U32 = 8, "uint32", 4, "<u4";
    /// Unsigned 64 bits.
    U64 = 9, "uint64", 8, "<u8";
    /// IEEE 754 binary32.
    F32 = 10, "float32", 4, "<f4";
    /// IEEE 754 binary64.
    F64 = 11, "float64", 8, "<f8";
}

impl DType {
    /// The wire byte.
    pub fn to_byte(self) -> u8 {
        self as u8
    }

    /// Reads NumPy's name or a short one (`i64`, `f32`, `u8`).
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`], listing what there is.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let short = |dtype: Self| {
            let name = dtype.name();
            name.replace("uint", "u").replace("int", "i").replace("float", "f")
        };
        Self::ALL
            .iter()
            .copied()
            .find(|dtype| dtype.name() == text || short(*dtype) == text)
            .ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|dtype| dtype.name()).collect();
                Failure::new(ErrorCode::InvalidArgument, format!("{text:?} is no dtype"))
                    .help(format!("use one of {}", known.join(", ")))
            })
    }

    /// Whether it is `float32` or `float64`.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is a signed integer.
    pub fn is_signed_int(self) -> bool {
        matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64)
    }

    /// Whether it is an unsigned integer.
    pub fn is_unsigned_int(self) -> bool {
        matches!(self, Self::U8 | Self::U16 | Self::U32 | Self::U64)
    }

    /// Whether it is an integer; bool is not.
    pub fn is_int(self) -> bool {
        self.is_signed_int() || self.is_unsigned_int()
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One element: a dtype and its bits in the low bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scalar {
    dtype: DType,
    bits: u64,
}

impl Scalar {
    /// A value from its little-endian bits; bits above the dtype's size are cut off, a bool becomes 0 or 1.
    pub fn from_bits(dtype: DType, bits: u64) -> Self {
        let bits = match (dtype, dtype.size()) {
            (DType::Bool, _) => u64::from(bits & 0xff != 0),
            (_, 8) => bits,
            (_, size) => bits & ((1 << (8 * size)) - 1),
        };
        Self { dtype, bits }
    }

    /// An `int64`.
    pub fn i64(value: i64) -> Self {
        Self { dtype: DType::I64, bits: value.cast_unsigned() }
    }

    /// A `float64`.
    pub fn f64(value: f64) -> Self {
        Self { dtype: DType::F64, bits: value.to_bits() }
    }

    /// A `float32`.
    pub fn f32(value: f32) -> Self {
        Self { dtype: DType::F32, bits: u64::from(value.to_bits()) }
    }

    /// A `bool`.
    pub fn bool(value: bool) -> Self {
        Self { dtype: DType::Bool, bits: u64::from(value) }
    }

    /// Reads one element from exactly its bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when the length is not the dtype's.
    pub fn from_le_bytes(dtype: DType, bytes: &[u8]) -> Result<Self, Failure> {
        if bytes.len() != dtype.size() {
            let message = format!("{dtype} has {} bytes, got {}", dtype.size(), bytes.len());
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        let mut wide = [0u8; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(Self::from_bits(dtype, u64::from_le_bytes(wide)))
    }

    /// Its type.
    pub fn dtype(self) -> DType {
        self.dtype
    }

    /// Its bits, zero above the dtype's size.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// Its little-endian bytes: the first `dtype().size()` of the eight.
    pub fn le_bytes(self) -> [u8; 8] {
        self.bits.to_le_bytes()
    }

    /// The value sign- or zero-extended; floats are truncated like NumPy's cast, NaN and out-of-range values saturate.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each arm keeps the bits of its dtype, floats saturate"
    )]
    pub fn to_i128(self) -> i128 {
        let bits = self.bits.cast_signed();
        match self.dtype {
            DType::I8 => i128::from(bits as i8),
            DType::I16 => i128::from(bits as i16),
            DType::I32 => i128::from(bits as i32),
            DType::I64 => i128::from(bits),
            DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64 => i128::from(self.bits),
            DType::F32 | DType::F64 => self.to_f64() as i128,
        }
    }

    /// The nearest `float64`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "rounds to nearest, as NumPy's cast"
    )]
    pub fn to_f64(self) -> f64 {
        match self.dtype {
            DType::F32 => f64::from(f32::from_bits(self.bits as u32)),
            DType::F64 => f64::from_bits(self.bits),
            _ => self.to_i128() as f64,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            DType::Bool => write!(f, "{}", self.bits != 0),
            DType::F32 => {
                let low = u32::try_from(self.bits).unwrap_or(u32::MAX);
                write!(f, "{:?}", f32::from_bits(low))
            }
            DType::F64 => write!(f, "{:?}", f64::from_bits(self.bits)),
            _ => write!(f, "{}", self.to_i128()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sizes_and_bytes_agree() {
        for dtype in DType::ALL {
            assert_eq!(DType::parse(dtype.name()).unwrap(), *dtype);
            assert_eq!(DType::from_byte(u32::from(dtype.to_byte())).unwrap(), *dtype);
            let digits: String = dtype.npy_descr().chars().filter(char::is_ascii_digit).collect();
            assert_eq!(digits.parse::<usize>().unwrap(), dtype.size());
        }
        assert_eq!(DType::parse("u16").unwrap(), DType::U16);
        assert_eq!(DType::parse("f32").unwrap(), DType::F32);
        assert_eq!(DType::parse("complex64").unwrap_err().code, ErrorCode::InvalidArgument);
        assert_eq!(DType::from_byte(0).unwrap_err().code, ErrorCode::Malformed);
    }

    #[test]
    fn scalars_keep_their_value() {
        assert_eq!(Scalar::from_bits(DType::I8, 0xff).to_i128(), -1);
        assert_eq!(Scalar::from_bits(DType::U8, 0x1ff).to_i128(), 255);
        assert_eq!(Scalar::from_bits(DType::Bool, 0x2).to_i128(), 1);
        assert_eq!(Scalar::i64(-5).to_string(), "-5");
        assert_eq!(Scalar::f64(0.5).to_string(), "0.5");
        assert_eq!(Scalar::from_le_bytes(DType::U16, &[1, 2]).unwrap().to_i128(), 513);
        assert_eq!(Scalar::from_le_bytes(DType::U16, &[1]).unwrap_err().code, ErrorCode::Malformed);
    }
}
