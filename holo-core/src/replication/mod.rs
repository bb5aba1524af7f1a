//! Replication of groups: who holds what, and the machines that keep it so.
//!
//! # Not here
//!
//! The catalog, which alone changes configs; bytes and frames (`holo-mem`); sockets.

mod config;

pub use config::{
    Class, ConfigChange, ConfigRole, ConfigVerifier, GroupConfig, GroupId, Incarnation, NodeNumber,
    Proposal, ReplicaId,
};
