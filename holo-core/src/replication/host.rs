//! The machine of one node: all its replicas, and what it knows of its peers.

use std::collections::VecDeque;
use std::sync::Arc;

use super::config::{ConfigVerifier, GroupConfig, GroupId, ReplicaId};
use super::io::{Input, Output};
use super::messages::Entry;
use super::mutant::Mutant;
use super::summary::GroupSummary;
use super::timers::Timers;
use crate::group::Seq;
use crate::{ErrorCode, Failure, Instant};

/// Everything that is replicated on one node. See the module docs for its contract.
#[derive(Debug)]
pub struct Host {
    me: ReplicaId,
    timers: Timers,
    verifier: Arc<dyn ConfigVerifier>,
    mutant: Mutant,
    outputs: VecDeque<Output>,
}

impl Host {
    /// A host that holds nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] from [`Timers::check`].
    pub fn new(
        me: ReplicaId,
        timers: Timers,
        verifier: Arc<dyn ConfigVerifier>,
    ) -> Result<Self, Failure> {
        timers.check()?;
        Ok(Self { me, timers, verifier, mutant: Mutant::None, outputs: VecDeque::new() })
    }

    /// Plants a bug, and takes times that [`Timers::check`] would refuse.
    #[doc(hidden)]
    pub fn danger_with_mutant_for_testing_only(
        me: ReplicaId,
        timers: Timers,
        verifier: Arc<dyn ConfigVerifier>,
        mutant: Mutant,
    ) -> Self {
        Self { me, timers, verifier, mutant, outputs: VecDeque::new() }
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// Nothing has changed then. [`Input::Propose`]: [`ErrorCode::WrongNode`] when another replica is the primary,
    /// [`ErrorCode::NotReady`] while a takeover is not finished, [`ErrorCode::NoQuorum`] when fewer replicas are in
    /// sync than the class wants, [`ErrorCode::DataLost`] when the last copy is gone, [`ErrorCode::Overloaded`] when
    /// the log is full, [`ErrorCode::OutcomeUnknown`] for a request beyond its window or session,
    /// [`ErrorCode::InvalidArgument`], [`ErrorCode::TooLarge`] or [`ErrorCode::Malformed`] for an operation that
    /// cannot be. [`Input::Message`]: [`ErrorCode::Denied`] when the sender has no such role,
    /// [`ErrorCode::Malformed`] for what no correct peer says. [`Input::Config`]: [`ErrorCode::Denied`] without the
    /// catalog's proof.
    pub fn handle_input(&mut self, _now: Instant, _input: Input) -> Result<(), Failure> {
        Err(Failure::new(ErrorCode::NotYet, format!("{:?} {:?}", self.timers, self.verifier)))
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Panics unless the invariants hold.
    ///
    /// # Panics
    ///
    /// When one of them is broken: a bug in this machine.
    pub fn assert_invariants(&self) {
        assert!(self.mutant == Mutant::None || !self.outputs.is_empty(), "{self:?}");
    }

    /// The replica that this host is.
    pub fn me(&self) -> ReplicaId {
        self.me
    }

    /// The newest config that is believed here; also of groups that this host is no member of any more.
    pub fn config(&self, _group: GroupId) -> Option<&Arc<GroupConfig>> {
        None
    }

    /// Every group that this host is a member of, for status pages.
    pub fn summary(&self) -> Vec<GroupSummary> {
        Vec::new()
    }

    /// One group of [`Self::summary`].
    pub fn group_summary(&self, _group: GroupId) -> Option<GroupSummary> {
        None
    }

    /// The committed entries that the log still holds, from number `from` on.
    #[doc(hidden)]
    pub fn committed_entries_for_testing_only(&self, _group: GroupId, _from: Seq) -> Vec<Entry> {
        Vec::new()
    }

    /// All entries that the log still holds, from number `from` on.
    #[doc(hidden)]
    pub fn log_entries_for_testing_only(&self, _group: GroupId, _from: Seq) -> Vec<Entry> {
        Vec::new()
    }
}
