//! The body of a worker process.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::device::Gpu;
use crate::protocol::{self, PREFIX_BYTES, Reply, Report, Request};
use crate::{GpuError, confine};

/// One request as it came in.
struct Incoming {
    request: Request,
    payload: Vec<u8>,
}

/// Body of the hidden subcommand `holo gpu-worker`: reads framed requests from standard input, writes replies to
/// standard output and logs to standard error, until standard input is closed.
///
/// The adapter is opened at the first request. Requests that the device refuses are answered with the reason; bytes
/// that are no request end the process with exit code 1.
pub fn worker_main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The parent keeps the end of this stream for its own error message.
            let said = writeln!(std::io::stderr(), "GPU worker: {}", with_source(&error));
            tracing::error!(%error, ?said, "the GPU worker ends");
            ExitCode::FAILURE
        }
    }
}

fn with_source(error: &GpuError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn serve() -> Result<(), GpuError> {
    let mut replies = confine::claim_stdout().map_err(GpuError::Pipe)?;
    confine::limit_memory().map_err(GpuError::Pipe)?;
    let busy = Arc::new(AtomicBool::new(false));
    let requests = read_in_background(Arc::clone(&busy))?;
    let mut gpu = None;
    // One request at a time: the parent waits for each reply.
    while let Ok(incoming) = requests.recv() {
        let incoming = incoming?;
        let (reply, results) = match answer(&mut gpu, &incoming) {
            Ok((report, results)) => (Reply { report, refusal: None }, results),
            Err(error) => (Reply { report: None, refusal: Some(error.into()) }, Vec::new()),
        };
        busy.store(false, Ordering::Release);
        let head = protocol::encode_head(&reply, results.len())?;
        replies
            .write_all(&head)
            .and_then(|()| replies.write_all(&results))
            .map_err(GpuError::Pipe)?;
        if let Some(gpu) = &mut gpu {
            gpu.reuse(results);
        }
    }
    Ok(())
}

fn answer(
    gpu: &mut Option<Gpu>,
    incoming: &Incoming,
) -> Result<(Option<Report>, Vec<u8>), GpuError> {
    let gpu = match gpu {
        Some(gpu) => gpu,
        None => gpu.insert(Gpu::open()?),
    };
    match &incoming.request.run {
        None => Ok((Some(Report::from(gpu.report())), Vec::new())),
        Some(run) => Ok((None, gpu.run(run, &incoming.payload)?)),
    }
}

/// Reads requests on a thread of its own, which notices that the parent is gone even while the device hangs.
fn read_in_background(
    busy: Arc<AtomicBool>,
) -> Result<Receiver<Result<Incoming, GpuError>>, GpuError> {
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("gpu-requests".into())
        .spawn(move || read_requests(&sender, &busy))
        .map_err(GpuError::Pipe)?;
    Ok(receiver)
}

fn read_requests(sender: &SyncSender<Result<Incoming, GpuError>>, busy: &AtomicBool) {
    let mut input = std::io::stdin().lock();
    loop {
        let incoming = read_request(&mut input);
        let end = !matches!(incoming, Ok(Some(_)));
        if end && busy.load(Ordering::Acquire) {
            // Nobody waits for the answer any more, and a hung device would keep this process for ever.
            confine::end_at_once();
        }
        let Some(incoming) = incoming.transpose() else { return };
        busy.store(true, Ordering::Release);
        if sender.send(incoming).is_err() || end {
            return;
        }
    }
}

/// The next request; `None` where the input ends between two.
fn read_request(input: &mut impl Read) -> Result<Option<Incoming>, GpuError> {
    let mut prefix = [0; PREFIX_BYTES];
    let first = input.read(&mut prefix).map_err(GpuError::Pipe)?;
    if first == 0 {
        return Ok(None);
    }
    input.read_exact(&mut prefix[first..]).map_err(GpuError::Pipe)?;
    let (head_bytes, payload_bytes) = protocol::decode_prefix(prefix)?;
    let mut head = vec![0; head_bytes];
    input.read_exact(&mut head).map_err(GpuError::Pipe)?;
    let request = protocol::decode_head(&head)?;
    let mut payload = vec![0; payload_bytes];
    input.read_exact(&mut payload).map_err(GpuError::Pipe)?;
    Ok(Some(Incoming { request, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_until_the_input_ends() {
        let mut bytes = protocol::encode_head(&Request::default(), 3).unwrap();
        bytes.extend_from_slice(&[1, 2, 3]);
        let mut input = bytes.as_slice();
        let incoming = read_request(&mut input).unwrap().unwrap();
        assert_eq!(incoming.payload, [1, 2, 3]);
        assert!(read_request(&mut input).unwrap().is_none());
    }

    #[test]
    fn truncated_and_oversized_requests_are_errors() {
        let bytes = protocol::encode_head(&Request::default(), 3).unwrap();
        assert!(matches!(read_request(&mut bytes.as_slice()), Err(GpuError::Pipe(_))));
        assert!(matches!(read_request(&mut [1u8, 2].as_slice()), Err(GpuError::Pipe(_))));
        assert!(matches!(read_request(&mut [0xffu8; 64].as_slice()), Err(GpuError::Protocol(_))));
        let garbage = [4, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read_request(&mut garbage.as_slice()), Err(GpuError::Protocol(_))));
    }
}
