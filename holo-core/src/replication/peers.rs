//! What a host knows of other replicas: when it heard them, which of them are dead, and the leases of each pair.
//!
//! # Pace
//!
//! Every packet wakes two machines, so the beats of a pair travel together: of two replicas that beat each other the
//! lower one sets the pace, and the other one's beat goes back with its answer. A host that is woken by a beat sends those
//! that it owes others soon; so after a while all beats of a cluster leave at the same moments, and in between everybody
//! rests. Whoever sets the pace answers the other one's beat with its own next one, and at once when that brings news of
//! the lease set. A peer that sets the pace and is late is not waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::config::{GroupId, Incarnation, NodeNumber, ReplicaId};
use super::echo::Echo;
use super::lease::PeerLease;
use super::messages::{BeatAck, CommitNews, SetVersion};
use super::timers::Timers;
use crate::{Instant, limits};

/// All replicas that this host shares or shared groups with.
#[derive(Debug, Default)]
pub(super) struct Peers {
    peers: BTreeMap<ReplicaId, Peer>,
    living: BTreeMap<NodeNumber, Incarnation>,
    /// Some of `peers` may be dead: they go when nothing is owed to them.
    has_dead: bool,
    /// The last version given to a lease set; one count for all, so that none comes back when a peer is forgotten.
    set_versions: u64,
    /// Those whose leases are waited for: they are asked for them before their next beat is due.
    hurried: BTreeSet<ReplicaId>,
    /// The members of groups that we lead, with how many groups that are: they get beats.
    led: BTreeMap<ReplicaId, usize>,
    /// Answers to beats that leave with whatever goes to their peer next.
    owed: BTreeMap<ReplicaId, BeatAck>,
}

/// What a look at every peer has shown.
#[derive(Debug)]
pub(super) struct Round {
    /// One of them has just fallen silent.
    pub(super) alarmed: bool,
    /// One of them is silent.
    pub(super) silent: bool,
}

/// A peer whose beat is due.
#[derive(Debug)]
pub(super) struct DueBeat {
    pub(super) to: ReplicaId,
    /// Commits that it may not know.
    pub(super) commits: Vec<CommitNews>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) lease: PeerLease,
    /// Whether it hears us.
    pub(super) echo: Echo,
    /// When anything came from it, or when it was first named.
    pub(super) heard: Instant,
    /// When the next beat is due, should we lead a group that it is a member of.
    pub(super) beat_at: Instant,
    /// When it was last beaten in turn.
    beaten_at: Instant,
    /// It sets the pace: our beats go back with the answers to its own.
    is_pacer: bool,
}

impl Peers {
    /// Remembers a replica that a config names; `None` beyond [`limits::HOST_PEERS_MAX`], and for a dead one.
    pub(super) fn meet(&mut self, peer: ReplicaId, now: Instant) -> Option<&mut Peer> {
        let full = self.peers.len() >= limits::HOST_PEERS_MAX && !self.peers.contains_key(&peer);
        if self.is_dead(peer) || full {
            return None;
        }
        Some(self.peers.entry(peer).or_insert_with(|| Peer {
            lease: PeerLease::default(),
            echo: Echo::new(now),
            heard: now,
            beat_at: now,
            beaten_at: Instant(0),
            is_pacer: false,
        }))
    }

    /// Something came from `peer`.
    pub(super) fn hear(&mut self, peer: ReplicaId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.heard = peer.heard.max(now);
        }
    }

    /// Takes the incarnations that live. Older ones are not waited for any more; but what they were promised holds
    /// until it passes, so that nothing depends on their being dead indeed.
    pub(super) fn set_living(&mut self, living: &[ReplicaId]) {
        for replica in living.iter().take(limits::NODES_MAX) {
            let known = self.living.entry(replica.node).or_default();
            *known = replica.incarnation.max(*known);
        }
        self.has_dead = true;
    }

    /// After a pause of our own, nobody's silence is held against them.
    pub(super) fn forgive(&mut self, pause: Duration, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.heard = peer.heard.after(pause).min(now);
            peer.echo.forgive(pause, now);
        }
    }

    /// Forgets the dead to whom nothing is owed any more.
    pub(super) fn bury(&mut self, now: Instant) {
        if !self.has_dead {
            return;
        }
        let living = &self.living;
        let is_dead =
            |id: &ReplicaId| living.get(&id.node).is_some_and(|now| id.incarnation < *now);
        self.peers.retain(|id, peer| {
            peer.lease.granted.expire(now);
            !(is_dead(id) && peer.lease.granted.is_free())
        });
        let peers = &self.peers;
        self.owed.retain(|id, _| peers.contains_key(id));
        self.has_dead = self.peers.keys().any(is_dead);
    }

    /// Looks at every peer once: forgets promises that have passed, and says whether anybody is silent, or has just fallen
    /// so. Only those count from whom something is to be heard: not who has left.
    pub(super) fn look_around(&mut self, now: Instant, timers: &Timers) -> Round {
        let (silence, news) = (timers.silence(), timers.take_over.saturating_mul(4));
        let mut round = Round { alarmed: false, silent: false };
        for (id, peer) in &mut self.peers {
            peer.lease.granted.expire(now);
            if !(peer.lease.granted.is_granting() || self.led.contains_key(id)) {
                continue;
            }
            let deafness = peer.echo.deafness(Instant(0), now, silence);
            let unheard = now.since(peer.heard).max(deafness);
            round.silent |= unheard >= silence;
            round.alarmed |= (silence..news).contains(&unheard);
        }
        round
    }

    /// The peers whose beat leaves now, in ascending order: none before one is due or a pacer has beaten us, and then all
    /// that were not beaten lately.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        paced_by: Option<ReplicaId>,
        timers: &Timers,
    ) -> Vec<DueBeat> {
        let led = &self.led;
        let is_due = |(id, peer): (&ReplicaId, &Peer)| peer.beat_at <= now && led.contains_key(id);
        if paced_by.is_none() && !self.peers.iter().any(is_due) {
            return Vec::new();
        }
        let pause = if paced_by.is_some() { timers.patience() } else { timers.heartbeat };
        let mut due = Vec::new();
        for (id, peer) in self.peers.iter_mut().filter(|(id, _)| led.contains_key(id)) {
            let goes_along = !peer.is_pacer || paced_by == Some(*id);
            let lately = now.since(peer.beaten_at) < timers.lately();
            if peer.beat_at <= now || (goes_along && !lately) {
                // A pacer that was waited for in vain is none any more.
                peer.is_pacer &= paced_by == Some(*id);
                peer.beat_at = now.after(pause);
                peer.beaten_at = now;
                due.push(DueBeat { to: *id, commits: Vec::new() });
            } else if goes_along && !peer.is_pacer {
                // From now on with the others.
                peer.beat_at = peer.beat_at.max(now.after(pause));
            }
        }
        due
    }

    /// A peer has beaten us; says whether it sets the pace.
    pub(super) fn on_beat(&mut self, from: ReplicaId, me: ReplicaId) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        peer.is_pacer = from < me;
        peer.is_pacer
    }

    /// Answers a beat now, or, where it changes nothing but how long a lease lives, with the next beat if that is near.
    pub(super) fn owe(
        &mut self,
        to: ReplicaId,
        ack: BeatAck,
        now: Instant,
        timers: &Timers,
    ) -> Option<BeatAck> {
        // Beats that go along with a pacer's are due later than they leave.
        let pause = if self.is_paced() { timers.patience() } else { timers.heartbeat };
        let soon = now.after(pause);
        let paces = self.peers.get(&to).is_some_and(|peer| !peer.is_pacer && peer.beat_at <= soon);
        if ack.set.is_some() || !paces || !self.led.contains_key(&to) || !timers.may_owe() {
            self.owed.remove(&to);
            return Some(ack);
        }
        let newest = self.owed.entry(to).or_insert_with(|| ack.clone());
        if (newest.set_version, newest.sent_at) < (ack.set_version, ack.sent_at) {
            *newest = ack;
        }
        None
    }

    /// The answer that goes along with what is sent to a peer.
    pub(super) fn take_owed(&mut self, to: ReplicaId) -> Option<BeatAck> {
        if self.owed.is_empty() { None } else { self.owed.remove(&to) }
    }

    /// A group that we led with the members `before` is led with `now`.
    pub(super) fn lead(&mut self, before: &[ReplicaId], now: &[ReplicaId]) {
        for peer in now {
            *self.led.entry(*peer).or_default() += 1;
        }
        for peer in before {
            if let Some(groups) = self.led.get_mut(peer) {
                *groups -= 1;
                if *groups == 0 {
                    self.led.remove(peer);
                }
            }
        }
    }

    /// The members of groups that we lead, with how many groups that are.
    pub(super) fn led(&self) -> &BTreeMap<ReplicaId, usize> {
        &self.led
    }

    /// Whether somebody's beats wake us in time.
    pub(super) fn is_paced(&self) -> bool {
        self.peers.values().any(|peer| peer.is_pacer)
    }

    /// Asks for the peer's leases as soon as everything else is said.
    pub(super) fn hurry(&mut self, peer: ReplicaId) {
        self.hurried.insert(peer);
    }

    /// One of those who are to be asked now.
    pub(super) fn take_hurried(&mut self) -> Option<ReplicaId> {
        // Asked after every event.
        if self.hurried.is_empty() { None } else { self.hurried.pop_first() }
    }

    /// A version that no lease set had before.
    pub(super) fn next_version(&mut self) -> SetVersion {
        self.set_versions += 1;
        SetVersion(self.set_versions)
    }

    /// One of them.
    pub(super) fn get(&self, peer: ReplicaId) -> Option<&Peer> {
        self.peers.get(&peer)
    }

    /// One of them.
    pub(super) fn get_mut(&mut self, peer: ReplicaId) -> Option<&mut Peer> {
        self.peers.get_mut(&peer)
    }

    /// Whether a newer incarnation of its node lives.
    pub(super) fn is_dead(&self, replica: ReplicaId) -> bool {
        self.living.get(&replica.node).is_some_and(|now| replica.incarnation < *now)
    }

    /// Those who were heard within the last `time`.
    pub(super) fn heard_within(
        &self,
        time: Duration,
        now: Instant,
    ) -> impl Iterator<Item = ReplicaId> {
        let heard = self.peers.iter().filter(move |(_, peer)| now.since(peer.heard) < time);
        heard.map(|(peer, _)| *peer)
    }

    /// How long nothing came from `peer`, counted from `since` at the earliest; without end for a dead one.
    pub(super) fn silence(&self, peer: ReplicaId, since: Instant, now: Instant) -> Duration {
        if self.is_dead(peer) {
            return Duration::MAX;
        }
        now.since(self.peers.get(&peer).map_or(since, |peer| peer.heard.max(since)))
    }

    /// How long `peer` has gone on to beat without hearing us, counted from `since` at the earliest; `round` is what an answer
    /// may take until it shows.
    pub(super) fn deafness(
        &self,
        peer: ReplicaId,
        since: Instant,
        now: Instant,
        round: Duration,
    ) -> Duration {
        let peer = self.peers.get(&peer);
        peer.map_or(Duration::ZERO, |peer| peer.echo.deafness(since, now, round))
    }

    /// When the next beat is due, or somebody who was heard at `now` counts as silent, should nothing come from it.
    pub(super) fn next_event(&self, now: Instant, silence: Duration) -> Option<Instant> {
        let led = self.peers.iter().filter(|(id, _)| self.led.contains_key(id));
        let beats = led.map(|(_, peer)| peer.beat_at);
        let shared = |(id, peer): &(&ReplicaId, &Peer)| {
            peer.lease.granted.is_granting() || self.led.contains_key(*id)
        };
        let silences = self.peers.iter().filter(shared).map(|(_, peer)| peer.heard.after(silence));
        beats.chain(silences.filter(|at| *at > now)).min()
    }

    /// Until when `peer` serves nobody else in `group`.
    pub(super) fn lease_until(&self, peer: ReplicaId, group: GroupId) -> Option<Instant> {
        self.peers.get(&peer)?.lease.held.until(group)
    }

    /// Whether `peer` serves nobody else in `group` now.
    pub(super) fn is_leased(&self, peer: ReplicaId, group: GroupId, now: Instant) -> bool {
        self.lease_until(peer, group).is_some_and(|until| now < until)
    }

    /// Until when our own promises keep us from serving `group`; `None` when nothing does.
    pub(super) fn blocked_until(&self, group: GroupId, now: Instant) -> Option<Instant> {
        let blocks = self.peers.values().filter_map(|peer| peer.lease.granted.blocks(group));
        blocks.filter(|until| now < *until).max()
    }
}

#[cfg(test)]
mod tests;
