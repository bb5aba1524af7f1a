//! The configuration of one node: `node.toml`, checked when it is read. A `Config` that exists is valid.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use holo_core::replication;
use holo_core::{ErrorCode, Failure, limits};
use holo_net::{Profile, Suite};
use serde::{Deserialize, Serialize};

use crate::bytes_text::parse_bytes;

/// Bytes of a config file that we read at most.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Page frames of a node unless somebody says otherwise.
const MEMORY_DEFAULT: &str = "2GiB";
/// The smallest budget that a node can work with.
const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// Where a node listens unless somebody says otherwise.
const LISTEN_DEFAULT: &str = "0.0.0.0:7400";
/// Name of the config file in a node's directory.
pub(crate) const CONFIG_FILE: &str = "node.toml";

/// Everything that an operator decides about one node.
///
/// Precedence: a flag, then a `HOLO_*` environment variable, then the file, then the default.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's directory: keys, secrets, and what it knows of its cluster.
    pub home: PathBuf,
    /// Name of this node, for people.
    pub name: String,
    /// UDP address to listen on.
    pub listen: SocketAddr,
    /// Where others reach it: `10.0.0.1:7400`.
    pub advertise: String,
    /// Failure domain; empty where nobody named one.
    pub zone: String,
    /// Relative capacity in thousandths; 1000 is normal.
    pub weight_milli: u32,
    /// Bytes of page frames.
    pub memory_bytes: u64,
    /// Threads that run kernels.
    pub workers: usize,
    /// Transport presets.
    pub profile: Profile,
    /// Cipher suites accepted from peers; the first one is offered.
    pub suites: Vec<Suite>,
    /// By which times the node and its cluster judge each other.
    pub timers: Timers,
    /// It runs for as long as whoever started it, as the nodes of `holo dev` do: what it writes down is for nobody.
    pub temporary: bool,
}

/// Times; the same on all nodes of a cluster.
#[derive(Clone, Debug)]
pub struct Timers {
    /// Of the replication of groups.
    pub replication: replication::Timers,
    /// Of the catalog's agreement.
    pub catalog: holo_catalog::Timers,
    /// Between two heartbeats of a node to the catalog's leader.
    pub liveness: Duration,
    /// Silence after which a node is taken for down.
    pub down_after: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            replication: replication::Timers::default(),
            catalog: holo_catalog::Timers::default(),
            liveness: Duration::from_secs(1),
            down_after: Duration::from_secs(3),
        }
    }
}

/// What an operator says of a node, as text: in flags, in variables, in the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// Name of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `ADDRESS:PORT` to listen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// `HOST:PORT` where others reach it; the address to listen on where that is one address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Failure domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Relative capacity; 1 is normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Bytes for array data, such as `4GiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Threads that run kernels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,
    /// `network` or `same-host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Cipher suites by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suites: Option<Vec<String>>,
    /// Times in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timers: Option<TimerSettings>,
}

/// Times in milliseconds, for slow networks; each that is not here is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimerSettings {
    /// Between two beats of a pair of replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beat_ms: Option<u64>,
    /// How long a primary may serve reads without a beat being answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Silence of a primary after which a backup takes over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub take_over_ms: Option<u64>,
    /// Silence of a backup after which it is removed from its groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evict_ms: Option<u64>,
    /// Between two beats of the catalog's leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_beat_ms: Option<u64>,
    /// Shortest silence of the catalog's leader after which a voter stands for election.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_election_min_ms: Option<u64>,
    /// Longest silence of the catalog's leader after which a voter stands for election.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_election_max_ms: Option<u64>,
    /// Between two heartbeats of a node to the catalog's leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub liveness_ms: Option<u64>,
    /// Silence after which a node is taken for down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_after_ms: Option<u64>,
}

impl Config {
    /// Reads the config of a node's directory, or of a `node.toml` in it, and applies `HOLO_*` variables of this process
    /// and then `flags`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] when there is none, [`ErrorCode::FileFailed`] when it cannot be read,
    /// [`ErrorCode::ConfigInvalid`] when it is wrong.
    pub fn load(place: &Path, flags: &NodeSettings) -> Result<Self, Failure> {
        let file = if place.is_dir() { place.join(CONFIG_FILE) } else { place.to_owned() };
        let failed = |source: std::io::Error| {
            // What does not exist was meant as a directory: that is what is asked for.
            let what = if place.exists() { "config file" } else { "node's directory" };
            let message = format!("{what} {}: {source}", file.display());
            Failure::new(ErrorCode::of_file(source.kind()), message)
                .help("name a node's directory, made by `holo init` or `holo join`")
        };
        let length = std::fs::metadata(&file).map_err(failed)?.len();
        if length > CONFIG_BYTES_MAX {
            return Err(invalid(format!(
                "config file {} has {length} bytes, at most {CONFIG_BYTES_MAX} are read",
                file.display()
            )));
        }
        let text = std::fs::read_to_string(&file).map_err(failed)?;
        let home = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let home = home.unwrap_or_else(|| Path::new("."));
        Self::resolve(&text, home, &holo_variables(), flags)
            .map_err(|failure| failure.context(format!("config file {}", file.display())))
    }

    /// Puts a config together from the file's text, variables and flags.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`], naming the key, where its value came from and, for an unknown one, the nearest that
    /// exists.
    pub fn resolve(
        text: &str,
        home: &Path,
        variables: &BTreeMap<String, String>,
        flags: &NodeSettings,
    ) -> Result<Self, Failure> {
        let file: NodeSettings = toml::from_str(text).map_err(|source| {
            let failure = invalid(source.to_string().trim_end());
            match unknown_field_advice(source.message()) {
                Some(advice) => failure.help(advice),
                None => failure,
            }
        })?;
        Layers { flags, variables, file: &file }.check(home)
    }
}

/// The sources of settings.
struct Layers<'a> {
    flags: &'a NodeSettings,
    variables: &'a BTreeMap<String, String>,
    file: &'a NodeSettings,
}

/// A setting as text, with its name and where it came from.
struct Setting {
    name: &'static str,
    text: String,
    source: String,
}

impl Setting {
    fn refuse(&self, why: impl fmt::Display) -> Failure {
        invalid(format!("{} = {:?}{}: {why}", self.name, self.text, self.source))
    }

    fn parse<T: FromStr<Err: fmt::Display>>(&self) -> Result<T, Failure> {
        self.text.parse().map_err(|source| self.refuse(source))
    }
}

impl Layers<'_> {
    fn setting<T: ToString>(
        &self,
        name: &'static str,
        pick: impl Fn(&NodeSettings) -> Option<&T>,
        default: impl FnOnce() -> String,
    ) -> Setting {
        let variable = format!("HOLO_{}", name.to_uppercase());
        if let Some(value) = pick(self.flags) {
            let source = format!(" (from --{name})");
            return Setting { name, text: value.to_string(), source };
        }
        if let Some(value) = self.variables.get(&variable) {
            return Setting { name, text: value.clone(), source: format!(" (from {variable})") };
        }
        let text = pick(self.file).map_or_else(default, ToString::to_string);
        Setting { name, text, source: String::new() }
    }

    fn check(&self, home: &Path) -> Result<Config, Failure> {
        let name = self.setting("name", |it| it.name.as_ref(), host_name);
        if name.text.is_empty()
            || name.text.len() > limits::NODE_NAME_BYTES_MAX
            || name.text.chars().any(char::is_control)
        {
            let most = limits::NODE_NAME_BYTES_MAX;
            return Err(name.refuse(format!("a name has 1 to {most} printable bytes")));
        }
        let zone = self.setting("zone", |it| it.zone.as_ref(), String::new);
        if zone.text.len() > limits::NODE_NAME_BYTES_MAX {
            return Err(zone.refuse("it is too long"));
        }
        let listen = self.setting("listen", |it| it.listen.as_ref(), || LISTEN_DEFAULT.to_owned());
        let listen: SocketAddr = listen
            .parse()
            .map_err(|failure| failure.help("write ADDRESS:PORT, such as 0.0.0.0:7400"))?;
        let advertise = self.setting("advertise", |it| it.advertise.as_ref(), String::new);
        let advertise = check_advertise(&advertise, listen)?;
        let memory = self.setting("memory", |it| it.memory.as_ref(), || MEMORY_DEFAULT.to_owned());
        let memory_bytes = parse_bytes(&memory.text)
            .ok_or_else(|| memory.refuse("no size").help("write it like 512MiB or 4GiB"))?;
        if memory_bytes < MEMORY_BYTES_MIN {
            return Err(memory.refuse("too little").help("16MiB is the least"));
        }
        let workers = self.setting("workers", |it| it.workers.as_ref(), || cores().to_string());
        let profile = self.setting("profile", |it| it.profile.as_ref(), || "network".to_owned());
        let weight = self.setting("weight", |it| it.weight.as_ref(), || "1".to_owned());
        Ok(Config {
            home: home.to_owned(),
            name: name.text,
            listen,
            advertise,
            zone: zone.text,
            weight_milli: check_weight(&weight)?,
            memory_bytes,
            workers: workers.parse::<usize>()?.clamp(1, limits::WORKERS_MAX),
            profile: match profile.text.as_str() {
                "network" => Profile::Network,
                "same-host" => Profile::SameHost,
                _ => return Err(profile.refuse("neither network nor same-host")),
            },
            suites: parse_suites(self.flags.suites.as_ref().or(self.file.suites.as_ref()))?,
            timers: check_timers(self.flags.timers.as_ref().or(self.file.timers.as_ref()))?,
            temporary: false,
        })
    }
}

/// Where others reach the node: what was said, or the address that it listens on, where that is one.
fn check_advertise(advertise: &Setting, listen: SocketAddr) -> Result<String, Failure> {
    let said = &advertise.text;
    if said.is_empty() {
        // A wildcard is no address to reach anybody at; `init` and `join` write the one that they found.
        return Ok(listen.to_string());
    }
    let port = said.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) || said.len() > limits::NODE_ADDRESS_BYTES_MAX {
        return Err(advertise.refuse("no address").help("write HOST:PORT, such as 10.0.0.1:7400"));
    }
    Ok(said.clone())
}

fn check_weight(weight: &Setting) -> Result<u32, Failure> {
    let scaled = (weight.parse::<f64>()? * 1000.0).round();
    let most = limits::NODE_WEIGHT_MILLI_MAX;
    if !(1.0..=f64::from(most)).contains(&scaled) {
        return Err(weight.refuse(format!("outside 0.001 to {}", most / 1000)));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be 1 to NODE_WEIGHT_MILLI_MAX"
    )]
    let milli = scaled as u32;
    Ok(milli)
}

fn check_timers(wanted: Option<&TimerSettings>) -> Result<Timers, Failure> {
    let mut timers = Timers::default();
    let Some(wanted) = wanted else { return Ok(timers) };
    let (data, catalog) = (&mut timers.replication, &mut timers.catalog);
    for (field, millis) in [
        (&mut data.heartbeat, wanted.beat_ms),
        (&mut data.lease, wanted.lease_ms),
        (&mut data.take_over, wanted.take_over_ms),
        (&mut data.evict, wanted.evict_ms),
        (&mut catalog.heartbeat, wanted.catalog_beat_ms),
        (&mut catalog.election_min, wanted.catalog_election_min_ms),
        (&mut catalog.election_max, wanted.catalog_election_max_ms),
        (&mut timers.liveness, wanted.liveness_ms),
        (&mut timers.down_after, wanted.down_after_ms),
    ] {
        if let Some(millis) = millis {
            *field = Duration::from_millis(millis);
        }
    }
    timers.replication.check().map_err(|failure| failure.context("timers"))?;
    let ascending = !timers.catalog.heartbeat.is_zero()
        && timers.catalog.heartbeat < timers.catalog.election_min
        && timers.catalog.election_min < timers.catalog.election_max;
    if !ascending {
        return Err(invalid(
            "timers: catalog_beat_ms, catalog_election_min_ms and catalog_election_max_ms must grow in this order",
        ));
    }
    if timers.liveness.is_zero() || timers.down_after < timers.liveness * 2 {
        return Err(invalid("timers: down_after_ms must be at least twice liveness_ms"));
    }
    Ok(timers)
}

fn parse_suites(names: Option<&Vec<String>>) -> Result<Vec<Suite>, Failure> {
    let Some(names) = names else { return Ok(vec![Suite::HybridAes256, Suite::HybridChaCha20]) };
    if names.is_empty() {
        return Err(invalid("suites is empty: nobody could connect"));
    }
    names.iter().map(|name| Suite::parse(name)).collect()
}

/// The variables of this process that may be meant for us.
pub(crate) fn holo_variables() -> BTreeMap<String, String> {
    std::env::vars().filter(|(name, _)| name.starts_with("HOLO_")).collect()
}

fn host_name() -> String {
    named_after(&rustix::system::uname().nodename().to_string_lossy())
}

/// A node's name from a machine's, which may be anything.
fn named_after(machine: &str) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let letters = machine.chars().map(|letter| if fits(letter) { letter } else { '-' });
    let name: String = letters.skip_while(|letter| "-_.".contains(*letter)).take(32).collect();
    if name.is_empty() { "node".to_owned() } else { name }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(ErrorCode::ConfigInvalid, message)
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
