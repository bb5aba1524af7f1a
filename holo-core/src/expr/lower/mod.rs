//! Writes `exp`, `log`, `sin`, `cos`, `tanh` and `**` out as primitive operations.
//!
//! Math libraries differ in the last bit, so none is called: every engine runs the same additions and
//! multiplications in `float64`, each rounded once, nothing fused, and gets the same bits. `float32` is computed in
//! `float64` and rounded once at the end. Special values are those of C99's Annex F and of NumPy.
//!
//! The errors against the exact value are below 2 units in the last place of the result, subnormal results
//! included; tests measure them. **Sine and cosine** reduce their argument with 150 bits of pi, which is exact up to
//! |x| = 2^20; beyond they are NaN rather than wrong.

mod exponential;
mod power;
mod trigonometric;
mod writer;

use crate::DType;
use crate::expr::builder::Builder;
use crate::expr::lower::writer::{Value, Writer};
use crate::expr::{BinaryOp, NodeIndex, Op, Program, UnaryOp};

/// The same program in primitive operations only: without [`UnaryOp::Exp`], `Log`, `Sin`, `Cos`, `Tanh` and
/// [`BinaryOp::Pow`]. It may have up to [`crate::limits::EXPR_LOWERED_NODES_MAX`] nodes. A lowered program stays as
/// it is.
///
/// # Panics
///
/// Never for a program that exists: the result has the operand types of the original.
pub fn lower(program: &Program) -> Program {
    let mut builder = Builder::default();
    let mut places: Vec<NodeIndex> = Vec::with_capacity(program.nodes().len());
    for (op, dtype) in program.nodes() {
        let op = op.with_operands(|node| places[node.0 as usize]);
        let node = match op {
            Op::Unary(op, x) => lower_unary(&mut builder, op, x, *dtype),
            Op::Binary(BinaryOp::Pow, x, y) => lower_power(&mut builder, x, y, *dtype),
            op => builder.push(op),
        };
        places.push(node);
    }
    let (ops, root) = builder.into_ops(places[program.root().0 as usize]);
    Program::checked(program.inputs().to_vec(), ops, root, program.reduction())
        .expect("lowering keeps the types")
}

fn lower_unary(builder: &mut Builder, op: UnaryOp, x: NodeIndex, dtype: DType) -> NodeIndex {
    let function: fn(&mut Writer<'_>, Value) -> Value = match op {
        UnaryOp::Exp => exponential::exp,
        UnaryOp::Log => exponential::log,
        UnaryOp::Tanh => exponential::tanh,
        UnaryOp::Sin => trigonometric::sin,
        UnaryOp::Cos => trigonometric::cos,
        _ => return builder.push(Op::Unary(op, x)),
    };
    let mut writer = Writer::new(builder);
    let x = writer.widen(x, dtype);
    let y = function(&mut writer, x);
    writer.narrow(y, dtype)
}

fn lower_power(builder: &mut Builder, x: NodeIndex, y: NodeIndex, dtype: DType) -> NodeIndex {
    let mut writer = Writer::new(builder);
    let (x, y) = (writer.widen(x, dtype), writer.widen(y, dtype));
    // A float32 result leaves 29 bits to spare, so the plain logarithm does.
    let z = power::pow(&mut writer, x, y, dtype == DType::F64);
    writer.narrow(z, dtype)
}

#[cfg(test)]
mod tests;
