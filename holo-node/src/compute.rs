//! Runs programs on the shards that this node is the primary of.
//!
//! A run is split by shard. Workers take the next shard until none is left; every shard's output is staged in fresh
//! frames and published in one step when the kernel has finished with it, so a killed kernel leaves no trace in its
//! shard. A run over several shards is not atomic across them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use holo_core::expr::Program;
use holo_core::wire::{RunReply, RunShards, ShardPartial};
use holo_core::{
    ArrayId, ArrayLayout, DType, Epoch, ErrorCode, Failure, ModuleId, PublicKey, ShardIndex,
    TileSink, TileSource, action, limits,
};
use holo_exec::{
    CallOutput, Capability, Engine, Expression, Grants, Limits, Module, RunControl, ShardTask,
};
use holo_gpu::{GpuTask, GpuWorker};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::arrays::{Access, Arrays};
use crate::clock::Clock;
use crate::modules::Modules;
use crate::workers::Workers;

/// The engines of this node and the threads they run on.
#[derive(Debug)]
pub(crate) struct Compute {
    pub(crate) engine: Engine,
    pub(crate) modules: Modules,
    pub(crate) workers: Arc<Workers>,
    gpu: Arc<GpuWorker>,
    clock: Clock,
}

/// What a run executes.
enum Kernel {
    Expression(Arc<Expression>),
    Gpu(Arc<GpuWorker>, Program),
    Module { module: Arc<Module>, params: Vec<u8>, grants: Grants, limits: Limits },
}

/// One run on this node, shared by the workers that take part in it.
struct Run {
    arrays: Arc<Arrays>,
    kernel: Kernel,
    inputs: Vec<Access<action::Read>>,
    outputs: Vec<Access<action::Write>>,
    /// Index space of the run: that of its first array.
    layout: ArrayLayout,
    dtypes: Vec<DType>,
    shards: Vec<ShardIndex>,
    next: AtomicUsize,
    fuel: AtomicU64,
    control: RunControl,
    clock: Clock,
    done: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    partials: Vec<ShardPartial>,
    engine: String,
    log: LogLines,
    failure: Option<Failure>,
    workers_left: usize,
    reply: Option<oneshot::Sender<Result<RunReply, Failure>>>,
}

/// What one shard's kernel gave back.
struct ShardResult {
    partial: Option<Vec<u8>>,
    engine: String,
    log: Vec<String>,
}

/// Log lines up to [`limits::LOG_BYTES_MAX`]; what comes later is dropped, and the last line says so.
#[derive(Default)]
struct LogLines {
    lines: Vec<String>,
    bytes: usize,
}

impl LogLines {
    fn extend(&mut self, lines: Vec<String>) {
        for line in lines {
            if self.bytes > limits::LOG_BYTES_MAX {
                return;
            }
            self.bytes += line.len() + 1;
            let full = self.bytes > limits::LOG_BYTES_MAX;
            self.lines.push(if full { "(more log lines were dropped)".to_owned() } else { line });
        }
    }
}

impl Compute {
    /// Starts the workers; engines compile nothing before the first program.
    pub(crate) fn start(workers: usize, gpu: GpuWorker, clock: Clock) -> Result<Self, Failure> {
        let engine = Engine::new(holo_exec::EngineOptions::default())?;
        let workers = Arc::new(Workers::start(workers)?);
        Ok(Self { engine, modules: Modules::default(), workers, gpu: Arc::new(gpu), clock })
    }

    /// Checks a request and runs it on every shard held here.
    ///
    /// # Errors
    ///
    /// Those of authorization, of the program, of capacity, and the first failure of a shard: shards that were done
    /// before it stay published, which the message says.
    pub(crate) async fn run(
        &self,
        arrays: Arc<Arrays>,
        key: PublicKey,
        request: RunShards,
    ) -> Result<RunReply, Failure> {
        let run = self.prepare(arrays, key, request)?;
        let elems = run.shards.iter().map(|shard| run.layout.elems_in_shard(*shard)).sum();
        let started = self.clock.now();
        let shards = run.shards.len();
        let _cancel = CancelOnDrop(Arc::clone(&run.control.cancel));
        if shards == 0 {
            return Ok(RunReply::default());
        }
        let (reply, outcome) = oneshot::channel();
        let helpers = self.workers.count().min(shards);
        *run.done.lock() =
            Progress { workers_left: helpers, reply: Some(reply), ..Progress::default() };
        let run = Arc::new(run);
        for submitted in 0..helpers {
            let part = Arc::clone(&run);
            if let Err(refused) = self.workers.submit(move || part.work()) {
                if submitted == 0 {
                    return Err(refused);
                }
                // Those that did start take the shards of the ones that did not.
                run.leave(helpers - submitted);
                break;
            }
        }
        let reply = outcome
            .await
            .unwrap_or_else(|_gone| Err(Failure::new(ErrorCode::Internal, "a run was dropped")))?;
        let elapsed_us =
            u64::try_from(self.clock.now().since(started).as_micros()).unwrap_or(u64::MAX);
        Ok(RunReply { shards: shards as u64, elems, elapsed_us, ..reply })
    }

    fn prepare(
        &self,
        arrays: Arc<Arrays>,
        key: PublicKey,
        request: RunShards,
    ) -> Result<Run, Failure> {
        if request.inputs.len() + request.outputs.len() > limits::RUN_OPERANDS_MAX {
            let message =
                format!("{} operands, at most {}", request.inputs.len(), limits::RUN_OPERANDS_MAX);
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        if request.params.len() > limits::TASK_ARGS_BYTES_MAX {
            return Err(Failure::new(
                ErrorCode::TooLarge,
                format!("{} bytes of parameters", request.params.len()),
            ));
        }
        let inputs =
            request.inputs.iter().map(|operand| arrays.access(key, ArrayId(operand.array)));
        let inputs = inputs.collect::<Result<Vec<Access<action::Read>>, _>>()?;
        let outputs =
            request.outputs.iter().map(|operand| arrays.access(key, ArrayId(operand.array)));
        let outputs = outputs.collect::<Result<Vec<Access<action::Write>>, _>>()?;
        let mut descriptors =
            inputs.iter().map(Access::descriptor).chain(outputs.iter().map(Access::descriptor));
        let first = descriptors.next().ok_or_else(|| {
            Failure::new(ErrorCode::InvalidArgument, "a run needs at least one array")
                .help("bind one with --in or --out")
        })?;
        for other in descriptors {
            if other.colocation != first.colocation || other.layout.shape() != first.layout.shape()
            {
                let message =
                    format!("{} and {} do not lie shard beside shard", first.name, other.name);
                let help = format!("allocate one of them with --like {} and copy", first.name);
                return Err(Failure::new(ErrorCode::NotColocated, message).help(help));
            }
        }
        let shards = match (inputs.first(), outputs.first()) {
            (Some(input), _) => arrays.held(input)?,
            (None, Some(output)) => arrays.held(output)?,
            (None, None) => Vec::new(),
        };
        let kernel = self.kernel(&arrays, key, &request, &inputs, &outputs)?;
        let limits = requested_limits(request.fuel, request.time_ms, request.memory_bytes);
        let control =
            RunControl { deadline: self.clock.deadline(limits.time), ..RunControl::default() };
        let dtypes =
            inputs.iter().map(Access::dtype).chain(outputs.iter().map(Access::dtype)).collect();
        Ok(Run {
            layout: first.layout.clone(),
            kernel,
            dtypes,
            inputs,
            outputs,
            shards,
            next: AtomicUsize::new(0),
            fuel: AtomicU64::new(0),
            control,
            clock: self.clock.clone(),
            done: Mutex::default(),
            arrays,
        })
    }

    fn kernel(
        &self,
        arrays: &Arrays,
        key: PublicKey,
        request: &RunShards,
        inputs: &[Access<action::Read>],
        outputs: &[Access<action::Write>],
    ) -> Result<Kernel, Failure> {
        if !request.module.is_empty() {
            let id = ModuleId::from_slice(&request.module)?;
            let may =
                arrays.policy().authorize::<action::Run>(key, &format!("module:{}", id.short()))?;
            let module = self.modules.find(may.tenant(), id)?;
            let limits = requested_limits(request.fuel, request.time_ms, request.memory_bytes);
            let grants = parse_grants(&request.grants)?;
            return Ok(Kernel::Module { module, params: request.params.to_vec(), grants, limits });
        }
        let _may = arrays.policy().authorize::<action::Run>(key, "expression")?;
        let program = Program::decode(&request.program)?;
        check_expression(&program, inputs, outputs)?;
        match request.device {
            0 | 1 => Ok(Kernel::Expression(self.engine.expression(&program)?)),
            2 => {
                self.gpu.adapter()?;
                Ok(Kernel::Gpu(Arc::clone(&self.gpu), program))
            }
            other => Err(Failure::new(ErrorCode::InvalidArgument, format!("{other} is no device"))),
        }
    }
}

impl Run {
    /// Takes shards until there are none, on a worker's thread.
    fn work(&self) {
        // A panic must still count this worker as gone, or the requester would wait for ever.
        let leaving = Leaving(self);
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(shard) = self.shards.get(index).copied() else { break };
            if self.done.lock().failure.is_some() {
                break;
            }
            match self.shard(shard) {
                Ok(result) => {
                    let mut done = self.done.lock();
                    done.engine = result.engine;
                    done.log.extend(result.log);
                    done.partials
                        .extend(result.partial.map(|data| ShardPartial { shard: shard.0, data }));
                }
                Err(failure) => {
                    self.done
                        .lock()
                        .failure
                        .get_or_insert_with(|| failure.context(format!("shard {shard}")));
                    break;
                }
            }
        }
        drop(leaving);
    }

    fn shard(&self, shard: ShardIndex) -> Result<ShardResult, Failure> {
        let snapshots =
            self.inputs.iter().map(|access| Ok(self.arrays.shard(access, shard)?.snapshot()));
        let snapshots = snapshots.collect::<Result<Vec<_>, Failure>>()?;
        let sources: Vec<&dyn TileSource> =
            snapshots.iter().map(|snapshot| snapshot as &dyn TileSource).collect();
        let staged = self.outputs.iter().map(|access| {
            let bytes = access.descriptor().layout.bytes_in_shard(shard);
            self.arrays.stage(access, shard, 0, bytes)
        });
        let mut staged = staged.collect::<Result<Vec<_>, Failure>>()?;
        let mut sinks: Vec<&mut dyn TileSink> =
            staged.iter_mut().map(|staged| staged as &mut dyn TileSink).collect();
        let (first_index, elems) =
            (self.layout.first_elem(shard), self.layout.elems_in_shard(shard));
        let result =
            self.execute(ShardTask { first_index, elems, inputs: &sources, outputs: &mut sinks })?;
        for (access, staged) in self.outputs.iter().zip(staged) {
            self.arrays.publish(access, shard, Epoch(0), self.clock.now(), staged)?;
        }
        Ok(result)
    }

    fn execute(&self, task: ShardTask<'_, '_>) -> Result<ShardResult, Failure> {
        match &self.kernel {
            Kernel::Expression(expression) => {
                let output = expression.run_shard(task, &self.control)?;
                self.fuel.fetch_add(output.fuel, Ordering::Relaxed);
                let partial = output.accumulator.map(scalar_bytes);
                Ok(ShardResult { partial, engine: "wasm-jit".to_owned(), log: Vec::new() })
            }
            Kernel::Gpu(gpu, program) => {
                let ShardTask { first_index, elems, inputs, outputs } = task;
                let output = outputs.first_mut().map(|sink| &mut **sink as &mut dyn TileSink);
                let output =
                    gpu.run_shard(program, GpuTask { first_index, elems, inputs, output })?;
                let partial = output.accumulator.map(scalar_bytes);
                Ok(ShardResult {
                    partial,
                    engine: format!("gpu: {}", output.adapter),
                    log: Vec::new(),
                })
            }
            Kernel::Module { module, params, grants, limits } => {
                let mut instance = module.start(params, grants, limits, &self.control)?;
                instance.run_shard(task, &self.dtypes, &self.control)?;
                let CallOutput { output, fuel, log } = instance.finish(&self.control)?;
                self.fuel.fetch_add(fuel, Ordering::Relaxed);
                let partial = reduces(module).then_some(output);
                let log = log.into_iter().map(|line| line.text).collect();
                Ok(ShardResult { partial, engine: "wasm".to_owned(), log })
            }
        }
    }

    /// Counts workers that take no further part; the last one replies.
    fn leave(&self, workers: usize) {
        let mut done = self.done.lock();
        done.workers_left -= workers;
        if done.workers_left > 0 {
            return;
        }
        let Some(reply) = done.reply.take() else { return };
        let mut partials = std::mem::take(&mut done.partials);
        partials.sort_by_key(|partial| partial.shard);
        let outcome = match done.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(RunReply {
                partials,
                fuel: self.fuel.load(Ordering::Relaxed),
                engine: std::mem::take(&mut done.engine),
                log: std::mem::take(&mut done.log.lines),
                ..RunReply::default()
            }),
        };
        // The requester may have gone away; then nobody wants the answer.
        let _unwanted = reply.send(outcome);
    }
}

struct Leaving<'a>(&'a Run);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let failure = Failure::new(ErrorCode::Internal, "a kernel's driver panicked");
            self.0.done.lock().failure.get_or_insert(failure);
        }
        self.0.leave(1);
    }
}

/// Cancels a run whose requester is gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn check_expression(
    program: &Program,
    inputs: &[Access<action::Read>],
    outputs: &[Access<action::Write>],
) -> Result<(), Failure> {
    let invalid = |message: String| Err(Failure::new(ErrorCode::ExpressionInvalid, message));
    if program.inputs().len() != inputs.len() {
        return invalid(format!(
            "the expression reads {} arrays, {} are bound",
            program.inputs().len(),
            inputs.len()
        ));
    }
    for (input, access) in program.inputs().iter().zip(inputs) {
        if input.dtype != access.dtype() {
            let array = access.descriptor();
            let message = format!(
                "{} is {} in the expression, array {} is {}",
                input.name,
                input.dtype,
                array.name,
                access.dtype()
            );
            return Err(Failure::new(ErrorCode::DtypeMismatch, message));
        }
    }
    match (program.reduction(), outputs) {
        (Some(_), []) => Ok(()),
        (None, [output]) if output.dtype() == program.output_dtype() => Ok(()),
        (None, [output]) => {
            let (array, dtype) = (output.descriptor(), program.output_dtype());
            let message =
                format!("the expression gives {dtype}, array {} is {}", array.name, output.dtype());
            Err(Failure::new(ErrorCode::DtypeMismatch, message)
                .help(format!("convert it: {}(...)", output.dtype())))
        }
        (Some(_), _) => invalid("a reduction gives one value and has no output array".to_owned()),
        (None, _) => {
            invalid(format!("an expression has one output array, {} are bound", outputs.len()))
        }
    }
}

/// The caller's limits, or the defaults where it names none. Nobody gets more than the defaults: roles with limits of
/// their own come later.
pub(crate) fn requested_limits(fuel: u64, time_ms: u32, memory_bytes: u64) -> Limits {
    let usual = Limits::default();
    let or_usual = |wanted: u64, usual: u64| if wanted == 0 { usual } else { wanted.min(usual) };
    let time = match time_ms {
        0 => usual.time,
        millis => usual.time.min(Duration::from_millis(u64::from(millis))),
    };
    let memory_bytes = or_usual(memory_bytes, usual.memory_bytes);
    Limits { fuel: or_usual(fuel, usual.fuel), time, memory_bytes, ..usual }
}

/// The capabilities of a list of names.
pub(crate) fn parse_grants(names: &[String]) -> Result<Grants, Failure> {
    let known = || Capability::ALL.iter().map(|capability| capability.name());
    names.iter().try_fold(Grants::none(), |grants, name| {
        let capability = Capability::ALL.iter().find(|capability| capability.name() == name);
        capability.map(|capability| grants.with(*capability)).ok_or_else(|| {
            let known: Vec<&str> = known().collect();
            Failure::new(ErrorCode::InvalidArgument, format!("{name:?} is no capability"))
                .help(format!("use some of {}", known.join(", ")))
        })
    })
}

/// Whether a module hands a partial result back for every shard.
fn reduces(module: &Module) -> bool {
    module.exports().iter().any(|export| export == "holo_finish")
}

fn scalar_bytes(value: holo_core::Scalar) -> Vec<u8> {
    value.le_bytes()[..value.dtype().size()].to_vec()
}
