//! From the nodes that are there to target tables, and from a target to the next step of one group.
//!
//! A plan is computed by whoever asks and applied by [`crate::catalog::Operation::ApplyTable`] at the version that it was
//! planned from. It is a pure function of the state and `now`; planning again after it was applied gives the same
//! tables. What remains to be moved is read from configs, never remembered, so a plan can be resumed by anybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::command::TableUpdate;
use crate::catalog::nodes::NodeState;
use crate::catalog::state::CatalogState;
use crate::catalog::targets::TargetTable;
use crate::placement::{PlacementTable, Ring};
use crate::replication::{Class, ConfigChange, GroupConfig, GroupId, NodeNumber, ReplicaId};
use crate::wire::TableBody;
use crate::{
    ErrorCode, Failure, Member, NodeId, PartitionId, PublicKey, TableVersion, UnixMillis, limits,
};

/// Rounds of the sticky pass after which a table is taken as it is.
const ROUNDS_MAX: usize = 4;

/// Where everything should be, and what has to move for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The version of the tables that it was planned from.
    pub base_version: TableVersion,
    /// The tables, by copies wanted.
    pub tables: BTreeMap<u8, TargetTable>,
    /// Groups that are not yet as the tables say.
    pub moves: Vec<Move>,
    /// Bytes that will be copied, estimated from the arrays' sizes.
    pub bytes: u64,
    /// Copies of the tables that are not those of the base.
    pub changed: BTreeSet<u8>,
}

impl Plan {
    /// The contents of the commands that apply it, in order: one for each table that changes, so that each fits into a
    /// command. When one is refused, somebody else was faster: plan again.
    pub fn updates(&self) -> Vec<TableUpdate> {
        let changed = self.tables.iter().filter(|(replicas, _)| self.changed.contains(replicas));
        let updates =
            (self.base_version.0..).zip(changed).map(|(base, (replicas, table))| TableUpdate {
                base_version: TableVersion(base),
                version: TableVersion(base + 1),
                tables: BTreeMap::from([(*replicas, table.clone())]),
            });
        updates.collect()
    }
}

/// What has to change about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The group.
    pub group: GroupId,
    /// Nodes that get a copy, or are about to.
    pub add: Vec<NodeNumber>,
    /// Nodes that give theirs up.
    pub drop: Vec<NodeNumber>,
    /// The node that becomes primary, if another one is.
    pub primary: Option<NodeNumber>,
}

/// Plans for the classes that have groups, at the planner's time.
///
/// # Errors
///
/// [`ErrorCode::OutOfCapacity`] when no node could hold anything.
pub fn plan(state: &CatalogState, now: UnixMillis) -> Result<Plan, Failure> {
    plan_with(state, now, &[])
}

/// As [`plan`], and for arrays of `also` copies, which a class to be made needs.
///
/// # Errors
///
/// As [`plan`]; [`ErrorCode::InvalidArgument`] for numbers of copies that there cannot be.
pub fn plan_with(state: &CatalogState, now: UnixMillis, also: &[u8]) -> Result<Plan, Failure> {
    plan_without(state, now, also, None)
}

/// As [`plan_with`], as if `without` took nothing, nor who does not answer: the plan of a drain begins at once, and a
/// node that is silent may stay so.
pub(super) fn plan_without(
    state: &CatalogState,
    now: UnixMillis,
    also: &[u8],
    without: Option<NodeNumber>,
) -> Result<Plan, Failure> {
    let delay = state.settings.repair_delay_ms;
    let candidates: Vec<Candidate> = state
        .nodes
        .values()
        .filter(|node| node.state.may_hold() && node.incarnation.0 > 0)
        .filter(|node| match without {
            Some(without) => node.number != without && node.up,
            None => !node.is_missing(now, delay),
        })
        .map(|node| Candidate {
            number: node.number,
            member: node.to_member(),
            cordoned: node.state == NodeState::Cordoned,
        })
        .collect();
    let mut wanted: BTreeSet<u8> = also.iter().copied().collect();
    wanted.extend(state.classes().iter().map(|class| class.replicas));
    wanted.extend(state.targets.keys());
    let mut tables = BTreeMap::new();
    let mut ring = LastRing::default();
    for replicas in wanted {
        check_copies(replicas, state.partition_bits)?;
        let previous = state.targets.get(&replicas);
        let (bits, candidates) = (state.partition_bits, &candidates);
        let mut planner = Planner { bits, replicas, candidates, ring: &mut ring };
        tables.insert(replicas, planner.settle(previous)?);
    }
    let moves = moves(state, &tables);
    let bytes = estimate(state, &moves);
    let is_new =
        |(replicas, table): &(&u8, &TargetTable)| state.targets.get(replicas) != Some(table);
    let changed = tables.iter().filter(is_new).map(|(replicas, _)| *replicas).collect();
    Ok(Plan { base_version: state.table_version, tables, moves, bytes, changed })
}

/// Refuses numbers of copies that there cannot be, or not in so many partitions.
pub(super) fn check_copies(replicas: u8, partition_bits: u8) -> Result<(), Failure> {
    let slots = usize::from(replicas) << partition_bits;
    if replicas == 0
        || usize::from(replicas) > limits::REPLICAS_MAX
        || slots > limits::TARGET_SLOTS_MAX
    {
        let message = format!("{replicas} copies in 2^{partition_bits} partitions");
        return Err(Failure::new(ErrorCode::InvalidArgument, message)
            .help("ask for fewer copies; a cluster of fewer partitions can have more"));
    }
    Ok(())
}

/// A node that may be in a table.
struct Candidate {
    number: NodeNumber,
    member: Member,
    /// It keeps what it has and gets nothing.
    cordoned: bool,
}

/// Makes the table of one number of copies.
struct Planner<'a> {
    bits: u8,
    replicas: u8,
    candidates: &'a [Candidate],
    ring: &'a mut LastRing,
}

/// The ring of the members that it was last asked for: from round to round and table to table they are the same, unless
/// somebody is cordoned.
#[derive(Default)]
struct LastRing(Option<(Vec<Member>, Ring)>);

impl LastRing {
    fn of(&mut self, members: Vec<Member>) -> &(Vec<Member>, Ring) {
        let known = self.0.take().filter(|(of, _)| *of == members);
        self.0.insert(known.unwrap_or_else(|| {
            let ring = Ring::new(&members);
            (members, ring)
        }))
    }
}

impl Planner<'_> {
    /// Repeats the sticky pass until it changes nothing, so that planning again gives the same.
    fn settle(&mut self, previous: Option<&TargetTable>) -> Result<TargetTable, Failure> {
        let mut table = self.place(previous)?;
        for _ in 0..ROUNDS_MAX {
            let again = self.place(Some(&table))?;
            if again == table {
                break;
            }
            table = again;
        }
        Ok(table)
    }

    fn place(&mut self, previous: Option<&TargetTable>) -> Result<TargetTable, Failure> {
        let held = previous.map(loads).unwrap_or_default();
        let load = |number: NodeNumber| held.get(&number).copied().unwrap_or(0);
        // Who is cordoned and holds nothing is not there.
        let there: Vec<&Candidate> =
            self.candidates.iter().filter(|it| !it.cordoned || load(it.number) > 0).collect();
        if there.is_empty() {
            return Err(Failure::new(ErrorCode::OutOfCapacity, "no node takes anything")
                .help("add a node, or uncordon one"));
        }
        let slots = (1u64 << self.bits) * u64::from(self.replicas);
        let fixed: u64 =
            there.iter().filter(|it| it.cordoned).map(|it| u64::from(load(it.number))).sum();
        let open: u64 = there
            .iter()
            .filter(|it| !it.cordoned)
            .map(|it| u64::from(it.member.weight_milli))
            .sum();
        let members: Vec<Member> = there
            .iter()
            .map(|it| {
                let mut member = it.member.clone();
                if it.cordoned {
                    // The weight at which its share is what it has.
                    let rest = slots.saturating_sub(fixed).max(1);
                    let weight = u64::from(load(it.number)).saturating_mul(open) / rest;
                    let most = u64::from(limits::NODE_WEIGHT_MILLI_MAX);
                    member.weight_milli = u32::try_from(weight.clamp(1, most)).unwrap_or(1);
                }
                member
            })
            .collect();
        let before = previous.map(|table| self.as_placement(table)).transpose()?;
        let before = before.as_ref().map(|(table, members)| (table, members.as_slice()));
        let (version, copies) = (TableVersion(1), usize::from(self.replicas));
        let (members, ring) = self.ring.of(members);
        let computed =
            PlacementTable::compute_on(ring, members, self.bits, copies, before, version)?;
        let mut holders = Vec::with_capacity(computed.replicas() << self.bits);
        for partition in (0..computed.partitions()).map(PartitionId) {
            let indexes = computed.holders(partition).iter();
            holders.extend(indexes.map(|index| there[usize::from(*index)].number));
        }
        let copies = u8::try_from(computed.replicas()).unwrap_or(self.replicas);
        if fixed > 0 {
            self.spare_cordoned(&mut holders, usize::from(copies), previous);
        }
        TargetTable::new(copies, holders)
    }

    /// Gives what a cordoned node would newly get to the emptiest open one that can take it; where there is none, a copy
    /// counts for more than a cordon.
    fn spare_cordoned(
        &self,
        holders: &mut [NodeNumber],
        copies: usize,
        previous: Option<&TargetTable>,
    ) {
        let open: BTreeMap<NodeNumber, &Member> = self
            .candidates
            .iter()
            .filter(|it| !it.cordoned)
            .map(|it| (it.number, &it.member))
            .collect();
        let mut held: BTreeMap<NodeNumber, u64> = open.keys().map(|number| (*number, 0)).collect();
        for number in holders.iter() {
            if let Some(count) = held.get_mut(number) {
                *count += 1;
            }
        }
        for (partition, set) in (0u32..).zip(holders.chunks_exact_mut(copies)) {
            let before = previous.map_or(&[][..], |table| table.holders(PartitionId(partition)));
            for place in 0..set.len() {
                let number = set[place];
                if open.contains_key(&number) || before.contains(&number) {
                    continue;
                }
                // Who had it keeps it; else the emptiest for its weight, whose zone is not here yet if there is one.
                let zones: BTreeSet<&str> = set
                    .iter()
                    .filter_map(|other| open.get(other))
                    .map(|it| it.zone.as_str())
                    .collect();
                let instead = open
                    .iter()
                    .filter(|(other, _)| !set.contains(other))
                    .min_by_key(|(other, member)| {
                        let count = held.get(other).copied().unwrap_or(0);
                        let fullness = count * 1_000_000 / u64::from(member.weight_milli.max(1));
                        let zone_taken = zones.contains(member.zone.as_str());
                        (!before.contains(other), zone_taken, fullness, **other)
                    })
                    .map(|(other, _)| *other);
                if let Some(instead) = instead {
                    set[place] = instead;
                    *held.entry(instead).or_insert(0) += 1;
                }
            }
        }
    }

    /// A target table as the sticky pass wants it, with its own members.
    fn as_placement(&self, table: &TargetTable) -> Result<(PlacementTable, Vec<Member>), Failure> {
        let numbers: BTreeSet<NodeNumber> = table.all_holders().iter().copied().collect();
        let known: BTreeMap<NodeNumber, &Member> =
            self.candidates.iter().map(|it| (it.number, &it.member)).collect();
        let indexes: BTreeMap<NodeNumber, u16> = numbers.iter().copied().zip(0u16..).collect();
        let members = numbers.iter().map(|number| match known.get(number) {
            Some(member) => (*member).clone(),
            None => stranger(*number),
        });
        let members: Vec<Member> = members.collect();
        let indexes = table.all_holders().iter().filter_map(|number| indexes.get(number));
        let body = TableBody {
            version: 1,
            partition_bits: u32::from(self.bits),
            replicas: u32::from(table.copies()),
            members: indexes.flat_map(|index| index.to_le_bytes()).collect(),
        };
        Ok((PlacementTable::from_body(&body, members.len())?, members))
    }
}

/// A member that is gone: in a table of before, and in none from now on.
fn stranger(number: NodeNumber) -> Member {
    let mut hasher =
        blake3::Hasher::new_derive_key("holocompute 2026 catalog: a node that is gone");
    hasher.update(&number.0.to_le_bytes());
    Member {
        node: NodeId(PublicKey(*hasher.finalize().as_bytes())),
        name: format!("#{number}"),
        address: format!("#{number}"),
        zone: String::new(),
        weight_milli: 1000,
    }
}

fn loads(table: &TargetTable) -> BTreeMap<NodeNumber, u32> {
    let mut loads = BTreeMap::new();
    for number in table.all_holders() {
        *loads.entry(*number).or_insert(0) += 1;
    }
    loads
}

/// What keeps the groups from being as `tables` say.
fn moves(state: &CatalogState, tables: &BTreeMap<u8, TargetTable>) -> Vec<Move> {
    let mut moves = Vec::new();
    for config in state.groups.values().filter(|config| !config.lost) {
        let group = config.group;
        let Some(table) = tables.get(&group.class.replicas) else { continue };
        let targets = table.holders(group.partition);
        // A learner has its copy when it is in sync, and not before.
        let lacks = |number: &NodeNumber| in_sync_of(config, *number).is_none();
        let add: Vec<NodeNumber> = targets.iter().copied().filter(lacks).collect();
        let drop: Vec<NodeNumber> =
            config.members().map(|it| it.node).filter(|number| !targets.contains(number)).collect();
        let primary = targets.first().copied().filter(|number| *number != config.primary.node);
        if !add.is_empty() || !drop.is_empty() || primary.is_some() {
            moves.push(Move { group, add, drop, primary });
        }
    }
    moves
}

/// Bytes of the copies to be made: each group holds its part of its class's arrays.
fn estimate(state: &CatalogState, moves: &[Move]) -> u64 {
    let mut adds: BTreeMap<Class, u64> = BTreeMap::new();
    for it in moves {
        *adds.entry(it.group.class).or_insert(0) += it.add.len() as u64;
    }
    adds.iter()
        .map(|(class, adds)| {
            (u128::from(state.bytes_of(*class)) * u128::from(*adds)) >> state.partition_bits
        })
        .fold(0u64, |sum, bytes| sum.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)))
}

impl CatalogState {
    /// Bytes of one copy of all arrays of a class.
    pub(super) fn bytes_of(&self, class: Class) -> u64 {
        let arrays = self.arrays().filter(|array| array.class() == class);
        arrays.fold(0, |sum: u64, array| sum.saturating_add(array.layout.bytes()))
    }

    /// What the group's primary should propose next to get where the tables want it; `None` when nothing, or nothing now.
    ///
    /// One learner at a time; what is missing is added before what is too much goes; the primary is handed over last, or
    /// before its node gives its copy up. A replica that does not answer is left to its primary, which removes it sooner.
    /// Nobody gives up a copy without which too few would be in sync to write: where nodes die during a drain, it waits.
    pub fn next_change(&self, group: GroupId) -> Option<ConfigChange> {
        let config = self.groups.get(&group).filter(|config| !config.lost)?;
        let table = self.targets.get(&group.class.replicas)?;
        let targets = table.holders(group.partition);
        if let Some(learner) = config.learners.first() {
            let wanted = targets.contains(&learner.node) && self.is_current(*learner);
            return (!wanted).then_some(ConfigChange::Remove(*learner));
        }
        let missing = targets.iter().filter(|number| !config.names(**number));
        if let Some(learner) = missing.clone().find_map(|number| self.ready(*number)) {
            return Some(ConfigChange::AddLearner(learner));
        }
        let enough = config.in_sync.len() > usize::from(group.class.min_in_sync);
        let whole =
            enough && (missing.count() == 0 || config.in_sync.len() > usize::from(table.copies()));
        let in_sync = |number: &NodeNumber| in_sync_of(config, *number);
        let first = targets.iter().filter_map(in_sync).find(|replica| self.is_up(*replica));
        let surplus = config.in_sync.iter().find(|it| !targets.contains(&it.node));
        match (surplus, first) {
            (Some(_), Some(first)) if whole && !targets.contains(&config.primary.node) => {
                Some(ConfigChange::Handover(first))
            }
            (Some(surplus), Some(_)) if whole => Some(ConfigChange::Remove(*surplus)),
            (None, Some(first))
                if Some(&first.node) == targets.first() && first != config.primary =>
            {
                Some(ConfigChange::Handover(first))
            }
            _ => None,
        }
    }
}

fn in_sync_of(config: &GroupConfig, number: NodeNumber) -> Option<ReplicaId> {
    config.in_sync.iter().copied().find(|replica| replica.node == number)
}
