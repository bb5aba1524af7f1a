//! The catalog: what users see of it, arrays in it, and what nodes ask each other about it.

use std::sync::Arc;

use bytes::Bytes;
use holo_core::wire::{
    AdminAction, AdminRequest, AdminResult, Allocate, ArrayRef, CatalogCommand, Decode,
    FrameHeader, Heartbeat, RaftEnvelope, SessionReply, ViewBody, ViewQuery, VoterSecrets,
};
use holo_core::{ErrorCode, Failure};
use holo_net::{Peer, Response};

use super::{NodeService, encode, patience};

impl NodeService {
    pub(super) fn view(&self, body: &[u8]) -> Result<Bytes, Failure> {
        let query = ViewQuery::decode_body(body)?;
        let served = self.control.view().ok_or_else(|| {
            let message = format!("node {} does not know its cluster yet", self.name);
            Failure::new(ErrorCode::NotReady, message).retry_after_ms(200)
        })?;
        let version = served.view.version();
        if query.known_version == version {
            return Ok(encode(ViewBody { version, unchanged: true, ..ViewBody::default() }));
        }
        Ok(served.body.clone())
    }

    pub(super) fn open_session(&self, header: &FrameHeader) -> Response {
        let (control, patience) = (Arc::clone(&self.control), patience(header));
        Response::Later(Box::pin(async move {
            let session = control.open_session(patience).await?;
            Ok(encode(SessionReply { session }))
        }))
    }

    pub(super) fn array_info(&self, peer: &Peer, body: &[u8]) -> Result<Bytes, Failure> {
        self.control.array_info(peer.key, &ArrayRef::decode_body(body)?).map(encode)
    }

    pub(super) fn array_list(&self, peer: &Peer) -> Result<Bytes, Failure> {
        self.control.array_list(peer.key).map(encode)
    }

    pub(super) fn allocate(&self, peer: &Arc<Peer>, header: &FrameHeader, body: &[u8]) -> Response {
        let deadline = patience(header);
        let (control, peer) = (Arc::clone(&self.control), Arc::clone(peer));
        let request = Allocate::decode_body(body);
        Response::Later(Box::pin(async move {
            let action = Some(AdminAction::Allocate(request?));
            let request = AdminRequest { on_behalf_of: Vec::new(), action };
            match control.serve_admin(&peer, encode(request), deadline).await?.result {
                Some(AdminResult::Array(array)) => Ok(encode(array)),
                _ => Err(Failure::new(ErrorCode::Internal, "an array was made and is not told")),
            }
        }))
    }

    pub(super) fn array_remove(
        &self,
        peer: &Arc<Peer>,
        header: &FrameHeader,
        body: &[u8],
    ) -> Response {
        let deadline = patience(header);
        let (control, peer) = (Arc::clone(&self.control), Arc::clone(peer));
        let array = ArrayRef::decode_body(body);
        Response::Later(Box::pin(async move {
            let action = Some(AdminAction::RemoveArray(array?));
            let request = AdminRequest { on_behalf_of: Vec::new(), action };
            control.serve_admin(&peer, encode(request), deadline).await?;
            Ok(Bytes::new())
        }))
    }

    pub(super) fn raft(&self, peer: &Arc<Peer>, body: &[u8]) -> Response {
        let (control, member) = (Arc::clone(&self.control), self.member(peer));
        let envelope = RaftEnvelope::decode_body(body);
        Response::WhileConnected(Box::pin(
            async move { control.serve_raft(member?, envelope?).await },
        ))
    }

    pub(super) fn propose(&self, peer: &Arc<Peer>, body: &[u8]) -> Response {
        let (control, member) = (Arc::clone(&self.control), self.member(peer));
        let request = CatalogCommand::decode_body(body);
        Response::Later(Box::pin(async move {
            control.serve_propose(member?, request?).await.map(encode)
        }))
    }

    pub(super) fn voter_secrets(&self, peer: &Arc<Peer>, body: &[u8]) -> Response {
        let (control, member) = (Arc::clone(&self.control), self.member(peer));
        let secrets = VoterSecrets::decode_body(body);
        Response::Later(Box::pin(async move {
            control.serve_secrets(member?, secrets?).await.map(encode)
        }))
    }

    pub(super) fn heartbeat(&self, peer: &Peer, body: &[u8]) -> Result<Bytes, Failure> {
        let beat = Heartbeat::decode_body(body)?;
        self.control.serve_beat(self.member(peer)?, &beat).map(encode)
    }
}
