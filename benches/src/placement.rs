//! How evenly placement spreads, and how much moves when a node comes or goes, up to 10,000 nodes.

use std::collections::{BTreeMap, BTreeSet};

use holo_core::placement::{Member, PlacementTable};
use holo_core::{NodeId, PartitionId, PublicKey, ShardIndex, TableVersion, limits};

use crate::report::Row;
use crate::timing::Stopwatch;

const REPLICAS: usize = 3;
/// The last one leaves room for the node that joins.
const SIZES: [u32; 5] = [3, 10, 100, 1000, 9_999];
const LOOKUPS: u32 = 200_000;

/// How much a node may hold over its share, at most.
const FULLEST_MAX: f64 = 1.06;
/// How much may move over what has to, at most.
const MOVED_MAX: f64 = 1.7;

/// What the nodes of a cluster are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One like the other, without zones.
    Equal,
    /// Weights 1, 2 and 4 over ten zones of the same size.
    Zones,
    /// Weights from 1/4 to 8 over as many zones as there are copies: each has to hold a copy of everything.
    ThreeZones,
    /// The same weights over five zones, of which the largest is three times the smallest.
    UnevenZones,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Equal, Self::Zones, Self::ThreeZones, Self::UnevenZones];

    fn name(self) -> &'static str {
        match self {
            Self::Equal => "nodes",
            Self::Zones => "weighted nodes in zones",
            Self::ThreeZones => "weighted nodes in three zones",
            Self::UnevenZones => "weighted nodes in uneven zones",
        }
    }

    /// A node's zone and weight. Neighbours in number differ in zone, and weights do not follow zones.
    fn of(self, number: u32) -> (String, u32) {
        let drawn = number.wrapping_mul(2_654_435_761) >> 16;
        let few = 1000 << (drawn % 3);
        let many = 250 << (drawn % 6);
        let zone = |zone: u32| format!("zone{zone}");
        match self {
            Self::Equal => (String::new(), 1000),
            Self::Zones => (zone(number % 10), few),
            Self::ThreeZones => (zone(number % 3), many),
            Self::UnevenZones => {
                // 30, 25, 20, 15 and 10 of a hundred: none has more than the third that a zone can hold.
                let place = number.wrapping_mul(37) % 20;
                let bounds = [6, 11, 15, 18, 20];
                let index = bounds.iter().position(|bound| place < *bound).unwrap_or(0);
                (zone(u32::try_from(index).unwrap_or(0)), many)
            }
        }
    }
}

/// One row per figure, first how the worst of all clusters did.
pub(crate) fn run() -> Vec<Row> {
    let clusters = Kind::ALL.into_iter().flat_map(|kind| {
        let sizes = SIZES.into_iter().filter(move |nodes| kind == Kind::Equal || *nodes >= 100);
        sizes.map(move |nodes| Cluster { nodes, kind })
    });
    let rows: Vec<Row> = clusters.flat_map(|cluster| cluster.measure()).collect();
    let worst = |what: &str, target: f64| Row {
        workload: format!("placement, worst of all: {what}"),
        ours: rows
            .iter()
            .filter(|row| row.workload.contains(what))
            .map(|row| row.ours)
            .fold(0.0, f64::max),
        unit: "x",
        more_is_better: false,
        reference: "ideal",
        reference_value: 1.0,
        target,
    };
    let worst = [worst(FULLEST, FULLEST_MAX), worst(MOVED, MOVED_MAX)];
    worst.into_iter().chain(rows).collect()
}

const FULLEST: &str = "fullest node over its share";
const MOVED: &str = "moved over needed";

struct Cluster {
    nodes: u32,
    kind: Kind,
}

impl Cluster {
    fn measure(&self) -> Vec<Row> {
        let members: Vec<Member> = (0..self.nodes).map(|number| self.member(number)).collect();
        let watch = Stopwatch::start();
        let Some(table) = self.table(&members, None) else { return Vec::new() };
        let seconds = watch.seconds();
        let mut rows = vec![
            self.row(FULLEST, fullest(&table, &members, REPLICAS), "x", FULLEST_MAX),
            self.row("fullest primary over its share", fullest(&table, &members, 1), "x", 1.1),
            self.row("a table from nothing", seconds * 1e3, "ms", 0.0),
            self.row("one lookup", lookup_nanos(&table), "ns", 0.0),
        ];
        let mut more = members.clone();
        more.push(self.member(self.nodes));
        rows.extend(self.movement("a node joins", &table, &members, &more));
        if self.nodes as usize > REPLICAS {
            let mut fewer = members.clone();
            fewer.remove(members.len() / 2);
            rows.extend(self.movement("a node leaves", &table, &members, &fewer));
        }
        rows
    }

    fn movement(
        &self,
        what: &str,
        table: &PlacementTable,
        before: &[Member],
        after: &[Member],
    ) -> Vec<Row> {
        let Some(next) = self.table(after, Some((table, before))) else { return Vec::new() };
        let needed = needed(&next, after, table, before);
        let ratio = moved(table, before, &next, after) / needed;
        let balance = fullest(&next, after, REPLICAS);
        vec![
            self.row(&format!("{what}: {MOVED}"), ratio, "x", MOVED_MAX),
            self.row(&format!("{what}: then {FULLEST}"), balance, "x", FULLEST_MAX),
        ]
    }

    /// 128 partitions per node or a little more, as far as partitions go. The catalog's planner computes the same again
    /// until nothing changes; that nothing does is a test of placement's.
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
        let (zone, weight_milli) = self.kind.of(number);
        Member {
            node: NodeId(PublicKey(key)),
            name: format!("n{number}"),
            address: format!("node{number}:7400"),
            zone,
            weight_milli,
        }
    }

    fn row(&self, what: &str, ours: f64, unit: &'static str, target: f64) -> Row {
        Row {
            workload: format!("placement on {} {}: {what}", self.nodes, self.kind.name()),
            ours,
            unit,
            more_is_better: false,
            reference: if unit == "x" { "ideal" } else { "" },
            reference_value: if unit == "x" { 1.0 } else { 0.0 },
            target,
        }
    }
}

/// What part of all replicas each member should hold: by its weight, as far as its zone can hold that much. A zone holds
/// one copy of everything at most, and what it cannot hold goes to the others.
fn shares(members: &[Member]) -> Vec<f64> {
    let mut zones: BTreeMap<&str, f64> = BTreeMap::new();
    for member in members {
        *zones.entry(&member.zone).or_default() += f64::from(member.weight_milli);
    }
    let most = if zones.len() < REPLICAS { 1.0 } else { 1.0 / count(REPLICAS) };
    let mut parts: BTreeMap<&str, f64> = BTreeMap::new();
    loop {
        let open = |zone: &&&str| !parts.contains_key(**zone);
        let left = 1.0 - parts.values().sum::<f64>();
        let weight: f64 = zones.keys().filter(open).map(|zone| zones[zone]).sum();
        let full: Vec<&str> = zones
            .keys()
            .filter(open)
            .filter(|zone| left * zones[**zone] / weight > most)
            .copied()
            .collect();
        if full.is_empty() {
            let rest: Vec<&str> = zones.keys().filter(open).copied().collect();
            parts.extend(rest.into_iter().map(|zone| (zone, left * zones[zone] / weight)));
            break;
        }
        parts.extend(full.into_iter().map(|zone| (zone, most)));
    }
    let share = |member: &Member| {
        let zone = member.zone.as_str();
        parts[zone] * f64::from(member.weight_milli) / zones[zone]
    };
    members.iter().map(share).collect()
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// The largest load relative to what a member should hold, counting the first `places` of each set.
fn fullest(table: &PlacementTable, members: &[Member], places: usize) -> f64 {
    let mut loads = vec![0u32; members.len()];
    for partition in 0..table.partitions() {
        for holder in table.holders(PartitionId(partition)).iter().take(places) {
            loads[usize::from(*holder)] += 1;
        }
    }
    let total: f64 = loads.iter().map(|load| f64::from(*load)).sum();
    let relative = loads.iter().zip(shares(members));
    relative.map(|(load, share)| f64::from(*load) / (total * share)).fold(0.0, f64::max)
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

/// Replicas that have to move, whoever comes or goes: what the shares of those who are there have grown by, and at least
/// what those who have gone held.
fn needed(new: &PlacementTable, after: &[Member], old: &PlacementTable, before: &[Member]) -> f64 {
    let stayed: BTreeSet<NodeId> = after.iter().map(|member| member.node).collect();
    let held = (0..old.partitions()).flat_map(|partition| old.holders(PartitionId(partition)));
    let lost = held.filter(|index| !stayed.contains(&before[usize::from(**index)].node)).count();
    let was: BTreeMap<NodeId, f64> =
        before.iter().map(|member| member.node).zip(shares(before)).collect();
    let grown = after
        .iter()
        .zip(shares(after))
        .map(|(member, share)| (share - was.get(&member.node).copied().unwrap_or(0.0)).max(0.0));
    let grown = grown.sum::<f64>() * f64::from(new.partitions()) * count(new.replicas());
    grown.max(count(lost))
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
