//! Changing the voters, and following who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::{ChangeMembers, EmptyNode};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::contacts::Contacts;
use crate::control_log::{ReplicatedState, VoterId};
use crate::driver::{Inner, Raft, why};
use crate::options::Timers;
use crate::raft::LogId;
use crate::state::Cell;
use crate::store::Store;
use crate::wire::VOTERS_MAX;
use crate::wire::convert::MEMBER;
use crate::{CatalogError, Standing};

/// How long a change that somebody else left half-way is left alone before it is tried to finish it again.
const FINISH_PAUSE: Duration = Duration::from_secs(1);

/// How far each member has the leader's log.
type Replication = Option<BTreeMap<VoterId, Option<LogId>>>;

type WriteError = RaftError<VoterId, ClientWriteError<VoterId, EmptyNode>>;

impl<S: ReplicatedState> Inner<S> {
    pub(crate) async fn change_voters(
        &self,
        voters: BTreeSet<VoterId>,
        deadline: Duration,
    ) -> Result<(), CatalogError> {
        if voters.is_empty() || voters.len() > VOTERS_MAX {
            let reason = format!("there are 1 to {VOTERS_MAX} voters, not {}", voters.len());
            return Err(CatalogError::ChangeRefused { reason });
        }
        let until = Instant::now() + deadline;
        self.lead_by(until).await?;
        let Ok(_guard) = self.changing.try_lock() else {
            let reason = "another change of them is under way".to_owned();
            return Err(CatalogError::ChangeRefused { reason });
        };
        let (present, learners): (BTreeSet<VoterId>, BTreeSet<VoterId>) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let members = metrics.membership_config.membership();
            (members.voter_ids().collect(), members.learner_ids().collect())
        };
        // Those of an earlier change that nobody wants any more: members are few.
        self.unteach(learners.difference(&voters).copied().collect()).await;
        let new: BTreeSet<VoterId> = voters.difference(&present).copied().collect();
        if let Err(error) = self.teach(&new, deadline, until).await {
            self.unteach(new).await;
            return Err(error);
        }
        // Who votes no more stays a learner until it has heard so: see `Follower::dismiss_learners`.
        let changed = self.raft.change_membership(voters, true);
        match timeout_at(until, changed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.write_error(error)),
            Err(_) => Err(self.outcome_unknown(deadline)),
        }
    }

    /// Adds the `new` ones as learners and waits until they have the log up to that.
    async fn teach(
        &self,
        new: &BTreeSet<VoterId>,
        deadline: Duration,
        until: Instant,
    ) -> Result<(), CatalogError> {
        let mut wanted = 0;
        for voter in new {
            let added = timeout_at(until, self.raft.add_learner(*voter, MEMBER, false)).await;
            let added = added.map_err(|_elapsed| self.no_quorum())?;
            wanted = added.map_err(|error| self.write_error(error))?.log_id.index;
        }
        for voter in new {
            let mut metrics = self.raft.metrics();
            let has = |replication: &Replication| reached(replication, *voter);
            let caught_up = metrics.wait_for(|metrics| {
                metrics.running_state.is_err()
                    || metrics.current_leader != Some(self.me)
                    || has(&metrics.replication) >= wanted
            });
            let timed_out = timeout_at(until, caught_up).await.is_err();
            let has = has(&self.raft.metrics().borrow().replication);
            if timed_out {
                return Err(CatalogError::NotCaughtUp {
                    voter: *voter,
                    waited: deadline,
                    has,
                    wanted,
                });
            }
        }
        self.lead_by(until).await
    }

    /// Removes learners that did not become voters.
    async fn unteach(&self, learners: BTreeSet<VoterId>) {
        if learners.is_empty() {
            return;
        }
        let removed = self.raft.change_membership(ChangeMembers::RemoveNodes(learners), false);
        match timeout(self.timers.answering_window(), removed).await {
            Ok(Ok(_)) => {}
            // They stay learners, which costs a little traffic; the next change removes or uses them.
            Ok(Err(error)) => tracing::info!(%error, "learners of the catalog stay"),
            Err(_) => tracing::info!("learners of the catalog stay: no majority answered"),
        }
    }

    fn write_error(&self, error: WriteError) -> CatalogError {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                match forward.leader_id {
                    Some(leader) if leader != self.me => CatalogError::NotLeader { leader },
                    _ => self.no_quorum(),
                }
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => {
                CatalogError::ChangeRefused { reason: error.to_string() }
            }
            RaftError::Fatal(error) => self.fatal(&error),
        }
    }
}

/// The one task of a voter: tells who leads and who votes, finishes what a dying leader left half-way, and has the log
/// folded when it has grown by too many bytes.
pub(crate) struct Follower<S> {
    pub(crate) me: VoterId,
    pub(crate) raft: Raft,
    pub(crate) cell: Arc<Cell<S>>,
    pub(crate) store: Arc<Store>,
    pub(crate) contacts: Arc<Contacts>,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) changing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) timers: Timers,
}

impl<S: ReplicatedState> Follower<S> {
    /// Runs until the voter ends.
    pub(crate) async fn run(self) {
        let mut metrics = self.raft.server_metrics();
        loop {
            let (standing, sets) = {
                let metrics = metrics.borrow_and_update();
                let sets = metrics.membership_config.membership().get_joint_config().clone();
                (standing(&metrics), sets)
            };
            let leads = standing.leader == Some(self.me);
            let half_way = standing.changing && leads;
            let teaches = !standing.changing && !standing.learners.is_empty() && leads;
            self.publish(standing, sets);
            let changed = tokio::select! {
                changed = metrics.changed() => changed,
                () = self.cell.fold.notified() => {
                    if let Err(error) = self.raft.trigger().snapshot().await {
                        tracing::debug!(%error, "no snapshot was begun");
                    }
                    Ok(())
                }
                () = self.finish_change(), if half_way => Ok(()),
                () = self.dismiss_learners(), if teaches => Ok(()),
            };
            if changed.is_err() {
                break;
            }
        }
        self.end();
    }

    fn publish(&self, standing: Standing, sets: Vec<BTreeSet<VoterId>>) {
        let members = standing.voters.union(&standing.learners).copied().collect();
        self.contacts.follow(sets, &members);
        self.standing.send_if_modified(|published| {
            if *published == standing {
                return false;
            }
            if published.leader != standing.leader {
                let leader = standing.leader.map(|leader| leader.0);
                tracing::info!(me = self.me.0, term = standing.term, leader, "catalog leader");
            }
            if published.voters != standing.voters {
                tracing::info!(me = self.me.0, voters = ?standing.voters, "catalog voters");
            }
            *published = standing;
            true
        });
    }

    /// Finishes a change of voters that the leader who began it did not live to finish. Waits for whoever is at it here.
    async fn finish_change(&self) {
        let _guard = self.changing.lock().await;
        let goal = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            let sets = metrics.membership_config.membership().get_joint_config();
            let half_way = sets.len() > 1 && metrics.current_leader == Some(self.me);
            sets.last().filter(|_| half_way).cloned()
        };
        let Some(goal) = goal else { return };
        tracing::info!(me = self.me.0, voters = ?goal, "finishing a change of catalog voters");
        if let Err(error) = self.raft.change_membership(goal, true).await {
            tracing::info!(me = self.me.0, %error, "the change of catalog voters is not finished");
            let mut metrics = self.raft.server_metrics();
            metrics.mark_unchanged();
            // Again when something changed, or after a while.
            drop(timeout(FINISH_PAUSE, metrics.changed()).await);
        }
    }

    /// Ends the membership of learners that nobody makes voters: mostly former voters, once they have heard that they
    /// vote no more. Who has not would take itself for a voter without a leader.
    async fn dismiss_learners(&self) {
        // Long enough for what the leader's node has agreed on after the change to reach them, too.
        let (until_least, until_most) = {
            let now = Instant::now();
            (now + self.timers.answering_window(), now + self.timers.answering_window() * 5)
        };
        loop {
            // A heartbeat brings them what is committed.
            let pause = self.timers.heartbeat;
            drop(timeout(pause, std::future::pending::<()>()).await);
            let now = Instant::now();
            if now >= until_most || (now >= until_least && self.learners_know()) {
                break;
            }
        }
        // Whoever changes the voters now uses them or ends their membership itself.
        let Ok(_guard) = self.changing.try_lock() else { return };
        let learners: BTreeSet<VoterId> = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow();
            let members = metrics.membership_config.membership();
            let settled = members.get_joint_config().len() == 1;
            let leads = metrics.current_leader == Some(self.me);
            members.learner_ids().filter(|_| settled && leads).collect()
        };
        if learners.is_empty() {
            return;
        }
        tracing::info!(me = self.me.0, ?learners, "members that vote no more are dismissed");
        let removed = self.raft.change_membership(ChangeMembers::RemoveNodes(learners), false);
        match timeout(self.timers.answering_window(), removed).await {
            Ok(Ok(_)) => {}
            // Tried again, here or by the next leader.
            Ok(Err(error)) => tracing::info!(%error, "learners of the catalog stay"),
            Err(_) => tracing::info!("learners of the catalog stay: no majority answered"),
        }
    }

    /// Whether every learner that answers has the log up to the members of now.
    fn learners_know(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let settled = metrics.membership_config.log_id().map_or(0, |id| id.index);
        let learners: Vec<VoterId> = metrics.membership_config.membership().learner_ids().collect();
        let window = self.timers.answering_window();
        let mut answering = self.contacts.answering(learners, self.me, window).into_iter();
        answering.all(|it| it == self.me || reached(&metrics.replication, it) >= settled)
    }

    fn end(&self) {
        let ended = self.raft.metrics().borrow().running_state.clone();
        if let Err(error) = ended {
            if error == openraft::error::Fatal::Stopped {
                tracing::info!(me = self.me.0, "catalog voter stopped");
            } else {
                let failure = why(&self.store, &error);
                tracing::error!(me = self.me.0, %failure, "this voter of the catalog failed and stopped");
            }
        }
        self.standing.send_modify(|standing| {
            standing.stopped = true;
            standing.leader = None;
        });
    }
}

/// Up to where a member has the leader's log.
fn reached(replication: &Replication, member: VoterId) -> u64 {
    let matching = replication.as_ref().and_then(|all| all.get(&member).copied());
    matching.flatten().map_or(0, |id| id.index)
}

pub(crate) fn standing(metrics: &RaftServerMetrics<VoterId, EmptyNode>) -> Standing {
    let members = metrics.membership_config.membership();
    Standing {
        term: metrics.vote.leader_id.term,
        leader: metrics.current_leader,
        voters: members.voter_ids().collect(),
        learners: members.learner_ids().collect(),
        changing: members.get_joint_config().len() > 1,
        stopped: false,
    }
}
