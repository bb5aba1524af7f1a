//! The catalog as one actor: the real state machine of `holo-core` and its leader, behind habits that its Raft may have.
//!
//! Answers come late or not at all, an election leaves a gap and a leader who remembers nothing, and followers tell old
//! news. What is behind that, the Raft of the product, is tested elsewhere.

mod closing;
mod tables;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use holo_core::catalog::{
    Answer, Authority, BootId, CatalogState, Command, Duty, Leader, LeaderView, NodeChange,
    NodeState, Operation, Registration, Step, plan_with,
};
use holo_core::replication::{
    ConfigChange, ConfigClaim, GroupConfig, GroupId, Mutant, Proposal, ReplicaId, SessionId,
};
use holo_core::{Epoch, Failure, Instant, UnixMillis};

use crate::brief;
use crate::env::{Env, node_index, node_number};
use crate::founding;
use crate::mutant::Plant;
use crate::network::{End, MILLISECOND, NODES_MAX};
use crate::packet::{FromCatalog, Packet, ToCatalog};
use crate::queue::Time;

/// How often the leader looks who is there.
pub(crate) const LOOK_EVERY: Time = 100 * MILLISECOND;

/// One change that nodes hear of.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A group has a new config.
    Config {
        /// Index of the group.
        group: usize,
        /// The config with its proof.
        claim: ConfigClaim,
    },
    /// The current life of every node.
    Living(Vec<ReplicaId>),
    /// The wanted holders of all groups.
    Targets(Vec<(GroupId, Vec<ReplicaId>)>),
    /// Sessions below this one are over.
    Expired(SessionId),
    /// All of the catalog, since the first close of the cluster.
    Copy(Arc<CatalogState>),
}

impl News {
    /// Whether nobody needs `other` who has this.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Config { group, .. }, Self::Config { group: of, .. }) => group == of,
            (Self::Living(_), Self::Living(_))
            | (Self::Targets(_), Self::Targets(_))
            | (Self::Expired(_), Self::Expired(_))
            | (Self::Copy(_), Self::Copy(_)) => true,
            _ => false,
        }
    }
}

/// The catalog.
#[derive(Debug)]
pub(crate) struct Catalog {
    state: CatalogState,
    index: u64,
    feed: Vec<News>,
    /// When each of the news was made.
    times: Vec<Time>,
    /// The newest config of each group, as published.
    configs: Vec<ConfigClaim>,
    /// Who leads, and does not before the last election is over.
    leader: Option<Leader>,
    /// When the leader has heard each node last, and which life of it.
    heard: [Option<(ReplicaId, Instant)>; NODES_MAX],
    /// Until when nothing is answered.
    gap_until: Time,
    /// Lives as last told.
    living: Vec<ReplicaId>,
    /// Wanted holders as last told.
    wanted: Vec<(GroupId, Vec<ReplicaId>)>,
    /// There was a close of the cluster: nodes follow all of the catalog.
    has_closed: bool,
}

impl Catalog {
    /// A cluster of the scenario's members with all its groups; `env` gets the groups.
    pub(crate) fn found(env: &mut Env) -> Self {
        let mut catalog = Self {
            state: CatalogState::new(),
            index: 0,
            feed: Vec::with_capacity(64),
            times: Vec::with_capacity(64),
            configs: Vec::new(),
            leader: None,
            heard: [None; NODES_MAX],
            gap_until: 0,
            living: Vec::new(),
            wanted: Vec::new(),
            has_closed: false,
        };
        let nodes = env.scenario.members + env.scenario.spares;
        let bits = env.scenario.partition_bits;
        catalog.must(
            env,
            Authority::Nobody,
            founding::bootstrap(&env.scenario.zones[..nodes], bits),
        );
        for node in 0..env.scenario.members {
            catalog.must(env, Authority::Node(node_number(node)), registration(node, 1, false));
        }
        for (at, class) in env.scenario.classes.clone().into_iter().enumerate() {
            if let Ok(plan) = plan_with(&catalog.state, wall(env), &[class.replicas]) {
                catalog.take(env, &Step::Place(plan));
            }
            catalog.must(env, founding::OPERATOR, founding::array(at, class));
        }
        env.groups = catalog.state.groups().map(|config| config.group).collect();
        catalog.feed.clear();
        catalog.times.clear();
        catalog.living.clear();
        catalog.wanted.clear();
        catalog.configs = catalog.state.groups().map(|config| claim(env, config.clone())).collect();
        env.leaders =
            catalog.configs.iter().map(|claim| node_index(claim.config.primary)).collect();
        catalog.tell_nodes(env);
        for group in 0..catalog.configs.len() {
            let claim = catalog.configs[group].clone();
            catalog.tell(env, News::Config { group, claim });
        }
        catalog.tell_targets(env);
        catalog
    }

    /// Every change so far.
    pub(crate) fn feed(&self) -> &[News] {
        &self.feed
    }

    /// The newest config of a group.
    pub(crate) fn config(&self, group: usize) -> &GroupConfig {
        &self.configs[group].config
    }

    /// The newest config of a group with its proof.
    pub(crate) fn claim(&self, group: usize) -> &ConfigClaim {
        &self.configs[group]
    }

    /// Whether any config of the group has named a replica.
    pub(crate) fn was_member(&self, group: usize, replica: ReplicaId) -> bool {
        self.feed.iter().any(|news| match news {
            News::Config { group: of, claim } => {
                *of == group && claim.config.role_of(replica).is_some()
            }
            News::Living(_) | News::Targets(_) | News::Expired(_) | News::Copy(_) => false,
        })
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        self.configs.len()
    }

    /// The wanted holders of a group, primary first.
    pub(crate) fn targets(&self, group: GroupId) -> &[holo_core::replication::NodeNumber] {
        let table = self.state.target(group.class.replicas);
        table.map_or(&[], |table| table.holders(group.partition))
    }

    /// The current life of a node.
    pub(crate) fn current(&self, node: usize) -> Option<ReplicaId> {
        let record = self.state.node(node_number(node))?;
        (record.incarnation.0 > 0).then(|| record.replica())
    }

    /// Whether a node is being emptied, or empty.
    pub(crate) fn is_drained(&self, node: usize) -> bool {
        let state = self.state.node(node_number(node)).map(|record| record.state);
        matches!(state, Some(NodeState::Draining { .. } | NodeState::Drained))
    }

    /// Takes a message of a node.
    pub(crate) fn deliver(&mut self, env: &mut Env, message: ToCatalog) {
        if env.now < self.gap_until {
            return;
        }
        match message {
            ToCatalog::Register { node, boot, keeps } => {
                self.register(env, node, (boot, keeps));
            }
            ToCatalog::Resume { by, found } => {
                let resume = Operation::Resume { reporter: by, found: vec![found] };
                self.tell_refusal(env, by, resume);
            }
            ToCatalog::Propose(proposal) => self.propose(env, &proposal),
            ToCatalog::Poll { replica, known } => {
                let node = node_index(replica);
                if let Some(heard) = self.heard.get_mut(node) {
                    *heard = Some((replica, Instant(env.now)));
                }
                self.answer(env, node, known);
            }
            ToCatalog::Hold { by, close, held } => {
                let hold = Operation::Hold { close, reporter: by, holds: vec![held] };
                self.tell_refusal(env, by, hold);
            }
            ToCatalog::Reopen { by, close, held } => {
                let reopen = Operation::Reopen { close, reporter: by, holds: vec![held] };
                self.tell_refusal(env, by, reopen);
            }
        }
    }

    /// Nobody leads until then, and whoever does from then on has heard nobody yet.
    pub(crate) fn elect(&mut self, until: Time) {
        self.gap_until = until;
        self.leader = None;
        self.heard = [None; NODES_MAX];
    }

    /// The election is over.
    pub(crate) fn end_gap(&mut self) {
        self.gap_until = 0;
    }

    /// Has the leader do its duties, if there is one.
    pub(crate) fn look(&mut self, env: &mut Env) {
        if env.now < self.gap_until {
            return;
        }
        for duty in Duty::ALL {
            match self.due(env, duty) {
                Ok(steps) => steps.iter().for_each(|step| self.take(env, step)),
                Err(failure) => env.say(|| format!("leader: {duty:?} is not done: {failure}")),
            }
        }
    }

    fn due(&mut self, env: &Env, duty: Duty) -> Result<Vec<Step>, Failure> {
        // It is led by some node that runs; the vote of the first one stands for all where the leader ends with the others.
        let me = (duty == Duty::Close).then(|| self.first_running()).flatten();
        let (state, now, wall) = (&self.state, Instant(env.now), wall(env));
        let heard = |replica: ReplicaId| {
            let (life, at) = (*self.heard.get(node_index(replica))?)?;
            (life == replica).then_some(at)
        };
        let voters = BTreeSet::new();
        let view = LeaderView { state, now, wall, node: None, me, voters: &voters, heard: &heard };
        let down_after = Duration::from_nanos(env.scenario.catalog.down_after);
        self.leader.get_or_insert_with(|| Leader::new(now, down_after)).due(duty, &view)
    }

    fn take(&mut self, env: &mut Env, step: &Step) {
        if let Step::Close(step) = step {
            return self.take_close_step(env, step);
        }
        let leader = Authority::Node(node_number(0));
        for operation in step.operations() {
            self.perform(env, leader, operation);
        }
    }

    /// Empties a node, or takes it back.
    pub(crate) fn drain(&mut self, env: &mut Env, node: usize) {
        let change = if self.is_drained(node) {
            NodeChange::Undrain
        } else {
            NodeChange::Drain { deadline: None }
        };
        let node = node_number(node);
        self.perform(env, founding::OPERATOR, Operation::SetNodeState { node, change });
    }

    /// Ends all sessions below one.
    pub(crate) fn expire(&mut self, env: &mut Env, below: SessionId) {
        let leader = Authority::Node(node_number(0));
        self.perform(env, leader, Operation::ExpireSessions { below: below.0 });
    }

    /// Takes a block of sessions from the real counter; the simulator counts within it.
    pub(crate) fn lease_sessions(&mut self, env: &mut Env, count: u32) -> u64 {
        let node = node_number(0);
        let lease = Operation::LeaseSessions { node, count };
        match self.perform(env, Authority::Node(node), lease) {
            Answer::Sessions { first, .. } => first,
            _ => 1,
        }
    }

    fn register(&mut self, env: &mut Env, node: usize, (boot, keeps): (u64, bool)) {
        let by = Authority::Node(node_number(node));
        let answer = self.perform(env, by, registration(node, boot, keeps));
        if let (Answer::Registered { .. }, Some(replica)) = (answer, self.current(node)) {
            self.reply(env, node, FromCatalog::Registered { boot, replica });
        }
    }

    fn propose(&mut self, env: &mut Env, proposal: &Proposal) {
        let mut wanted = *proposal;
        if env.plant.is(Mutant::CatalogWithoutCompare)
            && let Some(config) = self.state.group(proposal.group)
        {
            wanted.epoch = config.epoch;
        }
        let by = Authority::Node(proposal.by.node);
        let operation =
            Operation::ProposeChanges { reporter: proposal.by, proposals: vec![wanted] };
        let refusal = match self.perform(env, by, operation) {
            Answer::Proposals(answers) => answers.first().and_then(|answer| answer.refusal),
            _ => Some(holo_core::catalog::ChangeRefusal::Unknown),
        };
        if let (ConfigChange::Handover(to), None) = (proposal.change, refusal) {
            env.handed_over = Some((node_index(proposal.by), node_index(to)));
        }
        if let Some(refusal) = refusal {
            env.say(|| format!("catalog refuses {proposal:?}: {refusal}"));
            if refusal.is_settled() {
                let (group, epoch) = (proposal.group, proposal.epoch);
                self.reply(env, node_index(proposal.by), FromCatalog::Refused { group, epoch });
            }
        }
    }

    /// Says how many news there are; a follower that lags knows fewer.
    fn answer(&self, env: &mut Env, node: usize, known: usize) {
        let lag = if env.healed { 0 } else { env.rng.below(env.scenario.catalog.follower_lag + 1) };
        let as_of = env.now.saturating_sub(lag.max(env.news_lag(node)));
        let newest = self.times.partition_point(|made| *made <= as_of);
        if newest > known {
            self.reply(env, node, FromCatalog::News { known: newest });
        }
    }

    fn reply(&self, env: &mut Env, node: usize, answer: FromCatalog) {
        let lost = !env.healed && env.rng.chance(env.scenario.catalog.lost_answer_per_mille);
        if node < NODES_MAX && !lost {
            env.send(End::Catalog, End::Node(node), Packet::FromCatalog(answer));
        }
    }

    fn must(&mut self, env: &mut Env, by: Authority, operation: Operation) {
        let answer = self.perform(env, by, operation);
        assert!(!matches!(answer, Answer::Refused(_)), "the cluster was not founded: {answer:?}");
    }

    /// Applies a command to the real state, and tells what came of it.
    fn perform(&mut self, env: &mut Env, by: Authority, operation: Operation) -> Answer {
        let before = self.state.version();
        let table = self.state.table_version();
        self.index += 1;
        let command = Command { at: wall(env), by, operation };
        let answer = self.state.apply(self.index, command);
        let Some(changes) = self.state.changes_since(before) else { return answer };
        let known = self.feed.len();
        let is_news = changes.touches_close()
            || !changes.nodes().is_empty()
            || changes.groups().iter().next().is_some();
        if self.has_closed && is_news {
            self.tell(env, News::Copy(Arc::new(self.state.clone())));
        }
        if !changes.nodes().is_empty() {
            self.tell_nodes(env);
        }
        if self.configs.len() == env.groups.len() {
            for config in changes.groups() {
                self.publish(env, config.clone());
            }
        }
        if self.state.table_version() != table || !changes.nodes().is_empty() {
            self.tell_targets(env);
        }
        let outlive = env.plant == Plant::SessionsOutliveClose && self.is_finished();
        let below = changes.sessions_expired_below().filter(|below| *below > 0 && !outlive);
        if let Some(below) = below {
            self.tell(env, News::Expired(SessionId(below)));
        }
        if self.feed.len() > known && env.now > 0 {
            self.spread(env);
        }
        answer
    }

    fn publish(&mut self, env: &mut Env, mut config: GroupConfig) {
        let Some(group) = env.group_index(config.group) else { return };
        let last = &self.configs[group].config;
        if env.plant.is(Mutant::UncleanElection) && config.lost {
            // The planted bug: whoever is being brought up becomes the group's data.
            if let Some(learner) = last.learners.iter().find(|it| self.is_present(**it)) {
                config = GroupConfig {
                    primary: *learner,
                    in_sync: vec![*learner],
                    learners: Vec::new(),
                    lost: false,
                    epoch: Epoch(last.epoch.0 + 1),
                    group: config.group,
                };
            }
        }
        if config.epoch <= last.epoch {
            return;
        }
        env.say(|| format!("catalog: group {group} {}", brief::Config(&config)));
        env.touch(group);
        env.leaders[group] = node_index(config.primary);
        if config.lost && !last.lost {
            env.given_up.push((group, last.in_sync.clone()));
        }
        if last.lost && !config.lost {
            env.watch.begin_again(group, config.epoch);
            env.reopened.push(group);
        }
        let claim = claim(env, config);
        self.configs[group] = claim.clone();
        self.tell(env, News::Config { group, claim });
    }

    fn is_finished(&self) -> bool {
        self.state.close().is_some_and(|close| close.finished)
    }

    fn is_present(&self, replica: ReplicaId) -> bool {
        self.state.node(replica.node).is_some_and(|record| record.replica() == replica)
    }

    /// Tells every node that there are news, as far as the network carries it.
    fn spread(&self, env: &mut Env) {
        for node in 0..NODES_MAX {
            if self.current(node).is_some() {
                self.answer(env, node, 0);
            }
        }
    }

    fn tell(&mut self, env: &Env, news: News) {
        self.feed.push(news);
        self.times.push(env.now);
    }

    fn tell_nodes(&mut self, env: &Env) {
        let living = self.state.nodes().filter(|record| record.incarnation.0 > 0);
        let living: Vec<ReplicaId> = living.map(|record| record.replica()).collect();
        if living != self.living {
            self.living.clone_from(&living);
            self.tell(env, News::Living(living));
        }
    }

    fn tell_targets(&mut self, env: &Env) {
        let wanted = env.groups.iter().map(|group| {
            let holders = self.targets(*group).iter();
            let current = holders.filter_map(|number| {
                let record = self.state.node(*number)?;
                (record.incarnation.0 > 0).then(|| record.replica())
            });
            (*group, current.collect())
        });
        let wanted: Vec<(GroupId, Vec<ReplicaId>)> = wanted.collect();
        if wanted != self.wanted {
            self.wanted.clone_from(&wanted);
            self.tell(env, News::Targets(wanted));
        }
    }
}

/// The time of day.
fn wall(env: &Env) -> UnixMillis {
    UnixMillis(1_000_000 + env.now / MILLISECOND)
}

fn claim(env: &Env, config: GroupConfig) -> ConfigClaim {
    let proof = env.proofs.prove(&config);
    ConfigClaim { config: Arc::new(config), proof }
}

fn registration(node: usize, boot: u64, keeps: bool) -> Operation {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&boot.to_le_bytes());
    Operation::Register(Registration {
        node: node_number(node),
        boot: BootId(id),
        agent: String::new(),
        address: String::new(),
        after: None,
        keeps,
    })
}
