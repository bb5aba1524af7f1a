//! What can go wrong with a proposal, a read or a change of voters.

use std::collections::BTreeSet;
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
    #[error("{}", quorum(voters, answering))]
    NoQuorum {
        /// Who votes.
        voters: BTreeSet<VoterId>,
        /// Who of them was heard of lately.
        answering: BTreeSet<VoterId>,
    },
    /// The command is in the log of a leader that did not get it committed in time. It may still be; read first.
    #[error("not committed within {waited:?}, and it may still be: {}", quorum(voters, answering))]
    OutcomeUnknown {
        /// How long was waited.
        waited: Duration,
        /// Who votes.
        voters: BTreeSet<VoterId>,
        /// Who of them was heard of lately.
        answering: BTreeSet<VoterId>,
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

/// `2 voters of 3 (1, 2, 3) answer (1, 2)`: both counts and who they are.
fn quorum(voters: &BTreeSet<VoterId>, answering: &BTreeSet<VoterId>) -> String {
    let list = |voters: &BTreeSet<VoterId>| {
        let names: Vec<String> = voters.iter().map(ToString::to_string).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    format!(
        "{} of {} voters answer ({} of {}), more than half are needed",
        answering.len(),
        voters.len(),
        list(answering),
        list(voters),
    )
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        let code = match &error {
            CatalogError::NotLeader { .. } => ErrorCode::WrongNode,
            CatalogError::NoQuorum { .. } => ErrorCode::NoQuorum,
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
            CatalogError::NoQuorum { .. } => {
                failure.help("start or reconnect voters of the catalog until more than half answer")
            }
            CatalogError::OutcomeUnknown { .. } => failure.help("read before trying again"),
            CatalogError::Broken(Self { help: Some(help), .. }) => failure.help(help),
            _ => failure,
        }
    }
}
