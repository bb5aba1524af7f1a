//! The control plane of a node: its place in the cluster, its copy of the catalog, and, on the node that leads the
//! catalog, what keeps the cluster in shape.
//!
//! - `lifecycle`: joining, founding, registering
//! - `copy`, `follow`, `voting`: the catalog as it is known here
//! - `propose`: having commands agreed on
//! - `proofs`: why configs are believed
//! - `facts`: what follows from the catalog, and the news for the data plane
//! - `admission`: who may come in
//! - `health`, `heartbeat`: who is heard from
//! - `closing`: stopping the whole cluster and starting it again
//! - `duties`: what the leader of the catalog sees to
//! - `admin`, `arrays`, `sessions`: what users and operators ask for

mod admin;
mod admission;
mod arrays;
mod closing;
mod copy;
mod duties;
mod facts;
mod follow;
mod health;
mod heartbeat;
mod lifecycle;
mod proofs;
mod propose;
mod sessions;
mod voting;

use std::collections::BTreeMap;
use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use futures_util::FutureExt;
use holo_catalog::ControlLog;
use holo_core::catalog::{BootId, Leader};
use holo_core::placement::ClusterView;
use holo_core::replication::{ConfigVerifier, GroupId, NodeNumber, Proposal, ReplicaId};
use holo_core::wire::{NodeLoad, RaftEnvelope};
use holo_core::{ClusterId, Count, Epoch, ErrorCode, Failure, Instant, NodeId, Policy, PublicKey};
use holo_net::{BoxFuture, Connection, Endpoint};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::admission::Strangers;
use self::copy::Copy;
use self::duties::Duties;
use self::facts::{Asked, MemberIndex, ServedView, Sink};
use self::follow::Pieces;
use self::health::Health;
use self::proofs::{Prover, Verifier};
use self::propose::Proposals;
use self::sessions::Sessions;
use self::voting::{Voting, number_of};
use crate::clock::Clock;
use crate::config::Config;
use crate::home::{Belonging, Home, SharedSecrets, fill_random};
use crate::links::{Links, pause_for};
use crate::ports::{ControlPort, News};

/// Where a node stands between its start and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits to be let in.
    Joining,
    /// It belongs to a cluster and waits for the catalog to give it its incarnation.
    Registering,
    /// It is a member in this life.
    Ready(ReplicaId),
    /// It was told to stop.
    Stopping,
    /// It cannot go on.
    Over(Failure),
}

/// How often a node that has registered looks whether it knows its cluster.
const VIEW_STEP: Duration = Duration::from_millis(5);

type LoadSource = Box<dyn Fn() -> NodeLoad + Send + Sync>;

/// The control plane.
pub(crate) struct Control {
    pub(crate) me: NodeId,
    pub(crate) config: Config,
    home: Home,
    clock: Clock,
    boot: BootId,
    pub(crate) links: Arc<Links>,
    endpoint: Mutex<Option<Endpoint>>,
    copy: Arc<Copy>,
    pieces: Pieces,
    belonging: RwLock<Option<Belonging>>,
    secrets: RwLock<Option<SharedSecrets>>,
    prover: ArcSwapOption<Prover>,
    verifier: OnceLock<Arc<Verifier>>,
    voting: RwLock<Option<Voting>>,
    /// One at a time makes this node a voter, or ends that.
    voting_change: tokio::sync::Mutex<()>,
    policy: ArcSwap<Policy>,
    members: ArcSwap<MemberIndex>,
    view: ArcSwapOption<ServedView>,
    /// The version of the catalog that policy and members are of.
    facts_of: AtomicU64,
    phase: watch::Sender<Phase>,
    /// The node that leads the catalog, as this node last heard; 0 for nobody.
    leader_heard: AtomicU32,
    proposals: Proposals,
    asked: Asked,
    refused: Asked,
    sink: OnceLock<Sink>,
    /// The data plane's sink came, or it asked for something.
    poke: Notify,
    strangers: Strangers,
    health: Mutex<Health>,
    /// When a voter last answered a heartbeat.
    answered: Mutex<Option<Instant>>,
    duties: Mutex<Duties>,
    /// There while this node leads. Locked before the copy is read, as `duties` are.
    leader: Mutex<Option<Leader>>,
    sessions: Sessions,
    load: OnceLock<LoadSource>,
    /// Groups that this node has on disk and cannot read.
    unreadable: AtomicU64,
    unresumed: AtomicU64,
    /// Why this node cannot write down what it holds; empty when it can.
    cannot_write: Mutex<String>,
    tasks: Mutex<JoinSet<()>>,
    /// Held for as long as this process runs the node.
    lock: Mutex<Option<File>>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("me", &self.me)
            .field("phase", &*self.phase.borrow())
            .finish_non_exhaustive()
    }
}

impl Control {
    /// The control plane of the node in a directory; nothing runs yet.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Conflict`] when another process runs the node, and those of its files.
    pub(crate) fn new(me: NodeId, config: Config, clock: Clock) -> Result<Arc<Self>, Failure> {
        let home = Home::at(&config.home);
        let lock = home.lock()?;
        let mut boot = BootId::default();
        fill_random(&mut boot.0)?;
        let belonging = home.belonging()?;
        let secrets = home.voter_secrets()?;
        let control = Self {
            me,
            config,
            clock,
            boot,
            links: Arc::default(),
            endpoint: Mutex::default(),
            copy: Arc::new(Copy::new()),
            pieces: Pieces::default(),
            belonging: RwLock::new(None),
            secrets: RwLock::new(None),
            prover: ArcSwapOption::empty(),
            verifier: OnceLock::new(),
            voting: RwLock::new(None),
            voting_change: tokio::sync::Mutex::default(),
            policy: ArcSwap::default(),
            members: ArcSwap::default(),
            view: ArcSwapOption::empty(),
            facts_of: AtomicU64::new(0),
            phase: watch::Sender::new(Phase::Joining),
            leader_heard: AtomicU32::new(0),
            proposals: Proposals::default(),
            asked: Asked::default(),
            refused: Asked::default(),
            sink: OnceLock::new(),
            poke: Notify::new(),
            strangers: Strangers::default(),
            health: Mutex::default(),
            answered: Mutex::default(),
            duties: Mutex::default(),
            leader: Mutex::default(),
            sessions: Sessions::default(),
            load: OnceLock::new(),
            unreadable: AtomicU64::new(0),
            unresumed: AtomicU64::new(0),
            cannot_write: Mutex::default(),
            tasks: Mutex::default(),
            home,
            lock: Mutex::new(Some(lock)),
        };
        if let Some(belonging) = belonging {
            control.belong(belonging);
        }
        if let Some(secrets) = secrets {
            control.take_secrets(secrets)?;
        }
        Ok(Arc::new(control))
    }

    /// From now on the data plane is told what changes, beginning with everything.
    pub(crate) fn feed(&self, sink: impl Fn(News) + Send + Sync + 'static) {
        if self.sink.set(Box::new(sink)).is_err() {
            tracing::error!("there is a data plane already");
        }
        self.poke.notify_one();
    }

    /// From now on heartbeats tell what this source says.
    pub(crate) fn report_load(&self, load: impl Fn() -> NodeLoad + Send + Sync + 'static) {
        if self.load.set(Box::new(load)).is_err() {
            tracing::error!("there is a source of load already");
        }
    }

    /// Who may do what.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// The view of the cluster as users get it; `None` before this node knows it.
    pub(crate) fn view(&self) -> Option<Arc<ServedView>> {
        self.view.load_full()
    }

    /// Where this node stands, and every change of it.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// This node in its present life; `None` before it has one.
    pub(crate) fn replica(&self) -> Option<ReplicaId> {
        match *self.phase.borrow() {
            Phase::Ready(replica) => Some(replica),
            _ => None,
        }
    }

    /// This node's number; `None` before it has joined.
    pub(crate) fn number(&self) -> Option<NodeNumber> {
        self.belonging.read().as_ref().map(|belonging| belonging.number)
    }

    /// Says whether the catalog made a config.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotReady`] before this node has joined.
    pub(crate) fn config_verifier(&self) -> Result<Arc<dyn ConfigVerifier>, Failure> {
        let verifier = Arc::clone(self.verifier()?);
        Ok(verifier)
    }

    /// The number of the node of a key.
    pub(crate) fn node_number(&self, key: PublicKey) -> Option<NodeNumber> {
        self.members.load().get(&key).copied()
    }

    /// The node that leads the catalog, as far as is known here: by this node's own vote, or else by what a voter said.
    pub(crate) fn leader(&self) -> Option<NodeNumber> {
        let own = self.vote_of_now().and_then(|voting| voting.leader());
        own.or_else(|| {
            let heard = NodeNumber(self.leader_heard.load(Ordering::Relaxed));
            // What this node leads it would know.
            (heard.0 != 0 && Some(heard) != self.number()).then_some(heard)
        })
    }

    /// Stops what runs. The endpoint is the caller's.
    pub(crate) async fn stop(&self) {
        self.end(Phase::Stopping);
        self.links.stop();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
        let voting = self.voting.write().take();
        if let Some(voting) = voting {
            voting.catalog.shutdown().await;
        }
        self.let_go();
    }

    /// Lets go of everything at once, as a process does that is killed.
    pub(crate) fn let_go(&self) {
        self.end(Phase::Stopping);
        self.links.stop();
        self.tasks.lock().abort_all();
        drop(self.voting.write().take());
        *self.endpoint.lock() = None;
    }

    /// Leaves the directory to the next process, once nothing of this one is left that would be in its way.
    pub(crate) fn leave_directory(&self) {
        *self.lock.lock() = None;
    }

    /// This node in its present life, with the view of its cluster, once it has both; `None` when it ends before.
    pub(crate) async fn registered(&self) -> Option<(ReplicaId, Arc<ClusterView>)> {
        let mut phase = self.phase.subscribe();
        let settled = phase
            .wait_for(|phase| matches!(phase, Phase::Ready(_) | Phase::Stopping | Phase::Over(_)));
        let Phase::Ready(replica) = *settled.await.ok()? else { return None };
        loop {
            if let Some(served) = self.view() {
                return Some((replica, Arc::clone(&served.view)));
            }
            pause_for(VIEW_STEP).await;
        }
    }

    /// Refuses when this node holds data or votes: stopping it would take that away.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DrainRefused`].
    pub(crate) fn check_empty(&self) -> Result<(), Failure> {
        let me = self.number().ok_or_else(not_joined)?;
        let groups = self.copy.read(|state| state.groups_of(me).len());
        if groups == 0 {
            return Ok(());
        }
        let name = &self.config.name;
        let message = format!("node {name} holds copies of {}", Count::from(groups).of("group"));
        Err(Failure::new(ErrorCode::DrainRefused, message)
            .help(format!("drain it first: `holo drain {name}`; --now stops it at once, and what only it holds is away until it is started again")))
    }

    /// Answers a message of another voter.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::WrongNode`] when this node does not vote, [`ErrorCode::Denied`] when the sender does not, and those
    /// of the agreement.
    pub(crate) async fn serve_raft(
        &self,
        from: NodeNumber,
        envelope: RaftEnvelope,
    ) -> Result<Bytes, Failure> {
        let voting = self.voting().ok_or_else(propose::not_a_voter)?;
        // The agreement believes whoever speaks as a voter. One that was made a voter while this one was away is believed
        // once the record, which any voter tells, says so.
        if !self.voters().contains(&from) && !voting.counts(from) {
            let message = format!("node {from} does not vote in the catalog");
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        voting.handle(from, envelope).await
    }

    /// Says that this node stops, or cannot go on; the first word stays.
    pub(crate) fn end(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            if matches!(now, Phase::Stopping | Phase::Over(_)) {
                return false;
            }
            if let Phase::Over(failure) = &phase {
                tracing::error!(code = %failure.code, message = %failure.message, "this node ends");
            }
            *now = phase;
            true
        });
    }

    /// Resolves when this node stops.
    async fn stopping(&self) {
        let mut phase = self.phase.subscribe();
        let over = phase.wait_for(|phase| matches!(phase, Phase::Stopping | Phase::Over(_)));
        // The sender lives as long as we do.
        drop(over.await);
    }

    fn belong(&self, belonging: Belonging) {
        let by_key = belonging.members.iter().map(|member| (member.key, member.number));
        self.members.store(Arc::new(by_key.collect::<BTreeMap<_, _>>()));
        drop(self.verifier.set(Arc::new(Verifier::new(belonging.root, self.clock.clone()))));
        *self.belonging.write() = Some(belonging);
        self.phase.send_if_modified(|phase| {
            let joined = *phase == Phase::Joining;
            if joined {
                *phase = Phase::Registering;
            }
            joined
        });
    }

    fn take_secrets(&self, secrets: SharedSecrets) -> Result<(), Failure> {
        let prover = Prover::new(&secrets, self.cluster()?);
        self.prover.store(Some(Arc::new(prover)));
        *self.secrets.write() = Some(secrets);
        Ok(())
    }

    fn voting(&self) -> Option<Voting> {
        self.voting.read().clone()
    }

    /// This node's vote, unless it has heard that it has none any more.
    fn vote_of_now(&self) -> Option<Voting> {
        self.voting().filter(|voting| !voting.is_former())
    }

    fn is_leader(&self) -> bool {
        self.voting().is_some_and(|voting| voting.is_leader())
    }

    /// Signs for the catalog; only on nodes that vote.
    fn prover(&self) -> Option<Arc<Prover>> {
        if self.voting.read().is_none() {
            return None;
        }
        self.prover.load_full()
    }

    fn verifier(&self) -> Result<&Arc<Verifier>, Failure> {
        self.verifier.get().ok_or_else(not_joined)
    }

    fn cluster(&self) -> Result<ClusterId, Failure> {
        self.belonging.read().as_ref().map(Belonging::cluster).ok_or_else(not_joined)
    }

    /// A voter said that this node leads; 0 when it knew nobody who does.
    fn note_leader(&self, leader: NodeNumber) {
        self.leader_heard.store(leader.0, Ordering::Relaxed);
    }

    /// A node that was said to lead gives no answer.
    fn forget_leader(&self, leader: NodeNumber) {
        if self.leader_heard.load(Ordering::Relaxed) == leader.0 {
            self.leader_heard.store(0, Ordering::Relaxed);
        }
    }

    /// Nodes that vote, as far as is known here.
    fn voters(&self) -> Vec<NodeNumber> {
        let known = self.copy.read(|state| state.voters().to_vec());
        if !known.is_empty() {
            return known;
        }
        let belonging = self.belonging.read();
        let members = belonging.iter().flat_map(|it| &it.members).filter(|member| member.votes);
        members.map(|member| member.number).collect()
    }

    /// A link to a voter: to the leader, if that is known, or else to one of them, to another one at each turn.
    fn any_voter(&self, turn: usize) -> Option<(NodeNumber, Connection)> {
        let leader = self.leader().and_then(|leader| Some((leader, self.links.link(leader)?)));
        leader.or_else(|| self.voter_in_turn(turn))
    }

    /// A link to one of the voters, to another one at each turn.
    fn voter_in_turn(&self, turn: usize) -> Option<(NodeNumber, Connection)> {
        let mut voters = self.voters();
        // One that was removed may have heard who votes now before it hears that the record says so.
        for voter in self.voting().iter().flat_map(Voting::voters).map(number_of) {
            if !voters.contains(&voter) {
                voters.push(voter);
            }
        }
        // Followers begin at different voters.
        let first = turn + self.number().map_or(0, |number| number.0 as usize);
        let in_turn = (0..voters.len()).map(|step| voters[(first + step) % voters.len()]);
        let mut others = in_turn.filter(|voter| Some(*voter) != self.number());
        others.find_map(|it| Some((it, self.links.link(it)?)))
    }

    /// Runs a task without which this node is of no use: when it panics, the node ends.
    fn spawn_vital(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let control = Arc::clone(self);
        self.spawn(async move {
            // What it held is not looked at any more.
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                let message = "a task of the control plane panicked";
                control.end(Phase::Over(Failure::new(ErrorCode::Internal, message)));
            }
        });
    }

    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// What a node that is not ready waits for, for people.
    fn waits_for(&self) -> String {
        match &*self.phase.borrow() {
            Phase::Joining => "it waits to be let in".to_owned(),
            Phase::Registering => self.waits_for_voters(),
            Phase::Ready(_) => "it is ready".to_owned(),
            Phase::Stopping => "it is stopping".to_owned(),
            Phase::Over(failure) => failure.message.clone(),
        }
    }

    /// That this node waits for voters of the catalog, and who has to be started for it.
    fn waits_for_voters(&self) -> String {
        let (counts, silent) = self.who_answers();
        let was_closed = self.copy.read(|state| state.close().is_some());
        let since = if was_closed { ", which was shut down with the whole cluster" } else { "" };
        match silent.as_slice() {
            [] => format!("it waits for a leader of the catalog{since}: {counts}"),
            silent => format!(
                "it waits for the catalog{since}: {counts}; start {} too: `holo agent --dir DIR`",
                silent.join(", ")
            ),
        }
    }

    /// Where this node stands, in a word or a sentence.
    pub(crate) fn standing_text(&self) -> String {
        match &*self.phase.borrow() {
            Phase::Ready(_) => "ready".to_owned(),
            Phase::Stopping => "stopping".to_owned(),
            Phase::Joining | Phase::Registering | Phase::Over(_) => self.waits_for(),
        }
    }
}

impl ControlPort for Control {
    fn propose(&self, proposal: Proposal) {
        self.proposals.put(proposal);
    }

    fn ask_config(&self, group: GroupId, above: Epoch) {
        self.asked.put(group, above);
        self.poke.notify_one();
    }

    fn go_along(&self) {
        holo_catalog::go_along();
    }

    fn link(&self, node: NodeNumber) -> Option<Connection> {
        self.links.link(node)
    }

    fn background_link(&self, node: NodeNumber) -> BoxFuture<Result<Connection, Failure>> {
        let links = Arc::clone(&self.links);
        Box::pin(async move { links.background(node).await })
    }

    fn node_of(&self, key: PublicKey) -> Option<NodeNumber> {
        self.node_number(key)
    }
}

fn not_joined() -> Failure {
    Failure::new(ErrorCode::NotReady, "this node has not joined a cluster yet").retry_after_ms(500)
}
