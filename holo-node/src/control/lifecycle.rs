//! From the start of a process to a member of the cluster: join or found, then register.

use std::sync::Arc;
use std::time::Duration;

use holo_catalog::{ControlLog, VoterId};
use holo_core::catalog::{Answer, Authority, Operation, Registration};
use holo_core::replication::{Incarnation, NodeNumber, ReplicaId};
use holo_core::{ErrorCode, Failure, JoinTicket, Retry};
use holo_net::Endpoint;

use super::voting::{Voting, next_life};
use super::{Control, Phase};
use crate::hold::keeps_any;
use crate::home::{Belonging, SharedSecrets, Tries, ask_to_join, sign_issuer};
use crate::links::{HAS_LEFT, pause_for};
use crate::service::AGENT;

/// How long one try to register may take before the log says that it waits.
const REGISTER_PATIENCE: Duration = Duration::from_secs(10);
/// How long one command of the founding may take.
const FOUND_PATIENCE: Duration = Duration::from_secs(30);
/// How often a process tries to register when others of the same node do.
const OVERTAKEN_MAX: u32 = 20;
/// Pause before what was refused for now is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// An issuer's certificate with less time than this is renewed where the root key is.
const RENEW_BEFORE_MS: u64 = 45 * 24 * 3_600_000;

impl Control {
    /// Opens the catalog's file, where this node votes. What is wrong with it is known before anything runs.
    ///
    /// # Errors
    ///
    /// Those of [`Voting::open`].
    pub(crate) async fn open(&self) -> Result<(), Failure> {
        let voter = self.belonging.read().as_ref().map_or(0, |belonging| belonging.voter);
        let has_file = self.home.file(holo_catalog::FILE_NAME).exists();
        let founds = self.home.founding()?.is_some();
        if voter != 0 && (has_file || founds) {
            self.open_voter(VoterId(voter)).await?;
        }
        Ok(())
    }

    /// Runs the control plane from an endpoint; what goes wrong for good ends in [`Phase::Over`].
    pub(crate) fn start(self: &Arc<Self>, endpoint: Endpoint) {
        *self.endpoint.lock() = Some(endpoint.clone());
        self.links.set_endpoint(endpoint);
        let control = Arc::downgrade(self);
        self.links.when_refused(move |member, failure| {
            // A voter's word counts; another node could only want to harm.
            if let Some(control) = control.upgrade()
                && control.voters().contains(&member)
            {
                control.end(control.phase_of_former(failure));
            }
        });
        self.spawn_vital(Arc::clone(self).live());
        self.spawn_vital(Arc::clone(self).keep_facts());
        self.spawn_vital(Arc::clone(self).keep_following());
        self.spawn_vital(Arc::clone(self).keep_proposing());
        self.spawn_vital(Arc::clone(self).keep_beating());
        self.spawn_vital(Arc::clone(self).keep_duties());
    }

    /// How the process of a node ends that is no member any more.
    pub(super) fn phase_of_former(&self, failure: Failure) -> Phase {
        match failure.code {
            // It leaves, which is what its operator wants. Who starts it after that wants something else.
            HAS_LEFT if self.replica().is_some() => Phase::Stopping,
            HAS_LEFT => Phase::Over(Failure { code: ErrorCode::Conflict, ..failure }),
            _ => Phase::Over(failure),
        }
    }

    async fn live(self: Arc<Self>) {
        let lived = async {
            self.join_first().await?;
            self.meet_members();
            self.found_first().await?;
            self.register().await
        };
        if let Err(failure) = lived.await {
            self.end(Phase::Over(failure));
        }
    }

    /// Joins, if this node has not yet. Asks until somebody lets it in, or says that nobody will.
    async fn join_first(&self) -> Result<(), Failure> {
        if self.number().is_some() {
            return Ok(());
        }
        let text = self.home.pending_ticket()?.ok_or_else(|| {
            let place = self.config.home.display();
            Failure::new(ErrorCode::ConfigInvalid, format!("{place} belongs to no cluster"))
                .help("make a cluster with `holo init`, or join one with `holo join TICKET`")
        })?;
        let ticket = JoinTicket::parse(&text)?;
        let endpoint = self.endpoint.lock().clone().ok_or_else(no_endpoint)?;
        let mut tries = Tries::default();
        let asking =
            ask_to_join(&endpoint, self.me, &self.config, &ticket, &self.clock, &mut tries);
        let belonging = asking.await?;
        self.home.set_belonging(&belonging)?;
        self.home.forget_ticket()?;
        tracing::info!(cluster = %belonging.cluster_name, number = %belonging.number, "joined");
        self.belong(belonging);
        Ok(())
    }

    fn meet_members(&self) {
        let belonging = self.belonging.read();
        if let Some(Belonging { number, members, .. }) = &*belonging {
            self.links.set_members(*number, members);
        }
    }

    /// Makes the cluster, if this is its first node and there is none yet.
    async fn found_first(&self) -> Result<(), Failure> {
        let Some(founding) = self.home.founding()? else { return Ok(()) };
        let voting = self.voting().ok_or_else(|| {
            Failure::new(ErrorCode::Internal, "the first node of a cluster does not vote")
        })?;
        let missing = || Failure::new(ErrorCode::Corrupt, "the first node lacks its keys");
        let root = self.belonging.read().as_ref().map(|it| it.root).ok_or_else(missing)?;
        let root_seed = self.home.root_seed()?.ok_or_else(missing)?;
        let secrets = self.secrets.read().clone().ok_or_else(missing)?;
        voting.catalog.initialize().await?;
        let first = founding.bootstrap(root, self.me, &self.config, AGENT);
        self.propose(Authority::Nobody, Operation::Bootstrap(first), FOUND_PATIENCE).await?;
        let issuer = sign_issuer(&root_seed, &secrets.issuer_seed, self.clock.wall());
        self.propose(Authority::Nobody, Operation::PutIssuer(issuer), FOUND_PATIENCE).await?;
        let by = Authority::Principal(founding.operator());
        for ticket in founding.tickets() {
            let made = self.propose(by, Operation::CreateTicket(ticket.clone()), FOUND_PATIENCE);
            match made.await {
                Ok(_) => {}
                // It lay there for longer than the ticket is good for.
                Err(failure) if failure.code == ErrorCode::InvalidArgument => {
                    tracing::warn!(%failure, "a first ticket was not made");
                }
                Err(failure) => return Err(failure),
            }
        }
        self.home.forget_founding()?;
        tracing::info!("the cluster is made");
        Ok(())
    }

    /// Gets this process its incarnation. Waits for a majority of the catalog for as long as it takes.
    async fn register(self: &Arc<Self>) -> Result<(), Failure> {
        let number = self.number().ok_or_else(no_endpoint)?;
        let mut overtaken = 0;
        loop {
            // Late or doubled, this must not take the place of a process that starts after this one.
            let Some(after) = self.latest_life(number).await else {
                tracing::warn!("waiting for the catalog: none of its voters has answered yet");
                continue;
            };
            let start = Registration {
                node: number,
                boot: self.boot,
                agent: AGENT.to_owned(),
                address: self.config.advertise.clone(),
                after: Some(after),
                keeps: !self.config.temporary && keeps_any(&self.home)?,
            };
            match self.propose_as_node(Operation::Register(start), REGISTER_PATIENCE).await {
                Ok(Answer::Registered { incarnation, .. }) => {
                    let replica = ReplicaId { node: number, incarnation };
                    tracing::info!(%replica, "registered");
                    self.phase.send_if_modified(|phase| {
                        let waits = *phase == Phase::Registering;
                        if waits {
                            *phase = Phase::Ready(replica);
                        }
                        waits
                    });
                    // What this process is must be known to it before others act on it.
                    self.poke.notify_one();
                    return Ok(());
                }
                Ok(other) => {
                    let message = format!("a registration was answered with {other:?}");
                    return Err(Failure::new(ErrorCode::Internal, message));
                }
                // Another process of this node started, or what we knew of it was old.
                Err(failure)
                    if failure.code == ErrorCode::Conflict && overtaken < OVERTAKEN_MAX =>
                {
                    overtaken += 1;
                    tracing::info!(message = %failure.message, "registering anew");
                    pause_for(PAUSE).await;
                }
                Err(failure) if failure.code.retry() == Retry::Never => return Err(failure),
                Err(failure) => {
                    tracing::warn!(code = %failure.code, message = %failure.message, "waiting for the catalog");
                    pause_for(PAUSE).await;
                }
            }
        }
    }

    /// This node's latest life as far as it is known here, none being 0; `None` when nothing is heard of the catalog.
    async fn latest_life(&self, number: NodeNumber) -> Option<Incarnation> {
        let mut version = self.copy.version();
        let known = version.wait_for(|version| *version > 0);
        drop(tokio::time::timeout(REGISTER_PATIENCE, known).await.ok()?);
        let latest = self.copy.read(|state| state.node(number).map(|node| node.incarnation));
        Some(latest.unwrap_or_default())
    }

    /// Makes this node a voter, or finds that it is one: the answer to the leader that wants it to be.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotReady`] before it has joined, and those of its files.
    pub(crate) async fn become_voter(&self, secrets: SharedSecrets) -> Result<VoterId, Failure> {
        let _guard = self.voting_change.lock().await;
        self.put_off_end_of_vote();
        if let Some(voting) = self.voting() {
            voting.note_recruited();
            return Ok(voting.id);
        }
        self.home.set_voter_secrets(&secrets)?;
        self.take_secrets(secrets)?;
        let mut belonging = self.belonging.read().clone().ok_or_else(super::not_joined)?;
        let has_file = self.home.file(holo_catalog::FILE_NAME).exists();
        let id = match belonging.voter {
            0 => VoterId(u64::from(belonging.number.0)),
            known if has_file => VoterId(known),
            // A voter that lost its file forgot what it promised: it comes back as another one.
            lost => next_life(VoterId(lost)),
        };
        if belonging.voter != id.0 {
            belonging.voter = id.0;
            self.home.set_belonging(&belonging)?;
            if let Some(known) = self.belonging.write().as_mut() {
                known.voter = id.0;
            }
        }
        self.open_voter(id).await?;
        tracing::info!(voter = %id, "this node is about to vote in the catalog");
        Ok(id)
    }

    /// Stops voting. The file stays: with it the node may vote again under the same id.
    pub(super) async fn end_voting(&self) {
        let _guard = self.voting_change.lock().await;
        // It may have been asked to vote again while we waited.
        if !self.vote_is_over() {
            return;
        }
        let voting = self.voting.write().take();
        if let Some(voting) = voting {
            self.copy.disown_voter();
            voting.catalog.shutdown().await;
            tracing::info!("this node votes in the catalog no more");
        }
    }

    async fn open_voter(&self, id: VoterId) -> Result<(), Failure> {
        let voting = Voting::open(id, &self.home, &self.config, &self.links, &self.copy).await?;
        *self.voting.write() = Some(voting);
        Ok(())
    }

    /// Has the root vouch for the signing key again, in time, where the root key is at hand.
    pub(super) async fn renew_issuer(&self) -> Result<(), Failure> {
        let now = self.clock.wall();
        let Some(prover) = self.prover() else { return Ok(()) };
        let ends = self.copy.read(|state| {
            state.issuers().find(|it| it.issuer == prover.issuer()).map(|it| it.not_after)
        });
        if ends.is_some_and(|ends| ends.0.saturating_sub(now.0) > RENEW_BEFORE_MS) {
            return Ok(());
        }
        let secrets = self.secrets.read().clone();
        let (Some(root), Some(secrets)) = (self.home.root_seed()?, secrets) else { return Ok(()) };
        let issuer = sign_issuer(&root, &secrets.issuer_seed, now);
        self.propose(Authority::Nobody, Operation::PutIssuer(issuer), FOUND_PATIENCE).await?;
        Ok(())
    }
}

fn no_endpoint() -> Failure {
    Failure::new(ErrorCode::Internal, "the control plane is not started")
}
