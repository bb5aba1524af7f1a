//! The parent's handle of one worker process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use holo_core::expr::Program;
use holo_core::{Scalar, TileSink, TileSource};
use parking_lot::Mutex;

use crate::child::{Child, Deadline, Killer};
use crate::lower::{Chunk, Stage, fold_partials};
use crate::protocol::{Request, Run};
use crate::{AdapterReport, GpuError, Kernel, lower_to_wgsl};

/// One worker process, started at the first call and again after it was killed or failed.
///
/// Calls block and take turns: a caller in async code gives them a thread of their own. The worker is killed when
/// an answer is not there within the watchdog's limit, when [`GpuWorker::cancel`] is called, after any answer that is
/// not one, and when the handle is dropped.
#[derive(Debug)]
pub struct GpuWorker {
    executable: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    watchdog: Duration,
    session: Mutex<Session>,
    running: Mutex<Running>,
}

/// What one call after the other uses.
#[derive(Debug, Default)]
struct Session {
    live: Option<(Child, AdapterReport)>,
    /// Inputs on their way to the worker, kept for the next call.
    inputs: Vec<u8>,
    /// Results on their way back.
    results: Vec<u8>,
}

/// The call that holds the session, as a canceller sees it.
#[derive(Debug, Default)]
struct Running {
    in_call: bool,
    cancelled: bool,
    killer: Option<Killer>,
}

/// One shard of work.
#[expect(missing_debug_implementations, reason = "the sources and the sink have none")]
pub struct GpuTask<'a> {
    /// Flat C-order index of the shard's first element.
    pub first_index: u64,
    /// Elements.
    pub elems: u64,
    /// The shard of each input, in the program's binding order.
    pub inputs: &'a [&'a dyn TileSource],
    /// Where the elements go; `None` for a reduction.
    pub output: Option<&'a mut dyn TileSink>,
}

/// What a shard of work gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuOutput {
    /// For a reduction its partial value, of the accumulator's dtype, as [`holo_core::expr::reduce_shard`] gives it;
    /// `None` for a program that stores.
    pub accumulator: Option<Scalar>,
    /// Name of the adapter that computed it.
    pub adapter: String,
}

impl GpuWorker {
    /// Starts nothing yet. `executable` run with `args` ends up in [`worker_main`](crate::worker_main); `watchdog`
    /// bounds each wait for it: the start with its canary kernels, and every launch.
    pub fn new(executable: PathBuf, args: Vec<OsString>, watchdog: Duration) -> Self {
        Self {
            executable,
            args,
            environment: Vec::new(),
            watchdog,
            session: Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// Sets a variable in the worker's environment, for example `VK_DRIVER_FILES`, which picks the Vulkan driver.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The adapter and what it can do. Starts the worker where none runs.
    ///
    /// # Errors
    ///
    /// [`GpuError::NoAdapter`]; the errors of a worker that does not start or answer.
    pub fn adapter(&self) -> Result<AdapterReport, GpuError> {
        self.call(|session| self.live(session).map(|(_, report)| report.clone()))
    }

    /// Computes one shard. Blocks until it is done.
    ///
    /// # Errors
    ///
    /// [`GpuError::Unsupported`] before anything is started, where the program does not fit a GPU;
    /// [`GpuError::NoAdapter`]; the errors of a worker that fails. The output may have got some of its bytes: discard it.
    pub fn run_shard(&self, program: &Program, task: GpuTask<'_>) -> Result<GpuOutput, GpuError> {
        let kernel = lower_to_wgsl(program)?;
        check(&kernel, &task)?;
        self.call(|session| self.run_kernel(session, &kernel, task))
    }

    /// Kills the worker under the call that runs now, which returns [`GpuError::Cancelled`]; the next call starts
    /// another. Without a call in progress nothing happens.
    pub fn cancel(&self) {
        let mut running = self.running.lock();
        if running.in_call {
            running.cancelled = true;
            if let Some(killer) = &running.killer {
                killer.kill();
            }
        }
    }

    /// Runs one call after the others; after a failure the worker is killed, because nobody knows its state.
    fn call<T>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        let mut session = self.session.lock();
        let killer = session.live.as_ref().map(|(child, _)| child.killer());
        *self.running.lock() = Running { in_call: true, cancelled: false, killer };
        let result = work(&mut session);
        let cancelled = std::mem::take(&mut *self.running.lock()).cancelled;
        if result.is_err() || cancelled {
            session.live = None;
        }
        match result {
            Err(_) if cancelled => Err(GpuError::Cancelled),
            other => other,
        }
    }

    /// The worker and its report, started where there is none.
    fn live<'s>(
        &self,
        session: &'s mut Session,
    ) -> Result<&'s mut (Child, AdapterReport), GpuError> {
        if session.live.is_none() {
            let mut child = Child::spawn(&self.executable, &self.args, &self.environment)?;
            self.watch(&child)?;
            let deadline = Deadline::starts_now(self.watchdog, "while opening the adapter");
            let reply = child.call(&Request::default(), &[], &mut session.results, deadline)?;
            let report = match (reply.report, reply.refusal) {
                (_, Some(refusal)) => return Err(refusal.into()),
                (Some(report), None) => AdapterReport::from(report),
                (None, None) => {
                    return Err(GpuError::Protocol("no report of an adapter".into()));
                }
            };
            tracing::info!(adapter = %report, capabilities = ?report.capabilities, "GPU worker started");
            session.live = Some((child, report));
        }
        session.live.as_mut().ok_or_else(|| GpuError::Protocol("no worker".into()))
    }

    /// Lets a canceller reach a child that was started inside a call.
    fn watch(&self, child: &Child) -> Result<(), GpuError> {
        let mut running = self.running.lock();
        running.killer = Some(child.killer());
        if running.cancelled { Err(GpuError::Cancelled) } else { Ok(()) }
    }

    fn run_kernel(
        &self,
        session: &mut Session,
        kernel: &Kernel,
        mut task: GpuTask<'_>,
    ) -> Result<GpuOutput, GpuError> {
        let adapter = self.live(session)?.1.name.clone();
        let mut accumulator = None;
        for chunk in kernel.chunks(task.first_index, task.elems)? {
            self.launch(session, kernel, &chunk, task.inputs)?;
            match (kernel.stage(), &mut task.output) {
                (Stage::Partials { reduction, element }, _) => {
                    let words = kernel.partial_words();
                    accumulator =
                        fold_partials(reduction, element, words, accumulator, &session.results);
                }
                (Stage::Elements(dtype), Some(output)) => {
                    let size = dtype.size();
                    let bytes = as_length(chunk.elems)? * size;
                    output.copy_from(chunk.start * size as u64, &session.results[..bytes]);
                }
                (Stage::Elements(_), None) => {}
            }
        }
        if task.elems == 0 {
            accumulator = kernel.value_of_nothing();
        }
        Ok(GpuOutput { accumulator, adapter })
    }

    /// Runs one chunk; its results are in the session then, as many as were asked for.
    fn launch(
        &self,
        session: &mut Session,
        kernel: &Kernel,
        chunk: &Chunk,
        sources: &[&dyn TileSource],
    ) -> Result<(), GpuError> {
        let mut inputs = std::mem::take(&mut session.inputs);
        inputs.resize(as_length(chunk.data_bytes)?, 0);
        for ((source, dtype), (offset, bytes)) in
            sources.iter().zip(kernel.inputs()).zip(&chunk.inputs)
        {
            let (offset, bytes) = (as_length(*offset)?, as_length(*bytes)?);
            source.copy_to(chunk.start * dtype.size() as u64, &mut inputs[offset..offset + bytes]);
        }
        let run = Run {
            source: kernel.source().to_owned(),
            params: chunk.params.clone(),
            groups_x: chunk.groups.0,
            groups_y: chunk.groups.1,
            result_bytes: chunk.result_bytes,
        };
        let mut results = std::mem::take(&mut session.results);
        let (child, _) = self.live(session)?;
        let deadline = Deadline::starts_now(self.watchdog, "while running a kernel");
        let reply = child.call(&Request { run: Some(run) }, &inputs, &mut results, deadline)?;
        session.inputs = inputs;
        session.results = results;
        if let Some(refusal) = reply.refusal {
            return Err(refusal.into());
        }
        if session.results.len() as u64 != chunk.result_bytes {
            let message =
                format!("{} bytes of results, not {}", session.results.len(), chunk.result_bytes);
            return Err(GpuError::Protocol(message));
        }
        Ok(())
    }
}

/// A task that fits the kernel: as many inputs as the program reads, an output where it stores.
fn check(kernel: &Kernel, task: &GpuTask<'_>) -> Result<(), GpuError> {
    if task.inputs.len() != kernel.inputs().len() {
        let message = format!(
            "the program reads {} arrays, got {}",
            kernel.inputs().len(),
            task.inputs.len()
        );
        return Err(GpuError::InvalidTask(message));
    }
    match (kernel.stage(), &task.output) {
        (Stage::Elements(_), None) => {
            Err(GpuError::InvalidTask("the program stores elements and has no output".into()))
        }
        (Stage::Partials { .. }, Some(_)) => {
            Err(GpuError::InvalidTask("a reduction has no output array".into()))
        }
        _ => Ok(()),
    }
}

fn as_length(bytes: u64) -> Result<usize, GpuError> {
    usize::try_from(bytes)
        .map_err(|source| GpuError::InvalidTask(format!("{bytes} bytes: {source}")))
}
