//! The one file of a voter: whom it voted for, its log, and one snapshot. Everything here blocks.
//!
//! `docs/disk-format.md` describes the file.

mod log;
mod seal;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use holo_core::{ErrorCode, Failure};
use parking_lot::{Mutex, RwLock};
use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::watch;

use crate::options::Options;
use crate::raft::{Entry, LogId, Vote};
use crate::wire::convert::maybe_id;
use crate::wire::{EntryBody, LogIdBody, SNAPSHOT_BYTES_MAX, SnapshotMetaBody, VoteBody};
use seal::Sealer;

pub(crate) use log::{LogStore, io_error};

/// Name of a voter's file in its folder.
pub const FILE_NAME: &str = "catalog.redb";
/// Version of the file's format.
const FORMAT: u32 = 1;
/// Memory that caches pages of the file.
const CACHE_BYTES: usize = 16 << 20;

type LogTable<'t> = redb::Table<'t, u64, &'static [u8]>;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const SNAPSHOT: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshot");

/// What the file is: format, voter and the name of its key. Never encrypted.
const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const DESCRIPTION: &str = "description";
const STATE: &str = "state";

/// An open file.
#[derive(Debug)]
pub(crate) struct Store {
    /// `None` once it is closed.
    database: RwLock<Option<Database>>,
    sealer: Sealer,
    /// How far the log is known to be committed. A hint that saves time after a restart, so it is written along with
    /// whatever is written next.
    committed: Mutex<Option<LogId>>,
    /// Entries from here on are no longer the log's, though the file still has them: see [`Store::truncate`].
    cut: Mutex<Option<u64>>,
    progress: watch::Sender<Progress>,
}

/// What those who wait for the file are told.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// Where the snapshot in the file ends.
    snapshot: Option<LogId>,
    /// The first thing that went wrong, for those who only learn that something did.
    failure: Option<Failure>,
}

/// First line of the file.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Identity {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    voter: u64,
    #[prost(bytes = "vec", tag = "3")]
    key_name: Vec<u8>,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

impl Store {
    /// Opens the file or makes it, and reads all of it once, so that damage shows now.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`] from the system, [`ErrorCode::ConfigInvalid`] when the file is another voter's or of
    /// another key, [`ErrorCode::VersionMismatch`] for a newer format, [`ErrorCode::Corrupt`] when it is damaged.
    pub(crate) fn open(options: &Options) -> Result<Arc<Self>, Failure> {
        let path = options.directory.join(FILE_NAME);
        let place = |failure: Failure| failure.context(path.display());
        let file = create_for_owner(&options.directory, &path).map_err(|source| {
            place(Failure::new(ErrorCode::FileFailed, format!("cannot be opened: {source}")))
        })?;
        let database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(
                redb::backends::FileBackend::new(file).map_err(|source| place(broken(source)))?,
            )
            .map_err(|source| place(broken(source)))?;
        let store = Self {
            database: RwLock::new(Some(database)),
            sealer: Sealer::new(options.at_rest_key.clone()).map_err(place)?,
            committed: Mutex::new(None),
            cut: Mutex::new(None),
            progress: watch::Sender::default(),
        };
        store.identify(options).map_err(place)?;
        store.check().map_err(place)?;
        *store.committed.lock() = store.read_committed().map_err(place)?;
        Ok(Arc::new(store))
    }

    /// Writes what was only remembered, and closes the file. Whoever asks for something later hears so.
    pub(crate) fn close(&self) {
        let flushed = self.write(|_| Ok(()));
        self.database.write().take();
        if let Err(failure) = flushed {
            tracing::debug!(%failure, "the committed index was not written at the end");
        }
    }

    /// The first thing that went wrong with the file, if anything did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.progress.borrow().failure.clone()
    }

    /// Remembers `failure` as the reason why this voter stops.
    pub(crate) fn note(&self, failure: &Failure) {
        self.progress.send_modify(|progress| {
            progress.failure.get_or_insert_with(|| failure.clone());
        });
    }

    pub(crate) fn save_vote(&self, vote: &Vote) -> Result<(), Failure> {
        let body = VoteBody::from(vote).encode_to_vec();
        self.write(|transaction| self.put_meta(transaction, VOTE, &body))
    }

    pub(crate) fn read_vote(&self) -> Result<Option<Vote>, Failure> {
        let body = self.read_meta::<VoteBody>(VOTE)?;
        body.map(Vote::try_from).transpose().map_err(damaged)
    }

    /// Waits until the snapshot in the file ends at `upto` or later.
    ///
    /// # Errors
    ///
    /// The failure after which nothing is written any more.
    pub(crate) async fn wait_snapshot(&self, upto: LogId) -> Result<(), Failure> {
        let mut progress = self.progress.subscribe();
        let there = |progress: &Progress| {
            progress.failure.is_some() || progress.snapshot.is_some_and(|end| end >= upto)
        };
        // The sender is this file's own: the wait ends.
        match progress.wait_for(there).await.map(|progress| progress.failure.clone()) {
            Ok(Some(failure)) => Err(failure),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Remembers how far the log is committed.
    pub(crate) fn note_committed(&self, committed: Option<LogId>) {
        *self.committed.lock() = committed;
    }

    pub(crate) fn read_committed(&self) -> Result<Option<LogId>, Failure> {
        maybe_id(self.read_meta::<LogIdBody>(COMMITTED)?).map_err(damaged)
    }

    pub(crate) fn bounds(&self) -> Result<Bounds, Failure> {
        let purged = maybe_id(self.read_meta::<LogIdBody>(PURGED)?).map_err(damaged)?;
        let last = self.read(|transaction| {
            let table = transaction.open_table(LOG).map_err(broken)?;
            let mut entries = table.range(..self.end()).map_err(broken)?;
            let Some(last) = entries.next_back() else { return Ok(None) };
            let (index, stored) = last.map_err(broken)?;
            self.open_entry(index.value(), stored.value()).map(|entry| Some(entry.log_id))
        })?;
        Ok(Bounds { purged, last: last.or(purged) })
    }

    /// Entries from `start` up to but not including `end`, as far as they are there, and no more than fit into about
    /// `budget` bytes, but at least one.
    pub(crate) fn entries(
        &self,
        start: u64,
        end: u64,
        budget: usize,
    ) -> Result<Vec<Entry>, Failure> {
        self.read(|transaction| {
            let table = transaction.open_table(LOG).map_err(broken)?;
            let mut entries = Vec::new();
            let mut left = budget;
            let end = end.min(self.end()).max(start);
            for item in table.range(start..end).map_err(broken)? {
                let (index, stored) = item.map_err(broken)?;
                let stored = stored.value();
                if !entries.is_empty() && stored.len() > left {
                    break;
                }
                left = left.saturating_sub(stored.len());
                entries.push(self.open_entry(index.value(), stored)?);
            }
            Ok(entries)
        })
    }

    /// Appends `entries`; they are on disk when this returns.
    pub(crate) fn append(&self, entries: &[Entry]) -> Result<(), Failure> {
        let mut sealed = Vec::with_capacity(entries.len());
        for entry in entries {
            let index = entry.log_id.index;
            let body = EntryBody::from(entry).encode_to_vec();
            sealed.push((index, self.sealer.seal(&log_place(index), &body)?));
        }
        self.write(|transaction| {
            let mut table = self.open_log(transaction)?;
            for (index, stored) in &sealed {
                table.insert(index, stored.as_slice()).map_err(broken)?;
            }
            Ok(())
        })?;
        *self.cut.lock() = None;
        Ok(())
    }

    /// Removes the entries from `start` on: at once for whoever reads, from the file together with the next change of
    /// the log. Before a leader's snapshot replaces the log, entries of it that this voter has told others it has are
    /// removed; until that snapshot is in the file, a crash must find them.
    pub(crate) fn truncate(&self, start: u64) {
        let mut cut = self.cut.lock();
        *cut = Some(cut.map_or(start, |before| before.min(start)));
    }

    /// Removes the entries up to and including `upto`, which the snapshot in the file holds, and all others when they
    /// are of terms before it.
    pub(crate) fn purge(&self, upto: LogId) -> Result<(), Failure> {
        let body = LogIdBody::from(&upto).encode_to_vec();
        self.write(|transaction| {
            self.put_meta(transaction, PURGED, &body)?;
            let mut table = self.open_log(transaction)?;
            let last = match table.last().map_err(broken)? {
                Some((index, stored)) => Some(self.open_entry(index.value(), stored.value())?),
                None => None,
            };
            let superseded = last.is_some_and(|last| last.log_id < upto);
            let end = if superseded { u64::MAX } else { upto.index };
            table.retain_in(..=end, |_, _| false).map_err(broken)
        })?;
        *self.cut.lock() = None;
        Ok(())
    }

    /// Replaces the snapshot, unless there is a later one: a snapshot that was being taken here may end after one that
    /// the leader sent.
    pub(crate) fn save_snapshot(
        &self,
        description: &SnapshotMetaBody,
        state: &[u8],
    ) -> Result<(), Failure> {
        if state.len() as u64 > SNAPSHOT_BYTES_MAX {
            let message =
                format!("a snapshot of {} bytes, at most {SNAPSHOT_BYTES_MAX}", state.len());
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let body = description.encode_to_vec();
        let index = description.last.map(|last| last.index);
        let last = maybe_id(description.last)?;
        let description = self.sealer.seal(&place("snapshot", DESCRIPTION), &body)?;
        self.write(|transaction| {
            let mut table = transaction.open_table(SNAPSHOT).map_err(broken)?;
            let before = self.description(&table)?.and_then(|before| before.last);
            if before.map(|last| last.index) > index {
                return Ok(());
            }
            table.insert(DESCRIPTION, description.as_slice()).map_err(broken)?;
            // Sealed where it is going to be stored: it may be large, and a copy as large again.
            let stored_bytes = self.sealer.sealed_bytes(state.len());
            let mut stored = table.insert_reserve(STATE, stored_bytes).map_err(broken)?;
            self.sealer.seal_into(&place("snapshot", STATE), state, stored.as_mut())
        })?;
        self.progress.send_modify(|progress| progress.snapshot = progress.snapshot.max(last));
        Ok(())
    }

    pub(crate) fn read_snapshot(&self) -> Result<Option<(SnapshotMetaBody, Bytes)>, Failure> {
        self.read(|transaction| {
            let table = transaction.open_table(SNAPSHOT).map_err(broken)?;
            let Some(description) = self.description(&table)? else { return Ok(None) };
            let Some(stored) = table.get(STATE).map_err(broken)? else {
                return Err(Failure::new(
                    ErrorCode::Corrupt,
                    "the state of the snapshot is missing",
                ));
            };
            let state = self.sealer.open(&place("snapshot", STATE), stored.value())?;
            if !description.describes(&state) {
                return Err(Failure::new(ErrorCode::Corrupt, "the snapshot is not as described"));
            }
            Ok(Some((description, state.into())))
        })
    }

    /// Writes what the file is, or refuses one that is something else.
    fn identify(&self, options: &Options) -> Result<(), Failure> {
        let wanted = Identity {
            format: FORMAT,
            voter: options.me.0,
            key_name: self.sealer.key_name().to_vec(),
        };
        let at = place("meta", IDENTITY);
        let found = self.write(|transaction| {
            let mut table = transaction.open_table(META).map_err(broken)?;
            transaction.open_table(LOG).map_err(broken)?;
            transaction.open_table(SNAPSHOT).map_err(broken)?;
            let found = table.get(IDENTITY).map_err(broken)?.map(|stored| stored.value().to_vec());
            if found.is_none() {
                let stored = self.sealer.seal_plain(&at, &wanted.encode_to_vec());
                table.insert(IDENTITY, stored.as_slice()).map_err(broken)?;
            }
            Ok(found)
        })?;
        let Some(found) = found else { return Ok(()) };
        let found = self.sealer.open_plain(&at, &found)?;
        let found = Identity::decode(found.as_slice()).map_err(decoded)?;
        if found.format != FORMAT {
            let message = format!("format {}, this version reads {FORMAT}", found.format);
            return Err(Failure::new(ErrorCode::VersionMismatch, message));
        }
        if found.voter != options.me.0 {
            let message = format!("the file of voter {}, not of {}", found.voter, options.me);
            return Err(Failure::new(ErrorCode::ConfigInvalid, message));
        }
        if found.key_name == wanted.key_name {
            return Ok(());
        }
        let unencrypted = [0; 16];
        let message = if found.key_name == unencrypted {
            "the file is not encrypted, and a key was given"
        } else if wanted.key_name == unencrypted {
            "the file is encrypted, and no key was given"
        } else {
            "the file is encrypted with another key"
        };
        Err(Failure::new(ErrorCode::ConfigInvalid, message)
            .help("give the key that the file was made with"))
    }

    /// Reads everything once: entries follow one another, and all opens.
    fn check(&self) -> Result<(), Failure> {
        self.read_vote()?;
        let bounds = self.bounds()?;
        let description = self.read_snapshot()?.map(|(description, _)| description);
        let snapshot = match description {
            Some(description) => description.checked().map_err(damaged)?.last_log_id,
            None => None,
        };
        self.progress.send_modify(|progress| progress.snapshot = snapshot);
        if bounds.purged > snapshot {
            let message = "the log begins after the end of the snapshot";
            return Err(Failure::new(ErrorCode::Corrupt, message));
        }
        self.read(|transaction| {
            let table = transaction.open_table(LOG).map_err(broken)?;
            let first = bounds.purged.map_or(0, |purged| purged.index + 1);
            for (next, item) in (first..).zip(table.iter().map_err(broken)?) {
                let (index, stored) = item.map_err(broken)?;
                let entry = self.open_entry(index.value(), stored.value())?;
                if entry.log_id.index != next {
                    let message = format!("entry {next} of the log is missing");
                    return Err(Failure::new(ErrorCode::Corrupt, message));
                }
            }
            Ok(())
        })
    }

    /// Where the log ends at the latest.
    fn end(&self) -> u64 {
        self.cut.lock().unwrap_or(u64::MAX)
    }

    /// The log, to be changed; what was cut off is gone from it.
    fn open_log<'t>(&self, transaction: &'t WriteTransaction) -> Result<LogTable<'t>, Failure> {
        let mut table = transaction.open_table(LOG).map_err(broken)?;
        if let Some(cut) = *self.cut.lock() {
            table.retain_in(cut.., |_, _| false).map_err(broken)?;
        }
        Ok(table)
    }

    fn description(
        &self,
        table: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<Option<SnapshotMetaBody>, Failure> {
        let Some(stored) = table.get(DESCRIPTION).map_err(broken)? else {
            return Ok(None);
        };
        let body = self.sealer.open(&place("snapshot", DESCRIPTION), stored.value())?;
        SnapshotMetaBody::decode(body.as_slice()).map(Some).map_err(decoded)
    }

    fn open_entry(&self, index: u64, stored: &[u8]) -> Result<Entry, Failure> {
        let body = Bytes::from(self.sealer.open(&log_place(index), stored)?);
        let entry = Entry::try_from(EntryBody::decode(body).map_err(decoded)?).map_err(damaged)?;
        if entry.log_id.index != index {
            return Err(Failure::new(ErrorCode::Corrupt, format!("entry {index} is another one")));
        }
        Ok(entry)
    }

    fn put_meta(
        &self,
        transaction: &WriteTransaction,
        name: &str,
        value: &[u8],
    ) -> Result<(), Failure> {
        let stored = self.sealer.seal(&place("meta", name), value)?;
        let mut table = transaction.open_table(META).map_err(broken)?;
        table.insert(name, stored.as_slice()).map_err(broken)?;
        Ok(())
    }

    fn read_meta<M: Message + Default>(&self, name: &str) -> Result<Option<M>, Failure> {
        self.read(|transaction| {
            let table = transaction.open_table(META).map_err(broken)?;
            let Some(stored) = table.get(name).map_err(broken)? else {
                return Ok(None);
            };
            let value = self.sealer.open(&place("meta", name), stored.value())?;
            M::decode(value.as_slice()).map(Some).map_err(decoded)
        })
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&redb::ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let database = self.database.read();
        let database = database.as_ref().ok_or_else(closed)?;
        work(&database.begin_read().map_err(broken)?)
    }

    /// One transaction, on disk when this returns.
    fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let database = self.database.read();
        let database = database.as_ref().ok_or_else(closed)?;
        let transaction = database.begin_write().map_err(broken)?;
        let done = work(&transaction)?;
        let committed = *self.committed.lock();
        if let Some(committed) = committed {
            self.put_meta(&transaction, COMMITTED, &LogIdBody::from(&committed).encode_to_vec())?;
        }
        transaction.commit().map_err(broken)?;
        Ok(done)
    }
}

/// What a value is bound to: its table and its key there.
fn place(table: &str, name: &str) -> Vec<u8> {
    format!("{table}/{name}").into_bytes()
}

fn log_place(index: u64) -> Vec<u8> {
    format!("log/{index}").into_bytes()
}

/// Opens `path` for reading and writing, making it and its folder for their owner alone.
fn create_for_owner(directory: &Path, path: &Path) -> std::io::Result<File> {
    let mut folder = std::fs::DirBuilder::new();
    folder.recursive(true);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        folder.mode(0o700);
        options.mode(0o600);
    }
    folder.create(directory)?;
    let file = options.open(path)?;
    // The name must last as long as what is written behind it.
    File::open(directory)?.sync_all()?;
    Ok(file)
}

/// An error of the database.
fn broken(source: impl Into<redb::Error>) -> Failure {
    match source.into() {
        redb::Error::Corrupted(what) => Failure::new(ErrorCode::Corrupt, what),
        redb::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            Failure::new(ErrorCode::Corrupt, format!("it is no file of a catalog: {source}"))
        }
        redb::Error::DatabaseAlreadyOpen => {
            Failure::new(ErrorCode::FileFailed, "another process has it open")
                .help("stop the other process; a voter runs once")
        }
        source => Failure::new(ErrorCode::FileFailed, source.to_string()),
    }
}

/// A value that opened but is no message.
fn decoded(source: prost::DecodeError) -> Failure {
    Failure::new(ErrorCode::Corrupt, source.to_string())
}

/// A value of our own file that would be malformed on the wire.
fn damaged(failure: Failure) -> Failure {
    Failure { code: ErrorCode::Corrupt, ..failure }
}

fn closed() -> Failure {
    Failure::new(ErrorCode::ShuttingDown, "the file is closed")
}
