//! How large and how fast the catalog is: `cargo run -p holo-core --example catalog_scale [NODES [ARRAYS [BITS]]]`.
//!
//! It founds a cluster of so many nodes in 2^BITS partitions, creates the arrays in two classes, and prints the memory of
//! the process, the time of a plan from nothing, of one after a node has gone, and the size of a snapshot.

use std::time::Instant;

use holo_core::catalog::{
    Answer, Authority, BootId, Bootstrap, CatalogState, Command, NewNode, NodeChange, Operation,
    Registration, Settings, plan, plan_with,
};
use holo_core::replication::NodeNumber;
use holo_core::wire::Allocate;
use holo_core::{DType, Failure, Grant, NodeId, Principal, PublicKey, TenantId, UnixMillis, Verb};

const NOW: UnixMillis = UnixMillis(1000);
const OPERATOR: PublicKey = PublicKey([1; 32]);

struct Scale {
    state: CatalogState,
    index: u64,
}

impl Scale {
    fn perform(&mut self, by: Authority, operation: Operation) -> Result<Answer, Failure> {
        self.index += 1;
        self.state.apply(self.index, Command { at: NOW, by, operation }).accepted()
    }

    fn replan(&mut self, also: &[u8]) -> Result<(), Failure> {
        for update in plan_with(&self.state, NOW, also)?.updates() {
            self.perform(Authority::Principal(OPERATOR), Operation::ApplyTable(update))?;
        }
        Ok(())
    }
}

fn founded(nodes: u32, partition_bits: u8) -> Result<Scale, Failure> {
    let founders = (1..=nodes).map(|number| NewNode {
        id: NodeId(PublicKey(*blake3::hash(&number.to_le_bytes()).as_bytes())),
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
        root: PublicKey([2; 32]),
        partition_bits,
        founders: founders.collect(),
        principals: vec![operator],
        settings: Settings::default(),
    };
    let mut scale = Scale { state: CatalogState::new(), index: 0 };
    scale.perform(Authority::Nobody, Operation::Bootstrap(first))?;
    for number in 1..=nodes {
        let node = NodeNumber(number);
        let start = Registration {
            node,
            boot: BootId([7; 16]),
            agent: "holo 0.1.0".to_owned(),
            address: String::new(),
            resumes: None,
            after: None,
        };
        scale.perform(Authority::Node(node), Operation::Register(start))?;
    }
    Ok(scale)
}

fn fill(scale: &mut Scale, arrays: u64) -> Result<(), Failure> {
    for token in 0..arrays {
        let request = Allocate {
            name: format!("team-{}/experiment-{}/array-{token}", token % 50, token % 1000),
            shape: vec![1_000_000 + token],
            dtype: u32::from(DType::F64.to_byte()),
            replicas: 2 + u32::from(token % 4 == 0),
            ..Allocate::default()
        };
        let new = scale.state.prepare_array(OPERATOR, &request, &[9; 32], token)?;
        scale.perform(Authority::Principal(OPERATOR), Operation::CreateArray(new))?;
    }
    Ok(())
}

/// Resident memory of this process in MiB, where the system tells it.
fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    (pages.unwrap_or(0) * 4096) >> 20
}

#[expect(clippy::disallowed_methods, reason = "this program measures")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, u128) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_millis())
}

#[expect(clippy::print_stdout, reason = "this program prints what it measures")]
fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>().ok());
    let mut next = |default: u32| numbers.next().flatten().unwrap_or(default);
    let (nodes, arrays, bits) = (next(1000), next(100_000), next(17));
    let bits = u8::try_from(bits).unwrap_or(17);
    let (scale, founding) = timed(|| founded(nodes, bits));
    let mut scale = scale?;
    println!("{nodes} nodes founded and started: {founding} ms, {} MiB", resident_mib());
    let (planned, first_plan) = timed(|| plan_with(&scale.state, NOW, &[2, 3]));
    drop(planned?);
    println!("first plan, 2^{bits} partitions x (2, 3) copies: {first_plan} ms");
    scale.replan(&[2, 3])?;
    let (filled, filling) = timed(|| fill(&mut scale, u64::from(arrays)));
    filled?;
    let groups = scale.state.groups().count();
    println!("{arrays} arrays, {groups} groups: {filling} ms, {} MiB", resident_mib());
    let change = NodeChange::Drain { deadline: None };
    let drain = Operation::SetNodeState { node: NodeNumber(nodes), change };
    scale.perform(Authority::Principal(OPERATOR), drain)?;
    let (after, replanning) = timed(|| plan(&scale.state, NOW));
    println!("plan without one node: {replanning} ms, {} groups move", after?.moves.len());
    let (bytes, writing) = timed(|| scale.state.encode());
    println!("snapshot: {} MiB in {writing} ms, {} MiB", bytes.len() >> 20, resident_mib());
    let (read, reading) = timed(|| CatalogState::decode(&bytes));
    println!("read again: {reading} ms, equal: {}", read? == scale.state);
    Ok(())
}
