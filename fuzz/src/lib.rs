//! What the targets have in common: a look at how much memory a reader takes.
//!
//! A length that comes from outside and is believed shows as memory long before anything fails.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What reading may take whatever the input is: tables, buffers, one record of a file.
const AT_ALL: usize = 8 << 20;
/// What it may take for each byte of input: the shortest part of a message has two bytes and becomes a struct of some
/// hundred, in a list that has room to grow, twice over because what was read is written and read again.
const PER_BYTE: usize = 1024;

/// The system's allocator, with a count of what is taken.
struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is the system's allocator's; what is counted beside it changes nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let taken = TAKEN.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(taken, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Hands bytes to a reader, and checks that it took no more memory than so many bytes can be worth.
pub fn bounded(bytes: &[u8], read: impl FnOnce(&[u8])) {
    let before = TAKEN.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    read(bytes);
    let most = MOST.load(Ordering::Relaxed).saturating_sub(before);
    let bound = AT_ALL + PER_BYTE * bytes.len();
    assert!(most <= bound, "{most} bytes of memory for {} bytes of input", bytes.len());
}
