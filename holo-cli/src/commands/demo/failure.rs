//! The death of a node in the middle of it all, and what it costs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use holo_client::{AnyArray, Cluster, ClusterView, DType, SharedArray};
use holo_core::{ErrorCode, Failure, NodeId, PartitionId, ShardIndex};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use super::mismatch;
use super::steps::Steps;
use crate::clock::{Deadline, Stopwatch, pause};
use crate::quantity;

/// The array that is written to while the node dies; a shard an element, so that every node has some.
const COUNTERS: &str = "demo/counters";
const COUNTERS_LEN: usize = 96;
/// Writes that are acknowledged before the node is killed.
const WRITES_BEFORE: u64 = 200;
/// Time between two looks at who holds what.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Time that a repair may take: long, for a machine that is busy with other things.
const REPAIR_WITHIN: Duration = Duration::from_secs(120);

/// Kills node processes, and remembers whom.
#[derive(Debug)]
pub(super) struct Killer {
    pids: BTreeMap<String, u32>,
    killed: RefCell<Option<String>>,
}

/// What the death of a node did.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Survived {
    pub(super) node: String,
    /// From the kill until a write to a part of its was acknowledged.
    write_again_us: u64,
    /// From the kill until an element of a part of its was read.
    read_again_us: u64,
    /// Groups with a copy too few, at the worst.
    groups_degraded: u64,
    /// From the kill until every group had all its copies again.
    repaired_us: u64,
    repaired_bytes: u64,
    writes_acknowledged: u64,
    writes_lost: u64,
}

/// The writes that somebody goes on doing all the while.
struct Writer {
    counters: SharedArray<i64>,
    acknowledged: RefCell<Vec<i64>>,
    count: Cell<u64>,
    stop: Cell<bool>,
}

/// The node that dies, and a part of each array that it is the primary of.
struct Victim {
    index: usize,
    node: NodeId,
    name: String,
    counter: u64,
    element: Option<u64>,
}

/// Kills a node while a writer goes on, and waits until the others have made up for it.
///
/// # Errors
///
/// Any error of the writer, and whatever differs from what it must be.
pub(super) async fn survive(
    cluster: &Cluster,
    array: &AnyArray,
    killer: &Killer,
    steps: &mut Steps<'_>,
) -> Result<Survived, Failure> {
    let builder = cluster.array(COUNTERS).shape([COUNTERS_LEN as u64]).shard_elems(1);
    let counters = builder.replicas(u32::from(array.descriptor().replicas)).create_any(DType::I64);
    let counters = counters.await?;
    let writer = Writer {
        counters: counters.typed::<i64>()?,
        acknowledged: RefCell::new(vec![0; COUNTERS_LEN]),
        count: Cell::new(0),
        stop: Cell::new(false),
    };
    let script = async {
        let survived = act(cluster, array, &counters, &writer, killer, steps).await;
        writer.stop.set(true);
        survived
    };
    let (written, survived) = tokio::join!(writer.write(), script);
    let (mut survived, ()) = (survived?, written?);
    let counting = writer.counters.read(..);
    let counted = steps.take(&format!("read {COUNTERS}"), 0, counting).await?;
    survived.writes_acknowledged = writer.count.get();
    steps.checked(check_counters(&writer.acknowledged.borrow(), &counted)?);
    Ok(survived)
}

/// The kill and what follows, beside the writer.
async fn act(
    cluster: &Cluster,
    array: &AnyArray,
    counters: &AnyArray,
    writer: &Writer,
    killer: &Killer,
    steps: &mut Steps<'_>,
) -> Result<Survived, Failure> {
    while writer.count.get() < WRITES_BEFORE && !writer.stop.get() {
        pause(LOOK_INTERVAL).await;
    }
    cluster.refresh().await?;
    let victim = Victim::choose(&cluster.view(), array, counters)?;
    let bytes_before = bytes_elsewhere(cluster, victim.node).await;
    let watch = Stopwatch::start();
    let name = format!("kill -9 {}", victim.name);
    let again = async {
        killer.kill(&victim.name)?;
        let write = async { writer.add(victim.counter).await.map(|()| watch.elapsed()) };
        let read = async {
            let Some(element) = victim.element else { return Ok(watch.elapsed()) };
            array
                .read_bytes(element..=element)
                .await
                .map(|_| watch.elapsed())
                .map_err(Failure::from)
        };
        let (write, read) = tokio::join!(write, read);
        Ok::<_, Failure>((write?, read?))
    };
    let (write_again, read_again) = steps.take(&name, 0, again).await?;
    steps.checked(format!(
        "its part was written again after {}, read after {}",
        quantity::duration(write_again),
        quantity::duration(read_again)
    ));
    let repair = repaired(cluster, victim.index);
    let groups_degraded = steps.take("make its copies again", 0, repair).await?;
    let repaired = watch.elapsed();
    let repaired_bytes = bytes_elsewhere(cluster, victim.node).await.saturating_sub(bytes_before);
    steps.checked(format!(
        "{} had a copy too few; {} copied, all are whole",
        quantity::counted(groups_degraded, "group"),
        quantity::bytes(repaired_bytes)
    ));
    Ok(Survived {
        node: victim.name,
        write_again_us: micros(write_again),
        read_again_us: micros(read_again),
        groups_degraded,
        repaired_us: micros(repaired),
        repaired_bytes,
        writes_acknowledged: 0,
        writes_lost: 0,
    })
}

/// Waits until no group counts on the dead node and each has all its copies; returns how many had not, at the worst.
async fn repaired(cluster: &Cluster, dead: usize) -> Result<u64, Failure> {
    let deadline = Deadline::after(REPAIR_WITHIN);
    let mut worst = 0;
    loop {
        // Members keep their place in the view as long as none leaves or comes.
        let view = cluster.refresh().await?;
        let (named, degraded) = groups(&view, dead);
        worst = worst.max(degraded.max(named));
        if named == 0 && degraded == 0 {
            return Ok(worst);
        }
        if deadline.is_past() {
            let message = format!(
                "{} still lack a copy after {} s",
                quantity::counted(degraded + named, "group"),
                REPAIR_WITHIN.as_secs()
            );
            return Err(Failure::new(ErrorCode::DeadlineExceeded, message));
        }
        pause(LOOK_INTERVAL).await;
    }
}

/// Groups that count on the member with index `dead`, and others that have a copy too few.
fn groups(view: &ClusterView, dead: usize) -> (u64, u64) {
    let (mut named, mut degraded) = (0, 0);
    for class in view.classes() {
        for partition in (0..view.partitions()).map(PartitionId) {
            let holders = view.holders(class, partition);
            if holders.iter().any(|holder| usize::from(*holder) == dead) {
                named += 1;
            } else if holders.len() < usize::from(class.replicas) {
                degraded += 1;
            }
        }
    }
    (named, degraded)
}

/// Bytes of array data on all nodes but one.
async fn bytes_elsewhere(cluster: &Cluster, but: NodeId) -> u64 {
    let status = cluster.status().await;
    let others = status.iter().filter(|status| status.member.node != but);
    others.filter_map(|status| status.outcome.as_ref().ok()).map(|said| said.frame_bytes).sum()
}

fn check_counters(acknowledged: &[i64], counted: &[i64]) -> Result<String, Failure> {
    for (index, (wanted, found)) in acknowledged.iter().zip(counted).enumerate() {
        if wanted != found {
            return Err(mismatch(format!(
                "counter {index} is {found} after {wanted} acknowledged additions of 1"
            )));
        }
    }
    let total: i64 = acknowledged.iter().sum();
    let total = quantity::count(total.unsigned_abs());
    Ok(format!("{total} fetch_add acknowledged, {total} counted"))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Writer {
    /// Counts up one counter after the other until it is told to stop.
    async fn write(&self) -> Result<(), Failure> {
        let mut index = 0;
        while !self.stop.get() {
            let added = self.add(index).await;
            if added.is_err() {
                // Whoever waits for the next write need not.
                self.stop.set(true);
            }
            added?;
            index = (index + 1) % COUNTERS_LEN as u64;
        }
        Ok(())
    }

    async fn add(&self, index: u64) -> Result<(), Failure> {
        self.counters.fetch_add(index, 1).await?;
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(counter) = self.acknowledged.borrow_mut().get_mut(place) {
            *counter += 1;
        }
        self.count.set(self.count.get() + 1);
        Ok(())
    }
}

impl Victim {
    /// The member that is the primary of the most counters.
    fn choose(view: &ClusterView, array: &AnyArray, counters: &AnyArray) -> Result<Self, Failure> {
        let mut led: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for shard in 0..counters.layout().shards() {
            let (primary, _) = view.primary_of(counters.descriptor(), ShardIndex(shard))?;
            led.entry(primary).or_default().push(shard);
        }
        let most = led.into_iter().max_by_key(|(_, shards)| shards.len());
        let none = || Failure::new(ErrorCode::Internal, format!("{COUNTERS} has no shards"));
        let (index, shards) = most.ok_or_else(none)?;
        let member = &view.members().get(index).ok_or_else(none)?.member;
        let element = view
            .shards_of(array.descriptor(), index)
            .next()
            .map(|shard| shard.0 * array.layout().shard_elems());
        Ok(Self {
            index,
            node: member.node,
            name: member.name.clone(),
            counter: shards.first().copied().unwrap_or(0),
            element,
        })
    }
}

impl Killer {
    pub(super) fn new(pids: BTreeMap<String, u32>) -> Self {
        Self { pids, killed: RefCell::new(None) }
    }

    /// Whether it was we who ended that node.
    pub(super) fn has_killed(&self, name: &str) -> bool {
        self.killed.borrow().as_deref() == Some(name)
    }

    fn kill(&self, name: &str) -> Result<(), Failure> {
        let failed = |why: String| {
            Failure::new(ErrorCode::Internal, format!("cannot kill node {name}: {why}"))
        };
        let pid = self.pids.get(name).and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| failed("it has no process".to_owned()))?;
        *self.killed.borrow_mut() = Some(name.to_owned());
        // Its parent, this process, has not waited for it yet: the number is still its own.
        kill_process(pid, Signal::KILL).map_err(|source| failed(source.to_string()))
    }
}

impl Survived {
    pub(super) fn in_words(&self) -> String {
        let time = |micros| quantity::duration(Duration::from_micros(micros));
        format!(
            "{} was killed while it was written to. Its part was served again after {} (writes) and {} (reads);\n\
             after {} all {} had their copies again, {} of data. {} writes were acknowledged, {} lost.",
            self.node,
            time(self.write_again_us),
            time(self.read_again_us),
            time(self.repaired_us),
            quantity::counted(self.groups_degraded, "group"),
            quantity::bytes(self.repaired_bytes),
            quantity::count(self.writes_acknowledged),
            self.writes_lost,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_is_missing_or_done_twice_is_found() {
        assert_eq!(
            check_counters(&[2, 0, 1], &[2, 0, 1]).unwrap(),
            "3 fetch_add acknowledged, 3 counted"
        );
        for wrong in [[1, 0, 1], [3, 0, 1], [2, 0, 0]] {
            let found = check_counters(&[2, 0, 1], &wrong).unwrap_err();
            assert!(found.message.contains("acknowledged additions of 1"), "{}", found.message);
        }
    }
}
