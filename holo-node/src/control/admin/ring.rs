//! The target tables: shown, planned, applied at the version that was planned from.

use std::collections::{BTreeMap, BTreeSet};

use holo_core::catalog::{CatalogState, Operation, Plan, TargetTable, plan};
use holo_core::replication::NodeNumber;
use holo_core::wire::{RingReport, RingShare, RingTable};
use holo_core::{ErrorCode, Failure, PartitionId, PublicKey, TableVersion, action};

use super::{CLUSTER, Control};

impl Control {
    /// The tables as they are.
    pub(super) fn show_ring(&self, key: PublicKey) -> Result<RingReport, Failure> {
        self.may::<action::Status>(key, CLUSTER)?;
        Ok(self.copy.read(|state| report(state, state.targets(), None)))
    }

    /// The tables as they would become.
    pub(super) fn plan_ring(&self, key: PublicKey) -> Result<RingReport, Failure> {
        self.may::<action::Status>(key, CLUSTER)?;
        let now = self.clock.wall();
        self.copy.read(|state| {
            let plan = plan(state, now)?;
            Ok(report(state, &plan.tables, Some(&plan)))
        })
    }

    /// Makes the plan from a version the tables.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Conflict`] when the version is another one by now.
    pub(super) async fn apply_ring(
        &self,
        key: PublicKey,
        base_version: u64,
    ) -> Result<RingReport, Failure> {
        self.may::<action::Config>(key, CLUSTER)?;
        let now = self.clock.wall();
        let (plan, report) = self.copy.read(|state| {
            let plan = plan(state, now)?;
            let report = report(state, &plan.tables, Some(&plan));
            Ok::<_, Failure>((plan, report))
        })?;
        if plan.base_version != TableVersion(base_version) {
            let message = format!(
                "the plan was made from version {base_version}, the tables are at {}",
                plan.base_version
            );
            return Err(Failure::new(ErrorCode::Conflict, message)
                .help("look at the present plan first: `holo ring plan`"));
        }
        for update in plan.updates() {
            self.command(key, Operation::ApplyTable(update)).await?;
        }
        Ok(report)
    }
}

fn report(
    state: &CatalogState,
    tables: &BTreeMap<u8, TargetTable>,
    plan: Option<&Plan>,
) -> RingReport {
    let in_use: BTreeSet<u8> = state.classes().iter().map(|class| class.replicas).collect();
    let rows = tables.iter().map(|(replicas, table)| RingTable {
        replicas: u32::from(*replicas),
        in_use: in_use.contains(replicas),
        shares: shares(state.target(*replicas), table),
    });
    let moves = plan.map_or(&[][..], |plan| &plan.moves);
    RingReport {
        version: state.table_version().0,
        partitions: 1 << state.partition_bits(),
        tables: rows.collect(),
        moves: moves.iter().map(|it| it.add.len() as u64).sum(),
        bytes: plan.map_or(0, |plan| plan.bytes),
        handovers: moves.iter().filter(|it| it.add.is_empty() && it.primary.is_some()).count()
            as u64,
    }
}

/// What each node shall hold by a table, and how that differs from the one before.
fn shares(before: Option<&TargetTable>, table: &TargetTable) -> Vec<RingShare> {
    let mut shares: BTreeMap<NodeNumber, RingShare> = BTreeMap::new();
    let mut share = |number: NodeNumber, change: &dyn Fn(&mut RingShare)| {
        let share = shares.entry(number);
        let new = || RingShare { number: number.0, ..RingShare::default() };
        change(share.or_insert_with(new));
    };
    let partitions = u32::try_from(table.partitions()).unwrap_or(u32::MAX);
    for partition in (0..partitions).map(PartitionId) {
        let holders = table.holders(partition);
        let held = before.map_or(holders, |before| before.holders(partition));
        for (place, holder) in holders.iter().enumerate() {
            share(*holder, &|it| {
                it.partitions += 1;
                it.primaries += u32::from(place == 0);
                it.gains += u32::from(!held.contains(holder));
            });
        }
        for loser in held.iter().filter(|it| !holders.contains(it)) {
            share(*loser, &|it| it.losses += 1);
        }
    }
    shares.into_values().collect()
}
