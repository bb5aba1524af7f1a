//! Planted bugs that show quickly; `holo-sim mutants` hunts for all of them.

use holo_sim::{Hunt, Invariant, Plant};

/// By which invariant a planted bug is caught; `None` when it is not.
fn caught(name: &str) -> Option<Invariant> {
    let hunt = Hunt::run(Plant::find(name)?, 0..2_000, 2);
    hunt.caught?.violation.map(|violation| violation.invariant)
}

#[test]
fn commit_on_a_majority_leaves_an_in_sync_member_behind() {
    assert_eq!(caught("CommitOnMajority"), Some(Invariant::I4InSyncHolds));
}

#[test]
fn reads_without_a_lease_make_two_who_may_read() {
    assert_eq!(caught("ReadWithoutLease"), Some(Invariant::I5OneLease));
}

#[test]
fn a_torn_snapshot_makes_replicas_differ() {
    assert_eq!(caught("AcceptTornSnapshot"), Some(Invariant::I3SamePrefix));
}

#[test]
fn requests_that_only_the_primary_remembers_are_executed_twice() {
    assert_eq!(caught("DedupOnlyAtPrimary"), Some(Invariant::I6AppliedOnce));
}

#[test]
fn a_write_with_too_few_copies_is_seen() {
    assert_eq!(caught("IgnoreMinInSync"), Some(Invariant::I8Copies));
}

#[test]
fn a_primary_that_hears_nothing_and_is_left_alone_serves_nobody() {
    assert_eq!(caught("IgnoreEcho"), Some(Invariant::L1Primary));
}

#[test]
fn pages_of_an_earlier_life_that_nobody_compares_make_replicas_differ() {
    assert_eq!(caught("TrustKeptPages"), Some(Invariant::I3SamePrefix));
}

#[test]
fn a_name_is_found_in_any_case_and_an_unknown_one_is_not() {
    assert_eq!(Plant::find("none"), Some(Plant::None));
    assert_eq!(Plant::find("nodriftmargin").map(Plant::name).as_deref(), Some("NoDriftMargin"));
    assert_eq!(Plant::find("nothing"), None);
}
