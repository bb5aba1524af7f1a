//! One connection per node, opened when it is first needed and again when it broke.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use holo_core::{ErrorCode, Failure, NodeId, PublicKey, Role};
use holo_net::{Connection, Endpoint, Expected};

use crate::call::Deadline;

/// A handshake that is under way, for all who wait for it.
type Dialing = BoxFuture<'static, Result<Connection, Failure>>;

/// The connections of one session.
pub(crate) struct Links {
    dialer: Dialer,
    slots: Arc<Slots>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Slots(Mutex<BTreeMap<NodeId, Slot>>);

/// What we have of one node.
#[derive(Default)]
struct Slot {
    open: Option<Connection>,
    /// Weak: the handshake goes with the last one who waits for it.
    dialing: Option<WeakShared<Dialing>>,
    /// It did not answer the last time that we wanted something of it.
    silent: bool,
}

impl Links {
    pub(crate) fn new(endpoint: Endpoint, within: Duration) -> Self {
        Self {
            dialer: Dialer { endpoint, within },
            slots: Arc::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes no more requests, tells the nodes that we are leaving and waits a moment until they have heard it.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.dialer.endpoint.close().await;
    }

    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] once they are closed.
    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::new(ErrorCode::InvalidArgument, "the cluster is closed")
                .help("connect again"));
        }
        Ok(())
    }

    /// The open connection to a node whose key is known, or a new one. Those who need the same node at the same time
    /// share one handshake and what comes of it.
    ///
    /// # Errors
    ///
    /// Those of [`Self::dial`]; [`ErrorCode::Unreachable`] also when there is no connection by the deadline.
    pub(crate) async fn to(
        &self,
        node: NodeId,
        address: &str,
        deadline: Deadline,
    ) -> Result<Connection, Failure> {
        self.check_open()?;
        let dialing = match self.begin(node, address) {
            Begun::Open(open) => return Ok(open),
            Begun::Dialing(dialing) => dialing,
        };
        deadline.limit(dialing).await.unwrap_or_else(|| {
            self.slots.change(node, |slot| slot.silent = true);
            let message = format!("{address}: no connection in the time of the request");
            Err(Failure::new(ErrorCode::Unreachable, message))
        })
    }

    /// Whether a node did not answer the last time that we wanted something of it.
    pub(crate) fn is_silent(&self, node: NodeId) -> bool {
        self.slots.lock().get(&node).is_some_and(|slot| slot.silent)
    }

    /// A node has not answered for a while: others are asked first.
    pub(crate) fn doubt(&self, node: NodeId) {
        self.slots.change(node, |slot| slot.silent = true);
    }

    /// A node has answered.
    pub(crate) fn trust(&self, node: NodeId) {
        self.slots.change(node, |slot| slot.silent = false);
    }

    fn begin(&self, node: NodeId, address: &str) -> Begun {
        self.slots.change(node, |slot| {
            if let Some(open) = slot.open.as_ref().filter(|connection| !connection.is_closed()) {
                return Begun::Open(open.clone());
            }
            let under_way = slot.dialing.as_ref().and_then(WeakShared::upgrade);
            // One that has ended is an answer to those who waited for it, not to us.
            if let Some(under_way) = under_way.filter(|dialing| dialing.peek().is_none()) {
                return Begun::Dialing(under_way);
            }
            let (dialer, slots) = (self.dialer.clone(), Arc::clone(&self.slots));
            let address = address.to_owned();
            let dialing = async move {
                let outcome = dialer.dial(&address, Some(node.0)).await;
                slots.change(node, |slot| {
                    slot.silent = outcome.is_err();
                    slot.open = outcome.as_ref().ok().cloned();
                });
                outcome
            };
            let dialing = dialing.boxed().shared();
            slot.dialing = dialing.downgrade();
            Begun::Dialing(dialing)
        })
    }

    /// A new connection to whoever listens at `address`: any node of our cluster, or one with `key`.
    pub(crate) async fn dial(
        &self,
        address: &str,
        key: Option<PublicKey>,
    ) -> Result<Connection, Failure> {
        self.dialer.dial(address, key).await
    }

    /// Keeps a connection that was dialed before its node was known.
    pub(crate) fn keep(&self, node: NodeId, connection: Connection) {
        self.slots.change(node, |slot| slot.open = Some(connection));
    }
}

enum Begun {
    Open(Connection),
    Dialing(Shared<Dialing>),
}

impl Slots {
    fn change<T>(&self, node: NodeId, change: impl FnOnce(&mut Slot) -> T) -> T {
        change(self.lock().entry(node).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes connections.
#[derive(Clone)]
struct Dialer {
    endpoint: Endpoint,
    within: Duration,
}

impl Dialer {
    async fn dial(&self, address: &str, key: Option<PublicKey>) -> Result<Connection, Failure> {
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
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("nodes", &self.slots.lock().len()).finish_non_exhaustive()
    }
}
