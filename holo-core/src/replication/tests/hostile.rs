use super::*;
use crate::replication::{
    Append, AppendAck, AppendNack, Beat, BeatAck, Entry, EntryOp, LogPosition, Release, SetVersion,
    SnapshotOffer,
};

fn message(cluster: &mut Cluster, from: u32, to: u32, message: Message) -> Result<(), Failure> {
    cluster.input(replica(to), Input::Message { from: replica(from), message })
}

fn append(cluster: &Cluster, epoch: u64, claim: Option<ConfigClaim>) -> Append {
    Append {
        group: cluster.group,
        epoch: Epoch(epoch),
        claim,
        prev: LogPosition { epoch: Epoch(1), seq: Seq(1) },
        entries: Vec::new(),
        commit: Seq(1),
    }
}

fn entry(epoch: u64, seq: u64) -> Entry {
    Entry {
        epoch: Epoch(epoch),
        seq: Seq(seq),
        request: None,
        expired_below: SessionId(0),
        op: EntryOp::Op(add(1)),
        payload: None,
    }
}

fn beat(answered: Option<Instant>) -> Beat {
    Beat { sent_at: Instant(1), known_set: SetVersion(0), answered, commits: Vec::new() }
}

#[test]
fn a_config_without_proof_and_an_older_one_change_nothing() {
    let mut cluster = Cluster::new(3, 2, group(2, 1));
    cluster.pass(300);
    let mut config = cluster.config.as_ref().clone();
    config.epoch = Epoch(9);
    config.primary = replica(2);
    let forged = ConfigClaim { config: Arc::new(config), proof: Bytes::from_static(b"?") };
    let refused = cluster.input(replica(2), Input::Config(forged.clone())).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Denied);
    let mut by_peer = append(&cluster, 9, Some(forged));
    let refused = message(&mut cluster, 3, 2, Message::Append(by_peer.clone())).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Denied);
    by_peer.claim = None;
    message(&mut cluster, 3, 2, Message::Append(by_peer)).unwrap();
    assert_eq!(cluster.summary(2).epoch, Epoch(1), "naming an epoch raises none");
    cluster.want(&[2, 1]);
    cluster.pass(500);
    let now = cluster.summary(2).epoch;
    assert!(now > Epoch(1));
    let mut old = cluster.config.as_ref().clone();
    old.epoch = Epoch(1);
    cluster.input(replica(2), Input::Config(claim(&Arc::new(old)))).unwrap();
    assert_eq!(cluster.summary(2).epoch, now);
}

#[test]
fn a_config_that_breaks_its_invariants_is_refused_whoever_signed_it() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    let mut config = cluster.config.as_ref().clone();
    config.epoch = Epoch(2);
    config.in_sync.reverse();
    let refused = cluster.input(replica(2), Input::Config(claim(&Arc::new(config)))).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Malformed);
}

#[test]
fn messages_from_a_replica_without_the_role_are_denied() {
    let mut cluster = Cluster::new(4, 3, group(3, 1));
    cluster.pass(300);
    let group = cluster.group;
    let ack = AppendAck { group, epoch: Epoch(1), matched: Seq(1), committed: Seq(1), based: true };
    let nack =
        AppendNack { group, epoch: Epoch(1), have: Seq(0), needs_snapshot: true, claim: None };
    let mut lies = append(&cluster, 1, None);
    lies.entries = vec![entry(1, 2)];
    let offer = SnapshotOffer {
        group,
        epoch: Epoch(1),
        claim: None,
        snapshot: SnapshotId(1),
        at: LogPosition { epoch: Epoch(1), seq: Seq(5) },
        windows: Arc::default(),
    };
    for (from, to, lie) in [
        (3, 2, Message::Append(lies)),
        (3, 2, Message::SnapshotOffer(offer)),
        (4, 1, Message::AppendAck(ack)),
        (4, 1, Message::AppendNack(nack)),
    ] {
        let refused = message(&mut cluster, from, to, lie.clone()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Denied, "{lie:?}");
    }
    assert_eq!(cluster.summary(2).last, Seq(1));
}

#[test]
fn what_no_correct_peer_says_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let good = append(&cluster, 1, None);
    let with = |entries: Vec<Entry>| Message::Append(Append { entries, ..good.clone() });
    let mut barrier = entry(1, 2);
    barrier.op = EntryOp::Barrier;
    barrier.request = Some(key(1, 1));
    let mut floor = entry(1, 2);
    floor.request = Some(RequestKey { session: SessionId(1), number: 1, floor: 2 });
    let past = LogPosition { epoch: Epoch(1), seq: Seq(u64::MAX) };
    for bad in [
        with(vec![entry(1, 3)]),
        with(vec![entry(2, 2)]),
        with(vec![entry(1, 2), entry(0, 3)]),
        with(vec![barrier]),
        with(vec![floor]),
        with(vec![entry(1, 2); 2]),
        Message::Append(Append { prev: past, entries: vec![entry(1, 0)], ..good.clone() }),
    ] {
        let refused = message(&mut cluster, 1, 2, bad.clone()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed, "{bad:?}");
    }
    let ack = AppendAck {
        group: cluster.group,
        epoch: Epoch(1),
        matched: Seq(9),
        committed: Seq(1),
        based: true,
    };
    let future = BeatAck { sent_at: Instant::MAX, set_version: SetVersion(1), set: None };
    let foreseen = beat(Some(Instant(2)));
    for bad in [Message::AppendAck(ack), Message::BeatAck(future), Message::Beat(foreseen)] {
        let refused = message(&mut cluster, 2, 1, bad).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed);
    }
    assert_eq!((cluster.summary(2).last, cluster.summary(1).commit), (Seq(1), Seq(1)));
    assert_eq!(cluster.count(1, key(1, 1)), 0);
}

#[test]
fn strangers_and_the_dead_get_no_promise_and_free_none() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let beat = Message::Beat(beat(None));
    assert_eq!(message(&mut cluster, 9, 2, beat.clone()).unwrap_err().code, ErrorCode::Denied);
    assert_eq!(message(&mut cluster, 2, 2, beat).unwrap_err().code, ErrorCode::Denied);
    let release = Message::Release(Release { group: cluster.group, up_to: Epoch(99) });
    message(&mut cluster, 9, 2, release).unwrap();
    let reborn = ReplicaId { incarnation: Incarnation(2), ..replica(1) };
    cluster.input(replica(2), Input::Living(vec![reborn])).unwrap();
    let late = Message::Append(append(&cluster, 1, None));
    assert_eq!(message(&mut cluster, 1, 2, late).unwrap_err().code, ErrorCode::Denied);
}
