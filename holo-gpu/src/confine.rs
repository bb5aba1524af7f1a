//! What a worker gives up before it loads a driver.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Bytes of private writable memory of a worker.
///
/// The limit is on data, not on address space: vendors' drivers reserve hundreds of gigabytes of addresses and map
/// the device's memory as shared, and neither counts as data. Mesa's lavapipe keeps its buffers and compiled code in
/// private memory, where it counts.
///
/// Measured with lavapipe: an idle worker has 125 MiB of data. A shader with 1.6 GB of workgroup memory, which wgpu 30
/// lets pass and which drives an unlimited process to 23 GB, ends this one by a failed allocation at 3.1 GiB.
const DATA_BYTES_MAX: u64 = 4 << 30;

/// Limits the memory of this process.
pub(crate) fn limit_memory() -> io::Result<()> {
    let limit = Rlimit { current: Some(DATA_BYTES_MAX), maximum: Some(DATA_BYTES_MAX) };
    setrlimit(Resource::Data, limit)?;
    // A core dump would hold array elements.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Takes standard output for the replies and lets everything else that prints there, such as a driver's debug
/// output, go to standard error.
pub(crate) fn claim_stdout() -> io::Result<File> {
    let replies = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(File::from(replies))
}

/// Ends this process at once, without running a driver's exit handlers, which may hang with the device.
pub(crate) fn end_at_once() {
    let own = rustix::process::getpid();
    if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::KILL) {
        tracing::error!(%error, "the worker could not kill itself");
    }
}
