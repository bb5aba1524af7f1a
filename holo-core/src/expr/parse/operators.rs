//! What operators and functions do to dtypes, and which nodes they become.

use super::lexer::Span;
use super::operand::{Literal, Operand, Value, integer_range};
use super::{Operator, Parser, Problem};
use crate::expr::promote::promote;
use crate::expr::{BinaryOp, CompareOp, Op, UnaryOp};
use crate::{DType, Scalar};

impl Parser<'_> {
    pub(super) fn apply(
        &mut self,
        operator: Operator,
        left: Operand,
        right: Operand,
        at: Span,
    ) -> Result<Operand, Problem> {
        if let (Value::Weak(a), Value::Weak(b)) = (left.value, right.value) {
            return self.apply_to_literals(operator, (a, b), left.span.to(right.span), at);
        }
        match operator {
            Operator::Arithmetic(op) => self.arithmetic(op, left, right, at),
            Operator::Compare(op) => self.comparison(op, left, right),
        }
    }

    fn arithmetic(
        &mut self,
        op: BinaryOp,
        left: Operand,
        right: Operand,
        at: Span,
    ) -> Result<Operand, Problem> {
        let common = self.common_dtype(left, right);
        let (op, dtype) = match (op, common) {
            // NumPy: bool + bool is or, bool * bool is and; the rest of arithmetic on bools is int8.
            (BinaryOp::Add, DType::Bool) => (BinaryOp::Or, common),
            (BinaryOp::Mul, DType::Bool) => (BinaryOp::And, common),
            (BinaryOp::Sub, DType::Bool) => {
                return Err(Problem::new(at, "bools have no difference").help("use ^ or a cast"));
            }
            (BinaryOp::FloorDiv | BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr, DType::Bool) => {
                (op, DType::I8)
            }
            (BinaryOp::Div, _) if !common.is_float() => (op, DType::F64),
            (
                BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr,
                DType::F32 | DType::F64,
            ) => {
                return Err(Problem::new(at, format!("{common} has no bitwise operations"))
                    .help("put parentheses around comparisons, or cast to an integer"));
            }
            _ => (op, common),
        };
        self.emit_binary(op, left, right, dtype)
    }

    pub(super) fn emit_binary(
        &mut self,
        op: BinaryOp,
        left: Operand,
        right: Operand,
        dtype: DType,
    ) -> Result<Operand, Problem> {
        let span = left.span.to(right.span);
        let left = self.convert(left, dtype)?;
        let right = self.convert(right, dtype)?;
        let (a, b) = (self.typed(left)?.0, self.typed(right)?.0);
        self.emit(Op::Binary(op, a, b), dtype, span)
    }

    fn emit_compare(
        &mut self,
        op: CompareOp,
        left: Operand,
        right: Operand,
        dtype: DType,
    ) -> Result<Operand, Problem> {
        let span = left.span.to(right.span);
        let left = self.convert(left, dtype)?;
        let right = self.convert(right, dtype)?;
        let (a, b) = (self.typed(left)?.0, self.typed(right)?.0);
        self.emit(Op::Compare(op, a, b), DType::Bool, span)
    }

    fn comparison(
        &mut self,
        op: CompareOp,
        left: Operand,
        right: Operand,
    ) -> Result<Operand, Problem> {
        // Integers compare by value, as in NumPy 2, also where no common dtype holds both.
        match (left.value, right.value) {
            (Value::Typed(_, DType::U64), Value::Typed(_, dtype)) if dtype.is_signed_int() => {
                return self.comparison(mirrored(op), right, left);
            }
            (Value::Typed(_, dtype), Value::Typed(_, DType::U64)) if dtype.is_signed_int() => {
                return self.signed_with_unsigned(op, left, right);
            }
            (Value::Weak(_), Value::Typed(..)) => {
                return self.comparison(mirrored(op), right, left);
            }
            (Value::Typed(_, dtype), Value::Weak(Literal::Integer(value))) if dtype.is_int() => {
                let (low, high) = integer_range(dtype);
                if value < low || value > high {
                    let always = match op {
                        CompareOp::Eq => false,
                        CompareOp::Ne => true,
                        CompareOp::Lt | CompareOp::Le => value > high,
                        CompareOp::Gt | CompareOp::Ge => value < low,
                    };
                    let value = self.constant(Scalar::bool(always));
                    return Ok(Operand { value, span: left.span.to(right.span) });
                }
            }
            _ => {}
        }
        let dtype = self.common_dtype(left, right);
        self.emit_compare(op, left, right, dtype)
    }

    /// A negative value is smaller than every unsigned one; the others are compared as unsigned.
    fn signed_with_unsigned(
        &mut self,
        op: CompareOp,
        signed: Operand,
        unsigned: Operand,
    ) -> Result<Operand, Problem> {
        let zero = Operand { value: Value::Weak(Literal::Integer(0)), span: signed.span };
        let (_, dtype) = self.typed(signed)?;
        let negative = self.emit_compare(CompareOp::Lt, signed, zero, dtype)?;
        let smaller = matches!(op, CompareOp::Ne | CompareOp::Lt | CompareOp::Le);
        let when_negative =
            Operand { value: self.constant(Scalar::bool(smaller)), span: signed.span };
        let otherwise = self.emit_compare(op, signed, unsigned, DType::U64)?;
        self.select(negative, when_negative, otherwise)
    }

    fn select(
        &mut self,
        condition: Operand,
        yes: Operand,
        no: Operand,
    ) -> Result<Operand, Problem> {
        let condition = self.settle(condition)?;
        let condition = self.convert(condition, DType::Bool)?;
        let (yes, no) = match (yes.value, no.value) {
            (Value::Weak(_), Value::Weak(_)) => (self.settle(yes)?, self.settle(no)?),
            _ => (yes, no),
        };
        let dtype = self.common_dtype(yes, no);
        let span = condition.span.to(no.span);
        let (yes, no) = (self.convert(yes, dtype)?, self.convert(no, dtype)?);
        let (condition, yes, no) =
            (self.typed(condition)?.0, self.typed(yes)?.0, self.typed(no)?.0);
        self.emit(Op::Select { condition, yes, no }, dtype, span)
    }

    /// The dtype in which two operands meet; at least one of them has one.
    fn common_dtype(&self, left: Operand, right: Operand) -> DType {
        match (left.value, right.value) {
            (Value::Typed(_, a), Value::Typed(_, b)) => promote(a, b),
            (Value::Typed(_, dtype), Value::Weak(literal))
            | (Value::Weak(literal), Value::Typed(_, dtype)) => beside(dtype, literal),
            (Value::Weak(_), Value::Weak(_)) => DType::F64,
        }
    }

    pub(super) fn apply_unary(
        &mut self,
        op: UnaryOp,
        operand: Operand,
        at: Span,
    ) -> Result<Operand, Problem> {
        let span = at.to(operand.span);
        let (node, dtype) = match operand.value {
            Value::Weak(literal) => {
                let literal = match (op, literal) {
                    (UnaryOp::Neg, Literal::Integer(value)) => {
                        value.checked_neg().map(Literal::Integer)
                    }
                    (UnaryOp::Neg, Literal::Float(value)) => Some(Literal::Float(-value)),
                    (_, Literal::Integer(value)) => Some(Literal::Integer(!value)),
                    (_, Literal::Float(_)) => None,
                };
                let literal = literal.ok_or_else(|| {
                    Problem::new(
                        at,
                        "this number has neither a complement nor, within 128 bits, a negative",
                    )
                })?;
                return Ok(Operand { value: Value::Weak(literal), span });
            }
            Value::Typed(node, dtype) => (node, dtype),
        };
        if op == UnaryOp::Neg && dtype == DType::Bool {
            return Err(Problem::new(at, "a bool has no negative").help("use ~ for not"));
        }
        if op == UnaryOp::Not && dtype.is_float() {
            return Err(Problem::new(at, format!("{dtype} has no bitwise operations")));
        }
        self.emit(Op::Unary(op, node), dtype, span)
    }

    pub(super) fn apply_power(
        &mut self,
        base: Operand,
        exponent: Operand,
        at: Span,
    ) -> Result<Operand, Problem> {
        let span = base.span.to(exponent.span);
        if let (Value::Weak(a), Value::Weak(b)) = (base.value, exponent.value) {
            return Ok(Operand { value: Value::Weak(literal_power(a, b, at)?), span });
        }
        if let (Value::Typed(_, dtype), Value::Weak(literal)) = (base.value, exponent.value)
            && let Some(times) = multiplications(dtype, literal)
        {
            let dtype = if dtype == DType::Bool { DType::I8 } else { dtype };
            return self.repeated_product(base, dtype, times, span);
        }
        let dtype = self.common_dtype(base, exponent);
        if !dtype.is_float() {
            return Err(Problem::new(
                at,
                format!("a power of {dtype} needs a literal from 0 to 8"),
            )
            .help("cast one side to a float: float64(x) ** y"));
        }
        if let (Value::Typed(..), Value::Weak(literal)) = (base.value, exponent.value) {
            let base = self.convert(base, dtype)?;
            let node = self.typed(base)?.0;
            // As NumPy: a root is a root.
            if literal.to_f64().to_bits() == 0.5f64.to_bits() {
                return self.emit(Op::Unary(UnaryOp::Sqrt, node), dtype, span);
            }
            return self.emit_binary(BinaryOp::Pow, base, exponent, dtype);
        }
        self.emit_binary(BinaryOp::Pow, base, exponent, dtype)
    }

    /// `base` to the power of `times` by squaring.
    fn repeated_product(
        &mut self,
        base: Operand,
        dtype: DType,
        times: u32,
        span: Span,
    ) -> Result<Operand, Problem> {
        let base = self.convert(base, dtype)?;
        let one = Operand { value: Value::Weak(Literal::Integer(1)), span };
        let mut product: Option<Operand> = None;
        let mut square = base;
        let mut left = times;
        while left > 0 {
            if left & 1 == 1 {
                product = Some(match product {
                    Some(product) => self.emit_binary(BinaryOp::Mul, product, square, dtype)?,
                    None => square,
                });
            }
            left >>= 1;
            if left > 0 {
                square = self.emit_binary(BinaryOp::Mul, square, square, dtype)?;
            }
        }
        let product = match product {
            Some(product) => product,
            None => self.convert(one, dtype)?,
        };
        Ok(Operand { span, ..product })
    }

    pub(super) fn apply_function(
        &mut self,
        name: &str,
        arguments: &[Operand],
        span: Span,
    ) -> Result<Operand, Problem> {
        let wrong_count = |expected: &str| {
            let got = arguments.len();
            Err(Problem::new(span, format!("{name} takes {expected}, not {got}")))
        };
        match (name, arguments) {
            ("index", []) => Ok(Operand { value: self.index(), span }),
            ("index", _) => wrong_count("no argument"),
            ("where", [condition, yes, no]) => {
                let value = self.select(*condition, *yes, *no)?;
                Ok(Operand { span, ..value })
            }
            ("where", _) => wrong_count("three arguments"),
            ("minimum" | "min", [a, b]) => self.extremum(BinaryOp::Min, *a, *b, span),
            ("maximum" | "max", [a, b]) => self.extremum(BinaryOp::Max, *a, *b, span),
            ("minimum" | "maximum", _) => wrong_count("two arguments"),
            ("sum" | "prod" | "min" | "max", [_]) => {
                Err(Problem::new(span, "a reduction stands alone, around everything else")
                    .help("run the reduction by itself, and what follows on its result"))
            }
            ("sum" | "prod" | "min" | "max", _) => wrong_count("one argument"),
            (_, [x]) => self.unary_function(name, *x, span),
            _ => wrong_count("one argument"),
        }
    }

    fn extremum(
        &mut self,
        op: BinaryOp,
        a: Operand,
        b: Operand,
        span: Span,
    ) -> Result<Operand, Problem> {
        let (a, b) = match (a.value, b.value) {
            (Value::Weak(_), Value::Weak(_)) => (self.settle(a)?, self.settle(b)?),
            _ => (a, b),
        };
        let dtype = self.common_dtype(a, b);
        let value = self.emit_binary(op, a, b, dtype)?;
        Ok(Operand { span, ..value })
    }

    /// A function of one argument: a cast, or one of the unary operations.
    fn unary_function(&mut self, name: &str, x: Operand, span: Span) -> Result<Operand, Problem> {
        if let Ok(dtype) = DType::parse(name) {
            // A cast of a literal that does not fit wraps, as a cast of an array would.
            let x = match x.value {
                Value::Weak(literal) if literal.to_scalar(dtype).is_some() => x,
                _ => self.settle(x)?,
            };
            let value = self.convert(x, dtype)?;
            return Ok(Operand { span, ..value });
        }
        let x = self.settle(x)?;
        let (_, dtype) = self.typed(x)?;
        let op = match name {
            "sqrt" => UnaryOp::Sqrt,
            "exp" => UnaryOp::Exp,
            "log" => UnaryOp::Log,
            "sin" => UnaryOp::Sin,
            "cos" => UnaryOp::Cos,
            "tanh" => UnaryOp::Tanh,
            "abs" if dtype != DType::Bool => {
                let node = self.typed(x)?.0;
                return self.emit(Op::Unary(UnaryOp::Abs, node), dtype, span);
            }
            // What is whole stays as it is.
            "abs" | "floor" | "ceil" | "trunc" | "round" if !dtype.is_float() => {
                return Ok(Operand { span, ..x });
            }
            "floor" => UnaryOp::Floor,
            "ceil" => UnaryOp::Ceil,
            "trunc" => UnaryOp::Trunc,
            "round" => UnaryOp::Round,
            _ => return Err(super::unknown_function(name, span)),
        };
        let dtype = if dtype.is_float() { dtype } else { DType::F64 };
        let x = self.convert(x, dtype)?;
        let node = self.typed(x)?.0;
        self.emit(Op::Unary(op, node), dtype, span)
    }

    fn apply_to_literals(
        &mut self,
        operator: Operator,
        (a, b): (Literal, Literal),
        span: Span,
        at: Span,
    ) -> Result<Operand, Problem> {
        let value = match operator {
            Operator::Arithmetic(op) => Value::Weak(literal_arithmetic(op, a, b, at)?),
            Operator::Compare(op) => {
                let order = match (a, b) {
                    (Literal::Integer(a), Literal::Integer(b)) => Some(a.cmp(&b)),
                    (a, b) => a.to_f64().partial_cmp(&b.to_f64()),
                };
                let holds = match op {
                    CompareOp::Eq => order.is_some_and(std::cmp::Ordering::is_eq),
                    CompareOp::Ne => !order.is_some_and(std::cmp::Ordering::is_eq),
                    CompareOp::Lt => order.is_some_and(std::cmp::Ordering::is_lt),
                    CompareOp::Le => order.is_some_and(std::cmp::Ordering::is_le),
                    CompareOp::Gt => order.is_some_and(std::cmp::Ordering::is_gt),
                    CompareOp::Ge => order.is_some_and(std::cmp::Ordering::is_ge),
                };
                self.constant(Scalar::bool(holds))
            }
        };
        Ok(Operand { value, span })
    }
}

/// The dtype that an array of `dtype` and a literal meet in.
fn beside(dtype: DType, literal: Literal) -> DType {
    match (dtype, literal) {
        (DType::Bool, Literal::Integer(_)) => DType::I64,
        (dtype, Literal::Float(_)) if !dtype.is_float() => DType::F64,
        (dtype, _) => dtype,
    }
}

fn mirrored(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Lt => CompareOp::Gt,
        CompareOp::Le => CompareOp::Ge,
        CompareOp::Gt => CompareOp::Lt,
        CompareOp::Ge => CompareOp::Le,
        CompareOp::Eq | CompareOp::Ne => op,
    }
}

/// How many factors an exponent stands for, where multiplying is as good as a power.
fn multiplications(base: DType, exponent: Literal) -> Option<u32> {
    let most = if base.is_float() { 4 } else { 8 };
    let whole = match exponent {
        Literal::Integer(value) => value,
        Literal::Float(value) if base.is_float() => {
            [0, 1, 2, 3, 4].into_iter().find(|whole| *whole as f64 == value)?
        }
        Literal::Float(_) => return None,
    };
    u32::try_from(whole).ok().filter(|whole| *whole <= most)
}

/// Python's arithmetic on numbers.
fn literal_arithmetic(op: BinaryOp, a: Literal, b: Literal, at: Span) -> Result<Literal, Problem> {
    let (Literal::Integer(x), Literal::Integer(y)) = (a, b) else {
        let (x, y) = (Literal::Float(a.to_f64()), Literal::Float(b.to_f64()));
        let folded = match op {
            BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::Div
            | BinaryOp::FloorDiv
            | BinaryOp::Rem => fold_floats(op, x.to_f64(), y.to_f64()),
            _ => None,
        };
        return folded.ok_or_else(|| Problem::new(at, "floats have no bitwise operations"));
    };
    let whole = match op {
        BinaryOp::Add => x.checked_add(y),
        BinaryOp::Sub => x.checked_sub(y),
        BinaryOp::Mul => x.checked_mul(y),
        BinaryOp::Div if y != 0 => {
            return Ok(Literal::Float(a.to_f64() / b.to_f64()));
        }
        BinaryOp::FloorDiv if y != 0 => {
            let inexact = x % y != 0 && (x < 0) != (y < 0);
            x.checked_div(y).map(|quotient| quotient - i128::from(inexact))
        }
        BinaryOp::Rem if y != 0 => x
            .checked_rem(y)
            .map(|left| if left != 0 && (left < 0) != (y < 0) { left + y } else { left }),
        BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Rem => {
            return Err(Problem::new(at, "this divides by zero"));
        }
        BinaryOp::And => Some(x & y),
        BinaryOp::Or => Some(x | y),
        BinaryOp::Xor => Some(x ^ y),
        BinaryOp::Shl => u32::try_from(y)
            .ok()
            .and_then(|by| 1i128.checked_shl(by))
            .and_then(|factor| x.checked_mul(factor)),
        BinaryOp::Shr => u32::try_from(y).ok().map(|by| x >> by.min(127)),
        BinaryOp::Min | BinaryOp::Max | BinaryOp::Pow => None,
    };
    whole
        .map(Literal::Integer)
        .ok_or_else(|| Problem::new(at, "the result of these numbers cannot be held"))
}

fn fold_floats(op: BinaryOp, a: f64, b: f64) -> Option<Literal> {
    let op = Op::Binary(op, crate::expr::NodeIndex(0), crate::expr::NodeIndex(1));
    let value = crate::expr::interpret::fold(&op, &[Scalar::f64(a), Scalar::f64(b)])?;
    Some(Literal::Float(value.to_f64()))
}

fn literal_power(a: Literal, b: Literal, at: Span) -> Result<Literal, Problem> {
    if let (Literal::Integer(base), Literal::Integer(exponent)) = (a, b)
        && exponent >= 0
    {
        let power = u32::try_from(exponent).ok().and_then(|exponent| base.checked_pow(exponent));
        return power
            .map(Literal::Integer)
            .ok_or_else(|| Problem::new(at, "the result of these numbers cannot be held"));
    }
    fold_floats(BinaryOp::Pow, a.to_f64(), b.to_f64())
        .ok_or_else(|| Problem::new(at, "this power cannot be computed"))
}
