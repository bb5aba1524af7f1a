//! The consistent-hash ring.

use crate::placement::Member;

/// Points on the ring of a node with normal weight.
pub const VNODES: u32 = 128;

/// Points of all members, clockwise. The same members give the same ring, in whatever order they are listed.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Place on the circle of 2^64 and member index.
    points: Vec<(u64, u16)>,
    /// The places of each member in ascending order, one member after the other.
    places: Vec<u64>,
    /// Where the places of each member begin, and at last where they end.
    starts: Vec<usize>,
}

impl Ring {
    /// Puts [`VNODES`] x weight points per member on the circle, at least one, where their node ids hash to.
    pub fn new(members: &[Member]) -> Self {
        let mut points = Vec::new();
        let (mut places_of_all, mut starts) = (Vec::new(), vec![0]);
        let hasher = blake3::Hasher::new_derive_key("holocompute 2026 ring points");
        for (index, member) in (0u16..).zip(members) {
            let count = (u64::from(VNODES) * u64::from(member.weight_milli) + 500) / 1000;
            let mut hasher = hasher.clone();
            hasher.update(&member.node.0.0);
            let mut places = hasher.finalize_xof();
            for _ in 0..count.max(1) {
                let mut place = [0u8; 8];
                places.fill(&mut place);
                points.push((u64::from_le_bytes(place), index));
                places_of_all.push(u64::from_le_bytes(place));
            }
            let begin = starts.last().copied().unwrap_or(0);
            places_of_all[begin..].sort_unstable();
            starts.push(places_of_all.len());
        }
        points.sort_unstable_by_key(|&(place, index)| {
            (place, members.get(usize::from(index)).map(|member| member.node))
        });
        Self { points, places: places_of_all, starts }
    }

    /// How far clockwise from `place` the next point of a member is; the largest number for no member.
    pub fn distance(&self, place: u64, index: u16) -> u64 {
        let bounds = self.starts.get(usize::from(index)..usize::from(index) + 2);
        let places = bounds.and_then(|bounds| self.places.get(bounds[0]..bounds[1]));
        let places = places.unwrap_or_default();
        let next = places.partition_point(|point| *point < place);
        let next = places.get(next).or_else(|| places.first());
        next.map_or(u64::MAX, |point| point.wrapping_sub(place))
    }

    /// Member indexes clockwise from `place`, once around; a member comes as often as it has points.
    pub fn clockwise(&self, place: u64) -> impl Iterator<Item = u16> + Clone {
        let start = self.points.partition_point(|(point, _)| *point < place);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index)
    }
}
