//! Whole hosts against each other, on a network without delay and a catalog that always answers. What needs luck or
//! faults in between belongs to the simulator.

mod copies;
mod failover;
mod hostile;
mod inheritance;
mod repair;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Class, ConfigChange, ConfigClaim, ConfigVerifier, GroupConfig, GroupId, GroupSummary, Host,
    Incarnation, Input, Message, Mutant, NodeNumber, Output, Payload, PayloadId, Proposal,
    ReadGate, Remains, ReplicaId, RequestKey, Role, SessionId, SnapshotId, Timers,
};
use crate::group::{Op, PageSpan, Seq, StagingId, Ticket, UpdateKind, apply_update};
use crate::{
    ArrayId, DType, Epoch, ErrorCode, Failure, Instant, PAGE_BYTES, PartitionId, ShardIndex, limits,
};

/// Believes the proof that names the epoch.
#[derive(Debug)]
struct EpochProof;

impl ConfigVerifier for EpochProof {
    fn is_proven(&self, config: &GroupConfig, proof: &[u8]) -> bool {
        proof == config.epoch.0.to_le_bytes()
    }
}

fn claim(config: &Arc<GroupConfig>) -> ConfigClaim {
    let proof = Bytes::copy_from_slice(&config.epoch.0.to_le_bytes());
    ConfigClaim { config: Arc::clone(config), proof }
}

fn replica(node: u32) -> ReplicaId {
    ReplicaId { node: NodeNumber(node), incarnation: Incarnation(1) }
}

fn group(replicas: u8, min_in_sync: u8) -> GroupId {
    GroupId { partition: PartitionId(7), class: Class { replicas, min_in_sync } }
}

fn key(session: u64, number: u64) -> RequestKey {
    RequestKey { session: SessionId(session), number, floor: number.saturating_sub(3) }
}

fn add(amount: i64) -> Op {
    Op::Update {
        array: ArrayId(1),
        shard: ShardIndex(0),
        offset: 0,
        dtype: DType::I64,
        kind: UpdateKind::FetchAdd,
        operand: amount.to_le_bytes(),
        expected: [0; 8],
    }
}

fn publish(number: u64) -> Op {
    let len = PAGE_BYTES as u64;
    let pages = PageSpan::of_bytes(0, len).unwrap();
    let (array, shard, staging) = (ArrayId(1), ShardIndex(0), StagingId(number));
    Op::Publish { array, shard, staging, pages, offset: 0, len }
}

fn payload(origin: u32, number: u64) -> Payload {
    Payload { id: PayloadId { origin: replica(origin), number }, len: PAGE_BYTES as u64 }
}

/// One node with its driver.
#[derive(Debug)]
struct Node {
    host: Host,
    /// The one element of the one array.
    value: [u8; 8],
    published: Vec<PayloadId>,
    snapshots: BTreeMap<SnapshotId, [u8; 8]>,
    gate: ReadGate,
    leases: BTreeMap<ReplicaId, Instant>,
    replies: BTreeMap<Ticket, Result<Bytes, Failure>>,
    fetches: Vec<(ReplicaId, Payload)>,
    released: Vec<PayloadId>,
    resets: usize,
}

/// What a process has left that was told to stop.
#[derive(Clone, Debug)]
struct Left {
    life: ReplicaId,
    value: [u8; 8],
    remains: Vec<Remains>,
    replies: BTreeMap<Ticket, Result<Bytes, Failure>>,
}

/// Nodes, their network and their catalog.
#[derive(Debug)]
struct Cluster {
    group: GroupId,
    mutant: Mutant,
    config: Arc<GroupConfig>,
    nodes: BTreeMap<ReplicaId, Node>,
    /// From whom to whom nothing arrives.
    cut: BTreeSet<(ReplicaId, ReplicaId)>,
    /// From whom to whom no beat arrives, and everything else does.
    unbeaten: BTreeSet<(ReplicaId, ReplicaId)>,
    /// Beats do not say what their sender hears, as those of an older version.
    echoes_nothing: bool,
    /// Offers of snapshots get lost.
    offers_nothing: bool,
    catalog_is_away: bool,
    /// Nodes that the catalog knows to be gone.
    known_gone: BTreeSet<ReplicaId>,
    /// Who does not reach the catalog.
    without_catalog: BTreeSet<ReplicaId>,
    /// Snapshots that will fail to arrive.
    torn: usize,
    wire: VecDeque<(ReplicaId, ReplicaId, Message)>,
    now: Instant,
    tickets: u64,
    sent: usize,
    refusals: Vec<Proposal>,
}

impl Cluster {
    /// Nodes 1 to `nodes`, of which the first `in_sync` hold the group, and node 1 leads.
    fn new(nodes: u32, in_sync: u32, group: GroupId) -> Self {
        Self::with_mutant(nodes, in_sync, group, Mutant::None)
    }

    fn with_mutant(nodes: u32, in_sync: u32, group: GroupId, mutant: Mutant) -> Self {
        Timers::default().check().unwrap();
        let node = |n| (replica(n), Node::new(replica(n), mutant));
        let config = Arc::new(GroupConfig {
            group,
            epoch: Epoch(1),
            primary: replica(1),
            in_sync: (1..=in_sync).map(replica).collect(),
            learners: Vec::new(),
            lost: false,
        });
        let mut cluster = Self {
            group,
            mutant,
            config,
            nodes: (1..=nodes).map(node).collect(),
            cut: BTreeSet::new(),
            unbeaten: BTreeSet::new(),
            echoes_nothing: false,
            offers_nothing: false,
            catalog_is_away: false,
            known_gone: BTreeSet::new(),
            without_catalog: BTreeSet::new(),
            torn: 0,
            wire: VecDeque::new(),
            now: Instant(1_000_000_000),
            tickets: 0,
            sent: 0,
            refusals: Vec::new(),
        };
        cluster.tell_config();
        cluster
    }

    fn tell_config(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let input = Input::Config(claim(&self.config));
            self.input(id, input).unwrap();
        }
    }

    fn input(&mut self, id: ReplicaId, input: Input) -> Result<(), Failure> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let result = node.host.handle_input(now, input);
        self.drain(id);
        self.deliver();
        result
    }

    fn drain(&mut self, id: ReplicaId) {
        loop {
            let Some(node) = self.nodes.get_mut(&id) else { return };
            let Some(output) = node.host.poll_output() else { break };
            node.host.assert_invariants();
            match output {
                Output::Send { to, message } => {
                    self.sent += 1;
                    self.wire.push_back((id, to, message));
                }
                Output::Apply { group, seq, op, payload } => {
                    let outcome = node.apply(&op, payload);
                    let done = Input::Applied { group, seq, outcome };
                    node.host.handle_input(self.now, done).unwrap();
                }
                Output::Reply { ticket, outcome } => {
                    assert!(node.replies.insert(ticket, outcome).is_none(), "one reply each");
                }
                Output::FetchPayload { from, payload, .. } => node.fetches.push((from, payload)),
                Output::ReleasePayload { id, .. } => node.released.push(id),
                Output::TakeSnapshot { snapshot, .. } => {
                    node.snapshots.insert(snapshot, node.value);
                }
                Output::DropSnapshot { snapshot, .. } => {
                    node.snapshots.remove(&snapshot).unwrap();
                }
                Output::FetchSnapshot { group, from, snapshot, at } => {
                    let state = self.nodes[&from].snapshots.get(&snapshot).copied();
                    let node = self.nodes.get_mut(&id).unwrap();
                    let input = match state.filter(|_| self.torn == 0) {
                        Some(state) => {
                            node.value = state;
                            Input::SnapshotFetched { group, at }
                        }
                        None => {
                            self.torn = self.torn.saturating_sub(1);
                            Input::SnapshotFailed { group }
                        }
                    };
                    node.host.handle_input(self.now, input).unwrap();
                }
                Output::Propose(proposal) => self.change(proposal),
                Output::Reads { gate, .. } => node.gate = gate,
                Output::Lease { peer, until } => {
                    node.leases.insert(peer, until);
                }
                Output::Reset { .. } => {
                    node.value = [0; 8];
                    node.resets += 1;
                }
                Output::AskCatalog { .. } | Output::Role { .. } => {}
            }
        }
    }

    /// The catalog: a compare-and-set on the epoch.
    fn change(&mut self, proposal: Proposal) {
        if self.catalog_is_away
            || self.without_catalog.contains(&proposal.by)
            || proposal.epoch != self.config.epoch
        {
            return;
        }
        let mut config = self.config.as_ref().clone();
        config.epoch.0 += 1;
        match proposal.change {
            ConfigChange::AddLearner(id) if config.names(id.node) => {
                self.refusals.push(proposal);
                return;
            }
            ConfigChange::AddLearner(id) => config.learners.push(id),
            ConfigChange::AddInSync(id) => {
                config.learners.retain(|learner| *learner != id);
                config.in_sync.push(id);
            }
            ConfigChange::Remove(id) => {
                let fewest = usize::from(self.group.class.min_in_sync);
                let too_few = config.in_sync.contains(&id) && config.in_sync.len() <= fewest;
                if too_few && !self.known_gone.contains(&id) {
                    self.refusals.push(proposal);
                    return;
                }
                config.learners.retain(|learner| *learner != id);
                config.in_sync.retain(|member| *member != id);
            }
            ConfigChange::TakeOver => {
                config.in_sync.retain(|member| *member != self.config.primary);
                config.primary = proposal.by;
            }
            ConfigChange::Handover(id) => config.primary = id,
        }
        config.in_sync.sort();
        config.learners.sort();
        config.check().unwrap();
        self.config = Arc::new(config);
    }

    fn deliver(&mut self) {
        while let Some((from, to, mut message)) = self.wire.pop_front() {
            if let (Message::Beat(beat), true) = (&mut message, self.echoes_nothing) {
                beat.answered = None;
            }
            let beats = matches!(message, Message::Beat(_));
            let offers = matches!(message, Message::SnapshotOffer(_));
            let lost =
                beats && self.unbeaten.contains(&(from, to)) || offers && self.offers_nothing;
            if lost || self.cut.contains(&(from, to)) {
                continue;
            }
            let Some(node) = self.nodes.get_mut(&to) else { continue };
            // Refusals are answers, too: nothing of it is awaited here.
            let _refused = node.host.handle_input(self.now, Input::Message { from, message });
            self.drain(to);
        }
    }

    /// Lets time pass.
    fn pass(&mut self, millis: u64) {
        let end = self.now.after(Duration::from_millis(millis));
        while self.now < end {
            self.now = self.now.after(Duration::from_millis(5)).min(end);
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                let (now, known) = (self.now, self.nodes[&id].host.config(self.group).cloned());
                if known.is_none_or(|known| known.epoch < self.config.epoch)
                    && !self.catalog_is_away
                    && !self.without_catalog.contains(&id)
                {
                    let news = Input::Config(claim(&self.config));
                    self.input(id, news).unwrap();
                }
                for refused in std::mem::take(&mut self.refusals) {
                    let Proposal { group, epoch, by, .. } = refused;
                    self.input(by, Input::ProposalRefused { group, epoch }).unwrap();
                }
                let Some(node) = self.nodes.get_mut(&id) else { continue };
                if node.host.poll_timeout().is_some_and(|at| at <= now) {
                    node.host.handle_timeout(now);
                    self.drain(id);
                    self.deliver();
                }
            }
        }
    }

    fn propose(
        &mut self,
        node: u32,
        request: Option<RequestKey>,
        op: Op,
    ) -> Result<Ticket, Failure> {
        self.propose_with(node, request, op, None)
    }

    fn propose_with(
        &mut self,
        node: u32,
        request: Option<RequestKey>,
        op: Op,
        payload: Option<Payload>,
    ) -> Result<Ticket, Failure> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let input = Input::Propose { ticket, group: self.group, request, op, payload };
        self.input(self.life(node), input).map(|()| ticket)
    }

    fn reply(&self, node: u32, ticket: Ticket) -> Option<&Result<Bytes, Failure>> {
        self.nodes[&self.life(node)].replies.get(&ticket)
    }

    /// Adds 1 and says what was there before.
    fn count(&mut self, node: u32, request: RequestKey) -> i64 {
        let ticket = self.propose(node, Some(request), add(1)).unwrap();
        let before = self.reply(node, ticket).unwrap().clone().unwrap();
        i64::from_le_bytes(before.as_ref().try_into().unwrap())
    }

    fn value(&self, node: u32) -> i64 {
        i64::from_le_bytes(self.nodes[&self.life(node)].value)
    }

    fn summary(&self, node: u32) -> GroupSummary {
        self.nodes[&self.life(node)].host.group_summary(self.group).unwrap()
    }

    fn reads(&self, node: u32) -> bool {
        self.reads_until(node).is_some_and(|until| self.now < until)
    }

    fn reads_until(&self, node: u32) -> Option<Instant> {
        let node = &self.nodes[&self.life(node)];
        node.gate.until(|peer| node.leases.get(&peer).copied())
    }

    /// The node's present life.
    fn life(&self, node: u32) -> ReplicaId {
        let mut lives = self.nodes.keys().copied().filter(|id| id.node.0 == node);
        lives.next_back().unwrap_or_else(|| replica(node))
    }

    /// Tells the node's process to stop.
    fn stop(&mut self, node: u32) -> Left {
        let (life, now) = (self.life(node), self.now);
        self.nodes.get_mut(&life).unwrap().host.come_to_rest(now);
        self.drain(life);
        // Nobody is there to send it.
        self.wire.clear();
        let Node { host, value, replies, .. } = self.nodes.remove(&life).unwrap();
        Left { life, value, remains: host.remains(), replies }
    }

    /// The node's next process starts, and has nothing.
    fn start_after(&mut self, left: &Left) -> ReplicaId {
        let incarnation = Incarnation(left.life.incarnation.0 + 1);
        let life = ReplicaId { incarnation, ..left.life };
        assert!(self.nodes.insert(life, Node::new(life, self.mutant)).is_none());
        life
    }

    /// It puts back what an earlier one left.
    fn restore(&mut self, me: ReplicaId, left: &Left, after: u64) -> Result<(), Failure> {
        let remains = left.remains[0].clone();
        let before = self.nodes[&me].value;
        self.nodes.get_mut(&me).unwrap().value = left.value;
        let life = left.life.incarnation;
        let taken = self.input(me, Input::Restore { life, after: Epoch(after), remains });
        if taken.is_err() {
            self.nodes.get_mut(&me).unwrap().value = before;
        }
        taken
    }

    /// The catalog makes a config by itself, and tells those who hear of it.
    fn appoint(&mut self, change: impl FnOnce(&mut GroupConfig)) {
        let mut config = self.config.as_ref().clone();
        config.epoch.0 += 1;
        change(&mut config);
        config.check().unwrap();
        self.config = Arc::new(config);
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if !self.without_catalog.contains(&id) {
                self.input(id, Input::Config(claim(&self.config))).unwrap();
            }
        }
    }

    /// The group goes on with one replica alone.
    fn go_on_with(&mut self, me: ReplicaId) {
        self.appoint(|config| {
            config.primary = me;
            config.in_sync = vec![me];
            config.learners.clear();
        });
    }

    fn kill(&mut self, node: u32) {
        self.nodes.remove(&self.life(node));
    }

    fn isolate(&mut self, node: u32) {
        for other in self.nodes.keys().copied() {
            self.cut.insert((replica(node), other));
            self.cut.insert((other, replica(node)));
        }
    }

    /// The node speaks, and hears nothing: neither others nor the catalog.
    fn deafen(&mut self, node: u32) {
        self.cut.extend(self.nodes.keys().map(|other| (*other, replica(node))));
        self.without_catalog.insert(replica(node));
    }

    fn want(&mut self, targets: &[u32]) {
        let targets: Vec<_> = targets.iter().map(|n| replica(*n)).collect();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let targets = vec![(self.group, targets.clone())];
            self.input(id, Input::Targets(targets)).unwrap();
        }
    }
}

impl Node {
    fn new(id: ReplicaId, mutant: Mutant) -> Self {
        let (timers, verifier) = (Timers::default(), Arc::new(EpochProof));
        Self {
            host: Host::danger_with_mutant_for_testing_only(id, timers, verifier, mutant),
            value: [0; 8],
            published: Vec::new(),
            snapshots: BTreeMap::new(),
            gate: ReadGate::closed(Epoch(0)),
            leases: BTreeMap::new(),
            replies: BTreeMap::new(),
            fetches: Vec::new(),
            released: Vec::new(),
            resets: 0,
        }
    }

    fn apply(&mut self, op: &Op, payload: Option<PayloadId>) -> Result<Bytes, Failure> {
        match op {
            Op::Update { dtype, kind, operand, expected, .. } => {
                apply_update(*dtype, *kind, &mut self.value, *operand, *expected)
            }
            _ => {
                self.published.extend(payload);
                Ok(Bytes::new())
            }
        }
    }
}
