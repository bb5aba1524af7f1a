//! What changed since a version: for followers, which keep a copy of the catalog.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::catalog::arrays::ArrayRecord;
use crate::catalog::closing::{Close, CloseId, GroupHold};
use crate::catalog::command::Settings;
use crate::catalog::nodes::{NodeRecord, Ticket};
use crate::catalog::proof::IssuerCertificate;
use crate::catalog::state::CatalogState;
use crate::catalog::targets::TargetTable;
use crate::replication::{GroupConfig, GroupId, NodeNumber};
use crate::{
    ArrayDescriptor, ArrayId, ErrorCode, Failure, Principal, PublicKey, TableVersion, UnixMillis,
    limits,
};

/// Groups, arrays or holds in one part of a state that is written out.
const PART_THINGS: usize = 256;

/// A thing of the catalog that can change. There may be many, so what is rare and long lies elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Cluster,
    Settings,
    Voters,
    Sessions,
    Table,
    Node(NodeNumber),
    Ticket(Box<PublicKey>),
    Group(GroupId),
    Array(ArrayId),
    Principal(Box<PublicKey>),
    Issuer(Box<PublicKey>),
    Close,
    Hold(GroupId),
}

/// Which things changed at which versions, as far back as the bound allows.
#[derive(Clone, Debug)]
pub(super) struct ChangeLog {
    /// Changes after this version are all here.
    floor: u64,
    /// Versions at which something changed, each with how many of `subjects` that were.
    sealed: VecDeque<(u64, usize)>,
    /// What changed, in the order of `sealed`; behind that, what changed since.
    subjects: VecDeque<Subject>,
    /// How many of `subjects` have no version yet.
    open: usize,
}

impl ChangeLog {
    pub(super) fn new(floor: u64) -> Self {
        Self { floor, sealed: VecDeque::new(), subjects: VecDeque::new(), open: 0 }
    }

    pub(super) fn note(&mut self, subject: Subject) {
        self.subjects.push_back(subject);
        self.open += 1;
    }

    /// What was noted since the last call happened at `version`.
    pub(super) fn seal(&mut self, version: u64) {
        if self.open == 0 {
            return;
        }
        self.sealed.push_back((version, std::mem::take(&mut self.open)));
        while self.subjects.len() > limits::CATALOG_CHANGES_MAX {
            let Some((version, count)) = self.sealed.pop_front() else { break };
            self.subjects.drain(..count);
            self.floor = version;
        }
    }

    fn since(&self, version: u64) -> Option<BTreeSet<Subject>> {
        if version < self.floor {
            return None;
        }
        let first = self.sealed.partition_point(|(at, _)| *at <= version);
        let late: usize = self.sealed.range(first..).map(|(_, count)| count).sum();
        let end = self.subjects.len() - self.open;
        Some(self.subjects.range(end - late..end).cloned().collect())
    }
}

/// A part of a catalog, or the whole: the present content of all that changed after one version.
///
/// [`CatalogState::merge`] brings a follower's copy to [`Self::to`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    pub(super) from: u64,
    pub(super) to: u64,
    /// It is everything: what is not here, is not.
    pub(super) whole: bool,
    pub(super) now: UnixMillis,
    pub(super) cluster: Option<ClusterFacts>,
    pub(super) settings: Option<Settings>,
    pub(super) voters: Option<Vec<NodeNumber>>,
    pub(super) sessions: Option<(u64, u64)>,
    pub(super) tables: Option<(TableVersion, BTreeMap<u8, TargetTable>)>,
    pub(super) next_node: NodeNumber,
    pub(super) next_array: ArrayId,
    pub(super) nodes: Vec<NodeRecord>,
    pub(super) gone_nodes: Vec<NodeNumber>,
    pub(super) tickets: Vec<(PublicKey, Ticket)>,
    pub(super) gone_tickets: Vec<PublicKey>,
    pub(super) groups: Vec<GroupConfig>,
    pub(super) arrays: Vec<ArrayRecord>,
    pub(super) gone_arrays: Vec<ArrayId>,
    pub(super) principals: Vec<Principal>,
    pub(super) gone_principals: Vec<PublicKey>,
    pub(super) issuers: Vec<IssuerCertificate>,
    pub(super) gone_issuers: Vec<PublicKey>,
    pub(super) close: Option<CloseFacts>,
    pub(super) holds: Vec<(GroupId, GroupHold)>,
    pub(super) gone_holds: Vec<GroupId>,
}

/// A close without who holds what; an id of 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CloseFacts {
    pub(super) id: CloseId,
    pub(super) since: UnixMillis,
    pub(super) finished: bool,
}

/// What never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClusterFacts {
    pub(super) name: String,
    pub(super) root: PublicKey,
    pub(super) partition_bits: u8,
}

impl Changes {
    /// The version that a copy must have, or may be past, to be brought up to date by these; meaningless for the whole.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// The version that these lead to.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// Whether these are the whole state.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Nodes that came or changed.
    pub fn nodes(&self) -> &[NodeRecord] {
        &self.nodes
    }

    /// Configs that changed.
    pub fn groups(&self) -> &[GroupConfig] {
        &self.groups
    }

    /// Arrays that were created.
    pub fn arrays(&self) -> impl Iterator<Item = &ArrayDescriptor> {
        self.arrays.iter().map(|record| &record.descriptor)
    }

    /// The id that the next array will have: there was none from here on.
    pub fn next_array(&self) -> ArrayId {
        self.next_array
    }

    /// Arrays that were removed, as far as these are not the whole.
    pub fn removed_arrays(&self) -> &[ArrayId] {
        &self.gone_arrays
    }

    /// The session mark, if it may have moved: sessions with lower ids are over.
    pub fn sessions_expired_below(&self) -> Option<u64> {
        self.sessions.map(|(_, below)| below)
    }

    /// Whether members, principals or their rights may have changed.
    pub fn touches_policy(&self) -> bool {
        self.whole
            || !self.nodes.is_empty()
            || !self.gone_nodes.is_empty()
            || !self.principals.is_empty()
            || !self.gone_principals.is_empty()
    }

    /// Voters, if they changed.
    pub fn voters(&self) -> Option<&[NodeNumber]> {
        self.voters.as_deref()
    }

    /// Whether a close of the cluster, or what is known of who holds what for it, may have changed.
    pub fn touches_close(&self) -> bool {
        self.whole || self.close.is_some() || !self.holds.is_empty() || !self.gone_holds.is_empty()
    }

    /// Signing keys that became known.
    pub fn issuers(&self) -> &[IssuerCertificate] {
        &self.issuers
    }
}

impl CatalogState {
    /// All that changed after `version`, or `None` when that is too long ago or in the future: send [`Self::whole`] then.
    pub fn changes_since(&self, version: u64) -> Option<Changes> {
        if version > self.version {
            return None;
        }
        let mut changes = Changes { from: version, ..self.heading() };
        for subject in self.log.since(version)? {
            self.collect(subject, &mut changes);
        }
        Some(changes)
    }

    /// Everything, as the changes since nothing.
    pub fn whole(&self) -> Changes {
        Changes {
            groups: self.groups.values().cloned().collect(),
            arrays: self.arrays.records().cloned().collect(),
            holds: self.holds().collect(),
            ..self.whole_but_many()
        }
    }

    /// Everything in parts that are small even when the whole is large: absorbed one after the other they give it.
    pub(super) fn whole_in_parts(&self) -> impl Iterator<Item = Changes> {
        let groups = parts_of(self.groups.values().cloned());
        let arrays = parts_of(self.arrays.records().cloned());
        let holds = parts_of(self.holds());
        std::iter::once(self.whole_but_many())
            .chain(groups.map(|groups| Changes { groups, ..Changes::default() }))
            .chain(arrays.map(|arrays| Changes { arrays, ..Changes::default() }))
            .chain(holds.map(|holds| Changes { holds, ..Changes::default() }))
    }

    /// Everything but groups, arrays and holds.
    fn whole_but_many(&self) -> Changes {
        Changes {
            whole: true,
            cluster: self.facts(),
            settings: Some(self.settings),
            voters: Some(self.voters.clone()),
            sessions: Some((self.next_session, self.sessions_expired_below)),
            tables: Some((self.table_version, self.targets.clone())),
            nodes: self.nodes.values().cloned().collect(),
            tickets: self.tickets.iter().map(|(key, ticket)| (*key, ticket.clone())).collect(),
            principals: self.principals.values().cloned().collect(),
            issuers: self.issuers.values().cloned().collect(),
            close: self.close.is_some().then(|| self.close_facts()),
            ..self.heading()
        }
    }

    /// Brings this copy up to date. Changes that it has already do no harm.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Conflict`] when changes between this copy and `changes` are missing, or they are about another
    /// cluster: fetch the whole state; [`ErrorCode::Malformed`] for groups beyond the ring. Nothing changes then.
    pub fn merge(&mut self, changes: Changes) -> Result<(), Failure> {
        if changes.whole {
            if self.is_bootstrapped()
                && changes.cluster.as_ref().is_some_and(|facts| facts.root != self.root)
            {
                return Err(Failure::new(
                    ErrorCode::ClusterMismatch,
                    "the state of another cluster",
                ));
            }
            if changes.to < self.version {
                return Ok(());
            }
            let mut fresh = Self::new();
            fresh.log = ChangeLog::new(changes.to);
            fresh.absorb(changes)?;
            *self = fresh;
            return Ok(());
        }
        if changes.from > self.version {
            let message =
                format!("changes from version {}, this copy is at {}", changes.from, self.version);
            return Err(Failure::new(ErrorCode::Conflict, message));
        }
        if changes.to <= self.version {
            return Ok(());
        }
        self.absorb(changes)
    }

    fn absorb(&mut self, changes: Changes) -> Result<(), Failure> {
        let (to, whole) = (changes.to, changes.whole);
        self.absorb_part(changes)?;
        self.version = to;
        if whole {
            self.log = ChangeLog::new(to);
        } else {
            self.log.seal(to);
        }
        Ok(())
    }

    /// Takes over what is in `changes`; at which version that is, is for the caller to say. Nothing changes when it is
    /// refused.
    pub(super) fn absorb_part(&mut self, changes: Changes) -> Result<(), Failure> {
        let bits =
            changes.cluster.as_ref().map_or(self.partition_bits, |facts| facts.partition_bits);
        if changes.groups.iter().any(|config| config.group.partition.0 >> bits != 0) {
            return Err(Failure::new(ErrorCode::Malformed, "a group beyond the ring"));
        }
        self.absorb_small(&changes);
        self.absorb_close(&changes);
        for record in changes.nodes {
            self.touch(Subject::Node(record.number));
            self.nodes.insert(record.number, record);
        }
        for config in changes.groups {
            self.replace_group(config);
        }
        for id in changes.gone_arrays {
            self.arrays.remove(id);
            self.touch(Subject::Array(id));
        }
        for record in changes.arrays {
            self.touch(Subject::Array(record.descriptor.id));
            self.arrays.put(record);
        }
        self.arrays.raise_next(changes.next_array);
        for (key, ticket) in changes.tickets {
            self.tickets.insert(key, ticket);
            self.touch(Subject::Ticket(Box::new(key)));
        }
        for principal in changes.principals {
            self.touch(Subject::Principal(Box::new(principal.key)));
            self.principals.insert(principal.key, principal);
        }
        for issuer in changes.issuers {
            self.touch(Subject::Issuer(Box::new(issuer.issuer)));
            self.issuers.insert(issuer.issuer, issuer);
        }
        Ok(())
    }

    fn absorb_small(&mut self, changes: &Changes) {
        self.now = self.now.max(changes.now);
        self.next_node = self.next_node.max(changes.next_node);
        if let Some(facts) = &changes.cluster {
            self.cluster_name.clone_from(&facts.name);
            self.root = facts.root;
            self.cluster = crate::ClusterId(*blake3::hash(&facts.root.0).as_bytes());
            self.partition_bits = facts.partition_bits;
            self.touch(Subject::Cluster);
        }
        if let Some(settings) = changes.settings {
            self.settings = settings;
            self.touch(Subject::Settings);
        }
        if let Some(voters) = &changes.voters {
            self.voters.clone_from(voters);
            self.touch(Subject::Voters);
        }
        if let Some((next, below)) = changes.sessions {
            self.next_session = next;
            self.sessions_expired_below = below;
            self.touch(Subject::Sessions);
        }
        if let Some((version, tables)) = &changes.tables {
            self.table_version = *version;
            self.targets.clone_from(tables);
            self.touch(Subject::Table);
        }
        for number in &changes.gone_nodes {
            self.nodes.remove(number);
            self.touch(Subject::Node(*number));
        }
        for key in &changes.gone_tickets {
            self.tickets.remove(key);
            self.touch(Subject::Ticket(Box::new(*key)));
        }
        for key in &changes.gone_principals {
            self.principals.remove(key);
            self.touch(Subject::Principal(Box::new(*key)));
        }
        for key in &changes.gone_issuers {
            self.issuers.remove(key);
            self.touch(Subject::Issuer(Box::new(*key)));
        }
    }

    fn absorb_close(&mut self, changes: &Changes) {
        if let Some(facts) = changes.close {
            self.touch(Subject::Close);
            let CloseFacts { id, since, finished } = facts;
            // Another close is about other holds, all of which come along.
            let holds = self.close.take().filter(|close| close.id == id).map(|close| close.holds);
            self.close = (id != CloseId::default()).then(|| Close {
                id,
                since,
                finished,
                holds: holds.unwrap_or_default(),
            });
        }
        for group in changes.gone_holds.iter().chain(changes.holds.iter().map(|(group, _)| group)) {
            self.touch(Subject::Hold(*group));
        }
        if let Some(close) = &mut self.close {
            close.holds.extend(changes.holds.iter().cloned());
            for group in &changes.gone_holds {
                close.holds.remove(group);
            }
        }
    }

    fn close_facts(&self) -> CloseFacts {
        self.close.as_ref().map_or_else(CloseFacts::default, |close| CloseFacts {
            id: close.id,
            since: close.since,
            finished: close.finished,
        })
    }

    fn holds(&self) -> impl Iterator<Item = (GroupId, GroupHold)> {
        let holds = self.close.iter().flat_map(|close| &close.holds);
        holds.map(|(group, hold)| (*group, hold.clone()))
    }

    fn facts(&self) -> Option<ClusterFacts> {
        self.is_bootstrapped().then(|| ClusterFacts {
            name: self.cluster_name.clone(),
            root: self.root,
            partition_bits: self.partition_bits,
        })
    }

    fn heading(&self) -> Changes {
        Changes {
            to: self.version,
            now: self.now,
            next_node: self.next_node,
            next_array: self.arrays.next(),
            ..Changes::default()
        }
    }

    fn collect(&self, subject: Subject, into: &mut Changes) {
        match subject {
            Subject::Cluster => into.cluster = self.facts(),
            Subject::Settings => into.settings = Some(self.settings),
            Subject::Voters => into.voters = Some(self.voters.clone()),
            Subject::Sessions => {
                into.sessions = Some((self.next_session, self.sessions_expired_below));
            }
            Subject::Table => into.tables = Some((self.table_version, self.targets.clone())),
            Subject::Node(number) => match self.nodes.get(&number) {
                Some(node) => into.nodes.push(node.clone()),
                None => into.gone_nodes.push(number),
            },
            Subject::Ticket(key) => match self.tickets.get(&key) {
                Some(ticket) => into.tickets.push((*key, ticket.clone())),
                None => into.gone_tickets.push(*key),
            },
            Subject::Group(group) => into.groups.extend(self.groups.get(&group).cloned()),
            Subject::Array(id) => match self.arrays.get(id) {
                Some(record) => into.arrays.push(record.clone()),
                None => into.gone_arrays.push(id),
            },
            Subject::Principal(key) => match self.principals.get(&key) {
                Some(principal) => into.principals.push(principal.clone()),
                None => into.gone_principals.push(*key),
            },
            Subject::Issuer(key) => match self.issuers.get(&key) {
                Some(issuer) => into.issuers.push(issuer.clone()),
                None => into.gone_issuers.push(*key),
            },
            Subject::Close => into.close = Some(self.close_facts()),
            Subject::Hold(group) => {
                match self.close.as_ref().and_then(|close| close.holds.get(&group)) {
                    Some(hold) => into.holds.push((group, hold.clone())),
                    None => into.gone_holds.push(group),
                }
            }
        }
    }
}

/// Cuts many things into lists of a bounded length.
fn parts_of<T>(mut all: impl Iterator<Item = T>) -> impl Iterator<Item = Vec<T>> {
    std::iter::from_fn(move || {
        let part: Vec<T> = all.by_ref().take(PART_THINGS).collect();
        (!part.is_empty()).then_some(part)
    })
}
