//! Stopping the whole cluster without losing anything, and starting it again.
//!
//! A *close* begins when an operator asks for it. While it is under way the nodes take no writes; each in-sync replica
//! of a group in which an array has data writes that group's pages down, as they are after the last operation, and says
//! so here ([`Operation::Hold`]). When all of them have, the close is *finished*: no config names anybody any more, and
//! the nodes stop. A node that starts again and finds what it wrote unharmed offers it back ([`Operation::Reopen`]); the
//! group starts again on that node alone, the others become its learners. When it has copies enough it is *settled*:
//! forgotten here, and written again. The cluster is open when nothing is left.
//!
//! # Rules
//!
//! 1. The first hold of a group comes from its primary and says which operation is the last; in this epoch there is none
//!    after it, for a primary takes no writes once it knows of the close. Backups hold exactly that.
//! 2. A hold counts in the epoch in which it was made. When the config changes before the close is finished, the group
//!    has to be held anew.
//! 3. Between the finish and its settling nobody writes to a group. So what was written down is still the group's data
//!    if the node that had offered it dies: the group waits again, and whoever else holds it may offer it.
//! 4. What is accepted back is decided by what is recorded here, never by a file: number of the close, epoch, last
//!    operation and holder have to be those of the record.
//! 5. When the close is finished all sessions end: what clients ask again afterwards is told as unknown, never done twice.
//!
//! [`Operation::Hold`]: crate::catalog::Operation::Hold
//! [`Operation::Reopen`]: crate::catalog::Operation::Reopen

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::changes::Subject;
use crate::catalog::command::{Answer, Authority};
use crate::catalog::invariants::ensure;
use crate::catalog::nodes::NodeState;
use crate::catalog::principals::CLUSTER;
use crate::catalog::state::CatalogState;
use crate::group::Seq;
use crate::replication::{GroupConfig, GroupId, NodeNumber, ReplicaId};
use crate::{Count, Epoch, ErrorCode, Failure, UnixMillis, Verb, limits};

/// Number of a close: that of no other close of the same cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseId(pub u64);

/// A close, until the cluster is open again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Its number.
    pub id: CloseId,
    /// When it began.
    pub since: UnixMillis,
    /// Everything is on disk: whoever runs since before then stops.
    pub finished: bool,
    /// The groups with data that are not settled, with who has them on disk.
    pub holds: BTreeMap<GroupId, GroupHold>,
}

/// Who has a group on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupHold {
    /// The epoch of the group's config when they wrote it down; 0 while nobody has.
    pub epoch: Epoch,
    /// The group's last operation.
    pub seq: Seq,
    /// Bytes of pages, of all holders together.
    pub bytes: u64,
    /// They, in the lives in which they wrote it.
    pub holders: Vec<ReplicaId>,
}

/// A group that a node has on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The group.
    pub group: GroupId,
    /// The epoch of its config.
    pub epoch: Epoch,
    /// Its last operation.
    pub seq: Seq,
    /// Bytes of pages.
    pub bytes: u64,
    /// Where it is offered back: the epoch of the group's config at present. It is taken in the next one or not at all.
    pub at: Epoch,
}

impl GroupHold {
    /// Whether everybody has it who has to.
    pub fn is_whole(&self, config: &GroupConfig) -> bool {
        self.epoch == config.epoch
            && !config.lost
            && config.in_sync.iter().all(|member| self.holders.contains(member))
    }

    /// Whether a node wrote it down in any of its lives.
    pub fn is_held_by(&self, node: NodeNumber) -> bool {
        self.holders.iter().any(|holder| holder.node == node)
    }
}

impl CatalogState {
    /// The close that is under way, or not undone yet.
    pub fn close(&self) -> Option<&Close> {
        self.close.as_ref()
    }

    /// Whether the nodes are writing down what they hold.
    pub fn is_closing(&self) -> bool {
        self.close.as_ref().is_some_and(|close| !close.finished)
    }

    /// Whether a node that runs has to stop, because a close was finished in its present life; also when the others have
    /// started again without it since.
    pub fn is_closed_for(&self, replica: ReplicaId) -> bool {
        let node = self.nodes.get(&replica.node);
        node.is_some_and(|node| node.replica() == replica && node.closed)
    }

    /// Who has a group on disk for which nobody has offered it back yet.
    pub fn awaited(&self, group: GroupId) -> Option<&GroupHold> {
        let close = self.close.as_ref().filter(|close| close.finished)?;
        close.holds.get(&group).filter(|_| self.lost.contains(&group))
    }

    /// Why the cluster could not be closed, however long one waits. A takeover that is under way is no such reason.
    pub fn close_refusal(&self) -> Option<Failure> {
        match &self.close {
            Some(close) if close.finished => return Some(not_open_yet()),
            Some(_) => return None,
            None => {}
        }
        let draining = |state| matches!(state, NodeState::Draining { .. });
        if let Some(node) = self.nodes.values().find(|node| draining(node.state)) {
            let message = format!("node {} is being drained", node.name);
            return Some(Failure::new(ErrorCode::Conflict, message).help(format!(
                "wait for the drain, or take it back: `holo undrain {}`",
                node.name
            )));
        }
        if !self.lost.is_empty() {
            let message = format!("{} lost their data", Count::from(self.lost.len()).of("group"));
            return Some(
                Failure::new(ErrorCode::Conflict, message)
                    .help("decide about it first: `holo ring accept-loss --plan` names the arrays"),
            );
        }
        self.silent_copies_refusal()
    }

    /// What only nodes have that do not answer cannot be written down by anybody.
    fn silent_copies_refusal(&self) -> Option<Failure> {
        let is_silent = |config: &&GroupConfig| !config.in_sync.iter().any(|it| self.is_up(*it));
        let silent: Vec<&GroupConfig> = self.groups.values().filter(is_silent).collect();
        let groups = self.occupied(&silent.iter().map(|config| config.group).collect());
        let holders = silent.iter().filter(|config| groups.contains(&config.group));
        // A node that is up and of which a past life is in sync has just started, and reads back what that one left.
        let is_up = |it: &ReplicaId| self.nodes.get(&it.node).is_some_and(|node| node.up);
        let (reading, silent): (Vec<&GroupConfig>, Vec<&GroupConfig>) =
            holders.partition(|config| config.in_sync.iter().any(is_up));
        let groups = silent.iter().map(|config| config.group).collect();
        let holders: BTreeSet<NodeNumber> =
            silent.iter().flat_map(|config| &config.in_sync).map(|it| it.node).collect();
        let names: Vec<&str> =
            holders.iter().filter_map(|it| self.nodes.get(it)).map(|it| it.name.as_str()).collect();
        let Some(first) = names.first().copied() else {
            let message = "nodes that have just started still read back what they had on disk";
            return (!reading.is_empty()).then(|| {
                Failure::new(ErrorCode::NotReady, message)
                    .help("try again in a moment; `holo status` counts what is not back")
                    .retry_after_ms(500)
            });
        };
        let arrays = self.arrays_named(&groups);
        let (verb, has) = if names.len() == 1 { ("does", "has") } else { ("do", "have") };
        let names = names.join(", ");
        let message =
            format!("{names} {verb} not answer and {has} the last copy of parts of {arrays}");
        Some(Failure::new(ErrorCode::LastCopy, message).help(format!(
            "start {names} again with `holo agent --dir DIR`; `holo node evict {first} --accept-loss` gives up what never comes back"
        )))
    }

    pub(super) fn begin_close(&mut self, by: Authority) -> Result<Answer, Failure> {
        self.check_verb(by, Verb::Shutdown, CLUSTER)?;
        if self.is_closing() {
            return Ok(Answer::Done);
        }
        if let Some(refusal) = self.close_refusal() {
            return Err(refusal);
        }
        let occupied = self.occupied(&self.groups.keys().copied().collect());
        let unled = occupied.iter().filter_map(|group| self.groups.get(group));
        if let Some(config) = unled.into_iter().find(|config| !self.is_up(config.primary)) {
            let message = format!("nobody leads group {} at present", config.group);
            return Err(Failure::new(ErrorCode::NotReady, message)
                .help("try again in a moment; `holo status` shows which nodes are down")
                .retry_after_ms(500));
        }
        self.touch(Subject::Close);
        for group in &occupied {
            self.touch(Subject::Hold(*group));
        }
        let holds = occupied.into_iter().map(|group| (group, GroupHold::default())).collect();
        // Every command has a higher version than the one before.
        let id = CloseId(self.version + 1);
        self.close = Some(Close { id, since: self.now, finished: false, holds });
        Ok(Answer::Done)
    }

    pub(super) fn abort_close(&mut self, by: Authority) -> Result<Answer, Failure> {
        if self.check_voter(by).is_err() {
            self.check_verb(by, Verb::Shutdown, CLUSTER)?;
        }
        match &self.close {
            Some(close) if close.finished => {
                return Err(Failure::new(ErrorCode::Conflict, "the cluster is shut down already")
                    .help("start its nodes again"));
            }
            Some(_) => self.end_close(),
            None => {}
        }
        Ok(Answer::Done)
    }

    pub(super) fn hold(
        &mut self,
        by: Authority,
        id: CloseId,
        reporter: ReplicaId,
        holds: &[Held],
    ) -> Result<Answer, Failure> {
        self.check_holder(by, reporter, holds.len())?;
        let close = self.close.as_ref().filter(|close| close.id == id && !close.finished);
        let close = close.ok_or_else(|| stale("the close is not under way"))?;
        for held in holds {
            let (group, config) = (held.group, self.groups.get(&held.group));
            let known = close.holds.get(&group).zip(config);
            let (hold, config) =
                known.ok_or_else(|| stale(&format!("group {group} is not to be held")))?;
            if config.epoch != held.epoch || config.lost || !config.in_sync.contains(&reporter) {
                return Err(stale(&format!(
                    "{reporter} holds group {group} of epoch {}, it is in epoch {}",
                    held.epoch, config.epoch
                )));
            }
            if hold.epoch == Epoch(0) && config.primary != reporter {
                return Err(stale(&format!("the primary of group {group} has not held it yet")));
            }
            if hold.epoch != Epoch(0) && hold.seq != held.seq {
                return Err(stale(&format!(
                    "{reporter} holds group {group} up to {}, its primary up to {}",
                    held.seq.0, hold.seq.0
                )));
            }
        }
        for held in holds {
            self.touch(Subject::Hold(held.group));
            let holds = self.close.as_mut().map(|close| &mut close.holds);
            if let Some(hold) = holds.and_then(|holds| holds.get_mut(&held.group))
                && let Err(place) = hold.holders.binary_search(&reporter)
            {
                hold.holders.insert(place, reporter);
                hold.epoch = held.epoch;
                hold.seq = held.seq;
                hold.bytes = hold.bytes.saturating_add(held.bytes);
            }
        }
        Ok(Answer::Done)
    }

    pub(super) fn finish_close(&mut self, by: Authority, id: CloseId) -> Result<Answer, Failure> {
        self.check_voter(by)?;
        let close = self.close.as_ref().filter(|close| close.id == id);
        let close = close.ok_or_else(|| stale("the close is not under way"))?;
        if close.finished {
            return Ok(Answer::Done);
        }
        let whole = |(group, hold): (&GroupId, &GroupHold)| {
            self.groups.get(group).is_some_and(|config| hold.is_whole(config))
        };
        let missing = close.holds.iter().filter(|entry| !whole(*entry)).count();
        if missing > 0 {
            return Err(stale(&format!("{} not on disk yet", Count::from(missing).of("group"))));
        }
        if let Some(close) = &mut self.close {
            close.finished = true;
        }
        self.touch(Subject::Close);
        // Nobody holds anything: the processes end, and their memory with them.
        let left: Vec<GroupConfig> =
            self.groups.values().filter(|config| !config.lost).cloned().collect();
        for config in left {
            let epoch = Epoch(config.epoch.0 + 1);
            self.put_group(GroupConfig { epoch, learners: Vec::new(), lost: true, ..config });
        }
        let living: Vec<NodeNumber> = self
            .nodes
            .values()
            .filter(|node| node.state.is_living() && node.incarnation.0 > 0)
            .map(|node| node.number)
            .collect();
        for number in living {
            let now = self.now;
            if let Some(node) = self.nodes.get_mut(&number) {
                node.closed = true;
                node.up = false;
                node.up_changed = now;
            }
            self.touch(Subject::Node(number));
        }
        self.sessions_expired_below = self.next_session;
        self.touch(Subject::Sessions);
        Ok(Answer::Done)
    }

    pub(super) fn reopen(
        &mut self,
        by: Authority,
        id: CloseId,
        reporter: ReplicaId,
        holds: &[Held],
    ) -> Result<Answer, Failure> {
        self.check_holder(by, reporter, holds.len())?;
        let close = self.close.as_ref().filter(|close| close.id == id && close.finished);
        let close = close.ok_or_else(|| stale("what was held is of no use any more"))?;
        if self.is_closed_for(reporter) {
            return Err(stale("this process was there before the cluster was closed"));
        }
        if self.nodes.get(&reporter.node).is_none_or(|node| !node.state.may_hold()) {
            let message = format!("node {} takes nothing new", reporter.node);
            return Err(Failure::new(ErrorCode::Conflict, message)
                .help(format!("undrain it: `holo undrain {}`", reporter.node)));
        }
        for held in holds {
            // Settled, or given up.
            let Some(hold) = close.holds.get(&held.group) else { continue };
            let same = (hold.epoch, hold.seq) == (held.epoch, held.seq);
            if !same || !hold.is_held_by(reporter.node) {
                return Err(stale(&format!(
                    "group {} was closed in epoch {} after operation {}; node {} offers epoch {}, operation {}",
                    held.group, hold.epoch, hold.seq.0, reporter.node, held.epoch, held.seq.0
                )));
            }
        }
        for held in holds {
            let config = self.awaited(held.group).and_then(|_| self.groups.get(&held.group));
            let Some(config) = config.filter(|config| config.epoch == held.at) else { continue };
            let next = GroupConfig {
                group: held.group,
                epoch: Epoch(config.epoch.0 + 1),
                primary: reporter,
                in_sync: vec![reporter],
                learners: Vec::new(),
                lost: false,
            };
            self.put_group(next);
        }
        Ok(Answer::Done)
    }

    pub(super) fn settle(
        &mut self,
        by: Authority,
        id: CloseId,
        groups: &[GroupId],
    ) -> Result<Answer, Failure> {
        self.check_voter(by)?;
        if groups.len() > limits::PROPOSALS_MAX {
            return Err(Failure::new(ErrorCode::TooLarge, format!("{} groups", groups.len())));
        }
        if self.close.as_ref().is_none_or(|close| close.id != id || !close.finished) {
            return Err(stale("there is nothing to settle"));
        }
        // Nor is it back when only past lives have it: as long as none goes on, what was written down may be all there is.
        let is_here = |config: &GroupConfig| config.in_sync.iter().any(|it| self.is_current(*it));
        let is_back = |group: &GroupId| {
            self.awaited(*group).is_none() && self.groups.get(group).is_none_or(is_here)
        };
        if let Some(group) = groups.iter().find(|group| !is_back(group)) {
            return Err(stale(&format!("group {group} is not offered back yet")));
        }
        for group in groups {
            self.forget_hold(*group);
        }
        self.open_if_settled();
        Ok(Answer::Done)
    }

    /// A config has changed: what was held of the group before counts no more.
    pub(super) fn void_hold(&mut self, group: GroupId) {
        let Some(close) = self.close.as_mut().filter(|close| !close.finished) else { return };
        if let Some(hold) = close.holds.get_mut(&group)
            && *hold != GroupHold::default()
        {
            *hold = GroupHold::default();
            self.touch(Subject::Hold(group));
        }
    }

    /// Nobody offers back what was held of a group from now on.
    pub(super) fn forget_hold(&mut self, group: GroupId) {
        let Some(close) = self.close.as_mut().filter(|close| close.finished) else { return };
        if close.holds.remove(&group).is_some() {
            self.touch(Subject::Hold(group));
        }
    }

    /// A node has left the cluster, with what it has on disk. What only it had is given up.
    pub(super) fn forget_holder(&mut self, node: NodeNumber) {
        let Some(close) = self.close.as_mut().filter(|close| close.finished) else { return };
        let mut gone = BTreeSet::new();
        let mut touched = Vec::new();
        for (group, hold) in &mut close.holds {
            let before = hold.holders.len();
            hold.holders.retain(|holder| holder.node != node);
            if hold.holders.len() < before {
                touched.push(*group);
            }
            if hold.holders.is_empty() {
                gone.insert(*group);
            }
        }
        for group in touched {
            self.touch(Subject::Hold(group));
        }
        self.reset_lost(&gone);
        // What somebody had offered back goes on without them.
        for group in gone.difference(&self.lost.clone()) {
            self.forget_hold(*group);
        }
    }

    /// Whether what was written down of a group is its data still.
    pub(super) fn is_held(&self, group: GroupId) -> bool {
        let close = self.close.as_ref().filter(|close| close.finished);
        close.and_then(|close| close.holds.get(&group)).is_some_and(|hold| !hold.holders.is_empty())
    }

    /// Groups that nobody has offered back and that no other node has on disk.
    pub(super) fn only_held_by(&self, node: NodeNumber) -> Vec<GroupId> {
        let holds = self.close.iter().filter(|close| close.finished).flat_map(|close| &close.holds);
        let alone = |(group, hold): &(&GroupId, &GroupHold)| {
            self.lost.contains(group) && hold.holders.iter().all(|holder| holder.node == node)
        };
        holds.filter(alone).map(|(group, _)| *group).collect()
    }

    /// Lost groups without data, which all are after a close, start as soon as there is a node for them.
    pub(super) fn start_empty_groups(&mut self) {
        if !self.lost.is_empty() {
            for class in self.classes() {
                self.reset_empty_lost(class);
            }
        }
    }

    /// Opens the cluster when nothing is left to be offered back or settled.
    pub(super) fn open_if_settled(&mut self) {
        let settled =
            self.close.as_ref().is_some_and(|close| close.finished && close.holds.is_empty());
        let started = self.nodes.keys().any(|number| self.ready(*number).is_some());
        if settled && started {
            self.start_empty_groups();
            self.end_close();
        }
    }

    pub(super) fn refuse_while_closing(&self) -> Result<(), Failure> {
        if self.is_closing() {
            return Err(Failure::new(ErrorCode::ShuttingDown, "the cluster is being shut down")
                .help("try again when it runs again")
                .retry_after_ms(1000));
        }
        Ok(())
    }

    pub(super) fn check_close(&self) -> Result<(), Failure> {
        let Some(close) = &self.close else { return Ok(()) };
        ensure(close.id != CloseId::default(), "the number of a close")?;
        for (group, hold) in &close.holds {
            let config = self.groups.get(group);
            let ascending = hold.holders.windows(2).all(|pair| pair[0] < pair[1]);
            let known = hold.holders.iter().all(|it| self.nodes.contains_key(&it.node));
            let sound = match config {
                None => false,
                // A holder can be put out, and what only it had be given up when somebody is there to start it anew.
                Some(config) if close.finished => hold.epoch.0 > 0 && hold.epoch < config.epoch,
                Some(config) => {
                    let all_in_sync = hold.holders.iter().all(|it| config.in_sync.contains(it));
                    let nobody = hold.epoch == Epoch(0) && hold.holders.is_empty();
                    nobody || (hold.epoch == config.epoch && all_in_sync)
                }
            };
            ensure(ascending && known && sound, "who holds a group")?;
        }
        Ok(())
    }

    fn check_holder(
        &self,
        by: Authority,
        reporter: ReplicaId,
        holds: usize,
    ) -> Result<(), Failure> {
        self.check_itself(by, reporter.node)?;
        if !self.is_current(reporter) {
            return Err(crate::catalog::admission::past_life(reporter.node));
        }
        if holds > limits::PROPOSALS_MAX {
            let message = format!("{holds} groups, at most {}", limits::PROPOSALS_MAX);
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        Ok(())
    }

    fn end_close(&mut self) {
        if let Some(close) = self.close.take() {
            self.touch(Subject::Close);
            for group in close.holds.keys() {
                self.touch(Subject::Hold(*group));
            }
        }
    }
}

fn stale(why: &str) -> Failure {
    Failure::new(ErrorCode::Conflict, why)
}

fn not_open_yet() -> Failure {
    let message = "the cluster was shut down, and not everything is back yet";
    Failure::new(ErrorCode::Conflict, message)
        .help("`holo status` says what it waits for; or stop it at once with --now")
}
