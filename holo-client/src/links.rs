//! One connection per node, opened when it is first needed and again when it broke.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holo_core::{ErrorCode, Failure, NodeId, PublicKey, Role};
use holo_net::{Connection, Endpoint, Expected};

type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// The connections of one session.
pub(crate) struct Links {
    endpoint: Endpoint,
    within: Duration,
    slots: Mutex<BTreeMap<NodeId, Slot>>,
    closed: AtomicBool,
}

impl Links {
    pub(crate) fn new(endpoint: Endpoint, within: Duration) -> Self {
        Self { endpoint, within, slots: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// Takes no more requests, tells the nodes that we are leaving and waits a moment until they have heard it.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.endpoint.close().await;
    }

    /// The open connection to a node whose key is known, or a new one.
    pub(crate) async fn to(&self, node: NodeId, address: &str) -> Result<Connection, Failure> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::new(ErrorCode::InvalidArgument, "the cluster is closed")
                .help("connect again"));
        }
        let slot = Arc::clone(self.lock().entry(node).or_default());
        // Held while connecting: those who need the same node at the same time share one handshake.
        let mut held = slot.lock().await;
        if let Some(open) = held.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(open.clone());
        }
        let fresh = self.dial(address, Some(node.0)).await?;
        *held = Some(fresh.clone());
        Ok(fresh)
    }

    /// A new connection to whoever listens at `address`: any node of our cluster, or one with `key`.
    pub(crate) async fn dial(
        &self,
        address: &str,
        key: Option<PublicKey>,
    ) -> Result<Connection, Failure> {
        let unreachable = |why: &dyn fmt::Display| {
            Failure::new(ErrorCode::Unreachable, format!("{address}: {why}"))
        };
        let resolved = tokio::time::timeout(self.within, tokio::net::lookup_host(address)).await;
        let resolved = match resolved {
            Ok(Ok(mut addresses)) => addresses.next(),
            Ok(Err(source)) => return Err(unreachable(&source)),
            Err(elapsed) => return Err(unreachable(&elapsed)),
        };
        let resolved = resolved.ok_or_else(|| unreachable(&"the name has no address"))?;
        let expected = Expected { key, role: Role::Node };
        self.endpoint
            .connect(resolved, expected, self.within)
            .await
            .map_err(|failure| failure.context(address))
    }

    /// Keeps a connection that was dialed before its node was known.
    pub(crate) async fn keep(&self, node: NodeId, connection: Connection) {
        let slot = Arc::clone(self.lock().entry(node).or_default());
        slot.lock().await.get_or_insert(connection);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("nodes", &self.lock().len()).finish_non_exhaustive()
    }
}
