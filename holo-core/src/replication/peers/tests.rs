use super::*;

fn replica(node: u32, incarnation: u32) -> ReplicaId {
    ReplicaId { node: NodeNumber(node), incarnation: Incarnation(incarnation) }
}

#[test]
fn the_dead_are_silent_for_ever_and_never_met_again() {
    let mut peers = Peers::default();
    let now = Instant(10);
    assert!(peers.meet(replica(1, 1), now).is_some());
    assert_eq!(peers.silence(replica(1, 1), Instant(0), Instant(15)), Duration::from_nanos(5));
    peers.set_living(&[replica(1, 2)]);
    assert!(peers.meet(replica(1, 1), now).is_none());
    assert_eq!(peers.silence(replica(1, 1), now, now), Duration::MAX);
    peers.set_living(&[replica(1, 1)]);
    assert!(peers.is_dead(replica(1, 1)), "old news raise nobody");
    peers.bury(now);
    assert!(peers.get(replica(1, 1)).is_none());
}

#[test]
fn what_was_promised_to_the_dead_holds_until_it_passes() {
    let mut peers = Peers::default();
    let class = crate::replication::Class { replicas: 2, min_in_sync: 1 };
    let group = GroupId { partition: crate::PartitionId(1), class };
    let (entered, left) = (peers.next_version(), peers.next_version());
    let granted = &mut peers.meet(replica(1, 1), Instant(0)).unwrap().lease.granted;
    granted.enter(group, crate::Epoch(1), entered);
    let promise = Duration::from_nanos(30);
    granted.on_beat(Instant(0), Instant(0), SetVersion(0), promise);
    peers.set_living(&[replica(1, 2)]);
    peers.bury(Instant(1));
    let granted = &mut peers.get_mut(replica(1, 1)).unwrap().lease.granted;
    granted.leave(group, left, crate::replication::Mutant::None);
    peers.bury(Instant(29));
    assert_eq!(peers.blocked_until(group, Instant(29)), Some(Instant(30)));
    peers.bury(Instant(30));
    assert!(peers.get(replica(1, 1)).is_none());
}

#[test]
fn a_pause_of_ours_is_nobodys_silence() {
    let mut peers = Peers::default();
    peers.meet(replica(1, 1), Instant(0));
    peers.forgive(Duration::from_nanos(90), Instant(100));
    let silence = peers.silence(replica(1, 1), Instant(0), Instant(100));
    assert_eq!(silence, Duration::from_nanos(10));
}

const MILLISECOND: u64 = 1_000_000;

fn at(millis: u64) -> Instant {
    Instant(millis * MILLISECOND)
}

/// Peers of which we lead groups.
fn leading(members: &[u32]) -> Peers {
    let mut peers = Peers::default();
    for node in members {
        assert!(peers.meet(replica(*node, 1), at(1000)).is_some());
        peers.lead(&[], &[replica(*node, 1)]);
    }
    peers
}

fn due(peers: &mut Peers, millis: u64, paced_by: Option<u32>) -> Vec<u32> {
    let paced_by = paced_by.map(|node| replica(node, 1));
    let due = peers.take_due(at(millis), paced_by, &Timers::default());
    due.iter().map(|beat| beat.to.node.0).collect()
}

fn ack(sent: u64, set: Option<Vec<GroupId>>) -> BeatAck {
    BeatAck { sent_at: at(sent), set_version: SetVersion(1), set }
}

#[test]
fn of_two_that_beat_each_other_the_lower_one_sets_the_pace() {
    let mut peers = leading(&[1]);
    assert_eq!(due(&mut peers, 1000, None), [1]);
    assert!(peers.on_beat(replica(1, 1), replica(2, 1)));
    assert_eq!(due(&mut peers, 1030, Some(1)), [0; 0], "it was beaten a moment ago");
    assert_eq!(due(&mut peers, 1060, Some(1)), [1]);
    assert_eq!(due(&mut peers, 1160, None), [0; 0], "its beat is waited for");
    assert!(peers.is_paced());
    assert_eq!(due(&mut peers, 1161, Some(1)), [1]);
    assert_eq!(due(&mut peers, 1311, None), [1], "but not for long");
    assert_eq!(due(&mut peers, 1411, None), [1]);
    assert!(!peers.is_paced());
    assert!(!peers.on_beat(replica(1, 1), replica(0, 1)), "for a lower one it sets none");
}

#[test]
fn beats_to_all_peers_leave_together_after_a_while() {
    let mut peers = leading(&[1, 3, 4, 5]);
    peers.on_beat(replica(1, 1), replica(2, 1));
    for (node, beat_at) in [(1, 1040), (3, 1020), (4, 1050), (5, 1080)] {
        peers.get_mut(replica(node, 1)).unwrap().beat_at = at(beat_at);
    }
    assert_eq!(due(&mut peers, 1020, None), [3, 4, 5], "none was beaten lately");
    assert_eq!(due(&mut peers, 1050, Some(1)), [1]);
    assert_eq!(due(&mut peers, 1150, Some(1)), [1, 3, 4, 5]);
    assert_eq!(due(&mut peers, 1299, None), [0; 0]);
    assert_eq!(due(&mut peers, 1300, None), [1, 3, 4, 5]);
    assert_eq!(due(&mut peers, 1399, None), [0; 0]);
    assert_eq!(due(&mut peers, 1400, None), [1, 3, 4, 5]);
}

#[test]
fn whoever_beats_us_all_the_time_neither_stops_our_beats_nor_makes_them_many() {
    let mut peers = leading(&[3]);
    assert!(peers.meet(replica(1, 1), at(1000)).is_some());
    peers.on_beat(replica(1, 1), replica(2, 1));
    let beats = (1000..2000).filter(|now| !due(&mut peers, *now, Some(1)).is_empty()).count();
    assert!((7..=20).contains(&beats), "{beats} beats in a second");
}

#[test]
fn the_answer_to_a_beat_waits_for_the_next_beat_unless_it_brings_news() {
    let mut peers = leading(&[3]);
    assert!(peers.meet(replica(4, 1), at(1000)).is_some());
    let timers = Timers::default();
    let (led, other) = (replica(3, 1), replica(4, 1));
    assert_eq!(
        peers.owe(other, ack(1, None), at(1000), &timers),
        Some(ack(1, None)),
        "no beat follows"
    );
    let early = at(1000 - 101);
    assert_eq!(peers.owe(led, ack(1, None), early, &timers), Some(ack(1, None)), "it is far");
    assert_eq!(peers.owe(led, ack(2, None), at(1000), &timers), None);
    assert_eq!(peers.owe(led, ack(1, None), at(1000), &timers), None);
    assert_eq!((peers.take_owed(other), peers.take_owed(led)), (None, Some(ack(2, None))));
    assert_eq!(peers.take_owed(led), None);
    assert_eq!(peers.owe(led, ack(3, None), at(1000), &timers), None);
    let news = ack(4, Some(Vec::new()));
    assert_eq!(peers.owe(led, news.clone(), at(1000), &timers), Some(news));
    assert_eq!(peers.take_owed(led), None, "it was about less");
    let short = Timers { lease: timers.heartbeat * 2, ..timers.clone() };
    assert_eq!(peers.owe(led, ack(5, None), at(1000), &short), Some(ack(5, None)));
    peers.on_beat(led, replica(9, 1));
    assert_eq!(
        peers.owe(led, ack(6, None), at(1000), &timers),
        Some(ack(6, None)),
        "it sets the pace"
    );
}

#[test]
fn the_answer_to_a_beat_waits_also_for_a_beat_that_goes_along_with_a_pacers() {
    // Of three, the middle one answered the last one at once, with a packet of its own in every heartbeat: its next beat
    // is due only when the first one has been waited for in vain.
    let mut peers = leading(&[1, 3]);
    peers.on_beat(replica(1, 1), replica(2, 1));
    assert_eq!(due(&mut peers, 1010, Some(1)), [1, 3]);
    let timers = Timers::default();
    assert_eq!(peers.owe(replica(3, 1), ack(1, None), at(1011), &timers), None);
    assert_eq!(due(&mut peers, 1110, Some(1)), [1, 3]);
    assert_eq!(peers.take_owed(replica(3, 1)), Some(ack(1, None)));
}

#[test]
fn who_shares_no_group_with_us_any_more_is_no_silent_peer() {
    let mut peers = leading(&[3]);
    let timers = Timers::default();
    let silent = |peers: &mut Peers| {
        let round = peers.look_around(at(1300), &timers);
        (round.silent, round.alarmed)
    };
    assert_eq!(silent(&mut peers), (true, true));
    assert!(peers.next_event(at(1000), timers.silence()) < Some(at(1300)));
    peers.lead(&[replica(3, 1)], &[]);
    assert_eq!(silent(&mut peers), (false, false));
    assert_eq!(peers.next_event(at(1000), timers.silence()), None);
}

#[test]
fn versions_of_lease_sets_never_come_back() {
    let mut peers = Peers::default();
    assert!(peers.next_version() < peers.next_version());
}
