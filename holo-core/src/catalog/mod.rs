//! The catalog: who the nodes are, who holds what, and which arrays there are, as a pure state machine.
//!
//! Raft replicates the [`Command`]s; every voter applies them in the same order and gets the same state. Commands,
//! [`Answer`]s and states cross the driver as bytes. Nothing here reads a clock, draws randomness or lets a float decide:
//! time travels in the commands and is made monotonic when they are applied, placement tables are computed by whoever
//! plans ([`plan`]) and travel in the command that applies them, so that two versions of the program cannot diverge.
//!
//! # Rules
//!
//! 1. Every command names the [`Authority`] that asked for it. The voter that proposes it has seen that authority's key
//!    proved by a channel; `apply` checks again that the authority may do this.
//! 2. A refused command changes nothing but the catalog's time.
//! 3. A command whose answer was lost may be sent again: each is a compare-and-set, or names what it makes (a boot id, a
//!    ticket, a token), or does no harm twice.
//! 4. A group's epoch grows by exactly one with each change. Its in-sync set grows only by a learner that its primary
//!    proposes; it never becomes empty: the group is `lost` instead, and names its last holders.
//! 5. No secret is in here: public keys, hashes, and each array's placement key, which is secret towards users only.
//!
//! # Not here
//!
//! Raft, storage, signing keys (`holo-catalog` and the node); hearing the nodes by which the [`Leader`] judges; the
//! machines that obey configs ([`crate::replication`]).

mod admission;
mod arrays;
mod authority;
mod changes;
mod close_steps;
mod closing;
mod codec;
mod command;
mod drain;
mod groups;
mod invariants;
mod leader;
mod loss;
mod nodes;
mod planner;
mod principals;
mod proof;
mod proposals;
mod resume;
mod state;
mod statement;
mod targets;
mod voters;

pub use arrays::{NewArray, placement_key};
pub use changes::Changes;
pub use close_steps::{CloseStage, CloseStep, Intake, ToHold};
pub use closing::{Close, CloseId, GroupHold, Held};
pub use command::{
    Admission, Answer, Authority, Bootstrap, ChangeRefusal, Command, Liveness, NewNode, NewTicket,
    NodeChange, Operation, ProposalAnswer, Registration, Settings, TableUpdate,
};
pub use drain::{DrainPlan, DrainProgress};
pub use leader::{DrainMeter, Duty, Leader, LeaderView, Step};
pub use nodes::{BootId, NodeRecord, NodeState, Ticket};
pub use planner::{Move, Plan, plan, plan_with};
pub use proof::{
    CatalogProof, IssuerCertificate, IssuerVerifier, MerkleBatch, Signed, config_root,
    issuer_statement,
};
pub use resume::{PastReplica, Resumption};
pub use state::CatalogState;
pub use statement::{is_signed_by, join_statement};
pub use targets::TargetTable;
pub use voters::{VoterCandidate, choose_voters};

#[cfg(test)]
mod tests;
