//! The other side of a connection: reading requests and answering them.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holo_core::wire::FrameHeader;
use holo_core::{ErrorCode, Failure, limits};
use quinn::{RecvStream, SendStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bulk::BulkReader;
use crate::connection::{
    CHUNKS_AT_ONCE, Shared, bulk_chunks, read_failure, read_frame, set_priority, write_failure,
};
use crate::frame::{Frame, FrameReader, StreamKind, answer_body, bulk_len, put_answer};
use crate::service::{BoxFuture, BulkReply, Response, Service};

/// Answers every stream that the peer opens, until the connection ends; then lets what runs run to its end.
pub(crate) async fn serve(shared: Arc<Shared>, service: Arc<dyn Service>) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = shared.quinn.accept_bi() => {
                let Ok((send, recv)) = stream else { break };
                streams.spawn(serve_stream(Arc::clone(&shared), Arc::clone(&service), send, recv));
            }
            Some(_ended) = streams.join_next() => {}
        }
    }
    while streams.join_next().await.is_some() {}
}

/// Asks the service whether the peer may come in.
pub(crate) fn admit(service: &dyn Service, peer: &crate::Peer) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(|| service.admit(peer)))
        .unwrap_or_else(|panic| Err(panicked(&*panic)))
}

async fn serve_stream(
    shared: Arc<Shared>,
    service: Arc<dyn Service>,
    send: SendStream,
    mut recv: RecvStream,
) {
    let mut kind = [0];
    if recv.read_exact(&mut kind).await.is_err() {
        return;
    }
    let result = match StreamKind::from_byte(kind[0]) {
        Some(StreamKind::Multiplexed) => {
            Multiplexed::new(Arc::clone(&shared), service, send).run(recv).await
        }
        Some(StreamKind::Bulk) => serve_bulk(&shared, &*service, send, recv).await,
        Some(StreamKind::Admitted) | None => {
            Err(Failure::new(ErrorCode::Malformed, format!("a stream of unknown kind {}", kind[0])))
        }
    };
    if let Err(failure) = result
        && matches!(
            failure.code,
            ErrorCode::Malformed | ErrorCode::TooLarge | ErrorCode::VersionMismatch
        )
    {
        tracing::debug!(peer = %shared.peer.key.short(), %failure, "connection closed: it carries what is no request");
        shared.close(failure);
    }
}

/// The answering side of a multiplexed stream.
struct Multiplexed {
    shared: Arc<Shared>,
    service: Arc<dyn Service>,
    send: SendStream,
    /// Answers that have not been written yet.
    out: BytesMut,
    /// Answers that come later, at most [`limits::REQUESTS_IN_FLIGHT_MAX`].
    later: JoinSet<(FrameHeader, Result<Bytes, Failure>)>,
    has_priority: bool,
}

impl Multiplexed {
    fn new(shared: Arc<Shared>, service: Arc<dyn Service>, send: SendStream) -> Self {
        Self {
            shared,
            service,
            send,
            out: BytesMut::new(),
            later: JoinSet::new(),
            has_priority: false,
        }
    }

    async fn run(mut self, mut recv: RecvStream) -> Result<(), Failure> {
        let mut result = self.answer_all(&mut recv).await;
        // The stream is over or broken; what has begun goes on to its end.
        while let Some(done) = self.later.join_next().await {
            if result.is_ok() {
                self.take_done(done);
                result = self.flush().await;
            }
        }
        drop(self.send.finish());
        result
    }

    async fn answer_all(&mut self, recv: &mut RecvStream) -> Result<(), Failure> {
        let mut reader = FrameReader::new();
        let mut chunks = [const { Bytes::new() }; CHUNKS_AT_ONCE];
        loop {
            tokio::select! {
                biased;
                Some(done) = self.later.join_next() => self.take_done(done),
                count = recv.read_chunks(&mut chunks) => {
                    let Some(count) = count.map_err(|error| read_failure(&error))? else {
                        return if reader.is_between_frames() { Ok(()) } else { Err(cut_short()) };
                    };
                    for chunk in &mut chunks[..count] {
                        reader.push(std::mem::take(chunk));
                        while let Some(frame) = reader.next_frame()? {
                            self.handle(frame).await?;
                        }
                    }
                }
            }
            while let Some(done) = self.later.try_join_next() {
                self.take_done(done);
            }
            self.flush().await?;
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), Failure> {
        let Frame { header, body } = frame;
        if header.reply || header.failure || header.bulk_len != 0 {
            return Err(Failure::new(
                ErrorCode::Malformed,
                "a multiplexed stream carries small requests only",
            ));
        }
        if !self.has_priority {
            set_priority(&self.send, header.lane, StreamKind::Multiplexed);
            self.has_priority = true;
        }
        let called =
            catch_unwind(AssertUnwindSafe(|| self.service.call(&self.shared.peer, &header, body)));
        match called.unwrap_or_else(|panic| Response::Now(Err(panicked(&*panic)))) {
            Response::Now(answer) => put_answer(&mut self.out, &header, answer),
            Response::Later(answer) => {
                self.make_room().await;
                self.later.spawn(async move { (header, Guarded(answer).await) });
            }
            Response::WhileConnected(answer) => {
                let deadline = deadline_of(&header);
                self.make_room().await;
                let shared = Arc::clone(&self.shared);
                self.later.spawn(async move {
                    (header, while_wanted(&shared, deadline, Guarded(answer)).await)
                });
            }
        }
        if self.out.len() >= limits::SEND_QUEUE_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    async fn make_room(&mut self) {
        if self.later.len() >= limits::REQUESTS_IN_FLIGHT_MAX
            && let Some(done) = self.later.join_next().await
        {
            self.take_done(done);
        }
    }

    fn take_done(
        &mut self,
        done: Result<(FrameHeader, Result<Bytes, Failure>), tokio::task::JoinError>,
    ) {
        // A panic is an answer by now, and nobody cancels these tasks one by one.
        if let Ok((header, answer)) = done {
            put_answer(&mut self.out, &header, answer);
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.send
            .write_chunk(self.out.split().freeze())
            .await
            .map_err(|error| write_failure(&error))
    }
}

async fn serve_bulk(
    shared: &Arc<Shared>,
    service: &dyn Service,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), Failure> {
    let mut reader = FrameReader::new();
    let Frame { header, body } = read_frame(&mut recv, &mut reader).await?;
    if header.reply || header.failure {
        return Err(Failure::new(ErrorCode::Malformed, "a stream opens with an answer"));
    }
    set_priority(&send, header.lane, StreamKind::Bulk);
    let incoming = BulkReader::new(recv, reader.into_rest(), header.bulk_len, None)?;
    let peer = Arc::clone(&shared.peer);
    let answer = match catch_unwind(AssertUnwindSafe(|| service.bulk(peer, header, body, incoming)))
    {
        Ok(answer) => Guarded(answer).await,
        Err(panic) => Err(panicked(&*panic)),
    };
    let answer = answer.and_then(|reply| Ok((bulk_len(&reply.bulk)?, reply)));
    let chunks = match answer {
        Ok((len, BulkReply { body, bulk })) => {
            let (failed, body) = answer_body(Ok(body));
            let (len, bulk) = if failed { (0, Vec::new()) } else { (len, bulk) };
            bulk_chunks(false, &header.answer(failed, len_of(&body), len), &body, bulk)
        }
        Err(failure) => {
            let (failed, body) = answer_body(Err(failure));
            bulk_chunks(false, &header.answer(failed, len_of(&body), 0), &body, Vec::new())
        }
    };
    let mut chunks = chunks;
    send.write_all_chunks(&mut chunks).await.map_err(|error| write_failure(&error))?;
    drop(send.finish());
    Ok(())
}

/// `answer_body` keeps every body within its limit.
fn len_of(body: &[u8]) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

/// When the caller of a request that has just come stops waiting; `None` when it never does.
fn deadline_of(header: &FrameHeader) -> Option<Instant> {
    let wait = Duration::from_millis(u64::from(header.deadline_ms));
    (!wait.is_zero()).then(|| Instant::now() + wait)
}

/// Runs a service's future while somebody waits for its answer, and drops it then.
async fn while_wanted(
    shared: &Shared,
    deadline: Option<Instant>,
    answer: Guarded<Bytes>,
) -> Result<Bytes, Failure> {
    let too_late = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        _closed = shared.quinn.closed() => Err(shared.end_reason()),
        () = too_late => Err(Failure::new(
            ErrorCode::DeadlineExceeded,
            "the deadline passed before the request was done",
        )),
    }
}

/// A service's future whose panic is a failure.
struct Guarded<T>(BoxFuture<Result<T, Failure>>);

impl<T> Future for Guarded<T> {
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(context)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(panic = message, "a service panicked");
    // What it says may be somebody else's business: it goes to the log, not to the peer.
    Failure::new(ErrorCode::Internal, "the service failed by a bug of its own")
}

fn cut_short() -> Failure {
    Failure::new(ErrorCode::Malformed, "a stream ended within a message")
}
