//! What the fuzz targets and the property tests run: each takes any bytes and must return.

use std::fmt::Debug;

use prost::Message as _;

use crate::catalog::{Answer, CatalogProof, CatalogState, Changes, Command};
use crate::replication::{Class, GroupId, Message};
use crate::wire::{
    AdminReply, AdminRequest, AdminResult, Decode, FailureBody, PeerBatch, PeerMessage,
    RemainsBody, ReplicaDigest, ReplicaDigestBody,
};
use crate::{ArrayDescriptor, Failure, JoinTicket, PartitionId};

/// Reads bytes as what replicas send to each other, and as what one of them leaves in a file.
pub fn replication(bytes: &[u8]) {
    if let Some(batch) = same_again::<PeerBatch>(bytes) {
        for body in batch.messages {
            let Ok(message) = Message::try_from(body) else { continue };
            let again = PeerMessage::decode_body(&PeerMessage::from(&message).encode_to_vec());
            assert_eq!(again.and_then(Message::try_from), Ok(message));
        }
    }
    let class = Class { replicas: 2, min_in_sync: 1 };
    let group = GroupId { partition: PartitionId(7), class };
    let remains = |bytes: &[u8]| RemainsBody::decode_body(bytes)?.checked(group);
    if let Ok(left) = remains(bytes) {
        assert_eq!(remains(&RemainsBody::from(&left).encode_to_vec()), Ok(left));
    }
    let digest = |bytes: &[u8]| ReplicaDigest::try_from(ReplicaDigestBody::decode_body(bytes)?);
    if let Ok(replica) = digest(bytes) {
        assert_eq!(digest(&ReplicaDigestBody::from(&replica).encode_to_vec()), Ok(replica));
    }
    if let Some(proof) = CatalogProof::decode(bytes) {
        assert_eq!(proof.encode(), bytes);
    }
}

/// Reads bytes as commands, each after two bytes of its length, and has a catalog apply them one after the other: it stays
/// sound, a copy that hears of the changes stays the same, and so does one that is read again.
pub fn catalog_commands(mut bytes: &[u8]) {
    let (mut state, mut copy) = (CatalogState::new(), CatalogState::new());
    let mut index = 0;
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(rest.len());
        let (command, rest) = rest.split_at(length);
        bytes = rest;
        let Ok(command) = Command::decode(command) else { continue };
        assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
        index += 1;
        let answer = state.apply(index, command);
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        assert_eq!(state.check(), Ok(()));
        let news = state.changes_since(copy.version()).unwrap_or_else(|| state.whole());
        let merged = Changes::decode(&news.encode()).and_then(|news| copy.merge(news));
        assert_eq!((merged, &copy), (Ok(()), &state));
    }
    written_again(&state);
}

/// Reads bytes as an answer of the catalog.
pub fn catalog_answer(bytes: &[u8]) {
    if let Ok(answer) = Answer::decode(bytes) {
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }
}

/// Reads bytes as a whole state of the catalog, at once and in the smallest parts, and as changes of one: a state that is
/// read is sound.
pub fn catalog_state(bytes: &[u8]) {
    let in_parts = CatalogState::decode_in_parts(bytes, 1);
    for state in [CatalogState::decode(bytes), in_parts].into_iter().flatten() {
        assert_eq!(state.check(), Ok(()));
        written_again(&state);
    }
    if let Ok(changes) = Changes::decode(bytes) {
        assert_eq!(Changes::decode(&changes.encode()).as_ref(), Ok(&changes));
        let mut copy = CatalogState::new();
        // What a copy makes of its voter's word need not be sound; to write it down must be possible.
        if copy.merge(changes).is_ok()
            && let Ok(state) = CatalogState::decode(&copy.encode())
        {
            written_again(&state);
        }
    }
}

/// Reads bytes as a ticket: as its text, and as the content of one, for noise does not come past the checksum.
pub fn ticket(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(ticket) = JoinTicket::parse(&text) {
        let letters = text.chars().filter(|letter| !letter.is_ascii_whitespace());
        let plain: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
        assert_eq!(ticket.to_text(), Ok(plain));
    }
    let text = crate::ticket::text_of(bytes.to_vec());
    if let Ok(ticket) = JoinTicket::parse(&text) {
        assert_eq!(ticket.to_text(), Ok(text));
    }
}

/// Reads bytes as what operators ask, and as what they are answered.
pub fn administration(bytes: &[u8]) {
    same_again::<AdminRequest>(bytes);
    let Some(reply) = same_again::<AdminReply>(bytes) else { return };
    match reply.result {
        Some(AdminResult::Array(body)) => {
            if let Ok(array) = ArrayDescriptor::try_from(body) {
                let again = crate::wire::ArrayInfo::from(&array);
                assert_eq!(ArrayDescriptor::try_from(again), Ok(array));
            }
        }
        Some(AdminResult::Drain(report)) => report.refusals.into_iter().for_each(failure),
        Some(AdminResult::Close(report)) => report.refusal.into_iter().for_each(failure),
        _ => {}
    }
}

fn failure(body: FailureBody) {
    let failure = Failure::from(body);
    assert_eq!(Failure::from(FailureBody::from(failure.clone())), failure);
}

/// The message that bytes are, if they are one: what is written of it is the same.
fn same_again<M: Decode + Debug + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode_body(bytes).ok()?;
    assert_eq!(M::decode(message.encode_to_vec().as_slice()).as_ref(), Ok(&message));
    Some(message)
}

/// A sound state is the same when it was written and read, however often, and can be looked at.
fn written_again(state: &CatalogState) {
    let bytes = state.encode();
    let again = CatalogState::decode(&bytes);
    assert_eq!(again.as_ref(), Ok(state));
    assert_eq!(CatalogState::decode_in_parts(&bytes, 1).as_ref(), Ok(state));
    assert_eq!(again.map(|again| again.encode()), Ok(bytes));
    // It may name fewer members than the view has places for, or more.
    drop(state.view());
}
