//! A node's part when the whole cluster stops or starts again: `holo-node`'s keeper on a simulated disk. What is to be
//! done is read off the catalog by the same functions; only when it is done, and what a crash leaves of it, is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holo_core::Epoch;
use holo_core::catalog::{CatalogState, CloseId, CloseStage, Held, Intake, ToHold};
use holo_core::group::Seq;
use holo_core::replication::Role;

use super::Life;
use crate::catalog::News;
use crate::disk::{Disk, FileName};
use crate::env::Env;
use crate::mutant::Plant;
use crate::network::{End, MILLISECOND};
use crate::packet::{Job, Packet, ToCatalog};
use crate::queue::Time;

/// Pause before what could not be done yet is tried again.
const STEP: Time = 50 * MILLISECOND;
/// How long the disk takes at most.
const DISK_SLOWEST: Time = 60 * MILLISECOND;
/// How long a process takes to end at most.
const LAST_WORDS: Time = 300 * MILLISECOND;

/// What a process knows and does about closes of the cluster.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// The catalog as this process knows it; `None` as long as there was no close.
    copy: Option<Arc<CatalogState>>,
    intake: Intake,
    /// By group: the file that is on disk, and need not be written again.
    written: BTreeMap<usize, FileName>,
    /// Groups whose files are being written or read.
    under_way: BTreeSet<usize>,
    /// By group: the epoch after which what was put back is its data.
    put_back: BTreeMap<usize, Epoch>,
    /// Groups whose files are not what was written.
    unreadable: BTreeSet<usize>,
    /// A look is in the queue.
    is_armed: bool,
    /// Until when it waits for an answer of the catalog, and does not ask again.
    asks_until: Time,
    is_swept: bool,
    is_ending: bool,
    has_ended: bool,
}

impl Life {
    /// Whether the process has ended because the cluster is closed.
    pub(crate) fn has_ended(&self) -> bool {
        self.keeper.has_ended
    }

    /// Whether the process has found that its file of a group is not what it wrote.
    pub(crate) fn finds_unreadable(&self, group: usize) -> bool {
        self.keeper.unreadable.contains(&group)
    }

    /// Takes the catalog's newest state among `news`: before the configs, as whoever becomes a primary by one of them has
    /// to know what it may take.
    pub(super) fn take_copy(&mut self, news: &[News]) {
        let copy = news.iter().rev().find_map(|news| match news {
            News::Copy(copy) => Some(copy),
            _ => None,
        });
        if let Some(copy) = copy {
            self.keeper.intake = copy.intake(Some(self.me));
            self.keeper.copy = Some(Arc::clone(copy));
        }
    }

    /// Whether a group takes writes, by what is known of closes.
    pub(super) fn takes_writes(&self, env: &Env, group: usize) -> bool {
        let blind = match &self.keeper.intake {
            Intake::Open => true,
            Intake::Closing(_) => env.plant == Plant::WriteWhileClosing,
            Intake::Reopening(_) => env.plant == Plant::WriteWhileReopening,
        };
        blind || self.keeper.intake.check(env.groups[group]).is_ok()
    }

    /// Does what the catalog asks for.
    pub(crate) fn keep(&mut self, env: &mut Env, disk: &mut Disk) {
        let Some(copy) = self.keeper.copy.clone() else { return };
        self.drop_unwanted(env);
        match copy.close_stage(self.me) {
            CloseStage::Open => self.sweep(env, disk),
            CloseStage::Write(..) | CloseStage::Read(..) if env.now < self.keeper.asks_until => {
                self.arm_keeper(env);
            }
            CloseStage::Write(_, groups) if groups.is_empty() => {}
            CloseStage::Write(close, groups) => {
                self.keeper.asks_until = env.now + STEP;
                self.write_down(env, disk, close, &groups);
                self.arm_keeper(env);
            }
            CloseStage::Read(close, helds) => {
                self.keeper.asks_until = env.now + STEP;
                self.offer(env, close, &helds);
                self.arm_keeper(env);
            }
            CloseStage::Wait => {}
            CloseStage::Stop => {
                if !self.keeper.is_ending {
                    self.keeper.is_ending = true;
                    let at = env.now + MILLISECOND + env.rng.below(LAST_WORDS);
                    self.put_off(env, at, Job::End);
                }
            }
        }
    }

    /// Looks again, as nothing else may tell that it is time.
    pub(super) fn keep_again(&mut self, env: &mut Env, disk: &mut Disk) {
        self.keeper.is_armed = false;
        self.keep(env, disk);
    }

    /// The process ends.
    pub(super) fn end(&mut self) {
        self.keeper.has_ended = true;
    }

    /// A file has reached the disk for good.
    pub(super) fn on_synced(&mut self, env: &mut Env, disk: &mut Disk, name: FileName) {
        disk.sync(name);
        self.keeper.under_way.remove(&name.group);
        self.keeper.written.insert(name.group, name);
        let me = self.me;
        env.say(|| format!("{me} has {name:?} on disk"));
        self.keep(env, disk);
    }

    /// A file was read: its values become the group's data, should it start again here.
    pub(super) fn on_read(&mut self, env: &mut Env, disk: &mut Disk, name: FileName, at: Epoch) {
        let group = name.group;
        self.keeper.under_way.remove(&group);
        let waits = matches!(&self.keeper.intake, Intake::Reopening(waiting) if waiting.contains(&env.groups[group]));
        // Who is a member by now has the group from others; who has not heard of its wait tries again.
        if !waits || self.stores[group].role != Role::Empty {
            return self.arm_keeper(env);
        }
        let me = self.me;
        match disk.read(name) {
            Some(values) => {
                env.say(|| format!("{me} puts {name:?} back, for after epoch {}", at.0));
                self.heir.restored.remove(&group);
                self.stores[group].put_back(values);
                self.keeper.put_back.insert(group, at);
            }
            None => {
                env.say(|| format!("{me} cannot read {name:?}"));
                self.keeper.unreadable.insert(group);
            }
        }
        self.keep(env, disk);
    }

    /// A group starts here with what came from disk only right after the epoch in which that was its data.
    pub(super) fn check_put_back_role(&mut self, group: usize, role: Role, epoch: Epoch) {
        let begins = matches!(role, Role::Primary | Role::PrimaryPending)
            && self.stores[group].role == Role::Empty;
        let at = self.keeper.put_back.get(&group);
        if begins && at.is_some_and(|at| at.0 + 1 != epoch.0) {
            self.stores[group].reset();
        }
        if role != Role::Empty {
            self.keeper.put_back.remove(&group);
        }
    }

    /// What was put back and was dropped by the machine since.
    pub(super) fn forget_put_back(&mut self, group: usize) {
        self.keeper.put_back.remove(&group);
    }

    /// The cluster is open: what lies here is of no use any more.
    fn sweep(&mut self, env: &Env, disk: &mut Disk) {
        self.keeper.unreadable.clear();
        if env.plant != Plant::ReuseOlderHold {
            self.keeper.written.clear();
        }
        if !self.keeper.is_swept {
            self.keeper.is_swept = true;
            disk.delete_all();
        }
    }

    fn write_down(&mut self, env: &mut Env, disk: &mut Disk, close: CloseId, groups: &[ToHold]) {
        self.keeper.is_swept = false;
        for to_hold in groups {
            let Some(group) = env.group_index(to_hold.group) else { continue };
            let ToHold { epoch, last, .. } = *to_hold;
            let fits = |name: &&FileName| {
                name.close == close && name.epoch == epoch && last.is_none_or(|it| it == name.seq)
            };
            let known = self.keeper.written.get(&group);
            let known = known.filter(|name| fits(name) || env.plant == Plant::ReuseOlderHold);
            if let Some(name) = known {
                let seq = last.unwrap_or(name.seq);
                self.hold(env, close, to_hold, seq);
            } else if !self.keeper.under_way.contains(&group)
                && let Some(seq) = self.rests(env, close, to_hold)
            {
                let name = FileName { group, close, epoch, seq };
                disk.write(name, self.stores[group].values.clone());
                self.keeper.under_way.insert(group);
                let at = env.now + MILLISECOND + env.rng.below(DISK_SLOWEST);
                self.put_off(env, at, Job::Synced(name));
                if env.plant == Plant::HoldBeforeSync {
                    self.hold(env, close, to_hold, seq);
                }
            }
        }
    }

    /// The last operation of a group that takes no more and has applied all; `None` while it may go on.
    fn rests(&self, env: &Env, close: CloseId, to_hold: &ToHold) -> Option<Seq> {
        let store = &self.stores[env.group_index(to_hold.group)?];
        if self.keeper.intake != Intake::Closing(close) || !store.queue.is_empty() {
            return None;
        }
        self.host.group_summary(to_hold.group)?.rests_at(to_hold.epoch, to_hold.last)
    }

    fn hold(&self, env: &mut Env, close: CloseId, to_hold: &ToHold, seq: Seq) {
        let ToHold { group, epoch, .. } = *to_hold;
        let held = Held { group, epoch, seq, bytes: 1, at: epoch };
        let hold = ToCatalog::Hold { by: self.me, close, held };
        env.send(End::Node(self.index), End::Catalog, Packet::ToCatalog(hold));
    }

    fn offer(&mut self, env: &mut Env, close: CloseId, helds: &[Held]) {
        self.keeper.is_swept = false;
        for held in helds {
            let Some(group) = env.group_index(held.group) else { continue };
            if self.keeper.unreadable.contains(&group) || self.keeper.under_way.contains(&group) {
                continue;
            }
            if self.has_put_back(group, held.at) {
                let reopen = ToCatalog::Reopen { by: self.me, close, held: *held };
                env.send(End::Node(self.index), End::Catalog, Packet::ToCatalog(reopen));
            } else {
                self.keeper.under_way.insert(group);
                let name = FileName { group, close, epoch: held.epoch, seq: held.seq };
                let at = env.now + MILLISECOND + env.rng.below(DISK_SLOWEST);
                self.put_off(env, at, Job::Read { name, at: held.at });
            }
        }
    }

    /// Whether the group's values were put back, and are its data if it starts again here after epoch `at`, as the
    /// catalog says now.
    fn has_put_back(&mut self, group: usize, at: Epoch) -> bool {
        let is_member = self.stores[group].role != Role::Empty;
        let known = self.keeper.put_back.get_mut(&group).filter(|_| !is_member);
        known.is_some_and(|known| {
            *known = at.max(*known);
            *known == at
        })
    }

    /// What was put back and nobody waits for any more is nobody's.
    fn drop_unwanted(&mut self, env: &Env) {
        let (stores, intake) = (&mut self.stores, &self.keeper.intake);
        self.keeper.put_back.retain(|group, _| {
            let stays = matches!(intake, Intake::Reopening(waiting) if waiting.contains(&env.groups[*group]));
            if !stays && stores[*group].role == Role::Empty {
                stores[*group].reset();
            }
            stays
        });
    }

    fn arm_keeper(&mut self, env: &mut Env) {
        if !self.keeper.is_armed {
            self.keeper.is_armed = true;
            self.put_off(env, env.now + STEP, Job::Keep);
        }
    }
}
