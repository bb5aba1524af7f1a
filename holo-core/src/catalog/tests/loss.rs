//! The last copy.

use super::*;

fn alone() -> (Lab, ArrayDescriptor) {
    let mut lab = Lab::new(2);
    let array = lab.array("only", 1, 1);
    (lab, array)
}

#[test]
fn a_restart_loses_what_had_one_copy_and_says_so() {
    let (mut lab, _) = alone();
    let held = lab.state.groups_of(number(2)).clone();
    assert!(!held.is_empty());
    let old = replica(2, 1);
    lab.start(2);
    assert_eq!(*lab.state.lost_groups(), held);
    for group in &held {
        let config = lab.state.group(*group).unwrap();
        // It names the last holder, and nobody changes it.
        assert_eq!((config.epoch.0, config.primary, config.lost), (2, old, true));
        let answer = lab.propose(replica(1, 1), *group, ConfigChange::TakeOver);
        assert_eq!(answer.refusal, Some(ChangeRefusal::Lost));
        assert_eq!(lab.state.next_change(*group), None);
    }
    // The holder's next lives change nothing about it.
    lab.start(2);
    assert_eq!(*lab.state.lost_groups(), held);
}

#[test]
fn groups_without_data_start_anew_instead() {
    let mut lab = Lab::new(2);
    lab.tokens += 1;
    let one_shard = Allocate { shape: vec![5], ..Lab::request("tiny", 1, 1) };
    let new = lab.state.prepare_array(public(1), &one_shard, &SECRET, lab.tokens).unwrap();
    lab.ok(admin(), Operation::CreateArray(new));
    let everything: std::collections::BTreeSet<GroupId> =
        lab.state.groups().map(|config| config.group).collect();
    let occupied: Vec<GroupId> = everything
        .iter()
        .copied()
        .filter(|group| !lab.state.arrays_in(&[*group].into(), 1).is_empty())
        .collect();
    assert_eq!(occupied.len(), 1);
    let holder = lab.state.group(occupied[0]).unwrap().primary.node;
    let held = lab.state.groups_of(holder).len();
    lab.start(holder.0);
    assert_eq!(lab.state.lost_groups().iter().copied().collect::<Vec<_>>(), occupied);
    // The others are held by the same node's new life.
    assert_eq!(lab.state.groups_of(holder).len(), held - 1);
}

#[test]
fn an_accepted_loss_starts_the_group_on_one_replica_in_the_next_epoch() {
    let (mut lab, _) = alone();
    lab.start(2);
    let lost: Vec<GroupId> = lab.state.lost_groups().iter().copied().collect();
    let refused = lab.refused(Authority::Node(number(1)), Operation::AcceptLoss(lost.clone()));
    assert_eq!(refused.code, ErrorCode::Denied);
    lab.ok(admin(), Operation::AcceptLoss(lost.clone()));
    for group in &lost {
        let config = lab.state.group(*group).unwrap();
        assert_eq!((config.epoch.0, config.lost), (3, false));
        assert_eq!(config.in_sync, [config.primary]);
        assert_eq!(config.primary, replica(2, 2));
    }
    // Again changes nothing.
    lab.ok(admin(), Operation::AcceptLoss(lost.clone()));
    assert_eq!(lab.state.group(lost[0]).unwrap().epoch.0, 3);
    let nowhere = GroupId { partition: PartitionId(99), class: class(1, 1) };
    let refused = lab.refused(admin(), Operation::AcceptLoss(vec![nowhere]));
    assert_eq!(refused.code, ErrorCode::NotFound);
}

#[test]
fn with_the_last_array_its_lost_groups_start_anew() {
    let (mut lab, array) = alone();
    let other = lab.array("second", 1, 1);
    lab.start(2);
    let lost = lab.state.lost_groups().len();
    let remove =
        |array: &ArrayDescriptor| Operation::RemoveArray { tenant: TenantId(1), array: array.id };
    lab.ok(admin(), remove(&array));
    assert_eq!(lab.state.lost_groups().len(), lost);
    lab.ok(admin(), remove(&other));
    assert!(lab.state.lost_groups().is_empty());
    assert!(lab.state.groups().all(|config| !config.lost));
}

#[test]
fn the_last_copy_is_not_put_out_unless_somebody_says_so() {
    let (mut lab, _) = alone();
    let evict = |accept_loss| Operation::SetNodeState {
        node: number(2),
        change: NodeChange::Evict { accept_loss },
    };
    let refused = lab.refused(admin(), evict(false));
    assert_eq!(refused.code, ErrorCode::LastCopy);
    assert!(refused.message.contains("only"), "{refused}");
    let help = |refused: &Failure| refused.help.clone().unwrap();
    assert!(help(&refused).starts_with("drain it instead: `holo drain n102`"), "{refused}");
    // A drain would wait for the very node that is dead.
    lab.set_up(2, false);
    let refused = lab.refused(admin(), evict(false));
    assert!(help(&refused).starts_with("start n102 again"), "{refused}");
    lab.set_up(2, true);
    lab.ok(admin(), evict(true));
    assert!(lab.state.lost_groups().is_empty());
    assert!(lab.state.groups().all(|config| config.primary.node == number(1)));
}

#[test]
fn a_copy_on_a_node_that_does_not_answer_counts_for_nothing() {
    let mut lab = Lab::new(3);
    lab.array("pair", 2, 1);
    let shared = |lab: &Lab| {
        let both = |config: &&GroupConfig| config.names(number(2)) && config.names(number(3));
        lab.state.groups().filter(both).count()
    };
    assert!(shared(&lab) > 0);
    lab.set_up(3, false);
    let evict = |node, accept_loss| Operation::SetNodeState {
        node: number(node),
        change: NodeChange::Evict { accept_loss },
    };
    let refused = lab.refused(admin(), evict(2, false));
    assert_eq!(refused.code, ErrorCode::LastCopy);
    // The dead one may go: its copies are elsewhere.
    lab.ok(admin(), evict(3, false));
    assert!(lab.state.groups().all(|config| !config.names(number(3)) && !config.lost));
    let refused = lab.refused(admin(), evict(2, false));
    assert_eq!(refused.code, ErrorCode::LastCopy);
    lab.replan(&[]);
    lab.settle();
    lab.ok(admin(), evict(2, false));
}

#[test]
fn an_array_of_very_many_shards_counts_as_everywhere() {
    let mut lab = Lab::new(2);
    lab.tokens += 1;
    let many = Allocate { shape: vec![5000], shard_elems: 1, ..Lab::request("many", 1, 1) };
    let new = lab.state.prepare_array(public(1), &many, &SECRET, lab.tokens).unwrap();
    lab.ok(admin(), Operation::CreateArray(new));
    let group = GroupId { partition: PartitionId(3), class: class(1, 1) };
    assert_eq!(lab.state.arrays_in(&[group].into(), 1).len(), 1);
    lab.start(2);
    assert!(!lab.state.lost_groups().is_empty());
}
