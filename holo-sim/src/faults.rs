//! What goes wrong, one fault after the other, as the scenario's mix draws them.

use holo_core::replication::{ReplicaId, SessionId};

use crate::env::{node_index, node_number};
use crate::forger;
use crate::network::{End, MILLISECOND, NODES_MAX};
use crate::packet::Event;
use crate::queue::Time;
use crate::scenario::{Deaf, Fault, Flavor, Hears, Reboot};
use crate::world::{Buried, Forever, World};

/// Nodes that may be down at once.
const DOWN_MAX: usize = 2;

impl World {
    /// Lets one fault happen.
    pub(crate) fn strike(&mut self) {
        let weights = &self.env.scenario.faults.weights;
        let total: u32 = weights.iter().map(|(_, weight)| weight).sum();
        let mut draw = self.rng.below(u64::from(total));
        let chosen = weights.iter().find(|(_, weight)| {
            let hit = draw < u64::from(*weight);
            draw = draw.wrapping_sub(u64::from(*weight));
            hit
        });
        let Some((fault, _)) = chosen.copied() else { return };
        self.env.say(|| format!("fault: {fault:?}"));
        match fault {
            Fault::Crash => self.crash_one(),
            Fault::Isolate => self.isolate(),
            Fault::Split => self.split(),
            Fault::OneWay => self.cut_one_way(),
            Fault::CatalogCut => self.cut_catalog(),
            Fault::CatalogGap => {
                self.catalog.elect(self.env.now + self.rng.between(50, 900) * MILLISECOND);
            }
            Fault::Pause => self.pause(),
            Fault::Clog => self.clog(),
            Fault::Full => self.fill(),
            Fault::Drain => self.drain(),
            Fault::Rotate => self.catalog.rotate(&mut self.env),
            Fault::Lead => self.catalog.lead(&mut self.env),
            Fault::Join => self.join(),
            Fault::ZoneLoss => self.lose_zone(),
            Fault::Forge => forger::forge(self),
            Fault::Expire => self.expire(),
            Fault::Mend => self.env.network.mend(),
        }
    }

    /// A node of the group that something is done to: often its primary.
    fn victim(&mut self) -> usize {
        if self.rng.chance(600) {
            let group = self.rng.index(self.catalog.groups());
            node_index(self.catalog.config(group).primary)
        } else {
            self.rng.index(self.joined)
        }
    }

    fn crash_one(&mut self) {
        let node = self.victim();
        let fatal = self.rng.chance(self.env.scenario.faults.fatal_per_mille);
        self.crash(node, fatal);
    }

    /// Ends a node's process, unless that would take a group's last in-sync copy and `fatal` does not allow it.
    pub(crate) fn crash(&mut self, node: usize, fatal: bool) {
        let down = self.down.iter().flatten().count();
        if !self.nodes[node].is_running() || down >= DOWN_MAX.min(self.joined - 1) {
            return;
        }
        let stops = self.stops.chance(self.env.scenario.stops_per_mille);
        let has_time = !self.stops.chance(150);
        let leaves_all = stops && has_time;
        if !fatal && !leaves_all && self.holds_a_last_copy(node) {
            return;
        }
        let faults = &self.env.scenario.faults;
        let ((low, high), forever) = (faults.away, faults.forever_per_mille);
        let forever = self.rng.chance(forever);
        if stops {
            let draws = &mut self.stops;
            self.nodes[node].leave(&self.env, || has_time || draws.chance(600));
        }
        let how = if stops { "stops" } else { "crashes" };
        let until = if forever { " for good" } else { "" };
        self.env.say(|| format!("node {} {how}{until}", node + 1));
        self.end(node);
        self.down[node] = Some(Forever(forever));
        if !forever {
            let mut away = self.rng.between(low, high.max(low));
            // Whoever starts again before its promises have passed has to remember that it gave some.
            if stops && self.stops.chance(500) {
                away = away.min(self.stops.between(1, 60) * MILLISECOND);
            }
            self.env.queue.push(self.env.now + away, Event::Start { node });
        }
    }

    /// All machines are told to stop within a moment, as when a rack is rebooted; one of them may not come back.
    pub(crate) fn reboot(&mut self) {
        let Some(Reboot { gone, away: (low, high), .. }) = self.env.scenario.reboot else { return };
        self.env.say(|| "all machines stop".to_owned());
        for node in 0..self.joined {
            let at = self.env.now + self.stops.below(60 * MILLISECOND);
            let away = (gone != Some(node)).then(|| self.stops.between(low, high));
            self.env.queue.push(at, Event::Stop { node, away });
        }
    }

    /// A process is told to stop, with time for all that it has to write down.
    pub(crate) fn stop(&mut self, node: usize, away: Option<Time>) {
        if !self.nodes[node].is_running() || self.env.healed {
            return;
        }
        self.env.say(|| format!("node {} stops", node + 1));
        self.nodes[node].leave(&self.env, || true);
        self.end(node);
        self.down[node] = Some(Forever(away.is_none()));
        if let Some(away) = away {
            self.env.queue.push(self.env.now + away, Event::Start { node });
        }
    }

    /// The catalog loses sight of a primary that goes on, and a backup of it is told to stop and is back at once: before
    /// its promises have passed, by which the primary reads.
    fn tempt_heir(&mut self) {
        let group = self.stops.index(self.catalog.groups());
        let config = self.catalog.config(group).clone();
        let mut backups = config.in_sync.iter().filter(|member| **member != config.primary);
        let (Some(backup), false) = (backups.next(), config.lost) else { return };
        let (primary, heir) = (node_index(config.primary), node_index(*backup));
        self.env.network.mend();
        self.env.network.cut_both(End::Node(primary), End::Catalog);
        let unseen =
            self.env.scenario.catalog.down_after + self.stops.between(100, 400) * MILLISECOND;
        let away = Some(self.stops.between(1, 20) * MILLISECOND);
        self.env.queue.push(self.env.now + unseen, Event::Stop { node: heir, away });
        self.env
            .say(|| format!("node {} will stop, node {} is out of sight", heir + 1, primary + 1));
    }

    /// At times a handover goes wrong: the new primary dies at once, and the old one has not heard of its time.
    pub(crate) fn disturb_handover(&mut self) {
        let Some((old, new)) = self.env.handed_over.take() else { return };
        let storms = self.env.scenario.flavor == Flavor::Handovers && !self.env.healed;
        if storms && self.rng.chance(250) {
            let until = self.env.now + self.rng.between(50, 400) * MILLISECOND;
            self.env.network.deafen(End::Node(old), until);
            let at = self.env.now + self.rng.between(2, 60) * MILLISECOND;
            self.env.queue.push(at, Event::Crash { node: new });
            self.env.say(|| format!("node {} hears nothing, node {} will die", old + 1, new + 1));
        }
    }

    /// Ends a node's process with all that it holds.
    pub(crate) fn end(&mut self, node: usize) {
        if let Some(life) = self.nodes[node].crash(&mut self.env) {
            let groups = self.env.groups.iter().enumerate();
            let held = groups.filter(|(group, _)| !life.is_past(&self.env, *group));
            let held = held.filter_map(|(group, id)| {
                let summary = life.host().group_summary(*id)?;
                Some(Buried { group, last: summary.held })
            });
            self.graveyard.extend(held);
        }
    }

    fn holds_a_last_copy(&self, node: usize) -> bool {
        (0..self.catalog.groups()).any(|group| {
            let config = self.catalog.config(group);
            if self.is_on_disk(group) {
                return false;
            }
            let is_here = |member: &ReplicaId| node_index(*member) == node;
            config.in_sync.iter().any(is_here)
                && !config.in_sync.iter().any(|member| !is_here(member) && self.lives(*member))
        })
    }

    /// Cuts a node off from all others, and from some clients and perhaps the catalog.
    fn isolate(&mut self) {
        self.env.network.mend();
        let node = self.victim();
        for other in 0..self.joined {
            if other != node {
                self.env.network.cut_both(End::Node(node), End::Node(other));
            }
        }
        if self.rng.chance(600) {
            self.env.network.cut_both(End::Node(node), End::Catalog);
        }
        for client in 0..self.clients.len() {
            // The client that stays with the cut-off node is who would read what is old.
            if self.rng.chance(300) {
                for other in 0..self.joined {
                    if other != node {
                        self.env.network.cut_both(End::Client(client), End::Node(other));
                    }
                }
            } else if self.rng.chance(500) {
                self.env.network.cut_both(End::Client(client), End::Node(node));
            }
        }
        self.env.say(|| format!("node {} is cut off", node + 1));
    }

    fn split(&mut self) {
        self.env.network.mend();
        let side: Vec<bool> = (0..self.joined).map(|_| self.rng.chance(500)).collect();
        let catalog = self.rng.chance(500);
        for a in 0..self.joined {
            for b in 0..a {
                if side[a] != side[b] {
                    self.env.network.cut_both(End::Node(a), End::Node(b));
                }
            }
            if side[a] != catalog {
                self.env.network.cut_both(End::Node(a), End::Catalog);
            }
            for client in 0..self.clients.len() {
                if self.rng.chance(250) {
                    self.env.network.cut_both(End::Client(client), End::Node(a));
                }
            }
        }
        self.env.say(|| format!("split {side:?}, catalog {catalog}"));
    }

    fn cut_one_way(&mut self) {
        let (a, b) = (self.victim(), self.rng.index(self.joined));
        let (from, to) = if self.rng.chance(500) { (a, b) } else { (b, a) };
        self.env.network.cut(End::Node(from), End::Node(to));
        self.env.say(|| format!("node {} no longer reaches node {}", from + 1, to + 1));
    }

    fn cut_catalog(&mut self) {
        if self.env.scenario.stops_per_mille > 0 && self.stops.chance(400) {
            return self.tempt_heir();
        }
        let all = self.rng.chance(400);
        for node in 0..self.joined {
            if all || self.rng.chance(500) {
                self.env.network.cut_both(End::Node(node), End::Catalog);
            }
        }
    }

    fn pause(&mut self) {
        let node = self.victim();
        let (low, high) = self.env.scenario.faults.pause;
        self.nodes[node].paused_until = self.env.now + self.rng.between(low, high.max(low));
        self.env.say(|| format!("node {} stands still", node + 1));
    }

    fn clog(&mut self) {
        let (from, to) = (self.victim(), self.rng.index(self.joined));
        let until = self.env.now + self.rng.between(50, 1_500) * MILLISECOND;
        self.env.network.clog(End::Node(from), End::Node(to), until);
        self.env.say(|| format!("node {} -> node {} is clogged", from + 1, to + 1));
    }

    fn fill(&mut self) {
        let node = self.victim();
        let until = self.env.now + self.rng.between(100, 1_500) * MILLISECOND;
        self.nodes[node].full_until = until;
        self.env.queue.push(until, Event::Room { node });
        self.env.say(|| format!("node {} is full", node + 1));
    }

    fn drain(&mut self) {
        let drained = (0..self.joined).find(|node| self.catalog.is_drained(*node));
        let node = drained.unwrap_or_else(|| self.rng.index(self.joined));
        self.catalog.drain(&mut self.env, node);
    }

    fn join(&mut self) {
        if self.joined < self.env.scenario.members + self.env.scenario.spares {
            let node = self.joined;
            self.joined += 1;
            self.start(node);
        }
    }

    fn lose_zone(&mut self) {
        let zone = self.env.scenario.zones[self.victim()];
        let nodes: Vec<usize> =
            (0..self.joined).filter(|node| self.env.scenario.zones[*node] == zone).collect();
        let crashes = self.rng.chance(500);
        for node in &nodes {
            if crashes {
                self.crash(*node, false);
                continue;
            }
            for other in (0..self.joined).filter(|other| !nodes.contains(other)) {
                self.env.network.cut_both(End::Node(*node), End::Node(other));
            }
            self.env.network.cut_both(End::Node(*node), End::Catalog);
        }
    }

    /// What stays wrong with one node's hearing.
    pub(crate) fn leave_one_deaf(&mut self) {
        let Some(Deaf { node, hears }) = self.env.scenario.residue.deaf else { return };
        let network = &mut self.env.network;
        let to = End::Node(node);
        for other in (0..NODES_MAX).filter(|other| *other != node) {
            if !matches!(hears, Hears::AllBut(unheard) if unheard != other) {
                network.cut(End::Node(other), to);
            }
        }
        if hears == Hears::Nothing {
            network.cut(End::Catalog, to);
            (0..self.clients.len()).for_each(|client| network.cut(End::Client(client), to));
        }
        self.env.say(|| format!("node {} is deaf: it hears {hears:?}", node + 1));
    }

    fn expire(&mut self) {
        let living = self.clients.iter().map(|client| client.session().0).min();
        let all = self.env.next_session;
        // Now and then a session ends whose client is not done.
        let below = if self.rng.chance(300) { all } else { living.unwrap_or(all) };
        self.catalog.expire(&mut self.env, SessionId(below));
    }
}

/// A replica that no group names: a node of the cluster that never had any business in it, or nobody at all.
pub(crate) fn outsider(world: &mut World, group: usize) -> ReplicaId {
    let strangers = (0..world.joined).filter_map(|node| world.catalog.current(node));
    // Who was a member once may say what it likes about promises that it was given.
    let strangers: Vec<ReplicaId> =
        strangers.filter(|it| !world.catalog.was_member(group, *it)).collect();
    if strangers.is_empty() || world.rng.chance(200) {
        let nobody = world.env.scenario.members + world.env.scenario.spares;
        return ReplicaId { node: node_number(nobody), ..world.catalog.config(group).primary };
    }
    world.rng.pick(&strangers)
}
