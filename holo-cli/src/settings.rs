//! Where the cluster is and who we are: flag, then `HOLO_*` variable, then the user's file, then the default.
//!
//! clap has merged flags and variables when [`Settings::resolve`] runs; this module adds the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::TypedValueParser;
use holo_client::{Cluster, Options};
use holo_core::{ErrorCode, Failure, PublicKey, nearest};

use crate::argument::argument;
use crate::clock::Deadline;
use crate::quantity;

/// Time that one command may wait for an answer, unless somebody asks for another.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// Time that a node may take to answer at first, at most.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);
/// Bytes of a settings file.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Keys of a settings file.
const KEYS: [&str; 3] = ["cluster", "identity", "timeout"];

/// Flags and variables that every command that talks to a cluster takes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Flags {
    /// Addresses of nodes, parted by commas; one that answers is enough
    #[arg(long, global = true, env = "HOLO_CLUSTER", value_name = "ADDRS", hide_env_values = true)]
    pub(crate) cluster: Option<String>,
    /// File with the client's key
    #[arg(long, global = true, env = "HOLO_IDENTITY", value_name = "FILE", value_parser = path_or_nothing(), hide_env_values = true)]
    pub(crate) identity: Option<PathBuf>,
    /// Keys that the nodes at those addresses must have, parted by commas
    #[arg(long, global = true, env = "HOLO_NODES", value_name = "KEYS", value_delimiter = ',', value_parser = argument(PublicKey::from_hex), hide_env_values = true)]
    pub(crate) node_key: Vec<PublicKey>,
    /// How long one request may take, and all of a `holo run`: 500ms, 30s, 2min [default: 30s; a run: its --time and 10s]
    #[arg(long, global = true, env = "HOLO_TIMEOUT", value_name = "TIME", value_parser = argument(quantity::parse_duration), hide_env_values = true)]
    pub(crate) timeout: Option<Duration>,
}

/// Reads a path. An empty variable says as much as none.
fn path_or_nothing() -> impl TypedValueParser<Value = PathBuf> {
    clap::builder::OsStringValueParser::new().map(PathBuf::from)
}

/// What is known of the cluster after flags, variables and file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    addresses: Vec<String>,
    identity: Option<PathBuf>,
    node_keys: Vec<PublicKey>,
    timeout: Duration,
    /// Somebody said so: then it is for all of a run.
    timeout_was_given: bool,
}

impl Settings {
    /// Puts flags and variables over the user's file, if there is one.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] for a wrong file, [`ErrorCode::FileFailed`] for one that cannot be read.
    pub(crate) fn resolve(flags: &Flags) -> Result<Self, Failure> {
        let file = match user_file() {
            Some(path) => read_file(&path)?,
            None => File::default(),
        };
        Self::merge(flags, file)
    }

    fn merge(flags: &Flags, file: File) -> Result<Self, Failure> {
        let text = flags.cluster.clone().filter(|text| !text.trim().is_empty()).or(file.cluster);
        let addresses = text.as_deref().unwrap_or_default().split(',').map(str::trim);
        let addresses = addresses.filter(|item| !item.is_empty()).map(str::to_owned).collect();
        let timeout_was_given = flags.timeout.is_some() || file.timeout.is_some();
        let timeout = match (flags.timeout, file.timeout) {
            (Some(timeout), _) => timeout,
            (None, Some(text)) => quantity::parse_duration(&text)?,
            (None, None) => TIMEOUT_DEFAULT,
        };
        let identity = flags.identity.clone().filter(|path| !path.as_os_str().is_empty());
        let (identity, node_keys) = (identity.or(file.identity), flags.node_key.clone());
        Ok(Self { addresses, identity, node_keys, timeout, timeout_was_given })
    }

    /// How long one request may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Fills in what nobody said from the directory of a node: where it listens, and the operator's key if it is there.
    pub(crate) fn beside(mut self, address: &str, dir: &Path) -> Self {
        if self.addresses.is_empty() {
            self.addresses.push(address.to_owned());
        }
        let operator = dir.join("client.identity");
        if self.identity.is_none() && operator.is_file() {
            self.identity = Some(operator);
        }
        self
    }

    /// Connects to the cluster.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] when nobody said where the cluster is or who we are, else what the connection
    /// ends with: [`ErrorCode::Unreachable`] when nobody answers in time.
    pub(crate) async fn connect(&self) -> Result<Cluster, Failure> {
        if self.addresses.is_empty() {
            return Err(Failure::new(ErrorCode::ConfigInvalid, "no cluster: HOLO_CLUSTER is not set").help(
                "`holo init` and `holo dev` print the two `export` lines to use theirs; or give --cluster HOST:PORT",
            ));
        }
        self.addresses.iter().try_for_each(|address| check_place(address))?;
        let Some(identity) = &self.identity else {
            return Err(Failure::new(
                ErrorCode::ConfigInvalid,
                "no identity: HOLO_IDENTITY is not set",
            )
            .help("`holo init` and `holo dev` print the `export HOLO_IDENTITY=...` line to use theirs; or give --identity FILE"));
        };
        let mut options = Options::new()
            .addresses_from(&self.addresses)
            .identity(identity)
            .connect_timeout(self.timeout.min(CONNECT_TIMEOUT_MAX))
            .request_timeout(self.timeout);
        for key in &self.node_keys {
            options = options.node_key(*key);
        }
        match tokio::time::timeout(self.timeout, Cluster::connect(options)).await {
            Ok(connected) => connected.map_err(Failure::from),
            Err(_) => Err(Failure::new(
                ErrorCode::Unreachable,
                format!(
                    "{}: no node answered within {}",
                    self.addresses.join(", "),
                    quantity::duration(self.timeout)
                ),
            )
            .help("see whether the nodes run, or give --timeout a longer time")),
        }
    }

    /// Connects for a call that has to be over, the connecting included, in the time that somebody gave; without one it
    /// has the time that calls of its kind have.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub(crate) async fn connect_for_one_call(&self) -> Result<Cluster, Failure> {
        let deadline = Deadline::after(self.timeout);
        let cluster = self.connect().await?;
        Ok(match self.timeout_was_given {
            true => cluster.with_deadline(deadline.remaining()),
            false => cluster,
        })
    }
}

#[derive(Debug, Default, serde::Deserialize)]
struct File {
    cluster: Option<String>,
    identity: Option<PathBuf>,
    timeout: Option<String>,
}

/// `$XDG_CONFIG_HOME/holo/config.toml`, else `~/.config/holo/config.toml`.
fn user_file() -> Option<PathBuf> {
    let set =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(base.join("holo").join("config.toml"))
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let failed = |source: std::io::Error| {
        Failure::new(ErrorCode::FileFailed, format!("{}: {source}", path.display()))
    };
    let bytes = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(source) => return Err(failed(source)),
    };
    if bytes > FILE_BYTES_MAX {
        let message = format!("{}: {bytes} bytes are no settings file", path.display());
        return Err(Failure::new(ErrorCode::ConfigInvalid, message));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    parse_file(&text).map_err(|failure| failure.context(path.display()))
}

fn parse_file(text: &str) -> Result<File, Failure> {
    let invalid = |message: String| Failure::new(ErrorCode::ConfigInvalid, message);
    let table: toml::Table = toml::from_str(text).map_err(|source| invalid(source.to_string()))?;
    if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let help = match nearest(unknown, KEYS) {
            Some(known) => format!("did you mean {known:?}?"),
            None => format!("the keys are {}", KEYS.join(", ")),
        };
        return Err(invalid(format!("unknown key {unknown:?}")).help(help));
    }
    table.try_into().map_err(|source: toml::de::Error| invalid(source.to_string()))
}

/// Refuses what cannot be the address of a node, whatever answers.
fn check_place(address: &str) -> Result<(), Failure> {
    let parts = address.rsplit_once(':');
    if parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
        return Ok(());
    }
    let message = format!("{address:?} is no address of a node");
    Err(Failure::new(ErrorCode::ConfigInvalid, message)
        .help("--cluster and HOLO_CLUSTER take HOST:PORT, several of them with commas between"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Flags {
        Flags::default()
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = || parse_file("cluster = \"a:1, b:2\"\ntimeout = \"5s\"").unwrap();
        let settings = Settings::merge(&flags(), file()).unwrap();
        assert_eq!(settings.addresses, ["a:1", "b:2"]);
        assert_eq!(settings.timeout, Duration::from_secs(5));
        assert_eq!(settings.identity, None);

        let given = Flags {
            cluster: Some("c:3".into()),
            identity: Some("me".into()),
            node_key: vec![PublicKey([7; 32])],
            timeout: Some(Duration::from_secs(1)),
        };
        let settings = Settings::merge(&given, file()).unwrap();
        assert_eq!(settings.addresses, ["c:3"]);
        assert_eq!(settings.identity, Some("me".into()));
        assert_eq!(settings.node_keys, [PublicKey([7; 32])]);
        assert_eq!(settings.timeout, Duration::from_secs(1));
        assert!(settings.timeout_was_given);

        let settings = Settings::merge(&flags(), File::default()).unwrap();
        assert_eq!(settings.timeout, TIMEOUT_DEFAULT);
        assert!(!settings.timeout_was_given);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_one() {
        let refused = parse_file("clsuter = \"a:1\"").unwrap_err();
        assert_eq!(refused.code, ErrorCode::ConfigInvalid);
        assert_eq!(refused.help.as_deref(), Some("did you mean \"cluster\"?"));
        let refused = parse_file("fish = 1").unwrap_err();
        assert_eq!(refused.help.as_deref(), Some("the keys are cluster, identity, timeout"));
        assert_eq!(parse_file("timeout = 5").unwrap_err().code, ErrorCode::ConfigInvalid);
    }

    #[test]
    fn what_is_no_address_is_refused_before_anybody_is_asked() {
        for good in ["127.0.0.1:7400", "lab1:7400", "[::1]:7400"] {
            check_place(good).unwrap();
        }
        for bad in ["foo", "127.0.0.1", ":7400", "lab1:", "lab1:port", "lab1:70000", ""] {
            assert_eq!(check_place(bad).unwrap_err().code, ErrorCode::ConfigInvalid, "{bad}");
        }
    }
}
