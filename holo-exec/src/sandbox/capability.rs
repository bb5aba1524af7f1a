//! What a run may do and how much of it.

use std::{fmt, time::Duration};

/// One thing that a module may be allowed beyond computing on its own memory.
///
/// `holo.fail` needs none: it only ends the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Capability {
    /// Write log lines: `holo.log`.
    Log = 0,
    /// Return bytes to the caller: `holo.result`.
    Result = 1,
    /// Random numbers from the run's seed: `holo.rand64`.
    Random = 2,
    /// Nanoseconds since the sandbox was made: `holo.clock_monotonic`.
    ClockMonotonic = 3,
}

impl Capability {
    /// Every capability.
    pub const ALL: &'static [Self] = &[Self::Log, Self::Result, Self::Random, Self::ClockMonotonic];

    /// Its name in manifests and roles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Result => "result",
            Self::Random => "random",
            Self::ClockMonotonic => "clock.monotonic",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The capabilities of one run. The default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    set: u32,
    seed: u64,
}

impl Grants {
    /// Nothing but computing.
    pub fn none() -> Self {
        Self::default()
    }

    /// One more capability.
    #[must_use]
    pub fn with(mut self, capability: Capability) -> Self {
        self.set |= 1 << capability as u8;
        self
    }

    /// What random numbers start from; a task gives a number derived from its id, so that it can be repeated.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether `capability` is granted.
    pub fn has(&self, capability: Capability) -> bool {
        self.set & (1 << capability as u8) != 0
    }

    pub(super) fn random_seed(&self) -> u64 {
        self.seed
    }
}

/// How much a run may use. Every limit is named in the error when it is hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Units of fuel, about one per WASM instruction.
    pub fuel: u64,
    /// Wall-clock time in the sandbox, checked every 10 ms.
    pub time: Duration,
    /// Bytes of linear memory, the windows that tiles are copied into included. Never more than the engine's ceiling.
    pub memory_bytes: u64,
    /// Bytes of output: what `holo.result`, `holo_finish` or `holo_combine` hand back.
    pub output_bytes: u64,
    /// Bytes of log lines.
    pub log_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 10_000_000_000,
            time: Duration::from_secs(30),
            memory_bytes: 256 << 20,
            output_bytes: 5 << 20,
            log_bytes: 64 << 10,
        }
    }
}
