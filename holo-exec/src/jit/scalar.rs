//! One element at a time: what runs for the last few elements, and lane by lane where SIMD has no instruction.
//!
//! Operands are in locals, the result is left on the stack. Integers below 32 bits are kept extended by their own sign
//! and are cut back after each operation that can leave their range.

use holo_core::{
    DType, Scalar,
    expr::{BinaryOp, CompareOp, UnaryOp},
};
use wasm_encoder::{Ieee32, Ieee64, Instruction as I};

use super::{
    code::{Class, Code, Local, at, extended32},
    float,
};

pub(super) const NAN32: u32 = 0x7fc0_0000;
pub(super) const NAN64: u64 = 0x7ff8_0000_0000_0000;

pub(super) fn constant(code: &mut Code, value: Scalar) {
    let bits = value.bits();
    code.push(match Class::of(value.dtype()) {
        Class::I64 => I::I64Const(bits.cast_signed()),
        Class::F64 => I::F64Const(Ieee64::new(bits)),
        Class::F32 => I::F32Const(Ieee32::new(extended32(value))),
        Class::I32 | Class::V128 => I::I32Const(extended32(value).cast_signed()),
    });
}

/// Loads the element at the address in `address` plus `offset`.
pub(super) fn load(code: &mut Code, dtype: DType, address: Local, offset: u32) {
    code.get(address);
    code.push(match dtype {
        DType::Bool | DType::U8 => I::I32Load8U(at(offset)),
        DType::I8 => I::I32Load8S(at(offset)),
        DType::I16 => I::I32Load16S(at(offset)),
        DType::U16 => I::I32Load16U(at(offset)),
        DType::I32 | DType::U32 => I::I32Load(at(offset)),
        DType::I64 | DType::U64 => I::I64Load(at(offset)),
        DType::F32 => I::F32Load(at(offset)),
        DType::F64 => I::F64Load(at(offset)),
    });
    if dtype == DType::Bool {
        code.extend([I::I32Eqz, I::I32Eqz]);
    }
}

/// Stores `value`, its NaN made the canonical one.
pub(super) fn store(code: &mut Code, dtype: DType, address: Local, offset: u32, value: Local) {
    code.get(address);
    code.get(value);
    if dtype.is_float() {
        constant(
            code,
            Scalar::from_bits(dtype, if dtype == DType::F32 { u64::from(NAN32) } else { NAN64 }),
        );
        code.extend([I::LocalGet(value), I::LocalGet(value)]);
        code.push(if dtype == DType::F32 { I::F32Eq } else { I::F64Eq });
        code.push(I::Select);
    }
    code.push(match dtype {
        DType::Bool | DType::U8 | DType::I8 => I::I32Store8(at(offset)),
        DType::I16 | DType::U16 => I::I32Store16(at(offset)),
        DType::I32 | DType::U32 => I::I32Store(at(offset)),
        DType::I64 | DType::U64 => I::I64Store(at(offset)),
        DType::F32 => I::F32Store(at(offset)),
        DType::F64 => I::F64Store(at(offset)),
    });
}

pub(super) fn unary(code: &mut Code, op: UnaryOp, dtype: DType, a: Local) {
    match Class::of(dtype) {
        Class::F32 | Class::F64 => {
            code.get(a);
            code.push(float_unary(op, dtype == DType::F32));
        }
        class => integer_unary(code, op, dtype, class, a),
    }
}

fn float_unary(op: UnaryOp, single: bool) -> I<'static> {
    match (op, single) {
        (UnaryOp::Neg, true) => I::F32Neg,
        (UnaryOp::Neg, false) => I::F64Neg,
        (UnaryOp::Abs, true) => I::F32Abs,
        (UnaryOp::Abs, false) => I::F64Abs,
        (UnaryOp::Sqrt, true) => I::F32Sqrt,
        (UnaryOp::Sqrt, false) => I::F64Sqrt,
        (UnaryOp::Floor, true) => I::F32Floor,
        (UnaryOp::Floor, false) => I::F64Floor,
        (UnaryOp::Ceil, true) => I::F32Ceil,
        (UnaryOp::Ceil, false) => I::F64Ceil,
        (UnaryOp::Trunc, true) => I::F32Trunc,
        (UnaryOp::Trunc, false) => I::F64Trunc,
        (UnaryOp::Round, true) => I::F32Nearest,
        (UnaryOp::Round, false) => I::F64Nearest,
        // Programs are lowered before: `super::assemble` refuses one that still has these.
        (
            UnaryOp::Not
            | UnaryOp::Exp
            | UnaryOp::Log
            | UnaryOp::Sin
            | UnaryOp::Cos
            | UnaryOp::Tanh,
            _,
        ) => I::Unreachable,
    }
}

fn integer_unary(code: &mut Code, op: UnaryOp, dtype: DType, class: Class, a: Local) {
    let wide = class == Class::I64;
    match op {
        UnaryOp::Not if dtype == DType::Bool => code.extend([I::LocalGet(a), I::I32Eqz]),
        UnaryOp::Not => {
            code.get(a);
            code.extend(if wide {
                [I::I64Const(-1), I::I64Xor]
            } else {
                [I::I32Const(-1), I::I32Xor]
            });
            wrap(code, dtype);
        }
        UnaryOp::Neg => negate(code, dtype, a),
        UnaryOp::Abs if dtype.is_signed_int() => {
            negate(code, dtype, a);
            code.get(a);
            code.get(a);
            code.extend(if wide {
                [I::I64Const(0), I::I64LtS]
            } else {
                [I::I32Const(0), I::I32LtS]
            });
            code.push(I::Select);
        }
        _ => code.get(a),
    }
}

fn negate(code: &mut Code, dtype: DType, a: Local) {
    let wide = Class::of(dtype) == Class::I64;
    code.push(if wide { I::I64Const(0) } else { I::I32Const(0) });
    code.get(a);
    code.push(if wide { I::I64Sub } else { I::I32Sub });
    wrap(code, dtype);
}

pub(super) fn binary(code: &mut Code, op: BinaryOp, dtype: DType, a: Local, b: Local) {
    if dtype.is_float() {
        return float::binary(code, op, dtype, a, b);
    }
    let wide = Class::of(dtype) == Class::I64;
    let plain = match (op, wide) {
        (BinaryOp::Add, false) => I::I32Add,
        (BinaryOp::Add, true) => I::I64Add,
        (BinaryOp::Sub, false) => I::I32Sub,
        (BinaryOp::Sub, true) => I::I64Sub,
        (BinaryOp::Mul, false) => I::I32Mul,
        (BinaryOp::Mul, true) => I::I64Mul,
        (BinaryOp::And, false) => I::I32And,
        (BinaryOp::And, true) => I::I64And,
        (BinaryOp::Or, false) => I::I32Or,
        (BinaryOp::Or, true) => I::I64Or,
        (BinaryOp::Xor, false) => I::I32Xor,
        (BinaryOp::Xor, true) => I::I64Xor,
        (BinaryOp::FloorDiv | BinaryOp::Rem, _) => return divide(code, op, dtype, a, b),
        (BinaryOp::Shl | BinaryOp::Shr, _) => return shift(code, op, dtype, a, b),
        (BinaryOp::Min | BinaryOp::Max, _) => {
            let order = if op == BinaryOp::Min { CompareOp::Lt } else { CompareOp::Gt };
            code.get(a);
            code.get(b);
            compare(code, order, dtype, a, b);
            return code.push(I::Select);
        }
        // `Program::new` lets no integer have these.
        (BinaryOp::Div | BinaryOp::Pow, _) => I::Unreachable,
    };
    code.extend([I::LocalGet(a), I::LocalGet(b), plain]);
    wrap(code, dtype);
}

/// Floored division and its remainder; by 0 both give 0, the smallest integer by -1 itself and 0.
fn divide(code: &mut Code, op: BinaryOp, dtype: DType, a: Local, b: Local) {
    let class = Class::of(dtype);
    let wide = class == Class::I64;
    code.get(b);
    code.push(if wide { I::I64Eqz } else { I::I32Eqz });
    let zero = |code: &mut Code| code.push(if wide { I::I64Const(0) } else { I::I32Const(0) });
    if !dtype.is_signed_int() {
        let instruction = match (op, wide) {
            (BinaryOp::Rem, false) => I::I32RemU,
            (BinaryOp::Rem, true) => I::I64RemU,
            (_, false) => I::I32DivU,
            (_, true) => I::I64DivU,
        };
        return code.if_else(class, zero, |code| {
            code.extend([I::LocalGet(a), I::LocalGet(b), instruction]);
        });
    }
    code.if_else(class, zero, |code| match op {
        BinaryOp::Rem => {
            let cut = code.take(class);
            let rem = if wide { I::I64RemS } else { I::I32RemS };
            code.extend([I::LocalGet(a), I::LocalGet(b), rem, I::LocalSet(cut)]);
            code.extend([I::LocalGet(cut), I::LocalGet(b)]);
            code.push(if wide { I::I64Add } else { I::I32Add });
            code.get(cut);
            inexact_with_signs_apart(code, wide, cut, b);
            code.push(I::Select);
            code.give(class, cut);
        }
        _ => {
            // The one quotient that does not fit traps in WASM, so division by -1 is a negation.
            code.get(b);
            code.extend(if wide {
                [I::I64Const(-1), I::I64Eq]
            } else {
                [I::I32Const(-1), I::I32Eq]
            });
            code.if_else(class, |code| negate(code, dtype, a), |code| floored(code, class, a, b));
        }
    });
}

fn floored(code: &mut Code, class: Class, a: Local, b: Local) {
    let wide = class == Class::I64;
    let cut = code.take(class);
    let (rem, div) = if wide { (I::I64RemS, I::I64DivS) } else { (I::I32RemS, I::I32DivS) };
    code.extend([I::LocalGet(a), I::LocalGet(b), rem, I::LocalSet(cut)]);
    code.extend([I::LocalGet(a), I::LocalGet(b), div]);
    inexact_with_signs_apart(code, wide, cut, b);
    if wide {
        code.push(I::I64ExtendI32U);
    }
    code.push(if wide { I::I64Sub } else { I::I32Sub });
    code.give(class, cut);
}

/// 1 where something remains and its sign is not the divisor's.
fn inexact_with_signs_apart(code: &mut Code, wide: bool, cut: Local, b: Local) {
    code.get(cut);
    code.extend(if wide { [I::I64Const(0), I::I64Ne] } else { [I::I32Const(0), I::I32Ne] });
    code.extend([I::LocalGet(cut), I::LocalGet(b)]);
    code.extend(if wide {
        [I::I64Xor, I::I64Const(0), I::I64LtS]
    } else {
        [I::I32Xor, I::I32Const(0), I::I32LtS]
    });
    code.push(I::I32And);
}

/// Distances count as unsigned; one of the width or more gives 0, or the sign.
fn shift(code: &mut Code, op: BinaryOp, dtype: DType, a: Local, b: Local) {
    let wide = Class::of(dtype) == Class::I64;
    let width = bits(dtype);
    let number = |value: u32| {
        if wide { I::I64Const(i64::from(value)) } else { I::I32Const(value.cast_signed()) }
    };
    let within = if wide { I::I64LtU } else { I::I32LtU };
    if op == BinaryOp::Shr && dtype.is_signed_int() {
        code.extend([I::LocalGet(a), I::LocalGet(b), number(width - 1)]);
        code.extend([I::LocalGet(b), number(width), within, I::Select]);
        return code.push(if wide { I::I64ShrS } else { I::I32ShrS });
    }
    code.extend([I::LocalGet(a), I::LocalGet(b)]);
    code.push(match (op, wide) {
        (BinaryOp::Shl, false) => I::I32Shl,
        (BinaryOp::Shl, true) => I::I64Shl,
        (_, false) => I::I32ShrU,
        (_, true) => I::I64ShrU,
    });
    wrap(code, dtype);
    code.extend([number(0), I::LocalGet(b), number(width), within, I::Select]);
}

pub(super) fn compare(code: &mut Code, op: CompareOp, dtype: DType, a: Local, b: Local) {
    code.get(a);
    code.get(b);
    let signed = dtype.is_signed_int();
    code.push(match (Class::of(dtype), op, signed) {
        (Class::F32, CompareOp::Eq, _) => I::F32Eq,
        (Class::F32, CompareOp::Ne, _) => I::F32Ne,
        (Class::F32, CompareOp::Lt, _) => I::F32Lt,
        (Class::F32, CompareOp::Le, _) => I::F32Le,
        (Class::F32, CompareOp::Gt, _) => I::F32Gt,
        (Class::F32, CompareOp::Ge, _) => I::F32Ge,
        (Class::F64, CompareOp::Eq, _) => I::F64Eq,
        (Class::F64, CompareOp::Ne, _) => I::F64Ne,
        (Class::F64, CompareOp::Lt, _) => I::F64Lt,
        (Class::F64, CompareOp::Le, _) => I::F64Le,
        (Class::F64, CompareOp::Gt, _) => I::F64Gt,
        (Class::F64, CompareOp::Ge, _) => I::F64Ge,
        (Class::I64, CompareOp::Eq, _) => I::I64Eq,
        (Class::I64, CompareOp::Ne, _) => I::I64Ne,
        (Class::I64, CompareOp::Lt, true) => I::I64LtS,
        (Class::I64, CompareOp::Le, true) => I::I64LeS,
        (Class::I64, CompareOp::Gt, true) => I::I64GtS,
        (Class::I64, CompareOp::Ge, true) => I::I64GeS,
        (Class::I64, CompareOp::Lt, false) => I::I64LtU,
        (Class::I64, CompareOp::Le, false) => I::I64LeU,
        (Class::I64, CompareOp::Gt, false) => I::I64GtU,
        (Class::I64, CompareOp::Ge, false) => I::I64GeU,
        (_, CompareOp::Eq, _) => I::I32Eq,
        (_, CompareOp::Ne, _) => I::I32Ne,
        (_, CompareOp::Lt, true) => I::I32LtS,
        (_, CompareOp::Le, true) => I::I32LeS,
        (_, CompareOp::Gt, true) => I::I32GtS,
        (_, CompareOp::Ge, true) => I::I32GeS,
        (_, CompareOp::Lt, false) => I::I32LtU,
        (_, CompareOp::Le, false) => I::I32LeU,
        (_, CompareOp::Gt, false) => I::I32GtU,
        (_, CompareOp::Ge, false) => I::I32GeU,
    });
}

/// NumPy's `astype`: integers wrap, floats truncate and saturate, anything but zero is true.
pub(super) fn cast(code: &mut Code, from: DType, to: DType, a: Local) {
    code.get(a);
    if to == DType::Bool {
        match Class::of(from) {
            Class::F32 => code.extend([I::F32Const(Ieee32::new(0)), I::F32Ne]),
            Class::F64 => code.extend([I::F64Const(Ieee64::new(0)), I::F64Ne]),
            Class::I64 => code.extend([I::I64Const(0), I::I64Ne]),
            Class::I32 | Class::V128 => code.extend([I::I32Const(0), I::I32Ne]),
        }
        return;
    }
    let from_signed = from.is_signed_int();
    match (Class::of(from), Class::of(to)) {
        (Class::I32, Class::I64) => {
            code.push(if from_signed { I::I64ExtendI32S } else { I::I64ExtendI32U });
        }
        (Class::I32, Class::F32) => {
            code.push(if from_signed { I::F32ConvertI32S } else { I::F32ConvertI32U });
        }
        (Class::I32, Class::F64) => {
            code.push(if from_signed { I::F64ConvertI32S } else { I::F64ConvertI32U });
        }
        (Class::I64, Class::F32) => {
            code.push(if from_signed { I::F32ConvertI64S } else { I::F32ConvertI64U });
        }
        (Class::I64, Class::F64) => {
            code.push(if from_signed { I::F64ConvertI64S } else { I::F64ConvertI64U });
        }
        (Class::I64, Class::I32) => {
            code.push(I::I32WrapI64);
            wrap(code, to);
        }
        (Class::I32, Class::I32) => wrap(code, to),
        (Class::F32, Class::F64) => code.push(I::F64PromoteF32),
        (Class::F64, Class::F32) => code.push(I::F32DemoteF64),
        (Class::F32 | Class::F64, Class::I32 | Class::I64) => saturate(code, from, to),
        _ => {}
    }
}

fn saturate(code: &mut Code, from: DType, to: DType) {
    let single = from == DType::F32;
    code.push(match (to, single) {
        (DType::I64, true) => I::I64TruncSatF32S,
        (DType::I64, false) => I::I64TruncSatF64S,
        (DType::U64, true) => I::I64TruncSatF32U,
        (DType::U64, false) => I::I64TruncSatF64U,
        (DType::U32, true) => I::I32TruncSatF32U,
        (DType::U32, false) => I::I32TruncSatF64U,
        (_, true) => I::I32TruncSatF32S,
        (_, false) => I::I32TruncSatF64S,
    });
    let Some((lowest, highest)) = range(to) else { return };
    let value = code.take(Class::I32);
    code.set(value);
    for (bound, order) in [(lowest, I::I32GtS), (highest, I::I32LtS)] {
        code.extend([
            I::LocalGet(value),
            I::I32Const(bound),
            I::LocalGet(value),
            I::I32Const(bound),
        ]);
        code.extend([order, I::Select, I::LocalSet(value)]);
    }
    code.get(value);
    code.give(Class::I32, value);
}

pub(super) fn reinterpret(code: &mut Code, from: DType, to: DType, a: Local) {
    code.get(a);
    match (Class::of(from), Class::of(to)) {
        (Class::F32, Class::I32) => code.push(I::I32ReinterpretF32),
        (Class::I32, Class::F32) => code.push(I::F32ReinterpretI32),
        (Class::F64, Class::I64) => code.push(I::I64ReinterpretF64),
        (Class::I64, Class::F64) => code.push(I::F64ReinterpretI64),
        _ => wrap(code, to),
    }
}

/// Cuts the i32 on the stack to a narrow dtype and extends it again.
pub(super) fn wrap(code: &mut Code, dtype: DType) {
    match dtype {
        DType::I8 => code.push(I::I32Extend8S),
        DType::I16 => code.push(I::I32Extend16S),
        DType::U8 => code.extend([I::I32Const(0xff), I::I32And]),
        DType::U16 => code.extend([I::I32Const(0xffff), I::I32And]),
        _ => {}
    }
}

/// Smallest and largest value of a dtype that is narrower than its local.
pub(super) fn range(dtype: DType) -> Option<(i32, i32)> {
    match dtype {
        DType::I8 => Some((-128, 127)),
        DType::I16 => Some((-32_768, 32_767)),
        DType::U8 => Some((0, 255)),
        DType::U16 => Some((0, 65_535)),
        _ => None,
    }
}

/// Bits of an integer.
pub(super) fn bits(dtype: DType) -> u32 {
    match dtype.size() {
        1 => 8,
        2 => 16,
        4 => 32,
        _ => 64,
    }
}
