//! Running one program on every node that holds a shard of its arrays, and what came of it.
//!
//! The shards are split by their primaries and each node is told exactly which ones to run. When a node dies or loses
//! one of its shards meanwhile, a run whose outputs are none of its inputs goes on with what is missing, split by the
//! newer view; a run in place fails, for nobody knows which elements it has changed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use prost::Message;

use holo_core::wire::{Decode, Kind, OperandBinding, RunReply, RunShards, ShardPartial};
use holo_core::{ArrayDescriptor, ErrorCode, Failure, NodeId, Retry, Scalar, limits};

use crate::call::{Call, Deadline};
use crate::modules::Module;
use crate::retry::{Attempts, Effect, is_silence};
use crate::session::{Session, request, wait};
use crate::shares::{ShardSpan, Share, joined, split};
use crate::{AnyArray, Error, Result};

/// What a node allows a task unless the caller asks for less.
const RUN_TIME_DEFAULT: Duration = Duration::from_secs(30);
/// Time for the way there and back, beside the task's own.
const RUN_TIME_MARGIN: Duration = Duration::from_secs(10);
/// How long a node that lost a shard of a run in place may take to say how it ended, before it counts as gone.
const FAREWELL: Duration = Duration::from_secs(2);
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
    pub(crate) fn waiting_time(&self) -> Duration {
        let time = if self.time.is_zero() { RUN_TIME_DEFAULT } else { self.time };
        time.saturating_add(RUN_TIME_MARGIN)
    }
}

/// What runs: an encoded expression or a module.
#[derive(Clone, Debug)]
pub(crate) enum Code {
    Expression(Bytes),
    Module(Module),
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

/// A share and what its node said.
type Ran = (Share, Result<RunReply, Failure>);

impl Run {
    /// Runs it on every primary of its index space, all at the same time, until every shard has been run.
    ///
    /// When a node fails for good, the others have still done their shards.
    pub(crate) async fn everywhere(&self, call: &Call<'_>) -> Result<RunReport> {
        let space = self.space()?;
        let (session, started) = (call.session(), clock());
        let deadline = call.deadline_within(self.limits.waiting_time());
        let mut attempts = Attempts::new(self.effect());
        let mut remaining = vec![ShardSpan { first: 0, count: space.layout.shards() }];
        let mut done = Vec::new();
        loop {
            let round = self.round(session, space, &remaining, deadline, &mut attempts).await;
            let failed = match round {
                Ok(round) => {
                    let failed = settle(round, &mut done, &mut remaining)?;
                    failed.map(|failure| self.half_done(failure, &done))
                }
                Err(failure) => Some(failure),
            };
            let Some(failure) = failed else { break };
            session.recover(&mut attempts, failure, deadline).await?;
        }
        Ok(RunReport::collect(done, started.elapsed()))
    }

    /// Sends every node its share of what remains and waits for all. An error comes before anything was sent.
    async fn round(
        &self,
        session: &Session,
        space: &ArrayDescriptor,
        remaining: &[ShardSpan],
        deadline: Deadline,
        attempts: &mut Attempts,
    ) -> Result<Vec<Ran>, Failure> {
        let view = session.view();
        let shares = split(&view, space, remaining)?;
        if self.effect() == Effect::Parts {
            // It starts only when every node of it can be reached: what has begun cannot be begun again.
            let ready = shares.iter().map(|share| {
                let work = self.reach(session, share, deadline);
                session.watch_while(&share.route, |view| share.stays(view, space), work)
            });
            let outcomes = shares.iter().zip(join_all(ready).await);
            let failed = outcomes
                .filter_map(|(share, outcome)| Some((share.route.name.clone(), outcome.err()?)));
            if let Some(failure) = joint(failed.collect()) {
                return Err(failure);
            }
        }
        attempts.sending();
        let asked = shares
            .iter()
            .map(|share| self.run_share(session, space, share, view.version(), deadline));
        let answers = join_all(asked).await;
        Ok(shares.into_iter().zip(answers).collect())
    }

    async fn run_share(
        &self,
        session: &Session,
        space: &ArrayDescriptor,
        share: &Share,
        view_version: u64,
        deadline: Deadline,
    ) -> Result<RunReply, Failure> {
        let stays = |view: &_| share.stays(view, space);
        let work = async {
            self.reach(session, share, deadline).await?;
            let body = Bytes::from(self.request(share, view_version).encode_to_vec());
            let connection = session.link(&share.route, deadline).await?;
            let request = request(Kind::RunShards, &share.route, body, deadline)?;
            RunReply::decode_body(&connection.call(request).await?)
        };
        if self.effect() != Effect::Parts {
            return session.watch_while(&share.route, stays, work).await;
        }
        let gone = async {
            let silent = std::future::pending::<Result<RunReply, Failure>>();
            let gone = session.watch_while(&share.route, stays, silent).await;
            wait(FAREWELL).await;
            gone
        };
        tokio::select! {
            biased;
            done = work => done,
            gone = gone => gone,
        }
    }

    /// Makes sure that the node of a share can be reached and has the code.
    async fn reach(
        &self,
        session: &Session,
        share: &Share,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        match &self.code {
            Code::Expression(_) => session.link(&share.route, deadline).await.map(drop),
            Code::Module(module) => module.push_to(session, &share.route, deadline).await.map(drop),
        }
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

    fn request(&self, share: &Share, view_version: u64) -> RunShards {
        let (program, module) = match &self.code {
            Code::Expression(program) => (program.clone(), Vec::new()),
            Code::Module(module) => (Bytes::new(), module.id().0.to_vec()),
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
            table_version: view_version,
            grants: self.grants.clone(),
            shard_runs: share.to_pairs(),
        }
    }

    /// A run in place, such as `x = x + 1`, must not happen twice.
    fn effect(&self) -> Effect {
        let in_place = self.outputs.iter().any(|(_, output)| {
            self.inputs.iter().any(|(_, input)| input.descriptor().id == output.descriptor().id)
        });
        if in_place { Effect::Parts } else { Effect::Read }
    }

    /// A failure of one node as that of the whole run: in place, what the others have done stays.
    fn half_done(&self, failure: Failure, done: &[(Share, RunReply)]) -> Failure {
        if self.effect() != Effect::Parts || done.is_empty() {
            return failure;
        }
        let message = format!("{} (other nodes have run it)", failure.message);
        let code = match failure.code.retry() {
            Retry::Later => ErrorCode::OutcomeUnknown,
            Retry::Never | Retry::Unknown => failure.code,
        };
        Failure { code, message, ..failure }
    }
}

/// Sorts out what came of a round: replies, the shards that remain, and why.
fn settle(
    round: Vec<Ran>,
    done: &mut Vec<(Share, RunReply)>,
    remaining: &mut Vec<ShardSpan>,
) -> Result<Option<Failure>, Failure> {
    remaining.clear();
    let mut failed = Vec::new();
    for (share, outcome) in round {
        match outcome {
            Ok(reply) if reply.shards == share.shards => done.push((share, reply)),
            Ok(reply) => {
                let message = format!(
                    "node {} ran {} shards of its {}",
                    share.route.name, reply.shards, share.shards
                );
                return Err(Failure::new(ErrorCode::Conflict, message)
                    .help("the placement changed meanwhile: run it again"));
            }
            Err(failure) => {
                remaining.extend(share.spans);
                failed.push((share.route.name, failure));
            }
        }
    }
    *remaining = joined(std::mem::take(remaining));
    Ok(joint(failed))
}

/// The failures of some nodes, by their names, as one. What no retry mends counts before what one may, and silence before
/// what others say that wait for the silent; of those all are named.
fn joint(failed: Vec<(String, Failure)>) -> Option<Failure> {
    let lasting = failed.iter().position(|(_, it)| it.code.retry() == Retry::Never);
    let silent = failed.iter().position(|(_, it)| is_silence(it.code));
    let (name, failure) = failed.get(lasting.or(silent).unwrap_or(0))?;
    if !is_silence(failure.code) {
        return Some(failure.clone().context(format!("node {name}")));
    }
    let silent = failed.iter().filter(|(_, failure)| is_silence(failure.code));
    let mut silent: Vec<&str> = silent.map(|(name, _)| name.as_str()).collect();
    silent.sort_unstable();
    silent.dedup();
    let (noun, them) = if silent.len() == 1 { ("node", "it") } else { ("nodes", "them") };
    let message = format!("{noun} {} did not answer: {}", silent.join(", "), failure.message);
    Some(Failure { message, ..failure.clone() }.help(format!(
        "start {them} again with `holo agent --dir DIR`, or wait until others have taken over: `holo status` says if they can"
    )))
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

    /// Puts the nodes' replies together; every shard has been run exactly once.
    fn collect(mut done: Vec<(Share, RunReply)>, elapsed: Duration) -> Self {
        done.sort_by_key(|(share, _)| share.order);
        let mut report = Self {
            shards: 0,
            elems: 0,
            fuel: 0,
            elapsed,
            nodes: Vec::new(),
            value: None,
            outputs: Vec::new(),
            partials: Vec::new(),
            output: None,
        };
        for (share, reply) in done {
            report.shards += reply.shards;
            report.elems = report.elems.saturating_add(reply.elems);
            report.fuel = report.fuel.saturating_add(reply.fuel);
            report.partials.extend(reply.partials);
            let ran = NodeRun {
                node: share.route.node,
                name: share.route.name,
                shards: reply.shards,
                elems: reply.elems,
                fuel: reply.fuel,
                elapsed: Duration::from_micros(reply.elapsed_us),
                engine: reply.engine,
                log: reply.log,
            };
            match report.nodes.iter_mut().find(|known| known.node == ran.node) {
                Some(known) => known.add(ran),
                None => report.nodes.push(ran),
            }
        }
        report.partials.sort_by_key(|partial| partial.shard);
        report
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

impl NodeRun {
    /// Adds what the same node did of another part.
    fn add(&mut self, other: Self) {
        self.shards += other.shards;
        self.elems = self.elems.saturating_add(other.elems);
        self.fuel = self.fuel.saturating_add(other.fuel);
        self.elapsed = self.elapsed.max(other.elapsed);
        self.log.extend(other.log);
    }
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
    let apart = first.colocation != other.colocation || first.class() != other.class();
    if apart || a.shard_elems() != b.shard_elems() {
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
