//! `init`: the directory of the first node of a new cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use holo_core::catalog::{
    Bootstrap, IssuerCertificate, NewNode, NewTicket, Settings, issuer_statement,
};
use holo_core::replication::NodeNumber;
use holo_core::{
    ClusterId, ErrorCode, Failure, Grant, JoinTicket, NodeId, Principal, PublicKey, Role, TenantId,
    UnixMillis, Verb, check_name, limits,
};
use holo_net::Identity;
use serde::{Deserialize, Serialize};

use super::{Belonging, Home, KnownMember, SharedSecrets, after, files, random_key};
use crate::clock::Clock;
use crate::config::{CONFIG_FILE, Config, NodeSettings, holo_variables};

/// Certificates are made anew at every start; this one only proves that the files work.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(3600);
/// How long the root vouches for the voters' signing key.
const ISSUER_LIFETIME_MS: u64 = 90 * 24 * 3_600_000;
/// Nodes that do not answer are planned around after this many milliseconds.
const REPAIR_DELAY_MS: u64 = 3000;

/// What a new cluster shall be like.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Its name, for people.
    pub cluster_name: String,
    /// The first node.
    pub node: NodeSettings,
    /// There will be 2^bits partitions, for ever: about 128 per node that is ever expected.
    pub partition_bits: u8,
    /// Name of the first operator, who may do everything.
    pub operator: String,
    /// Settings of the cluster.
    pub settings: Settings,
    /// Tickets to make for the next nodes.
    pub tickets: usize,
    /// How long these are good for.
    pub ticket_lifetime: Duration,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            cluster_name: "lab".to_owned(),
            node: NodeSettings::default(),
            partition_bits: limits::PARTITION_BITS_DEFAULT,
            operator: "operator".to_owned(),
            settings: Settings { repair_delay_ms: REPAIR_DELAY_MS, ..Settings::default() },
            tickets: 1,
            ticket_lifetime: Duration::from_secs(24 * 3600),
        }
    }
}

/// The directory of the first node of a new cluster. The cluster comes into being when the node first starts.
#[derive(Clone, Debug)]
pub struct Initialized {
    /// The directory.
    pub home: PathBuf,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Name of the node.
    pub name: String,
    /// Where the node will be reached.
    pub address: String,
    /// Identity file of the first operator.
    pub client_identity: PathBuf,
    /// Tickets for the next nodes.
    pub tickets: Vec<TicketText>,
}

/// A ticket as text; does not print in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketText(String);

impl TicketText {
    /// The text to paste.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for TicketText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Makes keys, secrets and config of the first node of a new cluster in `directory`.
///
/// # Errors
///
/// [`ErrorCode::AlreadyExists`] when the directory is a node's already, [`ErrorCode::ConfigInvalid`],
/// [`ErrorCode::InvalidArgument`], [`ErrorCode::FileFailed`]. Nothing that was made is left then.
pub fn init(directory: &Path, options: &InitOptions) -> Result<Initialized, Failure> {
    check(options)?;
    let fresh = Fresh::make(directory)?;
    let home = Home::at(directory);
    let now = Clock::start().wall();
    let root = SigningKey::from_bytes(&*random_key()?);
    let root_public = PublicKey(root.verifying_key().to_bytes());
    let cluster = ClusterId(*blake3::hash(&root_public.0).as_bytes());
    let (settings, config) = settle(home.path(), &options.node, None)?;
    let identity = Identity::generate(Role::Node, cluster, CERTIFICATE_LIFETIME, now)?;
    identity.save(&home.identity_file())?;
    let client = Identity::generate(Role::Client, cluster, CERTIFICATE_LIFETIME, now)?;
    let client_identity = home.file("client.identity");
    client.save(&client_identity)?;
    files::write_key(&home.file("root.key"), root.as_bytes())?;
    home.set_voter_secrets(&SharedSecrets {
        placement: random_key()?,
        issuer_seed: random_key()?,
    })?;
    write_config(home.path(), &settings)?;
    let expires =
        after(now, u64::try_from(options.ticket_lifetime.as_millis()).unwrap_or(u64::MAX));
    let mut tickets = Vec::new();
    let mut orders = Vec::new();
    for _ in 0..options.tickets {
        let addresses = vec![config.advertise.clone()];
        let (text, key) = new_ticket(cluster, expires, addresses)?;
        tickets.push(text);
        orders.push(TicketEntry { key: key.to_hex(), expires_unix_ms: expires.0 });
    }
    let founding = FoundingFile {
        cluster_name: options.cluster_name.clone(),
        partition_bits: options.partition_bits,
        operator: options.operator.clone(),
        operator_key: client.key().to_hex(),
        repair_delay_ms: options.settings.repair_delay_ms,
        voter_delay_ms: options.settings.voter_delay_ms,
        replicas_default: options.settings.replicas_default,
        voters_max: options.settings.voters_max,
        tickets: orders,
    };
    let text = toml::to_string(&founding)
        .map_err(|source| Failure::new(ErrorCode::Internal, source.to_string()))?;
    files::write(&home.file("founding.toml"), &text)?;
    let member = KnownMember {
        number: NodeNumber(1),
        key: identity.key(),
        name: config.name.clone(),
        address: config.advertise.clone(),
        votes: true,
    };
    home.set_belonging(&Belonging {
        cluster_name: options.cluster_name.clone(),
        root: root_public,
        number: NodeNumber(1),
        voter: 1,
        members: vec![member],
    })?;
    fresh.keep();
    let (name, address) = (config.name, config.advertise);
    let home = directory.to_owned();
    Ok(Initialized { home, cluster, name, address, client_identity, tickets })
}

fn check(options: &InitOptions) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
    check_name("cluster", &options.cluster_name)?;
    let operator = &options.operator;
    let usable = (1..=limits::NODE_NAME_BYTES_MAX).contains(&operator.len());
    if !usable || operator.chars().any(char::is_control) {
        return refuse(format!("{operator:?} is no name for the operator"));
    }
    if options.partition_bits > limits::PARTITION_BITS_MAX {
        let most = limits::PARTITION_BITS_MAX;
        return refuse(format!("2^{} partitions; at most 2^{most}", options.partition_bits));
    }
    if options.tickets > limits::TICKETS_MAX {
        return refuse(format!("{} tickets; at most {}", options.tickets, limits::TICKETS_MAX));
    }
    Ok(())
}

/// A ticket with a fresh seed, and the key that the catalog must know.
pub(crate) fn new_ticket(
    cluster: ClusterId,
    expires: UnixMillis,
    addresses: Vec<String>,
) -> Result<(TicketText, PublicKey), Failure> {
    let seed = random_key()?;
    let key = PublicKey(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    let ticket = JoinTicket { cluster, seed: *seed, role: Role::Node, expires, addresses };
    Ok((TicketText(ticket.to_text()?), key))
}

/// The root vouches for a signing key.
pub(crate) fn sign_issuer(
    root_seed: &[u8; 32],
    issuer_seed: &[u8; 32],
    now: UnixMillis,
) -> IssuerCertificate {
    let root = SigningKey::from_bytes(root_seed);
    let cluster = ClusterId(*blake3::hash(&root.verifying_key().to_bytes()).as_bytes());
    let issuer = PublicKey(SigningKey::from_bytes(issuer_seed).verifying_key().to_bytes());
    let not_after = after(now, ISSUER_LIFETIME_MS);
    let signature = root.sign(&issuer_statement(cluster, issuer, not_after)).to_bytes();
    IssuerCertificate { issuer, not_after, signature }
}

/// Checks settings, and fills in what has to be decided once: name, port, and where others reach the node.
pub(super) fn settle(
    home: &Path,
    settings: &NodeSettings,
    towards: Option<SocketAddr>,
) -> Result<(NodeSettings, Config), Failure> {
    let mut config = Config::resolve("", home, &holo_variables(), settings)?;
    check_name("node", &config.name)?;
    if config.listen.port() == 0 {
        config.listen = free_port(config.listen.ip())?;
    }
    let advertised =
        settings.advertise.is_some() || holo_variables().contains_key("HOLO_ADVERTISE");
    if !advertised {
        let address = if config.listen.ip().is_unspecified() {
            own_address(towards)
        } else {
            config.listen.ip()
        };
        config.advertise = SocketAddr::new(address, config.listen.port()).to_string();
    }
    let settled = NodeSettings {
        name: Some(config.name.clone()),
        listen: Some(config.listen.to_string()),
        advertise: Some(config.advertise.clone()),
        ..settings.clone()
    };
    Ok((settled, config))
}

pub(super) fn write_config(home: &Path, settings: &NodeSettings) -> Result<(), Failure> {
    let text = toml::to_string(settings)
        .map_err(|source| Failure::new(ErrorCode::Internal, source.to_string()))?;
    let head = "# What you say of this node; docs/configuration.md lists all keys.\n";
    files::write(&home.join(CONFIG_FILE), &format!("{head}{text}"))
}

/// A port that is free right now. Another program could take it before the node does; the node then says so.
fn free_port(address: IpAddr) -> Result<SocketAddr, Failure> {
    let found = UdpSocket::bind((address, 0)).and_then(|socket| socket.local_addr());
    found.map_err(|source| {
        Failure::new(ErrorCode::ConfigInvalid, format!("no free UDP port on {address}: {source}"))
    })
}

/// The address by which this machine reaches `towards`, or the rest of the world. Nothing is sent.
fn own_address(towards: Option<SocketAddr>) -> IpAddr {
    // A documentation address (RFC 5737): it stands for anywhere else.
    let towards = towards.unwrap_or_else(|| (Ipv4Addr::new(192, 0, 2, 1), 9).into());
    let any: SocketAddr = if towards.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let found = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(towards)?;
        socket.local_addr()
    });
    found.map_or_else(|_unreachable| Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// A directory in the making: unless it is kept, what was put into it goes again.
pub(crate) struct Fresh {
    path: PathBuf,
    made: bool,
    kept: bool,
}

impl Fresh {
    /// # Errors
    ///
    /// [`ErrorCode::AlreadyExists`] when anything is in it.
    pub(super) fn make(path: &Path) -> Result<Self, Failure> {
        let made = !path.exists();
        files::make_directory(path)?;
        let mut entries = std::fs::read_dir(path).map_err(|source| files::failed(path, &source))?;
        if entries.next().is_some() {
            let message = format!("directory {} is not empty", path.display());
            return Err(Failure::new(ErrorCode::AlreadyExists, message)
                .help("a node's directory is never overwritten: name a new one"));
        }
        Ok(Self { path: path.to_owned(), made, kept: false })
    }

    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in entries {
            // It was empty when we came; what cannot be removed is no worse than what made us give up.
            drop(std::fs::remove_file(entry.path()));
        }
        if self.made {
            drop(std::fs::remove_dir(&self.path));
        }
    }
}

/// The founding of a cluster, which the first start of the first node carries out.
#[derive(Clone, Debug)]
pub(crate) struct Founding {
    file: FoundingFile,
    operator: PublicKey,
    tickets: Vec<NewTicket>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundingFile {
    cluster_name: String,
    partition_bits: u8,
    operator: String,
    operator_key: String,
    repair_delay_ms: u64,
    voter_delay_ms: u64,
    replicas_default: u8,
    voters_max: u8,
    #[serde(default)]
    tickets: Vec<TicketEntry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketEntry {
    key: String,
    expires_unix_ms: u64,
}

impl Founding {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let file: FoundingFile = toml::from_str(text)
            .map_err(|source| Failure::new(ErrorCode::Corrupt, source.message().to_owned()))?;
        let tickets = file.tickets.iter().map(|entry| {
            Ok(NewTicket {
                key: PublicKey::from_hex(&entry.key)?,
                role: Role::Node,
                expires: UnixMillis(entry.expires_unix_ms),
                name_hint: String::new(),
            })
        });
        let tickets = tickets.collect::<Result<_, Failure>>()?;
        let operator = PublicKey::from_hex(&file.operator_key)?;
        Ok(Self { file, operator, tickets })
    }

    /// The first command.
    pub(crate) fn bootstrap(
        &self,
        root: PublicKey,
        me: NodeId,
        config: &Config,
        agent: &str,
    ) -> Bootstrap {
        let grants = Verb::ALL.iter().filter(|verb| **verb != Verb::Member);
        let operator = Principal {
            key: self.operator,
            name: self.file.operator.clone(),
            tenant: TenantId(1),
            grants: grants.map(|verb| Grant::any(*verb)).collect(),
        };
        Bootstrap {
            cluster_name: self.file.cluster_name.clone(),
            root,
            partition_bits: self.file.partition_bits,
            founders: vec![NewNode {
                id: me,
                name: config.name.clone(),
                address: config.advertise.clone(),
                zone: config.zone.clone(),
                weight_milli: config.weight_milli,
                agent: agent.to_owned(),
            }],
            principals: vec![operator],
            settings: Settings {
                repair_delay_ms: self.file.repair_delay_ms,
                voter_delay_ms: self.file.voter_delay_ms,
                replicas_default: self.file.replicas_default,
                voters_max: self.file.voters_max,
            },
        }
    }

    /// Who asks for the first tickets.
    pub(crate) fn operator(&self) -> PublicKey {
        self.operator
    }

    /// The first tickets.
    pub(crate) fn tickets(&self) -> &[NewTicket] {
        &self.tickets
    }
}
