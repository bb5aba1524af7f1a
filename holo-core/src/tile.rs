//! How a kernel reaches the bytes of a shard without knowing where they live.

/// The bytes of one shard of one operand, to be copied tile by tile into a guest's memory.
pub trait TileSource: Send + Sync {
    /// Copies `dst.len()` bytes from `byte_offset` of the shard. Pages that nobody wrote read as zero.
    fn copy_to(&self, byte_offset: u64, dst: &mut [u8]);
}

/// Fresh staging memory for one shard of one output; nothing shows before the shard is published.
pub trait TileSink: Send {
    /// Copies `src` to `byte_offset` of the shard. Each byte is written once, in ascending order.
    fn copy_from(&mut self, byte_offset: u64, src: &[u8]);
}
