//! What can be asked of the catalog, and what it answers.

use std::collections::BTreeMap;

use crate::catalog::{BootId, CloseId, Held, IssuerCertificate, NewArray, Resumption, TargetTable};
use crate::replication::{GroupConfig, GroupId, Incarnation, NodeNumber, Proposal, ReplicaId};
use crate::{
    ArrayDescriptor, ArrayId, Failure, NodeId, Principal, PublicKey, Role, TableVersion, TenantId,
    UnixMillis,
};

/// One entry of the catalog's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The proposer's clock. The catalog's time never runs backwards: an earlier one counts as the latest seen.
    pub at: UnixMillis,
    /// Who asked.
    pub by: Authority,
    /// For what.
    pub operation: Operation,
}

/// Who asks, as the channel proved it to the voter that proposes the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Nobody whom the catalog knows: the very first command, and a joiner, whose ticket speaks for it.
    Nobody,
    /// A client or an operator, by key.
    Principal(PublicKey),
    /// A node, by number.
    Node(NodeNumber),
}

/// What is asked. Each says who may ask it; all others get [`crate::ErrorCode::Denied`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Makes the cluster. Anyone, as long as there is none; the same again is done already.
    Bootstrap(Bootstrap),
    /// Makes a ticket. Principals with ADMIT; again with the same key and content is done already.
    CreateTicket(NewTicket),
    /// Withdraws a ticket that nobody used. Principals with ADMIT; also done when there is no such ticket.
    RevokeTicket(PublicKey),
    /// A new node joins on a ticket. The signature is the authority; the same node on the same ticket gets its number
    /// again.
    AdmitNode(Admission),
    /// A node's process has started. That node itself; the same boot id gets the same incarnation again.
    Register(Registration),
    /// Which nodes answer. Voters.
    SetUp(Vec<Liveness>),
    /// Changes a node's state. Principals with DRAIN on its name; for [`NodeChange::Leave`] also the node itself.
    SetNodeState {
        /// The node.
        node: NodeNumber,
        /// The change.
        change: NodeChange,
    },
    /// Changes configs of groups. The reporter's node itself.
    ProposeChanges {
        /// Who proposes, in its present life.
        reporter: ReplicaId,
        /// At most [`crate::limits::PROPOSALS_MAX`].
        proposals: Vec<Proposal>,
    },
    /// Replaces the target tables. Voters, and principals with CONFIG.
    ApplyTable(TableUpdate),
    /// Creates an array. Principals with ALLOCATE on its name, and READ on the array that it lies beside.
    CreateArray(NewArray),
    /// Removes an array. Principals of its tenant with FREE on its name.
    RemoveArray {
        /// Whose.
        tenant: TenantId,
        /// Which.
        array: ArrayId,
    },
    /// Hands a block of session ids to a node. That node itself.
    LeaseSessions {
        /// The node.
        node: NodeNumber,
        /// Ids wanted, 1 to [`crate::limits::SESSIONS_LEASED_MAX`].
        count: u32,
    },
    /// Says that all sessions below this id are over. Voters; a lower mark than the present one changes nothing.
    ExpireSessions {
        /// The lowest id that may still be in use.
        below: u64,
    },
    /// Adds or replaces a principal. Principals with ROLE on `tenants/N`, who hold all that they grant.
    PutPrincipal(Principal),
    /// Removes a principal; also done when there is none. Principals with ROLE on `tenants/N`.
    RemovePrincipal(PublicKey),
    /// Gives up the data of lost groups and starts them empty. Principals with CONFIG.
    AcceptLoss(Vec<GroupId>),
    /// A draining node holds nothing any more. Voters; refused while any config names it.
    FinishDrain {
        /// The node.
        node: NodeNumber,
    },
    /// Replaces the settings. Principals with CONFIG.
    Settings(Settings),
    /// Records which nodes vote in the catalog. Voters.
    SetVoters(Vec<NodeNumber>),
    /// Makes a voter's signing key known. The certificate's signature is the authority.
    PutIssuer(IssuerCertificate),
    /// The whole cluster shall stop with all that it holds on disk. Principals with SHUTDOWN on the cluster.
    BeginClose,
    /// It shall go on instead; not any more once the close is finished. Principals with SHUTDOWN on the cluster, and
    /// voters.
    AbortClose,
    /// A node has these groups on its disk, as far as each of them ever got. That node itself.
    Hold {
        /// In which close.
        close: CloseId,
        /// Who holds them, in its present life.
        reporter: ReplicaId,
        /// At most [`crate::limits::PROPOSALS_MAX`].
        holds: Vec<Held>,
    },
    /// Everything is on disk: every node may stop. Voters.
    FinishClose(CloseId),
    /// A node that has started again has these groups as it wrote them down, checked. That node itself.
    Reopen {
        /// In which close it wrote them down.
        close: CloseId,
        /// Who offers them, in its present life.
        reporter: ReplicaId,
        /// At most [`crate::limits::PROPOSALS_MAX`].
        holds: Vec<Held>,
    },
    /// A node that has started again has looked for what an earlier life of it left of these groups. That node itself.
    Resume {
        /// Who has looked, in its present life.
        reporter: ReplicaId,
        /// At most [`crate::limits::PROPOSALS_MAX`].
        found: Vec<Resumption>,
    },
    /// These groups have copies enough and may be written again. Voters.
    Settle {
        /// After which close.
        close: CloseId,
        /// The groups.
        groups: Vec<GroupId>,
    },
}

/// The first command of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Its name, for people.
    pub cluster_name: String,
    /// The root public key. BLAKE3 of it is the cluster's id.
    pub root: PublicKey,
    /// There will be 2^bits partitions, for ever.
    pub partition_bits: u8,
    /// The first nodes, at least one; they get the numbers from 1 on, and the first is the first voter.
    pub founders: Vec<NewNode>,
    /// The first principals; one with ROLE among them, or nobody can ever be added.
    pub principals: Vec<Principal>,
    /// The first settings.
    pub settings: Settings,
}

/// What a node says of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its key.
    pub id: NodeId,
    /// A name for people, unique among the living.
    pub name: String,
    /// Where it listens, unique among the living: `10.0.0.1:7400`.
    pub address: String,
    /// Failure domain; empty where nobody named one.
    pub zone: String,
    /// Relative capacity in thousandths; 1000 is normal.
    pub weight_milli: u32,
    /// Name and version of its program.
    pub agent: String,
}

/// A ticket to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTicket {
    /// Public half of the seed that the ticket carries.
    pub key: PublicKey,
    /// What its bearer becomes. Only nodes join by ticket so far.
    pub role: Role,
    /// When it ends.
    pub expires: UnixMillis,
    /// The name that the node must take; empty for any.
    pub name_hint: String,
}

/// A node that joins on a ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The ticket's key.
    pub ticket: PublicKey,
    /// Who joins.
    pub node: NewNode,
    /// By the ticket's key over [`crate::catalog::join_statement`].
    pub signature: [u8; 64],
}

/// A process that starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The node.
    pub node: NodeNumber,
    /// Drawn once per process.
    pub boot: BootId,
    /// Name and version of its program.
    pub agent: String,
    /// Where it listens now; empty for where it did.
    pub address: String,
    /// The node's latest life as the process knows it, which it follows: a request that arrives late, or a second time,
    /// must not take the place of a process that has started since. `None` follows whichever is the latest.
    pub after: Option<Incarnation>,
    /// Earlier lives have left groups on disk, of which this one is about to tell more ([`Operation::Resume`]).
    pub keeps: bool,
}

/// A node that answers, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// The node in the life that was judged; a verdict about an earlier life is ignored.
    pub replica: ReplicaId,
    /// Whether it answers.
    pub up: bool,
}

/// Changes of a node's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Nothing new comes to it; what it holds stays.
    Cordon,
    /// As it was before [`Self::Cordon`].
    Uncordon,
    /// All that it holds moves elsewhere.
    Drain {
        /// When it should be done; for people.
        deadline: Option<UnixMillis>,
    },
    /// Back into the ring.
    Undrain,
    /// Out of the cluster, dead or not. Refused for the last copy of any data.
    Evict {
        /// Give up the data of which it has the last copy.
        accept_loss: bool,
    },
    /// Out of the cluster, holding nothing.
    Leave,
    /// Another weight, in thousandths.
    Reweigh {
        /// 1 to [`crate::limits::NODE_WEIGHT_MILLI_MAX`].
        weight_milli: u32,
    },
}

/// New target tables: a compare-and-set on their common version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUpdate {
    /// The version that was planned from.
    pub base_version: TableVersion,
    /// The version of these tables; above `base_version`.
    pub version: TableVersion,
    /// Tables by copies wanted; those that are not here stay as they are.
    pub tables: BTreeMap<u8, TargetTable>,
}

/// What operators set for the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Milliseconds after which a node that does not answer is planned around.
    pub repair_delay_ms: u64,
    /// Milliseconds after which a voter that does not answer is replaced.
    pub voter_delay_ms: u64,
    /// Copies of an array that asks for none in particular, as far as there are nodes.
    pub replicas_default: u8,
    /// Voters at most: 1, 3, 5 or 7.
    pub voters_max: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self { repair_delay_ms: 10_000, voter_delay_ms: 5_000, replicas_default: 2, voters_max: 5 }
    }
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, or done already.
    Done,
    /// Refused; nothing changed.
    Refused(Failure),
    /// The number of the node that joined.
    Admitted(NodeNumber),
    /// The incarnation of the process that started.
    Registered {
        /// Its life.
        incarnation: Incarnation,
    },
    /// What came of each proposal, in order.
    Proposals(Vec<ProposalAnswer>),
    /// The array that was created.
    Created(ArrayDescriptor),
    /// The array that was removed.
    Removed(ArrayDescriptor),
    /// A block of session ids, never given again.
    Sessions {
        /// The first id.
        first: u64,
        /// How many.
        count: u32,
    },
}

/// What came of one proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposalAnswer {
    /// The group.
    pub group: GroupId,
    /// Why not; `None` when it was accepted.
    pub refusal: Option<ChangeRefusal>,
    /// The config as it is now; `None` for a group that there is not.
    pub config: Option<GroupConfig>,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a config was not changed. The config as it is comes along.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum ChangeRefusal {
            $($(#[$doc])* #[error($text)] $name = $number,)*
        }

        impl ChangeRefusal {
            /// Every refusal.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Whether it settles that the group stays as it is, which its primary is told. One that came too late settles
            /// nothing: the proposal may have been agreed to before, and the newer config says what became of it.
            pub fn is_settled(self) -> bool {
                self != Self::Stale
            }

            /// The refusal of a wire number; [`Self::Unknown`] for one that this version does not know.
            pub fn from_number(number: u32) -> Self {
                match number { $($number => Self::$name,)* _ => Self::Unknown }
            }
        }
    };
}

refusals! {
    /// A reason of a later version.
    Unknown = 1, "for a reason that this version does not know";
    /// There is no such group.
    NoSuchGroup = 2, "there is no such group";
    /// Somebody changed it first.
    Stale = 3, "the epoch is another one by now";
    /// The group's data is lost: only an operator changes it.
    Lost = 4, "the group has lost its data";
    /// The proposal is somebody else's than the reporter's.
    NotYours = 5, "the proposal is not the reporter's own";
    /// Only the primary may propose this.
    NotPrimary = 6, "the proposer is not the primary";
    /// The replica is not in sync, or is the primary already.
    NotBackup = 7, "the replica is no in-sync backup";
    /// The replica is no learner.
    NotLearner = 8, "the replica is no learner";
    /// The replica is named already.
    AlreadyMember = 9, "the replica is a member already";
    /// The replica is not named.
    NotMember = 10, "the replica is no member";
    /// The replica's life is over, or its node is none of ours.
    NoSuchReplica = 11, "the replica is not alive";
    /// The replica's node takes nothing: it is being emptied or is gone.
    NodeClosed = 12, "the replica's node takes nothing new";
    /// Too few would be left in sync to write, and the one to go is not known to be dead.
    TooFewInSync = 13, "too few copies would be left in sync";
    /// The config names as many replicas as it can.
    Full = 14, "the group has as many members as it can";
    /// The whole cluster is about to stop: nothing moves any more.
    Closing = 15, "the cluster is being closed";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_settles_the_proposal_but_that_it_came_too_late() {
        let open: Vec<ChangeRefusal> =
            ChangeRefusal::ALL.iter().copied().filter(|refusal| !refusal.is_settled()).collect();
        assert_eq!(open, [ChangeRefusal::Stale]);
    }
}
