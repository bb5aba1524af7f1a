use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use holo_catalog::wire::{
    AppendBody, LogIdBody, RaftReply, RaftRequest, SnapshotMetaBody, SnapshotPieceBody, VoteBody,
    VoteRequestBody,
};
use holo_catalog::{ControlLog, Transport, VoterId};
use holo_core::{ErrorCode, Failure, limits};
use prost::Message;

use crate::world::{LONG, World, command, number};

/// A network without anybody.
pub(crate) struct Nobody;

impl Transport for Nobody {
    fn call(
        &self,
        to: VoterId,
        _request: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Failure>> {
        let failure = Failure::new(ErrorCode::Unreachable, format!("no voter {to}"));
        Box::pin(std::future::ready(Err(failure)))
    }
}

fn bytes(request: &RaftRequest) -> Bytes {
    request.encode_to_vec().into()
}

async fn refused(world: &World, from: u64, request: Bytes) -> ErrorCode {
    world.voter(1).handle(VoterId(from), request).await.unwrap_err().code
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_request_are_refused_and_change_nothing() {
    let world = World::of(1).await;
    world.voter(1).propose(command(0), LONG).await.unwrap();
    for garbage in
        [&b""[..], b"\xff\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x00", b"\x1a\x00"]
    {
        let garbage = Bytes::copy_from_slice(garbage);
        assert_eq!(refused(&world, 2, garbage).await, ErrorCode::Malformed);
    }
    let huge = Bytes::from(vec![0; limits::BODY_BYTES_MAX as usize + 1]);
    assert_eq!(refused(&world, 2, huge).await, ErrorCode::TooLarge);
    // Every byte of a good request changed once: an answer or a refusal, never more.
    let vote = VoteBody { term: 1, candidate: 2, elected: false };
    let ask = VoteRequestBody { vote: Some(vote), last: None };
    let good = bytes(&RaftRequest { vote: Some(ask), ..Default::default() });
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x41;
        drop(world.voter(1).handle(VoterId(2), bad.into()).await);
    }
    world.voter(1).propose(command(1), LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_asks_for_one_thing() {
    let world = World::of(1).await;
    let vote = VoteBody { term: 9, candidate: 2, elected: true };
    let append = AppendBody { vote: Some(vote), ..AppendBody::default() };
    let both = RaftRequest {
        append: Some(append),
        vote: Some(VoteRequestBody::default()),
        snapshot: None,
    };
    assert_eq!(refused(&world, 2, bytes(&both)).await, ErrorCode::Malformed);
}

#[tokio::test(start_paused = true)]
async fn nobody_speaks_for_another_voter() {
    let world = World::of(3).await;
    world.propose(command(0)).await.unwrap();
    let leader = world.leader().await;
    let term = leader.standing().borrow().term;
    let vote = VoteBody { term: term + 5, candidate: number(&leader), elected: true };
    let append = AppendBody { vote: Some(vote), ..AppendBody::default() };
    let forged = bytes(&RaftRequest { append: Some(append), ..Default::default() });
    for victim in 1..=3 {
        let forger = VoterId(if number(&leader) == 3 { 2 } else { 3 });
        let failure = world.voter(victim).handle(forger, forged.clone()).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::Malformed);
    }
    world.propose(command(1)).await.unwrap();
    assert_eq!(world.leader().await.standing().borrow().term, term);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_comes_twice_is_appended_once() {
    let mut world = World::new(1);
    let voter = world.open(1).await.unwrap();
    let entry = |index: u64, text: &str| holo_catalog::wire::EntryBody {
        id: Some(LogIdBody { term: 1, leader: 2, index }),
        command: (index > 0).then(|| Bytes::copy_from_slice(text.as_bytes())),
        members: (index == 0).then(|| holo_catalog::wire::MembersBody {
            sets: vec![holo_catalog::wire::VoterSetBody { voters: vec![1, 2] }],
            learners: Vec::new(),
        }),
    };
    let append = AppendBody {
        vote: Some(VoteBody { term: 1, candidate: 2, elected: true }),
        previous: None,
        entries: vec![entry(0, ""), entry(1, "once"), entry(2, "twice")],
        committed: Some(LogIdBody { term: 1, leader: 2, index: 2 }),
    };
    let request = bytes(&RaftRequest { append: Some(append), ..Default::default() });
    for _ in 0..3 {
        let reply = voter.handle(VoterId(2), request.clone()).await.unwrap();
        let reply = RaftReply::decode(reply).unwrap().append.unwrap();
        assert_eq!(reply.outcome, i32::from(holo_catalog::wire::AppendOutcome::Appended));
    }
    voter.wait_applied(holo_catalog::LogIndex(2), LONG).await.unwrap();
    voter.with_state(|ledger, index| {
        assert_eq!(index.0, 2);
        assert_eq!(ledger.commands, [(1, b"once".to_vec()), (2, b"twice".to_vec())]);
    });
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_not_as_described_is_refused() {
    let mut world = World::new(1);
    let voter = world.open(1).await.unwrap();
    let last = LogIdBody { term: 1, leader: 2, index: 40 };
    let vote = VoteBody { term: 1, candidate: 2, elected: true };
    let state = Bytes::from_static(b"0123456789");
    let meta = SnapshotMetaBody {
        last: Some(last),
        members: Some(holo_catalog::wire::MembersBody::default()),
        members_at: None,
        bytes: 10,
        digest: Bytes::copy_from_slice(blake3::hash(b"something else").as_bytes()),
    };
    let send = async |meta: &SnapshotMetaBody, offset: u64, data: &Bytes| {
        let piece = SnapshotPieceBody {
            vote: Some(vote),
            meta: Some(meta.clone()),
            offset,
            data: data.clone(),
        };
        let request = bytes(&RaftRequest { snapshot: Some(piece), ..Default::default() });
        let reply = voter.handle(VoterId(2), request).await?;
        Ok::<u64, Failure>(RaftReply::decode(reply).unwrap().snapshot.unwrap().have)
    };
    assert_eq!(send(&meta, 0, &state).await.unwrap_err().code, ErrorCode::Corrupt);
    let large = SnapshotMetaBody { bytes: u64::MAX, ..meta.clone() };
    assert_eq!(send(&large, 0, &state).await.unwrap_err().code, ErrorCode::Malformed);
    let short = SnapshotMetaBody { bytes: 9, ..meta.clone() };
    assert_eq!(send(&short, 0, &state).await.unwrap_err().code, ErrorCode::Malformed);
    // A piece from the middle of nothing: it says where to begin. Pieces may come twice.
    assert_eq!(send(&meta, 5, &state.slice(5..)).await.unwrap(), 0);
    assert_eq!(send(&meta, 0, &state.slice(..5)).await.unwrap(), 5);
    assert_eq!(send(&meta, 0, &state.slice(..5)).await.unwrap(), 5);
    assert!(voter.with_state(|ledger, index| ledger.commands.is_empty() && index.0 == 0));
}
