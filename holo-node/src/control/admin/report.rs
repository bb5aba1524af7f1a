//! The cluster, as its leader sees it.

use std::collections::BTreeSet;

use holo_catalog::ControlLog;
use holo_core::catalog::{CatalogState, NodeRecord, NodeState};
use holo_core::replication::{Class, ConfigRole, GroupConfig, NodeNumber};
use holo_core::wire::{ClusterReport, MemberEntry, NodeReport};
use holo_core::{ArrayDescriptor, Count, ErrorCode, Failure, PublicKey, action};

use super::{CLUSTER, Control, find_node};
use crate::control::closing::close_report;
use crate::control::health::Health;
use crate::control::voting::number_of;

/// A clock that is off by more than this is worth a word.
const CLOCK_WORTH_A_WORD_MS: i64 = 5_000;
/// A signing key with less time than this is worth a word.
const ISSUER_WORTH_A_WORD_MS: u64 = 14 * 24 * 3_600_000;

impl Control {
    /// Everything about the cluster, or about one node of it.
    pub(super) fn cluster_report(
        &self,
        key: PublicKey,
        only: Option<&str>,
    ) -> Result<ClusterReport, Failure> {
        self.may::<action::Status>(key, CLUSTER)?;
        let voting = self.voting().ok_or_else(|| {
            Failure::new(ErrorCode::WrongNode, "this node does not vote in the catalog")
        })?;
        let answering: BTreeSet<NodeNumber> =
            voting.catalog.answering().into_iter().map(number_of).collect();
        // Those who are counted; the record runs ahead while they are being changed.
        let voters: BTreeSet<NodeNumber> = voting.voters().into_iter().map(number_of).collect();
        let (changing, stuck) = (voting.is_changing(), self.voters_stuck());
        let mut report = self.copy.read(|state| {
            let only =
                only.map(|text| find_node(state, text).map(|node| node.number)).transpose()?;
            let health = self.health.lock();
            let living = state.nodes().filter(|node| node.state.is_living());
            let shown = living.filter(|node| only.is_none_or(|number| number == node.number));
            let nodes = shown.map(|node| {
                let votes = voters.contains(&node.number);
                NodeReport { votes, ..self.node_report(state, &health, node) }
            });
            let mut notes = self.notes(state, &health, &voters, &answering);
            if changing {
                notes.push("the voters of the catalog are being changed".to_owned());
            }
            if let Some(failure) = stuck {
                notes.push(format!(
                    "the voters of the catalog are not as they should be yet: {}",
                    failure.message
                ));
            }
            let mut report = ClusterReport {
                cluster_name: state.cluster_name().to_owned(),
                cluster: state.cluster().0.to_vec(),
                version: state.version(),
                leader: self.number().map_or(0, |number| number.0),
                voters: voters.iter().map(|it| it.0).collect(),
                voters_answering: answering.iter().map(|it| it.0).collect(),
                nodes: nodes.collect(),
                arrays: state.array_count() as u64,
                table_version: state.table_version().0,
                notes,
                ..ClusterReport::default()
            };
            count_groups(state, &mut report);
            Ok::<_, Failure>(report)
        })?;
        let draining: Vec<NodeRecord> = self.copy.read(|state| {
            let draining =
                state.nodes().filter(|it| matches!(it.state, NodeState::Draining { .. }));
            draining.cloned().collect()
        });
        report.drains = draining.iter().map(|node| self.drain_report(node)).collect();
        Ok(report)
    }

    fn node_report(&self, state: &CatalogState, health: &Health, node: &NodeRecord) -> NodeReport {
        let member = MemberEntry {
            node: node.id.0.0.to_vec(),
            name: node.name.clone(),
            address: node.address.clone(),
            zone: node.zone.clone(),
            weight_milli: node.weight_milli,
            number: node.number.0,
            state: node.state.name().to_owned(),
            up: node.up,
        };
        let beats = health.beats(node.number);
        let heard = beats.map(|beats| self.clock.now().since(beats.heard).as_millis());
        let mut report = NodeReport {
            member: Some(member),
            incarnation: node.incarnation.0,
            agent: node.agent.clone(),
            load: health.load(node.replica()),
            heard_ms: heard.and_then(|millis| u64::try_from(millis).ok()).unwrap_or(0),
            clock_ahead_ms: beats.map_or(0, |beats| beats.ahead_ms),
            joined_unix_ms: node.joined.0,
            up_changed_unix_ms: node.up_changed.0,
            ..NodeReport::default()
        };
        let held = state.groups_of(node.number).iter().filter_map(|group| state.group(*group));
        for config in held {
            match config.role_of(node.replica()) {
                Some(ConfigRole::Primary) => report.primaries += 1,
                Some(ConfigRole::Backup) => report.backups += 1,
                Some(ConfigRole::Learner) => report.learners += 1,
                None => {}
            }
        }
        for class in state.classes() {
            let Some(table) = state.target(class.replicas) else { continue };
            let held = table.all_holders().iter().filter(|holder| **holder == node.number);
            report.targets += held.count() as u64;
        }
        report
    }

    /// What an operator should know.
    fn notes(
        &self,
        state: &CatalogState,
        health: &Health,
        voters: &BTreeSet<NodeNumber>,
        answering: &BTreeSet<NodeNumber>,
    ) -> Vec<String> {
        let mut notes = Vec::new();
        let living: Vec<&NodeRecord> =
            state.nodes().filter(|node| node.state.is_living()).collect();
        let left = voters.intersection(answering).count();
        let spare = left.saturating_sub(voters.len() / 2 + 1);
        if living.len() > 1 && spare == 0 {
            let more = match living.iter().filter(|node| node.state.may_hold()).count() {
                0..3 => match state.back_into_service() {
                    Some(undrain) => {
                        format!("three nodes in service are needed for more; {undrain}")
                    }
                    None => "three nodes in service are needed for more".to_owned(),
                },
                _ => "it heals by itself".to_owned(),
            };
            notes.push(match voters.len() {
                1 => format!("the catalog has a single voter and does not survive its loss; {more}"),
                voters => {
                    let verb = if left == 1 { "answers" } else { "answer" };
                    format!(
                        "the catalog has {voters} voters, of which {left} {verb}: it survives the loss of none; {more}"
                    )
                }
            });
        }
        for node in &living {
            let ahead = health.beats(node.number).map_or(0, |beats| beats.ahead_ms);
            if ahead.abs() > CLOCK_WORTH_A_WORD_MS {
                notes.push(format!("the clock of node {} is off by {ahead} ms", node.name));
            }
        }
        close_notes(state, health, &mut notes);
        silence_notes(state, &mut notes);
        notes.extend(state.too_few_in_service());
        let now = self.clock.wall();
        let ends = self.prover().and_then(|prover| {
            state.issuers().find(|it| it.issuer == prover.issuer()).map(|it| it.not_after)
        });
        if let Some(ends) = ends {
            let left = ends.0.saturating_sub(now.0);
            if left < ISSUER_WORTH_A_WORD_MS {
                notes.push(format!(
                    "the catalog's signing key ends in {}: bring root.key back to the first node",
                    Count(left / 3_600_000).of("hour")
                ));
            }
        }
        notes
    }
}

/// What an operator should know of a cluster that stops, or has not come back whole.
fn close_notes(state: &CatalogState, health: &Health, notes: &mut Vec<String>) {
    let report = close_report(state);
    let groups = Count(report.groups).of("group");
    let names = report.waits_for.join(", ");
    match report.stage.as_str() {
        "closing" => notes.push(format!(
            "the cluster is being shut down: {} of {groups} on disk, it waits for {names}",
            report.groups_done
        )),
        "closed" if names.is_empty() => notes.push(format!(
            "the cluster was shut down: everything is back, but for further copies of {groups}"
        )),
        "closed" => notes.push(format!(
            "the cluster was shut down: {} of {groups} not back yet, but on the disks of {names}",
            report.groups.saturating_sub(report.groups_done)
        )),
        _ => {}
    }
    for node in state.nodes().filter(|node| node.state.is_living()) {
        let cannot_write = health.cannot_write(node.replica());
        if let Some(reason) = cannot_write.filter(|_| state.is_closing()) {
            notes.push(format!(
                "node {} cannot write down what it holds: {reason}; it tries again; until then nothing is written to any array, unless `holo shutdown --cluster --cancel` takes the stop back",
                node.name
            ));
        }
        let unreadable = health.load(node.replica()).map_or(0, |load| load.holds_unreadable);
        if unreadable > 0 {
            notes.push(format!(
                "node {} cannot read {} that it had on disk: its log says why",
                node.name,
                Count(unreadable).of("group")
            ));
        }
    }
}

/// Who has what nobody serves: in files of an earlier life, which it reads back, or away from here.
fn silence_notes(state: &CatalogState, notes: &mut Vec<String>) {
    let (mut read_back, mut away) = (0u64, 0u64);
    let (mut readers, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for config in used_groups(state).filter(|it| !it.lost && in_sync_up(state, it) == 0) {
        let holders = config.in_sync.iter().filter_map(|member| state.node(member.node));
        let (up, down): (Vec<&NodeRecord>, Vec<&NodeRecord>) = holders.partition(|node| node.up);
        // Where one reads, its word settles it, whoever else is away.
        if up.is_empty() {
            away += 1;
            silent.extend(down.iter().map(|node| node.name.as_str()));
        } else {
            read_back += 1;
            readers.extend(up.iter().map(|node| node.name.as_str()));
        }
    }
    if read_back > 0 {
        notes.push(format!(
            "{} not served yet: {} what an earlier life had written down",
            Count(read_back).of("group"),
            with_verb(&readers, "reads back", "read back"),
        ));
    }
    if away > 0 {
        notes.push(format!(
            "{} not served: only {} copies that count, and {} not answer",
            Count(away).of("group"),
            with_verb(&silent, "has", "have"),
            if silent.len() == 1 { "it does" } else { "they do" },
        ));
    }
}

/// Names, with the verb that goes with so many.
fn with_verb(names: &BTreeSet<&str>, one: &str, several: &str) -> String {
    let listed: Vec<&str> = names.iter().copied().collect();
    let verb = if names.len() == 1 { one } else { several };
    format!("{} {verb}", listed.join(", "))
}

/// Groups of classes that some array has: those of removed arrays stay, and hold nothing.
fn used_groups(state: &CatalogState) -> impl Iterator<Item = &GroupConfig> {
    let used: BTreeSet<Class> = state.arrays().map(ArrayDescriptor::class).collect();
    state.groups().filter(move |config| used.contains(&config.group.class))
}

/// How many groups there are, and how many lack copies.
fn count_groups(state: &CatalogState, report: &mut ClusterReport) {
    for config in used_groups(state) {
        report.groups += 1;
        report.repairs += config.learners.len() as u64;
        if config.lost {
            report.groups_lost += u64::from(state.awaited(config.group).is_none());
            continue;
        }
        let in_sync = in_sync_up(state, config);
        if in_sync < usize::from(config.group.class.replicas) {
            report.groups_degraded += 1;
            match in_sync {
                0 => report.groups_silent += 1,
                1 => report.groups_single += 1,
                _ => {}
            }
        }
    }
}

/// Copies that are in sync and whose processes answer.
fn in_sync_up(state: &CatalogState, config: &GroupConfig) -> usize {
    config.in_sync.iter().filter(|member| state.is_up(**member)).count()
}
