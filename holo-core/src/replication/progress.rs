//! What a primary knows of one member in its epoch.

use std::sync::Arc;
use std::time::Duration;

use super::dedup::SessionWindows;
use super::messages::{LogPosition, SnapshotId};
use crate::Instant;
use crate::group::Seq;

/// One member as its primary sees it.
#[derive(Debug)]
pub(super) struct Progress {
    /// Its log agrees with ours up to here, payloads and all.
    pub(super) matched: Seq,
    /// While it copies, its log goes up to here; that ends with a copy that fails, so it counts for nothing but what
    /// is sent next.
    pub(super) received: Seq,
    /// Where the newest snapshot that it was offered ends: what it had before may be gone.
    pub(super) offered: Seq,
    /// It knows that the group is committed up to here.
    pub(super) committed: Seq,
    /// The next entry to send.
    pub(super) next: Seq,
    /// It has a state to apply entries to.
    pub(super) based: bool,
    /// It has answered in this epoch; before, every message carries the config.
    pub(super) confirmed: bool,
    /// Messages that it has not answered.
    pub(super) in_flight: usize,
    /// When the last of them left.
    pub(super) sent_at: Instant,
    /// When it last owed us nothing, or paid something.
    pub(super) progressed_at: Instant,
    /// When we last had its promise to serve nobody else.
    pub(super) leased_at: Instant,
    /// Where it was sent back to last, and when.
    pub(super) nacked: Option<Seq>,
    pub(super) nacked_at: Instant,
    /// It has been a member for us since then.
    pub(super) since: Instant,
    /// It has asked for a snapshot.
    pub(super) wants_copy: bool,
    /// The snapshot that it was offered.
    pub(super) copy: Option<SnapshotCopy>,
    /// Copies that came to nothing, one after the other.
    pub(super) copy_failures: u32,
    /// Because of them it is offered none before this.
    pub(super) copy_after: Instant,
}

/// A snapshot that is taken for one learner.
#[derive(Debug)]
pub(super) struct SnapshotCopy {
    pub(super) snapshot: SnapshotId,
    pub(super) at: LogPosition,
    /// The answered requests as of `at`.
    pub(super) windows: Arc<SessionWindows>,
    pub(super) offered_at: Instant,
    /// The learner has begun with it.
    pub(super) is_taken: bool,
    /// When it was taken, or the learner was last heard to be at it.
    pub(super) moved_at: Instant,
}

impl Progress {
    /// A member of which nothing is known; entries after `last` are tried first.
    pub(super) fn unknown(last: Seq, now: Instant) -> Self {
        Self {
            matched: Seq(0),
            received: Seq(0),
            offered: Seq(0),
            committed: Seq(0),
            next: last.next(),
            based: false,
            confirmed: false,
            in_flight: 0,
            sent_at: Instant(0),
            progressed_at: now,
            leased_at: now,
            nacked: None,
            nacked_at: Instant(0),
            since: now,
            wants_copy: false,
            copy: None,
            copy_failures: 0,
            copy_after: Instant(0),
        }
    }

    /// Begins again after what is known to be there; a member of which nothing is known is tried where it was.
    pub(super) fn rewind(&mut self) {
        self.in_flight = 0;
        let reached = self.reached();
        if self.confirmed || reached > Seq(0) {
            self.next = reached.next();
        }
    }

    /// What need not be sent again.
    pub(super) fn reached(&self) -> Seq {
        if self.based { self.matched } else { self.matched.max(self.received) }
    }

    /// It fetches the snapshot that it was offered.
    pub(super) fn note_copying(&mut self, at: Seq, now: Instant) {
        if let Some(copy) = self.copy.as_mut().filter(|copy| copy.at.seq <= at) {
            copy.is_taken = true;
            copy.moved_at = now;
        }
    }

    /// A pause of our own is nobody's slowness.
    pub(super) fn forgive(&mut self, pause: Duration, now: Instant) {
        let shift = |at: &mut Instant| *at = at.after(pause).min(now);
        shift(&mut self.progressed_at);
        shift(&mut self.leased_at);
        if let Some(copy) = &mut self.copy {
            shift(&mut copy.moved_at);
        }
    }

    /// Begins a new epoch of the same primary. What a member in sync has, it has; a learner that misses an epoch begins from
    /// nothing, so what it had is no more than where to go on.
    pub(super) fn enter_epoch(&mut self, learns: bool, now: Instant) {
        if learns {
            self.received = self.reached();
            self.matched = Seq(0);
            self.based = false;
        }
        self.confirmed = false;
        self.progressed_at = now;
        self.rewind();
    }
}
