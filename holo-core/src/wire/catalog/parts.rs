//! What commands, answers and states have in common.

use crate::wire::GroupBody;

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
pub struct TicketRecordBody {
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

/// A target table.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TargetTableBody {
    /// Copies wanted.
    #[prost(uint32, tag = "1")]
    pub replicas: u32,
    /// Copies as far as there are nodes.
    #[prost(uint32, tag = "2")]
    pub copies: u32,
    /// For each partition the holders, the primary first, as places in `nodes`.
    #[prost(uint32, repeated, tag = "3")]
    pub holders: Vec<u32>,
    /// Numbers of all nodes that hold anything, ascending.
    #[prost(uint32, repeated, tag = "4")]
    pub nodes: Vec<u32>,
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

/// A principal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PrincipalRecordBody {
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
pub struct SettingsRecordBody {
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
