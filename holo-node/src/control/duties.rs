//! What the leader of the catalog sees to: who is up, where groups shall lie, drains that are done, who votes, sessions
//! that are over.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holo_catalog::{ControlLog, VoterId};
use holo_core::catalog::{CatalogState, NodeState, Operation, Plan, plan};
use holo_core::replication::{Class, NodeNumber};
use holo_core::wire::{Decode, Kind, VoterReady, VoterSecrets};
use holo_core::{ArrayId, ErrorCode, Failure, Instant, TableVersion, UnixMillis};
use holo_net::Request;
use prost::Message;

use super::Control;
use super::voting::{Voting, number_of};
use crate::home::SharedSecrets;
use crate::links::pause_for;

/// How often the leader looks, whether anything changed or not.
const LOOK: Duration = Duration::from_millis(250);
/// How often the others look whether they lead or vote.
const LOOK_ASIDE: Duration = Duration::from_millis(500);
/// At most so often it looks because something changed.
const LOOK_LEAST: Duration = Duration::from_millis(20);
/// A pause that took so long was no pause but a process that got no time: what it did not hear meanwhile says nothing
/// about the other nodes, and it begins to listen anew.
const STARVED: Duration = Duration::from_secs(1);
/// How long one command of a duty may take; the next look tries again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a change of voters may take, with the new ones' copies of the log.
const VOTERS_PATIENCE: Duration = Duration::from_secs(30);
/// Pause after a change of voters that failed.
const VOTERS_PAUSE: Duration = Duration::from_secs(1);
/// How long a node may take to get ready to vote.
const SECRETS_DEADLINE: Duration = Duration::from_secs(10);
/// A voter that is counted no more for so long ends.
const UNCOUNTED: Duration = Duration::from_secs(1);
/// How long the news may take that count a node which was asked to vote.
const RECRUITED: Duration = Duration::from_secs(5);
/// Sessions end this long after their ids were leased, at the earliest.
const SESSION_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often the mark of leased ids is written down for that, and the issuer's certificate looked at.
const HOUR: Duration = Duration::from_secs(3600);
/// Samples of a drain's progress, one per second at most.
const DRAIN_SAMPLES: usize = 30;

/// What the leader remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Duties {
    /// What the last plan was made from, when it changed nothing.
    settled: Option<PlanInputs>,
    /// Next session ids at some times, for expiry.
    marks: VecDeque<(Instant, u64)>,
    hourly: Option<Instant>,
    pub(super) drains: BTreeMap<NodeNumber, DrainMeter>,
    /// When the voters may be changed again.
    voters_after: Instant,
    voters_changing: bool,
    uncounted_since: Option<Instant>,
    /// Until then this node's vote does not end for lack of a record.
    recruited_until: Instant,
    /// Memory promised to arrays that the nodes have not told of yet.
    pub(super) promised: VecDeque<(Instant, ArrayId, BTreeMap<NodeNumber, u64>)>,
    /// When an array was removed: the nodes' figures may still count it.
    pub(super) freed_at: Option<Instant>,
    /// Since when this leader sees a closed cluster start again.
    pub(super) reopening_since: Option<Instant>,
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
pub(crate) struct DrainMeter {
    /// Groups that it held at the first look.
    pub(super) total: u64,
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

    /// Milliseconds until nothing is left, at the present rate; `None` while that is not known.
    pub(super) fn eta_ms(&self, now: Instant, left: u64) -> Option<u64> {
        let (since, before) = self.samples.front()?;
        let gone = before.checked_sub(left).filter(|gone| *gone > 0)?;
        let millis = u64::try_from(now.since(*since).as_millis()).ok()?;
        Some(millis.saturating_mul(left) / gone)
    }
}

impl Control {
    /// Does the leader's duties while this node leads, for as long as it is polled.
    pub(super) async fn keep_duties(self: Arc<Self>) {
        let mut version = self.copy.version();
        let mut standing = self.watch_standing();
        loop {
            let before = self.clock.now();
            let look =
                if self.voting().is_some_and(|it| it.leads_in_name()) { LOOK } else { LOOK_ASIDE };
            let changed = tokio::select! {
                _changed = version.changed() => true,
                () = standing.changed(look) => false,
            };
            // What changes while the duties are done is looked at right after them.
            standing = self.watch_standing();
            if changed {
                // What else changes now is looked at together.
                pause_for(LOOK_LEAST).await;
                version.mark_unchanged();
            }
            if self.clock.now().since(before) >= STARVED {
                self.health.lock().set_leading(self.clock.now(), false);
            }
            let leads = self.is_leader();
            self.health.lock().set_leading(self.clock.now(), leads);
            if leads {
                self.look().await;
            } else {
                let mut duties = self.duties.lock();
                let (uncounted_since, recruited_until) =
                    (duties.uncounted_since, duties.recruited_until);
                *duties = Duties { uncounted_since, recruited_until, ..Duties::default() };
            }
            self.look_at_own_vote().await;
        }
    }

    /// One look. What fails is tried again at the next.
    async fn look(self: &Arc<Self>) {
        for (what, outcome) in [
            ("liveness", self.judge_nodes().await),
            ("drains", self.finish_drains().await),
            ("the close", self.tend_close().await),
            ("planning", self.replan().await),
            ("sessions", self.hourly().await),
        ] {
            if let Err(failure) = outcome {
                tracing::debug!(what, %failure, "a duty of the leader was not done");
            }
        }
        self.look_at_voters();
    }

    async fn judge_nodes(&self) -> Result<(), Failure> {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let down_after = self.config.timers.down_after;
        let mut verdicts =
            self.copy.read(|state| self.health.lock().verdicts(now, wall, state, down_after));
        // Who judges is up, even where its own beats are late.
        verdicts.retain(|verdict| verdict.up || Some(verdict.replica.node) != self.number());
        if verdicts.is_empty() {
            return Ok(());
        }
        for verdict in &verdicts {
            tracing::info!(node = %verdict.replica.node, up = verdict.up, "a node is judged anew");
        }
        self.propose_as_node(Operation::SetUp(verdicts), PATIENCE).await.map(drop)
    }

    async fn replan(&self) -> Result<(), Failure> {
        if self.copy.read(|state| state.close().is_some()) {
            // Nothing moves before everything is back.
            return Ok(());
        }
        let now = self.clock.wall();
        let inputs = self.copy.read(|state| PlanInputs::of(state, now));
        if self.duties.lock().settled.as_ref() == Some(&inputs) {
            return Ok(());
        }
        let planned = self.copy.read(|state| plan(state, now));
        match planned {
            Ok(plan) if plan.changed.is_empty() => {
                self.duties.lock().settled = Some(inputs);
                Ok(())
            }
            Ok(plan) => {
                tracing::info!(
                    moves = plan.moves.len(),
                    bytes = plan.bytes,
                    "groups are placed anew"
                );
                self.apply_plan(&plan).await
            }
            // Nobody could hold anything: until that changes, everything stays where it is.
            Err(failure) if failure.code == ErrorCode::OutOfCapacity => {
                self.duties.lock().settled = Some(inputs);
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Makes a plan the target tables.
    pub(super) async fn apply_plan(&self, plan: &Plan) -> Result<(), Failure> {
        for update in plan.updates() {
            self.propose_as_node(Operation::ApplyTable(update), PATIENCE).await?;
        }
        Ok(())
    }

    async fn finish_drains(&self) -> Result<(), Failure> {
        let draining: Vec<(NodeNumber, u64)> = self.copy.read(|state| {
            let draining =
                state.nodes().filter(|it| matches!(it.state, NodeState::Draining { .. }));
            draining.map(|it| (it.number, state.groups_of(it.number).len() as u64)).collect()
        });
        let now = self.clock.now();
        {
            let mut duties = self.duties.lock();
            duties.drains.retain(|number, _| draining.iter().any(|(it, _)| it == number));
            for (number, left) in &draining {
                let meter = duties.drains.entry(*number);
                meter.or_insert_with(|| DrainMeter::new(now, *left)).sample(now, *left);
            }
        }
        for (node, left) in draining {
            // It votes no more, and no config names it: only facts count.
            let votes = self.voting().is_some_and(|voting| {
                voting.voters().iter().any(|voter| number_of(*voter) == node)
            });
            if left == 0 && !votes {
                tracing::info!(%node, "a node is drained");
                self.propose_as_node(Operation::FinishDrain { node }, PATIENCE).await?;
            }
        }
        Ok(())
    }

    async fn hourly(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let below = {
            let mut duties = self.duties.lock();
            if duties.hourly.is_some_and(|last| now.since(last) < HOUR) {
                return Ok(());
            }
            duties.hourly = Some(now);
            duties.marks.push_back((now, self.copy.read(CatalogState::next_session)));
            let mut below = None;
            while let Some((at, mark)) = duties.marks.front().copied()
                && now.since(at) >= SESSION_LIFE
            {
                below = Some(mark);
                duties.marks.pop_front();
            }
            below
        };
        self.renew_issuer().await?;
        match below {
            Some(below) => {
                self.propose_as_node(Operation::ExpireSessions { below }, PATIENCE).await.map(drop)
            }
            None => Ok(()),
        }
    }

    fn look_at_voters(self: &Arc<Self>) {
        let Some(voting) = self.voting() else { return };
        if self.is_coming_back() {
            return;
        }
        let (wall, now) = (self.clock.wall(), self.clock.now());
        let (wanted, recorded) =
            self.copy.read(|state| (state.wanted_voters(wall), state.voters().to_vec()));
        let present: BTreeSet<NodeNumber> = voting.voters().into_iter().map(number_of).collect();
        let settled =
            wanted.iter().copied().collect::<BTreeSet<_>>() == present && wanted == recorded;
        {
            let mut duties = self.duties.lock();
            if settled || wanted.is_empty() || duties.voters_changing || now < duties.voters_after {
                return;
            }
            duties.voters_changing = true;
        }
        let control = Arc::clone(self);
        self.spawn(async move {
            let changed = control.change_voters(&voting, wanted, recorded).await;
            let mut duties = control.duties.lock();
            duties.voters_changing = false;
            if let Err(failure) = changed {
                tracing::debug!(%failure, "the voters stay as they are for now");
                duties.voters_after = control.clock.now().after(VOTERS_PAUSE);
            }
        });
    }

    /// Makes the wanted nodes the voters: gives new ones the secrets, then changes the agreement, then the record.
    async fn change_voters(
        &self,
        voting: &Voting,
        wanted: Vec<NodeNumber>,
        recorded: Vec<NodeNumber>,
    ) -> Result<(), Failure> {
        let present: BTreeMap<NodeNumber, VoterId> =
            voting.voters().into_iter().map(|id| (number_of(id), id)).collect();
        let mut ids = BTreeSet::new();
        for number in &wanted {
            let id = match present.get(number) {
                Some(id) => *id,
                None => self.recruit(*number).await?,
            };
            ids.insert(id);
        }
        if ids != present.values().copied().collect() {
            // A leader that is elected in between must find itself in the record.
            let union: BTreeSet<NodeNumber> = wanted.iter().chain(&recorded).copied().collect();
            let alive = |number: &NodeNumber| {
                self.copy.read(|state| state.node(*number).is_some_and(|it| it.state.is_living()))
            };
            let union: Vec<NodeNumber> = union.into_iter().filter(alive).collect();
            if union.len() <= 7 && union != recorded {
                self.propose_as_node(Operation::SetVoters(union), PATIENCE).await?;
            }
            tokio::select! {
                changed = voting.catalog.change_voters(ids, VOTERS_PATIENCE) => changed?,
                () = self.other_voters_wanted(&wanted) => {
                    return Err(Failure::new(ErrorCode::Conflict, "others are to vote by now"));
                }
            }
            tracing::info!(voters = ?wanted, "the catalog's voters have changed");
        }
        if self.is_leader() {
            self.propose_as_node(Operation::SetVoters(wanted), PATIENCE).await?;
        }
        Ok(())
    }

    /// Resolves when others than these are to vote: a drain has begun, or a node that was to vote has died.
    async fn other_voters_wanted(&self, wanted: &[NodeNumber]) {
        let mut version = self.copy.version();
        loop {
            version.mark_unchanged();
            let now = self.clock.wall();
            if self.copy.read(|state| state.wanted_voters(now)) != wanted {
                return;
            }
            drop(tokio::time::timeout(LOOK, version.changed()).await);
        }
    }

    /// Has a node get ready to vote.
    async fn recruit(&self, number: NodeNumber) -> Result<VoterId, Failure> {
        let secrets = self.secrets.read().clone().ok_or_else(super::propose::not_a_voter)?;
        if Some(number) == self.number() {
            return self.become_voter(secrets).await;
        }
        let body = VoterSecrets {
            placement_secret: secrets.placement.to_vec(),
            issuer_seed: secrets.issuer_seed.to_vec(),
        };
        let body = Bytes::from(body.encode_to_vec());
        let request = Request::new(Kind::VoterSecrets, SECRETS_DEADLINE, body);
        let ready = VoterReady::decode_body(&self.links.needed(number)?.call(request).await?)?;
        let id = VoterId(ready.voter);
        if number_of(id) != number {
            let message = format!("node {number} is ready as voter {id}");
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        Ok(id)
    }

    /// Answers the leader that wants this node to vote.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] from anybody but a voter, [`ErrorCode::Malformed`], and those of becoming one.
    pub(crate) async fn serve_secrets(
        &self,
        from: NodeNumber,
        secrets: VoterSecrets,
    ) -> Result<VoterReady, Failure> {
        if !self.voters().contains(&from) {
            let message = format!("node {from} does not vote and has no secrets to give");
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        let key = |bytes: &[u8]| {
            <[u8; 32]>::try_from(bytes)
                .map(zeroize::Zeroizing::new)
                .map_err(|_length| Failure::new(ErrorCode::Malformed, "a secret has 32 bytes"))
        };
        let secrets = SharedSecrets {
            placement: key(&secrets.placement_secret)?,
            issuer_seed: key(&secrets.issuer_seed)?,
        };
        Ok(VoterReady { voter: self.become_voter(secrets).await?.0 })
    }

    /// Ends this node's vote when it is counted no more.
    async fn look_at_own_vote(&self) {
        if self.vote_is_over() {
            self.end_voting().await;
        }
    }

    /// Whether the record counts this node's vote no more: at once when the agreement told it so, too. A voter that did
    /// not hear of its removal only finds that nobody leads it; and one to be waits for the record.
    pub(super) fn vote_is_over(&self) -> bool {
        let Some(voting) = self.voting() else { return false };
        let me = self.number();
        let recorded = self.copy.read(|state| state.voters().iter().any(|it| Some(*it) == me));
        let now = self.clock.now();
        let mut duties = self.duties.lock();
        if recorded && voting.votes() {
            voting.note_vote();
            duties.recruited_until = Instant::default();
        }
        let led = voting.leader().is_some() && voting.is_counted() && !voting.is_former();
        if recorded || led || !self.copy.is_known() {
            duties.uncounted_since = None;
            return false;
        }
        let since = *duties.uncounted_since.get_or_insert(now);
        now >= duties.recruited_until && (voting.is_former() || now.since(since) >= UNCOUNTED)
    }

    /// The leader wants this node to vote, and will soon write that down.
    pub(super) fn put_off_end_of_vote(&self) {
        self.duties.lock().recruited_until = self.clock.now().after(RECRUITED);
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
        assert_eq!(meter.total, 100);
    }
}
