//! The first commands of a run's catalog: a cluster, its operator, and arrays that bring the groups into being.

use holo_core::catalog::{Authority, Bootstrap, NewArray, NewNode, Operation, Settings};
use holo_core::replication::Class;
use holo_core::{
    ArrayLayout, ArrayName, DType, Grant, NodeId, Principal, PublicKey, Shape, TenantId, Verb,
};

/// Who drains nodes and makes arrays.
pub(crate) const OPERATOR: Authority = Authority::Principal(OPERATOR_KEY);

const OPERATOR_KEY: PublicKey = PublicKey([7; 32]);
const TENANT: TenantId = TenantId(1);
/// How long a group that came back from disk waits for nodes that are not there; longer than any lease.
const REPAIR_DELAY_MS: u64 = 2_000;
/// Small, and the same for all: a ring of few points is made quickly, and shares are as with any other weight.
const WEIGHT_MILLI: u32 = 30;

/// The first command: one node per zone entry, and 2^bits partitions.
pub(crate) fn bootstrap(zones: &[u8], partition_bits: u8) -> Operation {
    let verbs = [Verb::Role, Verb::Drain, Verb::Allocate, Verb::Config, Verb::Shutdown];
    let operator = Principal {
        key: OPERATOR_KEY,
        name: "operator".to_owned(),
        tenant: TENANT,
        grants: verbs.into_iter().map(Grant::any).collect(),
    };
    Operation::Bootstrap(Bootstrap {
        cluster_name: "simulated".to_owned(),
        root: PublicKey([9; 32]),
        partition_bits,
        founders: zones.iter().enumerate().map(|(node, zone)| founder(node, *zone)).collect(),
        principals: vec![operator],
        settings: Settings { repair_delay_ms: REPAIR_DELAY_MS, ..Settings::default() },
    })
}

/// Creates the array whose class is the `at`-th one; it has data in every group of its class.
pub(crate) fn array(at: usize, class: Class) -> Operation {
    let name = format!("a{at}");
    let layout = Shape::new(&[1 << 20]).and_then(|it| ArrayLayout::new(it, DType::U8, 16));
    let (Ok(name), Ok(layout)) = (ArrayName::new(&name), layout) else {
        unreachable!("the name and the shape are constants");
    };
    Operation::CreateArray(NewArray {
        name,
        tenant: TENANT,
        layout,
        like: None,
        class,
        placement_key: [1; 32],
        token: at as u64,
    })
}

fn founder(node: usize, zone: u8) -> NewNode {
    let mut key = [1; 32];
    key[..8].copy_from_slice(&(node as u64 + 1).to_le_bytes());
    NewNode {
        id: NodeId(PublicKey(key)),
        name: format!("n{}", node + 1),
        address: format!("127.0.0.1:{}", 7401 + node),
        zone: format!("z{zone}"),
        weight_milli: WEIGHT_MILLI,
        agent: String::new(),
    }
}
