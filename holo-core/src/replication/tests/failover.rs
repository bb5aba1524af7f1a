use super::*;

#[test]
fn a_backup_takes_over_from_a_dead_primary_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::new(3, 3, group(3, 1));
    cluster.pass(300);
    assert_eq!(cluster.count(1, key(1, 1)), 0);
    cluster.kill(1);
    let before = cluster.now;
    while cluster.summary(2).role != Role::Primary && cluster.summary(3).role != Role::Primary {
        cluster.pass(5);
        assert!(cluster.now.since(before) < Duration::from_millis(1000), "{cluster:?}");
    }
    let leader = if cluster.summary(2).role == Role::Primary { 2 } else { 3 };
    cluster.pass(200);
    assert!(cluster.reads(leader));
    assert_eq!(cluster.count(leader, key(1, 1)), 0, "the answer moved with the data");
    assert_eq!(cluster.count(leader, key(1, 2)), 1);
}

#[test]
fn a_new_primary_waits_for_what_it_promised_the_old_one() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let until = cluster.reads_until(1).unwrap();
    cluster.isolate(1);
    let proposal = Proposal {
        group: cluster.group,
        epoch: Epoch(1),
        by: replica(2),
        change: ConfigChange::TakeOver,
    };
    cluster.change(proposal);
    let news = Input::Config(claim(&cluster.config));
    cluster.input(replica(2), news).unwrap();
    assert_eq!(cluster.summary(2).role, Role::PrimaryPending);
    let refused = cluster.propose(2, None, add(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotReady);
    cluster.catalog_is_away = true;
    while cluster.summary(2).role != Role::Primary {
        assert!(!cluster.reads(2));
        cluster.pass(5);
    }
    assert!(cluster.now > until, "the old primary may have read until then");
    assert!(!cluster.reads(1) && cluster.reads(2));
}

/// A new primary that waited for its promise to the old one to pass promoted a learner meanwhile. That one had promised
/// nothing: it took over, and both it and the oldest of the three could read.
#[test]
fn nobody_becomes_a_member_while_an_earlier_primary_may_still_read() {
    let mut cluster = Cluster::new(3, 2, group(3, 1));
    cluster.pass(300);
    cluster.isolate(1);
    cluster.without_catalog.insert(replica(1));
    let (group, epoch, by) = (cluster.group, cluster.config.epoch, replica(2));
    cluster.change(Proposal { group, epoch, by, change: ConfigChange::TakeOver });
    cluster.want(&[2, 3]);
    let before = cluster.now;
    while !cluster.config.in_sync.contains(&replica(3)) {
        cluster.pass(5);
        assert!(cluster.now.since(before) < Duration::from_millis(800), "{cluster:?}");
    }
    assert!(!cluster.reads(1), "{cluster:?}");
    assert!(cluster.now.since(before) > Duration::from_millis(250));
}

#[test]
fn a_handover_gives_the_promises_back_and_nobody_waits() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    cluster.count(1, key(1, 1));
    cluster.want(&[2, 1]);
    let mut waited = 0;
    while cluster.summary(2).role != Role::Primary {
        cluster.pass(5);
        waited += 5;
    }
    assert!(waited <= 60, "{waited} ms");
    assert_eq!(cluster.summary(1).role, Role::Backup);
    cluster.pass(200);
    assert!(cluster.reads(2) && !cluster.reads(1));
    assert_eq!(cluster.count(2, key(1, 2)), 1);
}

#[test]
fn a_primary_that_was_cut_off_drops_its_tail_and_follows() {
    let mut cluster = Cluster::new(3, 3, group(3, 1));
    cluster.pass(300);
    cluster.isolate(1);
    cluster.without_catalog.insert(replica(1));
    let lost = cluster.propose(1, Some(key(1, 1)), add(7)).unwrap();
    cluster.pass(1500);
    assert!(!cluster.reads(1));
    let leader = if cluster.summary(2).role == Role::Primary { 2 } else { 3 };
    assert_eq!(cluster.count(leader, key(2, 1)), 0);
    cluster.cut.clear();
    cluster.pass(500);
    let failure = cluster.reply(1, lost).unwrap().clone().unwrap_err();
    assert_eq!(failure.code, ErrorCode::WrongNode, "with a key it may be tried again elsewhere");
    assert_eq!(cluster.summary(1).role, Role::Empty, "a takeover removes the silent primary");
    assert_eq!(cluster.nodes[&replica(1)].resets, 1);
    assert_eq!(cluster.value(leader), 1);
}

#[test]
fn writes_go_on_without_the_catalog() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    cluster.catalog_is_away = true;
    cluster.pass(5000);
    assert!(cluster.reads(1));
    assert_eq!(cluster.count(1, key(1, 1)), 0);
}

#[test]
fn a_newer_incarnation_ends_the_waiting_for_the_older_but_no_promise() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let until = cluster.reads_until(1).unwrap();
    cluster.kill(1);
    let reborn = ReplicaId { incarnation: Incarnation(2), ..replica(1) };
    cluster.input(replica(2), Input::Living(vec![reborn, replica(2)])).unwrap();
    cluster.pass(10);
    assert_eq!(cluster.summary(2).role, Role::PrimaryPending);
    while cluster.summary(2).role != Role::Primary {
        cluster.pass(5);
    }
    assert!(cluster.now >= until && cluster.now.since(until) < Duration::from_millis(100));
    assert!(cluster.reads(2));
}

#[test]
fn a_pause_of_the_own_process_is_nobodys_silence() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    cluster.now = cluster.now.after(Duration::from_secs(5));
    cluster.pass(300);
    assert_eq!(cluster.config.epoch, Epoch(1), "nobody was removed or replaced");
    assert!(cluster.reads(1));
}

#[test]
fn neither_is_it_when_news_of_the_living_come_before_the_timer() {
    // Right after a pause the catalog's news were judged by the time that nobody had listened: a backup took over, and
    // a primary had its backups removed.
    for paused in [1, 2] {
        let mut cluster = Cluster::new(2, 2, group(2, 1));
        cluster.pass(300);
        cluster.now = cluster.now.after(Duration::from_secs(5));
        cluster.input(replica(paused), Input::Living(vec![replica(1), replica(2)])).unwrap();
        cluster.pass(300);
        assert_eq!(cluster.config.epoch, Epoch(1), "after a pause of node {paused}");
        assert!(cluster.reads(1));
    }
}

#[test]
fn a_primary_that_missed_an_epoch_begins_anew() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let mut config = cluster.config.as_ref().clone();
    config.epoch = Epoch(3);
    cluster.config = Arc::new(config);
    cluster.isolate(2);
    let news = Input::Config(claim(&cluster.config));
    cluster.input(replica(1), news).unwrap();
    assert_eq!(cluster.summary(1).role, Role::PrimaryPending);
    assert!(!cluster.reads(1));
    cluster.cut.clear();
    cluster.pass(300);
    assert_eq!(cluster.summary(1).role, Role::Primary);
    assert!(cluster.reads(1));
}

/// Two members have an entry, the third has not; then the third is removed while the primary misses an epoch, in which
/// the second may have cut the entry off for another primary's.
fn commits_on_old_news(mutant: Mutant) -> bool {
    let mut cluster = Cluster::with_mutant(3, 3, group(3, 1), mutant);
    cluster.pass(300);
    cluster.isolate(3);
    cluster.propose(1, None, add(1)).unwrap();
    assert_eq!(cluster.summary(1).commit, Seq(1));
    cluster.isolate(2);
    let mut config = cluster.config.as_ref().clone();
    config.epoch = Epoch(3);
    config.in_sync.retain(|member| *member != replica(3));
    cluster.input(replica(1), Input::Config(claim(&Arc::new(config)))).unwrap();
    cluster.summary(1).commit > Seq(1)
}

#[test]
fn what_members_held_before_a_missed_epoch_is_asked_again() {
    assert!(!commits_on_old_news(Mutant::None));
    assert!(commits_on_old_news(Mutant::ContinueAcrossMissedEpochs), "the bug would show");
}

/// A primary's network carried what it said and brought it nothing. Its beats kept its backups quiet, and nobody served its
/// groups for as long as that lasted.
#[test]
fn a_primary_that_is_heard_and_hears_nothing_is_replaced() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    cluster.count(1, key(1, 1));
    cluster.deafen(1);
    let before = cluster.now;
    while !cluster.reads(2) {
        cluster.pass(5);
        assert!(!(cluster.reads(1) && cluster.reads(2)), "{cluster:?}");
        assert!(cluster.now.since(before) < Duration::from_millis(1300), "{cluster:?}");
    }
    assert_eq!(cluster.summary(1).role, Role::Primary, "it does not know, and nobody hears it");
    assert_eq!(cluster.count(2, key(1, 2)), 1);
    cluster.pass(5000);
    assert!(cluster.reads(2) && !cluster.reads(1));
    cluster.want(&[2, 1]);
    cluster.cut.clear();
    cluster.without_catalog.clear();
    cluster.pass(8000);
    assert_eq!(cluster.config.in_sync, [replica(1), replica(2)], "it hears again, and follows");
    assert_eq!(cluster.value(1), cluster.value(2));
}

/// A group was handed to a node that had just gone deaf. What it went on to say of other groups kept the old primary quiet.
#[test]
fn a_primary_that_does_not_hear_of_its_appointment_is_replaced() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    cluster.count(1, key(1, 1));
    cluster.deafen(2);
    cluster.want(&[2, 1]);
    cluster.pass(50);
    assert_eq!(cluster.config.primary, replica(2));
    let before = cluster.now;
    while !cluster.reads(1) {
        cluster.pass(50);
        let word = crate::replication::Release { group: cluster.group, up_to: Epoch(0) };
        cluster.wire.push_back((replica(2), replica(1), Message::Release(word)));
        cluster.deliver();
        assert!(cluster.now.since(before) < Duration::from_millis(1300), "{cluster:?}");
    }
    assert_eq!(cluster.summary(2).role, Role::Backup, "it does not know what it was");
    assert_eq!(cluster.count(1, key(1, 2)), 1);
}

#[test]
fn of_several_backups_one_takes_the_place_of_a_primary_that_hears_nothing() {
    let mut cluster = Cluster::new(3, 3, group(3, 2));
    cluster.pass(300);
    cluster.deafen(1);
    cluster.pass(1500);
    let leader = if cluster.summary(2).role == Role::Primary { 2 } else { 3 };
    assert!(cluster.reads(leader) && !cluster.reads(1));
    assert_eq!(cluster.config.in_sync, [replica(2), replica(3)]);
    assert_eq!(cluster.count(leader, key(1, 1)), 0);
}

#[test]
fn a_primary_that_misses_some_answers_and_hears_the_next_stays() {
    let mut cluster = Cluster::new(2, 2, group(2, 2));
    cluster.pass(300);
    for _ in 0..20 {
        cluster.cut.insert((replica(2), replica(1)));
        cluster.pass(350);
        cluster.cut.clear();
        cluster.pass(250);
    }
    assert_eq!((cluster.config.epoch, cluster.config.primary), (Epoch(1), replica(1)));
}

#[test]
fn a_primary_of_an_older_version_that_does_not_say_what_it_hears_is_left_alone() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.echoes_nothing = true;
    cluster.pass(300);
    cluster.deafen(1);
    cluster.pass(5000);
    assert_eq!((cluster.config.epoch, cluster.config.primary), (Epoch(1), replica(1)));
    cluster.kill(1);
    cluster.pass(1500);
    assert!(cluster.reads(2), "its silence counts as ever");
}
