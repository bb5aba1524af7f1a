use super::*;
use crate::limits;

#[test]
fn a_group_of_one_serves_at_once_and_for_ever() {
    let mut cluster = Cluster::new(1, 1, group(1, 1));
    assert_eq!(cluster.summary(1).role, Role::Primary);
    assert_eq!(cluster.reads_until(1), Some(Instant::MAX));
    assert_eq!(cluster.count(1, key(1, 1)), 0);
    assert_eq!(cluster.count(1, key(1, 2)), 1);
    cluster.pass(1000);
    assert_eq!(cluster.sent, 0, "it has nobody to talk to");
}

#[test]
fn a_write_is_answered_once_every_replica_in_sync_has_it() {
    let mut cluster = Cluster::new(3, 3, group(3, 2));
    cluster.pass(300);
    assert!(cluster.reads(1));
    cluster.isolate(3);
    let ticket = cluster.propose(1, None, add(5)).unwrap();
    assert_eq!(cluster.reply(1, ticket), None);
    assert_eq!((cluster.value(1), cluster.value(2)), (0, 0), "nobody sees it");
    cluster.cut.clear();
    cluster.pass(200);
    assert!(cluster.reply(1, ticket).unwrap().is_ok());
    cluster.pass(300);
    assert_eq!([1, 2, 3].map(|n| cluster.value(n)), [5, 5, 5], "beats tell a quiet group");
}

#[test]
fn a_request_that_is_asked_again_is_answered_and_not_executed() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    assert_eq!(cluster.count(1, key(1, 1)), 0);
    assert_eq!(cluster.count(1, key(1, 1)), 0);
    assert_eq!(cluster.value(1), 1);
    // Asked again while it is under way: both hear.
    cluster.isolate(2);
    let first = cluster.propose(1, Some(key(1, 2)), add(1)).unwrap();
    let second = cluster.propose(1, Some(key(1, 2)), add(1)).unwrap();
    cluster.cut.clear();
    cluster.pass(200);
    assert_eq!(cluster.reply(1, first), cluster.reply(1, second));
    assert_eq!(cluster.value(1), 2);
    assert_eq!(cluster.count(1, key(1, 70)), 2);
    let beyond = cluster.propose(1, Some(RequestKey { number: 2, ..key(1, 2) }), add(1));
    assert_eq!(beyond.unwrap_err().code, ErrorCode::OutcomeUnknown);
    cluster.input(replica(1), Input::ExpireSessions { below: SessionId(2) }).unwrap();
    let expired = cluster.propose(1, Some(key(1, 71)), add(1)).unwrap_err();
    assert_eq!(expired.code, ErrorCode::OutcomeUnknown);
    assert_eq!(cluster.value(1), 3);
}

#[test]
fn only_the_primary_takes_operations_and_says_who_it_is() {
    let mut cluster = Cluster::new(3, 2, group(2, 1));
    cluster.pass(100);
    let refused = cluster.propose(2, None, add(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongNode);
    assert!(refused.message.contains("1.1"), "{refused}");
    assert_eq!(cluster.propose(3, None, add(1)).unwrap_err().code, ErrorCode::WrongNode);
    let wrong = cluster.propose(1, None, publish(1)).unwrap_err();
    assert_eq!(wrong.code, ErrorCode::Malformed, "a publication without bytes");
}

#[test]
fn a_replica_acknowledges_what_it_has_whole_and_fetches_what_it_lacks() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    let bytes = payload(1, 9);
    let early = cluster.propose_with(1, None, publish(9), Some(bytes)).unwrap_err();
    assert_eq!(early.code, ErrorCode::NotReady, "not staged here");
    let ready = Input::PayloadReady { group: cluster.group, id: bytes.id };
    cluster.input(replica(1), ready.clone()).unwrap();
    let ticket = cluster.propose_with(1, None, publish(9), Some(bytes)).unwrap();
    assert_eq!(cluster.reply(1, ticket), None);
    assert_eq!(cluster.nodes[&replica(2)].fetches, [(replica(1), bytes)]);
    assert_eq!(cluster.summary(2).held, Seq(1));
    cluster.input(replica(2), ready).unwrap();
    assert!(cluster.reply(1, ticket).unwrap().is_ok());
    cluster.pass(300);
    for node in [1, 2] {
        assert_eq!(cluster.nodes[&replica(node)].published, [bytes.id]);
        assert_eq!(cluster.nodes[&replica(node)].released, [], "others may still ask for it");
    }
}

#[test]
fn staged_bytes_that_nobody_names_are_given_up() {
    let mut cluster = Cluster::new(1, 1, group(1, 1));
    let ready = Input::PayloadReady { group: cluster.group, id: payload(1, 1).id };
    cluster.input(replica(1), ready).unwrap();
    cluster.pass(29_000);
    assert_eq!(cluster.nodes[&replica(1)].released, []);
    cluster.pass(2_000);
    assert_eq!(cluster.nodes[&replica(1)].released, [payload(1, 1).id]);
}

#[test]
fn a_second_try_with_its_own_bytes_gives_them_back() {
    let mut cluster = Cluster::new(1, 1, group(1, 1));
    let stage = |cluster: &mut Cluster, number| {
        let ready = Input::PayloadReady { group: cluster.group, id: payload(1, number).id };
        cluster.input(replica(1), ready).unwrap();
        let bytes = Some(payload(1, number));
        cluster.propose_with(1, Some(key(1, 1)), publish(number), bytes).unwrap()
    };
    let first = stage(&mut cluster, 1);
    let second = stage(&mut cluster, 2);
    assert_eq!(cluster.reply(1, first), cluster.reply(1, second));
    assert_eq!(cluster.nodes[&replica(1)].published, [payload(1, 1).id]);
    assert_eq!(cluster.nodes[&replica(1)].released, [payload(1, 2).id]);
}

#[test]
fn a_second_try_with_the_same_bytes_waits_for_the_first() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    cluster.isolate(2);
    let ready = Input::PayloadReady { group: cluster.group, id: payload(1, 1).id };
    cluster.input(replica(1), ready.clone()).unwrap();
    let bytes = Some(payload(1, 1));
    let first = cluster.propose_with(1, Some(key(1, 1)), publish(1), bytes).unwrap();
    let second = cluster.propose_with(1, Some(key(1, 1)), publish(1), bytes).unwrap();
    cluster.cut.clear();
    cluster.pass(200);
    cluster.input(replica(2), ready).unwrap();
    cluster.pass(200);
    assert_eq!(cluster.reply(1, first), Some(&Ok(Bytes::new())));
    assert_eq!(cluster.reply(1, second), Some(&Ok(Bytes::new())));
    assert_eq!(cluster.nodes[&replica(1)].published, [payload(1, 1).id]);
}

#[test]
fn writes_stop_below_min_in_sync_and_reads_go_on() {
    let mut cluster = Cluster::new(2, 2, group(2, 2));
    cluster.pass(300);
    assert_eq!(cluster.count(1, key(1, 1)), 0);
    cluster.kill(1);
    cluster.pass(1500);
    assert_eq!(cluster.summary(2).role, Role::Primary);
    assert!(cluster.reads(2));
    assert_eq!(cluster.value(2), 1);
    let refused = cluster.propose(2, Some(key(1, 1)), add(1)).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoQuorum, "an answer promises two copies");
    assert!(refused.retry_after_ms.is_some());
}

#[test]
fn the_log_is_bounded_and_refuses_when_members_do_not_answer() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(300);
    cluster.catalog_is_away = true;
    cluster.isolate(2);
    let mut taken = 0;
    let refused = loop {
        match cluster.propose(1, None, add(1)) {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.code, ErrorCode::Overloaded);
    assert!((1..=limits::GROUP_LOG_ENTRIES_MAX).contains(&taken));
    cluster.cut.clear();
    cluster.pass(500);
    assert_eq!(cluster.nodes[&replica(1)].replies.len(), taken);
    assert!(cluster.propose(1, None, add(1)).is_ok());
}

#[test]
fn an_idle_pair_says_nothing_but_beats() {
    let mut cluster = Cluster::new(2, 2, group(2, 1));
    cluster.pass(500);
    cluster.count(1, key(1, 1));
    cluster.pass(1000);
    let before = cluster.sent;
    cluster.pass(10_000);
    let beats = cluster.sent - before;
    assert!((190..=202).contains(&beats), "{beats} messages in 10 s");
}
