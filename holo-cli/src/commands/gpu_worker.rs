//! `holo gpu-worker`: the child process that owns the GPU, started by nodes only.

use std::process::ExitCode;

/// Serve GPU requests on standard input (started by nodes; not for people)
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  holo run --device gpu --expr 'sum(x*x)' --in x=demo/a   (starts it by itself)"
)]
pub(crate) struct Args {}

/// Serves until standard input closes.
pub(crate) fn run() -> ExitCode {
    holo_gpu::worker_main()
}
