//! What every test here does around what it is about: an array with data, clients that change it, and at the end the
//! question whether everything is as it must be.

use holo_client::{Cluster, SharedArray};
use holo_core::ShardIndex;

use crate::lab::{Lab, until_report, until_whole};
use crate::load::Load;

/// The array.
pub(crate) const ARRAY: &str = "t/x";
/// Its elements, in shards enough that every node is the primary of some.
const ELEMENTS: u64 = 60_000;
const SHARD_ELEMS: u64 = 1_000;
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

    /// Ends the load and fails the test unless its histories have an explanation and all data is there. Then kills the
    /// nodes of `last`: what the other copies of the shards say that they led must be the same, byte by byte.
    pub(crate) async fn end(mut self, last: &[usize]) {
        let recorded = self.load.stop().await;
        let before = self.array.read(..).await.unwrap();
        recorded.check(&before);
        check_the_rest(&self.array).await;
        for node in last {
            self.lab.kill(*node);
        }
        let after = self.array.read(..).await.unwrap();
        assert!(before == after, "the copies differ");
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
