//! From shapes to checked values and back.

use std::collections::BTreeSet;

use bytes::Bytes;
use holo_core::{ErrorCode, Failure};
use openraft::{CommittedLeaderId, EmptyNode, EntryPayload, RaftLogId};

use super::{
    APPEND_ENTRIES_MAX, AppendBody, AppendOutcome, AppendReplyBody, COMMAND_BYTES_MAX, EntryBody,
    LogIdBody, MEMBERS_MAX, MembersBody, ORDINAL_MAX, SNAPSHOT_BYTES_MAX, SnapshotMetaBody,
    VOTERS_MAX, VoteBody, VoteReplyBody, VoteRequestBody, VoterSetBody,
};
use crate::VoterId;
use crate::raft::{
    AppendReply, AppendRequest, Command, Entry, LogId, Membership, SnapshotMeta, StoredMembership,
    Vote, VoteReply, VoteRequest,
};

pub(crate) fn malformed(what: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::Malformed, what)
}

/// A part that its message cannot be without.
pub(crate) fn needed<T>(part: Option<T>, what: &str) -> Result<T, Failure> {
    part.ok_or_else(|| malformed(format!("{what} is missing")))
}

fn ordinal(number: u64, what: &str) -> Result<u64, Failure> {
    if number <= ORDINAL_MAX {
        return Ok(number);
    }
    Err(malformed(format!("{what} {number} is beyond {ORDINAL_MAX}")))
}

impl From<&LogId> for LogIdBody {
    fn from(id: &LogId) -> Self {
        Self { term: id.leader_id.term, leader: id.leader_id.node_id.0, index: id.index }
    }
}

impl TryFrom<LogIdBody> for LogId {
    type Error = Failure;

    fn try_from(body: LogIdBody) -> Result<Self, Failure> {
        let leader = CommittedLeaderId::new(ordinal(body.term, "term")?, VoterId(body.leader));
        Ok(Self::new(leader, ordinal(body.index, "index")?))
    }
}

/// A place that may be absent.
pub(crate) fn maybe_id(body: Option<LogIdBody>) -> Result<Option<LogId>, Failure> {
    body.map(LogId::try_from).transpose()
}

impl From<&Vote> for VoteBody {
    fn from(vote: &Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            candidate: vote.leader_id.node_id.0,
            elected: vote.committed,
        }
    }
}

impl TryFrom<VoteBody> for Vote {
    type Error = Failure;

    fn try_from(body: VoteBody) -> Result<Self, Failure> {
        let term = ordinal(body.term, "term")?;
        let candidate = VoterId(body.candidate);
        Ok(if body.elected {
            Self::new_committed(term, candidate)
        } else {
            Self::new(term, candidate)
        })
    }
}

impl From<&Membership> for MembersBody {
    fn from(membership: &Membership) -> Self {
        let set = |voters: &BTreeSet<VoterId>| VoterSetBody {
            voters: voters.iter().map(|voter| voter.0).collect(),
        };
        Self {
            sets: membership.get_joint_config().iter().map(set).collect(),
            learners: membership.learner_ids().map(|learner| learner.0).collect(),
        }
    }
}

impl TryFrom<MembersBody> for Membership {
    type Error = Failure;

    fn try_from(body: MembersBody) -> Result<Self, Failure> {
        let members = body.sets.iter().map(|set| set.voters.len()).sum::<usize>();
        if body.sets.len() > 2 || members + body.learners.len() > MEMBERS_MAX {
            return Err(malformed(format!(
                "{} sets of voters with {members} voters and {} learners",
                body.sets.len(),
                body.learners.len()
            )));
        }
        let mut sets: Vec<BTreeSet<VoterId>> = Vec::new();
        for set in body.sets {
            let voters: BTreeSet<VoterId> = set.voters.iter().copied().map(VoterId).collect();
            if voters.is_empty() || voters.len() > VOTERS_MAX || voters.len() < set.voters.len() {
                return Err(malformed(format!("a set of {} voters", set.voters.len())));
            }
            sets.push(voters);
        }
        let learners: BTreeSet<VoterId> = body.learners.into_iter().map(VoterId).collect();
        Ok(Self::new(sets, learners))
    }
}

impl From<&Entry> for EntryBody {
    fn from(entry: &Entry) -> Self {
        let (command, members) = match &entry.payload {
            EntryPayload::Blank => (None, None),
            EntryPayload::Normal(command) => (Some(command.0.clone()), None),
            EntryPayload::Membership(members) => (None, Some(members.into())),
        };
        Self { id: Some(entry.get_log_id().into()), command, members }
    }
}

impl TryFrom<EntryBody> for Entry {
    type Error = Failure;

    fn try_from(body: EntryBody) -> Result<Self, Failure> {
        let log_id = needed(body.id, "the place of an entry")?.try_into()?;
        let payload = match (body.command, body.members) {
            (None, None) => EntryPayload::Blank,
            (Some(command), None) if command.len() <= COMMAND_BYTES_MAX => {
                EntryPayload::Normal(Command(command))
            }
            (Some(command), None) => {
                return Err(malformed(format!("a command of {} bytes", command.len())));
            }
            (None, Some(members)) if members.sets.is_empty() => {
                return Err(malformed("an entry that names no voters"));
            }
            (None, Some(members)) => EntryPayload::Membership(members.try_into()?),
            (Some(_), Some(_)) => {
                return Err(malformed("an entry is both a command and new members"));
            }
        };
        Ok(Self { log_id, payload })
    }
}

impl From<&AppendRequest> for AppendBody {
    fn from(request: &AppendRequest) -> Self {
        Self {
            vote: Some((&request.vote).into()),
            previous: request.prev_log_id.as_ref().map(Into::into),
            entries: request.entries.iter().map(Into::into).collect(),
            committed: request.leader_commit.as_ref().map(Into::into),
        }
    }
}

impl AppendBody {
    /// The request, when `from` may send it.
    pub(crate) fn checked(self, from: VoterId) -> Result<AppendRequest, Failure> {
        let vote = leader_of(self.vote, from)?;
        let prev_log_id = maybe_id(self.previous)?;
        if self.entries.len() > APPEND_ENTRIES_MAX {
            return Err(malformed(format!("{} entries in one append", self.entries.len())));
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut before = prev_log_id;
        for body in self.entries {
            let entry = Entry::try_from(body)?;
            let id = entry.log_id;
            let follows = match before {
                None => id.index == 0,
                Some(before) => id.index == before.index + 1 && id.leader_id >= before.leader_id,
            };
            if !follows || id.leader_id.term > vote.leader_id.term {
                return Err(malformed(format!("entry {id} does not follow in term {vote}")));
            }
            before = Some(id);
            entries.push(entry);
        }
        let leader_commit = maybe_id(self.committed)?;
        Ok(AppendRequest { vote, prev_log_id, entries, leader_commit })
    }
}

/// The vote of a leader that sent something itself.
pub(crate) fn leader_of(vote: Option<VoteBody>, from: VoterId) -> Result<Vote, Failure> {
    let vote = Vote::try_from(needed(vote, "the leader's vote")?)?;
    if vote.committed && vote.leader_id.node_id == from {
        return Ok(vote);
    }
    Err(malformed(format!("voter {from} sent what only a leader sends, with the vote {vote}")))
}

impl From<&AppendReply> for AppendReplyBody {
    fn from(reply: &AppendReply) -> Self {
        let (outcome, matching, vote) = match reply {
            AppendReply::Success => (AppendOutcome::Appended, None, None),
            AppendReply::PartialSuccess(matching) => {
                (AppendOutcome::PartlyAppended, matching.as_ref().map(Into::into), None)
            }
            AppendReply::Conflict => (AppendOutcome::Conflict, None, None),
            AppendReply::HigherVote(vote) => (AppendOutcome::NewerVote, None, Some(vote.into())),
        };
        Self { outcome: outcome.into(), matching, vote }
    }
}

impl AppendReplyBody {
    /// The reply, when it is one that `request` can have.
    pub(crate) fn checked(self, request: &AppendRequest) -> Result<AppendReply, Failure> {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        match AppendOutcome::try_from(self.outcome) {
            Ok(AppendOutcome::Appended) => Ok(AppendReply::Success),
            Ok(AppendOutcome::PartlyAppended) => {
                let matching = maybe_id(self.matching)?;
                if matching < request.prev_log_id || matching > last {
                    return Err(malformed("an append reaches further than what was sent"));
                }
                Ok(AppendReply::PartialSuccess(matching))
            }
            Ok(AppendOutcome::Conflict) if request.prev_log_id.is_some() => {
                Ok(AppendReply::Conflict)
            }
            Ok(AppendOutcome::NewerVote) => {
                let vote = Vote::try_from(needed(self.vote, "the newer vote")?)?;
                if vote <= request.vote {
                    return Err(malformed(format!(
                        "{vote} is no newer vote than {}",
                        request.vote
                    )));
                }
                Ok(AppendReply::HigherVote(vote))
            }
            Ok(AppendOutcome::Conflict | AppendOutcome::Unspecified) | Err(_) => {
                Err(malformed(format!("outcome {} of an append", self.outcome)))
            }
        }
    }
}

impl From<&VoteRequest> for VoteRequestBody {
    fn from(request: &VoteRequest) -> Self {
        Self {
            vote: Some((&request.vote).into()),
            last: request.last_log_id.as_ref().map(Into::into),
        }
    }
}

impl VoteRequestBody {
    /// The request, when `from` may send it.
    pub(crate) fn checked(self, from: VoterId) -> Result<VoteRequest, Failure> {
        let vote = Vote::try_from(needed(self.vote, "the vote that is asked for")?)?;
        if vote.committed || vote.leader_id.node_id != from {
            return Err(malformed(format!("voter {from} asks for the vote {vote}")));
        }
        Ok(VoteRequest::new(vote, maybe_id(self.last)?))
    }
}

impl From<&VoteReply> for VoteReplyBody {
    fn from(reply: &VoteReply) -> Self {
        Self {
            vote: Some((&reply.vote).into()),
            granted: reply.vote_granted,
            last: reply.last_log_id.as_ref().map(Into::into),
        }
    }
}

impl VoteReplyBody {
    pub(crate) fn checked(self) -> Result<VoteReply, Failure> {
        let vote = Vote::try_from(needed(self.vote, "the replier's vote")?)?;
        Ok(VoteReply::new(vote, maybe_id(self.last)?, self.granted))
    }
}

impl SnapshotMetaBody {
    /// Describes the snapshot of `state`.
    pub(crate) fn of(meta: &SnapshotMeta, state: &[u8]) -> Self {
        Self {
            last: meta.last_log_id.as_ref().map(Into::into),
            members: Some(meta.last_membership.membership().into()),
            members_at: meta.last_membership.log_id().as_ref().map(Into::into),
            bytes: state.len() as u64,
            digest: Bytes::copy_from_slice(blake3::hash(state).as_bytes()),
        }
    }

    pub(crate) fn checked(&self) -> Result<SnapshotMeta, Failure> {
        if self.bytes > SNAPSHOT_BYTES_MAX {
            return Err(malformed(format!("a snapshot of {} bytes", self.bytes)));
        }
        let members = needed(self.members.clone(), "the members of a snapshot")?.try_into()?;
        let last_membership = StoredMembership::new(maybe_id(self.members_at)?, members);
        let last_log_id = maybe_id(self.last)?;
        if last_membership.log_id() > &last_log_id {
            return Err(malformed("the members of a snapshot are newer than its last entry"));
        }
        Ok(snapshot_meta(last_log_id, last_membership))
    }

    /// Whether `state` is what this describes.
    pub(crate) fn describes(&self, state: &[u8]) -> bool {
        self.bytes == state.len() as u64 && self.digest == blake3::hash(state).as_bytes().as_slice()
    }
}

/// A snapshot's description for the library. The same log gives the same state, so the place names it.
pub(crate) fn snapshot_meta(
    last_log_id: Option<LogId>,
    last_membership: StoredMembership,
) -> SnapshotMeta {
    let snapshot_id = last_log_id.map_or_else(|| "empty".to_owned(), |id| id.to_string());
    SnapshotMeta { last_log_id, last_membership, snapshot_id }
}

/// The node that the library stores for each member says nothing; members are their ids.
pub(crate) const MEMBER: EmptyNode = EmptyNode {};
