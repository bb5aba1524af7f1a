//! Which groups a host has to look at before its next round over all of them: with hundreds of quiet ones, a tick costs
//! what is going on and not what is there.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::config::GroupId;

/// Why a group needs a look of its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attention {
    /// Something is under way that shall not wait for a heartbeat.
    pub(super) busy: bool,
    /// It waits to serve, and so for promises to pass.
    pub(super) pending: bool,
    /// It brings up a learner, or asks for one.
    pub(super) learning: bool,
    /// Some member may not know how far it is committed: the next beat says so.
    pub(super) news: bool,
}

/// The groups of one host that need any.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    busy: BTreeSet<GroupId>,
    pending: BTreeSet<GroupId>,
    learning: BTreeSet<GroupId>,
    news: BTreeSet<GroupId>,
}

impl Rounds {
    /// A group needs other attention than before.
    pub(super) fn note(&mut self, group: GroupId, before: Attention, now: Attention) {
        let put = |set: &mut BTreeSet<GroupId>, before: bool, now: bool| match (before, now) {
            (false, true) => drop(set.insert(group)),
            (true, false) => drop(set.remove(&group)),
            _ => {}
        };
        put(&mut self.busy, before.busy, now.busy);
        put(&mut self.pending, before.pending, now.pending);
        put(&mut self.learning, before.learning, now.learning);
        put(&mut self.news, before.news, now.news);
    }

    /// What is noted of a group.
    pub(super) fn of(&self, group: GroupId) -> Attention {
        Attention {
            busy: self.busy.contains(&group),
            pending: self.pending.contains(&group),
            learning: self.learning.contains(&group),
            news: self.news.contains(&group),
        }
    }

    /// The first busy group after `group`, or the first of all.
    pub(super) fn next_busy(&self, group: Option<GroupId>) -> Option<GroupId> {
        let after = group.map_or(Bound::Unbounded, Bound::Excluded);
        self.busy.range((after, Bound::Unbounded)).next().copied()
    }

    /// Whether any group is busy.
    pub(super) fn is_any_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Groups that wait for promises to pass.
    pub(super) fn pending(&self) -> &BTreeSet<GroupId> {
        &self.pending
    }

    /// Groups that have or want learners.
    pub(super) fn learning(&self) -> &BTreeSet<GroupId> {
        &self.learning
    }

    /// Groups of whose commit the next beats tell.
    pub(super) fn news(&self) -> &BTreeSet<GroupId> {
        &self.news
    }
}
