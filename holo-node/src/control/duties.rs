//! The driver of the catalog's leader: has that applied which [`Leader`] finds due, and changes who votes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holo_catalog::{ControlLog, VoterId};
use holo_core::catalog::{CloseStep, Duty, Leader, LeaderView, Operation, Step};
use holo_core::replication::NodeNumber;
use holo_core::wire::{Decode, Kind, VoterReady, VoterSecrets};
use holo_core::{ArrayId, ErrorCode, Failure, Instant};
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
/// How often the issuer's certificate is looked at.
const HOUR: Duration = Duration::from_secs(3600);

/// What the driver of the duties remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Duties {
    /// When the issuer's certificate was looked at.
    issuer_looked: Option<Instant>,
    /// When the voters may be changed again.
    voters_after: Instant,
    voters_changing: bool,
    /// Why they are not as they should be; `None` when the last change of them was done.
    voters_stuck: Option<Failure>,
    uncounted_since: Option<Instant>,
    /// Until then this node's vote does not end for lack of a record.
    recruited_until: Instant,
    /// Memory promised to arrays that the nodes have not told of yet.
    pub(super) promised: VecDeque<(Instant, ArrayId, BTreeMap<NodeNumber, u64>)>,
    /// When an array was removed: the nodes' figures may still count it.
    pub(super) freed_at: Option<Instant>,
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
            let now = self.clock.now();
            let starved = now.since(before) >= STARVED;
            let leads = self.is_leader();
            if leads {
                self.lead(now, starved);
                self.look().await;
            } else {
                *self.leader.lock() = None;
                self.health.lock().forget();
                let mut duties = self.duties.lock();
                let (uncounted_since, recruited_until) =
                    (duties.uncounted_since, duties.recruited_until);
                *duties = Duties { uncounted_since, recruited_until, ..Duties::default() };
            }
            self.look_at_own_vote().await;
        }
    }

    fn lead(&self, now: Instant, starved: bool) {
        let mut leader = self.leader.lock();
        let down_after = self.config.timers.down_after;
        let leader = leader.get_or_insert_with(|| Leader::new(now, down_after));
        if starved {
            leader.listen_anew(now);
        }
    }

    /// One look. What fails is tried again at the next.
    async fn look(self: &Arc<Self>) {
        for duty in Duty::ALL {
            if let Err(failure) = self.see_to(duty).await {
                tracing::debug!(?duty, %failure, "a duty of the leader was not done");
            }
        }
        if let Err(failure) = self.look_at_issuer().await {
            tracing::debug!(%failure, "the issuer's certificate stays as it is for now");
        }
        self.look_at_voters();
    }

    async fn see_to(&self, duty: Duty) -> Result<(), Failure> {
        for step in self.due(duty)? {
            announce(&step);
            self.take(&step).await?;
        }
        Ok(())
    }

    /// Has the operations of a step applied.
    pub(super) async fn take(&self, step: &Step) -> Result<(), Failure> {
        for operation in step.operations() {
            self.propose_as_node(operation, PATIENCE).await?;
        }
        Ok(())
    }

    fn due(&self, duty: Duty) -> Result<Vec<Step>, Failure> {
        let voters = self.voting().map(|voting| voting.voters()).unwrap_or_default();
        let voters: BTreeSet<NodeNumber> = voters.into_iter().map(number_of).collect();
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let (node, me) = (self.number(), self.replica());
        let mut leader = self.leader.lock();
        let Some(leader) = leader.as_mut() else { return Ok(Vec::new()) };
        self.copy.read(|state| {
            // Locked for each question: a plan takes its time, and beats come in meanwhile.
            let heard = |replica| self.health.lock().heard(replica);
            leader.due(
                duty,
                &LeaderView { state, now, wall, node, me, voters: &voters, heard: &heard },
            )
        })
    }

    /// Renews the certificate of the key that proves configs, when it is time.
    async fn look_at_issuer(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        {
            let mut duties = self.duties.lock();
            if duties.issuer_looked.is_some_and(|last| now.since(last) < HOUR) {
                return Ok(());
            }
            duties.issuer_looked = Some(now);
        }
        self.renew_issuer().await
    }

    fn look_at_voters(self: &Arc<Self>) {
        let Some(voting) = self.voting() else { return };
        let (wall, now) = (self.clock.wall(), self.clock.now());
        {
            let leader = self.leader.lock();
            let Some(leader) = leader.as_ref() else { return };
            if self.copy.read(|state| leader.is_coming_back(state, now)) {
                return;
            }
        }
        let (wanted, recorded) =
            self.copy.read(|state| (state.wanted_voters(wall), state.voters().to_vec()));
        let present: BTreeSet<NodeNumber> = voting.voters().into_iter().map(number_of).collect();
        let settled =
            wanted.iter().copied().collect::<BTreeSet<_>>() == present && wanted == recorded;
        {
            let mut duties = self.duties.lock();
            if settled {
                duties.voters_stuck = None;
            }
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
            match changed {
                Ok(()) => duties.voters_stuck = None,
                Err(failure) => {
                    tracing::debug!(%failure, "the voters stay as they are for now");
                    duties.voters_after = control.clock.now().after(VOTERS_PAUSE);
                    duties.voters_stuck = Some(failure);
                }
            }
        });
    }

    /// Why the voters are not as they should be, once changing them has failed.
    pub(super) fn voters_stuck(&self) -> Option<Failure> {
        self.duties.lock().voters_stuck.clone()
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
                None => self.recruit(*number).await.map_err(|failure| {
                    let name =
                        self.copy.read(|state| state.node(*number).map(|it| it.name.clone()));
                    let name = name.unwrap_or_else(|| number.to_string());
                    failure.context(format!("node {name} is to vote and is not ready to"))
                })?,
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

/// Says what a leader is about to do.
fn announce(step: &Step) {
    match step {
        Step::Judge(verdicts) => {
            for verdict in verdicts {
                tracing::info!(node = %verdict.replica.node, up = verdict.up, "a node is judged anew");
            }
        }
        Step::EndDrain(node) => tracing::info!(%node, "a node is drained"),
        Step::Close(CloseStep::Finish(_)) => {
            tracing::info!("everything is on disk: the cluster stops");
        }
        Step::Close(CloseStep::Abort(group)) => {
            tracing::error!(%group, "a group has lost its last copy while the cluster was to stop: it goes on");
        }
        Step::Place(plan) => {
            let (moves, bytes) = (plan.moves.len(), plan.bytes);
            tracing::info!(moves, bytes, "groups are placed anew");
        }
        Step::Close(CloseStep::Nothing | CloseStep::Settle(..)) | Step::ExpireSessions(_) => {}
    }
}
