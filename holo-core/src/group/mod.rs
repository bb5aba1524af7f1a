//! The write path of one replication group: orders operations, has them applied, answers afterwards.
//!
//! Sans-io. Bytes never come here: they are staged into frames first, and a small [`Op`] publishes them. With one
//! replica an operation is committed as soon as it has its place in the order; the replication machine will put the
//! agreement of the other replicas between [`Input::Propose`] and [`Output::Apply`], and nothing around it changes.
//!
//! # Contract with the driver
//!
//! After every `handle_*` call, call [`GroupSequencer::poll_output`] until it returns `None`, then arm one timer for
//! [`GroupSequencer::poll_timeout`]. Apply operations one after the other, in the order in which they are emitted,
//! and report each with [`Input::Applied`]. A reply leaves only after its operation is applied.
//!
//! # Invariants
//!
//! 1. `applied <= ordered`; every number in between is under way, and has exactly one ticket.
//! 2. Operations are emitted in the order of their numbers, without a gap, each once.
//! 3. At most [`limits::GROUP_QUEUE_OPS_MAX`] operations are under way.
//!
//! # Not here
//!
//! What an operation does to pages belongs to `holo-mem`. Reads take no queue and do not pass here.

mod op;
mod update;

use std::collections::VecDeque;

pub use op::{Op, PageSpan, StagingId};
pub use update::{UpdateKind, apply_update};

use crate::{Epoch, ErrorCode, Failure, Instant, PartitionId, limits};

/// Orders the operations of one group. See the module docs for its contract.
#[derive(Debug)]
pub struct GroupSequencer {
    partition: PartitionId,
    epoch: Epoch,
    /// The number of the last operation that got one.
    ordered: Seq,
    /// The number of the last operation that was applied.
    applied: Seq,
    /// Who waits for the operations `applied + 1 ..= ordered`.
    waiting: VecDeque<Ticket>,
    /// The number of the last operation handed to the driver.
    emitted: Seq,
    outputs: VecDeque<Output>,
}

impl GroupSequencer {
    /// A group of `partition` in `epoch` with nothing applied.
    pub fn new(partition: PartitionId, epoch: Epoch) -> Self {
        Self {
            partition,
            epoch,
            ordered: Seq(0),
            applied: Seq(0),
            waiting: VecDeque::new(),
            emitted: Seq(0),
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input.
    ///
    /// # Errors
    ///
    /// Nothing has changed then: [`ErrorCode::WrongNode`] when the proposer knows another epoch,
    /// [`ErrorCode::InvalidArgument`] or [`ErrorCode::TooLarge`] for an operation that cannot be,
    /// [`ErrorCode::Overloaded`] when the queue is full.
    ///
    /// # Panics
    ///
    /// When the driver reports an operation out of order: that is its bug, and going on would answer the wrong caller.
    pub fn handle_input(&mut self, _now: Instant, input: Input) -> Result<(), Failure> {
        match input {
            Input::Propose { ticket, epoch, op } => self.propose(ticket, epoch, op),
            Input::Applied { seq, outcome } => {
                self.settle(seq, outcome);
                Ok(())
            }
        }
    }

    /// Does what is due at `now`: nothing while there is one replica.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front()?;
        if let Output::Apply { seq, .. } = &output {
            self.emitted = *seq;
        }
        Some(output)
    }

    /// When [`Self::handle_timeout`] is due: never while there is one replica.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The epoch that it serves.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Operations under way.
    pub fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// The number of the last applied operation; 0 before the first.
    pub fn applied(&self) -> Seq {
        self.applied
    }

    /// Panics unless the invariants hold.
    ///
    /// # Panics
    ///
    /// When one of them is broken: a bug in this machine.
    pub fn assert_invariants(&self) {
        assert!(self.applied <= self.emitted && self.emitted <= self.ordered, "{self:?}");
        assert_eq!(self.ordered.0 - self.applied.0, self.waiting.len() as u64, "{self:?}");
        assert!(self.waiting.len() <= limits::GROUP_QUEUE_OPS_MAX, "{self:?}");
        let mut next = self.emitted;
        for output in &self.outputs {
            if let Output::Apply { seq, .. } = output {
                assert_eq!(*seq, next.next(), "{self:?}");
                next = *seq;
            }
        }
        assert_eq!(next, self.ordered, "{self:?}");
    }

    fn propose(&mut self, ticket: Ticket, epoch: Epoch, op: Op) -> Result<(), Failure> {
        if epoch != self.epoch {
            // A lower epoch is a caller with an old table. A higher one is only a claim: nobody raises an epoch by
            // naming one, so it is not adopted, and as we may be the old one, nothing is done in it either.
            let message = format!(
                "partition {} is served in epoch {}, the request names {epoch}",
                self.partition, self.epoch
            );
            return Err(
                Failure::new(ErrorCode::WrongNode, message).help("fetch the placement table again")
            );
        }
        op.check()?;
        if self.waiting.len() >= limits::GROUP_QUEUE_OPS_MAX {
            let message = format!(
                "{} operations wait in partition {}",
                limits::GROUP_QUEUE_OPS_MAX,
                self.partition
            );
            return Err(Failure::new(ErrorCode::Overloaded, message).retry_after_ms(20));
        }
        self.ordered = self.ordered.next();
        self.waiting.push_back(ticket);
        self.outputs.push_back(Output::Apply { seq: self.ordered, op });
        Ok(())
    }

    fn settle(&mut self, seq: Seq, outcome: Result<(), Failure>) {
        assert_eq!(seq, self.applied.next(), "operations are applied in order");
        assert!(seq <= self.emitted, "operation {seq:?} was never handed out");
        if let Some(ticket) = self.waiting.pop_front() {
            self.applied = seq;
            self.outputs.push_back(Output::Reply { ticket, outcome });
        }
    }
}

/// What the driver tells the group.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Somebody wants an operation.
    Propose {
        /// Comes back with the reply; the driver's own, unique among those under way.
        ticket: Ticket,
        /// The epoch that the proposer knows.
        epoch: Epoch,
        /// The operation.
        op: Op,
    },
    /// The driver has applied an operation, or could not.
    Applied {
        /// The number that it was emitted with.
        seq: Seq,
        /// How it went. A failure changed nothing.
        outcome: Result<(), Failure>,
    },
}

/// What the driver shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Apply an operation to the pages, after every earlier one.
    Apply {
        /// Its place in the order.
        seq: Seq,
        /// The operation.
        op: Op,
    },
    /// Answer a proposer.
    Reply {
        /// Who asked.
        ticket: Ticket,
        /// How it went.
        outcome: Result<(), Failure>,
    },
}

/// Who waits for an operation; chosen by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Place of an operation in its group's order; the first has 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests;
