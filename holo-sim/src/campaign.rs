//! Many seeds, on several threads.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::mutant::Plant;
use crate::watch::Invariant;
use crate::world::{Report, run};

/// Seeds that a thread takes at once.
const BATCH: u64 = 32;
/// Of so many seeds one runs twice: the hashes must be the same.
const TWICE_EVERY: u64 = 64;
/// Failures that are kept of each invariant.
const FAILURES_MAX: u64 = 4;

/// Seeds to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Which.
    pub seeds: Range<u64>,
    /// Threads.
    pub jobs: usize,
    /// The planted bug, if any.
    pub plant: Plant,
    /// End at the first violation, as a hunt for a planted bug does.
    pub ends_at_first: bool,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that ran.
    pub seeds: u64,
    /// Seeds that ran twice.
    pub twice: u64,
    /// Runs with a violation, the first ones of each invariant in order of their seeds.
    pub failures: Vec<Report>,
    /// Violations by invariant.
    pub broken: BTreeMap<Invariant, u64>,
    /// Seeds whose second run was another one.
    pub unsteady: Vec<u64>,
    /// Events of all runs.
    pub events: u64,
    /// Answered calls of all runs.
    pub answered: u64,
    /// Config changes of all runs.
    pub epochs: u64,
    /// Lost groups of all runs.
    pub lost: u64,
    /// Histories that were not decided.
    pub undecided: u64,
    /// Virtual nanoseconds of all runs.
    pub lasted: u64,
}

impl Campaign {
    /// Runs the seeds.
    pub fn run(&self) -> Summary {
        let next = AtomicU64::new(self.seeds.start);
        let stop = AtomicBool::new(false);
        let mut all = Summary::default();
        thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.jobs.max(1)).map(|_| scope.spawn(|| self.work(&next, &stop))).collect();
            for worker in workers {
                match worker.join() {
                    Ok(part) => all.add(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        all.failures.sort_by_key(|report| report.seed);
        all
    }

    fn work(&self, next: &AtomicU64, stop: &AtomicBool) -> Summary {
        let mut part = Summary::default();
        while !stop.load(Ordering::Relaxed) {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            if first >= self.seeds.end {
                break;
            }
            for seed in first..(first + BATCH).min(self.seeds.end) {
                self.run_one(seed, &mut part);
                if self.ends_at_first && !part.failures.is_empty() {
                    stop.store(true, Ordering::Relaxed);
                    break;
                }
            }
        }
        part
    }

    fn run_one(&self, seed: u64, part: &mut Summary) {
        let report = run(seed, self.plant, false);
        if seed.is_multiple_of(TWICE_EVERY) {
            part.twice += 1;
            if run(seed, self.plant, false) != report {
                part.unsteady.push(seed);
            }
        }
        part.seeds += 1;
        part.events += report.events;
        part.answered += report.answered;
        part.epochs += report.epochs;
        part.lost += report.lost;
        part.undecided += report.undecided;
        part.lasted += report.lasted;
        if let Some(violation) = &report.violation {
            let count = part.broken.entry(violation.invariant).or_default();
            *count += 1;
            if *count <= FAILURES_MAX {
                part.failures.push(report);
            }
        }
    }
}

impl Summary {
    /// Whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.unsteady.is_empty()
    }

    fn add(&mut self, part: Self) {
        self.seeds += part.seeds;
        self.twice += part.twice;
        self.failures.extend(part.failures);
        for (invariant, count) in part.broken {
            *self.broken.entry(invariant).or_default() += count;
        }
        self.unsteady.extend(part.unsteady);
        self.events += part.events;
        self.answered += part.answered;
        self.epochs += part.epochs;
        self.lost += part.lost;
        self.undecided += part.undecided;
        self.lasted += part.lasted;
    }
}

/// The hunt for one planted bug.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The bug.
    pub plant: Plant,
    /// Seeds that were tried.
    pub tried: u64,
    /// The run that caught it.
    pub caught: Option<Report>,
}

impl Hunt {
    /// Looks for `plant` in `seeds` until it is caught.
    pub fn run(plant: Plant, seeds: Range<u64>, jobs: usize) -> Self {
        let summary = Campaign { seeds, jobs, plant, ends_at_first: true }.run();
        Self { plant, tried: summary.seeds, caught: summary.failures.into_iter().next() }
    }
}
