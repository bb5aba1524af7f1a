//! Data planes that replicate over real connections on loopback, under a catalog that the test keeps.

mod access;
mod digests;
mod kept;
mod payloads;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use holo_core::catalog::Intake;
use holo_core::group::{Op, UpdateKind};
use holo_core::placement::ClusterView;
use holo_core::replication::{
    Class, ConfigChange, ConfigClaim, ConfigVerifier, GroupConfig, GroupId, Incarnation,
    NodeNumber, PayloadId, Proposal, ReplicaId, RequestKey, SessionId, SnapshotId, Timers,
};
use holo_core::wire::{FrameHeader, Kind};
use holo_core::{
    ArrayDescriptor, ArrayId, ArrayLayout, ArrayName, ClusterId, ColocationId, DType, Epoch,
    ErrorCode, Failure, PartitionId, Policy, PublicKey, Role, Shape, ShardIndex, TenantId,
    UnixMillis,
};
use holo_net::{
    BoxFuture, BulkReader, BulkReply, Connection, Endpoint, EndpointOptions, Expected, Identity,
    Peer, Response, Service,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::payloads::request;
use super::{Arrays, DataPlane};
use crate::clock::Clock;
use crate::ports::{ControlPort, News};

const CLASS: Class = Class { replicas: 2, min_in_sync: 1 };
const GROUP: GroupId = GroupId { partition: PartitionId(0), class: CLASS };
const ARRAY: ArrayId = ArrayId(1);
const SHARD: ShardIndex = ShardIndex(0);
const CLUSTER: ClusterId = ClusterId([5; 32]);
const HOUR: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(60);

/// Believes everything: proofs are the catalog's own matter.
#[derive(Debug)]
struct Believer;

impl ConfigVerifier for Believer {
    fn is_proven(&self, _config: &GroupConfig, _proof: &[u8]) -> bool {
        true
    }
}

/// The catalog of one group: the compare-and-set on its config, and news of it to all planes.
#[derive(Debug, Default)]
struct Catalog {
    config: Mutex<Option<GroupConfig>>,
    planes: Mutex<Vec<Weak<DataPlane>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl Catalog {
    fn change(self: &Arc<Self>, proposal: Proposal) {
        let mut config = self.config.lock();
        let Some(old) = config.clone().filter(|config| config.epoch == proposal.epoch) else {
            return;
        };
        let mut new = GroupConfig { epoch: Epoch(old.epoch.0 + 1), ..old };
        match proposal.change {
            ConfigChange::AddLearner(id) => new.learners.push(id),
            ConfigChange::AddInSync(id) => {
                new.learners.retain(|learner| *learner != id);
                new.in_sync.push(id);
            }
            ConfigChange::Remove(id) => {
                new.learners.retain(|learner| *learner != id);
                new.in_sync.retain(|member| *member != id);
            }
            ConfigChange::TakeOver => {
                new.in_sync.retain(|member| *member != new.primary);
                new.primary = proposal.by;
            }
            ConfigChange::Handover(id) => new.primary = id,
        }
        new.in_sync.sort_unstable();
        new.check().unwrap();
        *config = Some(new);
        drop(config);
        self.tell();
    }

    fn tell(self: &Arc<Self>) {
        let config = self.config.lock().clone().unwrap();
        let claim = ConfigClaim { config: Arc::new(config), proof: Bytes::new() };
        // Not from inside the caller: it may hold the lock of its machine.
        let catalog = Arc::clone(self);
        self.tasks.lock().spawn(async move {
            for plane in catalog.planes.lock().iter().filter_map(Weak::upgrade) {
                let configs = vec![claim.clone()];
                plane.take_news(News { configs, ..News::default() });
            }
        });
    }

    fn primary(&self) -> usize {
        let config = self.config.lock().clone().unwrap();
        usize::try_from(config.primary.node.0).unwrap()
    }
}

#[derive(Debug)]
struct Port {
    catalog: Arc<Catalog>,
    keys: BTreeMap<PublicKey, NodeNumber>,
    links: Mutex<BTreeMap<NodeNumber, Connection>>,
}

impl ControlPort for Port {
    fn propose(&self, proposal: Proposal) {
        let catalog = Arc::clone(&self.catalog);
        self.catalog.tasks.lock().spawn(async move { catalog.change(proposal) });
    }

    fn ask_config(&self, _group: GroupId, _above: Epoch) {
        self.catalog.tell();
    }

    fn go_along(&self) {}

    fn link(&self, node: NodeNumber) -> Option<Connection> {
        self.links.lock().get(&node).filter(|link| !link.is_closed()).cloned()
    }

    fn background_link(&self, node: NodeNumber) -> BoxFuture<Result<Connection, Failure>> {
        let link = self.link(node);
        let none = Failure::new(ErrorCode::Unreachable, format!("node {node}"));
        Box::pin(async move { link.ok_or(none) })
    }

    fn node_of(&self, key: PublicKey) -> Option<NodeNumber> {
        self.keys.get(&key).copied()
    }
}

/// Answers what replicas ask of each other.
#[derive(Debug, Default)]
struct Peers {
    plane: OnceLock<Arc<DataPlane>>,
}

impl Service for Peers {
    fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&self, peer: &Arc<Peer>, header: &FrameHeader, body: Bytes) -> Response {
        let plane = self.plane.get().unwrap();
        match header.kind {
            Kind::SnapshotIndex => {
                let index = Arc::clone(plane).snapshot_index(peer.key, body);
                Response::WhileConnected(Box::pin(index))
            }
            _ => Response::Now(plane.take_batch(peer.key, &body)),
        }
    }

    fn bulk(
        &self,
        peer: Arc<Peer>,
        header: FrameHeader,
        body: Bytes,
        incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        let plane = Arc::clone(self.plane.get().unwrap());
        Box::pin(async move {
            match header.kind {
                Kind::StagePayload => plane.take_payload(peer.key, body, incoming).await,
                Kind::FetchPayload => plane.give_payload(peer.key, &body),
                _ => plane.snapshot_pages(peer.key, body).await,
            }
        })
    }
}

struct Lab {
    catalog: Arc<Catalog>,
    planes: Vec<Arc<DataPlane>>,
    endpoints: Vec<Endpoint>,
}

fn replica(node: usize) -> ReplicaId {
    ReplicaId { node: NodeNumber(u32::try_from(node).unwrap()), incarnation: Incarnation(1) }
}

fn descriptor() -> ArrayDescriptor {
    let shape = Shape::new(&[100_000]).unwrap();
    ArrayDescriptor {
        id: ARRAY,
        name: ArrayName::new("a").unwrap(),
        tenant: TenantId(1),
        layout: ArrayLayout::new(shape, DType::I64, 100_000).unwrap(),
        colocation: ColocationId(1),
        placement_key: [7; 32],
        replicas: CLASS.replicas,
        min_in_sync: CLASS.min_in_sync,
        created: UnixMillis(0),
    }
}

impl Lab {
    async fn start(nodes: usize) -> Self {
        let catalog = Arc::new(Catalog::default());
        let services: Vec<Arc<Peers>> = (0..nodes).map(|_| Arc::default()).collect();
        let mut endpoints = Vec::new();
        let mut keys = BTreeMap::new();
        for (node, service) in services.iter().enumerate() {
            let now = Clock::start().wall();
            let identity = Identity::generate(Role::Node, CLUSTER, HOUR, now).unwrap();
            keys.insert(identity.key(), replica(node).node);
            let mut options = EndpointOptions::new(SocketAddr::from(([127, 0, 0, 1], 0)), identity);
            options.socket_buffer_bytes = 128 << 10;
            let service = Arc::clone(service) as Arc<dyn Service>;
            endpoints.push(Endpoint::bind(options, Some(service)).unwrap());
        }
        let view = ClusterView::new(0, "lab", 0, Vec::new(), BTreeMap::new()).unwrap();
        let view = Arc::new(view);
        let mut planes = Vec::new();
        for (node, service) in services.iter().enumerate() {
            let port =
                Port { catalog: Arc::clone(&catalog), keys: keys.clone(), links: Mutex::default() };
            for (other, endpoint) in
                endpoints.iter().enumerate().filter(|(other, _)| *other != node)
            {
                let expected = Expected { key: None, role: Role::Node };
                let link = endpoints[node].connect(endpoint.local_addr(), expected, PATIENCE);
                let link = link.await.unwrap();
                port.links.lock().insert(replica(other).node, link);
            }
            let arrays = Arrays::new(0, Arc::clone(&view), Arc::new(Policy::default()), 64 << 20);
            let timers = Timers::default();
            let plane = DataPlane::start(
                replica(node),
                timers,
                Arc::new(Believer),
                Arc::new(arrays),
                Arc::new(port),
                Clock::start(),
                Handle::current(),
            )
            .unwrap();
            service.plane.set(Arc::clone(&plane)).unwrap();
            catalog.planes.lock().push(Arc::downgrade(&plane));
            planes.push(plane);
        }
        let living: Vec<ReplicaId> = (0..nodes).map(replica).collect();
        for plane in &planes {
            let news = News {
                arrays: vec![descriptor()],
                living: Some(living.clone()),
                ..News::default()
            };
            plane.take_news(news);
        }
        *catalog.config.lock() = Some(GroupConfig {
            group: GROUP,
            epoch: Epoch(1),
            primary: replica(0),
            in_sync: vec![replica(0), replica(1)],
            learners: Vec::new(),
            lost: false,
        });
        catalog.tell();
        Self { catalog, planes, endpoints }
    }

    /// Repeats an operation at whoever is the primary until it is done.
    async fn add(&self, number: u64, delta: i64) -> i64 {
        let op = Op::Update {
            array: ARRAY,
            shard: SHARD,
            offset: 80,
            dtype: DType::I64,
            kind: UpdateKind::FetchAdd,
            operand: delta.to_le_bytes(),
            expected: [0; 8],
        };
        let key = RequestKey { session: SessionId(1), number, floor: number };
        loop {
            let plane = &self.planes[self.catalog.primary()];
            let outcome = match plane.propose(GROUP, Some(key), op.clone()) {
                Ok(outcome) => outcome.wait().await,
                Err(refused) => Err(refused),
            };
            match outcome {
                Ok(previous) => return i64::from_le_bytes(previous[..].try_into().unwrap()),
                Err(failure) => assert!(
                    [ErrorCode::WrongNode, ErrorCode::NotReady, ErrorCode::NoQuorum]
                        .contains(&failure.code),
                    "{failure:?}"
                ),
            }
            tokio::task::yield_now().await;
        }
    }

    /// Repeats a bulk write at whoever is the primary until it is done.
    async fn publish(&self, value: u8, offset: u64, len: u64) {
        loop {
            let plane = &self.planes[self.catalog.primary()];
            // The catalog's word may not have come yet.
            if let Some(shard) = plane.arrays.pages(ARRAY, SHARD) {
                let mut staged = shard.stage(offset, len).unwrap();
                staged.buffers().for_each(|buffer| buffer.fill(value));
                match plane.publish(GROUP, (ARRAY, SHARD), None, staged).await {
                    Ok(_) => return,
                    Err(failure) => assert!(
                        [ErrorCode::WrongNode, ErrorCode::NotReady].contains(&failure.code),
                        "{failure:?}"
                    ),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the config is as wished.
    async fn until(&self, wish: impl Fn(&GroupConfig) -> bool) -> GroupConfig {
        loop {
            let config = self.catalog.config.lock().clone().unwrap();
            if wish(&config) {
                return config;
            }
            tokio::task::yield_now().await;
        }
    }

    fn bytes(&self, node: usize) -> Vec<u8> {
        let shard = self.planes[node].arrays.pages(ARRAY, SHARD).unwrap();
        let mut bytes = vec![0; usize::try_from(shard.bytes()).unwrap()];
        shard.snapshot().read_into(0, &mut bytes).unwrap();
        bytes
    }

    /// Waits until two nodes hold the same bytes.
    async fn until_equal(&self, one: usize, other: usize) {
        while self.bytes(one) != self.bytes(other) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_is_written_lies_on_both_replicas_and_a_takeover_keeps_it() {
    let lab = Lab::start(2).await;
    assert_eq!(lab.add(1, 5).await, 0);
    assert_eq!(lab.add(2, 7).await, 5);
    lab.publish(9, 65_000, 200_000).await;
    assert_eq!(lab.add(2, 7).await, 5, "a request that comes again is answered, not repeated");
    lab.until_equal(0, 1).await;
    lab.planes[0].stop();
    lab.endpoints[0].close().await;
    let config = lab.until(|config| config.primary == replica(1)).await;
    assert_eq!(config.in_sync, [replica(1)]);
    assert_eq!(lab.add(2, 7).await, 5, "the new primary knows what was answered");
    assert_eq!(lab.add(3, 1).await, 12);
    let bytes = lab.bytes(1);
    assert!(bytes[65_000..265_000].iter().all(|byte| *byte == 9));
}

#[tokio::test]
async fn a_wanted_holder_is_brought_up_while_writes_go_on_and_the_surplus_one_leaves() {
    let lab = Lab::start(3).await;
    // The element that is added to lies before it.
    lab.publish(3, 65_536, 700_000).await;
    for plane in &lab.planes {
        let targets = vec![(GROUP, vec![replica(2), replica(0)])];
        plane.take_news(News { targets, ..News::default() });
    }
    let mut sum = 0;
    for number in 1.. {
        assert_eq!(lab.add(number, 1).await, sum);
        sum += 1;
        let config = lab.catalog.config.lock().clone().unwrap();
        if config.in_sync == [replica(0), replica(2)] && config.primary == replica(2) {
            break;
        }
    }
    assert_eq!(lab.add(1_000_000, 0).await, sum);
    lab.until_equal(0, 2).await;
    assert!(lab.planes[1].arrays.pages(ARRAY, SHARD).is_none(), "its memory went with its role");
    assert!(lab.planes[0].load().copied_bytes >= 700_000);
}

/// One plane, an array in its one group, and pages that come from disk.
struct Alone {
    lab: Lab,
}

impl Alone {
    async fn start() -> Self {
        let lab = Lab::start(2).await;
        // The group was closed, and this node is no member of what is known to be lost.
        let alone = Self { lab };
        alone.tell(2, true, Vec::new());
        alone.plane().take_news(News { intake: Some(waiting()), ..News::default() });
        alone
    }

    fn plane(&self) -> &Arc<DataPlane> {
        &self.lab.planes[1]
    }

    /// A config with the other node as its primary.
    fn tell(&self, epoch: u64, lost: bool, learners: Vec<ReplicaId>) {
        let config = GroupConfig {
            group: GROUP,
            epoch: Epoch(epoch),
            primary: replica(0),
            in_sync: vec![replica(0)],
            learners,
            lost,
        };
        let claim = ConfigClaim { config: Arc::new(config), proof: Bytes::new() };
        self.plane().take_news(News { configs: vec![claim], ..News::default() });
    }

    fn read(&self) -> Result<super::holding::PutBack, Failure> {
        let plane = self.plane();
        let mut pages = plane.begin_put_back(GROUP)?;
        pages.take(&plane.arrays, ARRAY, SHARD, 3, &[8; holo_core::PAGE_BYTES])?;
        Ok(pages)
    }

    fn has(&self, at: u64) -> bool {
        self.plane().has_put_back(GROUP, Epoch(at))
    }

    fn used(&self) -> Option<u64> {
        self.plane().arrays.pages(ARRAY, SHARD).map(|shard| shard.used_frames())
    }
}

fn waiting() -> Intake {
    Intake::Reopening(Arc::new([GROUP].into()))
}

#[tokio::test]
async fn pages_from_disk_are_shown_all_at_once_and_go_when_nobody_waits_for_them() {
    let alone = Alone::start().await;
    let pages = alone.read().unwrap();
    assert_eq!(alone.used(), Some(0));
    assert!(!alone.has(2));
    alone.plane().put_back(pages, Epoch(2)).unwrap();
    assert!(alone.has(2) && alone.used() == Some(1));
    // The group went on elsewhere, or was given up.
    alone.plane().take_news(News { intake: Some(Intake::Open), ..News::default() });
    assert!(!alone.has(2) && alone.used().is_none());
    assert_eq!(alone.read().unwrap_err().code, ErrorCode::NotReady);
}

#[tokio::test]
async fn pages_from_disk_are_not_offered_any_more_once_the_group_was_here_and_left() {
    let alone = Alone::start().await;
    alone.plane().put_back(alone.read().unwrap(), Epoch(2)).unwrap();
    // Another holder was first: this one becomes its learner, and keeps what may be equal.
    alone.tell(3, false, vec![replica(1)]);
    assert_eq!(alone.used(), Some(1));
    assert_eq!(alone.read().unwrap_err().code, ErrorCode::Cancelled);
    // That one died before the group was settled. What is here now is zeros.
    alone.tell(4, true, Vec::new());
    assert!(!alone.has(4) && alone.used().is_none());
    alone.plane().put_back(alone.read().unwrap(), Epoch(4)).unwrap();
    assert!(alone.has(4) && alone.used() == Some(1));
}

/// The group starts here in this epoch, and is settled at once: this node hears of both together.
async fn started_here_in(epoch: u64) -> Option<u64> {
    let alone = Alone::start().await;
    alone.plane().put_back(alone.read().unwrap(), Epoch(2)).unwrap();
    let config = GroupConfig {
        group: GROUP,
        epoch: Epoch(epoch),
        primary: replica(1),
        in_sync: vec![replica(1)],
        learners: Vec::new(),
        lost: false,
    };
    let claim = ConfigClaim { config: Arc::new(config), proof: Bytes::new() };
    let intake = Some(Intake::Open);
    alone.plane().take_news(News { configs: vec![claim], intake, ..News::default() });
    alone.used()
}

#[tokio::test]
async fn a_group_that_starts_here_and_is_settled_in_one_word_has_its_pages() {
    assert_eq!(started_here_in(3).await, Some(1));
}

#[tokio::test]
async fn a_group_that_others_wrote_and_lost_does_not_start_here_with_what_it_was_before() {
    assert_eq!(started_here_in(5).await, Some(0));
}

#[tokio::test]
async fn pages_that_were_being_read_while_the_group_came_and_went_are_read_again() {
    let alone = Alone::start().await;
    let pages = alone.read().unwrap();
    alone.tell(3, false, vec![replica(1)]);
    alone.tell(4, true, Vec::new());
    assert_eq!(alone.plane().put_back(pages, Epoch(2)).unwrap_err().code, ErrorCode::Cancelled);
    assert!(!alone.has(2));
    alone.plane().put_back(alone.read().unwrap(), Epoch(2)).unwrap();
    assert_eq!(alone.used(), Some(1));
}

#[tokio::test]
async fn a_page_that_is_not_the_groups_is_refused() {
    let alone = Alone::start().await;
    let plane = alone.plane();
    let mut pages = plane.begin_put_back(GROUP).unwrap();
    let page = [8; holo_core::PAGE_BYTES];
    let mut take = |array, shard, page, bytes: &[u8]| {
        let taken = pages.take(&plane.arrays, ArrayId(array), ShardIndex(shard), page, bytes);
        taken.map_err(|failure| failure.code)
    };
    // 800,000 bytes are 12 pages and a part of one.
    assert_eq!(take(1, 0, 12, &page[..13_568]), Ok(()));
    assert_eq!(take(1, 0, 12, &page), Err(ErrorCode::Corrupt));
    assert_eq!(take(1, 0, 3, &page[..100]), Err(ErrorCode::Corrupt));
    assert_eq!(take(1, 0, u32::MAX, &page), Err(ErrorCode::Corrupt));
    assert_eq!(take(7, 0, 0, &page), Err(ErrorCode::NotReady), "not heard of yet");
    plane.take_news(News { removed: vec![ArrayId(7)], ..News::default() });
    assert_eq!(take(7, 0, 0, &page), Ok(()), "removed since");
}

#[tokio::test]
async fn a_group_is_frozen_only_when_it_takes_no_more_and_rests() {
    use holo_core::catalog::CloseId;
    use holo_core::group::Seq;
    let lab = Lab::start(2).await;
    lab.publish(9, 0, 200_000).await;
    let (primary, backup) = (&lab.planes[0], &lab.planes[1]);
    let freeze = |plane: &Arc<DataPlane>, close, epoch, last: Option<Seq>| {
        plane.freeze(CloseId(close), GROUP, Epoch(epoch), last).map(|(seq, _)| seq)
    };
    assert_eq!(freeze(primary, 5, 1, None), None, "it takes writes");
    for plane in [primary, backup] {
        let intake = Some(Intake::Closing(CloseId(5)));
        plane.take_news(News { intake, ..News::default() });
    }
    let op =
        Op::Write { array: ARRAY, shard: SHARD, offset: 0, bytes: Bytes::from_static(&[1; 8]) };
    let refused = primary.propose(GROUP, None, op).unwrap_err();
    assert_eq!(refused.code, ErrorCode::ShuttingDown);
    let last = freeze(primary, 5, 1, None).unwrap();
    assert_eq!(freeze(primary, 4, 1, None), None, "another close");
    assert_eq!(freeze(primary, 5, 2, None), None, "another epoch");
    assert_eq!(freeze(backup, 5, 1, None), None, "only the primary says which is the last");
    assert_eq!(freeze(backup, 5, 1, Some(Seq(last.0 + 1))), None, "not there yet");
    // The backup hears of the commit with the next beat.
    while freeze(backup, 5, 1, Some(last)).is_none() {
        tokio::task::yield_now().await;
    }
    for plane in [primary, backup] {
        plane.take_news(News { intake: Some(Intake::Open), ..News::default() });
    }
    lab.publish(7, 0, 100).await;
}
