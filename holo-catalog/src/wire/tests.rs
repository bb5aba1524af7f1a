use std::collections::BTreeSet;

use holo_core::ErrorCode;
use holo_core::wire::Decode;
use prost::Message;

use super::convert::{leader_of, maybe_id, snapshot_meta};
use super::*;
use crate::VoterId;
use crate::raft::{
    AppendReply, AppendRequest, Command, Entry, LogId, Membership, StoredMembership, Vote,
    VoteReply, VoteRequest,
};

fn id(term: u64, leader: u64, index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(term, VoterId(leader)), index)
}

fn entry(term: u64, index: u64, payload: openraft::EntryPayload<crate::raft::TypeConfig>) -> Entry {
    Entry { log_id: id(term, 1, index), payload }
}

fn voters(ids: &[u64]) -> BTreeSet<VoterId> {
    ids.iter().copied().map(VoterId).collect()
}

fn append() -> AppendRequest {
    let command = Command(Bytes::from_static(b"command"));
    let joint = Membership::new(vec![voters(&[1, 2, 3]), voters(&[3, 4])], voters(&[9]));
    AppendRequest {
        vote: Vote::new_committed(3, VoterId(1)),
        prev_log_id: Some(id(1, 1, 6)),
        entries: vec![
            entry(2, 7, openraft::EntryPayload::Normal(command)),
            entry(2, 8, openraft::EntryPayload::Membership(joint)),
            entry(3, 9, openraft::EntryPayload::Blank),
        ],
        leader_commit: Some(id(2, 1, 8)),
    }
}

/// A later version's field, which this one does not know.
#[derive(Clone, PartialEq, prost::Message)]
struct Later {
    #[prost(string, tag = "100")]
    news: String,
}

fn with_news(message: &impl Message) -> Vec<u8> {
    let mut bytes = message.encode_to_vec();
    bytes.extend(Later { news: "of a later version".to_owned() }.encode_to_vec());
    bytes
}

fn code<T: std::fmt::Debug>(result: Result<T, holo_core::Failure>) -> ErrorCode {
    result.unwrap_err().code
}

#[test]
fn an_append_reads_as_it_was_written() {
    let written = append();
    let body = AppendBody::decode_body(&AppendBody::from(&written).encode_to_vec()).unwrap();
    let read = body.checked(VoterId(1)).unwrap();
    assert_eq!(format!("{written:?}"), format!("{read:?}"));
    assert_eq!(written.entries, read.entries);
}

#[test]
fn replies_and_votes_read_as_they_were_written() {
    let request = append();
    for reply in [
        AppendReply::Success,
        AppendReply::PartialSuccess(Some(id(2, 1, 7))),
        AppendReply::Conflict,
        AppendReply::HigherVote(Vote::new(4, VoterId(2))),
    ] {
        let bytes = AppendReplyBody::from(&reply).encode_to_vec();
        assert_eq!(AppendReplyBody::decode_body(&bytes).unwrap().checked(&request).unwrap(), reply);
    }
    let ask = VoteRequest::new(Vote::new(4, VoterId(2)), Some(id(3, 1, 9)));
    let bytes = VoteRequestBody::from(&ask).encode_to_vec();
    assert_eq!(VoteRequestBody::decode_body(&bytes).unwrap().checked(VoterId(2)).unwrap(), ask);
    let answer = VoteReply::new(Vote::new(4, VoterId(2)), None, true);
    let bytes = VoteReplyBody::from(&answer).encode_to_vec();
    assert_eq!(VoteReplyBody::decode_body(&bytes).unwrap().checked().unwrap(), answer);
}

#[test]
fn a_snapshot_s_description_reads_as_it_was_written() {
    let members = Membership::new(vec![voters(&[1, 2, 3])], voters(&[4]));
    let meta =
        snapshot_meta(Some(id(3, 1, 90)), StoredMembership::new(Some(id(2, 1, 40)), members));
    let body = SnapshotMetaBody::of(&meta, b"state");
    let read = SnapshotMetaBody::decode_body(&body.encode_to_vec()).unwrap();
    assert_eq!(read.checked().unwrap(), meta);
    assert!(read.describes(b"state"));
    assert!(!read.describes(b"State"));
    assert!(!read.describes(b"stat"));
}

#[test]
fn fields_of_a_later_version_are_passed_over() {
    let request = append();
    let body = AppendBody::decode_body(&with_news(&AppendBody::from(&request))).unwrap();
    assert_eq!(body.checked(VoterId(1)).unwrap().entries, request.entries);
    let whole = RaftRequest { append: Some(AppendBody::from(&request)), ..Default::default() };
    assert_eq!(RaftRequest::decode_body(&with_news(&whole)).unwrap(), whole);
    let reply = AppendReplyBody::from(&AppendReply::Success);
    assert_eq!(AppendReplyBody::decode_body(&with_news(&reply)).unwrap(), reply);
}

/// Pins tags and types: these bytes were written by version 1 and must be read by every later one.
#[test]
fn an_append_of_version_1_is_read() {
    let bytes = [
        0x0a, 0x06, 0x08, 0x03, 0x10, 0x01, 0x18, 0x01, // vote: term 3, candidate 1, elected
        0x12, 0x06, 0x08, 0x02, 0x10, 0x01, 0x18, 0x07, // previous: term 2, leader 1, index 7
        0x1a, 0x0b, // an entry
        0x0a, 0x06, 0x08, 0x03, 0x10, 0x01, 0x18,
        0x08, // its place: term 3, leader 1, index 8
        0x12, 0x01, 0x78, // command "x"
        0x22, 0x06, 0x08, 0x02, 0x10, 0x01, 0x18,
        0x07, // committed: term 2, leader 1, index 7
    ];
    let read = AppendBody::decode_body(&bytes).unwrap();
    assert_eq!(read.encode_to_vec(), bytes);
    let read = read.checked(VoterId(1)).unwrap();
    assert_eq!(read.vote, Vote::new_committed(3, VoterId(1)));
    assert_eq!(read.prev_log_id, Some(id(2, 1, 7)));
    assert_eq!(read.leader_commit, Some(id(2, 1, 7)));
    let command = openraft::EntryPayload::Normal(Command(Bytes::from_static(b"x")));
    assert_eq!(read.entries, [entry(3, 8, command)]);
}

#[test]
fn an_append_is_refused_from_whom_its_vote_does_not_name() {
    let body = AppendBody::from(&append());
    assert_eq!(code(body.clone().checked(VoterId(2))), ErrorCode::Malformed);
    let candidate = AppendBody { vote: Some((&Vote::new(3, VoterId(1))).into()), ..body.clone() };
    assert_eq!(code(candidate.checked(VoterId(1))), ErrorCode::Malformed);
    assert_eq!(code(AppendBody { vote: None, ..body }.checked(VoterId(1))), ErrorCode::Malformed);
}

#[test]
fn entries_that_do_not_follow_one_another_are_refused() {
    let good = AppendBody::from(&append());
    let refused = |change: &dyn Fn(&mut AppendBody)| {
        let mut body = good.clone();
        change(&mut body);
        assert_eq!(code(body.checked(VoterId(1))), ErrorCode::Malformed);
    };
    refused(&|body| body.entries.swap(0, 1));
    refused(&|body| drop(body.entries.remove(1)));
    refused(&|body| body.previous = None);
    refused(&|body| body.entries[0].id = None);
    refused(&|body| body.entries[2].id = Some(LogIdBody::from(&id(1, 1, 9))));
    refused(&|body| body.entries[2].id = Some(LogIdBody::from(&id(4, 1, 9))));
    refused(&|body| body.entries[1].command = Some(Bytes::new()));
    refused(&|body| body.entries[1].members = Some(MembersBody::default()));
    refused(&|body| body.entries[0].command = Some(vec![0; COMMAND_BYTES_MAX + 1].into()));
    refused(&|body| {
        let id = id(3, 1, 10);
        let blank = (id.index..)
            .map(|index| EntryBody::from(&entry(3, index, openraft::EntryPayload::Blank)));
        body.entries.extend(blank.take(APPEND_ENTRIES_MAX));
    });
}

#[test]
fn members_beyond_all_bounds_are_refused() {
    let set = |voters: Vec<u64>| VoterSetBody { voters };
    let refused = |sets: Vec<VoterSetBody>, learners: Vec<u64>| {
        assert_eq!(
            code(Membership::try_from(MembersBody { sets, learners })),
            ErrorCode::Malformed
        );
    };
    refused(vec![set(vec![])], vec![]);
    refused(vec![set((0..8).collect())], vec![]);
    refused(vec![set(vec![1, 1])], vec![]);
    refused(vec![set(vec![1]), set(vec![2]), set(vec![3])], vec![]);
    refused(vec![set(vec![1])], (0..100).collect());
}

#[test]
fn replies_that_cannot_be_are_refused() {
    let request = append();
    let refused = |body: AppendReplyBody| {
        assert_eq!(code(body.checked(&request)), ErrorCode::Malformed);
    };
    refused(AppendReplyBody { outcome: 0, ..AppendReplyBody::default() });
    refused(AppendReplyBody { outcome: 77, ..AppendReplyBody::default() });
    refused(AppendReplyBody::from(&AppendReply::PartialSuccess(Some(id(3, 1, 10)))));
    refused(AppendReplyBody::from(&AppendReply::PartialSuccess(None)));
    refused(AppendReplyBody::from(&AppendReply::HigherVote(Vote::new(3, VoterId(1)))));
    let first = AppendRequest { prev_log_id: None, entries: Vec::new(), ..append() };
    let conflict = AppendReplyBody::from(&AppendReply::Conflict);
    assert_eq!(code(conflict.checked(&first)), ErrorCode::Malformed);
}

#[test]
fn numbers_near_overflow_are_refused() {
    let body = LogIdBody { term: ORDINAL_MAX + 1, leader: 1, index: 1 };
    assert_eq!(code(maybe_id(Some(body))), ErrorCode::Malformed);
    let body = LogIdBody { term: 1, leader: 1, index: u64::MAX };
    assert_eq!(code(maybe_id(Some(body))), ErrorCode::Malformed);
    let vote = VoteBody { term: u64::MAX, candidate: 1, elected: true };
    assert_eq!(code(leader_of(Some(vote), VoterId(1))), ErrorCode::Malformed);
}

#[test]
fn the_largest_command_fits_into_one_message() {
    let command = Command(vec![1; COMMAND_BYTES_MAX].into());
    let entries = vec![entry(3, 7, openraft::EntryPayload::Normal(command))];
    let request = AppendRequest { entries, ..append() };
    let whole = RaftRequest { append: Some(AppendBody::from(&request)), ..Default::default() };
    let bytes = whole.encode_to_vec();
    assert!(RaftRequest::decode_body(&bytes).is_ok(), "{} bytes", bytes.len());
}
