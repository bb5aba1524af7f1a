//! What can go wrong on the way to a GPU and back.

use std::time::Duration;

use holo_core::{ErrorCode, Failure};

/// Why a GPU gave no result. Nothing was published in any of these cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The machine has no usable adapter: install a driver, or compute on the CPU.
    #[error("no GPU adapter: {0}")]
    NoAdapter(String),
    /// The adapter or WGSL cannot do this; the text says what to use instead.
    #[error("{what}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do instead.
        help: String,
    },
    /// The caller's task does not fit the program. A bug of the caller; nothing was started.
    #[error("{0}")]
    InvalidTask(String),
    /// No answer in time: the worker was killed, and the next call starts another.
    #[error(
        "the GPU worker gave no answer within {limit:?} ({during}) and was killed by the watchdog"
    )]
    Watchdog {
        /// The watchdog's limit.
        limit: Duration,
        /// What it was doing.
        during: &'static str,
    },
    /// [`GpuWorker::cancel`](crate::GpuWorker::cancel) killed the worker under this call.
    #[error("the GPU worker was killed because its task was cancelled")]
    Cancelled,
    /// The worker ended by itself or was killed from outside; the next call starts another.
    #[error("the GPU worker ended ({status}) {during}{}", said(.last_words))]
    WorkerDied {
        /// Exit code or signal.
        status: String,
        /// What it was doing.
        during: &'static str,
        /// End of what it wrote to its standard error.
        last_words: String,
    },
    /// The worker answered with bytes that are no answer; it was killed.
    #[error("the GPU worker's answer is not one: {0}")]
    Protocol(String),
    /// The worker could not be started.
    #[error("the GPU worker {executable:?} could not be started")]
    Spawn {
        /// The program.
        executable: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The operating system refused a pipe operation.
    #[error("the pipe to the GPU worker failed")]
    Pipe(#[source] std::io::Error),
    /// The driver refused or lost the work; the worker lives.
    #[error("the GPU driver failed: {0}")]
    Device(String),
    /// The adapter has not the memory for this task's buffers.
    #[error("the GPU is out of memory: {0}")]
    OutOfMemory(String),
}

fn said(last_words: &str) -> String {
    match last_words.trim() {
        "" => String::new(),
        words => format!("; it said: {words}"),
    }
}

impl From<GpuError> for Failure {
    fn from(error: GpuError) -> Self {
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        let (code, help) = match error {
            GpuError::NoAdapter(_) => (ErrorCode::NoGpuAdapter, Some(NO_ADAPTER_HELP.to_owned())),
            GpuError::Unsupported { help, .. } => (ErrorCode::GpuUnsupported, Some(help)),
            GpuError::InvalidTask(_) => (ErrorCode::InvalidArgument, None),
            GpuError::Watchdog { .. } => (
                ErrorCode::TimeLimit,
                Some("use `--device cpu`, or a simpler expression; the next GPU task gets a fresh worker".to_owned()),
            ),
            GpuError::Cancelled => (ErrorCode::Cancelled, None),
            GpuError::OutOfMemory(_) => (
                ErrorCode::GpuFailed,
                Some("use `--device cpu`, or arrays with smaller shards".to_owned()),
            ),
            GpuError::WorkerDied { .. }
            | GpuError::Protocol(_)
            | GpuError::Spawn { .. }
            | GpuError::Pipe(_)
            | GpuError::Device(_) => (
                ErrorCode::GpuFailed,
                Some("run it again, or use `--device cpu`; `vulkaninfo` shows whether the driver works".to_owned()),
            ),
        };
        let failure = Self::new(code, message);
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }
}

const NO_ADAPTER_HELP: &str = "install a Vulkan driver (NVIDIA: the nvidia driver package; AMD, Intel or a software \
    device on Debian and Ubuntu: `apt-get install mesa-vulkan-drivers libvulkan1`), or use `--device cpu`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_adapter_is_told_what_to_install() {
        let failure = Failure::from(GpuError::NoAdapter("no Vulkan device was found".into()));
        assert_eq!(failure.code, ErrorCode::NoGpuAdapter);
        assert!(failure.to_string().starts_with("error[HC1701]: no GPU adapter: "), "{failure}");
        assert!(failure.help.unwrap().contains("mesa-vulkan-drivers"));
    }

    #[test]
    fn the_watchdog_names_itself_and_its_limit() {
        let error =
            GpuError::Watchdog { limit: Duration::from_secs(3), during: "running a kernel" };
        let failure = Failure::from(error);
        assert_eq!(failure.code, ErrorCode::TimeLimit);
        assert!(failure.message.contains("3s") && failure.message.contains("watchdog"));
    }

    #[test]
    fn a_dead_worker_is_quoted_and_its_source_kept() {
        let died = GpuError::WorkerDied {
            status: "signal: 9 (SIGKILL)".into(),
            during: "while running a kernel",
            last_words: "out of luck\n".into(),
        };
        let failure = Failure::from(died);
        assert_eq!(failure.code, ErrorCode::GpuFailed);
        assert!(failure.message.ends_with("it said: out of luck"), "{}", failure.message);
        let refused = std::io::Error::from(std::io::ErrorKind::NotFound);
        let spawn = GpuError::Spawn { executable: "holo".into(), source: refused };
        assert!(Failure::from(spawn).message.contains("not found"));
    }
}
