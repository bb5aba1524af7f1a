//! One child process and the two pipes to it. Every wait has a deadline.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::GpuError;
use crate::protocol::{self, PREFIX_BYTES, Reply, Request};

/// Bytes kept of what a worker writes to its standard error.
const LAST_WORDS_BYTES_MAX: usize = 2 << 10;

/// How long a worker that has closed its pipes may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// A running worker. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    killer: Killer,
    requests: ChildStdin,
    replies: ChildStdout,
    last_words: Arc<Mutex<VecDeque<u8>>>,
    /// Closed once everything that the worker said is in `last_words`.
    silence: Receiver<Infallible>,
}

/// Kills the process it was made for, and never another one that got its number later.
#[derive(Clone, Debug)]
pub(crate) struct Killer(Arc<OwnedFd>);

impl Killer {
    /// Sends SIGKILL; a process that is gone already is fine.
    pub(crate) fn kill(&self) {
        if let Err(error) = pidfd_send_signal(self.0.as_fd(), Signal::KILL)
            && error != rustix::io::Errno::SRCH
        {
            tracing::error!(%error, "a GPU worker could not be killed");
        }
    }
}

/// When an answer is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Instant,
    limit: Duration,
    during: &'static str,
}

impl Deadline {
    /// In `limit` from now, for work that the error names.
    pub(crate) fn starts_now(limit: Duration, during: &'static str) -> Self {
        Self { at: now() + limit, limit, during }
    }

    fn missed(self) -> GpuError {
        GpuError::Watchdog { limit: self.limit, during: self.during }
    }
}

#[expect(clippy::disallowed_methods, reason = "a driver: the watchdog needs the clock")]
fn now() -> Instant {
    Instant::now()
}

impl Child {
    /// Starts a worker.
    pub(crate) fn spawn(
        executable: &Path,
        args: &[OsString],
        environment: &[(OsString, OsString)],
    ) -> Result<Self, GpuError> {
        let spawn_failed = |source| GpuError::Spawn { executable: executable.to_owned(), source };
        let mut command = Command::new(executable);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Our own configuration may hold secrets, and a worker needs none of it.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"HOLO_") {
                command.env_remove(name);
            }
        }
        // Drivers that look for a display complain without one.
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut process = command.spawn().map_err(spawn_failed)?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(requests), Some(replies), Some(errors)) = pipes else {
            return Err(GpuError::Pipe(ErrorKind::BrokenPipe.into()));
        };
        let pid = Pid::from_child(&process);
        let pidfd = pidfd_open(pid, PidfdFlags::empty());
        let killer = match pidfd {
            Ok(descriptor) => Killer(Arc::new(descriptor)),
            Err(error) => {
                // Not reaped yet, so its number is still its own.
                let killed = process.kill().and_then(|()| process.wait());
                tracing::debug!(?killed, "a worker without a process descriptor was killed");
                return Err(spawn_failed(error.into()));
            }
        };
        let last_words = Arc::default();
        let (speaking, silence) = sync_channel(0);
        let child = Self { process, killer, requests, replies, last_words, silence };
        set_nonblocking(&child.requests)?;
        set_nonblocking(&child.replies)?;
        keep_last_words(errors, Arc::clone(&child.last_words), speaking)?;
        Ok(child)
    }

    /// What kills this process, from any thread.
    pub(crate) fn killer(&self) -> Killer {
        self.killer.clone()
    }

    /// Sends a request and waits for its answer. `answer` gets the reply's payload.
    ///
    /// After any error the child is in an unknown state: drop it.
    pub(crate) fn call(
        &mut self,
        request: &Request,
        payload: &[u8],
        answer: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Reply, GpuError> {
        let head = protocol::encode_head(request, payload.len())?;
        self.write_all(&head, deadline)?;
        self.write_all(payload, deadline)?;
        let mut prefix = [0; PREFIX_BYTES];
        self.read_exact(&mut prefix, deadline)?;
        let (head_bytes, payload_bytes) = protocol::decode_prefix(prefix)?;
        let mut head = vec![0; head_bytes];
        self.read_exact(&mut head, deadline)?;
        let reply = protocol::decode_head(&head)?;
        answer.resize(payload_bytes, 0);
        self.read_exact(answer, deadline)?;
        Ok(reply)
    }

    fn write_all(&mut self, mut bytes: &[u8], deadline: Deadline) -> Result<(), GpuError> {
        while !bytes.is_empty() {
            match self.requests.write(bytes) {
                Ok(0) => return Err(self.died(deadline)),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&self.requests, PollFlags::OUT, deadline)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    return Err(self.died(deadline));
                }
                Err(error) => return Err(GpuError::Pipe(error)),
            }
        }
        Ok(())
    }

    fn read_exact(&mut self, mut bytes: &mut [u8], deadline: Deadline) -> Result<(), GpuError> {
        while !bytes.is_empty() {
            match self.replies.read(bytes) {
                Ok(0) => return Err(self.died(deadline)),
                Ok(read) => bytes = &mut bytes[read..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    wait(&self.replies, PollFlags::IN, deadline)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(GpuError::Pipe(error)),
            }
        }
        Ok(())
    }

    /// The pipe is closed: the process has ended, or has given up its pipes and is made to end.
    fn died(&mut self, deadline: Deadline) -> GpuError {
        let exited = wait(&*self.killer.0, PollFlags::IN, grace(deadline)).is_ok();
        self.killer.kill();
        let status = match self.process.wait() {
            Ok(status) if exited => status.to_string(),
            Ok(_) => "it closed its pipes".to_owned(),
            Err(error) => error.to_string(),
        };
        // The process is gone, so the pipe ends too, unless it left a process of its own behind.
        let quiet = self.silence.recv_timeout(GRACE);
        tracing::trace!(?quiet, "last words of a GPU worker");
        let words: Vec<u8> = self.last_words.lock().iter().copied().collect();
        let last_words = String::from_utf8_lossy(&words).into_owned();
        GpuError::WorkerDied { status, during: deadline.during, last_words }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.killer.kill();
        if let Err(error) = self.process.wait() {
            tracing::error!(%error, "a killed GPU worker could not be reaped");
        }
    }
}

/// A process that closed its pipes is about to end by itself: its own exit status says more than our SIGKILL.
fn grace(deadline: Deadline) -> Deadline {
    Deadline { at: now() + GRACE, ..deadline }
}

/// Waits until the descriptor is ready, has failed, or the deadline has passed.
fn wait(descriptor: &impl AsFd, ready: PollFlags, deadline: Deadline) -> Result<(), GpuError> {
    loop {
        let left = deadline.at.saturating_duration_since(now());
        if left.is_zero() {
            return Err(deadline.missed());
        }
        let timeout = Timespec::try_from(left).ok();
        let mut descriptors = [PollFd::new(descriptor, ready)];
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(0) => return Err(deadline.missed()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(GpuError::Pipe(error.into())),
        }
    }
}

fn set_nonblocking(descriptor: &impl AsFd) -> Result<(), GpuError> {
    let set =
        fcntl_getfl(descriptor).and_then(|flags| fcntl_setfl(descriptor, flags | OFlags::NONBLOCK));
    set.map_err(|error| GpuError::Pipe(error.into()))
}

/// Drains the worker's standard error, so that it never blocks on it, and keeps the end for error messages.
fn keep_last_words(
    mut errors: impl Read + Send + 'static,
    kept: Arc<Mutex<VecDeque<u8>>>,
    speaking: SyncSender<Infallible>,
) -> Result<(), GpuError> {
    let drain = move || {
        let _closed_at_the_end = speaking;
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = errors.read(&mut bytes) {
            tracing::debug!(text = %String::from_utf8_lossy(&bytes[..read]), "GPU worker");
            let mut kept = kept.lock();
            kept.extend(&bytes[..read]);
            let surplus = kept.len().saturating_sub(LAST_WORDS_BYTES_MAX);
            kept.drain(..surplus);
        }
    };
    std::thread::Builder::new()
        .name("gpu-worker-log".into())
        .spawn(drain)
        .map_err(GpuError::Pipe)?;
    Ok(())
}
