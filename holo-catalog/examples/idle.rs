//! What idle voters cost: three of them in this process, over a network that is a function call.
//!
//! `cargo run -p holo-catalog --example idle` prints processor time per voter as a share of one core, then how fast
//! proposals are agreed on and on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use holo_catalog::{
    AtRestKey, Catalog, ControlLog, LogIndex, Options, ReplicatedState, Transport, VoterId,
};
use holo_core::{ErrorCode, Failure};

const LONG: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(10);
const PROPOSALS: u32 = 500;

struct Nothing;

impl ReplicatedState for Nothing {
    fn apply(&mut self, _index: LogIndex, _command: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> Vec<u8> {
        Vec::new()
    }

    fn restore(&mut self, _snapshot: &[u8]) -> Result<(), Failure> {
        Ok(())
    }
}

type Voters = Arc<Mutex<BTreeMap<VoterId, Catalog<Nothing>>>>;

struct Direct {
    me: VoterId,
    voters: Voters,
}

impl Transport for Direct {
    fn call(
        &self,
        to: VoterId,
        request: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Failure>> {
        let me = self.me;
        let voter = self.voters.lock().ok().and_then(|voters| voters.get(&to).cloned());
        Box::pin(async move {
            match voter {
                Some(voter) => voter.handle(me, request).await,
                None => Err(Failure::new(ErrorCode::Unreachable, format!("no voter {to}"))),
            }
        })
    }
}

/// Seconds of processor time that this process has used.
fn processor_seconds() -> Result<f64, Box<dyn std::error::Error>> {
    let tasks = std::fs::read_dir("/proc/self/task")?;
    let mut nanos = 0_f64;
    for task in tasks {
        let stat = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += stat.split(' ').next().unwrap_or("0").parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}

#[expect(clippy::print_stdout, reason = "an example shows what it found")]
#[expect(clippy::disallowed_methods, reason = "it measures time that passes")]
async fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let voters = Voters::default();
    let mut folders = Vec::new();
    for id in 1..=3 {
        let me = VoterId(id);
        let folder = tempfile::tempdir()?;
        let options = Options {
            at_rest_key: Some(AtRestKey::new([7; 32])),
            ..Options::new(me, folder.path())
        };
        let direct = Direct { me, voters: Arc::clone(&voters) };
        let voter = Catalog::open(options, Nothing, Arc::new(direct)).await?;
        if let Ok(mut voters) = voters.lock() {
            voters.insert(me, voter.clone());
        }
        if id == 1 {
            voter.initialize().await?;
        }
        folders.push(folder);
    }
    let first = voters.lock().ok().and_then(|voters| voters.get(&VoterId(1)).cloned());
    let first = first.ok_or("no first voter")?;
    let all: BTreeSet<VoterId> = (1..=3).map(VoterId).collect();
    first.change_voters(all, LONG).await?;

    let before = processor_seconds()?;
    tokio::time::sleep(IDLE).await;
    let used = (processor_seconds()? - before) / IDLE.as_secs_f64() / 3.0;
    println!("an idle voter uses {:.2} % of a core", used * 100.0);

    let began = Instant::now();
    for _ in 0..PROPOSALS {
        first.propose(Bytes::from_static(&[0; 256]), LONG).await?;
    }
    println!("one proposal after the other: {:?} each", began.elapsed() / PROPOSALS);
    let began = Instant::now();
    let many = (0..PROPOSALS).map(|_| first.propose(Bytes::from_static(&[0; 256]), LONG));
    futures_util::future::try_join_all(many).await?;
    println!("{PROPOSALS} at once: {:?} each", began.elapsed() / PROPOSALS);
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure())
}
