//! Modules from users: admitted, compiled with metering, run in a fresh sandbox each time.

mod abi;
mod admission;
mod capability;
mod host;
mod instance;
mod module;

pub use capability::{Capability, Grants, Limits};
pub use instance::{CallOutput, Instance, LogLine};
pub use module::Module;

pub(crate) use host::{Host, TABLE_ELEMENTS_MAX, linker};
