//! Appends to one voter, which outlive the patience of the library.
//!
//! The library waits for an append as long as a heartbeat, then gives up its answer and sends the same entries again,
//! with those that came meanwhile. A voter on a busy machine would be sent the same things for ever, and none of its
//! answers would be heard. So calls go on here when nobody waits for them: the answer to what is asked again is the one
//! that is under way already.

use std::collections::VecDeque;

use holo_core::{ErrorCode, Failure};
use openraft::EntryPayload;
use tokio::task::{AbortHandle, JoinSet};

use crate::raft::{AppendReply, AppendRequest, Entry, LogId};
use crate::wire::RaftReply;
use crate::wire::convert::needed;

/// Calls to one voter that are open at once. Answers that nobody waits for still say that the voter lives.
const CALLS_MAX: usize = 8;

type Answer = Result<RaftReply, Failure>;

/// Appends to one voter.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    calls: JoinSet<(u64, Answer)>,
    /// The open ones, the oldest first.
    open: VecDeque<AbortHandle>,
    next: u64,
    /// The latest one with entries, until its answer is given to somebody.
    entries: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    /// What was sent, without the commands.
    outline: AppendRequest,
    answer: Option<Answer>,
}

impl Appends {
    /// Whether the answer that is under way will say all, or a beginning, of what this request asks.
    pub(crate) fn covers(&self, request: &AppendRequest) -> bool {
        let Some(under_way) = &self.entries else { return false };
        let sent = &under_way.outline;
        !request.entries.is_empty()
            && sent.vote == request.vote
            && sent.prev_log_id == request.prev_log_id
            && last(sent) <= last(request)
    }

    /// Whether the answer to the latest request with entries is there, and waits to be given.
    pub(crate) fn is_answered(&self) -> bool {
        self.entries.as_ref().is_some_and(|under_way| under_way.answer.is_some())
    }

    /// Begins a call. One with entries takes the place of the one before it.
    pub(crate) fn begin(
        &mut self,
        request: &AppendRequest,
        call: impl Future<Output = Answer> + Send + 'static,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        while let Some(ended) = self.calls.try_join_next() {
            self.note(ended.ok());
        }
        self.open.retain(|call| !call.is_finished());
        if self.open.len() >= CALLS_MAX
            && let Some(oldest) = self.open.pop_front()
        {
            oldest.abort();
        }
        self.open.push_back(self.calls.spawn(async move { (number, call.await) }));
        if !request.entries.is_empty() {
            self.entries = Some(UnderWay { number, outline: outline(request), answer: None });
        }
        number
    }

    /// The answer to a heartbeat. Whoever waits may stop waiting.
    pub(crate) async fn heartbeat_answer(
        &mut self,
        number: u64,
        request: &AppendRequest,
    ) -> Result<AppendReply, Failure> {
        loop {
            match self.calls.join_next().await {
                Some(Ok((ended, answer))) if ended == number => return checked(answer, request),
                Some(ended) => self.note(ended.ok()),
                None => return Err(lost()),
            }
        }
    }

    /// The answer to a request with entries, as far as what was sent reaches. Whoever waits may stop waiting.
    pub(crate) async fn entries_answer(
        &mut self,
        request: &AppendRequest,
    ) -> Result<AppendReply, Failure> {
        while self.entries.as_ref().is_some_and(|under_way| under_way.answer.is_none()) {
            match self.calls.join_next().await {
                Some(ended) => self.note(ended.ok()),
                None => break,
            }
        }
        let UnderWay { outline, answer, .. } = self.entries.take().ok_or_else(lost)?;
        let reply = checked(answer.ok_or_else(lost)?, &outline)?;
        Ok(match reply {
            AppendReply::Success if last(&outline) < last(request) => {
                AppendReply::PartialSuccess(last(&outline))
            }
            reply => reply,
        })
    }

    fn note(&mut self, ended: Option<(u64, Answer)>) {
        let Some((number, answer)) = ended else { return };
        if let Some(under_way) = self.entries.as_mut().filter(|it| it.number == number) {
            under_way.answer = Some(answer);
        }
    }
}

fn checked(answer: Answer, request: &AppendRequest) -> Result<AppendReply, Failure> {
    needed(answer?.append, "the reply to an append")?.checked(request)
}

/// The last entry that the sender of a request has told of.
fn last(request: &AppendRequest) -> Option<LogId> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

/// The request with nothing of its entries but the place of the last one.
fn outline(request: &AppendRequest) -> AppendRequest {
    let blank = |entry: &Entry| Entry { log_id: entry.log_id, payload: EntryPayload::Blank };
    AppendRequest {
        vote: request.vote,
        prev_log_id: request.prev_log_id,
        entries: request.entries.last().map(blank).into_iter().collect(),
        leader_commit: request.leader_commit,
    }
}

fn lost() -> Failure {
    Failure::new(ErrorCode::Internal, "an append ended without an answer")
}
