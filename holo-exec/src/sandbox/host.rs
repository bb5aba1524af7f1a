//! The host functions of module `holo`, and what one sandbox knows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use wasmtime::{Caller, Extern, Linker, ResourceLimiter, StoreContextMut, UpdateDeadline};

use super::{Capability, Grants, Limits, LogLine, abi};
use crate::clock;

/// Elements that a module's tables may have together.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 10_000;
/// Bytes of a message given to `holo.fail` that are kept.
const FAIL_BYTES_MAX: usize = 1024;
/// Module name of every import.
pub(super) const IMPORTS: &str = "holo";

/// Capability that a host function needs; `None` when it needs none.
pub(super) fn capability_of(import: &str) -> Option<Option<Capability>> {
    match import {
        "fail" => Some(None),
        "log" => Some(Some(Capability::Log)),
        "result" => Some(Some(Capability::Result)),
        "rand64" => Some(Some(Capability::Random)),
        "clock_monotonic" => Some(Some(Capability::ClockMonotonic)),
        _ => None,
    }
}

/// Host functions that the ABI names and this version does not have.
pub(super) const PLANNED_IMPORTS: &[&str] =
    &["arr_len", "arr_read", "arr_write", "secret_read", "kv_get", "kv_put", "http"];

/// What one sandbox knows: its limits, what it has used, what it has written.
#[derive(Debug)]
pub(crate) struct Host {
    pub(super) limits: Limits,
    pub(super) output: Vec<u8>,
    pub(super) log: Vec<LogLine>,
    /// The growth of memory that was refused last, in bytes.
    pub(super) refused_bytes: Option<u64>,
    pub(super) time_is_up_at: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) cancel: Arc<AtomicBool>,
    logged_bytes: u64,
    born: Instant,
    random: u64,
}

impl Host {
    pub(super) fn new(limits: Limits, grants: &Grants, now: Instant) -> Self {
        Self {
            limits,
            output: Vec::new(),
            log: Vec::new(),
            refused_bytes: None,
            time_is_up_at: now,
            deadline: None,
            cancel: Arc::default(),
            logged_bytes: 0,
            born: now,
            random: grants.random_seed(),
        }
    }

    /// Called at every epoch while the guest runs.
    pub(super) fn check_time(
        context: StoreContextMut<'_, Self>,
    ) -> wasmtime::Result<UpdateDeadline> {
        let host = context.data();
        if host.cancel.load(Ordering::Relaxed) {
            return Err(HostStop::Cancelled.into());
        }
        let now = clock::now();
        if now >= host.time_is_up_at {
            return Err(HostStop::TimeLimit.into());
        }
        if host.deadline.is_some_and(|deadline| now >= deadline) {
            return Err(HostStop::DeadlineExceeded.into());
        }
        Ok(UpdateDeadline::Continue(1))
    }

    /// `SplitMix64`: every 64-bit state gives a full-period sequence, which is all that a seed promises.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl ResourceLimiter for Host {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let desired = desired as u64;
        if desired > self.limits.memory_bytes {
            self.refused_bytes = Some(desired);
            return Ok(false);
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        1
    }

    fn memories(&self) -> usize {
        1
    }
}

/// Why a host function or the epoch ended the guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostStop {
    #[error("cancelled")]
    Cancelled,
    #[error("time limit")]
    TimeLimit,
    #[error("deadline exceeded")]
    DeadlineExceeded,
    #[error("output limit")]
    OutputLimit,
    #[error("log limit")]
    LogLimit,
    #[error("bad pointer")]
    BadPointer { import: &'static str, pointer: u32, length: u32, memory: u64 },
    #[error("failed")]
    Failed { code: i32, message: String },
}

/// All host functions. Grants are checked against a module's imports before it is instantiated.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    linker.func_wrap(IMPORTS, "log", log)?;
    linker.func_wrap(IMPORTS, "result", result)?;
    linker.func_wrap(IMPORTS, "fail", fail)?;
    linker.func_wrap(IMPORTS, "rand64", |mut caller: Caller<'_, Host>| {
        caller.data_mut().next_random().cast_signed()
    })?;
    linker.func_wrap(IMPORTS, "clock_monotonic", |caller: Caller<'_, Host>| {
        let elapsed = clock::now().duration_since(caller.data().born);
        i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX)
    })?;
    Ok(linker)
}

fn log(
    mut caller: Caller<'_, Host>,
    level: i32,
    pointer: u32,
    length: u32,
) -> wasmtime::Result<()> {
    let (bytes, host) = guest_bytes(&mut caller, "log", pointer, length)?;
    // A line costs more than its bytes, so that a flood of empty ones ends too.
    let cost = bytes.len() as u64 + LogLine::OVERHEAD_BYTES;
    if host.logged_bytes + cost > host.limits.log_bytes {
        return Err(HostStop::LogLimit.into());
    }
    host.logged_bytes += cost;
    host.log.push(LogLine { level, text: String::from_utf8_lossy(bytes).into_owned() });
    Ok(())
}

fn result(mut caller: Caller<'_, Host>, pointer: u32, length: u32) -> wasmtime::Result<i32> {
    let (bytes, host) = guest_bytes(&mut caller, "result", pointer, length)?;
    if host.output.len() as u64 + bytes.len() as u64 > host.limits.output_bytes {
        return Err(HostStop::OutputLimit.into());
    }
    host.output.extend_from_slice(bytes);
    Ok(0)
}

fn fail(
    mut caller: Caller<'_, Host>,
    code: i32,
    pointer: u32,
    length: u32,
) -> wasmtime::Result<()> {
    let (bytes, _) = guest_bytes(&mut caller, "fail", pointer, length)?;
    let kept = bytes.get(..FAIL_BYTES_MAX).unwrap_or(bytes);
    let message = String::from_utf8_lossy(kept).into_owned();
    Err(HostStop::Failed { code, message }.into())
}

/// The bytes that a guest names, checked against its memory.
fn guest_bytes<'a>(
    caller: &'a mut Caller<'_, Host>,
    import: &'static str,
    pointer: u32,
    length: u32,
) -> wasmtime::Result<(&'a [u8], &'a mut Host)> {
    let Some(Extern::Memory(memory)) = caller.get_export(abi::MEMORY) else {
        return Err(HostStop::BadPointer { import, pointer, length, memory: 0 }.into());
    };
    let (bytes, host) = memory.data_and_store_mut(caller);
    let memory = bytes.len() as u64;
    let start = pointer as usize;
    match start.checked_add(length as usize).and_then(|end| bytes.get(start..end)) {
        Some(bytes) => Ok((bytes, host)),
        None => Err(HostStop::BadPointer { import, pointer, length, memory }.into()),
    }
}
