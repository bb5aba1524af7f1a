//! Bytes read from a shard without copying them.

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use holo_core::{PAGE_BYTES, TileSource};

use crate::{error::MemError, frame::Frame, span::Span};

/// What a page that nobody wrote reads as.
static ZERO_PAGE: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
static ZERO_DIGEST: LazyLock<[u8; 32]> = LazyLock::new(|| *blake3::hash(&ZERO_PAGE).as_bytes());

/// One consistent reading of a byte range: a handle and a range for every page that it touches.
///
/// The frames stay as they are while the run lives, whatever is written to the shard meanwhile.
#[derive(Clone, Debug)]
pub struct PageRun {
    parts: Vec<(Option<Frame>, Range<usize>)>,
    len: usize,
}

impl PageRun {
    /// The parts of `pages`, the shard's table of handles, that `span` touches.
    pub(crate) fn new(pages: &[Option<Frame>], span: Span) -> Self {
        let touched = pages.get(span.pages()).unwrap_or_default();
        let parts = touched
            .iter()
            .zip(span.touches())
            .map(|(frame, touch)| (frame.clone(), touch.within))
            .collect();
        Self { parts, len: span.len() }
    }

    /// The parts of `frames`, one for each page that `span` touches.
    pub(crate) fn of_frames(frames: &[Frame], span: Span) -> Self {
        let parts = frames
            .iter()
            .zip(span.touches())
            .map(|(frame, touch)| (Some(frame.clone()), touch.within));
        Self { parts: parts.collect(), len: span.len() }
    }

    /// Bytes of the run.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the run has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every touched page in order: its frame, `None` for a page of zeros, and the bytes of the page.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Option<&Frame>, Range<usize>)> {
        self.parts.iter().map(|(frame, range)| (frame.as_ref(), range.clone()))
    }

    /// The bytes of every touched page in order. No borrow of a frame is copied.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.parts.iter().map(|(frame, range)| part(frame.as_ref(), range))
    }

    /// One `Bytes` per touched page, for a vectored send. Copies nothing; each keeps its frame alive.
    pub fn to_bytes(&self) -> Vec<Bytes> {
        self.parts
            .iter()
            .map(|(frame, range)| match frame {
                Some(frame) => frame.slice(range.clone()),
                None => Bytes::from_static(&ZERO_PAGE[range.clone()]),
            })
            .collect()
    }

    /// BLAKE3 over the touched bytes of each page, 32 bytes a page. A page that the run covers keeps its digest
    /// until the next write; the others are hashed on every call.
    pub fn digests(&self) -> Vec<u8> {
        let mut digests = Vec::with_capacity(self.parts.len() * 32);
        for (frame, range) in &self.parts {
            let digest = match frame {
                _ if range.len() < PAGE_BYTES => {
                    *blake3::hash(part(frame.as_ref(), range)).as_bytes()
                }
                Some(frame) => frame.digest(),
                None => *ZERO_DIGEST,
            };
            digests.extend_from_slice(&digest);
        }
        digests
    }

    /// Copies the run to `dst`.
    ///
    /// # Panics
    ///
    /// When `dst` is not as long as the run.
    pub fn copy_to(&self, dst: &mut [u8]) {
        assert_eq!(dst.len(), self.len, "destination of a run");
        let mut rest = dst;
        for slice in self.slices() {
            let (head, tail) = rest.split_at_mut(slice.len());
            head.copy_from_slice(slice);
            rest = tail;
        }
    }
}

fn part<'a>(frame: Option<&'a Frame>, range: &Range<usize>) -> &'a [u8] {
    match frame {
        Some(frame) => &frame[range.clone()],
        None => &ZERO_PAGE[range.clone()],
    }
}

/// Copies `span` of a table of pages to `dst`, which is as long as the span.
pub(crate) fn copy_span(pages: &[Option<Frame>], span: Span, dst: &mut [u8]) {
    for touch in span.touches() {
        let dst = &mut dst[touch.from];
        match pages.get(touch.page).and_then(Option::as_ref) {
            Some(frame) => dst.copy_from_slice(&frame[touch.within]),
            None => dst.fill(0),
        }
    }
}

/// All pages of a shard as they were at one moment. Cloning copies one handle.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    pages: Arc<[Option<Frame>]>,
    bytes: u64,
}

impl ShardSnapshot {
    pub(crate) fn new(pages: &[Option<Frame>], bytes: u64) -> Self {
        Self { pages: pages.into(), bytes }
    }

    /// Bytes of the shard.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A byte range of the snapshot, without copying.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfRange`] when the range leaves the shard.
    pub fn read(&self, offset: u64, len: usize) -> Result<PageRun, MemError> {
        let span = Span::new(self.bytes, offset, len as u64)?;
        Ok(PageRun::new(&self.pages, span))
    }

    /// Copies `dst.len()` bytes from `offset`.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfRange`] when the range leaves the shard; `dst` is as it was.
    pub fn read_into(&self, offset: u64, dst: &mut [u8]) -> Result<(), MemError> {
        let span = Span::new(self.bytes, offset, dst.len() as u64)?;
        copy_span(&self.pages, span, dst);
        Ok(())
    }

    /// For every page in order: whether it has a frame; the others are zeros that nobody wrote.
    pub fn written(&self) -> impl ExactSizeIterator<Item = bool> {
        self.pages.iter().map(Option::is_some)
    }
}

impl TileSource for ShardSnapshot {
    /// # Panics
    ///
    /// When the tile leaves the shard: the engine cuts tiles from the shard's length.
    fn copy_to(&self, byte_offset: u64, dst: &mut [u8]) {
        self.read_into(byte_offset, dst).expect("a tile lies inside its shard");
    }
}
