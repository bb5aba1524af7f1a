//! The machine of one node: all its replicas, and what it knows of its peers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::attention::Rounds;
use super::config::{ConfigVerifier, GroupConfig, GroupId, ReplicaId};
use super::io::{Input, Output, Role};
use super::messages::{Beat, BeatAck, ConfigClaim, Entry, Message, Release};
use super::mutant::Mutant;
use super::peers::DueBeat;
use super::remains::Remains;
use super::replica::{Context, Replica, Wanted};
use super::summary::GroupSummary;
use super::timers::Timers;
use crate::group::Seq;
use crate::{Epoch, ErrorCode, Failure, Instant, limits};

/// Everything that is replicated on one node. See the module docs for its contract.
///
/// # Invariants
///
/// Those of each replica and each pair, and: this host keeps exactly as many snapshots as its learners have copies.
#[derive(Debug)]
pub struct Host {
    verifier: Arc<dyn ConfigVerifier>,
    groups: BTreeMap<GroupId, Replica>,
    /// The wanted holders of every group, should we come to lead it.
    targets: BTreeMap<GroupId, Vec<ReplicaId>>,
    rounds: Rounds,
    ctx: Context,
    ticked_at: Option<Instant>,
    tick_every: Duration,
    /// Somebody had just fallen silent at the last tick.
    alarmed: bool,
    /// When every group was last looked at.
    looked_at: Instant,
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
        Ok(Self::danger_with_mutant_for_testing_only(me, timers, verifier, Mutant::None))
    }

    /// Plants a bug, and takes times that [`Timers::check`] would refuse.
    #[doc(hidden)]
    pub fn danger_with_mutant_for_testing_only(
        me: ReplicaId,
        timers: Timers,
        verifier: Arc<dyn ConfigVerifier>,
        mutant: Mutant,
    ) -> Self {
        Self {
            verifier,
            groups: BTreeMap::new(),
            targets: BTreeMap::new(),
            rounds: Rounds::default(),
            tick_every: timers.tick(),
            ctx: Context::new(me, timers, mutant),
            ticked_at: None,
            alarmed: false,
            looked_at: Instant(0),
        }
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// Nothing has changed then. [`Input::Propose`]: [`ErrorCode::WrongNode`] when another replica is the primary,
    /// [`ErrorCode::NotReady`] while a takeover is not finished or when the bytes are not staged here, [`ErrorCode::NoQuorum`] when fewer replicas are in
    /// sync than the class wants, [`ErrorCode::DataLost`] when the last copy is gone, [`ErrorCode::Overloaded`] when
    /// the log is full, [`ErrorCode::OutcomeUnknown`] for a request beyond its window or session,
    /// [`ErrorCode::InvalidArgument`], [`ErrorCode::TooLarge`] or [`ErrorCode::Malformed`] for an operation that
    /// cannot be. [`Input::Message`]: [`ErrorCode::Denied`] when the sender has no such role, and
    /// [`ErrorCode::Malformed`] for what no correct peer says. [`Input::Config`]: [`ErrorCode::Denied`] without the
    /// catalog's proof. [`Input::PayloadReady`]: [`ErrorCode::WrongNode`] when this host is no member of the group,
    /// [`ErrorCode::Overloaded`] when too many payloads wait; drop the bytes then. [`Input::Restore`]:
    /// [`ErrorCode::Cancelled`] when the group has come here in another way, or went on without that life; drop the data
    /// then.
    ///
    /// # Panics
    ///
    /// When the driver reports operations out of order: that is its bug, and going on would answer the wrong caller.
    pub fn handle_input(&mut self, now: Instant, input: Input) -> Result<(), Failure> {
        self.wake(now);
        match input {
            Input::Config(claim) => self.believe(claim, None),
            Input::Living(living) => {
                self.ctx.peers.set_living(&living);
                self.tick_groups(true);
                Ok(())
            }
            Input::Targets(targets) => {
                for (group, targets) in targets {
                    if let Some(replica) = self.groups.get_mut(&group) {
                        replica.set_targets(targets.clone());
                        note(&mut self.rounds, group, replica);
                    }
                    let known = self.targets.contains_key(&group);
                    if known || self.targets.len() < limits::HOST_TARGETS_MAX {
                        self.targets.insert(group, targets);
                    }
                }
                Ok(())
            }
            Input::Message { from, message } => self.on_message(from, message),
            Input::Propose { ticket, group, request, op, payload } => {
                let unknown = |failure: Failure| failure.help("fetch the placement table again");
                self.with(group, |replica, ctx| {
                    replica.propose(ctx, Wanted { ticket, request, op, payload })
                })
                .unwrap_or_else(|| Err(unknown(no_member(self.ctx.me, group))))
            }
            Input::PayloadReady { group, id } => self
                .with(group, |replica, ctx| replica.on_payload_ready(ctx, id))
                .unwrap_or_else(|| Err(no_member(self.ctx.me, group))),
            Input::Applied { group, seq, outcome } => {
                self.with(group, |replica, ctx| replica.on_applied(ctx, seq, outcome));
                Ok(())
            }
            Input::SnapshotFetched { group, at } => {
                self.with(group, |replica, ctx| replica.on_snapshot_fetched(ctx, at));
                Ok(())
            }
            Input::SnapshotFailed { group } => {
                self.with(group, |replica, ctx| replica.on_snapshot_failed(ctx));
                Ok(())
            }
            Input::ProposalRefused { group, epoch } => {
                self.with(group, |replica, ctx| replica.on_refused(ctx, epoch));
                Ok(())
            }
            Input::ExpireSessions { below } => {
                self.ctx.expired_below = self.ctx.expired_below.max(below);
                Ok(())
            }
            Input::Restore { life, after, remains } => {
                let group = remains.group;
                self.make_room(group)?;
                self.with(group, |replica, ctx| replica.restore(ctx, life, after, remains))
                    .unwrap_or(Ok(()))
            }
        }
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.wake(now);
        if self.next_tick().is_some_and(|at| at <= self.ctx.now) {
            self.tick(None);
        } else {
            for group in self.rounds.pending().clone() {
                self.with(group, |replica, ctx| replica.activate(ctx));
            }
        }
    }

    /// This process is about to end, and takes part in nothing any more: nothing that it is asked to send is sent. Carry
    /// out what it wants applied, and [`Self::remains`] says what its groups have become.
    pub fn come_to_rest(&mut self, now: Instant) {
        self.wake(now);
        for (group, replica) in &mut self.groups {
            let led: Vec<ReplicaId> = replica.led().collect();
            replica.come_to_rest(&mut self.ctx);
            self.ctx.peers.lead(&led, &[]);
            note(&mut self.rounds, *group, replica);
        }
    }

    /// What a later life of this node may go on from, of each group that is here whole and applied: first those of which
    /// it is the only in-sync replica, last those that are as an earlier life left them.
    pub fn remains(&self) -> Vec<Remains> {
        let mut remains: Vec<((bool, bool), Remains)> = Vec::new();
        for replica in self.groups.values() {
            let others = replica.config().in_sync.iter().any(|member| *member != self.ctx.me);
            let urgency = (replica.is_restored(), others);
            remains.extend(replica.remains(self.ctx.mutant).map(|left| (urgency, left)));
        }
        remains.sort_by_key(|(urgency, _)| *urgency);
        remains.into_iter().map(|(_, left)| left).collect()
    }

    /// Who was heard a moment ago: whoever was not may be dead, and nobody could take over from it.
    pub fn heard(&self, now: Instant) -> BTreeSet<ReplicaId> {
        self.ctx.peers.heard_within(self.ctx.timers.take_over, now).collect()
    }

    /// Whether something that [`Input::Restore`] brought may still become the data of a group.
    pub fn is_restored(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(Replica::is_restored)
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        while self.ctx.outputs.is_empty() {
            // What was proposed since the last poll travels together.
            if let Some(group) = self.ctx.dirty.pop_first() {
                self.with(group, |replica, ctx| replica.flush(ctx));
            } else if let Some(group) = self.ctx.next_turn() {
                self.with(group, |replica, ctx| replica.take_turn(ctx));
            } else {
                // After the configs that these leases are about.
                let to = self.ctx.peers.take_hurried()?;
                self.send_beat(DueBeat { to, commits: Vec::new() });
            }
        }
        if let Some(Output::Send { to, .. }) = self.ctx.outputs.front()
            && let (to, Some(ack)) = (*to, self.ctx.peers.take_owed(*to))
        {
            return Some(Output::Send { to, message: Message::BeatAck(ack) });
        }
        self.ctx.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pending = self.rounds.pending().iter();
        let promises = pending.filter_map(|group| self.groups.get(group)?.blocked_until(&self.ctx));
        promises.chain(self.next_tick()).min()
    }

    /// Panics unless the invariants hold.
    ///
    /// # Panics
    ///
    /// When one of them is broken: a bug in this machine.
    pub fn assert_invariants(&self) {
        for (group, replica) in &self.groups {
            replica.assert_invariants(self.ctx.mutant);
            assert_eq!(self.rounds.of(*group), replica.noted(), "{replica:?}");
        }
        let mut led = BTreeMap::new();
        for peer in self.groups.values().flat_map(Replica::led) {
            *led.entry(peer).or_default() += 1;
        }
        assert_eq!(self.ctx.peers.led(), &led, "who gets beats");
        let copies: usize = self.groups.values().map(Replica::copies).sum();
        assert_eq!(self.ctx.copies, copies, "snapshots that nobody fetches");
    }

    /// The replica that this host is.
    pub fn me(&self) -> ReplicaId {
        self.ctx.me
    }

    /// The newest config that is believed here; also of groups that this host is no member of any more.
    pub fn config(&self, group: GroupId) -> Option<&Arc<GroupConfig>> {
        self.groups.get(&group).map(Replica::config).filter(|config| config.epoch > Epoch(0))
    }

    /// Every group that this host is or was a member of, for status pages.
    pub fn summary(&self) -> Vec<GroupSummary> {
        let known = self.groups.values().filter(|replica| replica.epoch() > Epoch(0));
        known.map(Replica::summary).collect()
    }

    /// The role in every group of [`Self::summary`], and how many learners it brings up there.
    pub fn loads(&self) -> impl Iterator<Item = (Role, usize)> {
        self.groups.values().map(Replica::load)
    }

    /// One group of [`Self::summary`].
    pub fn group_summary(&self, group: GroupId) -> Option<GroupSummary> {
        self.groups.get(&group).map(Replica::summary)
    }

    /// How far one group is here: whether there is a state at all, what is held of it, and what is known to be
    /// committed; as in [`Self::group_summary`].
    #[doc(hidden)]
    pub fn place_for_testing_only(&self, group: GroupId) -> Option<(bool, Seq, Seq)> {
        self.groups.get(&group).map(Replica::place)
    }

    /// The committed entries that the log still holds, from number `from` on.
    #[doc(hidden)]
    pub fn committed_entries_for_testing_only(&self, group: GroupId, from: Seq) -> Vec<Entry> {
        let replica = self.groups.get(&group);
        replica.map(|replica| replica.entries(from, replica.commit())).unwrap_or_default()
    }

    /// All entries that the log still holds, from number `from` on.
    #[doc(hidden)]
    pub fn log_entries_for_testing_only(&self, group: GroupId, from: Seq) -> Vec<Entry> {
        let replica = self.groups.get(&group);
        replica.map(|replica| replica.entries(from, Seq(u64::MAX))).unwrap_or_default()
    }

    fn on_message(&mut self, from: ReplicaId, message: Message) -> Result<(), Failure> {
        if from == self.ctx.me || self.ctx.peers.is_dead(from) {
            let message = format!("replica {from} is dead, or is us");
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        self.ctx.peers.hear(from, self.ctx.now);
        match message {
            Message::Append(mut append) => {
                let group = append.group;
                self.believe_peer(append.claim.take(), group)?;
                self.with_member(from, group, |replica, ctx| replica.on_append(ctx, from, append))
            }
            Message::AppendAck(ack) => {
                self.with_member(from, ack.group, |replica, ctx| replica.on_ack(ctx, from, ack))
            }
            Message::AppendNack(mut nack) => {
                let group = nack.group;
                self.believe_peer(nack.claim.take(), group)?;
                self.with_member(from, group, |replica, ctx| replica.on_nack(ctx, from, &nack))
            }
            Message::SnapshotOffer(mut offer) => {
                let group = offer.group;
                self.believe_peer(offer.claim.take(), group)?;
                self.with_member(from, group, |replica, ctx| replica.on_offer(ctx, from, offer))
            }
            Message::Release(release) => {
                self.on_release(from, release);
                Ok(())
            }
            Message::Beat(beat) => self.on_beat(from, beat),
            Message::BeatAck(ack) => self.on_beat_ack(from, ack),
        }
    }

    fn on_release(&mut self, from: ReplicaId, release: Release) {
        if let Some(peer) = self.ctx.peers.get_mut(from) {
            let Release { group, up_to } = release;
            peer.lease.granted.on_release(group, up_to, self.ctx.mutant);
            self.with(group, |replica, ctx| replica.activate(ctx));
        }
    }

    fn on_beat(&mut self, from: ReplicaId, beat: Beat) -> Result<(), Failure> {
        if beat.commits.len() > limits::BEAT_COMMITS_MAX {
            let message = format!("a beat with {} commits", beat.commits.len());
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        if beat.answered > Some(beat.sent_at) {
            let message = "a beat that names the answer to a later one";
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        // Whom no config of ours names gets no promise.
        let Some(peer) = self.ctx.peers.get_mut(from) else {
            let message = format!("replica {from} shares no group with us");
            return Err(Failure::new(ErrorCode::Denied, message));
        };
        let promise = match self.ctx.mutant {
            Mutant::NoDriftMargin => self.ctx.timers.lease,
            _ => self.ctx.timers.promise(),
        };
        let (now, granted) = (self.ctx.now, &mut peer.lease.granted);
        peer.echo.on_beat(now, beat.answered);
        let ack = granted.on_beat(now, beat.sent_at, beat.known_set, promise);
        let is_pacer = self.ctx.peers.on_beat(from, self.ctx.me);
        if let Some(ack) = self.ctx.peers.owe(from, ack, now, &self.ctx.timers) {
            self.ctx.outputs.push_back(Output::Send { to: from, message: Message::BeatAck(ack) });
        }
        for news in beat.commits {
            self.with(news.group, |replica, ctx| replica.on_commit_news(ctx, from, news));
        }
        if is_pacer {
            self.tick_along(from);
        }
        Ok(())
    }

    fn on_beat_ack(&mut self, from: ReplicaId, ack: BeatAck) -> Result<(), Failure> {
        let Some(peer) = self.ctx.peers.get_mut(from) else {
            let message = format!("replica {from} shares no group with us");
            return Err(Failure::new(ErrorCode::Denied, message));
        };
        let (held, echo) = (&mut peer.lease.held, &mut peer.echo);
        let sent_at = ack.sent_at;
        let before = ack.set.is_some().then(|| held.groups().clone());
        let is_news = held.on_ack(self.ctx.now, ack, self.ctx.timers.lease, self.ctx.mutant)?;
        echo.on_ack(sent_at);
        if !is_news {
            return Ok(());
        }
        let until = held.lives_until();
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        if let Some(before) = before {
            gone.extend(before.difference(held.groups()).copied());
            come.extend(held.groups().difference(&before).copied());
        }
        // No gate may rest on a lease that was renewed for other groups, nor on one that is not known to its readers.
        for group in gone {
            self.with(group, |replica, ctx| replica.on_leases(ctx));
        }
        self.ctx.outputs.push_back(Output::Lease { peer: from, until });
        // A learner may have waited for its lease.
        come.extend(self.rounds.learning());
        for group in come {
            self.with(group, |replica, ctx| replica.on_leases(ctx));
        }
        Ok(())
    }

    /// Adopts a config that came with a message about `group`.
    fn believe_peer(&mut self, claim: Option<ConfigClaim>, group: GroupId) -> Result<(), Failure> {
        claim.map_or(Ok(()), |claim| self.believe(claim, Some(group)))
    }

    /// Adopts a config when it is news, and proven.
    fn believe(&mut self, claim: ConfigClaim, about: Option<GroupId>) -> Result<(), Failure> {
        let config = &claim.config;
        if about.is_some_and(|group| group != config.group) {
            return Err(Failure::new(ErrorCode::Malformed, "a config of another group"));
        }
        let known = self.groups.get(&config.group).map_or(Epoch(0), Replica::epoch);
        let replayed = config.epoch < known && self.ctx.mutant == Mutant::BelieveReplayedConfig;
        if config.epoch <= known && !replayed {
            return Ok(());
        }
        config.check()?;
        let proven = claim.proof.len() <= limits::CONFIG_PROOF_BYTES_MAX
            && self.verifier.is_proven(config, &claim.proof);
        if !proven && self.ctx.mutant != Mutant::BelieveUnprovenConfig {
            let message = format!("nothing proves epoch {} of {}", config.epoch, config.group);
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        let group = config.group;
        if !self.groups.contains_key(&group) && config.role_of(self.ctx.me).is_none() {
            return Ok(());
        }
        self.make_room(group)?;
        let led = |host: &Self| host.groups.get(&group).map(|it| it.led().collect::<Vec<_>>());
        let before = led(self).unwrap_or_default();
        self.with(group, |replica, ctx| replica.adopt(ctx, claim));
        let now = led(self).unwrap_or_default();
        self.ctx.peers.lead(&before, &now);
        Ok(())
    }

    /// Makes the replica of a group, unless it is there.
    fn make_room(&mut self, group: GroupId) -> Result<(), Failure> {
        if self.groups.contains_key(&group) {
            return Ok(());
        }
        if self.groups.len() >= limits::HOST_GROUPS_MAX {
            let message = format!("this host is in {} groups", self.groups.len());
            return Err(Failure::new(ErrorCode::Overloaded, message));
        }
        let targets = self.targets.get(&group).cloned().unwrap_or_default();
        self.groups.insert(group, Replica::new(group, targets));
        Ok(())
    }

    /// Lets one replica handle an event; `None` when there is none of this group.
    fn with<T>(
        &mut self,
        group: GroupId,
        handle: impl FnOnce(&mut Replica, &mut Context) -> T,
    ) -> Option<T> {
        let replica = self.groups.get_mut(&group)?;
        let result = handle(replica, &mut self.ctx);
        note(&mut self.rounds, group, replica);
        Some(result)
    }

    /// Like [`Self::with`], for a message about a group.
    fn with_member(
        &mut self,
        from: ReplicaId,
        group: GroupId,
        handle: impl FnOnce(&mut Replica, &mut Context) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.with(group, handle).unwrap_or_else(|| {
            let message = format!("replica {from} speaks of group {group}, which is not here");
            Err(Failure::new(ErrorCode::WrongNode, message))
        })
    }

    fn next_tick(&self) -> Option<Instant> {
        if self.groups.is_empty() {
            return None;
        }
        let Some(at) = self.ticked_at else { return Some(self.ctx.now) };
        let soon = at.after(self.tick_every);
        if self.alarmed || self.rounds.is_any_busy() {
            return Some(soon);
        }
        // Nothing is under way: what comes next is a beat, or somebody who has fallen silent.
        let (timers, peers) = (&self.ctx.timers, &self.ctx.peers);
        let last = if peers.is_paced() { timers.patience() } else { timers.heartbeat };
        let next = peers.next_event(at, timers.silence());
        Some(next.unwrap_or(Instant::MAX).clamp(soon, at.after(last)))
    }

    /// A pacer has beaten us: what is due soon is done now, as this host is awake.
    fn tick_along(&mut self, pacer: ReplicaId) {
        let lately = self.ctx.timers.lately();
        if self.ticked_at.is_none_or(|at| self.ctx.now.since(at) >= lately) {
            return self.tick(Some(pacer));
        }
        let due = self.ctx.peers.take_due(self.ctx.now, Some(pacer), &self.ctx.timers);
        self.send_beats(due);
    }

    /// Takes over the time, before anything is judged by it. Whoever was not running has not listened either: silence
    /// counts only while we hear.
    fn wake(&mut self, now: Instant) {
        self.ctx.now = self.ctx.now.max(now);
        let Some(ticked_at) = self.ticked_at else { return };
        let heartbeat = self.ctx.timers.heartbeat;
        let pause = self.ctx.now.since(ticked_at).saturating_sub(heartbeat);
        if pause > heartbeat {
            // Once: as if the last tick had been a heartbeat ago.
            self.ticked_at = Some(ticked_at.after(pause));
            self.ctx.peers.forgive(pause, self.ctx.now);
            for replica in self.groups.values_mut() {
                replica.forgive(pause, self.ctx.now);
            }
        }
    }

    fn tick(&mut self, paced_by: Option<ReplicaId>) {
        self.ticked_at = Some(self.ctx.now);
        self.ctx.peers.bury(self.ctx.now);
        let round = self.ctx.peers.look_around(self.ctx.now, &self.ctx.timers);
        let due = self.ctx.peers.take_due(self.ctx.now, paced_by, &self.ctx.timers);
        self.send_beats(due);
        // A quiet group is looked at now and then; at every beat while anybody is silent or learns, and at every tick
        // when somebody has just fallen silent.
        let timers = &self.ctx.timers;
        let is_calm = self.rounds.learning().is_empty() && !round.silent;
        let every = if is_calm { timers.calm_look() } else { timers.heartbeat };
        let all = round.alarmed || self.ctx.now.since(self.looked_at) >= every;
        if all {
            self.looked_at = self.ctx.now;
        }
        self.alarmed = round.alarmed;
        self.tick_groups(all);
    }

    fn tick_groups(&mut self, all: bool) {
        self.ctx.learning = self.rounds.learning().len();
        if all {
            for (group, replica) in &mut self.groups {
                replica.tick(&mut self.ctx);
                note(&mut self.rounds, *group, replica);
            }
            return;
        }
        let mut at = None;
        while let Some(group) = self.rounds.next_busy(at) {
            at = Some(group);
            self.with(group, |replica, ctx| replica.tick(ctx));
        }
    }

    /// One beat per peer that is a member of a group that we lead, however many groups they are.
    fn send_beats(&mut self, mut due: Vec<DueBeat>) {
        if due.is_empty() {
            return;
        }
        for replica in self.rounds.news().iter().filter_map(|group| self.groups.get(group)) {
            replica.collect_news(&mut due);
        }
        for beat in due {
            self.send_beat(beat);
        }
    }

    fn send_beat(&mut self, beat: DueBeat) {
        let DueBeat { to, commits } = beat;
        let Some(peer) = self.ctx.peers.get_mut(to) else { return };
        let known_set = peer.lease.held.beat(self.ctx.now);
        let (sent_at, answered) = (self.ctx.now, Some(peer.echo.answered()));
        let message = Message::Beat(Beat { sent_at, known_set, answered, commits });
        self.ctx.outputs.push_back(Output::Send { to, message });
    }
}

/// Notes what attention a group needs after an event.
fn note(rounds: &mut Rounds, group: GroupId, replica: &mut Replica) {
    if let Some((before, now)) = replica.news_of_attention() {
        rounds.note(group, before, now);
    }
}

fn no_member(me: ReplicaId, group: GroupId) -> Failure {
    let message = format!("replica {me} holds nothing of group {group}");
    Failure::new(ErrorCode::WrongNode, message)
}
