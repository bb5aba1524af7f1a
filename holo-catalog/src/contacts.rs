//! When each voter was last heard of, and what follows for a leader that hears of too few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::VoterId;
use crate::options::Timers;

/// When each voter was last heard of, by its answers and by its requests.
#[derive(Debug, Default)]
pub(crate) struct Contacts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    heard: BTreeMap<VoterId, Instant>,
    /// Sets of voters, of each of which a leader needs more than half.
    sets: Vec<BTreeSet<VoterId>>,
    /// When each voter was last sent something by a leader without a majority.
    tried: BTreeMap<VoterId, Instant>,
}

impl Contacts {
    pub(crate) fn heard_of(&self, voter: VoterId) {
        self.0.lock().heard.insert(voter, Instant::now());
    }

    /// Those of `voters` that were heard of within `window`, and `me`.
    pub(crate) fn answering(
        &self,
        voters: impl IntoIterator<Item = VoterId>,
        me: VoterId,
        window: Duration,
    ) -> BTreeSet<VoterId> {
        let now = Instant::now();
        let known = self.0.lock();
        voters
            .into_iter()
            .filter(|voter| *voter == me || known.hears(*voter, now, window))
            .collect()
    }

    /// Whether `me`, who takes itself for the leader, may send `to` what keeps the others from standing for election.
    ///
    /// A leader that was not heard of by a majority for as long as a voter counts as answering may be one that can
    /// speak and cannot hear. The library lets it lead for ever, as the others hear it; nothing would be agreed on. So
    /// it speaks so seldom that they find another leader in between. It does not fall silent: where the majority was
    /// only away, there may be nobody but this one whom it can elect, or who knows that it votes.
    pub(crate) fn may_lead(&self, me: VoterId, to: VoterId, timers: &Timers) -> bool {
        let now = Instant::now();
        let mut known = self.0.lock();
        let window = timers.answering_window();
        let answers = |voter: &&VoterId| **voter == me || known.hears(**voter, now, window);
        if known.sets.iter().all(|set| 2 * set.iter().filter(answers).count() > set.len()) {
            known.tried.clear();
            return true;
        }
        let recent = |tried: &Instant| now.duration_since(*tried) < timers.unheard_pause();
        if known.tried.get(&to).is_some_and(recent) {
            return false;
        }
        known.tried.insert(to, now);
        true
    }

    /// Takes over who votes, each set of them, and forgets all but `members`.
    pub(crate) fn follow(&self, sets: Vec<BTreeSet<VoterId>>, members: &BTreeSet<VoterId>) {
        let mut known = self.0.lock();
        known.sets = sets;
        known.heard.retain(|voter, _| members.contains(voter));
        known.tried.retain(|voter, _| members.contains(voter));
    }
}

impl Known {
    fn hears(&self, voter: VoterId, now: Instant, window: Duration) -> bool {
        self.heard.get(&voter).is_some_and(|heard| now.duration_since(*heard) <= window)
    }
}
