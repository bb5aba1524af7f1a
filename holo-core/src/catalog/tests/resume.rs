//! A node that stopped in order and starts again.

use std::time::Duration;

use prost::Message;

use super::closing::{
    LAST, begin, closed, groups, held, hold, hold_all, on_disk, reopen, settle_all, voter,
};
use super::*;
use crate::wire::catalog::{ChangesBody, CommandBody, OperationBody};
use crate::{Epoch, limits};

/// So many nodes, and an array in all 16 partitions with so many copies.
fn lab(nodes: u8, copies: u32) -> Lab {
    let mut lab = Lab::new(nodes);
    lab.array("data", copies, 1);
    lab
}

/// Two nodes, and an array of one copy in a single group; with who holds it, and its group.
fn lab_with_one_shard() -> (Lab, u32, GroupId) {
    let mut lab = Lab::new(2);
    lab.tokens += 1;
    let one_shard = Allocate { shape: vec![5], ..Lab::request("tiny", 1, 1) };
    let new = lab.state.prepare_array(public(1), &one_shard, &SECRET, lab.tokens).unwrap();
    lab.ok(admin(), Operation::CreateArray(new));
    let has_data =
        |config: &&GroupConfig| !lab.state.arrays_in(&[config.group].into(), 1).is_empty();
    let config = lab.state.groups().find(has_data).unwrap();
    let (node, group) = (config.primary.node.0, config.group);
    (lab, node, group)
}

fn whole(past: PastReplica) -> Resumption {
    Resumption { past, is_whole: true }
}

fn report(me: ReplicaId, found: Vec<Resumption>) -> (Authority, Operation) {
    (Authority::Node(me.node), Operation::Resume { reporter: me, found })
}

fn configs(lab: &Lab) -> Vec<GroupConfig> {
    lab.state.groups().cloned().collect()
}

fn held_by(lab: &Lab, replica: ReplicaId) -> Vec<GroupConfig> {
    lab.state.groups().filter(|config| config.in_sync.contains(&replica)).cloned().collect()
}

fn alone(group: GroupId, epoch: u64, primary: ReplicaId) -> GroupConfig {
    let (in_sync, learners) = (vec![primary], Vec::new());
    GroupConfig { group, epoch: Epoch(epoch), primary, in_sync, learners, lost: false }
}

/// A report that is taken and changes nothing.
#[track_caller]
fn ignored(lab: &mut Lab, me: ReplicaId, found: Vec<Resumption>) {
    let before = configs(lab);
    let (by, operation) = report(me, found);
    assert_eq!(lab.ok(by, operation), Answer::Done);
    assert_eq!(configs(lab), before);
}

fn evict(node: u32, accept_loss: bool) -> Operation {
    Operation::SetNodeState { node: number(node), change: NodeChange::Evict { accept_loss } }
}

#[test]
fn who_left_something_stays_in_sync_and_learns_no_more() {
    let mut lab = lab(3, 2);
    let old = replica(2, 1);
    let outside = lab.state.groups().find(|config| !config.names(number(2))).unwrap().clone();
    lab.propose(outside.primary, outside.group, ConfigChange::AddLearner(old));
    let held = held_by(&lab, old);
    assert!(!held.is_empty());
    let me = lab.restart(2);
    assert_eq!(me, replica(2, 2));
    assert_eq!(held_by(&lab, old), held, "as they were");
    let config = lab.state.group(outside.group).unwrap();
    assert_eq!(*config, GroupConfig { epoch: Epoch(3), ..outside });
    let past = lab.state.to_resume(me).unwrap();
    let named = held.iter().map(|config| PastReplica {
        group: config.group,
        life: old.incarnation,
        at: config.epoch,
    });
    assert_eq!(past, named.collect::<Vec<_>>());
    // The next life, too, finds what the first one left, and nothing of the second.
    let again = lab.restart(2);
    assert_eq!(lab.state.to_resume(again).unwrap(), past);
    assert_eq!(lab.state.to_resume(me), None);
}

#[test]
fn who_left_nothing_is_out_at_once_in_all_its_lives() {
    let mut lab = lab(3, 2);
    lab.restart(2);
    assert!(!held_by(&lab, replica(2, 1)).is_empty());
    let me = lab.start(2);
    assert!(lab.state.groups().all(|config| !config.names(number(2)) && !config.lost));
    assert_eq!(lab.state.to_resume(me), Some(Vec::new()));
}

#[test]
fn a_registration_that_comes_twice_retires_nobody_twice() {
    let mut lab = lab(2, 1);
    let me = lab.restart(2);
    let past = lab.state.to_resume(me).unwrap();
    let again = Registration { keeps: false, ..registration(2, lab.boots) };
    let answer = lab.ok(Authority::Node(number(2)), Operation::Register(again));
    assert_eq!(answer, Answer::Registered { incarnation: me.incarnation });
    assert_eq!(lab.state.to_resume(me), Some(past));
}

#[test]
fn the_only_holder_goes_on_alone() {
    let mut lab = lab(2, 1);
    let held = held_by(&lab, replica(2, 1));
    let (learned, other) = (held[0].group, replica(1, 1));
    lab.propose(replica(2, 1), learned, ConfigChange::AddLearner(other));
    let me = lab.restart(2);
    let past = lab.state.to_resume(me).unwrap();
    assert_eq!(past.len(), held.len());
    lab.resume_all(me, true);
    for PastReplica { group, at, .. } in &past {
        let config = lab.state.group(*group).unwrap();
        assert_eq!(*config, alone(*group, at.0 + 1, me), "others begin as learners");
    }
    assert_eq!(lab.state.to_resume(me), Some(Vec::new()));
    // Said again, it is of an epoch that has passed.
    ignored(&mut lab, me, past.into_iter().map(whole).collect());
    let answer = lab.propose(me, learned, ConfigChange::AddLearner(other));
    assert_eq!(answer.refusal, None);
}

#[test]
fn what_is_said_twice_in_one_report_counts_once() {
    for first_is_whole in [true, false] {
        let mut lab = lab(2, 1);
        let me = lab.restart(2);
        let past = lab.state.to_resume(me).unwrap()[0];
        let found = [first_is_whole, !first_is_whole];
        let found = found.map(|is_whole| Resumption { past, is_whole }).to_vec();
        let (by, operation) = report(me, found);
        lab.ok(by, operation);
        assert_eq!(*lab.state.group(past.group).unwrap(), alone(past.group, 2, me));
    }
}

#[test]
fn while_another_replica_answers_it_is_the_one_who_goes_on() {
    let mut lab = lab(3, 2);
    let me = lab.restart(2);
    let past = lab.state.to_resume(me).unwrap();
    let everything: Vec<Resumption> = past.iter().copied().map(whole).collect();
    assert!(past.iter().all(|past| lab.state.is_carried_by_others(past.group, me)));
    ignored(&mut lab, me, everything.clone());
    lab.set_up(1, false);
    let (ours, theirs): (Vec<PastReplica>, Vec<PastReplica>) =
        past.into_iter().partition(|past| !lab.state.is_carried_by_others(past.group, me));
    assert!(!ours.is_empty() && !theirs.is_empty());
    let (by, operation) = report(me, everything);
    lab.ok(by, operation);
    for past in ours {
        assert_eq!(*lab.state.group(past.group).unwrap(), alone(past.group, 2, me));
    }
    for past in theirs {
        let config = lab.state.group(past.group).unwrap();
        assert_eq!(config.epoch, Epoch(1));
        assert!(config.names(number(3)));
    }
}

#[test]
fn what_does_not_fit_the_config_is_ignored() {
    let mut lab = lab(2, 1);
    lab.start(1);
    let lost = *lab.state.lost_groups().first().unwrap();
    let me = lab.restart(2);
    let past = lab.state.to_resume(me).unwrap()[0];
    let of_others = lab.state.groups().find(|config| !config.names(number(2))).unwrap().group;
    let nowhere = GroupId { partition: PartitionId(3), class: class(3, 1) };
    for wrong in [
        PastReplica { at: Epoch(past.at.0 - 1), ..past },
        PastReplica { at: Epoch(past.at.0 + 1), ..past },
        PastReplica { life: Incarnation(0), ..past },
        PastReplica { life: me.incarnation, ..past },
        PastReplica { group: of_others, at: Epoch(2), ..past },
        PastReplica { group: lost, at: Epoch(2), ..past },
        PastReplica { group: nowhere, ..past },
    ] {
        for is_whole in [true, false] {
            ignored(&mut lab, me, vec![Resumption { past: wrong, is_whole }]);
        }
    }
    // One that fits is taken, whatever stands beside it.
    let wrong = PastReplica { group: nowhere, ..past };
    let (by, operation) = report(me, vec![whole(wrong), whole(past)]);
    lab.ok(by, operation);
    assert_eq!(*lab.state.group(past.group).unwrap(), alone(past.group, 2, me));
}

#[test]
fn a_node_speaks_for_itself_and_for_its_present_life_only() {
    let mut lab = lab(2, 1);
    let me = lab.restart(2);
    let past = lab.state.to_resume(me).unwrap()[0];
    let (_, operation) = report(me, vec![whole(past)]);
    for by in [Authority::Node(number(1)), admin()] {
        assert_eq!(lab.refused(by, operation.clone()).code, ErrorCode::Denied);
    }
    for wrong in [replica(2, 1), replica(2, 3), replica(2, 0)] {
        let (by, operation) = report(wrong, vec![whole(past)]);
        assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict, "{wrong}");
    }
    let (by, operation) = report(me, vec![whole(past); limits::PROPOSALS_MAX + 1]);
    assert_eq!(lab.refused(by, operation).code, ErrorCode::TooLarge);
    let (by, operation) = report(me, vec![whole(past); limits::PROPOSALS_MAX]);
    lab.ok(by, operation);
}

#[test]
fn nobody_knows_what_a_life_that_is_not_the_present_one_has_to_do() {
    let mut lab = lab(2, 1);
    let me = lab.restart(2);
    assert!(!lab.state.to_resume(me).unwrap().is_empty());
    for other in [replica(2, 1), replica(2, 3), replica(9, 1)] {
        assert_eq!(lab.state.to_resume(other), None, "{other}");
    }
    assert_eq!(lab.state.to_resume(replica(1, 1)), Some(Vec::new()));
    lab.ok(admin(), evict(2, true));
    assert_eq!(lab.state.to_resume(me), None);
}

#[test]
fn what_is_gone_leaves_the_group_to_the_others() {
    let mut lab = lab(3, 2);
    let old = replica(2, 1);
    let held = held_by(&lab, old);
    assert!(held.iter().any(|config| config.primary == old));
    let me = lab.restart(2);
    lab.resume_all(me, false);
    for before in held {
        let config = lab.state.group(before.group).unwrap();
        let other = before.in_sync.iter().copied().find(|member| *member != old).unwrap();
        assert_eq!(*config, alone(before.group, 2, other));
    }
    assert_eq!(lab.state.to_resume(me), Some(Vec::new()));
}

#[test]
fn what_is_gone_and_nobody_else_has_is_lost() {
    let (mut lab, node, group) = lab_with_one_shard();
    let held = held_by(&lab, replica(node, 1));
    let me = lab.restart(node);
    lab.resume_all(me, false);
    for before in held {
        let config = lab.state.group(before.group).unwrap();
        if before.group == group {
            assert_eq!(*config, GroupConfig { epoch: Epoch(2), lost: true, ..before });
        } else {
            // Without data it starts anew, here or elsewhere.
            assert_eq!(*config, alone(before.group, 2, config.primary));
            assert!(lab.state.is_up(config.primary));
        }
    }
    assert_eq!(lab.state.to_resume(me), Some(Vec::new()));
    lab.ok(admin(), Operation::AcceptLoss(vec![group]));
    assert_eq!(lab.state.group(group).unwrap().epoch, Epoch(3));
}

#[test]
fn of_two_that_held_a_group_the_first_one_back_goes_on_with_it() {
    let mut lab = lab(2, 2);
    let one = lab.restart(1);
    let two = lab.restart(2);
    let past = lab.state.to_resume(two).unwrap();
    assert_eq!(past.len(), 16);
    lab.resume_all(one, true);
    ignored(&mut lab, two, past.iter().copied().map(whole).collect());
    // What it finds at present is that it has no part in it any more.
    assert_eq!(lab.state.to_resume(two), Some(Vec::new()));
    for past in past {
        assert_eq!(*lab.state.group(past.group).unwrap(), alone(past.group, 2, one));
        let answer = lab.propose(one, past.group, ConfigChange::AddLearner(two));
        assert_eq!(answer.refusal, None);
    }
}

#[test]
fn of_two_that_held_a_group_the_one_that_still_has_it_goes_on() {
    let mut lab = lab(2, 2);
    let one = lab.restart(1);
    let two = lab.restart(2);
    lab.resume_all(one, false);
    assert!(lab.state.groups().all(|config| *config == alone(config.group, 2, replica(2, 1))));
    lab.resume_all(two, true);
    assert!(lab.state.groups().all(|config| *config == alone(config.group, 3, two)));
}

#[test]
fn the_replica_that_stayed_puts_the_past_life_out_however_few_are_left() {
    let mut lab = Lab::new(2);
    lab.array("pair", 2, 2);
    let group = GroupId { partition: PartitionId(3), class: class(2, 2) };
    let config = lab.state.group(group).unwrap().clone();
    let backup = *config.in_sync.iter().find(|member| **member != config.primary).unwrap();
    for (stays, goes, change) in [
        (config.primary, backup, ConfigChange::Remove(backup)),
        (backup, config.primary, ConfigChange::TakeOver),
    ] {
        let mut lab = lab.clone();
        let me = lab.restart(goes.node.0);
        // In its new life it may learn only after the old one has left.
        if stays == config.primary {
            let answer = lab.propose(stays, group, ConfigChange::AddLearner(me));
            assert_eq!(answer.refusal, Some(ChangeRefusal::AlreadyMember));
            let answer = lab.propose(stays, group, ConfigChange::Handover(goes));
            assert_eq!(answer.refusal, Some(ChangeRefusal::NoSuchReplica));
        }
        assert_eq!(lab.propose(stays, group, change).refusal, None);
        assert_eq!(*lab.state.group(group).unwrap(), alone(group, 2, stays));
        assert_eq!(lab.propose(stays, group, ConfigChange::AddLearner(me)).refusal, None);
    }
}

#[test]
fn who_may_have_left_the_last_copy_is_not_put_out_unless_somebody_says_so() {
    let (mut lab, node, group) = lab_with_one_shard();
    lab.restart(node);
    let refused = lab.refused(admin(), evict(node, false));
    assert_eq!(refused.code, ErrorCode::LastCopy);
    assert!(refused.message.contains("tiny"), "{refused}");
    let leave = Operation::SetNodeState { node: number(node), change: NodeChange::Leave };
    assert_eq!(lab.refused(admin(), leave).code, ErrorCode::Conflict);
    // The only voter cannot go; the other one can.
    if node != 1 {
        lab.ok(admin(), evict(node, true));
        let config = lab.state.group(group).unwrap();
        assert_eq!(*config, alone(group, 2, replica(1, 1)));
    }
}

#[test]
fn with_a_node_that_is_put_out_goes_what_it_left() {
    let mut lab = lab(2, 1);
    let held = held_by(&lab, replica(2, 1));
    lab.restart(2);
    lab.ok(admin(), evict(2, true));
    for before in held {
        assert_eq!(*lab.state.group(before.group).unwrap(), alone(before.group, 2, replica(1, 1)));
    }
    // Nor does a copy that lies on a disk keep another one from being the last.
    let mut lab = self::lab(2, 2);
    lab.restart(1);
    assert_eq!(lab.refused(admin(), evict(2, false)).code, ErrorCode::LastCopy);
}

#[test]
fn a_node_that_drains_goes_on_first_and_is_emptied_then() {
    let mut lab = lab(2, 1);
    lab.drain(2);
    let me = lab.restart(2);
    let left = lab.state.drain_progress(number(2)).groups_left;
    assert!(left > 0);
    lab.replan(&[]);
    assert_eq!(lab.state.drain_progress(number(2)).groups_left, left, "nobody is there to copy it");
    let finish = Operation::FinishDrain { node: number(2) };
    assert_eq!(lab.refused(voter(), finish.clone()).code, ErrorCode::Conflict);
    lab.resume_all(me, true);
    lab.settle();
    assert_eq!(lab.state.drain_progress(number(2)).groups_left, 0);
    lab.ok(voter(), finish);
    assert!(lab.state.lost_groups().is_empty());
}

#[test]
fn a_close_waits_for_those_who_come_back() {
    let mut lab = lab(3, 1);
    let me = lab.restart(3);
    let refused = lab.refused(admin(), Operation::BeginClose);
    assert_eq!(refused.code, ErrorCode::NotReady, "nobody leads what it left");
    lab.resume_all(me, true);
    begin(&mut lab);
}

#[test]
fn who_comes_back_during_a_close_holds_anew_what_it_goes_on_with() {
    let mut lab = lab(3, 1);
    let close = begin(&mut lab);
    hold_all(&mut lab, close);
    let me = lab.restart(3);
    let past = lab.state.to_resume(me).unwrap();
    assert_eq!(lab.state.close_stage(me), CloseStage::Write(close, Vec::new()));
    lab.resume_all(me, true);
    for past in &past {
        assert_eq!(lab.state.close().unwrap().holds[&past.group], GroupHold::default());
    }
    assert_eq!(lab.refused(voter(), Operation::FinishClose(close)).code, ErrorCode::Conflict);
    let to_hold = past.iter().map(|past| ToHold { group: past.group, epoch: Epoch(2), last: None });
    let stage = CloseStage::Write(close, to_hold.collect());
    assert_eq!(lab.state.close_stage(me), stage);
    let holds = past.iter().map(|past| held(&lab, past.group, LAST)).collect();
    let (by, operation) = hold(me, close, holds);
    lab.ok(by, operation);
    lab.ok(voter(), Operation::FinishClose(close));
    let (by, operation) = report(me, vec![whole(PastReplica { at: Epoch(3), ..past[0] })]);
    assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict, "its time is over");
    let life = lab.restart(3);
    assert_eq!(lab.state.to_resume(life), Some(Vec::new()), "what a close holds is offered back");
    let (by, operation) = reopen(life, close, on_disk(&lab, 3));
    lab.ok(by, operation);
    assert!(past.iter().all(|past| lab.state.awaited(past.group).is_none()));
}

#[test]
fn a_close_is_given_up_when_what_was_held_is_gone() {
    let mut lab = lab(3, 1);
    let close = begin(&mut lab);
    hold_all(&mut lab, close);
    let me = lab.restart(3);
    let past = lab.state.to_resume(me).unwrap();
    lab.resume_all(me, false);
    let step = lab.state.close_step(Some(replica(1, 1)), Duration::ZERO);
    assert_eq!(step, CloseStep::Abort(past[0].group));
}

#[test]
fn a_process_that_a_close_has_ended_goes_on_with_nothing() {
    let (mut lab, _, _) = closed(1);
    let group = groups(&lab)[0];
    let past = PastReplica { group, life: Incarnation(1), at: Epoch(2) };
    for node in 1..=3 {
        let (by, operation) = report(replica(node, 1), vec![whole(past)]);
        assert_eq!(lab.refused(by, operation).code, ErrorCode::Conflict);
    }
}

/// All of a closed cluster has come back, and nothing of it is settled; then the third node starts again.
fn reopened() -> (Lab, CloseId, ReplicaId, Vec<PastReplica>) {
    let (mut lab, _, close) = closed(1);
    for node in 1..=3 {
        let life = lab.start(node);
        let (by, operation) = reopen(life, close, on_disk(&lab, node));
        lab.ok(by, operation);
    }
    let me = lab.restart(3);
    let past = lab.state.to_resume(me).unwrap();
    assert!(!past.is_empty() && past.iter().all(|past| past.life == Incarnation(2)));
    (lab, close, me, past)
}

#[test]
fn who_restarts_while_the_cluster_comes_back_goes_on_with_what_it_brought() {
    let (mut lab, close, me, past) = reopened();
    assert!(past.iter().all(|past| lab.state.awaited(past.group).is_none()));
    lab.resume_all(me, true);
    for past in &past {
        assert_eq!(*lab.state.group(past.group).unwrap(), alone(past.group, 4, me));
    }
    let step = lab.state.close_step(Some(replica(1, 2)), Duration::ZERO);
    assert_eq!(step, CloseStep::Settle(close, groups(&lab)));
    settle_all(&mut lab, close);
    assert!(lab.state.close().is_none());
}

#[test]
fn what_a_life_did_not_leave_is_offered_back_from_the_close_once_more() {
    let (mut lab, close, me, past) = reopened();
    lab.resume_all(me, false);
    assert!(past.iter().all(|past| lab.state.awaited(past.group).is_some()));
    let (by, operation) = reopen(me, close, on_disk(&lab, 3));
    lab.ok(by, operation);
    for past in &past {
        assert_eq!(*lab.state.group(past.group).unwrap(), alone(past.group, 5, me));
    }
}

/// Settled, a group is forgotten by the close, and its files go. The past life of its only replica counted as the copy that
/// it waits for: when it turned out to have left nothing, the data was lost that the close had on disk.
#[test]
fn a_group_that_only_a_past_life_holds_is_not_settled() {
    let (mut lab, close, me, past) = reopened();
    let pasts: Vec<GroupId> = past.iter().map(|past| past.group).collect();
    let others: Vec<GroupId> =
        groups(&lab).into_iter().filter(|group| !pasts.contains(group)).collect();
    for waited in [Duration::ZERO, Duration::from_secs(3600)] {
        let step = lab.state.close_step(Some(replica(1, 2)), waited);
        assert_eq!(step, CloseStep::Settle(close, others.clone()));
    }
    let early = Operation::Settle { close, groups: pasts };
    assert_eq!(lab.refused(voter(), early.clone()).code, ErrorCode::Conflict);
    lab.resume_all(me, true);
    lab.ok(voter(), early);
}

#[test]
fn a_state_with_past_lives_is_written_read_and_followed() {
    let mut lab = lab(3, 2);
    let mut follower = CatalogState::decode(&lab.state.encode()).unwrap();
    let mut follow = |lab: &Lab| {
        let changes = lab.state.changes_since(follower.version()).unwrap();
        follower.merge(Changes::decode(&changes.encode()).unwrap()).unwrap();
        follower.check().unwrap();
        assert_eq!(follower, lab.state);
        assert_eq!(CatalogState::decode(&lab.state.encode()).unwrap(), lab.state);
        assert!(lab.state.view().is_ok());
    };
    let lives: Vec<ReplicaId> = (1..=3).map(|node| lab.restart(node)).collect();
    follow(&lab);
    lab.resume_all(lives[0], true);
    follow(&lab);
    lab.resume_all(lives[1], false);
    follow(&lab);
    lab.resume_all(lives[2], true);
    follow(&lab);
    assert!(lab.state.groups().all(|config| lives.contains(&config.primary)));
}

#[test]
fn a_state_in_which_the_past_learns_or_the_future_holds_is_not_read() {
    let mut lab = lab(2, 1);
    lab.restart(2);
    let body = ChangesBody::decode(lab.state.encode().as_slice()).unwrap();
    let of_the_past = body.groups.iter().position(|config| config.primary >> 32 == 2).unwrap();
    let spoil: [fn(&mut crate::wire::catalog::ConfigBody); 3] = [
        |config| config.learners = vec![(1 << 32) | 2],
        |config| config.in_sync[0] += 2,
        |config| config.learners = vec![1 << 32],
    ];
    for (index, spoil) in spoil.iter().enumerate() {
        let mut body = body.clone();
        let config = &mut body.groups[of_the_past];
        spoil(config);
        config.primary = config.in_sync[0];
        let refused = CatalogState::decode(&body.encode_to_vec()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Malformed, "{index}");
    }
}

#[test]
fn a_report_and_a_start_with_something_left_cross_the_wire_whole() {
    let past = |partition| PastReplica {
        group: GroupId { partition: PartitionId(partition), class: class(3, 2) },
        life: Incarnation(partition + 4),
        at: Epoch(77),
    };
    let gone = Resumption { past: past(2), is_whole: false };
    let (by, operation) = report(replica(3, 9), vec![whole(past(1)), gone]);
    let start = Registration { keeps: true, ..registration(3, 1) };
    for operation in [operation.clone(), Operation::Register(start)] {
        let command = Command { at: UnixMillis(5), by, operation };
        assert_eq!(Command::decode(&command.encode()).unwrap(), command);
    }
    let bytes = Command { at: UnixMillis(5), by, operation }.encode();
    let mut body = CommandBody::decode(bytes.as_slice()).unwrap();
    let Some(OperationBody::Resume(resume)) = &mut body.operation else { panic!("{body:?}") };
    resume.found[1].group = None;
    let refused = Command::decode(&body.encode_to_vec()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Malformed);
}
