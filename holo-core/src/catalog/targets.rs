//! Target tables: where the copies of each partition should be.

use crate::catalog::changes::Subject;
use crate::catalog::command::{Answer, Authority, TableUpdate};
use crate::catalog::principals::CLUSTER;
use crate::catalog::state::CatalogState;
use crate::replication::NodeNumber;
use crate::{ErrorCode, Failure, PartitionId, Verb, limits};

/// For each partition the nodes that should hold it, the primary first.
///
/// # Invariants
///
/// Every partition has the same number of holders, 1 to [`limits::REPLICAS_MAX`], and none of them twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTable {
    copies: u8,
    holders: Vec<NodeNumber>,
}

impl TargetTable {
    /// Checks a table: `copies` holders for each partition, one partition after the other.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] when an invariant is broken.
    pub fn new(copies: u8, holders: Vec<NodeNumber>) -> Result<Self, Failure> {
        let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
        let width = usize::from(copies);
        let whole = width > 0 && holders.len().is_multiple_of(width);
        if !whole || width > limits::REPLICAS_MAX || holders.len() > limits::TARGET_SLOTS_MAX {
            return refuse(format!("a target table of {} holders, {copies} each", holders.len()));
        }
        for (partition, set) in holders.chunks_exact(width).enumerate() {
            let twice = set.iter().enumerate().any(|(at, holder)| set[..at].contains(holder));
            if twice {
                return refuse(format!("partition {partition} has a holder twice"));
            }
        }
        Ok(Self { copies, holders })
    }

    /// Copies of each partition: as many as wanted, as far as there are nodes.
    pub fn copies(&self) -> u8 {
        self.copies
    }

    /// The holders of a partition, the primary first; none past the last partition.
    pub fn holders(&self, partition: PartitionId) -> &[NodeNumber] {
        let width = usize::from(self.copies);
        let start = (partition.0 as usize).saturating_mul(width);
        self.holders.get(start..start.saturating_add(width)).unwrap_or_default()
    }

    /// How many partitions it is about.
    pub fn partitions(&self) -> usize {
        self.holders.len() / usize::from(self.copies.max(1))
    }

    /// All holders, one partition after the other.
    pub fn all_holders(&self) -> &[NodeNumber] {
        &self.holders
    }
}

impl CatalogState {
    pub(super) fn apply_table(
        &mut self,
        by: Authority,
        update: TableUpdate,
    ) -> Result<Answer, Failure> {
        if self.check_voter(by).is_err() {
            self.check_verb(by, Verb::Config, CLUSTER)?;
        }
        let mut these = update.tables.iter();
        if update.version == self.table_version
            && these.all(|(replicas, table)| self.targets.get(replicas) == Some(table))
        {
            return Ok(Answer::Done);
        }
        if self.close.is_some() {
            let message = "the cluster was told to stop: nothing is placed anew until it is whole";
            return Err(Failure::new(ErrorCode::ShuttingDown, message).retry_after_ms(1000));
        }
        if update.base_version != self.table_version || update.version <= update.base_version {
            let message = format!(
                "a table planned from version {} for version {}; the present one is {}",
                update.base_version, update.version, self.table_version
            );
            return Err(
                Failure::new(ErrorCode::Conflict, message).help("plan again: `holo ring plan`")
            );
        }
        self.check_tables(&update)?;
        self.table_version = update.version;
        self.targets.extend(update.tables);
        self.touch(Subject::Table);
        self.release_draining();
        Ok(Answer::Done)
    }

    fn check_tables(&self, update: &TableUpdate) -> Result<(), Failure> {
        let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
        let possible = self.holders_possible();
        for (replicas, table) in &update.tables {
            let bounded = (1..=limits::REPLICAS_MAX).contains(&usize::from(*replicas));
            if !bounded
                || table.copies > *replicas
                || table.partitions() != 1 << self.partition_bits
            {
                return refuse(format!(
                    "a table of {} partitions x {} copies for {replicas} copies in 2^{} partitions",
                    table.partitions(),
                    table.copies,
                    self.partition_bits
                ));
            }
            if let Some(closed) = table.holders.iter().find(|holder| !possible.contains(holder)) {
                let message = format!("the table names node {closed}, which takes nothing");
                return Err(
                    Failure::new(ErrorCode::Conflict, message).help("plan again: `holo ring plan`")
                );
            }
        }
        Ok(())
    }
}
