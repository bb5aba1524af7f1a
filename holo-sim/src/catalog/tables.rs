//! Target tables as somebody may make them who thinks little of keeping things where they are.

use holo_core::TableVersion;
use holo_core::catalog::{Authority, Operation, TableUpdate, TargetTable};
use holo_core::replication::NodeNumber;

use super::Catalog;
use crate::env::{Env, node_index, node_number};
use crate::network::NODES_MAX;
use crate::rng::mix;

impl Catalog {
    /// Moves groups about: each to the nodes with the highest random weight among those that may hold it, from different
    /// zones as far as there are some. The leader plans from there.
    pub(crate) fn rotate(&mut self, env: &mut Env) {
        let salt = env.rng.next();
        let nodes: Vec<usize> = self.eligible();
        if nodes.is_empty() {
            return;
        }
        let sizes: Vec<u8> = self.state.targets().keys().copied().collect();
        let tables = sizes.iter().map(|replicas| {
            let width = usize::from(*replicas).min(nodes.len());
            let holders = (0..1u32 << env.scenario.partition_bits).flat_map(|partition| {
                let place = mix(salt ^ u64::from(partition) << 8 ^ u64::from(*replicas));
                choose(&nodes, &env.scenario.zones, place, width)
            });
            (*replicas, holders.collect::<Vec<_>>())
        });
        let tables = tables.collect();
        self.apply_tables(env, tables);
    }

    /// Makes another of each group's holders the first.
    pub(crate) fn lead(&mut self, env: &mut Env) {
        let tables = self.state.targets().iter().map(|(replicas, table)| {
            let mut holders = table.all_holders().to_vec();
            for set in holders.chunks_exact_mut(usize::from(table.copies())) {
                let first = env.rng.index(set.len());
                set.swap(0, first);
            }
            (*replicas, holders)
        });
        let tables: Vec<_> = tables.collect();
        self.apply_tables(env, tables);
    }

    /// Nodes that may hold something and answer.
    fn eligible(&self) -> Vec<usize> {
        let nodes = self.state.nodes();
        let eligible = nodes.filter(|it| it.state.may_hold() && it.up && it.incarnation.0 > 0);
        eligible.map(|record| node_index(record.replica())).collect()
    }

    fn apply_tables(&mut self, env: &mut Env, tables: Vec<(u8, Vec<NodeNumber>)>) {
        if self.state.close().is_some() {
            // Nothing moves before everything is back.
            return;
        }
        let partitions = 1usize << env.scenario.partition_bits;
        let tables = tables.into_iter().filter_map(|(replicas, holders)| {
            let copies = u8::try_from(holders.len() / partitions).ok()?;
            TargetTable::new(copies, holders).ok().map(|table| (replicas, table))
        });
        let base_version = self.state.table_version();
        let update = TableUpdate {
            base_version,
            version: TableVersion(base_version.0 + 1),
            tables: tables.collect(),
        };
        let leader = Authority::Node(node_number(0));
        self.perform(env, leader, Operation::ApplyTable(update));
    }
}

fn choose(nodes: &[usize], zones: &[u8; NODES_MAX], place: u64, width: usize) -> Vec<NodeNumber> {
    let mut order = nodes.to_vec();
    order.sort_by_key(|node| mix(place ^ (*node as u64) << 40));
    let mut chosen: Vec<usize> = Vec::with_capacity(width);
    for spread in [true, false] {
        for node in &order {
            let same_zone = chosen.iter().any(|other| zones[*other] == zones[*node]);
            if chosen.len() < width && !chosen.contains(node) && !(spread && same_zone) {
                chosen.push(*node);
            }
        }
    }
    chosen.into_iter().map(node_number).collect()
}
