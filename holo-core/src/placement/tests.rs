use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::wire::{NodeEntry, TableBody};
use crate::{ErrorCode, NodeId, PartitionId, PublicKey, ShardIndex, TableVersion, limits};

fn member(number: u32, zone: &str, weight_milli: u32) -> Member {
    Member {
        node: NodeId(PublicKey(*blake3::hash(&number.to_le_bytes()).as_bytes())),
        name: format!("n{number}"),
        address: format!("127.0.0.1:{}", 7000 + number),
        zone: zone.to_owned(),
        weight_milli,
    }
}

fn equal(count: u32) -> Vec<Member> {
    (0..count).map(|number| member(number, "", 1000)).collect()
}

fn table(members: &[Member], bits: u8, replicas: usize) -> PlacementTable {
    PlacementTable::compute(members, bits, replicas, None, TableVersion(1)).unwrap()
}

fn loads(table: &PlacementTable) -> Vec<u32> {
    let mut loads = vec![0; table.member_count()];
    for partition in 0..table.partitions() {
        for holder in table.holders(PartitionId(partition)) {
            loads[usize::from(*holder)] += 1;
        }
    }
    loads
}

/// The fullest member over the average.
fn imbalance(loads: &[u32]) -> f64 {
    let total: u32 = loads.iter().sum();
    f64::from(*loads.iter().max().unwrap()) * loads.len() as f64 / f64::from(total)
}

/// Holders of `new` that did not hold the partition in `old`.
fn moved(old: (&PlacementTable, &[Member]), new: (&PlacementTable, &[Member])) -> u32 {
    let ids = |(table, members): (&PlacementTable, &[Member]), partition| -> BTreeSet<NodeId> {
        let holders = table.holders(PartitionId(partition)).iter();
        holders.map(|index| members[usize::from(*index)].node).collect()
    };
    let fresh = (0..new.0.partitions()).map(|p| ids(new, p).difference(&ids(old, p)).count());
    u32::try_from(fresh.sum::<usize>()).unwrap()
}

#[test]
fn replicas_and_primaries_are_balanced_within_six_hundredths() {
    for (count, bits) in [(3, 9), (10, 11), (100, 14)] {
        let members = equal(count);
        for replicas in [1, 2, 3] {
            let table = table(&members, bits, replicas);
            let (held, first) = (imbalance(&loads(&table)), imbalance(&table.primaries()));
            assert!(held <= 1.06, "{replicas} replicas on {count} nodes: {held}");
            assert!(first <= 1.06, "{replicas} replicas on {count} nodes, primaries: {first}");
        }
    }
}

#[test]
fn the_default_cluster_of_three_is_balanced() {
    let table = table(&equal(3), limits::PARTITION_BITS_DEFAULT, 1);
    assert_eq!(table.primaries().iter().sum::<u32>(), 256);
    assert!(imbalance(&table.primaries()) <= 1.06, "{:?}", table.primaries());
}

#[test]
fn joining_and_leaving_moves_about_what_it_must() {
    for (count, bits, replicas) in [(10, 11, 3), (100, 14, 3), (100, 14, 1)] {
        let members = equal(count);
        let before = table(&members, bits, replicas);
        let total = f64::from(before.partitions()) * replicas as f64;

        let more = equal(count + 1);
        let after = PlacementTable::compute(
            &more,
            bits,
            replicas,
            Some((&before, &members)),
            TableVersion(2),
        )
        .unwrap();
        let ideal = total / f64::from(count + 1);
        let ratio = f64::from(moved((&before, &members), (&after, &more))) / ideal;
        assert!((0.8..=1.3).contains(&ratio), "joining {count}: {ratio} of the ideal");
        assert!(imbalance(&loads(&after)) <= 1.06, "joining {count}");

        let mut fewer = members.clone();
        fewer.remove(count as usize / 2);
        let after = PlacementTable::compute(
            &fewer,
            bits,
            replicas,
            Some((&before, &members)),
            TableVersion(2),
        )
        .unwrap();
        let ideal = total / f64::from(count);
        let ratio = f64::from(moved((&before, &members), (&after, &fewer))) / ideal;
        assert!((0.8..=1.3).contains(&ratio), "leaving {count}: {ratio} of the ideal");
        assert!(imbalance(&loads(&after)) <= 1.06, "leaving {count}");
    }
}

#[test]
fn nothing_moves_when_nothing_changes_and_listing_order_does_not_matter() {
    let members = equal(7);
    let before = table(&members, 8, 2);
    let again = PlacementTable::compute(&members, 8, 2, Some((&before, &members)), TableVersion(1))
        .unwrap();
    assert_eq!(again, before);
    let mut turned = members.clone();
    turned.rotate_left(3);
    let same =
        PlacementTable::compute(&turned, 8, 2, Some((&before, &members)), TableVersion(2)).unwrap();
    assert_eq!(moved((&before, &members), (&same, &turned)), 0);
    assert_eq!(moved((&before, &members), (&table(&turned, 8, 2), &turned)), 0);
}

/// Members of weights 1/4 to 8 in five zones, of which the largest is three times the smallest.
fn uneven(count: u32) -> Vec<Member> {
    let zones = ["a", "a", "a", "b", "b", "c", "c", "d", "d", "e"];
    (0..count)
        .map(|number| {
            let drawn = number.wrapping_mul(2_654_435_761) >> 16;
            member(number, zones[number as usize % zones.len()], 250 << (drawn % 6))
        })
        .collect()
}

#[test]
fn in_uneven_zones_no_more_moves_than_has_to_and_planning_again_moves_nothing() {
    // The first zones clockwise are small ones too often: those were full to the brim, and what a dead node had held
    // went to members without room, which first gave as much away.
    let (bits, replicas) = (11, 3);
    let members = uneven(40);
    let before = table(&members, bits, replicas);
    let shares = |members: &[Member]| share::Shares::new(members, 1 << bits, replicas).shares;
    let mut changes: Vec<Vec<Member>> = vec![members.clone(), uneven(41)];
    for gone in (0..members.len()).step_by(3) {
        let mut fewer = members.clone();
        fewer.remove(gone);
        changes.push(fewer);
    }
    let was: BTreeMap<NodeId, f64> =
        members.iter().map(|member| member.node).zip(shares(&members)).collect();
    for after in changes {
        let compute = |previous| {
            PlacementTable::compute(&after, bits, replicas, Some(previous), TableVersion(2))
                .unwrap()
        };
        let next = compute((&before, &members));
        let grown = after.iter().zip(shares(&after)).map(|(member, share)| {
            (share - was.get(&member.node).copied().unwrap_or(0.0)).max(0.0)
        });
        let here: BTreeSet<NodeId> = after.iter().map(|member| member.node).collect();
        let held =
            before.sets().iter().filter(|it| !here.contains(&members[usize::from(**it)].node));
        let needed = grown.sum::<f64>().max(held.count() as f64);
        let moved = f64::from(moved((&before, &members), (&next, &after)));
        assert!(moved <= needed * 1.05, "{} members: {moved} for {needed}", after.len());
        for (load, share) in loads(&next).iter().zip(shares(&after)) {
            assert!(f64::from(*load) <= share * 1.06 + 1.0, "{load} of {share}");
        }
        assert_eq!(compute((&next, &after)).sets(), next.sets(), "once is enough");
    }
}

#[test]
fn weights_count_as_far_as_they_can() {
    let members: Vec<Member> = (0..12)
        .map(|n| member(n, ["a", "b", "c"][n as usize % 3], [1000, 2000, 4000][n as usize / 4]))
        .collect();
    let table = table(&members, 12, 3);
    let shares = share::Shares::new(&members, 4096, 3).shares;
    for (load, share) in loads(&table).iter().zip(shares) {
        assert!(f64::from(*load) <= share * 1.06 + 1.0, "{load} of {share}");
    }
    // One huge node holds each partition once and no more.
    let lopsided = [member(0, "", 64_000), member(1, "", 1000), member(2, "", 1000)];
    assert_eq!(loads(&self::table(&lopsided, 8, 2))[0], 256);
}

#[test]
fn partitions_come_from_all_bits_of_the_key_and_spread_evenly() {
    let table = table(&equal(3), 4, 1);
    let mut hits = [0u32; 16];
    for shard in 0..16_000 {
        let partition = table.partition_of(&[7; 32], ShardIndex(shard));
        assert_eq!(partition, partition_of(4, &[7; 32], ShardIndex(shard)));
        hits[partition.0 as usize] += 1;
    }
    assert!(hits.iter().all(|hits| (800..1200).contains(hits)), "{hits:?}");
    assert_eq!(partition_of(0, &[7; 32], ShardIndex(5)), PartitionId(0));
    let other = (0..64).filter(|shard| {
        partition_of(20, &[7; 32], ShardIndex(*shard))
            == partition_of(20, &[8; 32], ShardIndex(*shard))
    });
    assert!(other.count() < 2, "another key is another mapping");
}

#[test]
fn bounds_are_checked() {
    let code = |members: &[Member], bits, replicas| {
        PlacementTable::compute(members, bits, replicas, None, TableVersion(0)).unwrap_err().code
    };
    assert_eq!(code(&[], 8, 1), ErrorCode::InvalidArgument);
    assert_eq!(code(&equal(3), 21, 1), ErrorCode::InvalidArgument);
    assert_eq!(code(&equal(3), 8, 0), ErrorCode::InvalidArgument);
    assert_eq!(code(&equal(3), 8, 8), ErrorCode::InvalidArgument);
    assert_eq!(table(&equal(2), 3, 5).replicas(), 2, "no more copies than members");
    assert_eq!(table(&equal(1), 0, 1).holders(PartitionId(0)), [0]);
    assert!(table(&equal(3), 3, 1).holders(PartitionId(8)).is_empty());
    assert!(table(&equal(3), 3, 1).holders(PartitionId(u32::MAX)).is_empty());
}

#[test]
fn a_member_crosses_the_wire_and_broken_ones_are_refused() {
    let member = equal(1).remove(0);
    let entry = NodeEntry::from(&member);
    assert_eq!(Member::try_from(entry.clone()), Ok(member));
    let broken = |change: fn(&mut NodeEntry)| {
        let mut entry = entry.clone();
        change(&mut entry);
        Member::try_from(entry).unwrap_err().code
    };
    assert_eq!(broken(|e| e.node = vec![0; 31]), ErrorCode::Malformed);
    assert_eq!(broken(|e| e.weight_milli = 0), ErrorCode::Malformed);
    assert_eq!(broken(|e| e.name = String::new()), ErrorCode::Malformed);
    assert_eq!(broken(|e| e.address = "x".repeat(300)), ErrorCode::Malformed);
}

#[test]
fn names_are_what_can_be_typed_and_stand_in_a_path() {
    for name in ["n1", "N-1_a.b", "0", "lab.example", &"n".repeat(limits::NODE_NAME_BYTES_MAX)] {
        assert_eq!(check_name("node", name), Ok(()), "{name:?}");
    }
    let long = "n".repeat(limits::NODE_NAME_BYTES_MAX + 1);
    let bad =
        ["", "n 0/..", "..", ".n", "-n", "_n", "n/", "n\n", "n\u{1b}[2J", "nö", "ö", "n\0", &long];
    for name in bad {
        let refused = check_name("node", name).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidArgument, "{name:?}");
        assert!(refused.help.as_ref().is_some_and(|help| help.contains("64")), "{refused}");
        assert!(!refused.message.chars().any(char::is_control), "{name:?}");
        assert!(refused.message.len() < 300, "{name:?}");
    }
}

#[test]
fn broken_tables_are_refused() {
    let body = table(&equal(3), 6, 2).to_body();
    let broken = |change: fn(&mut TableBody)| {
        let mut body = body.clone();
        change(&mut body);
        PlacementTable::from_body(&body, 3).unwrap_err().code
    };
    assert_eq!(broken(|b| b.members[0] = 3), ErrorCode::Malformed, "no such member");
    assert_eq!(broken(|b| b.members[2] = b.members[0]), ErrorCode::Malformed, "twice in a set");
    assert_eq!(broken(|b| b.members.truncate(5)), ErrorCode::Malformed);
    assert_eq!(broken(|b| b.partition_bits = 300), ErrorCode::Malformed);
    assert_eq!(broken(|b| b.replicas = u32::MAX), ErrorCode::Malformed);
    assert_eq!(broken(|b| b.replicas = 0), ErrorCode::Malformed);
}

proptest! {
    #[test]
    fn every_partition_has_distinct_holders_in_distinct_zones_where_that_can_be(
        zones in proptest::collection::vec(0u8..4, 1..12),
        weights in proptest::collection::vec(1u32..8, 12),
        bits in 0u8..7,
        replicas in 1usize..5,
        gone in 0usize..12,
    ) {
        let members: Vec<Member> = (0u32..)
            .zip(zones.iter().zip(&weights))
            .map(|(n, (zone, weight))| member(n, &zone.to_string(), weight * 500))
            .collect();
        let first = table(&members, bits, replicas);
        let mut fewer = members.clone();
        if fewer.len() > 1 {
            fewer.remove(gone % members.len());
        }
        let second = PlacementTable::compute(&fewer, bits, replicas, Some((&first, &members)), TableVersion(2)).unwrap();
        for (table, members) in [(&first, &members), (&second, &fewer)] {
            let distinct_zones: BTreeSet<_> = members.iter().map(|member| &member.zone).collect();
            for partition in 0..table.partitions() {
                let holders = table.holders(PartitionId(partition));
                prop_assert_eq!(holders.len(), replicas.min(members.len()));
                let nodes: BTreeSet<_> = holders.iter().collect();
                prop_assert_eq!(nodes.len(), holders.len());
                let zones: BTreeSet<_> = holders.iter().map(|h| &members[usize::from(*h)].zone).collect();
                if distinct_zones.len() >= replicas {
                    prop_assert_eq!(zones.len(), holders.len(), "two copies in one zone");
                }
                prop_assert_eq!(table.primary(PartitionId(partition)), usize::from(holders[0]));
            }
            let back = PlacementTable::from_body(&table.to_body(), members.len()).unwrap();
            prop_assert_eq!(&back, table);
        }
    }

    #[test]
    fn noise_is_no_table(noise in proptest::collection::vec(any::<u8>(), 0..64), bits in 0u32..24, replicas in 0u32..9, members in 0usize..5) {
        let body = TableBody { version: 1, partition_bits: bits, replicas, members: noise };
        if let Ok(table) = PlacementTable::from_body(&body, members) {
            prop_assert_eq!(table.to_body(), body);
        }
    }
}
