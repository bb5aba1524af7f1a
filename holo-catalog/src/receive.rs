//! Requests of other voters.

use bytes::{Bytes, BytesMut};
use holo_core::wire::Decode;
use holo_core::{ErrorCode, Failure};
use openraft::error::{Fatal, RaftError};
use prost::Message;
use tokio::sync::Mutex;

use crate::VoterId;
use crate::raft::{Snapshot, TypeConfig, Vote};
use crate::wire::convert::{leader_of, malformed, needed};
use crate::wire::{
    AppendReplyBody, RaftReply, RaftRequest, SnapshotMetaBody, SnapshotPieceBody,
    SnapshotReplyBody, VoteReplyBody,
};

type Raft = openraft::Raft<TypeConfig>;

/// A snapshot that has arrived in part.
#[derive(Debug)]
struct Partial {
    vote: Vote,
    meta: SnapshotMetaBody,
    state: BytesMut,
}

/// Answers requests of other voters.
#[derive(Debug, Default)]
pub(crate) struct Receiver {
    /// At most one snapshot arrives at a time; a piece of another one takes its place.
    partial: Mutex<Option<Partial>>,
}

impl Receiver {
    pub(crate) async fn handle(
        &self,
        raft: &Raft,
        from: VoterId,
        request: &Bytes,
    ) -> Result<Bytes, Failure> {
        let request = RaftRequest::decode_body(request)?;
        let reply = match (request.append, request.vote, request.snapshot) {
            (Some(append), None, None) => {
                let answer = raft.append_entries(append.checked(from)?).await.map_err(stopped)?;
                RaftReply { append: Some(AppendReplyBody::from(&answer)), ..Default::default() }
            }
            (None, Some(vote), None) => {
                let answer = raft.vote(vote.checked(from)?).await.map_err(stopped)?;
                RaftReply { vote: Some(VoteReplyBody::from(&answer)), ..Default::default() }
            }
            (None, None, Some(piece)) => {
                let answer = self.take_piece(raft, from, piece).await?;
                RaftReply { snapshot: Some(answer), ..Default::default() }
            }
            _ => return Err(malformed("a request of a voter asks for one thing")),
        };
        Ok(reply.encode_to_vec().into())
    }

    async fn take_piece(
        &self,
        raft: &Raft,
        from: VoterId,
        piece: SnapshotPieceBody,
    ) -> Result<SnapshotReplyBody, Failure> {
        let vote = leader_of(piece.vote, from)?;
        let description = needed(piece.meta, "the description of a snapshot")?;
        let meta = description.checked()?;
        let mine = raft.with_raft_state(|state| *state.vote_ref()).await.map_err(fatal)?;
        if mine > vote {
            return Ok(SnapshotReplyBody { vote: Some((&mine).into()), have: 0 });
        }

        let mut partial = self.partial.lock().await;
        let same = |partial: &Partial| partial.vote == vote && partial.meta == description;
        if piece.offset == 0 && !partial.as_ref().is_some_and(same) {
            *partial = Some(Partial { vote, meta: description.clone(), state: BytesMut::new() });
        }
        let Some(arriving) = partial.as_mut().filter(|partial| same(partial)) else {
            return Ok(SnapshotReplyBody { vote: Some((&vote).into()), have: 0 });
        };
        let have = arriving.state.len() as u64;
        if have + piece.data.len() as u64 > description.bytes {
            *partial = None;
            return Err(malformed("more bytes of a snapshot than it has"));
        }
        if piece.offset == have {
            arriving.state.extend_from_slice(&piece.data);
        }
        let have = arriving.state.len() as u64;
        if have < description.bytes {
            return Ok(SnapshotReplyBody { vote: Some((&vote).into()), have });
        }
        let state = partial.take().map(|partial| partial.state.freeze()).unwrap_or_default();
        if !description.describes(&state) {
            return Err(Failure::new(ErrorCode::Corrupt, "a snapshot is not as described"));
        }
        let snapshot = Snapshot { meta, snapshot: Box::new(state) };
        let answer = raft.install_full_snapshot(vote, snapshot).await.map_err(fatal)?;
        Ok(SnapshotReplyBody { vote: Some((&answer.vote).into()), have })
    }
}

fn stopped<E: std::error::Error>(error: RaftError<VoterId, E>) -> Failure {
    match error {
        RaftError::APIError(error) => Failure::new(ErrorCode::Internal, error.to_string()),
        RaftError::Fatal(error) => fatal(error),
    }
}

fn fatal(error: Fatal<VoterId>) -> Failure {
    match error {
        Fatal::Stopped => Failure::new(ErrorCode::ShuttingDown, "this voter is stopped"),
        Fatal::StorageError(_) | Fatal::Panicked => {
            Failure::new(ErrorCode::Internal, format!("this voter failed: {error}"))
        }
    }
}
