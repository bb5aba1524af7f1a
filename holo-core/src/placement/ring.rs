//! The consistent-hash ring.

use crate::placement::Member;

/// Points on the ring of a node with normal weight.
pub const VNODES: u32 = 128;

/// Points of all members, clockwise. The same members give the same ring, in whatever order they are listed.
#[derive(Clone, Debug)]
pub struct Ring {
    /// Place on the circle of 2^64 and member index.
    points: Vec<(u64, u16)>,
}

impl Ring {
    /// Puts [`VNODES`] x weight points per member on the circle, at least one, where their node ids hash to.
    pub fn new(members: &[Member]) -> Self {
        let mut points = Vec::new();
        for (index, member) in (0u16..).zip(members) {
            let count = (u64::from(VNODES) * u64::from(member.weight_milli) + 500) / 1000;
            let mut hasher = blake3::Hasher::new_derive_key("holocompute 2026 ring points");
            hasher.update(&member.node.0.0);
            let mut places = hasher.finalize_xof();
            for _ in 0..count.max(1) {
                let mut place = [0u8; 8];
                places.fill(&mut place);
                points.push((u64::from_le_bytes(place), index));
            }
        }
        points.sort_unstable_by_key(|&(place, index)| {
            (place, members.get(usize::from(index)).map(|member| member.node))
        });
        Self { points }
    }

    /// Member indexes clockwise from `place`, once around; a member comes as often as it has points.
    pub fn clockwise(&self, place: u64) -> impl Iterator<Item = u16> + Clone {
        let start = self.points.partition_point(|(point, _)| *point < place);
        let (before, after) = self.points.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index)
    }
}
