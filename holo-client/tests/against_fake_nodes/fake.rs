//! A node that keeps one array in a vector and misbehaves on request: what the client does about it is what is tested.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use holo_client::Options;
use holo_core::wire::{
    Allocate, ArrayInfo, ArrayList, ArrayRef, Decode, Empty, FrameHeader, GetRange, GetReply,
    HelloReply, Kind, PageDigests, PutRange, RunReply, RunShards, ShardPartial, WriteShard,
};
use holo_core::{
    ClusterId, ErrorCode, Failure, Member, Membership, NodeId, PAGE_BYTES, PlacementTable,
    PublicKey, Role, TableVersion, UnixMillis,
};
use holo_net::{
    BoxFuture, BulkReader, BulkReply, Endpoint, EndpointOptions, Identity, Peer, Response, Service,
};
use prost::Message;

/// Elements of the array, and of each of its shards.
pub const ELEMS: u64 = 200_000;
pub const SHARD_ELEMS: u64 = 65_536;
pub const CLUSTER: ClusterId = ClusterId([7; 32]);
/// Long enough for a machine that is busy elsewhere; no test waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long tests wait for the dead. The living, who have the same time, must manage on a busy machine.
pub const WHILE: Duration = Duration::from_secs(3);
const DAY: Duration = Duration::from_secs(86_400);

/// What the node does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Flips a bit in every bulk read.
    FlipsBits,
    /// Flips a bit in the first bulk read only.
    FlipsOneBit,
    /// Leaves the last digest out.
    ForgetsADigest,
    /// Sends half of the bytes of a bulk read.
    SendsHalf,
    /// Never answers small reads.
    Hangs,
    /// Refuses the first small read, and says to come again.
    IsBusyOnce,
    /// Forgets a shard's partial result.
    ForgetsAPartial,
    /// Refuses every run, and says to come again.
    IsTooBusyToRun,
}

pub struct FakeNode {
    pub state: Arc<State>,
    endpoint: Endpoint,
    key: PublicKey,
    folder: tempfile::TempDir,
}

pub struct State {
    pub bytes: Mutex<Vec<u8>>,
    pub fault: Fault,
    /// Requests of each kind, by number of the kind.
    pub requests: Mutex<Vec<Kind>>,
    /// Name of the array that a client made beside the first one.
    pub made: Mutex<Option<String>>,
    reads: AtomicU64,
    hello: Mutex<HelloReply>,
}

impl FakeNode {
    pub fn start(fault: Fault) -> Self {
        let identity = Identity::generate(Role::Node, CLUSTER, DAY, now()).unwrap();
        let key = identity.key();
        let size = usize::try_from(ELEMS * 8).unwrap();
        let bytes = (0..size).map(|i| u8::try_from(i % 253).unwrap()).collect();
        let state = Arc::new(State {
            bytes: Mutex::new(bytes),
            fault,
            requests: Mutex::default(),
            made: Mutex::default(),
            reads: AtomicU64::new(0),
            hello: Mutex::default(),
        });
        let listen = "127.0.0.1:0".parse().unwrap();
        let service: Arc<dyn Service> = Arc::new(Answers(Arc::clone(&state)));
        let mut options = EndpointOptions::new(listen, identity);
        options.handshake_timeout = PATIENCE;
        let endpoint = Endpoint::bind(options, Some(service)).unwrap();
        let node = Self { state, endpoint, key, folder: tempfile::tempdir().unwrap() };
        node.knows(&[(key, node.address())]);
        node
    }

    /// Sets the members that the node tells of, the directory first.
    pub fn knows(&self, members: &[(PublicKey, String)]) {
        *self.state.hello.lock().unwrap() = hello(self.key, members);
    }

    /// Stops answering, as a node does that ends.
    pub async fn stop(&self) {
        self.endpoint.close().await;
    }

    /// Options of a client of the cluster `cluster`.
    pub fn options(&self, cluster: ClusterId) -> Options {
        self.identified(cluster).address(self.address())
    }

    /// The same without an address.
    pub fn identified(&self, cluster: ClusterId) -> Options {
        Options::new()
            .identity(self.identity(cluster))
            .connect_timeout(PATIENCE)
            .request_timeout(PATIENCE)
    }

    pub fn address(&self) -> String {
        self.endpoint.local_addr().to_string()
    }

    pub fn key(&self) -> PublicKey {
        self.key
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.state.requests.lock().unwrap().iter().filter(|seen| **seen == kind).count()
    }

    fn identity(&self, cluster: ClusterId) -> PathBuf {
        let number = std::fs::read_dir(self.folder.path()).unwrap().count();
        let path = self.folder.path().join(format!("client-{number}.identity"));
        Identity::generate(Role::Client, cluster, DAY, now()).unwrap().save(&path).unwrap();
        path
    }
}

struct Answers(Arc<State>);

impl Service for Answers {
    fn admit(&self, _peer: &Peer) -> Result<(), Failure> {
        Ok(())
    }

    fn call(&self, _peer: &Arc<Peer>, header: &FrameHeader, body: Bytes) -> Response {
        self.0.requests.lock().unwrap().push(header.kind);
        if header.kind == Kind::Get && self.0.fault == Fault::Hangs {
            return Response::Later(Box::pin(std::future::pending()));
        }
        Response::Now(self.0.answer(header.kind, &body))
    }

    fn bulk(
        &self,
        _peer: Arc<Peer>,
        header: FrameHeader,
        body: Bytes,
        incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        let state = Arc::clone(&self.0);
        Box::pin(async move {
            state.requests.lock().unwrap().push(header.kind);
            match header.kind {
                Kind::ReadShard => state.read(&body),
                Kind::WriteShard => state.write(&body, incoming).await,
                other => Err(Failure::new(ErrorCode::NotYet, format!("{other:?}"))),
            }
        })
    }
}

impl State {
    fn answer(&self, kind: Kind, body: &[u8]) -> Result<Bytes, Failure> {
        let reply = match kind {
            Kind::Hello => self.hello.lock().unwrap().encode_to_vec(),
            Kind::ArrayInfo => self.find(&ArrayRef::decode_body(body)?)?.encode_to_vec(),
            Kind::ArrayList => {
                ArrayList { arrays: vec![info()], ..ArrayList::default() }.encode_to_vec()
            }
            Kind::Allocate => {
                let name = Allocate::decode_body(body)?.name;
                *self.made.lock().unwrap() = Some(name.clone());
                ArrayInfo { id: 2, name, ..info() }.encode_to_vec()
            }
            Kind::ArrayRemove => {
                assert_eq!(ArrayRef::decode_body(body)?.id, 2, "removed is what was made");
                *self.made.lock().unwrap() = None;
                Empty {}.encode_to_vec()
            }
            Kind::Shutdown => Empty {}.encode_to_vec(),
            Kind::RunShards if self.fault == Fault::IsTooBusyToRun => {
                return Err(Failure::new(ErrorCode::Overloaded, "busy").retry_after_ms(1));
            }
            Kind::Get => {
                let first = self.reads.fetch_add(1, Ordering::Relaxed) == 0;
                if first && self.fault == Fault::IsBusyOnce {
                    return Err(Failure::new(ErrorCode::Overloaded, "busy").retry_after_ms(1));
                }
                let range = place(&GetRange::decode_body(body)?);
                let data = Bytes::copy_from_slice(&self.bytes.lock().unwrap()[range]);
                GetReply { data }.encode_to_vec()
            }
            Kind::Put => {
                let put = PutRange::decode_body(body)?;
                let (shard, offset, len) = (put.shard, put.offset, put.data.len() as u64);
                let range = place(&GetRange { array: put.array, shard, offset, len });
                self.bytes.lock().unwrap()[range].copy_from_slice(&put.data);
                Empty {}.encode_to_vec()
            }
            Kind::RunShards => self.run(&RunShards::decode_body(body)?).encode_to_vec(),
            other => return Err(Failure::new(ErrorCode::NotYet, format!("{other:?}"))),
        };
        Ok(reply.into())
    }

    fn find(&self, array: &ArrayRef) -> Result<ArrayInfo, Failure> {
        let made = self.made.lock().unwrap().clone();
        match &array.name {
            name if name == "a" => Ok(info()),
            name if Some(name) == made.as_ref() => {
                Ok(ArrayInfo { id: 2, name: name.clone(), ..info() })
            }
            name => Err(Failure::new(ErrorCode::NotFound, format!("array {name}: not found"))),
        }
    }

    /// Pretends to have summed: every shard's sum is 1.
    fn run(&self, _request: &RunShards) -> RunReply {
        let shards = ELEMS.div_ceil(SHARD_ELEMS);
        let partials =
            (0..shards).map(|shard| ShardPartial { shard, data: 1i64.to_le_bytes().to_vec() });
        let skip = usize::from(self.fault == Fault::ForgetsAPartial);
        RunReply {
            shards,
            elems: ELEMS,
            partials: partials.skip(skip).collect(),
            engine: "fake".into(),
            ..RunReply::default()
        }
    }

    fn read(&self, body: &[u8]) -> Result<BulkReply, Failure> {
        let range = GetRange::decode_body(body)?;
        let mut data = self.bytes.lock().unwrap()[place(&range)].to_vec();
        let mut digests = digests(range.offset, &data);
        let first = self.reads.fetch_add(1, Ordering::Relaxed) == 0;
        match self.fault {
            Fault::FlipsBits => data[5] ^= 1,
            Fault::FlipsOneBit if first => data[5] ^= 1,
            Fault::ForgetsADigest => digests.truncate(digests.len() - 32),
            Fault::SendsHalf => data.truncate(data.len() / 2),
            _ => {}
        }
        let body = PageDigests { digests: digests.into() }.encode_to_vec().into();
        Ok(BulkReply { body, bulk: vec![data.into()] })
    }

    async fn write(&self, body: &[u8], mut incoming: BulkReader) -> Result<BulkReply, Failure> {
        let head = WriteShard::decode_body(body)?;
        let mut data = vec![0; usize::try_from(incoming.remaining()).unwrap()];
        incoming.read_exact(&mut data).await?;
        if digests(head.offset, &data) != head.digests {
            return Err(Failure::new(ErrorCode::Corrupt, "what arrived is not what was sent"));
        }
        let (shard, offset, len) = (head.shard, head.offset, data.len() as u64);
        let range = place(&GetRange { array: head.array, shard, offset, len });
        self.bytes.lock().unwrap()[range].copy_from_slice(&data);
        Ok(BulkReply { body: Empty {}.encode_to_vec().into(), bulk: Vec::new() })
    }
}

/// The digest of every page that the bytes touch.
fn digests(offset: u64, mut bytes: &[u8]) -> Vec<u8> {
    let mut room = PAGE_BYTES - usize::try_from(offset).unwrap() % PAGE_BYTES;
    let mut digests = Vec::new();
    while !bytes.is_empty() {
        let (page, rest) = bytes.split_at(room.min(bytes.len()));
        digests.extend_from_slice(blake3::hash(page).as_bytes());
        (bytes, room) = (rest, PAGE_BYTES);
    }
    digests
}

/// Where a range of a shard lies in the whole array.
fn place(range: &GetRange) -> std::ops::Range<usize> {
    let start = range.shard * SHARD_ELEMS * 8 + range.offset;
    usize::try_from(start).unwrap()..usize::try_from(start + range.len).unwrap()
}

fn info() -> ArrayInfo {
    ArrayInfo {
        id: 1,
        name: "a".into(),
        shape: vec![ELEMS],
        dtype: u32::from(holo_core::DType::I64.to_byte()),
        shard_elems: SHARD_ELEMS,
        colocation: 1,
        placement_key: vec![3; 32],
        replicas: 1,
        created_unix_ms: 1,
        tenant: 1,
        min_in_sync: 1,
    }
}

fn hello(key: PublicKey, members: &[(PublicKey, String)]) -> HelloReply {
    let members: Vec<Member> = members
        .iter()
        .enumerate()
        .map(|(index, (key, address))| Member {
            node: NodeId(*key),
            name: format!("fake-{index}"),
            address: address.clone(),
            zone: String::new(),
            weight_milli: 1000,
        })
        .collect();
    let table = PlacementTable::compute(&members, 4, 1, None, TableVersion(1)).unwrap();
    let membership = Membership::new("fake", members, table).unwrap();
    let (members, table) = membership.to_parts();
    HelloReply {
        node: key.0.to_vec(),
        agent: "fake".into(),
        members,
        table: Some(table),
        cluster_name: "fake".into(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "certificates of the test's identities need the time of day"
)]
fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}
