//! Sessions: ids for clients, from blocks that the catalog leases to this node.

use std::ops::Range;
use std::time::Duration;

use holo_core::catalog::{Answer, Operation};
use holo_core::{ErrorCode, Failure};
use tokio::sync::Mutex;

use super::Control;

/// Ids in one block.
const BLOCK: u32 = 1024;
/// How long a new block may take.
const LEASE_PATIENCE: Duration = Duration::from_secs(5);

/// Ids that this node may give out. They end with the process.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Range<u64>>);

impl Control {
    /// A session id that nobody has had, and nobody will; looks for one no longer than `patience`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoQuorum`] when the block is used up and the catalog cannot be reached.
    pub(crate) async fn open_session(&self, patience: Duration) -> Result<u64, Failure> {
        let locked = tokio::time::timeout(patience, self.sessions.0.lock()).await;
        let mut block = locked.map_err(|_elapsed| {
            Failure::new(ErrorCode::NoQuorum, "others wait for new session ids as well")
                .retry_after_ms(500)
        })?;
        let expired = self.copy.read(holo_core::catalog::CatalogState::sessions_expired_below);
        block.start = block.start.max(expired);
        if let Some(session) = block.next() {
            return Ok(session);
        }
        let node = self.number().ok_or_else(super::not_joined)?;
        let lease = Operation::LeaseSessions { node, count: BLOCK };
        match self.propose_as_node(lease, LEASE_PATIENCE.min(patience)).await? {
            Answer::Sessions { first, count } => {
                *block = first..first.saturating_add(u64::from(count));
            }
            other => {
                let message = format!("a lease of sessions was answered with {other:?}");
                return Err(Failure::new(ErrorCode::Internal, message));
            }
        }
        block.next().ok_or_else(|| Failure::new(ErrorCode::Internal, "an empty block of sessions"))
    }
}
