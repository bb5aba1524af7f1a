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

/// The groups of arrays that are gone stay, and keep to their class: the drain began, and never ended.
#[test]
fn a_drain_is_refused_for_groups_of_removed_arrays_as_well() {
    let mut lab = Lab::new(2);
    let array = lab.array("strict", 2, 2);
    lab.ok(admin(), Operation::RemoveArray { tenant: array.tenant, array: array.id });
    let change = NodeChange::Drain { deadline: None };
    let refused = lab.refused(admin(), Operation::SetNodeState { node: number(2), change });
    assert_eq!(refused.code, ErrorCode::DrainRefused);
    assert!(refused.message.ends_with("of arrays that were removed"), "{refused}");
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
