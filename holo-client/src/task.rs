//! WASM modules: pushed to the nodes by hash, run where the shards lie.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message;

use holo_core::wire::{
    CallModule, CallReply, CombineModule, Decode, Kind, ModulePush, ModuleQuery, ModuleStatus,
};
use holo_core::{ErrorCode, Failure, ModuleId, NodeId, limits};

use crate::expression::Operand;
use crate::retry::{Attempts, Effect};
use crate::run::{Code, Run, RunLimits, RunReport, shares};
use crate::session::{Deadline, Target, request};
use crate::{AnyArray, Cluster, Device, Error, Result};

/// The export that folds two partial results into one.
const COMBINE_EXPORT: &str = "holo_combine";

/// A WASM module with its arrays; see [`Cluster::task`].
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `run` or `call`"]
pub struct Task {
    cluster: Cluster,
    module: Bytes,
    id: ModuleId,
    inputs: Vec<Operand>,
    outputs: Vec<Operand>,
    params: Bytes,
    limits: RunLimits,
    grants: Vec<String>,
}

impl Task {
    pub(crate) fn new(cluster: Cluster, module: Bytes) -> Self {
        let id = ModuleId(*blake3::hash(&module).as_bytes());
        Self {
            cluster,
            module,
            id,
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
        self.id
    }

    /// Runs the module over all shards of its arrays. Partial results are combined when the module can do that.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ModuleInvalid`], [`ErrorCode::CapabilityDenied`], [`ErrorCode::TaskFailed`] and the limits by
    /// their names; [`ErrorCode::NotColocated`] and [`ErrorCode::NotFound`] for the arrays.
    pub async fn run(&self) -> Result<RunReport> {
        let run = Run {
            code: Code::Module(self.id.0.to_vec()),
            inputs: self.resolve(&self.inputs).await?,
            outputs: self.resolve(&self.outputs).await?,
            params: self.params.clone(),
            device: Device::Cpu,
            limits: self.limits,
            grants: self.grants.clone(),
        };
        check_args("parameters", &self.params)?;
        let space = run.inputs.iter().chain(&run.outputs).next().map(|(_, array)| array.clone());
        let membership = self.cluster.membership();
        let nodes: Vec<NodeId> = space
            .iter()
            .flat_map(|array| shares(&membership, array.descriptor()))
            .map(|share| share.node)
            .collect();
        let status = self.push(&nodes).await?;
        let mut report = run.everywhere(self.cluster.session()).await?;
        report.outputs = run.outputs.iter().map(|(_, array)| array.name().to_owned()).collect();
        let combines =
            status.is_some_and(|status| status.exports.iter().any(|name| name == COMBINE_EXPORT));
        if let (true, Some(node)) = (combines && !report.partials.is_empty(), nodes.first()) {
            let partials = std::mem::take(&mut report.partials);
            report.output = Some(self.combine(*node, partials).await?);
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
        let membership = self.cluster.membership();
        let node = membership
            .members()
            .first()
            .map(|member| member.node)
            .ok_or_else(|| Error::new(ErrorCode::Internal, "the cluster has no members"))?;
        self.push(&[node]).await?;
        let request = CallModule {
            module: self.id.0.to_vec(),
            args,
            fuel: self.limits.fuel,
            time_ms: self.limits.time_ms(),
            grants: self.grants.clone(),
            memory_bytes: self.limits.memory_bytes,
        };
        let reply: CallReply = self
            .cluster
            .session()
            .call_until(
                Target::Node(node),
                Kind::CallModule,
                Effect::Once,
                &request,
                self.limits.deadline(),
            )
            .await?;
        Ok(CallReport { output: reply.output, fuel: reply.fuel, log: reply.log })
    }

    async fn resolve(&self, operands: &[Operand]) -> Result<Vec<(String, AnyArray)>> {
        let mut arrays = Vec::with_capacity(operands.len());
        for (position, operand) in operands.iter().enumerate() {
            arrays.push((position.to_string(), operand.resolve(&self.cluster).await?));
        }
        Ok(arrays)
    }

    /// Sends the module to those of the nodes that lack it. Returns what the first one knows of it.
    async fn push(&self, nodes: &[NodeId]) -> Result<Option<ModuleStatus>> {
        if self.module.len() > limits::MODULE_BYTES_MAX {
            let message = format!(
                "a module of {} bytes, at most {} are possible",
                self.module.len(),
                limits::MODULE_BYTES_MAX
            );
            return Err(Error::new(ErrorCode::TooLarge, message));
        }
        let pushed = join_all(nodes.iter().map(|node| self.push_to(*node))).await;
        let statuses: Result<Vec<ModuleStatus>, Failure> = pushed.into_iter().collect();
        Ok(statuses?.into_iter().next())
    }

    async fn push_to(&self, node: NodeId) -> Result<ModuleStatus, Failure> {
        let (session, target) = (self.cluster.session(), Target::Node(node));
        let query = ModuleQuery { module: self.id.0.to_vec() };
        let known: ModuleStatus =
            session.call(target, Kind::ModuleQuery, Effect::Idempotent, &query).await?;
        if known.present {
            return Ok(known);
        }
        let head = Bytes::from(ModulePush { module: self.id.0.to_vec() }.encode_to_vec());
        let (mut attempts, deadline) = (Attempts::new(Effect::Idempotent), session.deadline());
        loop {
            match self.push_once(target, head.clone(), deadline).await {
                Ok(status) => return Ok(status),
                Err(failure) => session.recover(&mut attempts, failure, deadline).await?,
            }
        }
    }

    async fn push_once(
        &self,
        target: Target<'_>,
        head: Bytes,
        deadline: Deadline,
    ) -> Result<ModuleStatus, Failure> {
        let session = self.cluster.session();
        let route = session.route(target)?;
        let connection = session.link(&route, deadline).await?;
        let request = request(Kind::ModulePush, &route, head, deadline)?;
        let (reply, _nothing) = connection.bulk(request, vec![self.module.clone()]).await?;
        ModuleStatus::decode_body(&reply)
    }

    async fn combine(
        &self,
        node: NodeId,
        partials: Vec<holo_core::wire::ShardPartial>,
    ) -> Result<Bytes> {
        let request = CombineModule {
            module: self.id.0.to_vec(),
            params: self.params.clone(),
            partials,
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
        let reply: CallReply = self
            .cluster
            .session()
            .call_until(
                Target::Node(node),
                Kind::CombineModule,
                Effect::Idempotent,
                &request,
                self.limits.deadline(),
            )
            .await?;
        Ok(reply.output)
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
