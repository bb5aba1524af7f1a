//! Programs to lower and arrays to run them on.

use holo_core::expr::{BinaryOp, CompareOp, Input, NodeIndex, Op, Program, Reduction, UnaryOp};
use holo_core::{DType, Scalar};

/// What a GPU computes with: all but `float64`.
pub(crate) const DTYPES: [DType; 10] = [
    DType::Bool,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::F32,
];

pub(crate) const UNARY: [UnaryOp; 13] = [
    UnaryOp::Neg,
    UnaryOp::Abs,
    UnaryOp::Not,
    UnaryOp::Sqrt,
    UnaryOp::Floor,
    UnaryOp::Ceil,
    UnaryOp::Trunc,
    UnaryOp::Round,
    UnaryOp::Exp,
    UnaryOp::Log,
    UnaryOp::Sin,
    UnaryOp::Cos,
    UnaryOp::Tanh,
];

pub(crate) const BINARY: [BinaryOp; 14] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::FloorDiv,
    BinaryOp::Rem,
    BinaryOp::Min,
    BinaryOp::Max,
    BinaryOp::Pow,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::Shl,
    BinaryOp::Shr,
];

pub(crate) const COMPARE: [CompareOp; 6] =
    [CompareOp::Eq, CompareOp::Ne, CompareOp::Lt, CompareOp::Le, CompareOp::Gt, CompareOp::Ge];

pub(crate) const REDUCTIONS: [Reduction; 4] =
    [Reduction::Sum, Reduction::Prod, Reduction::Min, Reduction::Max];

/// Inputs named `x0`, `x1`...
pub(crate) fn inputs(dtypes: &[DType]) -> Vec<Input> {
    let input =
        |(index, dtype): (usize, &DType)| Input { name: format!("x{index}"), dtype: *dtype };
    dtypes.iter().enumerate().map(input).collect()
}

/// A program of these inputs and operations whose root is the last one; `None` where the IR refuses it.
pub(crate) fn program(
    dtypes: &[DType],
    ops: &[Op],
    reduction: Option<Reduction>,
) -> Option<Program> {
    let root = NodeIndex(u32::try_from(ops.len() - 1).unwrap());
    Program::new(inputs(dtypes), ops.to_vec(), root, reduction).ok()
}

/// The value of the only input.
pub(crate) const X: NodeIndex = NodeIndex(0);
/// The value of the second input.
pub(crate) const Y: NodeIndex = NodeIndex(1);

/// A small generator (Marsaglia's xorshift): the same numbers on every machine.
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 16) % bound as u64).unwrap()
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A well-typed program of about `size` operations over `dtypes`, in which `allowed` picks the operations.
pub(crate) fn random_program(
    numbers: &mut Numbers,
    dtypes: &[DType],
    size: usize,
    reduction: Option<Reduction>,
    allowed: impl Fn(&Op, DType) -> bool,
) -> Program {
    let mut ops: Vec<Op> =
        (0..dtypes.len()).map(|input| Op::Input(u16::try_from(input).unwrap())).collect();
    let mut last = program(dtypes, &ops, None).unwrap();
    while ops.len() < size {
        let node = |numbers: &mut Numbers, count: usize| {
            // Mostly what came last, so that programs grow deep.
            let back = if numbers.below(3) == 0 { count } else { count.min(6) };
            NodeIndex(u32::try_from(count - 1 - numbers.below(back)).unwrap())
        };
        let (a, b, c) =
            (node(numbers, ops.len()), node(numbers, ops.len()), node(numbers, ops.len()));
        let op = match numbers.below(12) {
            0 => Op::Index,
            1 => Op::Const(Scalar::from_bits(numbers.pick(dtypes), edge_bits(numbers))),
            2 | 3 => Op::Unary(numbers.pick(&UNARY), a),
            4 => Op::Compare(numbers.pick(&COMPARE), a, b),
            5 => Op::Select { condition: a, yes: b, no: c },
            6 => Op::Cast(numbers.pick(&DTYPES), a),
            7 => Op::Reinterpret(numbers.pick(&DTYPES), a),
            _ => Op::Binary(numbers.pick(&BINARY), a, b),
        };
        ops.push(op);
        match program(dtypes, &ops, None) {
            Some(typed) if allowed(&op, typed.output_dtype()) => last = typed,
            _ => {
                ops.pop();
            }
        }
    }
    let root = NodeIndex(u32::try_from(last.nodes().len() - 1).unwrap());
    Program::new(inputs(dtypes), ops, root, reduction).unwrap()
}

/// Bits near the borders of integers of every width, or any.
pub(crate) fn edge_bits(numbers: &mut Numbers) -> u64 {
    let near = numbers.next() % 5;
    match numbers.below(4) {
        0 => near.wrapping_sub(2),
        1 => (1u64 << numbers.below(64)).wrapping_add(near).wrapping_sub(2),
        2 => (u64::MAX >> numbers.below(64)).wrapping_sub(near),
        _ => numbers.next(),
    }
}
