//! From the ring to a table: the sticky bounded-load pass, and primaries.

use std::collections::BTreeMap;

use crate::placement::pace::Pace;
use crate::placement::room::Room;
use crate::placement::share::Shares;
use crate::placement::{Member, PlacementTable, Ring};

/// A member may hold this much more than its share before it has to give something away.
const SLACK_KEEPING: f64 = 0.05;
/// A member takes replicas up to this much more than its share. The gap to [`SLACK_KEEPING`] keeps full members from all
/// giving one replica away whenever a newcomer makes every share a little smaller.
const SLACK_TAKING: f64 = 0.04;
/// Asking a member how far away it is costs as much as so many steps around the ring.
const DISTANCE_STEPS: usize = 8;
/// No member.
const VACANT: u16 = u16::MAX;
/// Passes over all partitions that a repair may take; it stops as soon as one changes nothing.
const PASSES_MAX: usize = 16;

/// From whom those that hold too little take something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// From members that hold more than they may keep.
    Overloaded,
    /// From the fullest of a set that the ring gives them.
    Ring,
    /// From members that hold more than their share.
    AboveShare,
}

/// Works on the replica sets of all partitions at once.
pub(super) struct Balancer<'a> {
    members: &'a [Member],
    ring: &'a Ring,
    bits: u8,
    replicas: usize,
    shares: Shares,
    /// Replicas that each member may keep.
    keeping: Vec<u32>,
    /// Replicas that each member holds, and who takes more.
    room: Room,
}

impl<'a> Balancer<'a> {
    /// For 1 <= `replicas` <= members, and the ring of these.
    pub(super) fn new(ring: &'a Ring, members: &'a [Member], bits: u8, replicas: usize) -> Self {
        let shares = Shares::new(members, 1 << bits, replicas);
        let caps = |slack: f64| shares.shares.iter().map(|share| cap(*share, slack)).collect();
        let (taking, keeping) = (caps(SLACK_TAKING), caps(SLACK_KEEPING));
        let room = Room::new(taking, &shares.zone_of);
        Self { members, ring, bits, replicas, shares, keeping, room }
    }

    /// The replica sets, one after the other, primary first.
    pub(super) fn place(mut self, previous: Option<(&PlacementTable, &[Member])>) -> Vec<u16> {
        let mut sets = match previous {
            Some((table, members)) => self.carry_over(table, members),
            None => vec![VACANT; self.replicas << self.bits],
        };
        for index in sets.iter().filter(|index| **index != VACANT) {
            self.room.take(*index);
        }
        self.fill_vacancies(&mut sets);
        self.feed_hungry(&mut sets);
        self.shed_overload(&mut sets);
        self.balance_primaries(&mut sets);
        sets
    }

    /// The previous sets in today's indexes; what lay on a member that is gone, or breaks the zones of today, is
    /// vacant. The order of a set, and with it its primary, stays.
    fn carry_over(&self, table: &PlacementTable, members: &[Member]) -> Vec<u16> {
        let today: BTreeMap<_, _> =
            (0u16..).zip(self.members).map(|(index, member)| (member.node, index)).collect();
        let translated: Vec<u16> = members
            .iter()
            .map(|member| today.get(&member.node).copied().unwrap_or(VACANT))
            .collect();
        let mut sets = Vec::with_capacity(self.replicas << self.bits);
        for old in table.sets().chunks_exact(table.replicas()) {
            let start = sets.len();
            for index in old {
                let index = translated.get(usize::from(*index)).copied().unwrap_or(VACANT);
                let room = sets.len() - start < self.replicas;
                if room && index != VACANT && self.fits(&sets[start..], usize::MAX, index) {
                    sets.push(index);
                }
            }
            sets.resize(start + self.replicas, VACANT);
        }
        sets
    }

    /// Whether `candidate` may stand at `place` of a set beside the others in it.
    fn fits(&self, set: &[u16], place: usize, candidate: u16) -> bool {
        let zone = self.shares.zone_of[usize::from(candidate)];
        let mut in_zone = 0;
        for (at, other) in set.iter().enumerate() {
            if at == place || *other == VACANT {
                continue;
            }
            if *other == candidate {
                return false;
            }
            in_zone += usize::from(self.shares.zone_of[usize::from(*other)] == zone);
        }
        in_zone < self.shares.zone_max
    }

    /// The first member clockwise that fits and has room, in a zone that is not ahead where there is one; without any
    /// room, the first that fits.
    fn candidate(&self, set: &[u16], place: usize, start: u64, pace: &Pace) -> Option<u16> {
        let full = self.full_zones(set, place);
        let mut passed_over = full.clone();
        passed_over.extend(pace.ahead().filter(|zone| !full.contains(zone)));
        let abreast = self.candidate_with_room(set, place, start, &passed_over);
        let with_room = abreast.or_else(|| self.candidate_with_room(set, place, start, &full));
        with_room.or_else(|| {
            let mut clockwise = self.ring.clockwise(start);
            let fitting = clockwise.find(|index| self.fits(set, place, *index));
            // Zones give way before a copy goes missing.
            fitting.or_else(|| self.ring.clockwise(start).find(|index| !set.contains(index)))
        })
    }

    /// The zones that can have no more of a set than the others beside `place`.
    fn full_zones(&self, set: &[u16], place: usize) -> Vec<u16> {
        let others = set.iter().enumerate().filter(|(at, index)| *at != place && **index != VACANT);
        let mut zones: Vec<u16> =
            others.map(|(_, index)| self.shares.zone_of[usize::from(*index)]).collect();
        zones.sort_unstable();
        let most = self.shares.zone_max;
        let full = zones.chunk_by(|a, b| a == b).filter(|chunk| chunk.len() >= most);
        full.filter_map(|chunk| chunk.first().copied()).collect()
    }

    /// The first member clockwise that fits and has room, outside of some zones. Where few have, they are asked how far
    /// away they are: walking would lead around the whole ring, for each of many sets, when a zone is nearly full.
    fn candidate_with_room(
        &self,
        set: &[u16],
        place: usize,
        start: u64,
        passed_over: &[u16],
    ) -> Option<u16> {
        let closed = passed_over.iter().map(|zone| self.room.open_in(*zone)).sum::<usize>();
        let open = self.room.open() - closed;
        if open == 0 {
            return None;
        }
        let fits = |index: &u16| {
            self.room.is_open(*index)
                && !passed_over.contains(&self.shares.zone_of[usize::from(*index)])
                && self.fits(set, place, *index)
        };
        let steps = self.members.len() / open;
        if steps < open.saturating_mul(DISTANCE_STEPS) {
            return self.ring.clockwise(start).find(fits);
        }
        let candidates = self.room.open_but(passed_over).filter(fits);
        candidates.min_by_key(|index| self.ring.distance(start, *index))
    }

    fn fill_vacancies(&mut self, sets: &mut [u16]) {
        let mut pace = Pace::new(&self.shares, self.room.loads());
        for (partition, set) in sets.chunks_exact_mut(self.replicas).enumerate() {
            let start = position(partition, self.bits);
            for place in 0..set.len() {
                if set[place] != VACANT {
                    continue;
                }
                if let Some(index) = self.candidate(set, place, start, &pace) {
                    set[place] = index;
                    self.room.take(index);
                    pace.take(self.shares.zone_of[usize::from(index)]);
                }
            }
        }
    }

    /// Members with less than half their share, new ones above all, take what others have to give away, then what the ring
    /// gives them, up to their share; where that is not enough, also from members above theirs.
    fn feed_hungry(&mut self, sets: &mut [u16]) {
        let hungry: Vec<bool> = self
            .room
            .loads()
            .iter()
            .zip(&self.shares.shares)
            .map(|(load, share)| f64::from(*load) * 2.0 < *share)
            .collect();
        if !hungry.contains(&true) {
            return;
        }
        let wanting = (0..u16::MAX).zip(&hungry).filter(|(_, hungry)| **hungry);
        let mut wanting: Vec<u16> = wanting.map(|(index, _)| index).collect();
        for source in [Source::Overloaded, Source::Ring, Source::AboveShare] {
            for (partition, set) in sets.chunks_exact_mut(self.replicas).enumerate() {
                wanting.retain(|index| self.wants(*index));
                if wanting.is_empty() {
                    return;
                }
                if source == Source::Overloaded
                    && !set.iter().any(|index| self.is_overloaded(*index))
                {
                    continue;
                }
                for index in self.hungry_for(partition, source, &hungry, &wanting) {
                    if !self.wants(index) || set.contains(&index) {
                        continue;
                    }
                    if let Some(place) = self.victim(set, index, &hungry, source) {
                        self.room.give(set[place]);
                        self.room.take(index);
                        set[place] = index;
                    }
                }
            }
        }
    }

    /// Whether a member holds more than it may keep.
    fn is_overloaded(&self, index: u16) -> bool {
        index != VACANT && self.room.load(index) > self.keeping[usize::from(index)]
    }

    /// Whether a member holds less than its share.
    fn wants(&self, index: u16) -> bool {
        f64::from(self.room.load(index) + 1) <= self.shares.shares[usize::from(index)]
    }

    /// The hungry members that the ring would give the partition to; else the first one clockwise that still wants.
    fn hungry_for(
        &self,
        partition: usize,
        source: Source,
        hungry: &[bool],
        wanting: &[u16],
    ) -> Vec<u16> {
        let start = position(partition, self.bits);
        if source != Source::Ring {
            // Where few want anything, to ask each how far away it is costs less than the way to it.
            let steps = self.members.len() / wanting.len().max(1);
            let nearest = if steps < wanting.len().saturating_mul(DISTANCE_STEPS) {
                let wants = |index: &u16| hungry[usize::from(*index)] && self.wants(*index);
                self.ring.clockwise(start).find(wants)
            } else {
                wanting.iter().min_by_key(|index| self.ring.distance(start, **index)).copied()
            };
            return nearest.into_iter().collect();
        }
        let mut natural: Vec<u16> = Vec::with_capacity(self.replicas);
        for index in self.ring.clockwise(start) {
            if self.fits(&natural, usize::MAX, index) {
                natural.push(index);
                if natural.len() == self.replicas {
                    break;
                }
            }
        }
        natural.retain(|index| hungry[usize::from(*index)]);
        natural
    }

    /// The place of a set whose member is the fullest for its share and can give way to `index`.
    fn victim(&self, set: &[u16], index: u16, hungry: &[bool], source: Source) -> Option<usize> {
        let fullness = |place: usize| {
            let share = self.shares.shares[usize::from(set[place])].max(f64::MIN_POSITIVE);
            f64::from(self.room.load(set[place])) / share
        };
        (0..set.len())
            .filter(|place| set[*place] != VACANT && !hungry[usize::from(set[*place])])
            .filter(|place| self.fits(set, *place, index))
            .filter(|place| match source {
                Source::Overloaded => self.is_overloaded(set[*place]),
                Source::Ring => true,
                Source::AboveShare => fullness(*place) > 1.0,
            })
            .max_by(|a, b| fullness(*a).total_cmp(&fullness(*b)))
    }

    /// Moves replicas away from members that hold more than they may keep.
    fn shed_overload(&mut self, sets: &mut [u16]) {
        for _ in 0..PASSES_MAX {
            let mut moved = false;
            for (partition, set) in sets.chunks_exact_mut(self.replicas).enumerate() {
                for place in 0..set.len() {
                    let from = set[place];
                    if !self.is_overloaded(from) {
                        continue;
                    }
                    let (start, full) =
                        (position(partition, self.bits), self.full_zones(set, place));
                    if let Some(to) = self.candidate_with_room(set, place, start, &full) {
                        self.room.give(from);
                        self.room.take(to);
                        set[place] = to;
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// Chooses within each set who goes first, so that primaries follow the shares too. Handing a primary over is
    /// cheap, moving a replica is not, so the sets themselves stay as they are.
    fn balance_primaries(&self, sets: &mut [u16]) {
        let replicas = f64::from(u32::try_from(self.replicas).unwrap_or(u32::MAX));
        let targets: Vec<f64> = self
            .shares
            .shares
            .iter()
            .map(|share| (share / replicas).max(f64::MIN_POSITIVE))
            .collect();
        let mut primaries = vec![0u32; self.members.len()];
        for set in sets.chunks_exact(self.replicas) {
            primaries[usize::from(set[0])] += 1;
        }
        for _ in 0..PASSES_MAX {
            let mut moved = false;
            for set in sets.chunks_exact_mut(self.replicas) {
                let first = usize::from(set[0]);
                if f64::from(primaries[first]) <= targets[first] {
                    continue;
                }
                let with_one_more = |index: u16| {
                    f64::from(primaries[usize::from(index)] + 1) / targets[usize::from(index)]
                };
                let best = (1..set.len())
                    .min_by(|a, b| with_one_more(set[*a]).total_cmp(&with_one_more(set[*b])));
                let Some(place) = best else { continue };
                if with_one_more(set[place]) < f64::from(primaries[first]) / targets[first] {
                    primaries[first] -= 1;
                    primaries[usize::from(set[place])] += 1;
                    set.swap(0, place);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }
}

/// Where a partition lies on the circle: it is one of 2^bits equal slices, taken at its start.
fn position(partition: usize, bits: u8) -> u64 {
    (partition as u64).checked_shl(64 - u32::from(bits)).unwrap_or(0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share is between 0 and 7 x 2^20"
)]
fn cap(share: f64, slack: f64) -> u32 {
    ((share * (1.0 + slack)).floor() as u32).max(share.ceil() as u32)
}
