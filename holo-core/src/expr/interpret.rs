//! The reference interpreter: what a program means, element by element.
//!
//! Exact meanings, the same on every engine:
//!
//! - Integers wrap. `FloorDiv` rounds towards minus infinity and `Rem` has the divisor's sign; by 0 both give 0; the
//!   smallest integer divided by -1 is itself. Shifts take their distance as an unsigned number; one of the width or
//!   more gives 0, or -1 for a negative value shifted right.
//! - Floats follow IEEE 754, each operation rounded once to its own dtype, nothing fused. With `cut` the exact
//!   remainder of a/b with the sign of a (C's `fmod`), `Rem` is `cut`, plus b where both are nonzero and their signs
//!   differ, and a zero takes the sign of b; `FloorDiv` is `(a - cut)/b`, less 1 where b was added to `cut`, rounded
//!   to the integer below or, when it is more than half above that, the one above; a zero takes the sign of a/b.
//!   Dividing by 0, `FloorDiv` is `a/b` and `Rem` NaN. That is NumPy's definition.
//! - `Min` and `Max` of floats: NaN when either is NaN, and -0 is smaller than +0.
//! - `Round` goes to the nearest integer, ties to even. `Abs` of the smallest integer is itself.
//! - `Cast` from float to integer truncates, saturates, and makes 0 of NaN; to bool it is `!= 0`.
//! - `exp`, `log`, `sin`, `cos`, `tanh` and `Pow` are what [`crate::expr::lower`] makes of them.
//! - A NaN is stored as the one quiet NaN (`0x7fc00000`, `0x7ff8000000000000`). Its bits are not otherwise defined:
//!   no lowered program depends on the bits of a NaN that it reinterprets.

use crate::expr::column::Column;
use crate::expr::{Op, Program, lower};
use crate::{DType, ErrorCode, Failure, Scalar};

/// Elements that pass through all nodes at once. A multiple of the lanes of a reduction.
pub(super) const BLOCK_ELEMS: usize = 1024;

/// Computes the program's values for `elems` elements; `inputs` holds that many elements of each input, and the first
/// one has the flat index `first_index`. A reduction is not applied: the result has the elements that it would take.
///
/// Returns the elements in the dtype of the root, little-endian.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`] when `inputs` does not fit the program.
pub fn evaluate(
    program: &Program,
    inputs: &[&[u8]],
    first_index: u64,
    elems: usize,
) -> Result<Vec<u8>, Failure> {
    let mut machine = Interpreter::new(program, inputs, first_index, elems)?;
    let mut out = Vec::with_capacity(elems.saturating_mul(program.dtype(program.root()).size()));
    while let Some(block) = machine.next_block()? {
        block.store(&mut out);
    }
    Ok(out)
}

/// One operation on constants.
pub(super) fn fold(op: &Op, operands: &[Scalar]) -> Option<Scalar> {
    let ops: Vec<Op> = operands.iter().map(|value| Op::Const(*value)).chain([*op]).collect();
    let root = crate::expr::NodeIndex(u32::try_from(operands.len()).ok()?);
    let program = Program::new(Vec::new(), ops, root, None).ok()?;
    let mut machine = Interpreter::new(&program, &[], 0, 1).ok()?;
    machine.next_block().ok()?.map(|column| column.scalar(0))
}

/// Walks over the elements block by block.
pub(super) struct Interpreter<'a> {
    program: Program,
    inputs: &'a [&'a [u8]],
    first_index: u64,
    elems: usize,
    done: usize,
    /// For each node the last one that uses it.
    last_use: Vec<usize>,
}

impl<'a> Interpreter<'a> {
    pub(super) fn new(
        program: &Program,
        inputs: &'a [&'a [u8]],
        first_index: u64,
        elems: usize,
    ) -> Result<Self, Failure> {
        let program = lower(program);
        let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
        if inputs.len() != program.inputs().len() {
            return refuse(format!(
                "{} inputs for a program of {}",
                inputs.len(),
                program.inputs().len()
            ));
        }
        for (input, bytes) in program.inputs().iter().zip(inputs) {
            if Some(bytes.len()) != elems.checked_mul(input.dtype.size()) {
                return refuse(format!(
                    "{} bytes of input {} for {elems} elements of {}",
                    bytes.len(),
                    input.name,
                    input.dtype
                ));
            }
        }
        let mut last_use = vec![0; program.nodes().len()];
        for (index, (op, _)) in program.nodes().iter().enumerate() {
            for operand in op.operands().into_iter().flatten() {
                last_use[operand.0 as usize] = index;
            }
        }
        last_use[program.root().0 as usize] = usize::MAX;
        Ok(Self { program, inputs, first_index, elems, done: 0, last_use })
    }

    /// The root's values of the next block; `None` after the last.
    pub(super) fn next_block(&mut self) -> Result<Option<Column>, Failure> {
        let count = (self.elems - self.done).min(BLOCK_ELEMS);
        if count == 0 {
            return Ok(None);
        }
        let root = self.program.root().0 as usize;
        let mut values: Vec<Option<Column>> = vec![None; root + 1];
        for index in 0..=root {
            let (op, _) = self.program.nodes()[index];
            let value = self.compute(&op, &values, count);
            // A program that exists is well typed, so this is a bug, and no reason to fall over.
            let value = value.ok_or_else(|| {
                Failure::new(
                    ErrorCode::Internal,
                    format!("node {index} cannot be computed: {op:?}"),
                )
            })?;
            values[index] = Some(value);
            for operand in op.operands().into_iter().flatten() {
                if self.last_use[operand.0 as usize] == index {
                    values[operand.0 as usize] = None;
                }
            }
        }
        self.done += count;
        Ok(values.pop().flatten())
    }

    fn compute(&self, op: &Op, values: &[Option<Column>], count: usize) -> Option<Column> {
        let value = |node: crate::expr::NodeIndex| values.get(node.0 as usize)?.as_ref();
        match *op {
            Op::Input(input) => {
                let dtype = self.program.inputs().get(usize::from(input))?.dtype;
                let bytes = self.inputs.get(usize::from(input))?;
                let start = self.done * dtype.size();
                let bytes = bytes.get(start..start + count * dtype.size())?;
                Some(Column::from_le_bytes(dtype, bytes))
            }
            Op::Index => {
                let start = self.first_index.wrapping_add(self.done as u64);
                let indexes = (0..count as u64).map(|k| start.wrapping_add(k).cast_signed());
                Some(Column::I64(indexes.collect()))
            }
            Op::Const(scalar) => Some(Column::splat(scalar, count)),
            Op::Unary(op, a) => Some(value(a)?.unary(op)),
            Op::Binary(op, a, b) => value(a)?.binary(op, value(b)?),
            Op::Compare(op, a, b) => value(a)?.compare(op, value(b)?),
            Op::Select { condition, yes, no } => value(condition)?.select(value(yes)?, value(no)?),
            Op::Cast(dtype, a) => Some(value(a)?.cast(dtype)),
            Op::Reinterpret(dtype, a) => Some(value(a)?.reinterpret(dtype)),
        }
    }

    /// Dtype of the values.
    pub(super) fn dtype(&self) -> DType {
        self.program.dtype(self.program.root())
    }
}

#[cfg(test)]
mod tests;
