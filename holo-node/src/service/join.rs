//! What a node that is no member yet asks.

use std::sync::Arc;

use holo_core::wire::{Decode, JoinRequest};
use holo_net::{Peer, Response};

use super::{NodeService, encode};

impl NodeService {
    pub(super) fn join(&self, peer: &Arc<Peer>, body: &[u8]) -> Response {
        let (control, peer) = (Arc::clone(&self.control), Arc::clone(peer));
        let request = JoinRequest::decode_body(body);
        Response::Later(Box::pin(
            async move { control.serve_join(&peer, request?).await.map(encode) },
        ))
    }
}
