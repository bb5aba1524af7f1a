//! Configs as replicas tell them to each other: with the catalog's proof.

use std::sync::Arc;

use bytes::Bytes;

use super::{bounded, malformed, too_many};
use crate::replication::{ConfigClaim, GroupConfig, Incarnation, NodeNumber, ReplicaId};
use crate::wire::GroupBody;
use crate::{Epoch, Failure, limits};

/// A replica.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReplicaBody {
    /// Number of the node.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// Its life.
    #[prost(uint32, tag = "2")]
    pub incarnation: u32,
}

/// A config with the catalog's proof.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClaimBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// Its version.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Who orders operations.
    #[prost(message, optional, tag = "3")]
    pub primary: Option<ReplicaBody>,
    /// In-sync replicas, ascending.
    #[prost(message, repeated, tag = "4")]
    pub in_sync: Vec<ReplicaBody>,
    /// Learners, ascending.
    #[prost(message, repeated, tag = "5")]
    pub learners: Vec<ReplicaBody>,
    /// The last in-sync copy is gone.
    #[prost(bool, tag = "6")]
    pub lost: bool,
    /// The catalog's proof.
    #[prost(bytes = "bytes", tag = "7")]
    pub proof: Bytes,
}

impl From<&ConfigClaim> for ClaimBody {
    fn from(claim: &ConfigClaim) -> Self {
        let config = &claim.config;
        Self {
            group: Some(config.group.into()),
            epoch: config.epoch.0,
            primary: Some(config.primary.into()),
            in_sync: config.in_sync.iter().map(|id| ReplicaBody::from(*id)).collect(),
            learners: config.learners.iter().map(|id| ReplicaBody::from(*id)).collect(),
            lost: config.lost,
            proof: claim.proof.clone(),
        }
    }
}

impl ClaimBody {
    /// The claim, with its invariants checked; whether it is proven is another question.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorCode::Malformed`] or [`crate::ErrorCode::TooLarge`].
    pub fn checked(self) -> Result<ConfigClaim, Failure> {
        if self.proof.len() > limits::CONFIG_PROOF_BYTES_MAX {
            return Err(too_many("bytes of proof", self.proof.len()));
        }
        let primary = self.primary.ok_or_else(|| malformed("a config without a primary"))?;
        let ids = |ids: Vec<ReplicaBody>| {
            bounded(ids, limits::GROUP_MEMBERS_MAX, |id| Ok(ReplicaId::from(id)))
        };
        let config = GroupConfig {
            group: GroupBody::checked(self.group)?,
            epoch: Epoch(self.epoch),
            primary: primary.into(),
            in_sync: ids(self.in_sync)?,
            learners: ids(self.learners)?,
            lost: self.lost,
        };
        config.check()?;
        Ok(ConfigClaim { config: Arc::new(config), proof: self.proof })
    }
}

impl From<ReplicaId> for ReplicaBody {
    fn from(id: ReplicaId) -> Self {
        Self { node: id.node.0, incarnation: id.incarnation.0 }
    }
}

impl From<ReplicaBody> for ReplicaId {
    fn from(body: ReplicaBody) -> Self {
        Self { node: NodeNumber(body.node), incarnation: Incarnation(body.incarnation) }
    }
}
