use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use holo_core::{TileSink, TileSource};
use proptest::prelude::*;

use super::*;

const PAGE: u64 = PAGE_BYTES as u64;

fn shard(frames: u64, bytes: u64) -> (Arc<Arena>, Shard) {
    let arena = Arena::new(frames * PAGE).unwrap();
    (Arc::clone(&arena), Shard::new(arena, bytes))
}

fn staged(shard: &Shard, offset: u64, bytes: &[u8]) -> Staged {
    let mut staged = shard.stage(offset, bytes.len() as u64).unwrap();
    let mut rest = bytes;
    for buffer in staged.buffers() {
        let (head, tail) = rest.split_at(buffer.len());
        buffer.copy_from_slice(head);
        rest = tail;
    }
    staged
}

fn contents(shard: &Shard) -> Vec<u8> {
    let run = shard.read(0, usize::try_from(shard.bytes()).unwrap()).unwrap();
    run.to_bytes().concat()
}

#[test]
fn a_page_that_nobody_wrote_is_zero_and_takes_no_frame() {
    let (_arena, shard) = shard(8, 3 * PAGE + 100);
    assert_eq!(contents(&shard), vec![0; 3 * PAGE_BYTES + 100]);
    shard.write(PAGE + 5, &[1, 2]).unwrap();
    assert_eq!(shard.used_frames(), 1);
    let run = shard.read(PAGE - 1, 2 + PAGE_BYTES).unwrap();
    let held: Vec<bool> = run.iter().map(|(frame, _)| frame.is_some()).collect();
    assert_eq!(held, [false, true, false]);
}

#[test]
fn ranges_outside_the_shard_are_refused_everywhere() {
    let (arena, shard) = shard(8, 100);
    let refused = [
        shard.read(0, 101).map(drop),
        shard.read_into(100, &mut [0]),
        shard.write(u64::MAX, &[0]),
        shard.stage(99, 2).map(drop),
        shard.update(93, 8, |_| ()),
        shard.snapshot().read(101, 0).map(drop),
    ];
    for result in refused {
        assert!(matches!(result, Err(MemError::OutOfRange { bytes: 100, .. })), "{result:?}");
    }
    assert_eq!(arena.stats().frames_used, 0);
}

#[test]
fn a_write_goes_in_place_unless_somebody_holds_the_page() {
    let (arena, shard) = shard(8, PAGE);
    shard.write(0, &[1]).unwrap();
    shard.write(1, &[2]).unwrap();
    assert_eq!(arena.stats().frames_used, 1);
    let before = shard.read(0, 3).unwrap();
    shard.write(2, &[3]).unwrap();
    assert_eq!(arena.stats().frames_used, 2);
    assert_eq!(before.to_bytes().concat(), [1, 2, 0]);
    assert_eq!(contents(&shard)[..3], [1, 2, 3]);
    drop(before);
    assert_eq!(arena.stats().frames_used, 1);
}

#[test]
fn a_write_that_finds_no_frame_changes_nothing() {
    let (_arena, shard) = shard(1, 2 * PAGE);
    let refused = shard.write(PAGE - 1, &[1, 1]).unwrap_err();
    assert!(
        matches!(refused, MemError::OutOfCapacity { need, have } if (need, have) == (2 * PAGE, PAGE))
    );
    assert_eq!(contents(&shard), vec![0; 2 * PAGE_BYTES]);
    shard.write(PAGE, &[1]).unwrap();
    let held = shard.read(PAGE, 1).unwrap();
    assert!(shard.write(PAGE, &[2]).is_err(), "no frame for the copy");
    assert_eq!(held.to_bytes().concat(), [1]);
    drop(held);
    shard.write(PAGE, &[2]).unwrap();
}

#[test]
fn publishing_a_partial_page_keeps_what_is_there_at_that_moment() {
    let (_arena, shard) = shard(16, 3 * PAGE);
    let staged = staged(&shard, PAGE - 10, &[9; PAGE_BYTES + 20]);
    shard.write(0, &[1; 30]).unwrap();
    shard.write(PAGE - 12, &[2; 4]).unwrap();
    shard.write(2 * PAGE + 8, &[3; 4]).unwrap();
    shard.publish(staged).unwrap();

    let mut expected = vec![0; 3 * PAGE_BYTES];
    expected[..30].fill(1);
    expected[PAGE_BYTES - 12..PAGE_BYTES - 10].fill(2);
    expected[2 * PAGE_BYTES + 10..2 * PAGE_BYTES + 12].fill(3);
    expected[PAGE_BYTES - 10..2 * PAGE_BYTES + 10].fill(9);
    assert_eq!(contents(&shard), expected);
}

#[test]
fn staged_bytes_that_are_dropped_leave_no_trace() {
    let (arena, shard) = shard(16, 4 * PAGE);
    shard.write(0, &[5; 10]).unwrap();
    let staged = staged(&shard, 0, &[6; 2 * PAGE_BYTES]);
    assert_eq!(arena.stats().frames_used, 3);
    drop(staged);
    assert_eq!(arena.stats().frames_used, 1);
    assert_eq!(contents(&shard)[..11], [5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 0]);
}

#[test]
fn bytes_staged_for_another_tenant_or_size_are_refused() {
    let (_arena, shard) = shard(16, PAGE);
    let (_foreign, other) = self::shard(16, PAGE);
    let foreign = shard.publish(staged(&other, 0, &[1]));
    assert!(matches!(foreign, Err(MemError::ForeignStaging)));
    let longer = Shard::new(Arc::clone(shard.arena()), 2 * PAGE);
    let longer = shard.publish(staged(&longer, 0, &[1]));
    assert!(matches!(longer, Err(MemError::ForeignStaging)));
    assert_eq!(shard.used_frames(), 0);
}

#[test]
fn a_snapshot_serves_tiles_of_its_moment() {
    let (_arena, shard) = shard(16, 2 * PAGE);
    shard.write(PAGE - 2, &[1, 2, 3, 4]).unwrap();
    let snapshot = shard.snapshot();
    shard.publish(staged(&shard, 0, &[9; 2 * PAGE_BYTES])).unwrap();
    let mut tile = [0; 6];
    snapshot.copy_to(PAGE - 3, &mut tile);
    assert_eq!(tile, [0, 1, 2, 3, 4, 0]);
    assert_eq!(contents(&shard), vec![9; 2 * PAGE_BYTES]);
}

#[test]
fn a_filled_range_shows_one_frame_until_somebody_writes_to_a_page_of_it() {
    let (arena, shard) = shard(16, 8 * PAGE + 16);
    shard.write(0, &[7; 24]).unwrap();
    shard.fill(8, 8 * PAGE + 4, &[1, 2, 3, 4]).unwrap();
    let mut expected = [1, 2, 3, 4].repeat(usize::try_from(shard.bytes()).unwrap() / 4);
    expected[..8].fill(7);
    expected[8 * PAGE_BYTES + 12..].fill(0);
    assert!(contents(&shard) == expected, "both partial pages keep what lies outside");
    assert_eq!(arena.stats().frames_used, 3, "the first page, the last, and one for seven between");
    let held = shard.snapshot();
    shard.write(3 * PAGE + 1, &[9]).unwrap();
    expected[3 * PAGE_BYTES + 1] = 9;
    assert!(contents(&shard) == expected, "a write changes its own page alone");
    let mut before = [0; 4];
    held.read_into(3 * PAGE, &mut before).unwrap();
    assert_eq!(before, [1, 2, 3, 4]);
    shard.fill(0, 0, &[5]).unwrap();
    assert!(matches!(shard.fill(8 * PAGE, 24, &[5]), Err(MemError::OutOfRange { .. })));
    assert!(contents(&shard) == expected);
}

#[test]
fn digests_follow_every_write() {
    let (_arena, shard) = shard(16, 2 * PAGE + 10);
    let whole = usize::try_from(shard.bytes()).unwrap();
    let by_hand = |bytes: &[u8]| -> Vec<u8> {
        bytes.chunks(PAGE_BYTES).flat_map(|page| *blake3::hash(page).as_bytes()).collect()
    };
    let check = || assert_eq!(shard.read(0, whole).unwrap().digests(), by_hand(&contents(&shard)));
    check();
    shard.publish(staged(&shard, 0, &vec![4; whole])).unwrap();
    check();
    shard.write(PAGE + 1, &[1]).unwrap();
    check();
    let held = shard.snapshot();
    shard.write(PAGE + 1, &[2]).unwrap();
    shard.write(3, &[2]).unwrap();
    check();
    drop(held);
    let part = shard.read(PAGE - 2, 4).unwrap();
    assert_eq!(
        part.digests(),
        [[4, 4], [4, 2]].map(|part| *blake3::hash(&part).as_bytes()).concat()
    );
}

#[test]
fn updates_of_one_element_do_not_lose_each_other() {
    const UPDATES: u64 = 200;
    let (_arena, shard) = shard(16, PAGE + 8);
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..UPDATES {
                    let old = shard.update(PAGE - 4, 8, |bytes| {
                        let old = u64::from_le_bytes(bytes.try_into().unwrap());
                        // Invites the others in, who have to wait.
                        thread::yield_now();
                        bytes.copy_from_slice(&(old + 1).to_le_bytes());
                        old
                    });
                    assert!(old.unwrap() < 4 * UPDATES);
                }
            });
        }
    });
    let mut sum = [0; 8];
    shard.read_into(PAGE - 4, &mut sum).unwrap();
    assert_eq!(u64::from_le_bytes(sum), 4 * UPDATES);
}

/// Counts a reader out, also one that fails, so that no writer waits for it.
struct Reading<'a>(&'a AtomicUsize);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// As below, with writes so small that the lock is nearly all they do.
#[test]
fn no_reader_sees_half_a_small_write_across_a_page_border() {
    const OFFSET: u64 = PAGE - 4;
    let (_arena, shard) = shard(64, 2 * PAGE);
    let reading = AtomicUsize::new(2);
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for writer in 0..2_u8 {
            let (shard, reading, start) = (&shard, &reading, &start);
            scope.spawn(move || {
                start.wait();
                let mut stamp = writer;
                while reading.load(Ordering::Acquire) > 0 {
                    stamp = stamp.wrapping_add(2);
                    shard.write(OFFSET, &[stamp; 8]).unwrap();
                }
            });
        }
        scope.spawn(|| {
            let _reading = Reading(&reading);
            start.wait();
            for _ in 0..20_000 {
                let mut bytes = [0; 8];
                shard.read_into(OFFSET, &mut bytes).unwrap();
                assert_eq!(bytes, [bytes[0]; 8]);
            }
        });
        scope.spawn(|| {
            let _reading = Reading(&reading);
            start.wait();
            for _ in 0..20_000 {
                let bytes = shard.read(OFFSET, 8).unwrap().to_bytes().concat();
                assert_eq!(bytes, [bytes[0]; 8]);
            }
        });
    });
}

/// Every write and publish stamps the same range of several pages, with partial pages at both ends, with one value;
/// whoever ever sees two values in it has seen half a write. Runs of handles are looked at late, after more writes.
#[test]
fn no_reader_sees_half_a_write_under_contention() {
    const OFFSET: u64 = 40_000;
    const LEN: usize = 3 * PAGE_BYTES;
    const READS: usize = 400;
    let (arena, shard) = shard(256, 5 * PAGE);
    let reading = AtomicUsize::new(3);
    let uniform = |parts: &[&[u8]]| {
        let first = parts[0][0];
        // Comparing with itself shifted by one is a memcmp.
        parts.iter().all(|part| part[0] == first && part[1..] == part[..part.len() - 1])
    };
    thread::scope(|scope| {
        for writer in 0..3_u8 {
            let (shard, reading) = (&shard, &reading);
            scope.spawn(move || {
                let mut round = 0_u8;
                while reading.load(Ordering::Acquire) > 0 {
                    round = round.wrapping_add(1);
                    let stamp = vec![round ^ (writer << 6); LEN];
                    match writer {
                        0 => shard.write(OFFSET, &stamp).unwrap(),
                        _ => shard.publish(staged(shard, OFFSET, &stamp)).unwrap(),
                    }
                }
            });
        }
        scope.spawn(|| {
            let _reading = Reading(&reading);
            let mut bytes = vec![0; LEN];
            for _ in 0..READS {
                shard.read_into(OFFSET, &mut bytes).unwrap();
                assert!(uniform(&[&bytes]));
            }
        });
        scope.spawn(|| {
            let _reading = Reading(&reading);
            let mut earlier = shard.read(OFFSET, LEN).unwrap();
            for _ in 0..READS {
                let run = shard.read(OFFSET, LEN).unwrap();
                let slices: Vec<&[u8]> = earlier.slices().collect();
                assert!(uniform(&slices));
                earlier = run;
            }
        });
        scope.spawn(|| {
            let _reading = Reading(&reading);
            let mut bytes = vec![0; LEN];
            for _ in 0..READS {
                let snapshot = shard.snapshot();
                thread::yield_now();
                snapshot.copy_to(OFFSET, &mut bytes);
                assert!(uniform(&[&bytes]));
            }
        });
    });
    let all = contents(&shard);
    let around = [&all[..40_000], &all[40_000 + LEN..]].concat();
    assert!(around.iter().all(|byte| *byte == 0), "bytes beside the writes were touched");
    drop(shard);
    assert_eq!(arena.stats().frames_used, 0);
}

#[derive(Clone, Debug)]
enum Op {
    Write {
        offset: usize,
        len: usize,
        seed: u8,
    },
    Publish {
        offset: usize,
        len: usize,
        seed: u8,
    },
    /// Tiles with gaps, which must read as zero.
    PublishTiles {
        offset: usize,
        len: usize,
        tile: usize,
        seed: u8,
    },
    DropStaged {
        offset: usize,
        len: usize,
    },
    Update {
        offset: usize,
        len: usize,
    },
    Snapshot,
    DropSnapshot,
    Read {
        offset: usize,
        len: usize,
    },
}

const MODEL_BYTES: usize = 3 * PAGE_BYTES + 1234;

fn range() -> impl Strategy<Value = (usize, usize)> {
    let near_a_border = (0..4_usize, 0..40_usize)
        .prop_map(|(page, delta)| (page * PAGE_BYTES + delta).saturating_sub(20).min(MODEL_BYTES));
    let point = || prop_oneof![near_a_border.clone(), 0..=MODEL_BYTES, Just(MODEL_BYTES)];
    (point(), point()).prop_map(|(a, b)| (a.min(b), a.max(b) - a.min(b)))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (range(), any::<u8>())
            .prop_map(|((offset, len), seed)| Op::Write { offset, len: len.min(5000), seed }),
        1 => (range(), any::<u8>()).prop_map(|((offset, len), seed)| Op::Write { offset, len, seed }),
        3 => (range(), any::<u8>()).prop_map(|((offset, len), seed)| Op::Publish { offset, len, seed }),
        2 => (range(), 1..90_000_usize, any::<u8>())
            .prop_map(|((offset, len), tile, seed)| Op::PublishTiles { offset, len, tile, seed }),
        1 => range().prop_map(|(offset, len)| Op::DropStaged { offset, len }),
        2 => range().prop_map(|(offset, len)| Op::Update { offset, len: len.min(256) }),
        2 => Just(Op::Snapshot),
        1 => Just(Op::DropSnapshot),
        2 => range().prop_map(|(offset, len)| Op::Read { offset, len }),
    ]
}

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..251).map(|byte: u8| byte ^ seed).cycle().take(len).collect()
}

fn apply(shard: &Shard, model: &mut [u8], snapshots: &mut Vec<(ShardSnapshot, Vec<u8>)>, op: Op) {
    match op {
        Op::Write { offset, len, seed } => {
            let bytes = pattern(len, seed);
            shard.write(offset as u64, &bytes).unwrap();
            model[offset..offset + len].copy_from_slice(&bytes);
        }
        Op::Publish { offset, len, seed } => {
            let bytes = pattern(len, seed);
            let mut staged = staged(shard, offset as u64, &bytes);
            let digests = staged.digests();
            staged.verify(&digests).unwrap();
            shard.publish(staged).unwrap();
            model[offset..offset + len].copy_from_slice(&bytes);
        }
        Op::PublishTiles { offset, len, tile, seed } => {
            let mut bytes = pattern(len, seed);
            let mut staged = shard.stage(offset as u64, len as u64).unwrap();
            for (index, chunk) in bytes.chunks_mut(tile).enumerate() {
                if (index + usize::from(seed)) % 3 == 0 {
                    chunk.fill(0);
                } else {
                    staged.copy_from((offset + index * tile) as u64, chunk);
                }
            }
            shard.publish(staged).unwrap();
            model[offset..offset + len].copy_from_slice(&bytes);
        }
        Op::DropStaged { offset, len } => drop(staged(shard, offset as u64, &pattern(len, 99))),
        Op::Update { offset, len } => {
            let change =
                |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
            shard.update(offset as u64, len, change).unwrap();
            change(&mut model[offset..offset + len]);
        }
        Op::Snapshot => snapshots.push((shard.snapshot(), model.to_vec())),
        Op::DropSnapshot => drop(snapshots.pop()),
        Op::Read { offset, len } => {
            let expected = &model[offset..offset + len];
            let run = shard.read(offset as u64, len).unwrap();
            assert!(run.to_bytes().concat() == expected, "read of {len} at {offset}");
            let (mut copied, mut direct) = (vec![1; len], vec![2; len]);
            run.copy_to(&mut copied);
            shard.read_into(offset as u64, &mut direct).unwrap();
            assert!(copied == expected && direct == expected, "copies of {len} at {offset}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 48 }))]

    #[test]
    fn a_shard_behaves_like_a_plain_vector(ops in proptest::collection::vec(op(), 1..40)) {
        let (arena, shard) = shard(256, MODEL_BYTES as u64);
        let mut model = vec![0; MODEL_BYTES];
        let mut snapshots = Vec::new();
        for op in ops {
            apply(&shard, &mut model, &mut snapshots, op);
            prop_assert!(contents(&shard) == model);
        }
        for (snapshot, expected) in &snapshots {
            let run = snapshot.read(0, MODEL_BYTES).unwrap();
            prop_assert!(run.to_bytes().concat() == *expected);
            let by_hand = expected.chunks(PAGE_BYTES).flat_map(|page| *blake3::hash(page).as_bytes());
            prop_assert!(by_hand.eq(run.digests()));
        }
        snapshots.clear();
        prop_assert_eq!(arena.stats().frames_used, shard.used_frames());
        drop(shard);
        prop_assert_eq!(arena.stats().frames_used, 0);
    }
}
