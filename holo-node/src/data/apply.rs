//! What an operation does to pages. The same operation in the same order does the same on every replica.

use bytes::Bytes;
use holo_core::Failure;
use holo_core::group::{Op, apply_update};
use holo_mem::{MemError, Payload};

use super::arrays::{Arrays, not_found};

/// How an operation went.
#[derive(Debug)]
pub(super) enum Done {
    /// The same on every replica: a small result, or a refusal that changed nothing.
    Outcome(Result<Bytes, Failure>),
    /// Not possible here yet: the catalog's news have not arrived, or memory is short. Nothing has changed; it has to
    /// be tried again before any later operation of the group.
    Later,
}

/// Applies one operation.
pub(super) fn apply(arrays: &Arrays, op: &Op, payload: Option<&Payload>) -> Done {
    let id = op.array();
    let Some(shard) = arrays.pages(id, op.shard()) else {
        if arrays.has_heard_of(id) && arrays.group_of(id, op.shard()).is_none() {
            // Removed, here and everywhere.
            return Done::Outcome(Err(not_found(id)));
        }
        return Done::Later;
    };
    let outcome = match op {
        Op::Publish { .. } => {
            // The machine hands out a publication only once its payload is here.
            let Some(payload) = payload else { return Done::Later };
            shard.publish_payload(payload).map(|()| Ok(Bytes::new()))
        }
        Op::Write { offset, bytes, .. } => shard.write(*offset, bytes).map(|()| Ok(Bytes::new())),
        Op::Update { offset, dtype, kind, operand, expected, .. } => {
            shard.update(*offset, dtype.size(), |current| {
                apply_update(*dtype, *kind, current, *operand, *expected)
            })
        }
        Op::Fill { offset, len, pattern, .. } => {
            shard.fill(*offset, *len, pattern).map(|()| Ok(Bytes::new()))
        }
    };
    match outcome {
        Ok(outcome) => Done::Outcome(outcome),
        // Out of memory is this replica's own trouble and must not become part of history.
        Err(MemError::OutOfCapacity { .. }) => Done::Later,
        Err(refused) => Done::Outcome(Err(refused.into())),
    }
}
