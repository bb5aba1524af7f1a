//! How large the catalog of a large cluster is, and how long planning takes, on one core and without any network.
//!
//! Memory is measured in processes of their own: this program starts itself again, once with a catalog that grows and is
//! written out, and once to read what was written.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use holo_catalog::{
    AtRestKey, Catalog, Compaction, ControlLog, LogIndex, Options, ReplicatedState, Transport,
    VoterId,
};
use holo_core::catalog::{
    Authority, BootId, Bootstrap, CatalogState, Command, Liveness, NewNode, Operation, Plan,
    Registration, Settings, plan, plan_with,
};
use holo_core::replication::NodeNumber;
use holo_core::wire::Allocate;
use holo_core::{
    DType, ErrorCode, Failure, Grant, NodeId, Principal, PublicKey, TenantId, UnixMillis, Verb,
};
use serde::{Deserialize, Serialize};

use crate::report::Row;
use crate::timing::Stopwatch;
use crate::workloads::less;

/// One of them joins later.
const NODES: u32 = 1001;
const ARRAYS: u64 = 100_000;
/// 131 partitions per node, and a group for each in two classes.
const PARTITION_BITS: u8 = 17;
const COPIES: [u8; 2] = [2, 3];
const START: UnixMillis = UnixMillis(1000);
const OPERATOR: PublicKey = PublicKey([255; 32]);
const MIB: f64 = 1_048_576.0;
const LONG: Duration = Duration::from_secs(60);

/// What one of the processes has measured.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Figures {
    resident_mib: f64,
    peak_mib: f64,
    snapshot_mib: f64,
    seconds: f64,
    plan_s: f64,
    after_death_s: f64,
    after_join_s: f64,
}

/// Has both processes measure.
///
/// # Errors
///
/// When one of them fails.
pub(crate) fn run(rows: &mut Vec<Row>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let grown = in_process(folder.path())?;
    let again = in_process(folder.path())?;
    let what = format!("catalog of {} nodes and {ARRAYS} arrays", NODES - 1);
    let snapshot = format!("{what}: most while its snapshot of {:.0} MiB", grown.snapshot_mib);
    let figures = [
        (format!("{what}: resident"), grown.resident_mib, "MiB", 200.0),
        (format!("{snapshot} is written"), grown.peak_mib, "MiB", 200.0),
        (format!("{what}: most while it is read at a start"), again.peak_mib, "MiB", 200.0),
        (format!("{what}: taking and writing a snapshot"), grown.seconds, "s", 0.0),
        (format!("{what}: opening the file"), again.seconds, "s", 0.0),
        (format!("{what}: a plan from nothing"), grown.plan_s, "s", 1.0),
        (format!("{what}: a plan after a node died"), grown.after_death_s, "s", 1.0),
        (format!("{what}: a plan after a node joined"), grown.after_join_s, "s", 1.0),
    ];
    for (what, ours, unit, target) in figures {
        rows.push(less(&what, ours, unit, "", 0.0, target));
    }
    Ok(())
}

fn in_process(folder: &Path) -> Result<Figures> {
    let this = std::env::current_exe()?;
    let ended = std::process::Command::new(this).arg("--catalog-in").arg(folder).output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.success(), "measuring the catalog: {said}");
    Ok(serde_json::from_slice(&ended.stdout)?)
}

/// Measures in this process: a catalog that grows when there is none in `folder`, else how that is opened. Returns what
/// the other process reads.
///
/// # Errors
///
/// Those of the catalog.
pub(crate) async fn measure(folder: PathBuf) -> Result<String> {
    let figures = if folder.join(holo_catalog::FILE_NAME).exists() {
        reopen(folder).await?
    } else {
        grow(folder).await?
    };
    Ok(serde_json::to_string(&figures)?)
}

async fn grow(folder: PathBuf) -> Result<Figures> {
    let mut figures = Figures::default();
    let mut scale = Scale::found()?;
    let first;
    (first, figures.plan_s) = timed(|| plan_with(&scale.state, START, &COPIES));
    scale.apply_plan(&first?)?;
    scale.fill()?;

    let died = NodeNumber(NODES / 2);
    scale.set_up(died, false)?;
    let later = UnixMillis(START.0 + scale.state.settings().repair_delay_ms);
    let without;
    (without, figures.after_death_s) = timed(|| plan(&scale.state, later));
    ensure!(!without?.moves.is_empty(), "nothing moves off a dead node");
    scale.set_up(died, true)?;
    scale.register(NODES)?;
    let with_newcomer;
    (with_newcomer, figures.after_join_s) = timed(|| plan(&scale.state, later));
    ensure!(!with_newcomer?.moves.is_empty(), "nothing moves to a newcomer");

    figures.resident_mib = memory("VmRSS")?;
    let snapshots = Arc::new(Snapshots::default());
    let state = Scaled { state: scale.state, snapshots: Arc::clone(&snapshots) };
    let catalog = Catalog::open(options(folder, 1), state, Arc::new(Alone)).await?;
    catalog.initialize().await?;
    forget_peak();
    let watch = Stopwatch::start();
    // The second snapshot is not begun before the first is in the file.
    while snapshots.begun.load(Ordering::Relaxed) < 2 {
        catalog.propose(Bytes::new(), LONG).await.map_err(Failure::from)?;
        if snapshots.begun.load(Ordering::Relaxed) < 2 {
            figures.seconds = watch.seconds();
        }
    }
    catalog.shutdown().await;
    figures.peak_mib = memory("VmHWM")?;
    figures.snapshot_mib = mib(snapshots.bytes.load(Ordering::Relaxed));
    Ok(figures)
}

async fn reopen(folder: PathBuf) -> Result<Figures> {
    let watch = Stopwatch::start();
    let state = Scaled { state: CatalogState::new(), snapshots: Arc::default() };
    let never = u64::MAX;
    let catalog = Catalog::open(options(folder, never), state, Arc::new(Alone)).await?;
    let seconds = watch.seconds();
    let arrays = catalog.with_state(|scaled, _| scaled.state.array_count());
    ensure!(u64::try_from(arrays)? == ARRAYS, "{arrays} arrays came back");
    let peak_mib = memory("VmHWM")?;
    catalog.shutdown().await;
    Ok(Figures { peak_mib, seconds, ..Figures::default() })
}

/// A voter that takes a snapshot after so many entries.
fn options(folder: PathBuf, after_entries: u64) -> Options {
    let compaction = Compaction { after_entries, after_bytes: u64::MAX, keep_entries: 0 };
    let at_rest_key = Some(AtRestKey::new([7; 32]));
    Options { at_rest_key, compaction, ..Options::new(VoterId(1), folder) }
}

/// A state machine that is there already: what is proposed only makes entries.
struct Scaled {
    state: CatalogState,
    snapshots: Arc<Snapshots>,
}

#[derive(Debug, Default)]
struct Snapshots {
    begun: AtomicU64,
    bytes: AtomicU64,
}

impl ReplicatedState for Scaled {
    fn apply(&mut self, _index: LogIndex, _command: &[u8]) -> Bytes {
        Bytes::new()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.snapshots.begun.fetch_add(1, Ordering::Relaxed);
        let bytes = self.state.encode();
        self.snapshots.bytes.store(bytes.len() as u64, Ordering::Relaxed);
        bytes
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), Failure> {
        self.state = CatalogState::decode(snapshot)?;
        Ok(())
    }
}

/// There are no others.
struct Alone;

impl Transport for Alone {
    fn call(
        &self,
        to: VoterId,
        _request: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, Failure>> {
        let nobody = Failure::new(ErrorCode::Unreachable, format!("there is no voter {to}"));
        Box::pin(async move { Err(nobody) })
    }
}

struct Scale {
    state: CatalogState,
    index: u64,
}

impl Scale {
    /// All nodes are known, all but the last one run.
    fn found() -> Result<Self> {
        let founders = (1..=NODES).map(|number| NewNode {
            id: NodeId(PublicKey(std::array::from_fn(|at| number.to_le_bytes()[at % 4]))),
            name: format!("node-{number}"),
            address: format!("10.{}.{}.{}:7400", number >> 16, number >> 8 & 255, number & 255),
            zone: format!("zone-{}", number % 5),
            weight_milli: 1000,
            agent: "holo 0.1.0".to_owned(),
        });
        let all = Verb::ALL.iter().filter(|verb| **verb != Verb::Member);
        let operator = Principal {
            key: OPERATOR,
            name: "operator".to_owned(),
            tenant: TenantId(1),
            grants: all.map(|verb| Grant::any(*verb)).collect(),
        };
        let first = Bootstrap {
            cluster_name: "scale".to_owned(),
            root: PublicKey([254; 32]),
            partition_bits: PARTITION_BITS,
            founders: founders.collect(),
            principals: vec![operator],
            settings: Settings::default(),
        };
        let mut scale = Self { state: CatalogState::new(), index: 0 };
        scale.perform(Authority::Nobody, Operation::Bootstrap(first))?;
        for number in 1..NODES {
            scale.register(number)?;
        }
        Ok(scale)
    }

    fn perform(&mut self, by: Authority, operation: Operation) -> Result<()> {
        self.index += 1;
        self.state.apply(self.index, Command { at: START, by, operation }).accepted()?;
        Ok(())
    }

    fn register(&mut self, number: u32) -> Result<()> {
        let node = NodeNumber(number);
        let start = Registration {
            node,
            boot: BootId([7; 16]),
            agent: "holo 0.1.0".to_owned(),
            address: String::new(),
            after: None,
            keeps: false,
        };
        self.perform(Authority::Node(node), Operation::Register(start))
    }

    fn set_up(&mut self, number: NodeNumber, up: bool) -> Result<()> {
        let replica = self.state.node(number).context("no such node")?.replica();
        let verdict = Operation::SetUp(vec![Liveness { replica, up }]);
        let voter = self.state.voters().first().copied().context("no voter")?;
        self.perform(Authority::Node(voter), verdict)
    }

    fn apply_plan(&mut self, plan: &Plan) -> Result<()> {
        for update in plan.updates() {
            self.perform(Authority::Principal(OPERATOR), Operation::ApplyTable(update))?;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        for token in 0..ARRAYS {
            let request = Allocate {
                name: format!("team-{}/experiment-{}/array-{token}", token % 50, token % 1000),
                shape: vec![1_000_000 + token],
                dtype: u32::from(DType::F64.to_byte()),
                replicas: u32::from(COPIES[usize::from(token % 4 == 0)]),
                ..Allocate::default()
            };
            let new = self.state.prepare_array(OPERATOR, &request, &[9; 32], token)?;
            self.perform(Authority::Principal(OPERATOR), Operation::CreateArray(new))?;
        }
        Ok(())
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let watch = Stopwatch::start();
    let done = work();
    (done, watch.seconds())
}

/// MiB of this process, as its status names them.
fn memory(name: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no such figure")?;
    Ok(mib(kib.parse::<u64>()? * 1024))
}

/// From now on the most that this process ever had counts from here. Where the system does not do that, it counts from
/// the start, which is no less.
fn forget_peak() {
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}
