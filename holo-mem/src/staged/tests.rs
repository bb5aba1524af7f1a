use holo_core::PAGE_BYTES;

use super::*;
use crate::Shard;

const PAGE: u64 = PAGE_BYTES as u64;

/// An arena whose frames all hold another array's secret.
fn used_arena(frames: usize) -> Arc<Arena> {
    let arena = Arena::new(frames as u64 * PAGE).unwrap();
    let mut frames = arena.allocate_many(frames).unwrap();
    frames.iter_mut().for_each(|frame| frame.fill(0xee));
    drop(frames);
    arena
}

#[test]
fn staging_takes_all_its_frames_or_none() {
    let arena = Arena::new(4 * PAGE).unwrap();
    let staged = Staged::new(&arena, 10 * PAGE, PAGE - 1, 2).unwrap();
    assert_eq!((staged.pages(), staged.offset(), staged.len()), (2, PAGE - 1, 2));
    let refused = Staged::new(&arena, 10 * PAGE, 0, 2 * PAGE + 1).unwrap_err();
    assert!(
        matches!(refused, MemError::OutOfCapacity { need, have } if (need, have) == (3 * PAGE, 2 * PAGE))
    );
    assert_eq!(arena.stats().frames_used, 2);
    drop(staged);
    assert!(Staged::new(&arena, 10 * PAGE, PAGE, 0).unwrap().is_empty());
}

#[test]
fn publishing_needs_no_memory_in_a_full_arena() {
    let arena = Arena::new(4 * PAGE).unwrap();
    let shard = Shard::new(Arc::clone(&arena), 2 * PAGE);
    shard.write(0, &[1; PAGE_BYTES + 1]).unwrap();
    let mut staged = shard.stage(1, 2 * PAGE - 2).unwrap();
    staged.buffers().for_each(|buffer| buffer.fill(2));
    assert!(arena.allocate().is_err());
    shard.publish(staged).unwrap();
    assert_eq!(arena.stats().frames_used, 2);
    let bytes = shard.read(0, 2 * PAGE_BYTES).unwrap().to_bytes().concat();
    assert_eq!(
        (bytes[0], bytes[1], bytes[2 * PAGE_BYTES - 2], bytes[2 * PAGE_BYTES - 1]),
        (1, 2, 2, 0)
    );
}

#[test]
fn a_corrupt_page_is_named() {
    let arena = Arena::new(16 * PAGE).unwrap();
    let mut staged = Staged::new(&arena, 9 * PAGE, 2 * PAGE + 7, 3 * PAGE).unwrap();
    staged.buffers().for_each(|buffer| buffer.fill(3));
    let digests = staged.digests();
    assert_eq!(digests.len(), 4 * 32);
    staged.verify(&digests).unwrap();
    for (page, buffer) in [(2, 0), (3, 1), (4, 2), (5, 3)] {
        *staged.buffers().nth(buffer).unwrap().last_mut().unwrap() ^= 1;
        let error = staged.verify(&digests).unwrap_err();
        assert!(
            matches!(error, MemError::Corrupt { page: PageIndex(at) } if at == page),
            "{error}"
        );
        *staged.buffers().nth(buffer).unwrap().last_mut().unwrap() ^= 1;
    }
    staged.verify(&digests).unwrap();
}

#[test]
fn hashing_ahead_changes_no_verdict() {
    let arena = used_arena(16);
    let source: Vec<u8> = (0..4 * PAGE + 9).map(|at| (at / 251).to_le_bytes()[0]).collect();
    let filled = |ahead: bool, source: &[u8]| {
        let mut staged = Staged::new(&arena, 9 * PAGE, PAGE - 5, source.len() as u64).unwrap();
        let mut place = PAGE - 5;
        // No piece ends where a page does.
        for piece in source.chunks(PAGE_BYTES + 77) {
            staged.copy_from(place, piece);
            place += piece.len() as u64;
            if ahead {
                staged.hash_written();
            }
        }
        staged
    };
    let expected = filled(false, &source).digests();
    filled(true, &source).verify(&expected).unwrap();
    let mut changed = source.clone();
    changed[3 * PAGE_BYTES] ^= 1;
    let error = filled(true, &changed).verify(&expected).unwrap_err();
    assert!(matches!(error, MemError::Corrupt { page: PageIndex(3) }), "{error}");

    // What was hashed and then changed is hashed again.
    let mut staged = filled(true, &source);
    staged.copy_from(PAGE, &[!source[5]]);
    let error = staged.verify(&expected).unwrap_err();
    assert!(matches!(error, MemError::Corrupt { page: PageIndex(1) }), "{error}");
}

#[test]
fn a_list_of_digests_of_another_length_is_refused() {
    let arena = Arena::new(16 * PAGE).unwrap();
    let mut staged = Staged::new(&arena, 2 * PAGE, 0, 2 * PAGE).unwrap();
    let digests = staged.digests();
    for wrong in [&digests[..32], &digests[..63], &[digests.as_slice(), &[0; 32]].concat(), &[]] {
        let error = staged.verify(wrong).unwrap_err();
        assert!(matches!(error, MemError::DigestCount { pages: 2, got } if got == wrong.len()));
    }
}

#[test]
fn what_a_kernel_left_out_is_zero_and_never_an_older_array() {
    let arena = used_arena(8);
    let shard = Shard::new(Arc::clone(&arena), 4 * PAGE);
    let mut staged = shard.stage(10, 4 * PAGE - 20).unwrap();
    staged.copy_from(20, &[1; 5]);
    staged.copy_from(PAGE - 3, &[2; 6]);
    staged.copy_from(3 * PAGE, &[3; 4]);
    shard.publish(staged).unwrap();
    let mut expected = vec![0; 4 * PAGE_BYTES];
    expected[20..25].fill(1);
    expected[PAGE_BYTES - 3..PAGE_BYTES + 3].fill(2);
    expected[3 * PAGE_BYTES..3 * PAGE_BYTES + 4].fill(3);
    let run = shard.read(0, expected.len()).unwrap();
    assert!(run.to_bytes().concat() == expected);
    let tail = run.iter().last().unwrap().0.unwrap();
    assert!(tail[4..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_staged_range_that_nobody_filled_digests_and_publishes_as_zeros() {
    let arena = used_arena(8);
    let shard = Shard::new(Arc::clone(&arena), 2 * PAGE);
    let mut staged = shard.stage(0, 2 * PAGE).unwrap();
    let zero = blake3::hash(&[0; PAGE_BYTES]);
    assert_eq!(staged.digests(), [*zero.as_bytes(), *zero.as_bytes()].concat());
    shard.publish(shard.stage(0, 2 * PAGE).unwrap()).unwrap();
    assert_eq!(shard.read(0, 2 * PAGE_BYTES).unwrap().digests(), staged.digests());
}

#[test]
fn the_bytes_after_the_end_of_a_shard_are_zero() {
    let arena = used_arena(4);
    let shard = Shard::new(Arc::clone(&arena), 100);
    shard.write(99, &[1]).unwrap();
    let mut staged = shard.stage(0, 100).unwrap();
    staged.buffers().for_each(|buffer| buffer.fill(1));
    shard.publish(staged).unwrap();
    let run = shard.read(0, 100).unwrap();
    let (frame, range) = run.iter().next().unwrap();
    assert_eq!(range, 0..100);
    assert!(frame.unwrap()[100..].iter().all(|byte| *byte == 0));
}

#[test]
#[should_panic(expected = "a tile lies inside the staged range")]
fn a_tile_outside_the_staged_range_is_a_bug_of_the_driver() {
    let arena = Arena::new(4 * PAGE).unwrap();
    let mut staged = Staged::new(&arena, PAGE, 10, 10).unwrap();
    staged.copy_from(15, &[0; 6]);
}
