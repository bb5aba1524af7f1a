//! What a node answers: one function per kind of message, each behind its authorization.

mod admin;
mod catalog;
mod data;
mod join;
mod modules;
mod status;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use holo_core::replication::NodeNumber;
use holo_core::wire::{CatalogFollow, Decode, FrameHeader, Kind};
use holo_core::{ErrorCode, Failure, NodeId, Role};
use holo_net::{BoxFuture, BulkReader, BulkReply, Endpoint, Peer, Response, Service};
use parking_lot::Mutex;
use prost::Message;

use crate::clock::Clock;
use crate::compute::Compute;
use crate::control::Control;
use crate::data::DataPlane;

/// Name and version of this program, as peers and people see it.
pub(crate) const AGENT: &str = concat!("holo ", env!("CARGO_PKG_VERSION"));

/// The services of one node.
#[derive(Debug)]
pub(crate) struct NodeService {
    pub(crate) me: NodeId,
    pub(crate) name: String,
    pub(crate) control: Arc<Control>,
    pub(crate) compute: Arc<Compute>,
    pub(crate) clock: Clock,
    /// Set once this node has its incarnation.
    pub(crate) data: OnceLock<Arc<DataPlane>>,
    /// Set once, right after the endpoint is bound.
    pub(crate) endpoint: Mutex<Option<Endpoint>>,
}

impl NodeService {
    /// The data plane.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotReady`] while this node has not registered with the catalog.
    fn data(&self) -> Result<&Arc<DataPlane>, Failure> {
        self.data.get().ok_or_else(|| {
            let message = format!("node {} has not reached the catalog yet", self.name);
            Failure::new(ErrorCode::NotReady, message)
                .help("it serves once a majority of the catalog's voters answers")
                .retry_after_ms(200)
        })
    }

    /// The member that a peer is.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] for users and strangers.
    fn member(&self, peer: &Peer) -> Result<NodeNumber, Failure> {
        let number = (peer.role == Role::Node).then(|| self.control.node_number(peer.key));
        number.flatten().ok_or_else(|| {
            let message = format!("key {} is no member of the cluster", peer.key.short());
            Failure::new(ErrorCode::Denied, message)
        })
    }

    /// Refuses all that a stranger may not ask: everything but to be let in.
    fn check_stranger(&self, peer: &Peer, kind: Kind) -> Result<(), Failure> {
        if peer.role == Role::Node && kind != Kind::Join {
            self.member(peer)?;
        }
        Ok(())
    }
}

impl Service for NodeService {
    fn admit(&self, peer: &Peer) -> Result<(), Failure> {
        self.control.admit(peer)
    }

    fn call(&self, peer: &Arc<Peer>, header: &FrameHeader, body: Bytes) -> Response {
        if let Err(failure) = self.check_stranger(peer, header.kind) {
            return Response::Now(Err(failure));
        }
        match header.kind {
            Kind::Get => Response::Now(self.get(peer, &body)),
            Kind::Put => self.put(peer, &body),
            Kind::Update => self.update(peer, &body),
            Kind::Fill => self.fill(peer, &body),
            Kind::Replicate | Kind::Beat => Response::Now(self.replicate(peer, &body)),
            Kind::SnapshotIndex => self.snapshot_index(peer, body),
            Kind::GroupDigests => self.group_digests(peer, &body),
            Kind::Hello => Response::Now(self.hello(&body)),
            Kind::View => Response::Now(self.view(&body)),
            Kind::OpenSession => self.open_session(header),
            Kind::Status => Response::Now(self.status(peer, &body)),
            Kind::Shutdown => Response::Now(self.shutdown(peer, &body)),
            Kind::Join => self.join(peer, &body),
            Kind::Admin => self.admin(peer, header, &body),
            Kind::ArrayInfo => Response::Now(self.array_info(peer, &body)),
            Kind::ArrayList => Response::Now(self.array_list(peer)),
            Kind::Allocate => self.allocate(peer, header, &body),
            Kind::ArrayRemove => self.array_remove(peer, header, &body),
            Kind::Raft => self.raft(peer, &body),
            Kind::CatalogPropose => self.propose(peer, &body),
            Kind::VoterSecrets => self.voter_secrets(peer, &body),
            Kind::Heartbeat => Response::Now(self.heartbeat(peer, &body)),
            Kind::ModuleQuery => Response::Now(self.module_query(peer, body)),
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
        if let Err(failure) = self.check_stranger(&peer, header.kind) {
            return Box::pin(async move { Err(failure) });
        }
        match header.kind {
            Kind::ReadShard => {
                let reply = self.read_shard(&peer, &body);
                Box::pin(async move { reply })
            }
            Kind::WriteShard => {
                let data = self.data().cloned();
                Box::pin(async move { data::write_shard(data?, peer, body, incoming).await })
            }
            Kind::ModulePush => {
                let (data, compute) = (self.data().cloned(), Arc::clone(&self.compute));
                Box::pin(async move {
                    let data = data?;
                    modules::module_push(&data, compute, &peer, body, incoming).await
                })
            }
            Kind::StagePayload | Kind::FetchPayload | Kind::SnapshotPages => {
                let data = self.data().cloned();
                let kind = header.kind;
                Box::pin(async move { data::peer_bulk(data?, kind, peer, body, incoming).await })
            }
            Kind::CatalogFollow => {
                let (member, control) = (self.member(&peer), Arc::clone(&self.control));
                Box::pin(async move {
                    member?;
                    control.serve_follow(CatalogFollow::decode_body(&body)?).await
                })
            }
            other => Box::pin(async move { Err(wrong_stream(other)) }),
        }
    }
}

/// How long to look for whoever can answer, so that a refusal still reaches the requester in time.
fn patience(header: &FrameHeader) -> Duration {
    match header.deadline_ms {
        0 => Duration::MAX,
        millis => Duration::from_millis(u64::from(millis) * 4 / 5),
    }
}

fn encode(message: impl Message) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

fn wrong_stream(kind: Kind) -> Failure {
    Failure::new(ErrorCode::Malformed, format!("{kind:?} came on the wrong sort of stream"))
}
