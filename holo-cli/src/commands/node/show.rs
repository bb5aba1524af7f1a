//! `holo node show`.

use std::time::Duration;

use holo_core::wire::{NodeLoad, NodeReport};
use holo_core::{ErrorCode, Failure, NodeId, PublicKey};
use serde::Serialize;

use super::Context;
use crate::clock;
use crate::members;
use crate::quantity;

/// Show all that the catalog knows of one node
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  holo node show n2")]
pub(super) struct Args {
    /// The node: its name, or the first letters of its name or id
    node: String,
}

#[derive(Serialize)]
struct Shown {
    name: String,
    id: String,
    number: u32,
    incarnation: u32,
    agent: String,
    address: String,
    zone: String,
    weight: f64,
    state: String,
    up: bool,
    up_changed_unix_ms: u64,
    joined_unix_ms: u64,
    votes: bool,
    primaries: u64,
    backups: u64,
    learners: u64,
    targets: u64,
    heard_ms: u64,
    clock_ahead_ms: i64,
    #[serde(flatten)]
    load: Option<Load>,
}

#[derive(Serialize)]
struct Load {
    frame_bytes: u64,
    frame_bytes_max: u64,
    reserved_bytes: u64,
    resident_bytes: u64,
    copies_out: u32,
    copied_bytes: u64,
    fetched_bytes: u64,
    cpu_ms: u64,
    uptime_ms: u64,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let view = cluster.view();
    let wanted = members::reference(members::find(&view, &args.node)?);
    let report = cluster.report_node(&wanted).await?;
    let shown =
        report.nodes.first().and_then(Shown::new).ok_or_else(|| {
            Failure::new(ErrorCode::Malformed, "the catalog's answer holds no node")
        })?;
    if context.output.is_json() {
        context.output.json(&shown);
    } else {
        context.output.data(&shown.in_words(clock::unix_ms()));
    }
    Ok(())
}

impl Shown {
    fn new(node: &NodeReport) -> Option<Self> {
        let member = node.member.as_ref()?;
        let id = PublicKey::from_slice(&member.node).ok()?;
        Some(Self {
            name: member.name.clone(),
            id: NodeId(id).to_string(),
            number: member.number,
            incarnation: node.incarnation,
            agent: node.agent.clone(),
            address: member.address.clone(),
            zone: member.zone.clone(),
            weight: f64::from(member.weight_milli) / 1000.0,
            state: member.state.clone(),
            up: member.up,
            up_changed_unix_ms: node.up_changed_unix_ms,
            joined_unix_ms: node.joined_unix_ms,
            votes: node.votes,
            primaries: node.primaries,
            backups: node.backups,
            learners: node.learners,
            targets: node.targets,
            heard_ms: node.heard_ms,
            clock_ahead_ms: node.clock_ahead_ms,
            load: node.load.as_ref().map(Load::from),
        })
    }

    fn in_words(&self, now_unix_ms: u64) -> String {
        let ago = |unix_ms: u64| {
            let passed = Duration::from_millis(now_unix_ms.saturating_sub(unix_ms));
            format!("{} ago", quantity::rough_duration(passed))
        };
        let zone = if self.zone.is_empty() { "-" } else { &self.zone };
        let up = if self.up { "up" } else { "down" };
        let mut text = format!(
            "name        {}\nid          {}\nnumber      {}, life {}\naddress     {}\nzone        {zone}\n\
             weight      {}\nstate       {}, {up} since {}\njoined      {}\nprogram     {}\ncatalog     {}\n\
             copies      {} as the primary, {} as a backup, {} being made; {} planned\n",
            self.name,
            self.id,
            self.number,
            self.incarnation,
            self.address,
            self.weight,
            self.state,
            ago(self.up_changed_unix_ms),
            ago(self.joined_unix_ms),
            self.agent,
            if self.votes { "votes" } else { "follows" },
            quantity::count(self.primaries),
            quantity::count(self.backups),
            quantity::count(self.learners),
            quantity::count(self.targets),
        );
        match &self.load {
            Some(load) => text.push_str(&load.in_words(self.heard_ms, self.clock_ahead_ms)),
            None => text.push_str("heard       not by this leader of the catalog"),
        }
        text
    }
}

impl From<&NodeLoad> for Load {
    fn from(load: &NodeLoad) -> Self {
        Self {
            frame_bytes: load.frame_bytes,
            frame_bytes_max: load.frame_bytes_max,
            reserved_bytes: load.reserved_bytes,
            resident_bytes: load.resident_bytes,
            copies_out: load.copies_out,
            copied_bytes: load.copied_bytes,
            fetched_bytes: load.fetched_bytes,
            cpu_ms: load.cpu_ms,
            uptime_ms: load.uptime_ms,
        }
    }
}

impl Load {
    fn in_words(&self, heard_ms: u64, clock_ahead_ms: i64) -> String {
        format!(
            "heard       {} ago, its clock {clock_ahead_ms:+} ms\nuptime      {}\ndata        {} of {}, {} reserved\n\
             process     {} resident, {} of processor time\ncopied      {} to others, {} under way, {} from others",
            quantity::duration(Duration::from_millis(heard_ms)),
            quantity::rough_duration(Duration::from_millis(self.uptime_ms)),
            quantity::bytes(self.frame_bytes),
            quantity::bytes(self.frame_bytes_max),
            quantity::bytes(self.reserved_bytes),
            quantity::bytes(self.resident_bytes),
            quantity::duration(Duration::from_millis(self.cpu_ms)),
            quantity::bytes(self.copied_bytes),
            self.copies_out,
            quantity::bytes(self.fetched_bytes),
        )
    }
}
