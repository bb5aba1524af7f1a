//! Runs programs on the shards that this node is the primary of.
//!
//! A run is split by shard. Workers take the next shard until none is left; every shard's output is staged in fresh
//! frames and published in one step when the kernel has finished with it, so a killed kernel leaves no trace in its
//! shard. A run over several shards is not atomic across them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use holo_core::expr::Program;
use holo_core::wire::{RunReply, RunShards};
use holo_core::{
    Action, ArrayId, ErrorCode, Failure, ModuleId, PublicKey, ShardIndex, action, limits,
};
use holo_exec::{Capability, Engine, Grants, Limits, RunControl};
use holo_gpu::GpuWorker;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::data::{Access, Arrays, DataPlane};
use crate::modules::Modules;
use crate::run::{Kernel, Run};
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
        self: Arc<Self>,
        data: Arc<DataPlane>,
        key: PublicKey,
        request: RunShards,
    ) -> Result<RunReply, Failure> {
        let cancel = CancelOnDrop::default();
        let control = RunControl { cancel: Arc::clone(&cancel.0), ..RunControl::default() };
        // On a worker: compiling an expression or waking a GPU takes longer than the network may wait.
        let compute = Arc::clone(&self);
        let prepare = move || compute.prepare(data, key, &request, control);
        let run = Arc::new(Arc::clone(&self.workers).run(prepare).await?);
        let elems = run.shards.iter().map(|shard| run.layout.elems_in_shard(*shard)).sum();
        let started = self.clock.now();
        let shards = run.shards.len();
        if shards == 0 {
            return Ok(RunReply::default());
        }
        let helpers = self.workers.count().min(shards);
        let outcome = run.expect(helpers);
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
        data: Arc<DataPlane>,
        key: PublicKey,
        request: &RunShards,
        control: RunControl,
    ) -> Result<Run, Failure> {
        let operands = request.inputs.len() + request.outputs.len();
        if operands > limits::RUN_OPERANDS_MAX {
            let message = format!("{operands} operands, at most {}", limits::RUN_OPERANDS_MAX);
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        if request.params.len() > limits::TASK_ARGS_BYTES_MAX {
            return Err(Failure::new(
                ErrorCode::TooLarge,
                format!("{} bytes of parameters", request.params.len()),
            ));
        }
        let arrays = &data.arrays;
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
            if (other.colocation, other.class()) != (first.colocation, first.class())
                || other.layout.shape() != first.layout.shape()
            {
                let message =
                    format!("{} and {} do not lie shard beside shard", first.name, other.name);
                let help = format!("allocate one of them with --like {} and copy", first.name);
                return Err(Failure::new(ErrorCode::NotColocated, message).help(help));
            }
        }
        let shards = match (inputs.first(), outputs.first()) {
            (Some(input), _) => shards_to_run(arrays, input, &request.shard_runs)?,
            (None, Some(output)) => shards_to_run(arrays, output, &request.shard_runs)?,
            (None, None) => Vec::new(),
        };
        let limits = requested_limits(request.fuel, request.time_ms, request.memory_bytes)?;
        let kernel = self.kernel(arrays, key, request, &inputs, &outputs)?;
        let control = RunControl { deadline: self.clock.deadline(limits.time), ..control };
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
            limits,
            control,
            clock: self.clock.clone(),
            done: Mutex::default(),
            data,
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
            let may = arrays.policy().authorize::<action::Run>(key, &module_resource(id))?;
            let module = self.modules.find(&may, id)?;
            let grants = parse_grants(&request.grants)?;
            return Ok(Kernel::Module { module, params: request.params.to_vec(), grants });
        }
        if request.memory_bytes != 0 {
            let message = "the memory of an expression is fixed";
            return Err(Failure::new(ErrorCode::InvalidArgument, message)
                .help("leave the memory limit away"));
        }
        let _may = arrays.policy().authorize::<action::Run>(key, "expression")?;
        let program = Program::decode(&request.program)?;
        check_expression(&program, inputs, outputs)?;
        match request.device {
            0 | 1 => Ok(Kernel::Expression(self.engine.expression(&program)?)),
            2 if request.fuel != 0 => {
                let message = "work on a GPU is not metered in fuel";
                Err(Failure::new(ErrorCode::InvalidArgument, message)
                    .help("limit its time instead"))
            }
            2 => {
                self.gpu.adapter()?;
                Ok(Kernel::Gpu(Arc::clone(&self.gpu), program))
            }
            other => Err(Failure::new(ErrorCode::InvalidArgument, format!("{other} is no device"))),
        }
    }
}

/// Cancels work whose requester is gone.
#[derive(Debug, Default)]
pub(crate) struct CancelOnDrop(pub(crate) Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
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

/// The caller's limits, or the defaults where it names none.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`] for more than the defaults: roles with limits of their own come later.
pub(crate) fn requested_limits(
    fuel: u64,
    time_ms: u32,
    memory_bytes: u64,
) -> Result<Limits, Failure> {
    let usual = Limits::default();
    let within = |what: &str, wanted: u64, usual: u64| match wanted {
        0 => Ok(usual),
        wanted if wanted <= usual => Ok(wanted),
        wanted => {
            let message = format!("a limit of {wanted} {what}, a node gives at most {usual}");
            Err(Failure::new(ErrorCode::InvalidArgument, message))
        }
    };
    let usual_ms = u64::try_from(usual.time.as_millis()).unwrap_or(u64::MAX);
    let time = Duration::from_millis(within("ms", u64::from(time_ms), usual_ms)?);
    let fuel = within("units of fuel", fuel, usual.fuel)?;
    let memory_bytes = within("bytes of memory", memory_bytes, usual.memory_bytes)?;
    Ok(Limits { fuel, time, memory_bytes, ..usual })
}

/// The shards that a request names, all led by this node; all that this node leads when it names none.
///
/// # Errors
///
/// [`ErrorCode::WrongNode`] when another node leads one of them, [`ErrorCode::InvalidArgument`].
fn shards_to_run<A: Action>(
    arrays: &Arrays,
    operand: &Access<A>,
    runs: &[u64],
) -> Result<Vec<ShardIndex>, Failure> {
    if runs.is_empty() {
        return Ok(arrays.led(operand));
    }
    let (pairs, rest) = runs.as_chunks::<2>();
    let all = operand.descriptor().layout.shards();
    let mut shards = Vec::new();
    let mut next = 0;
    for [first, count] in pairs {
        let end = first.checked_add(*count).filter(|end| *end <= all && *first >= next);
        let Some(end) = end else {
            let message =
                format!("shards {first}+{count} of {}, which has {all}", operand.descriptor().name);
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        };
        next = end;
        for index in (*first..end).map(ShardIndex) {
            if !arrays.leads(operand, index) {
                let message =
                    format!("another node leads shard {index} of {}", operand.descriptor().name);
                return Err(Failure::new(ErrorCode::WrongNode, message)
                    .help("fetch the view of the cluster again"));
            }
            shards.push(index);
        }
    }
    if !rest.is_empty() {
        return Err(Failure::new(ErrorCode::InvalidArgument, "a run of shards without its count"));
    }
    Ok(shards)
}

/// The name of a module in grants: `module:` and its whole hash, for a part of it can be met by another module.
pub(crate) fn module_resource(id: ModuleId) -> String {
    format!("module:{id}")
}

/// The capabilities of a list of names.
pub(crate) fn parse_grants(names: &[String]) -> Result<Grants, Failure> {
    names.iter().try_fold(Grants::none(), |grants, name| {
        let capability = Capability::ALL.iter().find(|capability| capability.name() == name);
        capability.map(|capability| grants.with(*capability)).ok_or_else(|| {
            let known: Vec<&str> = Capability::ALL.iter().map(|known| known.name()).collect();
            Failure::new(ErrorCode::InvalidArgument, format!("{name:?} is no capability"))
                .help(format!("use some of {}", known.join(", ")))
        })
    })
}
