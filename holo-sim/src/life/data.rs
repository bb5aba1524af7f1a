//! A group's data: applying operations, staged bytes, snapshots, and who may read.

use std::sync::Arc;

use holo_core::group::Seq;
use holo_core::replication::{
    Input, LogPosition, PayloadId, ReadGate, ReplicaId, Role, SnapshotId,
};
use holo_core::{Epoch, Instant};

use super::Life;
use crate::env::Env;
use crate::mutant::Plant;
use crate::network::MILLISECOND;
use crate::packet::{Bulk, Frozen, Job};
use crate::queue::Time;
use crate::store::{FETCH_TRIES, Fetch, Staged, digest_of_one};
use crate::watch::Invariant;

impl Life {
    /// Data beside the log.
    pub(crate) fn on_bulk(
        &mut self,
        env: &mut Env,
        from: ReplicaId,
        group: usize,
        bulk: Bulk,
        has_room: bool,
    ) {
        match bulk {
            Bulk::Stage { id, value } => {
                self.on_staged(env, group, id, Staged { value, is_ready: has_room });
            }
            Bulk::WantPayload(id) => {
                if let Some(Staged { value, .. }) = self.stores[group].staged.get(&id).copied() {
                    self.send_bulk(env, from, group, Bulk::Stage { id, value });
                }
            }
            Bulk::WantSnapshot(snapshot) => {
                self.serve_snapshot(env, from, group, (snapshot, u32::MAX));
            }
            Bulk::WantPieces { snapshot, missing } => {
                self.serve_snapshot(env, from, group, (snapshot, missing));
            }
            Bulk::WantIndex(snapshot) => self.serve_index(env, from, group, snapshot),
            Bulk::Index { snapshot, digests } => {
                if self.fetches(group, from, snapshot) {
                    self.compare_kept(env, group, &digests);
                }
            }
            Bulk::Piece { snapshot, state, index, torn } => {
                self.on_piece(env, from, group, (snapshot, &state, index, torn));
            }
            Bulk::NoSnapshot(snapshot) => {
                if self.fetches(group, from, snapshot) {
                    self.fail_fetch(env, group);
                }
            }
        }
    }

    fn on_staged(&mut self, env: &mut Env, group: usize, id: PayloadId, staged: Staged) {
        let known = self.stores[group].staged.entry(id).or_insert(staged);
        known.is_ready |= staged.is_ready;
        if known.is_ready {
            self.offer_staged(env, group, id);
        }
    }

    /// Tells the machine of staged bytes; those that it does not take are of no use here.
    pub(super) fn offer_staged(&mut self, env: &mut Env, group: usize, id: PayloadId) {
        if !self.input(env, Input::PayloadReady { group: env.groups[group], id }) {
            self.stores[group].staged.remove(&id);
        }
    }

    /// The machine lacks staged bytes: from somebody else, unless they are here.
    pub(super) fn fetch_payload(
        &mut self,
        env: &mut Env,
        group: usize,
        from: ReplicaId,
        id: PayloadId,
    ) {
        match self.stores[group].staged.get(&id) {
            None => self.send_bulk(env, from, group, Bulk::WantPayload(id)),
            Some(staged) if staged.is_ready => {
                let input = Input::PayloadReady { group: env.groups[group], id };
                // Within what follows an input; what comes of this one is carried out with the rest.
                if self.host.handle_input(self.clock.at(env.now), input).is_err() {
                    self.stores[group].staged.remove(&id);
                }
            }
            Some(_) => {}
        }
    }

    /// There is room for what was staged without.
    pub(crate) fn on_room(&mut self, env: &mut Env) {
        for group in 0..self.stores.len() {
            let staged = &mut self.stores[group].staged;
            let unready = staged.iter_mut().filter(|(_, staged)| !staged.is_ready);
            let ids: Vec<PayloadId> = unready
                .map(|(id, staged)| {
                    staged.is_ready = true;
                    *id
                })
                .collect();
            for id in ids {
                self.offer_staged(env, group, id);
            }
        }
    }

    pub(super) fn apply_next(&mut self, env: &mut Env, group: usize) {
        let is_past = self.is_past(env, group);
        let store = &mut self.stores[group];
        let Some(waiting) = store.queue.pop_front() else { return };
        let (me, seq) = (self.me, waiting.seq);
        let outcome = match store.apply(&waiting) {
            Ok(effect) => {
                let operation = effect.operation;
                let seen = store.seen(&effect);
                if !is_past {
                    env.watch.applied(env.now, group, me, seq, seen);
                }
                env.say(|| format!("{me} applies {} of group {group}: {operation:?}", seq.0));
                effect.outcome()
            }
            Err(why) => {
                env.watch.broken(env.now, Invariant::Contract, || {
                    format!("{me}, group {group}, number {}: {why}", seq.0)
                });
                return;
            }
        };
        let input = Input::Applied { group: env.groups[group], seq, outcome };
        if let Err(failure) = self.host.handle_input(self.clock.at(env.now), input) {
            env.watch.broken(env.now, Invariant::Contract, || {
                format!("{me} does not take that {} is applied: {failure}", seq.0)
            });
        }
    }

    pub(super) fn freeze(
        &mut self,
        env: &mut Env,
        group: usize,
        snapshot: SnapshotId,
        at: LogPosition,
    ) {
        let (me, store) = (self.me, &mut self.stores[group]);
        let next = store.queue.front().map(|waiting| waiting.seq);
        if store.applied > at.seq || next.is_some_and(|next| next <= at.seq) {
            let applied = store.applied;
            env.watch.broken(env.now, Invariant::Contract, || {
                format!("{me} wants group {group} frozen at {at:?} and has applied {applied:?}")
            });
        }
        let frozen = Frozen { values: store.values.clone() };
        store.snapshots.insert(snapshot, Arc::new(frozen));
    }

    pub(super) fn begin_fetch(
        &mut self,
        env: &mut Env,
        group: usize,
        from: ReplicaId,
        (snapshot, at): (SnapshotId, LogPosition),
    ) {
        let pieces = vec![None; env.scenario.elements];
        let compares = self.kept_of(group).is_some();
        self.stores[group].fetch = Some(Fetch { from, snapshot, at, pieces, tries: 0, compares });
        self.fetch_again(env, group, snapshot);
    }

    /// What an earlier life has kept of a group.
    fn kept_of(&self, group: usize) -> Option<&[u64]> {
        Some(&self.kept.get(group)?.last()?.values)
    }

    /// Takes of what an earlier life has kept what is the same in the snapshot; the rest has to come.
    fn compare_kept(&mut self, env: &mut Env, group: usize, digests: &[u64]) {
        let kept = Arc::clone(&self.kept);
        let kept = kept.get(group).and_then(|left| left.last());
        let kept = kept.map_or(&[][..], |left| &left.values);
        let Some(fetch) = self.stores[group].fetch.as_mut().filter(|fetch| fetch.compares) else {
            return;
        };
        fetch.compares = false;
        for (piece, (value, digest)) in fetch.pieces.iter_mut().zip(kept.iter().zip(digests)) {
            if digest_of_one(*value) == *digest || env.plant == Plant::TrustKeptPages {
                *piece = Some(*value);
            }
        }
        let missing = fetch.missing();
        let (me, from, snapshot) = (self.me, fetch.from, fetch.snapshot);
        env.say(|| format!("{me} compares what it kept of group {group}: {missing:b} differ"));
        if missing == 0 {
            self.finish_fetch(env, group);
        } else {
            self.send_bulk(env, from, group, Bulk::WantPieces { snapshot, missing });
        }
    }

    pub(super) fn fetch_again(&mut self, env: &mut Env, group: usize, snapshot: SnapshotId) {
        let Some(fetch) = &mut self.stores[group].fetch else { return };
        if fetch.snapshot != snapshot {
            return;
        }
        fetch.tries += 1;
        let (from, tries, missing) = (fetch.from, fetch.tries, fetch.missing());
        if tries > FETCH_TRIES {
            self.fail_fetch(env, group);
            return;
        }
        let wanted = if fetch.compares {
            Bulk::WantIndex(snapshot)
        } else if self.kept_of(group).is_some() {
            Bulk::WantPieces { snapshot, missing }
        } else {
            Bulk::WantSnapshot(snapshot)
        };
        self.send_bulk(env, from, group, wanted);
        let later = env.now + env.rng.between(40, 120) * MILLISECOND;
        self.put_off(env, later, Job::FetchAgain { group, snapshot });
    }

    fn fail_fetch(&mut self, env: &mut Env, group: usize) {
        self.stores[group].fetch = None;
        self.input(env, Input::SnapshotFailed { group: env.groups[group] });
    }

    fn fetches(&self, group: usize, from: ReplicaId, snapshot: SnapshotId) -> bool {
        let fetch = &self.stores[group].fetch;
        fetch.as_ref().is_some_and(|fetch| fetch.from == from && fetch.snapshot == snapshot)
    }

    fn serve_index(&self, env: &mut Env, to: ReplicaId, group: usize, snapshot: SnapshotId) {
        let answer = match self.stores[group].snapshots.get(&snapshot) {
            Some(state) => {
                let digests = state.values.iter().map(|value| digest_of_one(*value));
                Bulk::Index { snapshot, digests: digests.collect() }
            }
            None => Bulk::NoSnapshot(snapshot),
        };
        self.send_bulk(env, to, group, answer);
    }

    fn serve_snapshot(
        &self,
        env: &mut Env,
        to: ReplicaId,
        group: usize,
        (snapshot, wanted): (SnapshotId, u32),
    ) {
        let Some(state) = self.stores[group].snapshots.get(&snapshot) else {
            self.send_bulk(env, to, group, Bulk::NoSnapshot(snapshot));
            return;
        };
        for index in (0..state.values.len()).filter(|index| wanted >> index & 1 == 1) {
            let torn = !env.healed && env.rng.chance(env.scenario.faults.torn_per_mille);
            let piece = Bulk::Piece { snapshot, state: Arc::clone(state), index, torn };
            self.send_bulk(env, to, group, piece);
        }
    }

    fn on_piece(
        &mut self,
        env: &mut Env,
        from: ReplicaId,
        group: usize,
        (snapshot, state, index, torn): (SnapshotId, &Frozen, usize, bool),
    ) {
        if !self.fetches(group, from, snapshot) {
            return;
        }
        if torn {
            self.fail_fetch(env, group);
            return;
        }
        let store = &mut self.stores[group];
        let Some(fetch) = &mut store.fetch else { return };
        fetch.pieces[index] = Some(state.values[index]);
        if fetch.missing() == 0 {
            self.finish_fetch(env, group);
        }
    }

    /// All elements are here: they are the group's state.
    fn finish_fetch(&mut self, env: &mut Env, group: usize) {
        let store = &mut self.stores[group];
        let Some(fetch) = store.fetch.take() else { return };
        store.install(&fetch);
        let (me, at, digest) = (self.me, fetch.at, store.digest());
        let is_past = self.is_past(env, group);
        env.say(|| format!("{me} has the snapshot of group {group} at {at:?}"));
        if !is_past && env.watch.state_at(group, at.seq) != digest {
            env.watch.broken(env.now, Invariant::I3SamePrefix, || {
                format!("group {group}: the snapshot that {me} fetched at {at:?} has other values")
            });
        }
        self.input(env, Input::SnapshotFetched { group: env.groups[group], at });
    }

    pub(super) fn gate(&mut self, env: &mut Env, group: usize, gate: ReadGate) {
        self.stores[group].gate = gate;
        self.watch_gate(env, group);
    }

    /// A peer renews what reads of some groups rest on.
    pub(super) fn lease(&mut self, env: &mut Env, peer: ReplicaId, until: Instant) {
        self.leases.insert(peer, until);
        for group in 0..self.stores.len() {
            let leased_by = &self.stores[group].gate.leased_by;
            if leased_by.as_ref().is_some_and(|peers| peers.contains(&peer)) {
                self.watch_gate(env, group);
            }
        }
    }

    /// Until when reads of a group may be answered here, as far as the machine has said.
    fn reads_until(&self, group: usize) -> Option<Instant> {
        self.stores[group].gate.until(|peer| self.leases.get(&peer).copied())
    }

    /// Whether reads of a group may be answered here.
    pub(crate) fn may_read(&self, env: &Env, group: usize) -> bool {
        let now = self.clock.at(env.now);
        self.stores[group].gate.is_open(now, |peer| self.leases.get(&peer).copied())
    }

    fn watch_gate(&self, env: &mut Env, group: usize) {
        if self.is_past(env, group) {
            // Until it hears of the new start it reads what was written down: nobody writes before that has its copies.
            return;
        }
        let until = self.reads_until(group).map(|until| self.true_time(until));
        env.watch.may_read(env.now, group, self.index, self.me, until);
    }

    fn true_time(&self, instant: Instant) -> Time {
        self.clock.when(instant).unwrap_or(Time::MAX)
    }

    pub(super) fn role(&mut self, env: &mut Env, group: usize, role: Role, epoch: Epoch) {
        self.check_put_back_role(group, role, epoch);
        let begins = self.stores[group].role == Role::Empty && role == Role::PrimaryPending;
        self.stores[group].role = role;
        let me = self.me;
        let goes_on = self.go_on(env, group, role);
        if begins && !goes_on && epoch >= env.watch.since(group) {
            env.watch.begins(env.now, group, me, self.stores[group].digest());
        }
        env.say(|| format!("{me} is {role:?} of group {group} in epoch {}", epoch.0));
        if role == Role::Primary {
            env.watch.active(env.now, group, me, epoch);
        }
    }

    /// How far the group is committed here, as the machine says; notes it, and that it never shrinks.
    pub(crate) fn look_at_commit(&mut self, env: &mut Env, group: usize, commit: Seq) {
        if self.is_past(env, group) {
            return;
        }
        let (me, store) = (self.me, &mut self.stores[group]);
        if commit < store.commit_seen {
            let seen = store.commit_seen;
            env.watch.broken(env.now, Invariant::I7CommitGrows, || {
                format!("group {group}: {me} had committed {} and now {}", seen.0, commit.0)
            });
        }
        store.commit_seen = commit;
        env.watch.committed(group, commit);
    }
}
