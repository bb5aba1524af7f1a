//! The pages of one shard, and the rules by which they are read and replaced.

use std::sync::Arc;

use holo_core::PAGE_BYTES;
use parking_lot::RwLock;

use crate::{
    arena::Arena,
    error::MemError,
    frame::Frame,
    payload::Payload,
    run::{PageRun, ShardSnapshot, copy_span},
    span::Span,
    staged::Staged,
};

/// Bytes that [`Shard::update`] changes at most: the operations that travel inside a log entry.
const UPDATE_BYTES_MAX: usize = 256;

/// One shard of one array: a table of page handles behind a lock that is held for as long as it takes to copy
/// handles, or a few bytes.
///
/// Every method is atomic to every other: a read sees all of a write or publish, or none of it. A page that nobody
/// wrote reads as zero and takes no frame. The bytes after the shard's end in its last page are zero.
#[derive(Debug)]
pub struct Shard {
    arena: Arc<Arena>,
    bytes: u64,
    pages: RwLock<Box<[Option<Frame>]>>,
}

impl Shard {
    /// A shard of `bytes` zero bytes, whose pages come from `arena`.
    ///
    /// # Panics
    ///
    /// When the table of pages does not fit the address space.
    pub fn new(arena: Arc<Arena>, bytes: u64) -> Self {
        let pages = usize::try_from(bytes).expect("a shard fits the address space");
        let pages = vec![None; pages.div_ceil(PAGE_BYTES)].into_boxed_slice();
        Self { arena, bytes, pages: RwLock::new(pages) }
    }

    /// Bytes of the shard.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where its frames come from.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Pages that have a frame; pages that were filled alike share one.
    pub fn used_frames(&self) -> u64 {
        self.pages.read().iter().flatten().count() as u64
    }

    /// `len` bytes at `offset` as they are at one moment, without copying them.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfRange`] when the range leaves the shard.
    pub fn read(&self, offset: u64, len: usize) -> Result<PageRun, MemError> {
        let span = Span::new(self.bytes, offset, len as u64)?;
        Ok(PageRun::new(&self.pages.read(), span))
    }

    /// Copies `dst.len()` bytes from `offset`. Allocates nothing, but writers wait for the copy: meant for up to a
    /// page or two, [`Shard::read`] for more.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfRange`] when the range leaves the shard; `dst` is as it was.
    pub fn read_into(&self, offset: u64, dst: &mut [u8]) -> Result<(), MemError> {
        let span = Span::new(self.bytes, offset, dst.len() as u64)?;
        copy_span(&self.pages.read(), span, dst);
        Ok(())
    }

    /// All pages as they are at one moment. Costs a handle a page; later writes copy the pages they change.
    pub fn snapshot(&self) -> ShardSnapshot {
        ShardSnapshot::new(&self.pages.read(), self.bytes)
    }

    /// Writes `src` at `offset`: in place where nobody else holds the page, to a copy otherwise. Readers wait for the
    /// copying: meant for small writes, [`Staged`] for large ones.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfRange`] when the range leaves the shard, [`MemError::OutOfCapacity`] when a page needs a
    /// frame and there is none; nothing is written then.
    pub fn write(&self, offset: u64, src: &[u8]) -> Result<(), MemError> {
        let span = Span::new(self.bytes, offset, src.len() as u64)?;
        let replaced = self.write_locked(&mut self.pages.write(), span, src)?;
        // Outside the lock: returning frames may give memory back to the system.
        drop(replaced);
        Ok(())
    }

    /// Reads `len` bytes at `offset`, lets `change` alter them, and writes them back, as one atomic step. For
    /// fetch-and-add and its kin; `len` is at most 256.
    ///
    /// # Errors
    ///
    /// As [`Shard::write`]; more than 256 bytes are out of range, too. Whatever `change` returned is lost then.
    pub fn update<R>(
        &self,
        offset: u64,
        len: usize,
        change: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, MemError> {
        let span = Span::new(self.bytes, offset, len as u64)?;
        let mut buffer = [0; UPDATE_BYTES_MAX];
        let Some(bytes) = buffer.get_mut(..len) else {
            return Err(MemError::OutOfRange { offset, len: len as u64, bytes: self.bytes });
        };
        let mut pages = self.pages.write();
        copy_span(&pages, span, bytes);
        let result = change(bytes);
        let replaced = self.write_locked(&mut pages, span, bytes)?;
        drop(pages);
        drop(replaced);
        Ok(result)
    }

    /// Takes the frames for `len` bytes at `offset`, to be filled and published later.
    ///
    /// # Errors
    ///
    /// As [`Staged::new`].
    pub fn stage(&self, offset: u64, len: u64) -> Result<Staged, MemError> {
        Staged::new(&self.arena, self.bytes, offset, len)
    }

    /// Shows staged bytes, all at once, by swapping handles. What a partial first or last page does not cover keeps
    /// the bytes that it has now, not those it had when staging began. Needs no memory.
    ///
    /// # Errors
    ///
    /// [`MemError::ForeignStaging`] when the bytes were staged for another arena or a shard of another size.
    pub fn publish(&self, staged: Staged) -> Result<(), MemError> {
        if !staged.is_for(&self.arena, self.bytes) {
            return Err(MemError::ForeignStaging);
        }
        let replaced = staged.swap_into(&mut self.pages.write());
        drop(replaced);
        Ok(())
    }

    /// Shows complete bytes, all at once; others may hold their frames. What a partial first or last page does not
    /// cover keeps the bytes that it has now.
    ///
    /// # Errors
    ///
    /// [`MemError::ForeignStaging`] when the bytes were staged for another arena or a shard of another size,
    /// [`MemError::OutOfCapacity`] when a partial page needs a frame and there is none; nothing is shown then.
    pub fn publish_payload(&self, payload: &Payload) -> Result<(), MemError> {
        if !payload.is_for(&self.arena, self.bytes) {
            return Err(MemError::ForeignStaging);
        }
        let replaced = payload.show_in(&mut self.pages.write())?;
        drop(replaced);
        Ok(())
    }

    /// Repeats `pattern` over a range. All its whole pages show one frame until somebody writes to them, so the size
    /// of the range costs no bytes.
    ///
    /// # Errors
    ///
    /// As [`Shard::write`].
    ///
    /// # Panics
    ///
    /// When a page is no multiple of the pattern, or the offset none.
    pub fn fill(&self, offset: u64, len: u64, pattern: &[u8]) -> Result<(), MemError> {
        let size = pattern.len();
        let fits =
            size > 0 && PAGE_BYTES.is_multiple_of(size) && offset.is_multiple_of(size as u64);
        assert!(fits, "a pattern of {size} bytes from {offset} on");
        let span = Span::new(self.bytes, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        let mut page = self.arena.allocate()?;
        for part in page.chunks_exact_mut(size) {
            part.copy_from_slice(pattern);
        }
        let frames = std::iter::repeat_n(page.freeze(), span.pages().len());
        self.publish_payload(&Payload::new(Arc::clone(&self.arena), self.bytes, span, frames))
    }

    /// Makes everything zero again and gives the frames back.
    pub fn clear(&self) {
        let mut pages = self.pages.write();
        let replaced: Vec<Frame> = pages.iter_mut().filter_map(Option::take).collect();
        drop(pages);
        drop(replaced);
    }

    /// Returns the handles that were replaced, so that they drop outside the lock.
    fn write_locked(
        &self,
        pages: &mut [Option<Frame>],
        span: Span,
        src: &[u8],
    ) -> Result<Vec<Frame>, MemError> {
        // All frames before the first byte, so that a failure changes nothing. A handle can only become exclusive
        // meanwhile, not shared: sharing needs the lock that is held, or another handle that exists already.
        let mut missing = 0;
        for touch in span.touches() {
            let exclusive = pages[touch.page].as_mut().and_then(Frame::exclusive);
            missing += usize::from(exclusive.is_none());
        }
        let mut fresh = match missing {
            0 => Vec::new(),
            missing => self.arena.allocate_many(missing)?,
        };
        let mut replaced = Vec::new();
        for touch in span.touches() {
            let src = &src[touch.from.clone()];
            let entry = &mut pages[touch.page];
            if let Some(frame) = entry.as_mut().and_then(Frame::exclusive) {
                frame[touch.within].copy_from_slice(src);
            } else {
                let mut frame = fresh.pop().expect("a frame was taken for every shared page");
                frame.fill_around(&touch.within, entry.as_deref());
                frame[touch.within].copy_from_slice(src);
                replaced.extend(entry.replace(frame.freeze()));
            }
        }
        Ok(replaced)
    }
}

#[cfg(test)]
mod tests;
