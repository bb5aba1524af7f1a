//! What a node that is no member yet asks.

use std::sync::Arc;

use bytes::Bytes;
use holo_net::{Peer, Response};

use super::{NodeService, encode};

impl NodeService {
    pub(super) fn join(&self, peer: &Arc<Peer>, body: &[u8]) -> Response {
        let (control, peer) = (Arc::clone(&self.control), Arc::clone(peer));
        let request = Bytes::copy_from_slice(body);
        Response::Later(Box::pin(
            async move { control.serve_join(&peer, request).await.map(encode) },
        ))
    }
}
