//! The library's view of the other voters.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use holo_core::wire::Decode;
use holo_core::{ErrorCode, Failure, limits};
use openraft::EmptyNode;
use openraft::error::{
    Fatal, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::SnapshotResponse;
use prost::Message;

use crate::appends::Appends;
use crate::contacts::Contacts;
use crate::options::Timers;
use crate::raft::{AppendReply, AppendRequest, Snapshot, TypeConfig, Vote, VoteReply, VoteRequest};
use crate::wire::convert::{malformed, needed};
use crate::wire::{
    AppendBody, RaftReply, RaftRequest, SNAPSHOT_PIECE_BYTES, SnapshotMetaBody, SnapshotPieceBody,
    VoteRequestBody,
};
use crate::{Transport, VoterId};

/// How many heartbeats an append may take. The library gives up waiting after one, and asks again for the same.
const APPEND_HEARTBEATS: u32 = 5;
/// Pieces of a snapshot that may fail one after the other before the sender starts anew later.
const PIECE_FAILURES_MAX: u32 = 3;

type RpcError = RPCError<VoterId, EmptyNode, RaftError<VoterId>>;

/// All other voters.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) me: VoterId,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) contacts: Arc<Contacts>,
    pub(crate) timers: Timers,
}

/// One other voter.
pub(crate) struct Peer {
    to: VoterId,
    peers: Peers,
    appends: Appends,
}

impl RaftNetworkFactory<TypeConfig> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: VoterId, _node: &EmptyNode) -> Peer {
        Peer { to: target, peers: self.clone(), appends: Appends::default() }
    }
}

impl Peer {
    async fn call(&self, request: RaftRequest, deadline: Duration) -> Result<RaftReply, Failure> {
        self.calling(&request, deadline)?.await
    }

    /// The call, which begins when it is polled and needs nothing of this voter any more.
    fn calling(
        &self,
        request: &RaftRequest,
        deadline: Duration,
    ) -> Result<impl Future<Output = Result<RaftReply, Failure>> + Send + 'static, Failure> {
        let (to, contacts) = (self.to, Arc::clone(&self.peers.contacts));
        let request = Bytes::from(request.encode_to_vec());
        if request.len() > limits::BODY_BYTES_MAX as usize {
            let message = format!("a message of {} bytes to voter {to}", request.len());
            return Err(Failure::new(ErrorCode::TooLarge, message));
        }
        let call = self.peers.transport.call(to, request, deadline);
        Ok(async move {
            let reply = RaftReply::decode_body(&call.await?)?;
            contacts.heard_of(to);
            Ok(reply)
        })
    }

    /// Begins an append, and gives its number.
    fn begin_append(&mut self, rpc: &AppendRequest, heartbeat: Duration) -> Result<u64, Failure> {
        let request = RaftRequest { append: Some(AppendBody::from(rpc)), ..Default::default() };
        let call = self.calling(&request, heartbeat * APPEND_HEARTBEATS)?;
        Ok(self.appends.begin(rpc, call))
    }

    async fn append(
        &mut self,
        rpc: &AppendRequest,
        heartbeat: Duration,
    ) -> Result<AppendReply, Failure> {
        if rpc.entries.is_empty() {
            let number = self.begin_append(rpc, heartbeat)?;
            return self.appends.heartbeat_answer(number, rpc).await;
        }
        if !self.appends.covers(rpc) {
            self.begin_append(rpc, heartbeat)?;
        } else if !self.appends.is_answered() {
            // Meanwhile the voter must hear that it is led.
            let AppendRequest { vote, prev_log_id, leader_commit, .. } = *rpc;
            let empty = AppendRequest { vote, prev_log_id, entries: Vec::new(), leader_commit };
            self.begin_append(&empty, heartbeat)?;
        }
        self.appends.entries_answer(rpc).await
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        deadline: Duration,
    ) -> Result<Vote, Failure> {
        let state: Bytes = *snapshot.snapshot;
        let meta = SnapshotMetaBody::of(&snapshot.meta, &state);
        let mut offset = 0;
        let mut failures = 0;
        loop {
            let end = state.len().min(offset + SNAPSHOT_PIECE_BYTES);
            let piece = SnapshotPieceBody {
                vote: Some((&vote).into()),
                meta: Some(meta.clone()),
                offset: offset as u64,
                data: state.slice(offset..end),
            };
            let request = RaftRequest { snapshot: Some(piece), ..RaftRequest::default() };
            let answer = tokio::time::timeout(deadline, self.call(request, deadline)).await;
            let answer = answer.unwrap_or_else(|_| Err(no_answer(self.to, deadline)));
            let reply = match answer {
                Ok(reply) => needed(reply.snapshot, "the reply to a piece of a snapshot")?,
                Err(failure) if failures == PIECE_FAILURES_MAX => return Err(failure),
                Err(_) => {
                    failures += 1;
                    // The receiver says in its next answer how far it got.
                    tokio::task::yield_now().await;
                    continue;
                }
            };
            let theirs = Vote::try_from(needed(reply.vote, "the replier's vote")?)?;
            if theirs > vote || reply.have == meta.bytes && end == state.len() {
                return Ok(theirs);
            }
            // It may have more than this piece: from an earlier try.
            let have = usize::try_from(reply.have).ok().filter(|have| *have <= state.len());
            let have = have.ok_or_else(|| malformed("more of a snapshot than there is"))?;
            failures = if have > offset { 0 } else { failures + 1 };
            if failures > PIECE_FAILURES_MAX {
                return Err(malformed(format!("voter {} takes no more of a snapshot", self.to)));
            }
            offset = have;
        }
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendRequest,
        option: RPCOption,
    ) -> Result<AppendReply, RpcError> {
        if !self.peers.contacts.may_lead(self.peers.me, self.to, &self.peers.timers) {
            let message = "no majority answers: this voter lets the others find a leader";
            return Err(Unreachable::new(&Failure::new(ErrorCode::NoQuorum, message)).into());
        }
        match self.append(&rpc, option.hard_ttl()).await {
            Ok(reply) => Ok(reply),
            Err(failure) if failure.code == ErrorCode::TooLarge && rpc.entries.len() > 1 => {
                let fewer = rpc.entries.len() as u64 / 2;
                Err(PayloadTooLarge::new_entries_hint(fewer).into())
            }
            Err(failure) => Err(Unreachable::new(&failure).into()),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest, option: RPCOption) -> Result<VoteReply, RpcError> {
        let request = RaftRequest { vote: Some(VoteRequestBody::from(&rpc)), ..Default::default() };
        let reply = self.call(request, option.hard_ttl()).await;
        let checked = reply.and_then(|reply| needed(reply.vote, "the reply to a vote request"));
        let checked = checked.and_then(crate::wire::VoteReplyBody::checked);
        checked.map_err(|failure| Unreachable::new(&failure).into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<VoterId>, StreamingError<TypeConfig, Fatal<VoterId>>> {
        let sending = self.send_snapshot(vote, snapshot, option.hard_ttl());
        match select(pin!(cancel), pin!(sending)).await {
            Either::Left((closed, _)) => Err(closed.into()),
            Either::Right((Ok(vote), _)) => Ok(SnapshotResponse::new(vote)),
            Either::Right((Err(failure), _)) => Err(Unreachable::new(&failure).into()),
        }
    }

    fn backoff(&self) -> Backoff {
        // A voter that did not answer is left alone as long as from one heartbeat to the next.
        Backoff::new(std::iter::repeat(self.peers.timers.heartbeat))
    }
}

fn no_answer(to: VoterId, deadline: Duration) -> Failure {
    let message = format!("voter {to} did not answer within {deadline:?}");
    Failure::new(ErrorCode::DeadlineExceeded, message)
}
