//! What a process that was told to stop leaves, and how the next life of its node goes on from it.

use super::*;

/// Two replicas of which the second has an operation of which it has not heard that it is committed, and that was
/// acknowledged to the client: request 2. Then the first one dies and the second is told to stop.
fn stopped_backup(mutant: Mutant) -> (Cluster, Left) {
    let mut cluster = Cluster::with_mutant(2, 2, group(2, 1), mutant);
    cluster.pass(300);
    assert_eq!(cluster.count(1, key(1, 1)), 0);
    cluster.pass(300);
    assert_eq!(cluster.count(1, key(1, 2)), 1);
    let summary = cluster.summary(2);
    assert!(summary.commit < summary.held && summary.applied < summary.held, "{summary:?}");
    assert_eq!(cluster.value(2), 1);
    cluster.kill(1);
    let left = cluster.stop(2);
    (cluster, left)
}

/// As [`stopped_backup`], with the node's next process, which has put back what there was.
fn restored_backup() -> (Cluster, Left, ReplicaId) {
    let (mut cluster, left) = stopped_backup(Mutant::None);
    let me = cluster.start_after(&left);
    cluster.restore(me, &left, 1).unwrap();
    (cluster, left, me)
}

fn is_restored(cluster: &Cluster, me: ReplicaId) -> bool {
    cluster.nodes[&me].host.is_restored(cluster.group)
}

fn wait_for_primary(cluster: &mut Cluster, node: u32) {
    let before = cluster.now;
    while cluster.summary(node).role != Role::Primary {
        assert!(!cluster.reads(node), "{cluster:?}");
        cluster.pass(5);
        assert!(cluster.now.since(before) < Duration::from_millis(500), "{cluster:?}");
    }
}

#[test]
fn a_backup_that_stops_has_applied_what_it_held_and_says_where_it_ends() {
    let (cluster, left) = stopped_backup(Mutant::None);
    assert_eq!(left.value, 2i64.to_le_bytes());
    let [remains] = left.remains.as_slice() else { panic!("{left:?}") };
    assert_eq!(remains.group, cluster.group);
    // A barrier and two operations.
    assert_eq!((remains.at.epoch, remains.at.seq), (Epoch(1), Seq(3)));
    assert_eq!(remains.windows.sessions()[&SessionId(1)].answers.len(), 2);
    assert_eq!(left.life, replica(2));
}

#[test]
fn the_next_life_goes_on_where_the_last_one_ended() {
    let (mut cluster, left, me) = restored_backup();
    assert!(is_restored(&cluster, me));
    assert_eq!(cluster.nodes[&me].host.config(cluster.group), None, "it is nobody's data yet");
    assert!(cluster.nodes[&me].host.summary().is_empty());
    let refused = cluster.propose(2, None, add(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongNode);
    cluster.go_on_with(me);
    assert!(!is_restored(&cluster, me));
    assert_eq!(cluster.summary(2).role, Role::PrimaryPending);
    assert_eq!(cluster.summary(2).last, Seq(4), "a barrier after the last entry of all");
    let refused = cluster.propose(2, None, add(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotReady);
    wait_for_primary(&mut cluster, 2);
    assert!(cluster.reads(2));
    assert_eq!(cluster.value(2), 2);
    // What was answered is answered again, and done once.
    assert_eq!(cluster.count(2, key(1, 2)), 1);
    assert_eq!(cluster.count(2, key(1, 1)), 0);
    assert_eq!(cluster.value(2), 2);
    assert_eq!(cluster.count(2, key(1, 3)), 2);
    assert_eq!(cluster.nodes[&me].resets, 0);
    // The others come as learners, their next lives and those that never ended.
    let mut other = left;
    other.life = replica(1);
    let other = cluster.start_after(&other);
    cluster.appoint(|config| config.learners = vec![other]);
    cluster.pass(500);
    assert_eq!(cluster.config.in_sync, [other, me]);
    assert_eq!(cluster.value(1), 3);
}

/// A primary that is cut off may read as long as its backup's promise lives, also when the backup's process ends and the
/// next one goes on alone; says whether both could be read at once.
fn reads_twice(mutant: Mutant) -> bool {
    let mut cluster = Cluster::with_mutant(2, 2, group(2, 1), mutant);
    cluster.pass(300);
    cluster.isolate(1);
    cluster.without_catalog.insert(replica(1));
    assert!(cluster.reads(1));
    let left = cluster.stop(2);
    let me = cluster.start_after(&left);
    cluster.restore(me, &left, 1).unwrap();
    cluster.go_on_with(me);
    let mut twice = cluster.reads(1) && cluster.reads(2);
    while !cluster.reads(2) {
        cluster.pass(5);
        twice |= cluster.reads(1) && cluster.reads(2);
        assert!(cluster.now < Instant(3_000_000_000), "{cluster:?}");
    }
    twice
}

#[test]
fn the_next_life_serves_when_every_promise_of_the_last_one_has_passed() {
    assert!(!reads_twice(Mutant::None));
    assert!(reads_twice(Mutant::ForgetPromisesOfEarlierLife), "the bug would show");
}

#[test]
fn silence_counts_from_when_it_was_put_back_first() {
    let (mut cluster, left, me) = restored_backup();
    let before = cluster.now;
    cluster.catalog_is_away = true;
    for _ in 0..6 {
        cluster.pass(50);
        cluster.restore(me, &left, 1).unwrap();
    }
    cluster.go_on_with(me);
    assert_eq!(cluster.summary(2).role, Role::PrimaryPending);
    wait_for_primary(&mut cluster, 2);
    let waited = cluster.now.since(before);
    let promise = Timers::default().promise();
    assert!((promise..promise + Duration::from_millis(50)).contains(&waited), "{waited:?}");
}

/// What the next life begins with.
fn inherited(mutant: Mutant) -> i64 {
    let (mut cluster, left) = stopped_backup(mutant);
    let me = cluster.start_after(&left);
    cluster.restore(me, &left, 1).unwrap();
    cluster.go_on_with(me);
    wait_for_primary(&mut cluster, 2);
    cluster.value(2)
}

#[test]
fn what_was_acknowledged_is_there_though_the_last_life_never_heard_that_it_was() {
    assert_eq!(inherited(Mutant::None), 2);
    assert_eq!(inherited(Mutant::LeaveTailBehind), 1, "the bug would show");
}

#[test]
fn who_waits_at_a_primary_that_stops_is_told_no_success_and_may_ask_again() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    assert_eq!(cluster.count(1, key(1, 1)), 0);
    cluster.isolate(1);
    let keyed = cluster.propose(1, Some(key(1, 2)), add(1)).unwrap();
    let plain = cluster.propose(1, None, add(10)).unwrap();
    let left = cluster.stop(1);
    let code = |ticket| left.replies[&ticket].as_ref().unwrap_err().code;
    assert_eq!(code(keyed), ErrorCode::WrongNode);
    assert_eq!(code(plain), ErrorCode::OutcomeUnknown);
    assert_eq!(left.replies.len(), 3, "one reply each");
    // Nobody but the primary has them. It holds them, and so they are left.
    assert_eq!(left.value, 12i64.to_le_bytes());
    cluster.kill(2);
    let me = cluster.start_after(&left);
    cluster.restore(me, &left, 1).unwrap();
    cluster.go_on_with(me);
    wait_for_primary(&mut cluster, 1);
    assert_eq!(cluster.count(1, key(1, 2)), 1, "asked again, it is answered and not done");
    assert_eq!(cluster.value(1), 12);
}

#[test]
fn a_config_with_no_place_for_it_drops_what_was_put_back() {
    type Change = fn(&mut GroupConfig, ReplicaId);
    let changes: [(&str, Change); 4] = [
        ("an epoch is missed", |config, me| {
            config.epoch = Epoch(3);
            (config.primary, config.in_sync) = (me, vec![me]);
        }),
        ("another one leads", |config, _| config.in_sync.retain(|it| it.node != NodeNumber(2))),
        ("it is lost", |config, _| config.lost = true),
        ("it is to learn", |config, me| {
            config.in_sync.retain(|it| it.node != NodeNumber(2));
            config.learners = vec![me];
        }),
    ];
    for (name, change) in changes {
        let (mut cluster, left, me) = restored_backup();
        cluster.appoint(|config| change(config, me));
        assert!(!is_restored(&cluster, me), "{name}");
        assert!(cluster.nodes[&me].resets > 0 && cluster.value(2) == 0, "{name}");
        let epoch = cluster.config.epoch;
        let summary = cluster.summary(2);
        assert_eq!(summary.epoch, epoch, "{name}");
        let leads = summary.primary == me;
        // It leads from nothing: that is the group's data after a loss.
        assert_eq!((summary.has_base, summary.last), (leads, Seq(u64::from(leads))), "{name}");
        assert!(cluster.nodes[&me].host.remains().is_empty() || leads, "{name}");
        for after in [1, epoch.0] {
            let refused = cluster.restore(me, &left, after).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Cancelled, "{name}, after {after}");
            assert!(!is_restored(&cluster, me) && cluster.value(2) == 0, "{name}");
        }
    }
}

#[test]
fn who_was_put_back_in_vain_learns_like_any_newcomer() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    cluster.count(1, key(1, 1));
    let left = cluster.stop(2);
    let me = cluster.start_after(&left);
    cluster.restore(me, &left, 1).unwrap();
    // The primary goes on, and writes.
    cluster.appoint(|config| config.in_sync = vec![replica(1)]);
    assert_eq!(cluster.count(1, key(1, 2)), 1);
    assert_eq!((is_restored(&cluster, me), cluster.value(2)), (false, 0));
    cluster.appoint(|config| config.learners = vec![me]);
    let refused = cluster.restore(me, &left, 3).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Cancelled);
    cluster.pass(500);
    assert_eq!(cluster.config.in_sync, [replica(1), me]);
    assert_eq!((cluster.value(2), cluster.summary(2).role), (2, Role::Backup));
}

#[test]
fn epochs_that_pass_with_the_past_life_in_sync_cost_nothing() {
    // It hears of them from the configs, or with what it is told to put back.
    for hears in [true, false] {
        let (mut cluster, left, me) = restored_backup();
        if !hears {
            cluster.without_catalog.insert(me);
        }
        cluster.appoint(|_| {});
        cluster.appoint(|_| {});
        assert!(is_restored(&cluster, me));
        assert_eq!(cluster.nodes[&me].host.config(cluster.group).is_some(), hears);
        if !hears {
            cluster.restore(me, &left, 3).unwrap();
        }
        // An older word changes nothing.
        cluster.restore(me, &left, 2).unwrap();
        cluster.without_catalog.clear();
        cluster.go_on_with(me);
        wait_for_primary(&mut cluster, 2);
        assert_eq!((cluster.config.epoch, cluster.value(2)), (Epoch(4), 2), "{hears}");
        assert_eq!(cluster.count(2, key(1, 2)), 1);
    }
}

#[test]
fn what_another_life_left_than_the_one_in_sync_is_refused() {
    let (mut cluster, left, me) = restored_backup();
    cluster.appoint(|_| {});
    let mut other = left;
    other.life.incarnation = Incarnation(0);
    for after in [1, 2] {
        let refused = cluster.restore(me, &other, after).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Cancelled, "after {after}");
    }
    cluster.go_on_with(me);
    wait_for_primary(&mut cluster, 2);
    assert_eq!(cluster.value(2), 2);
}

#[test]
fn what_was_put_back_and_not_gone_on_with_is_left_once_more() {
    let (mut cluster, left, me) = restored_backup();
    let mut again = cluster.stop(2);
    assert_eq!((again.life, &again.remains, again.value), (me, &left.remains, left.value));
    let last = cluster.start_after(&again);
    // It is still the first life's.
    again.life = left.life;
    cluster.restore(last, &again, 1).unwrap();
    cluster.go_on_with(last);
    wait_for_primary(&mut cluster, 2);
    assert_eq!((last.incarnation, cluster.count(2, key(1, 2))), (Incarnation(3), 1));
}

#[test]
fn a_replica_without_a_state_leaves_nothing_and_neither_does_one_that_could_not_apply() {
    let mut cluster = Cluster::new(3, 2, group(3, 1));
    cluster.offers_nothing = true;
    cluster.want(&[1, 2, 3]);
    cluster.pass(500);
    assert_eq!(cluster.config.learners, [replica(3)]);
    assert!(cluster.stop(3).remains.is_empty());
    cluster.count(1, key(1, 1));
    let node = cluster.nodes.get_mut(&replica(2)).unwrap();
    assert!(node.host.group_summary(cluster.group).is_some_and(|it| it.applied < it.held));
    node.host.come_to_rest(cluster.now);
    assert!(node.host.remains().is_empty(), "the driver has not applied it");
    cluster.drain(replica(2));
    assert_eq!(cluster.nodes[&replica(2)].host.remains().len(), 1);
}

#[test]
fn an_entry_whose_bytes_are_missing_is_not_left() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let payload = payload(1, 1);
    let (group, id) = (cluster.group, payload.id);
    cluster.input(replica(1), Input::PayloadReady { group, id }).unwrap();
    let ticket = cluster.propose_with(1, Some(key(1, 1)), publish(1), Some(payload)).unwrap();
    assert_eq!((cluster.summary(2).last, cluster.summary(2).held), (Seq(2), Seq(1)));
    assert_eq!(cluster.reply(1, ticket), None, "so nobody was told that it is done");
    let left = cluster.stop(2);
    assert_eq!(left.remains[0].at.seq, Seq(1));
    assert!(left.remains[0].windows.sessions().is_empty());
    let left = cluster.stop(1);
    assert_eq!(left.remains[0].at.seq, Seq(2));
}

#[test]
fn what_nobody_else_has_is_left_first() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let alone = GroupId { partition: PartitionId(9), ..cluster.group };
    let config = GroupConfig {
        group: alone,
        epoch: Epoch(1),
        primary: replica(2),
        in_sync: vec![replica(2)],
        learners: Vec::new(),
        lost: false,
    };
    cluster.input(replica(2), Input::Config(claim(&Arc::new(config)))).unwrap();
    let groups: Vec<GroupId> = cluster.stop(2).remains.iter().map(|it| it.group).collect();
    assert_eq!(groups, [alone, cluster.group]);
}

/// Where both copies must be in sync, the past life of the one that came back stays in the config until the primary asks for
/// its removal. It asked first for the new life to learn, which cannot be before that, and left it alone for a while then.
#[test]
fn a_past_life_leaves_before_the_present_one_is_asked_to_learn() {
    let mut cluster = Cluster::new(2, 2, group(2, 2));
    cluster.pass(300);
    let left = cluster.stop(2);
    let me = cluster.start_after(&left);
    cluster.known_gone.insert(left.life);
    let before = cluster.now;
    let targets = vec![(cluster.group, vec![replica(1), me])];
    cluster.input(replica(1), Input::Targets(targets)).unwrap();
    cluster.input(replica(1), Input::Living(vec![replica(1), me])).unwrap();
    while cluster.config.in_sync != [replica(1), me] {
        cluster.pass(5);
        assert!(cluster.now.since(before) < Duration::from_millis(700), "{cluster:?}");
    }
}
