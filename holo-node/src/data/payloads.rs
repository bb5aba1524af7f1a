//! Bytes that lie on every replica before the operation that publishes them.
//!
//! The primary stages what a client sends, sends the same frames to the other replicas, and proposes the operation
//! when they have them. A replica that missed them fetches them when the operation arrives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use holo_core::group::{Op, PageSpan, StagingId};
use holo_core::replication::{
    GroupConfig, GroupId, Input, NodeNumber, PayloadId, ReplicaId, RequestKey,
};
use holo_core::wire::{Decode, FetchPayload, Kind, StagePayload};
use holo_core::{ArrayId, Epoch, ErrorCode, Failure, PartitionId, PublicKey, ShardIndex};
use holo_mem::{Payload, Staged};
use holo_net::{BulkReader, BulkReply, Connection, Request};
use prost::Message;

use super::DataPlane;
use super::incoming::stage;

/// How long the other replicas may take to receive a payload before its operation is proposed all the same: a
/// replica that is slower fetches it, or is dropped from the group by the machine.
const STAGE_DEADLINE: Duration = Duration::from_secs(2);
/// How long fetching one payload may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// A payload and where it belongs.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    /// The bytes.
    pub(super) bytes: Payload,
    array: ArrayId,
    shard: ShardIndex,
}

impl DataPlane {
    /// Makes staged bytes the content of a shard on all replicas, in one step, and waits until they are.
    ///
    /// # Errors
    ///
    /// Those of [`Self::propose`].
    pub(crate) async fn publish(
        self: &Arc<Self>,
        group: GroupId,
        (array, shard): (ArrayId, ShardIndex),
        request: Option<RequestKey>,
        staged: Staged,
    ) -> Result<Bytes, Failure> {
        let bytes = Payload::from(staged);
        let Some(pages) = PageSpan::of_bytes(bytes.offset(), bytes.len()) else {
            return Ok(Bytes::new());
        };
        let id = self.next_payload();
        let others = self.others(group);
        if !others.is_empty() {
            let head = StagePayload {
                group: Some(group.into()),
                payload: Some(id.into()),
                array: array.0,
                shard: shard.0,
                offset: bytes.offset(),
                digests: Bytes::from(bytes.run().digests()),
            };
            let head = Bytes::from(head.encode_to_vec());
            let sent = others.into_iter().map(|to| self.send_payload(to, head.clone(), &bytes));
            join_all(sent).await;
        }
        let op = Op::Publish {
            array,
            shard,
            staging: StagingId(id.number),
            pages,
            offset: bytes.offset(),
            len: bytes.len(),
        };
        let stored = Stored { bytes, array, shard };
        self.propose_with(group, request, op, Some((id, stored)))?.wait().await
    }

    /// Takes bytes that a primary stages here before their operation.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] when the sender is no member, sends in another's name, or is no replica of the group;
    /// [`ErrorCode::NotReady`] when it is one and not the primary as far as this node has heard;
    /// [`ErrorCode::NotFound`] while the array is not known here; [`ErrorCode::WrongNode`] when this node is no member
    /// of the group; [`ErrorCode::OutOfCapacity`], [`ErrorCode::Corrupt`].
    pub(crate) async fn take_payload(
        self: Arc<Self>,
        key: PublicKey,
        body: Bytes,
        incoming: BulkReader,
    ) -> Result<BulkReply, Failure> {
        let head = StagePayload::decode_body(&body)?;
        let id = holo_core::wire::PayloadBody::checked(head.payload)?;
        if self.control.node_of(key) != Some(id.origin.node) {
            let message = format!("{} stages bytes in the name of node {}", key.short(), id.origin);
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        let group = holo_core::wire::GroupBody::checked(head.group)?;
        {
            let machine = self.machine.lock();
            check_stager(machine.host.config(group).map(Arc::as_ref), group, id.origin)?;
        }
        self.receive(head, id, incoming).await?;
        Ok(BulkReply { body: Bytes::new(), bulk: Vec::new() })
    }

    /// Gives a payload to a replica that missed it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] for no member of the cluster and for no replica of the group, [`ErrorCode::NotFound`] when
    /// it is not here.
    pub(crate) fn give_payload(&self, key: PublicKey, body: &[u8]) -> Result<BulkReply, Failure> {
        let node = self.member(key)?;
        let request = FetchPayload::decode_body(body)?;
        let group = holo_core::wire::GroupBody::checked(request.group)?;
        self.check_holder(node, group)?;
        let id = holo_core::wire::PayloadBody::checked(request.payload)?;
        let stored = self.machine.lock().payloads.get(&(group, id)).cloned();
        let Stored { bytes, array, shard } = stored.ok_or_else(|| {
            Failure::new(ErrorCode::NotFound, format!("payload {} of {}", id.number, id.origin))
        })?;
        let run = bytes.run();
        let head = StagePayload {
            group: request.group,
            payload: request.payload,
            array: array.0,
            shard: shard.0,
            offset: bytes.offset(),
            digests: Bytes::from(run.digests()),
        };
        Ok(BulkReply { body: Bytes::from(head.encode_to_vec()), bulk: run.to_bytes() })
    }

    /// Fetches bytes whose operation came without them.
    pub(super) async fn fetch_payload(
        self: Arc<Self>,
        group: GroupId,
        from: ReplicaId,
        id: PayloadId,
    ) {
        let here = self.with_machine(|machine, now| {
            let here = machine.payloads.contains_key(&(group, id));
            if here {
                // They came between the question and now: say so again.
                let ready = Input::PayloadReady { group, id };
                let _known = machine.host.handle_input(now, ready);
            }
            here
        });
        if here {
            return;
        }
        let Some(link) = self.control.link(from.node) else { return };
        if let Err(failure) = self.fetch(&link, group, id).await {
            tracing::debug!(%group, %from, code = %failure.code, message = %failure.message, "payload not fetched");
        }
    }

    async fn fetch(
        self: &Arc<Self>,
        link: &Connection,
        group: GroupId,
        id: PayloadId,
    ) -> Result<(), Failure> {
        let body = FetchPayload { group: Some(group.into()), payload: Some(id.into()) };
        let request = request(Kind::FetchPayload, FETCH_DEADLINE, body.encode_to_vec().into());
        let (head, incoming) = link.bulk(request, Vec::new()).await?;
        let head = StagePayload::decode_body(&head)?;
        // What we asked for, whatever the answer calls itself.
        let head = StagePayload { group: Some(group.into()), payload: Some(id.into()), ..head };
        self.receive(head, id, incoming).await
    }

    async fn receive(
        self: &Arc<Self>,
        head: StagePayload,
        id: PayloadId,
        mut incoming: BulkReader,
    ) -> Result<(), Failure> {
        let group = holo_core::wire::GroupBody::checked(head.group)?;
        let (array, shard) = (ArrayId(head.array), ShardIndex(head.shard));
        if self.arrays.group_of(array, shard).is_some_and(|of| of != group) {
            let message = format!("shard {shard} of array #{array} is not of group {group}");
            return Err(Failure::new(ErrorCode::Malformed, message));
        }
        let pages = self.arrays.pages(array, shard).ok_or_else(|| {
            Failure::new(
                ErrorCode::NotFound,
                format!("shard {shard} of array #{array} is not here"),
            )
            .retry_after_ms(20)
        })?;
        let staged = stage(pages, head.offset, head.digests, &mut incoming).await?;
        let stored = Stored { bytes: Payload::from(staged), array, shard };
        self.with_machine(|machine, now| {
            machine.payloads.insert((group, id), stored);
            machine.host.handle_input(now, Input::PayloadReady { group, id }).inspect_err(
                |_refused| {
                    machine.payloads.remove(&(group, id));
                },
            )
        })
    }

    /// Sends a payload to one replica; a loss is made good by the machine.
    async fn send_payload(&self, to: ReplicaId, head: Bytes, bytes: &Payload) {
        let Some(link) = self.control.link(to.node) else { return };
        let request = request(Kind::StagePayload, STAGE_DEADLINE, head);
        if let Err(failure) = link.bulk(request, bytes.to_bytes()).await {
            tracing::debug!(%to, code = %failure.code, message = %failure.message, "payload not staged");
        }
    }

    fn next_payload(&self) -> PayloadId {
        let mut machine = self.machine.lock();
        machine.next_payload += 1;
        PayloadId { origin: self.me, number: machine.next_payload }
    }

    /// The other replicas that have to have an operation of this group before it is done.
    fn others(&self, group: GroupId) -> Vec<ReplicaId> {
        let machine = self.machine.lock();
        let config = machine.host.config(group);
        config.map_or_else(Vec::new, |config| {
            config.in_sync.iter().copied().filter(|member| *member != self.me).collect()
        })
    }

    /// The member behind a key.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] for no member.
    pub(super) fn member(&self, key: PublicKey) -> Result<NodeNumber, Failure> {
        self.control.node_of(key).ok_or_else(|| {
            Failure::new(ErrorCode::Denied, format!("{} is no member", key.short()))
                .help("only members of the cluster exchange copies")
        })
    }

    /// Refuses the bytes of a group to a node that holds no replica of it. One that was let in so lately that this node
    /// has not heard of it is refused too: its machine asks again.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`].
    pub(super) fn check_holder(&self, node: NodeNumber, group: GroupId) -> Result<(), Failure> {
        let machine = self.machine.lock();
        let is_named = machine.host.config(group).is_some_and(|config| config.names(node));
        if is_named { Ok(()) } else { Err(no_replica(node, group)) }
    }
}

/// Only the primary stages. One that took over so lately that this replica has not heard of it is no intruder: it goes
/// on without, and the bytes are fetched when their operation comes.
fn check_stager(
    config: Option<&GroupConfig>,
    group: GroupId,
    stager: ReplicaId,
) -> Result<(), Failure> {
    match config {
        Some(config) if config.primary == stager => Ok(()),
        Some(config) if config.names(stager.node) => {
            let message = format!(
                "{stager} is not the primary of group {group} in epoch {}, the last that this node has heard of",
                config.epoch.0
            );
            Err(Failure::new(ErrorCode::NotReady, message).retry_after_ms(20))
        }
        _ => Err(no_replica(stager.node, group)),
    }
}

fn no_replica(node: NodeNumber, group: GroupId) -> Failure {
    let message =
        format!("node {node} is no replica of group {group}, as far as this node has heard");
    Failure::new(ErrorCode::Denied, message).help("only the replicas of a group exchange its bytes")
}

/// A request between members.
pub(super) fn request(kind: Kind, deadline: Duration, body: Bytes) -> Request {
    Request { kind, partition: PartitionId(0), epoch: Epoch(0), deadline, body }
}
