//! Writes groups down when the cluster closes, and offers them back when it starts again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holo_core::catalog::{CloseId, CloseStage, Held, Operation, ToHold};
use holo_core::group::Seq;
use holo_core::replication::{GroupId, Incarnation, ReplicaId};
use holo_core::{Epoch, ErrorCode, Failure, Instant};
use zeroize::Zeroizing;

use super::file::{self, Subject};
use super::{FOLDER, write_group};
use crate::control::{Control, Phase};
use crate::data::{DataPlane, Frozen};
use crate::home::{Home, make_directory};
use crate::links::pause_for;
use crate::workers::blocking;

/// Groups that are written, or read, between two words to the catalog.
const BATCH: usize = 16;
/// Pause before what could not be done yet is tried again.
const STEP: Duration = Duration::from_millis(50);
/// Pause after a disk failed.
const DISK_PAUSE: Duration = Duration::from_secs(2);
/// How long one command may take; the next look tries again.
const PATIENCE: Duration = Duration::from_secs(5);
/// A node that is to stop answers for so long still, so that whoever watches hears of the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the catalog's leader waits at most for the others to stop before it does.
const LEADER_LAST: Duration = Duration::from_secs(10);

/// Does this node's part when the whole cluster stops or starts again, for as long as it is polled.
pub(crate) async fn keep(control: Arc<Control>, data: Arc<DataPlane>, me: ReplicaId) {
    let home = Home::at(&control.config.home);
    let folder = home.file(FOLDER);
    let keeper = Keeper {
        control,
        data,
        me,
        home,
        folder,
        written: BTreeMap::new(),
        unwritten: BTreeMap::new(),
        unreadable: BTreeSet::new(),
        postponed: BTreeMap::new(),
        swept: false,
    };
    keeper.run().await;
}

struct Keeper {
    control: Arc<Control>,
    data: Arc<DataPlane>,
    me: ReplicaId,
    home: Home,
    folder: PathBuf,
    /// What is on disk, and need not be written again.
    written: BTreeMap<GroupId, (CloseId, Epoch, Seq, u64)>,
    /// Groups that could not be written, with the reason and the time of the next try.
    unwritten: BTreeMap<GroupId, (Failure, Instant)>,
    /// Groups whose files this process will not offer: they are not what was written.
    unreadable: BTreeSet<GroupId>,
    /// Groups whose files could not be read for want of room, or by the disk's fault; with the time of the next try.
    postponed: BTreeMap<GroupId, Instant>,
    /// There are no files of earlier times.
    swept: bool,
}

impl Keeper {
    async fn run(mut self) {
        let mut version = self.control.catalog_version();
        loop {
            version.borrow_and_update();
            let wait = match self.control.close_stage(self.me) {
                CloseStage::Open => self.sweep().await,
                CloseStage::Write(close, groups) => self.write(close, groups).await,
                CloseStage::Read(close, groups) => self.read(close, groups).await,
                CloseStage::Wait => None,
                CloseStage::Stop => return self.stop().await,
            };
            let changed = version.changed();
            match wait {
                Some(pause) => drop(tokio::time::timeout(pause, changed).await),
                None if changed.await.is_err() => return,
                None => {}
            }
        }
    }

    /// The cluster is open: what lies here is of no use any more.
    async fn sweep(&mut self) -> Option<Duration> {
        self.written.clear();
        self.unwritten.clear();
        self.note_unwritten();
        self.unreadable.clear();
        self.postponed.clear();
        self.note_unreadable();
        if self.swept {
            return None;
        }
        let folder = self.folder.clone();
        match blocking(move || file::remove_folder(&folder)).await {
            Ok(()) => {
                self.swept = true;
                None
            }
            Err(failure) => {
                tracing::warn!(code = %failure.code, message = %failure.message, "pages of an earlier stop are not deleted");
                pause_for(DISK_PAUSE).await;
                Some(Duration::ZERO)
            }
        }
    }

    /// Writes what has come to rest and is not written yet, and says so.
    async fn write(&mut self, close: CloseId, groups: Vec<ToHold>) -> Option<Duration> {
        self.swept = false;
        let ours: BTreeSet<GroupId> = groups.iter().map(|it| it.group).collect();
        self.unwritten.retain(|group, _| ours.contains(group));
        self.note_unwritten();
        if groups.is_empty() {
            return None;
        }
        let now = self.control.now();
        let mut pause = DISK_PAUSE;
        let mut batch = Vec::new();
        let mut frozen = Vec::new();
        for ToHold { group, epoch, last } in groups {
            if batch.len() + frozen.len() == BATCH {
                break;
            }
            let known = self.written.get(&group).filter(|(of, at, seq, _)| {
                *of == close && *at == epoch && last.is_none_or(|last| last == *seq)
            });
            if let Some((_, _, seq, bytes)) = known {
                batch.push(Held { group, epoch, seq: *seq, bytes: *bytes, at: epoch });
            } else if self.unwritten.get(&group).is_some_and(|(_, until)| *until > now) {
                // It holds up no others, and its disk is not asked more often.
                continue;
            } else if let Some((seq, pages)) = self.data.freeze(close, group, epoch, last) {
                frozen.push((self.subject(close, group, epoch, seq)?, pages));
            }
            pause = STEP;
        }
        if !frozen.is_empty() {
            let asked: Vec<GroupId> = frozen.iter().map(|(subject, _)| subject.group).collect();
            let (home, folder) = (self.home.clone(), self.folder.clone());
            let written = blocking(move || write_files(&home, &folder, frozen)).await;
            let written = written.unwrap_or_else(|failure| Batch::nothing(&asked, &failure));
            for held in &written.holds {
                let Held { group, epoch, seq, bytes, .. } = *held;
                self.written.insert(group, (close, epoch, seq, bytes));
                self.unwritten.remove(&group);
            }
            batch.extend(written.holds);
            self.not_written(written.failed);
        }
        if !batch.is_empty() {
            let hold = Operation::Hold { close, reporter: self.me, holds: batch };
            if let Err(failure) = self.control.propose_as_node(hold, PATIENCE).await {
                // A config has changed, or the catalog was not reached: what is to be done is looked up again.
                tracing::debug!(code = %failure.code, message = %failure.message, "not held yet");
            }
        }
        Some(pause)
    }

    /// Has groups tried again that could not be written, and tells why.
    fn not_written(&mut self, failed: Vec<(GroupId, Failure)>) {
        if self.unwritten.is_empty()
            && let Some((group, failure)) = failed.first()
        {
            tracing::error!(%group, code = %failure.code, message = %failure.message, "this node cannot write down what it holds; the cluster does not stop before it has");
        }
        let until = self.control.now().after(DISK_PAUSE);
        let failed = failed.into_iter().map(|(group, failure)| (group, (failure, until)));
        self.unwritten.extend(failed);
        self.note_unwritten();
    }

    /// Reads what the catalog knows this node to have, and offers it.
    async fn read(&mut self, close: CloseId, groups: Vec<Held>) -> Option<Duration> {
        self.swept = false;
        let now = self.control.now();
        let mut wanted = groups;
        wanted.retain(|held| !self.unreadable.contains(&held.group));
        let all = wanted.len();
        // They hold up no others.
        wanted.retain(|held| self.postponed.get(&held.group).is_none_or(|until| *until <= now));
        let mut pause = (wanted.len() < all).then_some(DISK_PAUSE);
        let mut offered = Vec::new();
        for held in wanted.into_iter().take(BATCH) {
            if !self.data.has_put_back(held.group, held.at) {
                let subject = self.subject(close, held.group, held.epoch, held.seq)?;
                let (home, folder) = (self.home.clone(), self.folder.clone());
                let data = Arc::clone(&self.data);
                match blocking(move || read_file(&home, &folder, &subject, held.at, &data)).await {
                    Ok(()) => {
                        if self.postponed.remove(&held.group).is_some() {
                            self.note_unreadable();
                        }
                    }
                    Err(failure) => {
                        let again = self.not_read(held.group, &failure);
                        pause = pause.into_iter().chain(again).min();
                        continue;
                    }
                }
            }
            offered.push(held);
        }
        if offered.is_empty() {
            return pause;
        }
        let reopen = Operation::Reopen { close, reporter: self.me, holds: offered };
        match self.control.propose_as_node(reopen, PATIENCE).await {
            Ok(_) => Some(Duration::ZERO),
            Err(failure) => {
                tracing::warn!(code = %failure.code, message = %failure.message, "what this node has on disk is not taken back yet");
                Some(DISK_PAUSE)
            }
        }
    }

    /// Says when a group whose file was not read is tried again; never when the file is not what was written.
    fn not_read(&mut self, group: GroupId, failure: &Failure) -> Option<Duration> {
        let (code, message) = (failure.code, &failure.message);
        match code {
            ErrorCode::NotReady | ErrorCode::Cancelled => Some(STEP),
            ErrorCode::Corrupt | ErrorCode::VersionMismatch => {
                tracing::error!(%group, %code, %message, "what this node has on disk of a group is NOT what it wrote: it does not offer it");
                self.postponed.remove(&group);
                self.unreadable.insert(group);
                self.note_unreadable();
                None
            }
            _ => {
                let until = self.control.now().after(DISK_PAUSE);
                if self.postponed.insert(group, until).is_none() {
                    tracing::warn!(%group, %code, %message, "what this node has on disk of a group cannot be read yet: it tries again");
                    self.note_unreadable();
                }
                Some(DISK_PAUSE)
            }
        }
    }

    /// Tells the others why this node cannot write.
    fn note_unwritten(&self) {
        let reason = self.unwritten.values().next().map(|(failure, _)| failure.message.as_str());
        self.control.note_unwritten(reason.unwrap_or_default());
    }

    /// Tells the others how many groups this node cannot offer.
    fn note_unreadable(&self) {
        self.control.note_unreadable(self.unreadable.len() + self.postponed.len());
    }

    /// The cluster is closed. The leader of the catalog goes last, so that all others hear of it.
    async fn stop(self) {
        tracing::info!("the cluster is closed; what this node holds is on disk");
        pause_for(LAST_WORDS).await;
        let until = self.control.now().after(LEADER_LAST);
        while self.control.leads_others() && self.control.now() < until {
            pause_for(STEP).await;
        }
        self.control.end(Phase::Stopping);
    }

    fn subject(&self, close: CloseId, group: GroupId, epoch: Epoch, seq: Seq) -> Option<Subject> {
        let cluster = self.control.cluster_id()?;
        let (node, life) = (self.me.node, Incarnation(0));
        Some(Subject { cluster, node, life, close, group, epoch, seq })
    }
}

/// What came of writing some groups down.
struct Batch {
    holds: Vec<Held>,
    failed: Vec<(GroupId, Failure)>,
}

impl Batch {
    fn nothing(asked: &[GroupId], failure: &Failure) -> Self {
        let failed = asked.iter().map(|group| (*group, failure.clone()));
        Self { holds: Vec::new(), failed: failed.collect() }
    }
}

/// Writes as many of these groups as can be written: a file that fails holds up no others.
///
/// # Errors
///
/// Those of the folder and of the key: then nothing counts as written.
fn write_files(
    home: &Home,
    folder: &std::path::Path,
    groups: Vec<(Subject, Frozen)>,
) -> Result<Batch, Failure> {
    make_directory(folder)?;
    let key: Zeroizing<[u8; 32]> = home.catalog_key()?;
    let mut written = Batch { holds: Vec::with_capacity(groups.len()), failed: Vec::new() };
    for (subject, frozen) in groups {
        let Subject { group, epoch, seq, .. } = subject;
        match write_group(folder, &key, &subject, &frozen, None, || true) {
            Ok(bytes) => written.holds.push(Held { group, epoch, seq, bytes, at: epoch }),
            Err(failure) => written.failed.push((group, failure)),
        }
    }
    file::sync_folder(folder)?;
    Ok(written)
}

fn read_file(
    home: &Home,
    folder: &std::path::Path,
    subject: &Subject,
    at: Epoch,
    data: &DataPlane,
) -> Result<(), Failure> {
    let key = home.catalog_key()?;
    let mut pages = data.begin_put_back(subject.group)?;
    file::read(folder, &key, subject, |page| {
        pages.take(&data.arrays, page.array, page.shard, page.index, page.bytes)
    })?;
    data.put_back(pages, at)
}

#[cfg(test)]
mod tests {
    use holo_core::replication::{Class, NodeNumber};
    use holo_core::{ClusterId, PartitionId};

    use super::*;

    fn subject(partition: u32) -> Subject {
        let class = Class { replicas: 2, min_in_sync: 1 };
        Subject {
            cluster: ClusterId([1; 32]),
            node: NodeNumber(2),
            life: Incarnation(0),
            close: CloseId(7),
            group: GroupId { partition: PartitionId(partition), class },
            epoch: Epoch(3),
            seq: Seq(9),
        }
    }

    /// A full disk ended the whole batch at the first file that did not fit: what would have fit was not written either.
    #[test]
    fn a_file_that_cannot_be_written_holds_up_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        let home = Home::at(dir.path());
        home.catalog_key().unwrap();
        // What is in the way of its draft fails as a full disk does, and only there.
        let in_the_way = folder.join(subject(2).file_name()).with_extension("new");
        std::fs::create_dir_all(&in_the_way).unwrap();
        let groups = || (1..4).map(|it| (subject(it), Frozen::of(&[]))).collect();
        let written = write_files(&home, &folder, groups()).unwrap();
        let held: Vec<GroupId> = written.holds.iter().map(|held| held.group).collect();
        assert_eq!(held, [subject(1).group, subject(3).group]);
        let [(group, failure)] = written.failed.as_slice() else { panic!("{}", held.len()) };
        assert_eq!((*group, failure.code), (subject(2).group, ErrorCode::FileFailed));
        std::fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(write_files(&home, &folder, groups()).unwrap().holds.len(), 3);
    }
}
