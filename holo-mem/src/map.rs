//! The mapping behind an arena, and the slots that own its frames. All unsafe code of the crate is here.
//!
//! # Why this is sound
//!
//! - The memory is private and no file's, so no other process and no other mapping can change or shrink the bytes under
//!   a reference.
//! - [`Slots`] mints one [`Slot`] per index, once, and a slot is neither `Clone` nor `Copy`. Whoever owns the slot
//!   owns the bytes: `&Slot` lends `&[u8]`, `&mut Slot` lends `&mut [u8]`, and the borrow checker does the rest. A
//!   bug in the free list can lose a frame, it cannot hand one out twice.
//! - A slot keeps the mapping alive; the bytes are initialised (zero) from the start.
#![allow(unsafe_code, reason = "maps memory and forms slices from its addresses")]

use std::{fmt, io, ptr::NonNull, sync::Arc};

use holo_core::PAGE_BYTES;

/// Frames of an extent, which has the size of a huge page.
pub(crate) const EXTENT_FRAMES: u32 = 32;

/// A mapping of whole frames, given back on drop. It hands out no bytes itself: slots do.
struct Mapping {
    /// Start of frame 0, aligned to an extent.
    base: NonNull<u8>,
    reservation: os::Reservation,
}

// SAFETY: the mapping is plain memory that belongs to no thread; all access goes through slots, whose borrows
// keep exclusive and shared use apart.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` alone gives access to no byte.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: every slot holds the mapping by `Arc`, so none is left and no reference into it is alive.
        unsafe { os::unmap(&self.reservation) }
    }
}

/// The frames of a mapping that nobody has owned yet, in order.
pub(crate) struct Slots {
    mapping: Arc<Mapping>,
    next: u32,
    end: u32,
}

impl Slots {
    /// Maps `frames` frames; they take no memory until they are written.
    pub(crate) fn map(frames: u32) -> io::Result<Self> {
        let bytes = (frames.max(1) as usize) * PAGE_BYTES;
        let (base, reservation) = os::map(bytes)?;
        Ok(Self { mapping: Arc::new(Mapping { base, reservation }), next: 0, end: frames })
    }
}

impl Iterator for Slots {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        if self.next == self.end {
            return None;
        }
        let index = self.next;
        self.next += 1;
        Some(Slot { mapping: Arc::clone(&self.mapping), index })
    }
}

/// The only owner of one frame's bytes.
pub(crate) struct Slot {
    mapping: Arc<Mapping>,
    index: u32,
}

impl Slot {
    /// The extent that the frame lies in.
    pub(crate) fn extent(&self) -> u32 {
        self.index / EXTENT_FRAMES
    }

    /// The frame's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the frame is mapped and initialised for as long as `mapping` lives, which `self` holds; this slot
        // is the only one of its index and it is borrowed shared, so nobody writes while the slice is alive.
        unsafe { std::slice::from_raw_parts(self.start().as_ptr(), PAGE_BYTES) }
    }

    /// The frame's bytes, to change.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; this slot is the only one of its index and it is borrowed exclusively, so no other
        // reference to the bytes is alive.
        unsafe { std::slice::from_raw_parts_mut(self.start().as_ptr(), PAGE_BYTES) }
    }

    fn start(&self) -> NonNull<u8> {
        // SAFETY: `index` is below the number of frames that were mapped from `base`.
        unsafe { self.mapping.base.add(self.index as usize * PAGE_BYTES) }
    }

    fn precedes(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.mapping, &other.mapping) && self.index.checked_add(1) == Some(other.index)
    }
}

/// Gives the memory of `slots` back to the system; afterwards their bytes are zero. True when the system did so.
pub(crate) fn discard(slots: &mut [Slot]) -> bool {
    slots.sort_unstable_by_key(|slot| slot.index);
    slots.chunk_by_mut(|left, right| left.precedes(right)).all(|run| {
        // SAFETY: the run covers whole, adjacent frames of one mapping, all of them borrowed exclusively, so that no
        // reference sees its bytes turn to zero.
        unsafe { os::discard(run[0].start(), run.len() * PAGE_BYTES) }
    })
}

/// Lets the system find memory for `slots` now rather than at the first write; their bytes stay what they are.
pub(crate) fn populate(slots: &mut [Slot]) {
    slots.sort_unstable_by_key(|slot| slot.index);
    for run in slots.chunk_by_mut(|left, right| left.precedes(right)) {
        // SAFETY: the run covers whole, adjacent frames of one mapping, all of them borrowed exclusively.
        unsafe { os::populate(run[0].start(), run.len() * PAGE_BYTES) }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.index)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({}..{})", self.next, self.end)
    }
}

#[cfg(not(miri))]
mod os {
    use std::{io, ptr::NonNull};

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

    use super::{EXTENT_FRAMES, PAGE_BYTES};

    const EXTENT_BYTES: usize = EXTENT_FRAMES as usize * PAGE_BYTES;

    /// The address space that holds the mapping and the gaps that align it.
    pub(super) struct Reservation {
        start: NonNull<u8>,
        bytes: usize,
    }

    /// Maps `bytes` bytes of new memory at an address aligned to an extent.
    pub(super) fn map(bytes: usize) -> io::Result<(NonNull<u8>, Reservation)> {
        let reserved = bytes.checked_add(EXTENT_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a null hint lets the kernel choose unused addresses; nothing else is affected.
        let start = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                reserved,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let gap = start.as_ptr().align_offset(EXTENT_BYTES);
        // SAFETY: `gap` is less than an extent, and the reservation is an extent longer than `bytes`.
        let base = unsafe { start.add(gap) };
        // Huge pages are left to the system's policy. A virtual machine whose host takes unused memory back has them only
        // of what the host took, and waits for each.
        for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
            // SAFETY: changes no byte of the mapping.
            // Both are wishes: no copy of tenants' bytes in core dumps and child processes.
            let _wish = unsafe { madvise(base.as_ptr().cast(), bytes, advice) };
        }
        Ok((base, Reservation { start, bytes: reserved }))
    }

    /// # Safety
    ///
    /// No reference into the mapping is alive or made later.
    pub(super) unsafe fn unmap(reservation: &Reservation) {
        // SAFETY: the caller's promise; the range is the one that `map` reserved.
        let unmapped = unsafe { munmap(reservation.start.as_ptr().cast(), reservation.bytes) };
        debug_assert!(unmapped.is_ok(), "munmap of our own reservation: {unmapped:?}");
    }

    /// # Safety
    ///
    /// The range lies in a mapping of [`map`] and no reference into it is alive.
    pub(super) unsafe fn discard(start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the caller's promise; private memory that is not needed reads as zero from then on.
        unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxDontNeed) }.is_ok()
    }

    /// # Safety
    ///
    /// The range lies in a mapping of [`map`].
    pub(super) unsafe fn populate(start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise; populating changes no byte. Failure means that the first write pays.
        let _wish = unsafe { madvise(start.as_ptr().cast(), bytes, Advice::LinuxPopulateWrite) };
    }
}

/// Miri cannot advise the system; a plain allocation lets it check everything above this module.
#[cfg(miri)]
mod os {
    use std::{
        alloc::{Layout, alloc_zeroed, dealloc},
        io,
        ptr::NonNull,
    };

    pub(super) struct Reservation {
        start: NonNull<u8>,
        layout: Layout,
    }

    pub(super) fn map(bytes: usize) -> io::Result<(NonNull<u8>, Reservation)> {
        let layout = Layout::from_size_align(bytes, 4096).map_err(io::Error::other)?;
        // SAFETY: the layout has at least one frame, so it is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok((start, Reservation { start, layout }))
    }

    pub(super) unsafe fn unmap(reservation: &Reservation) {
        // SAFETY: allocated by `map` with this layout; the caller promises that nothing refers to it.
        unsafe { dealloc(reservation.start.as_ptr(), reservation.layout) }
    }

    pub(super) unsafe fn discard(start: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the caller promises a range of a mapping without references.
        unsafe { start.write_bytes(0, bytes) };
        true
    }

    pub(super) unsafe fn populate(_start: NonNull<u8>, _bytes: usize) {}
}
