//! A small cluster to try things on, and what is expected of it.

mod admission;
mod arrays;
mod changes;
mod closing;
mod drain;
mod leader;
mod loss;
mod nodes;
mod planner;
mod principals;
mod proof;
mod proposals;
mod random;
mod resume;
mod scale;
mod voters;

use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::replication::{
    Class, ConfigChange, GroupConfig, GroupId, Incarnation, NodeNumber, Proposal, ReplicaId,
};
use crate::wire::Allocate;
use crate::{
    ArrayDescriptor, DType, ErrorCode, Failure, Grant, NodeId, PartitionId, Principal, PublicKey,
    TenantId, UnixMillis, Verb,
};

const SECRET: [u8; 32] = [9; 32];
const BITS: u8 = 4;

/// A catalog, the clock of whoever proposes, and the next place in the log.
#[derive(Clone, Debug)]
struct Lab {
    state: CatalogState,
    now: u64,
    index: u64,
    boots: u8,
    tokens: u64,
    history: History,
}

/// What was applied, as [`crate::fuzzing::catalog_commands`] reads it.
#[derive(Clone, Debug, Default)]
struct History(Vec<u8>);

impl History {
    fn note(&mut self, command: &[u8]) {
        // Longer ones are left out: they are tried elsewhere.
        if let Ok(length) = u16::try_from(command.len()) {
            self.0.extend_from_slice(&length.to_le_bytes());
            self.0.extend_from_slice(command);
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

fn signing(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    PublicKey(signing(seed).verifying_key().to_bytes())
}

/// The operator, tenant 1.
fn admin() -> Authority {
    Authority::Principal(public(1))
}

fn number(number: u32) -> NodeNumber {
    NodeNumber(number)
}

fn replica(node: u32, incarnation: u32) -> ReplicaId {
    ReplicaId { node: NodeNumber(node), incarnation: Incarnation(incarnation) }
}

fn class(replicas: u8, min_in_sync: u8) -> Class {
    Class { replicas, min_in_sync }
}

fn new_node(seed: u8, zone: &str) -> NewNode {
    NewNode {
        id: NodeId(public(seed)),
        name: format!("n{seed}"),
        address: format!("10.0.0.{seed}:7400"),
        zone: zone.to_owned(),
        weight_milli: 1000,
        agent: "holo 0.1.0".to_owned(),
    }
}

fn principal(seed: u8, tenant: u32, verbs: &[(Verb, &str)]) -> Principal {
    let grants =
        verbs.iter().map(|(verb, pattern)| Grant { verb: *verb, pattern: (*pattern).into() });
    Principal {
        key: public(seed),
        name: format!("p{seed}"),
        tenant: TenantId(tenant),
        grants: grants.collect(),
    }
}

fn bootstrap(founders: Vec<NewNode>) -> Bootstrap {
    let all = Verb::ALL.iter().filter(|verb| **verb != Verb::Member);
    let operator = Principal {
        key: public(1),
        name: "operator".to_owned(),
        tenant: TenantId(1),
        grants: all.map(|verb| Grant::any(*verb)).collect(),
    };
    Bootstrap {
        cluster_name: "lab".to_owned(),
        root: public(2),
        partition_bits: BITS,
        founders,
        principals: vec![operator],
        settings: Settings::default(),
    }
}

impl Lab {
    /// Nodes 1 to `nodes`, started, in zones of their own, without any table.
    fn bare(nodes: u8) -> Self {
        let (state, history) = (CatalogState::new(), History::default());
        let mut lab = Self { state, now: 1000, index: 0, boots: 0, tokens: 0, history };
        let founders = (1..=nodes).map(|seed| new_node(100 + seed, &format!("z{seed}"))).collect();
        lab.ok(Authority::Nobody, Operation::Bootstrap(bootstrap(founders)));
        for node in 1..=u32::from(nodes) {
            lab.start(node);
        }
        lab
    }

    /// As [`Self::bare`], with the tables planned for 1 to 3 copies.
    fn new(nodes: u8) -> Self {
        let mut lab = Self::bare(nodes);
        lab.replan(&[1, 2, 3]);
        lab
    }

    fn apply(&mut self, by: Authority, operation: Operation) -> Answer {
        self.index += 1;
        let command = Command { at: UnixMillis(self.now), by, operation };
        // What is applied has crossed the wire.
        let bytes = command.encode();
        self.history.note(&bytes);
        let command = Command::decode(&bytes).unwrap();
        let answer = self.state.apply(self.index, command);
        self.state.check().unwrap();
        assert_eq!(Answer::decode(&answer.encode()).unwrap(), answer);
        answer
    }

    #[track_caller]
    fn ok(&mut self, by: Authority, operation: Operation) -> Answer {
        self.apply(by, operation).accepted().unwrap()
    }

    /// Expects a refusal, and that it changed nothing.
    #[track_caller]
    fn refused(&mut self, by: Authority, operation: Operation) -> Failure {
        let before = self.state.clone();
        let failure = self.apply(by, operation).accepted().unwrap_err();
        let changes = self.state.changes_since(before.version()).unwrap();
        assert_eq!(
            changes,
            Changes { from: before.version(), ..before_heading(&before, &self.state) }
        );
        assert!(!failure.message.is_empty());
        failure
    }

    /// The node's process starts (again) and has nothing of what it held: its new replica.
    fn start(&mut self, node: u32) -> ReplicaId {
        self.register(node, false)
    }

    /// The node's process starts again after one that left something on disk.
    fn restart(&mut self, node: u32) -> ReplicaId {
        self.register(node, true)
    }

    fn register(&mut self, node: u32, keeps: bool) -> ReplicaId {
        self.boots += 1;
        let start = Registration { keeps, ..registration(node, self.boots) };
        match self.ok(Authority::Node(number(node)), Operation::Register(start)) {
            Answer::Registered { incarnation, .. } => ReplicaId { node: number(node), incarnation },
            other => panic!("{other:?}"),
        }
    }

    /// The node has found all that its earlier lives left, whole or not.
    fn resume_all(&mut self, me: ReplicaId, is_whole: bool) {
        let past = self.state.to_resume(me).unwrap();
        let found = past.into_iter().map(|past| Resumption { past, is_whole }).collect();
        self.ok(Authority::Node(me.node), Operation::Resume { reporter: me, found });
    }

    fn set_up(&mut self, node: u32, up: bool) {
        let replica = self.state.node(number(node)).unwrap().replica();
        self.ok(Authority::Node(number(1)), Operation::SetUp(vec![Liveness { replica, up }]));
    }

    fn change(&mut self, node: u32, change: NodeChange) -> Answer {
        self.ok(admin(), Operation::SetNodeState { node: number(node), change })
    }

    fn drain(&mut self, node: u32) {
        self.change(node, NodeChange::Drain { deadline: None });
    }

    fn plan(&self) -> Plan {
        plan(&self.state, UnixMillis(self.now)).unwrap()
    }

    fn replan(&mut self, also: &[u8]) {
        let plan = plan_with(&self.state, UnixMillis(self.now), also).unwrap();
        for update in plan.updates() {
            self.ok(Authority::Node(number(1)), Operation::ApplyTable(update));
        }
    }

    fn request(name: &str, replicas: u32, min_in_sync: u32) -> Allocate {
        Allocate {
            name: name.to_owned(),
            shape: vec![1000],
            dtype: u32::from(DType::F64.to_byte()),
            shard_elems: 10,
            replicas,
            min_in_sync,
            ..Allocate::default()
        }
    }

    /// An array of 100 shards, which are in all partitions.
    fn array(&mut self, name: &str, replicas: u32, min_in_sync: u32) -> ArrayDescriptor {
        self.tokens += 1;
        let request = Self::request(name, replicas, min_in_sync);
        let new = self.state.prepare_array(public(1), &request, &SECRET, self.tokens).unwrap();
        match self.ok(admin(), Operation::CreateArray(new)) {
            Answer::Created(array) => array,
            other => panic!("{other:?}"),
        }
    }

    fn config(&self, partition: u32, class: Class) -> GroupConfig {
        self.state.group(GroupId { partition: PartitionId(partition), class }).unwrap().clone()
    }

    fn propose(&mut self, by: ReplicaId, group: GroupId, change: ConfigChange) -> ProposalAnswer {
        let epoch = self.state.group(group).unwrap().epoch;
        let proposals = vec![Proposal { group, epoch, by, change }];
        let operation = Operation::ProposeChanges { reporter: by, proposals };
        match self.ok(Authority::Node(by.node), operation) {
            Answer::Proposals(mut answers) => answers.remove(0),
            other => panic!("{other:?}"),
        }
    }

    /// Lets primaries do what the tables want, as if every learner caught up at once. Counts the changes.
    fn settle(&mut self) -> usize {
        let groups: Vec<GroupId> = self.state.groups().map(|config| config.group).collect();
        let mut changes = 0;
        for group in groups {
            loop {
                let config = self.state.group(group).unwrap().clone();
                let caught_up = config.learners.first().copied().map(ConfigChange::AddInSync);
                let Some(change) = self.state.next_change(group).or(caught_up) else { break };
                let answer = self.propose(config.primary, group, change);
                assert_eq!(answer.refusal, None, "{change:?} of {config:?}");
                changes += 1;
                assert!(changes < 10_000, "{change:?} of {config:?}: it never ends");
            }
        }
        changes
    }
}

/// What every answer of `changes_since` has, changed or not.
fn before_heading(before: &CatalogState, after: &CatalogState) -> Changes {
    let nothing = before.changes_since(before.version()).unwrap();
    Changes { to: after.version(), now: after.now(), ..nothing }
}

fn registration(node: u32, boot: u8) -> Registration {
    Registration {
        node: number(node),
        boot: BootId([boot; 16]),
        agent: "holo 0.1.0".to_owned(),
        address: String::new(),
        after: None,
        keeps: false,
    }
}

fn sign(seed: u8, statement: &[u8]) -> [u8; 64] {
    signing(seed).sign(statement).to_bytes()
}
