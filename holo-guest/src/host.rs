//! The host's functions. Each but [`fail`] needs a capability, and a module only imports those that it uses.
#![allow(unsafe_code, reason = "calls across the sandbox's border")]

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// Something failed.
    Error = 0,
    /// Something is odd.
    Warning = 1,
    /// Something happened.
    Information = 2,
    /// Anything else.
    Detail = 3,
}

/// Writes a log line. Needs the capability `log`.
pub fn log(level: Level, text: &str) {
    // SAFETY: pointer and length are those of one string.
    unsafe { import::log(level as i32, text.as_ptr(), text.len()) }
}

/// Appends to the output of the call. Needs the capability `result`.
pub fn result(bytes: &[u8]) {
    // SAFETY: pointer and length are those of one slice.
    unsafe {
        import::result(bytes.as_ptr(), bytes.len());
    }
}

/// A random number; the sequence depends on the run's seed alone. Needs the capability `random`.
pub fn random() -> u64 {
    // SAFETY: no arguments.
    unsafe { import::rand64() }.cast_unsigned()
}

/// Nanoseconds since the sandbox was made. Needs the capability `clock.monotonic`.
pub fn monotonic_nanos() -> u64 {
    // SAFETY: no arguments.
    unsafe { import::clock_monotonic() }.cast_unsigned()
}

/// Ends the run with a code and a message of at most 1 KiB.
pub fn fail(code: i32, message: &str) -> ! {
    // SAFETY: pointer and length are those of one string.
    unsafe { import::fail(code, message.as_ptr(), message.len()) }
    core::arch::wasm32::unreachable()
}

#[cfg(feature = "panic-handler")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // Messages that would have to be formatted are left out: formatting is larger than most kernels.
    fail(101, info.message().as_str().unwrap_or("the kernel panicked"))
}

mod import {
    #[link(wasm_import_module = "holo")]
    unsafe extern "C" {
        pub(super) fn log(level: i32, text: *const u8, len: usize);
        pub(super) fn result(bytes: *const u8, len: usize) -> i32;
        pub(super) fn rand64() -> i64;
        pub(super) fn clock_monotonic() -> i64;
        pub(super) fn fail(code: i32, message: *const u8, len: usize);
    }
}
