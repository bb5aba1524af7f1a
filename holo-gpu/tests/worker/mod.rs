//! Handles of the test worker, and the adapter that a test needs.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use holo_gpu::{AdapterReport, GpuError, GpuWorker};

/// Long enough for a software device that compiles on a busy machine.
pub(crate) const PATIENT: Duration = Duration::from_secs(120);

/// The worker's executable.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_gpu-worker-for-tests");

/// A worker that behaves as `args` say: see `program.rs`.
pub(crate) fn worker(args: &[&str], watchdog: Duration) -> GpuWorker {
    let args = args.iter().map(OsString::from).collect();
    GpuWorker::new(PathBuf::from(PROGRAM), args, watchdog)
}

/// A worker with any adapter at all, or `None` where the machine has none.
///
/// Says so aloud; with `HOLO_REQUIRE_GPU=1`, which `cargo xtask test` sets once it has installed a driver, a machine
/// without adapter fails the test.
pub(crate) fn worker_with_adapter(test: &str) -> Option<(GpuWorker, AdapterReport)> {
    let worker = worker(&["gpu-worker"], PATIENT);
    match worker.adapter() {
        Ok(report) => Some((worker, report)),
        Err(GpuError::NoAdapter(why)) => {
            let required = std::env::var("HOLO_REQUIRE_GPU").is_ok_and(|value| value == "1");
            assert!(!required, "HOLO_REQUIRE_GPU=1, but there is no GPU adapter: {why}");
            // Not eprintln: the test harness would keep it to itself.
            let line = format!(
                "SKIPPED {test}: it needs a Vulkan adapter, a software one will do ({why})\n"
            );
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            None
        }
        Err(error) => panic!("the worker fails: {error:?}"),
    }
}
