//! What can go wrong with a proposal, a read or a change of voters.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use holo_core::{ErrorCode, Failure};

use crate::{COMMAND_BYTES_MAX, VoterId};

/// Why the catalog did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Another voter leads. Nothing was done; ask that one.
    #[error("voter {leader} leads the catalog")]
    NotLeader {
        /// Whom to ask.
        leader: VoterId,
    },
    /// No leader with a majority behind it was found in time. Nothing was done; try again later.
    #[error("nobody leads the catalog: {0}")]
    NoQuorum(Quorum),
    /// The command is in the log of a leader that did not get it committed in time. It may still be; read first.
    #[error("not committed within {waited:?}, and it may still be: {quorum}")]
    OutcomeUnknown {
        /// How long was waited.
        waited: Duration,
        /// Who votes and who answers.
        quorum: Quorum,
    },
    /// The command is too large. The caller's fault; nothing was done.
    #[error("a command of {bytes} bytes; at most {COMMAND_BYTES_MAX} go into the catalog's log")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// Too many proposals wait here already, or this one waited for those before it all the time. Nothing was done; try
    /// again later.
    #[error("the catalog has too much to agree on: up to {waiting} proposals wait here")]
    Busy {
        /// How many may wait.
        waiting: usize,
    },
    /// These cannot be the voters, or another change is under way. Nothing was done.
    #[error("the catalog's voters stay as they are: {reason}")]
    ChangeRefused {
        /// Why.
        reason: String,
    },
    /// A new voter did not catch up in time. The voters are as they were.
    #[error(
        "voter {voter} did not catch up within {waited:?}: it has {has} of {wanted} log entries"
    )]
    NotCaughtUp {
        /// Which one.
        voter: VoterId,
        /// How long was waited.
        waited: Duration,
        /// Index of the last entry that it is known to have.
        has: u64,
        /// Index that it was to have.
        wanted: u64,
    },
    /// This voter was shut down. Nothing was done.
    #[error("this voter of the catalog is stopped")]
    Stopped,
    /// This voter failed by itself, mostly for its file, and takes no part any more.
    #[error("this voter of the catalog failed: {0}")]
    Broken(Failure),
}

/// Who has to agree, and who of them answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Those who vote; while the voters are being changed, those of before and those to come. More than half of each are
    /// needed.
    pub sets: Vec<BTreeSet<VoterId>>,
    /// Who of them was heard of lately.
    pub answering: BTreeSet<VoterId>,
}

impl Quorum {
    /// Whether more than half of each set answer.
    pub fn is_met(&self) -> bool {
        self.sets.iter().all(|set| 2 * self.answering_of(set).len() > set.len())
    }

    /// Those that do not answer.
    pub fn silent(&self) -> BTreeSet<VoterId> {
        self.sets.iter().flatten().filter(|it| !self.answering.contains(it)).copied().collect()
    }

    /// Both counts and who they are: `1 of 3 voters answers (n1 of n1, n2, n3), 2 are needed`.
    pub fn in_words(&self, name: impl Fn(VoterId) -> String) -> String {
        let list = |voters: &BTreeSet<VoterId>| {
            let names: Vec<String> = voters.iter().map(|voter| name(*voter)).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        let count = |set: &BTreeSet<VoterId>| {
            let answering = self.answering_of(set);
            let (count, needed) = (answering.len(), set.len() / 2 + 1);
            let verb = if count == 1 || set.len() == 1 { "answers" } else { "answer" };
            let (names, of, all) = (list(&answering), set.len(), list(set));
            let voters = if of == 1 { "voter" } else { "voters" };
            let are = if needed == 1 { "is" } else { "are" };
            format!("{count} of {of} {voters} {verb} ({names} of {all}), {needed} {are} needed")
        };
        let counts: Vec<String> = self.sets.iter().map(count).collect();
        match counts.as_slice() {
            [] => "nobody votes yet".to_owned(),
            [only] => only.clone(),
            both => format!("the voters are being changed: {}", both.join("; and ")),
        }
    }

    fn answering_of(&self, set: &BTreeSet<VoterId>) -> BTreeSet<VoterId> {
        set.intersection(&self.answering).copied().collect()
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_words(|voter| voter.to_string()))
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        let code = match &error {
            CatalogError::NotLeader { .. } => ErrorCode::WrongNode,
            CatalogError::NoQuorum(_) => ErrorCode::NoQuorum,
            CatalogError::OutcomeUnknown { .. } | CatalogError::NotCaughtUp { .. } => {
                ErrorCode::DeadlineExceeded
            }
            CatalogError::TooLarge { .. } => ErrorCode::TooLarge,
            CatalogError::Busy { .. } => ErrorCode::Overloaded,
            CatalogError::ChangeRefused { .. } => ErrorCode::Conflict,
            CatalogError::Stopped => ErrorCode::ShuttingDown,
            CatalogError::Broken(failure) => failure.code,
        };
        let failure = Self::new(code, error.to_string());
        match error {
            CatalogError::NoQuorum(_) => {
                failure.help("start or reconnect voters of the catalog until more than half answer")
            }
            CatalogError::OutcomeUnknown { .. } => failure.help("read before trying again"),
            CatalogError::Broken(Self { help: Some(help), .. }) => failure.help(help),
            _ => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[u64]) -> BTreeSet<VoterId> {
        ids.iter().copied().map(VoterId).collect()
    }

    #[test]
    fn a_quorum_tells_who_is_missing_in_each_set_of_voters() {
        let quorum = Quorum { sets: vec![voters(&[1, 2, 3])], answering: voters(&[1]) };
        let words = quorum.in_words(|voter| format!("n{voter}"));
        assert_eq!(words, "1 of 3 voters answers (n1 of n1, n2, n3), 2 are needed");
        assert_eq!((quorum.is_met(), quorum.silent()), (false, voters(&[2, 3])));
        // "2 of 3 voters answer (1, 4 of 1, 2, 4)" sounded like enough: half of those of before was not.
        let quorum =
            Quorum { sets: vec![voters(&[1, 2]), voters(&[1, 2, 4])], answering: voters(&[1, 4]) };
        assert_eq!(
            quorum.to_string(),
            "the voters are being changed: 1 of 2 voters answers (1 of 1, 2), 2 are needed; \
             and 2 of 3 voters answer (1, 4 of 1, 2, 4), 2 are needed"
        );
        assert_eq!((quorum.is_met(), quorum.silent()), (false, voters(&[2])));
        let quorum = Quorum { sets: vec![voters(&[1])], answering: voters(&[]) };
        assert_eq!(quorum.to_string(), "0 of 1 voter answers (none of 1), 1 is needed");
    }
}
