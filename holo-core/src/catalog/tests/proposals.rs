//! Who may change a config, and how.

use super::*;
use crate::Epoch;

/// Three nodes, an array of two copies, and one of its groups.
fn pair() -> (Lab, GroupConfig, ReplicaId) {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    let config = lab.config(0, class(2, 1));
    let other = (1..=3).map(|node| replica(node, 1)).find(|it| !config.names(it.node)).unwrap();
    (lab, config, other)
}

fn backup(config: &GroupConfig) -> ReplicaId {
    config.in_sync.iter().copied().find(|it| *it != config.primary).unwrap()
}

#[test]
fn a_learner_becomes_in_sync_only_by_its_primary() {
    let (mut lab, config, other) = pair();
    let group = config.group;
    let early = lab.propose(config.primary, group, ConfigChange::AddInSync(other));
    assert_eq!(early.refusal, Some(ChangeRefusal::NotLearner));
    let by_backup = lab.propose(backup(&config), group, ConfigChange::AddLearner(other));
    assert_eq!(by_backup.refusal, Some(ChangeRefusal::NotPrimary));
    let added = lab.propose(config.primary, group, ConfigChange::AddLearner(other));
    assert_eq!(added.refusal, None);
    assert_eq!(added.config.unwrap().learners, [other]);
    let by_itself = lab.propose(other, group, ConfigChange::AddInSync(other));
    assert_eq!(by_itself.refusal, Some(ChangeRefusal::NotPrimary));
    let promoted = lab.propose(config.primary, group, ConfigChange::AddInSync(other));
    let promoted = promoted.config.unwrap();
    assert_eq!((promoted.epoch, promoted.in_sync.len()), (Epoch(3), 3));
    assert!(promoted.learners.is_empty());
}

#[test]
fn of_two_proposals_for_one_epoch_the_first_wins_and_the_other_learns_it() {
    let (mut lab, config, _) = pair();
    let (primary, backup) = (config.primary, backup(&config));
    let stale = |by, change| Operation::ProposeChanges {
        reporter: by,
        proposals: vec![Proposal { group: config.group, epoch: config.epoch, by, change }],
    };
    lab.ok(Authority::Node(primary.node), stale(primary, ConfigChange::Remove(backup)));
    let answer = lab.ok(Authority::Node(backup.node), stale(backup, ConfigChange::TakeOver));
    let Answer::Proposals(answers) = answer else { panic!("{answer:?}") };
    assert_eq!(answers[0].refusal, Some(ChangeRefusal::Stale));
    let present = answers[0].config.clone().unwrap();
    assert_eq!((present.primary, present.in_sync), (primary, vec![primary]));
}

#[test]
fn a_backup_takes_over_and_the_silent_primary_leaves() {
    let (mut lab, config, other) = pair();
    let group = config.group;
    let stranger = lab.propose(other, group, ConfigChange::TakeOver);
    assert_eq!(stranger.refusal, Some(ChangeRefusal::NotBackup));
    let itself = lab.propose(config.primary, group, ConfigChange::TakeOver);
    assert_eq!(itself.refusal, Some(ChangeRefusal::NotBackup));
    let heir = backup(&config);
    let taken = lab.propose(heir, group, ConfigChange::TakeOver).config.unwrap();
    assert_eq!((taken.primary, taken.in_sync), (heir, vec![heir]));
    let too_late = lab.propose(config.primary, group, ConfigChange::Remove(heir));
    assert_eq!(too_late.refusal, Some(ChangeRefusal::NotPrimary));
}

#[test]
fn a_learner_never_takes_over() {
    let (mut lab, config, other) = pair();
    lab.propose(config.primary, config.group, ConfigChange::AddLearner(other));
    let answer = lab.propose(other, config.group, ConfigChange::TakeOver);
    assert_eq!(answer.refusal, Some(ChangeRefusal::NotBackup));
}

#[test]
fn a_handover_keeps_both() {
    let (mut lab, config, other) = pair();
    let to_other = lab.propose(config.primary, config.group, ConfigChange::Handover(other));
    assert_eq!(to_other.refusal, Some(ChangeRefusal::NotBackup));
    let heir = backup(&config);
    let handed = lab.propose(config.primary, config.group, ConfigChange::Handover(heir));
    let handed = handed.config.unwrap();
    assert_eq!((handed.primary, handed.in_sync), (heir, config.in_sync));
}

#[test]
fn a_primary_cannot_remove_itself_or_a_stranger() {
    let (mut lab, config, other) = pair();
    let itself = lab.propose(config.primary, config.group, ConfigChange::Remove(config.primary));
    assert_eq!(itself.refusal, Some(ChangeRefusal::NotBackup));
    let stranger = lab.propose(config.primary, config.group, ConfigChange::Remove(other));
    assert_eq!(stranger.refusal, Some(ChangeRefusal::NotMember));
}

#[test]
fn below_min_in_sync_only_the_dead_are_removed() {
    let mut lab = Lab::new(2);
    lab.array("a", 2, 2);
    let config = lab.config(0, class(2, 2));
    let (primary, backup) = (config.primary, backup(&config));
    // Cut off from each other, both reach the catalog: neither may cost the other its place.
    let removal = lab.propose(primary, config.group, ConfigChange::Remove(backup));
    assert_eq!(removal.refusal, None);
    let kept = lab.config(0, class(2, 2));
    assert_eq!(kept, GroupConfig { epoch: Epoch(config.epoch.0 + 1), ..config.clone() });
    let take_over = lab.propose(backup, config.group, ConfigChange::TakeOver);
    assert_eq!(take_over.refusal, Some(ChangeRefusal::TooFewInSync));
    lab.set_up(backup.node.0, false);
    let removal = lab.propose(primary, config.group, ConfigChange::Remove(backup));
    assert_eq!(removal.refusal, None);
    let removed = removal.config.unwrap();
    assert_eq!(removed.in_sync, [primary]);
    // In another group the dead one is the primary.
    let led = lab.state.groups().find(|it| it.primary == backup).unwrap().group;
    let taken = lab.propose(primary, led, ConfigChange::TakeOver).config.unwrap();
    assert_eq!(taken.in_sync, [primary]);
}

#[test]
fn learners_are_living_nodes_that_take_something() {
    let (mut lab, config, other) = pair();
    let group = config.group;
    let add = |lab: &mut Lab, learner| {
        lab.propose(config.primary, group, ConfigChange::AddLearner(learner)).refusal
    };
    let past = ReplicaId { incarnation: Incarnation(7), ..other };
    assert_eq!(add(&mut lab, past), Some(ChangeRefusal::NoSuchReplica));
    assert_eq!(add(&mut lab, replica(99, 1)), Some(ChangeRefusal::NoSuchReplica));
    assert_eq!(add(&mut lab, backup(&config)), Some(ChangeRefusal::AlreadyMember));
    lab.drain(other.node.0);
    assert_eq!(add(&mut lab, other), Some(ChangeRefusal::NodeClosed));
    lab.change(other.node.0, NodeChange::Undrain);
    lab.change(other.node.0, NodeChange::Cordon);
    assert_eq!(add(&mut lab, other), None);
}

#[test]
fn only_the_process_that_lives_speaks_for_its_node() {
    let (mut lab, config, other) = pair();
    let change = ConfigChange::AddLearner(other);
    let proposal =
        Proposal { group: config.group, epoch: config.epoch, by: config.primary, change };
    // In the name of another node.
    let forged = Operation::ProposeChanges { reporter: config.primary, proposals: vec![proposal] };
    assert_eq!(lab.refused(Authority::Node(other.node), forged.clone()).code, ErrorCode::Denied);
    // A reporter that passes on somebody else's wish.
    let passed = Operation::ProposeChanges { reporter: other, proposals: vec![proposal] };
    let answer = lab.ok(Authority::Node(other.node), passed);
    let Answer::Proposals(answers) = answer else { panic!("{answer:?}") };
    assert_eq!(answers[0].refusal, Some(ChangeRefusal::NotYours));
    // A life that is over.
    lab.start(config.primary.node.0);
    let refused = lab.refused(Authority::Node(config.primary.node), forged);
    assert_eq!(refused.code, ErrorCode::Conflict);
}

#[test]
fn a_batch_is_decided_proposal_by_proposal() {
    let (mut lab, config, other) = pair();
    let by = config.primary;
    let add = |epoch| Proposal {
        group: config.group,
        epoch: Epoch(epoch),
        by,
        change: ConfigChange::AddLearner(other),
    };
    let nowhere = GroupId { partition: PartitionId(99), ..config.group };
    let proposals = vec![add(1), add(1), Proposal { group: nowhere, ..add(1) }];
    let answer =
        lab.ok(Authority::Node(by.node), Operation::ProposeChanges { reporter: by, proposals });
    let Answer::Proposals(answers) = answer else { panic!("{answer:?}") };
    let refusals: Vec<_> = answers.iter().map(|it| it.refusal).collect();
    assert_eq!(refusals, [None, Some(ChangeRefusal::Stale), Some(ChangeRefusal::NoSuchGroup)]);
    let too_many = vec![add(1); crate::limits::PROPOSALS_MAX + 1];
    let operation = Operation::ProposeChanges { reporter: by, proposals: too_many };
    assert_eq!(lab.refused(Authority::Node(by.node), operation).code, ErrorCode::TooLarge);
}

#[test]
fn a_restarted_node_is_out_of_every_config_at_once() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    lab.array("b", 3, 2);
    let led = lab.state.groups().filter(|it| it.primary.node == number(2)).count();
    assert!(led > 0);
    let before: Vec<GroupConfig> = lab.state.groups().cloned().collect();
    let new_life = lab.start(2);
    assert_eq!(new_life, replica(2, 2));
    for (old, new) in before.iter().zip(lab.state.groups()) {
        let named = old.names(number(2));
        assert_eq!(new.epoch.0, old.epoch.0 + u64::from(named));
        assert!(!new.names(number(2)) && !new.lost);
        assert!(old.in_sync.contains(&new.primary));
        if old.primary.node != number(2) {
            assert_eq!(new.primary, old.primary);
        }
    }
    assert!(lab.state.groups_of(number(2)).is_empty());
    assert!(lab.settle() > 0);
    assert!(lab.plan().moves.is_empty());
}
