//! The library's view of the state machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use holo_core::Failure;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, ErrorSubject, ErrorVerb};
use parking_lot::RwLock;
use tokio::sync::{Notify, watch};

use crate::raft::{
    Answer, Entry, LogId, Snapshot, SnapshotMeta, StorageError, StoredMembership, TypeConfig,
};
use crate::store::Store;
use crate::store::io_error;
use crate::wire::SnapshotMetaBody;
use crate::wire::convert::snapshot_meta;
use crate::{LogIndex, ReplicatedState};

/// The state machine with the place in the log that it has reached, shared between the library and readers. It is
/// written out for a snapshot by another thread, for as long as that takes; readers go on meanwhile, and what is to be
/// applied waits on another thread too: the runtime never does.
pub(crate) struct Cell<S> {
    now: RwLock<Now<S>>,
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
            now: RwLock::new(Now { state, applied: None, members: StoredMembership::default() }),
            applied: watch::Sender::new(LogIndex(0)),
            unfolded_bytes: AtomicU64::new(0),
            fold_after_bytes,
            fold: Notify::new(),
        }
    }

    pub(crate) fn with<T>(&self, read: impl FnOnce(&S, LogIndex) -> T) -> T {
        // Not behind a writer that waits for a snapshot to be written out.
        let now = self.now.read_recursive();
        read(&now.state, index_of(now.applied))
    }

    pub(crate) fn applied(&self) -> watch::Receiver<LogIndex> {
        self.applied.subscribe()
    }

    /// Applies `entries`, or gives them back when that would have to wait.
    fn try_apply(&self, entries: Vec<Entry>) -> Result<Vec<Answer>, Vec<Entry>> {
        match self.now.try_write() {
            Some(mut now) => Ok(self.apply_to(&mut now, entries)),
            None => Err(entries),
        }
    }

    fn apply(&self, entries: Vec<Entry>) -> Vec<Answer> {
        self.apply_to(&mut self.now.write(), entries)
    }

    fn apply_to(&self, now: &mut Now<S>, entries: Vec<Entry>) -> Vec<Answer> {
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
        let mut now = self.now.write();
        now.state.restore(state)?;
        now.applied = meta.last_log_id;
        now.members = meta.last_membership.clone();
        self.applied.send_replace(index_of(now.applied));
        self.unfolded_bytes.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn fold(&self) -> (SnapshotMeta, Bytes) {
        let now = self.now.read();
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

/// A snapshot to be taken.
pub(crate) struct Fold<S> {
    cell: Arc<Cell<S>>,
    store: Arc<Store>,
}

impl<S: ReplicatedState> RaftSnapshotBuilder<TypeConfig> for Fold<S> {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let cell = Arc::clone(&self.cell);
        let write = move |store: &Store| {
            let (meta, state) = cell.fold();
            store.save_snapshot(&SnapshotMetaBody::of(&meta, &state), &state)?;
            Ok(Snapshot { meta, snapshot: Box::new(state) })
        };
        self.store.run(write).await.map_err(|failure| snapshot_error(ErrorVerb::Write, &failure))
    }
}

impl<S: ReplicatedState> RaftStateMachine<TypeConfig> for Machine<S> {
    type SnapshotBuilder = Fold<S>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let now = self.cell.now.read_recursive();
        Ok((now.applied, now.members.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answer>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        match self.cell.try_apply(entries.into_iter().collect()) {
            Ok(answers) => Ok(answers),
            Err(entries) => {
                let cell = Arc::clone(&self.cell);
                let applied = self.store.run(move |_| Ok(cell.apply(entries))).await;
                let subject = ErrorSubject::StateMachine;
                applied.map_err(|failure| io_error(subject, ErrorVerb::Write, &failure))
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Fold<S> {
        Fold { cell: Arc::clone(&self.cell), store: Arc::clone(&self.store) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Bytes>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Bytes>,
    ) -> Result<(), StorageError> {
        let (meta, state, cell) = (meta.clone(), *snapshot, Arc::clone(&self.cell));
        let write = move |store: &Store| {
            // First what may be refused: what the state machine does not understand must not get to the disk.
            cell.restore(&meta, &state)?;
            store.save_snapshot(&SnapshotMetaBody::of(&meta, &state), &state)
        };
        self.store.run(write).await.map_err(|failure| snapshot_error(ErrorVerb::Write, &failure))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let read = |store: &Store| {
            let Some((description, state)) = store.read_snapshot()? else { return Ok(None) };
            Ok(Some(Snapshot { meta: description.checked()?, snapshot: Box::new(state) }))
        };
        self.store.run(read).await.map_err(|failure| snapshot_error(ErrorVerb::Read, &failure))
    }
}

fn snapshot_error(verb: ErrorVerb, failure: &Failure) -> StorageError {
    io_error(ErrorSubject::Snapshot(None), verb, failure)
}
