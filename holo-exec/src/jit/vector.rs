//! Four elements at a time.
//!
//! Values of up to 32 bits fill one `v128` of four lanes, 64-bit values two of two lanes. Narrow integers are kept in
//! 32-bit lanes, extended by their own sign. A bool is a mask of all ones or none, in the lane width of the comparison
//! that made it; it changes width only where it meets values of another one.

use holo_core::{
    DType, Scalar,
    expr::{BinaryOp, CompareOp, UnaryOp},
};
use wasm_encoder::Instruction as I;

use super::{
    code::{Class, Code, Local, at, extended32},
    scalar::{self, NAN32, NAN64},
    simd,
};

/// Elements that one set of vector values covers.
pub(super) const QUAD: u32 = 4;

/// Picks the low halves of all four 64-bit lanes of two vectors.
const LOW_HALVES: [u8; 16] = [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27];
/// Joins the low 64 bits of two vectors.
const LOW_PAIRS: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
/// Moves the high 64 bits down.
const HIGH_DOWN: [u8; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];

/// Four elements of one dtype.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// The same everywhere, pushed as a constant where it is used.
    Const(Scalar),
    /// One vector of four lanes; of bool, a mask of 32-bit lanes.
    One(Local),
    /// Two vectors of two lanes; of bool, masks of 64-bit lanes.
    Two(Local, Local),
}

impl Value {
    fn halves(self) -> usize {
        match self {
            Self::Two(..) => 2,
            Self::Const(_) | Self::One(_) => 1,
        }
    }

    /// Gives its locals back.
    pub(super) fn release(self, code: &mut Code) {
        match self {
            Self::Const(_) => {}
            Self::One(local) => code.give(Class::V128, local),
            Self::Two(low, high) => {
                code.give(Class::V128, low);
                code.give(Class::V128, high);
            }
        }
    }
}

/// Vectors that a dtype's values take.
pub(super) fn halves_of(dtype: DType) -> usize {
    if dtype.size() == 8 { 2 } else { 1 }
}

/// Makes a value of so many vectors, each pushed by `emit`.
pub(super) fn define(
    code: &mut Code,
    halves: usize,
    mut emit: impl FnMut(&mut Code, usize),
) -> Value {
    let mut vector = |code: &mut Code, half| {
        emit(code, half);
        let local = code.take(Class::V128);
        code.set(local);
        local
    };
    let low = vector(code, 0);
    if halves == 1 {
        return Value::One(low);
    }
    let high = vector(code, 1);
    Value::Two(low, high)
}

/// Pushes one vector of a value that is no bool.
pub(super) fn push(code: &mut Code, value: Value, half: usize) {
    match value {
        Value::Const(scalar) if scalar.dtype().size() == 8 => code.splat64(scalar.bits()),
        Value::Const(scalar) => code.splat32(extended32(scalar)),
        Value::One(local) => code.get(local),
        Value::Two(low, high) => code.get(if half == 0 { low } else { high }),
    }
}

/// Pushes a bool as a mask for `halves` vectors.
fn push_mask(code: &mut Code, value: Value, halves: usize, half: usize) {
    match (value, halves) {
        (Value::Const(scalar), _) => code.splat32(if scalar.bits() == 0 { 0 } else { u32::MAX }),
        (Value::One(local), 1) => code.get(local),
        (Value::One(local), _) => {
            code.get(local);
            code.push(if half == 0 { I::I64x2ExtendLowI32x4S } else { I::I64x2ExtendHighI32x4S });
        }
        (Value::Two(low, high), 1) => {
            code.extend([I::LocalGet(low), I::LocalGet(high), I::I8x16Shuffle(LOW_HALVES)]);
        }
        (Value::Two(low, high), _) => code.get(if half == 0 { low } else { high }),
    }
}

/// Loads four elements from the address in `address` plus `offset`.
pub(super) fn load(code: &mut Code, dtype: DType, address: Local, offset: u32) -> Value {
    define(code, halves_of(dtype), |code, half| {
        code.get(address);
        let place = at(offset + if half == 0 { 0 } else { 16 });
        match dtype.size() {
            4 | 8 => code.push(I::V128Load(place)),
            2 if dtype.is_signed_int() => code.push(I::V128Load16x4S(place)),
            2 => code.push(I::V128Load16x4U(place)),
            _ => {
                code.push(I::V128Load32Zero(place));
                code.extend(if dtype.is_signed_int() {
                    [I::I16x8ExtendLowI8x16S, I::I32x4ExtendLowI16x8S]
                } else {
                    [I::I16x8ExtendLowI8x16U, I::I32x4ExtendLowI16x8U]
                });
            }
        }
        if dtype == DType::Bool {
            code.splat32(0);
            code.push(I::I32x4Ne);
        }
    })
}

/// Stores four elements, NaN made the canonical one.
pub(super) fn store(code: &mut Code, dtype: DType, address: Local, offset: u32, value: Value) {
    for half in 0..halves_of(dtype) {
        code.get(address);
        let place = at(offset + if half == 0 { 0 } else { 16 });
        match dtype {
            DType::Bool => {
                push_mask(code, value, 1, 0);
                code.splat32(1);
                code.push(I::V128And);
            }
            DType::F32 | DType::F64 => push_canonical(code, dtype, value, half),
            _ => push(code, value, half),
        }
        let signed = dtype.is_signed_int();
        if dtype.size() <= 2 {
            let copy = code.take(Class::V128);
            code.extend([I::LocalTee(copy), I::LocalGet(copy)]);
            code.push(if signed { I::I16x8NarrowI32x4S } else { I::I16x8NarrowI32x4U });
            if dtype.size() == 1 {
                code.extend([I::LocalTee(copy), I::LocalGet(copy)]);
                code.push(if signed { I::I8x16NarrowI16x8S } else { I::I8x16NarrowI16x8U });
            }
            code.give(Class::V128, copy);
        }
        code.push(match dtype.size() {
            1 => I::V128Store32Lane { memarg: place, lane: 0 },
            2 => I::V128Store64Lane { memarg: place, lane: 0 },
            _ => I::V128Store(place),
        });
    }
}

fn push_canonical(code: &mut Code, dtype: DType, value: Value, half: usize) {
    let copy = code.take(Class::V128);
    push(code, value, half);
    code.tee(copy);
    match dtype {
        DType::F32 => code.splat32(NAN32),
        _ => code.splat64(NAN64),
    }
    code.extend([I::LocalGet(copy), I::LocalGet(copy)]);
    code.push(if dtype == DType::F32 { I::F32x4Eq } else { I::F64x2Eq });
    code.push(I::V128Bitselect);
    code.give(Class::V128, copy);
}

pub(super) fn unary(code: &mut Code, op: UnaryOp, dtype: DType, a: Value) -> Value {
    if dtype == DType::Bool {
        let halves = a.halves();
        return define(code, halves, |code, half| {
            push_mask(code, a, halves, half);
            code.push(I::V128Not);
        });
    }
    define(code, halves_of(dtype), |code, half| {
        push(code, a, half);
        if let Some(instruction) = simd::unary(op, dtype) {
            code.push(instruction);
        }
        wrap(code, dtype);
    })
}

pub(super) fn binary(code: &mut Code, op: BinaryOp, dtype: DType, a: Value, b: Value) -> Value {
    if dtype == DType::Bool {
        return mask_binary(code, op, a, b);
    }
    let halves = halves_of(dtype);
    if let Some(instruction) = simd::binary(op, dtype) {
        return define(code, halves, |code, half| {
            push(code, a, half);
            push(code, b, half);
            code.push(instruction.clone());
            wrap(code, dtype);
        });
    }
    match (op, b) {
        (BinaryOp::Min | BinaryOp::Max, _) => {
            let order = if op == BinaryOp::Min { CompareOp::Lt } else { CompareOp::Gt };
            define(code, halves, |code, half| {
                push(code, a, half);
                push(code, b, half);
                push_compare(code, order, dtype, a, b, half);
                code.push(I::V128Bitselect);
            })
        }
        (BinaryOp::Shl | BinaryOp::Shr, Value::Const(distance)) => {
            shift_by_constant(code, op, dtype, a, distance.bits())
        }
        _ => by_lanes(code, dtype, dtype, [a, b], |code, [a, b]| {
            scalar::binary(code, op, dtype, a, b);
        }),
    }
}

fn mask_binary(code: &mut Code, op: BinaryOp, a: Value, b: Value) -> Value {
    let halves = a.halves().max(b.halves());
    define(code, halves, |code, half| {
        push_mask(code, a, halves, half);
        push_mask(code, b, halves, half);
        code.push(match op {
            BinaryOp::And | BinaryOp::Min => I::V128And,
            BinaryOp::Xor => I::V128Xor,
            // All others are not defined for bool.
            _ => I::V128Or,
        });
    })
}

fn shift_by_constant(
    code: &mut Code,
    op: BinaryOp,
    dtype: DType,
    a: Value,
    distance: u64,
) -> Value {
    let width = scalar::bits(dtype);
    let signed = dtype.is_signed_int() && op == BinaryOp::Shr;
    let distance = match u32::try_from(distance) {
        Ok(distance) if distance < width => distance,
        _ if signed => width - 1,
        _ => return Value::Const(Scalar::from_bits(dtype, 0)),
    };
    define(code, halves_of(dtype), |code, half| {
        push(code, a, half);
        code.i32(distance);
        code.push(simd::shift(op, dtype));
        wrap(code, dtype);
    })
}

pub(super) fn compare(code: &mut Code, op: CompareOp, dtype: DType, a: Value, b: Value) -> Value {
    if dtype != DType::Bool {
        return define(code, halves_of(dtype), |code, half| {
            push_compare(code, op, dtype, a, b, half);
        });
    }
    let halves = a.halves().max(b.halves());
    define(code, halves, |code, half| {
        // false < true: `V128AndNot` is the first operand without the second.
        let (first, second) = match op {
            CompareOp::Lt | CompareOp::Ge => (b, a),
            _ => (a, b),
        };
        push_mask(code, first, halves, half);
        push_mask(code, second, halves, half);
        match op {
            CompareOp::Eq => code.extend([I::V128Xor, I::V128Not]),
            CompareOp::Ne => code.push(I::V128Xor),
            CompareOp::Lt | CompareOp::Gt => code.push(I::V128AndNot),
            CompareOp::Ge | CompareOp::Le => code.extend([I::V128AndNot, I::V128Not]),
        }
    })
}

fn push_compare(code: &mut Code, op: CompareOp, dtype: DType, a: Value, b: Value, half: usize) {
    for value in [a, b] {
        push(code, value, half);
        if dtype == DType::U64 && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            // There is no unsigned comparison of 64-bit lanes: with the top bits flipped the signed one is it.
            code.splat64(1 << 63);
            code.push(I::V128Xor);
        }
    }
    code.push(simd::compare(op, dtype));
}

pub(super) fn select(
    code: &mut Code,
    dtype: DType,
    condition: Value,
    yes: Value,
    no: Value,
) -> Value {
    if dtype == DType::Bool {
        let halves = condition.halves().max(yes.halves()).max(no.halves());
        return define(code, halves, |code, half| {
            for mask in [yes, no, condition] {
                push_mask(code, mask, halves, half);
            }
            code.push(I::V128Bitselect);
        });
    }
    let halves = halves_of(dtype);
    define(code, halves, |code, half| {
        push(code, yes, half);
        push(code, no, half);
        push_mask(code, condition, halves, half);
        code.push(I::V128Bitselect);
    })
}

pub(super) fn reinterpret(code: &mut Code, to: DType, a: Value) -> Value {
    define(code, halves_of(to), |code, half| {
        push(code, a, half);
        wrap(code, to);
    })
}

pub(super) fn cast(code: &mut Code, from: DType, to: DType, a: Value) -> Value {
    match (from, to) {
        (DType::Bool, DType::Bool) => {
            let halves = a.halves();
            return define(code, halves, |code, half| push_mask(code, a, halves, half));
        }
        (DType::Bool, _) => return cast_mask(code, to, a),
        (_, DType::Bool) => {
            let zero = Value::Const(Scalar::from_bits(from, 0));
            return compare(code, CompareOp::Ne, from, a, zero);
        }
        _ => {}
    }
    match (Class::of(from), Class::of(to)) {
        (Class::I32, Class::I32) => define(code, 1, |code, _| {
            push(code, a, 0);
            wrap(code, to);
        }),
        (Class::I32, Class::I64) => define(code, 2, |code, half| {
            push(code, a, 0);
            code.push(simd::extend(from.is_signed_int(), half));
        }),
        (Class::I64, Class::I32) => define(code, 1, |code, _| {
            push(code, a, 0);
            push(code, a, 1);
            code.push(I::I8x16Shuffle(LOW_HALVES));
            wrap(code, to);
        }),
        (Class::I32, Class::F32) => define(code, 1, |code, _| {
            push(code, a, 0);
            code.push(if from == DType::U32 {
                I::F32x4ConvertI32x4U
            } else {
                I::F32x4ConvertI32x4S
            });
        }),
        (Class::I32, Class::F64) => define(code, 2, |code, half| {
            push_low_pair(code, a, half);
            code.push(if from == DType::U32 {
                I::F64x2ConvertLowI32x4U
            } else {
                I::F64x2ConvertLowI32x4S
            });
        }),
        (Class::F32, Class::F64) => define(code, 2, |code, half| {
            push_low_pair(code, a, half);
            code.push(I::F64x2PromoteLowF32x4);
        }),
        (Class::F64, Class::F32) => join_pairs(code, a, &I::F32x4DemoteF64x2Zero),
        (Class::F32, Class::I32) => {
            let cut =
                if to == DType::U32 { I::I32x4TruncSatF32x4U } else { I::I32x4TruncSatF32x4S };
            define(code, 1, |code, _| {
                push(code, a, 0);
                code.push(cut.clone());
                clamp(code, to);
            })
        }
        (Class::F64, Class::I32) => {
            let cut = if to == DType::U32 {
                I::I32x4TruncSatF64x2UZero
            } else {
                I::I32x4TruncSatF64x2SZero
            };
            let joined = join_pairs(code, a, &cut);
            let clamped = define(code, 1, |code, _| {
                push(code, joined, 0);
                clamp(code, to);
            });
            joined.release(code);
            clamped
        }
        (from_class, to_class) if from_class == to_class => {
            define(code, halves_of(to), |code, half| push(code, a, half))
        }
        _ => by_lanes(code, from, to, [a], |code, [a]| scalar::cast(code, from, to, a)),
    }
}

fn cast_mask(code: &mut Code, to: DType, a: Value) -> Value {
    // As an unsigned byte, so that every conversion below sees 0 or 1.
    let bits = define(code, 1, |code, _| {
        push_mask(code, a, 1, 0);
        code.splat32(1);
        code.push(I::V128And);
    });
    if Class::of(to) == Class::I32 {
        return bits;
    }
    let value = cast(code, DType::U8, to, bits);
    bits.release(code);
    value
}

/// Pushes a vector whose low 64 bits are two of the four lanes.
fn push_low_pair(code: &mut Code, a: Value, half: usize) {
    push(code, a, 0);
    if half == 1 {
        push(code, a, 0);
        code.push(I::I8x16Shuffle(HIGH_DOWN));
    }
}

/// Narrows two vectors of two lanes, each to the low 64 bits of one, and joins them.
fn join_pairs(code: &mut Code, a: Value, narrow: &I<'static>) -> Value {
    define(code, 1, |code, _| {
        for half in 0..2 {
            push(code, a, half);
            code.push(narrow.clone());
        }
        code.push(I::I8x16Shuffle(LOW_PAIRS));
    })
}

/// Saturates the 32-bit lanes on the stack to a narrower dtype.
fn clamp(code: &mut Code, dtype: DType) {
    if let Some((lowest, highest)) = scalar::range(dtype) {
        code.splat32(lowest.cast_unsigned());
        code.push(I::I32x4MaxS);
        code.splat32(highest.cast_unsigned());
        code.push(I::I32x4MinS);
    }
}

/// Cuts the 32-bit lanes on the stack to a narrow dtype and extends them again.
fn wrap(code: &mut Code, dtype: DType) {
    let spare = match dtype.size() {
        1 => 24,
        2 => 16,
        _ => return,
    };
    if dtype.is_signed_int() {
        code.extend([I::I32Const(spare), I::I32x4Shl, I::I32Const(spare), I::I32x4ShrS]);
    } else {
        code.splat32(u32::MAX >> spare);
        code.push(I::V128And);
    }
}

/// Takes the lanes apart, computes each by scalar code, and puts the results together.
fn by_lanes<const N: usize>(
    code: &mut Code,
    from: DType,
    to: DType,
    operands: [Value; N],
    emit: impl Fn(&mut Code, [Local; N]),
) -> Value {
    let result = define(code, halves_of(to), |code, _| code.splat32(0));
    let locals = operands.map(|_| code.take(Class::of(from)));
    for element in 0..4u8 {
        for (value, local) in operands.into_iter().zip(locals) {
            match value {
                Value::Const(scalar) => scalar::constant(code, scalar),
                _ => {
                    let (half, lane) = place(from, element);
                    push(code, value, half);
                    code.push(simd::extract(from, lane));
                }
            }
            code.set(local);
        }
        let (half, lane) = place(to, element);
        push(code, result, half);
        emit(code, locals);
        code.push(simd::replace(to, lane));
        match (result, half) {
            (Value::Two(_, high), 1) => code.set(high),
            (Value::One(local) | Value::Two(local, _), _) => code.set(local),
            (Value::Const(_), _) => {}
        }
    }
    for local in locals {
        code.give(Class::of(from), local);
    }
    result
}

fn place(dtype: DType, element: u8) -> (usize, u8) {
    if halves_of(dtype) == 2 { (usize::from(element / 2), element % 2) } else { (0, element) }
}
