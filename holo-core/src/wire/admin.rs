//! Bodies of what operators ask of the cluster.

use std::fmt;

use super::{Allocate, ArrayInfo, ArrayRef, Empty, MemberEntry, NodeLoad};

/// One request of an operator.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdminRequest {
    /// The principal that asked, 32 bytes, when a voter passes the request on; empty from the principal itself.
    #[prost(bytes = "vec", tag = "1")]
    pub on_behalf_of: Vec<u8>,
    /// What is asked.
    #[prost(
        oneof = "AdminAction",
        tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22"
    )]
    pub action: Option<AdminAction>,
}

/// What operators ask for.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum AdminAction {
    /// A ticket, answered with [`TicketList`] of one; ADMIT.
    #[prost(message, tag = "2")]
    CreateTicket(TicketOrder),
    /// All tickets, answered with [`TicketList`]; ADMIT.
    #[prost(message, tag = "3")]
    ListTickets(Empty),
    /// Withdraws a ticket; ADMIT.
    #[prost(message, tag = "4")]
    RevokeTicket(TicketRef),
    /// Changes a node's state; DRAIN on its name.
    #[prost(message, tag = "5")]
    ChangeNode(NodeOrder),
    /// What a drain of a node would do, answered with [`DrainReport`]; STATUS.
    #[prost(message, tag = "6")]
    PlanDrain(NodeRef),
    /// How a drain goes, answered with [`DrainReport`]; STATUS.
    #[prost(message, tag = "7")]
    WatchDrain(NodeRef),
    /// Everything about the cluster, answered with [`ClusterReport`]; STATUS.
    #[prost(message, tag = "8")]
    ClusterStatus(Empty),
    /// One node, answered with [`ClusterReport`] with that node only; STATUS.
    #[prost(message, tag = "9")]
    ShowNode(NodeRef),
    /// The tables as they are, answered with [`RingReport`]; STATUS.
    #[prost(message, tag = "10")]
    ShowRing(Empty),
    /// The tables as they would become, answered with [`RingReport`]; STATUS.
    #[prost(message, tag = "11")]
    PlanRing(Empty),
    /// Makes the plan from a version the tables, answered with [`RingReport`]; CONFIG.
    #[prost(message, tag = "12")]
    ApplyRing(RingOrder),
    /// Creates an array, answered with its description; ALLOCATE on its name. Between voters only: clients send it
    /// by its own kind.
    #[prost(message, tag = "13")]
    Allocate(Allocate),
    /// Adds or replaces a principal; ROLE on its tenant.
    #[prost(message, tag = "14")]
    PutPrincipal(PrincipalBody),
    /// Removes a principal; ROLE on its tenant.
    #[prost(message, tag = "15")]
    RemovePrincipal(PrincipalRef),
    /// All principals, answered with [`PrincipalList`]; ROLE.
    #[prost(message, tag = "16")]
    ListPrincipals(Empty),
    /// Changes settings, answered with [`SettingsBody`]; with nothing set it only shows them. CONFIG to change, STATUS to
    /// see.
    #[prost(message, tag = "17")]
    Settings(SettingsBody),
    /// Gives up the data of lost groups and starts them empty, answered with [`LossReport`]; CONFIG.
    #[prost(message, tag = "18")]
    AcceptLoss(LossOrder),
    /// Removes an array; FREE on its name. Between voters only, as [`Self::Allocate`].
    #[prost(message, tag = "19")]
    RemoveArray(ArrayRef),
    /// Stops the whole cluster with all that it holds on disk, or takes that back; SHUTDOWN on the cluster.
    #[prost(message, tag = "20")]
    CloseCluster(CloseOrder),
    /// How that goes, answered with [`CloseReport`]; STATUS.
    #[prost(message, tag = "21")]
    WatchClose(Empty),
    /// What is lost, answered with [`LossReport`]; CONFIG.
    #[prost(message, tag = "22")]
    PlanLoss(Empty),
}

/// What came of a request.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AdminReply {
    /// What was asked for; nothing where it is only done.
    #[prost(oneof = "AdminResult", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub result: Option<AdminResult>,
}

/// What requests are answered with.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum AdminResult {
    /// Tickets.
    #[prost(message, tag = "2")]
    Tickets(TicketList),
    /// A drain, planned or under way.
    #[prost(message, tag = "3")]
    Drain(DrainReport),
    /// The cluster.
    #[prost(message, tag = "4")]
    Cluster(ClusterReport),
    /// The ring.
    #[prost(message, tag = "5")]
    Ring(RingReport),
    /// Principals.
    #[prost(message, tag = "6")]
    Principals(PrincipalList),
    /// Settings.
    #[prost(message, tag = "7")]
    Settings(SettingsBody),
    /// Losses.
    #[prost(message, tag = "8")]
    Loss(LossReport),
    /// An array.
    #[prost(message, tag = "9")]
    Array(ArrayInfo),
    /// How the stop of the cluster goes.
    #[prost(message, tag = "10")]
    Close(CloseReport),
}

/// The whole cluster shall stop.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct CloseOrder {
    /// It shall go on after all.
    #[prost(bool, tag = "1")]
    pub cancel: bool,
}

/// How the stop of the whole cluster goes, or its start afterwards.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CloseReport {
    /// `open`, `closing`, or `closed` from the moment when everything is on disk until everything is back.
    #[prost(string, tag = "1")]
    pub stage: String,
    /// Number of the close; 0 when it is open.
    #[prost(uint64, tag = "2")]
    pub close: u64,
    /// Groups with data.
    #[prost(uint64, tag = "3")]
    pub groups: u64,
    /// Those that are on disk everywhere; once it is closed, those that are back.
    #[prost(uint64, tag = "4")]
    pub groups_done: u64,
    /// Bytes of pages on all disks.
    #[prost(uint64, tag = "5")]
    pub bytes: u64,
    /// Names of the nodes that it waits for.
    #[prost(string, repeated, tag = "6")]
    pub waits_for: Vec<String>,
    /// Why this cluster cannot be stopped; nothing when it can.
    #[prost(message, optional, tag = "7")]
    pub refusal: Option<super::FailureBody>,
}

/// A ticket to be made.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TicketOrder {
    /// How long it is good for, in milliseconds; 0 for an hour, at most 7 days.
    #[prost(uint64, tag = "1")]
    pub lifetime_ms: u64,
    /// The name that the node must take; empty for any.
    #[prost(string, tag = "2")]
    pub node_name: String,
}

/// A ticket, by the start of its key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TicketRef {
    /// Hexadecimal digits of its public key, at least the first 8.
    #[prost(string, tag = "1")]
    pub key: String,
}

/// Tickets.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct TicketList {
    /// They.
    #[prost(message, repeated, tag = "1")]
    pub tickets: Vec<TicketBody>,
}

/// A ticket as operators see it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct TicketBody {
    /// Public half of its seed, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// When it ends: Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub expires_unix_ms: u64,
    /// The name that the node must take; empty for any.
    #[prost(string, tag = "3")]
    pub node_name: String,
    /// The node that joined with it; 0 for none.
    #[prost(uint32, tag = "4")]
    pub used_by: u32,
    /// The text to paste; only where it has just been made.
    #[prost(string, tag = "5")]
    pub text: String,
}

impl fmt::Debug for TicketBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TicketBody");
        shown.field("key", &self.key).field("expires_unix_ms", &self.expires_unix_ms);
        shown.field("node_name", &self.node_name).field("used_by", &self.used_by);
        shown.field("text", &if self.text.is_empty() { "" } else { "<redacted>" }).finish()
    }
}

/// A node: by name, number, or the first 8 or more digits of its id.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeRef {
    /// Which.
    #[prost(string, tag = "1")]
    pub node: String,
}

/// What shall happen to a node.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeOrder {
    /// Which: as in [`NodeRef`].
    #[prost(string, tag = "1")]
    pub node: String,
    /// What.
    #[prost(enumeration = "NodeOrderKind", tag = "2")]
    pub kind: i32,
    /// For a drain: when it should be done, Unix milliseconds; 0 for whenever.
    #[prost(uint64, tag = "3")]
    pub deadline_unix_ms: u64,
    /// For an eviction: give up the data of which the node has the last copy.
    #[prost(bool, tag = "4")]
    pub accept_loss: bool,
    /// For another weight: thousandths.
    #[prost(uint32, tag = "5")]
    pub weight_milli: u32,
}

/// What can happen to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum NodeOrderKind {
    /// Nothing was said.
    Unknown = 0,
    /// It gets no further partitions.
    Cordon = 1,
    /// As before.
    Uncordon = 2,
    /// It is emptied.
    Drain = 3,
    /// Back into the ring.
    Undrain = 4,
    /// Out of the cluster, dead or not.
    Evict = 5,
    /// Out of the cluster, holding nothing.
    Leave = 6,
    /// Another weight.
    Reweigh = 7,
}

/// A drain, planned or under way.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DrainReport {
    /// Number of the node.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its state, as in [`MemberEntry`].
    #[prost(string, tag = "3")]
    pub state: String,
    /// Groups that it held when the drain began, or holds when it is only planned.
    #[prost(uint64, tag = "4")]
    pub groups_total: u64,
    /// Groups that still name it.
    #[prost(uint64, tag = "5")]
    pub groups_left: u64,
    /// Of these, groups whose primary it is.
    #[prost(uint64, tag = "6")]
    pub primaries_left: u64,
    /// Bytes that it still has to hand on, as far as is known.
    #[prost(uint64, tag = "7")]
    pub bytes_left: u64,
    /// Milliseconds until it is done at the present rate; 0 when that is not known yet.
    #[prost(uint64, tag = "8")]
    pub eta_ms: u64,
    /// Since when: Unix milliseconds; 0 when it is only planned.
    #[prost(uint64, tag = "9")]
    pub since_unix_ms: u64,
    /// When it should be done: Unix milliseconds; 0 for whenever.
    #[prost(uint64, tag = "10")]
    pub deadline_unix_ms: u64,
    /// Why it cannot be emptied as things are; nothing when it can.
    #[prost(message, repeated, tag = "11")]
    pub refusals: Vec<super::FailureBody>,
    /// Numbers of the nodes that take over, with how many groups each.
    #[prost(message, repeated, tag = "12")]
    pub receivers: Vec<ReceiverBody>,
    /// What will be less than was asked for, in sentences.
    #[prost(string, repeated, tag = "13")]
    pub warnings: Vec<String>,
}

/// A node that takes groups over.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ReceiverBody {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Groups that come to it.
    #[prost(uint64, tag = "2")]
    pub groups: u64,
}

/// The cluster, as the leader of its catalog knows it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ClusterReport {
    /// Name of the cluster.
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    /// Id of the cluster, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub cluster: Vec<u8>,
    /// Version of the catalog.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// Number of the node that leads the catalog; 0 while nobody does.
    #[prost(uint32, tag = "4")]
    pub leader: u32,
    /// Numbers of the nodes that vote in the catalog.
    #[prost(uint32, repeated, tag = "5")]
    pub voters: Vec<u32>,
    /// Those of them that answer.
    #[prost(uint32, repeated, tag = "6")]
    pub voters_answering: Vec<u32>,
    /// The nodes.
    #[prost(message, repeated, tag = "7")]
    pub nodes: Vec<NodeReport>,
    /// How many groups there are of classes that some array has; the counts below are of these.
    #[prost(uint64, tag = "8")]
    pub groups: u64,
    /// Groups with fewer copies in sync than they want.
    #[prost(uint64, tag = "9")]
    pub groups_degraded: u64,
    /// Groups with one copy left, on a node that answers, that want more.
    #[prost(uint64, tag = "10")]
    pub groups_single: u64,
    /// Groups whose data is lost.
    #[prost(uint64, tag = "11")]
    pub groups_lost: u64,
    /// Replicas that are being brought up.
    #[prost(uint64, tag = "12")]
    pub repairs: u64,
    /// How many arrays there are.
    #[prost(uint64, tag = "13")]
    pub arrays: u64,
    /// Version of the target tables.
    #[prost(uint64, tag = "14")]
    pub table_version: u64,
    /// Sentences that an operator should read: too few failure domains, a clock that is off.
    #[prost(string, repeated, tag = "15")]
    pub notes: Vec<String>,
    /// Nodes being emptied.
    #[prost(message, repeated, tag = "16")]
    pub drains: Vec<DrainReport>,
    /// Groups whose copies in sync are all on nodes that do not answer.
    #[prost(uint64, tag = "17")]
    pub groups_silent: u64,
}

/// One node, as the leader of the catalog knows it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeReport {
    /// Who it is.
    #[prost(message, optional, tag = "1")]
    pub member: Option<MemberEntry>,
    /// Its present life.
    #[prost(uint32, tag = "2")]
    pub incarnation: u32,
    /// Name and version of its program.
    #[prost(string, tag = "3")]
    pub agent: String,
    /// Groups whose primary it is, by the catalog.
    #[prost(uint64, tag = "4")]
    pub primaries: u64,
    /// Groups that it holds in sync otherwise, by the catalog.
    #[prost(uint64, tag = "5")]
    pub backups: u64,
    /// Groups that it is being brought up for.
    #[prost(uint64, tag = "6")]
    pub learners: u64,
    /// Groups that it shall hold.
    #[prost(uint64, tag = "7")]
    pub targets: u64,
    /// What it said last; nothing when this leader has not heard it.
    #[prost(message, optional, tag = "8")]
    pub load: Option<NodeLoad>,
    /// Milliseconds since then.
    #[prost(uint64, tag = "9")]
    pub heard_ms: u64,
    /// Milliseconds by which its clock is ahead of the leader's.
    #[prost(sint64, tag = "10")]
    pub clock_ahead_ms: i64,
    /// Whether it votes in the catalog.
    #[prost(bool, tag = "11")]
    pub votes: bool,
    /// When it joined: Unix milliseconds.
    #[prost(uint64, tag = "12")]
    pub joined_unix_ms: u64,
    /// When it was last found up or down: Unix milliseconds.
    #[prost(uint64, tag = "13")]
    pub up_changed_unix_ms: u64,
}

/// The target tables, as they are or would become.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RingReport {
    /// Version of the tables that it is about.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Partitions of the ring.
    #[prost(uint32, tag = "2")]
    pub partitions: u32,
    /// A row per number of copies.
    #[prost(message, repeated, tag = "3")]
    pub tables: Vec<RingTable>,
    /// Replicas that come to another node by the plan.
    #[prost(uint64, tag = "4")]
    pub moves: u64,
    /// Bytes that move, as far as is known.
    #[prost(uint64, tag = "5")]
    pub bytes: u64,
    /// Changes of who is wanted as the primary, without a move.
    #[prost(uint64, tag = "6")]
    pub handovers: u64,
}

/// How the partitions of one number of copies are spread.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RingTable {
    /// Copies.
    #[prost(uint32, tag = "1")]
    pub replicas: u32,
    /// Whether arrays use it.
    #[prost(bool, tag = "2")]
    pub in_use: bool,
    /// Nodes with what they shall hold.
    #[prost(message, repeated, tag = "3")]
    pub shares: Vec<RingShare>,
}

/// What one node shall hold.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RingShare {
    /// Number of the node.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Partitions that it shall hold.
    #[prost(uint32, tag = "2")]
    pub partitions: u32,
    /// Of these, those whose primary it shall be.
    #[prost(uint32, tag = "3")]
    pub primaries: u32,
    /// Partitions that come to it by the plan.
    #[prost(uint32, tag = "4")]
    pub gains: u32,
    /// Partitions that leave it by the plan.
    #[prost(uint32, tag = "5")]
    pub losses: u32,
}

/// A plan to be carried out.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RingOrder {
    /// The version of the tables that was planned from.
    #[prost(uint64, tag = "1")]
    pub base_version: u64,
}

/// A principal.
#[derive(Clone, PartialEq, Eq, prost::Message)]
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
    /// What it may do: `READ`, `READ:demo/*`.
    #[prost(string, repeated, tag = "4")]
    pub grants: Vec<String>,
}

/// A principal, by key.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PrincipalRef {
    /// Its key, 32 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
}

/// Principals.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PrincipalList {
    /// They.
    #[prost(message, repeated, tag = "1")]
    pub principals: Vec<PrincipalBody>,
}

/// Settings of the cluster; those to change, or all.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SettingsBody {
    /// Milliseconds after which a node that does not answer is planned around.
    #[prost(uint64, optional, tag = "1")]
    pub repair_delay_ms: Option<u64>,
    /// Milliseconds after which a voter that does not answer is replaced.
    #[prost(uint64, optional, tag = "2")]
    pub voter_delay_ms: Option<u64>,
    /// Copies of an array that asks for none in particular.
    #[prost(uint32, optional, tag = "3")]
    pub replicas_default: Option<u32>,
    /// Voters at most.
    #[prost(uint32, optional, tag = "4")]
    pub voters_max: Option<u32>,
}

/// What shall be given up.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LossOrder {
    /// [`LossReport::mark`] of what was shown to whoever decides: nothing else is given up.
    #[prost(bytes = "vec", tag = "1")]
    pub mark: Vec<u8>,
}

/// What is lost, or was given up.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LossReport {
    /// Groups whose last copy has died; those that start empty.
    #[prost(uint64, tag = "1")]
    pub groups: u64,
    /// Arrays that have data in them, the first ones.
    #[prost(string, repeated, tag = "2")]
    pub arrays: Vec<String>,
    /// Stands for these groups in their present epochs, 32 bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub mark: Vec<u8>,
    /// Groups that nobody serves and that are not given up, because somebody who has them may come back.
    #[prost(uint64, tag = "4")]
    pub groups_awaited: u64,
    /// Names of those who have them.
    #[prost(string, repeated, tag = "5")]
    pub waits_for: Vec<String>,
}
