//! One run: a safety phase with faults, then a liveness phase without.

mod checks;
mod closing;

use std::panic::{self, AssertUnwindSafe};

use holo_core::group::Seq;

use crate::catalog::{self, Catalog};
use crate::client::Client;
use crate::digest;
use crate::env::{Env, Name};
use crate::history::History;
use crate::life::Life;
use crate::mutant::Plant;
use crate::network::{End, MILLISECOND, NODES_MAX, Network};
use crate::node::Node;
use crate::packet::{Event, Packet};
use crate::proof::KeyedProof;
use crate::queue::{Queue, Time};
use crate::rng::{Rng, mix};
use crate::scenario::{Reboot, Scenario};
use crate::store::Store;
use crate::trace::Trace;
use crate::watch::{Invariant, Violation, Watch};

/// How often a healed cluster is looked at.
const LOOK_EVERY: Time = 40 * MILLISECOND;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The first invariant that it broke.
    pub violation: Option<Violation>,
    /// Hash of everything that happened.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How long it lasted, in true nanoseconds.
    pub lasted: u64,
    /// Calls that were answered.
    pub answered: u64,
    /// Config changes.
    pub epochs: u64,
    /// Groups that lost their last copy, which a few runs allow.
    pub lost: u64,
    /// Elements whose history was too tangled to decide.
    pub undecided: u64,
    /// The readable log, if it was wanted.
    pub lines: Vec<String>,
}

/// Runs one seed with a planted bug or none.
pub fn run(seed: u64, plant: Plant, readable: bool) -> Report {
    let mut world = World::new(seed, plant, readable);
    // The machine asserts its own invariants. A failed one is a finding like any other, with its log.
    let ended = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ended {
        let what = panic.downcast_ref::<String>().cloned();
        let what = what.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = what.unwrap_or_default();
        let line = what.lines().take(3).collect::<Vec<_>>().join(" ");
        world.env.watch.broken(world.env.now, Invariant::Assertion, || line);
    }
    world.into_report(seed)
}

/// The whole cluster.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) nodes: Vec<Node>,
    pub(crate) catalog: Catalog,
    pub(crate) clients: Vec<Client>,
    /// Draws of faults.
    pub(crate) rng: Rng,
    /// Draws of which processes are told to stop where others crash.
    pub(crate) stops: Rng,
    /// Nodes that crashed, and whether for good.
    pub(crate) down: [Option<Forever>; NODES_MAX],
    /// Nodes that have joined.
    pub(crate) joined: usize,
    /// What was held by replicas that are no more: for counting copies.
    pub(crate) graveyard: Vec<Buried>,
    /// By group: when it was last seen to serve since the faults.
    served_at: Vec<Option<Time>>,
    /// The operator still wants to stop the cluster.
    wants_close: bool,
    /// When the cluster was last seen to stop or to come back.
    closing_at: Time,
    has_last_looks: bool,
    is_over: bool,
}

/// Whether a crash is for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Forever(pub(crate) bool);

/// What a dead replica held of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buried {
    /// Index of the group.
    pub(crate) group: usize,
    /// The number of its last entry.
    pub(crate) last: Seq,
}

impl World {
    fn new(seed: u64, plant: Plant, readable: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut stops = Rng::new(mix(seed ^ 0x73_746F_7073));
        let mut scenario = Scenario::draw(&mut rng, &mut Rng::new(mix(seed ^ 0x72_6573_6964_7565)));
        scenario.stops_per_mille = stops.pick(&[0, 0, 300, 800]);
        scenario.reboot = Reboot::draw(&mut stops, scenario.members);
        let mut env = Env {
            now: 0,
            queue: Queue::new(),
            network: Network::new(rng.fork(), scenario.weather),
            trace: Trace::new(readable),
            watch: Watch::new(0, 0),
            history: History::new(0, 1),
            plant,
            rng: rng.fork(),
            groups: Vec::new(),
            proofs: KeyedProof::new(rng.next()),
            healed: false,
            acknowledged: Vec::new(),
            touched: 0,
            overheard: Vec::new(),
            handed_over: None,
            leaders: Vec::new(),
            next_session: 1,
            envelopes: Vec::new(),
            held: Vec::new(),
            reopened: Vec::new(),
            given_up: Vec::new(),
            scenario,
        };
        let mut catalog = Catalog::found(&mut env);
        env.next_session = catalog.lease_sessions(&mut env, 1 << 16);
        let zeros = Store::new(env.scenario.elements).digest();
        env.watch = Watch::new(env.groups.len(), zeros);
        env.history = History::new(env.groups.len(), env.scenario.elements);
        let mut nodes: Vec<Node> = env
            .scenario
            .clocks
            .iter()
            .enumerate()
            .map(|(index, clock)| Node::new(index, *clock))
            .collect();
        for (index, node) in nodes.iter_mut().enumerate().take(env.scenario.members) {
            node.start();
            if let Some(me) = catalog.current(index) {
                node.begin(&env, me);
            }
        }
        let clients =
            (0..env.scenario.workload.clients).map(|it| Client::new(&mut env, it)).collect();
        Self {
            served_at: vec![None; env.groups.len()],
            joined: env.scenario.members,
            env,
            nodes,
            catalog,
            clients,
            rng,
            stops,
            down: [None; NODES_MAX],
            graveyard: Vec::new(),
            wants_close: false,
            closing_at: 0,
            has_last_looks: false,
            is_over: false,
        }
    }

    fn run(&mut self) {
        self.begin();
        while !self.is_over && self.env.watch.violation().is_none() {
            let Some((at, event)) = self.env.queue.pop() else { break };
            self.env.now = at;
            self.env.trace.event(at, digest::of_event(&event));
            let stepped = self.dispatch(event);
            self.check(stepped);
        }
        self.judge();
    }

    fn into_report(self, seed: u64) -> Report {
        let epochs = (0..self.catalog.groups()).map(|it| self.catalog.config(it).epoch.0).sum();
        let lost = (0..self.catalog.groups()).filter(|it| self.catalog.config(*it).lost).count();
        let (answered, undecided) = (self.env.history.answered(), self.env.history.undecided());
        Report {
            seed,
            violation: self.env.watch.into_violation(),
            hash: self.env.trace.hash(),
            events: self.env.trace.events(),
            lasted: self.env.now,
            answered,
            epochs,
            lost: lost as u64,
            undecided,
            lines: self.env.trace.into_lines(),
        }
    }

    fn begin(&mut self) {
        let scenario = self.env.scenario.clone();
        self.env.say(|| format!("{scenario:#?}"));
        let groups = self.env.groups.clone();
        self.env.say(|| format!("groups {groups:?}"));
        for node in 0..self.joined {
            self.env.queue.push(0, Event::Poll { node, boot: self.nodes[node].boot() });
        }
        for client in 0..self.clients.len() {
            self.env.queue.push(1, Event::ClientTimer { client });
        }
        self.env.queue.push(catalog::LOOK_EVERY, Event::CatalogTimer);
        self.env.queue.push(self.rng.between(100, 700) * MILLISECOND, Event::Fault);
        self.env.queue.push(scenario.heal_at, Event::Heal);
        if let Some(reboot) = scenario.reboot {
            self.env.queue.push(reboot.at, Event::Reboot);
        }
        if let Some(closing) = scenario.closing {
            self.wants_close = true;
            self.env.queue.push(closing.at, Event::Close);
        }
    }

    /// Lets an event happen; answers which node it happened to.
    fn dispatch(&mut self, event: Event) -> Option<usize> {
        let (env, nodes) = (&mut self.env, &mut self.nodes);
        if let Some(node) = node_of(&event)
            && nodes[node].paused_until > env.now
        {
            env.queue.push(nodes[node].paused_until, event);
            return None;
        }
        match event {
            Event::Deliver { from, to, packet } => self.deliver(from, to, packet),
            Event::NodeTimer { node } => {
                if let Some(life) = nodes[node].life_mut() {
                    life.timer(env);
                }
                Some(node)
            }
            Event::Job { node, life, job } => {
                nodes[node].job(env, life, *job);
                if nodes[node].life().is_some_and(Life::has_ended) {
                    self.switch_off(node);
                }
                Some(node)
            }
            Event::ClientTimer { client } => {
                self.clients[client].timer(env);
                None
            }
            Event::CatalogTimer => {
                self.catalog.look(env);
                env.queue.push(env.now + catalog::LOOK_EVERY, Event::CatalogTimer);
                None
            }
            Event::Fault => {
                if !self.env.healed {
                    self.strike();
                    let (low, high) = self.env.scenario.faults.gap;
                    let next = self.env.now + self.rng.between(low, high);
                    self.env.queue.push(next, Event::Fault);
                }
                None
            }
            Event::Start { node } => {
                self.start(node);
                Some(node)
            }
            Event::Poll { node, boot } => {
                if nodes[node].is_running() && nodes[node].boot() == boot {
                    nodes[node].poll(env);
                    let again = env.now + env.scenario.catalog.poll;
                    env.queue.push(again, Event::Poll { node, boot });
                }
                Some(node)
            }
            Event::Room { node } => {
                nodes[node].room(env);
                Some(node)
            }
            Event::Crash { .. }
            | Event::Stop { .. }
            | Event::Close
            | Event::Reboot
            | Event::Heal
            | Event::Look => {
                self.intervene(&event);
                None
            }
        }
    }

    /// What happens to the whole cluster, or to a node whether it stands still or not.
    fn intervene(&mut self, event: &Event) {
        match *event {
            Event::Crash { node } => self.crash(node, false),
            Event::Stop { node, away } => self.stop(node, away),
            Event::Close => self.operate(),
            Event::Reboot => self.reboot(),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
            _ => {}
        }
    }

    fn deliver(&mut self, from: End, to: End, envelope: Box<Packet>) -> Option<usize> {
        let env = &mut self.env;
        let packet = env.open(envelope);
        if env.network.is_cut(from, to) || env.network.is_deaf(to, env.now) {
            env.say(|| format!("{} -> {} cut", Name(from), Name(to)));
            return None;
        }
        match (to, packet) {
            (End::Node(node), packet) => {
                self.nodes[node].deliver(env, self.catalog.feed(), packet);
                if self.nodes[node].life().is_some_and(Life::is_superseded) {
                    self.end(node);
                    self.env.queue.push(self.env.now + 50 * MILLISECOND, Event::Start { node });
                }
                return Some(node);
            }
            (End::Client(client), Packet::Response { request, outcome }) => {
                self.clients[client].deliver(env, &request, outcome);
            }
            (End::Catalog, Packet::ToCatalog(message)) => {
                self.catalog.deliver(env, message);
                self.disturb_handover();
            }
            (End::Client(_) | End::Catalog, _) => {}
        }
        None
    }

    /// Starts a node's process, which asks who it is; the planted bug lets it believe that it is who it was.
    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].is_running() {
            return;
        }
        self.down[node] = None;
        self.env.say(|| format!("node {} starts", node + 1));
        let closing = self.env.scenario.closing.map(|closing| closing.rot_per_mille);
        let reboot = self.env.scenario.reboot.map(|reboot| reboot.rot_per_mille);
        if let Some(per_mille) = closing.max(reboot) {
            self.nodes[node].rot(&mut self.rng, per_mille);
        }
        self.nodes[node].start();
        let keeps = self.env.plant.is(holo_core::replication::Mutant::RestartKeepsIdentity);
        if let Some(me) = self.catalog.current(node).filter(|_| keeps) {
            self.nodes[node].begin(&self.env, me);
        }
        let boot = self.nodes[node].boot();
        self.env.queue.push(self.env.now, Event::Poll { node, boot });
    }

    fn heal(&mut self) {
        self.env.say(|| "faults end".to_owned());
        self.env.healed = true;
        self.env.network.calm();
        self.leave_one_deaf();
        self.catalog.end_gap();
        for node in 0..self.joined {
            self.nodes[node].paused_until = 0;
            self.nodes[node].full_until = 0;
            self.nodes[node].room(&mut self.env);
            if self.down[node] == Some(Forever(false)) {
                self.start(node);
            }
        }
        for client in &mut self.clients {
            client.come_to_an_end(&mut self.env);
        }
        self.env.queue.push(self.env.now + LOOK_EVERY, Event::Look);
    }
}

/// The node that an event happens to; it waits while the node stands still.
fn node_of(event: &Event) -> Option<usize> {
    match event {
        Event::Deliver { to: End::Node(node), .. }
        | Event::NodeTimer { node }
        | Event::Job { node, .. }
        | Event::Poll { node, .. }
        | Event::Room { node } => Some(*node),
        _ => None,
    }
}
