//! What all calls of one cluster share: who we are, who the members are, the links, deadlines and retries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use prost::Message;

use holo_core::ArrayDescriptor;
use holo_core::wire::{Decode, Hello, HelloReply, Kind};
use holo_core::{Epoch, ErrorCode, Failure, NodeId, PartitionId, ShardIndex, UnixMillis};
use holo_core::{Member, Membership};
use holo_net::{Connection, Endpoint, EndpointOptions, Identity, Profile, Request};

use crate::links::Links;
use crate::retry::{Attempts, Effect, Next, another_may_answer};
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
    /// The node that gives out names and ids of arrays: the first member.
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

impl Route {
    fn to_member(member: &Member) -> Self {
        Self { node: member.node, address: member.address.clone(), partition: PartitionId(0) }
    }
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

    /// The end of the first of `parts` equal parts of what is left.
    fn first_of(self, parts: usize) -> Self {
        Self::after(self.remaining() / u32::try_from(parts).unwrap_or(u32::MAX).max(1))
    }

    /// What `work` gives, or nothing when it is not done by then.
    pub(crate) async fn limit<T>(self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout_at(self.0, work).await.ok()
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
            let sent = match self.route(target) {
                Ok(route) => self.send(&route, kind, body.clone(), deadline, &mut attempts).await,
                Err(failure) => Err(failure),
            };
            match sent {
                Ok(reply) => return R::decode_body(&reply),
                Err(failure) => self.recover(&mut attempts, failure, deadline).await?,
            }
        }
    }

    /// Asks for what every member knows: the directory first, and the others when it does not answer.
    pub(crate) async fn ask_any<R: Decode>(
        &self,
        kind: Kind,
        message: &impl Message,
    ) -> Result<R, Failure> {
        let body = Bytes::from(message.encode_to_vec());
        let (mut attempts, deadline) = (Attempts::new(Effect::Idempotent), self.deadline());
        loop {
            match self.ask_each(kind, &body, deadline, &mut attempts).await {
                Ok(reply) => return R::decode_body(&reply),
                Err(failure) => self.recover(&mut attempts, failure, deadline).await?,
            }
        }
    }

    async fn ask_each(
        &self,
        kind: Kind,
        body: &Bytes,
        deadline: Deadline,
        attempts: &mut Attempts,
    ) -> Result<Bytes, Failure> {
        let mut failed = Failure::new(ErrorCode::Internal, "the cluster has no members");
        let routes = self.routes();
        for (asked, route) in routes.iter().enumerate() {
            // One that hangs leaves time for the others.
            let part = deadline.first_of(routes.len() - asked);
            match self.send(route, kind, body.clone(), part, attempts).await {
                Err(failure) if another_may_answer(failure.code) => failed = failure,
                answer => return answer,
            }
        }
        Err(failed)
    }

    async fn send(
        &self,
        route: &Route,
        kind: Kind,
        body: Bytes,
        deadline: Deadline,
        attempts: &mut Attempts,
    ) -> Result<Bytes, Failure> {
        let connection = self.link(route, deadline).await?;
        let request = request(kind, route, body, deadline)?;
        attempts.sending();
        connection.call(request).await
    }

    /// The connection of a route.
    pub(crate) async fn link(
        &self,
        route: &Route,
        deadline: Deadline,
    ) -> Result<Connection, Failure> {
        self.links.to(route.node, &route.address, deadline).await
    }

    /// Ways to all members in their order, but those that did not answer the last time come last.
    fn routes(&self) -> Vec<Route> {
        let membership = self.membership.load();
        let mut routes: Vec<Route> = membership.members().iter().map(Route::to_member).collect();
        routes.sort_by_key(|route| self.links.is_silent(route.node));
        routes
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
                if refresh { self.refresh(deadline).await } else { Ok(()) }
            }
        }
    }

    /// Learns the members and their placement again, from any of them.
    async fn refresh(&self, deadline: Deadline) -> Result<(), Failure> {
        let mut failed = Failure::new(ErrorCode::Internal, "the cluster has no members");
        let routes = self.routes();
        for (asked, route) in routes.iter().enumerate() {
            let part = deadline.first_of(routes.len() - asked);
            let answer = match self.link(route, part).await {
                Ok(connection) => hello(&connection, part).await,
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
    links.keep(NodeId(key), connection);
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
