//! Prepares a cluster on this machine: fresh identities, configs and free loopback ports in one directory.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holo_core::{ClusterId, ErrorCode, Failure, Role, Verb};
use holo_net::Identity;

use crate::clock::Clock;

/// Certificates are made anew at every start; this one only proves that the files work.
const LIFETIME: Duration = Duration::from_secs(3600);

/// What every node of the cluster gets.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Page frames per node, as in the config: `2GiB`.
    pub memory: String,
    /// Threads per node that run kernels; the machine's cores when `None`.
    pub workers: Option<usize>,
    /// Name of the cluster.
    pub cluster_name: String,
}

impl Default for DevOptions {
    fn default() -> Self {
        Self { memory: "2GiB".to_owned(), workers: None, cluster_name: "dev".to_owned() }
    }
}

/// A prepared cluster, not started yet.
#[derive(Clone, Debug)]
pub struct DevCluster {
    /// One config file per node.
    pub configs: Vec<PathBuf>,
    /// Where each node will listen.
    pub addresses: Vec<SocketAddr>,
    /// Identity file of a client that may do everything.
    pub client_identity: PathBuf,
    /// The id of the cluster.
    pub cluster_id: ClusterId,
}

/// Writes identities and configs of `nodes` nodes under `dir`, which is made if it is not there.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`] for no node or more than 64, [`ErrorCode::FileFailed`], and those of identities.
pub fn prepare(dir: &Path, nodes: usize, options: &DevOptions) -> Result<DevCluster, Failure> {
    if !(1..=64).contains(&nodes) {
        let message = format!("{nodes} nodes on one machine; 1 to 64 are possible");
        return Err(Failure::new(ErrorCode::InvalidArgument, message));
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| failed(dir, &source))?;
    let (mut root, mut secret) = ([0u8; 32], [0u8; 32]);
    for random in [&mut root, &mut secret] {
        getrandom::fill(random).map_err(|source| {
            Failure::new(ErrorCode::Internal, format!("no randomness: {source}"))
        })?;
    }
    // Stands for the root's public key: a cluster of one machine for one afternoon has no root that signs.
    let cluster_id = ClusterId(*blake3::hash(&root).as_bytes());
    write_private(&dir.join("cluster.secret"), &format!("{}\n", ClusterId(secret).to_hex()))?;
    let now = Clock::start().wall();
    let client_identity = dir.join("client.identity");
    let client = Identity::generate(Role::Client, cluster_id, LIFETIME, now)?;
    client.save(&client_identity)?;
    let addresses = free_ports(nodes)?;
    let mut members = String::new();
    for (index, address) in addresses.iter().enumerate() {
        let name = format!("n{}", index + 1);
        let identity = Identity::generate(Role::Node, cluster_id, LIFETIME, now)?;
        identity.save(&dir.join(format!("{name}.identity")))?;
        let key = identity.key();
        write!(
            members,
            "\n[[members]]\nnode = \"{key}\"\nname = \"{name}\"\naddress = \"{address}\"\n"
        )
        .map_err(|source| Failure::new(ErrorCode::Internal, source.to_string()))?;
    }
    let grants: Vec<_> =
        Verb::ALL.iter().filter(|verb| **verb != Verb::Member).map(|verb| verb.name()).collect();
    let client_entry =
        format!("\n[[clients]]\nkey = \"{}\"\nname = \"you\"\ngrants = {grants:?}\n", client.key());
    let mut configs = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        let name = format!("n{}", index + 1);
        let workers =
            options.workers.map_or_else(String::new, |workers| format!("workers = {workers}\n"));
        let text = format!(
            "# One node of a cluster on this machine; everything in it is in memory only.\n\
             cluster_name = \"{cluster}\"\ncluster_id = \"{cluster_id}\"\ncluster_secret_file = \"cluster.secret\"\n\
             name = \"{name}\"\nlisten = \"{address}\"\nidentity = \"{name}.identity\"\nmemory = \"{memory}\"\n\
             {workers}profile = \"same-host\"\n{members}{client_entry}",
            cluster = options.cluster_name,
            memory = options.memory,
        );
        let path = dir.join(format!("{name}.toml"));
        write_private(&path, &text)?;
        configs.push(path);
    }
    Ok(DevCluster { configs, addresses, client_identity, cluster_id })
}

/// Ports that are free right now. Another program could take one before the node does; the node then says so.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let none = |source: std::io::Error| {
        Failure::new(ErrorCode::Internal, format!("no free UDP port: {source}"))
    };
    // All are held until the last one is found, so that they differ.
    let sockets = (0..count)
        .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<Vec<_>, _>>();
    sockets.map_err(none)?.iter().map(|socket| socket.local_addr().map_err(none)).collect()
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.map_err(|source| failed(path, &source))
}

fn failed(path: &Path, source: &std::io::Error) -> Failure {
    Failure::new(ErrorCode::FileFailed, format!("{}: {source}", path.display()))
}
