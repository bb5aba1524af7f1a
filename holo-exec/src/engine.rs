//! The two engines, and the caches of what they compiled.

use std::sync::Arc;

use holo_core::expr::Program;
use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, Linker, OptLevel, PoolingAllocationConfig,
    Strategy,
};

use crate::{
    ExecError, Expression, Module,
    cache::ProgramCache,
    sandbox::{self, Host},
    ticker::Ticker,
};

/// Compiles programs and holds the sandboxes that they run in. Clones share everything.
///
/// Users' modules run with metering: fuel for determinism and billing, epochs for time and cancellation. Expressions
/// run without: the code is our own compiler's, its trip count is given by the host tile by tile.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Reserves address space for the sandboxes and starts the epoch thread, which sleeps while no guest runs.
    ///
    /// # Errors
    ///
    /// [`ExecError::Engine`] when this machine refuses the address space or the thread.
    pub fn new(options: EngineOptions) -> Result<Self, ExecError> {
        let runtime = Runtime::new(&options)?;
        let unmetered = unmetered().map_err(ExecError::Engine)?;
        let shared = Shared {
            runtime: Arc::new(runtime),
            unmetered,
            expressions: ProgramCache::new(options.expressions_max),
            modules: ProgramCache::new(options.modules_max),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Compiles an expression, or finds it compiled.
    ///
    /// # Errors
    ///
    /// [`ExecError::Engine`], a bug of ours: every program that exists can be compiled.
    pub fn expression(&self, program: &Program) -> Result<Arc<Expression>, ExecError> {
        let key = *blake3::hash(&program.encode()).as_bytes();
        let compile = || Expression::compile(&self.shared.unmetered, program);
        self.shared.expressions.get_or_compile(key, compile)
    }

    /// Admits and compiles a module, or finds it compiled.
    ///
    /// # Errors
    ///
    /// [`ExecError::ModuleTooLarge`], [`ExecError::ModuleInvalid`], [`ExecError::ImportUnknown`],
    /// [`ExecError::ImportNotYet`].
    pub fn module(&self, bytes: &[u8]) -> Result<Arc<Module>, ExecError> {
        let key = *blake3::hash(bytes).as_bytes();
        self.shared.modules.get_or_compile(key, || Module::compile(&self.shared.runtime, bytes))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("runtime", &self.shared.runtime).finish_non_exhaustive()
    }
}

/// Sizes of an [`Engine`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Sandboxes of modules that can exist at once; each reserves 4 GiB of address space, not of memory.
    pub instances_max: u32,
    /// Bytes of linear memory that no limit of a run can exceed.
    pub memory_bytes_max: u64,
    /// Compiled expressions kept.
    pub expressions_max: usize,
    /// Compiled modules kept.
    pub modules_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            instances_max: 128,
            memory_bytes_max: 1 << 30,
            expressions_max: 128,
            modules_max: 64,
        }
    }
}

struct Shared {
    runtime: Arc<Runtime>,
    unmetered: wasmtime::Engine,
    expressions: ProgramCache<Expression>,
    modules: ProgramCache<Module>,
}

/// What every sandbox of a module shares.
pub(crate) struct Runtime {
    pub(crate) metered: wasmtime::Engine,
    pub(crate) linker: Linker<Host>,
    pub(crate) ticker: Ticker,
    pub(crate) instances_max: u32,
    pub(crate) memory_bytes_max: u64,
}

impl Runtime {
    /// Bytes of a guest's call stack.
    pub(crate) const STACK_BYTES: usize = 256 << 10;

    fn new(options: &EngineOptions) -> Result<Self, ExecError> {
        let memory_bytes_max = options.memory_bytes_max.min(4 << 30);
        let metered =
            metered(options.instances_max, memory_bytes_max).map_err(ExecError::Engine)?;
        let linker = sandbox::linker(&metered).map_err(ExecError::Engine)?;
        let ticker = Ticker::start(metered.clone())
            .map_err(|source| ExecError::Engine(wasmtime::Error::new(source)))?;
        let instances_max = options.instances_max;
        Ok(Self { metered, linker, ticker, instances_max, memory_bytes_max })
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("instances_max", &self.instances_max)
            .field("memory_bytes_max", &self.memory_bytes_max)
            .finish_non_exhaustive()
    }
}

fn base() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .max_wasm_stack(Runtime::STACK_BYTES)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .wasm_backtrace_max_frames(None)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_may_move(false)
        .concurrency_support(false);
    config
}

fn metered(instances_max: u32, memory_bytes_max: u64) -> wasmtime::Result<wasmtime::Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(instances_max)
        .total_memories(instances_max)
        .total_tables(instances_max)
        .max_memories_per_module(1)
        .max_tables_per_module(1)
        .table_elements(sandbox::TABLE_ELEMENTS_MAX)
        .max_core_instance_size(1 << 20)
        .max_memory_size(usize::try_from(memory_bytes_max)?)
        // Together these three make starting sandboxes scale with threads instead of against them: pages that a guest
        // dirtied are found by an ioctl and zeroed in place, the rest is given back in batches.
        .linear_memory_keep_resident(2 << 20)
        .pagemap_scan(Enabled::Auto)
        .decommit_batch_size(64);
    let mut config = base();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    wasmtime::Engine::new(&config)
}

fn unmetered() -> wasmtime::Result<wasmtime::Engine> {
    let mut config = base();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand).parallel_compilation(false);
    wasmtime::Engine::new(&config)
}
