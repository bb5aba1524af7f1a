//! A node that misbehaves on request: what the client does about it is what is tested.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use holo_client::Options;
use holo_core::wire::{
    Allocate, ArrayInfo, ArrayList, ArrayRef, ClassBody, Decode, Empty, FrameHeader, GetRange,
    HelloReply, Kind, MemberEntry, PageDigests, RequestKeyBody, RunReply, RunShards, SessionReply,
    ShardPartial, ViewBody, ViewQuery, WriteShard,
};
use holo_core::{ClusterId, ErrorCode, Failure, PAGE_BYTES, PublicKey, Role, UnixMillis};
use holo_net::{
    BoxFuture, BulkReader, BulkReply, Endpoint, EndpointOptions, Identity, Peer, Response, Service,
};
use prost::Message;
use tokio::sync::Notify;

use super::store::{ELEMS, SHARD_ELEMS, Store};

pub const CLUSTER: ClusterId = ClusterId([7; 32]);
/// Long enough for a machine that is busy elsewhere; no test waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long tests wait for the dead. The living, who have the same time, must manage on a busy machine.
pub const WHILE: Duration = Duration::from_secs(3);
const DAY: Duration = Duration::from_secs(86_400);
const PARTITION_BITS: u32 = 4;

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
    /// Never answers anything that is about elements or makes an array.
    Hangs,
    /// Does the next thing, and never answers it or anything after it: it died a moment too early.
    DiesBeforeItAnswers,
    /// Never answers writes with the first number of a session, as long as nobody calls [`FakeNode::release`].
    HoldsTheFirstWrite,
    /// Refuses so many requests that are about elements with this code.
    Refuses(ErrorCode, usize),
    /// Refuses the first small read, and says to come again.
    IsBusyOnce,
    /// Does not know its cluster the first time that it is asked for it.
    HasJustStarted,
    /// Forgets a shard's partial result.
    ForgetsAPartial,
    /// Refuses every run, and says to come again.
    IsTooBusyToRun,
}

pub struct FakeNode {
    pub store: Arc<Store>,
    state: Arc<State>,
    endpoint: Endpoint,
    key: PublicKey,
    folder: tempfile::TempDir,
}

struct State {
    store: Arc<Store>,
    fault: Mutex<Fault>,
    dead: Mutex<bool>,
    released: Notify,
    requests: Mutex<Vec<Kind>>,
    /// Wakes who waits for requests.
    came: Notify,
    runs: Mutex<Vec<Vec<u64>>>,
    view: Mutex<ViewBody>,
}

impl FakeNode {
    /// A cluster of one node.
    pub fn start(fault: Fault) -> Self {
        Self::beside(Arc::new(Store::new()), fault)
    }

    /// A node that holds what others hold as well.
    pub fn beside(store: Arc<Store>, fault: Fault) -> Self {
        let identity = Identity::generate(Role::Node, CLUSTER, DAY, now()).unwrap();
        let key = identity.key();
        let state = Arc::new(State {
            store: Arc::clone(&store),
            fault: Mutex::new(fault),
            dead: Mutex::default(),
            released: Notify::new(),
            requests: Mutex::default(),
            came: Notify::new(),
            runs: Mutex::default(),
            view: Mutex::default(),
        });
        let listen = "127.0.0.1:0".parse().unwrap();
        let service: Arc<dyn Service> = Arc::new(Answers(Arc::clone(&state)));
        let mut options = EndpointOptions::new(listen, identity);
        options.handshake_timeout = PATIENCE;
        let endpoint = Endpoint::bind(options, Some(service)).unwrap();
        let node = Self { store, state, endpoint, key, folder: tempfile::tempdir().unwrap() };
        node.tells(1, &[node.member()], &[Some(0)]);
        node
    }

    pub fn member(&self) -> (PublicKey, String) {
        (self.key, self.endpoint.local_addr().to_string())
    }

    /// Sets the view that the node tells of. `primaries` are the members, by index, that hold the partitions, in turn;
    /// `None` where the data is lost.
    pub fn tells(&self, version: u64, members: &[(PublicKey, String)], primaries: &[Option<u16>]) {
        let mut holders = Vec::new();
        for partition in 0..1 << PARTITION_BITS {
            match primaries[partition % primaries.len()] {
                Some(index) => {
                    holders.push(1);
                    holders.extend(index.to_le_bytes());
                }
                None => holders.push(0),
            }
        }
        let members = members.iter().zip(1u32..).map(|((key, address), number)| MemberEntry {
            node: key.0.to_vec(),
            name: format!("fake-{number}"),
            address: address.clone(),
            zone: String::new(),
            weight_milli: 1000,
            number,
            state: "active".into(),
            up: true,
        });
        *self.state.view.lock().unwrap() = ViewBody {
            version,
            unchanged: false,
            cluster_name: "fake".into(),
            partition_bits: PARTITION_BITS,
            members: members.collect(),
            classes: vec![ClassBody { replicas: 2, min_in_sync: 1, holders: holders.into() }],
            voters: Vec::new(),
            awaited: Vec::new(),
        };
    }

    /// From now on the node tells that the cluster does not hear this member.
    pub fn misses(&self, index: usize) {
        let mut view = self.state.view.lock().unwrap();
        view.version += 1;
        view.members[index].up = false;
    }

    /// Goes on differently.
    pub fn turns(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
    }

    /// Lets go of what [`Fault::HoldsTheFirstWrite`] holds.
    pub fn release(&self) {
        self.turns(Fault::None);
        self.state.released.notify_waiters();
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
        self.member().1
    }

    pub fn key(&self) -> PublicKey {
        self.key
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.state.requests.lock().unwrap().iter().filter(|seen| **seen == kind).count()
    }

    /// Waits until so many requests of a kind have come.
    pub async fn has_heard(&self, kind: Kind, count: usize) {
        loop {
            let mut came = std::pin::pin!(self.state.came.notified());
            came.as_mut().enable();
            if self.count(kind) >= count {
                return;
            }
            tokio::time::timeout(PATIENCE, came).await.expect("nobody asks");
        }
    }

    /// Shards that it was asked to run, request by request: pairs of a first shard and a count.
    pub fn runs(&self) -> Vec<Vec<u64>> {
        self.state.runs.lock().unwrap().clone()
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
        let state = Arc::clone(&self.0);
        let kind = header.kind;
        state.note(kind);
        if state.is_dead() {
            return silence();
        }
        let is_data = matches!(
            kind,
            Kind::Get | Kind::Put | Kind::Update | Kind::Fill | Kind::RunShards | Kind::Allocate
        );
        if !is_data {
            return Response::Now(state.answer(kind, &body));
        }
        match state.misbehave(kind, &body) {
            Misbehaviour::None => Response::Now(state.answer(kind, &body)),
            Misbehaviour::Refusal(failure) => Response::Now(Err(failure)),
            Misbehaviour::Silence => silence(),
            Misbehaviour::DoneInSilence => {
                state.answer(kind, &body).unwrap();
                silence()
            }
            Misbehaviour::Late => Response::WhileConnected(Box::pin(async move {
                state.released.notified().await;
                state.answer(kind, &body)
            })),
        }
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
            state.note(header.kind);
            let misbehaviour = match state.is_dead() {
                true => Misbehaviour::Silence,
                false => state.misbehave(header.kind, &body),
            };
            if let Misbehaviour::Refusal(failure) = misbehaviour {
                return Err(failure);
            }
            if matches!(misbehaviour, Misbehaviour::Silence | Misbehaviour::Late) {
                return std::future::pending().await;
            }
            let reply = match header.kind {
                Kind::ReadShard => state.read(&body),
                Kind::WriteShard => state.write(&body, incoming).await,
                other => Err(Failure::new(ErrorCode::NotYet, format!("{other:?}"))),
            };
            match misbehaviour {
                Misbehaviour::DoneInSilence => std::future::pending().await,
                _ => reply,
            }
        })
    }
}

enum Misbehaviour {
    None,
    Refusal(Failure),
    Silence,
    DoneInSilence,
    Late,
}

fn silence() -> Response {
    Response::WhileConnected(Box::pin(std::future::pending()))
}

impl State {
    fn note(&self, kind: Kind) {
        self.requests.lock().unwrap().push(kind);
        self.came.notify_waiters();
    }

    fn is_dead(&self) -> bool {
        *self.dead.lock().unwrap()
    }

    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    /// What is wrong with the answer to a request that is about elements or makes an array.
    fn misbehave(&self, kind: Kind, body: &[u8]) -> Misbehaviour {
        let busy = || Failure::new(ErrorCode::Overloaded, "busy").retry_after_ms(1);
        let mut fault = self.fault.lock().unwrap();
        match *fault {
            Fault::Hangs => Misbehaviour::Silence,
            Fault::DiesBeforeItAnswers => {
                *self.dead.lock().unwrap() = true;
                Misbehaviour::DoneInSilence
            }
            Fault::HoldsTheFirstWrite if kind == Kind::Put && is_first(body) => Misbehaviour::Late,
            Fault::Refuses(code, times) if times > 0 => {
                *fault = Fault::Refuses(code, times - 1);
                Misbehaviour::Refusal(Failure::new(code, "not now"))
            }
            Fault::IsBusyOnce if kind == Kind::Get => {
                *fault = Fault::None;
                Misbehaviour::Refusal(busy())
            }
            Fault::IsTooBusyToRun if kind == Kind::RunShards => Misbehaviour::Refusal(busy()),
            _ => Misbehaviour::None,
        }
    }

    fn answer(&self, kind: Kind, body: &[u8]) -> Result<Bytes, Failure> {
        let reply = match kind {
            Kind::Hello => {
                HelloReply { agent: "fake".into(), ..HelloReply::default() }.encode_to_vec()
            }
            Kind::View if self.fault() == Fault::HasJustStarted => {
                *self.fault.lock().unwrap() = Fault::None;
                return Err(Failure::new(ErrorCode::NotReady, "no catalog yet"));
            }
            Kind::View => {
                let view = self.view.lock().unwrap().clone();
                let known = ViewQuery::decode_body(body)?.known_version;
                let unchanged = ViewBody { unchanged: true, ..ViewBody::default() };
                if known == view.version { unchanged } else { view }.encode_to_vec()
            }
            Kind::OpenSession => {
                SessionReply { session: self.store.open_session() }.encode_to_vec()
            }
            Kind::ArrayInfo => self.find(&ArrayRef::decode_body(body)?)?.encode_to_vec(),
            Kind::ArrayList => {
                ArrayList { arrays: vec![info()], ..ArrayList::default() }.encode_to_vec()
            }
            Kind::Allocate => {
                let Allocate { name, token, .. } = Allocate::decode_body(body)?;
                let mut made = self.store.made.lock().unwrap();
                let known = made.get_or_insert((name.clone(), token));
                if *known != (name.clone(), token) {
                    return Err(Failure::new(ErrorCode::AlreadyExists, "it is there"));
                }
                ArrayInfo { id: 2, name, ..info() }.encode_to_vec()
            }
            Kind::ArrayRemove => {
                assert_eq!(ArrayRef::decode_body(body)?.id, 2, "removed is what was made");
                *self.store.made.lock().unwrap() = None;
                Empty {}.encode_to_vec()
            }
            Kind::Shutdown => Empty {}.encode_to_vec(),
            Kind::RunShards => self.run(&RunShards::decode_body(body)?)?.encode_to_vec(),
            other => return self.store.answer(other, body),
        };
        Ok(reply.into())
    }

    fn find(&self, array: &ArrayRef) -> Result<ArrayInfo, Failure> {
        let made = self.store.made.lock().unwrap().clone();
        match &array.name {
            name if name == "a" => Ok(info()),
            name if made.is_some_and(|(made, _)| made == *name) => {
                Ok(ArrayInfo { id: 2, name: name.clone(), ..info() })
            }
            name => Err(Failure::new(ErrorCode::NotFound, format!("array {name}: not found"))),
        }
    }

    /// Pretends to have summed the shards that it is asked for: every shard's sum is 1.
    fn run(&self, request: &RunShards) -> Result<RunReply, Failure> {
        if request.table_version != self.view.lock().unwrap().version {
            return Err(Failure::new(ErrorCode::WrongNode, "split by another view"));
        }
        self.runs.lock().unwrap().push(request.shard_runs.clone());
        let pairs = request.shard_runs.chunks_exact(2);
        let shards: Vec<u64> = pairs.flat_map(|pair| pair[0]..pair[0] + pair[1]).collect();
        let elems = |shard: &u64| SHARD_ELEMS.min(ELEMS - shard * SHARD_ELEMS);
        let partials = shards
            .iter()
            .map(|shard| ShardPartial { shard: *shard, data: 1i64.to_le_bytes().to_vec() });
        let skip = usize::from(self.fault() == Fault::ForgetsAPartial);
        Ok(RunReply {
            shards: shards.len() as u64,
            elems: shards.iter().map(elems).sum(),
            partials: partials.skip(skip).collect(),
            engine: "fake".into(),
            ..RunReply::default()
        })
    }

    fn read(&self, body: &[u8]) -> Result<BulkReply, Failure> {
        let range = GetRange::decode_body(body)?;
        let mut data = self.store.slice(&range);
        let mut digests = digests(range.offset, &data);
        let mut fault = self.fault.lock().unwrap();
        match *fault {
            Fault::FlipsBits => data[5] ^= 1,
            Fault::FlipsOneBit => {
                *fault = Fault::None;
                data[5] ^= 1;
            }
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
        let body = self.store.write(head.key, head.shard, head.offset, &data);
        Ok(BulkReply { body, bulk: Vec::new() })
    }
}

fn is_first(put: &[u8]) -> bool {
    let key = holo_core::wire::PutRange::decode_body(put).unwrap().key;
    matches!(key, Some(RequestKeyBody { number: 1, .. }))
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

fn info() -> ArrayInfo {
    ArrayInfo {
        id: 1,
        name: "a".into(),
        shape: vec![ELEMS],
        dtype: u32::from(holo_core::DType::I64.to_byte()),
        shard_elems: SHARD_ELEMS,
        colocation: 1,
        placement_key: vec![3; 32],
        replicas: 2,
        created_unix_ms: 1,
        tenant: 1,
        min_in_sync: 1,
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
