use super::*;

#[test]
fn a_dead_backup_is_removed_and_a_target_is_brought_up_in_its_place() {
    let mut cluster = Cluster::new(3, 2, group(2, 1));
    cluster.pass(300);
    for number in 1..=5 {
        cluster.count(1, key(1, number));
    }
    cluster.kill(2);
    cluster.want(&[1, 3]);
    let ticket = cluster.propose(1, Some(key(1, 6)), add(1)).unwrap();
    cluster.pass(1500);
    assert!(cluster.reply(1, ticket).unwrap().is_ok(), "the stall ended with the removal");
    assert_eq!(cluster.config.in_sync, [replica(1), replica(3)]);
    assert_eq!(cluster.value(3), 6);
    assert!(cluster.nodes[&replica(1)].snapshots.is_empty(), "and none is kept");
    cluster.kill(1);
    cluster.pass(1500);
    assert_eq!(cluster.summary(3).role, Role::Primary);
    assert_eq!(cluster.count(3, key(1, 6)), 5, "answers came with the snapshot and the log");
    assert_eq!(cluster.count(3, key(1, 3)), 2);
}

#[test]
fn writes_go_on_while_a_learner_is_brought_up() {
    let mut cluster = Cluster::new(2, 1, group(2, 1));
    cluster.pass(300);
    cluster.want(&[1, 2]);
    for number in 1..=100 {
        cluster.count(1, key(1, number));
        cluster.pass(5);
    }
    assert_eq!(cluster.config.in_sync, [replica(1), replica(2)]);
    cluster.pass(300);
    assert_eq!((cluster.value(1), cluster.value(2)), (100, 100));
}

#[test]
fn a_torn_snapshot_is_fetched_again() {
    let mut cluster = Cluster::new(2, 1, group(2, 1));
    cluster.torn = 3;
    cluster.count(1, key(1, 1));
    cluster.want(&[1, 2]);
    cluster.pass(1500);
    assert_eq!(cluster.torn, 0);
    assert_eq!(cluster.config.in_sync, [replica(1), replica(2)]);
    assert_eq!(cluster.value(2), 1);
}

/// Its only holder is put out and the loss accepted: the group starts again on the node that was being brought it.
#[test]
fn a_learner_on_which_a_lost_group_starts_again_begins_with_nothing() {
    let mut cluster = Cluster::new(2, 1, group(2, 1));
    cluster.torn = usize::MAX;
    cluster.count(1, key(1, 1));
    cluster.want(&[1, 2]);
    cluster.pass(500);
    assert_eq!(cluster.config.learners, [replica(2)]);
    cluster.nodes.remove(&replica(1));
    // What the copy had brought when it broke off.
    cluster.nodes.get_mut(&replica(2)).unwrap().value = 7u64.to_le_bytes();
    cluster.config = Arc::new(GroupConfig {
        epoch: Epoch(cluster.config.epoch.0 + 1),
        primary: replica(2),
        in_sync: vec![replica(2)],
        learners: Vec::new(),
        ..cluster.config.as_ref().clone()
    });
    cluster.pass(1500);
    assert_eq!(cluster.summary(2).role, Role::Primary);
    assert_eq!(cluster.value(2), 0);
    assert_eq!(cluster.count(2, key(2, 1)), 0);
}

#[test]
fn a_move_brings_up_the_new_holders_first_hands_over_and_drops_the_old() {
    let mut cluster = Cluster::new(4, 2, group(2, 2));
    cluster.pass(300);
    cluster.count(1, key(1, 1));
    cluster.want(&[4, 3]);
    let mut fewest = usize::MAX;
    for _ in 0..400 {
        cluster.pass(5);
        fewest = fewest.min(cluster.config.in_sync.len());
    }
    assert!(fewest >= 2, "never below what the class wants");
    assert_eq!(cluster.config.in_sync, [replica(3), replica(4)]);
    assert_eq!((cluster.config.primary, &cluster.config.learners), (replica(4), &vec![]));
    for left in [1, 2] {
        assert_eq!(cluster.summary(left).role, Role::Empty);
    }
    assert_eq!(cluster.count(4, key(1, 2)), 1);
}

#[test]
fn a_target_that_is_away_is_left_alone_for_longer_each_time() {
    let mut cluster = Cluster::new(2, 1, group(2, 1));
    cluster.pass(300);
    cluster.isolate(2);
    cluster.want(&[1, 2]);
    cluster.pass(20_000);
    let epochs = cluster.config.epoch.0;
    assert!((5..=16).contains(&epochs), "{epochs} epochs in 20 s");
    cluster.cut.clear();
    cluster.pass(18_000);
    assert_eq!(cluster.config.in_sync.len(), 2);
}

#[test]
fn an_in_sync_replica_that_never_gets_the_bytes_is_removed_as_slow() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let bytes = payload(1, 1);
    let ready = Input::PayloadReady { group: cluster.group, id: bytes.id };
    cluster.input(replica(1), ready).unwrap();
    let ticket = cluster.propose_with(1, None, publish(1), Some(bytes)).unwrap();
    cluster.pass(2500);
    assert_eq!(cluster.reply(1, ticket), None);
    assert!(cluster.nodes[&replica(2)].fetches.len() > 3, "it asks again");
    cluster.pass(1500);
    assert!(cluster.reply(1, ticket).unwrap().is_ok());
    assert_eq!(cluster.config.in_sync, [replica(1)]);
    assert_eq!(cluster.nodes[&replica(2)].resets, 1);
}

#[test]
fn a_silent_member_is_kept_until_another_takes_its_place() {
    let mut cluster = Cluster::new(3, 2, group(2, 2));
    cluster.pass(300);
    cluster.kill(2);
    cluster.pass(3000);
    assert_eq!(cluster.config.in_sync.len(), 2);
    cluster.want(&[1, 3]);
    cluster.pass(2000);
    assert_eq!(cluster.config.in_sync, [replica(1), replica(3)], "first the new one, then out");
    assert_eq!(cluster.count(1, key(1, 1)), 0);
}

#[test]
fn a_member_whose_node_is_known_to_be_gone_leaves_and_the_rest_can_be_read() {
    let mut cluster = Cluster::new(2, 2, group(2, 2));
    cluster.pass(300);
    cluster.kill(2);
    cluster.pass(3000);
    assert!(!cluster.reads(1));
    cluster.known_gone.insert(replica(2));
    cluster.pass(1000);
    assert!(cluster.reads(1));
    let refused = cluster.propose(1, None, add(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoQuorum);
}

/// The wanted primary had died while the cluster was being closed. Handing over to it was refused, and asked for again and
/// again, and nobody asked to let it go.
#[test]
fn nobody_hands_over_to_a_member_that_is_silent() {
    let mut cluster = Cluster::new(2, 2, group(2, 2));
    cluster.pass(300);
    cluster.kill(2);
    cluster.pass(250);
    cluster.want(&[2, 1]);
    cluster.pass(3000);
    assert_eq!((cluster.config.epoch, cluster.config.primary), (Epoch(1), replica(1)));
    cluster.known_gone.insert(replica(2));
    cluster.pass(1500);
    assert!(cluster.reads(1), "{:?}", cluster.config);
}

/// A replica was a learner when the cluster was closed, heard neither of that nor of its new start, and became a learner
/// again: it kept the log of before, and agreed with every entry of the new one below its old commit.
#[test]
fn a_learner_that_missed_an_epoch_begins_anew() {
    let mut cluster = Cluster::new(2, 1, group(2, 1));
    cluster.pass(300);
    for number in 1..=5 {
        cluster.count(1, key(1, number));
    }
    // Without a lease it stays a learner, until its silence is too long.
    cluster.unbeaten.insert((replica(1), replica(2)));
    cluster.want(&[1, 2]);
    cluster.pass(200);
    let before = cluster.summary(2);
    assert_eq!((before.role, before.has_base, cluster.value(2)), (Role::Learner, true, 5));
    let resets = cluster.nodes[&replica(2)].resets;
    let mut config = GroupConfig { epoch: before.epoch, ..(*cluster.config).clone() };
    for (missed, has_base) in [(0, true), (1, false)] {
        config.epoch = Epoch(config.epoch.0 + 1 + missed);
        let news = Input::Config(claim(&Arc::new(config.clone())));
        cluster.input(replica(2), news).unwrap();
        assert_eq!(cluster.summary(2).has_base, has_base, "{missed} missed");
    }
    assert_eq!(cluster.summary(2).held, Seq(0));
    assert_eq!(cluster.nodes[&replica(2)].resets, resets + 1);
}

/// A cluster was to be closed while a group had fewer members in sync than its class wants. A write that nobody had
/// acknowledged could neither be committed nor go, and the close waited for it for ever.
#[test]
fn a_group_below_its_quorum_rests_though_a_write_waits_in_it() {
    let mut cluster = Cluster::new(2, 2, group(2, 2));
    cluster.pass(300);
    cluster.count(1, key(1, 1));
    cluster.kill(2);
    let waiting = cluster.propose(1, Some(key(1, 2)), add(1)).unwrap();
    let rests = |it: &GroupSummary| it.rests_at(it.epoch, None);
    assert_eq!(rests(&cluster.summary(1)), None, "the other one may have it");
    cluster.known_gone.insert(replica(2));
    cluster.pass(5000);
    let alone = cluster.summary(1);
    assert_eq!((alone.in_sync.len(), cluster.reply(1, waiting)), (1, None));
    assert!(alone.last > alone.commit);
    assert_eq!(rests(&alone), Some(alone.commit));
    assert_eq!(alone.rests_at(Epoch(alone.epoch.0 + 1), None), None);
}

#[test]
fn a_learner_that_lacks_bytes_which_nobody_has_gets_another_snapshot() {
    let mut cluster = Cluster::new(2, 1, group(2, 1));
    // Without a promise it stays a learner.
    cluster.unbeaten.insert((replica(1), replica(2)));
    cluster.want(&[1, 2]);
    cluster.pass(200);
    let bytes = payload(1, 1);
    let ready = Input::PayloadReady { group: cluster.group, id: bytes.id };
    cluster.input(replica(1), ready).unwrap();
    cluster.propose_with(1, None, publish(1), Some(bytes)).unwrap();
    cluster.unbeaten.clear();
    cluster.pass(1000);
    assert_eq!((cluster.summary(2).has_base, cluster.summary(2).held), (true, Seq(1)));
    assert_eq!(cluster.config.in_sync.len(), 1, "it holds less than is committed");
    cluster.pass(4000);
    assert_eq!(cluster.config.in_sync.len(), 2);
}

/// A node had lost its link to another and was still heard, for the other's own link was open: appends went along with
/// answers, beats did not. The primary held its backup in the in-sync set, brought it back there after it had owed
/// something, and could not read for as long as one waited.
#[test]
fn a_member_that_is_heard_and_promises_nothing_costs_reads_no_longer_than_a_slow_one() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.want(&[1, 2]);
    cluster.pass(300);
    assert!(cluster.reads(1));
    cluster.unbeaten.insert((replica(1), replica(2)));
    let mut number = 0;
    let mut write_for = |cluster: &mut Cluster, millis: u64| {
        for _ in 0..millis / 50 {
            number += 1;
            cluster.count(1, key(1, number));
            cluster.pass(50);
        }
    };
    write_for(&mut cluster, 1000);
    assert!(!cluster.reads(1) && cluster.config.in_sync.len() == 2, "{:?}", cluster.config);
    write_for(&mut cluster, 3000);
    for _ in 0..100 {
        assert!(cluster.reads(1), "{cluster:?}");
        assert_eq!(cluster.config.in_sync, [replica(1)], "no promise, no promotion");
        write_for(&mut cluster, 50);
    }
    cluster.unbeaten.clear();
    for _ in 0..20 {
        write_for(&mut cluster, 50);
        assert!(cluster.reads(1), "its promise was there before it was needed");
    }
    assert_eq!(cluster.config.in_sync, [replica(1), replica(2)]);
}

/// A learner had a base and lacked an entry that was trimmed meanwhile. The offer of a snapshot got lost, and what the
/// learner said from then on was that it could not take what followed: nobody offered it the snapshot again.
#[test]
fn a_learner_that_has_a_base_is_offered_again_the_snapshot_that_it_missed() {
    let mut cluster = Cluster::new(2, 1, group(2, 1));
    cluster.want(&[1, 2]);
    // Without a promise it stays a learner.
    cluster.unbeaten.insert((replica(1), replica(2)));
    while !cluster.nodes[&replica(2)].host.summary().iter().any(|group| group.has_base) {
        cluster.pass(5);
    }
    assert_eq!(cluster.config.learners, [replica(2)]);
    cluster.cut.insert((replica(1), replica(2)));
    let all = limits::GROUP_LOG_ENTRIES_MAX as u64 / 2 + 10;
    for number in 1..=all {
        cluster.count(1, key(1, number));
    }
    let kept = cluster.nodes[&replica(1)].host.log_entries_for_testing_only(cluster.group, Seq(0));
    assert!(kept[0].seq > cluster.summary(2).held.next(), "what it lacks is gone");
    cluster.offers_nothing = true;
    cluster.cut.clear();
    cluster.pass(300);
    cluster.offers_nothing = false;
    cluster.unbeaten.clear();
    cluster.pass(1500);
    assert_eq!(cluster.config.in_sync, [replica(1), replica(2)]);
    assert_eq!(cluster.value(2), cluster.value(1));
}
