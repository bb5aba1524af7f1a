use holo_core::{DType, ErrorCode, Failure, PageIndex, Shape};

use super::*;

const TENANT: TenantId = TenantId(1);

/// An array of `shards` shards of `pages` pages each.
fn layout(shards: u64, pages: u64) -> ArrayLayout {
    let elems = pages * PAGE / 8;
    ArrayLayout::new(Shape::new(&[elems * shards]).unwrap(), DType::F64, elems).unwrap()
}

fn install(store: &Store, array: u64, layout: &ArrayLayout) -> Result<(), MemError> {
    store.install(TENANT, ArrayId(array), layout, (0..layout.shards()).map(ShardIndex))
}

fn fill(store: &Store, array: u64, value: u8) -> Result<(), MemError> {
    for (_, shard) in store.array_shards(ArrayId(array)) {
        let mut staged = shard.stage(0, shard.bytes())?;
        staged.buffers().for_each(|buffer| buffer.fill(value));
        shard.publish(staged)?;
    }
    Ok(())
}

fn capacity(result: Result<(), MemError>) -> (u64, u64) {
    match result {
        Err(MemError::OutOfCapacity { need, have }) => (need / PAGE, have / PAGE),
        other => panic!("expected out of capacity, got {other:?}"),
    }
}

#[test]
fn an_installed_array_is_there_as_zeros_and_holds_only_its_reservation() {
    let store = Store::new(128 * PAGE);
    install(&store, 1, &layout(3, 4)).unwrap();
    let usage = store.usage();
    assert_eq!((usage.reserved_bytes, usage.frame_bytes, usage.shards), (12 * PAGE, 0, 3));
    assert_eq!(usage.reserved_bytes_max, 112 * PAGE);
    let shard = store.shard(ArrayId(1), ShardIndex(2)).unwrap();
    assert_eq!(shard.bytes(), 4 * PAGE);
    assert!(store.shard(ArrayId(1), ShardIndex(3)).is_none());
    assert!(store.shard(ArrayId(2), ShardIndex(0)).is_none());
}

#[test]
fn installing_again_changes_nothing_and_adds_only_missing_shards() {
    let store = Store::new(128 * PAGE);
    let layout = layout(4, 2);
    let some = || [ShardIndex(1), ShardIndex(3), ShardIndex(1)].into_iter();
    store.install(TENANT, ArrayId(1), &layout, some()).unwrap();
    let shard = store.shard(ArrayId(1), ShardIndex(1)).unwrap();
    shard.write(0, &[7]).unwrap();
    store.install(TENANT, ArrayId(1), &layout, some()).unwrap();
    assert_eq!(store.usage().reserved_bytes, 4 * PAGE);
    install(&store, 1, &layout).unwrap();
    assert_eq!(store.usage().reserved_bytes, 8 * PAGE);
    let here = store.array_shards(ArrayId(1));
    assert_eq!(here.iter().map(|(index, _)| index.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(Arc::ptr_eq(&here[1].1, &shard), "a shard that was here stays");
}

#[test]
fn an_id_in_use_for_something_else_is_refused() {
    let store = Store::new(128 * PAGE);
    let first = layout(2, 2);
    install(&store, 1, &first).unwrap();
    let shards = || (0..2).map(ShardIndex);
    let other_layout = store.install(TENANT, ArrayId(1), &layout(2, 3), shards());
    let other_tenant = store.install(TenantId(2), ArrayId(1), &first, shards());
    for refused in [other_layout, other_tenant] {
        assert!(matches!(refused, Err(MemError::LayoutConflict { array: ArrayId(1) })));
    }
    let past =
        store.install(TENANT, ArrayId(2), &first, [ShardIndex(0), ShardIndex(2)].into_iter());
    assert!(matches!(past, Err(MemError::OutOfRange { .. })));
    assert_eq!(store.usage().reserved_bytes, 4 * PAGE);
}

#[test]
fn reservations_stop_before_the_staging_reserve_and_say_by_how_much() {
    let store = Store::new(64 * PAGE);
    install(&store, 1, &layout(10, 4)).unwrap();
    // An eighth of 64 pages stays free for staging, and so does any one shard.
    assert_eq!(capacity(install(&store, 2, &layout(5, 4))), (20, 16));
    assert_eq!(capacity(install(&store, 2, &layout(1, 13))), (13, 11));
    assert!(store.array_shards(ArrayId(2)).is_empty(), "nothing was done");
    install(&store, 2, &layout(4, 4)).unwrap();
    assert_eq!(capacity(install(&store, 3, &layout(1, 1))), (1, 0));
    install(&store, 2, &layout(4, 4)).unwrap();
    assert!(store.remove(ArrayId(1)));
    assert!(!store.remove(ArrayId(1)));
    install(&store, 3, &layout(1, 24)).unwrap();
    assert_eq!(store.usage().reserved_bytes_max, 40 * PAGE);
    assert_eq!(capacity(install(&store, 4, &layout(1, 1))), (1, 0));
}

#[test]
fn a_hopeless_array_is_refused_with_its_size_before_it_costs_memory() {
    let store = Store::new(64 * PAGE);
    let huge = layout(1 << 20, 64);
    assert_eq!(capacity(install(&store, 1, &huge)), (64 << 20, 0));
    assert_eq!(store.usage().shards, 0);
}

#[test]
fn a_store_that_is_full_of_reservations_can_be_written_and_rewritten_completely() {
    let store = Store::new(64 * PAGE);
    install(&store, 1, &layout(7, 8)).unwrap();
    assert_eq!(store.usage().reserved_bytes, store.usage().reserved_bytes_max);
    for value in 1..4 {
        fill(&store, 1, value).unwrap();
        assert_eq!(store.usage().frame_bytes, 56 * PAGE);
    }
}

#[test]
fn a_full_store_works_again_after_something_is_removed() {
    let store = Store::new(64 * PAGE);
    install(&store, 1, &layout(4, 8)).unwrap();
    install(&store, 2, &layout(3, 8)).unwrap();
    fill(&store, 1, 1).unwrap();
    fill(&store, 2, 2).unwrap();
    // Readers pin the old frames, so that rewriting finds no more.
    let pinned: Vec<_> = store.array_shards(ArrayId(2)).iter().map(|(_, s)| s.snapshot()).collect();
    assert_eq!(capacity(fill(&store, 2, 3)), (8, 0));
    store.remove(ArrayId(1));
    fill(&store, 2, 4).unwrap();
    drop(pinned);
    install(&store, 3, &layout(4, 8)).unwrap();
    fill(&store, 3, 5).unwrap();
    assert_eq!(store.usage().frame_bytes, 56 * PAGE);
}

#[test]
fn a_removed_array_gives_everything_back_when_its_last_reader_is_done() {
    let store = Store::new(64 * PAGE);
    install(&store, 1, &layout(2, 8)).unwrap();
    fill(&store, 1, 6).unwrap();
    let shard = store.shard(ArrayId(1), ShardIndex(0)).unwrap();
    let sending = shard.read(PAGE, 2 * PAGE_BYTES).unwrap().to_bytes();
    drop(shard);
    store.remove(ArrayId(1));
    assert_eq!(store.usage().reserved_bytes, 0);
    assert_eq!(store.usage().frame_bytes, 2 * PAGE);
    assert!(sending.concat().iter().all(|byte| *byte == 6));
    drop(sending);
    let usage = store.usage();
    assert_eq!((usage.frame_bytes, usage.shards), (0, 0));
}

#[test]
fn shards_leave_one_by_one_with_their_reservation() {
    let store = Store::new(64 * PAGE);
    install(&store, 1, &layout(6, 8)).unwrap();
    fill(&store, 1, 3).unwrap();
    store.remove_shards(ArrayId(1), [ShardIndex(0), ShardIndex(4), ShardIndex(99)].into_iter());
    let left: Vec<u64> = store.array_shards(ArrayId(1)).iter().map(|(index, _)| index.0).collect();
    assert_eq!(left, [1, 2, 3, 5]);
    assert_eq!(store.usage().reserved_bytes, 4 * 8 * PAGE);
    assert_eq!(store.usage().frame_bytes, 4 * 8 * PAGE);
    store.shard(ArrayId(1), ShardIndex(1)).unwrap().clear();
    assert_eq!(store.usage().frame_bytes, 3 * 8 * PAGE);
    store.remove_shards(ArrayId(1), left.into_iter().map(ShardIndex));
    assert!(!store.remove(ArrayId(1)), "the last shard takes the array along");
}

#[test]
fn tenants_share_the_budget_but_no_frame() {
    let store = Store::new(64 * PAGE);
    install(&store, 1, &layout(6, 8)).unwrap();
    fill(&store, 1, 0xee).unwrap();
    store.remove(ArrayId(1));
    let second = layout(7, 8);
    store.install(TenantId(2), ArrayId(2), &second, (0..7).map(ShardIndex)).unwrap();
    // The first tenant's idle memory has to make room.
    for (_, shard) in store.array_shards(ArrayId(2)) {
        let mut staged = shard.stage(0, shard.bytes()).unwrap();
        assert!(staged.buffers().all(|buffer| buffer.iter().all(|byte| *byte == 0)));
        shard.publish(staged).unwrap();
    }
    let usage = store.usage();
    assert_eq!(usage.frame_bytes, 56 * PAGE);
    assert!(usage.resident_bytes <= usage.frame_bytes_max, "{usage:?}");
    assert_eq!(store.arena(TENANT).unwrap().stats().frames_used, 0);
}

#[test]
fn trimming_gives_idle_memory_of_all_tenants_back() {
    let store = Store::new(1024 * PAGE);
    install(&store, 1, &layout(15, 16)).unwrap();
    fill(&store, 1, 1).unwrap();
    store.remove(ArrayId(1));
    assert_eq!(store.usage().resident_bytes, 240 * PAGE);
    store.trim();
    assert_eq!(store.usage().resident_bytes, 128 * PAGE);
}

#[test]
fn every_error_has_its_code_and_the_numbers() {
    let full = Failure::from(MemError::OutOfCapacity { need: 131_072, have: 65_536 });
    assert_eq!(full.code, ErrorCode::OutOfCapacity);
    assert_eq!(full.message, "needs 131072 bytes of memory, 65536 are free");
    assert!(full.retry_after_ms.is_some() && full.help.is_some());
    let corrupt = Failure::from(MemError::Corrupt { page: PageIndex(7) });
    assert_eq!(
        (corrupt.code, corrupt.message.as_str()),
        (ErrorCode::Corrupt, "page 7 failed its checksum")
    );
    let range = MemError::OutOfRange { offset: 1, len: 2, bytes: 2 };
    assert_eq!(Failure::from(range).code, ErrorCode::OutOfRange);
    let count = MemError::DigestCount { got: 31, pages: 1 };
    assert_eq!(Failure::from(count).code, ErrorCode::Malformed);
    assert_eq!(Failure::from(MemError::ForeignStaging).code, ErrorCode::Internal);
    let conflict = MemError::LayoutConflict { array: ArrayId(3) };
    assert_eq!(Failure::from(conflict).code, ErrorCode::Conflict);
    let map = MemError::Map { bytes: 1, source: std::io::ErrorKind::OutOfMemory.into() };
    assert_eq!(Failure::from(map).code, ErrorCode::Internal);
}
