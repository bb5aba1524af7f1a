//! How a voter is set up.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use holo_core::{ErrorCode, Failure};
use zeroize::Zeroizing;

use crate::VoterId;

/// How a voter is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who it is.
    pub me: VoterId,
    /// The folder of its file, made when it is not there.
    pub directory: PathBuf,
    /// What its file is encrypted with. Without one the file is only checksummed. It stays as it was when the file was made.
    pub at_rest_key: Option<AtRestKey>,
    /// Its timers; the same on every voter.
    pub timers: Timers,
    /// When its log is folded into a snapshot.
    pub compaction: Compaction,
}

impl Options {
    /// An unencrypted voter with the usual timers.
    pub fn new(me: VoterId, directory: impl Into<PathBuf>) -> Self {
        Self {
            me,
            directory: directory.into(),
            at_rest_key: None,
            timers: Timers::default(),
            compaction: Compaction::default(),
        }
    }
}

/// Timers of the agreement. After a leader's death the others stand for election when between one and two
/// `election_max` have passed since they heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// How often a leader says that it leads; also how long it waits for a follower that appends.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout, and how long a follower refuses to vote after it heard of a leader.
    pub election_max: Duration,
    /// How long one piece of a snapshot may take to arrive and, the last one, to be installed.
    pub snapshot_piece: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(100),
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(500),
            snapshot_piece: Duration::from_secs(10),
        }
    }
}

impl Timers {
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] unless they grow in the order of their fields.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let ascending = Duration::from_millis(1) <= self.heartbeat
            && self.heartbeat < self.election_min
            && self.election_min < self.election_max
            && self.election_max <= self.snapshot_piece;
        if ascending {
            return Ok(());
        }
        Err(Failure::new(
            ErrorCode::ConfigInvalid,
            format!("timers of the catalog must grow from heartbeat to snapshot piece: {self:?}"),
        ))
    }

    /// How long a voter counts as answering after it was heard of.
    pub(crate) fn answering_window(&self) -> Duration {
        self.election_max * 2
    }

    /// How long a leader that no majority answers leaves a voter alone. Others stand for election at the latest when
    /// two `election_max` have passed since they heard of a leader; another one is for the election itself.
    pub(crate) fn unheard_pause(&self) -> Duration {
        self.election_max * 3
    }
}

/// When the log is folded into a snapshot. Whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Entries since the last snapshot.
    pub after_entries: u64,
    /// Bytes of commands since the last snapshot.
    pub after_bytes: u64,
    /// Entries that stay in the log although a snapshot holds them, so that a voter that was away for a short while
    /// is sent entries rather than a snapshot.
    pub keep_entries: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { after_entries: 4096, after_bytes: 32 << 20, keep_entries: 1024 }
    }
}

/// What a voter's file is encrypted with. It is erased from memory when dropped and prints as `<redacted>`.
#[derive(Clone)]
pub struct AtRestKey(Zeroizing<[u8; 32]>);

impl AtRestKey {
    /// A key of 32 random bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for AtRestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}
