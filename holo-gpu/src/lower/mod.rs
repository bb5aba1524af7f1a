//! Lowers a program to one WGSL kernel. Pure: no adapter is asked.
//!
//! Every array is an `array<u32>` of words, so that NaN payloads survive and dtypes smaller than a word need no
//! extension. One function `element(i)` computes the program for the element `i` of the chunk that was sent; it
//! stands behind either an entry point that stores four elements per invocation, or one that reduces 4,096 elements
//! per workgroup to one partial value, which the host folds.

mod carrier;
mod emit;
mod fold;
mod kernel;
mod library;

#[cfg(test)]
mod tests;

pub(crate) use fold::fold_partials;
pub use kernel::Kernel;
pub(crate) use kernel::{Chunk, Stage};

use holo_core::expr::{BinaryOp, Op, Program, Reduction};
use holo_core::{DType, Scalar};

use crate::GpuError;
use carrier::Carrier;

/// Loop iterations of one invocation, with a margin below the 65,535 after which Mesa's lavapipe ends all loops.
const LOOP_ITERATIONS_MAX: usize = 60_000;
/// Iterations of a 64-bit division.
const PAIR_DIVIDE_ITERATIONS: usize = 64;
/// Iterations of a `float32` remainder.
const FLOAT_REMAINDER_ITERATIONS: usize = 32;
/// Iterations of a `float32` power.
const FLOAT_POWER_ITERATIONS: usize = 5;

/// Lowers a program to WGSL.
///
/// Integers and bools are computed exactly as [`holo_core::expr`] defines, `int64` and `uint64` as pairs of words.
///
/// # Accuracy of `float32`
///
/// Comparisons, min, max, casts, floor, ceil, trunc, round, negation and the remainder are exact, NaN and infinities
/// included. WGSL permits the rest to differ from the CPU: a driver may contract `a * b + c`, simplify `a + b - a`
/// and `a - a` as if no value were infinite, flush subnormals to zero, and round a quotient or root within 2.5 units
/// in the last place. Per operation, relative to a result of normal size: `+ - *` 2^-23, `/` and `sqrt` 2^-22, `exp`,
/// `log`, `sin`, `cos`, `tanh` 2^-21 (`sin` and `cos` for every finite argument), `pow(x, y)` 2^-22 (4 + 2 |y ln x|).
///
/// Sums and products of integers are exact modulo 2^64. A sum of `float32` is added in `float32` 16 at a time, then
/// pairwise over 256 lanes, then in `float64` on the host: its error stays below 24 * 2^-24 * sum(|x|), and it
/// overflows where 4,096 neighbours leave the range of `float32`.
///
/// # Errors
///
/// [`GpuError::Unsupported`] where the program uses `float64`, multiplies `float32` values into one product, or
/// divides so often that a kernel would exceed the iterations which every driver runs.
pub fn lower_to_wgsl(program: &Program) -> Result<Kernel, GpuError> {
    let live = live_nodes(program);
    for (index, (_, dtype)) in program.nodes().iter().enumerate() {
        if live[index] {
            Carrier::of(*dtype)?;
        }
    }
    let stage = stage_of(program)?;
    let mut lowering = Lowering { program, constants: Vec::new(), body: String::new() };
    for (index, (op, dtype)) in program.nodes().iter().enumerate() {
        if live[index] {
            let value = lowering.value(*op, *dtype)?;
            lowering.body.push_str(&format!("    let v{index} = {value};\n"));
        }
    }
    check_loops(program, &live, stage)?;
    let carrier = Carrier::of(program.dtype(program.root()))?;
    let element = format!(
        "fn element(i: u32) -> {} {{\n{}    return v{};\n}}\n",
        carrier.wgsl(),
        lowering.body,
        program.root().0
    );
    let entry = match stage {
        Stage::Elements(dtype) => emit::store_entry(dtype),
        Stage::Partials { reduction, element } => emit::reduce_entry(reduction, element)?,
    };
    let own = [element, entry].join("\n");
    let source = [HEADER, &library::needed_by(&own), &own].join("\n");
    let inputs = program.inputs().iter().map(|input| input.dtype).collect();
    Ok(Kernel::new(source, lowering.constants, inputs, stage))
}

const HEADER: &str = include_str!("bindings.wgsl");

/// The nodes that the root needs: what nobody uses need not fit a GPU.
fn live_nodes(program: &Program) -> Vec<bool> {
    let mut live = vec![false; program.nodes().len()];
    live[program.root().0 as usize] = true;
    for index in (0..live.len()).rev() {
        if live[index] {
            for operand in operands(program.nodes()[index].0) {
                live[operand as usize] = true;
            }
        }
    }
    live
}

fn operands(op: Op) -> Vec<u32> {
    match op {
        Op::Input(_) | Op::Index | Op::Const(_) => Vec::new(),
        Op::Unary(_, a) | Op::Cast(_, a) | Op::Reinterpret(_, a) => vec![a.0],
        Op::Binary(_, a, b) | Op::Compare(_, a, b) => vec![a.0, b.0],
        Op::Select { condition, yes, no } => vec![condition.0, yes.0, no.0],
    }
}

fn stage_of(program: &Program) -> Result<Stage, GpuError> {
    let element = program.dtype(program.root());
    match program.reduction() {
        None => Ok(Stage::Elements(element)),
        Some(Reduction::Prod) if element.is_float() => Err(GpuError::Unsupported {
            what: "a product of float32 values needs float64, which no WGSL device has".into(),
            help: "use `--device cpu`".into(),
        }),
        Some(reduction) => Ok(Stage::Partials { reduction, element }),
    }
}

/// Mesa's lavapipe counts the iterations of all loops of an invocation together and ends them at 65,535.
fn check_loops(program: &Program, live: &[bool], stage: Stage) -> Result<(), GpuError> {
    let iterations_of = |op: Op, dtype: DType| match op {
        Op::Binary(BinaryOp::FloorDiv | BinaryOp::Rem, ..) if dtype == DType::F32 => {
            FLOAT_REMAINDER_ITERATIONS
        }
        Op::Binary(BinaryOp::FloorDiv | BinaryOp::Rem, ..) if dtype.size() == 8 => {
            PAIR_DIVIDE_ITERATIONS
        }
        Op::Binary(BinaryOp::Pow, ..) => FLOAT_POWER_ITERATIONS,
        _ => 0,
    };
    let nodes = program.nodes().iter().zip(live).filter(|(_, live)| **live);
    let per_element: usize = nodes.map(|((op, dtype), _)| iterations_of(*op, *dtype)).sum();
    let elements = match stage {
        Stage::Elements(_) => emit::ELEMENTS_PER_INVOCATION,
        Stage::Partials { .. } => emit::SUMMANDS_PER_INVOCATION,
    };
    let iterations = elements * (per_element + 1);
    if iterations > LOOP_ITERATIONS_MAX {
        let what = format!(
            "the expression's divisions take {iterations} loop iterations per invocation of a kernel, \
             {LOOP_ITERATIONS_MAX} are possible on every driver"
        );
        let help = "split the expression in two, or use `--device cpu`".into();
        return Err(GpuError::Unsupported { what, help });
    }
    Ok(())
}

/// Writes the body of `element`, one `let` per node.
struct Lowering<'p> {
    program: &'p Program,
    /// Words of the constants, in order of their first use. Constants are data, not source: the same kernel serves
    /// `x * 2` and `x * 3`, and WGSL's constant evaluation, which refuses infinities and overflow, never sees them.
    constants: Vec<u32>,
    body: String,
}

impl Lowering<'_> {
    fn value(&mut self, op: Op, dtype: DType) -> Result<String, GpuError> {
        let of = |node: holo_core::expr::NodeIndex| self.program.dtype(node);
        Ok(match op {
            Op::Input(index) => emit::load(index, dtype),
            Op::Index => format!(
                "pair_add(vec2<u32>(params[{}], params[{}]), vec2<u32>(i, 0u))",
                kernel::PARAM_FIRST_LOW,
                kernel::PARAM_FIRST_HIGH
            ),
            Op::Const(value) => self.constant(value)?,
            Op::Unary(op, a) => emit::unary(op, dtype, &format!("v{}", a.0))?,
            Op::Binary(op, a, b) => {
                emit::binary(op, dtype, &format!("v{}", a.0), &format!("v{}", b.0))?
            }
            Op::Compare(op, a, b) => {
                emit::compare(op, of(a), &format!("v{}", a.0), &format!("v{}", b.0))?
            }
            Op::Select { condition, yes, no } => {
                format!("select(v{}, v{}, v{})", no.0, yes.0, condition.0)
            }
            Op::Cast(to, a) => emit::cast(of(a), to, &format!("v{}", a.0))?,
            Op::Reinterpret(to, a) => emit::reinterpret(of(a), to, &format!("v{}", a.0))?,
        })
    }

    fn constant(&mut self, value: Scalar) -> Result<String, GpuError> {
        let place = kernel::PARAMS_FIXED + self.program.inputs().len() + self.constants.len();
        let words = carrier::words_of(value);
        let carrier = Carrier::of(value.dtype())?;
        self.constants.extend_from_slice(&words[..carrier.words()]);
        Ok(carrier.of_words(&format!("params[{place}]"), &format!("params[{}]", place + 1)))
    }
}
