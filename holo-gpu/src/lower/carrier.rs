//! The WGSL type that carries a dtype's values.

use holo_core::{DType, Scalar};

use crate::GpuError;

/// The WGSL type of a value. Integers smaller than a word are kept sign- or zero-extended in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// `bool`.
    Bool,
    /// `i32`.
    Signed,
    /// `u32`.
    Unsigned,
    /// `vec2<u32>`, low word first: `int64` and `uint64`.
    Pair,
    /// `f32`.
    Float,
}

impl Carrier {
    /// The carrier of a dtype.
    pub(crate) fn of(dtype: DType) -> Result<Self, GpuError> {
        Ok(match dtype {
            DType::Bool => Self::Bool,
            DType::I8 | DType::I16 | DType::I32 => Self::Signed,
            DType::U8 | DType::U16 | DType::U32 => Self::Unsigned,
            DType::I64 | DType::U64 => Self::Pair,
            DType::F32 => Self::Float,
            DType::F64 => {
                return Err(GpuError::Unsupported {
                    what: "the expression computes in float64, which WGSL has not".into(),
                    help: "use `--device cpu`, or cast with `float32(..)`; `/` on integers gives float64, \
                           `//` does not"
                        .into(),
                });
            }
        })
    }

    /// Name of the type.
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Signed => "i32",
            Self::Unsigned => "u32",
            Self::Pair => "vec2<u32>",
            Self::Float => "f32",
        }
    }

    /// Words that a value takes where it stands alone: as a constant or as a partial result.
    pub(crate) fn words(self) -> usize {
        if self == Self::Pair { 2 } else { 1 }
    }

    /// The value in one word, or in two.
    pub(crate) fn of_words(self, low: &str, high: &str) -> String {
        match self {
            Self::Bool => format!("({low} != 0u)"),
            Self::Signed => format!("bitcast<i32>({low})"),
            Self::Unsigned => low.to_owned(),
            Self::Pair => format!("vec2<u32>({low}, {high})"),
            Self::Float => format!("bitcast<f32>({low})"),
        }
    }

    /// The word of a value of one word.
    pub(crate) fn to_word(self, value: &str) -> String {
        match self {
            Self::Bool => format!("select(0u, 1u, {value})"),
            Self::Signed | Self::Float => format!("bitcast<u32>({value})"),
            Self::Unsigned | Self::Pair => value.to_owned(),
        }
    }
}

/// The two words of a scalar, extended as its carrier wants it.
#[expect(clippy::cast_possible_truncation, reason = "each word is one half of the 64 bits")]
pub(super) fn words_of(value: Scalar) -> [u32; 2] {
    let wide = if value.dtype().is_signed_int() {
        let unused = 64 - 8 * u32::try_from(value.dtype().size()).unwrap_or(8);
        ((value.bits() << unused).cast_signed() >> unused).cast_unsigned()
    } else {
        value.bits()
    };
    [wide as u32, (wide >> 32) as u32]
}
