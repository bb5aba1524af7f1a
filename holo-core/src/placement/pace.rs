//! How vacancies are parted among the zones while they are filled one after the other.

use crate::placement::share::Shares;

/// How many replicas a zone may be ahead of the others.
const LEAD: f64 = 2.0;
/// Of more zones than this each has so small a part of a set that the ring alone keeps them abreast.
const ZONES_MAX: usize = 64;

/// Keeps the zones abreast of each other on the way to their shares.
///
/// The ring alone does not: a set takes a zone at most once, so the first zones clockwise are large ones more seldom, and
/// small ones more often, than their shares. Small zones would be full to the brim and could not take what a dead node
/// held, unless they first gave something away.
#[derive(Debug)]
pub(super) struct Pace {
    /// Replicas that each zone lacks; empty where nobody paces.
    lacks: Vec<f64>,
    taken: Vec<f64>,
    total: f64,
    filled: f64,
}

impl Pace {
    /// For vacancies beside what the members hold already.
    pub(super) fn new(shares: &Shares, loads: &[u32]) -> Self {
        let zones = shares.zone_of.iter().max().map_or(0, |zone| usize::from(*zone) + 1);
        let mut lacks = vec![0.0; zones];
        for ((zone, share), load) in shares.zone_of.iter().zip(&shares.shares).zip(loads) {
            lacks[usize::from(*zone)] += share - f64::from(*load);
        }
        if zones > ZONES_MAX {
            lacks.clear();
        }
        lacks.iter_mut().for_each(|lack| *lack = lack.max(0.0));
        let total = lacks.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        Self { taken: vec![0.0; lacks.len()], lacks, total, filled: 0.0 }
    }

    /// A zone gets a replica.
    pub(super) fn take(&mut self, zone: u16) {
        self.filled += 1.0;
        if let Some(taken) = self.taken.get_mut(usize::from(zone)) {
            *taken += 1.0;
        }
    }

    /// The zones that have got more than the others, for what they lack.
    pub(super) fn ahead(&self) -> impl Iterator<Item = u16> {
        let part = self.filled / self.total;
        let zones = (0u16..).zip(self.taken.iter().zip(&self.lacks));
        zones.filter(move |(_, (taken, lack))| **taken >= *lack * part + LEAD).map(|(zone, _)| zone)
    }
}
