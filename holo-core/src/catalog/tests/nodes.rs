//! What operators do with nodes, and who answers.

use super::*;

fn state_of(lab: &Lab, node: u32) -> NodeState {
    lab.state.node(number(node)).unwrap().state
}

#[test]
fn cordon_and_uncordon_go_there_and_back() {
    let mut lab = Lab::bare(2);
    lab.change(2, NodeChange::Cordon);
    lab.change(2, NodeChange::Cordon);
    assert_eq!(state_of(&lab, 2), NodeState::Cordoned);
    lab.change(2, NodeChange::Uncordon);
    assert_eq!(state_of(&lab, 2), NodeState::Active);
}

#[test]
fn a_draining_node_is_not_cordoned_and_a_joining_one_not_drained() {
    let mut lab = Lab::bare(2);
    lab.drain(2);
    let cordon = Operation::SetNodeState { node: number(2), change: NodeChange::Cordon };
    let refused = lab.refused(admin(), cordon);
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.message.contains("draining"));
    let unknown = Operation::SetNodeState { node: number(9), change: NodeChange::Cordon };
    assert_eq!(lab.refused(admin(), unknown).code, ErrorCode::NotFound);
}

#[test]
fn changing_nodes_needs_drain_on_their_name() {
    let mut lab = Lab::bare(2);
    let operator = principal(20, 2, &[(Verb::Drain, "n102")]);
    lab.ok(admin(), Operation::PutPrincipal(operator));
    let by = Authority::Principal(public(20));
    let cordon = |node| Operation::SetNodeState { node: number(node), change: NodeChange::Cordon };
    lab.ok(by, cordon(2));
    assert_eq!(lab.refused(by, cordon(1)).code, ErrorCode::Denied);
    assert_eq!(lab.refused(Authority::Node(number(2)), cordon(2)).code, ErrorCode::Denied);
}

#[test]
fn a_node_that_holds_nothing_may_leave_by_itself() {
    let mut lab = Lab::new(2);
    lab.array("a", 2, 1);
    let leave = Operation::SetNodeState { node: number(2), change: NodeChange::Leave };
    let refused = lab.refused(Authority::Node(number(2)), leave.clone());
    assert_eq!((refused.code, refused.message.contains("16 groups")), (ErrorCode::Conflict, true));
    lab.drain(2);
    lab.replan(&[]);
    lab.settle();
    lab.ok(Authority::Node(number(1)), Operation::FinishDrain { node: number(2) });
    lab.ok(Authority::Node(number(2)), leave);
    assert_eq!(state_of(&lab, 2), NodeState::Left);
    let start = Operation::Register(registration(2, 90));
    assert_eq!(lab.refused(Authority::Node(number(2)), start).code, ErrorCode::Denied);
}

#[test]
fn the_only_voter_stays() {
    let mut lab = Lab::bare(2);
    for change in [NodeChange::Leave, NodeChange::Evict { accept_loss: true }] {
        let operation = Operation::SetNodeState { node: number(1), change };
        assert_eq!(lab.refused(admin(), operation).code, ErrorCode::DrainRefused);
    }
    lab.ok(Authority::Node(number(1)), Operation::SetVoters(vec![number(2)]));
    lab.change(1, NodeChange::Leave);
    assert_eq!(lab.state.voters(), [number(2)]);
}

#[test]
fn verdicts_about_past_lives_are_ignored() {
    let mut lab = Lab::bare(2);
    let old = lab.state.node(number(2)).unwrap().replica();
    lab.start(2);
    let verdict = Operation::SetUp(vec![Liveness { replica: old, up: false }]);
    lab.ok(Authority::Node(number(1)), verdict.clone());
    assert!(lab.state.node(number(2)).unwrap().up);
    // Only voters judge.
    assert_eq!(lab.refused(Authority::Node(number(2)), verdict.clone()).code, ErrorCode::Denied);
    assert_eq!(lab.refused(admin(), verdict).code, ErrorCode::Denied);
}

#[test]
fn the_catalog_remembers_since_when_a_node_is_silent() {
    let mut lab = Lab::bare(2);
    lab.now = 5000;
    lab.set_up(2, false);
    lab.now = 7000;
    lab.set_up(2, false);
    let node = lab.state.node(number(2)).unwrap();
    assert_eq!(node.up_changed, UnixMillis(5000));
    assert!(!node.is_missing(UnixMillis(5999), 1000));
    assert!(node.is_missing(UnixMillis(6000), 1000));
}

#[test]
fn a_weight_is_within_its_bounds() {
    let mut lab = Lab::bare(1);
    lab.change(1, NodeChange::Reweigh { weight_milli: 2500 });
    assert_eq!(lab.state.node(number(1)).unwrap().weight_milli, 2500);
    let change = NodeChange::Reweigh { weight_milli: 0 };
    let refused = lab.refused(admin(), Operation::SetNodeState { node: number(1), change });
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
}

#[test]
fn the_view_shows_living_nodes_and_who_holds_what() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    lab.set_up(3, false);
    let view = lab.state.view().unwrap();
    assert_eq!(view.version(), lab.state.version());
    assert_eq!(view.members().len(), 3);
    assert!(!view.members()[2].up);
    for partition in 0..16 {
        let config = lab.config(partition, class(2, 1));
        let holders = view.holders(class(2, 1), PartitionId(partition));
        let primary = view.members()[usize::from(holders[0])].number;
        assert_eq!((primary, holders.len()), (config.primary.node, 2));
    }
}
