//! The first words with a cluster: our identity, a node that answers, and the members that it names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use prost::Message;

use holo_core::placement::ClusterView;
use holo_core::wire::{Decode, Hello, HelloReply, Kind, ViewBody, ViewQuery};
use holo_core::{ErrorCode, Failure, NodeId, PublicKey, Role, UnixMillis};
use holo_net::{Connection, Endpoint, EndpointOptions, Identity, Profile, Request};

use crate::call::Deadline;
use crate::links::Links;
use crate::session::wait;
use crate::{Error, Options, Result};

/// How long each static key of ours is good for; a running client makes new ones.
const STATIC_KEY_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long one address has the word before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(100);

/// Pause before a node that does not know its cluster yet is asked again.
const EARLY_PAUSE: Duration = Duration::from_millis(100);

/// What the first words led to.
#[derive(Debug)]
pub(crate) struct Introduced {
    pub(crate) links: Links,
    pub(crate) view: ClusterView,
    /// Who answered.
    pub(crate) node: NodeId,
}

/// Binds a socket, finds a node that answers and learns the members from it.
pub(crate) async fn introduce(options: &Options) -> Result<Introduced> {
    let identity = load_identity(options)?;
    if options.addresses().is_empty() {
        return Err(Error::new(ErrorCode::ConfigInvalid, "no address of a cluster")
            .help("set HOLO_CLUSTER to host:port, or start nodes with `holo dev`"));
    }
    let path = Path::to(options.addresses(), options.connect_within()).await;
    let introduced = introduce_on(identity, path, options).await?;
    if path.profile == Profile::SameHost {
        let members = introduced.view.members().iter();
        let addresses: Vec<String> = members.map(|view| view.member.address.clone()).collect();
        if Path::to(&addresses, options.connect_within()).await.profile != Profile::SameHost {
            // One node is here, others are not: large packets would never reach them.
            let path = Path { profile: Profile::Network, ..path };
            return introduce_on(load_identity(options)?, path, options).await;
        }
    }
    Ok(introduced)
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

/// Makes a key for somebody else of the same cluster, in a file that is not there yet.
///
/// # Errors
///
/// [`ErrorCode::AlreadyExists`], [`ErrorCode::FileFailed`], and those of our own identity.
pub(crate) fn new_identity(options: &Options, path: &std::path::Path) -> Result<PublicKey> {
    let cluster = load_identity(options)?.cluster();
    let made = Identity::generate(Role::Client, cluster, STATIC_KEY_LIFETIME, wall_clock())
        .and_then(|identity| identity.save(path).map(|()| identity.key()));
    Ok(made.map_err(Failure::from)?)
}

/// Finds an address that answers: each is tried a moment after the one before it, and the first answer counts.
async fn introduce_on(identity: Identity, path: Path, options: &Options) -> Result<Introduced> {
    let mut endpoint = EndpointOptions::new(path.listen, identity);
    endpoint.profile = path.profile;
    let endpoint = Endpoint::bind(endpoint, None).map_err(Failure::from)?;
    let links = Links::new(endpoint, options.connect_within());
    let mut failed: Option<Failure> = None;
    let mut addresses = options.addresses().iter();
    let mut asked = FuturesUnordered::new();
    loop {
        match addresses.next() {
            Some(address) => asked.push(introduce_at(&links, address, options)),
            None if asked.is_empty() => break,
            None => {}
        }
        let answer = tokio::select! {
            biased;
            Some(answer) = asked.next() => answer,
            () = wait(STAGGER), if addresses.len() > 0 => continue,
        };
        match answer {
            Ok((node, view)) => {
                drop(asked);
                return Ok(Introduced { links, view, node });
            }
            Err(failure) => {
                tracing::debug!(code = %failure.code, "no answer to the first request");
                // An identity that is refused is refused everywhere: say that rather than the last silence.
                if failed.as_ref().is_none_or(|kept| kept.code == ErrorCode::Unreachable) {
                    failed = Some(failure);
                }
            }
        }
    }
    let failed = failed.unwrap_or_else(|| Failure::new(ErrorCode::Unreachable, "no address"));
    Err(nobody_answered(failed, options.addresses()).into())
}

/// Says where nobody answered, all of it: the failure is of one address only.
fn nobody_answered(failed: Failure, tried: &[String]) -> Failure {
    if failed.code == ErrorCode::ClusterMismatch {
        return failed.help(
            "the identity is of one cluster and the address of another: take both, HOLO_IDENTITY and HOLO_CLUSTER, from the same `holo init` or `holo dev`",
        );
    }
    if failed.code != ErrorCode::Unreachable || tried.len() < 2 {
        return failed;
    }
    failed.help(format!(
        "nobody answered at {}: see that one of these nodes runs, and that its UDP port can be reached",
        tried.join(", ")
    ))
}

async fn introduce_at(
    links: &Links,
    address: &str,
    options: &Options,
) -> Result<(NodeId, ClusterView), Failure> {
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
    let deadline = Deadline::after(options.connect_within());
    let agent = hello(&connection, deadline).await?.agent;
    let view = loop {
        match view(&connection, deadline).await {
            // It has just started, or waits for the others.
            Err(failure) if is_early(&failure) && deadline.remaining() > EARLY_PAUSE => {
                wait(EARLY_PAUSE).await;
            }
            view => break view?,
        }
    };
    tracing::debug!(%address, %agent, version = view.version(), "connected");
    links.keep(NodeId(key), connection);
    Ok((NodeId(key), view))
}

fn is_early(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::NotReady | ErrorCode::NoQuorum)
}

async fn hello(connection: &Connection, deadline: Deadline) -> Result<HelloReply, Failure> {
    let hello = Hello { agent: format!("holo-client {}", env!("CARGO_PKG_VERSION")) };
    let request = Request::new(Kind::Hello, deadline.remaining(), hello.encode_to_vec());
    HelloReply::decode_body(&connection.call(request).await?)
}

async fn view(connection: &Connection, deadline: Deadline) -> Result<ClusterView, Failure> {
    let query = ViewQuery { known_version: 0 };
    let request = Request::new(Kind::View, deadline.remaining(), query.encode_to_vec());
    ClusterView::from_body(&ViewBody::decode_body(&connection.call(request).await?)?)
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
