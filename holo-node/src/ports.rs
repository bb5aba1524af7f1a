//! Where the two halves of a node meet: the control plane knows the catalog and the links, the data plane holds
//! shards and replicates them. Neither looks inside the other.

use std::fmt;
use std::sync::Arc;

use holo_core::catalog::Intake;
use holo_core::placement::ClusterView;
use holo_core::replication::{ConfigClaim, GroupId, NodeNumber, Proposal, ReplicaId};
use holo_core::{ArrayDescriptor, ArrayId, Epoch, Failure, Policy, PublicKey};
use holo_net::{BoxFuture, Connection};

/// What the data plane asks of the control plane. Nothing here blocks.
pub(crate) trait ControlPort: fmt::Debug + Send + Sync {
    /// Sends a proposal to the catalog, together with others that come within a moment. A change comes back as news,
    /// and so does a refusal; without either the proposer repeats itself.
    fn propose(&self, proposal: Proposal);
    /// Fetches the config of a group if the catalog has one above `above`; it comes back as news.
    fn ask_config(&self, group: GroupId, above: Epoch);
    /// This node is about to beat its peers: what else is due soon had better go along than wake everybody again.
    fn go_along(&self);
    /// The open link to a node.
    fn link(&self, node: NodeNumber) -> Option<Connection>;
    /// A connection to a node for what may wait, dialled if there is none; the link where it cannot be dialled.
    fn background_link(&self, node: NodeNumber) -> BoxFuture<Result<Connection, Failure>>;
    /// The member behind a key that a handshake has proven.
    fn node_of(&self, key: PublicKey) -> Option<NodeNumber>;
}

/// What the data plane learns from the control plane, in the order of the catalog's log.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Configs that changed, each with its proof; of any group, ours or not.
    pub(crate) configs: Vec<ConfigClaim>,
    /// The current replica id of every member, when one changed.
    pub(crate) living: Option<Vec<ReplicaId>>,
    /// Wanted holders, primary first, of groups whose target changed.
    pub(crate) targets: Vec<(GroupId, Vec<ReplicaId>)>,
    /// Groups a change of which the catalog has refused, with the epoch that it was to follow.
    pub(crate) refused: Vec<(GroupId, Epoch)>,
    /// New arrays, before the configs of their groups.
    pub(crate) arrays: Vec<ArrayDescriptor>,
    /// Arrays that were removed.
    pub(crate) removed: Vec<ArrayId>,
    /// There was never an array with an id from here on; those below are told of, or gone.
    pub(crate) next_array: ArrayId,
    /// Who may do what, when that changed.
    pub(crate) policy: Option<Arc<Policy>>,
    /// Members and holders, when they changed.
    pub(crate) view: Option<Arc<ClusterView>>,
    /// Sessions below this id have expired.
    pub(crate) sessions_below: Option<u64>,
    /// What may be written, when that changed.
    pub(crate) intake: Option<Intake>,
}
