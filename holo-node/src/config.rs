//! The configuration of one node: TOML, checked when it is read. A `Config` that exists is valid.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use holo_core::placement::{Member, Membership, PlacementTable};
use holo_core::{
    ClusterId, ErrorCode, Failure, Grant, NodeId, Policy, Principal, PublicKey, TableVersion,
    TenantId, Verb, limits,
};
use holo_net::{Profile, Suite};
use serde::Deserialize;

use crate::bytes_text::parse_bytes;

/// Bytes of a config file that we read at most.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// Page frames of a node unless the file says otherwise.
const MEMORY_DEFAULT: &str = "2GiB";
/// Partitions of a ring whose table still fits the reply to a client's first request, as a power of two.
const PARTITION_BITS_MAX: u8 = 18;
/// The smallest budget that a node can work with.
const MEMORY_BYTES_MIN: u64 = 16 << 20;

/// Everything that a node needs to know before it starts.
///
/// Precedence: a `HOLO_*` environment variable, then the file, then the default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the cluster, for people.
    pub cluster_name: String,
    /// Which cluster this is; handshakes with any other are refused.
    pub cluster_id: ClusterId,
    /// File with 64 hexadecimal digits: the secret that placement keys come from.
    pub cluster_secret_file: PathBuf,
    /// Name of this node, for people.
    pub name: String,
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// File with this node's Ed25519 key.
    pub identity: PathBuf,
    /// Bytes of page frames.
    pub memory_bytes: u64,
    /// Threads that run kernels.
    pub workers: usize,
    /// Transport presets.
    pub profile: Profile,
    /// Cipher suites accepted from peers; the first one is offered.
    pub suites: Vec<Suite>,
    /// Partitions of the ring, as a power of two; equal on every member.
    pub partition_bits: u8,
    /// All members, this node included, in the same order on every member.
    pub members: Vec<Member>,
    /// Who may use the cluster.
    pub clients: Vec<Principal>,
}

impl Config {
    /// Reads a file and applies `HOLO_*` variables of this process.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`] when it cannot be read, [`ErrorCode::ConfigInvalid`] when it is wrong.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let place = path.display();
        let failed = |source: std::io::Error| {
            Failure::new(ErrorCode::FileFailed, format!("config file {place}: {source}"))
                .help("name it with --config FILE; `holo dev` writes examples into its directory")
        };
        let length = std::fs::metadata(path).map_err(failed)?.len();
        if length > CONFIG_BYTES_MAX {
            return Err(invalid(format!(
                "config file {place} has {length} bytes, at most {CONFIG_BYTES_MAX} are read"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let variables = std::env::vars().filter(|(name, _)| name.starts_with("HOLO_")).collect();
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        Self::parse(&text, base, &variables)
            .map_err(|failure| failure.context(format!("config file {place}")))
    }

    /// Reads a config from text. Relative paths count from `base`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`], naming the key and, for an unknown one, the nearest that exists.
    pub fn parse(
        text: &str,
        base: &Path,
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, Failure> {
        let mut file: File = toml::from_str(text).map_err(|source| {
            let message = source.to_string();
            let failure = invalid(message.trim_end());
            match unknown_field_advice(source.message()) {
                Some(advice) => failure.help(advice),
                None => failure,
            }
        })?;
        file.apply(variables);
        file.check(base)
    }

    /// The membership that the file describes, with its placement table.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] when two members share an id, name or address.
    pub fn membership(&self) -> Result<Membership, Failure> {
        let table =
            PlacementTable::compute(&self.members, self.partition_bits, 1, None, TableVersion(1))?;
        Membership::new(self.cluster_name.clone(), self.members.clone(), table)
    }

    /// Who may do what: the clients of the file, and the members towards each other.
    pub fn policy(&self) -> Policy {
        let members = self.members.iter().map(|member| Principal {
            key: member.node.0,
            name: format!("node {}", member.name),
            tenant: TenantId(0),
            grants: vec![Grant::any(Verb::Member), Grant::any(Verb::Status)],
        });
        Policy::new(members.chain(self.clients.iter().cloned()))
    }

    /// The secret of the cluster.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`] or [`ErrorCode::ConfigInvalid`]; the content is never part of the message.
    pub fn cluster_secret(&self) -> Result<[u8; 32], Failure> {
        let place = self.cluster_secret_file.display();
        let failed = |source: std::io::Error| {
            Failure::new(ErrorCode::FileFailed, format!("cluster secret {place}: {source}"))
        };
        let mode =
            std::fs::metadata(&self.cluster_secret_file).map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            let message =
                format!("cluster secret {place} may be read by others (mode {:o})", mode & 0o777);
            return Err(invalid(message).help(format!("chmod 600 {place}")));
        }
        let text = std::fs::read_to_string(&self.cluster_secret_file).map_err(failed)?;
        match ClusterId::from_hex(text.trim()) {
            Ok(secret) => Ok(secret.0),
            Err(_) => Err(invalid(format!("cluster secret {place} is not 64 hexadecimal digits"))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster_name: String,
    cluster_id: String,
    cluster_secret_file: PathBuf,
    name: String,
    listen: String,
    identity: PathBuf,
    #[serde(default = "default_memory")]
    memory: String,
    workers: Option<usize>,
    #[serde(default = "default_profile")]
    profile: String,
    suites: Option<Vec<String>>,
    partition_bits: Option<u8>,
    members: Vec<MemberEntry>,
    #[serde(default)]
    clients: Vec<ClientEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberEntry {
    node: String,
    name: String,
    address: String,
    #[serde(default)]
    zone: String,
    #[serde(default = "default_weight")]
    weight: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientEntry {
    key: String,
    name: String,
    #[serde(default = "default_tenant")]
    tenant: u32,
    grants: Vec<String>,
}

impl File {
    fn apply(&mut self, variables: &BTreeMap<String, String>) {
        let texts = [
            ("HOLO_NAME", &mut self.name),
            ("HOLO_LISTEN", &mut self.listen),
            ("HOLO_MEMORY", &mut self.memory),
            ("HOLO_PROFILE", &mut self.profile),
        ];
        for (variable, field) in texts {
            if let Some(value) = variables.get(variable) {
                field.clone_from(value);
            }
        }
    }

    fn check(self, base: &Path) -> Result<Config, Failure> {
        let memory_bytes = parse_bytes(&self.memory).ok_or_else(|| {
            invalid(format!("memory = {:?} is no size", self.memory))
                .help("write it like 512MiB or 4GiB")
        })?;
        if memory_bytes < MEMORY_BYTES_MIN {
            return Err(invalid(format!("memory = {:?} is too little", self.memory))
                .help("16MiB is the least"));
        }
        let listen = self.listen.parse().map_err(|source| {
            invalid(format!("listen = {:?}: {source}", self.listen))
                .help("write ADDRESS:PORT, such as 0.0.0.0:7400")
        })?;
        let profile = match self.profile.as_str() {
            "network" => Profile::Network,
            "same-host" => Profile::SameHost,
            other => {
                return Err(invalid(format!(
                    "profile = {other:?} is neither network nor same-host"
                )));
            }
        };
        let partition_bits = self.partition_bits.unwrap_or(limits::PARTITION_BITS_DEFAULT);
        if partition_bits > PARTITION_BITS_MAX {
            return Err(invalid(format!(
                "partition_bits = {partition_bits}, at most {PARTITION_BITS_MAX}"
            )));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let config = Config {
            cluster_name: self.cluster_name,
            cluster_id: ClusterId::from_hex(&self.cluster_id)
                .map_err(|source| named("cluster_id", &source))?,
            cluster_secret_file: base.join(self.cluster_secret_file),
            name: self.name,
            listen,
            identity: base.join(self.identity),
            memory_bytes,
            workers: self.workers.unwrap_or(cores).clamp(1, limits::WORKERS_MAX),
            profile,
            suites: parse_suites(self.suites)?,
            partition_bits,
            members: self.members.into_iter().map(MemberEntry::check).collect::<Result<_, _>>()?,
            clients: self.clients.into_iter().map(ClientEntry::check).collect::<Result<_, _>>()?,
        };
        config.membership().map_err(|source| named("members", &source))?;
        Ok(config)
    }
}

impl MemberEntry {
    fn check(self) -> Result<Member, Failure> {
        let scaled = (self.weight * 1000.0).round();
        if !(1.0..=1_000_000.0).contains(&scaled) {
            return Err(invalid(format!(
                "weight = {} of member {} is outside 0.001 to 1000",
                self.weight, self.name
            )));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked to be 1 to 1,000,000"
        )]
        let weight_milli = scaled as u32;
        let node =
            PublicKey::from_hex(&self.node).map_err(|source| named("members.node", &source))?;
        Ok(Member {
            node: NodeId(node),
            name: self.name,
            address: self.address,
            zone: self.zone,
            weight_milli,
        })
    }
}

impl ClientEntry {
    fn check(self) -> Result<Principal, Failure> {
        let key = PublicKey::from_hex(&self.key).map_err(|source| named("clients.key", &source))?;
        if self.tenant == 0 {
            return Err(invalid(format!("client {}: tenant 0 is the cluster's own", self.name)));
        }
        let grants = self.grants.iter().map(|text| parse_grant(text)).collect::<Result<_, _>>()?;
        Ok(Principal { key, name: self.name, tenant: TenantId(self.tenant), grants })
    }
}

fn parse_grant(text: &str) -> Result<Grant, Failure> {
    let (verb, pattern) = text.split_once(':').unwrap_or((text, "*"));
    let verb = Verb::parse(verb)?;
    if verb == Verb::Member {
        return Err(invalid("MEMBER cannot be granted to a client"));
    }
    Ok(Grant { verb, pattern: pattern.to_owned() })
}

fn parse_suites(names: Option<Vec<String>>) -> Result<Vec<Suite>, Failure> {
    let Some(names) = names else { return Ok(vec![Suite::HybridAes256, Suite::HybridChaCha20]) };
    if names.is_empty() {
        return Err(invalid("suites is empty: nobody could connect"));
    }
    names.iter().map(|name| Suite::parse(name)).collect()
}

fn default_memory() -> String {
    MEMORY_DEFAULT.to_owned()
}

fn default_profile() -> String {
    "network".to_owned()
}

fn default_weight() -> f64 {
    1.0
}

fn default_tenant() -> u32 {
    1
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::ConfigInvalid, message)
}

fn named(key: &str, source: &Failure) -> Failure {
    invalid(format!("{key}: {}", source.message))
}

/// Turns serde's list of expected keys into the one that was probably meant.
fn unknown_field_advice(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    let nearest = holo_core::nearest(unknown, quoted)?;
    Some(format!("did you mean `{nearest}`?"))
}

#[cfg(test)]
mod tests;
