//! Frames on a stream: cutting a byte stream into messages, and putting messages together.
//!
//! Sans-io. Chunks come in as the network cuts them; a body that lies within one chunk is not copied unless it is small.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use holo_core::wire::{FailureBody, FrameHeader, HEADER_BYTES};
use holo_core::{ErrorCode, Failure, limits};
use prost::Message;

#[cfg(test)]
mod tests;

/// Bodies up to this many bytes are copied out, so that a small answer does not keep a whole datagram alive.
const COPY_BYTES_MAX: usize = 1024;

/// First byte of a stream: what the rest of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StreamKind {
    /// Many small requests one way, their answers the other.
    Multiplexed = 1,
    /// One request and its answer, with raw bytes behind either.
    Bulk = 2,
    /// A single byte on a stream one way: the acceptor has admitted the dialler.
    Admitted = 3,
}

impl StreamKind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Multiplexed, Self::Bulk, Self::Admitted].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A whole message but for its bulk bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its header.
    pub(crate) header: FrameHeader,
    /// Its protobuf body.
    pub(crate) body: Bytes,
}

/// Cuts a byte stream into frames.
///
/// After each [`Self::push`], call [`Self::next_frame`] until it gives `None`.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    chunk: Bytes,
    head: BytesMut,
    /// The header whose body has not arrived whole.
    open: Option<FrameHeader>,
    /// The part of that body that came with earlier chunks.
    body: BytesMut,
}

impl FrameReader {
    /// A reader at the start of a stream, behind its first byte.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(self.chunk.len() + chunk.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&chunk);
            self.chunk = joined.freeze();
        }
    }

    /// The next frame; `None` until more bytes arrive. Memory grows with what has arrived, never with what a header
    /// announces.
    ///
    /// # Errors
    ///
    /// What [`FrameHeader::decode`] says. The stream cannot be read further.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, Failure> {
        let header = match self.open.take() {
            Some(header) => header,
            None => match self.next_header()? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let len = header.body_len as usize;
        if self.body.is_empty() && self.chunk.len() >= len {
            let body = self.chunk.split_to(len);
            let body = if len <= COPY_BYTES_MAX { Bytes::copy_from_slice(&body) } else { body };
            return Ok(Some(Frame { header, body }));
        }
        let take = self.chunk.len().min(len - self.body.len());
        self.body.extend_from_slice(&self.chunk.split_to(take));
        if self.body.len() == len {
            return Ok(Some(Frame { header, body: std::mem::take(&mut self.body).freeze() }));
        }
        self.open = Some(header);
        Ok(None)
    }

    /// Whether the bytes so far end with a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.open.is_none() && self.head.is_empty() && self.chunk.is_empty()
    }

    /// What has arrived behind the last frame.
    pub(crate) fn into_rest(self) -> Bytes {
        self.chunk
    }

    fn next_header(&mut self) -> Result<Option<FrameHeader>, Failure> {
        if self.head.is_empty()
            && let Some((head, _)) = self.chunk.split_first_chunk::<HEADER_BYTES>()
        {
            let header = FrameHeader::decode(head)?;
            self.chunk.advance(HEADER_BYTES);
            return Ok(Some(header));
        }
        let take = self.chunk.len().min(HEADER_BYTES - self.head.len());
        self.head.extend_from_slice(&self.chunk.split_to(take));
        let Some((head, _)) = self.head.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = FrameHeader::decode(head)?;
        self.head.clear();
        Ok(Some(header))
    }
}

/// Appends a message to a buffer.
pub(crate) fn put_frame(out: &mut BytesMut, header: &FrameHeader, body: &[u8]) {
    out.reserve(HEADER_BYTES + body.len());
    out.put_slice(&header.encode());
    out.put_slice(body);
}

/// Appends the answer to a request.
pub(crate) fn put_answer(
    out: &mut BytesMut,
    request: &FrameHeader,
    answer: Result<Bytes, Failure>,
) {
    let (failed, body) = answer_body(answer);
    // `answer_body` has checked the length.
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    put_frame(out, &request.answer(failed, len, 0), &body);
}

/// The body of an answer, and whether it is a failure; too long a body becomes one.
pub(crate) fn answer_body(answer: Result<Bytes, Failure>) -> (bool, Bytes) {
    let failure = match answer {
        Ok(body) => match body_len(&body) {
            Ok(_) => return (false, body),
            Err(failure) => failure.context("the answer"),
        },
        Err(failure) => failure,
    };
    let mut body = FailureBody::from(failure);
    if body.encoded_len() > limits::BODY_BYTES_MAX as usize {
        body = FailureBody { code: body.code, ..FailureBody::default() };
    }
    (true, Bytes::from(body.encode_to_vec()))
}

/// The length of a body that we are about to send.
pub(crate) fn body_len(body: &[u8]) -> Result<u32, Failure> {
    u32::try_from(body.len()).ok().filter(|len| *len <= limits::BODY_BYTES_MAX).ok_or_else(|| {
        Failure::new(
            ErrorCode::TooLarge,
            format!(
                "a message body of {} bytes, the limit is {}",
                body.len(),
                limits::BODY_BYTES_MAX
            ),
        )
    })
}

/// The length of the bulk bytes that we are about to send.
pub(crate) fn bulk_len(bulk: &[Bytes]) -> Result<u64, Failure> {
    let total: u64 = bulk.iter().map(|chunk| chunk.len() as u64).sum();
    if total > limits::BULK_BYTES_MAX {
        return Err(Failure::new(
            ErrorCode::TooLarge,
            format!("{total} bulk bytes, the limit is {}", limits::BULK_BYTES_MAX),
        ));
    }
    Ok(total)
}
