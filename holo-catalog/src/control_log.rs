//! What the rest of a node sees of the catalog's agreement, and what it gives to it.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use holo_core::Failure;
use tokio::sync::watch;

use crate::{CatalogError, Quorum, Standing};

/// A log that voters agree on, and a state that follows from it.
///
/// Every method may be called on every voter. Those that change something or promise the newest state work at the
/// leader and say elsewhere who that is.
pub trait ControlLog: Send + Sync + 'static {
    /// Has `command` agreed on, and returns once it is applied here. Waits for a leader first when there is none.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotLeader`], [`CatalogError::NoQuorum`], [`CatalogError::Busy`] and [`CatalogError::TooLarge`] did
    /// nothing. After [`CatalogError::OutcomeUnknown`] the command may be applied, now or later.
    fn propose(
        &self,
        command: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Proposed, CatalogError>>;

    /// An index that covers everything that was acknowledged before this call, applied here when it returns. A voter
    /// that is not the leader asks the leader for it and then waits with [`ControlLog::wait_applied`].
    ///
    /// # Errors
    ///
    /// As [`ControlLog::propose`]; nothing is ever changed.
    fn read_index(&self, deadline: Duration) -> BoxFuture<'_, Result<LogIndex, CatalogError>>;

    /// Waits until the state here has seen everything up to `index`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NoQuorum`] when it has not within `deadline`, [`CatalogError::Stopped`] when it never will.
    fn wait_applied(
        &self,
        index: LogIndex,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<(), CatalogError>>;

    /// Makes `voters` the voters: adds the new ones as learners, waits until they have caught up, then switches by way
    /// of a joint majority of old and new. A change that a dying leader left half-way is finished by the next one.
    /// Who votes no more stays a learner for a moment, so that it hears of it; then its membership ends. A leader that
    /// is not among `voters` leads until then.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotLeader`], [`CatalogError::NoQuorum`], [`CatalogError::ChangeRefused`] and
    /// [`CatalogError::NotCaughtUp`] left the voters as they were.
    fn change_voters(
        &self,
        voters: BTreeSet<VoterId>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<(), CatalogError>>;

    /// Answers a request that another voter sent through its [`Transport`]. `from` is who the connection proved to be.
    ///
    /// # Errors
    ///
    /// [`holo_core::ErrorCode::Malformed`] for what no voter sends, or not this one.
    fn handle(&self, from: VoterId, request: Bytes) -> BoxFuture<'_, Result<Bytes, Failure>>;

    /// Who leads and who votes, as far as is known here, and every change of it.
    fn standing(&self) -> watch::Receiver<Standing>;

    /// The leader, when one is known that is in touch: this voter with a majority, or another one that this one has
    /// heard of within the last two election timeouts.
    fn leader(&self) -> Option<VoterId>;

    /// Up to where the state here has applied the log, and every advance of it.
    fn applied(&self) -> watch::Receiver<LogIndex>;

    /// The voters that were heard of within the last two election timeouts, this one included when it votes. A leader
    /// hears of all that live, the others of the leader and of candidates.
    fn answering(&self) -> BTreeSet<VoterId>;

    /// Who has to agree, and who of them answers.
    fn quorum(&self) -> Quorum;

    /// Stops taking part and closes the file.
    fn shutdown(&self) -> BoxFuture<'_, ()>;

    /// Whether this voter leads and has a majority behind it.
    fn is_leader(&self) -> bool;
}

/// The state machine: a pure function of the commands, the same on every voter.
pub trait ReplicatedState: Send + Sync + 'static {
    /// Applies the command committed at `index`; the answer goes to its proposer. Reads nothing but its arguments.
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Bytes;

    /// The whole state, for [`ReplicatedState::restore`] of this version and the next one. It is asked for on a thread
    /// of its own, and may take a while; nothing is applied until it returns.
    fn snapshot(&self) -> Vec<u8>;

    /// Becomes the state that gave `snapshot`.
    ///
    /// # Errors
    ///
    /// When these are not the bytes of a snapshot; the state is then unchanged.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Failure>;
}

/// How voters reach each other.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request`, at most [`holo_core::limits::BODY_BYTES_MAX`] bytes, to [`ControlLog::handle`] of voter `to`,
    /// and returns its answer. Whoever waits may stop waiting by dropping the future.
    fn call(
        &self,
        to: VoterId,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Failure>>;
}

/// A voter. It stands for one file: a voter that lost its file forgot whom it voted for and what it acknowledged, and
/// may only come back under an id that was never used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterId(pub u64);

impl fmt::Display for VoterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for VoterId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// A place in the log. The first command has index 1 or more; 0 is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A command that was committed and applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Where in the log it is.
    pub index: LogIndex,
    /// What the state machine answered.
    pub answer: Bytes,
}
