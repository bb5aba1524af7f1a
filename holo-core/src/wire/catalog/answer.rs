//! Answers to commands.

use super::parts::ConfigBody;
use crate::wire::{ArrayInfo, FailureBody, GroupBody};

/// What came of a command. Nothing set means: done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnswerBody {
    /// What came of it.
    #[prost(oneof = "OutcomeBody", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub outcome: Option<OutcomeBody>,
}

/// The outcomes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OutcomeBody {
    /// Refused.
    #[prost(message, tag = "1")]
    Refused(FailureBody),
    /// The number of the node that joined.
    #[prost(uint32, tag = "2")]
    Admitted(u32),
    /// The life of the process that started.
    #[prost(message, tag = "3")]
    Registered(RegisteredBody),
    /// What came of each proposal.
    #[prost(message, tag = "4")]
    Proposals(ProposalAnswersBody),
    /// The array that was created.
    #[prost(message, tag = "5")]
    Created(ArrayInfo),
    /// The array that was removed.
    #[prost(message, tag = "6")]
    Removed(ArrayInfo),
    /// Session ids.
    #[prost(message, tag = "7")]
    Sessions(SessionsBody),
}

/// The life of a process that started.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RegisteredBody {
    /// Its incarnation.
    #[prost(uint32, tag = "1")]
    pub incarnation: u32,
}

/// What came of proposals.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProposalAnswersBody {
    /// In the order of the proposals.
    #[prost(message, repeated, tag = "1")]
    pub answers: Vec<ProposalAnswerBody>,
}

/// What came of one proposal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProposalAnswerBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// [`crate::catalog::ChangeRefusal`] as a number; 0 for none.
    #[prost(uint32, tag = "2")]
    pub refusal: u32,
    /// The config as it is now; absent for a group that there is not.
    #[prost(message, optional, tag = "3")]
    pub config: Option<ConfigBody>,
}

/// A block of session ids, or where they stand.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SessionsBody {
    /// In answers the first id; in states the next one.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// In answers: how many.
    #[prost(uint32, tag = "2")]
    pub count: u32,
    /// In states: sessions with lower ids are over.
    #[prost(uint64, tag = "3")]
    pub expired_below: u64,
}
