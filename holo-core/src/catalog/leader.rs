//! What the leader of the catalog sees to, other than who votes: who is up, drains that are done, the end of a close,
//! where groups shall lie, sessions that are over.
//!
//! A machine without I/O. It has no inputs to wait for and no outputs to queue: it is shown the catalog, and says what is
//! due. Its driver does one [`Duty`] after the other, each with what the one before it has changed, and has the operations
//! of every [`Step`] applied. A leader may begin with nothing: it listens and looks again, and only sessions live longer by
//! that. All of its operations are checked when they are applied, so two that both take themselves for the leader do no
//! harm.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use crate::catalog::close_steps::CloseStep;
use crate::catalog::command::{Liveness, Operation};
use crate::catalog::nodes::NodeState;
use crate::catalog::planner::{Plan, plan};
use crate::catalog::state::CatalogState;
use crate::replication::{Class, NodeNumber, ReplicaId};
use crate::{ErrorCode, Failure, Instant, TableVersion, UnixMillis};

/// Sessions end this long after their ids were leased, at the earliest.
const SESSION_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often the mark of leased ids is written down for that.
const MARK_EVERY: Duration = Duration::from_secs(3600);
/// Samples of a drain's progress, one per second at most.
const DRAIN_SAMPLES: usize = 30;

/// One thing that a leader sees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Whose `up` is not what is heard.
    Liveness,
    /// Nodes that are empty.
    Drains,
    /// A close of the cluster, and what comes back after it.
    Close,
    /// The target tables.
    Placement,
    /// Sessions that are over.
    Sessions,
}

impl Duty {
    /// All of them, in the order in which they are done.
    pub const ALL: [Self; 5] =
        [Self::Liveness, Self::Drains, Self::Close, Self::Placement, Self::Sessions];
}

/// What a duty comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// These are up, or not, unlike what the catalog says.
    Judge(Vec<Liveness>),
    /// A node holds nothing and votes no more.
    EndDrain(NodeNumber),
    /// The next step of a close; never [`CloseStep::Nothing`].
    Close(CloseStep),
    /// Groups are placed anew.
    Place(Plan),
    /// Sessions below this one are over.
    ExpireSessions(u64),
}

impl Step {
    /// What has to be applied for it, in order; when one is refused, the rest is not worth asking for.
    pub fn operations(&self) -> Vec<Operation> {
        match self {
            Self::Judge(verdicts) => vec![Operation::SetUp(verdicts.clone())],
            Self::EndDrain(node) => vec![Operation::FinishDrain { node: *node }],
            Self::Close(step) => step.operation().into_iter().collect(),
            Self::Place(plan) => plan.updates().into_iter().map(Operation::ApplyTable).collect(),
            Self::ExpireSessions(below) => vec![Operation::ExpireSessions { below: *below }],
        }
    }
}

/// What a leader looks at.
#[derive(Clone, Copy)]
pub struct LeaderView<'a> {
    /// The catalog as far as it is applied here.
    pub state: &'a CatalogState,
    /// This process's time.
    pub now: Instant,
    /// The time of day.
    pub wall: UnixMillis,
    /// Which node leads: it does not judge itself down, registered or not.
    pub node: Option<NodeNumber>,
    /// Which process leads, once it is registered.
    pub me: Option<ReplicaId>,
    /// Who votes by the agreement itself; the record may be ahead of it, or behind.
    pub voters: &'a BTreeSet<NodeNumber>,
    /// When a life of a node was heard last.
    pub heard: &'a dyn Fn(ReplicaId) -> Option<Instant>,
}

impl fmt::Debug for LeaderView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut view = f.debug_struct("LeaderView");
        view.field("version", &self.state.version()).field("now", &self.now);
        view.field("me", &self.me).field("voters", &self.voters).finish_non_exhaustive()
    }
}

/// What the leader remembers between two looks.
#[derive(Debug)]
pub struct Leader {
    /// A node that was not heard for so long is down.
    down_after: Duration,
    /// Since when it leads: silence before that was not heard by it.
    since: Instant,
    /// What the last plan was made from, when it changed nothing.
    settled: Option<PlanInputs>,
    drains: BTreeMap<NodeNumber, DrainMeter>,
    /// Since when it sees a closed cluster start again.
    reopening_since: Option<Instant>,
    /// Next session ids at some times, for expiry.
    marks: VecDeque<(Instant, u64)>,
}

impl Leader {
    /// Leads from `now` on.
    pub fn new(now: Instant, down_after: Duration) -> Self {
        Self {
            down_after,
            since: now,
            settled: None,
            drains: BTreeMap::new(),
            reopening_since: None,
            marks: VecDeque::new(),
        }
    }

    /// Begins to listen anew: the process got no time, and what it did not hear meanwhile says nothing about the others.
    pub fn listen_anew(&mut self, now: Instant) {
        self.since = now;
    }

    /// What a duty comes to, as things are. Whatever is not applied comes again at the next look; the end of sessions comes
    /// again with the next mark.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfCapacity`] when no node could hold anything, once for every change of the nodes.
    pub fn due(&mut self, duty: Duty, view: &LeaderView<'_>) -> Result<Vec<Step>, Failure> {
        match duty {
            Duty::Liveness => Ok(self.judge(view).into_iter().collect()),
            Duty::Drains => Ok(self.drained(view).into_iter().map(Step::EndDrain).collect()),
            Duty::Close => Ok(self.tend_close(view).into_iter().map(Step::Close).collect()),
            Duty::Placement => Ok(self.replan(view)?.into_iter().map(Step::Place).collect()),
            Duty::Sessions => Ok(self.expire(view).into_iter().map(Step::ExpireSessions).collect()),
        }
    }

    /// How fast a node is being emptied, once that was looked at.
    pub fn drain_meter(&self, node: NodeNumber) -> Option<&DrainMeter> {
        self.drains.get(&node)
    }

    /// Whether the nodes of a cluster that was closed may still be on their way back, so that nobody is replaced yet.
    pub fn is_coming_back(&self, state: &CatalogState, now: Instant) -> bool {
        if !state.close().is_some_and(|close| close.finished) {
            return false;
        }
        let delay = state.settings().repair_delay_ms.max(state.settings().voter_delay_ms);
        let since = self.reopening_since.unwrap_or(now);
        now.since(since) < Duration::from_millis(delay)
    }

    /// Nobody is judged down before this leader has listened for `down_after`.
    fn judge(&self, view: &LeaderView<'_>) -> Option<Step> {
        let has_listened = view.now.since(self.since) >= self.down_after;
        let down_after_ms = u64::try_from(self.down_after.as_millis()).unwrap_or(u64::MAX);
        let nodes = view.state.nodes();
        let judged = nodes.filter(|node| node.state.is_living() && node.incarnation.0 > 0);
        let verdicts = judged.filter_map(|node| {
            let replica = node.replica();
            let heard = (view.heard)(replica);
            // Who judges is up, even where its own beats are late.
            let up = Some(replica) == view.me
                || heard.is_some_and(|heard| view.now.since(heard) < self.down_after);
            // Its registration counts as a beat. The catalog's own time stands still while nobody commands anything.
            let fresh = view.wall.0.saturating_sub(node.up_changed.0) < down_after_ms;
            let spared = view.node == Some(node.number) || (node.up && fresh);
            let wrong = node.up != up && (up || (has_listened && !spared));
            wrong.then_some(Liveness { replica, up })
        });
        let verdicts: Vec<Liveness> = verdicts.collect();
        (!verdicts.is_empty()).then_some(Step::Judge(verdicts))
    }

    /// Nodes whose drain is done: no config names them, and they vote no more. Only facts count.
    fn drained(&mut self, view: &LeaderView<'_>) -> Vec<NodeNumber> {
        let nodes = view.state.nodes();
        let draining = nodes.filter(|it| matches!(it.state, NodeState::Draining { .. }));
        let left: BTreeMap<NodeNumber, u64> =
            draining.map(|it| (it.number, view.state.groups_of(it.number).len() as u64)).collect();
        self.drains.retain(|number, _| left.contains_key(number));
        for (number, left) in &left {
            let meter = self.drains.entry(*number);
            meter.or_insert_with(|| DrainMeter::new(view.now, *left)).sample(view.now, *left);
        }
        let empty =
            left.into_iter().filter(|(node, left)| *left == 0 && !view.voters.contains(node));
        empty.map(|(node, _)| node).collect()
    }

    fn tend_close(&mut self, view: &LeaderView<'_>) -> Option<CloseStep> {
        let waited = if view.state.close().is_some_and(|close| close.finished) {
            view.now.since(*self.reopening_since.get_or_insert(view.now))
        } else {
            self.reopening_since = None;
            Duration::ZERO
        };
        Some(view.state.close_step(view.me, waited)).filter(|step| *step != CloseStep::Nothing)
    }

    fn replan(&mut self, view: &LeaderView<'_>) -> Result<Option<Plan>, Failure> {
        if view.state.close().is_some() {
            // Nothing moves before everything is back.
            return Ok(None);
        }
        let inputs = PlanInputs::of(view.state, view.wall);
        if self.settled.as_ref() == Some(&inputs) {
            return Ok(None);
        }
        match plan(view.state, view.wall) {
            Ok(plan) if plan.changed.is_empty() => {
                self.settled = Some(inputs);
                Ok(None)
            }
            Ok(plan) => Ok(Some(plan)),
            Err(failure) => {
                // Nobody could hold anything: until that changes, everything stays where it is.
                if failure.code == ErrorCode::OutOfCapacity {
                    self.settled = Some(inputs);
                }
                Err(failure)
            }
        }
    }

    fn expire(&mut self, view: &LeaderView<'_>) -> Option<u64> {
        if self.marks.back().is_some_and(|(last, _)| view.now.since(*last) < MARK_EVERY) {
            return None;
        }
        self.marks.push_back((view.now, view.state.next_session()));
        let mut below = None;
        while let Some((at, mark)) = self.marks.front().copied()
            && view.now.since(at) >= SESSION_LIFE
        {
            below = Some(mark);
            self.marks.pop_front();
        }
        below
    }
}

/// All that a plan depends on, as far as it changes.
#[derive(Debug, PartialEq, Eq)]
struct PlanInputs {
    version: TableVersion,
    classes: BTreeSet<Class>,
    nodes: Vec<(NodeNumber, &'static str, u32, bool, bool)>,
}

impl PlanInputs {
    fn of(state: &CatalogState, now: UnixMillis) -> Self {
        let delay = state.settings().repair_delay_ms;
        let living = state.nodes().filter(|node| node.state.is_living());
        let nodes = living.map(|node| {
            let missing = node.is_missing(now, delay);
            (node.number, node.state.name(), node.weight_milli, node.incarnation.0 > 0, missing)
        });
        Self { version: state.table_version(), classes: state.classes(), nodes: nodes.collect() }
    }
}

/// How fast a node is being emptied.
#[derive(Debug)]
pub struct DrainMeter {
    /// Most groups that it held at any look.
    total: u64,
    samples: VecDeque<(Instant, u64)>,
}

impl DrainMeter {
    fn new(now: Instant, left: u64) -> Self {
        Self { total: left, samples: VecDeque::from([(now, left)]) }
    }

    fn sample(&mut self, now: Instant, left: u64) {
        self.total = self.total.max(left);
        let due =
            self.samples.back().is_none_or(|(at, _)| now.since(*at) >= Duration::from_secs(1));
        if due {
            if self.samples.len() == DRAIN_SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back((now, left));
        }
    }

    /// Groups that it held when the drain was first looked at, or later if they were more.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Milliseconds until nothing is left, at the present rate; `None` while that is not known.
    pub fn eta_ms(&self, now: Instant, left: u64) -> Option<u64> {
        let (since, before) = self.samples.front()?;
        let gone = before.checked_sub(left).filter(|gone| *gone > 0)?;
        let millis = u64::try_from(now.since(*since).as_millis()).ok()?;
        Some(millis.saturating_mul(left) / gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_tells_how_long_it_will_take_from_what_it_has_done() {
        let second = |n: u64| Instant(n * 1_000_000_000);
        let mut meter = DrainMeter::new(second(0), 100);
        assert_eq!(meter.eta_ms(second(1), 100), None, "nothing is done yet");
        meter.sample(second(1), 90);
        assert_eq!(meter.eta_ms(second(1), 90), Some(9000));
        for n in 2..100 {
            meter.sample(second(n), 90);
        }
        assert_eq!(meter.eta_ms(second(100), 90), None, "it stands still");
        assert_eq!(meter.total(), 100);
    }
}
