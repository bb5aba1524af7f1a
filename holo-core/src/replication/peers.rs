//! What a host knows of other replicas: when it heard them, which of them are dead, and the leases of each pair.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::config::{GroupId, Incarnation, NodeNumber, ReplicaId};
use super::lease::PeerLease;
use super::messages::{CommitNews, SetVersion};
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
}

/// What a look at every peer has shown.
#[derive(Debug)]
pub(super) struct Round {
    /// Peers whose beat is due, in ascending order.
    pub(super) due: Vec<DueBeat>,
    /// One of them has just fallen silent.
    pub(super) alarmed: bool,
    /// One of them is silent.
    pub(super) silent: bool,
}

/// A peer whose beat is due.
#[derive(Debug)]
pub(super) struct DueBeat {
    pub(super) to: ReplicaId,
    /// We lead a group that it is a member of.
    pub(super) wanted: bool,
    /// Commits that it may not know.
    pub(super) commits: Vec<CommitNews>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) lease: PeerLease,
    /// When anything came from it, or when it was first named.
    pub(super) heard: Instant,
    /// When the next beat is due, should we lead a group that it is a member of.
    pub(super) beat_at: Instant,
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
            heard: now,
            beat_at: now,
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
        self.has_dead = self.peers.keys().any(is_dead);
    }

    /// Looks at every peer once: forgets promises that have passed, and says whose beat is due and whether anybody has
    /// just fallen silent.
    pub(super) fn look_around(&mut self, now: Instant, timers: &Timers) -> Round {
        let next = now.after(timers.heartbeat);
        let (silence, news) = (timers.silence(), timers.take_over.saturating_mul(4));
        let mut round = Round { due: Vec::new(), alarmed: false, silent: false };
        for (id, peer) in &mut self.peers {
            peer.lease.granted.expire(now);
            if peer.beat_at <= now {
                peer.beat_at = next;
                round.due.push(DueBeat { to: *id, wanted: false, commits: Vec::new() });
            }
            let unheard = now.since(peer.heard);
            round.silent |= unheard >= silence;
            round.alarmed |= (silence..news).contains(&unheard);
        }
        round
    }

    /// Asks for the peer's leases as soon as everything else is said.
    pub(super) fn hurry(&mut self, peer: ReplicaId) {
        self.hurried.insert(peer);
    }

    /// One of those who are to be asked now.
    pub(super) fn take_hurried(&mut self) -> Option<ReplicaId> {
        self.hurried.pop_first()
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

    /// How long nothing came from `peer`, counted from `since` at the earliest; without end for a dead one.
    pub(super) fn silence(&self, peer: ReplicaId, since: Instant, now: Instant) -> Duration {
        if self.is_dead(peer) {
            return Duration::MAX;
        }
        now.since(self.peers.get(&peer).map_or(since, |peer| peer.heard.max(since)))
    }

    /// When the next beat is due, or somebody who was heard at `now` counts as silent, should nothing come from it.
    pub(super) fn next_event(&self, now: Instant, silence: Duration) -> Option<Instant> {
        let beats = self.peers.values().map(|peer| peer.beat_at);
        let silences = self.peers.values().map(|peer| peer.heard.after(silence));
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
mod tests {
    use super::*;

    fn replica(node: u32, incarnation: u32) -> ReplicaId {
        ReplicaId { node: NodeNumber(node), incarnation: Incarnation(incarnation) }
    }

    #[test]
    fn the_dead_are_silent_for_ever_and_never_met_again() {
        let mut peers = Peers::default();
        let now = Instant(10);
        assert!(peers.meet(replica(1, 1), now).is_some());
        assert_eq!(peers.silence(replica(1, 1), Instant(0), Instant(15)), Duration::from_nanos(5));
        peers.set_living(&[replica(1, 2)]);
        assert!(peers.meet(replica(1, 1), now).is_none());
        assert_eq!(peers.silence(replica(1, 1), now, now), Duration::MAX);
        peers.set_living(&[replica(1, 1)]);
        assert!(peers.is_dead(replica(1, 1)), "old news raise nobody");
        peers.bury(now);
        assert!(peers.get(replica(1, 1)).is_none());
    }

    #[test]
    fn what_was_promised_to_the_dead_holds_until_it_passes() {
        let mut peers = Peers::default();
        let class = crate::replication::Class { replicas: 2, min_in_sync: 1 };
        let group = GroupId { partition: crate::PartitionId(1), class };
        let (entered, left) = (peers.next_version(), peers.next_version());
        let granted = &mut peers.meet(replica(1, 1), Instant(0)).unwrap().lease.granted;
        granted.enter(group, crate::Epoch(1), entered);
        let promise = Duration::from_nanos(30);
        granted.on_beat(Instant(0), Instant(0), SetVersion(0), promise);
        peers.set_living(&[replica(1, 2)]);
        peers.bury(Instant(1));
        let granted = &mut peers.get_mut(replica(1, 1)).unwrap().lease.granted;
        granted.leave(group, left, crate::replication::Mutant::None);
        peers.bury(Instant(29));
        assert_eq!(peers.blocked_until(group, Instant(29)), Some(Instant(30)));
        peers.bury(Instant(30));
        assert!(peers.get(replica(1, 1)).is_none());
    }

    #[test]
    fn a_pause_of_ours_is_nobodys_silence() {
        let mut peers = Peers::default();
        peers.meet(replica(1, 1), Instant(0));
        peers.forgive(Duration::from_nanos(90), Instant(100));
        let silence = peers.silence(replica(1, 1), Instant(0), Instant(100));
        assert_eq!(silence, Duration::from_nanos(10));
    }

    #[test]
    fn versions_of_lease_sets_never_come_back() {
        let mut peers = Peers::default();
        assert!(peers.next_version() < peers.next_version());
    }
}
