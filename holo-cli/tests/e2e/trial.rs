//! What every test here does around what it is about: an array with data, clients that change it, and at the end the
//! question whether everything is as it must be.

use holo_client::{Cluster, SharedArray};
use holo_core::ShardIndex;

use crate::lab::{Lab, PATIENCE, now, said, until_report, until_whole};
use crate::load::Load;

/// The array.
pub(crate) const ARRAY: &str = "t/x";
/// Its elements, in shards enough that every node is the primary of some.
const ELEMENTS: u64 = 60_000;
const SHARD_ELEMS: u64 = 1_000;
/// What a refusal for want of voters or of copies in sync ends with.
const REFUSED: i32 = 8;
/// Elements that clients change; the others stay their own indices.
const LOADED: u64 = 40_000;

/// A cluster with an array on which clients are at work.
pub(crate) struct Trial {
    pub(crate) lab: Lab,
    pub(crate) cluster: Cluster,
    pub(crate) array: SharedArray<u64>,
    load: Load,
}

impl Trial {
    /// Makes the array, of `replicas` copies, as soon as `nodes` nodes and their voters are there, and starts clients.
    pub(crate) async fn start(lab: Lab, nodes: usize, replicas: u32) -> Self {
        let cluster = lab.client().await;
        let voters = if nodes < 5 { 3 } else { 5 };
        until_report(&cluster, "the voters", |report| {
            report.nodes.len() == nodes && report.voters.len() == voters
        })
        .await;
        let array = fill(&cluster, replicas).await;
        until_whole(&cluster, nodes).await;
        let load = Load::start(&cluster, ARRAY, LOADED);
        Self { lab, cluster, array, load }
    }

    /// Waits until so many nodes are up and nothing has a copy too few, and looks at what nobody changes.
    pub(crate) async fn whole(&self, nodes: usize) {
        until_whole(&self.cluster, nodes).await;
        check_the_rest(&self.array).await;
    }

    /// The position of the node that leads the catalog.
    pub(crate) async fn leader(&self) -> usize {
        let report = until_report(&self.cluster, "a leader", |report| report.leader > 0).await;
        let mut members = report.nodes.iter().filter_map(|node| node.member.as_ref());
        Lab::position(&members.find(|member| member.number == report.leader).unwrap().name)
    }

    /// The positions of the nodes that hold an element, its primary first.
    pub(crate) async fn holders(&self, element: u64) -> Vec<usize> {
        let view = self.cluster.refresh().await.unwrap();
        let descriptor = self.array.descriptor();
        let partition = view.partition_of(descriptor, ShardIndex(element / SHARD_ELEMS));
        let holders = view.holders(descriptor.class(), partition).iter();
        let names = holders.map(|index| &view.members()[usize::from(*index)].member.name);
        names.map(|name| Lab::position(name)).collect()
    }

    /// An element that nobody changes, of a shard whose primary is this node.
    pub(crate) async fn led_by(&self, node: usize) -> u64 {
        for element in quiet() {
            if self.holders(element).await.first() == Some(&node) {
                return element;
            }
        }
        panic!("node {node} leads none of the shards that nobody changes");
    }

    /// Elements that nobody changes, of shards whose primaries are other nodes than this one.
    pub(crate) async fn not_led_by(&self, node: usize) -> Vec<u64> {
        let mut elements = Vec::new();
        for element in quiet() {
            if self.holders(element).await.first() != Some(&node) {
                elements.push(element);
            }
        }
        elements
    }

    /// Asks a node that is cut off, from its side of the network, until it says that it may not. Right after the cut it
    /// may have taken an order that it cannot finish: then it says that the outcome is unknown. It never says that it is
    /// done.
    pub(crate) async fn refused_at(&self, node: usize, args: &[&str]) {
        let start = now();
        loop {
            let output = self.lab.holo_at(node, &[args, &["--timeout", "5s"]].concat()).await;
            let stderr = said(&output);
            assert!(!output.status.success(), "{args:?} was done: {output:?}");
            assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
            if output.status.code() == Some(REFUSED) {
                assert!(stderr.contains("error[HC14") && stderr.contains("help: "), "{stderr}");
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{args:?}: {stderr}");
        }
    }

    /// Ends the load and fails the test unless its histories have an explanation, all data is there, and all copies of
    /// it are the same, byte by byte.
    pub(crate) async fn end(self) {
        let recorded = self.load.stop().await;
        recorded.check(&self.array.read(..).await.unwrap());
        check_the_rest(&self.array).await;
        self.lab.verify().await;
    }
}

/// An array whose first elements are 0 and whose others are their own indices.
pub(crate) async fn fill(cluster: &Cluster, replicas: u32) -> SharedArray<u64> {
    let made = cluster.array(ARRAY).shape([ELEMENTS]).shard_elems(SHARD_ELEMS).replicas(replicas);
    let array = made.create::<u64>().await.unwrap();
    let values: Vec<u64> = (LOADED..ELEMENTS).collect();
    array.write(LOADED, &values).await.unwrap();
    array
}

/// Reads everything that nobody changes.
pub(crate) async fn check_the_rest(array: &SharedArray<u64>) {
    let values = array.read(LOADED..).await.unwrap();
    assert!(values.iter().zip(LOADED..).all(|(value, index)| *value == index));
}

/// One element of each shard that nobody changes.
pub(crate) fn quiet() -> impl Iterator<Item = u64> {
    let step = usize::try_from(SHARD_ELEMS).unwrap();
    (LOADED..ELEMENTS).step_by(step)
}
