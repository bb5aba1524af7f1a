use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::FutureExt;
use openraft::StoredMembership;
use openraft::testing::{StoreBuilder, Suite};

use super::*;
use crate::options::{AtRestKey, Compaction};
use crate::raft::{Membership, StorageError, TypeConfig};
use crate::state::{Cell, Machine};
use crate::wire::convert::snapshot_meta;
use crate::{LogIndex, ReplicatedState, VoterId};

/// A state machine that counts.
struct Count(u64);

impl ReplicatedState for Count {
    fn apply(&mut self, _index: LogIndex, _command: &[u8]) -> Bytes {
        self.0 += 1;
        Bytes::new()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Failure> {
        self.0 = u64::from_le_bytes(snapshot.try_into().unwrap());
        Ok(())
    }
}

struct Builder(Option<AtRestKey>);

impl StoreBuilder<TypeConfig, LogStore, Machine<Count>, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine<Count>), StorageError> {
        let directory = tempfile::tempdir().unwrap();
        let mut options = Options::new(VoterId(0), directory.path());
        options.at_rest_key.clone_from(&self.0);
        let store = Store::open(&options).unwrap();
        // The suite purges what no snapshot holds.
        store.progress.send_modify(|progress| progress.snapshot = Some(id(u64::MAX, u64::MAX)));
        let cell = Arc::new(Cell::new(Count(0), Compaction::default().after_bytes));
        Ok((directory, LogStore(Arc::clone(&store)), Machine { cell, store }))
    }
}

fn key(byte: u8) -> AtRestKey {
    AtRestKey::new([byte; 32])
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(term, VoterId(1)), index)
}

fn command(index: u64, bytes: &[u8]) -> Entry {
    let command = crate::raft::Command(Bytes::copy_from_slice(bytes));
    Entry { log_id: id(1, index), payload: openraft::EntryPayload::Normal(command) }
}

fn members() -> StoredMembership<VoterId, openraft::EmptyNode> {
    let voters = BTreeSet::from([VoterId(1), VoterId(2), VoterId(3)]);
    StoredMembership::new(Some(id(1, 0)), Membership::new(vec![voters], ()))
}

/// A file with a vote, 20 entries of which 5 are in the snapshot, and that snapshot.
fn fill(store: &Store) {
    store.save_vote(&Vote::new_committed(1, VoterId(1))).unwrap();
    let entries: Vec<Entry> = (0..20).map(|index| command(index, &[7; 300])).collect();
    store.append(&entries).unwrap();
    let meta = snapshot_meta(Some(id(1, 4)), members());
    let state = vec![5; 3000];
    store.save_snapshot(&SnapshotMetaBody::of(&meta, &state), &state).unwrap();
    store.purge(id(1, 4)).unwrap();
    store.note_committed(Some(id(1, 17)));
}

fn assert_filled(store: &Store) {
    assert_eq!(store.read_vote().unwrap(), Some(Vote::new_committed(1, VoterId(1))));
    let bounds = store.bounds().unwrap();
    assert_eq!((bounds.purged, bounds.last), (Some(id(1, 4)), Some(id(1, 19))));
    let entries = store.entries(0, u64::MAX, usize::MAX).unwrap();
    assert_eq!(entries, (5..20).map(|index| command(index, &[7; 300])).collect::<Vec<_>>());
    let (description, state) = store.read_snapshot().unwrap().unwrap();
    assert_eq!(description.checked().unwrap().last_membership, members());
    assert_eq!(state, vec![5; 3000]);
}

#[test]
fn the_library_s_own_suite_passes_on_a_file_that_is_only_checksummed() {
    Suite::test_all(Builder(None)).unwrap();
}

#[test]
fn the_library_s_own_suite_passes_on_an_encrypted_file() {
    Suite::test_all(Builder(Some(key(1)))).unwrap();
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    for at_rest_key in [None, Some(key(1))] {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { at_rest_key, ..Options::new(VoterId(1), directory.path()) };
        let store = Store::open(&options).unwrap();
        fill(&store);
        store.close();
        let again = Store::open(&options).unwrap();
        assert_filled(&again);
        assert_eq!(again.read_committed().unwrap(), Some(id(1, 17)));
    }
}

/// A store of the file as it lies there while the process lives: never closed.
fn crashed(directory: &Path) -> (tempfile::TempDir, Arc<Store>) {
    let image = tempfile::tempdir().unwrap();
    std::fs::copy(directory.join(FILE_NAME), image.path().join(FILE_NAME)).unwrap();
    let store = Store::open(&Options::new(VoterId(1), image.path())).unwrap();
    (image, store)
}

fn indexes(store: &Store) -> Vec<(u64, u64)> {
    let entries = store.entries(0, u64::MAX, usize::MAX).unwrap();
    entries.iter().map(|entry| (entry.log_id.leader_id.term, entry.log_id.index)).collect()
}

#[test]
fn what_was_written_is_there_after_a_crash_at_any_write() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(VoterId(1), directory.path())).unwrap();
    fill(&store);
    assert_filled(&crashed(directory.path()).1);
}

#[test]
fn what_was_cut_off_stays_in_the_file_until_something_takes_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(VoterId(1), directory.path())).unwrap();
    fill(&store);
    store.truncate(12);
    store.truncate(9);
    store.truncate(15);
    assert_eq!(indexes(&store), (5..9).map(|index| (1, index)).collect::<Vec<_>>());
    assert_eq!(store.bounds().unwrap().last, Some(id(1, 8)));
    // A vote, or a snapshot that was taken here, takes no place.
    store.save_vote(&Vote::new(2, VoterId(2))).unwrap();
    assert_eq!(crashed(directory.path()).1.bounds().unwrap().last, Some(id(1, 19)));

    store.append(&[Entry { log_id: id(2, 9), ..command(9, b"other") }]).unwrap();
    let (_image, again) = crashed(directory.path());
    for store in [&store, &again] {
        assert_eq!(indexes(store), [(1, 5), (1, 6), (1, 7), (1, 8), (2, 9)]);
        assert_eq!(store.bounds().unwrap().last, Some(id(2, 9)));
    }
}

#[tokio::test]
async fn a_log_that_a_snapshot_of_the_leader_replaces_goes_after_the_snapshot_came() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(VoterId(1), directory.path())).unwrap();
    fill(&store);
    let meta = snapshot_meta(Some(id(3, 15)), members());
    let description = SnapshotMetaBody::of(&meta, &[6; 3000]);

    let mut log = LogStore(Arc::clone(&store));
    openraft::storage::RaftLogStorage::truncate(&mut log, id(1, 5)).await.unwrap();
    let mut purged = pin!(openraft::storage::RaftLogStorage::purge(&mut log, id(3, 15)));
    assert!(purged.as_mut().now_or_never().is_none());
    assert_filled(&crashed(directory.path()).1);

    store.save_snapshot(&description, &[6; 3000]).unwrap();
    purged.await.unwrap();
    let (_image, again) = crashed(directory.path());
    for store in [&store, &again] {
        let bounds = store.bounds().unwrap();
        assert_eq!((bounds.purged, bounds.last), (Some(id(3, 15)), Some(id(3, 15))));
        // Not those behind its end either: they are of an earlier term.
        assert_eq!(indexes(store), []);
    }
}

#[tokio::test]
async fn nobody_waits_for_a_snapshot_that_failed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(VoterId(1), directory.path())).unwrap();
    fill(&store);
    let mut waiting = pin!(store.wait_snapshot(id(3, 15)));
    assert!(waiting.as_mut().now_or_never().is_none());
    store.note(&Failure::new(ErrorCode::FileFailed, "no room"));
    assert_eq!(waiting.await.unwrap_err().code, ErrorCode::FileFailed);
    assert_filled(&crashed(directory.path()).1);
}

#[test]
fn a_file_is_opened_with_its_own_key_alone() {
    for (made_with, wrong) in [(None, vec![Some(key(1))]), (Some(key(1)), vec![None, Some(key(2))])]
    {
        let directory = tempfile::tempdir().unwrap();
        let options = Options::new(VoterId(1), directory.path());
        let store = Store::open(&Options { at_rest_key: made_with, ..options.clone() }).unwrap();
        store.close();
        for at_rest_key in wrong {
            let failure = Store::open(&Options { at_rest_key, ..options.clone() }).unwrap_err();
            assert_eq!(failure.code, ErrorCode::ConfigInvalid, "{failure}");
            assert!(failure.message.contains("key"), "{failure}");
        }
    }
}

#[test]
fn a_file_is_opened_by_its_own_voter_alone() {
    let directory = tempfile::tempdir().unwrap();
    Store::open(&Options::new(VoterId(1), directory.path())).unwrap().close();
    let failure = Store::open(&Options::new(VoterId(2), directory.path())).unwrap_err();
    assert_eq!(failure.code, ErrorCode::ConfigInvalid);
    assert!(failure.message.contains("voter 1"), "{failure}");
}

#[test]
fn a_file_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(VoterId(1), directory.path());
    let _first = Store::open(&options).unwrap();
    let failure = Store::open(&options).unwrap_err();
    assert_eq!(failure.code, ErrorCode::FileFailed);
}

#[test]
fn every_flipped_bit_is_found_or_does_not_matter() {
    for at_rest_key in [None, Some(key(1))] {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { at_rest_key, ..Options::new(VoterId(1), directory.path()) };
        let store = Store::open(&options).unwrap();
        fill(&store);
        store.close();
        let path = directory.path().join(FILE_NAME);
        let good = std::fs::read(&path).unwrap();
        let mut found = 0;
        // A prime step visits every kind of place without taking minutes.
        for at in (0..good.len()).step_by((good.len() / 150) | 1) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bad).unwrap();
            match std::panic::catch_unwind(|| Store::open(&options)) {
                Ok(Ok(store)) => assert_filled(&store),
                Ok(Err(failure)) => {
                    found += 1;
                    let codes =
                        [ErrorCode::Corrupt, ErrorCode::FileFailed, ErrorCode::VersionMismatch];
                    assert!(codes.contains(&failure.code), "byte {at}: {failure}");
                    assert!(failure.message.contains(FILE_NAME), "byte {at}: {failure}");
                }
                // The database asserts in debug builds; `Catalog::open` turns that into a failure.
                Err(_) => found += 1,
            }
        }
        assert!(found > 0);
    }
}

#[test]
fn a_file_that_was_cut_short_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(VoterId(1), directory.path());
    let store = Store::open(&options).unwrap();
    fill(&store);
    store.close();
    let path = directory.path().join(FILE_NAME);
    let good = std::fs::read(&path).unwrap();
    for bytes in [1, 100, 4096, good.len() / 2] {
        std::fs::write(&path, &good[..bytes]).unwrap();
        if let Ok(opened) = std::panic::catch_unwind(|| Store::open(&options)) {
            let failure = opened.unwrap_err();
            assert!(failure.message.contains(FILE_NAME), "{bytes} bytes: {failure}");
        }
    }
}

#[test]
fn a_read_of_entries_stops_at_its_budget_but_not_before_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(VoterId(1), directory.path())).unwrap();
    store.append(&(0..10).map(|index| command(index, &[7; 1000])).collect::<Vec<_>>()).unwrap();
    assert_eq!(store.entries(2, 9, 3500).unwrap().len(), 3);
    assert_eq!(store.entries(2, 9, 0).unwrap().len(), 1);
    assert_eq!(store.entries(9, 20, usize::MAX).unwrap().len(), 1);
}

/// A snapshot that is being taken may end after one that the leader sent; the log may be purged up to the latter by then.
#[test]
fn an_earlier_snapshot_never_takes_the_place_of_a_later_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(VoterId(1), directory.path())).unwrap();
    for (index, state, kept) in [(40, b"later", b"later"), (10, b"early", b"later")] {
        let meta = snapshot_meta(Some(id(1, index)), members());
        store.save_snapshot(&SnapshotMetaBody::of(&meta, state), state).unwrap();
        assert_eq!(store.read_snapshot().unwrap().unwrap().1, kept.as_slice());
    }
}

#[test]
fn a_closed_file_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&Options::new(VoterId(1), directory.path())).unwrap();
    store.close();
    assert_eq!(store.read_vote().unwrap_err().code, ErrorCode::ShuttingDown);
    assert_eq!(store.append(&[command(0, b"x")]).unwrap_err().code, ErrorCode::ShuttingDown);
}

mod sealing {
    use super::*;
    use crate::store::seal::Sealer;

    #[test]
    fn a_value_opens_at_its_place_with_its_key_and_nowhere_else() {
        let sealer = Sealer::new(Some(key(1))).unwrap();
        let stored = sealer.seal(b"log/1", b"value").unwrap();
        assert!(!stored.windows(5).any(|window| window == b"value"));
        assert_eq!(sealer.open(b"log/1", &stored).unwrap(), b"value");
        assert_eq!(sealer.open(b"log/2", &stored).unwrap_err().code, ErrorCode::Corrupt);
        let restarted = Sealer::new(Some(key(1))).unwrap();
        assert_eq!(restarted.open(b"log/1", &stored).unwrap(), b"value");
        let other = Sealer::new(Some(key(2))).unwrap();
        assert_eq!(other.open(b"log/1", &stored).unwrap_err().code, ErrorCode::Corrupt);
        let none = Sealer::new(None).unwrap();
        assert_eq!(none.open(b"log/1", &stored).unwrap_err().code, ErrorCode::Corrupt);
    }

    #[test]
    fn an_encrypted_file_takes_no_value_that_is_not_encrypted() {
        let plain = Sealer::new(None).unwrap().seal(b"log/1", b"value").unwrap();
        let sealer = Sealer::new(Some(key(1))).unwrap();
        assert_eq!(sealer.open(b"log/1", &plain).unwrap_err().code, ErrorCode::Corrupt);
    }

    #[test]
    fn every_changed_or_missing_byte_is_found() {
        for sealer in [Sealer::new(None).unwrap(), Sealer::new(Some(key(1))).unwrap()] {
            let stored = sealer.seal(b"meta/vote", b"some value").unwrap();
            for at in 0..stored.len() {
                let mut bad = stored.clone();
                bad[at] ^= 0x10;
                assert_eq!(sealer.open(b"meta/vote", &bad).unwrap_err().code, ErrorCode::Corrupt);
                assert_eq!(
                    sealer.open(b"meta/vote", &stored[..at]).unwrap_err().code,
                    ErrorCode::Corrupt
                );
            }
        }
    }

    #[test]
    fn the_same_value_never_looks_the_same_twice() {
        let sealer = Sealer::new(Some(key(1))).unwrap();
        let first = sealer.seal(b"meta/vote", b"value").unwrap();
        assert_ne!(first, sealer.seal(b"meta/vote", b"value").unwrap());
        let restarted = Sealer::new(Some(key(1))).unwrap();
        assert_ne!(first, restarted.seal(b"meta/vote", b"value").unwrap());
    }

    /// Pins the format: a file of this version must open with every later one.
    #[test]
    fn a_value_of_version_1_opens() {
        let plain = Sealer::new(None).unwrap();
        let stored = plain.seal(b"meta/vote", b"value").unwrap();
        assert_eq!(stored[0], 0);
        assert_eq!(stored.len(), 1 + 16 + 5);
        let sealed = Sealer::new(Some(key(1))).unwrap().seal(b"meta/vote", b"value").unwrap();
        assert_eq!(sealed[0], 1);
        assert_eq!(sealed.len(), 1 + 16 + 8 + 5 + 16);
    }
}
