//! The invariants that need a look at several nodes, and what is demanded once faults are over.

use holo_core::group::Seq;
use holo_core::replication::{ReplicaId, Role};

use super::{Forever, LOOK_EVERY, World};
use crate::brief;
use crate::client::Client;
use crate::env::{Acknowledged, node_index, number_index};
use crate::history::Element;
use crate::network::{MILLISECOND, SECOND};
use crate::node::Node;
use crate::packet::Event;
use crate::queue::Time;
use crate::watch::Invariant;

/// How soon after the faults every living group must have had an active primary.
const PRIMARY_WITHIN: Time = 3_500 * MILLISECOND;
/// How soon after the faults everything must be repaired and answered.
const REPAIRED_WITHIN: Time = 20 * SECOND;
/// How long a run with timers below the recommendation goes on after the faults: nothing is demanded of it then.
const UNDEMANDED: Time = 3 * SECOND;
impl World {
    /// Looks at what the last event touched, on the node that it happened to or, for the catalog's, on all.
    pub(super) fn check(&mut self, stepped: Option<usize>) {
        self.check_close();
        let touched = std::mem::take(&mut self.env.touched);
        for group in (0..self.env.groups.len()).filter(|group| touched >> group & 1 == 1) {
            let before = self.env.watch.commit(group);
            let place = stepped.and_then(|node| self.place(node, group));
            if let (Some(node), Some((true, _, commit))) = (stepped, place)
                && let Some(life) = self.nodes[node].life_mut()
            {
                life.look_at_commit(&mut self.env, group, commit);
            }
            let commit = self.env.watch.commit(group);
            if commit > before {
                let copies = self.copies(group, commit);
                self.env.watch.committed_with(group, commit, copies);
            }
            if stepped.is_none() || commit > before {
                for node in 0..self.nodes.len() {
                    self.check_in_sync(node, group, self.place(node, group));
                }
            } else if let Some(node) = stepped {
                self.check_in_sync(node, group, place);
            }
        }
        while let Some(acknowledged) = self.env.acknowledged.pop() {
            self.check_copies(acknowledged);
        }
    }

    /// How far a group is on a node: whether there is a state, what is held, what is committed.
    fn place(&self, node: usize, group: usize) -> Option<(bool, Seq, Seq)> {
        self.nodes[node].life()?.host().place_for_testing_only(self.env.groups[group])
    }

    /// I4 of one node, with how far the group is there.
    fn check_in_sync(&mut self, node: usize, group: usize, place: Option<(bool, Seq, Seq)>) {
        let Some(life) = self.nodes[node].life() else { return };
        let (me, config) = (life.me(), self.catalog.config(group));
        let commit = self.env.watch.commit(group);
        if config.lost || commit == Seq(0) || !config.in_sync.contains(&me) {
            return;
        }
        let holds = place.filter(|(has_base, ..)| *has_base).map(|(_, held, _)| held);
        // What it goes on from, when it has not heard yet that it may.
        let holds = holds.max(life.inherits(group));
        if holds.is_none_or(|last| last < commit) {
            let epoch = config.epoch;
            self.env.watch.broken(self.env.now, Invariant::I4InSyncHolds, || {
                format!(
                    "group {group}: {me} is in sync in epoch {} and holds {holds:?} of {commit:?}",
                    epoch.0
                )
            });
        }
    }

    /// I8: copies when it was committed or, where a primary took over alone, when it was acknowledged.
    fn check_copies(&mut self, acknowledged: Acknowledged) {
        let Acknowledged { group, seq } = acknowledged;
        let wanted = usize::from(self.env.groups[group].class.min_in_sync);
        let copies = self.env.watch.copies_of(group, seq).max(self.copies(group, seq));
        if copies < wanted {
            self.env.watch.broken(self.env.now, Invariant::I8Copies, || {
                let seq = seq.0;
                format!("group {group}: number {seq} is acknowledged and has {copies} of {wanted} copies")
            });
        }
    }

    /// How many replicas, dead ones included, hold a number.
    fn copies(&self, group: usize, seq: Seq) -> usize {
        let id = self.env.groups[group];
        let living = self.nodes.iter().filter_map(Node::life).filter(|life| {
            if life.is_past(&self.env, group) {
                return false;
            }
            let place = life.host().place_for_testing_only(id);
            place.is_some_and(|(has_base, held, _)| has_base && held >= seq)
        });
        let dead = self.graveyard.iter().filter(|it| it.group == group && it.last >= seq);
        living.count() + dead.count()
    }

    /// Whether the group can serve at all: some in-sync replica lives.
    pub(crate) fn is_alive(&self, group: usize) -> bool {
        let config = self.catalog.config(group);
        !config.lost && config.in_sync.iter().any(|member| self.lives(*member))
    }

    /// Whether a replica's process runs.
    pub(crate) fn lives(&self, replica: ReplicaId) -> bool {
        let node = self.nodes.get(node_index(replica));
        node.and_then(Node::life).is_some_and(|life| life.me() == replica)
    }

    /// Whether the group has an active primary in the newest epoch.
    fn is_served(&self, group: usize) -> bool {
        let config = self.catalog.config(group);
        let life = self.nodes.get(node_index(config.primary)).and_then(Node::life);
        let Some(life) = life.filter(|life| life.me() == config.primary) else { return false };
        let store = life.store(group);
        // Who leads on does not stop to read before it hears of its next epoch, however late that is.
        let is_late = self.env.news_lag(node_index(config.primary)) > 0;
        store.role == Role::Primary
            && (store.gate.epoch == config.epoch || is_late)
            && life.may_read(&self.env, group)
    }

    /// For how long at most a group may be without a primary that reads, after the faults: a node that never comes back
    /// may have to be noticed by the catalog first.
    fn primary_within(&self) -> Time {
        let scenario = &self.env.scenario;
        let gone = self.down.iter().filter(|down| **down == Some(Forever(true))).count();
        let noticed = if gone > 0 { scenario.catalog.down_after + SECOND } else { 0 };
        let heirs = scenario.stops_per_mille > 0 || scenario.reboot.is_some();
        PRIMARY_WITHIN + noticed + scenario.residue.delay(gone, heirs, &scenario.constants)
    }

    /// Whether reads may be demanded: where a member cannot be let go, they wait for its promise, and who hears nothing does
    /// not even know what is asked of it.
    fn must_serve(&self, group: usize) -> bool {
        let (config, residue) = (self.catalog.config(group), &self.env.scenario.residue);
        let is_deaf =
            |member: &ReplicaId| residue.deaf.is_some_and(|deaf| deaf.node == node_index(*member));
        let mut living = config.in_sync.iter().filter(|member| self.lives(**member));
        if !self.env.is_well() && living.all(is_deaf) {
            return false;
        }
        let may_shrink = config.in_sync.len() > usize::from(config.group.class.min_in_sync);
        let is_hindered = residue.lame.is_some() || residue.deaf.is_some();
        may_shrink || config.in_sync.len() == 1 || !is_hindered
    }

    /// Whether the table wants enough holders for writes, and all of them run.
    fn is_repairable(&self, group: usize) -> bool {
        let id = self.env.groups[group];
        let targets = self.catalog.targets(id);
        targets.len() >= usize::from(id.class.min_in_sync)
            && targets
                .iter()
                .all(|number| self.nodes.get(number_index(*number)).is_some_and(Node::is_running))
    }

    /// Why the group is not as the table wants it; `None` when it is.
    fn lacks(&self, group: usize) -> Option<String> {
        let config = self.catalog.config(group);
        let targets = self.catalog.targets(self.env.groups[group]);
        let as_wanted = config.learners.is_empty()
            && config.in_sync.len() == targets.len()
            && targets.first() == Some(&config.primary.node)
            && config.in_sync.iter().all(|member| targets.contains(&member.node));
        if !as_wanted {
            let wanted: Vec<u32> = targets.iter().map(|number| number.0).collect();
            return Some(format!("group {group}: wanted {wanted:?}, is {}", brief::Config(config)));
        }
        let commit = self.env.watch.commit(group);
        for member in &config.in_sync {
            let life = self.nodes.get(node_index(*member)).and_then(Node::life);
            let summary = life.and_then(|life| life.host().group_summary(self.env.groups[group]));
            if summary.is_none_or(|summary| summary.applied < commit) {
                return Some(format!("group {group}: {member} has not applied {commit:?}"));
            }
        }
        for life in self.nodes.iter().filter_map(Node::life) {
            if let Some(call) = life.unanswered(group) {
                return Some(format!("group {group}: {} owes an answer to call {call}", life.me()));
            }
        }
        (!self.is_served(group))
            .then(|| format!("group {group}: {} does not serve", config.primary))
    }

    /// Looks at a healed cluster: whether all is well, or should be by now.
    pub(super) fn look(&mut self) {
        if self.env.is_well() {
            self.env.network.mend();
        }
        let closing = self.look_at_close();
        let since = self.env.now.saturating_sub(self.env.scenario.heal_at.max(self.closing_at));
        let groups: Vec<usize> = (0..self.env.groups.len())
            .filter(|it| self.is_alive(*it) || self.comes_back(*it))
            .collect();
        let (now, demanded) = (self.env.now, self.env.scenario.constants.sane);
        let within = self.primary_within();
        for group in &groups {
            if closing || self.is_served(*group) || !self.must_serve(*group) {
                self.served_at[*group] = Some(now);
            }
            let last = self.served_at[*group].unwrap_or(self.env.scenario.heal_at);
            if demanded && now.saturating_sub(last) > within {
                let config = self.catalog.config(*group).clone();
                self.env.watch.broken(now, Invariant::L1Primary, || {
                    format!("group {group} has no primary that reads: {}", brief::Config(&config))
                });
            }
        }
        let repairable: Vec<usize> =
            groups.iter().filter(|it| self.is_repairable(**it)).copied().collect();
        for client in &mut self.clients {
            // Whether nodes that are gone for good are planned around shows only after a while.
            let given = if since > REPAIRED_WITHIN / 2 { &repairable } else { &groups };
            client.forget_lost(|group| !given.contains(&group));
        }
        let lack = repairable.iter().find_map(|group| self.lacks(*group));
        let done = self.clients.iter().all(Client::is_done);
        if closing {
            // Nothing is demanded before the cluster is whole again.
        } else if lack.is_none() && done && self.has_last_looks {
            self.is_over = true;
        } else if lack.is_none() && done {
            self.has_last_looks = true;
            let elements = self.env.scenario.elements;
            let all = repairable
                .iter()
                .flat_map(|group| (0..elements).map(|index| Element { group: *group, index }));
            let all = all.collect();
            self.clients[0].take_last_looks(&mut self.env, all);
        } else if since > REPAIRED_WITHIN + self.env.residue_lasts() && demanded {
            let waiting: Vec<usize> =
                self.clients.iter().flat_map(Client::pending_groups).collect();
            self.env.watch.broken(now, Invariant::L2Repaired, || {
                lack.unwrap_or_else(|| format!("clients still wait for groups {waiting:?}"))
            });
        } else if since > UNDEMANDED && !demanded {
            self.is_over = true;
        }
        self.env.queue.push(now + LOOK_EVERY, Event::Look);
    }

    /// What is judged at the end: values of replicas, and the histories.
    pub(super) fn judge(&mut self) {
        if self.env.watch.violation().is_some() {
            return;
        }
        let now = self.env.now;
        for group in 0..self.env.groups.len() {
            for life in self.nodes.iter().filter_map(Node::life) {
                let (me, store) = (life.me(), life.store(group));
                let in_sync =
                    self.catalog.config(group).in_sync.contains(&me) && store.role != Role::Empty;
                let expected = self.env.watch.state_at(group, store.applied);
                if in_sync && store.applied > Seq(0) && expected != store.digest() {
                    self.env.watch.broken(now, Invariant::I3SamePrefix, || {
                        format!("group {group}: {me} ends with other values")
                    });
                }
            }
        }
        if let Some(element) = self.env.history.check() {
            let calls = self.env.history.calls(element).to_vec();
            for call in calls {
                self.env.trace.say(call.invoked, || format!("{element:?} {call:?}"));
            }
            self.env.watch.broken(now, Invariant::I1Linearizable, || {
                format!("element {} of group {}", element.index, element.group)
            });
        }
    }
}
