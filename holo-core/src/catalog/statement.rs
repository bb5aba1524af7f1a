//! What is signed about a cluster, as bytes, and the check of a signature.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::{ClusterId, NodeId, PublicKey, Role};

const JOIN_DOMAIN: &[u8] = b"holocompute catalog v1: a node joins on a ticket\0";

/// What the key of a ticket signs: who joins, as what, which cluster.
pub fn join_statement(cluster: ClusterId, node: NodeId, role: Role) -> Vec<u8> {
    [JOIN_DOMAIN, &cluster.0, &node.0.0, &[role as u8]].concat()
}

/// Whether `signature` is `key`'s Ed25519 signature over `statement`. Weak keys and malleable signatures are none.
pub fn is_signed_by(key: PublicKey, statement: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify_strict(statement, &Signature::from_bytes(signature)).is_ok())
}
