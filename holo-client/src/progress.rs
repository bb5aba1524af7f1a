//! How a caller follows a long transfer.

/// Told of bytes as they arrive or are acknowledged; a closure `|bytes: u64| ..` is one.
pub trait Progress: Send + Sync {
    /// `bytes` more are done. Called from the task that awaits the transfer, often: return quickly.
    fn advanced(&self, bytes: u64);
}

impl<F: Fn(u64) + Send + Sync> Progress for F {
    fn advanced(&self, bytes: u64) {
        self(bytes);
    }
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn advanced(&self, _bytes: u64) {}
}
