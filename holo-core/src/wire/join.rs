//! Bodies of joining: the only request of a node that is no member yet.

use prost::Message;

use super::MemberEntry;
use crate::{ClusterId, NodeId};

/// A node asks to be let in with a ticket.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinRequest {
    /// Public half of the ticket's seed, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub ticket: Vec<u8>,
    /// The ticket key's signature over `catalog::join_statement`, 64 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
    /// The joiner's node id, 32 bytes; the key of the connection, unless a member passes the request on.
    #[prost(bytes = "vec", tag = "3")]
    pub node: Vec<u8>,
    /// A name for people.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Where it will listen.
    #[prost(string, tag = "5")]
    pub address: String,
    /// Failure domain.
    #[prost(string, tag = "6")]
    pub zone: String,
    /// Relative capacity in thousandths.
    #[prost(uint32, tag = "7")]
    pub weight_milli: u32,
    /// Name and version of its program.
    #[prost(string, tag = "8")]
    pub agent: String,
    /// [`super::WIRE_VERSION`] of the joiner.
    #[prost(uint32, tag = "9")]
    pub wire_version: u32,
    /// The joiner's wall clock: Unix milliseconds.
    #[prost(uint64, tag = "10")]
    pub unix_ms: u64,
    /// Drawn by the joiner, 16 bytes; the welcome is about it.
    #[prost(bytes = "vec", tag = "11")]
    pub nonce: Vec<u8>,
}

/// The joiner is in.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct JoinReply {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Name of the cluster, for people.
    #[prost(string, tag = "2")]
    pub cluster_name: String,
    /// The root public key, whose BLAKE3 is the cluster's id; 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub root: Vec<u8>,
    /// A voter's signing key, as the root vouches for it.
    #[prost(message, optional, tag = "4")]
    pub issuer: Option<IssuerBody>,
    /// That key's signature over [`welcome_statement`], 64 bytes.
    #[prost(bytes = "vec", tag = "5")]
    pub welcome: Vec<u8>,
    /// The members, where to find them.
    #[prost(message, repeated, tag = "6")]
    pub members: Vec<MemberEntry>,
    /// Numbers of those that vote in the catalog.
    #[prost(uint32, repeated, tag = "7")]
    pub voters: Vec<u32>,
}

/// A voter's signing key and the root's word for it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct IssuerBody {
    /// The key, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// When it ends: Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub not_after_unix_ms: u64,
    /// The root's signature, 64 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

const WELCOME_DOMAIN: &[u8] = b"holocompute catalog v1: a node was let in\0";

/// What a voter signs towards a joiner, so that it knows that it has come to the cluster of its ticket: the whole reply,
/// with an empty `welcome`.
pub fn welcome_statement(
    cluster: ClusterId,
    node: NodeId,
    nonce: &[u8; 16],
    reply: &JoinReply,
) -> Vec<u8> {
    let unsigned = JoinReply { welcome: Vec::new(), ..reply.clone() };
    let digest = blake3::hash(&unsigned.encode_to_vec());
    [WELCOME_DOMAIN, &cluster.0, &node.0.0, nonce, digest.as_bytes()].concat()
}
