//! What the fuzz targets and the property tests run: each takes any bytes and must return.

use crate::data::outbox::{decode, encode};

/// Reads bytes as a batch of messages between two nodes: refused, or the same when it is written and read again.
pub fn batch(bytes: &[u8]) {
    let Ok(batch) = decode(bytes) else { return };
    let again = decode(&encode(batch.from, batch.to, &batch.messages));
    let again = again.map(|again| (again.from, again.to, again.messages));
    assert_eq!(again, Ok((batch.from, batch.to, batch.messages)));
}

/// Reads bytes as a file with what a node held of a group when it was stopped, and as what is in one.
pub fn hold_file(bytes: &[u8]) {
    crate::hold::hold_file(bytes);
}
