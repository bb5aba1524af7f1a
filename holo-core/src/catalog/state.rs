//! The state, and the one function that changes it.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::arrays::Arrays;
use crate::catalog::changes::{ChangeLog, Subject};
use crate::catalog::closing::Close;
use crate::catalog::command::{Answer, Command, Operation, Settings};
use crate::catalog::nodes::{NodeRecord, Ticket};
use crate::catalog::proof::IssuerCertificate;
use crate::catalog::targets::TargetTable;
use crate::placement::{ClusterView, MemberView};
use crate::replication::{Class, GroupConfig, GroupId, NodeNumber};
use crate::{
    ClusterId, Failure, NodeId, PartitionId, Principal, PublicKey, TableVersion, UnixMillis,
};

/// The catalog at one version.
///
/// # Invariants
///
/// 1. Names, addresses and keys of living nodes are unique; no number is given twice.
/// 2. Every config is sound ([`GroupConfig::check`]), and the indexes by node and of lost groups are those of the configs.
/// 3. A class that has groups has one per partition.
/// 4. A name belongs to at most one array of a tenant; no array id is given twice.
/// 5. What a close knows of who has which group on disk is about groups that there are.
#[derive(Clone, Debug)]
pub struct CatalogState {
    pub(super) version: u64,
    pub(super) now: UnixMillis,
    pub(super) cluster_name: String,
    pub(super) cluster: ClusterId,
    pub(super) root: PublicKey,
    pub(super) partition_bits: u8,
    pub(super) settings: Settings,
    pub(super) nodes: BTreeMap<NodeNumber, NodeRecord>,
    pub(super) next_node: NodeNumber,
    pub(super) tickets: BTreeMap<PublicKey, Ticket>,
    pub(super) groups: BTreeMap<GroupId, GroupConfig>,
    pub(super) table_version: TableVersion,
    pub(super) targets: BTreeMap<u8, TargetTable>,
    pub(super) arrays: Arrays,
    pub(super) next_session: u64,
    pub(super) sessions_expired_below: u64,
    pub(super) principals: BTreeMap<PublicKey, Principal>,
    pub(super) voters: Vec<NodeNumber>,
    pub(super) issuers: BTreeMap<PublicKey, IssuerCertificate>,
    pub(super) close: Option<Close>,
    /// Groups that are not lost, by the nodes that their configs name; derived.
    pub(super) by_node: BTreeMap<NodeNumber, BTreeSet<GroupId>>,
    /// Groups that are lost; derived.
    pub(super) lost: BTreeSet<GroupId>,
    /// What changed lately; not part of the state's identity.
    pub(super) log: ChangeLog,
}

impl CatalogState {
    /// Nothing yet: the first command has to be [`Operation::Bootstrap`].
    pub fn new() -> Self {
        Self {
            version: 0,
            now: UnixMillis(0),
            cluster_name: String::new(),
            cluster: ClusterId([0; 32]),
            root: PublicKey([0; 32]),
            partition_bits: 0,
            settings: Settings::default(),
            nodes: BTreeMap::new(),
            next_node: NodeNumber(1),
            tickets: BTreeMap::new(),
            groups: BTreeMap::new(),
            table_version: TableVersion(0),
            targets: BTreeMap::new(),
            arrays: Arrays::new(),
            next_session: 1,
            sessions_expired_below: 0,
            principals: BTreeMap::new(),
            voters: Vec::new(),
            issuers: BTreeMap::new(),
            close: None,
            by_node: BTreeMap::new(),
            lost: BTreeSet::new(),
            log: ChangeLog::new(0),
        }
    }

    /// Applies the entry at `index` of the log. Whatever happens, it is applied: a refusal is an answer.
    ///
    /// Entries without a command leave gaps between indexes. An index at or below the version was applied before: a bug
    /// of the driver, which debug builds assert and others answer with [`crate::ErrorCode::Internal`].
    pub fn apply(&mut self, index: u64, command: Command) -> Answer {
        debug_assert!(index > self.version, "entry {index} at version {}", self.version);
        if index <= self.version {
            let message = format!("entry {index} was applied before version {}", self.version);
            return Answer::Refused(Failure::new(crate::ErrorCode::Internal, message));
        }
        self.now = self.now.max(command.at);
        let answer = self.perform(command).unwrap_or_else(Answer::Refused);
        self.version = index;
        self.log.seal(index);
        answer
    }

    fn perform(&mut self, command: Command) -> Result<Answer, Failure> {
        let by = command.by;
        match command.operation {
            Operation::Bootstrap(first) => self.bootstrap(&first),
            _ if !self.is_bootstrapped() => {
                Err(Failure::new(crate::ErrorCode::Conflict, "there is no cluster yet")
                    .help("make one with `holo init`"))
            }
            Operation::CreateTicket(ticket) => self.create_ticket(by, &ticket),
            Operation::RevokeTicket(key) => self.revoke_ticket(by, key),
            Operation::AdmitNode(admission) => self.admit(&admission),
            Operation::Register(start) => self.register(by, &start),
            Operation::SetUp(verdicts) => self.set_up(by, &verdicts),
            Operation::SetNodeState { node, change } => self.set_node_state(by, node, &change),
            Operation::ProposeChanges { reporter, proposals } => {
                self.propose(by, reporter, &proposals)
            }
            Operation::ApplyTable(update) => self.apply_table(by, update),
            Operation::CreateArray(array) => self.create_array(by, array),
            Operation::RemoveArray { tenant, array } => self.remove_array(by, tenant, array),
            Operation::LeaseSessions { node, count } => self.lease_sessions(by, node, count),
            Operation::ExpireSessions { below } => self.expire_sessions(by, below),
            Operation::PutPrincipal(principal) => self.put_principal(by, principal),
            Operation::RemovePrincipal(key) => self.remove_principal(by, key),
            Operation::AcceptLoss(groups) => self.accept_loss(by, &groups),
            Operation::FinishDrain { node } => self.finish_drain(by, node),
            Operation::Settings(settings) => self.put_settings(by, settings),
            Operation::SetVoters(voters) => self.set_voters(by, &voters),
            Operation::PutIssuer(certificate) => self.put_issuer(certificate),
            Operation::BeginClose => self.begin_close(by),
            Operation::AbortClose => self.abort_close(by),
            Operation::Hold { close, reporter, holds } => self.hold(by, close, reporter, &holds),
            Operation::FinishClose(close) => self.finish_close(by, close),
            Operation::Reopen { close, reporter, holds } => {
                self.reopen(by, close, reporter, &holds)
            }
            Operation::Resume { reporter, found } => self.resume(by, reporter, &found),
            Operation::Settle { close, groups } => self.settle(by, close, &groups),
        }
    }

    /// Index of the last applied entry.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The catalog's time: the latest that any command carried.
    pub fn now(&self) -> UnixMillis {
        self.now
    }

    /// Whether there is a cluster.
    pub fn is_bootstrapped(&self) -> bool {
        !self.cluster_name.is_empty()
    }

    /// Name of the cluster, for people.
    pub fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    /// The cluster's id: BLAKE3 of its root public key.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The root public key.
    pub fn root(&self) -> PublicKey {
        self.root
    }

    /// There are 2^bits partitions.
    pub fn partition_bits(&self) -> u8 {
        self.partition_bits
    }

    /// The settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// All nodes in order of their numbers, remembered ones too.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.values()
    }

    /// The node of a number, living or remembered.
    pub fn node(&self, number: NodeNumber) -> Option<&NodeRecord> {
        self.nodes.get(&number)
    }

    /// The living node of a key.
    pub fn node_of_key(&self, id: NodeId) -> Option<&NodeRecord> {
        self.nodes.values().find(|node| node.id == id && node.state.is_living())
    }

    /// The living node of a name.
    pub fn node_named(&self, name: &str) -> Option<&NodeRecord> {
        self.nodes.values().find(|node| node.name == name && node.state.is_living())
    }

    /// All tickets that are not over, by key.
    pub fn tickets(&self) -> impl Iterator<Item = (PublicKey, &Ticket)> {
        self.tickets.iter().map(|(key, ticket)| (*key, ticket))
    }

    /// All groups with their configs.
    pub fn groups(&self) -> impl Iterator<Item = &GroupConfig> {
        self.groups.values()
    }

    /// The config of a group.
    pub fn group(&self, group: GroupId) -> Option<&GroupConfig> {
        self.groups.get(&group)
    }

    /// Groups that are not lost and name `node`.
    pub fn groups_of(&self, node: NodeNumber) -> &BTreeSet<GroupId> {
        static NONE: BTreeSet<GroupId> = BTreeSet::new();
        self.by_node.get(&node).unwrap_or(&NONE)
    }

    /// Groups whose data is lost.
    pub fn lost_groups(&self) -> &BTreeSet<GroupId> {
        &self.lost
    }

    /// Classes that have groups.
    pub fn classes(&self) -> BTreeSet<Class> {
        // All groups of the first partition: one per class.
        let of_first = |group: &&GroupId| group.partition == PartitionId(0);
        self.groups.keys().take_while(of_first).map(|group| group.class).collect()
    }

    /// Version of the target tables; 0 before the first.
    pub fn table_version(&self) -> TableVersion {
        self.table_version
    }

    /// The target table for arrays that want `replicas` copies.
    pub fn target(&self, replicas: u8) -> Option<&TargetTable> {
        self.targets.get(&replicas)
    }

    /// All target tables, by the copies wanted.
    pub fn targets(&self) -> &BTreeMap<u8, TargetTable> {
        &self.targets
    }

    /// Nodes that vote, in ascending order.
    pub fn voters(&self) -> &[NodeNumber] {
        &self.voters
    }

    /// Signing keys of voters that the root vouches for.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerCertificate> {
        self.issuers.values()
    }

    /// The id that the next session gets.
    pub fn next_session(&self) -> u64 {
        self.next_session
    }

    /// Sessions with lower ids are over.
    pub fn sessions_expired_below(&self) -> u64 {
        self.sessions_expired_below
    }

    /// The cluster as its users see it: living nodes, and who holds each group in sync.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorCode::InvalidArgument`] when an invariant of the view does not hold, which none of ours allows.
    pub fn view(&self) -> Result<ClusterView, Failure> {
        let mut members = Vec::new();
        let mut indexes: BTreeMap<NodeNumber, u16> = BTreeMap::new();
        let living = self.nodes.values().filter(|node| node.state.is_living());
        for (index, node) in (0u16..).zip(living) {
            indexes.insert(node.number, index);
            members.push(MemberView {
                member: node.to_member(),
                number: node.number,
                state: node.state.name().to_owned(),
                up: node.up,
            });
        }
        let mut classes: BTreeMap<Class, Vec<Vec<u16>>> = BTreeMap::new();
        let mut awaited: BTreeMap<(Class, PartitionId), Vec<u16>> = BTreeMap::new();
        for (group, config) in &self.groups {
            let backups = config.in_sync.iter().filter(|backup| **backup != config.primary);
            let holders = std::iter::once(&config.primary).chain(backups);
            let holders: Vec<u16> = if config.lost {
                Vec::new()
            } else {
                holders.filter_map(|holder| indexes.get(&holder.node).copied()).collect()
            };
            if let Some(hold) = self.awaited(*group) {
                let nodes = hold.holders.iter().filter_map(|it| indexes.get(&it.node).copied());
                awaited.insert((group.class, group.partition), nodes.collect());
            }
            // Groups come in order of their partitions.
            classes.entry(group.class).or_default().push(holders);
        }
        let name = self.cluster_name.clone();
        let view = ClusterView::new(self.version, name, self.partition_bits, members, classes)?;
        view.with_voters(self.voters.clone()).with_awaited(awaited)
    }

    pub(super) fn touch(&mut self, subject: Subject) {
        self.log.note(subject);
    }

    /// Partitions of the ring.
    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..1u32 << self.partition_bits).map(PartitionId)
    }
}

impl Default for CatalogState {
    fn default() -> Self {
        Self::new()
    }
}

/// Equal when everything that the log decided is equal; what is remembered for followers does not count.
impl PartialEq for CatalogState {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
            && self.now == other.now
            && self.cluster_name == other.cluster_name
            && self.root == other.root
            && self.partition_bits == other.partition_bits
            && self.settings == other.settings
            && self.nodes == other.nodes
            && self.next_node == other.next_node
            && self.tickets == other.tickets
            && self.groups == other.groups
            && (self.table_version, &self.targets) == (other.table_version, &other.targets)
            && self.arrays == other.arrays
            && self.next_session == other.next_session
            && self.sessions_expired_below == other.sessions_expired_below
            && self.principals == other.principals
            && self.voters == other.voters
            && self.issuers == other.issuers
            && self.close == other.close
    }
}
