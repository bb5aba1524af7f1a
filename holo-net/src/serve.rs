//! The other side of a connection: reading requests and answering them.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holo_core::wire::{FrameHeader, Lane};
use holo_core::{ErrorCode, Failure, limits};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bulk::BulkReader;
use crate::connection::{
    CHUNKS_AT_ONCE, Shared, bulk_chunks, read_failure, read_frame, set_priority, write_failure,
};
use crate::frame::{Frame, FrameReader, StreamKind, answer_body, bulk_len, put_answer};
use crate::outbox::gather;
use crate::places::{NoPlace, Place};
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
    // A stream that stays silent gets nothing; dropping it makes room for another.
    match tokio::time::timeout(shared.bulk_time_max, recv.read_exact(&mut kind)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return,
    }
    let result = match StreamKind::from_byte(kind[0]) {
        Some(StreamKind::Multiplexed) => {
            serve_multiplexed(Arc::clone(&shared), service, send, recv).await
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

async fn serve_multiplexed(
    shared: Arc<Shared>,
    service: Arc<dyn Service>,
    send: SendStream,
    recv: RecvStream,
) -> Result<(), Failure> {
    let _place = shared.served.try_multiplexed_stream().map_err(|none| match none {
        NoPlace::Ended => shared.end_reason(),
        NoPlace::Full => Failure::new(
            ErrorCode::Malformed,
            format!("more than {} multiplexed streams", limits::MULTIPLEXED_STREAMS_MAX),
        ),
    })?;
    Multiplexed::new(shared, service, send).run(recv).await
}

/// An answer that came later, with its request and the request's place, which is free once the answer is on its way.
type Done = (FrameHeader, Result<Bytes, Failure>, Option<Place>);

/// The answering side of a multiplexed stream.
struct Multiplexed {
    shared: Arc<Shared>,
    service: Arc<dyn Service>,
    send: SendStream,
    /// Answers that have not been written yet.
    out: BytesMut,
    /// Answers that come later, each with one of the connection's places.
    later: JoinSet<Done>,
    /// That of the first request.
    lane: Option<Lane>,
}

impl Multiplexed {
    fn new(shared: Arc<Shared>, service: Arc<dyn Service>, send: SendStream) -> Self {
        Self { shared, service, send, out: BytesMut::new(), later: JoinSet::new(), lane: None }
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
            if !self.out.is_empty()
                && let Some(lane) = self.lane
            {
                gather(lane).await;
            }
            while self.out.len() < limits::SEND_QUEUE_BYTES_MAX
                && let Some(done) = self.later.try_join_next()
            {
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
        self.shared.check_kind(header.kind)?;
        if self.lane.is_none() {
            set_priority(&self.send, header.lane, StreamKind::Multiplexed);
            self.lane = Some(header.lane);
        }
        let called =
            catch_unwind(AssertUnwindSafe(|| self.service.call(&self.shared.peer, &header, body)));
        match called.unwrap_or_else(|panic| Response::Now(Err(panicked(&*panic)))) {
            Response::Now(answer) => put_answer(&mut self.out, &header, answer),
            Response::Later(answer) => {
                let place = self.place().await;
                let broken = place.as_ref().err().cloned();
                let place = place.ok();
                // Even when the connection has ended meanwhile: this work was promised its end.
                self.later.spawn(async move { (header, Guarded(answer).await, place) });
                broken.map_or(Ok(()), Err)?;
            }
            Response::WhileConnected(answer) => {
                let deadline = wait_of(&header).map(|wait| Instant::now() + wait);
                let place = self.place().await?;
                let shared = Arc::clone(&self.shared);
                self.later.spawn(async move {
                    let answer = while_wanted(&shared, deadline, Guarded(answer)).await;
                    (header, answer, Some(place))
                });
            }
        }
        if self.out.len() >= limits::SEND_QUEUE_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// A place among the connection's requests in flight. While there is none, nothing more is read from this stream, and
    /// its answers, whose places it may be waiting for, go out.
    async fn place(&mut self) -> Result<Place, Failure> {
        if let Ok(place) = self.shared.served.try_request() {
            return Ok(place);
        }
        let waiting = self.shared.served.request();
        tokio::pin!(waiting);
        loop {
            self.flush().await?;
            tokio::select! {
                biased;
                place = &mut waiting => return place.ok_or_else(|| self.shared.end_reason()),
                Some(done) = self.later.join_next() => self.take_done(done),
            }
        }
    }

    fn take_done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        // A panic is an answer by now, and nobody cancels these tasks one by one.
        if let Ok((header, answer, _place)) = done {
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
    // Nothing is read before there is a place for it: until then flow control holds the peer back.
    let ended = || shared.end_reason();
    let _stream_place = shared.served.bulk_stream().await.ok_or_else(ended)?;
    let _request_place = shared.served.request().await.ok_or_else(ended)?;
    let begun = Instant::now();
    let mut reader = FrameReader::new();
    let reading = read_frame(&mut recv, &mut reader);
    let Ok(head) = tokio::time::timeout_at(begun + shared.bulk_time_max, reading).await else {
        return give_up(&mut send, "a bulk request did not arrive in time");
    };
    let Frame { header, body } = head?;
    if header.reply || header.failure {
        return Err(Failure::new(ErrorCode::Malformed, "a stream opens with an answer"));
    }
    shared.check_kind(header.kind)?;
    set_priority(&send, header.lane, StreamKind::Bulk);
    let deadline = begun
        + wait_of(&header).map_or(shared.bulk_time_max, |wait| wait.min(shared.bulk_time_max));
    let incoming = BulkReader::new(recv, reader.into_rest(), header.bulk_len, deadline, None)?;
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
    match tokio::time::timeout(shared.bulk_time_max, deliver(&mut send, chunks)).await {
        Ok(delivered) => delivered,
        Err(_elapsed) => give_up(&mut send, "the answer to a bulk request was not taken in time"),
    }
}

/// Sends an answer, and waits until the peer has it: until then its bytes are held here.
async fn deliver(send: &mut SendStream, mut chunks: Vec<Bytes>) -> Result<(), Failure> {
    send.write_all_chunks(&mut chunks).await.map_err(|error| write_failure(&error))?;
    drop(send.finish());
    if let Ok(Some(code)) = send.stopped().await {
        // The peer wants no more of it.
        drop(send.reset(code));
    }
    Ok(())
}

/// Breaks a stream off and lets go of what it holds.
fn give_up(send: &mut SendStream, why: &str) -> Result<(), Failure> {
    let failure = Failure::new(ErrorCode::DeadlineExceeded, why);
    drop(send.reset(VarInt::from_u32(u32::from(failure.code.number()))));
    Err(failure)
}

/// `answer_body` keeps every body within its limit.
fn len_of(body: &[u8]) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

/// How long the caller of a request waits; `None` when it always does.
fn wait_of(header: &FrameHeader) -> Option<Duration> {
    let millis = u64::from(header.deadline_ms);
    (millis != 0).then(|| Duration::from_millis(millis))
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
        _closed = shared.quinn.closed() => Err(shared.end_reason()),
        () = too_late => Err(Failure::new(
            ErrorCode::DeadlineExceeded,
            "the deadline passed before the request was done",
        )),
        answer = answer => answer,
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
