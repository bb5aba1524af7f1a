//! The library's view of the log: each call is handed to a thread that may block.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use holo_core::{ErrorCode, Failure};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, ErrorSubject, ErrorVerb, LogState, RaftLogReader, StorageIOError};

use super::Store;
use crate::raft::{Entry, LogId, StorageError, TypeConfig, Vote};
use crate::wire::APPEND_BYTES;

/// The log of a [`Store`]; a clone reads the same one.
#[derive(Clone, Debug)]
pub(crate) struct LogStore(pub(crate) Arc<Store>);

impl LogStore {
    async fn run<T: Send + 'static>(
        &self,
        subject: ErrorSubject<crate::VoterId>,
        verb: ErrorVerb,
        work: impl FnOnce(&Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StorageError> {
        let done = self.0.run(work).await;
        done.map_err(|failure| io_error(subject, verb, &failure))
    }
}

impl Store {
    /// Runs `work` where blocking is allowed. A failure is remembered as the reason why this voter stops.
    ///
    /// # Errors
    ///
    /// Those of `work`; [`ErrorCode::Internal`] when it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        let done = done.unwrap_or_else(|source| {
            Err(Failure::new(ErrorCode::Internal, format!("the catalog's file: {source}")))
        });
        if let Err(failure) = &done {
            self.note(failure);
        }
        done
    }
}

pub(crate) fn io_error(
    subject: ErrorSubject<crate::VoterId>,
    verb: ErrorVerb,
    failure: &Failure,
) -> StorageError {
    StorageIOError::new(subject, verb, AnyError::new(failure)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let read = move |store: &Store| store.entries(start, end, usize::MAX);
        self.run(ErrorSubject::Logs, ErrorVerb::Read, read).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        let read = move |store: &Store| store.entries(start, end, APPEND_BYTES);
        self.run(ErrorSubject::Logs, ErrorVerb::Read, read).await
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let bounds = self.run(ErrorSubject::Logs, ErrorVerb::Read, Store::bounds).await?;
        Ok(LogState { last_purged_log_id: bounds.purged, last_log_id: bounds.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        let write = move |store: &Store| store.save_vote(&vote);
        self.run(ErrorSubject::Vote, ErrorVerb::Write, write).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = self.run(ErrorSubject::Vote, ErrorVerb::Read, Store::read_vote).await?;
        // The library would have a leader go on leading where it stood. It knows no longer how far it had agreed, and
        // would answer a read without what it has acknowledged; so it stands for election like everybody else.
        Ok(vote.map(|vote| Vote { committed: false, ..vote }))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.0.note_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.run(ErrorSubject::Logs, ErrorVerb::Read, Store::read_committed).await
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let write = move |store: &Store| store.append(&entries);
        self.run(ErrorSubject::Logs, ErrorVerb::Write, write).await?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, since: LogId) -> Result<(), StorageError> {
        self.0.truncate(since.index);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        // The library removes what a leader's snapshot holds while that snapshot is still being written.
        let write = move |store: &Store| store.purge(upto);
        let saved = self.0.wait_snapshot(upto).await;
        saved.map_err(|failure| io_error(ErrorSubject::Logs, ErrorVerb::Delete, &failure))?;
        self.run(ErrorSubject::Logs, ErrorVerb::Delete, write).await
    }
}
