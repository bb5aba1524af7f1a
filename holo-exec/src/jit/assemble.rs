//! From a lowered program to the bytes of a module.
//!
//! The module exports `memory` and `tile(first_index: i64, elems: i32)`. Memory has the sixteen lanes of a reduction and
//! one window per operand at fixed addresses. `tile` runs a SIMD loop, then a scalar one for the elements left over.
//!
//! Short programs compute sixteen elements an iteration, the lanes of a reduction held in registers: eight vectors of
//! 64-bit accumulators, whose additions do not wait for each other. Long ones compute four, the lanes in memory.

use holo_core::{
    DType, Scalar,
    expr::{BinaryOp, NodeIndex, Op, Program, REDUCE_LANES, Reduction, UnaryOp},
};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, FunctionSection, Instruction as I,
    MemorySection, MemoryType, Module, TypeSection, ValType,
};

use super::{
    code::{Class, Code, Local, at},
    float, scalar,
    vector::{self, QUAD, Value},
};
use crate::task;

/// Address of the lanes: 16 values of 4 or 8 bytes.
pub(super) const LANES_AT: u32 = 64;
/// [`REDUCE_LANES`] as a number of elements.
const LANES: u32 = 16;
const _: () = assert!(LANES as usize == REDUCE_LANES);
const WINDOWS_AT: u32 = 4096;
/// A whole tile and an odd number of cache lines, so that loads from one window and stores to another never meet at the
/// same offset of a 4 KiB page, which stalls the processor.
const WINDOW_BYTES: u32 = task::TILE_BYTES + 17 * 64;
/// Programs of more operations run four elements an iteration instead of sixteen.
const UNROLLED_OPERATIONS_MAX: u64 = 48;
/// Units of fuel for an operation that calls a function.
const CALL_COST: u64 = 16;

const FIRST_INDEX: Local = 0;
const ELEMS: Local = 1;

/// A program as a module, and what the host needs to run it.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) wasm: Vec<u8>,
    /// Units of fuel for one element.
    pub(super) cost: u64,
    /// Whether the code reads each input at all.
    pub(super) reads: Vec<bool>,
}

/// Address of an operand's window: inputs first, then the output.
pub(super) fn window_at(operand: usize) -> u32 {
    WINDOWS_AT + WINDOW_BYTES * u32::try_from(operand).unwrap_or(0)
}

/// Dtype in which accumulators are kept: bool ones as 0 and 1 in 32 bits.
pub(super) fn lane_dtype(reduction: Reduction, element: DType) -> DType {
    match reduction.accumulator_dtype(element) {
        DType::Bool => DType::I32,
        dtype => dtype,
    }
}

/// Bytes of one lane in memory: narrow integers take 32 bits.
pub(super) fn lane_bytes(dtype: DType) -> u32 {
    if dtype.size() == 8 { 8 } else { 4 }
}

/// Writes the module. The program must be lowered.
pub(super) fn assemble(program: &Program) -> Result<Assembled, &'static str> {
    let plan = Plan::new(program)?;
    let mut module = Module::new();
    let helpers = if plan.calls { float::helpers().into() } else { Vec::new() };
    let mut types = TypeSection::new();
    types.ty().function([ValType::I64, ValType::I32], []);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut code = CodeSection::new();
    code.function(&plan.tile());
    for (index, (class, function)) in (1..).zip(&helpers) {
        types.ty().function([class.val_type(); 2], [class.val_type()]);
        functions.function(index);
        code.function(function);
    }
    let bytes = window_at(program.inputs().len() + 1);
    let minimum = u64::from(bytes.div_ceil(65_536));
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum,
        maximum: Some(minimum),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("tile", ExportKind::Func, 0);
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    Ok(Assembled { wasm: module.finish(), cost: plan.cost, reads: plan.reads })
}

/// Which nodes are computed, and how.
struct Plan<'a> {
    program: &'a Program,
    /// Nodes that the root depends on.
    needed: Vec<bool>,
    /// For each node the last one that uses it.
    last_use: Vec<usize>,
    reads: Vec<bool>,
    /// Whether an operation calls a helper function.
    calls: bool,
    cost: u64,
    /// Quads of an iteration.
    quads: u32,
}

impl<'a> Plan<'a> {
    fn new(program: &'a Program) -> Result<Self, &'static str> {
        let nodes = program.nodes();
        let root = program.root().0 as usize;
        let mut needed = vec![false; nodes.len()];
        let mut last_use = vec![0; nodes.len()];
        let mut reads = vec![false; program.inputs().len()];
        let (mut calls, mut cost) = (false, 1);
        needed[root] = true;
        last_use[root] = usize::MAX;
        for (index, (op, dtype)) in
            nodes.iter().enumerate().rev().filter(|(index, _)| *index <= root)
        {
            if !needed[index] {
                continue;
            }
            for operand in operands(op).into_iter().flatten() {
                let operand = operand.0 as usize;
                needed[operand] = true;
                last_use[operand] = last_use[operand].max(index);
            }
            cost += match *op {
                Op::Const(_) => 0,
                Op::Unary(
                    UnaryOp::Exp | UnaryOp::Log | UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tanh,
                    _,
                )
                | Op::Binary(BinaryOp::Pow, _, _) => return Err("the expression was not lowered"),
                Op::Binary(op, _, _) if float::needs_helper(op, *dtype) => {
                    calls = true;
                    CALL_COST
                }
                Op::Input(input) => {
                    reads[usize::from(input)] = true;
                    1
                }
                _ => 1,
            };
        }
        let quads = if cost <= UNROLLED_OPERATIONS_MAX { LANES / QUAD } else { 1 };
        Ok(Self { program, needed, last_use, reads, calls, cost, quads })
    }

    fn root_dtype(&self) -> DType {
        self.program.dtype(self.program.root())
    }

    fn tile(&self) -> Function {
        let mut code = Code::new(2);
        let index = code.take(Class::I32);
        let offsets = Offsets::new(&mut code, self.sizes());
        let lanes = self.load_lanes(&mut code);
        self.vector_loop(&mut code, index, &offsets, &lanes);
        self.store_lanes(&mut code, &lanes);
        self.scalar_loop(&mut code, index, &offsets);
        code.finish()
    }

    /// Sizes of elements that are loaded or stored; that of lanes as well, though they have another address.
    fn sizes(&self) -> Vec<usize> {
        let inputs = self.program.inputs().iter().zip(&self.reads);
        let mut sizes: Vec<usize> =
            inputs.filter(|(_, reads)| **reads).map(|(input, _)| input.dtype.size()).collect();
        if self.program.reduction().is_none() {
            sizes.push(self.root_dtype().size());
        }
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    fn vector_loop(&self, code: &mut Code, index: Local, offsets: &Offsets, lanes: &Lanes) {
        let step = self.quads * QUAD;
        let end = code.take(Class::I32);
        code.extend([I::LocalGet(ELEMS), I::I32Const((!(step - 1)).cast_signed()), I::I32And]);
        code.extend([I::LocalTee(end), I::If(BlockType::Empty)]);
        let counter = self.start_counter(code);
        code.push(I::Loop(BlockType::Empty));
        for quad in 0..self.quads {
            let root = self.quad(code, quad, offsets, counter);
            self.finish_quad(code, quad, root, index, offsets, lanes);
            root.release(code);
        }
        if let Some(counter) = counter {
            code.get(counter);
            code.splat64(u64::from(step));
            code.extend([I::I64x2Add, I::LocalSet(counter)]);
        }
        offsets.advance(code, step);
        code.get(index);
        code.i32(step);
        code.extend([I::I32Add, I::LocalTee(index), I::LocalGet(end), I::I32LtU, I::BrIf(0)]);
        code.extend([I::End, I::End]);
        if let Some(counter) = counter {
            code.give(Class::V128, counter);
        }
        code.give(Class::I32, end);
    }

    /// A vector of the flat indexes of the iteration's first two elements, where the program asks for them.
    fn start_counter(&self, code: &mut Code) -> Option<Local> {
        let nodes = self.program.nodes().iter().zip(&self.needed);
        let asks = nodes.into_iter().any(|((op, _), needed)| *needed && matches!(op, Op::Index));
        asks.then(|| {
            let counter = code.take(Class::V128);
            code.extend([I::LocalGet(FIRST_INDEX), I::I64x2Splat]);
            code.push(I::V128Const((1u128 << 64).cast_signed()));
            code.extend([I::I64x2Add, I::LocalSet(counter)]);
            counter
        })
    }

    /// Computes the root's value for four elements.
    fn quad(&self, code: &mut Code, quad: u32, offsets: &Offsets, counter: Option<Local>) -> Value {
        let root = self.program.root().0 as usize;
        let mut values: Vec<Option<Value>> = vec![None; root + 1];
        for index in (0..=root).filter(|index| self.needed[*index]) {
            let (op, dtype) = self.program.nodes()[index];
            let of = |node: NodeIndex| {
                let unknown = Value::Const(Scalar::from_bits(self.program.dtype(node), 0));
                (values[node.0 as usize].unwrap_or(unknown), self.program.dtype(node))
            };
            let value = match op {
                Op::Const(value) => Value::Const(value),
                Op::Index => vector::define(code, 2, |code, half| {
                    code.get(counter.unwrap_or_default());
                    code.splat64(u64::from(quad * QUAD) + 2 * half as u64);
                    code.push(I::I64x2Add);
                }),
                Op::Input(input) => {
                    let offset = window_at(usize::from(input)) + quad * QUAD * size_of_dtype(dtype);
                    vector::load(code, dtype, offsets.of(dtype), offset)
                }
                Op::Unary(op, a) => vector::unary(code, op, dtype, of(a).0),
                Op::Binary(op, a, b) => vector::binary(code, op, dtype, of(a).0, of(b).0),
                Op::Compare(op, a, b) => vector::compare(code, op, of(a).1, of(a).0, of(b).0),
                Op::Select { condition, yes, no } => {
                    vector::select(code, dtype, of(condition).0, of(yes).0, of(no).0)
                }
                Op::Cast(to, a) => vector::cast(code, of(a).1, to, of(a).0),
                Op::Reinterpret(to, a) => vector::reinterpret(code, to, of(a).0),
            };
            values[index] = Some(value);
            for done in self.done_after(index, &op) {
                if let Some(value) = values[done].take() {
                    value.release(code);
                }
            }
        }
        values[root].unwrap_or_else(|| Value::Const(Scalar::bool(false)))
    }

    /// Operands that nobody needs after the node, each once.
    fn done_after(&self, index: usize, op: &Op) -> Vec<usize> {
        let mut done: Vec<usize> =
            operands(op).into_iter().flatten().map(|node| node.0 as usize).collect();
        done.retain(|node| self.last_use[*node] == index);
        done.sort_unstable();
        done.dedup();
        done
    }

    fn finish_quad(
        &self,
        code: &mut Code,
        quad: u32,
        root: Value,
        index: Local,
        offsets: &Offsets,
        lanes: &Lanes,
    ) {
        let element = self.root_dtype();
        let Some(reduction) = self.program.reduction() else {
            let offset =
                window_at(self.program.inputs().len()) + quad * QUAD * size_of_dtype(element);
            return vector::store(code, element, offsets.of(element), offset, root);
        };
        let dtype = lane_dtype(reduction, element);
        let added = vector::cast(code, element, dtype, root);
        let op = operation(reduction);
        match *lanes {
            Lanes::Registers(ref all) => {
                let old = all[quad as usize];
                let new = vector::binary(code, op, dtype, old, added);
                for half in 0..vector::halves_of(dtype) {
                    vector::push(code, new, half);
                    match (old, half) {
                        (Value::Two(_, high), 1) => code.set(high),
                        (Value::One(low) | Value::Two(low, _), _) => code.set(low),
                        (Value::Const(_), _) => {}
                    }
                }
                new.release(code);
            }
            Lanes::Memory => {
                let address = push_lane_address(code, index, dtype);
                let old = vector::load(code, as_stored(dtype), address, LANES_AT);
                let new = vector::binary(code, op, dtype, old, added);
                for half in 0..vector::halves_of(dtype) {
                    code.get(address);
                    vector::push(code, new, half);
                    code.push(I::V128Store(at(LANES_AT + if half == 0 { 0 } else { 16 })));
                }
                old.release(code);
                new.release(code);
                code.give(Class::I32, address);
            }
        }
        added.release(code);
    }

    fn load_lanes(&self, code: &mut Code) -> Lanes {
        let Some(reduction) = self.program.reduction().filter(|_| self.quads > 1) else {
            return Lanes::Memory;
        };
        let dtype = lane_dtype(reduction, self.root_dtype());
        let zero = code.take(Class::I32);
        let all = (0..self.quads)
            .map(|quad| {
                let offset = LANES_AT + quad * QUAD * lane_bytes(dtype);
                vector::load(code, as_stored(dtype), zero, offset)
            })
            .collect();
        // Nobody may take this local again: it has to stay zero.
        Lanes::Registers(all)
    }

    fn store_lanes(&self, code: &mut Code, lanes: &Lanes) {
        let (Some(reduction), Lanes::Registers(all)) = (self.program.reduction(), lanes) else {
            return;
        };
        let dtype = lane_dtype(reduction, self.root_dtype());
        let mut address = LANES_AT;
        for value in all {
            for half in 0..vector::halves_of(dtype) {
                code.i32(address);
                vector::push(code, *value, half);
                code.push(I::V128Store(at(0)));
                address += 16;
            }
        }
    }

    fn scalar_loop(&self, code: &mut Code, index: Local, offsets: &Offsets) {
        code.extend([I::Block(BlockType::Empty), I::Loop(BlockType::Empty)]);
        code.extend([I::LocalGet(index), I::LocalGet(ELEMS), I::I32GeU, I::BrIf(1)]);
        let (root, element) = (self.element(code, index, offsets), self.root_dtype());
        match self.program.reduction() {
            None => {
                let offset = window_at(self.program.inputs().len());
                scalar::store(code, element, offsets.of(element), offset, root);
            }
            Some(reduction) => self.add_to_lane(code, reduction, index, root),
        }
        code.give(Class::of(element), root);
        offsets.advance(code, 1);
        code.extend([I::LocalGet(index), I::I32Const(1), I::I32Add, I::LocalSet(index)]);
        code.extend([I::Br(0), I::End, I::End]);
    }

    /// Computes the root's value for one element.
    fn element(&self, code: &mut Code, index: Local, offsets: &Offsets) -> Local {
        let root = self.program.root().0 as usize;
        let mut values: Vec<Local> = vec![0; root + 1];
        for node in (0..=root).filter(|node| self.needed[*node]) {
            let (op, dtype) = self.program.nodes()[node];
            let of = |node: NodeIndex| values[node.0 as usize];
            let dtype_of = |node| self.program.dtype(node);
            match op {
                Op::Const(value) => scalar::constant(code, value),
                Op::Index => {
                    code.extend([I::LocalGet(FIRST_INDEX), I::LocalGet(index)]);
                    code.extend([I::I64ExtendI32U, I::I64Add]);
                }
                Op::Input(input) => {
                    scalar::load(code, dtype, offsets.of(dtype), window_at(usize::from(input)));
                }
                Op::Unary(op, a) => scalar::unary(code, op, dtype, of(a)),
                Op::Binary(op, a, b) => scalar::binary(code, op, dtype, of(a), of(b)),
                Op::Compare(op, a, b) => scalar::compare(code, op, dtype_of(a), of(a), of(b)),
                Op::Select { condition, yes, no } => {
                    code.extend([yes, no, condition].map(|node| I::LocalGet(of(node))));
                    code.push(I::Select);
                }
                Op::Cast(to, a) => scalar::cast(code, dtype_of(a), to, of(a)),
                Op::Reinterpret(to, a) => scalar::reinterpret(code, dtype_of(a), to, of(a)),
            }
            let local = code.take(Class::of(dtype));
            code.set(local);
            values[node] = local;
            for done in self.done_after(node, &op) {
                let class = Class::of(self.program.nodes()[done].1);
                code.give(class, values[done]);
            }
        }
        values[root]
    }

    fn add_to_lane(&self, code: &mut Code, reduction: Reduction, index: Local, root: Local) {
        let element = self.root_dtype();
        let dtype = lane_dtype(reduction, element);
        let class = Class::of(dtype);
        let [old, added] = [(); 2].map(|()| code.take(class));
        let address = push_lane_address(code, index, dtype);
        scalar::load(code, as_stored(dtype), address, LANES_AT);
        code.set(old);
        scalar::cast(code, element, dtype, root);
        code.set(added);
        code.get(address);
        scalar::binary(code, operation(reduction), dtype, old, added);
        code.push(match class {
            Class::F32 => I::F32Store(at(LANES_AT)),
            Class::F64 => I::F64Store(at(LANES_AT)),
            Class::I64 => I::I64Store(at(LANES_AT)),
            Class::I32 | Class::V128 => I::I32Store(at(LANES_AT)),
        });
        code.give(Class::I32, address);
        code.give(class, old);
        code.give(class, added);
    }
}

/// Where the sixteen lanes are while the SIMD loop runs.
enum Lanes {
    /// One value per quad.
    Registers(Vec<Value>),
    Memory,
}

/// Byte offsets into the windows: one counter for each size of element.
struct Offsets(Vec<(usize, Local)>);

impl Offsets {
    fn new(code: &mut Code, sizes: Vec<usize>) -> Self {
        Self(sizes.into_iter().map(|size| (size, code.take(Class::I32))).collect())
    }

    fn of(&self, dtype: DType) -> Local {
        self.0.iter().find(|(size, _)| *size == dtype.size()).map_or(0, |(_, local)| *local)
    }

    fn advance(&self, code: &mut Code, elems: u32) {
        for (size, local) in &self.0 {
            code.get(*local);
            code.i32(elems * u32::try_from(*size).unwrap_or(0));
            code.extend([I::I32Add, I::LocalSet(*local)]);
        }
    }
}

/// Byte offset of the lane of element `index`, in a local.
fn push_lane_address(code: &mut Code, index: Local, dtype: DType) -> Local {
    let address = code.take(Class::I32);
    code.get(index);
    code.i32(LANES - 1);
    code.push(I::I32And);
    code.i32(lane_bytes(dtype));
    code.extend([I::I32Mul, I::LocalSet(address)]);
    address
}

/// The dtype that loads a lane: 32 bits hold a narrow integer already extended.
fn as_stored(dtype: DType) -> DType {
    match Class::of(dtype) {
        Class::I32 => DType::I32,
        _ => dtype,
    }
}

fn operation(reduction: Reduction) -> BinaryOp {
    match reduction {
        Reduction::Sum => BinaryOp::Add,
        Reduction::Prod => BinaryOp::Mul,
        Reduction::Min => BinaryOp::Min,
        Reduction::Max => BinaryOp::Max,
    }
}

fn operands(op: &Op) -> [Option<NodeIndex>; 3] {
    match *op {
        Op::Input(_) | Op::Index | Op::Const(_) => [None; 3],
        Op::Unary(_, a) | Op::Cast(_, a) | Op::Reinterpret(_, a) => [Some(a), None, None],
        Op::Binary(_, a, b) | Op::Compare(_, a, b) => [Some(a), Some(b), None],
        Op::Select { condition, yes, no } => [Some(condition), Some(yes), Some(no)],
    }
}

fn size_of_dtype(dtype: DType) -> u32 {
    u32::try_from(dtype.size()).unwrap_or(0)
}
