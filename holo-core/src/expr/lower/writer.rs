//! Writes float64 arithmetic as nodes, so that the formulas beside it read like formulas.

use crate::expr::builder::Builder;
use crate::expr::{BinaryOp, CompareOp, NodeIndex, Op, UnaryOp};
use crate::{DType, Scalar};

/// A node with a `float64` value, or an `int64` or bool one where a method says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value(NodeIndex);

/// A sum of two float64 of which the second is at most half a unit in the last place of the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Double {
    pub(super) high: Value,
    pub(super) low: Value,
}

/// Appends operations to a builder.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    builder: &'a mut Builder,
}

impl<'a> Writer<'a> {
    pub(super) fn new(builder: &'a mut Builder) -> Self {
        Self { builder }
    }

    /// A float node as float64.
    pub(super) fn widen(&mut self, node: NodeIndex, dtype: DType) -> Value {
        if dtype == DType::F64 { Value(node) } else { self.put(Op::Cast(DType::F64, node)) }
    }

    /// A float64 value rounded to `dtype`.
    pub(super) fn narrow(&mut self, value: Value, dtype: DType) -> NodeIndex {
        if dtype == DType::F64 { value.0 } else { self.put(Op::Cast(dtype, value.0)).0 }
    }

    pub(super) fn num(&mut self, value: f64) -> Value {
        self.put(Op::Const(Scalar::f64(value)))
    }

    /// An int64.
    pub(super) fn int(&mut self, value: i64) -> Value {
        self.put(Op::Const(Scalar::i64(value)))
    }

    pub(super) fn unary(&mut self, op: UnaryOp, a: Value) -> Value {
        self.put(Op::Unary(op, a.0))
    }

    pub(super) fn binary(&mut self, op: BinaryOp, a: Value, b: Value) -> Value {
        self.put(Op::Binary(op, a.0, b.0))
    }

    pub(super) fn add(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Add, a, b)
    }

    pub(super) fn sub(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Sub, a, b)
    }

    pub(super) fn mul(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Mul, a, b)
    }

    pub(super) fn div(&mut self, a: Value, b: Value) -> Value {
        self.binary(BinaryOp::Div, a, b)
    }

    pub(super) fn neg(&mut self, a: Value) -> Value {
        self.unary(UnaryOp::Neg, a)
    }

    pub(super) fn abs(&mut self, a: Value) -> Value {
        self.unary(UnaryOp::Abs, a)
    }

    /// A bool.
    pub(super) fn compare(&mut self, op: CompareOp, a: Value, b: Value) -> Value {
        self.put(Op::Compare(op, a.0, b.0))
    }

    /// A bool: `a < limit`.
    pub(super) fn less(&mut self, a: Value, limit: f64) -> Value {
        let limit = self.num(limit);
        self.compare(CompareOp::Lt, a, limit)
    }

    /// A bool: `a == other`.
    pub(super) fn equals(&mut self, a: Value, other: f64) -> Value {
        let other = self.num(other);
        self.compare(CompareOp::Eq, a, other)
    }

    /// `condition ? yes : no`, the condition being a bool.
    pub(super) fn select(&mut self, condition: Value, yes: Value, no: Value) -> Value {
        self.put(Op::Select { condition: condition.0, yes: yes.0, no: no.0 })
    }

    /// An int64 from a float64 of integral value.
    pub(super) fn int_of(&mut self, a: Value) -> Value {
        self.put(Op::Cast(DType::I64, a.0))
    }

    /// A float64 from an int64.
    pub(super) fn float_of(&mut self, a: Value) -> Value {
        self.put(Op::Cast(DType::F64, a.0))
    }

    /// The int64 with the bits of a float64.
    pub(super) fn bits(&mut self, a: Value) -> Value {
        self.put(Op::Reinterpret(DType::I64, a.0))
    }

    /// The float64 with the bits of an int64.
    pub(super) fn of_bits(&mut self, a: Value) -> Value {
        self.put(Op::Reinterpret(DType::F64, a.0))
    }

    /// `coefficients[0] + x (coefficients[1] + x (...))`.
    pub(super) fn polynomial(&mut self, x: Value, coefficients: &[f64]) -> Value {
        let mut highest_first = coefficients.iter().rev();
        let mut sum = self.num(highest_first.next().copied().unwrap_or(0.0));
        for coefficient in highest_first {
            let product = self.mul(sum, x);
            let coefficient = self.num(*coefficient);
            sum = self.add(coefficient, product);
        }
        sum
    }

    /// `a + b` exactly, where |a| >= |b| or a is 0 (Dekker 1971).
    pub(super) fn fast_two_sum(&mut self, a: Value, b: Value) -> Double {
        let high = self.add(a, b);
        let back = self.sub(a, high);
        Double { high, low: self.add(back, b) }
    }

    /// `a - b` exactly (Knuth, TAOCP volume 2, 4.2.2).
    pub(super) fn two_diff(&mut self, a: Value, b: Value) -> Double {
        let high = self.sub(a, b);
        let b_part = self.sub(high, a);
        let a_part = self.sub(high, b_part);
        let b_lost = self.add(b, b_part);
        let a_lost = self.sub(a, a_part);
        Double { high, low: self.sub(a_lost, b_lost) }
    }

    /// `a * b` exactly (Dekker 1971, with Veltkamp's splitting).
    pub(super) fn two_product(&mut self, a: Value, b: Value) -> Double {
        let high = self.mul(a, b);
        let (a, b) = (self.split(a), self.split(b));
        let terms = [(a.high, b.high), (a.high, b.low), (a.low, b.high), (a.low, b.low)];
        let mut low = self.neg(high);
        for (left, right) in terms {
            let product = self.mul(left, right);
            low = self.add(low, product);
        }
        Double { high, low }
    }

    /// Halves of 26 bits each.
    fn split(&mut self, a: Value) -> Double {
        let factor = self.num(134_217_729.0);
        let scaled = self.mul(a, factor);
        let excess = self.sub(scaled, a);
        let high = self.sub(scaled, excess);
        Double { high, low: self.sub(a, high) }
    }

    fn put(&mut self, op: Op) -> Value {
        Value(self.builder.push(op))
    }
}
