//! The two ends of a replica: what it begins with, and what it leaves for the next life of its node.
//!
//! A replica that is in sync holds every operation that was ever acknowledged. So does what is left of one that ended in
//! order, as long as the catalog has not taken it out of the in-sync set: nothing was acknowledged without it since.

use std::sync::Arc;

use super::{Base, Context, Replica};
use crate::group::Seq;
use crate::replication::config::{GroupConfig, Incarnation};
use crate::replication::dedup::SessionWindows;
use crate::replication::io::{Output, ReadGate, Role};
use crate::replication::messages::LogPosition;
use crate::replication::mutant::Mutant;
use crate::replication::remains::Remains;
use crate::{Epoch, ErrorCode, Failure, Instant};

/// What an earlier life of this node left, and the driver has put back.
#[derive(Debug)]
pub(super) struct Restored {
    /// Which life.
    life: Incarnation,
    /// The newest epoch in which that life is known to be in sync.
    after: Epoch,
    at: LogPosition,
    windows: Arc<SessionWindows>,
    /// When every promise of that life has passed.
    silent_until: Instant,
}

impl Replica {
    /// An in-sync replica without a state holds all that was ever committed: nothing. A learner becomes in sync only
    /// after it said that it has a state, so this is one of the first config's replicas, or of one that starts anew
    /// because a loss was accepted: what a copy has brought until then is nobody's data.
    pub(super) fn start_from_nothing(&mut self, ctx: &mut Context) {
        if self.base == Base::Ready {
            return;
        }
        if self.role == Role::Learner {
            self.reset(ctx);
        }
        self.base = Base::Ready;
    }

    /// What an earlier life left lies here.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Cancelled`] when the group has come here in another way, or went on without that life.
    pub(in crate::replication) fn restore(
        &mut self,
        ctx: &mut Context,
        life: Incarnation,
        after: Epoch,
        remains: Remains,
    ) -> Result<(), Failure> {
        let config = &self.claim.config;
        let went_on = config.epoch >= after && config.past_life(ctx.me) != Some(life);
        if self.role != Role::Empty || self.base != Base::None || went_on {
            let message = format!("group {} has gone on without life {}", self.group, life.0);
            return Err(Failure::new(ErrorCode::Cancelled, message));
        }
        let known = self.restored.as_ref().filter(|known| known.life == life);
        let after = after.max(config.epoch).max(known.map_or(Epoch(0), |known| known.after));
        // That life may have promised its silence to the very end, and this one began after it.
        let silent_until = match &self.restored {
            Some(known) => known.silent_until,
            None => ctx.now.after(ctx.timers.promise()),
        };
        if self.restored.is_none() {
            // A config that came while this was read had nobody here to tell.
            self.ask_catalog(ctx);
        }
        let Remains { at, windows, .. } = remains;
        self.restored = Some(Box::new(Restored { life, after, at, windows, silent_until }));
        Ok(())
    }

    /// Begins with what was put back when `new` follows the epoch that it is good for, and drops it when `new` has no
    /// place for it.
    pub(super) fn weigh_restored(&mut self, ctx: &mut Context, new: &GroupConfig) {
        let Some(mut restored) = self.restored.take() else { return };
        let follows = new.epoch.0 == restored.after.0 + 1;
        if new.primary == ctx.me && !new.lost && follows {
            self.restart_at(restored.at, restored.windows.as_ref().clone());
            self.base = Base::Ready;
            self.silent_until = restored.silent_until;
        } else if new.epoch <= restored.after || new.past_life(ctx.me) == Some(restored.life) {
            restored.after = restored.after.max(new.epoch);
            self.restored = Some(restored);
        } else {
            ctx.emit(Output::Reset { group: self.group });
        }
    }

    /// Whether something was put back that may still become the group's data.
    pub(in crate::replication) fn is_restored(&self) -> bool {
        self.restored.is_some()
    }

    /// Until when promises keep us from serving: our own, and those of the life that we go on for.
    pub(in crate::replication) fn blocked_until(&self, ctx: &Context) -> Option<Instant> {
        let forgets = ctx.mutant == Mutant::ForgetPromisesOfEarlierLife;
        let inherited = Some(self.silent_until).filter(|until| ctx.now < *until && !forgets);
        ctx.peers.blocked_until(self.group, ctx.now).max(inherited)
    }

    /// The process takes part in nothing any more: everything that it holds is to be applied, as if it took over. Nobody
    /// hears of it.
    pub(in crate::replication) fn come_to_rest(&mut self, ctx: &mut Context) {
        self.gate = ReadGate::closed(self.epoch());
        self.fail_tickets(ctx, Seq(0));
        if let Some(lead) = self.lead.take() {
            self.drop_copies(ctx, &lead);
            self.role = Role::Backup;
        }
        if self.base != Base::Ready || ctx.mutant == Mutant::LeaveTailBehind {
            return;
        }
        self.cut_after(ctx, self.held);
        self.verified = self.held;
        self.commit = self.held;
        self.advance(ctx);
    }

    /// What is left once the driver has applied everything; `None` when it could not, or when there is no state.
    pub(in crate::replication) fn remains(&self, mutant: Mutant) -> Option<Remains> {
        let remains = |at, windows| Some(Remains { group: self.group, at, windows });
        if let Some(restored) = &self.restored {
            return remains(restored.at, Arc::clone(&restored.windows));
        }
        let is_whole = self.applied == self.held || mutant == Mutant::LeaveTailBehind;
        if self.base != Base::Ready || self.claim.config.lost || !is_whole {
            return None;
        }
        let epoch = self.log.epoch_at(self.applied)?;
        let at = LogPosition { epoch, seq: self.applied };
        remains(at, Arc::new(self.results.clone()))
    }
}
