//! Connections from this node to the other members.
//!
//! Of every pair, the member with the lower index dials; it keeps dialing until it is answered. The directory node
//! has the lowest index, so it has a link to everyone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holo_core::placement::{Member, Membership};
use holo_core::{ErrorCode, Failure, Role};
use holo_net::{Connection, Endpoint, Expected};
use parking_lot::RwLock;
use tokio::sync::Notify;

/// How long one dial may take.
const DIAL_DEADLINE: Duration = Duration::from_secs(3);
/// Pause between two dials of a member that does not answer; doubles up to the second.
const REDIAL_FIRST: Duration = Duration::from_millis(50);
const REDIAL_LAST: Duration = Duration::from_secs(1);

/// Links to the members that this node dials.
#[derive(Debug)]
pub(crate) struct Links {
    membership: Arc<Membership>,
    me: usize,
    open: RwLock<Vec<Option<Connection>>>,
    opened: Notify,
}

impl Links {
    /// No links yet.
    pub(crate) fn new(membership: Arc<Membership>, me: usize) -> Self {
        let open = RwLock::new(vec![None; membership.members().len()]);
        Self { membership, me, open, opened: Notify::new() }
    }

    /// Indexes of the members that this node dials.
    pub(crate) fn dialed(&self) -> std::ops::Range<usize> {
        self.me + 1..self.membership.members().len()
    }

    /// The open link to a member.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unreachable`], naming the member.
    pub(crate) fn link(&self, index: usize) -> Result<Connection, Failure> {
        let open = self.open.read().get(index).cloned().flatten().filter(|link| !link.is_closed());
        open.ok_or_else(|| {
            let place = self.membership.members().get(index).map_or_else(String::new, |member| {
                format!("node {} at {}", member.name, member.address)
            });
            Failure::new(ErrorCode::Unreachable, format!("{place} does not answer"))
                .help("arrays are created only while every node is up, until the replicated catalog is here")
                .retry_after_ms(500)
        })
    }

    /// The link to a member, waiting a moment for one that is just starting.
    ///
    /// # Errors
    ///
    /// As [`Self::link`], when it is still not open after `patience`.
    pub(crate) async fn link_within(
        &self,
        index: usize,
        patience: Duration,
    ) -> Result<Connection, Failure> {
        let opened = async {
            loop {
                // Armed before the look, so that a link which opens in between is not missed.
                let mut news = std::pin::pin!(self.opened.notified());
                news.as_mut().enable();
                if let Ok(link) = self.link(index) {
                    return link;
                }
                news.await;
            }
        };
        match tokio::time::timeout(patience, opened).await {
            Ok(link) => Ok(link),
            Err(_elapsed) => self.link(index),
        }
    }

    /// Keeps one link open for as long as the future is polled; `greet` runs on every new link before others see it.
    pub(crate) async fn keep<F>(
        &self,
        endpoint: Endpoint,
        index: usize,
        greet: impl Fn(Connection) -> F,
    ) where
        F: Future<Output = Result<(), Failure>>,
    {
        let Some(member) = self.membership.members().get(index) else { return };
        let mut pause = REDIAL_FIRST;
        loop {
            match self.dial(&endpoint, member).await {
                Ok(link) => match greet(link.clone()).await {
                    Ok(()) => {
                        pause = REDIAL_FIRST;
                        tracing::info!(member = %member.name, address = %member.address, "link open");
                        self.set(index, Some(link.clone()));
                        let reason = link.closed().await;
                        self.set(index, None);
                        tracing::info!(member = %member.name, code = %reason.code, "link closed");
                    }
                    Err(failure) => {
                        tracing::warn!(member = %member.name, code = %failure.code, message = %failure.message, "greeting failed");
                        link.close(failure.code, "greeting failed");
                    }
                },
                Err(failure) => {
                    tracing::debug!(member = %member.name, code = %failure.code, "no answer");
                }
            }
            pause_for(pause).await;
            pause = (pause * 2).min(REDIAL_LAST);
        }
    }

    async fn dial(&self, endpoint: &Endpoint, member: &Member) -> Result<Connection, Failure> {
        let address: SocketAddr = resolve(&member.address).await?;
        let expected = Expected { key: Some(member.node.0), role: Role::Node };
        endpoint.connect(address, expected, DIAL_DEADLINE).await
    }

    fn set(&self, index: usize, link: Option<Connection>) {
        if let Some(slot) = self.open.write().get_mut(index) {
            *slot = link;
        }
        self.opened.notify_waiters();
    }
}

/// Looks a member's address up, at every dial: names may move.
async fn resolve(address: &str) -> Result<SocketAddr, Failure> {
    let failed =
        |why: String| Failure::new(ErrorCode::Unreachable, format!("address {address}: {why}"));
    let mut found =
        tokio::net::lookup_host(address).await.map_err(|source| failed(source.to_string()))?;
    found.next().ok_or_else(|| failed("no such host".to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "the driver's own timer: a pause between dials")]
async fn pause_for(pause: Duration) {
    tokio::time::sleep(pause).await;
}
