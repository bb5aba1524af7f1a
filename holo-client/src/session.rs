//! What all calls of one cluster share: who we are, who the members are, the links, deadlines and retries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message;

use holo_core::ArrayDescriptor;
use holo_core::Membership;
use holo_core::wire::{Decode, Hello, HelloReply, Kind};
use holo_core::{Epoch, ErrorCode, Failure, NodeId, PartitionId, ShardIndex, UnixMillis};
use holo_net::{Connection, Endpoint, EndpointOptions, Identity, Profile, Request};

use crate::links::Links;
use crate::retry::{Attempts, Effect, Next};
use crate::{Error, Options, Result};

/// How long each static key of ours is good for; a running client makes new ones.
const STATIC_KEY_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A connected client.
#[derive(Debug)]
pub(crate) struct Session {
    options: Options,
    links: Links,
    membership: ArcSwap<Membership>,
}

/// Who has to answer a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// One node.
    Node(NodeId),
    /// The node that keeps the list of arrays: the first member.
    Directory,
    /// The primary of a shard.
    Shard(&'a ArrayDescriptor, ShardIndex),
}

/// Where a request goes, under the placement that we know now.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) node: NodeId,
    pub(crate) address: String,
    pub(crate) partition: PartitionId,
}

/// When a call has to be over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(tokio::time::Instant);

impl Deadline {
    pub(crate) fn after(delay: Duration) -> Self {
        Self(tokio::time::Instant::now() + delay)
    }

    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(tokio::time::Instant::now())
    }
}

impl Session {
    /// Binds a socket, finds a node that answers and learns the members from it.
    pub(crate) async fn open(options: Options) -> Result<Self> {
        let identity = load_identity(&options)?;
        if options.addresses().is_empty() {
            return Err(Error::new(ErrorCode::ConfigInvalid, "no address of a cluster")
                .help("set HOLO_CLUSTER to host:port, or start nodes with `holo dev`"));
        }
        let path = Path::to(options.addresses(), options.connect_within()).await;
        let (links, membership) = introduce(identity, path, &options).await?;
        let session = Self { membership: ArcSwap::from_pointee(membership), links, options };
        if path.profile == Profile::SameHost && !session.members_are_here().await {
            // One node is here, others are not: large packets would never reach them.
            let path = Path { profile: Profile::Network, ..path };
            let identity = load_identity(&session.options)?;
            let (links, membership) = introduce(identity, path, &session.options).await?;
            return Ok(Self { membership: ArcSwap::from_pointee(membership), links, ..session });
        }
        Ok(session)
    }

    async fn members_are_here(&self) -> bool {
        let membership = self.membership();
        let addresses: Vec<String> =
            membership.members().iter().map(|member| member.address.clone()).collect();
        Path::to(&addresses, self.options.connect_within()).await.profile == Profile::SameHost
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    pub(crate) async fn close(&self) {
        self.links.close().await;
    }

    pub(crate) fn membership(&self) -> Arc<Membership> {
        self.membership.load_full()
    }

    /// The deadline of a request that starts now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.options.request_within())
    }

    /// Sends a small request until it succeeds, fails for good or its time is over.
    pub(crate) async fn call<R: Decode>(
        &self,
        target: Target<'_>,
        kind: Kind,
        effect: Effect,
        message: &impl Message,
    ) -> Result<R, Failure> {
        self.call_until(target, kind, effect, message, self.deadline()).await
    }

    /// [`Self::call`] with another deadline.
    pub(crate) async fn call_until<R: Decode>(
        &self,
        target: Target<'_>,
        kind: Kind,
        effect: Effect,
        message: &impl Message,
        deadline: Deadline,
    ) -> Result<R, Failure> {
        let body = Bytes::from(message.encode_to_vec());
        let mut attempts = Attempts::new(effect);
        loop {
            match self.call_once(target, kind, body.clone(), deadline).await {
                Ok(reply) => return R::decode_body(&reply),
                Err(failure) => self.recover(&mut attempts, failure, deadline).await?,
            }
        }
    }

    async fn call_once(
        &self,
        target: Target<'_>,
        kind: Kind,
        body: Bytes,
        deadline: Deadline,
    ) -> Result<Bytes, Failure> {
        let route = self.route(target)?;
        let connection = self.link(&route).await?;
        connection.call(request(kind, &route, body, deadline)?).await
    }

    /// The connection of a route.
    pub(crate) async fn link(&self, route: &Route) -> Result<Connection, Failure> {
        self.links.to(route.node, &route.address).await
    }

    /// Where a request to `target` goes.
    pub(crate) fn route(&self, target: Target<'_>) -> Result<Route, Failure> {
        let membership = self.membership.load();
        let (member, partition) = match target {
            Target::Node(node) => {
                let member = membership.member(node).ok_or_else(|| {
                    Failure::new(ErrorCode::NotFound, format!("node {} is no member", node.short()))
                })?;
                (member, PartitionId(0))
            }
            Target::Directory => {
                let first = membership.members().first().ok_or_else(|| {
                    Failure::new(ErrorCode::Internal, "the cluster has no members")
                })?;
                (first, PartitionId(0))
            }
            Target::Shard(array, shard) => {
                let (_, member) = membership.primary_of(array, shard);
                (member, membership.table().partition_of(&array.placement_key, shard))
            }
        };
        Ok(Route { node: member.node, address: member.address.clone(), partition })
    }

    /// Waits and learns what a retry needs; returns the failure when there is to be none.
    pub(crate) async fn recover(
        &self,
        attempts: &mut Attempts,
        failure: Failure,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        match attempts.after(&failure, deadline.remaining()) {
            Next::GiveUp => Err(failure),
            Next::Again { pause, refresh } => {
                tracing::debug!(code = %failure.code, pause_ms = pause.as_millis(), refresh, "again");
                wait(pause).await;
                if refresh { self.refresh().await } else { Ok(()) }
            }
        }
    }

    /// Learns the members and their placement again, from any of them.
    pub(crate) async fn refresh(&self) -> Result<(), Failure> {
        let known = self.membership();
        let mut failed = Failure::new(ErrorCode::Unreachable, "the cluster has no members");
        for member in known.members() {
            let route = Route {
                node: member.node,
                address: member.address.clone(),
                partition: PartitionId(0),
            };
            let answer = match self.link(&route).await {
                Ok(connection) => hello(&connection, self.deadline()).await,
                Err(failure) => Err(failure),
            };
            match answer {
                Ok(membership) => {
                    self.membership.store(Arc::new(membership));
                    return Ok(());
                }
                Err(failure) => failed = failure,
            }
        }
        Err(failed)
    }
}

/// Builds a request whose deadline is what is left of the call's.
pub(crate) fn request(
    kind: Kind,
    route: &Route,
    body: Bytes,
    deadline: Deadline,
) -> Result<Request, Failure> {
    let remaining = deadline.remaining();
    if remaining.is_zero() {
        return Err(Failure::new(
            ErrorCode::DeadlineExceeded,
            "no time was left to send the request",
        ));
    }
    // Members and placement are static in this release: epoch 0 stands for the one that the primary has.
    Ok(Request { kind, partition: route.partition, epoch: Epoch(0), deadline: remaining, body })
}

fn load_identity(options: &Options) -> Result<Identity> {
    let path = options.identity_path().ok_or_else(|| {
        Error::new(ErrorCode::ConfigInvalid, "no identity to connect with")
            .help("set HOLO_IDENTITY to the file that `holo dev` printed")
    })?;
    Ok(Identity::load(path, STATIC_KEY_LIFETIME, wall_clock()).map_err(Failure::from)?)
}

/// What kind of network leads to some addresses.
#[derive(Clone, Copy, Debug)]
struct Path {
    listen: SocketAddr,
    profile: Profile,
}

impl Path {
    async fn to(addresses: &[String], within: Duration) -> Self {
        let mut resolved = Vec::with_capacity(addresses.len());
        for address in addresses {
            // A name without an address fails later, with its own error, when it is dialed.
            if let Ok(Ok(found)) =
                tokio::time::timeout(within, tokio::net::lookup_host(address)).await
            {
                resolved.extend(found.take(1));
            }
        }
        let here =
            !resolved.is_empty() && resolved.iter().all(|address| address.ip().is_loopback());
        let any: IpAddr = match resolved.first() {
            Some(SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
        let profile = if here { Profile::SameHost } else { Profile::Network };
        Self { listen: SocketAddr::new(any, 0), profile }
    }
}

/// Finds an address that answers and learns the members from it.
async fn introduce(
    identity: Identity,
    path: Path,
    options: &Options,
) -> Result<(Links, Membership)> {
    let mut endpoint = EndpointOptions::new(path.listen, identity);
    endpoint.profile = path.profile;
    let endpoint = Endpoint::bind(endpoint, None).map_err(Failure::from)?;
    let links = Links::new(endpoint, options.connect_within());
    let mut failed: Option<Failure> = None;
    for address in options.addresses() {
        match introduce_at(&links, address, options).await {
            Ok(membership) => return Ok((links, membership)),
            Err(failure) => {
                tracing::debug!(%address, code = %failure.code, "no answer to the first request");
                // An identity that is refused is refused everywhere: say that rather than the last silence.
                if failed.as_ref().is_none_or(|kept| kept.code == ErrorCode::Unreachable) {
                    failed = Some(failure);
                }
            }
        }
    }
    let failed = failed.unwrap_or_else(|| Failure::new(ErrorCode::Unreachable, "no address"));
    Err(failed.into())
}

async fn introduce_at(
    links: &Links,
    address: &str,
    options: &Options,
) -> Result<Membership, Failure> {
    let pinned = match options.node_keys() {
        [only] => Some(*only),
        _ => None,
    };
    let connection = links.dial(address, pinned).await?;
    let key = connection.peer().key;
    if !options.node_keys().is_empty() && !options.node_keys().contains(&key) {
        let message = format!("{address} has key {}, which is none of those expected", key.short());
        return Err(Failure::new(ErrorCode::IdentityMismatch, message));
    }
    let membership = hello(&connection, Deadline::after(options.connect_within())).await?;
    links.keep(NodeId(key), connection).await;
    Ok(membership)
}

async fn hello(connection: &Connection, deadline: Deadline) -> Result<Membership, Failure> {
    let body =
        Hello { agent: format!("holo-client {}", env!("CARGO_PKG_VERSION")) }.encode_to_vec();
    let route = Route {
        node: NodeId(connection.peer().key),
        address: String::new(),
        partition: PartitionId(0),
    };
    let reply = connection.call(request(Kind::Hello, &route, body.into(), deadline)?).await?;
    Membership::from_hello(&HelloReply::decode_body(&reply)?)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a driver waits before a retry; the decision is in `retry`"
)]
async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[expect(
    clippy::disallowed_methods,
    reason = "the certificate of our own static key needs the time of day"
)]
fn wall_clock() -> UnixMillis {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
