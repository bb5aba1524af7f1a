//! From the commit to the driver, and from there back to who asked.

use bytes::Bytes;

use super::{Base, Context, Replica, outcome_unknown};
use crate::group::Seq;
use crate::replication::dedup::{Answer, Decision};
use crate::replication::io::Output;
use crate::replication::log::Log;
use crate::replication::messages::{EntryOp, RequestKey, SessionId};
use crate::replication::mutant::Mutant;
use crate::replication::progress::Progress;
use crate::{ErrorCode, Failure, limits};

/// An entry between its commit and its end.
#[derive(Debug)]
pub(super) struct Running {
    expired_below: SessionId,
    request: Option<RequestKey>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// Nothing is to be done: a barrier.
    Nothing,
    /// The driver applies it.
    Driver,
    /// It is not executed, for this reason.
    Passed(Decision),
}

impl Replica {
    /// Hands committed entries to the driver, as many as it may have at once.
    pub(super) fn advance(&mut self, ctx: &mut Context) {
        if self.base != Base::Ready {
            return;
        }
        loop {
            self.emit_committed(ctx);
            if !self.settle_passed(ctx) {
                break;
            }
        }
        self.trim(ctx);
    }

    /// The driver has applied an entry.
    ///
    /// # Panics
    ///
    /// When it is not the next one under way: a bug of the driver.
    pub(in crate::replication) fn on_applied(
        &mut self,
        ctx: &mut Context,
        seq: Seq,
        outcome: Result<Bytes, Failure>,
    ) {
        assert_eq!(seq, self.applied.next(), "operations are applied in order");
        let Some(running) = self.running.pop_front() else {
            unreachable!("operation {seq:?} was never handed out")
        };
        assert!(matches!(running.work, Work::Driver), "operation {seq:?} was never handed out");
        let outcome = match outcome {
            Ok(bytes) if bytes.len() > limits::OUTCOME_BYTES_MAX => {
                let message = format!("a result of {} bytes", bytes.len());
                Err(Failure::new(ErrorCode::Internal, message))
            }
            outcome => outcome,
        };
        self.applied = seq;
        self.results.expire(running.expired_below);
        if let Some(key) = &running.request {
            let _noted = self.results.decide(key, running.expired_below, ctx.mutant);
            self.results.record(key, Answer::of(&outcome));
        }
        self.finish(ctx, seq, running.request, outcome);
        self.advance(ctx);
        if self.gate.leased_by.is_none() {
            self.update_gate(ctx);
        }
        if self.lead.as_ref().is_some_and(|lead| lead.hold) && self.running.is_empty() {
            self.serve_copies(ctx);
        }
    }

    fn emit_committed(&mut self, ctx: &mut Context) {
        let limit = match &self.lead {
            Some(_) if ctx.mutant == Mutant::ReadUncommittedTail => self.log.last().seq,
            Some(lead) if lead.hold => return,
            _ => self.commit,
        };
        while self.emitted < limit && self.running.len() < limits::GROUP_APPLIES_MAX {
            let seq = self.emitted.next();
            let Some(entry) = self.log.get(seq) else { break };
            self.decisions.expire(entry.expired_below);
            // The bug is one of backups; a primary always notes.
            let notes = self.lead.is_some() || ctx.mutant != Mutant::DedupOnlyAtPrimary;
            let request = entry.request.filter(|_| notes);
            let decision = request.as_ref().map_or(Decision::Execute, |key| {
                self.decisions.decide(key, entry.expired_below, ctx.mutant)
            });
            let work = match (&entry.op, decision) {
                (EntryOp::Barrier, _) => Work::Nothing,
                (EntryOp::Op(op), Decision::Execute) => {
                    ctx.outputs.push_back(Output::Apply {
                        group: self.group,
                        seq,
                        op: op.clone(),
                        payload: entry.payload.map(|payload| payload.id),
                    });
                    Work::Driver
                }
                (EntryOp::Op(_), decision) => Work::Passed(decision),
            };
            let expired_below = entry.expired_below;
            self.running.push_back(Running { expired_below, request, work });
            self.emitted = seq;
        }
    }

    /// Ends the entries in front that need no driver; says whether there were any.
    fn settle_passed(&mut self, ctx: &mut Context) -> bool {
        let mut any = false;
        while self.running.front().is_some_and(|running| !matches!(running.work, Work::Driver)) {
            let Some(running) = self.running.pop_front() else { break };
            any = true;
            self.applied = self.applied.next();
            self.results.expire(running.expired_below);
            let outcome = match (&running.request, running.work) {
                (Some(key), Work::Passed(decision)) => {
                    let _noted = self.results.decide(key, running.expired_below, ctx.mutant);
                    self.outcome_of_passed(key, decision)
                }
                _ => Ok(Bytes::new()),
            };
            self.finish(ctx, self.applied, running.request, outcome);
        }
        any
    }

    fn outcome_of_passed(&self, key: &RequestKey, decision: Decision) -> Result<Bytes, Failure> {
        match decision {
            Decision::NoRoom => {
                let message = format!("group {} remembers too many requests", self.group);
                Err(Failure::new(ErrorCode::Overloaded, message).retry_after_ms(200))
            }
            Decision::Seen => self
                .results
                .answer(key)
                .and_then(Answer::outcome)
                .unwrap_or_else(|| Err(outcome_unknown("its answer was forgotten"))),
            Decision::Beyond | Decision::Execute => {
                Err(outcome_unknown("it lies beyond its session or its window"))
            }
        }
    }

    /// An entry has ended: answers who waits for it.
    fn finish(
        &mut self,
        ctx: &mut Context,
        seq: Seq,
        request: Option<RequestKey>,
        outcome: Result<Bytes, Failure>,
    ) {
        if let (Some(lead), Some(key)) = (&mut self.lead, &request) {
            let number = (key.session, key.number);
            if lead.keys.get(&number) == Some(&seq) {
                lead.keys.remove(&number);
            }
        }
        let Some(tickets) = self.tickets.remove(&seq) else { return };
        let outcome = match outcome {
            // Too few may hold it by now. With a key, who asks again hears the answer once enough do.
            Ok(_) if self.lead.is_some() && !self.has_quorum(ctx.mutant) => Err(match request {
                Some(_) => self.no_quorum(),
                None => outcome_unknown("too few replicas are in sync"),
            }),
            outcome => outcome,
        };
        for ticket in tickets {
            ctx.emit(Output::Reply { ticket, outcome: outcome.clone() });
        }
    }

    /// Takes applied entries off the log: what nobody needs, but for a reserve for those who lag.
    fn trim(&mut self, ctx: &mut Context) {
        let over =
            |log: &Log, entries: usize, bytes: u64| log.len() > entries || log.bytes() > bytes;
        let (entries, bytes) = (limits::GROUP_LOG_KEEP_ENTRIES, limits::GROUP_LOG_KEEP_BYTES);
        if !over(&self.log, entries, bytes) {
            return;
        }
        let progress = self.lead.iter().flat_map(|lead| lead.progress.values());
        let needed = progress.map(Progress::reached).min().unwrap_or(self.applied);
        while over(&self.log, entries, bytes) {
            let half = limits::GROUP_LOG_ENTRIES_MAX / 2;
            let must = over(&self.log, half, limits::GROUP_LOG_BYTES_MAX / 2);
            let up_to = if must { self.applied } else { self.applied.min(needed) };
            let Some(entry) = self.log.trim_first(up_to) else { break };
            self.forget_payload(ctx, &entry);
        }
    }
}
