//! Bodies of the catalog: commands, answers, and states or parts of them.
//!
//! They are what the catalog's log and snapshots hold, so a tag is never given another meaning, and a field may be added
//! but not dropped: a reader of the version before skips what it does not know. An operation that a reader does not know
//! is an error, never skipped: a state machine that skips a command is another state machine.
//!
//! A replica is one `uint64`: its node's number x 2^32 + its incarnation.

use super::{ArrayInfo, FailureBody};

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
        tags = "10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30"
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
    CreateTicket(TicketBody),
    /// The key of a ticket to be withdrawn, 32 bytes.
    #[prost(bytes, tag = "12")]
    RevokeTicket(Vec<u8>),
    /// A node that joins.
    #[prost(message, tag = "13")]
    AdmitNode(AdmissionBody),
    /// A process that starts.
    #[prost(message, tag = "14")]
    Register(RegistrationBody),
    /// A process that ends.
    #[prost(message, tag = "15")]
    Suspend(SuspendBody),
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
    PutPrincipal(PrincipalBody),
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
    Settings(SettingsBody),
    /// The voters.
    #[prost(message, tag = "29")]
    SetVoters(NumbersBody),
    /// A signing key.
    #[prost(message, tag = "30")]
    PutIssuer(IssuerBody),
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
    pub principals: Vec<PrincipalBody>,
    /// The first settings.
    #[prost(message, optional, tag = "6")]
    pub settings: Option<SettingsBody>,
}

/// What a node says of itself when it joins.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NewNodeBody {
    /// Its key, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    /// A name for people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Where it listens.
    #[prost(string, tag = "3")]
    pub address: String,
    /// Failure domain.
    #[prost(string, tag = "4")]
    pub zone: String,
    /// Relative capacity in thousandths.
    #[prost(uint32, tag = "5")]
    pub weight_milli: u32,
    /// Name and version of its program.
    #[prost(string, tag = "6")]
    pub agent: String,
}

/// A ticket.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TicketBody {
    /// Its public key, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// [`crate::Role`] as a number.
    #[prost(uint32, tag = "2")]
    pub role: u32,
    /// When it ends.
    #[prost(uint64, tag = "3")]
    pub expires_unix_ms: u64,
    /// The name that the node must take; empty for any.
    #[prost(string, tag = "4")]
    pub name_hint: String,
    /// In states: who joined with it; 0 for nobody.
    #[prost(uint32, tag = "5")]
    pub used_by: u32,
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
    /// The manifest of the stop that it continues, 32 bytes; empty for none.
    #[prost(bytes = "vec", tag = "5")]
    pub resumes: Vec<u8>,
}

/// A process that ends.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SuspendBody {
    /// The replica.
    #[prost(uint64, tag = "1")]
    pub replica: u64,
    /// What it has written down, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub manifest: Vec<u8>,
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

/// A group.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct GroupBody {
    /// The partition.
    #[prost(uint32, tag = "1")]
    pub partition: u32,
    /// Copies wanted.
    #[prost(uint32, tag = "2")]
    pub replicas: u32,
    /// In-sync copies without which nothing is written.
    #[prost(uint32, tag = "3")]
    pub min_in_sync: u32,
}

/// Groups.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GroupsBody {
    /// The groups.
    #[prost(message, repeated, tag = "1")]
    pub groups: Vec<GroupBody>,
}

/// A config of a group.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// Its version.
    #[prost(uint64, tag = "2")]
    pub epoch: u64,
    /// The primary.
    #[prost(uint64, tag = "3")]
    pub primary: u64,
    /// In-sync replicas, ascending.
    #[prost(uint64, repeated, tag = "4")]
    pub in_sync: Vec<u64>,
    /// Learners, ascending.
    #[prost(uint64, repeated, tag = "5")]
    pub learners: Vec<u64>,
    /// The last in-sync copy is gone.
    #[prost(bool, tag = "6")]
    pub lost: bool,
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

/// A target table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TargetTableBody {
    /// Copies wanted.
    #[prost(uint32, tag = "1")]
    pub replicas: u32,
    /// Copies as far as there are nodes.
    #[prost(uint32, tag = "2")]
    pub copies: u32,
    /// Numbers of the holders, the primary first, one partition after the other.
    #[prost(uint32, repeated, tag = "3")]
    pub holders: Vec<u32>,
}

/// Target tables.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TablesBody {
    /// In commands: the version that was planned from.
    #[prost(uint64, tag = "1")]
    pub base_version: u64,
    /// The version of these tables.
    #[prost(uint64, tag = "2")]
    pub version: u64,
    /// The tables.
    #[prost(message, repeated, tag = "3")]
    pub tables: Vec<TargetTableBody>,
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

/// A principal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PrincipalBody {
    /// Its key, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// A name for people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its tenant.
    #[prost(uint32, tag = "3")]
    pub tenant: u32,
    /// What it may do.
    #[prost(message, repeated, tag = "4")]
    pub grants: Vec<GrantBody>,
}

/// Permission for one verb.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GrantBody {
    /// [`crate::Verb::name`].
    #[prost(string, tag = "1")]
    pub verb: String,
    /// A resource name, or a prefix that ends in `*`.
    #[prost(string, tag = "2")]
    pub pattern: String,
}

/// Settings.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SettingsBody {
    /// Milliseconds after which a node that does not answer is planned around.
    #[prost(uint64, tag = "1")]
    pub repair_delay_ms: u64,
    /// Milliseconds after which a voter that does not answer is replaced.
    #[prost(uint64, tag = "2")]
    pub voter_delay_ms: u64,
    /// Copies of an array that asks for none in particular.
    #[prost(uint32, tag = "3")]
    pub replicas_default: u32,
    /// Voters at most.
    #[prost(uint32, tag = "4")]
    pub voters_max: u32,
}

/// Numbers of nodes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NumbersBody {
    /// The numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub numbers: Vec<u32>,
}

/// The root key vouches for a signing key.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IssuerBody {
    /// The signing key, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub issuer: Vec<u8>,
    /// When it ends.
    #[prost(uint64, tag = "2")]
    pub not_after_unix_ms: u64,
    /// By the root key, 64 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub signature: Vec<u8>,
}

/// What came of a command. Nothing set means: done.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnswerBody {
    /// What came of it.
    #[prost(oneof = "OutcomeBody", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub outcome: Option<OutcomeBody>,
}

/// The outcomes.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OutcomeBody {
    /// Refused.
    #[prost(message, tag = "1")]
    Refused(FailureBody),
    /// The number of the node that joined.
    #[prost(uint32, tag = "2")]
    Admitted(u32),
    /// The life of the process that started.
    #[prost(message, tag = "3")]
    Registered(RegisteredBody),
    /// What came of each proposal.
    #[prost(message, tag = "4")]
    Proposals(ProposalAnswersBody),
    /// The array that was created.
    #[prost(message, tag = "5")]
    Created(ArrayInfo),
    /// The array that was removed.
    #[prost(message, tag = "6")]
    Removed(ArrayInfo),
    /// Session ids.
    #[prost(message, tag = "7")]
    Sessions(SessionsBody),
}

/// The life of a process that started.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RegisteredBody {
    /// Its incarnation.
    #[prost(uint32, tag = "1")]
    pub incarnation: u32,
    /// It continues the life before.
    #[prost(bool, tag = "2")]
    pub resumed: bool,
}

/// What came of proposals.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProposalAnswersBody {
    /// In the order of the proposals.
    #[prost(message, repeated, tag = "1")]
    pub answers: Vec<ProposalAnswerBody>,
}

/// What came of one proposal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ProposalAnswerBody {
    /// The group.
    #[prost(message, optional, tag = "1")]
    pub group: Option<GroupBody>,
    /// [`crate::catalog::ChangeRefusal`] as a number; 0 for none.
    #[prost(uint32, tag = "2")]
    pub refusal: u32,
    /// The config as it is now; absent for a group that there is not.
    #[prost(message, optional, tag = "3")]
    pub config: Option<ConfigBody>,
}

/// A block of session ids, or where they stand.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SessionsBody {
    /// In answers the first id; in states the next one.
    #[prost(uint64, tag = "1")]
    pub first: u64,
    /// In answers: how many.
    #[prost(uint32, tag = "2")]
    pub count: u32,
    /// In states: sessions with lower ids are over.
    #[prost(uint64, tag = "3")]
    pub expired_below: u64,
}

/// The whole state, or what changed since a version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChangesBody {
    /// The version that a copy needs; 0 with the whole.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// The version that this leads to.
    #[prost(uint64, tag = "2")]
    pub to: u64,
    /// This is everything.
    #[prost(bool, tag = "3")]
    pub whole: bool,
    /// The catalog's time.
    #[prost(uint64, tag = "4")]
    pub now_unix_ms: u64,
    /// The number that the next node gets.
    #[prost(uint32, tag = "5")]
    pub next_node: u32,
    /// The id that the next array gets.
    #[prost(uint64, tag = "6")]
    pub next_array: u64,
    /// What never changes.
    #[prost(message, optional, tag = "7")]
    pub cluster: Option<ClusterBody>,
    /// The settings.
    #[prost(message, optional, tag = "8")]
    pub settings: Option<SettingsBody>,
    /// The voters.
    #[prost(message, optional, tag = "9")]
    pub voters: Option<NumbersBody>,
    /// Where session ids stand.
    #[prost(message, optional, tag = "10")]
    pub sessions: Option<SessionsBody>,
    /// The target tables.
    #[prost(message, optional, tag = "11")]
    pub tables: Option<TablesBody>,
    /// Nodes.
    #[prost(message, repeated, tag = "12")]
    pub nodes: Vec<NodeBody>,
    /// Numbers of nodes that were forgotten.
    #[prost(uint32, repeated, tag = "13")]
    pub gone_nodes: Vec<u32>,
    /// Tickets.
    #[prost(message, repeated, tag = "14")]
    pub tickets: Vec<TicketBody>,
    /// Keys of tickets that are gone, 32 bytes each.
    #[prost(bytes = "vec", repeated, tag = "15")]
    pub gone_tickets: Vec<Vec<u8>>,
    /// Configs.
    #[prost(message, repeated, tag = "16")]
    pub groups: Vec<ConfigBody>,
    /// Arrays.
    #[prost(message, repeated, tag = "17")]
    pub arrays: Vec<ArrayRecordBody>,
    /// Ids of arrays that were removed.
    #[prost(uint64, repeated, tag = "18")]
    pub gone_arrays: Vec<u64>,
    /// Principals.
    #[prost(message, repeated, tag = "19")]
    pub principals: Vec<PrincipalBody>,
    /// Keys of principals that were removed, 32 bytes each.
    #[prost(bytes = "vec", repeated, tag = "20")]
    pub gone_principals: Vec<Vec<u8>>,
    /// Signing keys.
    #[prost(message, repeated, tag = "21")]
    pub issuers: Vec<IssuerBody>,
    /// Signing keys that are gone, 32 bytes each.
    #[prost(bytes = "vec", repeated, tag = "22")]
    pub gone_issuers: Vec<Vec<u8>>,
}

/// What never changes about a cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterBody {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The root public key, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub root: Vec<u8>,
    /// There are 2^bits partitions.
    #[prost(uint32, tag = "3")]
    pub partition_bits: u32,
}

/// A node, living or remembered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeBody {
    /// What it said of itself.
    #[prost(message, optional, tag = "1")]
    pub node: Option<NewNodeBody>,
    /// The node in its present life.
    #[prost(uint64, tag = "2")]
    pub replica: u64,
    /// Of the process that lives it, 16 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub boot: Vec<u8>,
    /// That process continued the life of the one before it.
    #[prost(bool, tag = "4")]
    pub resumed: bool,
    /// 1 joining, 2 active, 3 cordoned, 4 draining, 5 drained, 6 evicted, 7 left.
    #[prost(uint32, tag = "5")]
    pub state: u32,
    /// While draining: since when.
    #[prost(uint64, tag = "6")]
    pub draining_since_unix_ms: u64,
    /// While draining: when it should be done.
    #[prost(uint64, optional, tag = "7")]
    pub drain_deadline_unix_ms: Option<u64>,
    /// Whether it answers.
    #[prost(bool, tag = "8")]
    pub up: bool,
    /// When that last changed.
    #[prost(uint64, tag = "9")]
    pub up_changed_unix_ms: u64,
    /// What it wrote down at its clean stop, 32 bytes; empty while it runs.
    #[prost(bytes = "vec", tag = "10")]
    pub suspended: Vec<u8>,
    /// When it was admitted.
    #[prost(uint64, tag = "11")]
    pub joined_unix_ms: u64,
}

/// An array with the token of the request that made it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ArrayRecordBody {
    /// The array.
    #[prost(message, optional, tag = "1")]
    pub array: Option<ArrayInfo>,
    /// The token.
    #[prost(fixed64, tag = "2")]
    pub token: u64,
}
