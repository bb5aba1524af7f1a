//! The one list of error codes, and the failure that carries one across the wire.

use std::fmt;

/// A failure as it crosses the wire and as people read it: `error[HC1101]: array demo/x: not found`.
///
/// Operation families have their own error enums beside their code; each turns into a `Failure` where it leaves
/// the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Stable code.
    pub code: ErrorCode,
    /// What happened and what was needed, with the numbers.
    pub message: String,
    /// What to do about it, when there is something to do.
    pub help: Option<String>,
    /// When a retry may succeed; `None` when the code says all.
    pub retry_after_ms: Option<u32>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None, retry_after_ms: None }
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, millis: u32) -> Self {
        self.retry_after_ms = Some(millis);
        self
    }

    /// Puts the place where it happened before the message, unless it is there already.
    #[must_use]
    pub fn context(mut self, place: impl fmt::Display) -> Self {
        let place = place.to_string();
        if !self.message.starts_with(&place) {
            self.message = format!("{place}: {}", self.message);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same request fails again.
    Never,
    /// Try again after a pause; nothing was done.
    Later,
    /// It may or may not have been done: read before trying again.
    Unknown,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $title:literal, $retry:ident, exit $exit:literal;)*) => {
        /// Stable error codes: the same number in Rust, Python, JSON and what people read (`HC1101`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum ErrorCode {
            $($(#[$doc])* $name = $number,)*
        }

        impl ErrorCode {
            /// Every code, in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable number.
            pub fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The code of a number; [`ErrorCode::Internal`] for one that this version does not know.
            pub fn from_number(number: u32) -> Self {
                match number { $($number => Self::$name,)* _ => Self::Internal }
            }

            /// A few words for tables and metrics.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// Whether to try again.
            pub fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)* }
            }

            /// Exit code of `holo` when a command ends with this error.
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }
        }
    };
}

error_codes! {
    /// An argument is outside its domain.
    InvalidArgument = 1001, "invalid argument", Never, exit 2;
    /// A shape has too many elements or bytes.
    ShapeOverflow = 1002, "shape overflow", Never, exit 2;
    /// An index or slice leaves the array.
    OutOfRange = 1003, "out of range", Never, exit 2;
    /// The dtypes do not fit together.
    DtypeMismatch = 1004, "dtype mismatch", Never, exit 2;
    /// An expression does not parse or type-check; the message points at the place.
    ExpressionInvalid = 1005, "invalid expression", Never, exit 2;
    /// A file is of a format or dtype that we do not read.
    UnsupportedFormat = 1006, "unsupported format", Never, exit 2;
    /// Operands do not lie on the same nodes.
    NotColocated = 1007, "not colocated", Never, exit 2;
    /// A config file or variable is wrong.
    ConfigInvalid = 1008, "invalid configuration", Never, exit 2;
    /// A message, module or argument is larger than its limit.
    TooLarge = 1009, "too large", Never, exit 2;
    /// A local file could not be read or written.
    FileFailed = 1010, "file error", Never, exit 1;
    /// There is no such thing, or it is not yours to know.
    NotFound = 1101, "not found", Never, exit 3;
    /// The name is taken.
    AlreadyExists = 1102, "already exists", Never, exit 6;
    /// Somebody else changed it first.
    Conflict = 1103, "conflict", Never, exit 6;
    /// The shard is not held here: fetch the placement table again.
    WrongNode = 1104, "wrong node", Later, exit 6;
    /// It would give up the last copy of data.
    LastCopy = 1105, "last copy", Never, exit 6;
    /// The node cannot be emptied or put out as things are.
    DrainRefused = 1106, "cannot drain", Never, exit 6;
    /// No memory is left for this request.
    OutOfCapacity = 1201, "out of capacity", Later, exit 7;
    /// A queue is full.
    Overloaded = 1202, "overloaded", Later, exit 7;
    /// The tenant's quota is used up.
    QuotaExceeded = 1203, "quota exceeded", Later, exit 7;
    /// Nobody this cluster knows.
    Unauthenticated = 1301, "unauthenticated", Never, exit 4;
    /// Known, but not allowed.
    Denied = 1302, "denied", Never, exit 5;
    /// The peer is not who was expected.
    IdentityMismatch = 1303, "identity mismatch", Never, exit 4;
    /// The peer belongs to another cluster.
    ClusterMismatch = 1304, "another cluster", Never, exit 4;
    /// A certificate has expired.
    CertificateExpired = 1305, "certificate expired", Never, exit 4;
    /// The peer's cipher suite is not allowed here.
    SuiteRefused = 1306, "suite refused", Never, exit 4;
    /// The peer speaks another protocol version.
    VersionMismatch = 1307, "version mismatch", Never, exit 11;
    /// The ticket is unknown, used, expired or not its bearer's.
    TicketInvalid = 1308, "invalid ticket", Never, exit 4;
    /// The clocks of two machines are too far apart.
    ClockSkew = 1309, "clocks apart", Never, exit 4;
    /// Nobody answers at that address.
    Unreachable = 1401, "unreachable", Later, exit 9;
    /// The deadline passed.
    DeadlineExceeded = 1402, "deadline exceeded", Unknown, exit 9;
    /// The connection broke while the request was under way.
    ConnectionLost = 1403, "connection lost", Unknown, exit 9;
    /// The node is stopping.
    ShuttingDown = 1404, "shutting down", Later, exit 7;
    /// Fewer than half of the catalog's voters answer; nothing was done.
    NoQuorum = 1405, "no quorum", Later, exit 8;
    /// A replica may not serve now: a takeover is not finished, or it is cut off from the others.
    NotReady = 1406, "not ready", Later, exit 8;
    /// Nobody knows any more whether the request was executed, and it never will be again.
    OutcomeUnknown = 1407, "outcome unknown", Unknown, exit 9;
    /// Bytes failed their checksum.
    Corrupt = 1501, "corrupt", Later, exit 10;
    /// The only copy is gone.
    DataLost = 1502, "data lost", Never, exit 10;
    /// The program failed by itself.
    TaskFailed = 1601, "task failed", Never, exit 20;
    /// The bytes are not a module that may run here.
    ModuleInvalid = 1602, "invalid module", Never, exit 20;
    /// The module imports what it was not granted.
    CapabilityDenied = 1603, "capability denied", Never, exit 5;
    /// The task burned its fuel.
    FuelLimit = 1610, "fuel limit", Never, exit 21;
    /// The task ran out of time.
    TimeLimit = 1611, "time limit", Never, exit 21;
    /// The task asked for more memory than it may have.
    MemoryLimit = 1612, "memory limit", Never, exit 21;
    /// The task wrote more output than it may.
    OutputLimit = 1613, "output limit", Never, exit 21;
    /// The task's call stack overflowed.
    StackLimit = 1614, "stack limit", Never, exit 21;
    /// The task was cancelled.
    Cancelled = 1620, "cancelled", Never, exit 22;
    /// The machine has no usable GPU adapter.
    NoGpuAdapter = 1701, "no GPU adapter", Never, exit 20;
    /// The GPU cannot do this.
    GpuUnsupported = 1702, "GPU cannot do this", Never, exit 20;
    /// The GPU worker failed or was killed.
    GpuFailed = 1703, "GPU worker failed", Never, exit 20;
    /// Planned, and not built yet.
    NotYet = 1801, "not yet", Never, exit 1;
    /// Bytes from a peer do not decode.
    Malformed = 1901, "malformed message", Never, exit 1;
    /// A bug of ours.
    Internal = 1902, "internal error", Never, exit 1;
}

impl ErrorCode {
    /// The code for a file that a person has named and that could not be used: [`Self::NotFound`] when there is none,
    /// [`Self::InvalidArgument`] when it is no file, else [`Self::FileFailed`].
    pub fn of_file(kind: std::io::ErrorKind) -> Self {
        use std::io::ErrorKind;
        match kind {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::NotFound,
            ErrorKind::IsADirectory => Self::InvalidArgument,
            _ => Self::FileFailed,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HC{}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_ascending_and_go_there_and_back() {
        for pair in ErrorCode::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
        }
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_number(u32::from(code.number())), *code);
            assert_ne!(code.exit_code(), 0);
        }
        assert_eq!(ErrorCode::from_number(9), ErrorCode::Internal);
    }

    #[test]
    fn a_file_that_is_not_there_is_not_found_and_a_folder_is_a_wrong_argument() {
        use std::io::ErrorKind;
        let exits = [
            (ErrorKind::NotFound, 3),
            (ErrorKind::NotADirectory, 3),
            (ErrorKind::IsADirectory, 2),
            (ErrorKind::PermissionDenied, 1),
            (ErrorKind::StorageFull, 1),
        ];
        for (kind, exit) in exits {
            assert_eq!(ErrorCode::of_file(kind).exit_code(), exit, "{kind}");
        }
    }

    #[test]
    fn a_failure_reads_as_documented() {
        let failure = Failure::new(ErrorCode::NotFound, "not found")
            .context("array demo/x")
            .help("see `holo array ls`");
        assert_eq!(
            failure.to_string(),
            "error[HC1101]: array demo/x: not found\n  help: see `holo array ls`"
        );
    }
}
