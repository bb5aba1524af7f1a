//! Values under construction: nodes with a dtype, and literals that have none yet.

use super::lexer::Span;
use super::{Parser, Problem};
use crate::expr::interpret::fold;
use crate::expr::{NodeIndex, Op};
use crate::{DType, Scalar, limits};

/// A value and where it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand {
    pub(super) value: Value,
    pub(super) span: Span,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// A number that takes its dtype from what it meets.
    Weak(Literal),
    Typed(NodeIndex, DType),
}

/// Python's int and float.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Literal {
    Integer(i128),
    Float(f64),
}

impl Literal {
    #[expect(clippy::cast_precision_loss, reason = "Python's int rounds to nearest as a float")]
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// The literal as an element of `dtype`; `None` where an integer does not fit or a float would have to be cut.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a literal beside float32 is rounded to it"
    )]
    pub(super) fn to_scalar(self, dtype: DType) -> Option<Scalar> {
        match (dtype, self) {
            (DType::F64, literal) => Some(Scalar::f64(literal.to_f64())),
            (DType::F32, literal) => Some(Scalar::f32(literal.to_f64() as f32)),
            (DType::Bool, _) | (_, Self::Float(_)) => None,
            (dtype, Self::Integer(value)) => {
                let (low, high) = integer_range(dtype);
                let fits = (low..=high).contains(&value);
                let bits = u64::try_from(value & i128::from(u64::MAX)).ok()?;
                fits.then(|| Scalar::from_bits(dtype, bits))
            }
        }
    }
}

/// Smallest and largest value of an integer dtype.
pub(super) fn integer_range(dtype: DType) -> (i128, i128) {
    let bits = 8 * dtype.size();
    if dtype.is_signed_int() {
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        (0, (1 << bits) - 1)
    }
}

impl Parser<'_> {
    /// Appends an operation, or its value when its operands are constants.
    pub(super) fn emit(&mut self, op: Op, dtype: DType, span: Span) -> Result<Operand, Problem> {
        let mut constants = Vec::with_capacity(3);
        for node in op.operands().into_iter().flatten() {
            if let Some(Op::Const(value)) = self.builder.op(node) {
                constants.push(value);
            }
        }
        let operands = op.operands().into_iter().flatten().count();
        if operands > 0 && constants.len() == operands {
            let places = op.operands();
            let place = |node: NodeIndex| {
                let at = places.iter().position(|operand| *operand == Some(node)).unwrap_or(0);
                NodeIndex(u32::try_from(at).unwrap_or(0))
            };
            if let Some(value) = fold(&op.with_operands(place), &constants) {
                let value = self.constant(value);
                return Ok(Operand { value, span });
            }
        }
        let node = self.builder.push(op);
        if self.builder.len() > 4 * limits::EXPR_NODES_MAX {
            let problem = Problem::new(span, "the expression has too many operations");
            return Err(Problem { code: crate::ErrorCode::TooLarge, ..problem });
        }
        Ok(Operand { value: Value::Typed(node, dtype), span })
    }

    pub(super) fn constant(&mut self, value: Scalar) -> Value {
        Value::Typed(self.builder.push(Op::Const(value)), value.dtype())
    }

    pub(super) fn index(&mut self) -> Value {
        Value::Typed(self.builder.push(Op::Index), DType::I64)
    }

    /// A literal by itself is `int64` (`uint64` where only that holds it) or `float64`.
    pub(super) fn settle(&mut self, operand: Operand) -> Result<Operand, Problem> {
        let Value::Weak(literal) = operand.value else { return Ok(operand) };
        let dtype = match literal {
            Literal::Float(_) => DType::F64,
            Literal::Integer(_) if literal.to_scalar(DType::I64).is_some() => DType::I64,
            Literal::Integer(_) => DType::U64,
        };
        self.convert(operand, dtype)
    }

    /// Node and dtype of a settled operand.
    pub(super) fn typed(&self, operand: Operand) -> Result<(NodeIndex, DType), Problem> {
        match operand.value {
            Value::Typed(node, dtype) => Ok((node, dtype)),
            Value::Weak(_) => Err(Problem::new(operand.span, "this number has no dtype")),
        }
    }

    /// The operand as a `dtype`: a literal must fit, a node is cast.
    pub(super) fn convert(&mut self, operand: Operand, dtype: DType) -> Result<Operand, Problem> {
        match operand.value {
            Value::Typed(_, from) if from == dtype => Ok(operand),
            Value::Typed(node, _) => self.emit(Op::Cast(dtype, node), dtype, operand.span),
            Value::Weak(literal) => match literal.to_scalar(dtype) {
                Some(value) => Ok(Operand { value: self.constant(value), ..operand }),
                None => Err(Problem::new(operand.span, format!("this number is no {dtype}"))
                    .help("cast the array beside it to a wider dtype first, as in int64(x)")),
            },
        }
    }
}
