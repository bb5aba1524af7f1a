//! Emptying nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[test]
fn a_drained_node_holds_nothing_and_every_array_has_its_copies() {
    let mut lab = Lab::new(4);
    lab.array("a", 2, 1);
    lab.array("b", 3, 2);
    lab.drain(2);
    lab.replan(&[]);
    let progress = lab.state.drain_progress(number(2));
    assert!(progress.groups_left > 0 && progress.primaries_left > 0);
    let early = Operation::FinishDrain { node: number(2) };
    let refused = lab.refused(Authority::Node(number(1)), early.clone());
    assert_eq!(refused.code, ErrorCode::Conflict);
    lab.settle();
    let progress = lab.state.drain_progress(number(2));
    assert_eq!(progress, DrainProgress { groups_left: 0, primaries_left: 0 });
    assert_eq!(lab.refused(Authority::Node(number(3)), early.clone()).code, ErrorCode::Denied);
    lab.ok(Authority::Node(number(1)), early.clone());
    lab.ok(Authority::Node(number(1)), early);
    assert_eq!(lab.state.node(number(2)).unwrap().state, NodeState::Drained);
    for config in lab.state.groups() {
        assert_eq!(config.in_sync.len(), usize::from(config.group.class.replicas));
    }
    // And back.
    lab.change(2, NodeChange::Undrain);
    lab.replan(&[]);
    lab.settle();
    assert!(lab.state.drain_progress(number(2)).groups_left > 0);
}

#[test]
fn no_copy_is_given_up_before_its_replacement_is_in_sync() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    lab.drain(3);
    lab.replan(&[]);
    let groups: Vec<GroupId> = lab.state.groups_of(number(3)).iter().copied().collect();
    for group in groups {
        while let Some(change) = {
            let config = lab.state.group(group).unwrap();
            let caught_up = config.learners.first().copied().map(ConfigChange::AddInSync);
            lab.state.next_change(group).or(caught_up)
        } {
            let primary = lab.state.group(group).unwrap().primary;
            lab.propose(primary, group, change);
            assert!(lab.state.group(group).unwrap().in_sync.len() >= 2);
        }
        assert!(!lab.state.group(group).unwrap().names(number(3)));
    }
}

#[test]
fn the_last_node_is_not_drained() {
    let mut lab = Lab::new(1);
    let drain = |node| Operation::SetNodeState {
        node: number(node),
        change: NodeChange::Drain { deadline: None },
    };
    assert_eq!(lab.refused(admin(), drain(1)).code, ErrorCode::DrainRefused);
    let mut lab = Lab::new(2);
    lab.drain(2);
    let refused = lab.refused(admin(), drain(1));
    assert_eq!(refused.code, ErrorCode::DrainRefused);
    assert!(refused.help.is_some());
}

/// It said to add a node while drained ones stood idle, and of the only voter to drain it, which was refused as well.
#[test]
fn where_nodes_were_drained_taking_one_back_is_named_before_adding_one() {
    let mut lab = Lab::new(3);
    lab.array("strict", 2, 2);
    let drain = |node| Operation::SetNodeState {
        node: number(node),
        change: NodeChange::Drain { deadline: None },
    };
    assert_eq!(lab.state.back_into_service(), None);
    lab.drain(2);
    lab.replan(&[]);
    lab.settle();
    assert_eq!(lab.state.back_into_service(), None, "it is being drained on purpose");
    lab.ok(Authority::Node(number(1)), Operation::FinishDrain { node: number(2) });
    let help = lab.refused(admin(), drain(3)).help.unwrap();
    assert!(help.starts_with("`holo undrain n102` takes a node back"), "{help}");
    assert!(help.ends_with("or add a node first"), "{help}");
    assert_eq!(lab.state.too_few_in_service(), None);
    lab.array("wide", 3, 1);
    let said = lab.state.too_few_in_service().unwrap();
    assert!(said.starts_with("arrays of 3 copies have fewer: 2 nodes are in service"), "{said}");
    assert!(said.contains("`holo undrain n102`"), "{said}");
    // One that does not answer takes nothing.
    lab.set_up(2, false);
    assert_eq!(lab.refused(admin(), drain(3)).help.unwrap(), "add a node first");
    assert!(lab.state.too_few_in_service().unwrap().ends_with("; add nodes"));
    // That others are silent says it all.
    lab.set_up(1, false);
    assert_eq!(lab.state.too_few_in_service(), None);

    let mut lab = Lab::new(2);
    let voters = Operation::SetVoters(vec![number(1)]);
    lab.ok(Authority::Node(number(1)), voters);
    let evict = NodeChange::Evict { accept_loss: true };
    let evict = Operation::SetNodeState { node: number(1), change: evict };
    let help = lab.refused(admin(), evict.clone()).help.unwrap();
    assert!(help.starts_with("`holo drain n101` gives its vote"), "{help}");
    lab.drain(2);
    lab.replan(&[]);
    lab.settle();
    lab.ok(Authority::Node(number(1)), Operation::FinishDrain { node: number(2) });
    let help = lab.refused(admin(), evict).help.unwrap();
    assert!(help.starts_with("`holo undrain n102` takes a node back"), "{help}");
    assert!(help.contains("then `holo drain n101` gives its vote"), "{help}");
}

#[test]
fn a_drain_that_would_stop_writes_is_refused_and_names_the_arrays() {
    let mut lab = Lab::new(2);
    lab.array("strict", 2, 2);
    lab.array("loose", 2, 1);
    let change = NodeChange::Drain { deadline: None };
    let refused = lab.refused(admin(), Operation::SetNodeState { node: number(2), change });
    assert_eq!(refused.code, ErrorCode::DrainRefused);
    assert!(refused.message.contains("strict") && !refused.message.contains("loose"), "{refused}");
    let plan = lab.state.drain_plan(number(2), UnixMillis(lab.now), None).unwrap();
    assert_eq!(plan.refusals, [refused]);
}

#[test]
fn a_drain_plan_says_what_moves_and_what_does_not_fit() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    let now = UnixMillis(lab.now);
    let plan = lab.state.drain_plan(number(3), now, None).unwrap();
    assert_eq!(plan.refusals, []);
    assert_eq!(plan.groups, lab.state.groups_of(number(3)).len());
    assert!(plan.bytes > 0 && plan.primaries > 0);
    let free = BTreeMap::from([(number(1), 1), (number(2), u64::MAX)]);
    let tight = lab.state.drain_plan(number(3), now, Some(&free)).unwrap();
    assert_eq!(tight.refusals.len(), 1);
    assert_eq!(tight.refusals[0].code, ErrorCode::OutOfCapacity);
    assert!(tight.refusals[0].message.contains("n101"), "{}", tight.refusals[0]);
    assert_eq!(lab.state.drain_plan(number(9), now, None).unwrap_err().code, ErrorCode::NotFound);
    lab.array("three", 3, 1);
    let plan = lab.state.drain_plan(number(3), now, None).unwrap();
    assert_eq!((plan.refusals.len(), plan.warnings.len()), (0, 1));
}

/// Refusals a few seconds apart had figures that differed, and no word of why.
#[test]
fn a_refusal_for_want_of_room_says_when_moves_change_the_figures() {
    let mut lab = Lab::new(4);
    lab.array("a", 2, 1);
    let full: BTreeMap<NodeNumber, u64> = (1..=4).map(|node| (number(node), 1)).collect();
    let room = |lab: &Lab| {
        let plan = lab.state.drain_plan(number(3), UnixMillis(lab.now), Some(&full)).unwrap();
        let room = plan.refusals.iter().find(|it| it.code == ErrorCode::OutOfCapacity);
        room.unwrap().message.clone()
    };
    assert!(!room(&lab).contains("moves"), "{}", room(&lab));
    lab.drain(4);
    lab.replan(&[]);
    let group = *lab.state.groups_of(number(4)).first().unwrap();
    let change = lab.state.next_change(group).unwrap();
    lab.propose(lab.state.group(group).unwrap().primary, group, change);
    let said = room(&lab);
    assert!(said.ends_with("while moves are under way, which change both"), "{said}");
}

/// Bytes were counted as copied as soon as their new holders were named.
#[test]
fn what_is_being_copied_is_still_to_be_copied_and_takes_no_room_twice() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    lab.drain(3);
    lab.replan(&[]);
    let plan = |lab: &Lab, free: Option<&BTreeMap<NodeNumber, u64>>| {
        lab.state.drain_plan(number(3), UnixMillis(lab.now), free).unwrap()
    };
    let before = plan(&lab, None).bytes;
    let groups: Vec<GroupId> = lab.state.groups_of(number(3)).iter().copied().collect();
    for group in &groups {
        let primary = lab.state.group(*group).unwrap().primary;
        let change = lab.state.next_change(*group).unwrap();
        assert!(matches!(change, ConfigChange::AddLearner(_)), "{change:?}");
        lab.propose(primary, *group, change);
    }
    assert_eq!(plan(&lab, None).bytes, before);
    let full = BTreeMap::from([(number(1), 0), (number(2), 0)]);
    assert_eq!(plan(&lab, Some(&full)).refusals, [], "who copies it has made room for it");
    let config = lab.state.group(groups[0]).unwrap().clone();
    lab.propose(config.primary, groups[0], ConfigChange::AddInSync(config.learners[0]));
    assert_eq!(plan(&lab, None).bytes, before - before / groups.len() as u64);
    lab.settle();
    assert_eq!(plan(&lab, None).bytes, 0);
}

#[test]
fn a_new_deadline_does_not_start_the_drain_again() {
    let mut lab = Lab::new(2);
    lab.drain(2);
    lab.now = 9000;
    let deadline = Some(UnixMillis(20_000));
    lab.change(2, NodeChange::Drain { deadline });
    let state = lab.state.node(number(2)).unwrap().state;
    assert_eq!(state, NodeState::Draining { since: UnixMillis(1000), deadline });
}

/// A node that had died a moment before, and was not planned around yet, was told as a receiver; then the drain went down
/// to one copy without a word.
#[test]
fn a_silent_node_receives_nothing_and_the_plan_says_what_that_costs() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    lab.set_up(2, false);
    let plan = lab.state.drain_plan(number(3), UnixMillis(lab.now), None).unwrap();
    assert_eq!(plan.refusals, []);
    assert_eq!(plan.warnings, ["arrays of 2 copies will have 1: n102 does not answer"]);
    let moves = plan.plan.unwrap().moves;
    let receivers: BTreeSet<NodeNumber> = moves.iter().flat_map(|it| &it.add).copied().collect();
    assert_eq!(receivers, BTreeSet::from([number(1)]));
}

#[test]
fn a_plan_warns_of_no_loss_that_it_refuses() {
    let mut lab = Lab::new(3);
    lab.array("strict", 2, 2);
    lab.set_up(2, false);
    let plan = lab.state.drain_plan(number(3), UnixMillis(lab.now), None).unwrap();
    assert_eq!((plan.refusals.len(), plan.warnings.as_slice()), (1, [].as_slice()));
}

/// A node that had been cordoned before it held anything counted as a place for what was to move.
#[test]
fn a_cordoned_node_that_holds_nothing_receives_nothing() {
    let mut lab = Lab::bare(3);
    lab.change(3, NodeChange::Cordon);
    lab.replan(&[1, 2, 3]);
    lab.array("loose", 2, 1);
    let plan = lab.state.drain_plan(number(2), UnixMillis(lab.now), None).unwrap();
    assert_eq!(plan.warnings, ["arrays of 2 copies will have 1: there are no more nodes"]);
    lab.array("strict", 2, 2);
    let plan = lab.state.drain_plan(number(2), UnixMillis(lab.now), None).unwrap();
    assert_eq!(plan.refusals.len(), 1);
}

#[test]
fn a_drain_is_refused_where_those_that_answer_are_too_few_and_the_silent_are_named() {
    let mut lab = Lab::new(3);
    lab.array("strict", 2, 2);
    lab.set_up(2, false);
    let drain =
        Operation::SetNodeState { node: number(3), change: NodeChange::Drain { deadline: None } };
    let refused = lab.refused(admin(), drain.clone());
    assert_eq!(refused.code, ErrorCode::DrainRefused);
    assert!(refused.message.contains("n102 does not answer"), "{refused}");
    assert!(refused.message.contains("strict"), "{refused}");
    assert!(refused.help.as_ref().unwrap().starts_with("start n102 again"), "{refused}");
    let plan = lab.state.drain_plan(number(3), UnixMillis(lab.now), None).unwrap();
    assert_eq!(plan.refusals, [refused]);
    lab.set_up(2, true);
    lab.ok(admin(), drain);
    // Nobody who answers is left.
    let mut lab = Lab::new(2);
    lab.set_up(2, false);
    let change = NodeChange::Drain { deadline: None };
    let refused = lab.refused(admin(), Operation::SetNodeState { node: number(1), change });
    assert_eq!(refused.code, ErrorCode::DrainRefused);
    assert!(refused.message.contains("n102 does not answer"), "{refused}");
}

#[test]
fn a_drain_waits_where_a_node_dies_meanwhile_and_too_few_would_be_in_sync() {
    let mut lab = Lab::new(3);
    lab.array("strict", 2, 2);
    lab.drain(3);
    lab.replan(&[]);
    lab.set_up(2, false);
    lab.now += lab.state.settings().repair_delay_ms;
    lab.replan(&[]);
    lab.settle();
    assert!(lab.state.drain_progress(number(3)).groups_left > 0);
    assert!(lab.state.groups().all(|config| config.in_sync.len() >= 2));
    let plan = lab.state.drain_plan(number(3), UnixMillis(lab.now), None).unwrap();
    assert_eq!(plan.refusals.len(), 1, "it says why it waits");
    lab.set_up(2, true);
    lab.replan(&[]);
    lab.settle();
    assert_eq!(lab.state.drain_progress(number(3)).groups_left, 0);
}

fn remove(lab: &mut Lab, array: &ArrayDescriptor) {
    lab.ok(admin(), Operation::RemoveArray { tenant: array.tenant, array: array.id });
}

fn finish_drain(lab: &mut Lab, node: u32) {
    assert_eq!(lab.state.drain_progress(number(node)).groups_left, 0);
    lab.ok(Authority::Node(number(1)), Operation::FinishDrain { node: number(node) });
}

/// The groups of arrays that are gone stay, with what their class wants in sync: the drain was refused for ever.
#[test]
fn groups_without_data_stand_in_no_drains_way() {
    let mut lab = Lab::new(2);
    let array = lab.array("strict", 2, 2);
    let loose = lab.array("loose", 2, 1);
    remove(&mut lab, &array);
    let plan = lab.state.drain_plan(number(2), UnixMillis(lab.now), None).unwrap();
    assert_eq!(plan.refusals, []);
    lab.drain(2);
    for group in lab.state.groups().filter(|it| it.group.class == class(2, 2)) {
        assert_eq!(
            (group.in_sync.as_slice(), group.primary),
            ([replica(1, 1)].as_slice(), replica(1, 1))
        );
    }
    // What has data moves as ever.
    assert!(lab.state.groups_of(number(2)).iter().all(|it| it.class == loose.class()));
    lab.replan(&[]);
    lab.settle();
    finish_drain(&mut lab, 2);
}

#[test]
fn a_drain_that_waits_for_an_array_ends_when_the_array_is_removed() {
    let mut lab = Lab::new(3);
    let (one, two) = (lab.array("one", 2, 2), lab.array("two", 2, 2));
    lab.drain(3);
    lab.set_up(2, false);
    lab.now += lab.state.settings().repair_delay_ms;
    lab.replan(&[]);
    lab.settle();
    let waits = lab.state.drain_progress(number(3)).groups_left;
    assert!(waits > 0);
    remove(&mut lab, &one);
    assert_eq!(lab.state.drain_progress(number(3)).groups_left, waits, "`two` is still there");
    remove(&mut lab, &two);
    // Those that it had together with the silent node have to go to the one that answers first.
    lab.settle();
    finish_drain(&mut lab, 3);
}

/// Refused at first, and then the array is removed.
#[test]
fn a_refused_drain_is_taken_once_the_array_is_gone() {
    let mut lab = Lab::new(2);
    let array = lab.array("strict", 2, 2);
    let drain =
        Operation::SetNodeState { node: number(1), change: NodeChange::Drain { deadline: None } };
    assert_eq!(lab.refused(admin(), drain.clone()).code, ErrorCode::DrainRefused);
    remove(&mut lab, &array);
    lab.ok(admin(), drain);
    finish_drain(&mut lab, 1);
}

#[test]
fn groups_without_data_are_moved_like_others_where_nodes_enough_are_left() {
    let mut lab = Lab::new(3);
    let array = lab.array("strict", 2, 2);
    remove(&mut lab, &array);
    let held = lab.state.drain_progress(number(3)).groups_left;
    lab.drain(3);
    // An array to come has its copies all the time.
    assert!(lab.state.groups().all(|config| config.in_sync.len() == 2));
    assert_eq!(lab.state.drain_progress(number(3)).groups_left, held);
    lab.replan(&[]);
    lab.settle();
    assert!(lab.state.groups().all(|config| config.in_sync.len() == 2));
    finish_drain(&mut lab, 3);
}

#[test]
fn an_only_copy_without_data_goes_with_the_next_one_that_is_in_sync() {
    let mut lab = Lab::new(2);
    let array = lab.array("strict", 2, 2);
    remove(&mut lab, &array);
    // Node 1 was away: node 2 goes on alone, as the primary of everything.
    lab.set_up(1, false);
    let groups: Vec<GroupId> = lab.state.groups().map(|config| config.group).collect();
    for group in &groups {
        let config = lab.state.group(*group).unwrap();
        let change = match config.primary.node == number(2) {
            true => ConfigChange::Remove(replica(1, 1)),
            false => ConfigChange::TakeOver,
        };
        assert_eq!(lab.propose(replica(2, 1), *group, change).refusal, None);
    }
    lab.set_up(1, true);
    lab.drain(2);
    let group = groups[0];
    let config = lab.state.group(group).unwrap().clone();
    assert_eq!((config.primary, config.in_sync.len()), (replica(2, 1), 1));
    lab.replan(&[]);
    lab.propose(replica(2, 1), group, ConfigChange::AddLearner(replica(1, 1)));
    let answer = lab.propose(replica(2, 1), group, ConfigChange::AddInSync(replica(1, 1)));
    let next = answer.config.unwrap();
    assert_eq!(next.epoch.0, config.epoch.0 + 2, "one step, one epoch");
    assert_eq!((next.primary, next.in_sync), (replica(1, 1), vec![replica(1, 1)]));
    lab.settle();
    finish_drain(&mut lab, 2);
}

#[test]
fn nobody_without_an_answer_is_left_alone_with_a_group() {
    let mut lab = Lab::new(3);
    let array = lab.array("strict", 3, 3);
    remove(&mut lab, &array);
    lab.set_up(1, false);
    lab.set_up(2, false);
    // It would be the last one that answers.
    let drain =
        Operation::SetNodeState { node: number(3), change: NodeChange::Drain { deadline: None } };
    assert_eq!(lab.refused(admin(), drain.clone()).code, ErrorCode::DrainRefused);
    lab.set_up(2, true);
    lab.ok(admin(), drain);
    assert_eq!(lab.state.drain_progress(number(3)).groups_left, 0);
    for config in lab.state.groups() {
        assert_eq!(config.in_sync, [replica(1, 1), replica(2, 1)]);
    }
    // All others fall silent while it drains: it waits, until one of them answers.
    let mut lab = Lab::new(3);
    let array = lab.array("strict", 2, 2);
    remove(&mut lab, &array);
    lab.drain(3);
    lab.set_up(1, false);
    let left: Vec<_> = lab.state.groups_of(number(3)).iter().copied().collect();
    assert!(!left.is_empty(), "what it had together with the silent one");
    lab.set_up(2, false);
    assert_eq!(lab.state.groups_of(number(3)).len(), left.len());
    lab.set_up(1, true);
    assert_eq!(lab.state.drain_progress(number(3)).groups_left, 0);
}

#[test]
fn a_draining_node_that_starts_again_leaves_groups_without_data_to_whoever_comes() {
    let mut lab = Lab::new(2);
    let array = lab.array("loose", 1, 1);
    remove(&mut lab, &array);
    lab.drain(2);
    lab.set_up(1, false);
    lab.start(2);
    // Nobody was there for what it held alone.
    assert_eq!(lab.state.drain_progress(number(2)).groups_left, 0);
    assert!(!lab.state.lost_groups().is_empty());
    lab.set_up(1, true);
    assert!(lab.state.lost_groups().is_empty());
    assert!(lab.state.groups().all(|config| config.in_sync == [replica(1, 1)]));
    finish_drain(&mut lab, 2);
}

#[test]
fn a_class_is_used_again_after_a_drain_when_there_are_nodes_enough() {
    let mut lab = Lab::new(2);
    let first = lab.array("strict", 2, 2);
    let epochs: Vec<_> = lab.state.groups().map(|config| config.epoch).collect();
    remove(&mut lab, &first);
    // Prepared before the drain, applied after it: the copies that it wants cannot be.
    let request = Lab::request("late", 2, 2);
    let late = lab.state.prepare_array(public(1), &request, &SECRET, 77).unwrap();
    lab.drain(2);
    let refused = lab.refused(admin(), Operation::CreateArray(late.clone()));
    assert_eq!(refused.code, ErrorCode::OutOfCapacity);
    lab.replan(&[]);
    finish_drain(&mut lab, 2);
    lab.change(2, NodeChange::Undrain);
    lab.ok(admin(), Operation::CreateArray(late));
    lab.replan(&[]);
    lab.settle();
    for (config, before) in lab.state.groups().zip(epochs) {
        assert_eq!(config.in_sync.len(), 2);
        assert!(config.epoch > before, "no epoch comes again");
    }
    // There is data again.
    let drain =
        Operation::SetNodeState { node: number(2), change: NodeChange::Drain { deadline: None } };
    assert_eq!(lab.refused(admin(), drain).code, ErrorCode::DrainRefused);
}

#[test]
fn of_two_that_drain_neither_keeps_the_other_in_a_group_without_data() {
    let mut lab = Lab::new(3);
    let array = lab.array("strict", 2, 2);
    remove(&mut lab, &array);
    lab.drain(2);
    lab.drain(3);
    lab.replan(&[]);
    lab.settle();
    finish_drain(&mut lab, 2);
    finish_drain(&mut lab, 3);
}

#[test]
fn refused_changes_of_a_node_say_how_it_comes_back() {
    let mut lab = Lab::new(2);
    lab.drain(2);
    let cordon = Operation::SetNodeState { node: number(2), change: NodeChange::Cordon };
    let refused = lab.refused(admin(), cordon);
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert_eq!(refused.message, "node n102 is draining and cannot be cordoned");
    assert_eq!(refused.help.as_deref(), Some("`holo undrain n102` takes it back into service"));
}
