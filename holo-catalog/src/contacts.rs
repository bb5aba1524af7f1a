//! When each voter was last heard of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::VoterId;

/// When each voter was last heard of, by its answers and by its requests.
#[derive(Debug, Default)]
pub(crate) struct Contacts(Mutex<BTreeMap<VoterId, Instant>>);

impl Contacts {
    pub(crate) fn heard_of(&self, voter: VoterId) {
        self.0.lock().insert(voter, Instant::now());
    }

    /// Those of `voters` that were heard of within `window`, and `me`.
    pub(crate) fn answering(
        &self,
        voters: impl IntoIterator<Item = VoterId>,
        me: VoterId,
        window: Duration,
    ) -> BTreeSet<VoterId> {
        let now = Instant::now();
        let contacts = self.0.lock();
        let recent = |voter: &VoterId| {
            contacts.get(voter).is_some_and(|heard| now.duration_since(*heard) <= window)
        };
        voters.into_iter().filter(|voter| *voter == me || recent(voter)).collect()
    }

    /// Forgets all but `members`, so that the map stays small.
    pub(crate) fn keep(&self, members: &BTreeSet<VoterId>) {
        self.0.lock().retain(|voter, _| members.contains(voter));
    }
}
