//! Seeds that once broke an invariant. A change of the simulator's draws makes them other runs; the names keep what was
//! learned, and the machine's own tests have each story step by step.

use holo_sim::{Plant, run};

fn holds(seed: u64) {
    let report = run(seed, Plant::None, false);
    assert_eq!(report.violation, None, "holo-sim replay --seed {seed}");
}

/// A new primary opened its reads when its barrier was committed, while the page of an acknowledged write was still on its
/// way from disk.
#[test]
fn a_new_primary_reads_only_what_it_has_applied() {
    [36, 152].into_iter().for_each(holds);
}

/// A learner acknowledged entries while it copied, the copy failed and began again further back, and the primary went on
/// counting what was gone.
#[test]
fn what_a_learner_holds_counts_once_it_has_its_base() {
    [65, 113, 139, 159].into_iter().for_each(holds);
}

/// A host dropped the wanted holders of a group that it did not hold yet, and led the group later without them.
#[test]
fn a_host_remembers_where_groups_should_be_before_it_holds_them() {
    [51, 73, 99, 104].into_iter().for_each(holds);
}

/// In a double failure the survivor never asked to remove the dead, since too few would be in sync, and nobody could read.
#[test]
fn the_survivor_of_a_double_failure_serves_reads() {
    [2986, 5564, 6875, 9046].into_iter().for_each(holds);
}

/// A learner lacked the bytes of an entry that everyone else had trimmed, and waited for ever.
#[test]
fn a_learner_that_lacks_trimmed_bytes_gets_a_new_snapshot() {
    [373, 1359, 4434, 5994].into_iter().for_each(holds);
}

/// Behind a link that carried answers only, the offer of a snapshot got lost, and a learner that had a base and lacked what
/// was trimmed was never offered it again.
#[test]
fn a_snapshot_whose_offer_was_lost_is_offered_again() {
    holds(4691);
}
