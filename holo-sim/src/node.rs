//! A node: a process that comes and goes, with a clock, pauses, and room that runs out.

use std::sync::Arc;

use holo_core::replication::{Host, Incarnation, Input, ReplicaId};

use crate::catalog::News;
use crate::clock::NodeClock;
use crate::disk::Disk;
use crate::env::{Env, node_number};
use crate::life::Life;
use crate::network::{End, MILLISECOND};
use crate::packet::{FromCatalog, Job, Packet, ToCatalog};
use crate::queue::Time;
use crate::rng::Rng;
use crate::store::Kept;

/// A machine that runs a process of ours, or does not.
#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    clock: NodeClock,
    /// Counts processes; an answer for an earlier one is not for this one.
    boot: u64,
    state: State,
    disk: Disk,
    /// What its lives have kept for later ones.
    kept: Kept,
    /// Until when it stands still.
    pub(crate) paused_until: Time,
    /// Until when it has no room for staged bytes.
    pub(crate) full_until: Time,
}

#[derive(Debug)]
enum State {
    /// No process.
    Off,
    /// A process that waits for its incarnation.
    Starting,
    /// A replica.
    Living(Box<Life>),
}

impl Node {
    /// A node that is switched off.
    pub(crate) fn new(index: usize, clock: NodeClock) -> Self {
        let disk = Disk::default();
        let kept = Kept::default();
        Self {
            index,
            clock,
            boot: 0,
            state: State::Off,
            disk,
            kept,
            paused_until: 0,
            full_until: 0,
        }
    }

    /// Its process is told to stop: before it ends it writes down what it has of the groups, of which `is_written` says
    /// that there is time for them.
    pub(crate) fn leave(&mut self, env: &Env, mut is_written: impl FnMut() -> bool) {
        let State::Living(life) = &mut self.state else { return };
        let mut kept = self.kept.as_ref().clone();
        kept.resize(env.groups.len(), Vec::new());
        for (group, left, is_member) in life.come_to_rest(env) {
            if !is_written() {
                continue;
            }
            // What earlier lives left may still be what the group goes on from where this one was no member.
            if is_member {
                kept[group].clear();
            }
            kept[group].push(left);
        }
        self.kept = Arc::new(kept);
    }

    /// Whether its disk has what a life left of a group, as it was.
    pub(crate) fn has_left(&self, group: usize, life: Incarnation) -> bool {
        let left = self.kept.get(group).into_iter().flatten();
        left.filter(|left| left.life == life).any(|left| left.is_readable)
    }

    /// The replica that it is now.
    pub(crate) fn life(&self) -> Option<&Life> {
        match &self.state {
            State::Living(life) => Some(life),
            State::Off | State::Starting => None,
        }
    }

    /// The replica that it is now, with its driver.
    pub(crate) fn life_mut(&mut self) -> Option<&mut Life> {
        match &mut self.state {
            State::Living(life) => Some(life),
            State::Off | State::Starting => None,
        }
    }

    /// Its disk.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Damages its files with a chance of so many of 1000.
    pub(crate) fn rot(&mut self, rng: &mut Rng, per_mille: u32) {
        self.disk.rot(rng, per_mille);
        for left in Arc::make_mut(&mut self.kept).iter_mut().flatten() {
            left.is_readable &= !rng.chance(per_mille);
        }
    }

    /// Whether a process runs.
    pub(crate) fn is_running(&self) -> bool {
        !matches!(self.state, State::Off)
    }

    /// Which of its processes runs.
    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// Starts a process; the catalog must say which life it is.
    pub(crate) fn start(&mut self) {
        self.boot += 1;
        self.state = State::Starting;
    }

    /// Ends the process with all that it held, and gives its last life back.
    pub(crate) fn crash(&mut self, env: &mut Env) -> Option<Box<Life>> {
        self.paused_until = 0;
        self.full_until = 0;
        env.watch.dead(self.index);
        self.disk.crash(&mut env.rng);
        match std::mem::replace(&mut self.state, State::Off) {
            State::Living(life) => Some(life),
            State::Off | State::Starting => None,
        }
    }

    /// Begins a life without asking, as the first nodes of a run do.
    pub(crate) fn begin(&mut self, env: &Env, me: ReplicaId) {
        let constants = &env.scenario.constants;
        let host = Host::danger_with_mutant_for_testing_only(
            me,
            constants.timers(),
            Arc::new(env.proofs),
            env.plant.machine(),
        );
        self.state =
            State::Living(Box::new(Life::new(env, self.index, self.clock, host, &self.kept)));
    }

    /// Asks the catalog for news or for an incarnation.
    pub(crate) fn poll(&self, env: &mut Env) {
        let question = match &self.state {
            State::Off => return,
            State::Starting => {
                let keeps = self.kept.iter().any(|left| !left.is_empty());
                ToCatalog::Register { node: self.index, boot: self.boot, keeps }
            }
            State::Living(life) => ToCatalog::Poll { replica: life.me(), known: life.known_news() },
        };
        env.send(End::Node(self.index), End::Catalog, Packet::ToCatalog(question));
    }

    /// Takes a message.
    pub(crate) fn deliver(&mut self, env: &mut Env, feed: &[News], packet: Packet) {
        match packet {
            Packet::FromCatalog(news) => self.on_catalog(env, feed, news),
            Packet::Peer { from, to, message } => {
                let Some(life) = self.life_mut().filter(|life| life.me() == to) else { return };
                life.input(env, Input::Message { from, message });
            }
            Packet::Bulk { from, to, group, bulk } => {
                let has_room = self.full_until <= env.now;
                let Some(life) = self.life_mut().filter(|life| life.me() == to) else { return };
                life.on_bulk(env, from, group, bulk, has_room);
            }
            Packet::Request(request) => {
                let has_room = self.full_until <= env.now;
                if let Some(life) = self.life_mut() {
                    life.on_request(env, request, has_room);
                }
            }
            Packet::Response { .. } | Packet::ToCatalog(_) => {}
        }
    }

    /// Goes on with work that was put off.
    pub(crate) fn job(&mut self, env: &mut Env, of: ReplicaId, job: Job) {
        if let State::Living(life) = &mut self.state
            && life.me() == of
        {
            life.job(env, &mut self.disk, job);
        }
    }

    /// There is room again.
    pub(crate) fn room(&mut self, env: &mut Env) {
        if self.full_until > env.now {
            return;
        }
        if let Some(life) = self.life_mut() {
            life.on_room(env);
        }
    }

    fn on_catalog(&mut self, env: &mut Env, feed: &[News], news: FromCatalog) {
        match news {
            FromCatalog::Registered { boot, replica } => {
                if boot == self.boot && matches!(self.state, State::Starting) {
                    debug_assert_eq!(replica.node, node_number(self.index));
                    self.begin(env, replica);
                    self.poll(env);
                }
            }
            FromCatalog::News { known } => {
                if let State::Living(life) = &mut self.state {
                    life.on_news(env, feed, known);
                    life.keep(env, &mut self.disk);
                    life.resume(env);
                }
            }
            FromCatalog::Refused { group, epoch } => {
                if let Some(life) = self.life_mut() {
                    life.input(env, Input::ProposalRefused { group, epoch });
                }
            }
        }
    }
}

/// How long a driver takes to look at its timer at most.
pub(crate) const TIMER_SLACK: Time = MILLISECOND;
