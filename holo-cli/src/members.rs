//! Which node a person means, and what hangs on it.

use std::collections::BTreeSet;

use holo_client::{Cluster, ClusterView, MemberView};
use holo_core::{ArrayDescriptor, ErrorCode, Failure, NodeId, PartitionId, ShardIndex};
use serde::Serialize;

use crate::quantity;

/// Shards of an array that are looked up one by one; one with more counts as lying in every partition.
const SHARDS_TRACED_MAX: u64 = 1 << 16;
/// Arrays that a sentence names.
const NAMED_MAX: usize = 5;

/// The member that a person means: by its name, or by the first letters of its name or id when only one fits.
///
/// # Errors
///
/// [`ErrorCode::NotFound`] for none, [`ErrorCode::InvalidArgument`] when several fit.
pub(crate) fn find<'a>(view: &'a ClusterView, wanted: &str) -> Result<&'a MemberView, Failure> {
    let members = view.members();
    if let Some(exact) = members.iter().find(|it| it.member.name == wanted) {
        return Ok(exact);
    }
    let digits = wanted.to_ascii_lowercase();
    let fits = |it: &&MemberView| {
        let by_id = it.member.node.to_string().starts_with(&digits);
        !wanted.is_empty() && (by_id || it.member.name.starts_with(wanted))
    };
    let found: Vec<&MemberView> = members.iter().filter(fits).collect();
    let names = |members: &[&MemberView]| {
        let mut names: Vec<&str> = members.iter().map(|it| it.member.name.as_str()).collect();
        names.sort_unstable();
        names.join(", ")
    };
    match found.as_slice() {
        [member] => Ok(*member),
        [] => {
            let all: Vec<&MemberView> = members.iter().collect();
            Err(Failure::new(ErrorCode::NotFound, format!("node {wanted}: not found"))
                .help(format!("the members are {}", names(&all))))
        }
        several => {
            let message = format!("{wanted} may be {}", names(several));
            Err(Failure::new(ErrorCode::InvalidArgument, message)
                .help("give more letters of its name or id"))
        }
    }
}

/// How a node is named towards the cluster: its whole id, which no other node can get.
pub(crate) fn reference(member: &MemberView) -> String {
    member.member.node.to_string()
}

/// The name of a node number; the number itself for one that is no member any more.
pub(crate) fn name_of(view: &ClusterView, number: u32) -> String {
    let found = view.members().iter().find(|it| it.number.0 == number);
    found.map_or_else(|| format!("node {number}"), |it| it.member.name.clone())
}

/// What names are sorted by, so that n2 comes before n10, in whichever order the nodes joined.
fn name_order(name: &str) -> (&str, Option<u64>, &str) {
    let digits = name.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    let (start, number) = name.split_at(digits);
    (start, number.parse().ok(), name)
}

/// Puts what has names into the order of [`name_order`].
pub(crate) fn sort_by_name<T>(rows: &mut [T], name: impl Fn(&T) -> &str) {
    rows.sort_by(|a, b| name_order(name(a)).cmp(&name_order(name(b))));
}

/// Whether a failure is that a node said nothing.
pub(crate) fn is_silence(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unreachable | ErrorCode::ConnectionLost | ErrorCode::DeadlineExceeded)
}

/// Copies that each member holds in sync: `(as the primary, otherwise)`, by member index.
pub(crate) fn copies(view: &ClusterView) -> Vec<(u64, u64)> {
    let mut copies = vec![(0, 0); view.members().len()];
    for class in view.classes() {
        for partition in (0..view.partitions()).map(PartitionId) {
            for (place, index) in view.holders(class, partition).iter().enumerate() {
                if let Some(copies) = copies.get_mut(usize::from(*index)) {
                    match place {
                        0 => copies.0 += 1,
                        _ => copies.1 += 1,
                    }
                }
            }
        }
    }
    copies
}

/// Names of the arrays, among those that we may see, of which some part lies on none but these nodes.
///
/// # Errors
///
/// Those of listing the arrays.
pub(crate) async fn arrays_only_on(
    cluster: &Cluster,
    nodes: &[NodeId],
) -> Result<Vec<String>, Failure> {
    let arrays = cluster.arrays().await?;
    let view = cluster.view();
    let doomed: BTreeSet<usize> = nodes.iter().filter_map(|node| view.index_of(*node)).collect();
    let at_risk = arrays.iter().filter(|array| lies_only_on(&view, array.descriptor(), &doomed));
    Ok(at_risk.map(|array| array.name().to_owned()).collect())
}

fn lies_only_on(view: &ClusterView, array: &ArrayDescriptor, nodes: &BTreeSet<usize>) -> bool {
    let alone = |partition: PartitionId| {
        let holders = view.holders(array.class(), partition);
        !holders.is_empty() && holders.iter().all(|index| nodes.contains(&usize::from(*index)))
    };
    let shards = array.layout.shards();
    if shards > SHARDS_TRACED_MAX {
        return (0..view.partitions()).map(PartitionId).any(alone);
    }
    (0..shards).any(|shard| alone(view.partition_of(array, ShardIndex(shard))))
}

/// That the last copies of some groups are lost, and what else is wrong.
pub(crate) fn lost(groups: u64, also: Option<&str>) -> Failure {
    let groups = quantity::counted(groups, "group");
    let mut message = format!("{groups} lost the last copy: that data is neither read nor written");
    if let Some(also) = also {
        message = format!("{message}; {also}");
    }
    Failure::new(ErrorCode::DataLost, message).help(
        "`holo ring accept-loss --plan` names the arrays, and without --plan gives those parts up: they begin anew, as zeros; or remove the arrays and restore them from copies of yours",
    )
}

/// A node as `holo node ls` and `holo status` show it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) number: u32,
    pub(crate) address: String,
    pub(crate) zone: String,
    pub(crate) weight: f64,
    pub(crate) state: String,
    pub(crate) up: bool,
    pub(crate) primaries: u64,
    pub(crate) backups: u64,
}

impl Row {
    /// A member, with how many groups it is the primary and a backup of.
    pub(crate) fn new(view: &MemberView, (primaries, backups): (u64, u64)) -> Self {
        let member = &view.member;
        Self {
            name: member.name.clone(),
            id: member.node.to_string(),
            number: view.number.0,
            address: member.address.clone(),
            zone: member.zone.clone(),
            weight: f64::from(member.weight_milli) / 1000.0,
            state: view.state.clone(),
            up: view.up,
            primaries,
            backups,
        }
    }

    /// The start of its id.
    pub(crate) fn short_id(&self) -> String {
        self.id.chars().take(8).collect()
    }

    /// Its zone, or `-`.
    pub(crate) fn shown_zone(&self) -> String {
        if self.zone.is_empty() { "-".to_owned() } else { self.zone.clone() }
    }
}

/// `demo/a, demo/b and 3 more`.
pub(crate) fn listed(names: &[String]) -> String {
    if names.len() <= NAMED_MAX {
        return names.join(", ");
    }
    format!("{} and {} more", names[..NAMED_MAX].join(", "), names.len() - NAMED_MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holo_core::replication::{Class, NodeNumber};
    use holo_core::{Member, PublicKey};

    use super::*;

    fn view(names: &[&str]) -> ClusterView {
        let members = names.iter().zip(1u8..).map(|(name, number)| MemberView {
            member: Member {
                node: NodeId(PublicKey([number * 0x11; 32])),
                name: (*name).to_owned(),
                address: format!("127.0.0.1:{number}"),
                zone: String::new(),
                weight_milli: 1000,
            },
            number: NodeNumber(u32::from(number)),
            state: "active".to_owned(),
            up: true,
        });
        let class = Class { replicas: 2, min_in_sync: 1 };
        let classes = BTreeMap::from([(class, vec![vec![0, 1], vec![1], vec![], vec![1, 0]])]);
        ClusterView::new(1, "lab", 2, members.collect(), classes).unwrap()
    }

    #[test]
    fn a_node_is_found_by_any_beginning_that_only_one_has() {
        let view = view(&["rack-a", "rack-b", "rack"]);
        let found = |wanted: &str| find(&view, wanted).map(|it| it.member.name.as_str());
        assert_eq!(found("rack"), Ok("rack"));
        assert_eq!(found("rack-b"), Ok("rack-b"));
        assert_eq!(found("22"), Ok("rack-b"));
        let several = found("rack-").unwrap_err();
        assert_eq!(several.code, ErrorCode::InvalidArgument);
        assert_eq!(several.message, "rack- may be rack-a, rack-b");
        for wanted in ["", "b", "44"] {
            let none = found(wanted).unwrap_err();
            assert_eq!(none.code, ErrorCode::NotFound);
            assert_eq!(none.help.as_deref(), Some("the members are rack, rack-a, rack-b"));
        }
    }

    #[test]
    fn copies_are_counted_by_their_role() {
        assert_eq!(copies(&view(&["a", "b", "c"])), [(1, 1), (2, 1), (0, 0)]);
    }

    #[test]
    fn names_come_in_the_order_of_their_numbers() {
        let mut names = ["n10", "n2", "rack", "n1", "n", "n02"];
        sort_by_name(&mut names, |name| name);
        assert_eq!(names, ["n", "n1", "n02", "n2", "n10", "rack"]);
    }

    #[test]
    fn long_lists_end_with_a_count() {
        let names: Vec<String> = (0..7).map(|index| format!("a{index}")).collect();
        assert_eq!(listed(&names[..2]), "a0, a1");
        assert_eq!(listed(&names), "a0, a1, a2, a3, a4 and 2 more");
    }
}
