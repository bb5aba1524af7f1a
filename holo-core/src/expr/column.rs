//! Typed columns of values, and every primitive operation on them.
//!
//! One `match` per block of elements, then plain loops that the compiler turns into vector code.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    trivial_numeric_casts,
    reason = "casts between dtypes are NumPy's astype: this is the module that defines them"
)]

use crate::expr::element::Element;
use crate::expr::{BinaryOp, CompareOp, UnaryOp};
use crate::{DType, Scalar};

/// Values of one dtype.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Column {
    Bool(Vec<bool>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U8(Vec<u8>),
    U16(Vec<u16>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// Runs `$body` with `$values` bound to the vector inside `$column`; bool may have an arm of its own.
macro_rules! each {
    ($column:expr, $values:ident => $body:expr) => {
        each!($column, $values => $body, bool => $body)
    };
    ($column:expr, $values:ident => $body:expr, bool => $bool:expr) => {
        match $column {
            Column::Bool($values) => $bool,
            Column::I8($values) => $body,
            Column::I16($values) => $body,
            Column::I32($values) => $body,
            Column::I64($values) => $body,
            Column::U8($values) => $body,
            Column::U16($values) => $body,
            Column::U32($values) => $body,
            Column::U64($values) => $body,
            Column::F32($values) => $body,
            Column::F64($values) => $body,
        }
    };
}

/// Runs `$body` with two columns of one dtype; `None` when the dtypes differ.
macro_rules! each_pair {
    ($a:expr, $b:expr, $x:ident, $y:ident => $body:expr) => {
        match ($a, $b) {
            (Column::Bool($x), Column::Bool($y)) => Some(Column::from($body)),
            (Column::I8($x), Column::I8($y)) => Some(Column::from($body)),
            (Column::I16($x), Column::I16($y)) => Some(Column::from($body)),
            (Column::I32($x), Column::I32($y)) => Some(Column::from($body)),
            (Column::I64($x), Column::I64($y)) => Some(Column::from($body)),
            (Column::U8($x), Column::U8($y)) => Some(Column::from($body)),
            (Column::U16($x), Column::U16($y)) => Some(Column::from($body)),
            (Column::U32($x), Column::U32($y)) => Some(Column::from($body)),
            (Column::U64($x), Column::U64($y)) => Some(Column::from($body)),
            (Column::F32($x), Column::F32($y)) => Some(Column::from($body)),
            (Column::F64($x), Column::F64($y)) => Some(Column::from($body)),
            _ => None,
        }
    };
}

impl Column {
    /// `count` copies of a value.
    pub(super) fn splat(value: Scalar, count: usize) -> Self {
        let bits = value.bits();
        match value.dtype() {
            DType::Bool => Self::Bool(vec![bits != 0; count]),
            DType::I8 => Self::I8(vec![bits as i8; count]),
            DType::I16 => Self::I16(vec![bits as i16; count]),
            DType::I32 => Self::I32(vec![bits as i32; count]),
            DType::I64 => Self::I64(vec![bits as i64; count]),
            DType::U8 => Self::U8(vec![bits as u8; count]),
            DType::U16 => Self::U16(vec![bits as u16; count]),
            DType::U32 => Self::U32(vec![bits as u32; count]),
            DType::U64 => Self::U64(vec![bits; count]),
            DType::F32 => Self::F32(vec![f32::from_bits(bits as u32); count]),
            DType::F64 => Self::F64(vec![f64::from_bits(bits); count]),
        }
    }

    /// Elements from their little-endian bytes.
    pub(super) fn from_le_bytes(dtype: DType, bytes: &[u8]) -> Self {
        match dtype {
            DType::Bool => Self::Bool(decode(bytes)),
            DType::I8 => Self::I8(decode(bytes)),
            DType::I16 => Self::I16(decode(bytes)),
            DType::I32 => Self::I32(decode(bytes)),
            DType::I64 => Self::I64(decode(bytes)),
            DType::U8 => Self::U8(decode(bytes)),
            DType::U16 => Self::U16(decode(bytes)),
            DType::U32 => Self::U32(decode(bytes)),
            DType::U64 => Self::U64(decode(bytes)),
            DType::F32 => Self::F32(decode(bytes)),
            DType::F64 => Self::F64(decode(bytes)),
        }
    }

    /// Appends the values as they are stored: little-endian, NaN canonical.
    pub(super) fn store(&self, out: &mut Vec<u8>) {
        let size = self.dtype().size();
        each!(self, values => {
            out.reserve(values.len() * size);
            for value in values {
                out.extend_from_slice(&value.canonical().to_bits64().to_le_bytes()[..size]);
            }
        });
    }

    /// One value, NaN canonical; a missing one reads as zero.
    pub(super) fn scalar(&self, index: usize) -> Scalar {
        let bits =
            each!(self, values => values.get(index).map_or(0, |v| v.canonical().to_bits64()));
        Scalar::from_bits(self.dtype(), bits)
    }

    pub(super) fn dtype(&self) -> DType {
        match self {
            Self::Bool(_) => DType::Bool,
            Self::I8(_) => DType::I8,
            Self::I16(_) => DType::I16,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::U8(_) => DType::U8,
            Self::U16(_) => DType::U16,
            Self::U32(_) => DType::U32,
            Self::U64(_) => DType::U64,
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
        }
    }

    /// The values as another dtype.
    pub(super) fn cast(&self, to: DType) -> Self {
        macro_rules! convert {
            ($values:ident, $($name:ident $target:ty),*) => {
                match to {
                    DType::Bool => Self::Bool($values.iter().map(|v| v.is_nonzero()).collect()),
                    $(DType::$name => Self::$name($values.iter().map(|v| *v as $target).collect()),)*
                }
            };
        }
        macro_rules! convert_bool {
            ($values:ident, $($name:ident $target:ty),*) => {
                match to {
                    DType::Bool => Self::Bool($values.clone()),
                    $(DType::$name => Self::$name($values.iter().map(|v| u8::from(*v) as $target).collect()),)*
                }
            };
        }
        each!(self,
            values => convert!(values, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, F32 f32, F64 f64),
            bool => convert_bool!(values, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, F32 f32, F64 f64))
    }

    /// The bits as another dtype of the same size.
    pub(super) fn reinterpret(&self, to: DType) -> Self {
        let size = to.size();
        let mut bytes = Vec::new();
        each!(self, values => {
            bytes.reserve(values.len() * size);
            for value in values {
                bytes.extend_from_slice(&value.to_bits64().to_le_bytes()[..size]);
            }
        });
        Self::from_le_bytes(to, &bytes)
    }

    pub(super) fn unary(&self, op: UnaryOp) -> Self {
        each!(self, values => Self::from(unary(op, values)))
    }

    /// `None` when the dtypes differ.
    pub(super) fn binary(&self, op: BinaryOp, other: &Self) -> Option<Self> {
        each_pair!(self, other, a, b => binary(op, a, b))
    }

    /// `None` when the dtypes differ.
    pub(super) fn compare(&self, op: CompareOp, other: &Self) -> Option<Self> {
        each_pair!(self, other, a, b => compare(op, a, b))
    }

    /// Takes from `yes` where `self` is true, else from `no`; `None` when the dtypes do not fit.
    pub(super) fn select(&self, yes: &Self, no: &Self) -> Option<Self> {
        let Self::Bool(condition) = self else { return None };
        each_pair!(yes, no, a, b => choose(condition, a, b))
    }

    /// Folds the values into lanes: value `k` into lane `k mod lanes`. `None` when the dtypes differ.
    pub(super) fn fold_into(&self, op: BinaryOp, lanes: &mut Self) -> Option<()> {
        macro_rules! fold {
            ($($name:ident),*) => {
                match (lanes, self) {
                    $((Self::$name(lanes), Self::$name(values)) => fold_lanes(op, lanes, values),)*
                    _ => return None,
                }
            };
        }
        fold!(Bool, I8, I16, I32, I64, U8, U16, U32, U64, F32, F64);
        Some(())
    }

    /// The values before and from `at`.
    pub(super) fn split(&self, at: usize) -> (Self, Self) {
        macro_rules! split {
            ($($name:ident),*) => {
                match self {
                    $(Self::$name(values) => {
                        let (low, high) = values.split_at(at.min(values.len()));
                        (Self::$name(low.to_vec()), Self::$name(high.to_vec()))
                    })*
                }
            };
        }
        split!(Bool, I8, I16, I32, I64, U8, U16, U32, U64, F32, F64)
    }
}

macro_rules! from_vec {
    ($($name:ident $element:ty),*) => {
        $(impl From<Vec<$element>> for Column {
            fn from(values: Vec<$element>) -> Self {
                Self::$name(values)
            }
        })*
    };
}
from_vec!(Bool bool, I8 i8, I16 i16, I32 i32, I64 i64, U8 u8, U16 u16, U32 u32, U64 u64, F32 f32, F64 f64);

fn decode<T: Element>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(T::BYTES).map(T::read_le).collect()
}

fn unary<T: Element>(op: UnaryOp, values: &[T]) -> Vec<T> {
    macro_rules! map {
        ($($name:ident $method:ident),*) => {
            match op {
                $(UnaryOp::$name => values.iter().map(|v| v.$method()).collect(),)*
            }
        };
    }
    map!(Neg neg, Abs abs, Not not, Sqrt sqrt, Floor floor, Ceil ceil, Trunc trunc, Round round,
        Exp exp, Log log, Sin sin, Cos cos, Tanh tanh)
}

fn binary<T: Element>(op: BinaryOp, a: &[T], b: &[T]) -> Vec<T> {
    macro_rules! map {
        ($($name:ident $method:ident),*) => {
            match op {
                $(BinaryOp::$name => a.iter().zip(b).map(|(a, b)| a.$method(*b)).collect(),)*
            }
        };
    }
    map!(Add add, Sub sub, Mul mul, Div div, FloorDiv floor_div, Rem rem, Min min, Max max, Pow pow,
        And and, Or or, Xor xor, Shl shl, Shr shr)
}

fn compare<T: Element>(op: CompareOp, a: &[T], b: &[T]) -> Vec<bool> {
    let pairs = a.iter().zip(b);
    match op {
        CompareOp::Eq => pairs.map(|(a, b)| a == b).collect(),
        CompareOp::Ne => pairs.map(|(a, b)| a != b).collect(),
        CompareOp::Lt => pairs.map(|(a, b)| a < b).collect(),
        CompareOp::Le => pairs.map(|(a, b)| a <= b).collect(),
        CompareOp::Gt => pairs.map(|(a, b)| a > b).collect(),
        CompareOp::Ge => pairs.map(|(a, b)| a >= b).collect(),
    }
}

fn choose<T: Element>(condition: &[bool], yes: &[T], no: &[T]) -> Vec<T> {
    let branches = yes.iter().zip(no);
    condition.iter().zip(branches).map(|(c, (yes, no))| if *c { *yes } else { *no }).collect()
}

fn fold_lanes<T: Element>(op: BinaryOp, lanes: &mut [T], values: &[T]) {
    macro_rules! fold {
        ($($name:ident $method:ident),*) => {
            match op {
                $(BinaryOp::$name => for row in values.chunks(lanes.len().max(1)) {
                    for (lane, value) in lanes.iter_mut().zip(row) {
                        *lane = lane.$method(*value);
                    }
                },)*
                // The four above are all that a reduction uses.
                _ => {}
            }
        };
    }
    fold!(Add add, Mul mul, Min min, Max max);
}
