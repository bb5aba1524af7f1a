//! What a seed means: the shape of the cluster, every constant, and the *mix* of faults.
//!
//! Drawing the mix, too, is what finds rare bugs: a run with every fault at once rarely gets far enough into any one
//! of them (swarm testing: Groce and others, 2012).

use std::time::Duration;

use holo_core::replication::{Class, Timers};

use crate::clock::NodeClock;
use crate::network::{CLIENTS_MAX, MICROSECOND, MILLISECOND, NODES_MAX, Weather};
use crate::queue::Time;
use crate::rng::Rng;

/// Largest deviation of a clock's rate, in millionths; what the margin of the leases is made for.
const DRIFT_MAX_PPM: u64 = 50_000;

/// Everything that a seed decides before the first event.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// What the run is mostly about.
    pub(crate) flavor: Flavor,
    /// Nodes that are members from the start.
    pub(crate) members: usize,
    /// Nodes that may join later.
    pub(crate) spares: usize,
    /// Failure domain of each node.
    pub(crate) zones: [u8; NODES_MAX],
    /// Clock of each node.
    pub(crate) clocks: [NodeClock; NODES_MAX],
    /// There are 2^bits partitions, each with a group of every class.
    pub(crate) partition_bits: u8,
    /// The classes, all different.
    pub(crate) classes: Vec<Class>,
    /// Elements of each group that clients touch.
    pub(crate) elements: usize,
    /// Constants of the machines.
    pub(crate) constants: Constants,
    /// The network.
    pub(crate) weather: Weather,
    /// What goes wrong.
    pub(crate) faults: FaultMix,
    /// What clients do.
    pub(crate) workload: Workload,
    /// The catalog.
    pub(crate) catalog: CatalogHabits,
    /// When the faults end.
    pub(crate) heal_at: Time,
    /// Of 1000 processes that end, how many were told to, and keep their pages for the next life of their node.
    pub(crate) stops_per_mille: u32,
    /// What stays wrong for a while after that.
    pub(crate) residue: Residue,
    /// When the operator stops the whole cluster, in the runs in which that happens.
    pub(crate) closing: Option<Closing>,
    /// When all machines are told to stop, in the runs in which that happens.
    pub(crate) reboot: Option<Reboot>,
}

/// All machines stop within a moment, and nobody has told the cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reboot {
    /// When.
    pub(crate) at: Time,
    /// How long a machine is off at least and at most.
    pub(crate) away: (Time, Time),
    /// One that is never started again.
    pub(crate) gone: Option<usize>,
    /// Of 1000 files, how many are damaged when their machine starts.
    pub(crate) rot_per_mille: u32,
}

impl Reboot {
    /// What a seed does.
    pub(crate) fn draw(rng: &mut Rng, members: usize) -> Option<Self> {
        if !rng.chance(150) {
            return None;
        }
        let longest = rng.pick(&[100, 500, 2_000]);
        Some(Self {
            at: rng.between(300, 3_000) * MILLISECOND,
            away: (5 * MILLISECOND, longest * MILLISECOND),
            gone: rng.chance(250).then(|| rng.index(members)),
            rot_per_mille: if rng.chance(150) { 200 } else { 0 },
        })
    }
}

/// A stop of the whole cluster, and its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closing {
    /// When the operator asks for it.
    pub(crate) at: Time,
    /// How long after it has begun the operator takes it back, if it is not finished by then; and asks again later.
    pub(crate) cancel_after: Option<Time>,
    /// How long a node is off at least and at most.
    pub(crate) away: (Time, Time),
    /// A node that is never started again.
    pub(crate) gone: Option<usize>,
    /// Of 1000 files, how many are damaged when their node starts.
    pub(crate) rot_per_mille: u32,
}

impl Closing {
    /// What a seed does. Of a stream of its own: runs without a close are what they were without this.
    fn draw(rng: &mut Rng, members: usize) -> Option<Self> {
        if !rng.chance(100) {
            return None;
        }
        let longest = rng.pick(&[200, 1_000, 3_000]);
        Some(Self {
            at: rng.between(400, 4_000) * MILLISECOND,
            cancel_after: rng.chance(300).then(|| rng.between(5, 250) * MILLISECOND),
            away: (10 * MILLISECOND, longest * MILLISECOND),
            gone: rng.chance(200).then(|| rng.index(members)),
            rot_per_mille: if rng.chance(150) { 250 } else { 0 },
        })
    }
}

/// What stays wrong after the faults for [`RESIDUE`], while groups must serve all the same. In most runs nothing does.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Residue {
    /// A node that hears of the catalog's changes so much later than the others, from the start on.
    pub(crate) late_news: Option<(usize, Time)>,
    /// From which node to which other one machines only answer: the one has lost its link to the other and not noticed.
    pub(crate) lame: Option<(usize, usize)>,
    /// A node that everybody hears, and that does not hear everybody.
    pub(crate) deaf: Option<Deaf>,
}

/// A node whose links carry what it says, and not all bring it something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deaf {
    /// Which.
    pub(crate) node: usize,
    /// What it still hears.
    pub(crate) hears: Hears,
}

/// What a deaf node still hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hears {
    /// Nothing at all.
    Nothing,
    /// The catalog and clients.
    NoNode,
    /// Everybody but one other node.
    AllBut(usize),
}

/// How long after the faults the last thing goes well again.
pub(crate) const RESIDUE: Time = 9_000 * MILLISECOND;

impl Residue {
    /// What a seed leaves behind. Of a stream of its own: runs without any are what they were without this.
    fn draw(rng: &mut Rng, members: usize) -> Self {
        let first = rng.index(members);
        let second = (first + 1 + rng.index(members - 1)) % members;
        let lag = rng.between(800, 3_000) * MILLISECOND;
        Self {
            late_news: rng.chance(200).then_some((first, lag)),
            lame: rng.chance(120).then_some((first, second)),
            deaf: rng.chance(50).then(|| {
                let hears = rng.pick(&[Hears::Nothing, Hears::NoNode, Hears::AllBut(first)]);
                Deaf { node: second, hears }
            }),
        }
    }

    /// Whether anything stays wrong.
    pub(crate) fn is_any(&self) -> bool {
        self.late_news.is_some() || self.lame.is_some() || self.deaf.is_some()
    }

    /// By how much it may delay the first read after the faults, when so many nodes never come back and, if there are
    /// `heirs`, some come back as somebody else.
    pub(crate) fn delay(&self, gone: usize, heirs: bool, constants: &Constants) -> Time {
        // Whoever is left hears late of what it takes, and late of each whose place was taken or who was let go.
        let times = 1 + u64::from(self.deaf.is_some()) + u64::from(heirs) + gone as u64;
        let late = self.late_news.map_or(0, |(_, lag)| times * lag);
        // A member that promises nothing is let go after that long, be it heard or not, and perhaps once more elsewhere.
        let lame = self.lame.map_or(0, |_| 2 * (constants.stall() + constants.take_over));
        // Its silence, or that of its hearing, has to be noticed, and perhaps once more elsewhere.
        let deaf = self.deaf.map_or(0, |_| constants.take_over + constants.evict);
        late + lame + deaf
    }
}

/// What a run is mostly about: some bugs need many turns of one kind in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// A bit of everything that the draw gives.
    Mixed,
    /// Primaries change all the time while old messages linger.
    Handovers,
    /// Replicas come and go.
    Churn,
    /// Leases at the edge: extreme clocks, pauses, cut-off primaries.
    Leases,
    /// Crashes.
    Crashes,
    /// Requests repeated late, windows that overflow, sessions that end.
    Repeats,
    /// Somebody sends forged and replayed things.
    Hostile,
    /// Data that arrives late, in part or not at all.
    Data,
}

const FLAVORS: [Flavor; 10] = [
    Flavor::Mixed,
    Flavor::Mixed,
    Flavor::Mixed,
    Flavor::Handovers,
    Flavor::Churn,
    Flavor::Leases,
    Flavor::Crashes,
    Flavor::Repeats,
    Flavor::Hostile,
    Flavor::Data,
];

/// Constants of the machines, all in nanoseconds of a node's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Constants {
    /// Time between beats.
    pub(crate) heartbeat: u64,
    /// How long a lease lasts.
    pub(crate) lease: u64,
    /// How much longer its grantor keeps it, in thousandths.
    pub(crate) drift_margin_milli: u32,
    /// Silence of the primary after which a backup wants its place.
    pub(crate) take_over: u64,
    /// Silence of a backup after which the primary wants it out.
    pub(crate) evict: u64,
    /// How long staged bytes wait for their entry.
    pub(crate) payload_keep: u64,
    /// Frozen states that a node keeps at once; it brings up twice as many learners.
    pub(crate) copies_max: usize,
    /// Whether they are as long as the protocol recommends, so that progress may be demanded.
    pub(crate) sane: bool,
}

/// What goes wrong, and how often.
#[derive(Clone, Debug)]
pub(crate) struct FaultMix {
    /// Kinds with their weights; those of weight 0 do not happen in this run.
    pub(crate) weights: Vec<(Fault, u32)>,
    /// Shortest and longest time between faults.
    pub(crate) gap: (Time, Time),
    /// Of 1000 crashes, how many may take the last in-sync copy.
    pub(crate) fatal_per_mille: u32,
    /// Of 1000 crashes, how many are for good.
    pub(crate) forever_per_mille: u32,
    /// How long a crashed node is away.
    pub(crate) away: (Time, Time),
    /// How long a pause is.
    pub(crate) pause: (Time, Time),
    /// Of 1000 pieces of staged data, how many get lost in addition.
    pub(crate) stage_loss_per_mille: u32,
    /// Of 1000 pieces of a snapshot, how many arrive torn.
    pub(crate) torn_per_mille: u32,
    /// Of 1000 operations, how many take long to apply: their page lies on disk.
    pub(crate) spilled_per_mille: u32,
    /// Of 1000 news of released promises, how many are held back.
    pub(crate) late_release_per_mille: u32,
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A node loses its memory and comes back, or does not.
    Crash,
    /// A primary is cut off, perhaps with clients.
    Isolate,
    /// Two halves that do not hear each other.
    Split,
    /// One direction of one link is cut.
    OneWay,
    /// The catalog is cut off from some nodes or all.
    CatalogCut,
    /// The catalog elects: nothing is answered for a while, and some answers are lost.
    CatalogGap,
    /// A node stands still.
    Pause,
    /// A link holds its messages back.
    Clog,
    /// A node has no room for data.
    Full,
    /// A node is emptied, or taken back in.
    Drain,
    /// The table moves groups about.
    Rotate,
    /// The first of a group's holders becomes another.
    Lead,
    /// A new node joins.
    Join,
    /// All nodes of a zone crash or are cut off.
    ZoneLoss,
    /// Something forged or replayed is sent.
    Forge,
    /// Old sessions end.
    Expire,
    /// All cuts are mended.
    Mend,
}

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Clients.
    pub(crate) clients: usize,
    /// Calls of all clients together.
    pub(crate) calls: usize,
    /// Calls that a client has under way at once.
    pub(crate) depth: usize,
    /// Longest pause between the calls of a client.
    pub(crate) think: Time,
    /// When a client asks again.
    pub(crate) retry: Time,
    /// When a client gives a call up.
    pub(crate) patience: Time,
    /// Of 1000 calls, how many read.
    pub(crate) read_per_mille: u32,
    /// Of 1000 writes, how many are staged beside the log.
    pub(crate) bulk_per_mille: u32,
    /// Bytes that a piece of staged data weighs: the machine's logs are trimmed, and full, by weight.
    pub(crate) payload_bytes: u64,
    /// By how much request numbers grow at most: large steps overflow the windows.
    pub(crate) number_step: u64,
}

/// How the catalog behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatalogHabits {
    /// How often nodes ask it for news.
    pub(crate) poll: Time,
    /// How far a follower may be behind.
    pub(crate) follower_lag: Time,
    /// Of 1000 answers, how many are lost although the change was made.
    pub(crate) lost_answer_per_mille: u32,
    /// After how much silence a node counts as down.
    pub(crate) down_after: Time,
}

impl Constants {
    /// How long a member may be slow.
    fn stall(&self) -> u64 {
        self.evict.max(self.lease) * 3
    }

    /// As the machines take them.
    pub(crate) fn timers(&self) -> Timers {
        let nanos = Duration::from_nanos;
        Timers {
            heartbeat: nanos(self.heartbeat),
            lease: nanos(self.lease),
            drift_margin_milli: self.drift_margin_milli,
            take_over: nanos(self.take_over),
            evict: nanos(self.evict),
            stall: nanos(self.stall()),
            propose_again: nanos(self.heartbeat + self.heartbeat / 2),
            resend: nanos(self.heartbeat),
            payload_keep: nanos(self.payload_keep),
            target_retry: Duration::from_millis(300),
            copies_max: self.copies_max,
            learners_max: 2 * self.copies_max,
        }
    }
}

impl Scenario {
    /// What `seed` means.
    pub(crate) fn draw(rng: &mut Rng, residue: &mut Rng) -> Self {
        let flavor = rng.pick(&FLAVORS);
        let members = rng.pick(&[3, 3, 3, 4, 4, 5, 5, 6, 7]);
        let spares = rng.index(NODES_MAX + 1 - members).min(1);
        let zone_count = rng.pick(&[1, 2, 3, 8]);
        let zones = std::array::from_fn(|_| u8::try_from(rng.below(zone_count)).unwrap_or(0));
        let lossy = rng.chance(600);
        let mut scenario = Self {
            flavor,
            members,
            spares,
            zones,
            clocks: clocks(rng, flavor),
            partition_bits: rng.pick(&[0, 0, 1, 1, 2]),
            classes: classes(rng, flavor, members),
            elements: rng.pick(&[1, 2, 3]),
            constants: constants(rng, flavor),
            weather: weather(rng, lossy),
            faults: faults(rng, flavor),
            workload: workload(rng, flavor),
            catalog: CatalogHabits {
                poll: rng.between(60, 350) * MILLISECOND,
                follower_lag: rng.pick(&[0, 0, 20, 200, 600]) * MILLISECOND,
                lost_answer_per_mille: rng.pick(&[0, 0, 50, 300]),
                down_after: rng.pick(&[800, 1_500, 3_000]) * MILLISECOND,
            },
            heal_at: rng.between(2_500, 5_000) * MILLISECOND,
            stops_per_mille: 0,
            residue: Residue::draw(residue, members),
            closing: Closing::draw(residue, members),
            reboot: None,
        };
        if flavor == Flavor::Handovers && rng.chance(500) {
            scenario.keep_writes_under_way();
        }
        scenario
    }

    /// Many writes on a slow and lossy network: whenever the primary changes, some replica lacks what another has.
    fn keep_writes_under_way(&mut self) {
        for class in &mut self.classes {
            class.replicas = 3;
        }
        self.classes.dedup();
        self.workload = Workload {
            calls: 140,
            depth: 4,
            think: 5 * MILLISECOND,
            read_per_mille: 200,
            ..self.workload
        };
        self.weather.delay_span = 15 * MILLISECOND;
        self.weather.loss_per_mille = self.weather.loss_per_mille.max(80);
    }
}

fn clocks(rng: &mut Rng, flavor: Flavor) -> [NodeClock; NODES_MAX] {
    let worst = if flavor == Flavor::Leases { DRIFT_MAX_PPM } else { rng.below(DRIFT_MAX_PPM + 1) };
    let extreme = flavor == Flavor::Leases || rng.chance(300);
    std::array::from_fn(|_| {
        let rate = if extreme && rng.chance(800) {
            1_000_000 - worst + 2 * worst * rng.below(2)
        } else {
            1_000_000 - worst + rng.below(2 * worst + 1)
        };
        NodeClock::new(rng.between(1, 1_000_000) * MILLISECOND, rate)
    })
}

fn classes(rng: &mut Rng, flavor: Flavor, members: usize) -> Vec<Class> {
    let single = flavor == Flavor::Mixed && rng.chance(150);
    let mut classes: Vec<Class> = Vec::new();
    for _ in 0..rng.pick(&[1, 1, 2]) {
        let replicas = if single { 1 } else { rng.pick(&[2, 2, 3, 3]).min(members) };
        let replicas = u8::try_from(replicas).unwrap_or(1);
        let min_in_sync = if rng.chance(300) { replicas.min(2) } else { 1 };
        let class = Class { replicas, min_in_sync };
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    classes
}

fn constants(rng: &mut Rng, flavor: Flavor) -> Constants {
    let heartbeat = rng.pick(&[50, 80, 100, 100, 150]) * MILLISECOND;
    let lease = heartbeat * rng.between(3, 4);
    let drift_margin_milli = 120;
    let safe = lease * 1120 / 1000 + 2 * heartbeat + MILLISECOND;
    let sane = rng.chance(if flavor == Flavor::Leases { 600 } else { 850 });
    let (take_over, evict) = if sane {
        (safe + rng.below(safe / 2), lease + rng.below(lease))
    } else {
        (heartbeat + rng.below(safe), heartbeat + rng.below(2 * lease))
    };
    let payload_keep = rng.pick(&[300, 1_000, 4_000]) * MILLISECOND;
    let copies_max = rng.pick(&[1, 2, 4]);
    Constants {
        heartbeat,
        lease,
        drift_margin_milli,
        take_over,
        evict,
        payload_keep,
        copies_max,
        sane,
    }
}

fn weather(rng: &mut Rng, lossy: bool) -> Weather {
    let slow = rng.chance(350);
    Weather {
        delay_min: rng.between(50, 500) * MICROSECOND,
        delay_span: rng.pick(&[500, 2_000, 5_000, 15_000]) * MICROSECOND,
        slow_per_mille: if slow { rng.pick(&[5, 30, 100]) } else { 0 },
        slow_span: rng.pick(&[60, 250, 700]) * MILLISECOND,
        loss_per_mille: if lossy { rng.pick(&[2, 10, 50, 120]) } else { 0 },
        copy_per_mille: if lossy { rng.pick(&[0, 10, 80]) } else { 0 },
        ordered: rng.chance(250),
    }
}

/// Kinds with the chance (of 1000) that a mixed run has them, and their weight there.
const KINDS: [(Fault, u32, u32); 17] = [
    (Fault::Crash, 600, 4),
    (Fault::Isolate, 500, 3),
    (Fault::Split, 400, 3),
    (Fault::OneWay, 400, 3),
    (Fault::CatalogCut, 300, 1),
    (Fault::CatalogGap, 400, 2),
    (Fault::Pause, 500, 3),
    (Fault::Clog, 300, 2),
    (Fault::Full, 250, 1),
    (Fault::Drain, 300, 1),
    (Fault::Rotate, 400, 2),
    (Fault::Lead, 400, 2),
    (Fault::Join, 250, 1),
    (Fault::ZoneLoss, 150, 1),
    (Fault::Forge, 250, 2),
    (Fault::Expire, 200, 1),
    (Fault::Mend, 900, 6),
];

/// What a flavor adds to the weights.
fn favourites(flavor: Flavor) -> &'static [(Fault, u32)] {
    match flavor {
        Flavor::Mixed => &[],
        Flavor::Handovers => &[(Fault::Lead, 40), (Fault::Isolate, 3), (Fault::Mend, 4)],
        Flavor::Churn => &[(Fault::Rotate, 20), (Fault::Lead, 5), (Fault::OneWay, 6)],
        Flavor::Leases => &[(Fault::Isolate, 20), (Fault::Pause, 8), (Fault::OneWay, 6)],
        Flavor::Crashes => &[(Fault::Crash, 30), (Fault::ZoneLoss, 2)],
        Flavor::Repeats => &[(Fault::Expire, 6), (Fault::Lead, 8), (Fault::Isolate, 6)],
        Flavor::Hostile => &[(Fault::Forge, 40), (Fault::Isolate, 4), (Fault::Lead, 4)],
        Flavor::Data => &[(Fault::Full, 8), (Fault::Rotate, 8), (Fault::Crash, 4)],
    }
}

fn faults(rng: &mut Rng, flavor: Flavor) -> FaultMix {
    let favourites = favourites(flavor);
    let mut weights: Vec<(Fault, u32)> = KINDS
        .iter()
        .filter(|(_, chance, _)| {
            rng.chance(if favourites.is_empty() { *chance } else { *chance / 2 })
        })
        .map(|(fault, _, weight)| (*fault, *weight))
        .collect();
    weights.extend_from_slice(favourites);
    weights.push((Fault::Mend, 1));
    let data = flavor == Flavor::Data;
    let brisk = rng.chance(400) || matches!(flavor, Flavor::Handovers | Flavor::Hostile);
    let longest_away = rng.pick(&[100, 800, 1_500]);
    let longest_away = if flavor == Flavor::Handovers { 60 } else { longest_away };
    FaultMix {
        weights,
        gap: if brisk {
            (20 * MILLISECOND, 200 * MILLISECOND)
        } else {
            (80 * MILLISECOND, 600 * MILLISECOND)
        },
        fatal_per_mille: if rng.chance(100) { 300 } else { 0 },
        forever_per_mille: rng.pick(&[0, 0, 200]),
        away: (20 * MILLISECOND, longest_away * MILLISECOND),
        pause: (20 * MILLISECOND, rng.pick(&[100, 500, 900]) * MILLISECOND),
        stage_loss_per_mille: if data { 400 } else { rng.pick(&[0, 0, 100]) },
        torn_per_mille: if data { 300 } else { rng.pick(&[0, 0, 100]) },
        spilled_per_mille: if data { 200 } else { rng.pick(&[0, 0, 50]) },
        late_release_per_mille: if flavor == Flavor::Handovers { 600 } else { 50 },
    }
}

fn workload(rng: &mut Rng, flavor: Flavor) -> Workload {
    let repeats = flavor == Flavor::Repeats;
    let clients = rng.between(2, 4);
    Workload {
        clients: usize::try_from(clients).unwrap_or(2).min(CLIENTS_MAX),
        calls: rng.pick(&[60, 100, 140]),
        depth: rng.pick(&[1, 1, 2, 4]),
        think: rng.pick(&[20, 60, 150]) * MILLISECOND,
        retry: rng.pick(&[60, 120, 250]) * MILLISECOND,
        patience: rng.pick(&[400, 2_000, 8_000]) * MILLISECOND,
        read_per_mille: rng.pick(&[200, 400, 600]),
        bulk_per_mille: if flavor == Flavor::Data { 600 } else { rng.pick(&[0, 100, 300]) },
        payload_bytes: rng.pick(&[64 << 10, 1 << 20, 3 << 20, 40 << 20]),
        number_step: if repeats { rng.pick(&[1, 20, 63, 64]) } else { 1 },
    }
}
