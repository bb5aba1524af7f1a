//! Running one program on every node that holds a shard of its arrays, and what came of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use holo_core::wire::{Kind, OperandBinding, RunReply, RunShards, ShardPartial};
use holo_core::{
    ArrayDescriptor, ErrorCode, Failure, Membership, NodeId, Scalar, ShardIndex, limits,
};

use crate::retry::Effect;
use crate::session::{Deadline, Session, Target};
use crate::{AnyArray, Error, Result};

/// What a node allows a task unless the caller asks for less.
const RUN_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// Time for the way there and back, beside the task's own.
const RUN_TIME_MARGIN: Duration = Duration::from_secs(10);
const NANOS_PER_MILLI: u128 = 1_000_000;

/// Where a program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The node decides.
    #[default]
    Auto,
    /// Sandboxed WASM on the processor.
    Cpu,
    /// The node's GPU; an error where there is none.
    Gpu,
}

impl Device {
    /// Reads `auto`, `cpu` or `gpu`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => Err(Error::new(ErrorCode::InvalidArgument, format!("{text:?} is no device"))
                .help("use auto, cpu or gpu")),
        }
    }

    fn to_wire(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Cpu => 1,
            Self::Gpu => 2,
        }
    }
}

/// What a run may use: fuel and memory on each shard, time on each node. Zero stands for the node's default.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunLimits {
    pub(crate) fuel: u64,
    pub(crate) time: Duration,
    pub(crate) memory_bytes: u64,
}

impl RunLimits {
    /// Rounded up: a time below one millisecond is not the zero that stands for the default.
    pub(crate) fn time_ms(&self) -> u32 {
        let whole = self.time.as_nanos().div_ceil(NANOS_PER_MILLI);
        u32::try_from(whole).unwrap_or(u32::MAX)
    }

    /// How long we wait for a node that keeps its limits.
    pub(crate) fn deadline(&self) -> Deadline {
        let time = if self.time.is_zero() { RUN_TIME_DEFAULT } else { self.time };
        Deadline::after(time.saturating_add(RUN_TIME_MARGIN))
    }
}

/// What runs: an encoded expression or a module that the nodes have.
#[derive(Clone, Debug)]
pub(crate) enum Code {
    Expression(Bytes),
    Module(Vec<u8>),
}

/// A program with its arrays.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) code: Code,
    pub(crate) inputs: Vec<(String, AnyArray)>,
    pub(crate) outputs: Vec<(String, AnyArray)>,
    pub(crate) params: Bytes,
    pub(crate) device: Device,
    pub(crate) limits: RunLimits,
    pub(crate) grants: Vec<String>,
}

impl Run {
    /// Runs it on every primary of its index space, all at the same time.
    ///
    /// When a node fails, the others have still done their shards.
    pub(crate) async fn everywhere(&self, session: &Session) -> Result<RunReport> {
        let space = self.space()?;
        let started = clock();
        let membership = session.membership();
        let request = self.request(&membership);
        let shares = shares(&membership, space);
        let effect = self.effect();
        let asked = shares.iter().map(|share| async {
            let target = Target::Node(share.node);
            let deadline = self.limits.deadline();
            let reply: RunReply = session
                .call_until(target, Kind::RunShards, effect, &request, deadline)
                .await
                .map_err(|failure| failure.context(format!("node {}", share.name)))?;
            Ok(reply)
        });
        let replies: Result<Vec<RunReply>, Failure> = join_all(asked).await.into_iter().collect();
        RunReport::collect(&shares, replies?, started.elapsed())
    }

    /// The array whose elements the program runs over.
    fn space(&self) -> Result<&ArrayDescriptor> {
        let operands = || self.inputs.iter().chain(&self.outputs).map(|(_, array)| array);
        if operands().count() > limits::RUN_OPERANDS_MAX {
            let message = format!(
                "{} arrays, at most {} are possible",
                operands().count(),
                limits::RUN_OPERANDS_MAX
            );
            return Err(Error::new(ErrorCode::TooLarge, message));
        }
        let first = operands().next().ok_or_else(|| {
            Error::new(ErrorCode::InvalidArgument, "no array to run over")
                .help("bind an input or an output")
        })?;
        for other in operands() {
            check_beside(first.descriptor(), other.descriptor())?;
        }
        Ok(first.descriptor())
    }

    fn request(&self, membership: &Membership) -> RunShards {
        let (program, module) = match &self.code {
            Code::Expression(program) => (program.clone(), Vec::new()),
            Code::Module(id) => (Bytes::new(), id.clone()),
        };
        RunShards {
            program,
            module,
            inputs: bindings(&self.inputs),
            outputs: bindings(&self.outputs),
            params: self.params.clone(),
            device: self.device.to_wire(),
            fuel: self.limits.fuel,
            time_ms: self.limits.time_ms(),
            memory_bytes: self.limits.memory_bytes,
            table_version: membership.table().version().0,
            grants: self.grants.clone(),
        }
    }

    /// A run in place, such as `x = x + 1`, must not happen twice.
    fn effect(&self) -> Effect {
        let in_place = self.outputs.iter().any(|(_, output)| {
            self.inputs.iter().any(|(_, input)| input.descriptor().id == output.descriptor().id)
        });
        if in_place { Effect::Once } else { Effect::Idempotent }
    }
}

/// What a program did, on all nodes together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunReport {
    /// Shards run.
    pub shards: u64,
    /// Elements computed.
    pub elems: u64,
    /// Fuel burned.
    pub fuel: u64,
    /// From the first request to the last reply.
    pub elapsed: Duration,
    /// What each node did, in the order of the members.
    pub nodes: Vec<NodeRun>,
    /// Value of a reduction.
    pub value: Option<Scalar>,
    /// Names of the arrays that were written.
    pub outputs: Vec<String>,
    /// Partial results by shard: of a module without `holo_combine`; empty otherwise.
    pub partials: Vec<ShardPartial>,
    /// Combined output of a module with `holo_combine`.
    pub output: Option<Bytes>,
}

impl RunReport {
    /// The value of a reduction.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] when the program reduced nothing.
    pub fn into_value(self) -> Result<Scalar> {
        self.value.ok_or_else(|| {
            Error::new(ErrorCode::InvalidArgument, "the expression has no single value")
                .help("reduce it: sum(..), prod(..), min(..) or max(..)")
        })
    }

    /// Puts the nodes' replies together; every shard must have been run exactly once.
    fn collect(shares: &[Share], replies: Vec<RunReply>, elapsed: Duration) -> Result<Self> {
        let mut report = Self {
            shards: 0,
            elems: 0,
            fuel: 0,
            elapsed,
            nodes: Vec::with_capacity(shares.len()),
            value: None,
            outputs: Vec::new(),
            partials: Vec::new(),
            output: None,
        };
        for (share, reply) in shares.iter().zip(replies) {
            if reply.shards != share.shards {
                let message = format!(
                    "node {} ran {} shards of its {}",
                    share.name, reply.shards, share.shards
                );
                return Err(Error::new(ErrorCode::Conflict, message)
                    .help("the placement changed meanwhile: run it again"));
            }
            report.shards += reply.shards;
            report.elems = report.elems.saturating_add(reply.elems);
            report.fuel = report.fuel.saturating_add(reply.fuel);
            report.partials.extend(reply.partials);
            report.nodes.push(NodeRun {
                node: share.node,
                name: share.name.clone(),
                shards: reply.shards,
                elems: reply.elems,
                fuel: reply.fuel,
                elapsed: Duration::from_micros(reply.elapsed_us),
                engine: reply.engine,
                log: reply.log,
            });
        }
        report.partials.sort_by_key(|partial| partial.shard);
        Ok(report)
    }
}

/// What a program did on one node.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeRun {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Shards run.
    pub shards: u64,
    /// Elements computed.
    pub elems: u64,
    /// Fuel burned.
    pub fuel: u64,
    /// From its first to its last tile.
    pub elapsed: Duration,
    /// Where it ran: `wasm`, `wasm-jit`, `gpu: NAME`.
    pub engine: String,
    /// What the module logged there, line by line.
    pub log: Vec<String>,
}

/// The part of an index space that one node is the primary of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) shards: u64,
}

/// How many shards of an array each member holds; members without any are left out.
pub(crate) fn shares(membership: &Membership, array: &ArrayDescriptor) -> Vec<Share> {
    let mut counts = vec![0u64; membership.members().len()];
    for shard in 0..array.layout.shards() {
        let (index, _) = membership.primary_of(array, ShardIndex(shard));
        counts[index] += 1;
    }
    let counted = membership.members().iter().zip(counts);
    counted
        .filter(|(_, shards)| *shards > 0)
        .map(|(member, shards)| Share { node: member.node, name: member.name.clone(), shards })
        .collect()
}

/// Checks that two arrays have the same elements on the same nodes.
pub(crate) fn check_beside(first: &ArrayDescriptor, other: &ArrayDescriptor) -> Result<()> {
    let (a, b) = (&first.layout, &other.layout);
    if a.shape() != b.shape() {
        let message =
            format!("{} has shape {}, {} has {}", first.name, a.shape(), other.name, b.shape());
        return Err(Error::new(ErrorCode::InvalidArgument, message)
            .help("arrays of one expression have the same shape"));
    }
    if first.colocation != other.colocation || a.shard_elems() != b.shard_elems() {
        let message = format!("{} and {} do not lie on the same nodes", first.name, other.name);
        let help = format!("create {} like {} and copy its elements", other.name, first.name);
        return Err(Error::new(ErrorCode::NotColocated, message).help(help));
    }
    Ok(())
}

fn bindings(operands: &[(String, AnyArray)]) -> Vec<OperandBinding> {
    operands
        .iter()
        .map(|(name, array)| OperandBinding { name: name.clone(), array: array.descriptor().id.0 })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "measures a call for its report; decides nothing")]
fn clock() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_below_a_millisecond_is_not_the_default() {
        let millis = |time| RunLimits { time, ..RunLimits::default() }.time_ms();
        assert_eq!(millis(Duration::ZERO), 0, "the node's default");
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_micros(500)), 1);
        assert_eq!(millis(Duration::from_millis(7)), 7);
        assert_eq!(millis(Duration::from_micros(7_001)), 8);
        assert_eq!(millis(Duration::MAX), u32::MAX);
    }
}
