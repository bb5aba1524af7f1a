//! What operators ask for.

use std::sync::Arc;

use bytes::Bytes;
use holo_core::wire::{Decode, DigestQuery, FrameHeader, Shutdown};
use holo_core::{Failure, action};
use holo_net::{Peer, Response};

use super::{NodeService, encode, patience};

impl NodeService {
    pub(super) fn admin(&self, peer: &Arc<Peer>, header: &FrameHeader, body: &[u8]) -> Response {
        let deadline = patience(header);
        let (control, peer) = (Arc::clone(&self.control), Arc::clone(peer));
        let request = Bytes::copy_from_slice(body);
        Response::Later(Box::pin(async move {
            control.serve_admin(&peer, request, deadline).await.map(encode)
        }))
    }

    /// Tells an operator what this node's copies contain.
    pub(super) fn group_digests(&self, peer: &Peer, body: &[u8]) -> Response {
        let policy = self.control.policy();
        let may = policy.authorize::<action::Config>(peer.key, "cluster").map(drop);
        let query = may.and_then(|()| DigestQuery::decode_body(body));
        let data = self.data().cloned();
        Response::WhileConnected(Box::pin(
            async move { data?.group_digests(query?).await.map(encode) },
        ))
    }

    /// Stops this node: at once, or when it holds nothing that would be lost.
    pub(super) fn shutdown(&self, peer: &Peer, body: &[u8]) -> Result<Bytes, Failure> {
        let request = Shutdown::decode_body(body)?;
        let may = self.control.policy().authorize::<action::Shutdown>(peer.key, &self.name)?;
        if !request.now {
            self.control.check_empty()?;
        }
        tracing::info!(by = %may.principal().short(), now = request.now, "asked to stop");
        self.control.end(crate::control::Phase::Stopping);
        Ok(Bytes::new())
    }
}
