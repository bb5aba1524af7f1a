//! Which SIMD instruction is which operation.

use holo_core::{
    DType,
    expr::{BinaryOp, CompareOp, UnaryOp},
};
use wasm_encoder::Instruction as I;

use super::code::Class;

/// `None` where the value stays as it is.
pub(super) fn unary(op: UnaryOp, dtype: DType) -> Option<I<'static>> {
    Some(match (op, Class::of(dtype)) {
        (UnaryOp::Neg, Class::F32) => I::F32x4Neg,
        (UnaryOp::Neg, Class::F64) => I::F64x2Neg,
        (UnaryOp::Neg, Class::I64) => I::I64x2Neg,
        (UnaryOp::Neg, _) => I::I32x4Neg,
        (UnaryOp::Abs, Class::F32) => I::F32x4Abs,
        (UnaryOp::Abs, Class::F64) => I::F64x2Abs,
        (UnaryOp::Abs, _) if !dtype.is_signed_int() => return None,
        (UnaryOp::Abs, Class::I64) => I::I64x2Abs,
        (UnaryOp::Abs, _) => I::I32x4Abs,
        (UnaryOp::Not, _) => I::V128Not,
        (UnaryOp::Sqrt, Class::F32) => I::F32x4Sqrt,
        (UnaryOp::Sqrt, _) => I::F64x2Sqrt,
        (UnaryOp::Floor, Class::F32) => I::F32x4Floor,
        (UnaryOp::Floor, _) => I::F64x2Floor,
        (UnaryOp::Ceil, Class::F32) => I::F32x4Ceil,
        (UnaryOp::Ceil, _) => I::F64x2Ceil,
        (UnaryOp::Trunc, Class::F32) => I::F32x4Trunc,
        (UnaryOp::Trunc, _) => I::F64x2Trunc,
        (UnaryOp::Round, Class::F32) => I::F32x4Nearest,
        (UnaryOp::Round, _) => I::F64x2Nearest,
        // Programs are lowered before: `super::assemble` refuses one that still has these.
        (UnaryOp::Exp | UnaryOp::Log | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tanh, _) => {
            I::Unreachable
        }
    })
}

/// `None` where there is no such instruction.
pub(super) fn binary(op: BinaryOp, dtype: DType) -> Option<I<'static>> {
    let class = Class::of(dtype);
    Some(match (op, class) {
        (BinaryOp::Add, Class::F32) => I::F32x4Add,
        (BinaryOp::Add, Class::F64) => I::F64x2Add,
        (BinaryOp::Add, Class::I64) => I::I64x2Add,
        (BinaryOp::Add, _) => I::I32x4Add,
        (BinaryOp::Sub, Class::F32) => I::F32x4Sub,
        (BinaryOp::Sub, Class::F64) => I::F64x2Sub,
        (BinaryOp::Sub, Class::I64) => I::I64x2Sub,
        (BinaryOp::Sub, _) => I::I32x4Sub,
        (BinaryOp::Mul, Class::F32) => I::F32x4Mul,
        (BinaryOp::Mul, Class::F64) => I::F64x2Mul,
        (BinaryOp::Mul, Class::I64) => I::I64x2Mul,
        (BinaryOp::Mul, _) => I::I32x4Mul,
        (BinaryOp::Div, Class::F32) => I::F32x4Div,
        (BinaryOp::Div, Class::F64) => I::F64x2Div,
        (BinaryOp::Min, Class::F32) => I::F32x4Min,
        (BinaryOp::Min, Class::F64) => I::F64x2Min,
        (BinaryOp::Min, Class::I32) if dtype == DType::U32 => I::I32x4MinU,
        (BinaryOp::Min, Class::I32) => I::I32x4MinS,
        (BinaryOp::Max, Class::F32) => I::F32x4Max,
        (BinaryOp::Max, Class::F64) => I::F64x2Max,
        (BinaryOp::Max, Class::I32) if dtype == DType::U32 => I::I32x4MaxU,
        (BinaryOp::Max, Class::I32) => I::I32x4MaxS,
        (BinaryOp::And, _) => I::V128And,
        (BinaryOp::Or, _) => I::V128Or,
        (BinaryOp::Xor, _) => I::V128Xor,
        _ => return None,
    })
}

pub(super) fn shift(op: BinaryOp, dtype: DType) -> I<'static> {
    match (op, Class::of(dtype) == Class::I64, dtype.is_signed_int()) {
        (BinaryOp::Shl, true, _) => I::I64x2Shl,
        (BinaryOp::Shl, false, _) => I::I32x4Shl,
        (_, true, true) => I::I64x2ShrS,
        (_, true, false) => I::I64x2ShrU,
        (_, false, true) => I::I32x4ShrS,
        (_, false, false) => I::I32x4ShrU,
    }
}

/// Of `uint64` the caller has flipped the top bits.
pub(super) fn compare(op: CompareOp, dtype: DType) -> I<'static> {
    let unsigned = dtype == DType::U32;
    match (op, Class::of(dtype)) {
        (CompareOp::Eq, Class::F32) => I::F32x4Eq,
        (CompareOp::Eq, Class::F64) => I::F64x2Eq,
        (CompareOp::Eq, Class::I64) => I::I64x2Eq,
        (CompareOp::Eq, _) => I::I32x4Eq,
        (CompareOp::Ne, Class::F32) => I::F32x4Ne,
        (CompareOp::Ne, Class::F64) => I::F64x2Ne,
        (CompareOp::Ne, Class::I64) => I::I64x2Ne,
        (CompareOp::Ne, _) => I::I32x4Ne,
        (CompareOp::Lt, Class::F32) => I::F32x4Lt,
        (CompareOp::Lt, Class::F64) => I::F64x2Lt,
        (CompareOp::Lt, Class::I64) => I::I64x2LtS,
        (CompareOp::Lt, _) if unsigned => I::I32x4LtU,
        (CompareOp::Lt, _) => I::I32x4LtS,
        (CompareOp::Le, Class::F32) => I::F32x4Le,
        (CompareOp::Le, Class::F64) => I::F64x2Le,
        (CompareOp::Le, Class::I64) => I::I64x2LeS,
        (CompareOp::Le, _) if unsigned => I::I32x4LeU,
        (CompareOp::Le, _) => I::I32x4LeS,
        (CompareOp::Gt, Class::F32) => I::F32x4Gt,
        (CompareOp::Gt, Class::F64) => I::F64x2Gt,
        (CompareOp::Gt, Class::I64) => I::I64x2GtS,
        (CompareOp::Gt, _) if unsigned => I::I32x4GtU,
        (CompareOp::Gt, _) => I::I32x4GtS,
        (CompareOp::Ge, Class::F32) => I::F32x4Ge,
        (CompareOp::Ge, Class::F64) => I::F64x2Ge,
        (CompareOp::Ge, Class::I64) => I::I64x2GeS,
        (CompareOp::Ge, _) if unsigned => I::I32x4GeU,
        (CompareOp::Ge, _) => I::I32x4GeS,
    }
}

/// Widens two of four 32-bit lanes.
pub(super) fn extend(signed: bool, half: usize) -> I<'static> {
    match (signed, half) {
        (true, 0) => I::I64x2ExtendLowI32x4S,
        (true, _) => I::I64x2ExtendHighI32x4S,
        (false, 0) => I::I64x2ExtendLowI32x4U,
        (false, _) => I::I64x2ExtendHighI32x4U,
    }
}

pub(super) fn extract(dtype: DType, lane: u8) -> I<'static> {
    match Class::of(dtype) {
        Class::F32 => I::F32x4ExtractLane(lane),
        Class::F64 => I::F64x2ExtractLane(lane),
        Class::I64 => I::I64x2ExtractLane(lane),
        Class::I32 | Class::V128 => I::I32x4ExtractLane(lane),
    }
}

pub(super) fn replace(dtype: DType, lane: u8) -> I<'static> {
    match Class::of(dtype) {
        Class::F32 => I::F32x4ReplaceLane(lane),
        Class::F64 => I::F64x2ReplaceLane(lane),
        Class::I64 => I::I64x2ReplaceLane(lane),
        Class::I32 | Class::V128 => I::I32x4ReplaceLane(lane),
    }
}
