//! Bodies of the catalog: commands, answers, and states or parts of them.
//!
//! They are what the catalog's log and snapshots hold, so a tag is never given another meaning, and a field may be added
//! but not dropped: a reader of the version before skips what it does not know. An operation that a reader does not know
//! is an error, never skipped: a state machine that skips a command is another state machine.
//!
//! A replica is one `uint64`: its node's number x 2^32 + its incarnation.

mod answer;
mod command;
mod parts;
mod state;

pub use answer::{
    AnswerBody, OutcomeBody, ProposalAnswerBody, ProposalAnswersBody, RegisteredBody, SessionsBody,
};
pub use command::{
    AdmissionBody, BootstrapBody, CommandBody, GroupsBody, HeldBody, HeldGroupBody, LeaseBody,
    LivenessBody, NewArrayBody, NodeChangeBody, OperationBody, ProposalBody, ProposalsBody,
    RegistrationBody, ResumeBody, ResumptionBody, SettleBody, TenantArrayBody,
};
pub use parts::{
    ConfigBody, GrantBody, NewNodeBody, NumbersBody, PrincipalRecordBody, SettingsRecordBody,
    TablesBody, TargetTableBody, TicketRecordBody,
};
pub use state::{ArrayRecordBody, ChangesBody, CloseBody, ClusterBody, HoldBody, NodeBody};
