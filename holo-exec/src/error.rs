//! What can go wrong between a program and its result.

use std::time::Duration;

use holo_core::{ErrorCode, Failure};

use crate::Capability;

/// A program that did not run to its end.
///
/// Nothing that a failed program wrote may be published. Where `fuel` is given it is what the run is billed: the
/// fuel burned, or all that was granted after a trap, because the engine's count is not exact then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The submitter's: the bytes are no module that may run here. Nothing ran.
    #[error("{why}")]
    ModuleInvalid {
        /// What is wrong, with the offset where the validator knows one.
        why: String,
    },
    /// The submitter's: a part of the module is larger than its bound. Nothing was compiled.
    #[error("the module has {size} {what}, at most {limit} are possible")]
    ModuleTooLarge {
        /// What was measured, with its unit.
        what: &'static str,
        /// How much there is.
        size: u64,
        /// How much there may be.
        limit: u64,
    },
    /// The submitter's: no host function has that name. Nothing ran.
    #[error("the module imports {import}, which this host does not have")]
    ImportUnknown {
        /// `module.name`.
        import: String,
    },
    /// Nobody's: the host function is planned and not built. Nothing ran.
    #[error("the module imports {import}, which is planned and not built yet")]
    ImportNotYet {
        /// `module.name`.
        import: String,
    },
    /// The submitter's: the import needs a capability that the run was not granted. Nothing ran.
    #[error(
        "the module imports {import}, which needs the capability {capability}, not granted to this run"
    )]
    CapabilityDenied {
        /// `module.name`.
        import: String,
        /// What would have to be granted.
        capability: Capability,
    },
    /// The caller's: operands, parameters or exports do not fit this kind of run. Nothing ran.
    #[error("{why}")]
    TaskInvalid {
        /// What does not fit.
        why: String,
    },
    /// The program's: it burned all its fuel.
    #[error("{export} burned all {limit} units of fuel")]
    FuelLimit {
        /// Units granted to the run, all billed.
        limit: u64,
        /// Export that was running.
        export: &'static str,
    },
    /// The program's: it ran longer than it may.
    #[error("{export} ran for {limit:?}, the time limit of the run")]
    TimeLimit {
        /// Wall-clock time granted.
        limit: Duration,
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The caller's: the request's deadline passed while the program ran.
    #[error("the deadline of the request passed while {export} ran")]
    DeadlineExceeded {
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The program's: it needed more memory than it may have.
    #[error("{export} needed {wanted} bytes of memory, the limit of the run is {limit}")]
    MemoryLimit {
        /// Bytes granted.
        limit: u64,
        /// Bytes that the refused growth would have reached.
        wanted: u64,
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The program's: it wrote more output than it may.
    #[error("{export} wrote more than {limit} bytes of output, the limit of the run")]
    OutputLimit {
        /// Bytes granted.
        limit: u64,
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The program's: it logged more than it may.
    #[error("{export} logged more than {limit} bytes, the limit of the run")]
    LogLimit {
        /// Bytes granted.
        limit: u64,
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The program's: its call stack overflowed.
    #[error("{export} overflowed its call stack of {limit} bytes")]
    StackLimit {
        /// Bytes of stack.
        limit: u64,
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The caller's wish.
    #[error("{export} was cancelled")]
    Cancelled {
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The program's: it trapped.
    #[error("{export} trapped: {kind}")]
    Trap {
        /// Why.
        kind: TrapKind,
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The program's: it called `holo.fail`.
    #[error("{export} failed with code {code}: {message}")]
    GuestFailed {
        /// The program's own code.
        code: i32,
        /// The program's own words, cut to a bound.
        message: String,
        /// Export that was running.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The program's: an export returned a negative status, or a length or pointer that cannot be.
    #[error("{export} returned {status}: {why}")]
    GuestStatus {
        /// What it returned.
        status: i32,
        /// What that means.
        why: &'static str,
        /// Export that returned it.
        export: &'static str,
        /// Units billed.
        fuel: u64,
    },
    /// The node's: every sandbox is in use. Nothing ran; try again soon.
    #[error("all {limit} sandboxes of this engine are in use")]
    Overloaded {
        /// Sandboxes of the engine.
        limit: u32,
    },
    /// A bug of ours or of the engine.
    #[error("the engine failed: {0:#}")]
    Engine(wasmtime::Error),
}

impl ExecError {
    /// Units to bill for the run that ended so; 0 when nothing ran.
    pub fn fuel(&self) -> u64 {
        match self {
            Self::FuelLimit { limit, .. } => *limit,
            Self::TimeLimit { fuel, .. }
            | Self::DeadlineExceeded { fuel, .. }
            | Self::MemoryLimit { fuel, .. }
            | Self::OutputLimit { fuel, .. }
            | Self::LogLimit { fuel, .. }
            | Self::StackLimit { fuel, .. }
            | Self::Cancelled { fuel, .. }
            | Self::Trap { fuel, .. }
            | Self::GuestFailed { fuel, .. }
            | Self::GuestStatus { fuel, .. } => *fuel,
            Self::ModuleInvalid { .. }
            | Self::ModuleTooLarge { .. }
            | Self::ImportUnknown { .. }
            | Self::ImportNotYet { .. }
            | Self::CapabilityDenied { .. }
            | Self::TaskInvalid { .. }
            | Self::Overloaded { .. }
            | Self::Engine(_) => 0,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::ModuleInvalid { .. } | Self::ImportUnknown { .. } => ErrorCode::ModuleInvalid,
            Self::ModuleTooLarge { .. } => ErrorCode::TooLarge,
            Self::ImportNotYet { .. } => ErrorCode::NotYet,
            Self::CapabilityDenied { .. } => ErrorCode::CapabilityDenied,
            Self::TaskInvalid { .. } => ErrorCode::InvalidArgument,
            Self::FuelLimit { .. } => ErrorCode::FuelLimit,
            Self::TimeLimit { .. } => ErrorCode::TimeLimit,
            Self::DeadlineExceeded { .. } => ErrorCode::DeadlineExceeded,
            Self::MemoryLimit { .. } => ErrorCode::MemoryLimit,
            Self::OutputLimit { .. } | Self::LogLimit { .. } => ErrorCode::OutputLimit,
            Self::StackLimit { .. } => ErrorCode::StackLimit,
            Self::Cancelled { .. } => ErrorCode::Cancelled,
            Self::Trap { .. } | Self::GuestFailed { .. } | Self::GuestStatus { .. } => {
                ErrorCode::TaskFailed
            }
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::Engine(_) => ErrorCode::Internal,
        }
    }

    fn help(&self) -> Option<&'static str> {
        match self {
            Self::ModuleInvalid { .. } => Some(
                "build for wasm32 with the features of WebAssembly 2.0 and the exports of ABI `holo` v1",
            ),
            Self::ModuleTooLarge { .. } => Some("build with optimisation, split large functions"),
            Self::CapabilityDenied { .. } => {
                Some("grant the capability to the run, or build the module without the import")
            }
            Self::FuelLimit { .. }
            | Self::TimeLimit { .. }
            | Self::MemoryLimit { .. }
            | Self::OutputLimit { .. }
            | Self::LogLimit { .. } => {
                Some("ask for a higher limit, or give the program less to do")
            }
            Self::StackLimit { .. } => Some("look for endless recursion or large local arrays"),
            _ => None,
        }
    }
}

impl From<ExecError> for Failure {
    fn from(error: ExecError) -> Self {
        let mut failure = Self::new(error.code(), error.to_string());
        if let Some(help) = error.help() {
            failure = failure.help(help);
        }
        match error {
            ExecError::Overloaded { .. } => failure.retry_after_ms(20),
            _ => failure,
        }
    }
}

/// Why a program trapped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrapKind {
    /// `unreachable` was reached: a panic or an abort, in most languages.
    Unreachable,
    /// A load or store outside its memory.
    MemoryOutOfBounds,
    /// A table access outside its table.
    TableOutOfBounds,
    /// An indirect call to nothing or to a function of another type.
    BadIndirectCall,
    /// An integer divided by zero.
    DivisionByZero,
    /// An integer operation or conversion without a representable result.
    IntegerOverflow,
    /// A host function was given a range that is not all in memory.
    BadPointer {
        /// The host function.
        import: &'static str,
        /// First byte.
        pointer: u32,
        /// Bytes.
        length: u32,
        /// Bytes of memory there are.
        memory: u64,
    },
    /// Another trap, in the engine's words.
    Other(String),
}

impl std::fmt::Display for TrapKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable => f.write_str("`unreachable` was reached (a panic or an abort)"),
            Self::MemoryOutOfBounds => f.write_str("memory access out of bounds"),
            Self::TableOutOfBounds => f.write_str("table access out of bounds"),
            Self::BadIndirectCall => f.write_str("indirect call to nothing or to another type"),
            Self::DivisionByZero => f.write_str("integer division by zero"),
            Self::IntegerOverflow => f.write_str("integer overflow"),
            Self::BadPointer { import, pointer, length, memory } => {
                write!(
                    f,
                    "holo.{import} was given {length} bytes at {pointer}, memory has {memory}"
                )
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}
