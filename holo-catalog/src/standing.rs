//! Who leads and who votes, as one voter knows it.

use std::collections::BTreeSet;

use crate::VoterId;

/// Who leads and who votes, as one voter knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The term that it knows; grows with every election.
    pub term: u64,
    /// Who leads that term, once known.
    pub leader: Option<VoterId>,
    /// Who votes, those of the old set and of the new one while a change is under way.
    pub voters: BTreeSet<VoterId>,
    /// Who receives the log without a vote: voters to be, and former ones that have not heard of it yet.
    pub learners: BTreeSet<VoterId>,
    /// Whether a change of voters is under way.
    pub changing: bool,
    /// Whether this voter takes no part any more, because it was shut down or failed.
    pub stopped: bool,
}
