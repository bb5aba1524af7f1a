//! Voters, the network between them, and the folders of their files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use holo_catalog::{
    AtRestKey, Catalog, CatalogError, Compaction, ControlLog, FILE_NAME, LogIndex, Options,
    Proposed, ReplicatedState, Transport, VoterId,
};
use holo_core::{ErrorCode, Failure, limits};
use tempfile::TempDir;

/// Longer than anything takes in paused time.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A state machine that remembers all commands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) commands: Vec<(u64, Vec<u8>)>,
}

impl ReplicatedState for Ledger {
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Bytes {
        self.commands.push((index.0, command.to_vec()));
        Bytes::from(self.commands.len().to_string())
    }

    fn snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, command) in &self.commands {
            bytes.extend(index.to_le_bytes());
            bytes.extend((command.len() as u64).to_le_bytes());
            bytes.extend(command);
        }
        bytes
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Failure> {
        let torn = || Failure::new(ErrorCode::Malformed, "no ledger");
        let mut rest = snapshot;
        let number = |bytes: &mut &[u8]| -> Result<u64, Failure> {
            let (number, after) = bytes.split_first_chunk().ok_or_else(torn)?;
            *bytes = after;
            Ok(u64::from_le_bytes(*number))
        };
        let mut commands = Vec::new();
        while !rest.is_empty() {
            let index = number(&mut rest)?;
            let bytes = usize::try_from(number(&mut rest)?).unwrap();
            let (command, after) = rest.split_at_checked(bytes).ok_or_else(torn)?;
            commands.push((index, command.to_vec()));
            rest = after;
        }
        self.commands = commands;
        Ok(())
    }
}

/// How the network treats every message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Longest delay; each message draws its own.
    pub(crate) delay_max: Duration,
    /// Of 1000 messages, how many are lost.
    pub(crate) lost_permille: u64,
}

pub(crate) struct World {
    shared: Arc<Mutex<Shared>>,
    folders: BTreeMap<VoterId, TempDir>,
    compaction: Compaction,
    at_rest_key: Option<AtRestKey>,
}

struct Shared {
    /// How often each voter was started. What an earlier start of it still sends or answers gets nowhere.
    starts: BTreeMap<VoterId, u64>,
    voters: BTreeMap<VoterId, Catalog<Ledger>>,
    cut: BTreeSet<(VoterId, VoterId)>,
    weather: Weather,
    seed: u64,
    snapshot_pieces: u64,
    /// How long each voter takes to answer.
    slow: BTreeMap<VoterId, Duration>,
    /// A voter, some bytes, and how many requests carried them to it so far.
    watched: (VoterId, Vec<u8>, u64),
}

impl Shared {
    /// xorshift64*: the same seed, the same draws.
    fn draw(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % below.max(1)
    }

    fn delay(&mut self) -> Duration {
        let max = u64::try_from(self.weather.delay_max.as_micros()).unwrap();
        Duration::from_micros(self.draw(max + 1))
    }

    /// How often `voter` was started; `None` while it is dead.
    fn started(&self, voter: VoterId) -> Option<u64> {
        self.starts.get(&voter).copied().filter(|start| start % 2 == 1)
    }

    fn loses(&mut self, from: VoterId, to: VoterId) -> bool {
        self.cut.contains(&(from, to)) || self.draw(1000) < self.weather.lost_permille
    }
}

struct Link {
    me: VoterId,
    /// Which start of `me` this is.
    start: u64,
    shared: Arc<Mutex<Shared>>,
}

impl Transport for Link {
    fn call(
        &self,
        to: VoterId,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Failure>> {
        let (me, start, shared) = (self.me, self.start, Arc::clone(&self.shared));
        Box::pin(async move {
            assert!(request.len() <= limits::BODY_BYTES_MAX as usize);
            let (delay, back, lost, lost_back, started, voter) = {
                let mut shared = shared.lock().unwrap();
                let pieces = u64::from(request.first() == Some(&0x1a));
                shared.snapshot_pieces += pieces;
                let (whom, watched) = (shared.watched.0, shared.watched.1.clone());
                if whom == to && request.windows(watched.len().max(1)).any(|it| it == watched) {
                    shared.watched.2 += 1;
                }
                let voter = shared.voters.get(&to).cloned();
                let started = shared.started(to);
                let lost = shared.loses(me, to) || shared.started(me) != Some(start);
                (shared.delay(), shared.delay(), lost, shared.loses(to, me), started, voter)
            };
            let silence = || async {
                pass(deadline).await;
                Err(Failure::new(ErrorCode::DeadlineExceeded, format!("voter {to} is silent")))
            };
            pass(delay).await;
            let Some(voter) = voter.filter(|_| !lost) else { return silence().await };
            let slow = shared.lock().unwrap().slow.get(&to).copied().unwrap_or_default();
            let answer = voter.handle(me, request).await;
            pass(slow).await;
            let died = shared.lock().unwrap().started(to) != started;
            pass(back).await;
            if lost_back || died {
                return silence().await;
            }
            let answer = answer?;
            assert!(answer.len() <= limits::BODY_BYTES_MAX as usize);
            Ok(answer)
        })
    }
}

/// Lets paused time pass.
#[expect(clippy::disallowed_methods, reason = "the network of these tests takes time")]
pub(crate) async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

/// Lets time pass until `happened`, and fails when it does not.
pub(crate) async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if happened() {
            return;
        }
        pass(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

pub(crate) fn ids(voters: impl IntoIterator<Item = u64>) -> BTreeSet<VoterId> {
    voters.into_iter().map(VoterId).collect()
}

pub(crate) fn command(number: usize) -> Bytes {
    Bytes::from(format!("command {number}"))
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let shared = Shared {
            starts: BTreeMap::new(),
            voters: BTreeMap::new(),
            cut: BTreeSet::new(),
            weather: Weather::default(),
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            snapshot_pieces: 0,
            slow: BTreeMap::new(),
            watched: (VoterId(0), Vec::new(), 0),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            folders: BTreeMap::new(),
            compaction: Compaction::default(),
            at_rest_key: None,
        }
    }

    /// A world with voters 1 to `count`.
    pub(crate) async fn of(count: u64) -> Self {
        let mut world = Self::new(1);
        world.found(count).await;
        world
    }

    /// Makes voters 1 to `count`.
    pub(crate) async fn found(&mut self, count: u64) {
        let first = self.open(1).await.unwrap();
        first.initialize().await.unwrap();
        for id in 2..=count {
            self.open(id).await.unwrap();
        }
        if count > 1 {
            first.change_voters(ids(1..=count), LONG).await.unwrap();
        }
    }

    pub(crate) fn compact(&mut self, compaction: Compaction) {
        self.compaction = compaction;
    }

    pub(crate) fn encrypt(&mut self, key: AtRestKey) {
        self.at_rest_key = Some(key);
    }

    pub(crate) fn options(&self, id: u64) -> Options {
        Options {
            compaction: self.compaction,
            at_rest_key: self.at_rest_key.clone(),
            ..Options::new(VoterId(id), self.folders[&VoterId(id)].path())
        }
    }

    pub(crate) fn file(&self, id: u64) -> PathBuf {
        self.folders[&VoterId(id)].path().join(FILE_NAME)
    }

    /// Starts a voter on its file, making both when they are not there.
    pub(crate) async fn open(&mut self, id: u64) -> Result<Catalog<Ledger>, Failure> {
        self.folders.entry(VoterId(id)).or_insert_with(|| tempfile::tempdir().unwrap());
        let options = self.options(id);
        let start = {
            let mut shared = self.shared.lock().unwrap();
            let start = shared.starts.entry(VoterId(id)).or_insert(0);
            // Odd while it lives.
            *start += 1 + *start % 2;
            *start
        };
        let link = Link { me: VoterId(id), start, shared: Arc::clone(&self.shared) };
        let voter = Catalog::open(options, Ledger::default(), Arc::new(link)).await?;
        self.shared.lock().unwrap().voters.insert(VoterId(id), voter.clone());
        Ok(voter)
    }

    pub(crate) fn voter(&self, id: u64) -> Catalog<Ledger> {
        self.shared.lock().unwrap().voters[&VoterId(id)].clone()
    }

    pub(crate) fn alive(&self) -> BTreeSet<VoterId> {
        self.shared.lock().unwrap().voters.keys().copied().collect()
    }

    /// Stops a voter in order.
    pub(crate) async fn stop(&self, id: u64) {
        let voter = self.shared.lock().unwrap().voters.remove(&VoterId(id));
        voter.unwrap().shutdown().await;
    }

    /// Ends a voter between one instant and the next; what is in its file at this instant is what it starts with again.
    pub(crate) async fn crash(&mut self, id: u64) {
        *self.shared.lock().unwrap().starts.get_mut(&VoterId(id)).unwrap() += 1;
        let file = self.file(id);
        let (mut bytes, mut again) = (std::fs::read(&file).unwrap(), Vec::new());
        // What it was just writing may end up in the file or not, but not in halves that no disk would show.
        while bytes != again {
            again = std::mem::replace(&mut bytes, std::fs::read(&file).unwrap());
        }
        let image = tempfile::tempdir().unwrap();
        std::fs::write(image.path().join(FILE_NAME), bytes).unwrap();
        self.stop(id).await;
        self.folders.insert(VoterId(id), image);
    }

    /// Nothing crosses between `one` and `other` any more.
    pub(crate) fn cut(&self, one: &BTreeSet<VoterId>, other: &BTreeSet<VoterId>) {
        let mut shared = self.shared.lock().unwrap();
        for a in one {
            for b in other {
                shared.cut.insert((*a, *b));
                shared.cut.insert((*b, *a));
            }
        }
    }

    /// Cuts one voter off from all others.
    pub(crate) fn isolate(&self, id: u64) {
        let mut others = self.alive();
        others.remove(&VoterId(id));
        self.cut(&ids([id]), &others);
    }

    /// From now on one voter is heard by all others and hears none of them.
    pub(crate) fn deafen(&self, id: u64) {
        let alive = self.alive();
        let mut shared = self.shared.lock().unwrap();
        let others = alive.into_iter().filter(|other| other.0 != id);
        shared.cut.extend(others.map(|other| (other, VoterId(id))));
    }

    pub(crate) fn heal(&self) {
        self.shared.lock().unwrap().cut.clear();
    }

    pub(crate) fn weather(&self, weather: Weather) {
        self.shared.lock().unwrap().weather = weather;
    }

    /// From now on a voter takes this long for every answer.
    pub(crate) fn slow_down(&self, id: u64, time: Duration) {
        self.shared.lock().unwrap().slow.insert(VoterId(id), time);
    }

    /// From now on requests that carry these bytes to a voter are counted.
    pub(crate) fn watch(&self, to: u64, bytes: &[u8]) {
        self.shared.lock().unwrap().watched = (VoterId(to), bytes.to_vec(), 0);
    }

    /// Requests that carried what is watched.
    pub(crate) fn carried(&self) -> u64 {
        self.shared.lock().unwrap().watched.2
    }

    pub(crate) fn draw(&self, below: u64) -> u64 {
        self.shared.lock().unwrap().draw(below)
    }

    /// Pieces of snapshots that were sent so far.
    pub(crate) fn snapshot_pieces(&self) -> u64 {
        self.shared.lock().unwrap().snapshot_pieces
    }

    /// Waits until one of the living voters leads.
    pub(crate) async fn leader(&self) -> Catalog<Ledger> {
        self.leader_but(None).await
    }

    /// Waits until one of the living voters other than `but` leads.
    pub(crate) async fn leader_but(&self, but: Option<u64>) -> Catalog<Ledger> {
        let mut found = None;
        eventually("a leader", || {
            let voters = self.shared.lock().unwrap().voters.clone();
            found = voters
                .into_iter()
                .find(|(id, voter)| Some(id.0) != but && voter.is_leader())
                .map(|(_, voter)| voter);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Has the leader, whoever it is by then, agree on `command`.
    pub(crate) async fn propose(&self, command: Bytes) -> Result<Proposed, CatalogError> {
        let mut last = Err(CatalogError::Stopped);
        for _ in 0..100 {
            let leader = self.leader().await;
            last = leader.propose(command.clone(), Duration::from_secs(5)).await;
            match last {
                Err(
                    CatalogError::NotLeader { .. }
                    | CatalogError::NoQuorum(_)
                    | CatalogError::Stopped,
                ) => pass(Duration::from_millis(50)).await,
                _ => break,
            }
        }
        last
    }

    /// Waits until all living voters have the same state, and returns its commands.
    pub(crate) async fn settle(&self) -> Vec<Vec<u8>> {
        let (leader, index) = loop {
            let leader = self.leader().await;
            match leader.read_index(LONG).await {
                Ok(index) => break (leader, index),
                // One that came back and does not know yet that it was replaced.
                Err(CatalogError::NotLeader { .. }) => pass(Duration::from_millis(50)).await,
                Err(other) => panic!("{other}"),
            }
        };
        let (wanted, at) =
            leader.with_state(|ledger, applied| (ledger.commands.clone(), applied.max(index)));
        for id in self.alive() {
            let voter = self.voter(id.0);
            voter.wait_applied(at, LONG).await.unwrap();
            voter.with_state(|ledger, _| {
                // It may be ahead: a command whose outcome nobody knew may come through at any time.
                let commands = ledger.commands.iter().filter(|(index, _)| *index <= at.0);
                assert!(commands.eq(&wanted), "voter {id}: {ledger:?}, wanted {wanted:?}");
            });
        }
        wanted.into_iter().map(|(_, command)| command).collect()
    }
}

/// The number of a voter.
pub(crate) fn number(voter: &Catalog<Ledger>) -> u64 {
    voter.me().0
}
