//! The library's view of the state machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use holo_core::Failure;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, ErrorSubject, ErrorVerb};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::raft::{
    Answer, Entry, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};
use crate::store::Store;
use crate::store::io_error;
use crate::wire::SnapshotMetaBody;
use crate::wire::convert::snapshot_meta;
use crate::{LogIndex, ReplicatedState};

/// The state machine with the place in the log that it has reached, shared between the library and readers.
pub(crate) struct Cell<S> {
    now: Mutex<Now<S>>,
    applied: watch::Sender<LogIndex>,
    /// Bytes of commands applied since the last snapshot was begun.
    unfolded_bytes: AtomicU64,
    fold_after_bytes: u64,
    /// Told when `unfolded_bytes` has passed its bound.
    pub(crate) fold: Notify,
}

struct Now<S> {
    state: S,
    applied: Option<LogId>,
    members: StoredMembership,
}

impl<S: ReplicatedState> Cell<S> {
    pub(crate) fn new(state: S, fold_after_bytes: u64) -> Self {
        Self {
            now: Mutex::new(Now { state, applied: None, members: StoredMembership::default() }),
            applied: watch::Sender::new(LogIndex(0)),
            unfolded_bytes: AtomicU64::new(0),
            fold_after_bytes,
            fold: Notify::new(),
        }
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&S, LogIndex) -> T) -> T {
        let now = self.now.lock();
        read(&now.state, index_of(now.applied))
    }

    pub(crate) fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    fn apply(&self, entries: impl IntoIterator<Item = Entry>) -> Vec<Answer> {
        let mut now = self.now.lock();
        let mut bytes = 0;
        let mut answers = Vec::new();
        for entry in entries {
            let id = entry.log_id;
            answers.push(match entry.payload {
                EntryPayload::Blank => Answer(Bytes::new()),
                EntryPayload::Normal(command) => {
                    bytes += command.0.len() as u64;
                    Answer(now.state.apply(LogIndex(id.index), &command.0))
                }
                EntryPayload::Membership(members) => {
                    now.members = StoredMembership::new(Some(id), members);
                    Answer(Bytes::new())
                }
            });
            now.applied = Some(id);
        }
        self.applied.send_replace(index_of(now.applied));
        let before = self.unfolded_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) >= self.fold_after_bytes {
            self.fold.notify_one();
        }
        answers
    }

    /// Becomes what `description` describes; unchanged when `state` is not understood.
    pub(crate) fn restore(&self, meta: &SnapshotMeta, state: &[u8]) -> Result<(), Failure> {
        let mut now = self.now.lock();
        now.state.restore(state)?;
        now.applied = meta.last_log_id;
        now.members = meta.last_membership.clone();
        self.applied.send_replace(index_of(now.applied));
        self.unfolded_bytes.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn fold(&self) -> (SnapshotMeta, Bytes) {
        let now = self.now.lock();
        self.unfolded_bytes.store(0, Ordering::Relaxed);
        (snapshot_meta(now.applied, now.members.clone()), now.state.snapshot().into())
    }
}

fn index_of(applied: Option<LogId>) -> LogIndex {
    LogIndex(applied.map_or(0, |id| id.index))
}

/// What the library applies entries to and takes snapshots of.
pub(crate) struct Machine<S> {
    pub(crate) cell: Arc<Cell<S>>,
    pub(crate) store: Arc<Store>,
}

/// A snapshot that was taken and is not on disk yet.
pub(crate) struct Fold {
    meta: SnapshotMeta,
    state: Bytes,
    store: Arc<Store>,
}

impl Fold {
    async fn save(&self) -> Result<(), StorageError> {
        let (meta, state) = (self.meta.clone(), self.state.clone());
        let write =
            move |store: &Store| store.save_snapshot(&SnapshotMetaBody::of(&meta, &state), &state);
        let saved = self.store.run(write).await;
        saved.map_err(|failure| snapshot_error(&self.meta, ErrorVerb::Write, &failure))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Fold {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        self.save().await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(self.state.clone()) })
    }
}

impl<S: ReplicatedState> RaftStateMachine<TypeConfig> for Machine<S> {
    type SnapshotBuilder = Fold;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let now = self.cell.now.lock();
        Ok((now.applied, now.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answer>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        Ok(self.cell.apply(entries))
    }

    async fn get_snapshot_builder(&mut self) -> Fold {
        // The state is written out here and now, so that what is applied meanwhile is not in it.
        let (meta, state) = self.cell.fold();
        Fold { meta, state, store: Arc::clone(&self.store) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Bytes>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Bytes>,
    ) -> Result<(), StorageError> {
        // First what may be refused: what the state machine does not understand must not get to the disk.
        self.cell.restore(meta, &snapshot).map_err(|failure| {
            self.store.note(&failure);
            snapshot_error(meta, ErrorVerb::Read, &failure)
        })?;
        let fold = Fold { meta: meta.clone(), state: *snapshot, store: Arc::clone(&self.store) };
        fold.save().await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let error =
            |failure: &Failure| io_error(ErrorSubject::Snapshot(None), ErrorVerb::Read, failure);
        let read = self.store.run(Store::read_snapshot).await;
        let Some((description, state)) = read.map_err(|failure| error(&failure))? else {
            return Ok(None);
        };
        let meta = description.checked().map_err(|failure| error(&failure))?;
        Ok(Some(Snapshot { meta, snapshot: Box::new(state) }))
    }
}

fn snapshot_error(meta: &SnapshotMeta, verb: ErrorVerb, failure: &Failure) -> StorageError {
    io_error(ErrorSubject::Snapshot(Some(meta.signature())), verb, failure)
}
