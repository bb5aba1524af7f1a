//! Connections from this node to the other members, as they come and go.
//!
//! Of every pair, the member with the lower number dials and keeps dialing until it is answered. The other one waits a
//! moment and then dials, too: after its own restart the lower one may not have noticed yet, and where packets pass in
//! one direction only, it never will. Whatever connection is there is used, whoever dialled it.
//!
//! Beside that link, whoever copies groups from a member dials it once more for that alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holo_core::replication::NodeNumber;
use holo_core::{ErrorCode, Failure, PublicKey, Role};
use holo_net::{Connection, Endpoint, Expected};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::task::{AbortHandle, JoinSet};

use crate::home::KnownMember;

/// How long one dial may take: several losses of its first packet.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);
/// Pause between two dials of a member that does not answer; doubles up to the second.
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_LAST: Duration = Duration::from_secs(1);
/// How long the higher number waits to be dialled.
const PATIENCE: Duration = Duration::from_millis(400);
/// How long an accepted connection may take from its admission until the endpoint lists it, and how often we look.
const ADOPTION: Duration = Duration::from_secs(2);
const ADOPTION_STEP: Duration = Duration::from_millis(2);

/// Copies that go over the link before a connection of their own is dialled again.
const LINK_TAKEN_MAX: u32 = 32;

/// How long a link to a member that is none any more stays open: it may just be hearing that it is none.
const FAREWELL: Duration = Duration::from_secs(1);
/// What a node is refused with that has left the cluster of its own will. One that was put out is denied.
pub(crate) const HAS_LEFT: ErrorCode = ErrorCode::NotFound;

/// Links to the other members.
#[derive(Default)]
pub(crate) struct Links {
    endpoint: Mutex<Option<Endpoint>>,
    peers: RwLock<BTreeMap<NodeNumber, Peer>>,
    opened: Notify,
    /// For what may wait, by member; made when first asked for.
    background: Mutex<BTreeMap<NodeNumber, Arc<AsyncMutex<Background>>>>,
    /// Told when a member says that this node is none.
    refused: OnceLock<Refused>,
    tasks: Mutex<JoinSet<()>>,
}

/// Takes the number of a member that refuses this node for good, and its word for it.
type Refused = Box<dyn Fn(NodeNumber, Failure) + Send + Sync>;

/// The connection to a member for what may wait.
#[derive(Debug, Default)]
struct Background {
    open: Option<Connection>,
    /// How often it was taken.
    taken: u32,
}

impl Background {
    /// The connection, unless it has ended, or is the link and was taken in the place of another one often enough.
    fn take(&mut self) -> Option<Connection> {
        let open = self.open.as_ref().filter(|open| !open.is_closed())?;
        self.taken = self.taken.saturating_add(1);
        (open.peer().background || self.taken <= LINK_TAKEN_MAX).then(|| open.clone())
    }
}

#[derive(Debug)]
struct Peer {
    key: PublicKey,
    name: String,
    address: String,
    open: Option<Connection>,
    /// Told when `open` changed.
    changed: Arc<Notify>,
    keeper: Option<AbortHandle>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("peers", &self.peers).finish_non_exhaustive()
    }
}

impl Links {
    /// From now on there is an endpoint to dial from.
    pub(crate) fn set_endpoint(&self, endpoint: Endpoint) {
        *self.endpoint.lock() = Some(endpoint);
    }

    /// From now on `refused` is told when a member says that this node is none.
    pub(crate) fn when_refused(
        &self,
        refused: impl Fn(NodeNumber, Failure) + Send + Sync + 'static,
    ) {
        drop(self.refused.set(Box::new(refused)));
    }

    /// From now on these are the members; `me` is one of them. Links to others are closed.
    pub(crate) fn set_members(self: &Arc<Self>, me: NodeNumber, members: &[KnownMember]) {
        let mut peers = self.peers.write();
        peers.retain(|number, peer| {
            let stays =
                members.iter().any(|member| member.number == *number && member.key == peer.key);
            if !stays {
                peer.end();
                self.spawn(Arc::clone(self).see_off(peer.key));
            }
            stays
        });
        self.background.lock().retain(|number, _| peers.contains_key(number));
        for member in members.iter().filter(|member| member.number != me) {
            let known = peers.get(&member.number).is_some_and(|peer| peer.keeper.is_some());
            let peer = peers.entry(member.number).or_insert_with(|| Peer::new(member));
            peer.name.clone_from(&member.name);
            peer.address.clone_from(&member.address);
            if !known {
                let keeper = Arc::clone(self).keep(member.number, me < member.number);
                peer.keeper = Some(self.spawn(keeper));
            }
        }
    }

    /// Ends all tasks. Connections end with the endpoint.
    pub(crate) fn stop(&self) {
        self.tasks.lock().abort_all();
        *self.endpoint.lock() = None;
        self.peers.write().clear();
        self.background.lock().clear();
    }

    /// The open link to a member.
    pub(crate) fn link(&self, number: NodeNumber) -> Option<Connection> {
        let peers = self.peers.read();
        let open = peers.get(&number)?.open.as_ref()?;
        (!open.is_closed()).then(|| open.clone())
    }

    /// The open link to a member, or a failure that names it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unreachable`].
    pub(crate) fn needed(&self, number: NodeNumber) -> Result<Connection, Failure> {
        self.link(number).ok_or_else(|| {
            let peers = self.peers.read();
            let place = peers.get(&number).map_or_else(
                || format!("node {number}"),
                |peer| format!("node {} at {}", peer.name, peer.address),
            );
            Failure::new(ErrorCode::Unreachable, format!("{place} does not answer"))
                .retry_after_ms(500)
        })
    }

    /// A connection to a member for what may wait, dialled if there is none. Where it cannot be dialled, the link takes
    /// its place for a while: packets may pass only on the one that the member has dialled, or the member was busy.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unreachable`].
    pub(crate) async fn background(&self, number: NodeNumber) -> Result<Connection, Failure> {
        let place = Arc::clone(self.background.lock().entry(number).or_default());
        // Whoever comes meanwhile waits for the same dial.
        let mut background = place.lock().await;
        if let Some(open) = background.take() {
            return Ok(open);
        }
        let link = self.needed(number)?;
        let Some(target) = self.target(number).await else { return Ok(link) };
        let dialled = match target {
            Ok(to) => {
                to.endpoint.connect_in_background(to.address, to.expected, DIAL_DEADLINE).await
            }
            Err(failure) => Err(failure),
        };
        let connection = dialled.unwrap_or_else(|failure| {
            tracing::debug!(member = %number, code = %failure.code, "no connection for background work: it goes over the link");
            link
        });
        *background = Background { open: Some(connection.clone()), taken: 0 };
        Ok(connection)
    }

    /// The member behind a key, as far as the links know.
    pub(crate) fn number_of(&self, key: PublicKey) -> Option<NodeNumber> {
        let peers = self.peers.read();
        peers.iter().find(|(_, peer)| peer.key == key).map(|(number, _)| *number)
    }

    /// Waits until a link opened, after `notified` was made.
    pub(crate) fn opened(&self) -> tokio::sync::futures::Notified<'_> {
        self.opened.notified()
    }

    /// A peer with this key was admitted: its connection becomes the link, as soon as the endpoint lists it.
    pub(crate) fn admitted(self: &Arc<Self>, key: PublicKey) {
        let Some(number) = self.number_of(key) else { return };
        let links = Arc::clone(self);
        self.spawn(async move {
            let adopting = async {
                while !links.adopt(number, key) {
                    pause_for(ADOPTION_STEP).await;
                }
            };
            // Gone before it was listed: it will come again.
            drop(tokio::time::timeout(ADOPTION, adopting).await);
        });
    }

    /// Takes the newest open connection of a peer, if it is not the link already.
    fn adopt(&self, number: NodeNumber, key: PublicKey) -> bool {
        let Some(endpoint) = self.endpoint.lock().clone() else { return false };
        let open = endpoint.connections().into_iter().rev();
        let newest = open
            .filter(|link| link.peer().key == key && link.peer().role == Role::Node)
            .filter(|link| !link.peer().background)
            .find(|link| !link.is_closed());
        newest.is_some_and(|link| self.put(number, link))
    }

    fn put(&self, number: NodeNumber, link: Connection) -> bool {
        let mut peers = self.peers.write();
        let Some(peer) = peers.get_mut(&number).filter(|peer| peer.key == link.peer().key) else {
            return false;
        };
        tracing::debug!(member = %peer.name, address = %link.peer().address, "link open");
        peer.open = Some(link);
        peer.changed.notify_waiters();
        self.opened.notify_waiters();
        true
    }

    /// Closes all connections to one that is no member any more, for whatever they were.
    async fn see_off(self: Arc<Self>, key: PublicKey) {
        pause_for(FAREWELL).await;
        if self.number_of(key).is_some() {
            // It has come back meanwhile.
            return;
        }
        let endpoint = self.endpoint.lock().clone();
        let open = endpoint.iter().flat_map(Endpoint::connections);
        for connection in open.filter(|open| open.peer().key == key) {
            connection.close(ErrorCode::Denied, "this node is no member any more");
        }
    }

    /// Keeps a link to one member for as long as it is polled.
    async fn keep(self: Arc<Self>, number: NodeNumber, dials: bool) {
        let mut pause = REDIAL_FIRST;
        loop {
            let Some(changed) = self.changes(number) else { return };
            let mut news = std::pin::pin!(changed.notified());
            news.as_mut().enable();
            if let Some(link) = self.link(number) {
                pause = REDIAL_FIRST;
                tokio::select! {
                    reason = link.closed() => {
                        tracing::debug!(member = %number, code = %reason.code, message = %reason.message, "link closed");
                    }
                    // Another connection is the link now: its end is the one to wait for.
                    () = news => continue,
                }
            }
            if !dials && self.waited_for(number).await {
                continue;
            }
            match self.dial(number).await {
                Some(Ok(link)) => {
                    if let Some(other) = self.link(number) {
                        // It dialled us meanwhile; one is enough.
                        drop(other);
                        link.close(ErrorCode::ShuttingDown, "there is another link");
                    } else {
                        self.put(number, link);
                    }
                    continue;
                }
                Some(Err(failure)) => {
                    tracing::trace!(member = %number, code = %failure.code, "no answer");
                    if matches!(failure.code, ErrorCode::Denied | HAS_LEFT)
                        && let Some(refused) = self.refused.get()
                    {
                        refused(number, failure);
                    }
                }
                None => {}
            }
            pause_for(pause).await;
            pause = (pause * 2).min(REDIAL_LAST);
        }
    }

    /// Told when the link to a member changed; `None` when it is none any more.
    fn changes(&self, number: NodeNumber) -> Option<Arc<Notify>> {
        self.peers.read().get(&number).map(|peer| Arc::clone(&peer.changed))
    }

    /// Whether the member dialled us within our patience.
    async fn waited_for(&self, number: NodeNumber) -> bool {
        let Some(changed) = self.changes(number) else { return false };
        let mut news = std::pin::pin!(changed.notified());
        news.as_mut().enable();
        if self.link(number).is_some() {
            return true;
        }
        tokio::time::timeout(PATIENCE, news).await.is_ok()
    }

    /// Dials a member once; `None` when it is none any more.
    async fn dial(&self, number: NodeNumber) -> Option<Result<Connection, Failure>> {
        Some(match self.target(number).await? {
            Ok(to) => to.endpoint.connect(to.address, to.expected, DIAL_DEADLINE).await,
            Err(failure) => Err(failure),
        })
    }

    /// Where to dial a member; `None` when it is none any more.
    async fn target(&self, number: NodeNumber) -> Option<Result<Target, Failure>> {
        let (key, address) = {
            let peers = self.peers.read();
            let peer = peers.get(&number)?;
            (peer.key, peer.address.clone())
        };
        let endpoint = self.endpoint.lock().clone()?;
        let expected = Expected { key: Some(key), role: Role::Node };
        let address = resolve(&address).await;
        Some(address.map(|address| Target { endpoint, address, expected }))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task)
    }
}

/// Where to dial a member, and whom to expect there.
struct Target {
    endpoint: Endpoint,
    address: SocketAddr,
    expected: Expected,
}

impl Peer {
    fn new(member: &KnownMember) -> Self {
        Self {
            key: member.key,
            name: member.name.clone(),
            address: member.address.clone(),
            open: None,
            changed: Arc::default(),
            keeper: None,
        }
    }

    /// Keeps no link any more.
    fn end(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
        }
        self.open = None;
    }
}

/// Looks a member's address up, at every dial: names may move.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let failed =
        |why: String| Failure::new(ErrorCode::Unreachable, format!("address {address}: {why}"));
    let mut found =
        tokio::net::lookup_host(address).await.map_err(|source| failed(source.to_string()))?;
    found.next().ok_or_else(|| failed("no such host".to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "the driver's own timer: a pause between dials")]
pub(crate) async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}
