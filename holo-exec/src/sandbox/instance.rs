//! One sandbox: a store, its instance, and the calls into it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holo_core::{DType, limits};
use wasmtime::{
    Memory, ModuleExport, PoolConcurrencyLimitError, Store, Trap, TypedFunc, WasmParams,
    WasmResults,
};

use super::{
    Grants, Host, Limits, Module,
    abi::{self, Mode, Operand},
    host::HostStop,
};
use crate::{ExecError, RunControl, ShardTask, TrapKind, clock, engine::Runtime, task};

/// Distance between two windows: a whole tile and an odd number of cache lines, so that loads from one window and
/// stores to the next never meet at the same offset of a 4 KiB page, which stalls the processor.
const WINDOW_BYTES: u32 = task::TILE_BYTES + 17 * 64;
const WASM_PAGE_BYTES: u32 = 65_536;

/// A sandbox between `holo_init` and `holo_finish`.
///
/// After any error it is of no more use: its memory is in an unknown state, and every further call is refused.
pub struct Instance {
    sandbox: Sandbox,
    handle: wasmtime::Instance,
    memory: Memory,
    reserve: Option<ModuleExport>,
    init: Option<ModuleExport>,
    tile: Option<ModuleExport>,
    finish: Option<ModuleExport>,
    combine: Option<ModuleExport>,
    task: Option<ModuleExport>,
    tile_function: Option<TypedFunc<u32, i32>>,
    windows: Option<Windows>,
}

impl Instance {
    pub(super) fn open(
        module: &Module,
        grants: &Grants,
        limits: &Limits,
        control: &RunControl,
    ) -> Result<Self, ExecError> {
        let runtime = &module.runtime;
        let mut limits = limits.clone();
        limits.memory_bytes = limits.memory_bytes.min(runtime.memory_bytes_max);
        if module.memory_bytes_min > limits.memory_bytes {
            let (limit, wanted) = (limits.memory_bytes, module.memory_bytes_min);
            return Err(ExecError::MemoryLimit { limit, wanted, export: abi::START, fuel: 0 });
        }
        let fuel = limits.fuel;
        let mut store = Store::new(&runtime.metered, Host::new(limits, grants, clock::now()));
        store.limiter(|host| host);
        store.epoch_deadline_callback(Host::check_time);
        store.set_fuel(fuel).map_err(ExecError::Engine)?;
        let mut sandbox =
            Sandbox { runtime: Arc::clone(runtime), store, time_used: Duration::ZERO, dead: false };
        let handle = sandbox.enter(abi::START, control, |store| module.pre.instantiate(store))?;
        let memory = handle
            .get_module_export(&mut sandbox.store, &module.memory)
            .and_then(wasmtime::Extern::into_memory)
            .ok_or_else(|| ExecError::ModuleInvalid {
                why: "the export memory is no memory".into(),
            })?;
        Ok(Self {
            sandbox,
            handle,
            memory,
            reserve: module.reserve,
            init: module.init,
            tile: module.tile,
            finish: module.finish,
            combine: module.combine,
            task: module.task,
            tile_function: None,
            windows: None,
        })
    }

    /// Runs `holo_tile` over one shard, tile by tile in order, and copies each output tile to its sink.
    ///
    /// `dtypes` are those of the inputs, then of the outputs. Element-wise kernels may be given the same array as input
    /// and output: each tile is read before it is written.
    ///
    /// # Errors
    ///
    /// [`ExecError::TaskInvalid`] when operands do not fit, and whatever stops the kernel. Sinks then hold part of
    /// the shard and must not be published.
    pub fn run_shard(
        &mut self,
        task: ShardTask<'_, '_>,
        dtypes: &[DType],
        control: &RunControl,
    ) -> Result<(), ExecError> {
        self.sandbox.check_alive()?;
        self.check_task(&task, dtypes)?;
        let tile_elems = task::tile_elems(dtypes.iter().copied());
        let windows = self.windows(dtypes.len(), control)?;
        let inputs = task.inputs.len();
        let operands: Vec<Operand> = dtypes
            .iter()
            .enumerate()
            .map(|(index, dtype)| Operand {
                pointer: windows.pointer(index),
                dtype: *dtype,
                mode: if index < inputs { Mode::In } else { Mode::Out },
            })
            .collect();
        let mut first = 0u64;
        while first < task.elems {
            let elems = usize::try_from(task.elems - first).unwrap_or(usize::MAX).min(tile_elems);
            let memory = self.memory.data_mut(&mut self.sandbox.store);
            for (source, operand) in task.inputs.iter().zip(&operands) {
                let size = operand.dtype.size();
                source.copy_to(first * size as u64, window(memory, operand.pointer, elems * size));
            }
            let index = task.first_index.wrapping_add(first);
            let descriptor = abi::tile_descriptor(&operands, index, narrow(elems));
            window(memory, windows.descriptor, descriptor.len()).copy_from_slice(&descriptor);
            self.run_tile(windows.descriptor, control)?;
            let memory = self.memory.data_mut(&mut self.sandbox.store);
            for (sink, operand) in task.outputs.iter_mut().zip(&operands[inputs..]) {
                let size = operand.dtype.size();
                sink.copy_from(first * size as u64, window(memory, operand.pointer, elems * size));
            }
            first += elems as u64;
        }
        Ok(())
    }

    /// Ends the run: the output is what `holo_finish` wrote or, without that export, what went to `holo.result`.
    ///
    /// # Errors
    ///
    /// Whatever stops `holo_finish`.
    pub fn finish(mut self, control: &RunControl) -> Result<CallOutput, ExecError> {
        if let Some(export) = self.finish {
            let finish = self.function::<(u32, u32), i32>(&export)?;
            let cap = self.partial_cap();
            let out = self.place(cap, control)?;
            let written =
                self.sandbox.enter(abi::FINISH, control, |store| finish.call(store, (out, cap)))?;
            let bytes = self.written(abi::FINISH, written, out, cap)?;
            self.sandbox.store.data_mut().output = bytes;
        }
        self.output()
    }

    /// Units of fuel burned up to now.
    pub fn fuel(&self) -> u64 {
        let granted = self.sandbox.store.data().limits.fuel;
        granted - self.sandbox.store.get_fuel().unwrap_or(0).min(granted)
    }

    pub(super) fn run_init(
        &mut self,
        params: &[u8],
        control: &RunControl,
    ) -> Result<(), ExecError> {
        let Some(export) = self.init else {
            return Ok(());
        };
        let init = self.function::<(u32, u32), i32>(&export)?;
        let pointer = self.place_bytes(params, control)?;
        let length = narrow(params.len());
        let status =
            self.sandbox.enter(abi::INIT, control, |store| init.call(store, (pointer, length)))?;
        self.check_status(abi::INIT, status)
    }

    pub(super) fn run_task(
        &mut self,
        args: &[u8],
        control: &RunControl,
    ) -> Result<CallOutput, ExecError> {
        let export = self.task;
        let task = self.function::<(u32, u32), i32>(&required(export, abi::TASK)?)?;
        let pointer = self.place_bytes(args, control)?;
        let length = narrow(args.len());
        let status =
            self.sandbox.enter(abi::TASK, control, |store| task.call(store, (pointer, length)))?;
        self.check_status(abi::TASK, status)?;
        self.output()
    }

    pub(super) fn run_combine(
        &mut self,
        partials: &[Vec<u8>],
        control: &RunControl,
    ) -> Result<CallOutput, ExecError> {
        let export = self.combine;
        let combine = self.function::<Joined, i32>(&required(export, abi::COMBINE)?)?;
        let cap = self.partial_cap();
        let a = self.place(2 * abi::PARTIAL_BYTES_MAX + cap, control)?;
        let (b, out) = (a + abi::PARTIAL_BYTES_MAX, a + 2 * abi::PARTIAL_BYTES_MAX);
        let mut round: Vec<Vec<u8>> = partials.to_vec();
        while round.len() > 1 {
            let mut next = Vec::with_capacity(round.len().div_ceil(2));
            for pair in round.chunks(2) {
                let [left, right] = pair else {
                    next.extend(pair.iter().cloned());
                    continue;
                };
                let memory = self.memory.data_mut(&mut self.sandbox.store);
                window(memory, a, left.len()).copy_from_slice(left);
                window(memory, b, right.len()).copy_from_slice(right);
                let args = (a, narrow(left.len()), b, narrow(right.len()), out, cap);
                let written =
                    self.sandbox.enter(abi::COMBINE, control, |store| combine.call(store, args))?;
                next.push(self.written(abi::COMBINE, written, out, cap)?);
            }
            round = next;
        }
        self.sandbox.store.data_mut().output = round.pop().unwrap_or_default();
        self.output()
    }

    fn check_task(&self, task: &ShardTask<'_, '_>, dtypes: &[DType]) -> Result<(), ExecError> {
        task::check_elems(task.elems)?;
        let operands = task.inputs.len() + task.outputs.len();
        if operands != dtypes.len() || operands == 0 || operands > limits::RUN_OPERANDS_MAX {
            let why = format!(
                "{} inputs and {} outputs with {} dtypes; 1 to {} operands are possible",
                task.inputs.len(),
                task.outputs.len(),
                dtypes.len(),
                limits::RUN_OPERANDS_MAX
            );
            return Err(ExecError::TaskInvalid { why });
        }
        Ok(())
    }

    fn run_tile(&mut self, descriptor: u32, control: &RunControl) -> Result<(), ExecError> {
        let tile = match self.tile_function.clone() {
            Some(tile) => tile,
            None => {
                let tile = self.function::<u32, i32>(&required(self.tile, abi::TILE)?)?;
                self.tile_function.insert(tile).clone()
            }
        };
        let status =
            self.sandbox.enter(abi::TILE, control, |store| tile.call(store, descriptor))?;
        self.check_status(abi::TILE, status)
    }

    fn windows(&mut self, operands: usize, control: &RunControl) -> Result<Windows, ExecError> {
        match self.windows {
            Some(windows) if windows.operands >= operands => Ok(windows),
            _ => {
                let bytes = abi::DESCRIPTOR_BYTES_MAX + WINDOW_BYTES * narrow(operands);
                let descriptor = self.place(bytes, control)?;
                Ok(*self.windows.insert(Windows { descriptor, operands }))
            }
        }
    }

    /// Room in guest memory that the guest does not use for anything else.
    fn place(&mut self, bytes: u32, control: &RunControl) -> Result<u32, ExecError> {
        if let Some(export) = self.reserve {
            let reserve = self.function::<(u32, u32), u32>(&export)?;
            let pointer = self
                .sandbox
                .enter(abi::RESERVE, control, |store| reserve.call(store, (bytes, abi::ALIGN)))?;
            let end = u64::from(pointer) + u64::from(bytes);
            if pointer % abi::ALIGN != 0 || end > self.memory.data_size(&self.sandbox.store) as u64
            {
                let why = "not an aligned range inside memory";
                return Err(self.sandbox.bad_status(abi::RESERVE, pointer.cast_signed(), why));
            }
            return Ok(pointer);
        }
        let pages = u64::from(bytes.div_ceil(WASM_PAGE_BYTES));
        match self.memory.grow(&mut self.sandbox.store, pages) {
            Ok(old_pages) => {
                Ok(narrow(usize::try_from(old_pages).unwrap_or(usize::MAX)) * WASM_PAGE_BYTES)
            }
            Err(_) => Err(self.no_room(pages)),
        }
    }

    fn no_room(&mut self, pages: u64) -> ExecError {
        self.sandbox.dead = true;
        let page = u64::from(WASM_PAGE_BYTES);
        let own_maximum = self.memory.ty(&self.sandbox.store).maximum().map(|pages| pages * page);
        let limit = self.sandbox.store.data().limits.memory_bytes;
        ExecError::MemoryLimit {
            limit: own_maximum.map_or(limit, |own| own.min(limit)),
            wanted: (self.memory.size(&self.sandbox.store) + pages) * page,
            export: "placing tiles and arguments",
            fuel: self.fuel(),
        }
    }

    fn place_bytes(&mut self, bytes: &[u8], control: &RunControl) -> Result<u32, ExecError> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let pointer = self.place(narrow(bytes.len()), control)?;
        let memory = self.memory.data_mut(&mut self.sandbox.store);
        window(memory, pointer, bytes.len()).copy_from_slice(bytes);
        Ok(pointer)
    }

    fn partial_cap(&self) -> u32 {
        let output_bytes = self.sandbox.store.data().limits.output_bytes;
        abi::PARTIAL_BYTES_MAX.min(u32::try_from(output_bytes).unwrap_or(u32::MAX))
    }

    /// The bytes that an export says it wrote.
    fn written(
        &mut self,
        export: &'static str,
        written: i32,
        out: u32,
        cap: u32,
    ) -> Result<Vec<u8>, ExecError> {
        self.check_status(export, written)?;
        if written.cast_unsigned() > cap {
            return Err(self.sandbox.over_output(export, u64::from(cap)));
        }
        let length = written.cast_unsigned() as usize;
        let memory = self.memory.data_mut(&mut self.sandbox.store);
        Ok(window(memory, out, length).to_vec())
    }

    fn check_status(&mut self, export: &'static str, status: i32) -> Result<(), ExecError> {
        if status < 0 {
            return Err(self.sandbox.bad_status(export, status, "a negative status is an error"));
        }
        Ok(())
    }

    fn output(&mut self) -> Result<CallOutput, ExecError> {
        let fuel = self.fuel();
        let host = self.sandbox.store.data_mut();
        let (output, log) = (std::mem::take(&mut host.output), std::mem::take(&mut host.log));
        Ok(CallOutput { output, fuel, log })
    }

    fn function<P: WasmParams, R: WasmResults>(
        &mut self,
        export: &ModuleExport,
    ) -> Result<TypedFunc<P, R>, ExecError> {
        let found = self
            .handle
            .get_module_export(&mut self.sandbox.store, export)
            .and_then(wasmtime::Extern::into_func)
            .ok_or_else(|| ExecError::ModuleInvalid { why: "an export is no function".into() })?;
        found.typed::<P, R>(&self.sandbox.store).map_err(ExecError::Engine)
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("fuel", &self.fuel())
            .field("time_used", &self.sandbox.time_used)
            .field("dead", &self.sandbox.dead)
            .finish_non_exhaustive()
    }
}

/// What a program gave back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOutput {
    /// Its output bytes.
    pub output: Vec<u8>,
    /// Units of fuel that it burned.
    pub fuel: u64,
    /// What it logged, in order.
    pub log: Vec<LogLine>,
}

/// One line that a program logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// 0 error, 1 warning, 2 information, 3 and above detail; not checked.
    pub level: i32,
    /// The text, invalid UTF-8 replaced.
    pub text: String,
}

impl LogLine {
    /// Bytes that a line counts against the limit beyond its text.
    pub(super) const OVERHEAD_BYTES: u64 = 16;
}

type Joined = (u32, u32, u32, u32, u32, u32);

/// Where the descriptor and the windows of operands are in guest memory.
#[derive(Clone, Copy, Debug)]
struct Windows {
    descriptor: u32,
    operands: usize,
}

impl Windows {
    fn pointer(self, operand: usize) -> u32 {
        self.descriptor + abi::DESCRIPTOR_BYTES_MAX + WINDOW_BYTES * narrow(operand)
    }
}

/// A store with what it takes to run guest code in it within limits.
struct Sandbox {
    runtime: Arc<Runtime>,
    store: Store<Host>,
    time_used: Duration,
    dead: bool,
}

impl Sandbox {
    /// Runs guest code under the time limit, the deadline and cancellation.
    fn enter<R>(
        &mut self,
        export: &'static str,
        control: &RunControl,
        run: impl FnOnce(&mut Store<Host>) -> wasmtime::Result<R>,
    ) -> Result<R, ExecError> {
        self.check_alive()?;
        let began = self.arm(control);
        let outcome = {
            let _running = self.runtime.ticker.enter();
            run(&mut self.store)
        };
        self.time_used += clock::now().duration_since(began);
        outcome.map_err(|error| self.stopped(export, error))
    }

    fn check_alive(&self) -> Result<(), ExecError> {
        if self.dead {
            let why = "the sandbox was discarded after an error".into();
            return Err(ExecError::TaskInvalid { why });
        }
        Ok(())
    }

    fn arm(&mut self, control: &RunControl) -> Instant {
        let now = clock::now();
        let host = self.store.data_mut();
        let left = host.limits.time.saturating_sub(self.time_used);
        // A limit beyond what the clock can express is no limit for a century.
        host.time_is_up_at =
            now.checked_add(left).unwrap_or_else(|| now + Duration::from_secs(3_000_000_000));
        host.deadline = control.deadline;
        if !Arc::ptr_eq(&host.cancel, &control.cancel) {
            host.cancel = Arc::clone(&control.cancel);
        }
        self.store.set_epoch_deadline(1);
        now
    }

    fn stopped(&mut self, export: &'static str, error: wasmtime::Error) -> ExecError {
        self.dead = true;
        let host = self.store.data();
        let limits = &host.limits;
        let fuel = limits.fuel;
        let memory_limit = host.refused_bytes.map(|wanted| ExecError::MemoryLimit {
            limit: limits.memory_bytes,
            wanted,
            export,
            fuel,
        });
        let trap = |kind| ExecError::Trap { kind, export, fuel };
        if let Some(stop) = error.downcast_ref::<HostStop>() {
            return match stop {
                HostStop::Cancelled => ExecError::Cancelled { export, fuel },
                HostStop::TimeLimit => ExecError::TimeLimit { limit: limits.time, export, fuel },
                HostStop::DeadlineExceeded => ExecError::DeadlineExceeded { export, fuel },
                HostStop::OutputLimit => {
                    ExecError::OutputLimit { limit: limits.output_bytes, export, fuel }
                }
                HostStop::LogLimit => ExecError::LogLimit { limit: limits.log_bytes, export, fuel },
                HostStop::BadPointer { import, pointer, length, memory } => {
                    let (import, pointer, length, memory) = (*import, *pointer, *length, *memory);
                    trap(TrapKind::BadPointer { import, pointer, length, memory })
                }
                HostStop::Failed { code, message } => memory_limit.unwrap_or_else(|| {
                    ExecError::GuestFailed { code: *code, message: message.clone(), export, fuel }
                }),
            };
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => ExecError::FuelLimit { limit: fuel, export },
            Some(Trap::StackOverflow) => {
                ExecError::StackLimit { limit: Runtime::STACK_BYTES as u64, export, fuel }
            }
            Some(other) => memory_limit.unwrap_or_else(|| trap(trap_kind(*other))),
            None if error.is::<PoolConcurrencyLimitError>() => {
                ExecError::Overloaded { limit: self.runtime.instances_max }
            }
            None => ExecError::Engine(error),
        }
    }

    fn bad_status(&mut self, export: &'static str, status: i32, why: &'static str) -> ExecError {
        self.dead = true;
        let (limits, refused) = (&self.store.data().limits, self.store.data().refused_bytes);
        let fuel = limits.fuel - self.store.get_fuel().unwrap_or(0).min(limits.fuel);
        match refused {
            Some(wanted) => {
                ExecError::MemoryLimit { limit: limits.memory_bytes, wanted, export, fuel }
            }
            None => ExecError::GuestStatus { status, why, export, fuel },
        }
    }

    fn over_output(&mut self, export: &'static str, limit: u64) -> ExecError {
        self.dead = true;
        let granted = self.store.data().limits.fuel;
        let fuel = granted - self.store.get_fuel().unwrap_or(0).min(granted);
        ExecError::OutputLimit { limit, export, fuel }
    }
}

fn trap_kind(trap: Trap) -> TrapKind {
    match trap {
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IndirectCallToNull | Trap::BadSignature => TrapKind::BadIndirectCall,
        Trap::IntegerDivisionByZero => TrapKind::DivisionByZero,
        Trap::IntegerOverflow | Trap::BadConversionToInteger => TrapKind::IntegerOverflow,
        other => TrapKind::Other(other.to_string()),
    }
}

fn required(export: Option<ModuleExport>, name: &str) -> Result<ModuleExport, ExecError> {
    export
        .ok_or_else(|| ExecError::TaskInvalid { why: format!("the module does not export {name}") })
}

/// A range that was checked when it was placed; memory never shrinks.
fn window(memory: &mut [u8], pointer: u32, length: usize) -> &mut [u8] {
    &mut memory[pointer as usize..][..length]
}

fn narrow(small: usize) -> u32 {
    u32::try_from(small).unwrap_or(u32::MAX)
}
