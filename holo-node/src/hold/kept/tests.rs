use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use holo_core::replication::{
    Answer, LogPosition, Outcome, SessionId, SessionWindow, SessionWindows,
};
use holo_core::{ArrayId, PAGE_BYTES, PartitionId, ShardIndex};
use holo_mem::{Arena, Shard};
use tempfile::TempDir;

use super::*;
use crate::data::Frozen;
use crate::hold::file::Writer;
use crate::hold::leave;
use crate::links::pause_for;

const ARRAY: ArrayId = ArrayId(4);
const SHARD: ShardIndex = ShardIndex(6);
const GROUP: GroupId = group(200, 1);
const LIFE: Incarnation = Incarnation(3);
/// Pages of the shard, of which the second one was never written.
const PAGES: u64 = 3;

const fn group(partition: u32, min_in_sync: u8) -> GroupId {
    GroupId { partition: PartitionId(partition), class: Class { replicas: 2, min_in_sync } }
}

/// The directory of node 2, and what its life left behind.
struct Life {
    folder: TempDir,
    kept: Kept,
}

/// A page as it is read: its place and its bytes.
type Read = (ArrayId, ShardIndex, u32, Vec<u8>);

impl Life {
    /// A life that left one group behind.
    fn with_a_group() -> Self {
        let life = Self::new(2);
        assert_eq!(life.write(3, vec![left(GROUP, 1)]), (1, 2 * PAGE_BYTES as u64));
        life
    }

    fn new(node: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kept =
            Kept::new(Home::at(folder.path()), ClusterId([1; 32]), NodeNumber(node)).unwrap();
        Self { folder, kept }
    }

    fn write(&self, life: u32, groups: Vec<LeftBehind>) -> (usize, u64) {
        let written = self.kept.write(Incarnation(life), groups, || true);
        assert!(written.failed.is_empty(), "{:?}", written.failed);
        (written.groups, written.bytes)
    }

    fn home(&self) -> Home {
        Home::at(self.folder.path())
    }

    /// As the next life finds it.
    fn found(&self) -> Kept {
        Kept::new(Home::at(self.folder.path()), self.kept.cluster, self.kept.node).unwrap()
    }

    fn file(&self, group: GroupId) -> PathBuf {
        self.kept.place(group, LIFE)
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.file(GROUP)).unwrap()
    }
}

/// A group as a life leaves it that was a member, its first and last page full of `value`.
fn left(group: GroupId, value: u8) -> LeftBehind {
    let (remains, frozen) = (remains(group, value), frozen(value));
    LeftBehind { remains, frozen, was_member: true, is_alone: true }
}

fn remains(group: GroupId, value: u8) -> Remains {
    let window = SessionWindow {
        floor: 4,
        highest: 6,
        answers: BTreeMap::from([
            (5, Answer::Done(Outcome::new(&[value; 8]).unwrap())),
            (6, Answer::Refused(ErrorCode::OutOfRange)),
        ]),
    };
    let sessions = BTreeMap::from([(SessionId(9), window)]);
    let windows = SessionWindows::from_parts(SessionId(2), sessions).unwrap();
    let at = LogPosition { epoch: Epoch(7), seq: Seq(u64::from(value)) };
    Remains { group, at, windows: Arc::new(windows) }
}

/// A shard whose first and last page hold `value`.
fn frozen(value: u8) -> Frozen {
    let bytes = PAGES * PAGE_BYTES as u64;
    let shard = Arc::new(Shard::new(Arena::new(64 << 20).unwrap(), bytes));
    for page in [0, PAGES - 1] {
        shard.write(page * PAGE_BYTES as u64, &vec![value; PAGE_BYTES]).unwrap();
    }
    Frozen::of(&[(ARRAY, SHARD, shard)])
}

fn read(kept: &Kept, group: GroupId) -> Result<Vec<Read>, Failure> {
    let mut pages = Vec::new();
    let left = kept.read_latest(group, |page| {
        pages.push((page.array, page.shard, page.index, page.bytes.to_vec()));
        Ok(())
    })?;
    let value = pages.first().map_or(0, |page| page.3[0]);
    assert_eq!(left, remains(group, value), "what was answered comes with the pages");
    Ok(pages)
}

/// There is nothing to compare with: whoever reads it copies all of the group.
#[track_caller]
fn is_refused(kept: &Kept, group: GroupId, what: &str) {
    assert!(kept.has(group), "{what}: it is looked at");
    assert_eq!(read(kept, group).unwrap_err().code, ErrorCode::Corrupt, "{what}");
}

#[test]
fn what_one_life_left_behind_the_next_one_reads() {
    let life = Life::with_a_group();
    assert!(keeps_any(&life.home()).unwrap());
    let next = life.found();
    let page = |index, value| (ARRAY, SHARD, index, vec![value; PAGE_BYTES]);
    assert_eq!(read(&next, GROUP).unwrap(), [page(0, 1), page(2, 1)]);
    assert!(next.has(GROUP) && !next.has(group(201, 1)));
    // A later life that was a member leaves its own in the place of it.
    assert_eq!(life.write(5, vec![left(GROUP, 7)]).0, 1);
    let next = life.found();
    assert_eq!(read(&next, GROUP).unwrap()[0], page(0, 7));
    let refused = next.read(GROUP, LIFE, |_page| Ok(())).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Corrupt, "{refused}");
    next.forget(GROUP).unwrap();
    assert!(!next.has(GROUP) && !keeps_any(&life.home()).unwrap());
    assert_eq!(fs::read_dir(&next.folder).unwrap().count(), 0, "no draft is left");
}

#[test]
fn a_life_that_was_no_member_leaves_what_the_one_before_had_left_as_well() {
    let life = Life::with_a_group();
    assert_eq!(life.write(4, vec![LeftBehind { was_member: false, ..left(GROUP, 2) }]).0, 1);
    let next = life.found();
    for (of, value) in [(3, 1), (4, 2)] {
        let found = next.read(GROUP, Incarnation(of), |_page| Ok(())).unwrap();
        assert_eq!(found, remains(GROUP, value), "life {of}");
    }
    assert_eq!(read(&next, GROUP).unwrap()[0].3[0], 2, "a learner begins with the latest");
    next.forget(GROUP).unwrap();
    assert_eq!(fs::read_dir(&next.folder).unwrap().count(), 0);
}

#[test]
fn damage_anywhere_is_noticed() {
    let life = Life::with_a_group();
    let good = life.bytes();
    let mut places: Vec<usize> = (0..200).collect();
    places.extend((0..good.len()).step_by(4999));
    places.extend(good.len() - 70..good.len());
    for at in places {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(life.file(GROUP), &bad).unwrap();
        let refused = read(&life.kept, GROUP).unwrap_err();
        // The version is all that can be wrong in two ways.
        let known = [ErrorCode::Corrupt, ErrorCode::VersionMismatch];
        assert!(known.contains(&refused.code), "byte {at}: {refused}");
        assert_eq!(refused.code == ErrorCode::VersionMismatch, (8..12).contains(&at), "byte {at}");
    }
    for len in [0, 7, 90, good.len() / 2, good.len() - 1] {
        fs::write(life.file(GROUP), &good[..len]).unwrap();
        is_refused(&life.kept, GROUP, &format!("cut off after {len} bytes"));
    }
    let mut longer = good.clone();
    longer.push(0);
    fs::write(life.file(GROUP), &longer).unwrap();
    is_refused(&life.kept, GROUP, "something after its end");
    fs::write(life.file(GROUP), &good).unwrap();
    assert_eq!(read(&life.kept, GROUP).unwrap().len(), 2);
}

#[test]
fn what_is_another_groups_nodes_or_clusters_is_refused() {
    let life = Life::with_a_group();
    for other in [group(201, 1), group(200, 2)] {
        fs::copy(life.file(GROUP), life.file(other)).unwrap();
        is_refused(&life.found(), other, &format!("under the name of {other}"));
    }
    let home = || life.home();
    let (cluster, node) = (life.kept.cluster, life.kept.node);
    is_refused(
        &Kept::new(home(), cluster, NodeNumber(3)).unwrap(),
        GROUP,
        "of node 2, read by node 3",
    );
    is_refused(&Kept::new(home(), ClusterId([9; 32]), node).unwrap(), GROUP, "of another cluster");
    // The same node's directory made anew: with a key of its own.
    let stranger = Life::new(2);
    stranger.home().catalog_key().unwrap();
    make_directory(&stranger.kept.folder).unwrap();
    fs::copy(life.file(GROUP), stranger.file(GROUP)).unwrap();
    is_refused(&stranger.found(), GROUP, "encrypted with another key");
}

#[test]
fn what_another_life_or_a_close_wrote_is_not_taken_for_what_a_life_left() {
    let life = Life::with_a_group();
    let key = life.kept.home.catalog_key().unwrap();
    let own = life.kept.subject(GROUP, LIFE);
    for other in [
        Subject { life: Incarnation(4), ..own },
        Subject { life: Incarnation(0), close: CloseId(70), ..own },
        Subject { close: CloseId(70), ..own },
        Subject { epoch: Epoch(1), ..own },
        Subject { seq: Seq(1), ..own },
    ] {
        Writer::new(&life.kept.folder, &key, &other).unwrap().finish().unwrap();
        fs::rename(life.kept.folder.join(other.file_name()), life.file(GROUP)).unwrap();
        is_refused(&life.kept, GROUP, &format!("{other:?}"));
    }
    // One without a page is one like any other; one that does not say what was answered is not whole.
    let state = RemainsBody::from(&remains(GROUP, 0)).encode_to_vec();
    let write = |state: Option<&[u8]>| {
        let mut writer = Writer::new(&life.kept.folder, &key, &own).unwrap();
        state.map_or(Ok(()), |state| writer.put_state(state)).unwrap();
        writer.finish().unwrap();
    };
    write(Some(&state));
    assert_eq!(read(&life.kept, GROUP).unwrap(), []);
    write(None);
    is_refused(&life.kept, GROUP, "nothing but pages");
    write(Some(b"\xff\xff"));
    is_refused(&life.kept, GROUP, "something else than answers");
}

#[test]
fn when_time_is_up_whole_groups_stay_and_no_part_of_one() {
    let life = Life::new(2);
    let pages = std::cell::Cell::new(0);
    // It ends at the second page of the second group.
    let goes_on = || {
        pages.set(pages.get() + 1);
        pages.get() <= 3
    };
    let groups = (1..=3).map(|value| left(group(value, 1), 1)).collect();
    let written = life.kept.write(LIFE, groups, goes_on);
    assert_eq!((written.groups, written.bytes), (1, 2 * PAGE_BYTES as u64));
    let left: Vec<_> = fs::read_dir(&life.kept.folder).unwrap().map(|it| it.unwrap()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(read(&life.kept, group(1, 1)).unwrap().len(), 2);
    assert!(!life.kept.has(group(2, 1)));
}

#[test]
fn a_page_that_nobody_wants_ends_the_reading() {
    let life = Life::with_a_group();
    let mut seen = 0;
    let refused = life.kept.read(GROUP, LIFE, |_page| {
        seen += 1;
        Err(Failure::new(ErrorCode::OutOfCapacity, "no room"))
    });
    assert_eq!((refused.unwrap_err().code, seen), (ErrorCode::OutOfCapacity, 1));
    assert!(life.kept.has(GROUP), "the next try may have room");
}

#[test]
fn a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one() {
    let life = Life::new(2);
    assert!(!keeps_any(&life.home()).unwrap(), "there is no folder");
    fs::write(&life.kept.folder, b"something else").unwrap();
    let refused = keeps_any(&life.home()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::FileFailed, "{refused}");
}

#[test]
fn a_group_that_cannot_be_written_keeps_no_other_from_it() {
    let life = Life::with_a_group();
    // The draft of one group finds its name taken; and a file that was to be deleted is gone already.
    let blocked = life.kept.place(group(1, 1), Incarnation(4)).with_extension("new");
    fs::create_dir(blocked).unwrap();
    fs::remove_file(life.file(GROUP)).unwrap();
    let groups = vec![left(group(1, 1), 1), left(GROUP, 2), left(group(3, 1), 3)];
    let written = life.kept.write(Incarnation(4), groups, || true);
    let [(left, failure)] = written.failed.as_slice() else { panic!("{written:?}") };
    assert_eq!((left.remains.group, failure.code), (group(1, 1), ErrorCode::FileFailed));
    let next = life.found();
    assert_eq!(read(&next, GROUP).unwrap()[0].3[0], 2);
    assert_eq!(read(&next, group(3, 1)).unwrap()[0].3[0], 3);
    assert!(!next.has(group(1, 1)));
}

/// It was lost in silence: a disk that was not mounted was taken for a life that had left nothing.
#[test]
fn a_node_does_not_start_without_the_files_that_its_last_stop_left() {
    let life = Life::new(2);
    check_kept(&life.home()).unwrap();
    life.write(3, vec![left(GROUP, 1), left(group(201, 1), 1)]);
    check_kept(&life.home()).unwrap();
    let away = life.folder.path().join("elsewhere");
    fs::rename(life.file(GROUP), &away).unwrap();
    let refused = check_kept(&life.home()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::FileFailed, "{refused}");
    assert!(refused.message.contains("1 of 2 files"), "{refused}");
    fs::rename(&away, life.file(GROUP)).unwrap();
    check_kept(&life.home()).unwrap();
    fs::rename(&life.kept.folder, &away).unwrap();
    assert!(check_kept(&life.home()).unwrap_err().message.contains("2 of 2 files"));
    // The way out that it names.
    fs::remove_file(life.home().file(KEPT_LIST)).unwrap();
    check_kept(&life.home()).unwrap();
}

#[test]
fn what_a_node_deletes_itself_is_not_missed() {
    let life = Life::with_a_group();
    life.found().forget(GROUP).unwrap();
    check_kept(&life.home()).unwrap();
    life.write(4, vec![left(GROUP, 1)]);
    life.found().forget_all().unwrap();
    check_kept(&life.home()).unwrap();
    fs::write(life.home().file(KEPT_LIST), "files = 3").unwrap();
    assert_eq!(check_kept(&life.home()).unwrap_err().code, ErrorCode::Corrupt);
}

/// With a new one all of it looked damaged, and was given up.
#[test]
fn no_key_is_made_where_something_is_encrypted_with_one_that_is_gone() {
    let life = Life::with_a_group();
    let key = life.home().file("catalog.key");
    let good = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    assert_eq!(read(&life.kept, GROUP).unwrap_err().code, ErrorCode::FileFailed);
    let written = life.kept.write(Incarnation(4), vec![left(GROUP, 2)], || true);
    assert_eq!((written.groups, written.failed.len()), (0, 1));
    assert!(!key.exists());
    let aside = life.folder.path().join("aside");
    fs::write(&aside, good).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&aside, &key).unwrap();
    assert_eq!(read(&life.kept, GROUP).unwrap().len(), 2);
}

/// A second try took the file of the first one for an earlier life's, and deleted it.
#[test]
fn what_is_written_a_second_time_stays() {
    let life = Life::new(2);
    life.write(2, vec![left(GROUP, 7)]);
    for value in [1, 2] {
        life.write(3, vec![left(GROUP, value)]);
        check_kept(&life.home()).unwrap();
        assert_eq!(read(&life.found(), GROUP).unwrap()[0].3[0], value);
    }
    assert!(!life.found().has_of(GROUP, Incarnation(2)), "what an earlier life left is gone");
}

/// A process with the only copy ended a moment after the disk had refused it.
#[tokio::test]
async fn what_nobody_else_has_is_written_as_soon_as_it_can_be() {
    let life = Life::new(2);
    fs::write(&life.kept.folder, b"in the way").unwrap();
    let leaving = leave(life.kept.clone(), LIFE, vec![left(GROUP, 1)]);
    let making_room = async {
        pause_for(Duration::from_millis(100)).await;
        fs::remove_file(&life.kept.folder).unwrap();
    };
    let (left, ()) = futures_util::future::join(leaving, making_room).await;
    assert_eq!(left.unwrap(), (1, 2 * PAGE_BYTES as u64));
    assert_eq!(read(&life.found(), GROUP).unwrap().len(), 2);
}

#[tokio::test]
async fn what_others_have_as_well_keeps_no_process_from_its_end() {
    let life = Life::new(2);
    fs::write(&life.kept.folder, b"in the way").unwrap();
    let groups = vec![LeftBehind { is_alone: false, ..left(GROUP, 1) }];
    let failed = leave(life.kept.clone(), LIFE, groups).await.unwrap_err();
    assert_eq!(failed.code, ErrorCode::FileFailed);
    assert!(
        failed.message.contains("1 group could not be written down, of which others"),
        "{failed}"
    );
}
