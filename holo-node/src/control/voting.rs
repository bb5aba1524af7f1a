//! This node as a voter of the catalog.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use holo_catalog::{
    AtRestKey, Catalog, ControlLog, LogIndex, Options, ReplicatedState, Transport, VoterId,
};
use holo_core::catalog::{Answer, CatalogState, Command};
use holo_core::replication::NodeNumber;
use holo_core::wire::{Kind, RaftEnvelope};
use holo_core::{ErrorCode, Failure};
use holo_net::Request;
use parking_lot::RwLock;
use prost::Message;

use super::copy::{Copy, SharedState};
use crate::config::Config;
use crate::home::Home;
use crate::links::Links;

/// A voter of this process.
#[derive(Clone, Debug)]
pub(crate) struct Voting {
    pub(crate) id: VoterId,
    pub(crate) catalog: Catalog<VoterState>,
    /// It was seen to vote, in the agreement and in the record, since it was last asked to.
    voted: Arc<AtomicBool>,
}

impl Voting {
    /// Opens the voter's file, or makes it.
    pub(crate) async fn open(
        id: VoterId,
        home: &Home,
        config: &Config,
        links: &Arc<Links>,
        copy: &Arc<Copy>,
    ) -> Result<Self, Failure> {
        let options = Options {
            at_rest_key: Some(AtRestKey::new(*home.catalog_key()?)),
            timers: config.timers.catalog,
            ..Options::new(id, home.path())
        };
        let state = VoterState {
            state: Arc::new(RwLock::new(CatalogState::new())),
            copy: Arc::clone(copy),
        };
        let transport = Arc::new(LinkTransport { me: id, links: Arc::clone(links) });
        let catalog = Catalog::open(options, state, transport).await?;
        Ok(Self { id, catalog, voted: Arc::default() })
    }

    /// The node that leads the catalog, if one is known that is in touch.
    pub(crate) fn leader(&self) -> Option<NodeNumber> {
        self.catalog.leader().map(number_of)
    }

    /// Whether this node leads the catalog.
    pub(crate) fn is_leader(&self) -> bool {
        self.catalog.is_leader()
    }

    /// Whether this node leads by the last election, be a majority in touch with it or not.
    pub(crate) fn leads_in_name(&self) -> bool {
        self.catalog.standing().borrow().leader == Some(self.id)
    }

    /// Voters by the agreement itself.
    pub(crate) fn voters(&self) -> BTreeSet<VoterId> {
        self.catalog.standing().borrow().voters.clone()
    }

    /// Whether this voter has a vote, as far as it has heard.
    pub(crate) fn votes(&self) -> bool {
        self.catalog.standing().borrow().voters.contains(&self.id)
    }

    /// This voter has a vote, and the record says so.
    pub(crate) fn note_vote(&self) {
        self.voted.store(true, Ordering::Relaxed);
    }

    /// The leader wants this voter to vote, from now on or again.
    pub(crate) fn note_recruited(&self) {
        self.voted.store(false, Ordering::Relaxed);
    }

    /// Whether this voter had a vote and has heard that it has none any more. Nobody brings it news for long.
    pub(crate) fn is_former(&self) -> bool {
        self.voted.load(Ordering::Relaxed) && !self.votes()
    }

    /// Whether the voters are being changed.
    pub(crate) fn is_changing(&self) -> bool {
        self.catalog.standing().borrow().changing
    }

    /// Whether the agreement counts a node, or teaches it.
    pub(crate) fn counts(&self, node: NodeNumber) -> bool {
        let standing = self.catalog.standing();
        let standing = standing.borrow();
        standing.voters.union(&standing.learners).any(|it| number_of(*it) == node)
    }

    /// Whether this voter is counted, or is about to be.
    pub(crate) fn is_counted(&self) -> bool {
        let standing = self.catalog.standing();
        let standing = standing.borrow();
        standing.voters.contains(&self.id) || standing.learners.contains(&self.id)
    }

    /// Answers a message of another voter.
    pub(crate) async fn handle(
        &self,
        from: NodeNumber,
        envelope: RaftEnvelope,
    ) -> Result<Bytes, Failure> {
        let sender = VoterId(envelope.from);
        if number_of(sender) != from {
            let message = format!("node {from} speaks as voter {sender}");
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        if VoterId(envelope.to) != self.id {
            let message = format!("voter {} is not here, {} is", envelope.to, self.id);
            return Err(Failure::new(ErrorCode::WrongNode, message));
        }
        self.catalog.handle(sender, envelope.body).await
    }
}

/// The node of a voter. A node whose file was lost votes again under an id that was never used: the high half counts.
pub(crate) fn number_of(voter: VoterId) -> NodeNumber {
    NodeNumber(u32::try_from(voter.0 & u64::from(u32::MAX)).unwrap_or(0))
}

/// The id with which a node votes after it lost the file of this one.
pub(crate) fn next_life(voter: VoterId) -> VoterId {
    VoterId(voter.0.saturating_add(1 << 32))
}

/// The catalog's state machine, shown to the rest of the node as it changes.
pub(crate) struct VoterState {
    state: SharedState,
    copy: Arc<Copy>,
}

impl fmt::Debug for VoterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VoterState").finish_non_exhaustive()
    }
}

impl ReplicatedState for VoterState {
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Bytes {
        let answer = match Command::decode(command) {
            Ok(command) => self.state.write().apply(index.0, command),
            // The same bytes are refused in the same way everywhere.
            Err(failure) => Answer::Refused(failure),
        };
        self.copy.applied(&self.state);
        Bytes::from(answer.encode())
    }

    fn snapshot(&self) -> Vec<u8> {
        self.state.read().encode()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Failure> {
        let restored = CatalogState::decode(snapshot)?;
        *self.state.write() = restored;
        self.copy.applied(&self.state);
        Ok(())
    }
}

/// Carries the voters' messages over the links between their nodes.
#[derive(Debug)]
struct LinkTransport {
    me: VoterId,
    links: Arc<Links>,
}

impl Transport for LinkTransport {
    fn call(
        &self,
        to: VoterId,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Failure>> {
        let link = self.links.needed(number_of(to));
        let envelope = RaftEnvelope { from: self.me.0, to: to.0, body: request };
        Box::pin(async move {
            let body = Bytes::from(envelope.encode_to_vec());
            link?.call(Request::new(Kind::Raft, deadline, body)).await
        })
    }
}
