//! Pages on their way to disk and back, when the whole cluster stops and starts again.

use std::sync::Arc;

use holo_core::catalog::CloseId;
use holo_core::group::Seq;
use holo_core::replication::{GroupId, Role};
use holo_core::{ArrayId, Epoch, ErrorCode, Failure, PAGE_BYTES, ShardIndex};
use holo_mem::{Shard, Staged};

use super::arrays::Arrays;
use super::snapshots::Frozen;
use super::{DataPlane, Machine};
use crate::ports::Intake;

/// A group whose pages come back from disk. Nobody sees any of them before all of them are there.
#[derive(Debug)]
pub(crate) struct PutBack {
    group: GroupId,
    pages: Vec<(ArrayId, ShardIndex, Arc<Shard>, Staged)>,
}

impl PutBack {
    /// Takes one page.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotReady`] for an array of which this node has not heard yet, [`ErrorCode::Corrupt`] for a page that
    /// is not of this group, [`ErrorCode::OutOfCapacity`].
    pub(crate) fn take(
        &mut self,
        arrays: &Arrays,
        array: ArrayId,
        index: ShardIndex,
        page: u32,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let Some(group) = arrays.group_of(array, index) else {
            if arrays.has_heard_of(array) {
                // Removed since.
                return Ok(());
            }
            let message = format!("this node has not heard of array #{array} yet");
            return Err(Failure::new(ErrorCode::NotReady, message));
        };
        let misplaced = || {
            let message = format!("page {page} of shard {index} of array #{array}");
            Failure::new(ErrorCode::Corrupt, message)
        };
        if group != self.group {
            return Err(misplaced());
        }
        let shard = arrays.pages(array, index).ok_or_else(|| {
            let message = format!("shard {index} of array #{array} finds no room here");
            Failure::new(ErrorCode::OutOfCapacity, message)
        })?;
        let offset = u64::from(page) * PAGE_BYTES as u64;
        let end = offset.checked_add(bytes.len() as u64);
        let whole = bytes.len() == PAGE_BYTES || end == Some(shard.bytes());
        if !whole || end.is_none_or(|end| end > shard.bytes()) {
            return Err(misplaced());
        }
        let mut staged = shard.stage(offset, bytes.len() as u64)?;
        let mut rest = bytes;
        for buffer in staged.buffers() {
            let (part, tail) = rest.split_at(buffer.len());
            buffer.copy_from_slice(part);
            rest = tail;
        }
        self.pages.push((array, index, shard, staged));
        Ok(())
    }
}

impl DataPlane {
    /// The pages of a group after its last operation, with the number of that: once this replica takes no more, has
    /// applied everything that it holds, and, unless it is the primary, is where the primary was.
    pub(crate) fn freeze(
        &self,
        close: CloseId,
        group: GroupId,
        epoch: Epoch,
        last: Option<Seq>,
    ) -> Option<(Seq, Frozen)> {
        let mut machine = self.machine.lock();
        if machine.intake != Intake::Closing(close) || machine.stalled.contains_key(&group) {
            return None;
        }
        let it = machine.host.group_summary(group)?;
        if it.epoch != epoch || it.lost || !it.has_base {
            return None;
        }
        let rests = match last {
            None => it.role == Role::Primary && it.applied == it.last && it.commit == it.last,
            Some(last) => {
                matches!(it.role, Role::Primary | Role::Backup)
                    && it.applied == last
                    && it.commit == last
            }
        };
        if !rests {
            return None;
        }
        let shards = self.arrays.shards_of_group(group);
        if shards.len() != self.arrays.shard_count(group) {
            // Whoever stops the cluster asks again and again.
            if machine.roomless.insert(group, close) != Some(close) {
                tracing::error!(%group, "shards of this group found no room here: it cannot be written down");
            }
            return None;
        }
        Some((it.applied, Frozen::of(&shards)))
    }

    /// Whether the pages of a group were put back, and are the group's data if it starts again here after epoch `at`, as
    /// the catalog says now.
    pub(crate) fn has_put_back(&self, group: GroupId, at: Epoch) -> bool {
        let mut machine = self.machine.lock();
        let is_member = self.arrays.gates.of(group).is_member();
        machine.put_back.get_mut(&group).filter(|_| !is_member).is_some_and(|known| {
            *known = at.max(*known);
            *known == at
        })
    }

    /// Makes room for a group of which this node is no member yet.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Cancelled`] when it is one by now: then others brought the group back. [`ErrorCode::NotReady`] when
    /// nobody waits for the group as far as this node has heard.
    pub(crate) fn begin_put_back(&self, group: GroupId) -> Result<PutBack, Failure> {
        let machine = self.machine.lock();
        self.check_put_back(&machine, group)?;
        self.arrays.enter_group(group);
        Ok(PutBack { group, pages: Vec::new() })
    }

    /// Shows the pages of a group, all of them at once: its data if it starts again here after epoch `at`.
    ///
    /// # Errors
    ///
    /// As [`Self::begin_put_back`]; [`ErrorCode::Cancelled`] too when it was a member meanwhile: the room that was made
    /// went with that.
    pub(crate) fn put_back(&self, pages: PutBack, at: Epoch) -> Result<(), Failure> {
        let mut machine = self.machine.lock();
        self.check_put_back(&machine, pages.group)?;
        let still_here = |array, index, shard: &Arc<Shard>| match self.arrays.pages(array, index) {
            Some(here) => Arc::ptr_eq(&here, shard),
            None => self.arrays.has_heard_of(array) && self.arrays.group_of(array, index).is_none(),
        };
        if !pages.pages.iter().all(|(array, index, shard, _)| still_here(*array, *index, shard)) {
            let message = format!("group {} came and went while it was read", pages.group);
            return Err(Failure::new(ErrorCode::Cancelled, message));
        }
        for (_, _, shard, staged) in pages.pages {
            shard.publish(staged)?;
        }
        machine.put_back.insert(pages.group, at);
        Ok(())
    }

    fn check_put_back(&self, machine: &Machine, group: GroupId) -> Result<(), Failure> {
        if self.arrays.gates.of(group).is_member() {
            let message = format!("group {group} is back already");
            return Err(Failure::new(ErrorCode::Cancelled, message));
        }
        match &machine.intake {
            Intake::Reopening(waiting) if waiting.contains(&group) => Ok(()),
            _ => {
                let message =
                    format!("this node has not heard yet that group {group} is waited for");
                Err(Failure::new(ErrorCode::NotReady, message))
            }
        }
    }
}

impl Machine {
    /// Pages that were put back and that nobody waits for any more are nobody's: the group went on elsewhere, or was given
    /// up. Where this node is a member by now they are the group's.
    pub(super) fn drop_unwanted(&mut self, arrays: &Arrays) {
        let waiting = match &self.intake {
            Intake::Reopening(waiting) => Some(waiting),
            Intake::Open | Intake::Closing(_) => None,
        };
        self.put_back.retain(|group, _| {
            let stays = waiting.is_some_and(|waiting| waiting.contains(group));
            if !stays && !arrays.gates.of(*group).is_member() {
                arrays.leave_group(*group);
            }
            stays
        });
    }

    /// A group starts here with what came from disk only right after the epoch in which that was its data. In any other it
    /// was written since, and starts empty because an operator gave it up.
    pub(super) fn check_put_back_role(
        &mut self,
        arrays: &Arrays,
        group: GroupId,
        role: Role,
        epoch: Epoch,
    ) {
        let begins = matches!(role, Role::Primary | Role::PrimaryPending)
            && !arrays.gates.of(group).is_member();
        if begins
            && let Some(at) = self.put_back.get(&group)
            && at.0 + 1 != epoch.0
        {
            arrays.leave_group(group);
            self.put_back.remove(&group);
        }
    }

    /// Refuses an operation while the group takes none.
    pub(super) fn check_intake(&self, group: GroupId) -> Result<(), Failure> {
        match &self.intake {
            Intake::Open => Ok(()),
            Intake::Closing(_) => Err(Failure::new(
                ErrorCode::ShuttingDown,
                "the cluster is being shut down and takes no writes",
            )
            .help("what was acknowledged is kept; write again when the cluster runs again")
            .retry_after_ms(1000)),
            Intake::Reopening(waiting) if waiting.contains(&group) => {
                let message = format!(
                    "group {group} comes back from disk and takes no writes before it has its copies"
                );
                Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(100))
            }
            Intake::Reopening(_) => Ok(()),
        }
    }
}
