//! Answers as bytes.

use prost::Message;

use crate::catalog::codec::parts::{all, read, required};
use crate::catalog::command::{Answer, ChangeRefusal, ProposalAnswer};
use crate::replication::{Incarnation, NodeNumber};
use crate::wire::catalog::{
    AnswerBody, OutcomeBody, ProposalAnswerBody, ProposalAnswersBody, RegisteredBody, SessionsBody,
};
use crate::{Failure, limits};

impl Answer {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let outcome = match self {
            Self::Done => None,
            Self::Refused(failure) => Some(OutcomeBody::Refused(failure.clone().into())),
            Self::Admitted(number) => Some(OutcomeBody::Admitted(number.0)),
            Self::Registered { incarnation } => {
                Some(OutcomeBody::Registered(RegisteredBody { incarnation: incarnation.0 }))
            }
            Self::Proposals(answers) => {
                let answers = answers.iter().map(from_proposal_answer).collect();
                Some(OutcomeBody::Proposals(ProposalAnswersBody { answers }))
            }
            Self::Created(array) => Some(OutcomeBody::Created(array.into())),
            Self::Removed(array) => Some(OutcomeBody::Removed(array.into())),
            Self::Sessions { first, count } => Some(OutcomeBody::Sessions(SessionsBody {
                first: *first,
                count: *count,
                expired_below: 0,
            })),
        };
        AnswerBody { outcome }.encode_to_vec()
    }

    /// Reads an answer. An outcome of a later version reads as [`Answer::Done`].
    ///
    /// # Errors
    ///
    /// [`crate::ErrorCode::TooLarge`], [`crate::ErrorCode::Malformed`] and the errors of its parts.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let body: AnswerBody = read(bytes, limits::CATALOG_COMMAND_BYTES_MAX)?;
        Ok(match body.outcome {
            None => Self::Done,
            Some(OutcomeBody::Refused(failure)) => Self::Refused(failure.into()),
            Some(OutcomeBody::Admitted(number)) => Self::Admitted(NodeNumber(number)),
            Some(OutcomeBody::Registered(body)) => {
                Self::Registered { incarnation: Incarnation(body.incarnation) }
            }
            Some(OutcomeBody::Proposals(body)) => {
                Self::Proposals(all(body.answers, to_proposal_answer)?)
            }
            Some(OutcomeBody::Created(array)) => Self::Created(array.try_into()?),
            Some(OutcomeBody::Removed(array)) => Self::Removed(array.try_into()?),
            Some(OutcomeBody::Sessions(body)) => {
                Self::Sessions { first: body.first, count: body.count }
            }
        })
    }

    /// The answer, or why there is none.
    ///
    /// # Errors
    ///
    /// The failure of [`Answer::Refused`].
    pub fn accepted(self) -> Result<Self, Failure> {
        match self {
            Self::Refused(failure) => Err(failure),
            answer => Ok(answer),
        }
    }
}

fn from_proposal_answer(answer: &ProposalAnswer) -> ProposalAnswerBody {
    ProposalAnswerBody {
        group: Some(answer.group.into()),
        refusal: answer.refusal.map_or(0, |refusal| refusal as u32),
        config: answer.config.as_ref().map(Into::into),
    }
}

fn to_proposal_answer(body: ProposalAnswerBody) -> Result<ProposalAnswer, Failure> {
    Ok(ProposalAnswer {
        group: required(body.group, "an answer's group")?.try_into()?,
        refusal: (body.refusal != 0).then(|| ChangeRefusal::from_number(body.refusal)),
        config: body.config.map(TryInto::try_into).transpose()?,
    })
}
