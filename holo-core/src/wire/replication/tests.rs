use proptest::prelude::*;
use prost::Message as _;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::group::{Op, PageSpan, Seq, StagingId, UpdateKind};
use crate::replication::{
    Answer, Append, Class, CommitNews, ConfigClaim, Entry, EntryOp, GroupConfig, GroupId,
    Incarnation, LogPosition, NodeNumber, Outcome, Payload, PayloadId, Remains, ReplicaId,
    RequestKey, SessionId, SessionWindow, SessionWindows, SnapshotId, SnapshotOffer,
};
use crate::wire::{Decode, ReplicaDigest, ReplicaDigestBody};
use crate::{ArrayId, DType, PartitionId, ShardIndex};

const GROUP: GroupId =
    GroupId { partition: PartitionId(7), class: Class { replicas: 3, min_in_sync: 2 } };

fn id(node: u32) -> ReplicaId {
    ReplicaId { node: NodeNumber(node), incarnation: Incarnation(node + 1) }
}

fn claim() -> ConfigClaim {
    let config = GroupConfig {
        group: GROUP,
        epoch: Epoch(9),
        primary: id(2),
        in_sync: vec![id(1), id(2)],
        learners: vec![id(5)],
        lost: false,
    };
    ConfigClaim { config: Arc::new(config), proof: Bytes::from_static(b"proof") }
}

fn entries() -> Vec<Entry> {
    let (array, shard) = (ArrayId(3), ShardIndex(4));
    let publish = Op::Publish {
        array,
        shard,
        staging: StagingId(6),
        pages: PageSpan::of_bytes(70_000, 100_000).unwrap(),
        offset: 70_000,
        len: 100_000,
    };
    let payload = Payload { id: PayloadId { origin: id(2), number: 6 }, len: 100_000 };
    let write = Op::Write { array, shard, offset: 1, bytes: Bytes::from_static(b"abc") };
    let update = Op::Update {
        array,
        shard,
        offset: 16,
        dtype: DType::I64,
        kind: UpdateKind::CompareExchange,
        operand: [1; 8],
        expected: [2; 8],
    };
    let fill = Op::Fill { array, shard, offset: 8, len: 80, pattern: Bytes::from_static(&[9; 8]) };
    let key = RequestKey { session: SessionId(11), number: 5, floor: 2 };
    let ops = [
        (EntryOp::Barrier, None, None),
        (EntryOp::Op(publish), Some(key), Some(payload)),
        (EntryOp::Op(write), None, None),
        (EntryOp::Op(update), Some(key), None),
        (EntryOp::Op(fill), None, None),
    ];
    let entries = ops.into_iter().zip(101..).map(|((op, request, payload), seq)| Entry {
        epoch: Epoch(8),
        seq: Seq(seq),
        request,
        expired_below: SessionId(1),
        op,
        payload,
    });
    entries.collect()
}

fn windows() -> SessionWindows {
    let answers = BTreeMap::from([
        (4, Answer::Done(Outcome::new(&[1, 2, 3]).unwrap())),
        (6, Answer::Refused(ErrorCode::OutOfRange)),
    ]);
    let window = SessionWindow { floor: 3, highest: 6, answers };
    SessionWindows::from_parts(SessionId(2), BTreeMap::from([(SessionId(5), window)])).unwrap()
}

fn messages() -> Vec<Message> {
    let at = LogPosition { epoch: Epoch(8), seq: Seq(100) };
    let news = CommitNews { group: GROUP, epoch: Epoch(9), commit: Seq(12) };
    let append = Append {
        group: GROUP,
        epoch: Epoch(9),
        claim: Some(claim()),
        prev: at,
        entries: entries(),
        commit: Seq(99),
    };
    let ack = AppendAck {
        group: GROUP,
        epoch: Epoch(9),
        matched: Seq(3),
        committed: Seq(2),
        based: true,
    };
    let nack = AppendNack {
        group: GROUP,
        epoch: Epoch(9),
        have: Seq(3),
        needs_snapshot: true,
        claim: Some(claim()),
    };
    let offer = SnapshotOffer {
        group: GROUP,
        epoch: Epoch(9),
        claim: None,
        snapshot: SnapshotId(4),
        at,
        windows: Arc::new(windows()),
    };
    let (sent_at, set_version) = (Instant(77), SetVersion(3));
    let (known_set, answered) = (SetVersion(0), Some(Instant(0)));
    vec![
        Message::Append(append),
        Message::AppendAck(ack),
        Message::AppendNack(nack),
        Message::SnapshotOffer(offer),
        Message::Release(Release { group: GROUP, up_to: Epoch(5) }),
        Message::Beat(Beat { sent_at, known_set: SetVersion(2), answered, commits: vec![news] }),
        Message::Beat(Beat { sent_at, known_set, answered: None, commits: Vec::new() }),
        Message::BeatAck(BeatAck { sent_at, set_version, set: Some(vec![GROUP]) }),
        Message::BeatAck(BeatAck { sent_at, set_version, set: Some(Vec::new()) }),
        Message::BeatAck(BeatAck { sent_at, set_version, set: None }),
    ]
}

#[test]
fn every_message_crosses_the_wire_whole() {
    for message in messages() {
        let bytes = PeerMessage::from(&message).encode_to_vec();
        let back = PeerMessage::decode_body(&bytes).unwrap();
        assert_eq!(Message::try_from(back).unwrap(), message);
    }
}

#[test]
fn fields_of_a_newer_peer_are_passed_over() {
    // Field 100 of type bytes, appended to the content of each message and to the batch.
    let unknown = [0xa2, 0x06, 3, 1, 2, 3];
    let batch = PeerBatch {
        from_incarnation: 1,
        to_incarnation: 2,
        messages: messages().iter().map(PeerMessage::from).collect(),
    };
    let mut bytes = batch.encode_to_vec();
    bytes.extend_from_slice(&unknown);
    assert_eq!(PeerBatch::decode_body(&bytes).unwrap(), batch);
    let mut config = ClaimBody::from(&claim()).encode_to_vec();
    config.extend_from_slice(&unknown);
    assert_eq!(ClaimBody::decode_body(&config).unwrap().checked().unwrap(), claim());
}

/// A beat as versions before `answered` write and read it.
#[derive(Clone, PartialEq, prost::Message)]
struct OlderBeat {
    #[prost(uint64, tag = "1")]
    sent_at: u64,
    #[prost(uint64, tag = "2")]
    known_set: u64,
}

#[test]
fn a_beat_that_says_what_was_answered_is_a_beat_to_an_older_peer_and_the_other_way_round() {
    let older = OlderBeat { sent_at: 77, known_set: 2 };
    let newer = BeatBody { sent_at: 77, known_set: 2, commits: Vec::new(), answered: Some(70) };
    assert_eq!(OlderBeat::decode(&newer.encode_to_vec()[..]).unwrap(), older);
    let read = BeatBody::decode(&older.encode_to_vec()[..]).unwrap();
    assert_eq!(read, BeatBody { answered: None, ..newer });
}

#[test]
fn what_contradicts_itself_or_is_too_much_is_refused() {
    let refused =
        |body: MessageBody| Message::try_from(PeerMessage { body: Some(body) }).unwrap_err().code;
    assert_eq!(
        Message::try_from(PeerMessage { body: None }).unwrap_err().code,
        ErrorCode::Malformed
    );
    let PeerMessage { body: Some(MessageBody::Append(append)) } = PeerMessage::from(&messages()[0])
    else {
        panic!("the first message is an append");
    };
    type Spoil = fn(&mut AppendBody);
    let spoil: [(Spoil, ErrorCode); 8] = [
        (|body| body.group = None, ErrorCode::Malformed),
        (|body| body.prev = None, ErrorCode::Malformed),
        (|body| body.prev = Some(PositionBody { epoch: 1, seq: u64::MAX }), ErrorCode::Malformed),
        (|body| body.entries[1].payload = None, ErrorCode::Malformed),
        (|body| body.entries[2].op.as_mut().unwrap().kind = 99, ErrorCode::Malformed),
        (|body| body.entries[3].op.as_mut().unwrap().bytes = Bytes::new(), ErrorCode::Malformed),
        (|body| body.entries = vec![EntryBody::default(); 5000], ErrorCode::TooLarge),
        (|body| body.claim.as_mut().unwrap().in_sync.clear(), ErrorCode::Malformed),
    ];
    for (index, (spoil, code)) in spoil.into_iter().enumerate() {
        let mut body = append.clone();
        spoil(&mut body);
        assert_eq!(refused(MessageBody::Append(body)), code, "{index}");
    }
    let long = ClaimBody { proof: vec![0; 1 << 20].into(), ..ClaimBody::from(&claim()) };
    assert_eq!(long.checked().unwrap_err().code, ErrorCode::TooLarge);
}

#[test]
fn a_group_beyond_the_last_partition_is_refused() {
    let body = |partition| Some(GroupBody { partition, replicas: 2, min_in_sync: 1 });
    let last = (1 << limits::PARTITION_BITS_MAX) - 1;
    assert_eq!(GroupBody::checked(body(last)).unwrap().partition, PartitionId(last));
    assert_eq!(GroupBody::checked(body(last + 1)).unwrap_err().code, ErrorCode::Malformed);
    assert_eq!(GroupBody::checked(body(u32::MAX)).unwrap_err().code, ErrorCode::Malformed);
}

fn remains() -> Remains {
    let at = LogPosition { epoch: Epoch(8), seq: Seq(100) };
    Remains { group: GROUP, at, windows: Arc::new(windows()) }
}

#[test]
fn what_a_replica_leaves_is_read_as_it_was_written() {
    for remains in [remains(), Remains { windows: Arc::default(), ..remains() }] {
        let bytes = RemainsBody::from(&remains).encode_to_vec();
        let back = RemainsBody::decode_body(&bytes).unwrap();
        assert_eq!(back.checked(GROUP).unwrap(), remains);
    }
}

#[test]
fn remains_that_contradict_themselves_or_are_too_much_are_refused() {
    type Spoil = fn(&mut RemainsBody);
    let spoil: [(Spoil, ErrorCode); 10] = [
        (|body| body.at = None, ErrorCode::Malformed),
        (|body| body.at = Some(PositionBody { epoch: 1, seq: u64::MAX }), ErrorCode::Malformed),
        // The session has expired.
        (|body| body.expired_below = 6, ErrorCode::Malformed),
        (|body| body.sessions[0].floor = 5, ErrorCode::Malformed),
        (|body| body.sessions[0].highest = 5, ErrorCode::Malformed),
        (|body| body.sessions[0].answers[0].number = 2, ErrorCode::Malformed),
        (|body| body.sessions[0].answers[0].number = 7, ErrorCode::Malformed),
        (|body| body.sessions[0].answers[0].result = vec![0; 300], ErrorCode::Malformed),
        (|body| body.sessions[0].highest = u64::MAX, ErrorCode::Malformed),
        (
            |body| body.sessions = vec![SessionBody::default(); limits::GROUP_SESSIONS_MAX + 1],
            ErrorCode::TooLarge,
        ),
    ];
    for (index, (spoil, code)) in spoil.into_iter().enumerate() {
        let mut body = RemainsBody::from(&remains());
        spoil(&mut body);
        assert_eq!(body.checked(GROUP).map_err(|failure| failure.code), Err(code), "{index}");
    }
    let bytes = RemainsBody::from(&remains()).encode_to_vec();
    for cut in 1..bytes.len() {
        // What is cut off is either no message, or one that misses something: never what was written.
        let read = RemainsBody::decode_body(&bytes[..cut]).and_then(|body| body.checked(GROUP));
        assert_ne!(read.ok(), Some(remains()), "{cut}");
    }
}

/// All that [`crate::fuzzing::replication`] reads, one after the other.
fn everything() -> Vec<Vec<u8>> {
    let batch = PeerBatch {
        from_incarnation: 1,
        to_incarnation: 2,
        messages: messages().iter().map(PeerMessage::from).collect(),
    };
    let digest = ReplicaDigest {
        group: GROUP,
        epoch: Epoch(3),
        applied: Seq(9),
        shards: [1; 32],
        pages: [2; 32],
        bytes: 70_000,
    };
    vec![
        batch.encode_to_vec(),
        RemainsBody::from(&remains()).encode_to_vec(),
        ReplicaDigestBody::from(&digest).encode_to_vec(),
    ]
}

#[test]
fn no_number_is_the_last_one() {
    // Who follows it counts on: a log that ends with the last number cannot be followed.
    let at = |seq| LogPosition { epoch: Epoch(8), seq: Seq(seq) };
    let append = |seq: u64, entries: usize| {
        let mut append = Append {
            group: GROUP,
            epoch: Epoch(9),
            claim: None,
            prev: at(seq),
            entries: entries_of(entries),
            commit: Seq(99),
        };
        let first = seq.saturating_add(1);
        for (entry, seq) in append.entries.iter_mut().zip(first..u64::MAX) {
            entry.seq = Seq(seq);
        }
        Message::Append(append)
    };
    let offer = |seq| {
        let (snapshot, windows) = (SnapshotId(4), Arc::default());
        let (group, epoch) = (GROUP, Epoch(9));
        Message::SnapshotOffer(SnapshotOffer {
            group,
            epoch,
            claim: None,
            snapshot,
            at: at(seq),
            windows,
        })
    };
    let read = |message: &Message| Message::try_from(PeerMessage::from(message));
    for last in
        [append(u64::MAX, 0), append(u64::MAX - 1, 1), append(u64::MAX - 2, 2), offer(u64::MAX)]
    {
        assert_eq!(
            read(&last).map_err(|failure| failure.code),
            Err(ErrorCode::Malformed),
            "{last:?}"
        );
    }
    for other in [append(u64::MAX - 1, 0), append(u64::MAX - 2, 1), offer(u64::MAX - 1)] {
        assert_eq!(read(&other).as_ref(), Ok(&other));
    }
}

fn entries_of(count: usize) -> Vec<Entry> {
    entries().into_iter().cycle().take(count).collect()
}

proptest! {
    #[test]
    fn noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzzing::replication(&noise);
    }

    #[test]
    fn flipped_bytes_are_survived(
        at in any::<proptest::sample::Index>(),
        flip in 1u8..,
        cut in any::<proptest::sample::Index>(),
    ) {
        for mut bytes in everything() {
            let place = at.index(bytes.len());
            bytes[place] ^= flip;
            crate::fuzzing::replication(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            crate::fuzzing::replication(&bytes);
        }
    }
}
