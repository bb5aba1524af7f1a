//! How evenly placement spreads, and how much moves when a node comes or goes, up to 10,000 nodes.

use std::collections::BTreeSet;

use holo_core::placement::{Member, PlacementTable};
use holo_core::{NodeId, PartitionId, PublicKey, ShardIndex, TableVersion, limits};

use crate::report::Row;
use crate::timing::Stopwatch;

const REPLICAS: usize = 3;
/// The last one leaves room for the node that joins.
const SIZES: [u32; 5] = [3, 10, 100, 1000, 9_999];
const LOOKUPS: u32 = 200_000;

/// One row per figure: equal nodes first, then weights 1, 2 and 4 over zones.
pub(crate) fn run() -> Vec<Row> {
    let cluster = |weighted: bool| {
        SIZES
            .into_iter()
            .filter(move |nodes| !weighted || *nodes >= 100)
            .flat_map(move |nodes| Cluster { nodes, weighted }.measure())
    };
    cluster(false).chain(cluster(true)).collect()
}

struct Cluster {
    nodes: u32,
    weighted: bool,
}

impl Cluster {
    fn measure(&self) -> Vec<Row> {
        let members: Vec<Member> = (0..self.nodes).map(|number| self.member(number)).collect();
        let watch = Stopwatch::start();
        let Some(table) = self.table(&members, None) else { return Vec::new() };
        let seconds = watch.seconds();
        let mut rows = vec![
            self.row("fullest node over its share", fullest(&table, &members, REPLICAS), "x", 1.06),
            self.row("fullest primary over its share", fullest(&table, &members, 1), "x", 1.1),
            self.row("a table from nothing", seconds * 1e3, "ms", 0.0),
            self.row("one lookup", lookup_nanos(&table), "ns", 0.0),
        ];
        let mut more = members.clone();
        more.push(self.member(self.nodes));
        rows.extend(self.movement("a node joins: moved over needed", &table, &members, &more));
        if self.nodes as usize > REPLICAS {
            let mut fewer = members.clone();
            fewer.remove(members.len() / 2);
            rows.extend(self.movement(
                "a node leaves: moved over needed",
                &table,
                &members,
                &fewer,
            ));
        }
        rows
    }

    fn movement(
        &self,
        what: &str,
        table: &PlacementTable,
        before: &[Member],
        after: &[Member],
    ) -> Option<Row> {
        let next = self.table(after, Some((table, before)))?;
        let needed = needed(&next, after, table, before);
        let ratio = moved(table, before, &next, after) / needed;
        let balance = fullest(&next, after, REPLICAS);
        Some(self.row(&format!("{what} (then fullest {balance:.3})"), ratio, "x", 1.65))
    }

    /// 128 partitions per node or a little more, as far as partitions go.
    fn table(
        &self,
        members: &[Member],
        previous: Option<(&PlacementTable, &[Member])>,
    ) -> Option<PlacementTable> {
        let bits = (128 * self.nodes).next_power_of_two().trailing_zeros();
        let bits = u8::try_from(bits).ok()?.min(limits::PARTITION_BITS_MAX);
        PlacementTable::compute(members, bits, REPLICAS, previous, TableVersion(1)).ok()
    }

    fn member(&self, number: u32) -> Member {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_le_bytes());
        let (zone, weight_milli) = if self.weighted {
            // Neighbours in number differ in zone, and weights do not follow zones.
            let zones = if self.nodes <= 100 { 5 } else { 10 };
            let weight = 1 << ((number.wrapping_mul(2_654_435_761) >> 16) % 3);
            (format!("zone{}", number % zones), 1000 * weight)
        } else {
            (String::new(), 1000)
        };
        Member {
            node: NodeId(PublicKey(key)),
            name: format!("n{number}"),
            address: format!("node{number}:7400"),
            zone,
            weight_milli,
        }
    }

    fn row(&self, what: &str, ours: f64, unit: &'static str, target: f64) -> Row {
        let kind = if self.weighted { "weighted nodes in zones" } else { "nodes" };
        Row {
            workload: format!("placement on {} {kind}: {what}", self.nodes),
            ours,
            unit,
            more_is_better: false,
            reference: if unit == "x" { "ideal" } else { "" },
            reference_value: if unit == "x" { 1.0 } else { 0.0 },
            target,
        }
    }
}

/// The largest load relative to the load that a member's weight asks for, counting the first `places` of each set.
fn fullest(table: &PlacementTable, members: &[Member], places: usize) -> f64 {
    let mut loads = vec![0u32; members.len()];
    for partition in 0..table.partitions() {
        for holder in table.holders(PartitionId(partition)).iter().take(places) {
            loads[usize::from(*holder)] += 1;
        }
    }
    let weight: f64 = members.iter().map(|member| f64::from(member.weight_milli)).sum();
    let total: f64 = loads.iter().map(|load| f64::from(*load)).sum();
    let relative = loads
        .iter()
        .zip(members)
        .map(|(load, member)| f64::from(*load) * weight / (total * f64::from(member.weight_milli)));
    relative.fold(0.0, f64::max)
}

/// Replicas that have a new holder.
fn moved(old: &PlacementTable, before: &[Member], new: &PlacementTable, after: &[Member]) -> f64 {
    let holders =
        |table: &PlacementTable, members: &[Member], partition: u32| -> BTreeSet<NodeId> {
            let set = table.holders(PartitionId(partition)).iter();
            set.map(|index| members[usize::from(*index)].node).collect()
        };
    let fresh = (0..new.partitions()).map(|partition| {
        let (was, is) = (holders(old, before, partition), holders(new, after, partition));
        u32::try_from(is.difference(&was).count()).map_or(0.0, f64::from)
    });
    fresh.sum()
}

/// Replicas that have to move: what the newcomer's weight asks for, or what the leaver held.
fn needed(new: &PlacementTable, after: &[Member], old: &PlacementTable, before: &[Member]) -> f64 {
    let replicas = u32::try_from(new.replicas()).map_or(0.0, f64::from);
    let total = f64::from(new.partitions()) * replicas;
    let weight = |members: &[Member]| -> f64 {
        members.iter().map(|member| f64::from(member.weight_milli)).sum()
    };
    let (was, is) = (weight(before), weight(after));
    if is > was {
        return total * (is - was) / is;
    }
    let stayed: BTreeSet<NodeId> = after.iter().map(|member| member.node).collect();
    let held = (0..old.partitions()).flat_map(|partition| old.holders(PartitionId(partition)));
    let lost = held.filter(|index| !stayed.contains(&before[usize::from(**index)].node)).count();
    u32::try_from(lost).map_or(1.0, f64::from)
}

fn lookup_nanos(table: &PlacementTable) -> f64 {
    let key = [7; 32];
    let mut sum = 0usize;
    let watch = Stopwatch::start();
    for shard in 0..LOOKUPS {
        sum += table.primary(table.partition_of(&key, ShardIndex(u64::from(shard))));
    }
    let seconds = watch.seconds();
    // The sum keeps the lookups from being optimised away.
    std::hint::black_box(sum);
    seconds * 1e9 / f64::from(LOOKUPS)
}
