//! Stopping the whole cluster, and starting it again.

use super::*;
use crate::group::Seq;
use crate::placement::ClusterView;
use crate::wire::ArrayRef;

pub(super) const LAST: Seq = Seq(40);

pub(super) fn voter() -> Authority {
    Authority::Node(number(1))
}

/// Three nodes, an array in all 16 partitions with so many copies.
fn lab(replicas: u32) -> (Lab, ArrayDescriptor) {
    let mut lab = Lab::new(3);
    let array = lab.array("data", replicas, 1);
    (lab, array)
}

pub(super) fn begin(lab: &mut Lab) -> CloseId {
    lab.ok(admin(), Operation::BeginClose);
    lab.state.close().unwrap().id
}

pub(super) fn held(lab: &Lab, group: GroupId, seq: Seq) -> Held {
    let epoch = lab.state.group(group).unwrap().epoch;
    Held { group, epoch, seq, bytes: 100, at: epoch }
}

pub(super) fn groups(lab: &Lab) -> Vec<GroupId> {
    lab.state.close().unwrap().holds.keys().copied().collect()
}

pub(super) fn hold(
    reporter: ReplicaId,
    close: CloseId,
    holds: Vec<Held>,
) -> (Authority, Operation) {
    (Authority::Node(reporter.node), Operation::Hold { close, reporter, holds })
}

/// Every in-sync replica holds every group, primaries first.
pub(super) fn hold_all(lab: &mut Lab, close: CloseId) {
    for group in groups(lab) {
        let config = lab.state.group(group).unwrap().clone();
        let backups = config.in_sync.iter().copied().filter(|it| *it != config.primary);
        for reporter in std::iter::once(config.primary).chain(backups) {
            let (by, operation) = hold(reporter, close, vec![held(lab, group, LAST)]);
            lab.ok(by, operation);
        }
    }
}

pub(super) fn closed(replicas: u32) -> (Lab, ArrayDescriptor, CloseId) {
    let (mut lab, array) = lab(replicas);
    let close = begin(&mut lab);
    hold_all(&mut lab, close);
    lab.ok(voter(), Operation::FinishClose(close));
    (lab, array, close)
}

/// What a node has on disk by the record.
pub(super) fn on_disk(lab: &Lab, node: u32) -> Vec<Held> {
    let holds = &lab.state.close().unwrap().holds;
    let ours = holds.iter().filter(|(_, hold)| hold.is_held_by(number(node)));
    let at = |group: &GroupId| lab.state.group(*group).unwrap().epoch;
    ours.map(|(group, hold)| Held {
        group: *group,
        epoch: hold.epoch,
        seq: hold.seq,
        bytes: 100,
        at: at(group),
    })
    .collect()
}

pub(super) fn reopen(
    reporter: ReplicaId,
    close: CloseId,
    holds: Vec<Held>,
) -> (Authority, Operation) {
    (Authority::Node(reporter.node), Operation::Reopen { close, reporter, holds })
}

pub(super) fn settle_all(lab: &mut Lab, close: CloseId) {
    let groups = groups(lab);
    lab.ok(voter(), Operation::Settle { close, groups });
}

#[test]
fn a_cluster_that_was_closed_comes_back_on_those_who_held_it() {
    let (mut lab, array, close) = closed(2);
    assert!(lab.state.groups().all(|config| config.lost));
    assert!(lab.state.nodes().all(|node| !node.up));
    assert!(lab.state.is_closed_for(replica(2, 1)) && !lab.state.is_closed_for(replica(2, 2)));
    assert_eq!(lab.state.sessions_expired_below(), lab.state.next_session());
    let lives: Vec<ReplicaId> = (1..=3).map(|node| lab.start(node)).collect();
    assert!(lives.iter().all(|life| !lab.state.is_closed_for(*life)));
    for life in &lives {
        let holds = on_disk(&lab, life.node.0);
        assert!(!holds.is_empty());
        let (by, operation) = reopen(*life, close, holds);
        lab.ok(by, operation);
    }
    for group in groups(&lab) {
        let config = lab.state.group(group).unwrap();
        // Written in epoch 1, closed with 2, offered back with 3: once, by the first who did.
        assert_eq!((config.epoch.0, config.lost, config.in_sync.len()), (3, false, 1));
        assert_eq!(config.primary.incarnation.0, 2);
        assert!(lab.state.close().unwrap().holds[&group].is_held_by(config.primary.node));
    }
    assert!(lab.state.close().is_some(), "nobody has settled it yet");
    settle_all(&mut lab, close);
    assert!(lab.state.close().is_none());
    assert!(lab.state.groups().all(|config| !config.lost));
    assert!(lab.state.array(TenantId(1), &ArrayRef { name: "data".into(), id: 0 }).is_ok());
    lab.array("more", 2, 1);
    drop(array);
}

#[test]
fn a_close_begins_only_where_nothing_stands_in_its_way() {
    let (mut lab, _) = lab(2);
    let stranger = Authority::Principal(public(77));
    assert_eq!(lab.refused(stranger, Operation::BeginClose).code, ErrorCode::Unauthenticated);
    lab.ok(admin(), Operation::PutPrincipal(principal(5, 1, &[(Verb::Allocate, "*")])));
    let plain = Authority::Principal(public(5));
    assert_eq!(lab.refused(plain, Operation::BeginClose).code, ErrorCode::Denied);
    assert_eq!(lab.refused(voter(), Operation::BeginClose).code, ErrorCode::Denied);
    lab.drain(3);
    let refused = lab.refused(admin(), Operation::BeginClose);
    assert!(refused.message.contains("n103"), "{refused}");
    lab.change(3, NodeChange::Undrain);
    lab.set_up(2, false);
    assert_eq!(lab.refused(admin(), Operation::BeginClose).code, ErrorCode::NotReady);
    lab.set_up(2, true);
    begin(&mut lab);
}

/// It was said to be a matter of a moment, and asked for again and again.
#[test]
fn what_only_a_silent_node_has_stands_in_the_way_of_a_close_and_a_takeover_does_not() {
    let (mut lab, _) = lab(1);
    assert_eq!(lab.state.close_refusal(), None);
    lab.set_up(2, false);
    let refused = lab.refused(admin(), Operation::BeginClose);
    assert_eq!(refused.code, ErrorCode::LastCopy, "{refused}");
    assert!(refused.message.contains("n102 does not answer and has the last copy"), "{refused}");
    assert_eq!(lab.state.close_refusal(), Some(refused));
    lab.set_up(3, false);
    let refused = lab.state.close_refusal().unwrap();
    assert!(refused.message.starts_with("n102, n103 do not answer and have the"), "{refused}");
    lab.set_up(2, true);
    lab.set_up(3, true);
    begin(&mut lab);
    assert_eq!(lab.state.close_refusal(), None, "it is under way");

    let (mut lab, _) = self::lab(2);
    lab.set_up(2, false);
    assert_eq!(lab.state.close_refusal(), None, "another copy takes over");
}

#[test]
fn lost_data_stands_in_the_way_of_a_close() {
    let (mut lab, _) = lab(1);
    lab.start(2);
    assert!(!lab.state.lost_groups().is_empty());
    assert_eq!(lab.refused(admin(), Operation::BeginClose).code, ErrorCode::Conflict);
}

#[test]
fn while_a_cluster_closes_nothing_moves() {
    let (mut lab, array) = lab(2);
    let plan = plan_with(&lab.state, UnixMillis(lab.now), &[1, 2, 3]).unwrap();
    drop(plan);
    let close = begin(&mut lab);
    // Again is done already.
    lab.ok(admin(), Operation::BeginClose);
    assert_eq!(lab.state.close().unwrap().id, close);
    let remove = Operation::RemoveArray { tenant: TenantId(1), array: array.id };
    assert_eq!(lab.refused(admin(), remove).code, ErrorCode::ShuttingDown);
    let new = lab.state.prepare_array(public(1), &Lab::request("b", 2, 1), &SECRET, 99).unwrap();
    let refused = lab.refused(admin(), Operation::CreateArray(new));
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    let drain = NodeChange::Drain { deadline: None };
    let refused = lab.refused(admin(), Operation::SetNodeState { node: number(3), change: drain });
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    let version = lab.state.table_version();
    let table = lab.state.target(2).unwrap().clone();
    let mut holders = table.all_holders().to_vec();
    holders.swap(0, 1);
    let tables = [(2, TargetTable::new(2, holders).unwrap())].into();
    let update =
        TableUpdate { base_version: version, version: crate::TableVersion(version.0 + 1), tables };
    let refused = lab.refused(voter(), Operation::ApplyTable(update));
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    let config = lab.config(3, class(2, 1));
    let other = (1..=3).find(|node| !config.names(number(*node))).unwrap();
    let backup = config.in_sync.iter().find(|it| **it != config.primary).copied().unwrap();
    for change in [ConfigChange::AddLearner(replica(other, 1)), ConfigChange::Handover(backup)] {
        let answer = lab.propose(config.primary, config.group, change);
        assert_eq!(answer.refusal, Some(ChangeRefusal::Closing));
    }
    lab.ok(admin(), Operation::AbortClose);
    lab.ok(admin(), Operation::AbortClose);
    assert!(lab.state.close().is_none());
    lab.array("b", 2, 1);
}

#[test]
fn a_hold_counts_only_from_a_replica_in_sync_at_its_epoch_and_after_the_same_operation() {
    let (mut lab, _) = lab(2);
    let close = begin(&mut lab);
    let config = lab.config(3, class(2, 1));
    let group = config.group;
    let backup = config.in_sync.iter().find(|it| **it != config.primary).copied().unwrap();
    let outsider = (1..=3).map(|n| replica(n, 1)).find(|it| !config.names(it.node)).unwrap();
    let good = held(&lab, group, LAST);
    let try_it = |lab: &mut Lab, reporter, close, held| {
        let (by, operation) = hold(reporter, close, vec![held]);
        lab.refused(by, operation)
    };
    // The backup cannot know which operation is the last.
    assert!(try_it(&mut lab, backup, close, good).message.contains("primary"));
    assert_eq!(try_it(&mut lab, config.primary, CloseId(99), good).code, ErrorCode::Conflict);
    let other_epoch = Held { epoch: crate::Epoch(9), ..good };
    assert_eq!(try_it(&mut lab, config.primary, close, other_epoch).code, ErrorCode::Conflict);
    assert_eq!(try_it(&mut lab, outsider, close, good).code, ErrorCode::Conflict);
    let nowhere = GroupId { partition: PartitionId(3), class: class(3, 1) };
    let elsewhere = Held { group: nowhere, ..good };
    assert_eq!(try_it(&mut lab, config.primary, close, elsewhere).code, ErrorCode::Conflict);
    let past = replica(config.primary.node.0, 7);
    assert_eq!(try_it(&mut lab, past, close, good).code, ErrorCode::Conflict);
    let (_, in_its_name) = hold(config.primary, close, vec![good]);
    let refused = lab.refused(Authority::Node(outsider.node), in_its_name);
    assert_eq!(refused.code, ErrorCode::Denied);

    let (by, operation) = hold(config.primary, close, vec![good]);
    lab.ok(by, operation.clone());
    lab.ok(by, operation);
    assert_eq!(lab.state.close().unwrap().holds[&group].bytes, 100, "once");
    let shorter = Held { seq: Seq(39), ..good };
    assert!(try_it(&mut lab, backup, close, shorter).message.contains("39"));
    assert!(!lab.state.close().unwrap().holds[&group].is_whole(&config));
    let (by, operation) = hold(backup, close, vec![good]);
    lab.ok(by, operation);
    assert!(lab.state.close().unwrap().holds[&group].is_whole(&config));
    // One that is wrong spoils the batch.
    let next = lab.config(4, class(2, 1));
    let right = held(&lab, next.group, LAST);
    let wrong = Held { epoch: crate::Epoch(9), ..held(&lab, config.group, LAST) };
    let (by, operation) = hold(next.primary, close, vec![right, wrong]);
    lab.refused(by, operation);
}

#[test]
fn a_config_that_changes_in_between_voids_what_was_held() {
    let (mut lab, _) = lab(2);
    let close = begin(&mut lab);
    hold_all(&mut lab, close);
    // A node dies and comes back: its groups go on without it, in the next epoch.
    lab.start(3);
    let refused = lab.refused(voter(), Operation::FinishClose(close));
    assert_eq!(refused.code, ErrorCode::Conflict);
    let record = lab.state.close().unwrap().clone();
    for (group, hold) in &record.holds {
        let config = lab.state.group(*group).unwrap();
        assert_eq!(hold.epoch.0 == 0, config.epoch.0 == 2, "{group}");
    }
    hold_all(&mut lab, close);
    lab.ok(voter(), Operation::FinishClose(close));
    lab.ok(voter(), Operation::FinishClose(close));
    // What the node had written before it died is not taken.
    let three = lab.start(3);
    let group = *record.holds.iter().find(|(_, hold)| hold.epoch.0 == 0).unwrap().0;
    let old = Held { group, epoch: crate::Epoch(1), seq: LAST, bytes: 1, at: crate::Epoch(3) };
    let (by, operation) = reopen(three, close, vec![old]);
    assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict);
}

#[test]
fn a_close_is_not_finished_before_everybody_holds_everything() {
    let (mut lab, _) = lab(2);
    let close = begin(&mut lab);
    assert_eq!(lab.refused(voter(), Operation::FinishClose(close)).code, ErrorCode::Conflict);
    assert_eq!(lab.refused(admin(), Operation::FinishClose(close)).code, ErrorCode::Denied);
    hold_all(&mut lab, close);
    let refused = lab.refused(voter(), Operation::FinishClose(CloseId(close.0 + 1)));
    assert_eq!(refused.code, ErrorCode::Conflict);
    lab.ok(voter(), Operation::FinishClose(close));
    assert_eq!(lab.refused(admin(), Operation::AbortClose).code, ErrorCode::Conflict);
    assert_eq!(lab.refused(admin(), Operation::BeginClose).code, ErrorCode::Conflict);
    // A late beat of a process that is about to end does not make it one that is there.
    let late = Liveness { replica: replica(2, 1), up: true };
    lab.ok(voter(), Operation::SetUp(vec![late]));
    assert!(!lab.state.node(number(2)).unwrap().up);
    let again = Operation::Register(registration(2, 2));
    lab.ok(Authority::Node(number(2)), again);
    assert!(lab.state.is_closed_for(replica(2, 1)), "its registration came twice");
}

#[test]
fn only_the_record_says_what_may_be_offered_back() {
    let (mut lab, _, close) = closed(2);
    let before = replica(1, 1);
    let (by, operation) = reopen(before, close, on_disk(&lab, 1));
    assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict);
    let one = lab.start(1);
    let good = on_disk(&lab, 1);
    for wrong in [
        Held { epoch: crate::Epoch(2), ..good[0] },
        Held { seq: Seq(41), ..good[0] },
        // Somebody else's.
        *on_disk(&lab, 2).iter().find(|held| !good.contains(held)).unwrap(),
    ] {
        let (by, operation) = reopen(one, close, vec![wrong]);
        assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict);
    }
    let (by, operation) = reopen(one, CloseId(close.0 - 1), good.clone());
    assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict);
    let (_, operation) = reopen(one, close, good.clone());
    assert_eq!(lab.refused(Authority::Node(number(2)), operation).code, ErrorCode::Denied);
    let groups = groups(&lab);
    let early = Operation::Settle { close, groups: groups.clone() };
    assert_eq!(lab.refused(voter(), early.clone()).code, ErrorCode::Conflict);
    assert_eq!(lab.refused(admin(), early).code, ErrorCode::Denied);
    // What has changed since somebody looked is not taken over.
    let earlier = good.iter().map(|held| Held { at: crate::Epoch(1), ..*held }).collect();
    let (by, operation) = reopen(one, close, earlier);
    lab.ok(by, operation);
    assert!(good.iter().all(|held| lab.state.awaited(held.group).is_some()));
    let (by, operation) = reopen(one, close, good.clone());
    lab.ok(by, operation);
    // Two of three suffice for two copies.
    let three = lab.start(3);
    let (by, operation) = reopen(three, close, on_disk(&lab, 3));
    lab.ok(by, operation);
    assert!(groups.iter().all(|group| lab.state.awaited(*group).is_none()));
    settle_all(&mut lab, close);
    // The second node's process was cut off all the while. Its time is over all the same.
    assert!(lab.state.close().is_none() && lab.state.is_closed_for(replica(2, 1)));
    let config = lab.state.group(groups[0]).unwrap().clone();
    let add = ConfigChange::AddLearner(replica(2, 1));
    let answer = lab.propose(config.primary, config.group, add);
    assert_eq!(answer.refusal, Some(ChangeRefusal::NoSuchReplica), "what it holds is of before");
    let (by, operation) = reopen(one, close, good);
    assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict, "too late");
}

#[test]
fn a_group_whose_holder_dies_before_it_is_settled_waits_again() {
    let (mut lab, _, close) = closed(2);
    let one = lab.start(1);
    let ours = on_disk(&lab, 1);
    let (by, operation) = reopen(one, close, ours.clone());
    lab.ok(by, operation);
    assert!(ours.iter().all(|held| lab.state.awaited(held.group).is_none()));
    // Nobody wrote to it: what was written down is its data still.
    let again = lab.start(1);
    assert!(ours.iter().all(|held| lab.state.awaited(held.group).is_some()));
    let two = lab.start(2);
    for life in [two, again] {
        let (by, operation) = reopen(life, close, on_disk(&lab, life.node.0));
        lab.ok(by, operation);
    }
    for held in &ours {
        let config = lab.state.group(held.group).unwrap();
        assert_eq!((config.epoch.0, config.lost), (5, false));
    }
}

#[test]
fn what_was_settled_is_lost_with_its_last_copy_like_anything_else() {
    let (mut lab, _, close) = closed(1);
    let one = lab.start(1);
    let ours = on_disk(&lab, 1);
    let (by, operation) = reopen(one, close, ours.clone());
    lab.ok(by, operation);
    let groups = ours.iter().map(|held| held.group).collect();
    lab.ok(voter(), Operation::Settle { close, groups });
    let again = lab.start(1);
    let (group, lost) = (ours[0].group, lab.state.lost_groups().clone());
    assert!(lost.contains(&group) && lab.state.awaited(group).is_none());
    // It is not served from the file, which knows nothing of what was written since.
    let (by, operation) = reopen(again, close, ours);
    lab.ok(by, operation);
    assert!(lab.state.group(group).unwrap().lost);
}

#[test]
fn what_nobody_brings_back_is_given_up_only_when_somebody_says_so() {
    let (mut lab, _, close) = closed(1);
    for node in [1, 2] {
        let life = lab.start(node);
        let (by, operation) = reopen(life, close, on_disk(&lab, node));
        lab.ok(by, operation);
    }
    let waits: Vec<GroupId> =
        groups(&lab).into_iter().filter(|group| lab.state.awaited(*group).is_some()).collect();
    assert!(!waits.is_empty());
    // Users are told whom it waits for, and never zeros.
    let view = lab.state.view().unwrap();
    let array = lab.state.arrays().next().unwrap();
    let shard = (0..100).map(crate::ShardIndex).find(|shard| {
        waits.iter().any(|group| group.partition == view.partition_of(array, *shard))
    });
    let refused = view.primary_of(array, shard.unwrap()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotReady);
    assert!(refused.message.contains("n103"), "{refused}");
    let over_the_wire = ClusterView::from_body(&view.to_body()).unwrap();
    assert_eq!(over_the_wire.primary_of(array, shard.unwrap()).unwrap_err(), refused);
    let back = groups(&lab).into_iter().filter(|group| !waits.contains(group)).collect();
    lab.ok(voter(), Operation::Settle { close, groups: back });
    assert!(lab.state.close().is_some());
    let evict = |accept_loss| Operation::SetNodeState {
        node: number(3),
        change: NodeChange::Evict { accept_loss },
    };
    assert_eq!(lab.refused(admin(), evict(false)).code, ErrorCode::LastCopy);
    let leave = Operation::SetNodeState { node: number(3), change: NodeChange::Leave };
    assert_eq!(lab.refused(admin(), leave).code, ErrorCode::LastCopy);
    let mut other = lab.clone();
    lab.ok(admin(), evict(true));
    other.ok(admin(), Operation::AcceptLoss(waits.clone()));
    for lab in [&lab, &other] {
        assert!(lab.state.close().is_none());
        assert!(waits.iter().all(|group| !lab.state.group(*group).unwrap().lost));
    }
    let three = other.start(3);
    let held =
        Held { group: waits[0], epoch: crate::Epoch(1), seq: LAST, bytes: 1, at: crate::Epoch(3) };
    let (by, operation) = reopen(three, close, vec![held]);
    assert_eq!(other.refused(by, operation).code, ErrorCode::Conflict);
}

#[test]
fn groups_without_data_do_not_wait_and_need_not_be_held() {
    let mut lab = Lab::new(2);
    lab.tokens += 1;
    let one_shard = Allocate { shape: vec![5], ..Lab::request("tiny", 1, 1) };
    let new = lab.state.prepare_array(public(1), &one_shard, &SECRET, lab.tokens).unwrap();
    lab.ok(admin(), Operation::CreateArray(new));
    let close = begin(&mut lab);
    assert_eq!(groups(&lab).len(), 1);
    hold_all(&mut lab, close);
    lab.ok(voter(), Operation::FinishClose(close));
    lab.start(1);
    lab.start(2);
    assert_eq!(lab.state.lost_groups().iter().copied().collect::<Vec<_>>(), groups(&lab));
}

#[test]
fn a_cluster_without_arrays_is_closed_at_once_and_open_with_its_first_node() {
    let mut lab = Lab::new(2);
    let close = begin(&mut lab);
    lab.ok(voter(), Operation::FinishClose(close));
    assert!(lab.state.is_closed_for(replica(1, 1)));
    lab.start(2);
    assert!(lab.state.close().is_none());
}

#[test]
fn numbers_of_closes_never_come_again_and_an_aborted_one_is_of_no_use() {
    let (mut lab, _) = lab(2);
    let first = begin(&mut lab);
    hold_all(&mut lab, first);
    lab.ok(voter(), Operation::AbortClose);
    let second = begin(&mut lab);
    assert!(second > first);
    let config = lab.config(3, class(2, 1));
    let (by, operation) = hold(config.primary, first, vec![held(&lab, config.group, LAST)]);
    assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict);
    assert!(lab.state.close().unwrap().holds.values().all(|hold| hold.holders.is_empty()));
}

#[test]
fn a_copy_of_the_catalog_follows_a_close_step_by_step_and_as_a_whole() {
    let (mut lab, _) = lab(2);
    let mut follower = CatalogState::decode(&lab.state.encode()).unwrap();
    let mut follow = |lab: &Lab| {
        let changes = lab.state.changes_since(follower.version()).unwrap();
        follower.merge(Changes::decode(&changes.encode()).unwrap()).unwrap();
        assert_eq!(follower, lab.state);
        assert_eq!(CatalogState::decode(&lab.state.encode()).unwrap(), lab.state);
    };
    begin(&mut lab);
    follow(&lab);
    lab.ok(admin(), Operation::AbortClose);
    // Two steps in one: another close.
    let close = begin(&mut lab);
    follow(&lab);
    hold_all(&mut lab, close);
    follow(&lab);
    lab.ok(voter(), Operation::FinishClose(close));
    follow(&lab);
    for node in 1..=3 {
        let life = lab.start(node);
        let (by, operation) = reopen(life, close, on_disk(&lab, node));
        lab.ok(by, operation);
        follow(&lab);
    }
    settle_all(&mut lab, close);
    follow(&lab);
    assert!(lab.state.close().is_none());
}

#[test]
fn a_state_of_the_version_before_is_one_of_an_open_cluster() {
    use prost::Message;
    let (lab, _) = lab(2);
    let bytes = lab.state.encode();
    let body = crate::wire::catalog::ChangesBody::decode(bytes.as_slice()).unwrap();
    // An open cluster's state has nothing that the version before did not know.
    assert!(body.close.is_none() && body.holds.is_empty() && body.gone_holds.is_empty());
    assert!(CatalogState::decode(&bytes).unwrap().close().is_none());
}

#[test]
fn a_record_that_contradicts_itself_is_not_read() {
    use prost::Message;
    let (lab, _, _) = closed(2);
    let whole = crate::wire::catalog::ChangesBody::decode(lab.state.encode().as_slice()).unwrap();
    let spoil: [fn(&mut crate::wire::catalog::ChangesBody); 5] = [
        |body| body.holds[0].epoch = 2,
        |body| body.holds[0].epoch = 0,
        |body| body.holds[0].holders.reverse(),
        |body| body.holds[0].holders = vec![77 << 32],
        |body| body.holds[0].group = None,
    ];
    for (index, spoil) in spoil.iter().enumerate() {
        let mut body = whole.clone();
        spoil(&mut body);
        let refused = CatalogState::decode(&body.encode_to_vec()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed, "{index}");
    }
}
