//! A frozen state that is offered to a learner, with the requests that it has answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::append::position;
use super::{ClaimBody, PositionBody, malformed, too_many};
use crate::replication::{
    Answer, GroupId, Outcome, Remains, SessionId, SessionWindow, SessionWindows, SnapshotId,
    SnapshotOffer,
};
use crate::wire::GroupBody;
use crate::{Epoch, ErrorCode, Failure, limits};

/// [`SnapshotOffer`](crate::replication::SnapshotOffer).
#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotOfferBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Its config, unless the receiver is known to have it.
    #[prost(message, optional, tag = "3")]
    pub claim: Option<ClaimBody>,
    /// The state's name at the sender.
    #[prost(uint64, tag = "4")]
    pub snapshot: u64,
    /// The last entry that it contains.
    #[prost(message, optional, tag = "5")]
    pub at: Option<PositionBody>,
    /// Sessions below this one have expired.
    #[prost(uint64, tag = "6")]
    pub expired_below: u64,
    /// The other sessions.
    #[prost(message, repeated, tag = "7")]
    pub sessions: Vec<SessionBody>,
}

/// The answered requests of one session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionBody {
    /// Its id.
    #[prost(uint64, tag = "1")]
    pub session: u64,
    /// Lower numbers are forgotten.
    #[prost(uint64, tag = "2")]
    pub floor: u64,
    /// The highest number seen.
    #[prost(uint64, tag = "3")]
    pub highest: u64,
    /// The answers.
    #[prost(message, repeated, tag = "4")]
    pub answers: Vec<RequestEndBody>,
}

/// The end of one request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RequestEndBody {
    /// Its number.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// [`crate::ErrorCode::number`] when it was refused, 0 when it was done.
    #[prost(uint32, tag = "2")]
    pub refused: u32,
    /// The result when it was done.
    #[prost(bytes = "vec", tag = "3")]
    pub result: Vec<u8>,
}

impl SnapshotOfferBody {
    pub(super) fn checked(self) -> Result<SnapshotOffer, Failure> {
        let windows = windows(self.expired_below, self.sessions)?;
        Ok(SnapshotOffer {
            group: GroupBody::checked(self.group)?,
            epoch: Epoch(self.epoch),
            claim: self.claim.map(ClaimBody::checked).transpose()?,
            snapshot: SnapshotId(self.snapshot),
            at: position(self.at)?,
            windows: Arc::new(windows),
        })
    }
}

/// What is left of a group beside its pages, as it lies in a file: [`Remains`](crate::replication::Remains).
#[derive(Clone, PartialEq, prost::Message)]
pub struct RemainsBody {
    /// The last entry in the pages.
    #[prost(message, optional, tag = "1")]
    pub at: Option<PositionBody>,
    /// Sessions below this one have expired.
    #[prost(uint64, tag = "2")]
    pub expired_below: u64,
    /// The other sessions.
    #[prost(message, repeated, tag = "3")]
    pub sessions: Vec<SessionBody>,
}

impl RemainsBody {
    /// As what is left of a group.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`].
    pub fn checked(self, group: GroupId) -> Result<Remains, Failure> {
        let windows = windows(self.expired_below, self.sessions)?;
        Ok(Remains { group, at: position(self.at)?, windows: Arc::new(windows) })
    }
}

impl From<&Remains> for RemainsBody {
    fn from(remains: &Remains) -> Self {
        let windows = &remains.windows;
        Self {
            at: Some(remains.at.into()),
            expired_below: windows.expired_below().0,
            sessions: windows.sessions().iter().map(Into::into).collect(),
        }
    }
}

fn windows(expired_below: u64, sessions: Vec<SessionBody>) -> Result<SessionWindows, Failure> {
    if sessions.len() > limits::GROUP_SESSIONS_MAX {
        return Err(too_many("sessions", sessions.len()));
    }
    let mut known = BTreeMap::new();
    for body in sessions {
        let mut answers = BTreeMap::new();
        for answer in body.answers {
            let end = match answer.refused {
                0 => Answer::Done(
                    Outcome::new(&answer.result).ok_or_else(|| malformed("a long result"))?,
                ),
                code => Answer::Refused(ErrorCode::from_number(code)),
            };
            answers.insert(answer.number, end);
        }
        let window = SessionWindow { floor: body.floor, highest: body.highest, answers };
        known.insert(SessionId(body.session), window);
    }
    SessionWindows::from_parts(SessionId(expired_below), known)
}

impl From<(&SessionId, &SessionWindow)> for SessionBody {
    fn from((session, window): (&SessionId, &SessionWindow)) -> Self {
        let answers = window.answers.iter().filter_map(|(number, answer)| match answer {
            // It has no end yet; a snapshot is of what is applied.
            Answer::Running => None,
            Answer::Done(outcome) => Some(RequestEndBody {
                number: *number,
                refused: 0,
                result: outcome.as_slice().to_vec(),
            }),
            Answer::Refused(code) => Some(RequestEndBody {
                number: *number,
                refused: u32::from(code.number()),
                result: Vec::new(),
            }),
        });
        Self {
            session: session.0,
            floor: window.floor,
            highest: window.highest,
            answers: answers.collect(),
        }
    }
}
