//! How to reach a cluster: from a builder or from the environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use holo_core::{ErrorCode, PublicKey};

use crate::{Error, Result};

/// Name of the variable with the addresses of one or more nodes: `127.0.0.1:7400,127.0.0.1:7401`.
pub const ENV_CLUSTER: &str = "HOLO_CLUSTER";
/// Name of the variable with the path of the client's identity file.
pub const ENV_IDENTITY: &str = "HOLO_IDENTITY";
/// Name of the variable with the keys that the nodes at those addresses must have: 64 hexadecimal digits each.
pub const ENV_NODES: &str = "HOLO_NODES";
/// Name of the variable with the path of the `holo` program, for local clusters.
pub const ENV_BINARY: &str = "HOLO_BIN";

/// Where the cluster is, who we are, and how long we wait.
///
/// ```
/// use std::time::Duration;
///
/// let options = holo_client::Options::new()
///     .address("10.0.0.5:7400")
///     .address("10.0.0.6:7400")
///     .identity("ann.identity")
///     .connect_timeout(Duration::from_secs(2));
/// assert_eq!(options.addresses().len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    addresses: Vec<String>,
    identity: Option<PathBuf>,
    node_keys: Vec<PublicKey>,
    connect_timeout: Duration,
    request_timeout: Duration,
    transfers_in_flight: usize,
    binary: Option<PathBuf>,
}

impl Options {
    /// How long a node may take to answer the first packet, unless somebody asks for another time.
    pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
    /// How long one request may take, unless somebody asks for another time.
    pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
    /// Shards that one call moves at the same time, unless somebody asks for another count.
    pub const TRANSFERS_IN_FLIGHT_DEFAULT: usize = 8;

    /// Options without an address or identity.
    pub fn new() -> Self {
        Self {
            addresses: Vec::new(),
            identity: None,
            node_keys: Vec::new(),
            connect_timeout: Self::CONNECT_TIMEOUT_DEFAULT,
            request_timeout: Self::REQUEST_TIMEOUT_DEFAULT,
            transfers_in_flight: Self::TRANSFERS_IN_FLIGHT_DEFAULT,
            binary: None,
        }
    }

    /// Options from [`ENV_CLUSTER`], [`ENV_IDENTITY`], [`ENV_NODES`] and [`ENV_BINARY`]; a variable that is not set
    /// leaves its option empty.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] when a variable is not text or [`ENV_NODES`] holds no keys.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(source) => Err(invalid(format!("{name}: {source}"))),
        })
    }

    pub(crate) fn from_variables(
        mut read: impl FnMut(&str) -> Result<Option<String>>,
    ) -> Result<Self> {
        let mut options = Self::new();
        if let Some(list) = read(ENV_CLUSTER)? {
            options = options.addresses_from(split_list(&list));
        }
        if let Some(path) = read(ENV_IDENTITY)?.filter(|path| !path.is_empty()) {
            options = options.identity(path);
        }
        if let Some(list) = read(ENV_NODES)? {
            for key in split_list(&list) {
                let key = PublicKey::from_hex(key)
                    .map_err(|source| invalid(format!("{ENV_NODES}: {}", source.message)))?;
                options = options.node_key(key);
            }
        }
        if let Some(path) = read(ENV_BINARY)?.filter(|path| !path.is_empty()) {
            options = options.binary(path);
        }
        Ok(options)
    }

    /// Adds the address of a node: `host:port`. One that answers is enough; it names the others.
    #[must_use]
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// Adds the addresses of nodes.
    #[must_use]
    pub fn addresses_from(
        mut self,
        addresses: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.addresses.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// The file with the client's key and certificate. It names the cluster, so no other cluster is ever talked to.
    #[must_use]
    pub fn identity(mut self, path: impl Into<PathBuf>) -> Self {
        self.identity = Some(path.into());
        self
    }

    /// Adds a key that the first node may have. With at least one, every other key is refused.
    #[must_use]
    pub fn node_key(mut self, key: PublicKey) -> Self {
        self.node_keys.push(key);
        self
    }

    /// How long a node may take to answer at first; then it counts as unreachable.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one request may take, retries and pauses included. A large read is many requests.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Shards that one call moves at the same time; at least 1.
    #[must_use]
    pub fn transfers_in_flight(mut self, count: usize) -> Self {
        self.transfers_in_flight = count.max(1);
        self
    }

    /// The `holo` program that a local cluster runs; otherwise it is looked for.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// Addresses of nodes, in the order in which they are tried.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    pub(crate) fn identity_path(&self) -> Option<&Path> {
        self.identity.as_deref()
    }

    pub(crate) fn node_keys(&self) -> &[PublicKey] {
        &self.node_keys
    }

    pub(crate) fn connect_within(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn request_within(&self) -> Duration {
        self.request_timeout
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.transfers_in_flight
    }

    pub(crate) fn binary_path(&self) -> Option<&Path> {
        self.binary.as_deref()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

fn split_list(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorCode::ConfigInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Options> {
        Options::from_variables(|name| {
            Ok(variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        })
    }

    #[test]
    fn every_variable_has_its_option() {
        let key = PublicKey([9; 32]);
        let options = with(&[
            (ENV_CLUSTER, "127.0.0.1:1, host.example:2,"),
            (ENV_IDENTITY, "me.identity"),
            (ENV_NODES, &key.to_hex()),
            (ENV_BINARY, "/opt/holo"),
        ])
        .unwrap();
        assert_eq!(options.addresses(), ["127.0.0.1:1", "host.example:2"]);
        assert_eq!(options.identity_path(), Some(Path::new("me.identity")));
        assert_eq!(options.node_keys(), [key]);
        assert_eq!(options.binary_path(), Some(Path::new("/opt/holo")));
    }

    #[test]
    fn without_variables_nothing_is_set() {
        let options = with(&[]).unwrap();
        assert!(options.addresses().is_empty());
        assert_eq!(options.identity_path(), None);
        assert_eq!(options.connect_within(), Duration::from_secs(5));
    }

    #[test]
    fn a_key_that_is_none_is_refused_with_the_name_of_its_variable() {
        let refused = with(&[(ENV_NODES, "12ab")]).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::ConfigInvalid);
        assert!(refused.message().contains(ENV_NODES), "{refused}");
    }

    #[test]
    fn at_least_one_transfer_is_in_flight() {
        assert_eq!(Options::new().transfers_in_flight(0).in_flight(), 1);
    }
}
