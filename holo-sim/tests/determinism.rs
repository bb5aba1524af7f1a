//! The same seed gives the same run.

use holo_sim::{Campaign, Plant, run};

#[test]
fn a_seed_gives_the_same_events_whether_or_not_somebody_reads_them() {
    for seed in [0, 7, 4711] {
        let (quiet, again, readable) = (
            run(seed, Plant::None, false),
            run(seed, Plant::None, false),
            run(seed, Plant::None, true),
        );
        assert_eq!(quiet, again, "seed {seed}");
        assert_eq!(quiet.hash, readable.hash, "seed {seed}");
        assert!(quiet.lines.is_empty() && readable.lines.len() > 100, "seed {seed}");
    }
}

#[test]
fn other_seeds_give_other_runs() {
    assert_ne!(run(1, Plant::None, false).hash, run(2, Plant::None, false).hash);
}

#[test]
fn a_campaign_finds_the_same_on_one_thread_and_on_several() {
    let campaign =
        |jobs| Campaign { seeds: 0..96, jobs, plant: Plant::None, ends_at_first: false }.run();
    let (one, several) = (campaign(1), campaign(3));
    assert!(one.is_clean() && several.is_clean(), "{:?} {:?}", one.failures, several.failures);
    assert_eq!(one.events, several.events);
    assert_eq!(one.answered, several.answered);
    assert!(one.twice > 0 && one.answered > 1000);
}
