//! Prepares a cluster on this machine: the directories of its nodes, on free loopback ports.
//!
//! The first node's is made like by `holo init`; each of the others has a ticket, with which it joins when it starts.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use holo_core::catalog::Settings;
use holo_core::{ClusterId, ErrorCode, Failure};

use crate::config::{CONFIG_FILE, NodeSettings, TimerSettings};
use crate::home::{InitOptions, init, make_directory, prepare_join};

/// What every node of the cluster gets.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// Page frames per node, as in the config: `2GiB`.
    pub memory: String,
    /// Threads per node that run kernels; the machine's cores when `None`.
    pub workers: Option<usize>,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Times, where they shall not be the defaults.
    pub timers: Option<TimerSettings>,
    /// Settings of the cluster.
    pub settings: Settings,
}

impl Default for DevOptions {
    fn default() -> Self {
        Self {
            memory: "2GiB".to_owned(),
            workers: None,
            cluster_name: "dev".to_owned(),
            timers: None,
            settings: InitOptions::default().settings,
        }
    }
}

/// A prepared cluster, not started yet.
#[derive(Clone, Debug)]
pub struct DevCluster {
    /// One config file per node, in the node's directory.
    pub configs: Vec<PathBuf>,
    /// Where each node will listen.
    pub addresses: Vec<SocketAddr>,
    /// Identity file of a client that may do everything.
    pub client_identity: PathBuf,
    /// The id of the cluster.
    pub cluster_id: ClusterId,
}

/// Writes the directories of `nodes` nodes under `dir`, which is made if it is not there.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`] for no node or more than 64, [`ErrorCode::FileFailed`], and those of [`init`].
pub fn prepare(dir: &Path, nodes: usize, options: &DevOptions) -> Result<DevCluster, Failure> {
    if !(1..=64).contains(&nodes) {
        let message = format!("{nodes} nodes on one machine; 1 to 64 are possible");
        return Err(Failure::new(ErrorCode::InvalidArgument, message));
    }
    make_directory(dir)?;
    let addresses = free_ports(nodes)?;
    let home = |index: usize| dir.join(format!("n{}", index + 1));
    let settings = |index: usize| NodeSettings {
        name: Some(format!("n{}", index + 1)),
        listen: addresses.get(index).map(ToString::to_string),
        advertise: addresses.get(index).map(ToString::to_string),
        memory: Some(options.memory.clone()),
        workers: options.workers,
        profile: Some("same-host".to_owned()),
        timers: options.timers.clone(),
        ..NodeSettings::default()
    };
    let first = init(
        &home(0),
        &InitOptions {
            cluster_name: options.cluster_name.clone(),
            node: settings(0),
            operator: "you".to_owned(),
            settings: options.settings,
            tickets: nodes - 1,
            ..InitOptions::default()
        },
    )?;
    for (index, ticket) in (1..).zip(&first.tickets) {
        prepare_join(&home(index), ticket.as_str(), &settings(index))?.keep();
    }
    Ok(DevCluster {
        configs: (0..nodes).map(|index| home(index).join(CONFIG_FILE)).collect(),
        addresses,
        client_identity: first.client_identity,
        cluster_id: first.cluster,
    })
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
