//! One voter, put together.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use holo_core::{ErrorCode, Failure};
use openraft::error::{CheckIsLeaderError, ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::{Config, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::contacts::Contacts;
use crate::control_log::{ControlLog, LogIndex, Proposed, ReplicatedState, Transport, VoterId};
use crate::network::Peers;
use crate::options::{Options, Timers};
use crate::raft::{Command, TypeConfig};
use crate::receive::Receiver;
use crate::state::{Cell, Machine};
use crate::store::{LogStore, Store};
use crate::{COMMAND_BYTES_MAX, CatalogError, Quorum, Standing};

pub(crate) type Raft = openraft::Raft<TypeConfig>;

/// Proposals that wait here for those before them.
pub(crate) const PROPOSALS_WAITING_MAX: usize = 1024;
/// Proposals that the library has at once. It writes each to the disk by itself, and sends no heartbeat before it has
/// written all that it was given.
const PROPOSALS_AT_ONCE: usize = 8;
/// Entries that one append carries at most, whatever their size.
const APPEND_ENTRIES: u64 = 300;

/// One voter of the catalog. A clone is the same voter. It lives on the runtime that opened it; when the last clone is
/// dropped it stops like a process that was killed, [`ControlLog::shutdown`] stops it in order.
pub struct Catalog<S> {
    inner: Arc<Inner<S>>,
}

/// What clones share.
pub(crate) struct Inner<S> {
    pub(crate) me: VoterId,
    pub(crate) raft: Raft,
    pub(crate) cell: Arc<Cell<S>>,
    pub(crate) store: Arc<Store>,
    pub(crate) contacts: Arc<Contacts>,
    pub(crate) timers: Timers,
    pub(crate) standing: watch::Receiver<Standing>,
    /// Held by whoever changes the voters.
    pub(crate) changing: Arc<tokio::sync::Mutex<()>>,
    waiting: Semaphore,
    at_once: Semaphore,
    receiver: Receiver,
    tasks: Mutex<JoinSet<()>>,
}

impl<S: ReplicatedState> Catalog<S> {
    /// Opens the voter's file, brings `state`, which must be the initial one, to where the file is, and takes part.
    /// The voter of a new file waits until another one adds it, or until [`Catalog::initialize`].
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] for timers that do not fit or a file of another voter or key,
    /// [`ErrorCode::Corrupt`] for a damaged file, [`ErrorCode::FileFailed`] from the system, and what
    /// [`ReplicatedState::restore`] says of the snapshot.
    pub async fn open(
        options: Options,
        state: S,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, Failure> {
        options.timers.check()?;
        let timers = options.timers;
        let me = options.me;
        let config = config(&options)?;
        let cell = Arc::new(Cell::new(state, options.compaction.after_bytes));
        let opened = tokio::task::spawn_blocking(move || Store::open(&options)).await;
        let store = opened.map_err(|source| {
            Failure::new(ErrorCode::Corrupt, format!("the catalog's file: {source}"))
                .help("let this node join anew, as another voter")
        })??;
        let restored = Arc::clone(&cell);
        let restore = move |store: &Store| match store.read_snapshot()? {
            Some((description, state)) => restored.restore(&description.checked()?, &state),
            None => Ok(()),
        };
        store.run(restore).await?;

        let contacts = Arc::new(Contacts::default());
        let peers = Peers { me, transport, contacts: Arc::clone(&contacts), timers };
        let machine = Machine { cell: Arc::clone(&cell), store: Arc::clone(&store) };
        let log = LogStore(Arc::clone(&store));
        let raft = Raft::new(me, Arc::new(config), peers, log, machine).await;
        let raft = raft.map_err(|error| why(&store, &error))?;

        // The first answer comes after the library has said what it found in the file.
        raft.is_initialized().await.map_err(|error| why(&store, &error))?;
        let found = crate::voters::standing(&raft.server_metrics().borrow());
        let (standing_sender, standing) = watch::channel(found);
        let changing = Arc::default();
        let mut tasks = JoinSet::new();
        let follower = crate::voters::Follower {
            me,
            raft: raft.clone(),
            cell: Arc::clone(&cell),
            store: Arc::clone(&store),
            contacts: Arc::clone(&contacts),
            standing: standing_sender,
            changing: Arc::clone(&changing),
            timers,
        };
        tasks.spawn(follower.run());
        let receiver = Receiver::default();
        let tasks = Mutex::new(tasks);
        let inner = Inner {
            waiting: Semaphore::new(PROPOSALS_WAITING_MAX),
            at_once: Semaphore::new(PROPOSALS_AT_ONCE),
            me,
            raft,
            cell,
            store,
            contacts,
            timers,
            standing,
            changing,
            receiver,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Makes this voter the only one of a new catalog. Done already by this voter, it does nothing; a voter that was
    /// added to a catalog must not be initialized.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Conflict`] when this voter is a member of a catalog with others, or those of its file.
    pub async fn initialize(&self) -> Result<(), Failure> {
        let only = BTreeSet::from([self.inner.me]);
        match self.inner.raft.initialize(only.clone()).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                let members = self.inner.members();
                if members == only {
                    return Ok(());
                }
                let message = format!("voter {} belongs to a catalog already", self.inner.me);
                Err(Failure::new(ErrorCode::Conflict, message))
            }
            Err(RaftError::APIError(InitializeError::NotInMembers(error))) => {
                Err(Failure::new(ErrorCode::Internal, error.to_string()))
            }
            Err(RaftError::Fatal(error)) => Err(self.inner.fatal(&error).into()),
        }
    }

    /// Who this voter is.
    pub fn me(&self) -> VoterId {
        self.inner.me
    }

    /// Whether this voter has ever heard of a catalog: initialized, added by another one, or asked for its vote.
    pub async fn is_initialized(&self) -> bool {
        self.inner.raft.is_initialized().await.unwrap_or(false)
    }

    /// Reads the state as it is here, with the index up to which it has applied the log. `read` must be quick: nothing
    /// is applied meanwhile.
    pub fn with_state<T>(&self, read: impl FnOnce(&S, LogIndex) -> T) -> T {
        self.inner.cell.with(read)
    }
}

impl<S> Clone for Catalog<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<S> fmt::Debug for Catalog<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("me", &self.inner.me)
            .field("standing", &*self.inner.standing.borrow())
            .finish_non_exhaustive()
    }
}

impl<S: ReplicatedState> ControlLog for Catalog<S> {
    fn propose(
        &self,
        command: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Proposed, CatalogError>> {
        Box::pin(self.inner.propose(command, deadline))
    }

    fn read_index(&self, deadline: Duration) -> BoxFuture<'_, Result<LogIndex, CatalogError>> {
        Box::pin(self.inner.read_index(deadline))
    }

    fn wait_applied(
        &self,
        index: LogIndex,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(async move {
            let mut applied = self.inner.cell.applied();
            let mut standing = self.inner.standing.clone();
            tokio::select! {
                waited = timeout(deadline, applied.wait_for(|applied| *applied >= index)) => {
                    match waited {
                        Ok(Ok(_)) => Ok(()),
                        Ok(Err(_)) => Err(CatalogError::Stopped),
                        Err(_) => Err(self.inner.no_quorum()),
                    }
                }
                _ = standing.wait_for(|standing| standing.stopped) => Err(self.inner.stopped()),
            }
        })
    }

    fn change_voters(
        &self,
        voters: BTreeSet<VoterId>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<(), CatalogError>> {
        Box::pin(self.inner.change_voters(voters, deadline))
    }

    fn handle(&self, from: VoterId, request: Bytes) -> BoxFuture<'_, Result<Bytes, Failure>> {
        Box::pin(async move {
            let inner = &self.inner;
            // Where a leader speaks, the tick that would ask whether one does can be taken now.
            crate::rhythm::go_along();
            let answer = inner.receiver.handle(&inner.raft, from, &request).await?;
            inner.contacts.heard_of(from);
            Ok(answer)
        })
    }

    fn standing(&self) -> watch::Receiver<Standing> {
        self.inner.standing.clone()
    }

    fn leader(&self) -> Option<VoterId> {
        let leader = self.inner.leader_in_name()?;
        self.inner.leads_now(leader).then_some(leader)
    }

    fn applied(&self) -> watch::Receiver<LogIndex> {
        self.inner.cell.applied()
    }

    fn answering(&self) -> BTreeSet<VoterId> {
        self.inner.answering()
    }

    fn quorum(&self) -> Quorum {
        self.inner.quorum()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
            if let Err(error) = self.inner.raft.shutdown().await {
                tracing::debug!(%error, "the voter had ended already");
            }
            // The follower ends by itself when it sees that the voter has.
            while tasks.join_next().await.is_some() {}
            let closed = self.inner.store.run(|store| {
                store.close();
                Ok(())
            });
            if let Err(failure) = closed.await {
                tracing::warn!(%failure, "the catalog's file was not closed");
            }
        })
    }

    fn is_leader(&self) -> bool {
        self.leader() == Some(self.inner.me)
    }
}

impl<S: ReplicatedState> Inner<S> {
    async fn propose(&self, command: Bytes, deadline: Duration) -> Result<Proposed, CatalogError> {
        if command.len() > COMMAND_BYTES_MAX {
            return Err(CatalogError::TooLarge { bytes: command.len() });
        }
        let busy = CatalogError::Busy { waiting: PROPOSALS_WAITING_MAX };
        let Ok(_place) = self.waiting.try_acquire() else { return Err(busy) };
        let until = Instant::now() + deadline;
        self.lead_by(until).await?;
        let Ok(turn) = timeout_at(until, self.at_once.acquire()).await else {
            return Err(if self.has_majority() { busy } else { self.no_quorum() });
        };
        let _turn = turn.map_err(|_closed| CatalogError::Stopped)?;
        match timeout_at(until, self.raft.client_write(Command(command))).await {
            Ok(Ok(done)) => {
                let index = LogIndex(done.log_id.index);
                Ok(Proposed { index, answer: done.data.0 })
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(CatalogError::ChangeRefused { reason: error.to_string() })
            }
            // One that another leader removed from the log here may still be in a third voter's, who may lead later.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))))
            | Ok(Err(RaftError::Fatal(Fatal::Stopped)))
            | Err(_) => Err(self.outcome_unknown(deadline)),
            Ok(Err(RaftError::Fatal(error))) => Err(self.fatal(&error)),
        }
    }

    async fn read_index(&self, deadline: Duration) -> Result<LogIndex, CatalogError> {
        let until = Instant::now() + deadline;
        loop {
            self.lead_by(until).await?;
            match timeout_at(until, self.raft.ensure_linearizable()).await {
                Ok(Ok(id)) => return Ok(LogIndex(id.map_or(0, |id| id.index))),
                Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_)))) => {}
                Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) => {
                    // One missed answer is no lost majority; `lead_by` says when it is.
                    self.pause(until).await;
                }
                Ok(Err(RaftError::Fatal(error))) => return Err(self.fatal(&error)),
                Err(_) => return Err(self.no_quorum()),
            }
        }
    }

    /// Returns when this voter leads with a majority behind it.
    pub(crate) async fn lead_by(&self, until: Instant) -> Result<(), CatalogError> {
        loop {
            if self.standing.borrow().stopped {
                return Err(self.stopped());
            }
            match self.leader_in_name() {
                Some(leader) if !self.leads_now(leader) && Instant::now() < until => {
                    self.pause(until).await;
                }
                Some(leader) if !self.leads_now(leader) => return Err(self.no_quorum()),
                Some(leader) if leader != self.me => {
                    return Err(CatalogError::NotLeader { leader });
                }
                Some(_) => return Ok(()),
                _ if Instant::now() >= until => return Err(self.no_quorum()),
                _ => self.pause(until).await,
            }
        }
    }

    /// Waits for a change, for a heartbeat at most.
    async fn pause(&self, until: Instant) {
        let mut standing = self.standing.clone();
        standing.mark_unchanged();
        let until = until.min(Instant::now() + self.timers.heartbeat);
        // Both ends of the wait mean the same: look again.
        drop(timeout_at(until, standing.changed()).await);
    }

    /// Who leads by the last election, though it may have lost its majority since.
    pub(crate) fn leader_in_name(&self) -> Option<VoterId> {
        self.raft.metrics().borrow().current_leader
    }

    /// Whether the leader by the last election is in touch: this one with a majority, another one with this one. Who
    /// votes no more never stands for election, and would believe in a dead leader for ever.
    fn leads_now(&self, leader: VoterId) -> bool {
        if leader == self.me {
            return self.has_majority();
        }
        let window = self.timers.answering_window();
        self.contacts.answering([leader], self.me, window).contains(&leader)
    }

    fn members(&self) -> BTreeSet<VoterId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.nodes().map(|(member, _)| *member).collect()
    }

    fn answering(&self) -> BTreeSet<VoterId> {
        let voters: Vec<VoterId> =
            self.raft.metrics().borrow().membership_config.voter_ids().collect();
        self.contacts.answering(voters, self.me, self.timers.answering_window())
    }

    /// Whether more than half of each set of voters was heard of lately.
    fn has_majority(&self) -> bool {
        self.quorum().is_met()
    }

    /// Who has to agree, and who of them was heard of lately.
    fn quorum(&self) -> Quorum {
        let metrics = self.raft.metrics();
        let sets = metrics.borrow().membership_config.membership().get_joint_config().clone();
        Quorum { sets, answering: self.answering() }
    }

    pub(crate) fn no_quorum(&self) -> CatalogError {
        CatalogError::NoQuorum(self.quorum())
    }

    pub(crate) fn outcome_unknown(&self, waited: Duration) -> CatalogError {
        CatalogError::OutcomeUnknown { waited, quorum: self.quorum() }
    }

    /// Why nothing is done any more.
    pub(crate) fn stopped(&self) -> CatalogError {
        match self.raft.metrics().borrow().running_state.clone() {
            Err(error) => self.fatal(&error),
            Ok(()) => CatalogError::Stopped,
        }
    }

    pub(crate) fn fatal(&self, error: &Fatal<VoterId>) -> CatalogError {
        match error {
            Fatal::Stopped => CatalogError::Stopped,
            Fatal::StorageError(_) | Fatal::Panicked => {
                CatalogError::Broken(why(&self.store, error))
            }
        }
    }
}

/// What the file said, or else what the library says.
pub(crate) fn why(store: &Store, error: &Fatal<VoterId>) -> Failure {
    let failure = store.failure();
    failure.unwrap_or_else(|| Failure::new(ErrorCode::Internal, error.to_string()))
}

fn config(options: &Options) -> Result<Config, Failure> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let compaction = &options.compaction;
    let config = Config {
        cluster_name: "catalog".to_owned(),
        // A tick that goes along with something else must not come a moment too early to speak.
        heartbeat_interval: millis(options.timers.heartbeat * 9 / 10).max(1),
        election_timeout_min: millis(options.timers.election_min),
        election_timeout_max: millis(options.timers.election_max),
        install_snapshot_timeout: millis(options.timers.snapshot_piece),
        max_payload_entries: APPEND_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(compaction.after_entries.max(1)),
        max_in_snapshot_log_to_keep: compaction.keep_entries,
        replication_lag_threshold: compaction.after_entries.saturating_add(compaction.keep_entries),
        ..Config::default()
    };
    config.validate().map_err(|source| Failure::new(ErrorCode::ConfigInvalid, source.to_string()))
}
