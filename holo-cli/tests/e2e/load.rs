//! Clients under way while a test spoils things: what they asked, what they were told, and how long they waited.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use holo_client::{Cluster, Result, SharedArray};
use holo_sim::linear::{self, Action, Call, Verdict};
use tokio::task::JoinSet;

use crate::lab::{now, pause};

/// Clients at work at the same time.
const CLIENTS: u64 = 4;
/// Calls of one client on one element; the checker takes 128 of all.
const CALLS_PER_ELEMENT: usize = 25;
/// Elements that all clients work on at the same time.
const CONTESTED: u64 = 16;
/// How long they do, before they go on to the next ones.
const CONTEST: Duration = Duration::from_millis(250);
/// Between two elements that are contested together; it has no factor in common with their count.
const STRIDE: u64 = 7_919;
/// Between two calls of a client: the machine is to have time for what the test is about.
const REST: Duration = Duration::from_millis(1);

/// Clients at work until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: JoinSet<Recorded>,
}

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// By element.
    calls: BTreeMap<u64, Vec<Call>>,
    /// The longest time between two answers of one client.
    pub(crate) longest_pause: Duration,
    /// Calls that were answered.
    pub(crate) answered: usize,
    /// Errors that the clients were told.
    pub(crate) errors: Vec<String>,
}

impl Load {
    /// Starts clients that work on the first `elements` elements of an array, which are 0.
    pub(crate) fn start(cluster: &Cluster, name: &str, elements: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = now();
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (cluster, name, stop) = (cluster.clone(), name.to_owned(), Arc::clone(&stop));
            clients.spawn(async move {
                let array = cluster.open::<u64>(&name).await.unwrap();
                Worker::new(array, client, elements, start).work(&stop).await
            });
        }
        Self { stop, clients }
    }

    /// Ends it and gives what all clients saw.
    pub(crate) async fn stop(mut self) -> Recorded {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Recorded::default();
        while let Some(one) = self.clients.join_next().await {
            let one = one.unwrap();
            for (element, calls) in one.calls {
                all.calls.entry(element).or_default().extend(calls);
            }
            all.longest_pause = all.longest_pause.max(one.longest_pause);
            all.answered += one.answered;
            all.errors.extend(one.errors);
        }
        all
    }
}

impl Recorded {
    /// Fails the test unless every call was answered and every element's history, which ends with what is there
    /// `finally`, has an explanation.
    pub(crate) fn check(mut self, finally: &[u64]) {
        println!("{} answers, longest pause {:?}", self.answered, self.longest_pause);
        assert!(self.errors.is_empty(), "{:#?}", self.errors);
        assert!(self.answered > 0, "nobody asked anything");
        let end = u64::MAX / 2;
        let (mut undecided, all) = (0, self.calls.len());
        for (element, calls) in &mut self.calls {
            let seen = finally[usize::try_from(*element).unwrap()];
            calls.push(Call { invoked: end, returned: Some(end + 1), action: Action::Read, seen });
            match linear::check(calls) {
                Verdict::Linearizable => {}
                Verdict::Undecided => undecided += 1,
                Verdict::Violated => panic!("element {element} has no explanation: {calls:#?}"),
            }
        }
        assert!(undecided * 10 <= all, "{undecided} of {all} histories were not decided");
    }
}

/// One client.
struct Worker {
    array: SharedArray<u64>,
    elements: u64,
    start: Instant,
    draws: u64,
    last_answer: Instant,
    recorded: Recorded,
}

impl Worker {
    fn new(array: SharedArray<u64>, client: u64, elements: u64, start: Instant) -> Self {
        let draws = (client + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let recorded = Recorded::default();
        Self { array, elements, start, draws, last_answer: now(), recorded }
    }

    async fn work(mut self, stop: &AtomicBool) -> Recorded {
        while !stop.load(Ordering::SeqCst) {
            let contest = self.start.elapsed().as_millis() / CONTEST.as_millis();
            let turn = u64::try_from(contest).unwrap() * CONTESTED + self.draw() % CONTESTED;
            let element = turn * STRIDE % self.elements;
            if self.recorded.calls.get(&element).is_none_or(|it| it.len() < CALLS_PER_ELEMENT) {
                self.call(element).await;
            } else {
                // Nothing that is not checked is asked for; but somebody has to wait when nobody answers.
                let seen = self.array.get(element).await;
                self.heard(&seen);
            }
            pause(REST).await;
        }
        self.recorded
    }

    async fn call(&mut self, element: u64) {
        let action = match self.draw() % 4 {
            0 => Action::Read,
            1 => Action::Write(self.draw() >> 8),
            2 => Action::Add(1 + self.draw() % 1000),
            _ => Action::CompareExchange { expected: 0, new: self.draw() >> 8 },
        };
        let invoked = self.time();
        let answer = match action {
            Action::Read => self.array.get(element).await,
            Action::Write(value) => self.array.swap(element, value).await,
            Action::Add(delta) => self.array.fetch_add(element, delta).await,
            Action::CompareExchange { expected, new } => {
                let seen = self.array.compare_exchange(element, expected, new).await;
                seen.map(|seen| seen.unwrap_or_else(|seen| seen))
            }
        };
        let returned = answer.is_ok().then(|| self.time());
        let seen = *answer.as_ref().unwrap_or(&0);
        self.heard(&answer);
        let calls = self.recorded.calls.entry(element).or_default();
        calls.push(Call { invoked, returned, action, seen });
    }

    fn heard(&mut self, answer: &Result<u64>) {
        match answer {
            Ok(_) => self.recorded.answered += 1,
            Err(error) => self.recorded.errors.push(error.to_string()),
        }
        let waited = self.last_answer.elapsed();
        self.recorded.longest_pause = self.recorded.longest_pause.max(waited);
        self.last_answer = now();
    }

    fn time(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap()
    }

    fn draw(&mut self) -> u64 {
        self.draws ^= self.draws << 13;
        self.draws ^= self.draws >> 7;
        self.draws ^= self.draws << 17;
        self.draws
    }
}
