//! Staged bytes that are complete: shared, so that they can be sent to other replicas and published here.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    arena::Arena, error::MemError, frame::Frame, run::PageRun, span::Span, staged::Staged,
};

/// Frames with the bytes of one write, not shown yet. Cloning copies handles.
///
/// The same frames are sent to other replicas and become the pages of the shard; a partial first or last page is
/// copied when it is published, because others may still hold its frame.
#[derive(Clone, Debug)]
pub struct Payload {
    arena: Arc<Arena>,
    shard_bytes: u64,
    span: Span,
    /// One per touched page.
    frames: Arc<[Frame]>,
}

impl Payload {
    pub(crate) fn new(
        arena: Arc<Arena>,
        shard_bytes: u64,
        span: Span,
        frames: impl Iterator<Item = Frame>,
    ) -> Self {
        Self { arena, shard_bytes, span, frames: frames.collect() }
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

    /// The bytes with their digests, for sending. Copies nothing.
    pub fn run(&self) -> PageRun {
        PageRun::of_frames(&self.frames, self.span)
    }

    /// One `Bytes` per touched page. Copies nothing.
    pub fn to_bytes(&self) -> Vec<Bytes> {
        self.run().to_bytes()
    }

    /// Whether it was staged for a shard of this arena and size.
    pub(crate) fn is_for(&self, arena: &Arc<Arena>, shard_bytes: u64) -> bool {
        Arc::ptr_eq(&self.arena, arena) && self.shard_bytes == shard_bytes
    }

    /// Shows the bytes in a table of pages and returns the handles that they replace. What a partial page does not
    /// cover keeps the bytes that are there.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfCapacity`] when a partial page needs a frame and there is none; nothing is shown then.
    pub(crate) fn show_in(&self, table: &mut [Option<Frame>]) -> Result<Vec<Frame>, MemError> {
        let partial = self.span.touches().filter(|touch| !touch.is_whole()).count();
        let mut fresh = match partial {
            0 => Vec::new(),
            partial => self.arena.allocate_many(partial)?,
        };
        let mut replaced = Vec::with_capacity(self.frames.len());
        for (frame, touch) in self.frames.iter().zip(self.span.touches()) {
            let Some(entry) = table.get_mut(touch.page) else { break };
            let shown = if touch.is_whole() {
                frame.clone()
            } else {
                let mut copy = fresh.pop().expect("a frame was taken for every partial page");
                copy.fill_around(&touch.within, entry.as_deref());
                copy[touch.within.clone()].copy_from_slice(&frame[touch.within]);
                copy.freeze()
            };
            replaced.extend(entry.replace(shown));
        }
        Ok(replaced)
    }
}

impl From<Staged> for Payload {
    fn from(staged: Staged) -> Self {
        staged.into_payload()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use holo_core::PAGE_BYTES;

    use crate::{Arena, MemError, Payload, Shard};

    const PAGE: u64 = PAGE_BYTES as u64;

    fn payload(shard: &Shard, offset: u64, len: u64, value: u8) -> Payload {
        let mut staged = shard.stage(offset, len).unwrap();
        staged.buffers().for_each(|buffer| buffer.fill(value));
        Payload::from(staged)
    }

    #[test]
    fn one_payload_is_shown_in_its_shard_while_another_holds_its_frames() {
        let arena = Arena::new(64 * PAGE).unwrap();
        let shard = Shard::new(Arc::clone(&arena), 4 * PAGE);
        shard.write(0, &[7; 10]).unwrap();
        let payload = payload(&shard, 5, 2 * PAGE, 9);
        let sent = payload.to_bytes();
        shard.publish_payload(&payload).unwrap();
        shard.write(PAGE, &[1, 2, 3]).unwrap();
        assert!(
            sent.iter().all(|bytes| bytes.iter().all(|byte| *byte == 9)),
            "what was sent stays"
        );
        let mut head = [0; 12];
        shard.read_into(0, &mut head).unwrap();
        assert_eq!(head, [7, 7, 7, 7, 7, 9, 9, 9, 9, 9, 9, 9]);
        let mut tail = [0; 8];
        shard.read_into(2 * PAGE, &mut tail).unwrap();
        assert_eq!(tail, [9, 9, 9, 9, 9, 0, 0, 0]);
        assert_eq!(payload.run().digests().len(), 3 * 32);
    }

    #[test]
    fn a_payload_of_another_arena_or_without_room_shows_nothing() {
        let arena = Arena::new(4 * PAGE).unwrap();
        let shard = Shard::new(Arc::clone(&arena), 4 * PAGE);
        let foreign = Shard::new(Arena::new(4 * PAGE).unwrap(), 4 * PAGE);
        let payload = payload(&shard, 1, PAGE, 9);
        assert!(matches!(foreign.publish_payload(&payload), Err(MemError::ForeignStaging)));
        let _full = shard.stage(0, 2 * PAGE).unwrap();
        assert!(matches!(shard.publish_payload(&payload), Err(MemError::OutOfCapacity { .. })));
        let mut bytes = [1; 16];
        shard.read_into(0, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 16]);
    }
}
