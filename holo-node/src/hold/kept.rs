//! What the lives of a node leave on disk when they are told to stop: of each group the pages that it held, and what it
//! had answered.
//!
//! What a life left is the group's data as long as the catalog has that life in sync ([`super::resume`]). To everybody
//! else it is a start: the next life begins as a learner like any newcomer, and compares every page that it has with its
//! primary's digest. What is the same does not travel, what is older or gone does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holo_core::catalog::CloseId;
use holo_core::group::Seq;
use holo_core::replication::{Class, GroupId, Incarnation, NodeNumber, Remains};
use holo_core::wire::{Decode, RemainsBody};
use holo_core::{ClusterId, Count, Epoch, ErrorCode, Failure, PartitionId};
use parking_lot::Mutex;
use prost::Message;

use super::file::{self, Page, Subject};
use super::write_group;
use crate::data::LeftBehind;
use crate::home::{Home, KEPT_LIST, make_directory};

/// The folder of these files in a node's directory.
const FOLDER: &str = "kept";

/// What the lives of a node have left.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    home: Home,
    folder: PathBuf,
    cluster: ClusterId,
    node: NodeNumber,
    /// Which lives have left a file of a group.
    lives: Arc<Mutex<BTreeMap<GroupId, BTreeSet<Incarnation>>>>,
}

/// What became of what a life leaves.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Groups that are on disk.
    pub(crate) groups: usize,
    /// Bytes of their pages.
    pub(crate) bytes: u64,
    /// Groups that are not, and why.
    pub(crate) failed: Vec<(LeftBehind, Failure)>,
}

impl Written {
    fn fail(&mut self, groups: Vec<LeftBehind>, why: &Failure) {
        self.failed.extend(groups.into_iter().map(|left| (left, why.clone())));
    }
}

/// Finds every file that the last stop of this node has left, as far as no process has deleted any since, and the key of
/// those that there are: one that is missing, on a disk that is not mounted perhaps, is not the same as one that was never
/// written.
///
/// # Errors
///
/// [`ErrorCode::FileFailed`] when one is not there, [`ErrorCode::Corrupt`] when the list is damaged.
pub(crate) fn check_kept(home: &Home) -> Result<(), Failure> {
    if keeps_any(home)? {
        home.catalog_key()?;
    }
    let Some(names) = home.kept_list()? else { return Ok(()) };
    let folder = home.file(FOLDER);
    let mut missing = Vec::new();
    for name in &names {
        let place = folder.join(name);
        match fs::metadata(&place) {
            Ok(_) => {}
            Err(source) if source.kind() == ErrorKind::NotFound => missing.push(name.as_str()),
            Err(source) => return Err(file::failed(&place, &source)),
        }
    }
    let Some(first) = missing.first() else { return Ok(()) };
    let message = format!(
        "{}: {} of {} that this node wrote when it was stopped are not there, {first} among them",
        folder.display(),
        missing.len(),
        Count(names.len() as u64).of("file"),
    );
    Err(Failure::new(ErrorCode::FileFailed, message).help(format!(
        "is a disk not mounted? bring them back, or delete {} to go on without them: what nobody else has of their groups is lost then",
        home.file(KEPT_LIST).display()
    )))
}

/// Whether there are files of earlier lives in a node's directory.
///
/// # Errors
///
/// [`ErrorCode::FileFailed`] when that cannot be told: they may be all that there is.
pub(crate) fn keeps_any(home: &Home) -> Result<bool, Failure> {
    Ok(!files_in(&home.file(FOLDER))?.is_empty())
}

impl Kept {
    /// Those of a node's directory.
    ///
    /// # Errors
    ///
    /// As [`keeps_any`].
    pub(crate) fn new(home: Home, cluster: ClusterId, node: NodeNumber) -> Result<Self, Failure> {
        let folder = home.file(FOLDER);
        let lives = Arc::new(Mutex::new(files_in(&folder)?));
        Ok(Self { home, folder, cluster, node, lives })
    }

    /// Writes down what `life` leaves, one group after the other as long as `goes_on`, which is asked at every page.
    pub(crate) fn write(
        &self,
        life: Incarnation,
        groups: Vec<LeftBehind>,
        goes_on: impl Fn() -> bool,
    ) -> Written {
        let (mut written, mut done) = (Written::default(), Vec::new());
        let prepared = make_directory(&self.folder)
            .and_then(|()| self.home.catalog_key())
            .and_then(|key| self.home.forget_kept_list().map(|()| key));
        let key = match prepared {
            Ok(key) => key,
            Err(failure) => {
                written.fail(groups, &failure);
                return written;
            }
        };
        for left in groups {
            let group = left.remains.group;
            let state = RemainsBody::from(&left.remains).encode_to_vec();
            let subject = self.subject(group, life);
            match write_group(&self.folder, &key, &subject, &left.frozen, Some(&state), &goes_on) {
                Ok(bytes) => {
                    written.bytes += bytes;
                    written.groups += 1;
                }
                Err(failure) if failure.code == ErrorCode::Cancelled => break,
                Err(failure) => {
                    // There may be room for the next one.
                    written.failed.push((left, failure));
                    continue;
                }
            }
            self.lives.lock().entry(group).or_default().insert(life);
            done.push(left);
        }
        if let Err(failure) = file::sync_folder(&self.folder) {
            // Nobody knows which of them are on disk.
            (written.groups, written.bytes) = (0, 0);
            written.fail(done, &failure);
            return written;
        }
        // Where this life was no member, the group may still go on from what an earlier one left.
        for left in done.iter().filter(|left| left.was_member) {
            let group = left.remains.group;
            if let Err(failure) = self.forget_but(group, Some(life)) {
                tracing::warn!(%group, code = %failure.code, message = %failure.message, "pages of an earlier life are not deleted");
            }
        }
        if let Err(failure) = self.home.set_kept_list(&self.names()) {
            tracing::warn!(code = %failure.code, message = %failure.message, "nothing will tell the next start which files it should find");
        }
        written
    }

    /// The names of all files.
    fn names(&self) -> Vec<String> {
        let lives = self.lives.lock();
        let files =
            lives.iter().flat_map(|(group, lives)| lives.iter().map(|life| (*group, *life)));
        files.map(|(group, life)| self.subject(group, life).file_name()).collect()
    }

    /// Whether any life has left a group.
    pub(crate) fn has(&self, group: GroupId) -> bool {
        self.lives.lock().contains_key(&group)
    }

    /// Whether a life has left a group.
    pub(crate) fn has_of(&self, group: GroupId, life: Incarnation) -> bool {
        self.lives.lock().get(&group).is_some_and(|lives| lives.contains(&life))
    }

    /// Hands out the pages of a group as the latest life left them.
    ///
    /// # Errors
    ///
    /// Those of [`Self::read`]; [`ErrorCode::Corrupt`] when none has.
    pub(crate) fn read_latest(
        &self,
        group: GroupId,
        take: impl FnMut(Page<'_>) -> Result<(), Failure>,
    ) -> Result<Remains, Failure> {
        let latest = self.lives.lock().get(&group).and_then(|lives| lives.last().copied());
        self.read(group, latest.unwrap_or_default(), take)
    }

    /// Hands out the pages of a group as a life left them, and says what else it left.
    ///
    /// # Errors
    ///
    /// Those of reading the file, and of `take`. The pages that were handed out are of no use then.
    pub(crate) fn read(
        &self,
        group: GroupId,
        life: Incarnation,
        take: impl FnMut(Page<'_>) -> Result<(), Failure>,
    ) -> Result<Remains, Failure> {
        let key = self.home.catalog_key()?;
        let state = file::read(&self.folder, &key, &self.subject(group, life), take)?;
        let incomplete = || {
            let message = format!("what life {} left of group {group} is incomplete", life.0);
            Failure::new(ErrorCode::Corrupt, message)
        };
        let body = RemainsBody::decode_body(&state.ok_or_else(incomplete)?);
        body.and_then(|body| body.checked(group)).map_err(|_malformed| incomplete())
    }

    /// Deletes what lives have left of a group. Files that stay cost room, and are looked at in vain another time.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`].
    pub(crate) fn forget(&self, group: GroupId) -> Result<(), Failure> {
        self.forget_but(group, None)
    }

    /// As [`Self::forget`], but for what one of the lives has left.
    fn forget_but(&self, group: GroupId, stays: Option<Incarnation>) -> Result<(), Failure> {
        self.home.forget_kept_list()?;
        let mut gone = self.lives.lock().remove(&group).unwrap_or_default();
        if let Some(stays) = stays.filter(|life| gone.remove(life)) {
            self.lives.lock().insert(group, BTreeSet::from([stays]));
        }
        let mut failed = None;
        for life in gone {
            let place = self.place(group, life);
            if let Err(source) = fs::remove_file(&place)
                && source.kind() != ErrorKind::NotFound
            {
                failed.get_or_insert_with(|| file::failed(&place, &source));
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Deletes what lives have left of all groups.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`].
    pub(crate) fn forget_all(&self) -> Result<(), Failure> {
        self.home.forget_kept_list()?;
        self.lives.lock().clear();
        file::remove_folder(&self.folder)
    }

    fn place(&self, group: GroupId, life: Incarnation) -> PathBuf {
        self.folder.join(self.subject(group, life).file_name())
    }

    fn subject(&self, group: GroupId, life: Incarnation) -> Subject {
        let (cluster, node) = (self.cluster, self.node);
        Subject {
            cluster,
            node,
            life,
            close: CloseId::default(),
            group,
            epoch: Epoch(0),
            seq: Seq(0),
        }
    }
}

/// Of which groups and lives there are files. What has another name is none.
fn files_in(folder: &Path) -> Result<BTreeMap<GroupId, BTreeSet<Incarnation>>, Failure> {
    let mut lives: BTreeMap<GroupId, BTreeSet<Incarnation>> = BTreeMap::new();
    let failed = |source: &std::io::Error| file::failed(folder, source);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(lives),
        Err(source) => return Err(failed(&source)),
    };
    for entry in entries {
        let name = entry.map_err(|source| failed(&source))?.file_name();
        if let Some((group, life)) = name.to_str().and_then(parse_name) {
            lives.entry(group).or_default().insert(life);
        }
    }
    Ok(lives)
}

fn parse_name(name: &str) -> Option<(GroupId, Incarnation)> {
    let (partition, rest) = name.strip_suffix(".hold")?.split_once("-r")?;
    let (replicas, rest) = rest.split_once('m')?;
    let (min_in_sync, life) = rest.split_once("-l")?;
    let class = Class { replicas: replicas.parse().ok()?, min_in_sync: min_in_sync.parse().ok()? };
    let group = GroupId { partition: PartitionId(partition.parse().ok()?), class };
    Some((group, Incarnation(life.parse().ok()?)))
}

#[cfg(test)]
mod tests;
