//! Having commands agreed on: at the catalog's leader, wherever that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holo_catalog::{CatalogError, ControlLog, VoterId};
use holo_core::catalog::{Answer, Authority, Command, Operation, ProposalAnswer};
use holo_core::replication::{GroupId, NodeNumber, Proposal};
use holo_core::wire::{CatalogAnswer, CatalogCommand, Decode, Kind};
use holo_core::{Epoch, ErrorCode, Failure, Retry, limits};
use holo_net::{Connection, Request};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Control;
use super::voting::{Voting, number_of};
use crate::links::pause_for;

/// How long one try may take, so that a leader that fell silent does not use up all the time there is.
const TRY_DEADLINE: Duration = Duration::from_secs(3);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one try waits for somebody to lead, and how often it looks.
const LEADERLESS_WAIT: Duration = Duration::from_millis(300);
const LEADER_STEP: Duration = Duration::from_millis(20);
/// How long proposals about groups are collected.
const COLLECTED_FOR: Duration = Duration::from_millis(2);
/// How long a batch of them is tried: whoever proposed repeats itself.
const BATCH_PATIENCE: Duration = Duration::from_secs(2);
/// Proposals in one command: it has to fit into one message, and others wait behind it.
const BATCH_MAX: usize = 1024;
/// Batches that are tried at once. What comes meanwhile waits, the latest of each group.
const BATCHES_MAX: usize = 4;
/// How long a proposer's own copy may lag behind the answer.
const COPY_PATIENCE: Duration = Duration::from_secs(2);

/// What came of one try.
enum Tried {
    Done { index: u64, answer: Answer },
    Leads(NodeNumber),
    Failed(Failure),
}

/// Changes of groups that are to be proposed.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    queue: Mutex<Queue>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// The latest of each group.
    waiting: BTreeMap<GroupId, Proposal>,
    /// Groups of which one is being tried: two at once could overtake each other.
    tried: BTreeSet<GroupId>,
}

impl Proposals {
    pub(crate) fn put(&self, proposal: Proposal) {
        let mut queue = self.queue.lock();
        let waiting = &mut queue.waiting;
        if waiting.len() < limits::PROPOSALS_MAX || waiting.contains_key(&proposal.group) {
            waiting.insert(proposal.group, proposal);
            self.came.notify_one();
        }
    }

    /// A batch of those that wait and of whose group none is being tried. They are until [`Self::end`].
    fn take(&self) -> Vec<Proposal> {
        let mut queue = self.queue.lock();
        let Queue { waiting, tried } = &mut *queue;
        let free = waiting.keys().filter(|group| !tried.contains(*group));
        let groups: Vec<GroupId> = free.take(BATCH_MAX + 1).copied().collect();
        if groups.len() > BATCH_MAX {
            self.came.notify_one();
        }
        let batch = groups.iter().take(BATCH_MAX);
        let batch: Vec<Proposal> = batch.filter_map(|group| waiting.remove(group)).collect();
        tried.extend(batch.iter().map(|proposal| proposal.group));
        batch
    }

    /// A batch of these groups is tried no more.
    fn end<'a>(&self, groups: impl IntoIterator<Item = &'a GroupId>) {
        let mut queue = self.queue.lock();
        for group in groups {
            queue.tried.remove(group);
        }
        if !queue.waiting.is_empty() {
            self.came.notify_one();
        }
    }
}

impl Control {
    /// Has a command agreed on, wherever the leader is, and waits until this node has seen its effect. A command is tried
    /// again when its answer was lost: none does harm twice.
    ///
    /// # Errors
    ///
    /// The refusal of the catalog; [`ErrorCode::NoQuorum`] when no leader with a majority was found in time: nothing was
    /// done; [`ErrorCode::DeadlineExceeded`] when it may have been.
    pub(crate) async fn propose(
        &self,
        by: Authority,
        operation: Operation,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let until = self.clock.now().after(patience);
        let (index, answer) = self.agree(by, operation, patience).await?;
        let left = until.since(self.clock.now());
        self.wait_version(index, left.min(COPY_PATIENCE)).await;
        answer.accepted()
    }

    /// Has a command agreed on; gives the version at which its effect can be seen, and the catalog's answer.
    async fn agree(
        &self,
        by: Authority,
        operation: Operation,
        patience: Duration,
    ) -> Result<(u64, Answer), Failure> {
        let command = Command { at: self.clock.wall(), by, operation };
        let bytes = Bytes::from(command.encode());
        let until = self.clock.now().after(patience);
        let (mut last, mut unknown, mut next, mut hops, mut turn) = (None, false, None, 0, 0);
        loop {
            let left = until.since(self.clock.now());
            if left.is_zero() {
                return Err(self.gave_up(last, unknown, patience));
            }
            match self.try_propose(&bytes, next.take(), turn, left.min(TRY_DEADLINE)).await {
                Tried::Done { index, answer } => return Ok((index, answer)),
                Tried::Leads(leader) if hops < 3 => {
                    next = Some(leader);
                    hops += 1;
                    continue;
                }
                Tried::Leads(_) => {}
                Tried::Failed(failure) if failure.code.retry() == Retry::Never => {
                    return Err(failure);
                }
                Tried::Failed(failure) => {
                    unknown |= failure.code.retry() == Retry::Unknown;
                    last = Some(failure);
                }
            }
            hops = 0;
            turn += 1;
            pause_for(PAUSE.min(left)).await;
        }
    }

    /// As [`Self::propose`], as this node.
    ///
    /// # Errors
    ///
    /// As [`Self::propose`].
    pub(crate) async fn propose_as_node(
        &self,
        operation: Operation,
        patience: Duration,
    ) -> Result<Answer, Failure> {
        let number = self.number().ok_or_else(|| {
            Failure::new(ErrorCode::NotReady, "this node has not joined a cluster yet")
        })?;
        self.propose(Authority::Node(number), operation, patience).await
    }

    /// Waits until this node's copy is at `version`, for a while at most.
    pub(crate) async fn wait_version(&self, version: u64, patience: Duration) -> bool {
        let mut watched = self.copy.version();
        let reached = watched.wait_for(|have| *have >= version);
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// Tries once: at `target`, if somebody named it, or at the leader, or else at one of the voters, at each turn at
    /// another one.
    async fn try_propose(
        &self,
        command: &Bytes,
        target: Option<NodeNumber>,
        turn: usize,
        deadline: Duration,
    ) -> Tried {
        let voting = self.vote_of_now();
        if let Some(voting) = voting.as_ref().filter(|it| it.is_leader()) {
            return match voting.catalog.propose(command.clone(), deadline).await {
                Ok(proposed) => done(proposed.index.0, &proposed.answer),
                Err(CatalogError::NotLeader { leader }) => Tried::Leads(number_of(leader)),
                Err(error) => Tried::Failed(self.name_voters(error)),
            };
        }
        let target = target.or_else(|| self.leader()).filter(|it| Some(*it) != self.number());
        let (voter, link) = match (target, &voting) {
            (Some(target), _) => match self.links.needed(target) {
                Ok(link) => (target, link),
                Err(failure) => {
                    self.forget_leader(target);
                    return Tried::Failed(failure);
                }
            },
            // It hears of the next leader as soon as anybody.
            (None, Some(voting)) => {
                return match self.wait_for_leader(voting, LEADERLESS_WAIT.min(deadline)).await {
                    Ok(leader) => Tried::Leads(leader),
                    Err(failure) => Tried::Failed(failure),
                };
            }
            (None, None) => match self.voter_in_turn(turn) {
                Some(found) => found,
                None => return Tried::Failed(self.no_leader()),
            },
        };
        let passed_on = voting.is_some();
        let body = CatalogCommand { command: command.clone(), passed_on };
        let body = Bytes::from(body.encode_to_vec());
        let request = Request::new(Kind::CatalogPropose, deadline, body);
        let answer = self.call_voter(voter, &link, request).await;
        match answer.and_then(|reply| CatalogAnswer::decode_body(&reply)) {
            Ok(answer) if answer.index > 0 => done(answer.index, &answer.answer),
            Ok(answer) if answer.leader > 0 => Tried::Leads(NodeNumber(answer.leader)),
            Ok(_) => Tried::Failed(self.no_leader()),
            Err(failure) => Tried::Failed(failure),
        }
    }

    /// Calls a voter, mostly the leader, and gives up when another node turns out to lead: a node that died or froze
    /// stays linked for a while, and what it was asked has to be asked elsewhere.
    ///
    /// # Errors
    ///
    /// Those of the call; [`ErrorCode::DeadlineExceeded`] when it was given up, and may have been heard.
    pub(super) async fn call_voter(
        &self,
        voter: NodeNumber,
        link: &Connection,
        request: Request,
    ) -> Result<Bytes, Failure> {
        let at_first = self.leader();
        let moved = async {
            loop {
                pause_for(LEADER_STEP).await;
                let leader = self.leader();
                if leader.is_some_and(|leader| leader != voter) && leader != at_first {
                    return;
                }
            }
        };
        let answer = tokio::select! {
            answer = link.call(request) => answer,
            () = moved => Err(Failure::new(
                ErrorCode::DeadlineExceeded,
                format!("node {voter} leads the catalog no more and has not answered"),
            )),
        };
        if let Err(failure) = &answer
            && matches!(
                failure.code,
                ErrorCode::DeadlineExceeded | ErrorCode::ConnectionLost | ErrorCode::Unreachable
            )
        {
            self.forget_leader(voter);
        }
        answer
    }

    /// Who leads, once this voter knows it.
    async fn wait_for_leader(
        &self,
        voting: &Voting,
        patience: Duration,
    ) -> Result<NodeNumber, Failure> {
        let until = self.clock.now().after(patience);
        loop {
            if let Some(leader) = voting.leader() {
                return Ok(leader);
            }
            if self.clock.now() >= until {
                return Err(self.no_leader());
            }
            pause_for(LEADER_STEP).await;
        }
    }

    /// Answers another node's [`Kind::CatalogPropose`].
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] for a command in the name of somebody whom the sender is not, [`ErrorCode::WrongNode`] when
    /// this node does not vote, and those of the agreement.
    pub(crate) async fn serve_propose(
        &self,
        from: NodeNumber,
        request: CatalogCommand,
    ) -> Result<CatalogAnswer, Failure> {
        let voting = self.vote_of_now().ok_or_else(not_a_voter)?;
        let command = Command::decode(&request.command)?;
        let votes = self.copy.read(|state| state.voters().contains(&from));
        let speaks_for = match command.by {
            Authority::Node(number) => number == from || (votes && request.passed_on),
            // Voters are trusted together; a plain node must not act in a user's name.
            Authority::Principal(_) => votes,
            Authority::Nobody => {
                matches!(command.operation, Operation::AdmitNode(_) | Operation::PutIssuer(_))
            }
        };
        if !speaks_for {
            let message = format!("node {from} may not propose as {:?}", command.by);
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        let leader = self.wait_for_leader(&voting, LEADERLESS_WAIT).await?;
        if !voting.is_leader() {
            return Ok(CatalogAnswer { leader: leader.0, ..CatalogAnswer::default() });
        }
        // Nobody but a voter says what time it is; all else goes on as it came, also what only a later version knows.
        let bytes = Bytes::from(Command::restamp(&request.command, self.clock.wall()));
        match voting.catalog.propose(bytes, TRY_DEADLINE).await {
            Ok(done) => Ok(CatalogAnswer { index: done.index.0, answer: done.answer, leader: 0 }),
            Err(CatalogError::NotLeader { leader }) => {
                Ok(CatalogAnswer { leader: number_of(leader).0, ..CatalogAnswer::default() })
            }
            Err(error) => Err(self.name_voters(error)),
        }
    }

    /// Proposes what is put into [`Proposals`], in batches, for as long as it is polled.
    pub(super) async fn keep_proposing(self: Arc<Self>) {
        let mut batches = JoinSet::new();
        loop {
            tokio::select! {
                () = self.proposals.came.notified(), if batches.len() < BATCHES_MAX => {}
                // Its groups are free for what came meanwhile.
                Some(ended) = batches.join_next() => match ended {
                    Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
                    _ => continue,
                },
            }
            pause_for(COLLECTED_FOR).await;
            let proposals = self.proposals.take();
            let Some(first) = proposals.first() else { continue };
            let reporter = first.by;
            let epochs: BTreeMap<GroupId, Epoch> =
                proposals.iter().map(|proposal| (proposal.group, proposal.epoch)).collect();
            let operation = Operation::ProposeChanges { reporter, proposals };
            let control = Arc::clone(&self);
            batches.spawn(async move {
                if !control.hears(BATCH_PATIENCE).await {
                    // Who proposed repeats itself.
                    tracing::debug!("changes of groups were not proposed: no answer of a voter reaches this node");
                    control.proposals.end(epochs.keys());
                    return;
                }
                let by = Authority::Node(reporter.node);
                match control.agree(by, operation, BATCH_PATIENCE).await {
                    Ok((_, Answer::Proposals(answers))) => {
                        control.tell_refusals(&epochs, &answers);
                    }
                    Ok((_, answer)) => {
                        tracing::debug!(?answer, "changes of groups were not taken");
                    }
                    // Who proposed repeats itself.
                    Err(failure) => {
                        tracing::debug!(%failure, "changes of groups were not proposed");
                    }
                }
                control.proposals.end(epochs.keys());
            });
        }
    }

    /// Lets the data plane know what was refused; a change that was made comes back as a config.
    fn tell_refusals(&self, epochs: &BTreeMap<GroupId, Epoch>, answers: &[ProposalAnswer]) {
        for answer in answers {
            let refusal = answer.refusal.filter(|refusal| refusal.is_settled());
            if let (Some(refusal), Some(epoch)) = (refusal, epochs.get(&answer.group)) {
                tracing::debug!(group = %answer.group, %epoch, %refusal, "a change was refused");
                self.refused.put(answer.group, *epoch);
                self.poke.notify_one();
            }
        }
    }

    fn gave_up(&self, last: Option<Failure>, unknown: bool, patience: Duration) -> Failure {
        let last = last.unwrap_or_else(|| self.no_leader());
        if unknown {
            let (time, why) = (patience.as_secs_f32(), self.who_answers().0);
            let message =
                format!("not confirmed within {time:.0} s, so it may be done, now or later: {why}");
            return Failure::new(ErrorCode::DeadlineExceeded, message)
                .help("look with `holo status` before trying again");
        }
        if last.code == ErrorCode::NoQuorum {
            return last;
        }
        let message = format!("nothing was changed: {}", last.message);
        Failure { message, ..self.no_leader() }
    }

    /// That nobody leads the catalog, as far as is known here; nothing was done. The same words for all that need one.
    pub(super) fn no_leader(&self) -> Failure {
        let (why, silent) = self.who_answers();
        // Where it was shut down as a whole, so was the data.
        let meanwhile = match self.copy.read(|state| state.close().is_some()) {
            true => "",
            false => "; data whose primaries answer is served meanwhile",
        };
        let help = match silent.as_slice() {
            [] => "try again in a moment: they are about to elect a leader".to_owned(),
            silent => format!(
                "start {} again (`holo agent --dir DIR`), or reconnect them, until more than half of the voters answer{meanwhile}",
                silent.join(", ")
            ),
        };
        Failure::new(ErrorCode::NoQuorum, format!("nobody leads the catalog: {why}"))
            .help(help)
            .retry_after_ms(500)
    }

    /// How many of the catalog's voters answer, in words, and the names of those that do not where they are missed. A node
    /// without a vote knows only which of them it is linked to.
    pub(super) fn who_answers(&self) -> (String, Vec<String>) {
        let Some(voting) = self.vote_of_now() else {
            let others = self.voters().into_iter().filter(|it| Some(*it) != self.number());
            let (linked, unlinked): (Vec<_>, Vec<_>) =
                others.partition(|it| self.links.link(*it).is_some());
            let names = |voters: Vec<NodeNumber>| {
                let mut names: Vec<_> = voters.into_iter().map(|it| self.name_of(it)).collect();
                names.sort();
                names
            };
            return seen_without_a_vote(&self.config.name, &names(linked), names(unlinked));
        };
        let quorum = voting.catalog.quorum();
        let name = |voter: VoterId| self.name_of(number_of(voter));
        let silent = if quorum.is_met() { BTreeSet::new() } else { quorum.silent() };
        let mut silent: Vec<String> = silent.into_iter().map(name).collect();
        silent.sort();
        (quorum.in_words(name), silent)
    }

    /// The failure, with names of nodes where it counts voters.
    fn name_voters(&self, error: CatalogError) -> Failure {
        match error {
            CatalogError::NoQuorum(_) => self.no_leader(),
            CatalogError::OutcomeUnknown { .. } => {
                let message = format!("not confirmed: {}", self.who_answers().0);
                Failure { message, ..Failure::from(error) }
            }
            other => Failure::from(other),
        }
    }

    /// The name of a node, as far as it is known here.
    fn name_of(&self, number: NodeNumber) -> String {
        let known = self.copy.read(|state| state.node(number).map(|node| node.name.clone()));
        let of_before = || {
            let belonging = self.belonging.read();
            let mut members = belonging.iter().flat_map(|it| &it.members);
            members.find(|member| member.number == number).map(|member| member.name.clone())
        };
        known.or_else(of_before).unwrap_or_else(|| format!("node {number}"))
    }
}

/// What a node that does not vote can say of the voters, and the names of those that are missed.
fn seen_without_a_vote(
    node: &str,
    linked: &[String],
    unlinked: Vec<String>,
) -> (String, Vec<String>) {
    let said = |names: &[String], not: &str| match names {
        [rest @ .., last] if !rest.is_empty() => {
            format!("{} and {last} are {not}", rest.join(", "))
        }
        one => format!("{} is {not}", one.concat()),
    };
    let links = match (linked, unlinked.as_slice()) {
        ([], []) => "it knows no voter".to_owned(),
        (linked, []) => said(linked, "linked"),
        ([], unlinked) => said(unlinked, "not linked"),
        (linked, unlinked) => format!("{}, {}", said(linked, "linked"), said(unlinked, "not")),
    };
    let why = format!("node {node} does not vote and hears of no leader: {links}");
    let is_majority = linked.len() > unlinked.len();
    (why, if is_majority { Vec::new() } else { unlinked })
}

pub(super) fn not_a_voter() -> Failure {
    Failure::new(ErrorCode::WrongNode, "this node does not vote in the catalog")
        .help("ask one that does; the cluster's view names them")
}

fn done(index: u64, answer: &Bytes) -> Tried {
    match Answer::decode(answer) {
        Ok(answer) => Tried::Done { index, answer },
        Err(failure) => Tried::Failed(failure),
    }
}

#[cfg(test)]
mod tests {
    use holo_core::replication::{Class, ConfigChange, Incarnation, ReplicaId};
    use holo_core::{Epoch, PartitionId};

    use super::*;

    fn proposal(partition: u32, epoch: u64) -> Proposal {
        let by = ReplicaId { node: NodeNumber(1), incarnation: Incarnation(1) };
        let class = Class { replicas: 2, min_in_sync: 1 };
        let group = GroupId { partition: PartitionId(partition), class };
        Proposal { group, epoch: Epoch(epoch), by, change: ConfigChange::TakeOver }
    }

    #[test]
    fn of_one_group_there_is_one_proposal_under_way_and_the_latest_waits_for_it() {
        let proposals = Proposals::default();
        for partition in [1, 2] {
            proposals.put(proposal(partition, 1));
        }
        let first = proposals.take();
        assert_eq!(first, [proposal(1, 1), proposal(2, 1)]);
        for epoch in [2, 3] {
            proposals.put(proposal(1, epoch));
        }
        proposals.put(proposal(3, 1));
        assert_eq!(proposals.take(), [proposal(3, 1)], "the others are free to go");
        assert!(proposals.take().is_empty());
        proposals.end(&[proposal(1, 1).group, proposal(2, 1).group]);
        assert_eq!(proposals.take(), [proposal(1, 3)], "what it took the place of is old");
    }

    /// It said that none of the voters answers, whichever did, and to start all of them again.
    #[test]
    fn without_a_vote_only_voters_without_a_link_are_said_to_be_missed() {
        let names =
            |names: &str| -> Vec<String> { names.split_whitespace().map(str::to_owned).collect() };
        let table = [
            ("n1", "n2 n3", "n1 is linked, n2 and n3 are not", "n2 n3"),
            ("n1 n2", "n3", "n1 and n2 are linked, n3 is not", ""),
            ("n1 n2 n3", "", "n1, n2 and n3 are linked", ""),
            ("", "n1", "n1 is not linked", "n1"),
            ("", "", "it knows no voter", ""),
        ];
        for (linked, unlinked, links, missed) in table {
            let seen = seen_without_a_vote("n4", &names(linked), names(unlinked));
            let why = format!("node n4 does not vote and hears of no leader: {links}");
            assert_eq!(seen, (why, names(missed)));
        }
    }

    #[test]
    fn a_batch_has_a_bound_and_what_is_beyond_it_comes_next() {
        let proposals = Proposals::default();
        let many = u32::try_from(BATCH_MAX).unwrap() + 5;
        for partition in 0..many {
            proposals.put(proposal(partition, 1));
        }
        assert_eq!(proposals.take().len(), BATCH_MAX);
        assert_eq!(proposals.take().len(), 5);
    }
}
