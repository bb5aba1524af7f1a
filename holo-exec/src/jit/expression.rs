//! A compiled expression, and running it over shards.

use holo_core::{
    DType, Scalar, ShardIndex,
    expr::{self, Program, REDUCE_LANES, Reduction},
};
use parking_lot::Mutex;
use wasmtime::{Memory, Store, TypedFunc};

use super::assemble::{LANES_AT, assemble, lane_bytes, lane_dtype, window_at};
use crate::{ExecError, RunControl, ShardOutput, ShardTask, clock, task};

/// Instances kept for later runs; more can be alive while more threads run the expression.
const IDLE_INSTANCES_MAX: usize = 16;
/// How errors name it, as they name exports of modules.
const NAME: &str = "the expression";

/// A compiled expression. Threads share it; each runs in an instance of its own, kept for the next run.
pub struct Expression {
    program: Program,
    engine: wasmtime::Engine,
    module: wasmtime::Module,
    cost: u64,
    reads: Vec<bool>,
    tile_elems: usize,
    idle: Mutex<Vec<Warm>>,
}

impl Expression {
    /// Lowers a program, writes it as WASM and compiles that.
    pub(crate) fn compile(engine: &wasmtime::Engine, program: &Program) -> Result<Self, ExecError> {
        let lowered = expr::lower(program);
        let assembled =
            assemble(&lowered).map_err(|why| ExecError::Engine(wasmtime::Error::msg(why)))?;
        let module =
            wasmtime::Module::from_binary(engine, &assembled.wasm).map_err(ExecError::Engine)?;
        let stored = program.reduction().is_none().then(|| program.output_dtype());
        let dtypes = program.inputs().iter().map(|input| input.dtype).chain(stored);
        Ok(Self {
            tile_elems: task::tile_elems(dtypes),
            program: program.clone(),
            engine: engine.clone(),
            module,
            cost: assembled.cost,
            reads: assembled.reads,
            idle: Mutex::default(),
        })
    }

    /// The program that it was compiled from.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Computes one shard: stores the root's values in the one output or, with a reduction, gives the accumulator.
    ///
    /// The result has the bits that [`holo_core::expr`] defines. An output may be the same array as an input: each
    /// tile is read before it is written. Of no elements the accumulator is the reduction's identity.
    ///
    /// # Errors
    ///
    /// [`ExecError::TaskInvalid`] when operands do not fit; [`ExecError::Cancelled`] or
    /// [`ExecError::DeadlineExceeded`] between two tiles: the sink then holds part of the shard and must not be
    /// published.
    pub fn run_shard(
        &self,
        task: ShardTask<'_, '_>,
        control: &RunControl,
    ) -> Result<ShardOutput, ExecError> {
        self.check_task(&task)?;
        let idle = self.idle.lock().pop();
        let mut warm = match idle {
            Some(warm) => warm,
            None => Warm::new(&self.engine, &self.module)?,
        };
        let output = self.run_tiles(&mut warm, task, control)?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_INSTANCES_MAX {
            idle.push(warm);
        }
        Ok(output)
    }

    fn run_tiles(
        &self,
        warm: &mut Warm,
        task: ShardTask<'_, '_>,
        control: &RunControl,
    ) -> Result<ShardOutput, ExecError> {
        let root = self.program.dtype(self.program.root());
        if let Some(reduction) = self.program.reduction() {
            warm.start_lanes(reduction, root);
        }
        let mut first = 0u64;
        while first < task.elems {
            self.check_control(first, control)?;
            let elems =
                usize::try_from(task.elems - first).unwrap_or(usize::MAX).min(self.tile_elems);
            let memory = warm.memory.data_mut(&mut warm.store);
            let inputs = self.program.inputs().iter().zip(task.inputs).zip(&self.reads);
            for (operand, ((input, source), _)) in
                inputs.enumerate().filter(|(_, (_, reads))| **reads)
            {
                let size = input.dtype.size();
                source.copy_to(first * size as u64, window(memory, operand, elems * size));
            }
            let index = task.first_index.wrapping_add(first).cast_signed();
            let count = i32::try_from(elems).unwrap_or(i32::MAX);
            warm.tile.call(&mut warm.store, (index, count)).map_err(ExecError::Engine)?;
            if let Some(sink) = task.outputs.first_mut() {
                let memory = warm.memory.data_mut(&mut warm.store);
                let (size, operand) = (root.size(), self.program.inputs().len());
                sink.copy_from(first * size as u64, window(memory, operand, elems * size));
            }
            first += elems as u64;
        }
        let accumulator = match self.program.reduction() {
            Some(reduction) => Some(warm.join_lanes(reduction, root)?),
            None => None,
        };
        Ok(ShardOutput { accumulator, fuel: self.fuel(task.elems) })
    }

    /// Units of fuel that `elems` elements cost: known beforehand, for every element costs the same.
    pub fn fuel(&self, elems: u64) -> u64 {
        elems.saturating_mul(self.cost)
    }

    fn check_control(&self, done: u64, control: &RunControl) -> Result<(), ExecError> {
        let fuel = self.fuel(done);
        if control.is_cancelled() {
            return Err(ExecError::Cancelled { export: NAME, fuel });
        }
        if control.deadline.is_some_and(|deadline| clock::now() >= deadline) {
            return Err(ExecError::DeadlineExceeded { export: NAME, fuel });
        }
        Ok(())
    }

    fn check_task(&self, task: &ShardTask<'_, '_>) -> Result<(), ExecError> {
        task::check_elems(task.elems)?;
        let inputs = self.program.inputs().len();
        let outputs = usize::from(self.program.reduction().is_none());
        if task.inputs.len() != inputs || task.outputs.len() != outputs {
            let why = format!(
                "{} inputs and {} outputs for an expression of {inputs} and {outputs}",
                task.inputs.len(),
                task.outputs.len()
            );
            return Err(ExecError::TaskInvalid { why });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expression")
            .field("program", &self.program)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

/// An instance with its windows, warm from the last run. It keeps nothing that the next run could read: every byte that
/// the code loads was written by the same run.
struct Warm {
    store: Store<()>,
    memory: Memory,
    tile: TypedFunc<(i64, i32), ()>,
}

impl Warm {
    fn new(engine: &wasmtime::Engine, module: &wasmtime::Module) -> Result<Self, ExecError> {
        let mut store = Store::new(engine, ());
        let instance =
            wasmtime::Instance::new(&mut store, module, &[]).map_err(ExecError::Engine)?;
        let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| {
            ExecError::Engine(wasmtime::Error::msg("generated code has no memory"))
        })?;
        let tile = instance.get_typed_func(&mut store, "tile").map_err(ExecError::Engine)?;
        Ok(Self { store, memory, tile })
    }

    fn start_lanes(&mut self, reduction: Reduction, root: DType) {
        let identity = expr::identity(reduction, root);
        let bytes = lane_bytes(lane_dtype(reduction, root)) as usize;
        // Narrow integers are extended by their own sign, as the code keeps them.
        let low = identity.to_i128().cast_unsigned().to_le_bytes();
        let raw = if root.is_float() { identity.le_bytes() } else { first_eight(low) };
        let memory = self.memory.data_mut(&mut self.store);
        let lanes = &mut memory[LANES_AT as usize..][..REDUCE_LANES * bytes];
        for lane in lanes.chunks_exact_mut(bytes) {
            lane.copy_from_slice(&raw[..bytes]);
        }
    }

    fn join_lanes(&self, reduction: Reduction, root: DType) -> Result<Scalar, ExecError> {
        let accumulator = reduction.accumulator_dtype(root);
        let bytes = lane_bytes(lane_dtype(reduction, root)) as usize;
        let memory = self.memory.data(&self.store);
        let lanes = memory[LANES_AT as usize..][..REDUCE_LANES * bytes].chunks_exact(bytes);
        // The tree over lanes joins k with k+8, then with k+4, k+2, k+1. In the order of their bits reversed those are
        // neighbours, so it is the tree over shards.
        let partials: Vec<(ShardIndex, Scalar)> = (0u8..)
            .zip(lanes)
            .map(|(lane, raw)| {
                let mut wide = [0; 8];
                wide[..bytes].copy_from_slice(raw);
                let value = Scalar::from_bits(accumulator, u64::from_le_bytes(wide));
                (ShardIndex(u64::from(lane.reverse_bits() >> 4)), value)
            })
            .collect();
        let joined = expr::combine(reduction, root, &partials)
            .map_err(|failure| ExecError::Engine(wasmtime::Error::new(failure)))?;
        joined.ok_or_else(|| {
            ExecError::Engine(wasmtime::Error::msg("sixteen lanes joined to nothing"))
        })
    }
}

fn window(memory: &mut [u8], operand: usize, bytes: usize) -> &mut [u8] {
    &mut memory[window_at(operand) as usize..][..bytes]
}

fn first_eight(bytes: [u8; 16]) -> [u8; 8] {
    let mut low = [0; 8];
    low.copy_from_slice(&bytes[..8]);
    low
}
