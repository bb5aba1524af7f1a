//! Handles to frames: one exclusive and writable, one shared and immutable.

use std::{
    fmt,
    ops::{Deref, DerefMut, Range},
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use crate::{arena::Arena, map::Slot};

/// A frame with one owner, who may write to it. Dropping it returns the frame to its arena.
pub struct FrameMut {
    /// Empty only while dropping.
    slot: Option<Slot>,
    arena: Arc<Arena>,
    /// BLAKE3 of the bytes as they are; emptied by every exclusive borrow.
    digest: OnceLock<[u8; 32]>,
}

impl FrameMut {
    pub(crate) fn new(slot: Slot, arena: Arc<Arena>) -> Self {
        Self { slot: Some(slot), arena, digest: OnceLock::new() }
    }

    /// Gives up writing for sharing. Copies nothing.
    pub fn freeze(self) -> Frame {
        Frame { shared: Arc::new(self) }
    }

    /// Fills the page outside `within` with the same bytes of `below`, or with zeros.
    pub(crate) fn fill_around(&mut self, within: &Range<usize>, below: Option<&[u8]>) {
        let page: &mut [u8] = self;
        for outside in [0..within.start, within.end..page.len()] {
            match below {
                Some(below) => page[outside.clone()].copy_from_slice(&below[outside]),
                None => page[outside].fill(0),
            }
        }
    }

    /// BLAKE3 of the whole page, computed once until the next exclusive borrow.
    pub fn digest(&self) -> [u8; 32] {
        *self.digest.get_or_init(|| *blake3::hash(self).as_bytes())
    }
}

impl Deref for FrameMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.slot.as_ref().map_or(&[], Slot::bytes)
    }
}

impl DerefMut for FrameMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.digest.take();
        self.slot.as_mut().map_or(&mut [], Slot::bytes_mut)
    }
}

impl Drop for FrameMut {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.arena.release(slot);
        }
    }
}

impl fmt::Debug for FrameMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FrameMut").field(&self.slot).finish()
    }
}

/// A shared, immutable page. The frame returns to its arena when the last handle drops, so bytes handed to the
/// network outlive the shard they came from.
#[derive(Clone)]
pub struct Frame {
    shared: Arc<FrameMut>,
}

impl Frame {
    /// BLAKE3 of the whole page, computed once.
    pub fn digest(&self) -> [u8; 32] {
        self.shared.digest()
    }

    /// `range` of the page as bytes that keep the frame alive. Copies nothing.
    ///
    /// # Panics
    ///
    /// When the range leaves the page.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        Bytes::from_owner(self.clone()).slice(range)
    }

    /// The frame to write to, when this is its only handle. Its cached digest is forgotten.
    pub(crate) fn exclusive(&mut self) -> Option<&mut FrameMut> {
        Arc::get_mut(&mut self.shared)
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.shared
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frame").field(&self.shared.slot).finish()
    }
}
