//! One run on this node: the workers that take part in it take shard after shard until none is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use holo_core::expr::Program;
use holo_core::wire::{RunReply, ShardPartial};
use holo_core::{
    ArrayLayout, DType, ErrorCode, Failure, Retry, Scalar, ShardIndex, TileSink, TileSource,
    action, limits,
};
use holo_exec::{CallOutput, Expression, Grants, Limits, Module, RunControl, ShardTask};
use holo_gpu::{GpuTask, GpuWorker};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::data::{Access, DataPlane};

/// What a run executes.
pub(crate) enum Kernel {
    /// A compiled expression.
    Expression(Arc<Expression>),
    /// An expression on the GPU.
    Gpu(Arc<GpuWorker>, Program),
    /// A user's module, in a fresh sandbox for every shard.
    Module {
        /// The module.
        module: Arc<Module>,
        /// For its `holo_init`.
        params: Vec<u8>,
        /// What the caller granted.
        grants: Grants,
    },
}

/// One run, shared by the workers that take part in it.
pub(crate) struct Run {
    pub(crate) data: Arc<DataPlane>,
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Vec<Access<action::Read>>,
    pub(crate) outputs: Vec<Access<action::Write>>,
    /// Index space of the run: that of its first array.
    pub(crate) layout: ArrayLayout,
    pub(crate) dtypes: Vec<DType>,
    pub(crate) shards: Vec<ShardIndex>,
    pub(crate) limits: Limits,
    pub(crate) control: RunControl,
    pub(crate) clock: Clock,
    pub(crate) next: AtomicUsize,
    pub(crate) fuel: AtomicU64,
    pub(crate) done: Mutex<Progress>,
}

/// What has happened so far.
#[derive(Default)]
pub(crate) struct Progress {
    partials: Vec<ShardPartial>,
    partial_bytes: usize,
    engine: String,
    log: LogLines,
    shards: usize,
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

impl Run {
    /// Expects `workers` to take part; the last one that leaves answers through the receiver.
    pub(crate) fn expect(&self, workers: usize) -> oneshot::Receiver<Result<RunReply, Failure>> {
        let (reply, outcome) = oneshot::channel();
        *self.done.lock() =
            Progress { workers_left: workers, reply: Some(reply), ..Progress::default() };
        outcome
    }

    /// Takes shards until there are none, on a worker's thread.
    pub(crate) fn work(&self) {
        // A panic must still count this worker as gone, or the requester would wait for ever.
        let leaving = Leaving(self);
        while self.done.lock().failure.is_none() {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(shard) = self.shards.get(index).copied() else { break };
            let outcome = self.shard(shard).map_err(|failure| self.name_limit(failure));
            self.done.lock().record(shard, outcome);
        }
        drop(leaving);
    }

    /// Counts workers that take no further part; the last one replies.
    pub(crate) fn leave(&self, workers: usize) {
        let mut done = self.done.lock();
        done.workers_left -= workers;
        if done.workers_left > 0 {
            return;
        }
        let Some(reply) = done.reply.take() else { return };
        let outcome = match done.failure.take() {
            Some(failure) if done.shards > 0 && self.is_in_place() => {
                Err(in_part(failure, done.shards, self.shards.len()))
            }
            Some(failure) => Err(failure),
            None => Ok(done.reply(self.fuel.load(Ordering::Relaxed))),
        };
        // The requester may have gone away; then nobody wants the answer.
        let _unwanted = reply.send(outcome);
    }

    /// Whether it writes what it reads. Any other run gives the same however often it is done.
    fn is_in_place(&self) -> bool {
        let is_read = |id| self.inputs.iter().any(|input| input.descriptor().id == id);
        self.outputs.iter().any(|output| is_read(output.descriptor().id))
    }

    fn shard(&self, shard: ShardIndex) -> Result<ShardResult, Failure> {
        if self.control.is_cancelled() {
            return Err(Failure::new(ErrorCode::Cancelled, "the requester is gone"));
        }
        if self.control.deadline.is_some_and(|deadline| self.clock.is_past(deadline)) {
            return Err(Failure::new(ErrorCode::TimeLimit, "no time is left for this shard"));
        }
        let arrays = &self.data.arrays;
        let now = || self.clock.now();
        let snapshots = self
            .inputs
            .iter()
            .map(|access| arrays.read(access, shard, now, |pages| Ok(pages.snapshot())));
        let snapshots = snapshots.collect::<Result<Vec<_>, Failure>>()?;
        let sources: Vec<&dyn TileSource> =
            snapshots.iter().map(|snapshot| snapshot as &dyn TileSource).collect();
        let staged = self.outputs.iter().map(|access| {
            let bytes = access.descriptor().layout.bytes_in_shard(shard);
            arrays.stage(access, shard, 0, bytes)
        });
        let mut staged = staged.collect::<Result<Vec<_>, Failure>>()?;
        let mut sinks: Vec<&mut dyn TileSink> =
            staged.iter_mut().map(|staged| staged as &mut dyn TileSink).collect();
        let (first_index, elems) =
            (self.layout.first_elem(shard), self.layout.elems_in_shard(shard));
        let task = ShardTask { first_index, elems, inputs: &sources, outputs: &mut sinks };
        let result = self.execute(shard, task)?;
        for (access, staged) in self.outputs.iter().zip(staged) {
            self.data.publish_blocking(access, shard, staged)?;
        }
        Ok(result)
    }

    fn execute(&self, shard: ShardIndex, task: ShardTask<'_, '_>) -> Result<ShardResult, Failure> {
        let (partial, engine, log) = match &self.kernel {
            Kernel::Expression(expression) => {
                let needed = expression.fuel(task.elems);
                if needed > self.limits.fuel {
                    let message =
                        format!("{needed} units of fuel, the limit is {}", self.limits.fuel);
                    return Err(Failure::new(ErrorCode::FuelLimit, message)
                        .help("ask for more fuel, or use shorter shards"));
                }
                let output = expression.run_shard(task, &self.control)?;
                self.fuel.fetch_add(output.fuel, Ordering::Relaxed);
                (output.accumulator.map(scalar_bytes), "wasm-jit".to_owned(), Vec::new())
            }
            Kernel::Gpu(gpu, program) => {
                let ShardTask { first_index, elems, inputs, outputs } = task;
                let output = outputs.first_mut().map(|sink| &mut **sink as &mut dyn TileSink);
                let task = GpuTask { first_index, elems, inputs, output };
                let output = gpu.run_shard(program, task)?;
                let engine = format!("gpu: {}", output.adapter);
                (output.accumulator.map(scalar_bytes), engine, Vec::new())
            }
            Kernel::Module { module, params, grants } => {
                let grants = grants.seed(seed(module, params, shard));
                let mut instance = module.start(params, &grants, &self.limits, &self.control)?;
                instance.run_shard(task, &self.dtypes, &self.control)?;
                let CallOutput { output, fuel, log } = instance.finish(&self.control)?;
                self.fuel.fetch_add(fuel, Ordering::Relaxed);
                let log = log.into_iter().map(|line| line.text).collect();
                let partial = (reduces(module) || !output.is_empty()).then_some(output);
                (partial, "wasm".to_owned(), log)
            }
        };
        Ok(ShardResult { partial, engine, log })
    }

    /// The deadline that the engines see is the run's own time limit: say so.
    fn name_limit(&self, failure: Failure) -> Failure {
        if failure.code != ErrorCode::DeadlineExceeded && failure.code != ErrorCode::TimeLimit {
            return failure;
        }
        let message = format!("the time limit of {} ms ended it", self.limits.time.as_millis());
        Failure::new(ErrorCode::TimeLimit, message)
            .help("give it more time, up to the node's limit")
    }
}

impl Progress {
    fn record(&mut self, shard: ShardIndex, outcome: Result<ShardResult, Failure>) {
        let outcome = outcome.and_then(|result| {
            let bytes = result.partial.as_ref().map_or(0, Vec::len);
            self.partial_bytes += bytes + PARTIAL_OVERHEAD_BYTES;
            if self.partial_bytes > limits::BODY_BYTES_MAX as usize {
                let message =
                    format!("partial results of more than {} bytes", limits::BODY_BYTES_MAX);
                return Err(Failure::new(ErrorCode::OutputLimit, message)
                    .help("reduce to less, or use longer shards"));
            }
            Ok(result)
        });
        match outcome {
            Ok(result) => {
                self.shards += 1;
                self.engine = result.engine;
                self.log.extend(result.log);
                let partial = result.partial.map(|data| ShardPartial { shard: shard.0, data });
                self.partials.extend(partial);
            }
            Err(failure) => {
                self.failure.get_or_insert_with(|| failure.context(format!("shard {shard}")));
            }
        }
    }

    fn reply(&mut self, fuel: u64) -> RunReply {
        let mut partials = std::mem::take(&mut self.partials);
        partials.sort_by_key(|partial| partial.shard);
        RunReply {
            partials,
            fuel,
            engine: std::mem::take(&mut self.engine),
            log: std::mem::take(&mut self.log.lines),
            ..RunReply::default()
        }
    }
}

/// What a partial result costs in a reply beyond its bytes.
const PARTIAL_OVERHEAD_BYTES: usize = 24;

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

/// A failure after shards of a run in place were written: trying the same again would run on what the first attempt
/// left, so no retry is offered, and the message says how far it came.
fn in_part(failure: Failure, done: usize, all: usize) -> Failure {
    let code = match failure.code.retry() {
        Retry::Never => failure.code,
        Retry::Later | Retry::Unknown => ErrorCode::TaskFailed,
    };
    let message =
        format!("{}; {done} of this node's {all} shards were written before", failure.message);
    Failure { code, message, retry_after_ms: None, ..failure }
}

/// What a module's random numbers start from: the same for the same work, so that it can be repeated.
pub(crate) fn seed(module: &Module, args: &[u8], shard: ShardIndex) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("holocompute 2026 seed of a task");
    hasher.update(&module.id().0).update(&shard.0.to_le_bytes()).update(args);
    let mut seed = [0u8; 8];
    hasher.finalize_xof().fill(&mut seed);
    u64::from_le_bytes(seed)
}

/// Whether a module hands a partial result back for every shard.
fn reduces(module: &Module) -> bool {
    module.exports().iter().any(|export| export == "holo_finish")
}

fn scalar_bytes(value: Scalar) -> Vec<u8> {
    value.le_bytes()[..value.dtype().size()].to_vec()
}
