//! The stop of the whole cluster and its start: the operator, processes that end, and what must be true of the disks.

use super::{Forever, LOOK_EVERY, World};
use crate::disk::FileName;
use crate::env::{HeldGroup, node_index};
use crate::network::{MILLISECOND, SECOND};
use crate::node::Node;
use crate::packet::Event;
use crate::queue::Time;
use crate::store;
use crate::watch::Invariant;

/// How long after the faults the operator goes on asking for a close that is refused.
const ASKED_FOR: Time = 3 * SECOND;
/// How soon a close must be finished and undone again, from the end of the faults.
const REOPENED_WITHIN: Time = 30 * SECOND;

impl World {
    /// The operator stops the cluster, takes that back, or asks again.
    pub(super) fn operate(&mut self) {
        let Some(closing) = self.env.scenario.closing else { return };
        let (now, is_over) = (self.env.now, self.env.scenario.heal_at + ASKED_FOR);
        match self.catalog.close().map(|close| close.finished) {
            None if now > is_over => self.wants_close = false,
            None => {
                let mut again = now + 150 * MILLISECOND;
                if self.catalog.ask_to_close(&mut self.env, false) {
                    self.wants_close = false;
                    let Some(after) = closing.cancel_after.filter(|_| !self.env.healed) else {
                        return;
                    };
                    again = now + after;
                }
                self.env.queue.push(again, Event::Close);
            }
            Some(false) => {
                if self.catalog.ask_to_close(&mut self.env, true) {
                    self.wants_close = true;
                    let again = now + self.rng.between(200, 800) * MILLISECOND;
                    self.env.queue.push(again, Event::Close);
                }
            }
            Some(true) => {}
        }
    }

    /// A process has ended because the cluster is closed; somebody starts it again, or not.
    pub(super) fn switch_off(&mut self, node: usize) {
        let Some(closing) = self.env.scenario.closing else { return };
        self.env.say(|| format!("node {} stops", node + 1));
        self.end(node);
        let gone = closing.gone == Some(node);
        self.down[node] = Some(Forever(gone));
        if !gone {
            let (low, high) = closing.away;
            let at = self.env.now + self.rng.between(low, high);
            self.env.queue.push(at, Event::Start { node });
        }
    }

    /// Whether what a group was closed with is its data still.
    pub(crate) fn is_on_disk(&self, group: usize) -> bool {
        let close = self.catalog.close().filter(|close| close.finished);
        close.is_some_and(|close| close.holds.contains_key(&self.env.groups[group]))
    }

    /// Whether a group waits for a node that is there, or will be, and has it whole on disk.
    pub(super) fn comes_back(&self, group: usize) -> bool {
        if self.is_inherited(group) {
            return true;
        }
        let Some(close) = self.catalog.close() else { return false };
        let Some(hold) = self.catalog.awaited(self.env.groups[group]) else { return false };
        let (close, epoch, seq) = (close.id, hold.epoch, hold.seq);
        let name = FileName { group, close, epoch, seq };
        hold.holders.iter().any(|holder| {
            let index = node_index(*holder);
            let is_gone = self.down[index] == Some(Forever(true)) || self.catalog.is_drained(index);
            self.nodes.get(index).is_some_and(|node| {
                let refused = node.life().is_some_and(|life| life.finds_unreadable(group));
                !is_gone && !refused && node.disk().read(name).is_some()
            })
        })
    }

    /// Whether a group goes on once a node that is there, or will be, has read what its earlier life left of it.
    fn is_inherited(&self, group: usize) -> bool {
        let config = self.catalog.config(group);
        let left = config.in_sync.iter().any(|member| {
            let node = node_index(*member);
            let is_gone = self.down[node] == Some(Forever(true));
            !is_gone
                && self.nodes.get(node).is_some_and(|it| it.has_left(group, member.incarnation))
        });
        left && !config.lost
    }

    /// Whether the cluster is about to stop, or comes back; says when that takes too long.
    pub(super) fn look_at_close(&mut self) -> bool {
        let (now, demanded) = (self.env.now, self.env.scenario.constants.sane);
        let is_under_way = match self.catalog.close() {
            None => self.wants_close,
            Some(close) if !close.finished => true,
            Some(close) => close.holds.keys().any(|id| {
                let group = self.env.groups.iter().position(|known| known == id);
                group.is_some_and(|group| self.is_alive(group) || self.comes_back(group))
            }),
        };
        if !is_under_way {
            return false;
        }
        let lasts = now.saturating_sub(self.env.scenario.heal_at);
        if lasts > REOPENED_WITHIN + self.env.residue_lasts() {
            // What nobody has any more, and nobody gives up, keeps the cluster from stopping for ever.
            let can_end = (0..self.env.groups.len()).all(|group| {
                self.is_alive(group) || self.is_on_disk(group) || self.comes_back(group)
            });
            if !can_end {
                self.is_over = true;
            } else if demanded {
                let close = format!("{:?}", self.catalog.close());
                self.env.watch.broken(now, Invariant::L2Repaired, || {
                    format!("the cluster does not stop, or does not come back: {close}")
                });
            }
            return false;
        }
        self.closing_at = now + LOOK_EVERY;
        true
    }

    /// I9 when a close is finished, I11 when a group is lost; and forgets what replicas held of a log that is no more.
    pub(super) fn check_close(&mut self) {
        while let Some((group, in_sync)) = self.env.given_up.pop() {
            let left_by = in_sync.into_iter().find(|member| {
                let node = self.nodes.get(node_index(*member));
                node.is_some_and(|node| node.has_left(group, member.incarnation))
            });
            if let Some(left_by) = left_by.filter(|_| !self.is_on_disk(group)) {
                self.env.watch.broken(self.env.now, Invariant::I11Inherited, || {
                    format!("group {group} is lost, and {left_by} has left it on its disk")
                });
            }
        }
        while let Some(group) = self.env.reopened.pop() {
            self.graveyard.retain(|buried| buried.group != group);
        }
        while let Some(HeldGroup { group, close, hold }) = self.env.held.pop() {
            let name = FileName { group, close, epoch: hold.epoch, seq: hold.seq };
            let base = self.env.watch.base(group);
            for holder in hold.holders {
                let file = self
                    .nodes
                    .get(node_index(holder))
                    .map(Node::disk)
                    .and_then(|disk| disk.synced(name));
                if file.map(store::digest) != Some(base) {
                    self.env.watch.broken(self.env.now, Invariant::I9Held, || {
                        format!("group {group}: {holder} does not have {name:?} on disk as it was")
                    });
                }
            }
        }
    }
}
