//! A cluster as `holo status` shows it.

use std::sync::Arc;
use std::time::Duration;

use holo_client::{Cluster, ClusterView, MemberStatus, MemberView};
use holo_core::wire::{ClusterReport, NodeReport, NodeStatus};
use holo_core::{ErrorCode, Failure};
use serde::Serialize;

use super::links::{self, Link, links_of};
use crate::commands::drain;
use crate::members;
use crate::quantity;
use crate::table::Table;

/// Time that the catalog gets to answer: without a quorum it never does, and the rest shall be shown all the same.
pub(crate) const CATALOG_WITHIN: Duration = Duration::from_secs(3);

/// What a node says of itself when it has its place in the cluster.
const READY: &str = "ready";
/// And when it ends.
const STOPPING: &str = "stopping";

/// What the members and the catalog said at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) view: Arc<ClusterView>,
    pub(crate) status: Vec<MemberStatus>,
    /// What the leader of the catalog knows, or why nobody said it.
    pub(crate) catalog: Result<ClusterReport, Failure>,
}

/// A cluster as the command shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    cluster: String,
    partitions: u32,
    /// Version of the placement tables; absent when the catalog did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    table_version: Option<u64>,
    /// Whether no copy of the data is on a disk.
    ephemeral: bool,
    catalog: Catalog,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<Groups>,
    nodes: Vec<Node>,
    links: Vec<Link>,
    drains: Vec<drain::Report>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Catalog {
    version: u64,
    /// Whether its leader answered.
    quorum: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    voters: Vec<Voter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Voter {
    name: String,
    answers: bool,
}

#[derive(Debug, Serialize)]
struct Groups {
    total: u64,
    degraded: u64,
    single: u64,
    silent: u64,
    lost: u64,
    repairs: u64,
    arrays: u64,
}

#[derive(Debug, Serialize)]
struct Node {
    #[serde(flatten)]
    row: members::Row,
    #[serde(flatten)]
    planned: Option<Planned>,
    #[serde(flatten)]
    load: Option<Load>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What only the catalog knows of a node.
#[derive(Debug, Serialize)]
struct Planned {
    votes: bool,
    learners: u64,
    targets: u64,
    clock_ahead_ms: i64,
}

/// What only the node itself knows.
#[derive(Debug, Serialize)]
struct Load {
    /// `ready`, or what keeps it from that.
    standing: String,
    agent: String,
    pid: u32,
    uptime_ms: u64,
    shards: u64,
    frame_bytes: u64,
    frame_bytes_max: u64,
    reserved_bytes: u64,
    resident_bytes: u64,
    cpu_ms: u64,
}

impl Snapshot {
    /// Asks everybody at the same time.
    pub(crate) async fn take(cluster: &Cluster) -> Self {
        // Where nobody knows a newer one, the view that we have is shown, and below who does not answer.
        drop(cluster.refresh().await);
        let asked = cluster.with_deadline(CATALOG_WITHIN);
        let (status, mut catalog) = tokio::join!(cluster.status(), asked.report());
        if status.iter().any(|member| member.outcome.is_err()) {
            // Waiting for a silent node takes seconds, in which others may have taken its place.
            drop(cluster.refresh().await);
            // Without an answer the catalog has no quorum, and has taken its time to say so.
            if catalog.is_ok() {
                catalog = asked.report().await;
            }
        }
        Self { view: cluster.view(), status, catalog: catalog.map_err(Failure::from) }
    }

    /// What it means for the data when a node goes, or has gone.
    pub(crate) fn footer(&self) -> &'static str {
        match &self.catalog {
            Ok(said) if said.groups_silent > 0 => {
                "Groups without a copy on a node that answers may come back: `holo ring accept-loss --plan` tells with whom."
            }
            _ => {
                "Arrays live in memory: what has its last copy on a node that dies is gone, unless it was told to stop."
            }
        }
    }

    /// Whether all is well, for scripts: a node that was emptied may be off.
    ///
    /// # Errors
    ///
    /// That of the catalog; [`ErrorCode::DataLost`] when the last copy of something has died,
    /// [`ErrorCode::Unreachable`] when a node does not answer, or [`ErrorCode::NotReady`] when all do and some data is
    /// not served yet.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        if let Err(failure) = &self.catalog {
            return Err(no_quorum(failure));
        }
        let may_be_off = |status: &&MemberStatus| {
            let member = self.view.members().iter().find(|it| it.member.node == status.member.node);
            member.is_some_and(|member| member.state == "drained")
        };
        let mut silent: Vec<&str> = self
            .status
            .iter()
            .filter(|status| status.outcome.is_err())
            .filter(|status| !may_be_off(status))
            .map(|status| status.member.name.as_str())
            .collect();
        members::sort_by_name(&mut silent, |name| name);
        let unanswered = format!(
            "{} of {} did not answer: {}",
            silent.len(),
            quantity::counted(self.status.len() as u64, "node"),
            silent.join(", ")
        );
        let lost = self.catalog.as_ref().map_or(0, |said| said.groups_lost);
        if lost > 0 {
            let unanswered = (!silent.is_empty()).then_some(unanswered);
            return Err(members::lost(lost, unanswered.as_deref()));
        }
        if silent.is_empty() {
            let unserved = self.catalog.as_ref().map_or(0, |said| said.groups_silent);
            return if unserved == 0 { Ok(()) } else { Err(not_served(unserved)) };
        }
        Err(Failure::new(ErrorCode::Unreachable, unanswered)
            .help("start them again with `holo agent --dir DIR`, which brings back what they had written down; `holo node evict NODE` is only for one that never comes back"))
    }
}

fn not_served(groups: u64) -> Failure {
    let groups = quantity::counted(groups, "group");
    let message = format!("all nodes answer, and no copy of {groups} is served yet");
    Failure::new(ErrorCode::NotReady, message)
        .help("what nodes had written down is read back by itself: `holo status --watch` shows how far that is")
}

/// Why the catalog did not answer, as one code: a member that answers for it says more than a silent one.
pub(crate) fn no_quorum(failure: &Failure) -> Failure {
    match failure.code {
        ErrorCode::DeadlineExceeded | ErrorCode::Unreachable | ErrorCode::ConnectionLost => {
            let message = format!("the catalog's leader did not answer: {}", failure.message);
            Failure::new(ErrorCode::NoQuorum, message)
        }
        _ => failure.clone(),
    }
}

impl Report {
    /// Puts together what was said.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let view = &snapshot.view;
        let said = snapshot.catalog.as_ref().ok();
        let copies = members::copies(view);
        let nodes = view.members().iter().zip(copies).map(|(member, copies)| {
            let status = snapshot.status.iter().find(|it| it.member.node == member.member.node);
            let planned = said.and_then(|said| {
                said.nodes.iter().find(|node| {
                    node.member.as_ref().is_some_and(|it| it.number == member.number.0)
                })
            });
            Node::new(member, copies, status, planned)
        });
        let mut nodes: Vec<Node> = nodes.collect();
        members::sort_by_name(&mut nodes, |node| &node.row.name);
        Self {
            cluster: view.cluster_name().to_owned(),
            partitions: view.partitions(),
            table_version: said.map(|said| said.table_version),
            ephemeral: true,
            catalog: Catalog::new(snapshot),
            groups: said.map(Groups::from),
            nodes,
            links: links_of(view, &snapshot.status),
            drains: said
                .iter()
                .flat_map(|said| &said.drains)
                .map(|drain| drain::Report::new(drain, view))
                .collect(),
            notes: said.map(|said| said.notes.clone()).unwrap_or_default(),
        }
    }

    pub(crate) fn in_words(&self, color: bool) -> String {
        let mut text = format!(
            "cluster {}: {}, {}\ncatalog: {}\n",
            self.cluster,
            quantity::counted(self.nodes.len() as u64, "node"),
            quantity::counted(u64::from(self.partitions), "partition"),
            self.catalog.in_words(),
        );
        if let Some(groups) = &self.groups {
            text.push_str(&format!("copies:  {}\n", groups.in_words()));
        }
        for drain in &self.drains {
            text.push_str(&format!("drain:   {}\n", drain.in_words()));
        }
        for note in &self.notes {
            text.push_str(&format!("note:    {note}\n"));
        }
        format!("{text}\n{}\n\n{}", self.nodes_table(color), self.links_table(color))
    }

    /// The links with their cipher suites.
    pub(crate) fn links_table(&self, color: bool) -> String {
        links::table(&self.links, color)
    }

    fn nodes_table(&self, color: bool) -> String {
        let mut nodes = Table::new(&[
            "name",
            "id",
            "address",
            "zone",
            "state",
            ">uptime",
            ">data",
            ">of",
            ">primary",
            ">backup",
            ">shards",
            ">resident",
        ]);
        for node in &self.nodes {
            nodes.row(node.cells());
        }
        nodes.render(color)
    }
}

impl Catalog {
    fn new(snapshot: &Snapshot) -> Self {
        let view = &snapshot.view;
        match &snapshot.catalog {
            Ok(said) => Self {
                version: said.version,
                quorum: true,
                leader: (said.leader != 0).then(|| members::name_of(view, said.leader)),
                voters: Voter::all(view, said),
                error: None,
            },
            Err(failure) => Self {
                version: view.version(),
                quorum: false,
                leader: None,
                voters: Vec::new(),
                error: Some(no_quorum(failure).message),
            },
        }
    }

    fn in_words(&self) -> String {
        if let Some(error) = &self.error {
            return format!("version {} or later; {error}", self.version);
        }
        let voters: Vec<String> = self
            .voters
            .iter()
            .map(|voter| match voter.answers {
                true => voter.name.clone(),
                false => format!("{} (silent)", voter.name),
            })
            .collect();
        let leader = self.leader.as_deref().unwrap_or("nobody");
        format!("version {}, led by {leader}, voters {}", self.version, voters.join(", "))
    }
}

impl Voter {
    fn all(view: &ClusterView, said: &ClusterReport) -> Vec<Self> {
        let voters = said.voters.iter().map(|voter| Self {
            name: members::name_of(view, *voter),
            answers: said.voters_answering.contains(voter),
        });
        let mut voters: Vec<Self> = voters.collect();
        members::sort_by_name(&mut voters, |voter| &voter.name);
        voters
    }
}

impl From<&ClusterReport> for Groups {
    fn from(said: &ClusterReport) -> Self {
        Self {
            total: said.groups,
            degraded: said.groups_degraded,
            single: said.groups_single,
            silent: said.groups_silent,
            lost: said.groups_lost,
            repairs: said.repairs,
            arrays: said.arrays,
        }
    }
}

impl Groups {
    fn in_words(&self) -> String {
        let mut parts = vec![format!(
            "{}, {}",
            quantity::counted(self.arrays, "array"),
            quantity::counted(self.total, "group")
        )];
        if self.lost > 0 {
            parts.push(format!(
                "{} LOST (see `holo ring accept-loss --plan`)",
                quantity::count(self.lost)
            ));
        }
        if self.degraded > 0 {
            let single = match self.single {
                0 => String::new(),
                single => format!(", {} of them with a single copy", quantity::count(single)),
            };
            let silent = match self.silent {
                0 => String::new(),
                silent => {
                    format!(
                        ", {} of them with none on a node that answers",
                        quantity::count(silent)
                    )
                }
            };
            parts.push(format!(
                "{} with too few copies{single}{silent}",
                quantity::count(self.degraded)
            ));
        }
        if self.repairs > 0 {
            parts.push(format!("{} being made", quantity::copies(self.repairs)));
        }
        if self.lost == 0 && self.degraded == 0 && self.total > 0 {
            parts.push("each with all its copies".to_owned());
        }
        parts.join(", ")
    }
}

impl Node {
    fn new(
        view: &MemberView,
        copies: (u64, u64),
        status: Option<&MemberStatus>,
        planned: Option<&NodeReport>,
    ) -> Self {
        let (load, error) = match status.map(|status| &status.outcome) {
            Some(Ok(said)) => (Some(Load::from(said)), None),
            Some(Err(error)) => (None, Some(error.to_string())),
            None => (None, Some("joined while the others were asked".to_owned())),
        };
        Self {
            row: members::Row::new(view, copies),
            planned: planned.map(|planned| Planned {
                votes: planned.votes,
                learners: planned.learners,
                targets: planned.targets,
                clock_ahead_ms: planned.clock_ahead_ms,
            }),
            load,
            error,
        }
    }

    fn cells(&self) -> Vec<String> {
        let row = &self.row;
        let standing = self.load.as_ref().map(|load| load.standing.as_str());
        let state = match state_word(row.up, standing) {
            None => row.state.clone(),
            Some(word) => format!("{}, {word}", row.state),
        };
        let dash = || "-".to_owned();
        let load = |cell: fn(&Load) -> String| self.load.as_ref().map_or_else(dash, cell);
        vec![
            row.name.clone(),
            row.short_id(),
            row.address.clone(),
            row.shown_zone(),
            state,
            load(|load| quantity::duration(Duration::from_millis(load.uptime_ms))),
            load(|load| quantity::bytes(load.frame_bytes)),
            load(|load| quantity::bytes(load.frame_bytes_max)),
            row.primaries.to_string(),
            row.backups.to_string(),
            load(|load| quantity::count(load.shards)),
            load(|load| quantity::bytes(load.resident_bytes)),
        ]
    }
}

/// What is to be said of a node beside its state in the catalog: `up` is what the catalog thinks, `standing` what the node
/// says of itself.
fn state_word(up: bool, standing: Option<&str>) -> Option<&'static str> {
    match (up, standing) {
        (true, Some(_)) => None,
        (true, None) => Some("silent"),
        (false, None | Some(READY)) => Some("down"),
        (false, Some(STOPPING)) => Some("stopping"),
        // It runs, and is not back in the cluster: nobody is before most of the catalog's voters are there.
        (false, Some(_)) => Some("starting"),
    }
}

impl From<&NodeStatus> for Load {
    fn from(said: &NodeStatus) -> Self {
        Self {
            standing: said.state.clone(),
            agent: said.agent.clone(),
            pid: said.pid,
            uptime_ms: said.uptime_ms,
            shards: said.shards,
            frame_bytes: said.frame_bytes,
            frame_bytes_max: said.frame_bytes_max,
            reserved_bytes: said.reserved_bytes,
            resident_bytes: said.resident_bytes,
            cpu_ms: said.cpu_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first node that was started after a stop of the cluster was told as down, while it answered.
    #[test]
    fn a_node_that_runs_and_is_not_back_in_the_cluster_is_starting() {
        assert_eq!(state_word(true, Some(READY)), None);
        assert_eq!(state_word(true, None), Some("silent"));
        assert_eq!(state_word(false, None), Some("down"));
        assert_eq!(state_word(false, Some("it waits for the catalog")), Some("starting"));
        assert_eq!(state_word(false, Some(STOPPING)), Some("stopping"));
        // The leader does not hear it, whatever it thinks of itself.
        assert_eq!(state_word(false, Some(READY)), Some("down"));
    }
}
