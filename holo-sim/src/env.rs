//! What every part of a run shares: time, the queue, the network, the log and the checks.

use holo_core::catalog::{CloseId, GroupHold};
use holo_core::replication::{GroupId, NodeNumber, ReplicaId};

use crate::history::History;
use crate::mutant::Plant;
use crate::network::{End, Network};
use crate::packet::{Event, Packet};
use crate::proof::KeyedProof;
use crate::queue::{Queue, Time};
use crate::rng::Rng;
use crate::scenario::{RESIDUE, Scenario};
use crate::trace::Trace;
use crate::watch::Watch;

/// The surroundings of nodes, clients and the catalog.
#[derive(Debug)]
pub(crate) struct Env {
    /// True time.
    pub(crate) now: Time,
    /// What will happen.
    pub(crate) queue: Queue<Event>,
    /// Between everyone.
    pub(crate) network: Network,
    /// What happened.
    pub(crate) trace: Trace,
    /// What must not happen.
    pub(crate) watch: Watch,
    /// What clients saw.
    pub(crate) history: History,
    /// What the seed means.
    pub(crate) scenario: Scenario,
    /// The bug that is planted, if any.
    pub(crate) plant: Plant,
    /// Draws of the drivers.
    pub(crate) rng: Rng,
    /// The groups, by their index.
    pub(crate) groups: Vec<GroupId>,
    /// The catalog's certificates.
    pub(crate) proofs: KeyedProof,
    /// Faults are over.
    pub(crate) healed: bool,
    /// Writes that were acknowledged in this step: their copies are counted after it.
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// Groups that this step may have changed on some node, as bits.
    pub(crate) touched: u32,
    /// Messages that a forger has seen.
    pub(crate) overheard: Vec<Overheard>,
    /// A primary that has just handed over, and to whom.
    pub(crate) handed_over: Option<(usize, usize)>,
    /// By group: the node of its primary as the catalog has it, for clients that fetch the table.
    pub(crate) leaders: Vec<usize>,
    /// The next unused session.
    pub(crate) next_session: u64,
    /// Boxes that messages have left: there are as many messages under way as events, and new ones all the time.
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    pub(crate) envelopes: Vec<Box<Packet>>,
    /// What a close that was just finished counts as held.
    pub(crate) held: Vec<HeldGroup>,
    /// Groups that have just started again from disk.
    pub(crate) reopened: Vec<usize>,
    /// Groups that the catalog has just called lost, with who was in sync.
    pub(crate) given_up: Vec<(usize, Vec<ReplicaId>)>,
}

/// A group that the catalog takes to be on disk.
#[derive(Clone, Debug)]
pub(crate) struct HeldGroup {
    /// Index of the group.
    pub(crate) group: usize,
    /// For which close.
    pub(crate) close: CloseId,
    /// Who has it.
    pub(crate) hold: GroupHold,
}

/// A write that a node has just called done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acknowledged {
    /// Index of the group.
    pub(crate) group: usize,
    /// Where it stands in the log.
    pub(crate) seq: holo_core::group::Seq,
}

/// A message between machines that somebody listened to.
#[derive(Clone, Debug)]
pub(crate) struct Overheard {
    /// Who sent it.
    pub(crate) from: ReplicaId,
    /// To whom.
    pub(crate) to: ReplicaId,
    /// What.
    pub(crate) message: holo_core::replication::Message,
}

/// Messages that a forger remembers.
const OVERHEARD_MAX: usize = 64;

impl Env {
    /// Sends a message by the network.
    pub(crate) fn send(&mut self, from: End, to: End, packet: Packet) {
        let arrivals = self.network.send(self.now, from, to);
        let Some(first) = arrivals.first else {
            self.say(|| format!("{} -> {} lost", Name(from), Name(to)));
            return;
        };
        let packet = self.envelope(packet);
        if let Some(second) = arrivals.second {
            self.queue.push(second, Event::Deliver { from, to, packet: packet.clone() });
        }
        self.queue.push(first, Event::Deliver { from, to, packet });
    }

    /// Puts a message into a box of its own: one that another message has left, if there is any.
    pub(crate) fn envelope(&mut self, packet: Packet) -> Box<Packet> {
        match self.envelopes.pop() {
            Some(mut envelope) => {
                *envelope = packet;
                envelope
            }
            None => Box::new(packet),
        }
    }

    /// Takes a message out of its box.
    pub(crate) fn open(&mut self, mut envelope: Box<Packet>) -> Packet {
        let packet = std::mem::replace(&mut *envelope, Packet::NOTHING);
        self.envelopes.push(envelope);
        packet
    }

    /// How long after the faults the last thing goes well again.
    pub(crate) fn residue_lasts(&self) -> Time {
        if self.scenario.residue.is_any() { RESIDUE } else { 0 }
    }

    /// Whether all goes well by now.
    pub(crate) fn is_well(&self) -> bool {
        self.healed && self.now >= self.scenario.heal_at + self.residue_lasts()
    }

    /// By how much the catalog's news reach a node late, as long as not all goes well.
    pub(crate) fn news_lag(&self, node: usize) -> Time {
        let late = self.scenario.residue.late_news.filter(|(late, _)| *late == node);
        late.filter(|_| !self.is_well()).map_or(0, |(_, lag)| lag)
    }

    /// Whether machines on one node only answer those on another.
    pub(crate) fn is_lame(&self, from: usize, to: usize) -> bool {
        self.scenario.residue.lame == Some((from, to)) && self.healed && !self.is_well()
    }

    /// Whether nothing that the catalog says reaches a node, though faults are over. A driver asks for a word of the catalog
    /// before it proposes: what a node that hears nothing takes for silence is none.
    pub(crate) fn is_unanswered(&self, node: usize) -> bool {
        self.healed && self.network.is_cut(End::Catalog, End::Node(node))
    }

    /// Remembers a message for forgers.
    pub(crate) fn overhear(&mut self, overheard: impl FnOnce() -> Overheard) {
        if self.overheard.len() < OVERHEARD_MAX {
            self.overheard.push(overheard());
        } else if self.rng.chance(100) {
            let at = self.rng.index(OVERHEARD_MAX);
            self.overheard[at] = overheard();
        }
    }

    /// Adds a line to the readable log.
    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        self.trace.say(self.now, line);
    }

    /// Index of a group.
    pub(crate) fn group_index(&self, group: GroupId) -> Option<usize> {
        self.groups.iter().position(|known| *known == group)
    }

    /// Marks a group as changed.
    pub(crate) fn touch(&mut self, group: usize) {
        self.touched |= 1 << group;
    }
}

/// Index of a replica's node; one beyond all nodes for a replica that nobody is.
pub(crate) fn node_index(replica: ReplicaId) -> usize {
    number_index(replica.node)
}

/// Index of the node with a number.
pub(crate) fn number_index(number: NodeNumber) -> usize {
    usize::try_from(number.0).map_or(usize::MAX, |number| number.wrapping_sub(1))
}

/// Number of the node with an index; numbers begin with 1.
pub(crate) fn node_number(index: usize) -> NodeNumber {
    NodeNumber(u32::try_from(index + 1).unwrap_or(u32::MAX))
}

/// An end of a link for people.
pub(crate) struct Name(pub(crate) End);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            End::Node(index) => write!(f, "node {}", index + 1),
            End::Client(index) => write!(f, "client {index}"),
            End::Catalog => f.write_str("catalog"),
        }
    }
}
