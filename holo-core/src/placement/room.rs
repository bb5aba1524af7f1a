//! How much each member holds, and who takes more.

/// Replicas that each member holds, and those members that take more, by zone.
#[derive(Debug)]
pub(super) struct Room {
    loads: Vec<u32>,
    /// Replicas up to which each member takes more.
    taking: Vec<u32>,
    zone_of: Vec<u16>,
    /// The members of each zone that take more, in no order.
    open: Vec<Vec<u16>>,
    /// Where in its zone's list each member is; meaningless for one that takes no more.
    place: Vec<usize>,
    total: usize,
}

impl Room {
    /// Nobody holds anything.
    pub(super) fn new(taking: Vec<u32>, zone_of: &[u16]) -> Self {
        let zones = zone_of.iter().max().map_or(0, |zone| usize::from(*zone) + 1);
        let mut room = Self {
            loads: vec![0; taking.len()],
            place: vec![0; taking.len()],
            zone_of: zone_of.to_vec(),
            open: vec![Vec::new(); zones],
            total: 0,
            taking,
        };
        for index in (0..u16::MAX).take(room.taking.len()) {
            if room.is_open(index) {
                room.list(index);
            }
        }
        room
    }

    /// A member gets a replica.
    pub(super) fn take(&mut self, index: u16) {
        let was_open = self.is_open(index);
        self.loads[usize::from(index)] += 1;
        if was_open && !self.is_open(index) {
            self.unlist(index);
        }
    }

    /// A member gives a replica away.
    pub(super) fn give(&mut self, index: u16) {
        let was_open = self.is_open(index);
        self.loads[usize::from(index)] -= 1;
        if !was_open && self.is_open(index) {
            self.list(index);
        }
    }

    /// Replicas that a member holds.
    pub(super) fn load(&self, index: u16) -> u32 {
        self.loads[usize::from(index)]
    }

    /// Replicas that each member holds.
    pub(super) fn loads(&self) -> &[u32] {
        &self.loads
    }

    /// Whether a member takes more.
    pub(super) fn is_open(&self, index: u16) -> bool {
        self.loads[usize::from(index)] < self.taking[usize::from(index)]
    }

    /// How many members take more.
    pub(super) fn open(&self) -> usize {
        self.total
    }

    /// How many of them are in a zone.
    pub(super) fn open_in(&self, zone: u16) -> usize {
        self.open[usize::from(zone)].len()
    }

    /// Those that take more in all zones but some.
    pub(super) fn open_but<'a>(&'a self, zones: &'a [u16]) -> impl Iterator<Item = u16> + 'a {
        let open = (0..u16::MAX).zip(&self.open).filter(|(zone, _)| !zones.contains(zone));
        open.flat_map(|(_, members)| members.iter().copied())
    }

    fn list(&mut self, index: u16) {
        let members = &mut self.open[usize::from(self.zone_of[usize::from(index)])];
        self.place[usize::from(index)] = members.len();
        members.push(index);
        self.total += 1;
    }

    fn unlist(&mut self, index: u16) {
        let members = &mut self.open[usize::from(self.zone_of[usize::from(index)])];
        let place = self.place[usize::from(index)];
        members.swap_remove(place);
        if let Some(moved) = members.get(place) {
            self.place[usize::from(*moved)] = place;
        }
        self.total -= 1;
    }
}
