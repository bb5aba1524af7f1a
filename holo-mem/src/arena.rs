//! An arena of frames: what is free, what is idle but still in memory, and what the budget allows.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Weak},
};

use holo_core::PAGE_BYTES;
use parking_lot::Mutex;

use crate::{
    error::MemError,
    frame::FrameMut,
    map::{self, EXTENT_FRAMES, Slot, Slots},
};

const PAGE: u64 = PAGE_BYTES as u64;

/// Idle frames that [`Arena::trim`] leaves in memory: 64 MiB, or an eighth of a budget smaller than 512 MiB.
const IDLE_FRAMES_FLOOR: u64 = (64 << 20) / PAGE;

/// So many frames that are written soon are brought into memory at once: a fault for each first touch costs more.
const POPULATE_FRAMES_MIN: usize = 4;
/// Frames that [`Arena::prefault`] asks the system for at a time, so that allocation goes on meanwhile.
const PREFAULT_FRAMES: u64 = EXTENT_FRAMES as u64;

/// Rounds of asking other arenas for idle frames before an allocation gives up; more than one because somebody
/// else may take what was given back.
const RECLAIM_ROUNDS: usize = 3;

/// One tenant's frames of 64 KiB, in one mapping of private memory.
///
/// Frames come from extents of 2 MiB, the lowest first, so that the highest run empty. A returned frame stays in
/// memory as *idle*, because fresh memory costs ten times what reused memory does, and because dropping a handle
/// must never wait for the system. Idle memory goes back to it when [`Arena::trim`] says so, and when another arena
/// of the same budget needs it.
///
/// # Invariants
///
/// Used and idle frames of all arenas that share a budget are at most the budget. One lock guards the lists; it is
/// never held during a system call.
pub struct Arena {
    budget: Arc<Budget>,
    state: Mutex<State>,
    /// Held while an extent goes back to the system and is in no list. An allocation that finds too little takes
    /// its turn here before it gives up, so that it never fails for memory that is about to be free.
    giving_back: Mutex<()>,
}

impl Arena {
    /// An arena with a budget of its own, in bytes, rounded down to whole frames. Takes address space, no memory.
    ///
    /// # Errors
    ///
    /// [`MemError::Map`] when the system refuses.
    pub fn new(budget_bytes: u64) -> Result<Arc<Self>, MemError> {
        Self::within(&Arc::new(Budget::new(budget_bytes)))
    }

    /// An arena that shares `budget` with others.
    pub(crate) fn within(budget: &Arc<Budget>) -> Result<Arc<Self>, MemError> {
        let slots = Slots::map(budget.frames_max)
            .map_err(|source| MemError::Map { bytes: budget.bytes_max(), source })?;
        let state = State {
            fresh: slots,
            cold: Vec::new(),
            idle: BTreeMap::new(),
            used: 0,
            idle_frames: 0,
        };
        let arena = Arc::new(Self {
            budget: Arc::clone(budget),
            state: Mutex::new(state),
            giving_back: Mutex::new(()),
        });
        budget.enroll(&arena);
        Ok(arena)
    }

    /// A frame whose contents are unspecified: an earlier page of the same tenant, or zeros.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfCapacity`] when the budget is used up.
    pub fn allocate(self: &Arc<Self>) -> Result<FrameMut, MemError> {
        self.allocate_one(false)
    }

    /// A frame of zeros.
    ///
    /// # Errors
    ///
    /// As [`Arena::allocate`].
    pub fn allocate_zeroed(self: &Arc<Self>) -> Result<FrameMut, MemError> {
        self.allocate_one(true)
    }

    /// `count` frames of unspecified contents, or none at all.
    pub(crate) fn allocate_many(self: &Arc<Self>, count: usize) -> Result<Vec<FrameMut>, MemError> {
        let mut slots: Vec<Slot> = Vec::with_capacity(count);
        let (cold, warm): (Vec<Taken>, Vec<Taken>) =
            self.take(count)?.into_iter().partition(|taken| taken.zero);
        slots.extend(cold.into_iter().map(|taken| taken.slot));
        if slots.len() >= POPULATE_FRAMES_MIN {
            map::populate(&mut slots);
        }
        slots.extend(warm.into_iter().map(|taken| taken.slot));
        Ok(slots.into_iter().map(|slot| FrameMut::new(slot, Arc::clone(self))).collect())
    }

    /// What the arena holds at this moment.
    pub fn stats(&self) -> ArenaStats {
        let state = self.state.lock();
        ArenaStats {
            frames_used: state.used,
            frames_idle: state.idle_frames,
            frames_max: u64::from(self.budget.frames_max),
        }
    }

    /// Brings up to `bytes` bytes of fresh frames into memory, as idle frames, so that the first writes do not wait
    /// for page faults. Returns the bytes brought in: fewer when the budget ends before. Blocks for about a
    /// millisecond per MiB.
    pub fn prefault(&self, bytes: u64) -> u64 {
        let mut left = bytes.div_ceil(PAGE);
        let mut done = 0;
        while left > 0 {
            let mut taken = Vec::new();
            self.take_cold(left.min(PREFAULT_FRAMES), &mut taken);
            let mut slots: Vec<Slot> = taken.into_iter().map(|taken| taken.slot).collect();
            if slots.is_empty() {
                break;
            }
            map::populate(&mut slots);
            let count = slots.len() as u64;
            let mut state = self.state.lock();
            for slot in slots {
                state.put_idle(slot);
            }
            done += count;
            left = left.saturating_sub(count);
        }
        done * PAGE
    }

    /// Gives idle memory back to the system: all beyond a quarter of the budget and half of the rest, but for the last
    /// 64 MiB. Meant to be called about once a second by the node's housekeeping, so that memory which nobody reuses
    /// is gone within seconds. Blocks for about 0.1 ms per MiB, without holding anybody else up.
    pub fn trim(&self) {
        let budget = u64::from(self.budget.frames_max);
        let idle = self.state.lock().idle_frames;
        let kept = (idle / 2).min(budget / 4).max(IDLE_FRAMES_FLOOR.min(budget / 8));
        self.give_back(idle.saturating_sub(kept));
    }

    /// Takes a frame back from its last owner.
    pub(crate) fn release(&self, slot: Slot) {
        self.state.lock().put_idle(slot);
    }

    fn allocate_one(self: &Arc<Self>, zeroed: bool) -> Result<FrameMut, MemError> {
        let full = || self.budget.out_of_capacity(1);
        let taken = self.take(1)?.pop().ok_or_else(full)?;
        let mut frame = FrameMut::new(taken.slot, Arc::clone(self));
        if zeroed && !taken.zero {
            frame.fill(0);
        }
        Ok(frame)
    }

    /// `count` slots, or none.
    fn take(&self, count: usize) -> Result<Vec<Taken>, MemError> {
        let wanted = count as u64;
        if wanted > u64::from(self.budget.frames_max) {
            return Err(self.budget.out_of_capacity(wanted));
        }
        let mut taken = Vec::with_capacity(count);
        for _ in 0..RECLAIM_ROUNDS {
            self.state.lock().take_idle(count, &mut taken);
            self.take_cold((count - taken.len()) as u64, &mut taken);
            if taken.len() == count {
                return Ok(taken);
            }
            self.budget.reclaim((count - taken.len()) as u64);
        }
        let mut state = self.state.lock();
        for taken in taken {
            state.put_idle(taken.slot);
        }
        drop(state);
        Err(self.budget.out_of_capacity(wanted))
    }

    /// Up to `count` slots that are not in memory yet, as far as the budget allows.
    fn take_cold(&self, count: u64, taken: &mut Vec<Taken>) {
        if count == 0 {
            return;
        }
        let granted = self.budget.charge(count);
        let before = taken.len();
        self.state.lock().take_cold(granted, taken);
        // An arena maps as many frames as its budget has, so it runs short only while slots are on their way back.
        self.budget.discharge(granted - (taken.len() - before) as u64);
    }

    /// Returns about `frames` idle frames to the system, from the highest extents, and says how many it were.
    fn give_back(&self, frames: u64) -> u64 {
        let mut given = 0;
        loop {
            // One extent at a time: what is in no list is what allocations may have to wait for.
            let _turn = self.giving_back.lock();
            if given >= frames {
                return given;
            }
            let Some(slots) = self.state.lock().take_highest_extent() else { return given };
            let count = self.discard(slots);
            if count == 0 {
                return given;
            }
            given += count;
        }
    }

    /// Returns `slots` to the system; 0 when it refuses and they are idle again.
    fn discard(&self, mut slots: Vec<Slot>) -> u64 {
        let count = slots.len() as u64;
        let gone = map::discard(&mut slots);
        let mut state = self.state.lock();
        if !gone {
            for slot in slots {
                state.put_idle(slot);
            }
            return 0;
        }
        // Lowest on top: extents fill up from below.
        state.cold.extend(slots.into_iter().rev());
        state.used -= count;
        drop(state);
        self.budget.discharge(count);
        count
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Every used frame holds the arena, so idle ones are all that is left.
        let idle = self.state.get_mut().idle_frames;
        self.budget.discharge(idle);
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

/// What an arena holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaStats {
    /// Frames that somebody owns.
    pub frames_used: u64,
    /// Frames in memory that nobody owns, ready for reuse.
    pub frames_idle: u64,
    /// Frames of the budget, which may be shared with other arenas.
    pub frames_max: u64,
}

/// Free slots in three lists, by what they cost to use. A slot in none of them is used, be it for the moment in
/// which the system takes its memory back.
struct State {
    /// Never owned: not in memory, zero.
    fresh: Slots,
    /// Given back to the system: not in memory, zero. The lowest frames of the latest extent on top.
    cold: Vec<Slot>,
    /// In memory, by extent; no list is empty.
    idle: BTreeMap<u32, Vec<Slot>>,
    used: u64,
    idle_frames: u64,
}

struct Taken {
    slot: Slot,
    /// The bytes are known to be zero.
    zero: bool,
}

impl State {
    /// Keeps a used slot for reuse.
    fn put_idle(&mut self, slot: Slot) {
        self.used -= 1;
        self.idle_frames += 1;
        let extent = self.idle.entry(slot.extent());
        let slots = extent.or_insert_with(|| Vec::with_capacity(EXTENT_FRAMES as usize));
        slots.push(slot);
    }

    /// Fills `taken` up to `count` slots.
    fn take_idle(&mut self, count: usize, taken: &mut Vec<Taken>) {
        let before = taken.len();
        while taken.len() < count {
            let Some(mut lowest) = self.idle.first_entry() else { break };
            let slots = lowest.get_mut();
            let kept = slots.len().saturating_sub(count - taken.len());
            taken.extend(slots.drain(kept..).map(|slot| Taken { slot, zero: false }));
            if slots.is_empty() {
                lowest.remove();
            }
        }
        let moved = (taken.len() - before) as u64;
        self.idle_frames -= moved;
        self.used += moved;
    }

    fn take_cold(&mut self, count: u64, taken: &mut Vec<Taken>) {
        for _ in 0..count {
            let Some(slot) = self.cold.pop().or_else(|| self.fresh.next()) else { break };
            self.used += 1;
            taken.push(Taken { slot, zero: true });
        }
    }

    fn take_highest_extent(&mut self) -> Option<Vec<Slot>> {
        let (_, slots) = self.idle.pop_last()?;
        let moved = slots.len() as u64;
        self.idle_frames -= moved;
        self.used += moved;
        Some(slots)
    }
}

/// How many frames may be in memory, over all arenas that share it.
pub(crate) struct Budget {
    frames_max: u32,
    /// Frames in memory: used and idle ones of all arenas.
    resident: Mutex<u64>,
    arenas: Mutex<Vec<Weak<Arena>>>,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let frames_max = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        Self { frames_max, resident: Mutex::new(0), arenas: Mutex::new(Vec::new()) }
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        u64::from(self.frames_max) * PAGE
    }

    /// Bytes in memory, used or idle.
    pub(crate) fn bytes_resident(&self) -> u64 {
        *self.resident.lock() * PAGE
    }

    /// Bytes in frames that somebody owns.
    pub(crate) fn bytes_used(&self) -> u64 {
        self.living().iter().map(|arena| arena.stats().frames_used).sum::<u64>() * PAGE
    }

    /// Gives idle memory of every arena back, as [`Arena::trim`].
    pub(crate) fn trim(&self) {
        for arena in self.living() {
            arena.trim();
        }
    }

    fn enroll(&self, arena: &Arc<Arena>) {
        let mut arenas = self.arenas.lock();
        arenas.retain(|arena| arena.strong_count() > 0);
        arenas.push(Arc::downgrade(arena));
    }

    /// As many of `frames` as the budget still has.
    fn charge(&self, frames: u64) -> u64 {
        let mut resident = self.resident.lock();
        let granted = frames.min(u64::from(self.frames_max) - *resident);
        *resident += granted;
        granted
    }

    fn discharge(&self, frames: u64) {
        *self.resident.lock() -= frames;
    }

    /// Turns idle frames of whichever arena has some into budget. No lock of an arena may be held.
    fn reclaim(&self, frames: u64) {
        let mut left = frames;
        for arena in self.living() {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(arena.give_back(left));
        }
    }

    fn out_of_capacity(&self, frames: u64) -> MemError {
        MemError::OutOfCapacity {
            need: frames * PAGE,
            have: self.bytes_max().saturating_sub(self.bytes_used()),
        }
    }

    fn living(&self) -> Vec<Arc<Arena>> {
        self.arenas.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} of {} frames)", self.resident.lock(), self.frames_max)
    }
}

#[cfg(test)]
mod tests;
