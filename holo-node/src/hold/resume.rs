//! Goes on with the groups that earlier lives of this node left on disk and still hold by the catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holo_core::catalog::{Operation, PastReplica, Resumption};
use holo_core::replication::{GroupId, Incarnation, ReplicaId};
use holo_core::{ErrorCode, Failure, Instant};

use super::Kept;
use crate::control::Control;
use crate::data::DataPlane;
use crate::links::pause_for;
use crate::workers::blocking;

/// Groups that are read between two words to the catalog.
const BATCH: usize = 16;
/// Pause before what could not be done yet is tried again.
const STEP: Duration = Duration::from_millis(50);
/// Pause after a disk failed, or while there is no room.
const DISK_PAUSE: Duration = Duration::from_secs(2);
/// How long one command may take; the next look tries again.
const PATIENCE: Duration = Duration::from_secs(5);
/// What nobody has come back to after so long went elsewhere.
const USEFUL_FOR: Duration = Duration::from_secs(3600);

/// Offers what earlier lives left, until the catalog has none of them in sync any more; deletes, a while after that, what
/// nobody has asked for.
pub(crate) async fn resume(control: Arc<Control>, data: Arc<DataPlane>, kept: Kept, me: ReplicaId) {
    let mut heir = Heir {
        control,
        data,
        kept: kept.clone(),
        me,
        seen: BTreeSet::new(),
        gone: BTreeSet::new(),
        postponed: BTreeMap::new(),
    };
    heir.run().await;
    drop(heir);
    pause_for(USEFUL_FOR).await;
    if let Err(failure) = blocking(move || kept.forget_all()).await {
        tracing::warn!(code = %failure.code, message = %failure.message, "pages of an earlier life are not deleted");
    }
}

struct Heir {
    control: Arc<Control>,
    data: Arc<DataPlane>,
    kept: Kept,
    me: ReplicaId,
    /// Groups that were to be gone on with at some time.
    seen: BTreeSet<GroupId>,
    /// What is not on disk, or is not what was written.
    gone: BTreeSet<(GroupId, Incarnation)>,
    /// Groups that could not be read for want of room, or by the disk's fault; with the time of the next try.
    postponed: BTreeMap<GroupId, Instant>,
}

impl Heir {
    async fn run(&mut self) {
        let mut version = self.control.catalog_version();
        loop {
            version.borrow_and_update();
            let wait = match self.control.to_resume(self.me) {
                Some(past) => {
                    self.forget_settled(&past).await;
                    if past.is_empty() {
                        return;
                    }
                    self.look(past).await
                }
                // This copy of the catalog is older than this process.
                None => None,
            };
            let changed = version.changed();
            match wait {
                Some(pause) => drop(tokio::time::timeout(pause, changed).await),
                None if changed.await.is_err() => return,
                None => {}
            }
        }
    }

    /// Reads some of what is still to be gone on with, and tells the catalog of it; gives how soon to look again.
    async fn look(&mut self, past: Vec<PastReplica>) -> Option<Duration> {
        let now = self.control.now();
        if self.seen.is_empty() {
            tracing::info!(
                groups = past.len(),
                "goes on with what an earlier life of this node left on disk"
            );
        }
        self.seen.extend(past.iter().map(|past| past.group));
        // Those whose other replicas answer go on with them. That may take its time, or come to nothing.
        let mut wanted: Vec<PastReplica> = past
            .into_iter()
            .filter(|past| !self.control.is_carried_by_others(past.group))
            .collect();
        wanted.retain(|past| self.postponed.get(&past.group).is_none_or(|until| *until <= now));
        let mut found = Vec::new();
        for past in wanted.into_iter().take(BATCH) {
            match self.find(past).await {
                Ok(()) => found.push(Resumption { past, is_whole: true }),
                Err(failure) => {
                    if let Some(lost) = self.not_found(past, &failure) {
                        found.push(lost);
                    }
                }
            }
        }
        self.control.note_unresumed(self.postponed.len());
        if found.is_empty() {
            return Some(STEP);
        }
        let resume = Operation::Resume { reporter: self.me, found };
        if let Err(failure) = self.control.propose_as_node(resume, PATIENCE).await {
            tracing::warn!(code = %failure.code, message = %failure.message, "what an earlier life of this node left is not taken yet");
        }
        Some(STEP)
    }

    /// Has a group here as an earlier life left it, good for the epoch that the catalog names.
    async fn find(&mut self, past: PastReplica) -> Result<(), Failure> {
        let PastReplica { group, life, at } = past;
        if self.data.is_restored(group, life, at) {
            return Ok(());
        }
        // After a kill there is nothing, and that is no trouble of the disk.
        if self.gone.contains(&(group, life)) || !self.kept.has_of(group, life) {
            self.gone.insert((group, life));
            return Err(Failure::new(ErrorCode::Corrupt, "that life left nothing of it"));
        }
        let (data, kept) = (Arc::clone(&self.data), self.kept.clone());
        let read = blocking(move || {
            let mut pages = data.begin_restore(group)?;
            let remains = kept.read(group, life, |page| {
                pages.take(&data.arrays, page.array, page.shard, page.index, page.bytes)
            })?;
            data.restore(pages, life, at, remains)
        });
        if let Err(failure) = read.await {
            self.data.give_up_restore(group);
            return Err(failure);
        }
        if self.postponed.remove(&group).is_some() {
            tracing::info!(%group, "what this node has on disk of a group could be read after all");
        }
        Ok(())
    }

    /// What to tell the catalog of a group that was not read, if anything; the rest is tried again.
    fn not_found(&mut self, past: PastReplica, failure: &Failure) -> Option<Resumption> {
        let PastReplica { group, life, .. } = past;
        let (code, message) = (failure.code, &failure.message);
        match code {
            ErrorCode::NotReady | ErrorCode::Cancelled => None,
            ErrorCode::Corrupt => {
                if self.gone.insert((group, life)) {
                    tracing::error!(%group, life = life.0, %code, %message, "an earlier life of this node held this group, and what it left cannot be used");
                }
                self.postponed.remove(&group);
                Some(Resumption { past, is_whole: false })
            }
            _ => {
                let until = self.control.now().after(DISK_PAUSE);
                if self.postponed.insert(group, until).is_none() {
                    tracing::warn!(%group, %code, %message, "what this node has on disk of a group cannot be read yet: it tries again");
                }
                None
            }
        }
    }

    /// Deletes the files of groups that went on with this node: they are of the past.
    async fn forget_settled(&mut self, past: &[PastReplica]) {
        let open: BTreeSet<GroupId> = past.iter().map(|past| past.group).collect();
        let settled: Vec<GroupId> = self.seen.difference(&open).copied().collect();
        if settled.is_empty() {
            return;
        }
        self.seen.retain(|group| open.contains(group));
        self.postponed.retain(|group, _| open.contains(group));
        self.control.note_unresumed(self.postponed.len());
        let here: Vec<GroupId> =
            settled.into_iter().filter(|group| self.control.holds_in_sync(*group)).collect();
        if open.is_empty() {
            tracing::info!("what an earlier life of this node left is back, or went on elsewhere");
        }
        let kept = self.kept.clone();
        let forgotten = blocking(move || here.into_iter().try_for_each(|group| kept.forget(group)));
        if let Err(failure) = forgotten.await {
            tracing::warn!(code = %failure.code, message = %failure.message, "pages of an earlier life are not deleted");
        }
    }
}
