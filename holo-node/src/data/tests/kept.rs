//! A copy begins with what the last life of its node left behind, as far as that is of use.

use super::*;
use crate::data::{Frozen, LeftBehind};
use crate::hold::Kept;
use crate::home::Home;
use holo_core::replication::{LogPosition, Remains};

const WRITTEN: u64 = 700_000;

/// Brings up a third holder whose last life left the group behind as it is; `spoil` changes the file. Gives the bytes
/// that were copied, and whether the file is still there.
async fn brought_up(spoil: impl FnOnce(&mut Vec<u8>)) -> (u64, bool) {
    let lab = Lab::start(3).await;
    lab.publish(3, 65_536, WRITTEN).await;
    let folder = tempfile::tempdir().unwrap();
    let kept = Kept::new(Home::at(folder.path()), CLUSTER, replica(2).node).unwrap();
    let frozen = Frozen::of(&lab.planes[0].arrays.shards_of_group(GROUP));
    let (at, windows) = (LogPosition::default(), Arc::default());
    let remains = Remains { group: GROUP, at, windows };
    let left = LeftBehind { remains, frozen, was_member: true, is_alone: true };
    assert_eq!(kept.write(Incarnation(1), vec![left], || true).groups, 1);
    let file = std::fs::read_dir(folder.path().join("kept")).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    spoil(&mut bytes);
    std::fs::write(file.path(), bytes).unwrap();
    lab.planes[2].set_kept(kept.clone());
    for plane in &lab.planes {
        let targets = vec![(GROUP, vec![replica(0), replica(2)])];
        plane.take_news(News { targets, ..News::default() });
    }
    lab.until(|config| config.in_sync.contains(&replica(2))).await;
    lab.until_equal(0, 2).await;
    (lab.planes.iter().map(|plane| plane.load().copied_bytes).sum(), kept.has(GROUP))
}

#[tokio::test]
async fn what_was_kept_and_is_still_the_same_does_not_travel() {
    assert_eq!(brought_up(|_bytes| {}).await, (0, false));
}

#[tokio::test]
async fn what_was_kept_and_is_damaged_counts_as_nothing_to_compare() {
    let spoilt: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes[100_000] ^= 1,
        |bytes| bytes.truncate(300_000),
        // The life that left it.
        |bytes| bytes[64] ^= 1,
    ];
    for spoil in spoilt {
        let (copied, is_there) = brought_up(spoil).await;
        assert!(
            copied >= WRITTEN,
            "{copied} bytes: the first pages may not count when the last ones do not"
        );
        assert!(!is_there, "it would be compared in vain another time");
    }
}
