//! WASM modules: pushed to the nodes by hash, run where the shards lie.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use holo_core::wire::{CallModule, CallReply, CombineModule, Kind, ShardPartial};
use holo_core::{ErrorCode, Failure, ModuleId, limits};

use crate::call::Call;
use crate::expression::Operand;
use crate::modules::Module;
use crate::retry::{Effect, another_may_answer};
use crate::run::{Code, Run, RunLimits, RunReport};
use crate::views::{Route, Target};
use crate::{AnyArray, Cluster, Device, Error, Result};

/// The export that folds two partial results into one.
const COMBINE_EXPORT: &str = "holo_combine";

/// A WASM module with its arrays; see [`Cluster::task`].
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `run` or `call`"]
pub struct Task {
    cluster: Cluster,
    module: Module,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    params: Bytes,
    limits: RunLimits,
    grants: Vec<String>,
}

impl Task {
    pub(crate) fn new(cluster: Cluster, module: Bytes) -> Self {
        Self {
            cluster,
            module: Module::new(module),
            inputs: Vec::new(),
            outputs: Vec::new(),
            params: Bytes::new(),
            limits: RunLimits::default(),
            grants: Vec::new(),
        }
    }

    /// Adds an array that the module reads, by name or handle, in the order of the module's operands.
    pub fn input(mut self, array: impl Into<Operand>) -> Self {
        self.inputs.push(array.into());
        self
    }

    /// Adds an array that the module writes, by name or handle, in the order of the module's operands.
    pub fn output(mut self, array: impl Into<Operand>) -> Self {
        self.outputs.push(array.into());
        self
    }

    /// Bytes for the module's `holo_init`.
    pub fn params(mut self, params: impl Into<Bytes>) -> Self {
        self.params = params.into();
        self
    }

    /// Grants the module a capability by its name, such as `result` or `log`. Without a grant a module may only compute.
    pub fn grant(mut self, capability: impl Into<String>) -> Self {
        self.grants.push(capability.into());
        self
    }

    /// Fuel that it may burn on each shard, in a call, and in combining its partial results; the node's default is also
    /// the most that it allows.
    pub fn fuel(mut self, fuel: u64) -> Self {
        self.limits.fuel = fuel;
        self
    }

    /// Time that it may take on each node, in whole milliseconds rounded up; the node's default is also the most that
    /// it allows.
    pub fn time_limit(mut self, time: Duration) -> Self {
        self.limits.time = time;
        self
    }

    /// Guest memory that it may use for each shard, in bytes; the node's default is also the most that it allows.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.limits.memory_bytes = bytes;
        self
    }

    /// Name of the module: BLAKE3 of its bytes.
    pub fn module_id(&self) -> ModuleId {
        self.module.id()
    }

    /// Runs the module over all shards of its arrays. Partial results are combined when the module can do that.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ModuleInvalid`], [`ErrorCode::CapabilityDenied`], [`ErrorCode::TaskFailed`] and the limits by
    /// their names; [`ErrorCode::NotColocated`] and [`ErrorCode::NotFound`] for the arrays.
    pub async fn run(&self) -> Result<RunReport> {
        check_args("parameters", &self.params)?;
        self.module.check()?;
        let cluster = self.cluster.for_one_call();
        let run = Run {
            code: Code::Module(self.module.clone()),
            inputs: resolve(&cluster, &self.inputs).await?,
            outputs: resolve(&cluster, &self.outputs).await?,
            params: self.params.clone(),
            device: Device::Cpu,
            limits: self.limits,
            grants: self.grants.clone(),
        };
        let call = cluster.changing();
        let mut report = run.everywhere(&call).await?;
        report.outputs = run.outputs.iter().map(|(_, array)| array.name().to_owned()).collect();
        if !report.partials.is_empty() {
            report.output = self.combine(&call, &mut report.partials).await?;
        }
        Ok(report)
    }

    /// Calls the module's `holo_task` with `args`, on one node.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub async fn call(&self, args: impl Into<Bytes>) -> Result<CallReport> {
        let args = args.into();
        check_args("arguments", &args)?;
        self.module.check()?;
        let call = self.cluster.changing();
        let session = call.session();
        let deadline = call.deadline_within(self.limits.waiting_time());
        let (route, _) = self.ready(&call).await?;
        let request = CallModule {
            module: self.module.id().0.to_vec(),
            args,
            fuel: self.limits.fuel,
            time_ms: self.limits.time_ms(),
            grants: self.grants.clone(),
            memory_bytes: self.limits.memory_bytes,
        };
        let target = Target::Node(route.node);
        let reply: CallReply =
            session.call(target, Kind::CallModule, Effect::Parts, &request, deadline).await?;
        Ok(CallReport { output: reply.output, fuel: reply.fuel, log: reply.log })
    }

    /// A member that answers and has the module, and the module's exports.
    async fn ready(&self, call: &Call<'_>) -> Result<(Route, Vec<String>)> {
        let (session, deadline) = (call.session(), call.deadline());
        let mut failed = None;
        // A member may die between its link and the module: then it is the next one's turn.
        for _ in 0..session.view().members().len().clamp(1, 3) {
            let (route, _) = session.link_any(Kind::ModuleQuery, deadline).await?;
            match self.module.push_to(session, &route, deadline).await {
                Ok(status) => return Ok((route, status.exports)),
                Err(failure) if another_may_answer(failure.code) => failed = Some(failure),
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(failed.unwrap_or_else(no_member).into())
    }

    /// Folds the partial results into one, when the module can do that; they are kept otherwise.
    async fn combine(
        &self,
        call: &Call<'_>,
        partials: &mut Vec<ShardPartial>,
    ) -> Result<Option<Bytes>> {
        let (route, exports) = self.ready(call).await?;
        if !exports.iter().any(|name| name == COMBINE_EXPORT) {
            return Ok(None);
        }
        let request = CombineModule {
            module: self.module.id().0.to_vec(),
            params: self.params.clone(),
            partials: std::mem::take(partials),
            grants: self.grants.clone(),
            fuel: self.limits.fuel,
            time_ms: self.limits.time_ms(),
            memory_bytes: self.limits.memory_bytes,
        };
        if request.encoded_len() > limits::BODY_BYTES_MAX as usize {
            let message = format!("{} bytes of partial results", request.encoded_len());
            return Err(Error::new(ErrorCode::TooLarge, message)
                .help("use longer shards or smaller partial results"));
        }
        let deadline = call.deadline_within(self.limits.waiting_time());
        let target = Target::Node(route.node);
        let session = call.session();
        let reply: CallReply =
            session.call(target, Kind::CombineModule, Effect::Read, &request, deadline).await?;
        Ok(Some(reply.output))
    }
}

/// What a call of a module gave back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallReport {
    /// What it wrote.
    pub output: Bytes,
    /// Fuel burned.
    pub fuel: u64,
    /// What it logged, line by line.
    pub log: Vec<String>,
}

async fn resolve(cluster: &Cluster, operands: &[Operand]) -> Result<Vec<(String, AnyArray)>> {
    let mut arrays = Vec::with_capacity(operands.len());
    for (position, operand) in operands.iter().enumerate() {
        arrays.push((position.to_string(), operand.resolve(cluster).await?));
    }
    Ok(arrays)
}

fn check_args(what: &str, bytes: &Bytes) -> Result<()> {
    if bytes.len() <= limits::TASK_ARGS_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "{} bytes of {what}, at most {} are possible",
        bytes.len(),
        limits::TASK_ARGS_BYTES_MAX
    );
    Err(Error::new(ErrorCode::TooLarge, message).help("put them into an array"))
}

fn no_member() -> Failure {
    Failure::new(ErrorCode::Internal, "the cluster has no members")
}
