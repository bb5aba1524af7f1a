//! `holo status`.

use std::collections::BTreeMap;
use std::time::Duration;

use holo_client::{Cluster, MemberStatus};
use holo_core::wire::LinkStatus;
use holo_core::{ErrorCode, Failure, Member, Membership, NodeId, PublicKey};
use serde::Serialize;

use super::Context;
use crate::picture::{self, Ring};
use crate::quantity;
use crate::table::Table;

/// Show the nodes, their load and the links between them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo status
  holo status --ring
  holo status -o json

Ends with exit code 9 when a member does not answer; the others are shown all the same.")]
pub(crate) struct Args {
    /// Draw the ring, too
    #[arg(long)]
    ring: bool,
}

/// A cluster as the command shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    cluster: String,
    partitions: u32,
    table_version: u64,
    /// Whether any copy of the data is on a disk; never yet.
    ephemeral: bool,
    nodes: Vec<Node>,
    links: Vec<Link>,
}

#[derive(Debug, Serialize)]
struct Node {
    name: String,
    id: String,
    address: String,
    state: String,
    partitions: u32,
    #[serde(flatten)]
    load: Option<Load>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Load {
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

/// One connection, told once, whichever ends report it.
#[derive(Debug, Serialize)]
struct Link {
    from: String,
    to: String,
    suite: String,
    rtt_us: u64,
    mtu: u32,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let status = cluster.status().await;
    let membership = cluster.membership();
    let report = Report::new(&membership, &status);
    if context.output.is_json() {
        context.output.json(&report);
    } else {
        context.output.data(&report.in_words(context.output.color()));
        if args.ring {
            context
                .output
                .data(&format!("\n{}", ring_of(&membership, &status).draw(context.output.color())));
        }
        context.output.note("\nArrays live in memory only: what a stopped node held is gone.");
    }
    let silent: Vec<&str> = status
        .iter()
        .filter(|member| member.outcome.is_err())
        .map(|member| member.member.name.as_str())
        .collect();
    if silent.is_empty() {
        return Ok(());
    }
    let message =
        format!("{} of {} nodes did not answer: {}", silent.len(), status.len(), silent.join(", "));
    Err(Failure::new(ErrorCode::Unreachable, message)
        .help("shards that only they hold cannot be read until they are back; the rest works"))
}

impl Report {
    /// Puts together what the members said.
    pub(crate) fn new(membership: &Membership, status: &[MemberStatus]) -> Self {
        let table = membership.table();
        let primaries = table.primaries();
        let nodes = status
            .iter()
            .map(|member| {
                let index = membership.index_of(member.member.node).unwrap_or(usize::MAX);
                Node::new(member, primaries.get(index).copied().unwrap_or(0))
            })
            .collect();
        Self {
            cluster: membership.cluster_name().to_owned(),
            partitions: table.partitions(),
            table_version: table.version().0,
            ephemeral: true,
            nodes,
            links: links_of(membership, status),
        }
    }

    fn in_words(&self, color: bool) -> String {
        let mut nodes = Table::new(&[
            "name",
            "id",
            "address",
            "state",
            ">uptime",
            ">data",
            ">of",
            ">reserved",
            ">shards",
            ">ring",
            ">resident",
        ]);
        for node in &self.nodes {
            nodes.row(node.cells());
        }
        format!(
            "cluster {}: {} nodes, {} partitions, table {}\n\n{}\n\n{}",
            self.cluster,
            self.nodes.len(),
            self.partitions,
            self.table_version,
            nodes.render(color),
            self.links_table(color),
        )
    }

    /// The links with their cipher suites.
    pub(crate) fn links_table(&self, color: bool) -> String {
        let mut links = Table::new(&["link", "", ">round trip", ">mtu", "cipher suite"]);
        for link in &self.links {
            links.row([
                link.from.clone(),
                link.to.clone(),
                quantity::duration(Duration::from_micros(link.rtt_us)),
                link.mtu.to_string(),
                link.suite.clone(),
            ]);
        }
        links.render(color)
    }
}

impl Node {
    fn new(status: &MemberStatus, partitions: u32) -> Self {
        let (state, load, error) = match &status.outcome {
            Ok(said) => {
                let load = Load {
                    agent: said.agent.clone(),
                    pid: said.pid,
                    uptime_ms: said.uptime_ms,
                    shards: said.shards,
                    frame_bytes: said.frame_bytes,
                    frame_bytes_max: said.frame_bytes_max,
                    reserved_bytes: said.reserved_bytes,
                    resident_bytes: said.resident_bytes,
                    cpu_ms: said.cpu_ms,
                };
                (said.state.clone(), Some(load), None)
            }
            Err(error) => (error.code().title().to_owned(), None, Some(error.to_string())),
        };
        let member = &status.member;
        Self {
            name: member.name.clone(),
            id: member.node.to_string(),
            address: member.address.clone(),
            state,
            partitions,
            load,
            error,
        }
    }

    fn cells(&self) -> Vec<String> {
        let id: String = self.id.chars().take(8).collect();
        let mut cells = vec![self.name.clone(), id, self.address.clone(), self.state.clone()];
        match &self.load {
            Some(load) => cells.extend([
                quantity::duration(Duration::from_millis(load.uptime_ms)),
                quantity::bytes(load.frame_bytes),
                quantity::bytes(load.frame_bytes_max),
                quantity::bytes(load.reserved_bytes),
                quantity::count(load.shards),
                self.partitions.to_string(),
                quantity::bytes(load.resident_bytes),
            ]),
            None => {
                cells.extend(vec!["-".to_owned(); 5]);
                cells.extend([self.partitions.to_string(), "-".to_owned()]);
            }
        }
        cells
    }
}

/// Every link once: two nodes both report the one between them.
fn links_of(membership: &Membership, status: &[MemberStatus]) -> Vec<Link> {
    let mut links = BTreeMap::new();
    for member in status {
        let said = member.outcome.iter().flat_map(|said| &said.links);
        for link in said {
            let here = end_name(membership, &member.member);
            let there = peer_name(membership, link);
            let between_nodes = link.role == "node";
            let (from, to) =
                if between_nodes && there < here { (there, here) } else { (here, there) };
            // Links between nodes first; several connections of one client to one node show as one.
            links.entry((!between_nodes, from.clone(), to.clone())).or_insert_with(|| Link {
                from,
                to,
                suite: link.suite.clone(),
                rtt_us: link.rtt_us,
                mtu: link.mtu,
            });
        }
    }
    links.into_values().collect()
}

fn end_name(membership: &Membership, member: &Member) -> String {
    membership.member(member.node).map_or_else(|| member.node.short(), |member| member.name.clone())
}

fn peer_name(membership: &Membership, link: &LinkStatus) -> String {
    let Ok(key) = PublicKey::from_slice(&link.peer) else { return link.address.clone() };
    match membership.member(NodeId(key)) {
        Some(member) => member.name.clone(),
        None => format!("{} {}", link.role, key.short()),
    }
}

/// The picture of a cluster's ring.
pub(crate) fn ring_of(membership: &Membership, status: &[MemberStatus]) -> Ring {
    let table = membership.table();
    let owners =
        (0..table.partitions()).map(|index| table.primary(holo_core::PartitionId(index))).collect();
    let members = membership
        .members()
        .iter()
        .map(|member| {
            let said = status.iter().find(|status| status.member.node == member.node);
            let said = said.and_then(|status| status.outcome.as_ref().ok());
            picture::Member {
                name: member.name.clone(),
                id: member.node.short(),
                shards: said.map_or(0, |said| said.shards),
                bytes: said.map_or(0, |said| said.frame_bytes),
            }
        })
        .collect();
    Ring { title: membership.cluster_name().to_owned(), owners, members }
}

/// The member that a person means: by name, or by the first digits of its id.
///
/// # Errors
///
/// [`ErrorCode::NotFound`] for none, [`ErrorCode::InvalidArgument`] when several ids start like that.
pub(crate) fn find_node(cluster: &Cluster, wanted: &str) -> Result<Member, Failure> {
    let membership = cluster.membership();
    if let Some(member) = membership.members().iter().find(|member| member.name == wanted) {
        return Ok(member.clone());
    }
    let fits = |member: &&Member| !wanted.is_empty() && member.node.to_string().starts_with(wanted);
    let found: Vec<&Member> = membership.members().iter().filter(fits).collect();
    match found.as_slice() {
        [member] => Ok((*member).clone()),
        [] => {
            let names: Vec<&str> =
                membership.members().iter().map(|member| member.name.as_str()).collect();
            Err(Failure::new(ErrorCode::NotFound, format!("node {wanted}: not found"))
                .help(format!("the members are {}", names.join(", "))))
        }
        several => {
            let message = format!("{} node ids start with {wanted}", several.len());
            Err(Failure::new(ErrorCode::InvalidArgument, message)
                .help("give more digits, or the name"))
        }
    }
}
