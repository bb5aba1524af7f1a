//! What this node knows, kept up to date as the catalog changes: policy, members, links, the view that users get, and
//! the news for the data plane.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use holo_core::catalog::{CatalogState, Changes, NodeState};
use holo_core::placement::ClusterView;
use holo_core::replication::{ConfigClaim, GroupConfig, GroupId, NodeNumber, ReplicaId};
use holo_core::{ArrayId, Epoch, ErrorCode, Failure, Policy, PublicKey};
use parking_lot::Mutex;
use prost::Message;

use super::admission::former;
use super::{Control, Phase};
use crate::home::KnownMember;
use crate::ports::News;

/// Takes news, in the order of the catalog's log.
pub(crate) type Sink = Box<dyn Fn(News) + Send + Sync>;

/// The view as users get it.
#[derive(Debug)]
pub(crate) struct ServedView {
    pub(crate) view: Arc<ClusterView>,
    /// A `ViewBody`.
    pub(crate) body: Bytes,
}

/// Groups with an epoch of each: whose newer configs the data plane asked for, or a change of which was refused.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<BTreeMap<GroupId, Epoch>>);

impl Asked {
    pub(crate) fn put(&self, group: GroupId, above: Epoch) {
        let mut asked = self.0.lock();
        if asked.len() < holo_core::limits::HOST_GROUPS_MAX {
            asked.insert(group, above);
        }
    }

    fn take(&self) -> BTreeMap<GroupId, Epoch> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// What the data plane has been told.
#[derive(Debug, Default)]
struct Told {
    version: u64,
    arrays: BTreeSet<ArrayId>,
    targets: BTreeMap<GroupId, Vec<ReplicaId>>,
    policy: Option<Arc<Policy>>,
    view: Option<Arc<ServedView>>,
}

impl Control {
    /// Keeps facts up to date and tells the data plane, for as long as it is polled.
    pub(super) async fn keep_facts(self: Arc<Self>) {
        let mut version = self.copy.version();
        let mut refreshed = 0;
        let mut told = Told::default();
        loop {
            let seen = *version.borrow_and_update();
            if seen > refreshed {
                refreshed = self.refresh(refreshed).await;
                self.facts_of.store(refreshed, Ordering::SeqCst);
            }
            if let Some(sink) = self.sink.get()
                && let Some(news) = self.news(&mut told)
            {
                sink(news);
            }
            tokio::select! {
                changed = version.changed() => if changed.is_err() { return },
                () = self.poke.notified() => {}
            }
        }
    }

    /// Brings what this node derives from the catalog up to date; returns the version that it is about.
    async fn refresh(self: &Arc<Self>, before: u64) -> u64 {
        let (changes, members, view) = self.copy.read(|state| {
            let changes = since(state, before);
            let of_nodes = changes.touches_policy() || changes.voters().is_some();
            if changes.touches_policy() {
                self.policy.store(Arc::new(state.policy()));
            }
            let members = of_nodes.then(|| members_of(state));
            let view = (of_nodes || !changes.groups().is_empty()).then(|| state.view());
            (changes, members, view)
        });
        if let Ok(verifier) = self.verifier() {
            verifier.learn(changes.issuers(), self.clock.wall());
        }
        if let Some(prover) = self.prover() {
            let unproven = |config: &&GroupConfig| self.copy.proof(config).is_none();
            let configs: Vec<_> = changes.groups().iter().filter(unproven).cloned().collect();
            self.copy.add_proofs(prover.prove(&configs));
        }
        match view {
            Some(Ok(view)) => self.serve_view(view),
            Some(Err(failure)) => tracing::error!(%failure, "the catalog has no view"),
            None => {}
        }
        if let Some(members) = members {
            self.learn_members(members).await;
        }
        changes.to()
    }

    fn serve_view(&self, view: ClusterView) {
        let body = Bytes::from(view.to_body().encode_to_vec());
        self.view.store(Some(Arc::new(ServedView { view: Arc::new(view), body })));
    }

    async fn learn_members(self: &Arc<Self>, members: Vec<KnownMember>) {
        let by_key = members.iter().map(|member| (member.key, member.number));
        let before = self.members.swap(Arc::new(by_key.collect()));
        self.see_off(before.keys().filter(|key| self.node_number(**key).is_none()).copied());
        let Some(me) = self.number() else { return };
        self.links.set_members(me, &members);
        self.check_own_place(me);
        self.close_strangers_and_former();
        let changed = {
            let mut belonging = self.belonging.write();
            match belonging.as_mut() {
                Some(belonging) if belonging.members != members => {
                    belonging.members = members;
                    Some(belonging.clone())
                }
                _ => None,
            }
        };
        if let Some(belonging) = changed {
            let home = self.home.clone();
            let written = tokio::task::spawn_blocking(move || home.set_belonging(&belonging)).await;
            if let Ok(Err(failure)) = written {
                tracing::warn!(%failure, "the members are not written down; a restart may not find them");
            }
        }
    }

    /// A node that was put out or has left, or whose place another process took, ends.
    fn check_own_place(&self, me: NodeNumber) {
        let place =
            self.copy.read(|state| state.node(me).map(|node| (node.state, node.incarnation)));
        let over = match (place, self.replica()) {
            (Some((state @ NodeState::Evicted, _)), _) => former(&self.config.name, state),
            (Some((state @ NodeState::Left, _)), _) => {
                tracing::info!("this node has left the cluster");
                self.end(self.phase_of_former(former(&self.config.name, state)));
                return;
            }
            (Some((_, incarnation)), Some(replica)) if incarnation > replica.incarnation => {
                Failure::new(ErrorCode::Conflict, "another process runs as this node")
                    .help("a node's directory and key are for one process")
            }
            _ => return,
        };
        self.end(Phase::Over(over));
    }

    /// The news since the last time; `None` when there are none.
    fn news(&self, told: &mut Told) -> Option<News> {
        let asked = self.asked.take();
        let refused = self.refused.take();
        let shown = *self.copy.version().borrow();
        if shown <= told.version && asked.is_empty() && refused.is_empty() {
            return None;
        }
        let mut news = News { refused: refused.into_iter().collect(), ..News::default() };
        let mut configs: BTreeMap<GroupId, GroupConfig> = BTreeMap::new();
        self.copy.read(|state| {
            for (group, above) in &asked {
                if let Some(config) = state.group(*group).filter(|config| config.epoch > *above) {
                    configs.insert(*group, config.clone());
                }
            }
            let changes = since(state, told.version);
            let of_nodes = changes.touches_policy();
            if of_nodes {
                news.living = Some(living(state));
            }
            told.take_arrays(&changes, &mut news);
            told.take_targets(state, &mut news);
            news.sessions_below = changes.sessions_expired_below();
            news.next_array = changes.next_array();
            if changes.touches_close() {
                news.intake = Some(state.intake(self.replica()));
            }
            configs.extend(changes.groups().iter().map(|config| (config.group, config.clone())));
            told.version = state.version();
        });
        news.configs = self.claims(configs.into_values());
        let policy = self.policy.load_full();
        if told.policy.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &policy)) {
            news.policy = Some(Arc::clone(&policy));
            told.policy = Some(policy);
        }
        if let Some(served) = self.view.load_full()
            && told.view.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &served))
        {
            news.view = Some(Arc::clone(&served.view));
            told.view = Some(served);
        }
        Some(news)
    }

    /// The configs with their proofs; one without a proof would not be believed by anybody.
    fn claims(&self, configs: impl Iterator<Item = GroupConfig>) -> Vec<ConfigClaim> {
        let (mut claims, mut unproven) = (Vec::new(), Vec::new());
        for config in configs {
            match self.copy.proof(&config) {
                Some(proof) => claims.push(ConfigClaim { config: Arc::new(config), proof }),
                None => unproven.push(config),
            }
        }
        if let Some(prover) = self.prover() {
            let proven = prover.prove(&unproven);
            self.copy.add_proofs(proven.iter().cloned());
            let claim = |(config, (_, _, proof))| ConfigClaim { config: Arc::new(config), proof };
            claims.extend(unproven.into_iter().zip(proven).map(claim));
        } else if !unproven.is_empty() {
            tracing::warn!(groups = unproven.len(), "configs without a proof");
        }
        claims
    }
}

impl Told {
    fn take_arrays(&mut self, changes: &Changes, news: &mut News) {
        if changes.is_whole() {
            let present: BTreeSet<ArrayId> = changes.arrays().map(|array| array.id).collect();
            news.removed = self.arrays.difference(&present).copied().collect();
        } else {
            news.removed = changes.removed_arrays().to_vec();
        }
        for id in &news.removed {
            self.arrays.remove(id);
        }
        for array in changes.arrays() {
            if self.arrays.insert(array.id) {
                news.arrays.push(array.clone());
            }
        }
    }

    fn take_targets(&mut self, state: &CatalogState, news: &mut News) {
        for config in state.groups() {
            let targets = targets_of(state, config);
            if self.targets.get(&config.group) != Some(&targets) {
                news.targets.push((config.group, targets.clone()));
                self.targets.insert(config.group, targets);
            }
        }
    }
}

/// Who shall hold a group, in their present lives, the primary first. Who does not answer is wanted only where it is.
fn targets_of(state: &CatalogState, config: &GroupConfig) -> Vec<ReplicaId> {
    let Some(table) = state.target(config.group.class.replicas) else { return Vec::new() };
    let wanted = table.holders(config.group.partition).iter();
    let living = wanted.filter_map(|number| state.node(*number)).filter(|node| {
        let there = node.state.is_living() && node.incarnation.0 > 0;
        there && (node.up || config.names(node.number))
    });
    living.map(|node| node.replica()).collect()
}

fn living(state: &CatalogState) -> Vec<ReplicaId> {
    let nodes = state.nodes().filter(|node| node.state.is_living() && node.incarnation.0 > 0);
    nodes.map(|node| node.replica()).collect()
}

fn since(state: &CatalogState, version: u64) -> Changes {
    let changes = (version > 0).then(|| state.changes_since(version)).flatten();
    changes.unwrap_or_else(|| state.whole())
}

fn members_of(state: &CatalogState) -> Vec<KnownMember> {
    let living = state.nodes().filter(|node| node.state.is_living());
    living
        .map(|node| KnownMember {
            number: node.number,
            key: node.id.0,
            name: node.name.clone(),
            address: node.address.clone(),
            votes: state.voters().contains(&node.number),
        })
        .collect()
}

/// Numbers of members by their keys.
pub(crate) type MemberIndex = BTreeMap<PublicKey, NodeNumber>;
