//! Binary operations on floats, and the functions for those that WASM has no instruction for.

use holo_core::{DType, expr::BinaryOp};
use wasm_encoder::{BlockType, Function, Ieee32, Ieee64, Instruction as I};

use super::code::{Class, Code, Local};

/// Index of the first helper function in a module that has them.
const FIRST: u32 = 1;
const FMOD: u32 = FIRST;
const REM64: u32 = FIRST + 1;
const FLOOR_DIV64: u32 = FIRST + 2;
const REM32: u32 = FIRST + 3;
const FLOOR_DIV32: u32 = FIRST + 4;

/// Whether an operation calls a helper function.
pub(super) fn needs_helper(op: BinaryOp, dtype: DType) -> bool {
    dtype.is_float() && matches!(op, BinaryOp::Rem | BinaryOp::FloorDiv)
}

pub(super) fn binary(code: &mut Code, op: BinaryOp, dtype: DType, a: Local, b: Local) {
    code.get(a);
    code.get(b);
    code.push(instruction(op, dtype == DType::F32));
}

fn instruction(op: BinaryOp, single: bool) -> I<'static> {
    match (op, single) {
        (BinaryOp::Add, true) => I::F32Add,
        (BinaryOp::Add, false) => I::F64Add,
        (BinaryOp::Sub, true) => I::F32Sub,
        (BinaryOp::Sub, false) => I::F64Sub,
        (BinaryOp::Mul, true) => I::F32Mul,
        (BinaryOp::Mul, false) => I::F64Mul,
        (BinaryOp::Div, true) => I::F32Div,
        (BinaryOp::Div, false) => I::F64Div,
        (BinaryOp::Min, true) => I::F32Min,
        (BinaryOp::Min, false) => I::F64Min,
        (BinaryOp::Max, true) => I::F32Max,
        (BinaryOp::Max, false) => I::F64Max,
        (BinaryOp::Rem, true) => I::Call(REM32),
        (BinaryOp::Rem, false) => I::Call(REM64),
        (BinaryOp::FloorDiv, true) => I::Call(FLOOR_DIV32),
        (BinaryOp::FloorDiv, false) => I::Call(FLOOR_DIV64),
        // Lowered away, or not defined for floats: `super::assemble` refuses them.
        (
            BinaryOp::Pow
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor
            | BinaryOp::Shl
            | BinaryOp::Shr,
            _,
        ) => I::Unreachable,
    }
}

/// The helper functions in the order of their indexes, each with the class of its two parameters and its result.
pub(super) fn helpers() -> [(Class, Function); 5] {
    [
        (Class::F64, fmod()),
        (Class::F64, remainder(Class::F64)),
        (Class::F64, floor_division(Class::F64)),
        (Class::F32, remainder(Class::F32)),
        (Class::F32, floor_division(Class::F32)),
    ]
}

const A: Local = 0;
const B: Local = 1;

/// C's `fmod`, exact: long division of the mantissas, eleven bits a step.
fn fmod() -> Function {
    let mut code = Code::new(2);
    let [x, y, ex, ey, steps] = [(); 5].map(|()| code.take(Class::I64));
    let magnitude = |code: &mut Code, float, to| {
        code.extend([
            I::LocalGet(float),
            I::I64ReinterpretF64,
            I::I64Const(i64::MAX),
            I::I64And,
            I::LocalSet(to),
        ]);
    };
    magnitude(&mut code, A, x);
    magnitude(&mut code, B, y);
    let infinity = I::I64Const(0x7ff0_0000_0000_0000);
    // NaN of a zero or NaN divisor, of an infinite or NaN dividend.
    code.extend([I::LocalGet(y), I::I64Eqz, I::LocalGet(x), infinity.clone(), I::I64GeS, I::I32Or]);
    code.extend([I::LocalGet(y), infinity, I::I64GtS, I::I32Or]);
    code.extend([
        I::If(BlockType::Empty),
        I::F64Const(Ieee64::new(super::scalar::NAN64)),
        I::Return,
        I::End,
    ]);
    code.extend([I::LocalGet(x), I::LocalGet(y), I::I64LtS, I::If(BlockType::Empty)]);
    code.extend([I::LocalGet(A), I::Return, I::End]);
    for (bits, exponent) in [(x, ex), (y, ey)] {
        normalise(&mut code, bits, exponent);
    }
    code.extend([I::LocalGet(x), I::LocalGet(y), I::I64RemU, I::LocalSet(x)]);
    code.extend([I::Block(BlockType::Empty), I::Loop(BlockType::Empty)]);
    code.extend([I::LocalGet(ex), I::LocalGet(ey), I::I64LeS, I::BrIf(1)]);
    code.extend([I::LocalGet(ex), I::LocalGet(ey), I::I64Sub, I::LocalTee(steps), I::I64Const(11)]);
    code.extend([I::LocalGet(steps), I::I64Const(11), I::I64LtS, I::Select, I::LocalSet(steps)]);
    code.extend([
        I::LocalGet(x),
        I::LocalGet(steps),
        I::I64Shl,
        I::LocalGet(y),
        I::I64RemU,
        I::LocalSet(x),
    ]);
    code.extend([I::LocalGet(ex), I::LocalGet(steps), I::I64Sub, I::LocalSet(ex)]);
    code.extend([I::Br(0), I::End, I::End]);
    code.extend([I::LocalGet(x), I::I64Eqz, I::If(BlockType::Empty)]);
    code.extend([I::F64Const(Ieee64::new(0)), I::LocalGet(A), I::F64Copysign, I::Return, I::End]);
    // Back to a float: the leading bit to bit 52, or as far as the smallest exponent allows.
    code.extend([I::LocalGet(x), I::I64Clz, I::I64Const(11), I::I64Sub, I::LocalSet(steps)]);
    code.extend([I::LocalGet(x), I::LocalGet(steps), I::I64Shl, I::LocalSet(x)]);
    code.extend([
        I::LocalGet(ex),
        I::LocalGet(steps),
        I::I64Sub,
        I::LocalTee(ex),
        I::I64Const(0),
        I::I64GtS,
    ]);
    code.if_else(
        Class::I64,
        |code| {
            code.extend([I::LocalGet(x), I::I64Const(MANTISSA), I::I64And]);
            code.extend([I::LocalGet(ex), I::I64Const(52), I::I64Shl, I::I64Or]);
        },
        |code| {
            code.extend([I::LocalGet(x), I::I64Const(1), I::LocalGet(ex), I::I64Sub, I::I64ShrU]);
        },
    );
    code.extend([I::F64ReinterpretI64, I::LocalGet(A), I::F64Copysign]);
    code.finish()
}

const MANTISSA: i64 = (1 << 52) - 1;

/// Splits the bits of a positive, nonzero float into a mantissa with bit 52 set and its exponent.
fn normalise(code: &mut Code, bits: Local, exponent: Local) {
    code.extend([I::LocalGet(bits), I::I64Const(52), I::I64ShrU, I::LocalTee(exponent), I::I64Eqz]);
    code.push(I::If(BlockType::Empty));
    code.extend([I::I64Const(12), I::LocalGet(bits), I::I64Clz, I::I64Sub, I::LocalSet(exponent)]);
    code.extend([I::LocalGet(bits), I::LocalGet(bits), I::I64Clz, I::I64Const(11), I::I64Sub]);
    code.extend([I::I64Shl, I::LocalSet(bits), I::Else]);
    code.extend([
        I::LocalGet(bits),
        I::I64Const(MANTISSA),
        I::I64And,
        I::I64Const(1 << 52),
        I::I64Or,
    ]);
    code.extend([I::LocalSet(bits), I::End]);
}

/// Pushes the exact remainder with the sign of the dividend. That of two `float32` fits a `float32`.
fn push_cut(code: &mut Code, class: Class) {
    match class {
        Class::F32 => code.extend([
            I::LocalGet(A),
            I::F64PromoteF32,
            I::LocalGet(B),
            I::F64PromoteF32,
            I::Call(FMOD),
            I::F32DemoteF64,
        ]),
        _ => code.extend([I::LocalGet(A), I::LocalGet(B), I::Call(FMOD)]),
    }
}

/// `cut`, plus the divisor where the signs differ; a zero takes the divisor's sign.
fn remainder(class: Class) -> Function {
    let ops = Ops::of(class);
    let mut code = Code::new(2);
    let cut = code.take(class);
    push_cut(&mut code, class);
    code.set(cut);
    // By zero `cut` is NaN, which no comparison below takes for a zero or for negative.
    code.extend([I::LocalGet(cut), ops.zero.clone(), ops.eq.clone()]);
    code.if_else(
        class,
        |code| code.extend([ops.zero.clone(), I::LocalGet(B), ops.copysign.clone()]),
        |code| {
            code.extend([I::LocalGet(cut), I::LocalGet(B), ops.add.clone(), I::LocalGet(cut)]);
            push_signs_apart(code, &ops, cut);
            code.push(I::Select);
        },
    );
    code.finish()
}

fn floor_division(class: Class) -> Function {
    let ops = Ops::of(class);
    let mut code = Code::new(2);
    let [cut, quotient, floor] = [(); 3].map(|()| code.take(class));
    code.extend([I::LocalGet(B), ops.zero.clone(), ops.eq.clone(), I::If(BlockType::Empty)]);
    code.extend([I::LocalGet(A), I::LocalGet(B), ops.div.clone(), I::Return, I::End]);
    push_cut(&mut code, class);
    code.set(cut);
    code.extend([
        I::LocalGet(A),
        I::LocalGet(cut),
        ops.sub.clone(),
        I::LocalGet(B),
        ops.div.clone(),
    ]);
    code.set(quotient);
    code.extend([I::LocalGet(quotient), ops.one.clone(), ops.sub.clone(), I::LocalGet(quotient)]);
    push_signs_apart(&mut code, &ops, cut);
    code.extend([I::LocalGet(cut), ops.zero.clone(), ops.ne.clone(), I::I32And]);
    code.extend([I::Select, I::LocalSet(quotient)]);
    code.extend([I::LocalGet(quotient), ops.zero.clone(), ops.eq.clone()]);
    code.if_else(
        class,
        |code| {
            code.extend([ops.zero.clone(), I::LocalGet(A), I::LocalGet(B), ops.div.clone()]);
            code.push(ops.copysign.clone());
        },
        |code| {
            code.extend([I::LocalGet(quotient), ops.floor.clone(), I::LocalSet(floor)]);
            code.extend([I::LocalGet(floor), ops.one.clone(), ops.add.clone(), I::LocalGet(floor)]);
            code.extend([
                I::LocalGet(quotient),
                I::LocalGet(floor),
                ops.sub.clone(),
                ops.half.clone(),
            ]);
            code.extend([ops.gt.clone(), I::Select]);
        },
    );
    code.finish()
}

/// 1 where exactly one of `cut` and the divisor is negative.
fn push_signs_apart(code: &mut Code, ops: &Ops, cut: Local) {
    code.extend([I::LocalGet(cut), ops.zero.clone(), ops.lt.clone()]);
    code.extend([I::LocalGet(B), ops.zero.clone(), ops.lt.clone(), I::I32Ne]);
}

struct Ops {
    zero: I<'static>,
    half: I<'static>,
    one: I<'static>,
    add: I<'static>,
    sub: I<'static>,
    div: I<'static>,
    floor: I<'static>,
    copysign: I<'static>,
    eq: I<'static>,
    ne: I<'static>,
    lt: I<'static>,
    gt: I<'static>,
}

impl Ops {
    fn of(class: Class) -> Self {
        if class == Class::F32 {
            let number = |value: f32| I::F32Const(Ieee32::from(value));
            return Self {
                zero: number(0.0),
                half: number(0.5),
                one: number(1.0),
                add: I::F32Add,
                sub: I::F32Sub,
                div: I::F32Div,
                floor: I::F32Floor,
                copysign: I::F32Copysign,
                eq: I::F32Eq,
                ne: I::F32Ne,
                lt: I::F32Lt,
                gt: I::F32Gt,
            };
        }
        let number = |value: f64| I::F64Const(Ieee64::from(value));
        Self {
            zero: number(0.0),
            half: number(0.5),
            one: number(1.0),
            add: I::F64Add,
            sub: I::F64Sub,
            div: I::F64Div,
            floor: I::F64Floor,
            copysign: I::F64Copysign,
            eq: I::F64Eq,
            ne: I::F64Ne,
            lt: I::F64Lt,
            gt: I::F64Gt,
        }
    }
}
