//! One connection to one peer, as a requester sees it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holo_core::wire::{Decode, FailureBody, FrameHeader, Kind, Lane};
use holo_core::{
    ClusterId, Epoch, ErrorCode, Failure, PartitionId, PublicKey, RequestId, Role, UnixMillis,
};
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::Suite;
use crate::bulk::BulkReader;
use crate::clock::{time_until, wall_clock_now, whole_millis};
use crate::close::{close_frame, failure_of};
use crate::drivers::Urgency;
use crate::frame::{Frame, FrameReader, StreamKind, body_len, bulk_len, put_frame};
use crate::outbox::Outbox;
use crate::pending::{Answer, Pending};
use crate::places::{Place, Places};
use crate::tasks::Tasks;

/// Chunks taken from a stream at once.
pub(crate) const CHUNKS_AT_ONCE: usize = 16;
const LANES: usize = 5;

/// Who is at the other end, as the handshake proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its Ed25519 key.
    pub key: PublicKey,
    /// What it may be.
    pub role: Role,
    /// The cluster that it belongs to: ours.
    pub cluster: ClusterId,
    /// When its certificate ends, and the connection with it.
    pub not_after: UnixMillis,
    /// Where it is.
    pub address: SocketAddr,
    /// What protects the connection.
    pub suite: Suite,
    /// Whether the dialler wished that others go before it. Such a connection carries the repair lane only.
    pub background: bool,
}

/// How a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStats {
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u64,
    /// Bytes of a packet that the path takes.
    pub mtu: u16,
}

/// A request to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for; decides the lane.
    pub kind: Kind,
    /// The partition of the shard that it is about; 0 where there is none.
    pub partition: PartitionId,
    /// The epoch that the caller knows for the partition.
    pub epoch: Epoch,
    /// How long the caller waits; the peer is told. Zero is refused before anything is sent.
    pub deadline: Duration,
    /// The protobuf body.
    pub body: Bytes,
}

impl Request {
    /// A request that is about no partition.
    pub fn new(kind: Kind, deadline: Duration, body: impl Into<Bytes>) -> Self {
        Self { kind, partition: PartitionId(0), epoch: Epoch(0), deadline, body: body.into() }
    }

    fn header(&self, id: RequestId, bulk_len: u64) -> Result<FrameHeader, Failure> {
        let mut header = FrameHeader::request(self.kind, id, body_len(&self.body)?);
        header.partition = self.partition;
        header.epoch = self.epoch;
        // 0 means for ever, which is not what a caller with a deadline says.
        header.deadline_ms = u32::try_from(whole_millis(self.deadline)).unwrap_or(u32::MAX).max(1);
        header.bulk_len = bulk_len;
        Ok(header)
    }
}

/// A connection; clones are the same connection.
///
/// It lives until either side closes it, the endpoint goes, or one of the two certificates ends.
#[derive(Clone, Debug)]
pub struct Connection {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones and tasks of a connection share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) quinn: quinn::Connection,
    pub(crate) peer: Arc<Peer>,
    /// The earlier end of the two certificates.
    ends_at: UnixMillis,
    tasks: Arc<Tasks>,
    pending: Pending,
    /// For what we ask of the peer.
    asked: Places,
    /// For what the peer asks of us.
    pub(crate) served: Places,
    /// How long the bytes of a bulk request that we serve may take, and those of its answer.
    pub(crate) bulk_time_max: Duration,
    lanes: [OnceCell<Arc<Outbox>>; LANES],
    /// Why it ended; the first reason stays.
    ended: OnceLock<Failure>,
}

impl Connection {
    pub(crate) fn new(
        quinn: quinn::Connection,
        peer: Peer,
        ends_at: UnixMillis,
        tasks: Arc<Tasks>,
        bulk_time_max: Duration,
    ) -> Self {
        let shared = Shared {
            quinn,
            peer: Arc::new(peer),
            ends_at,
            tasks,
            pending: Pending::default(),
            asked: Places::new(),
            served: Places::new(),
            bulk_time_max,
            lanes: [const { OnceCell::const_new() }; LANES],
            ended: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.shared.peer
    }

    /// How the connection is doing.
    pub fn stats(&self) -> LinkStats {
        let path = self.shared.quinn.stats().path;
        LinkStats {
            rtt_us: u64::try_from(path.rtt.as_micros()).unwrap_or(u64::MAX),
            mtu: path.current_mtu,
        }
    }

    /// Sends a small request and waits for its answer.
    ///
    /// Requests of all callers share one stream per lane; answers come back in any order. Dropping the future forgets
    /// the request, which the peer may still carry out.
    ///
    /// # Errors
    ///
    /// The peer's failure as it is; `DeadlineExceeded` (it may or may not have been done; a request whose deadline is
    /// zero is refused so before anything is sent); why the connection ended; `TooLarge` before anything is sent.
    pub async fn call(&self, request: Request) -> Result<Bytes, Failure> {
        let deadline = request.deadline;
        self.shared.has_time(&request)?;
        match tokio::time::timeout(deadline, self.shared.exchange(&request)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(self.shared.too_late(request.kind, deadline)),
        }
    }

    /// Sends a request with bulk bytes on a stream of its own; gives the answer's body and a reader of its bulk bytes,
    /// which keeps to the same deadline.
    ///
    /// At most [`BULK_STREAMS_MAX`](holo_core::limits::BULK_STREAMS_MAX) are open at once, those whose reader is neither dropped nor at its end among
    /// them; more wait.
    ///
    /// # Errors
    ///
    /// Those of [`Self::call`].
    pub async fn bulk(
        &self,
        request: Request,
        bulk: Vec<Bytes>,
    ) -> Result<(Bytes, BulkReader), Failure> {
        self.shared.has_time(&request)?;
        let deadline = instant_after(request.deadline);
        match tokio::time::timeout_at(deadline, self.shared.bulk_exchange(&request, bulk, deadline))
            .await
        {
            Ok(answer) => answer,
            Err(_elapsed) => Err(self.shared.too_late(request.kind, request.deadline)),
        }
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.ended.get().is_some() || self.shared.quinn.close_reason().is_some()
    }

    /// Ends it; open requests on both sides fail with this code and reason.
    pub fn close(&self, code: ErrorCode, reason: &str) {
        self.shared.close(Failure::new(code, reason));
    }

    /// Waits for its end and says why.
    pub async fn closed(&self) -> Failure {
        let error = self.shared.quinn.closed().await;
        self.shared.ended.get().cloned().unwrap_or_else(|| failure_of(&error))
    }

    /// Starts a new key phase, as happens by itself before a key has protected too much.
    #[doc(hidden)]
    pub fn force_key_update_for_testing_only(&self) {
        self.shared.quinn.force_key_update();
    }

    /// The QUIC connection below.
    #[doc(hidden)]
    pub fn danger_raw_for_testing_only(&self) -> &quinn::Connection {
        &self.shared.quinn
    }
}

impl Shared {
    pub(crate) fn urgency(&self) -> Urgency {
        if self.peer.background { Urgency::Background } else { Urgency::Foreground }
    }

    /// Refuses what has no place on a background connection, whatever lane its header names.
    pub(crate) fn check_kind(&self, kind: Kind) -> Result<(), Failure> {
        if !self.peer.background || kind.lane() == Lane::Repair {
            return Ok(());
        }
        let message = format!("{kind:?} on a background connection");
        Err(Failure::new(ErrorCode::Malformed, message))
    }

    /// Ends the connection and tells the peer why.
    pub(crate) fn close(&self, failure: Failure) {
        let (code, reason) = close_frame(&failure);
        self.end(failure);
        self.quinn.close(code, &reason);
    }

    /// Waits for the end, which comes no later than that of the certificates, and fails what is open.
    pub(crate) async fn watch(&self) {
        loop {
            let left = time_until(self.ends_at, wall_clock_now());
            if left.is_zero() {
                let message = "a certificate of this connection has expired";
                self.close(Failure::new(ErrorCode::CertificateExpired, message));
            }
            // Look at the wall clock now and then: it may be set, and the machine may sleep.
            let slice = left.min(Duration::from_secs(60));
            if let Ok(error) = tokio::time::timeout(slice, self.quinn.closed()).await {
                self.end(failure_of(&error));
                return;
            }
        }
    }

    /// Why it ended, for a stream that broke off.
    pub(crate) fn end_reason(&self) -> Failure {
        let known = self.ended.get().cloned();
        known.or_else(|| self.quinn.close_reason().map(|error| failure_of(&error))).unwrap_or_else(
            || Failure::new(ErrorCode::ConnectionLost, "the peer broke off the stream"),
        )
    }

    fn end(&self, failure: Failure) {
        let failure = self.ended.get_or_init(|| failure);
        self.pending.end(failure);
        self.asked.end();
        self.served.end();
        for lane in &self.lanes {
            if let Some(outbox) = lane.get() {
                outbox.close();
            }
        }
    }

    /// Refuses a request that nobody waits for. A timer alone would not: the answer may come before it first looks.
    fn has_time(&self, request: &Request) -> Result<(), Failure> {
        if !request.deadline.is_zero() {
            return Ok(());
        }
        let (kind, key) = (request.kind, self.peer.key.short());
        let message = format!("{kind:?} was not sent to {key}: its deadline leaves no time");
        Err(Failure::new(ErrorCode::DeadlineExceeded, message))
    }

    fn too_late(&self, kind: Kind, deadline: Duration) -> Failure {
        let millis = whole_millis(deadline);
        let key = self.peer.key.short();
        Failure::new(
            ErrorCode::DeadlineExceeded,
            format!("no answer to {kind:?} from {key} within {millis} ms"),
        )
    }

    async fn exchange(self: &Arc<Self>, request: &Request) -> Answer {
        let _place = self.asked.request().await.ok_or_else(|| self.end_reason())?;
        let mut waiting = self.pending.open()?;
        let header = request.header(waiting.id, 0)?;
        let outbox = self.lane(header.lane).await?;
        if !outbox.push(&header, &request.body).await {
            return Err(self.end_reason());
        }
        waiting.answer().await.unwrap_or_else(|| Err(self.end_reason()))
    }

    /// The queue of a lane's stream; opens the stream when it is the lane's first message.
    async fn lane(self: &Arc<Self>, lane: Lane) -> Result<&Arc<Outbox>, Failure> {
        let cell = &self.lanes[lane as usize];
        if let Some(outbox) = cell.get() {
            return Ok(outbox);
        }
        cell.get_or_try_init(async || {
            let (mut send, recv) =
                self.quinn.open_bi().await.map_err(|_ended| self.end_reason())?;
            set_priority(&send, lane, StreamKind::Multiplexed);
            send.write_all(&[StreamKind::Multiplexed as u8])
                .await
                .map_err(|error| write_failure(&error))?;
            let outbox = Arc::new(Outbox::default());
            let writing = Arc::clone(self).write_lane(lane, send, Arc::clone(&outbox));
            self.tasks.start(self.urgency(), writing);
            self.tasks.start(self.urgency(), Arc::clone(self).read_lane(recv));
            Ok(outbox)
        })
        .await
    }

    async fn write_lane(self: Arc<Self>, lane: Lane, mut send: SendStream, outbox: Arc<Outbox>) {
        while let Some(bytes) = outbox.take(lane).await {
            if let Err(error) = send.write_chunk(bytes).await {
                self.close(write_failure(&error));
            }
        }
    }

    async fn read_lane(self: Arc<Self>, mut recv: RecvStream) {
        let failure = match self.read_answers(&mut recv).await {
            Ok(()) => Failure::new(ErrorCode::ConnectionLost, "the peer ended a stream of answers"),
            Err(failure) => failure,
        };
        self.close(failure);
    }

    async fn read_answers(&self, recv: &mut RecvStream) -> Result<(), Failure> {
        let mut reader = FrameReader::new();
        let mut answers = Vec::new();
        let mut chunks = [const { Bytes::new() }; CHUNKS_AT_ONCE];
        while let Some(count) =
            recv.read_chunks(&mut chunks).await.map_err(|error| read_failure(&error))?
        {
            for chunk in &mut chunks[..count] {
                reader.push(std::mem::take(chunk));
                while let Some(frame) = reader.next_frame()? {
                    answers.push((frame.header.request, answer_of(frame)?));
                }
            }
            self.pending.complete(&mut answers);
        }
        Ok(())
    }

    async fn bulk_exchange(
        self: &Arc<Self>,
        request: &Request,
        bulk: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<(Bytes, BulkReader), Failure> {
        // A stream of its own carries one request, so any id does.
        let header = request.header(RequestId(0), bulk_len(&bulk)?)?;
        let stream_place = self.asked.bulk_stream().await.ok_or_else(|| self.end_reason())?;
        let _request_place = self.asked.request().await.ok_or_else(|| self.end_reason())?;
        let (mut send, recv) = self.quinn.open_bi().await.map_err(|_ended| self.end_reason())?;
        set_priority(&send, header.lane, StreamKind::Bulk);
        let sending = async {
            let mut chunks = bulk_chunks(true, &header, &request.body, bulk);
            match send.write_all_chunks(&mut chunks).await {
                // The peer needs no more of it; its answer says why.
                Ok(()) | Err(WriteError::Stopped(_)) => Ok(()),
                Err(error) => Err(write_failure(&error)),
            }?;
            drop(send.finish());
            Ok::<(), Failure>(())
        };
        let receiving = receive_bulk_answer(recv, deadline, stream_place);
        tokio::pin!(sending, receiving);
        tokio::select! {
            biased;
            sent = &mut sending => {
                sent?;
                receiving.await
            }
            answer = &mut receiving => answer,
        }
    }
}

/// The end of a wait that begins now. One that the clock cannot hold ends in 30 years.
fn instant_after(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(30 * 365 * 86_400))
}

async fn receive_bulk_answer(
    mut recv: RecvStream,
    deadline: Instant,
    place: Place,
) -> Result<(Bytes, BulkReader), Failure> {
    let mut reader = FrameReader::new();
    let frame = read_frame(&mut recv, &mut reader).await?;
    let bulk_len = frame.header.bulk_len;
    let failed = frame.header.failure;
    let body = answer_of(Frame { header: FrameHeader { bulk_len: 0, ..frame.header }, ..frame })??;
    debug_assert!(!failed, "a failure has been returned");
    let mut bulk = BulkReader::new(recv, reader.into_rest(), bulk_len, deadline, Some(place))?;
    if bulk_len == 0 {
        bulk.expect_end().await?;
    }
    Ok((body, bulk))
}

/// The head of a bulk message and its bytes, as they go into a stream.
pub(crate) fn bulk_chunks(
    first: bool,
    header: &FrameHeader,
    body: &[u8],
    bulk: Vec<Bytes>,
) -> Vec<Bytes> {
    let mut head = BytesMut::new();
    if first {
        head.extend_from_slice(&[StreamKind::Bulk as u8]);
    }
    put_frame(&mut head, header, body);
    let mut chunks = Vec::with_capacity(bulk.len() + 1);
    chunks.push(head.freeze());
    chunks.extend(bulk.into_iter().filter(|chunk| !chunk.is_empty()));
    chunks
}

/// Reads one frame from a stream.
pub(crate) async fn read_frame(
    recv: &mut RecvStream,
    reader: &mut FrameReader,
) -> Result<Frame, Failure> {
    loop {
        if let Some(frame) = reader.next_frame()? {
            return Ok(frame);
        }
        let chunk =
            recv.read_chunk(usize::MAX, true).await.map_err(|error| read_failure(&error))?;
        let Some(chunk) = chunk else {
            return Err(Failure::new(ErrorCode::Malformed, "the stream ended within a message"));
        };
        reader.push(chunk.bytes);
    }
}

/// The answer in a frame; an error when the frame is no answer at all.
fn answer_of(frame: Frame) -> Result<Answer, Failure> {
    if !frame.header.reply || frame.header.bulk_len != 0 {
        return Err(Failure::new(
            ErrorCode::Malformed,
            "the peer sent something else than an answer",
        ));
    }
    if frame.header.failure {
        return Ok(Err(Failure::from(FailureBody::decode_body(&frame.body)?)));
    }
    Ok(Ok(frame.body))
}

/// Small messages go before bulk of the same lane, and a higher lane before all of a lower one.
pub(crate) fn set_priority(send: &SendStream, lane: Lane, kind: StreamKind) {
    let small = i32::from(kind == StreamKind::Multiplexed);
    let priority = small - 2 * i32::from(lane as u8);
    // A stream that is closed already needs no priority.
    drop(send.set_priority(priority));
}

/// What a broken write means to the caller.
pub(crate) fn write_failure(error: &WriteError) -> Failure {
    match error {
        WriteError::ConnectionLost(error) => failure_of(error),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            Failure::new(ErrorCode::ConnectionLost, "the peer stopped reading the stream")
        }
    }
}

/// What a broken read means to the caller.
pub(crate) fn read_failure(error: &ReadError) -> Failure {
    match error {
        ReadError::ConnectionLost(error) => failure_of(error),
        ReadError::Reset(_)
        | ReadError::ClosedStream
        | ReadError::IllegalOrderedRead
        | ReadError::ZeroRttRejected => {
            Failure::new(ErrorCode::ConnectionLost, "the peer broke off the stream")
        }
    }
}
