//! A node's disk: what was written is there after a crash when it was synced, and perhaps not, or not whole, before.

use std::collections::BTreeMap;

use holo_core::Epoch;
use holo_core::catalog::CloseId;
use holo_core::group::Seq;

use crate::rng::Rng;

/// What a file is: the head that the product writes into it, and checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FileName {
    /// Index of the group.
    pub(crate) group: usize,
    /// The close that it was written for.
    pub(crate) close: CloseId,
    /// The epoch of the group's config.
    pub(crate) epoch: Epoch,
    /// The group's last operation.
    pub(crate) seq: Seq,
}

/// What is in a file.
#[derive(Clone, Debug)]
struct File {
    values: Vec<u64>,
    state: State,
}

/// What has become of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is as it was written.
    Whole,
    /// A crash came before it was on disk.
    Torn,
    /// The disk has damaged it since.
    Rotten,
}

/// The files of a node.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    synced: BTreeMap<FileName, File>,
    /// Changes that a crash may undo: files written, and files deleted.
    unsynced: BTreeMap<FileName, Option<File>>,
}

impl Disk {
    /// Writes a file; it lasts once it is synced.
    pub(crate) fn write(&mut self, name: FileName, values: Vec<u64>) {
        self.unsynced.insert(name, Some(File { values, state: State::Whole }));
    }

    /// Makes one file last.
    pub(crate) fn sync(&mut self, name: FileName) {
        if let Some(Some(file)) = self.unsynced.remove(&name) {
            self.synced.insert(name, file);
        }
    }

    /// Deletes every file; a crash may bring them back.
    pub(crate) fn delete_all(&mut self) {
        for file in self.unsynced.values_mut() {
            *file = None;
        }
        for name in self.synced.keys() {
            self.unsynced.insert(*name, None);
        }
    }

    /// The machine loses its power: of each change that was not synced, some, all or nothing is there.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        for (name, change) in std::mem::take(&mut self.unsynced) {
            match (rng.below(3), change) {
                (0, _) => {}
                (1, Some(file)) => {
                    self.synced.insert(name, File { state: State::Torn, ..file });
                }
                (_, Some(file)) => {
                    self.synced.insert(name, file);
                }
                (_, None) => {
                    self.synced.remove(&name);
                }
            }
        }
    }

    /// Damages each file with a chance of so many of 1000.
    pub(crate) fn rot(&mut self, rng: &mut Rng, per_mille: u32) {
        for file in self.synced.values_mut() {
            if rng.chance(per_mille) {
                file.state = State::Rotten;
            }
        }
    }

    /// Reads a file; `None` when there is none, or when it is not what was written.
    pub(crate) fn read(&self, name: FileName) -> Option<&[u64]> {
        let unsynced = self.unsynced.get(&name).map(Option::as_ref);
        let file = unsynced.unwrap_or_else(|| self.synced.get(&name))?;
        (file.state == State::Whole).then_some(&file.values)
    }

    /// What was synced, whatever the disk has done to it since; `None` when it was not, or was deleted.
    pub(crate) fn synced(&self, name: FileName) -> Option<&[u64]> {
        let deleted = matches!(self.unsynced.get(&name), Some(None));
        let file = self.synced.get(&name).filter(|file| file.state != State::Torn && !deleted)?;
        Some(&file.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(group: usize) -> FileName {
        FileName { group, close: CloseId(7), epoch: Epoch(2), seq: Seq(3) }
    }

    #[test]
    fn what_is_synced_outlives_every_crash_and_the_rest_none_or_some() {
        let mut rng = Rng::new(1);
        let mut outcomes = [0; 2];
        for _ in 0..200 {
            let mut disk = Disk::default();
            disk.write(name(0), vec![1]);
            disk.sync(name(0));
            disk.write(name(1), vec![2]);
            assert_eq!(disk.read(name(1)), Some(&[2][..]));
            assert_eq!(disk.synced(name(1)), None);
            disk.crash(&mut rng);
            assert_eq!(disk.read(name(0)), Some(&[1][..]));
            outcomes[usize::from(disk.read(name(1)).is_some())] += 1;
        }
        assert!(outcomes.iter().all(|count| *count > 20), "{outcomes:?}");
    }

    #[test]
    fn deleted_files_are_gone_and_a_crash_may_bring_them_back() {
        let mut rng = Rng::new(2);
        let mut back = 0;
        for _ in 0..100 {
            let mut disk = Disk::default();
            disk.write(name(0), vec![1]);
            disk.sync(name(0));
            disk.delete_all();
            assert_eq!((disk.read(name(0)), disk.synced(name(0))), (None, None));
            disk.crash(&mut rng);
            back += usize::from(disk.read(name(0)).is_some());
        }
        assert!((10..60).contains(&back), "{back}");
    }

    #[test]
    fn a_damaged_file_is_not_read() {
        let mut disk = Disk::default();
        disk.write(name(0), vec![1]);
        disk.sync(name(0));
        disk.rot(&mut Rng::new(3), 1000);
        assert_eq!((disk.read(name(0)), disk.synced(name(0))), (None, Some(&[1][..])));
    }
}
