//! Instructions of one function, with its locals.

use std::collections::BTreeMap;

use holo_core::{DType, Scalar};
use wasm_encoder::{BlockType, Function, Instruction as I, MemArg, ValType};

/// Index of a local.
pub(super) type Local = u32;

/// A function body under construction.
///
/// Locals are taken and given back, so that a long expression needs as many as values are alive at once.
#[derive(Debug)]
pub(super) struct Code {
    body: Vec<I<'static>>,
    parameters: u32,
    locals: Vec<ValType>,
    free: BTreeMap<Class, Vec<Local>>,
}

impl Code {
    /// A body of a function with so many parameters.
    pub(super) fn new(parameters: u32) -> Self {
        Self { body: Vec::new(), parameters, locals: Vec::new(), free: BTreeMap::new() }
    }

    pub(super) fn push(&mut self, instruction: I<'static>) {
        self.body.push(instruction);
    }

    pub(super) fn extend(&mut self, instructions: impl IntoIterator<Item = I<'static>>) {
        self.body.extend(instructions);
    }

    pub(super) fn get(&mut self, local: Local) {
        self.push(I::LocalGet(local));
    }

    pub(super) fn set(&mut self, local: Local) {
        self.push(I::LocalSet(local));
    }

    pub(super) fn tee(&mut self, local: Local) {
        self.push(I::LocalTee(local));
    }

    pub(super) fn i32(&mut self, value: u32) {
        self.push(I::I32Const(value.cast_signed()));
    }

    /// A `v128` constant of four equal 32-bit lanes.
    pub(super) fn splat32(&mut self, value: u32) {
        self.splat64(u64::from(value) << 32 | u64::from(value));
    }

    /// A `v128` constant of two equal 64-bit lanes.
    pub(super) fn splat64(&mut self, value: u64) {
        let lanes = u128::from(value) << 64 | u128::from(value);
        self.push(I::V128Const(lanes.cast_signed()));
    }

    /// A local that nobody uses; its value is undefined.
    pub(super) fn take(&mut self, class: Class) -> Local {
        if let Some(local) = self.free.entry(class).or_default().pop() {
            return local;
        }
        let index = u32::try_from(self.locals.len()).unwrap_or(u32::MAX - self.parameters);
        self.locals.push(class.val_type());
        self.parameters + index
    }

    /// The local may be taken again.
    pub(super) fn give(&mut self, class: Class, local: Local) {
        self.free.entry(class).or_default().push(local);
    }

    /// `if (the i32 on the stack) { yes } else { no }`, both of which push one value of the class.
    pub(super) fn if_else(
        &mut self,
        class: Class,
        yes: impl FnOnce(&mut Self),
        no: impl FnOnce(&mut Self),
    ) {
        self.push(I::If(BlockType::Result(class.val_type())));
        yes(self);
        self.push(I::Else);
        no(self);
        self.push(I::End);
    }

    pub(super) fn finish(mut self) -> Function {
        self.push(I::End);
        let mut function = Function::new_with_locals_types(self.locals);
        for instruction in &self.body {
            function.instruction(instruction);
        }
        function
    }
}

/// Where a value lives in WASM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Integers up to 32 bits and bool, extended to 32 bits by their own sign.
    I32,
    I64,
    F32,
    F64,
    V128,
}

impl Class {
    pub(super) fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F64 => Self::F64,
            DType::I64 | DType::U64 => Self::I64,
            _ => Self::I32,
        }
    }

    pub(super) fn val_type(self) -> ValType {
        match self {
            Self::I32 => ValType::I32,
            Self::I64 => ValType::I64,
            Self::F32 => ValType::F32,
            Self::F64 => ValType::F64,
            Self::V128 => ValType::V128,
        }
    }
}

/// The address on the stack plus a constant. Alignment is only a hint, and the least one is always true.
pub(super) fn at(offset: u32) -> MemArg {
    MemArg { offset: u64::from(offset), align: 0, memory_index: 0 }
}

/// A constant as it is kept in a 32-bit lane or local: extended by its own sign.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "32 bits hold every dtype that this is called for"
)]
pub(super) fn extended32(value: Scalar) -> u32 {
    match value.dtype() {
        DType::F32 => value.bits() as u32,
        _ => value.to_i128() as u32,
    }
}
