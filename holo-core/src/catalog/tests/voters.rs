//! Who should vote.

use super::*;

fn candidates(zones: &[&str]) -> Vec<VoterCandidate> {
    let all = (1..).zip(zones).map(|(node, zone)| VoterCandidate {
        node: number(node),
        zone: (*zone).to_owned(),
        dependable: true,
        up: true,
    });
    all.collect()
}

fn numbers(numbers: &[u32]) -> Vec<NodeNumber> {
    numbers.iter().copied().map(NodeNumber).collect()
}

#[test]
fn one_three_or_five_vote_as_nodes_come() {
    let sizes: Vec<usize> =
        (0..9).map(|count| choose_voters(&candidates(&vec!["z"; count]), &[], 5).len()).collect();
    assert_eq!(sizes, [0, 1, 1, 3, 3, 5, 5, 5, 5]);
    assert_eq!(choose_voters(&candidates(&["z"; 9]), &[], 7).len(), 7);
    assert_eq!(choose_voters(&candidates(&["z"; 9]), &[], 1), numbers(&[1]));
}

#[test]
fn votes_are_spread_over_zones() {
    let chosen = choose_voters(&candidates(&["a", "a", "a", "b", "c"]), &[], 3);
    assert_eq!(chosen, numbers(&[1, 4, 5]));
    // Also when those that vote came first, all of one zone.
    let chosen = choose_voters(&candidates(&["a", "a", "a", "b", "c"]), &numbers(&[1, 2, 3]), 3);
    assert_eq!(chosen, numbers(&[1, 4, 5]));
}

#[test]
fn who_votes_stays_unless_it_is_dead() {
    let mut nodes = candidates(&["a", "b", "c", "d"]);
    assert_eq!(choose_voters(&nodes, &numbers(&[2, 3, 4]), 5), numbers(&[2, 3, 4]));
    nodes[2].dependable = false;
    assert_eq!(choose_voters(&nodes, &numbers(&[2, 3, 4]), 5), numbers(&[1, 2, 4]));
    // Nobody is there to replace a second one: a vote that may come back is better than none.
    nodes[3].dependable = false;
    let chosen = choose_voters(&nodes, &numbers(&[2, 3, 4]), 5);
    assert_eq!(chosen.len(), 3);
    assert!(chosen.contains(&number(1)) && chosen.contains(&number(2)));
}

#[test]
fn the_choice_is_stable() {
    for zones in [["a", "a", "b", "b", "c", "c"], ["a", "a", "a", "a", "a", "b"]] {
        let nodes = candidates(&zones);
        let chosen = choose_voters(&nodes, &[], 5);
        assert_eq!(choose_voters(&nodes, &chosen, 5), chosen);
    }
}

#[test]
fn a_silent_voter_is_replaced_after_its_delay_and_a_silent_node_never_begins() {
    let mut lab = Lab::bare(4);
    let by = Authority::Node(number(1));
    lab.ok(by, Operation::SetVoters(numbers(&[1, 2, 3])));
    lab.now = 10_000;
    lab.set_up(3, false);
    assert_eq!(lab.state.wanted_voters(UnixMillis(10_001)), numbers(&[1, 2, 3]));
    let late = UnixMillis(10_000 + lab.state.settings().voter_delay_ms);
    assert_eq!(lab.state.wanted_voters(late), numbers(&[1, 2, 4]));
    lab.set_up(4, false);
    assert_eq!(lab.state.wanted_voters(late), numbers(&[1, 2, 3]));
    lab.set_up(4, true);
    lab.drain(2);
    assert_eq!(lab.state.wanted_voters(UnixMillis(10_001)), numbers(&[1, 3, 4]));
}

#[test]
fn a_vote_that_is_left_alone_is_not_that_of_a_node_that_has_just_died() {
    // A node died and another was drained: the only vote went to the dead one, and nobody led until it was back.
    let mut lab = Lab::bare(3);
    lab.ok(Authority::Node(number(1)), Operation::SetVoters(numbers(&[1, 2, 3])));
    lab.now = 10_000;
    lab.set_up(2, false);
    lab.drain(1);
    assert_eq!(lab.state.wanted_voters(UnixMillis(10_001)), numbers(&[3]));
    // With nobody there to take it, who votes goes on.
    lab.set_up(3, false);
    assert_eq!(lab.state.wanted_voters(UnixMillis(10_001)), numbers(&[1, 2, 3]));
}

#[test]
fn voters_are_recorded_by_voters_and_are_nodes() {
    let mut lab = Lab::bare(3);
    let by = Authority::Node(number(1));
    let set = |voters: &[u32]| Operation::SetVoters(numbers(voters));
    lab.ok(by, set(&[3, 1, 2]));
    assert_eq!(lab.state.voters(), numbers(&[1, 2, 3]));
    for bad in [&[][..], &[1, 1], &[1, 2, 3, 4, 5, 6, 7, 8]] {
        assert_eq!(lab.refused(by, set(bad)).code, ErrorCode::InvalidArgument, "{bad:?}");
    }
    assert_eq!(lab.refused(by, set(&[9])).code, ErrorCode::NotFound);
    lab.ok(by, set(&[2]));
    assert_eq!(lab.refused(by, set(&[1])).code, ErrorCode::Denied);
}
