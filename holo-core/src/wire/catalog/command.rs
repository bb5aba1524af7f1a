//! Commands: the entries of the catalog's log.

use super::parts::{
    NewNodeBody, NumbersBody, PrincipalRecordBody, SettingsRecordBody, TablesBody, TicketRecordBody,
};
use crate::wire::{GroupBody, IssuerBody};

/// One entry of the catalog's log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommandBody {
    /// The proposer's clock.
    #[prost(uint64, tag = "1")]
    pub at_unix_ms: u64,
    /// Who asked: a principal's key, 32 bytes; empty for none.
    #[prost(bytes = "vec", tag = "2")]
    pub by_principal: Vec<u8>,
    /// Who asked: a node's number; 0 for none.
    #[prost(uint32, tag = "3")]
    pub by_node: u32,
    /// What is asked.
    #[prost(
        oneof = "OperationBody",
        tags = "10, 11, 12, 13, 14, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, \
                31, 32, 33, 34, 35, 36, 37"
    )]
    pub operation: Option<OperationBody>,
}

/// The operations.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OperationBody {
    /// The cluster.
    #[prost(message, tag = "10")]
    Bootstrap(BootstrapBody),
    /// A ticket to be made.
    #[prost(message, tag = "11")]
    CreateTicket(TicketRecordBody),
    /// The key of a ticket to be withdrawn, 32 bytes.
    #[prost(bytes, tag = "12")]
    RevokeTicket(Vec<u8>),
    /// A node that joins.
    #[prost(message, tag = "13")]
    AdmitNode(AdmissionBody),
    /// A process that starts.
    #[prost(message, tag = "14")]
    Register(RegistrationBody),
    /// Who answers.
    #[prost(message, tag = "16")]
    SetUp(LivenessBody),
    /// A node's state.
    #[prost(message, tag = "17")]
    SetNodeState(NodeChangeBody),
    /// Changes of configs.
    #[prost(message, tag = "18")]
    ProposeChanges(ProposalsBody),
    /// Target tables.
    #[prost(message, tag = "19")]
    ApplyTable(TablesBody),
    /// An array to be created.
    #[prost(message, tag = "20")]
    CreateArray(NewArrayBody),
    /// An array to be removed.
    #[prost(message, tag = "21")]
    RemoveArray(TenantArrayBody),
    /// Session ids.
    #[prost(message, tag = "22")]
    LeaseSessions(LeaseBody),
    /// Sessions below this id are over.
    #[prost(uint64, tag = "23")]
    ExpireSessions(u64),
    /// A principal to be added or replaced.
    #[prost(message, tag = "24")]
    PutPrincipal(PrincipalRecordBody),
    /// The key of a principal to be removed, 32 bytes.
    #[prost(bytes, tag = "25")]
    RemovePrincipal(Vec<u8>),
    /// Groups whose data is given up.
    #[prost(message, tag = "26")]
    AcceptLoss(GroupsBody),
    /// A node that is empty.
    #[prost(uint32, tag = "27")]
    FinishDrain(u32),
    /// The settings.
    #[prost(message, tag = "28")]
    Settings(SettingsRecordBody),
    /// The voters.
    #[prost(message, tag = "29")]
    SetVoters(NumbersBody),
    /// A signing key.
    #[prost(message, tag = "30")]
    PutIssuer(IssuerBody),
    /// The whole cluster shall stop; the value says nothing.
    #[prost(bool, tag = "31")]
    BeginClose(bool),
    /// It shall go on; the value says nothing.
    #[prost(bool, tag = "32")]
    AbortClose(bool),
    /// Groups that a node has on disk.
    #[prost(message, tag = "33")]
    Hold(HeldBody),
    /// The close of this number is finished.
    #[prost(uint64, tag = "34")]
    FinishClose(u64),
    /// Groups that a node offers back.
    #[prost(message, tag = "35")]
    Reopen(HeldBody),
    /// Groups that may be written again.
    #[prost(message, tag = "36")]
    Settle(SettleBody),
    /// What a node has found of its earlier lives.
    #[prost(message, tag = "37")]
    Resume(ResumeBody),
}

/// What a node has found of its earlier lives.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResumeBody {
    /// The replica that it is now.
    #[prost(uint64, tag = "1")]
    pub reporter: u64,
    /// The groups.
    #[prost(message, repeated, tag = "2")]
    pub found: Vec<ResumptionBody>,
}

/// What it has found of one of them.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ResumptionBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The earlier life that was in sync.
    #[prost(uint32, tag = "2")]
    pub life: u32,
    /// The epoch of the group's config in which it still is.
    #[prost(uint64, tag = "3")]
    pub at: u64,
    /// What it left is here, whole; otherwise it is gone.
    #[prost(bool, tag = "4")]
    pub is_whole: bool,
}

/// Groups that a node has on disk, or has read from there.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeldBody {
    /// Number of the close.
    #[prost(uint64, tag = "1")]
    pub close: u64,
    /// The replica.
    #[prost(uint64, tag = "2")]
    pub reporter: u64,
    /// The groups.
    #[prost(message, repeated, tag = "3")]
    pub holds: Vec<HeldGroupBody>,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HeldGroupBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch of its config when it was written.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The number of its last operation.
    #[prost(uint64, tag = "3")]
    pub seq: u64,
    /// Bytes of pages.
    #[prost(uint64, tag = "4")]
    pub bytes: u64,
    /// To be offered back: the epoch of its config at present.
    #[prost(uint64, tag = "5")]
    pub at: u64,
}

/// Groups that may be written again.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SettleBody {
    /// Number of the close.
    #[prost(uint64, tag = "1")]
    pub close: u64,
    /// The groups.
    #[prost(message, repeated, tag = "2")]
    pub groups: Vec<GroupBody>,
}

/// The first command of a cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BootstrapBody {
    /// Its name.
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    /// The root public key, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub root: Vec<u8>,
    /// There will be 2^bits partitions.
    #[prost(uint32, tag = "3")]
    pub partition_bits: u32,
    /// The first nodes.
    #[prost(message, repeated, tag = "4")]
    pub founders: Vec<NewNodeBody>,
    /// The first principals.
    #[prost(message, repeated, tag = "5")]
    pub principals: Vec<PrincipalRecordBody>,
    /// The first settings.
    #[prost(message, optional, tag = "6")]
    pub settings: Option<SettingsRecordBody>,
}

/// A node that joins on a ticket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AdmissionBody {
    /// The ticket's key, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub ticket: Vec<u8>,
    /// Who joins.
    #[prost(message, optional, tag = "2")]
    pub node: Option<NewNodeBody>,
    /// By the ticket's key, 64 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

/// A process that starts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RegistrationBody {
    /// The node.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// Drawn once per process, 16 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub boot: Vec<u8>,
    /// Name and version of its program.
    #[prost(string, tag = "3")]
    pub agent: String,
    /// Where it listens; empty for where it did.
    #[prost(string, tag = "4")]
    pub address: String,
    /// The node's latest life as the process knows it; without one, whichever it is.
    #[prost(uint32, optional, tag = "6")]
    pub after: Option<u32>,
    /// Earlier lives have left groups on disk.
    #[prost(bool, tag = "7")]
    pub keeps: bool,
}

/// Who answers and who does not.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LivenessBody {
    /// Replicas that answer.
    #[prost(uint64, repeated, tag = "1")]
    pub up: Vec<u64>,
    /// Replicas that do not.
    #[prost(uint64, repeated, tag = "2")]
    pub down: Vec<u64>,
}

/// A change of a node's state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeChangeBody {
    /// The node.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// 1 cordon, 2 uncordon, 3 drain, 4 undrain, 5 evict, 6 leave, 7 reweigh.
    #[prost(uint32, tag = "2")]
    pub change: u32,
    /// For drain: when it should be done.
    #[prost(uint64, optional, tag = "3")]
    pub deadline_unix_ms: Option<u64>,
    /// For evict: give up the data of which it has the last copy.
    #[prost(bool, tag = "4")]
    pub accept_loss: bool,
    /// For reweigh: thousandths.
    #[prost(uint32, tag = "5")]
    pub weight_milli: u32,
}

/// Groups.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupsBody {
    /// The groups.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<GroupBody>,
}

/// A wanted change of a config.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProposalBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// The epoch that the proposer knows.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// Who proposes.
    #[prost(uint64, tag = "3")]
    pub by: u64,
    /// 1 add learner, 2 add in sync, 3 remove, 4 take over, 5 hand over.
    #[prost(uint32, tag = "4")]
    pub change: u32,
    /// Whom it is about; 0 for a take-over.
    #[prost(uint64, tag = "5")]
    pub replica: u64,
}

/// Wanted changes of configs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProposalsBody {
    /// Who proposes.
    #[prost(uint64, tag = "1")]
    pub reporter: u64,
    /// The changes.
    #[prost(message, repeated, tag = "2")]
    pub proposals: Vec<ProposalBody>,
}

/// An array to be created.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NewArrayBody {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Whose.
    #[prost(uint32, tag = "2")]
    pub tenant: u32,
    /// Extents, outermost first.
    #[prost(uint64, repeated, tag = "3")]
    pub shape: Vec<u64>,
    /// [`crate::DType::to_byte`].
    #[prost(uint32, tag = "4")]
    pub dtype: u32,
    /// Elements of a shard.
    #[prost(uint64, tag = "5")]
    pub shard_elems: u64,
    /// The array to lie beside; empty for none.
    #[prost(string, tag = "6")]
    pub like: String,
    /// Copies.
    #[prost(uint32, tag = "7")]
    pub replicas: u32,
    /// In-sync copies without which nothing is written.
    #[prost(uint32, tag = "8")]
    pub min_in_sync: u32,
    /// Key of the hash that places its shards, 32 bytes.
    #[prost(bytes = "vec", tag = "9")]
    pub placement_key: Vec<u8>,
    /// Drawn once per request.
    #[prost(fixed64, tag = "10")]
    pub token: u64,
}

/// An array of a tenant.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct TenantArrayBody {
    /// Whose.
    #[prost(uint32, tag = "1")]
    pub tenant: u32,
    /// Which.
    #[prost(uint64, tag = "2")]
    pub array: u64,
}

/// Session ids for a node.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LeaseBody {
    /// The node.
    #[prost(uint32, tag = "1")]
    pub node: u32,
    /// How many.
    #[prost(uint32, tag = "2")]
    pub count: u32,
}
