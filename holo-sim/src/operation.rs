//! What clients want, as operations of the log. The machine looks at none of this; the store here does.

use bytes::Bytes;
use holo_core::group::{Op, PageSpan, StagingId};
use holo_core::replication::{EntryOp, RequestKey, SessionId};
use holo_core::{ArrayId, ShardIndex};

use crate::linear::Action;
use crate::packet::Request;
use crate::rng::mix;

/// Writes of a multiple of this are refused where they are applied, everywhere alike.
pub(crate) const REFUSED_MULTIPLE: u64 = 41;

/// An operation as a store reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Whose request.
    pub(crate) session: SessionId,
    /// Its number in the session.
    pub(crate) number: u64,
    /// Index of the element.
    pub(crate) element: usize,
    /// What to do; `None` when the staged bytes are to be written.
    pub(crate) action: Option<Action>,
}

impl Operation {
    /// A number that tells it from all others.
    pub(crate) fn fingerprint(&self) -> u64 {
        let action = match self.action {
            None | Some(Action::Read) => 0,
            Some(Action::Write(value)) => mix(value ^ 1),
            Some(Action::Add(delta)) => mix(delta ^ 2),
            Some(Action::CompareExchange { expected, new }) => mix(mix(expected ^ 3) ^ new),
        };
        mix(mix(action ^ self.session.0).wrapping_add(self.number) ^ (self.element as u64) << 56)
    }

    /// Reads an operation of the log; `None` for one that no client here made.
    pub(crate) fn read(op: &Op) -> Option<Self> {
        match op {
            Op::Publish { array, shard, offset, .. } => Some(Self {
                session: SessionId(array.0),
                number: shard.0,
                element: usize::try_from(*offset).ok()?,
                action: None,
            }),
            Op::Write { array, shard, offset, bytes } => Some(Self {
                session: SessionId(array.0),
                number: shard.0,
                element: usize::try_from(*offset).ok()?,
                action: Some(decode(bytes)?),
            }),
            _ => None,
        }
    }
}

/// The operation of a client's request.
pub(crate) fn of_request(request: &Request) -> Op {
    let RequestKey { session, number, .. } = request.key;
    let (array, shard) = (ArrayId(session.0), ShardIndex(number));
    let offset = request.element.index as u64;
    match (request.payload, PageSpan::of_bytes(offset, 1)) {
        (Some(id), Some(pages)) => {
            Op::Publish { array, shard, staging: StagingId(id.number), pages, offset, len: 1 }
        }
        _ => Op::Write { array, shard, offset, bytes: encode(request.action) },
    }
}

/// Makes an entry do something else, as a forger would.
pub(crate) fn spoil(op: &mut EntryOp, action: Action) {
    if let EntryOp::Op(Op::Write { bytes, .. }) = op {
        *bytes = encode(action);
    }
}

fn encode(action: Action) -> Bytes {
    let (kind, a, b) = match action {
        Action::Read => (0u8, 0, 0),
        Action::Write(value) => (1, value, 0),
        Action::Add(delta) => (2, delta, 0),
        Action::CompareExchange { expected, new } => (3, expected, new),
    };
    let mut bytes = [0; 17];
    bytes[0] = kind;
    bytes[1..9].copy_from_slice(&a.to_le_bytes());
    bytes[9..].copy_from_slice(&b.to_le_bytes());
    Bytes::copy_from_slice(&bytes)
}

fn decode(bytes: &Bytes) -> Option<Action> {
    let kind = bytes.first()?;
    let a = u64::from_le_bytes(bytes.get(1..9)?.try_into().ok()?);
    let b = u64::from_le_bytes(bytes.get(9..17)?.try_into().ok()?);
    match kind {
        1 => Some(Action::Write(a)),
        2 => Some(Action::Add(a)),
        3 => Some(Action::CompareExchange { expected: a, new: b }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Element;

    #[test]
    fn actions_go_into_the_log_and_come_back() {
        for action in
            [Action::Write(7), Action::Add(9), Action::CompareExchange { expected: 1, new: 2 }]
        {
            let key = RequestKey { session: SessionId(5), number: 6, floor: 6 };
            let element = Element { group: 0, index: 2 };
            let request =
                Request { client: 0, call: 1, key, element, action, is_bulk: false, payload: None };
            let op = of_request(&request);
            op.check().unwrap();
            let expected =
                Operation { session: key.session, number: 6, element: 2, action: Some(action) };
            assert_eq!(Operation::read(&op), Some(expected));
        }
    }
}
