//! How much each member should hold: weights, limited by what is feasible.

use std::collections::BTreeMap;

use crate::placement::Member;

/// How replica sets may be laid out over the members.
#[derive(Debug)]
pub(super) struct Shares {
    /// Zone of each member, as a small number.
    pub(super) zone_of: Vec<u16>,
    /// Replicas of one set that a zone may hold: 1 where there are enough zones.
    pub(super) zone_max: usize,
    /// Replicas that each member should hold.
    pub(super) shares: Vec<f64>,
}

impl Shares {
    /// Shares of `partitions` x `replicas` replicas. `replicas` is at most the number of members.
    pub(super) fn new(members: &[Member], partitions: u32, replicas: usize) -> Self {
        let mut zones: BTreeMap<&str, u16> = BTreeMap::new();
        let mut zone_of = Vec::with_capacity(members.len());
        let mut in_zone: Vec<Vec<usize>> = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let fresh = u16::try_from(zones.len()).unwrap_or(u16::MAX);
            let zone = *zones.entry(&member.zone).or_insert(fresh);
            if usize::from(zone) == in_zone.len() {
                in_zone.push(Vec::new());
            }
            if let Some(list) = in_zone.get_mut(usize::from(zone)) {
                list.push(index);
            }
            zone_of.push(zone);
        }
        let per_node = f64::from(partitions);
        let weight = |index: usize| f64::from(members[index].weight_milli.max(1));
        let (zone_max, zone_limits) = zone_limits(&in_zone, replicas, per_node);
        let zone_weights: Vec<f64> =
            in_zone.iter().map(|zone| zone.iter().map(|index| weight(*index)).sum()).collect();
        let total = per_node * count(replicas);
        let mut shares = vec![0.0; members.len()];
        for (zone, zone_share) in in_zone.iter().zip(pour(total, &zone_weights, &zone_limits)) {
            let weights: Vec<f64> = zone.iter().map(|index| weight(*index)).collect();
            let poured = pour(zone_share, &weights, &vec![per_node; zone.len()]);
            for (index, share) in zone.iter().zip(poured) {
                shares[*index] = share;
            }
        }
        Self { zone_of, zone_max, shares }
    }
}

/// The smallest number of replicas per set and zone with which sets can be filled, and what each zone can then hold.
fn zone_limits(in_zone: &[Vec<usize>], replicas: usize, per_node: f64) -> (usize, Vec<f64>) {
    let reach = |zone_max: usize| in_zone.iter().map(move |zone| zone.len().min(zone_max));
    let zone_max = (1..=replicas).find(|max| reach(*max).sum::<usize>() >= replicas);
    let zone_max = zone_max.unwrap_or(replicas).max(1);
    (zone_max, reach(zone_max).map(|nodes| per_node * count(nodes)).collect())
}

/// Pours `total` over vessels in proportion to their weights; what a full one cannot take goes to the others.
fn pour(total: f64, weights: &[f64], limits: &[f64]) -> Vec<f64> {
    let mut poured = vec![0.0; weights.len()];
    let mut full = vec![false; weights.len()];
    loop {
        let open = |index: &usize| !full[*index];
        let left = total
            - (0..weights.len())
                .filter(|index| full[*index])
                .map(|index| limits[index])
                .sum::<f64>();
        let weight: f64 = (0..weights.len()).filter(open).map(|index| weights[index]).sum();
        let mut overflow = Vec::new();
        for index in (0..weights.len()).filter(open) {
            poured[index] = left * weights[index] / weight;
            if poured[index] >= limits[index] {
                overflow.push(index);
            }
        }
        if overflow.is_empty() {
            return poured;
        }
        for index in overflow {
            full[index] = true;
            poured[index] = limits[index];
        }
    }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or_else(|_| f64::from(u32::MAX), f64::from)
}
