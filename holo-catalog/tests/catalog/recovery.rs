use holo_catalog::{AtRestKey, Compaction, ControlLog};
use holo_core::ErrorCode;

use crate::world::{LONG, World, command, eventually};

/// Folds the log often, and keeps little of it.
pub(crate) const OFTEN: Compaction =
    Compaction { after_entries: 10, after_bytes: u64::MAX, keep_entries: 2 };

#[tokio::test(start_paused = true)]
async fn a_voter_that_was_stopped_has_everything_before_it_hears_of_anybody() {
    let mut world = World::of(3).await;
    for number in 0..10 {
        world.propose(command(number)).await.unwrap();
    }
    let wanted = world.settle().await;
    for id in 1..=3 {
        world.stop(id).await;
    }
    let alone = world.open(2).await.unwrap();
    alone.with_state(|ledger, _| {
        let commands: Vec<_> = ledger.commands.iter().map(|(_, command)| command.clone()).collect();
        assert_eq!(commands, wanted);
    });
    assert_eq!(alone.standing().borrow().voters.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_voter_recovers_from_its_snapshot_and_the_log_behind_it() {
    for at_rest_key in [None, Some(AtRestKey::new([9; 32]))] {
        let mut world = World::new(1);
        world.compact(OFTEN);
        if let Some(key) = at_rest_key {
            world.encrypt(key);
        }
        world.found(1).await;
        let voter = world.voter(1);
        for number in 0..37 {
            voter.propose(command(number), LONG).await.unwrap();
        }
        for round in 0..3 {
            if round == 1 {
                world.crash(1).await;
            } else {
                world.stop(1).await;
            }
            let again = world.open(1).await.unwrap();
            again.read_index(LONG).await.unwrap();
            let wanted: Vec<_> = (0..37).map(command).collect();
            assert_eq!(world.settle().await, wanted);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_voters_crash_at_once_and_nothing_acknowledged_is_lost() {
    let mut world = World::new(1);
    world.compact(OFTEN);
    world.found(3).await;
    for round in 0..4 {
        for number in 0..7 {
            world.propose(command(round * 7 + number)).await.unwrap();
        }
        for id in 1..=3 {
            world.crash(id).await;
        }
        for id in 1..=3 {
            world.open(id).await.unwrap();
        }
        let wanted: Vec<_> = (0..(round + 1) * 7).map(command).collect();
        assert_eq!(world.settle().await, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_is_folded_after_so_many_bytes_too() {
    let mut world = World::new(1);
    world.compact(Compaction { after_entries: u64::MAX / 4, after_bytes: 10_000, keep_entries: 0 });
    world.found(1).await;
    let voter = world.voter(1);
    for _ in 0..12 {
        voter.propose(vec![7; 1000].into(), LONG).await.unwrap();
    }
    world.stop(1).await;
    let file = redb::ReadOnlyDatabase::open(world.file(1)).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&file).unwrap();
    let snapshot: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("snapshot");
    let table = transaction.open_table(snapshot).unwrap();
    assert!(redb::ReadableTable::get(&table, "state").unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_encrypted_file_shows_no_command() {
    let mut world = World::new(1);
    world.encrypt(AtRestKey::new([3; 32]));
    world.compact(OFTEN);
    world.found(1).await;
    let secret = b"what nobody should read in the file";
    for _ in 0..20 {
        world.voter(1).propose(secret.as_slice().into(), LONG).await.unwrap();
    }
    world.stop(1).await;
    let bytes = std::fs::read(world.file(1)).unwrap();
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_no_voter() {
    let mut world = World::of(1).await;
    world.voter(1).propose(command(0), LONG).await.unwrap();
    world.stop(1).await;
    let file = world.file(1);
    std::fs::write(&file, vec![0x55; 20_000]).unwrap();
    let failure = world.open(1).await.unwrap_err();
    assert!([ErrorCode::Corrupt, ErrorCode::FileFailed].contains(&failure.code), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_voter_whose_file_failed_says_so_and_stops() {
    let world = World::of(1).await;
    let voter = world.voter(1);
    voter.propose(command(0), LONG).await.unwrap();
    // A second start on the same file is refused, and does the first one no harm.
    let twice = holo_catalog::Catalog::open(
        world.options(1),
        crate::world::Ledger::default(),
        std::sync::Arc::new(crate::refusals::Nobody),
    );
    assert_eq!(twice.await.unwrap_err().code, ErrorCode::FileFailed);
    eventually("it leads", || voter.is_leader()).await;
    voter.propose(command(1), LONG).await.unwrap();
}
