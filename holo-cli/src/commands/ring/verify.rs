//! `holo ring verify`.

use std::collections::BTreeMap;

use holo_client::{Cluster, ComparedCopy, ComparedGroup, Verification};
use holo_core::wire::LossReport;
use holo_core::{ErrorCode, Failure};
use serde::Serialize;

use super::Context;
use crate::members;
use crate::quantity;
use crate::table::Table;

/// Digits of a digest that the table shows.
const DIGEST_DIGITS: usize = 16;
/// Why copies were at different points of their history.
const BUSY: &str = "writes or moves are under way";
/// Why a node said nothing of a group.
const LATE: &str = "a copy is not in sync: moves are under way, or its disk has not given it back";

/// Compare all copies of the data with each other
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  holo ring verify
  holo ring verify -o json

Every node reads all that it holds and hashes it; the copies of a group must be equal. Groups at which writes are under
way are looked at again, for as long as --timeout says. Exit code 10 when copies differ or the last copy of some data is
lost, 8 or 9 when some could not be compared, or are not back: shown by node, and with -o json one by one.")]
pub(super) struct Args {}

#[derive(Serialize)]
struct Report {
    /// Groups whose copies, two or more, are equal.
    equal: u64,
    /// Copies of those.
    copies: u64,
    bytes: u64,
    /// Groups with one copy, which was read.
    single: u64,
    /// Groups without any.
    unheld: u64,
    different: Vec<Group>,
    /// Not compared.
    open: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    group: String,
    /// The primary's comes first.
    copies: Vec<Copy>,
}

#[derive(Serialize)]
struct Copy {
    node: String,
    #[serde(flatten)]
    content: Option<Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Serialize)]
struct Content {
    epoch: u64,
    /// The number of the last operation.
    applied: u64,
    /// BLAKE3 over its pages.
    digest: String,
    bytes: u64,
}

pub(super) async fn run(_args: &Args, context: &Context) -> Result<(), Failure> {
    let cluster = context.connect().await?;
    let found = cluster.verify().await?;
    let report = Report::from(&found);
    if context.output.is_json() {
        context.output.json(&report);
        return verdict(&found, &unheld(&cluster, &found).await?);
    }
    let color = context.output.color();
    if !found.different.is_empty() {
        context.output.data(&report.table(color));
    }
    if !found.open.is_empty() {
        context.output.data(&Gap::table(&Gap::all(&found.open), color));
        context.output.note("`holo ring verify -o json` has each of these groups");
    }
    if found.different.is_empty() && (found.equal > 0 || found.open.is_empty()) {
        context.output.data(&report.in_words());
    }
    if found.single > 0 {
        let groups = quantity::counted(found.single, "group");
        context
            .output
            .note(&format!("{groups} with one copy: there is nothing to compare it with"));
    }
    if found.unheld > 0 {
        let groups = quantity::counted(found.unheld, "group");
        context
            .output
            .note(&format!("{groups} without a copy: see `holo ring accept-loss --plan`"));
    }
    verdict(&found, &unheld(&cluster, &found).await?)
}

/// What the catalog says of groups that nobody holds.
async fn unheld(cluster: &Cluster, found: &Verification) -> Result<LossReport, Failure> {
    match found.unheld {
        0 => Ok(LossReport::default()),
        _ => Ok(cluster.plan_loss().await?),
    }
}

/// Whether all is well, for scripts.
fn verdict(found: &Verification, unheld: &LossReport) -> Result<(), Failure> {
    if !found.different.is_empty() {
        let groups = quantity::counted(found.different.len() as u64, "group");
        let message = format!("the copies of {groups} differ at the same point of their history");
        return Err(Failure::new(ErrorCode::Corrupt, message).help(
            "one of them is damaged: compare with a copy of yours, then drain the node that has the bad one",
        ));
    }
    if unheld.groups > 0 {
        return Err(members::lost(unheld.groups, None));
    }
    if found.open.is_empty() {
        return not_back(found, unheld);
    }
    let groups = quantity::counted(found.open.len() as u64, "group");
    let gaps = Gap::all(&found.open);
    let failed: Vec<_> = gaps.iter().filter_map(|gap| Some((gap, gap.failure.as_ref()?))).collect();
    let Some((_, first)) = failed.first() else {
        let why = if gaps.iter().any(|gap| gap.late) { LATE } else { BUSY };
        let message = format!("{groups} could not be compared: {why}");
        return Err(Failure::new(ErrorCode::NotReady, message)
            .help("try again when there is less to do, or with a longer --timeout; `holo status` says what is not back"));
    };
    let silent: Vec<_> =
        failed.iter().filter(|(_, failure)| members::is_silence(failure.code)).collect();
    // Starting it again is no help for a node that answers: it says itself what is.
    let Some(code) = silent.first().map(|(_, failure)| failure.code) else {
        let message = format!("{groups} could not be compared: {}", first.message);
        return Err(Failure { message, ..(*first).clone() });
    };
    let names: Vec<&str> = silent.iter().map(|(gap, _)| gap.node.as_str()).collect();
    let them = if names.len() == 1 { "it" } else { "them" };
    let message = format!("{groups} could not be compared without {}", names.join(", "));
    Err(Failure::new(code, message).help(format!(
        "start {them} again with `holo agent --dir DIR`; once the cluster has made new copies elsewhere, those are compared"
    )))
}

/// What nobody holds and is not lost comes back with those who have it on disk.
fn not_back(found: &Verification, unheld: &LossReport) -> Result<(), Failure> {
    if found.unheld == 0 || unheld.groups_awaited == 0 {
        return Ok(());
    }
    let groups = quantity::counted(found.unheld, "group");
    let names = members::listed(&unheld.waits_for);
    let message =
        format!("{groups} could not be compared: nobody holds them before {names} is back");
    Err(Failure::new(ErrorCode::NotReady, message)
        .help("start what is down with `holo agent --dir DIR`; `holo status` says what comes back"))
}

/// What one node keeps from being compared.
struct Gap {
    node: String,
    /// Groups of which its copy could not be compared.
    groups: u64,
    /// It holds some of them not in sync as far as it knows.
    late: bool,
    /// Why, when it is no matter of time.
    failure: Option<Failure>,
}

impl Gap {
    /// By node. Copies at different points of their history are the primary's.
    fn all(open: &[ComparedGroup]) -> Vec<Self> {
        let mut gaps: BTreeMap<&str, Self> = BTreeMap::new();
        for group in open {
            let refused = group.copies.iter().filter(|copy| copy.said.is_err());
            let mut missed: Vec<&ComparedCopy> = refused.collect();
            if missed.is_empty() {
                missed.extend(group.copies.first());
            }
            for copy in missed {
                let new =
                    || Self { node: copy.node.clone(), groups: 0, late: false, failure: None };
                let gap = gaps.entry(&copy.node).or_insert_with(new);
                gap.groups += 1;
                let failure = copy.said.as_ref().err();
                gap.late |= failure.is_some_and(|failure| failure.code == ErrorCode::NotReady);
                let failure = failure.filter(|failure| failure.code != ErrorCode::NotReady);
                gap.failure = gap.failure.take().or_else(|| failure.cloned());
            }
        }
        let mut gaps: Vec<Self> = gaps.into_values().collect();
        members::sort_by_name(&mut gaps, |gap| &gap.node);
        gaps
    }

    fn table(gaps: &[Self], color: bool) -> String {
        let mut table = Table::new(&["node", ">not compared", ""]);
        for gap in gaps {
            let in_time = if gap.late { LATE } else { BUSY };
            let why = gap.failure.as_ref().map_or(in_time, |it| &it.message);
            table.row([gap.node.clone(), quantity::counted(gap.groups, "group"), why.to_owned()]);
        }
        table.render(color)
    }
}

impl From<&Verification> for Report {
    fn from(found: &Verification) -> Self {
        Self {
            equal: found.equal,
            copies: found.copies,
            bytes: found.bytes,
            single: found.single,
            unheld: found.unheld,
            different: found.different.iter().map(Group::from).collect(),
            open: found.open.iter().map(Group::from).collect(),
        }
    }
}

impl From<&ComparedGroup> for Group {
    fn from(found: &ComparedGroup) -> Self {
        Self {
            group: found.group.to_string(),
            copies: found.copies.iter().map(Copy::from).collect(),
        }
    }
}

impl From<&ComparedCopy> for Copy {
    fn from(copy: &ComparedCopy) -> Self {
        let content = copy.said.as_ref().ok().map(|said| Content {
            epoch: said.epoch.0,
            applied: said.applied.0,
            digest: said.pages.iter().map(|byte| format!("{byte:02x}")).collect(),
            bytes: said.bytes,
        });
        let error = copy.said.as_ref().err().map(|failure| failure.message.clone());
        Self { node: copy.node.clone(), content, error }
    }
}

impl Report {
    fn in_words(&self) -> String {
        let all = if self.open.is_empty() && self.unheld == 0 { "all " } else { "" };
        match self.equal {
            0 => "no group has more than one copy".to_owned(),
            equal => format!(
                "{all}{}: their {} are equal, {} in all",
                quantity::counted(equal, "group"),
                quantity::copies(self.copies),
                quantity::bytes(self.bytes)
            ),
        }
    }

    /// What differs.
    fn table(&self, color: bool) -> String {
        let titles = ["group", "copy on", ">epoch", ">operation", ">data", "digest", ""];
        let mut table = Table::new(&titles);
        for group in &self.different {
            for copy in &group.copies {
                let (mut cells, said) =
                    (vec![group.group.clone(), copy.node.clone()], &copy.content);
                let dash = || "-".to_owned();
                let cell = |of: fn(&Content) -> String| said.as_ref().map_or_else(dash, of);
                cells.extend([
                    cell(|said| said.epoch.to_string()),
                    cell(|said| said.applied.to_string()),
                    cell(|said| quantity::bytes(said.bytes)),
                    cell(|said| said.digest.chars().take(DIGEST_DIGITS).collect()),
                    copy.error.clone().unwrap_or_else(|| "differs".to_owned()),
                ]);
                table.row(cells);
            }
        }
        table.render(color)
    }
}

#[cfg(test)]
mod tests {
    use holo_core::group::Seq;
    use holo_core::replication::{Class, GroupId};
    use holo_core::wire::ReplicaDigest;
    use holo_core::{Epoch, PartitionId};

    use super::*;

    fn group(partition: u32, pages: [u8; 2]) -> ComparedGroup {
        let class = Class { replicas: 2, min_in_sync: 1 };
        let group = GroupId { partition: PartitionId(partition), class };
        let copies = pages.into_iter().zip(["n1", "n2"]).map(|(pages, node)| ComparedCopy {
            node: node.to_owned(),
            said: Ok(ReplicaDigest {
                group,
                epoch: Epoch(3),
                applied: Seq(17),
                shards: [0; 32],
                pages: [pages; 32],
                bytes: 2048,
            }),
        });
        ComparedGroup { group, copies: copies.collect() }
    }

    fn judged(found: &Verification) -> Result<(), Failure> {
        verdict(found, &LossReport::default())
    }

    #[test]
    fn copies_that_differ_are_told_one_by_one_and_end_with_exit_code_10() {
        let mut found = Verification::default();
        found.different.push(group(5, [0xab, 0xcd]));
        let mut silent = group(6, [1, 1]);
        silent.copies[1].said = Err(Failure::new(ErrorCode::Unreachable, "n2 is silent"));
        found.open.push(silent);
        let table = Report::from(&found).table(false);
        for part in ["5/r2m1", "abababababababab", "cdcdcdcdcdcdcdcd", "differs"] {
            assert!(table.contains(part), "{part:?} is missing:\n{table}");
        }
        assert!(!table.contains("6/r2m1"), "{table}");
        assert_eq!(judged(&found).unwrap_err().code, ErrorCode::Corrupt);
        found.different.clear();
        assert_eq!(judged(&found).unwrap_err().code, ErrorCode::Unreachable);
        found.open = vec![group(6, [1, 2])];
        assert_eq!(judged(&found).unwrap_err().code, ErrorCode::NotReady);
        found.open.clear();
        assert!(judged(&found).is_ok());
    }

    /// With two of three nodes off it printed a row for each of 512 groups, and named one address.
    #[test]
    fn what_could_not_be_compared_is_told_by_node() {
        let silent = |partition: u32, place: usize| {
            let mut group = group(partition, [1, 1]);
            let node = group.copies[place].node.clone();
            group.copies[place].said =
                Err(Failure::new(ErrorCode::Unreachable, format!("{node} is silent")));
            group
        };
        let mut found = Verification::default();
        found.open = (0..200).map(|partition| silent(partition, 1)).collect();
        found.open.push(silent(200, 0));
        found.open.push(group(201, [1, 2]));
        let table = Gap::table(&Gap::all(&found.open), false);
        let rows: Vec<String> = table
            .lines()
            .skip(1)
            .map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(rows, ["n1 2 groups n1 is silent", "n2 200 groups n2 is silent"]);
        let refused = judged(&found).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unreachable);
        assert_eq!(refused.message, "202 groups could not be compared without n1, n2");
    }

    /// Of a group that waited for its disk it said that writes or moves were under way.
    #[test]
    fn a_copy_that_is_not_in_sync_may_be_on_its_way_or_on_a_disk() {
        let mut found = Verification::default();
        found.open.push(group(1, [1, 2]));
        assert!(Gap::table(&Gap::all(&found.open), false).contains(BUSY));
        assert!(judged(&found).unwrap_err().message.ends_with(BUSY));
        found.open[0].copies[1].said = Err(Failure::new(ErrorCode::NotReady, "not in sync"));
        assert!(Gap::table(&Gap::all(&found.open), false).contains(LATE));
        let refused = judged(&found).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotReady);
        assert!(refused.message.ends_with(LATE), "{refused}");
    }

    /// Whatever the failure was, it was told to start the node again.
    #[test]
    fn a_node_that_answers_says_itself_why_it_could_not_compare() {
        let mut found = Verification::default();
        found.open.push(group(1, [1, 1]));
        let busy = Failure::new(ErrorCode::Overloaded, "n1 has too much to do").help("wait");
        found.open[0].copies[0].said = Err(busy);
        let refused = judged(&found).unwrap_err();
        assert_eq!((refused.code, refused.help.as_deref()), (ErrorCode::Overloaded, Some("wait")));
        assert_eq!(refused.message, "1 group could not be compared: n1 has too much to do");
        found.open.push(group(2, [1, 1]));
        found.open[1].copies[1].said = Err(Failure::new(ErrorCode::ConnectionLost, "n2 is silent"));
        let refused = judged(&found).unwrap_err();
        assert_eq!(refused.code, ErrorCode::ConnectionLost);
        assert_eq!(refused.message, "2 groups could not be compared without n2");
        assert!(refused.help.unwrap().starts_with("start it again"));
    }

    /// It ended with exit code 0.
    #[test]
    fn what_nobody_holds_ends_with_exit_code_10_when_it_is_lost_and_8_while_it_may_come_back() {
        let mut found = Verification::default();
        found.unheld = 3;
        let lost = LossReport { groups: 3, arrays: vec!["a".to_owned()], ..LossReport::default() };
        assert_eq!(verdict(&found, &lost).unwrap_err().code, ErrorCode::DataLost);
        found.open.push(group(6, [1, 2]));
        assert_eq!(verdict(&found, &lost).unwrap_err().code, ErrorCode::DataLost);
        found.open.clear();
        let waits_for = vec!["n2".to_owned()];
        let awaited = LossReport { groups_awaited: 3, waits_for, ..LossReport::default() };
        let refused = verdict(&found, &awaited).unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotReady);
        assert!(refused.message.contains("before n2 is back"), "{refused}");
        // Found again between the two questions.
        assert_eq!(judged(&found), Ok(()));
    }
}
