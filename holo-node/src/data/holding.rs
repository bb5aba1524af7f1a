//! Pages on their way to disk and back, when the whole cluster or this node alone stops and starts again.

use std::collections::BTreeSet;
use std::sync::Arc;

use holo_core::catalog::{CloseId, Intake};
use holo_core::group::Seq;
use holo_core::replication::{GroupId, GroupSummary, Incarnation, Input, Remains, ReplicaId, Role};
use holo_core::{ArrayId, Epoch, ErrorCode, Failure, PAGE_BYTES, ShardIndex, TileSink};
use holo_mem::{MemError, Shard, Staged};

use super::arrays::Arrays;
use super::snapshots::{Fetch, Frozen};
use super::{DataPlane, Effects, Machine};
use crate::hold::Kept;
use crate::workers::blocking;

/// A group as this process leaves it.
#[derive(Debug)]
pub(crate) struct LeftBehind {
    pub(crate) remains: Remains,
    pub(crate) frozen: Frozen,
    /// It was one of the group's replicas; otherwise it had put back what an earlier life left.
    pub(crate) was_member: bool,
    /// It has data of which no other node has a copy, as far as this one knows, nor an earlier file.
    pub(crate) is_alone: bool,
}

/// Where the pages of a group that was put back come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    /// A close of the cluster: they are the group's data after this epoch.
    Close(Epoch),
    /// An earlier life of this node; the machine knows when they are the group's data.
    Life(Incarnation, Remains),
}

/// A group whose pages come back from disk. Nobody sees any of them before all of them are there.
#[derive(Debug)]
pub(crate) struct PutBack {
    group: GroupId,
    pages: Vec<(ArrayId, ShardIndex, Arc<Shard>, Staged)>,
}

impl PutBack {
    /// Shows all pages; in shards that are gone meanwhile nobody sees them.
    fn show(self) -> Result<(), MemError> {
        self.pages.into_iter().try_for_each(|(_, _, shard, staged)| shard.publish(staged))
    }

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
        staged.copy_from(offset, bytes);
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
        let applied = machine.host.group_summary(group)?.rests_at(epoch, last)?;
        let shards = self.arrays.shards_of_group(group);
        if shards.len() != self.arrays.shard_count(group) {
            // Whoever stops the cluster asks again and again.
            if machine.roomless.insert(group, close) != Some(close) {
                tracing::error!(%group, "shards of this group found no room here: it cannot be written down");
            }
            return None;
        }
        Some((applied, Frozen::of(&shards)))
    }

    /// Whether the pages of a group were put back, and are the group's data if it starts again here after epoch `at`, as
    /// the catalog says now.
    pub(crate) fn has_put_back(&self, group: GroupId, at: Epoch) -> bool {
        let mut machine = self.machine.lock();
        let is_member = self.arrays.gates.of(group).is_member();
        match machine.put_back.get_mut(&group).filter(|_| !is_member) {
            Some(Origin::Close(known)) => {
                *known = at.max(*known);
                *known == at
            }
            _ => false,
        }
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
        self.check_room(&pages)?;
        let group = pages.group;
        pages.show()?;
        machine.put_back.insert(group, Origin::Close(at));
        Ok(())
    }

    /// Which replicas of other nodes were heard a moment ago.
    pub(crate) fn heard(&self) -> BTreeSet<ReplicaId> {
        let now = self.clock.now();
        self.machine.lock().host.heard(now)
    }

    /// What this node may leave for its next life, once it takes part in nothing any more: every group that it has whole,
    /// after everything that it ever said to hold; and the groups in which it is in sync and that it has not. `heard` are
    /// those who were heard when it still took part.
    pub(crate) fn leave_behind(
        &self,
        heard: &BTreeSet<ReplicaId>,
    ) -> (Vec<LeftBehind>, Vec<GroupId>) {
        let mut machine = self.machine.lock();
        let now = self.clock.now();
        machine.retry_stalled(&self.arrays, now);
        machine.host.come_to_rest(now);
        // Nobody is there to be sent anything.
        machine.drain(&self.arrays, self.control.as_ref(), now, &mut Effects::default());
        let summaries = machine.host.summary();
        let is_alone = |it: &&GroupSummary| !it.in_sync.iter().any(|member| heard.contains(member));
        let alone: BTreeSet<GroupId> =
            summaries.iter().filter(is_alone).map(|it| it.group).collect();
        let left = machine.host.remains().into_iter().filter_map(|remains| {
            let group = remains.group;
            // Of arrays that were made since it was put back.
            self.arrays.enter_group(group);
            let shards = self.arrays.shards_of_group(group);
            let is_whole = shards.len() == self.arrays.shard_count(group);
            let was_member = self.arrays.gates.of(group).is_member();
            let is_alone = was_member && !shards.is_empty() && alone.contains(&group);
            let frozen = is_whole.then(|| Frozen::of(&shards))?;
            Some(LeftBehind { remains, frozen, was_member, is_alone })
        });
        let left: Vec<LeftBehind> = left.collect();
        let here: BTreeSet<GroupId> = left.iter().map(|left| left.remains.group).collect();
        let in_sync = summaries.into_iter().filter(|it| !it.lost && it.in_sync.contains(&self.me));
        let missing = in_sync.map(|it| it.group).filter(|group| !here.contains(group));
        (left, missing.collect())
    }

    /// Makes room for a group that an earlier life left, and of which this one is no member yet.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Cancelled`] when it is one by now.
    pub(crate) fn begin_restore(&self, group: GroupId) -> Result<PutBack, Failure> {
        let _machine = self.machine.lock();
        self.check_absent(group)?;
        self.arrays.enter_group(group);
        Ok(PutBack { group, pages: Vec::new() })
    }

    /// Shows the pages that a life left of a group, all of them at once: its data if it goes on here after epoch `after`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Cancelled`] when it has come here in another way, or came and went meanwhile.
    pub(crate) fn restore(
        self: &Arc<Self>,
        pages: PutBack,
        life: Incarnation,
        after: Epoch,
        remains: Remains,
    ) -> Result<(), Failure> {
        let group = pages.group;
        self.with_machine(|machine, now| {
            self.check_absent(group)?;
            self.check_room(&pages)?;
            // The machine relies on them from then on.
            pages.show()?;
            let input = Input::Restore { life, after, remains: remains.clone() };
            machine.host.handle_input(now, input)?;
            machine.put_back.insert(group, Origin::Life(life, remains));
            Ok(())
        })
    }

    /// Drops what was read of a group that could not be restored.
    pub(crate) fn give_up_restore(&self, group: GroupId) {
        let machine = self.machine.lock();
        if self.check_absent(group).is_ok() && !machine.put_back.contains_key(&group) {
            self.arrays.leave_group(group);
        }
    }

    /// Whether what a life left of a group lies here, and is its data if it goes on here after epoch `after`, as the
    /// catalog says now.
    pub(crate) fn is_restored(
        self: &Arc<Self>,
        group: GroupId,
        life: Incarnation,
        after: Epoch,
    ) -> bool {
        self.with_machine(|machine, now| match machine.put_back.get(&group) {
            Some(Origin::Life(of, remains)) if *of == life => {
                let input = Input::Restore { life, after, remains: remains.clone() };
                machine.host.handle_input(now, input).is_ok()
            }
            _ => false,
        })
    }

    /// From now on learners begin with what the last life of this node left behind.
    pub(crate) fn set_kept(&self, kept: Kept) {
        drop(self.kept.set(kept));
    }

    /// Where the next life of this node finds what it holds.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.kept.get()
    }

    /// Begins a copy with the pages that the last life of this node left behind; says whether it left any.
    pub(super) async fn start_with_kept(self: &Arc<Self>, fetch: Fetch) -> bool {
        let Some(kept) = self.kept.get().cloned() else { return false };
        let (group, plane) = (fetch.group, Arc::clone(self));
        let read = blocking(move || {
            if !kept.has(group) {
                return Ok(None);
            }
            let mut pages = PutBack { group, pages: Vec::new() };
            let here = plane.arrays.shards_of_group(group);
            // What is here already is newer.
            if here.iter().all(|(_, _, shard)| shard.used_frames() == 0) {
                kept.read_latest(group, |page| {
                    pages.take(&plane.arrays, page.array, page.shard, page.index, page.bytes)
                })?;
            }
            Ok(Some(pages))
        });
        let shown = match read.await {
            Ok(None) => return false,
            Ok(Some(pages)) => self.while_current(fetch, move || pages.show()).await,
            Err(failure) => Err(failure),
        };
        if let Err(failure) = &shown {
            // All of it is copied then.
            tracing::info!(%group, code = %failure.code, message = %failure.message, "what this node had kept of a group is of no use to this copy");
        }
        if shown.is_err_and(|failure| failure.code == ErrorCode::Corrupt) {
            self.forget_kept(group).await;
            return false;
        }
        true
    }

    /// The group is here whole: what the last life of this node left behind of it is of no use any more.
    pub(super) async fn forget_kept(&self, group: GroupId) {
        let Some(kept) = self.kept.get().cloned() else { return };
        if let Err(failure) = blocking(move || kept.forget(group)).await {
            tracing::warn!(%group, code = %failure.code, message = %failure.message, "pages of an earlier life are not deleted");
        }
    }

    fn check_absent(&self, group: GroupId) -> Result<(), Failure> {
        if self.arrays.gates.of(group).is_member() {
            let message = format!("group {group} is back already");
            return Err(Failure::new(ErrorCode::Cancelled, message));
        }
        Ok(())
    }

    /// The shards that pages were read into have to be there still.
    fn check_room(&self, pages: &PutBack) -> Result<(), Failure> {
        let still_here = |array, index, shard: &Arc<Shard>| match self.arrays.pages(array, index) {
            Some(here) => Arc::ptr_eq(&here, shard),
            None => self.arrays.has_heard_of(array) && self.arrays.group_of(array, index).is_none(),
        };
        if pages.pages.iter().all(|(array, index, shard, _)| still_here(*array, *index, shard)) {
            return Ok(());
        }
        let message = format!("group {} came and went while it was read", pages.group);
        Err(Failure::new(ErrorCode::Cancelled, message))
    }

    fn check_put_back(&self, machine: &Machine, group: GroupId) -> Result<(), Failure> {
        self.check_absent(group)?;
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
        self.put_back.retain(|group, origin| {
            let stays = match origin {
                Origin::Close(_) => waiting.is_some_and(|waiting| waiting.contains(group)),
                Origin::Life(..) => self.host.is_restored(*group),
            };
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
            && let Some(Origin::Close(at)) = self.put_back.get(&group)
            && at.0 + 1 != epoch.0
        {
            arrays.leave_group(group);
            self.put_back.remove(&group);
        }
    }
}
