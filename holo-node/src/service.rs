//! What a node answers: one function per kind of message, each behind its authorization.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holo_core::ArrayDescriptor;
use holo_core::placement::Membership;
use holo_core::wire::{
    Allocate, ArrayInstall, ArrayRef, CallModule, CallReply, CombineModule, Decode, FrameHeader,
    GetRange, GetReply, Hello, HelloReply, Kind, LinkStatus, ModulePush, ModuleQuery, ModuleStatus,
    NodeStatus, PageDigests, PutRange, RunShards, Shutdown, StatusQuery, WriteShard,
};
use holo_core::{ArrayId, ErrorCode, Failure, ModuleId, NodeId, Role, ShardIndex, action, limits};
use holo_exec::{CallOutput, Module, RunControl};
use holo_net::{BoxFuture, BulkReader, BulkReply, Endpoint, Peer, Response, Service};
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::watch;

use crate::arrays::{Access, Arrays, Birth};
use crate::clock::Clock;
use crate::compute::{CancelOnDrop, Compute, module_resource, parse_grants, requested_limits};
use crate::directory::{self, DirectoryDriver};
use crate::process;
use crate::run::seed;

/// Name and version of this program, as peers and people see it.
pub(crate) const AGENT: &str = concat!("holo ", env!("CARGO_PKG_VERSION"));

/// The services of one node.
#[derive(Debug)]
pub(crate) struct NodeService {
    pub(crate) me: NodeId,
    pub(crate) name: String,
    pub(crate) membership: Arc<Membership>,
    pub(crate) arrays: Arc<Arrays>,
    pub(crate) compute: Arc<Compute>,
    pub(crate) directory: Arc<DirectoryDriver>,
    pub(crate) clock: Clock,
    /// Set once, right after the endpoint is bound.
    pub(crate) endpoint: Mutex<Option<Endpoint>>,
    pub(crate) stop: watch::Sender<bool>,
}

impl Service for NodeService {
    fn admit(&self, peer: &Peer) -> Result<(), Failure> {
        let policy = self.arrays.policy();
        policy.principal(peer.key)?;
        // A member's key with a client's certificate, or the other way round, is somebody's mistake or attack.
        let member = policy.authorize::<action::Member>(peer.key, "admit").is_ok();
        if member != (peer.role == Role::Node) {
            let message = format!("key {} came as a {}", peer.key.short(), peer.role);
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        if *self.stop.borrow() {
            return Err(Failure::new(
                ErrorCode::ShuttingDown,
                format!("node {} is stopping", self.name),
            ));
        }
        Ok(())
    }

    fn call(&self, peer: &Arc<Peer>, header: &FrameHeader, body: Bytes) -> Response {
        match header.kind {
            Kind::Get => Response::Now(self.get(peer, body)),
            Kind::Put => Response::Now(self.put(peer, header, body)),
            Kind::Hello => Response::Now(self.hello(body)),
            Kind::Status => Response::Now(self.status(peer, body)),
            Kind::Shutdown => Response::Now(self.shutdown(peer, body)),
            Kind::ArrayInfo => Response::Now(self.array_info(peer, body)),
            Kind::ArrayList => {
                Response::Now(directory::visible(&self.arrays, peer.key).map(encode))
            }
            Kind::ArrayInstall => Response::Now(self.array_install(peer, body)),
            Kind::ArrayForget => Response::Now(self.array_forget(peer, body)),
            Kind::ModuleQuery => Response::Now(self.module_query(peer, body)),
            Kind::Allocate => self.allocate(peer, body),
            Kind::ArrayRemove => self.array_remove(peer, body),
            Kind::RunShards => self.run_shards(peer, body),
            Kind::CallModule => self.call_module(peer, body),
            Kind::CombineModule => self.combine_module(peer, body),
            _ => Response::Now(Err(wrong_stream(header.kind))),
        }
    }

    fn bulk(
        &self,
        peer: Arc<Peer>,
        header: FrameHeader,
        body: Bytes,
        incoming: BulkReader,
    ) -> BoxFuture<Result<BulkReply, Failure>> {
        match header.kind {
            Kind::ReadShard => {
                let reply = self.read_shard(&peer, body);
                Box::pin(async move { reply })
            }
            Kind::WriteShard => {
                let (arrays, clock) = (Arc::clone(&self.arrays), self.clock.clone());
                Box::pin(async move {
                    write_shard(&arrays, &clock, &peer, &header, body, incoming).await
                })
            }
            Kind::ModulePush => {
                let (arrays, compute) = (Arc::clone(&self.arrays), Arc::clone(&self.compute));
                Box::pin(async move { module_push(&arrays, compute, &peer, body, incoming).await })
            }
            other => Box::pin(async move { Err(wrong_stream(other)) }),
        }
    }
}

impl NodeService {
    fn get(&self, peer: &Peer, body: Bytes) -> Result<Bytes, Failure> {
        let request = GetRange::decode_body(&body)?;
        let len = usize::try_from(request.len)
            .ok()
            .filter(|len| *len <= limits::INLINE_BYTES_MAX)
            .ok_or_else(|| {
                let message = format!(
                    "{} bytes in one small read, at most {}",
                    request.len,
                    limits::INLINE_BYTES_MAX
                );
                Failure::new(ErrorCode::TooLarge, message)
            })?;
        let access: Access<action::Read> = self.arrays.access(peer.key, ArrayId(request.array))?;
        let shard = self.arrays.shard(&access, ShardIndex(request.shard))?;
        let mut data = BytesMut::zeroed(len);
        shard.read_into(request.offset, &mut data)?;
        Ok(encode(GetReply { data: data.freeze() }))
    }

    fn put(&self, peer: &Peer, header: &FrameHeader, body: Bytes) -> Result<Bytes, Failure> {
        let request = PutRange::decode_body(&body)?;
        if request.data.len() > limits::INLINE_BYTES_MAX {
            let message = format!(
                "{} bytes in one small write, at most {}",
                request.data.len(),
                limits::INLINE_BYTES_MAX
            );
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let access: Access<action::Write> = self.arrays.access(peer.key, ArrayId(request.array))?;
        let what = (request.offset, request.data);
        self.arrays.write(
            &access,
            ShardIndex(request.shard),
            header.epoch,
            self.clock.now(),
            what,
        )?;
        Ok(Bytes::new())
    }

    fn hello(&self, body: Bytes) -> Result<Bytes, Failure> {
        Hello::decode_body(&body)?;
        let (members, table) = self.membership.to_parts();
        Ok(encode(HelloReply {
            node: self.me.0.0.to_vec(),
            agent: AGENT.to_owned(),
            members,
            table: Some(table),
            cluster_name: self.membership.cluster_name().to_owned(),
        }))
    }

    fn status(&self, peer: &Peer, body: Bytes) -> Result<Bytes, Failure> {
        StatusQuery::decode_body(&body)?;
        let _may = self.arrays.policy().authorize::<action::Status>(peer.key, "cluster")?;
        let connections =
            self.endpoint.lock().as_ref().map(Endpoint::connections).unwrap_or_default();
        // Who else uses the cluster is nobody's business: members, and the asker's own links.
        let shown = connections
            .iter()
            .filter(|link| link.peer().role == Role::Node || link.peer().key == peer.key);
        let links = shown.map(|link| {
            let (peer, stats) = (link.peer(), link.stats());
            LinkStatus {
                peer: peer.key.0.to_vec(),
                role: peer.role.to_string(),
                address: peer.address.to_string(),
                suite: peer.suite.name().to_owned(),
                rtt_us: stats.rtt_us,
                mtu: u32::from(stats.mtu),
            }
        });
        let usage = self.arrays.usage();
        let process = process::usage();
        Ok(encode(NodeStatus {
            node: self.me.0.0.to_vec(),
            name: self.name.clone(),
            agent: AGENT.to_owned(),
            uptime_ms: self.clock.now().0 / 1_000_000,
            frame_bytes: usage.frame_bytes,
            frame_bytes_max: usage.frame_bytes_max,
            reserved_bytes: usage.reserved_bytes,
            shards: usage.shards,
            partitions: u32::try_from(self.arrays.partitions()).unwrap_or(u32::MAX),
            links: links.collect(),
            resident_bytes: process.resident_bytes,
            cpu_ms: process.cpu_ms,
            pid: std::process::id(),
            state: if *self.stop.borrow() { "stopping" } else { "ready" }.to_owned(),
        }))
    }

    fn shutdown(&self, peer: &Peer, body: Bytes) -> Result<Bytes, Failure> {
        let request = Shutdown::decode_body(&body)?;
        let _may = self.arrays.policy().authorize::<action::Shutdown>(peer.key, &self.name)?;
        if !request.now {
            let message = "a clean shutdown needs drain, which comes with replication";
            return Err(Failure::new(ErrorCode::NotYet, message)
                .help("--now stops the node at once; what only it holds is lost"));
        }
        tracing::info!(by = %peer.key.short(), "asked to stop now");
        self.stop.send_replace(true);
        Ok(Bytes::new())
    }

    fn array_info(&self, peer: &Peer, body: Bytes) -> Result<Bytes, Failure> {
        let request = ArrayRef::decode_body(&body)?;
        directory::lookup(&self.arrays, peer.key, &request).map(encode)
    }

    fn array_install(&self, peer: &Peer, body: Bytes) -> Result<Bytes, Failure> {
        let authority = self.arrays.authority_of(peer.key)?;
        let request = ArrayInstall::decode_body(&body)?;
        let info = request
            .array
            .ok_or_else(|| Failure::new(ErrorCode::Malformed, "an install without its array"))?;
        let birth = if request.earlier { Birth::Earlier } else { Birth::New };
        self.arrays.install(&authority, ArrayDescriptor::try_from(info)?, birth)?;
        Ok(Bytes::new())
    }

    fn array_forget(&self, peer: &Peer, body: Bytes) -> Result<Bytes, Failure> {
        let authority = self.arrays.authority_of(peer.key)?;
        self.arrays.forget(&authority, ArrayId(ArrayRef::decode_body(&body)?.id));
        Ok(Bytes::new())
    }

    fn module_query(&self, peer: &Peer, body: Bytes) -> Result<Bytes, Failure> {
        let request = ModuleQuery::decode_body(&body)?;
        let id = ModuleId::from_slice(&request.module)?;
        let may = self.arrays.policy().authorize::<action::Run>(peer.key, &module_resource(id))?;
        Ok(encode(match self.compute.modules.find(&may, id) {
            Ok(module) => module_status(&module),
            Err(_) => ModuleStatus::default(),
        }))
    }

    fn allocate(&self, peer: &Arc<Peer>, body: Bytes) -> Response {
        let (directory, key) = (Arc::clone(&self.directory), peer.key);
        Response::Later(Box::pin(async move {
            let request = Allocate::decode_body(&body)?;
            directory.allocate(key, request).await.map(encode)
        }))
    }

    fn array_remove(&self, peer: &Arc<Peer>, body: Bytes) -> Response {
        let (directory, key) = (Arc::clone(&self.directory), peer.key);
        Response::Later(Box::pin(async move {
            let request = ArrayRef::decode_body(&body)?;
            directory.remove(key, request).await?;
            Ok(Bytes::new())
        }))
    }

    fn run_shards(&self, peer: &Arc<Peer>, body: Bytes) -> Response {
        let (arrays, compute, key) =
            (Arc::clone(&self.arrays), Arc::clone(&self.compute), peer.key);
        Response::WhileConnected(Box::pin(async move {
            let request = RunShards::decode_body(&body)?;
            bounded(encode(compute.run(arrays, key, request).await?))
        }))
    }

    fn call_module(&self, peer: &Arc<Peer>, body: Bytes) -> Response {
        let request = CallModule::decode_body(&body);
        self.on_module(
            peer,
            request,
            |request| &request.module,
            |module, request, control| {
                let limits = requested_limits(request.fuel, request.time_ms, request.memory_bytes)?;
                let grants = parse_grants(&request.grants)?;
                let grants = grants.seed(seed(module, &request.args, ShardIndex(0)));
                Ok(module.call(&request.args, &grants, &limits, control)?)
            },
        )
    }

    fn combine_module(&self, peer: &Arc<Peer>, body: Bytes) -> Response {
        let request = CombineModule::decode_body(&body);
        self.on_module(
            peer,
            request,
            |request| &request.module,
            |module, mut request, control| {
                request.partials.sort_by_key(|partial| partial.shard);
                let partials: Vec<Vec<u8>> =
                    request.partials.into_iter().map(|partial| partial.data).collect();
                let limits = requested_limits(request.fuel, request.time_ms, request.memory_bytes)?;
                let grants = parse_grants(&request.grants)?;
                Ok(module.combine(&request.params, &partials, &grants, &limits, control)?)
            },
        )
    }

    /// Runs something of the module that a request names, on a worker, for as long as the requester is there.
    fn on_module<R: Send + 'static>(
        &self,
        peer: &Peer,
        request: Result<R, Failure>,
        id: impl FnOnce(&R) -> &[u8],
        job: impl FnOnce(&Module, R, &RunControl) -> Result<CallOutput, Failure> + Send + 'static,
    ) -> Response {
        let prepared = request.and_then(|request| {
            let module = self.granted_module(peer, id(&request))?;
            Ok((request, module))
        });
        match prepared {
            Ok((request, module)) => {
                let workers = Arc::clone(&self.compute.workers);
                Response::WhileConnected(Box::pin(async move {
                    let cancel = CancelOnDrop::default();
                    let control =
                        RunControl { cancel: Arc::clone(&cancel.0), ..RunControl::default() };
                    workers.run(move || reply_bytes(job(&module, request, &control)?)).await
                }))
            }
            Err(failure) => Response::Now(Err(failure)),
        }
    }

    fn granted_module(&self, peer: &Peer, id: &[u8]) -> Result<Arc<Module>, Failure> {
        let id = ModuleId::from_slice(id)?;
        let may = self.arrays.policy().authorize::<action::Run>(peer.key, &module_resource(id))?;
        self.compute.modules.find(&may, id)
    }

    fn read_shard(&self, peer: &Peer, body: Bytes) -> Result<BulkReply, Failure> {
        let request = GetRange::decode_body(&body)?;
        let access: Access<action::Read> = self.arrays.access(peer.key, ArrayId(request.array))?;
        let shard = self.arrays.shard(&access, ShardIndex(request.shard))?;
        let len = usize::try_from(request.len).unwrap_or(usize::MAX);
        let run = shard.read(request.offset, len)?;
        let digests = Bytes::from(run.digests());
        Ok(BulkReply { body: encode(PageDigests { digests }), bulk: run.to_bytes() })
    }
}

async fn write_shard(
    arrays: &Arrays,
    clock: &Clock,
    peer: &Peer,
    header: &FrameHeader,
    body: Bytes,
    mut incoming: BulkReader,
) -> Result<BulkReply, Failure> {
    let request = WriteShard::decode_body(&body)?;
    let access: Access<action::Write> = arrays.access(peer.key, ArrayId(request.array))?;
    let shard = ShardIndex(request.shard);
    let mut staged = arrays.stage(&access, shard, request.offset, incoming.remaining())?;
    for buffer in staged.buffers() {
        incoming.read_exact(buffer).await?;
    }
    staged.verify(&request.digests)?;
    arrays.publish(&access, shard, header.epoch, clock.now(), staged)?;
    Ok(BulkReply { body: Bytes::new(), bulk: Vec::new() })
}

async fn module_push(
    arrays: &Arrays,
    compute: Arc<Compute>,
    peer: &Peer,
    body: Bytes,
    mut incoming: BulkReader,
) -> Result<BulkReply, Failure> {
    let request = ModulePush::decode_body(&body)?;
    let id = ModuleId::from_slice(&request.module)?;
    let may = arrays.policy().authorize::<action::Run>(peer.key, &module_resource(id))?;
    let len = usize::try_from(incoming.remaining()).unwrap_or(usize::MAX);
    if len > limits::MODULE_BYTES_MAX {
        let message = format!("a module of {len} bytes, at most {}", limits::MODULE_BYTES_MAX);
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    let mut bytes = vec![0u8; len];
    incoming.read_exact(&mut bytes).await?;
    let workers = Arc::clone(&compute.workers);
    let module =
        workers.run(move || compute.modules.add(&compute.engine, &may, id, &bytes)).await?;
    Ok(BulkReply { body: encode(module_status(&module)), bulk: Vec::new() })
}

fn module_status(module: &Module) -> ModuleStatus {
    ModuleStatus { present: true, imports: module.imports(), exports: module.exports() }
}

fn reply_bytes(CallOutput { output, fuel, log }: CallOutput) -> Result<Bytes, Failure> {
    // The engine has bounded the log already.
    let log = log.into_iter().map(|line| line.text).collect();
    bounded(encode(CallReply { output: Bytes::from(output), fuel, log }))
}

/// A reply that is larger than a message may be would only break the connection.
fn bounded(reply: Bytes) -> Result<Bytes, Failure> {
    if reply.len() > limits::BODY_BYTES_MAX as usize {
        let message =
            format!("a reply of {} bytes, at most {} may be", reply.len(), limits::BODY_BYTES_MAX);
        return Err(
            Failure::new(ErrorCode::OutputLimit, message).help("write large results to an array")
        );
    }
    Ok(reply)
}

fn encode(message: impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

fn wrong_stream(kind: Kind) -> Failure {
    Failure::new(ErrorCode::Malformed, format!("{kind:?} came on the wrong sort of stream"))
}
