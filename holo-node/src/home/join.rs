//! `join`: a new node asks a member to be let in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use holo_core::catalog::{IssuerCertificate, is_signed_by, join_statement};
use holo_core::replication::NodeNumber;
use holo_core::wire::{Decode, JoinReply, JoinRequest, Kind, WIRE_VERSION, welcome_statement};
use holo_core::{
    ClusterId, Count, ErrorCode, Failure, JoinTicket, NodeId, PublicKey, Retry, Role, UnixMillis,
};
use holo_net::{Endpoint, EndpointOptions, Expected, Identity, Request};
use prost::Message;

use super::found::{Fresh, settle, write_config};
use super::{Belonging, Home, KnownMember, fill_random};
use crate::clock::Clock;
use crate::config::{Config, NodeSettings};
use crate::service::AGENT;

/// How long a certificate of the joiner's connection is good for.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long one member may take to answer a dial.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// Pause before all addresses are tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// How to join.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// The node.
    pub node: NodeSettings,
    /// How long to try.
    pub deadline: Duration,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self { node: NodeSettings::default(), deadline: Duration::from_secs(30) }
    }
}

/// A node that was let in. It serves when it is started.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its directory.
    pub home: PathBuf,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The cluster's name, for people.
    pub cluster_name: String,
    /// The node's number in the catalog.
    pub number: NodeNumber,
    /// Its name.
    pub name: String,
    /// Where others reach it.
    pub address: String,
}

/// Makes a node's directory and has the node let into the cluster of a ticket.
///
/// When it is not known whether the node was let in, the directory stays, and joining again with the same ticket and
/// directory finds out.
///
/// # Errors
///
/// [`ErrorCode::TicketInvalid`] for a ticket that is used, expired, cut off or withdrawn; [`ErrorCode::ClusterMismatch`],
/// [`ErrorCode::IdentityMismatch`] when whoever answers is not of the ticket's cluster; [`ErrorCode::ClockSkew`];
/// [`ErrorCode::VersionMismatch`]; [`ErrorCode::AlreadyExists`] for a name or address that another node has, and for a
/// directory that is not empty; [`ErrorCode::Unreachable`] when nobody answers; [`ErrorCode::NoQuorum`]. Unless it may
/// have been let in, nothing that was made is left.
pub async fn join(
    directory: &Path,
    ticket: &str,
    options: &JoinOptions,
) -> Result<Joined, Failure> {
    let home = Home::at(directory);
    let clock = Clock::start();
    let again = home.pending_ticket()?.is_some_and(|pending| pending.trim() == ticket.trim());
    let fresh = if again { None } else { Some(prepare_join(directory, ticket, &options.node)?) };
    let ticket = JoinTicket::parse(ticket)?;
    let config = Config::load(directory, &NodeSettings::default())?;
    let asked = async {
        let identity = Identity::load(&home.identity_file(), CERTIFICATE_LIFETIME, clock.wall())?;
        let node = NodeId(identity.key());
        let any = SocketAddr::new(config.listen.ip(), 0);
        let endpoint = Endpoint::bind(EndpointOptions::new(any, identity), None)?;
        let mut tries = Tries::default();
        let asking = ask_to_join(&endpoint, node, &config, &ticket, &clock, &mut tries);
        match tokio::time::timeout(options.deadline, asking).await {
            Ok(asked) => {
                endpoint.close().await;
                asked
            }
            // Nobody is there to be told farewell, and whoever waits has waited long enough.
            Err(_elapsed) => Err(tries.gave_up(&ticket, options.deadline)),
        }
    };
    match asked.await {
        Ok(belonging) => {
            home.set_belonging(&belonging)?;
            home.forget_ticket()?;
            if let Some(fresh) = fresh {
                fresh.keep();
            }
            Ok(Joined {
                home: directory.to_owned(),
                cluster: belonging.cluster(),
                cluster_name: belonging.cluster_name,
                number: belonging.number,
                name: config.name,
                address: config.advertise,
            })
        }
        Err(failure) => {
            if failure.code.retry() == Retry::Unknown
                && let Some(fresh) = fresh
            {
                fresh.keep();
            }
            Err(failure)
        }
    }
}

/// Makes the directory of a node that will join with a ticket when it is asked to, or when it starts.
///
/// # Errors
///
/// [`ErrorCode::TicketInvalid`], [`ErrorCode::AlreadyExists`] for a directory that is not empty,
/// [`ErrorCode::ConfigInvalid`], [`ErrorCode::FileFailed`].
pub(crate) fn prepare_join(
    directory: &Path,
    ticket_text: &str,
    settings: &NodeSettings,
) -> Result<Fresh, Failure> {
    let ticket = JoinTicket::parse(ticket_text)?;
    if ticket.role != Role::Node {
        return Err(Failure::new(ErrorCode::TicketInvalid, "the ticket is not for a node"));
    }
    let now = Clock::start().wall();
    if ticket.expires <= now {
        let ago = ago(Duration::from_millis(now.0 - ticket.expires.0));
        let message = format!("the ticket expired {ago}, by this machine's clock");
        return Err(Failure::new(ErrorCode::TicketInvalid, message)
            .help("ask an operator for a new one: `holo ticket create`"));
    }
    let fresh = Fresh::make(directory)?;
    let home = Home::at(directory);
    let towards = ticket.addresses.iter().find_map(|address| address.parse().ok());
    let (settings, _config) = settle(home.path(), settings, towards)?;
    let identity = Identity::generate(Role::Node, ticket.cluster, CERTIFICATE_LIFETIME, now)?;
    identity.save(&home.identity_file())?;
    write_config(home.path(), &settings)?;
    home.set_pending_ticket(ticket_text)?;
    Ok(fresh)
}

/// `12 seconds ago`, `3 hours ago`.
fn ago(since: Duration) -> String {
    let (count, unit) = match since.as_secs() {
        0 => return "less than a second ago".to_owned(),
        seconds @ 1..120 => (seconds, "second"),
        seconds @ 120..7200 => (seconds / 60, "minute"),
        seconds @ 7200..172_800 => (seconds / 3600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    format!("{} ago", Count(count).of(unit))
}

/// Asks the members of a ticket, one after the other and again, until one lets the node in or says that none will.
///
/// # Errors
///
/// A refusal that asking again does not change.
pub(crate) async fn ask_to_join(
    endpoint: &Endpoint,
    node: NodeId,
    config: &Config,
    ticket: &JoinTicket,
    clock: &Clock,
    tries: &mut Tries,
) -> Result<Belonging, Failure> {
    loop {
        for address in &ticket.addresses {
            match ask(endpoint, node, config, ticket, clock, address).await {
                Ok(belonging) => return Ok(belonging),
                Err(failure) if failure.code.retry() == Retry::Never => {
                    return Err(not_let_in(failure, address));
                }
                Err(failure) => {
                    tracing::debug!(%address, code = %failure.code, message = %failure.message, "not let in yet");
                    tries.note(failure);
                }
            }
        }
        pause(PAUSE).await;
    }
}

/// A refusal for good, with the place where it was met.
fn not_let_in(failure: Failure, address: &str) -> Failure {
    let failure = match failure.code {
        ErrorCode::ClusterMismatch => failure.help(
            "the ticket is of another cluster than the node at that address: ask an operator of the cluster that you mean for a new one, `holo ticket create`",
        ),
        _ => failure,
    };
    joining(failure, address)
}

/// Says where, unless the link has named the address already.
fn joining(failure: Failure, places: &str) -> Failure {
    let place = match failure.message.starts_with(places) {
        true => "joining".to_owned(),
        false => format!("joining at {places}"),
    };
    failure.context(place)
}

async fn ask(
    endpoint: &Endpoint,
    node: NodeId,
    config: &Config,
    ticket: &JoinTicket,
    clock: &Clock,
    address: &str,
) -> Result<Belonging, Failure> {
    let place = crate::links::resolve(address).await?;
    let expected = Expected { key: None, role: Role::Node };
    let connection = endpoint.connect(place, expected, DIAL_DEADLINE).await?;
    let key = SigningKey::from_bytes(&ticket.seed);
    let statement = join_statement(ticket.cluster, node, ticket.role);
    let mut nonce = [0; 16];
    fill_random(&mut nonce)?;
    let request = JoinRequest {
        ticket: key.verifying_key().to_bytes().to_vec(),
        signature: key.sign(&statement).to_bytes().to_vec(),
        node: node.0.0.to_vec(),
        name: config.name.clone(),
        address: config.advertise.clone(),
        zone: config.zone.clone(),
        weight_milli: config.weight_milli,
        agent: AGENT.to_owned(),
        wire_version: u32::from(WIRE_VERSION),
        unix_ms: clock.wall().0,
        nonce: nonce.to_vec(),
    };
    let body = Bytes::from(request.encode_to_vec());
    let answer = connection.call(Request::new(Kind::Join, DIAL_DEADLINE, body)).await;
    connection.close(ErrorCode::ShuttingDown, "the joiner has its answer");
    let reply = JoinReply::decode_body(&answer?)?;
    check_welcome(&reply, ticket.cluster, node, &nonce, clock.wall())
}

/// Believes a welcome only from a voter of the ticket's cluster.
fn check_welcome(
    reply: &JoinReply,
    cluster: ClusterId,
    node: NodeId,
    nonce: &[u8; 16],
    now: UnixMillis,
) -> Result<Belonging, Failure> {
    let impostor = |why: &str| {
        Failure::new(ErrorCode::IdentityMismatch, format!("whoever answers {why}"))
            .help("the address may be another's by now; ask an operator for a new ticket")
    };
    let root = PublicKey::from_slice(&reply.root)?;
    if *blake3::hash(&root.0).as_bytes() != cluster.0 {
        return Err(impostor("does not know the root key of the ticket's cluster"));
    }
    let issuer = reply.issuer.as_ref().ok_or_else(|| impostor("has no signing key"))?;
    let malformed = |_| Failure::new(ErrorCode::Malformed, "a signature has 64 bytes");
    let certificate = IssuerCertificate::try_from(issuer.clone())?;
    if certificate.not_after <= now || !certificate.is_signed_by(cluster, root) {
        return Err(impostor("has no signing key that the cluster's root vouches for"));
    }
    let welcome = reply.welcome.as_slice().try_into().map_err(malformed)?;
    let statement = welcome_statement(cluster, node, nonce, reply);
    if !is_signed_by(certificate.issuer, &statement, &welcome) {
        return Err(impostor("cannot sign for the ticket's cluster"));
    }
    let members = reply.members.iter().map(|member| {
        Ok(KnownMember {
            number: NodeNumber(member.number),
            key: PublicKey::from_slice(&member.node)?,
            name: member.name.clone(),
            address: member.address.clone(),
            votes: reply.voters.contains(&member.number),
        })
    });
    Ok(Belonging {
        cluster_name: reply.cluster_name.clone(),
        root,
        number: NodeNumber(reply.number),
        voter: 0,
        members: members.collect::<Result<_, Failure>>()?,
    })
}

/// What came of tries that did not settle anything.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    /// The last one that was answered; without an answer the last one.
    last: Option<Failure>,
    /// An answer was lost: the node may have been let in.
    unknown: bool,
}

impl Tries {
    fn note(&mut self, failure: Failure) {
        self.unknown |= failure.code.retry() == Retry::Unknown;
        // That somebody else said nothing is no news after an answer.
        let silence = |failure: &Failure| failure.code == ErrorCode::Unreachable;
        if !silence(&failure) || self.last.as_ref().is_none_or(silence) {
            self.last = Some(failure);
        }
    }

    fn gave_up(self, ticket: &JoinTicket, deadline: Duration) -> Failure {
        let places = ticket.addresses.join(", ");
        if self.unknown {
            let message = format!(
                "no answer within {deadline:?} from {places}: the node may have been let in, or not"
            );
            return Failure::new(ErrorCode::DeadlineExceeded, message)
                .help("join again with the same ticket and the same directory");
        }
        match self.last {
            Some(failure) if failure.code != ErrorCode::Unreachable => joining(failure, &places),
            silence => Failure::new(
                ErrorCode::Unreachable,
                format!(
                    "nobody answered within {deadline:?}; asked at {places}{}",
                    silence.map_or_else(String::new, |last| format!(" (the last: {})", last.message))
                ),
            )
            .help("check that a node runs there and that UDP passes; if these nodes are gone for good, have a node that runs make a new ticket: `holo ticket create`"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the driver's own timer: a pause between tries")]
async fn pause(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests;
