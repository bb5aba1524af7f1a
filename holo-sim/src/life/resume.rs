//! The two ends of a process: what it leaves when it is told to stop, and how the next one goes on from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holo_core::catalog::{PastReplica, Resumption};
use holo_core::group::Seq;
use holo_core::replication::{GroupConfig, Incarnation, Input, Output, Role};

use super::Life;
use crate::env::Env;
use crate::mutant::Plant;
use crate::network::{End, MILLISECOND};
use crate::packet::{Job, Packet, ToCatalog};
use crate::queue::Time;
use crate::store::{Left, Waiting};
use crate::watch::Applied;

/// Pause before the catalog is told again.
const STEP: Time = 50 * MILLISECOND;
/// How long the disk takes at most.
const DISK_SLOWEST: Time = 60 * MILLISECOND;

/// What a process knows and does about its earlier lives.
#[derive(Debug, Default)]
pub(super) struct Heir {
    /// By group: which earlier life is in sync, as far as is known here.
    past: BTreeMap<usize, PastReplica>,
    /// Groups that are being read.
    under_way: BTreeSet<usize>,
    /// By group: what was put back, and the machine has not dropped since.
    pub(super) restored: BTreeMap<usize, Left>,
    /// By group: of which life nothing was found.
    gone: BTreeMap<usize, Incarnation>,
    /// A look is in the queue.
    pub(super) is_armed: bool,
    /// Until when it does not tell the catalog again.
    asks_until: Time,
}

impl Life {
    /// Takes a config that is news here.
    pub(super) fn note_past(&mut self, group: usize, config: &GroupConfig) {
        match config.past_life(self.me) {
            Some(life) => {
                let past = PastReplica { group: config.group, life, at: config.epoch };
                self.heir.past.insert(group, past);
            }
            None => {
                self.heir.past.remove(&group);
            }
        }
    }

    /// How far what it has put back of an earlier life goes.
    pub(crate) fn inherits(&self, group: usize) -> Option<Seq> {
        self.heir.restored.get(&group).map(|left| left.remains.at.seq)
    }

    /// Reads what earlier lives left, and tells the catalog what came of it.
    pub(crate) fn resume(&mut self, env: &mut Env) {
        if self.heir.past.is_empty() {
            return;
        }
        if env.now >= self.heir.asks_until {
            self.heir.asks_until = env.now + STEP;
            for (group, past) in self.heir.past.clone() {
                self.resume_one(env, group, past);
            }
        }
        if !self.heir.is_armed {
            self.heir.is_armed = true;
            self.put_off(env, env.now + STEP, Job::Resume);
        }
    }

    fn resume_one(&mut self, env: &mut Env, group: usize, past: PastReplica) {
        if self.heir.under_way.contains(&group) {
            return;
        }
        let is_whole = self.heir.restored.get(&group).is_some_and(|left| left.life == past.life);
        if !is_whole && self.heir.gone.get(&group) != Some(&past.life) {
            self.heir.under_way.insert(group);
            let at = env.now + MILLISECOND + env.rng.below(DISK_SLOWEST);
            return self.put_off(env, at, Job::Restore(past));
        }
        // The machine has to know for which epoch it is good.
        if is_whole && !self.tell_machine(env, group, past) {
            return;
        }
        let found = Resumption { past, is_whole };
        let resume = ToCatalog::Resume { by: self.me, found };
        env.send(End::Node(self.index), End::Catalog, Packet::ToCatalog(resume));
    }

    /// What a life left was read.
    pub(super) fn on_restored(&mut self, env: &mut Env, past: PastReplica) {
        let (me, group) = (self.me, env.group_index(past.group));
        let Some(group) = group else { return };
        self.heir.under_way.remove(&group);
        // It has the group from others by now, or somebody else goes on with it.
        if self.heir.past.get(&group).is_none_or(|known| known.life != past.life)
            || self.stores[group].role != Role::Empty
        {
            return;
        }
        let kept = Arc::clone(&self.kept);
        let mut left = kept.get(group).into_iter().flatten().filter(|left| left.is_readable);
        let any = env.plant == Plant::ResumeFromAnyLife;
        let Some(left) = left.find(|left| left.life == past.life || any) else {
            env.say(|| format!("{me} finds nothing of group {group} of life {}", past.life.0));
            self.heir.gone.insert(group, past.life);
            return self.resume(env);
        };
        let at = left.remains.at;
        env.say(|| format!("{me} puts group {group} back as it was at {at:?}"));
        self.forget_put_back(group);
        self.stores[group].restore(left);
        self.heir.restored.insert(group, left.clone());
        if self.tell_machine(env, group, past) {
            self.resume(env);
        }
    }

    /// Tells the machine what lies here; what it does not take is dropped.
    fn tell_machine(&mut self, env: &mut Env, group: usize, past: PastReplica) -> bool {
        let Some(left) = self.heir.restored.get(&group) else { return false };
        let remains = left.remains.clone();
        let restore = Input::Restore { life: past.life, after: past.at, remains };
        let taken = self.input(env, restore);
        if !taken && self.heir.restored.remove(&group).is_some() {
            self.stores[group].reset();
        }
        taken
    }

    /// Whether the group goes on here from what an earlier life left: then what that one applied at its end counts.
    pub(super) fn go_on(&mut self, env: &mut Env, group: usize, role: Role) -> bool {
        if role == Role::Empty {
            return false;
        }
        let Some(left) = self.heir.restored.remove(&group) else { return false };
        let me = self.me;
        env.say(|| format!("{me} goes on with group {group}"));
        for (seq, applied) in left.tail {
            env.watch.applied(env.now, group, me, seq, applied);
        }
        true
    }

    /// Applies all that it holds, as nobody hears of it any more; gives what is left of each group, and whether it was a
    /// member of it.
    pub(crate) fn come_to_rest(&mut self, env: &Env) -> Vec<(usize, Left, bool)> {
        self.host.come_to_rest(self.clock.at(env.now));
        let mut tails: Vec<Vec<(Seq, Applied)>> = vec![Vec::new(); self.stores.len()];
        loop {
            while let Some(output) = self.host.poll_output() {
                if let Output::Apply { group, seq, op, payload } = output
                    && let Some(group) = env.group_index(group)
                {
                    self.stores[group].queue.push_back(Waiting { seq, op, payload });
                    self.fed |= 1 << group;
                }
            }
            let Some(group) = self.next_to_apply() else { break };
            let store = &mut self.stores[group];
            let Some(waiting) = store.queue.pop_front() else { break };
            let Ok(effect) = store.apply(&waiting) else { break };
            tails[group].push((waiting.seq, store.seen(&effect)));
            let input = Input::Applied {
                group: env.groups[group],
                seq: waiting.seq,
                outcome: effect.outcome(),
            };
            if self.host.handle_input(self.clock.at(env.now), input).is_err() {
                break;
            }
        }
        let remains = self.host.remains().into_iter().filter_map(|remains| {
            let group = env.group_index(remains.group)?;
            let (store, tail) = (&self.stores[group], std::mem::take(&mut tails[group]));
            let (life, values) = (self.me.incarnation, store.values.clone());
            let tail = match self.heir.restored.get(&group) {
                Some(left) => left.tail.clone(),
                None => tail,
            };
            let left = Left { life, values, remains, tail, is_readable: true };
            Some((group, left, store.role != Role::Empty))
        });
        remains.collect()
    }
}
