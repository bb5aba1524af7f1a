//! This node's copy of the catalog: what it reads, whether it votes or follows.
//!
//! A voter's state is changed by its log only; a follower's by the changes that a voter sends. The copy shows whichever
//! is further on. Changes of a voter never go into a voter's own state: while a voter is out of touch, its node follows
//! in a state of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use holo_core::catalog::{CatalogState, Changes};
use holo_core::replication::{GroupConfig, GroupId};
use holo_core::{Epoch, Failure};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

/// A state that a voter's log changes while others read it.
pub(crate) type SharedState = Arc<RwLock<CatalogState>>;

/// The copy.
#[derive(Debug)]
pub(crate) struct Copy {
    shown: RwLock<Shown>,
    version: watch::Sender<u64>,
    /// Proofs of the present configs, as far as somebody made them.
    proofs: Mutex<BTreeMap<GroupId, (Epoch, Bytes)>>,
}

#[derive(Debug)]
struct Shown {
    state: SharedState,
    /// It is a voter's: only its log may change it.
    voters_own: bool,
}

impl Copy {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        let state = Arc::new(RwLock::new(CatalogState::new()));
        Self {
            shown: RwLock::new(Shown { state, voters_own: false }),
            version: watch::Sender::new(0),
            proofs: Mutex::default(),
        }
    }

    /// Reads the state. `read` must be quick: a voter applies nothing meanwhile.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&CatalogState) -> T) -> T {
        let state = Arc::clone(&self.shown.read().state);
        let state = state.read();
        read(&state)
    }

    /// The version that is shown, and every advance of it.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Whether anything is known.
    pub(crate) fn is_known(&self) -> bool {
        *self.version.borrow() > 0
    }

    /// Whether a voter's own state is shown.
    pub(crate) fn is_voters_own(&self) -> bool {
        self.shown.read().voters_own
    }

    /// A voter's log has changed its state: shows it, unless what is shown is further on.
    pub(crate) fn applied(&self, state: &SharedState) {
        let version = state.read().version();
        let mut shown = self.shown.write();
        if !Arc::ptr_eq(&shown.state, state) {
            if shown.state.read().version() > version {
                return;
            }
            *shown = Shown { state: Arc::clone(state), voters_own: true };
        }
        drop(shown);
        self.announce(version);
    }

    /// This node votes no more: what is shown is its own from now on.
    pub(crate) fn disown_voter(&self) {
        let mut shown = self.shown.write();
        if shown.voters_own {
            let state = shown.state.read().clone();
            *shown = Shown { state: Arc::new(RwLock::new(state)), voters_own: false };
        }
    }

    /// Takes over changes that a voter sent, with the proofs of their configs.
    ///
    /// # Errors
    ///
    /// Those of [`CatalogState::merge`]; nothing is changed then.
    pub(crate) fn merge(
        &self,
        changes: Changes,
        proofs: Vec<(GroupId, Epoch, Bytes)>,
    ) -> Result<(), Failure> {
        self.disown_voter();
        let state = Arc::clone(&self.shown.read().state);
        let version = {
            let mut state = state.write();
            state.merge(changes)?;
            state.version()
        };
        self.add_proofs(proofs);
        self.announce(version);
        Ok(())
    }

    /// Remembers proofs, each for its config.
    pub(crate) fn add_proofs(&self, proofs: impl IntoIterator<Item = (GroupId, Epoch, Bytes)>) {
        let mut known = self.proofs.lock();
        for (group, epoch, proof) in proofs {
            let newer = known.get(&group).is_none_or(|(have, _)| *have <= epoch);
            if newer {
                known.insert(group, (epoch, proof));
            }
        }
    }

    /// The proof of a config; `None` when nobody made one here.
    pub(crate) fn proof(&self, config: &GroupConfig) -> Option<Bytes> {
        let known = self.proofs.lock();
        known
            .get(&config.group)
            .filter(|(epoch, _)| *epoch == config.epoch)
            .map(|(_, it)| it.clone())
    }

    fn announce(&self, version: u64) {
        self.version.send_if_modified(|known| {
            let newer = version > *known;
            *known = version.max(*known);
            newer
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_that_is_behind_is_shown_only_when_it_has_caught_up() {
        let copy = Copy::new();
        let voter: SharedState = Arc::new(RwLock::new(CatalogState::new()));
        copy.applied(&voter);
        assert!(copy.is_voters_own() && !copy.is_known());
        copy.disown_voter();
        assert!(!copy.is_voters_own(), "what is shown is a state of its own");
        copy.applied(&voter);
        assert!(copy.is_voters_own());
    }
}
