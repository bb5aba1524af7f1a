use std::{
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::*;
use crate::Frame;

fn arena(frames: u64) -> Arc<Arena> {
    Arena::new(frames * PAGE).unwrap()
}

fn capacity(error: &MemError) -> (u64, u64) {
    match error {
        MemError::OutOfCapacity { need, have } => (need / PAGE, have / PAGE),
        other => panic!("expected out of capacity, got {other}"),
    }
}

#[test]
fn a_frame_returns_when_its_last_handle_drops() {
    let arena = arena(8);
    let frame = arena.allocate().unwrap().freeze();
    let (other, bytes) = (frame.clone(), frame.slice(10..20));
    drop(frame);
    drop(other);
    assert_eq!(arena.stats().frames_used, 1);
    drop(bytes);
    assert_eq!(arena.stats(), ArenaStats { frames_used: 0, frames_idle: 1, frames_max: 8 });
}

#[test]
fn bytes_outlive_every_handle_of_their_arena() {
    let arena = arena(2);
    let mut frame = arena.allocate().unwrap();
    frame.fill(7);
    let bytes = frame.freeze().slice(100..200);
    drop(arena);
    assert_eq!(&bytes[..], [7; 100]);
}

#[test]
fn a_full_arena_says_what_it_needs_and_has_and_recovers() {
    let arena = arena(40);
    let mut frames = arena.allocate_many(38).unwrap();
    assert_eq!(capacity(&arena.allocate_many(3).unwrap_err()), (3, 2));
    assert_eq!(arena.stats().frames_used, 38, "a refused request takes nothing");
    frames.extend(arena.allocate_many(2).unwrap());
    assert_eq!(capacity(&arena.allocate().unwrap_err()), (1, 0));
    frames.truncate(39);
    arena.allocate().unwrap().fill(1);
    assert_eq!(capacity(&arena.allocate_many(41).unwrap_err()), (41, 1));
}

#[test]
fn a_budget_below_one_frame_has_no_frame() {
    let arena = Arena::new(PAGE - 1).unwrap();
    assert_eq!(capacity(&arena.allocate().unwrap_err()), (1, 0));
}

#[test]
fn a_zeroed_frame_is_zero_even_when_it_was_used_before() {
    let arena = arena(1);
    arena.allocate().unwrap().fill(0xee);
    assert!(arena.allocate().unwrap().iter().all(|byte| *byte == 0xee), "recycled as it was");
    assert!(arena.allocate_zeroed().unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn trimming_gives_all_idle_memory_beyond_a_quarter_of_the_budget_back_to_the_system() {
    let extent = u64::from(EXTENT_FRAMES);
    let arena = arena(8 * extent);
    let mut frames = arena.allocate_many(8 * EXTENT_FRAMES as usize).unwrap();
    frames.iter_mut().for_each(|frame| frame.fill(0xee));
    drop(frames);
    arena.trim();
    let stats = arena.stats();
    assert_eq!((stats.frames_used, stats.frames_idle), (0, 2 * extent));
    assert_eq!(arena.budget.bytes_resident(), 2 * extent * PAGE);

    // Only memory that the system took back reads as zero without having been cleared.
    let frames = arena.allocate_many(8 * EXTENT_FRAMES as usize).unwrap();
    let zero = frames.iter().filter(|frame| frame.iter().all(|byte| *byte == 0)).count();
    assert_eq!(zero as u64, 6 * extent);
}

#[test]
fn trimming_halves_idle_memory_down_to_its_floor() {
    let arena = arena(256);
    drop(arena.allocate_many(64).unwrap());
    assert_eq!(arena.stats().frames_idle, 64);
    arena.trim();
    assert_eq!(arena.stats().frames_idle, 32);
    arena.trim();
    assert_eq!(arena.stats().frames_idle, 32, "an eighth of the budget stays warm");
    assert_eq!(arena.budget.bytes_resident(), 32 * PAGE);
}

#[test]
fn prefaulted_frames_are_idle_and_within_the_budget() {
    let arena = arena(50);
    let kept = arena.allocate_many(3).unwrap();
    assert_eq!(arena.prefault(10 * PAGE + 1), 11 * PAGE);
    assert_eq!(arena.stats(), ArenaStats { frames_used: 3, frames_idle: 11, frames_max: 50 });
    assert_eq!(arena.prefault(u64::MAX), 36 * PAGE);
    assert_eq!(arena.allocate_many(47).unwrap().len(), 47);
    drop(kept);
}

#[test]
fn an_arena_takes_idle_memory_of_its_neighbour_and_not_a_frame_more() {
    let budget = Arc::new(Budget::new(64 * PAGE));
    let (left, right) = (Arena::within(&budget).unwrap(), Arena::within(&budget).unwrap());
    let mut kept = left.allocate_many(40).unwrap();
    assert_eq!(capacity(&right.allocate_many(25).unwrap_err()), (25, 24));
    kept.truncate(30);
    let taken = right.allocate_many(34).unwrap();
    assert_eq!(capacity(&left.allocate().unwrap_err()), (1, 0));
    assert_eq!(budget.bytes_resident(), 64 * PAGE);
    drop((taken, right));
    assert_eq!(budget.bytes_resident(), 30 * PAGE, "a dropped arena leaves its part of the budget");
    left.allocate_many(34).unwrap();
}

#[test]
fn the_digest_is_of_the_bytes_as_they_are_now() {
    let arena = arena(1);
    let mut frame = arena.allocate_zeroed().unwrap();
    let zero = frame.digest();
    assert_eq!(zero, *blake3::hash(&[0; PAGE_BYTES]).as_bytes());
    frame[5] = 1;
    assert_ne!(frame.digest(), zero);
    frame[5] = 0;
    let mut frame: Frame = frame.freeze();
    assert_eq!(frame.digest(), zero);
    frame.exclusive().unwrap()[6] = 1;
    assert_ne!(frame.digest(), zero);
    let other = frame.clone();
    assert!(frame.exclusive().is_none(), "a shared frame cannot be written to");
    drop(other);
}

/// Memory on its way back to the system is in no list for a moment. A request that needs it waits for it.
#[test]
fn an_allocation_waits_for_memory_that_is_on_its_way_back() {
    let arena = arena(64);
    drop(arena.allocate_many(64).unwrap());
    let turn = arena.giving_back.lock();
    let slots = arena.state.lock().take_highest_extent().unwrap();
    thread::scope(|scope| {
        let all = scope.spawn(|| arena.allocate_many(64).map(|frames| frames.len()));
        while arena.stats().frames_idle > 0 && !all.is_finished() {
            thread::yield_now();
        }
        // The request has what was idle; let it look for the rest in vain.
        for _ in 0..1000 {
            thread::yield_now();
        }
        assert_eq!(arena.discard(slots), u64::from(EXTENT_FRAMES));
        drop(turn);
        assert_eq!(all.join().unwrap().unwrap(), 64);
    });
    assert_eq!(arena.stats().frames_used, 0);
    assert_eq!(arena.budget.bytes_resident(), 64 * PAGE);
}

#[test]
fn trimming_never_makes_an_allocation_fail() {
    let arena = arena(64);
    let busy = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            while busy.load(Ordering::Acquire) {
                arena.trim();
            }
        });
        for _ in 0..50 {
            let mut all = arena.allocate_many(64);
            // Tells the other thread to end before a failure would leave it running.
            busy.store(all.is_ok(), Ordering::Release);
            // Only memory that was touched takes its time to go back.
            all.as_mut().unwrap().iter_mut().for_each(|frame| frame.fill(1));
        }
        busy.store(false, Ordering::Release);
    });
    assert_eq!(arena.stats().frames_used, 0);
    assert_eq!(arena.budget.bytes_resident(), arena.stats().frames_idle * PAGE);
}

/// Every thread stamps the frames it owns and finds its stamp again: no frame ever has two owners, whichever way
/// frames move between the lists.
#[test]
fn no_frame_has_two_owners_under_contention() {
    const THREADS: u8 = 4;
    let budget = Arc::new(Budget::new(160 * PAGE));
    let arenas = [Arena::within(&budget).unwrap(), Arena::within(&budget).unwrap()];
    let start = Barrier::new(usize::from(THREADS));
    thread::scope(|scope| {
        for id in 0..THREADS {
            let (arena, start) = (&arenas[usize::from(id % 2)], &start);
            scope.spawn(move || {
                start.wait();
                for round in 0..200_usize {
                    // At most 4 x 40 frames: what one arena has idle the other must be able to get, but frames on
                    // their way back may make a request fail.
                    let Ok(mut frames) = arena.allocate_many(1 + (round * 7) % 40) else {
                        continue;
                    };
                    for frame in &mut frames {
                        frame[0] = id;
                        frame[PAGE_BYTES - 1] = id;
                    }
                    if round % 16 == 0 {
                        arena.trim();
                    }
                    thread::yield_now();
                    assert!(
                        frames.iter().all(|frame| (frame[0], frame[PAGE_BYTES - 1]) == (id, id))
                    );
                }
            });
        }
    });
    for arena in &arenas {
        assert_eq!(arena.stats().frames_used, 0);
    }
    let idle: u64 = arenas.iter().map(|arena| arena.stats().frames_idle).sum();
    assert_eq!(budget.bytes_resident(), idle * PAGE);
    assert_eq!(arenas[0].allocate_many(160).unwrap().len(), 160, "nothing was lost");
}
