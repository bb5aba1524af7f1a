//! Bytes on their way into a shard.

use std::sync::Arc;

use holo_core::{PageIndex, TileSink};

use crate::{
    arena::Arena,
    error::MemError,
    frame::{Frame, FrameMut},
    payload::Payload,
    span::{Span, Touch},
};

/// Frames that are filled out of band and published later by one small step; dropped, they leave no trace.
///
/// All frames are taken up front, so that [`crate::Shard::publish`] cannot fail for lack of memory. Bytes come in
/// either through [`Staged::buffers`], all of them, or in ascending order through [`TileSink::copy_from`]; what
/// `copy_from` leaves out is zero.
#[derive(Debug)]
pub struct Staged {
    arena: Arc<Arena>,
    shard_bytes: u64,
    span: Span,
    /// One per touched page.
    frames: Vec<FrameMut>,
    /// Bytes from the start of the span that somebody wrote. The rest still holds what the frames held before,
    /// which may be another array's bytes: it must never be published.
    written: usize,
    /// Pages from the first on that [`Self::hash_written`] has seen.
    hashed: usize,
}

impl Staged {
    /// Takes the frames for `len` bytes at `offset` of a shard of `shard_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfRange`] when the range leaves the shard, [`MemError::OutOfCapacity`] when not all frames can
    /// be had; then none is taken.
    pub fn new(
        arena: &Arc<Arena>,
        shard_bytes: u64,
        offset: u64,
        len: u64,
    ) -> Result<Self, MemError> {
        let span = Span::new(shard_bytes, offset, len)?;
        let frames = arena.allocate_many(span.pages().len())?;
        Ok(Self { arena: Arc::clone(arena), shard_bytes, span, frames, written: 0, hashed: 0 })
    }

    /// First byte of the range in its shard.
    pub fn offset(&self) -> u64 {
        self.span.offset() as u64
    }

    /// Bytes of the range.
    pub fn len(&self) -> u64 {
        self.span.len() as u64
    }

    /// Whether the range has no bytes.
    pub fn is_empty(&self) -> bool {
        self.span.len() == 0
    }

    /// Pages that the range touches.
    pub fn pages(&self) -> usize {
        self.frames.len()
    }

    /// The destination page by page, in order, each slice as long as the range has bytes there. The caller writes
    /// all of them before publishing: from here on every byte counts as written, and what a slice holds before is
    /// unspecified.
    pub fn buffers(&mut self) -> impl ExactSizeIterator<Item = &mut [u8]> {
        self.written = self.span.len();
        self.frames
            .iter_mut()
            .zip(self.span.touches())
            .map(|(frame, touch)| &mut frame[touch.within])
    }

    /// Hashes the whole pages that [`TileSink::copy_from`] has completed, ahead of [`Self::verify`] and while their bytes
    /// are at hand.
    pub fn hash_written(&mut self) {
        let written = self.written;
        let done = self.parts().take_while(|(_, touch)| touch.from.end <= written).count();
        for (frame, touch) in self.parts().take(done).skip(self.hashed) {
            // The frame keeps it. That of a part of a page is nobody's.
            if touch.is_whole() {
                frame.digest();
            }
        }
        self.hashed = done;
    }

    /// BLAKE3 over the staged bytes of each page, 32 bytes a page. Publishing keeps those of whole pages.
    pub fn digests(&mut self) -> Vec<u8> {
        self.finish();
        self.parts().flat_map(|(frame, touch)| digest(frame, &touch)).collect()
    }

    /// Compares the staged bytes with the digests that their sender promised, 32 bytes a page.
    ///
    /// # Errors
    ///
    /// [`MemError::Corrupt`] names the first page that differs, [`MemError::DigestCount`] says that `expected` is
    /// too short or too long.
    pub fn verify(&mut self, expected: &[u8]) -> Result<(), MemError> {
        self.finish();
        let (digests, rest) = expected.as_chunks::<32>();
        if digests.len() != self.frames.len() || !rest.is_empty() {
            return Err(MemError::DigestCount { got: expected.len(), pages: self.frames.len() });
        }
        for ((frame, touch), expected) in self.parts().zip(digests) {
            if digest(frame, &touch) != *expected {
                let page = u32::try_from(touch.page).unwrap_or(u32::MAX);
                return Err(MemError::Corrupt { page: PageIndex(page) });
            }
        }
        Ok(())
    }

    /// Completes the bytes; what nobody wrote is zero.
    pub(crate) fn into_payload(mut self) -> Payload {
        self.finish();
        let frames = self.frames.into_iter().map(FrameMut::freeze);
        Payload::new(self.arena, self.shard_bytes, self.span, frames)
    }

    /// Whether these bytes were staged for a shard of this arena and size.
    pub(crate) fn is_for(&self, arena: &Arc<Arena>, shard_bytes: u64) -> bool {
        Arc::ptr_eq(&self.arena, arena) && self.shard_bytes == shard_bytes
    }

    /// Swaps the frames into a table of pages and returns the handles that they replace. What a partial page does
    /// not cover is copied from the page that is there.
    pub(crate) fn swap_into(mut self, table: &mut [Option<Frame>]) -> Vec<Frame> {
        self.finish();
        let mut replaced = Vec::with_capacity(self.frames.len());
        for (mut frame, touch) in self.frames.into_iter().zip(self.span.touches()) {
            let Some(entry) = table.get_mut(touch.page) else { break };
            if !touch.is_whole() {
                frame.fill_around(&touch.within, entry.as_deref());
            }
            replaced.extend(entry.replace(frame.freeze()));
        }
        replaced
    }

    /// Zeroes what nobody wrote.
    fn finish(&mut self) {
        self.zero_until(self.span.len());
    }

    /// Moves the end of the written bytes forward to `end`, with zeros.
    fn zero_until(&mut self, end: usize) {
        if self.written >= end {
            return;
        }
        let written = self.written;
        for (frame, touch) in self.frames.iter_mut().zip(self.span.touches()) {
            let start = touch.from.start.max(written);
            let stop = touch.from.end.min(end);
            if start < stop {
                let base = touch.within.start;
                frame[base + start - touch.from.start..base + stop - touch.from.start].fill(0);
            }
        }
        self.written = end;
    }

    fn parts(&self) -> impl Iterator<Item = (&FrameMut, Touch)> {
        self.frames.iter().zip(self.span.touches())
    }
}

impl TileSink for Staged {
    /// # Panics
    ///
    /// When the tile leaves the staged range: the engine cuts tiles from the shard's length.
    fn copy_from(&mut self, byte_offset: u64, src: &[u8]) {
        let start =
            byte_offset.checked_sub(self.offset()).and_then(|start| usize::try_from(start).ok());
        let start = start
            .filter(|start| start.checked_add(src.len()).is_some_and(|end| end <= self.span.len()));
        let start = start.expect("a tile lies inside the staged range");
        self.zero_until(start);
        // Only the pages of the tile: walking the range from its start would be quadratic.
        let tile = Span::at(self.span.offset() + start, src.len());
        let first = self.span.pages().start;
        for touch in tile.touches() {
            self.frames[touch.page - first][touch.within].copy_from_slice(&src[touch.from]);
        }
        self.written = self.written.max(start + src.len());
    }
}

fn digest(frame: &FrameMut, touch: &Touch) -> [u8; 32] {
    if touch.is_whole() {
        frame.digest()
    } else {
        *blake3::hash(&frame[touch.within.clone()]).as_bytes()
    }
}

#[cfg(test)]
mod tests;
