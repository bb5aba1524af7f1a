//! Composition: from a config to a node that answers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holo_core::{ErrorCode, Failure, NodeId, Role};
use holo_gpu::GpuWorker;
use holo_net::{Endpoint, EndpointOptions, Identity};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::arrays::Arrays;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::config::Config;
use crate::directory::DirectoryDriver;
use crate::links::Links;
use crate::service::NodeService;

/// How long a certificate of a connection is good for.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a GPU may take for one shard before its process is killed.
const GPU_WATCHDOG: Duration = Duration::from_secs(60);

/// How often idle memory is looked at.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);
/// Idle memory that is not worth giving back.
const IDLE_BYTES_KEPT: u64 = 64 << 20;

/// A running node.
#[derive(Debug)]
pub struct Node {
    endpoint: Endpoint,
    service: Arc<NodeService>,
    /// Link keepers; dropped, and so ended, with the node.
    tasks: JoinSet<()>,
}

impl Node {
    /// Starts the node inside the current tokio runtime. It answers when this returns; links to the other members open
    /// as they come up.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] when the identity does not fit the config, [`ErrorCode::FileFailed`], and those of
    /// binding the port.
    pub fn start(config: Config) -> Result<Self, Failure> {
        let clock = Clock::start();
        let identity = Identity::load(&config.identity, CERTIFICATE_LIFETIME, clock.wall())?;
        check_identity(&config, &identity)?;
        let me = NodeId(identity.key());
        let membership = Arc::new(config.membership()?);
        let policy = Arc::new(config.policy());
        let arrays =
            Arc::new(Arrays::new(Arc::clone(&membership), me, policy, config.memory_bytes)?);
        let links = Arc::new(Links::new(Arc::clone(&membership), arrays.index()));
        let compute = Arc::new(Compute::start(config.workers, gpu_worker()?, clock.clone())?);
        let secret = config.cluster_secret()?;
        let directory = Arc::new(DirectoryDriver::new(
            Arc::clone(&arrays),
            Arc::clone(&links),
            secret,
            clock.clone(),
        ));
        let service = Arc::new(NodeService {
            me,
            name: config.name.clone(),
            membership,
            arrays,
            compute,
            directory,
            clock,
            endpoint: Mutex::new(None),
            stop: watch::Sender::new(false),
        });
        let mut options = EndpointOptions::new(config.listen, identity);
        options.suites_accepted.clone_from(&config.suites);
        options.suite_offered = config.suites.first().copied().unwrap_or(options.suite_offered);
        options.profile = config.profile;
        let endpoint =
            Endpoint::bind(options, Some(Arc::clone(&service) as Arc<dyn holo_net::Service>))?;
        *service.endpoint.lock() = Some(endpoint.clone());
        let mut tasks = keep_links(&endpoint, &links, &service.directory);
        tasks.spawn(keep_trim(Arc::clone(&service)));
        tracing::info!(name = %service.name, node = %me.short(), address = %endpoint.local_addr(), "node ready");
        Ok(Self { endpoint, service, tasks })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.service.me
    }

    /// Resolves when somebody asked it to stop through the network.
    pub async fn stopped(&self) {
        let mut stop = self.service.stop.subscribe();
        // The sender lives as long as the service, which we hold.
        let _stopping = stop.wait_for(|stop| *stop).await;
    }

    /// Refuses new work, tells the peers and ends.
    pub async fn shutdown(mut self) {
        self.service.stop.send_replace(true);
        self.tasks.shutdown().await;
        *self.service.endpoint.lock() = None;
        self.endpoint.close().await;
    }
}

fn check_identity(config: &Config, identity: &Identity) -> Result<(), Failure> {
    let refuse = |why: String| {
        let message = format!("identity {}: {why}", config.identity.display());
        Err(Failure::new(ErrorCode::ConfigInvalid, message))
    };
    if identity.role() != Role::Node {
        return refuse(format!("it is of a {}, a node's is needed", identity.role()));
    }
    if identity.cluster() != config.cluster_id {
        return refuse(format!("it belongs to cluster {}", identity.cluster().short()));
    }
    Ok(())
}

/// Gives memory that nobody uses back to the system, a moment after it was freed.
async fn keep_trim(service: Arc<NodeService>) {
    let mut ticks = tokio::time::interval(TRIM_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let usage = service.arrays.usage();
        if usage.resident_bytes.saturating_sub(usage.frame_bytes) > IDLE_BYTES_KEPT {
            let arrays = Arc::clone(&service.arrays);
            // When every worker is busy, memory is about to be used again: the next tick asks anew.
            let _busy = service.compute.workers.submit(move || arrays.trim());
        }
    }
}

/// The GPU worker is this very program, started again.
fn gpu_worker() -> Result<GpuWorker, Failure> {
    let executable: PathBuf = std::env::current_exe().map_err(|source| {
        Failure::new(ErrorCode::Internal, format!("cannot tell this program's path: {source}"))
    })?;
    Ok(GpuWorker::new(executable, vec!["gpu-worker".into()], GPU_WATCHDOG))
}

fn keep_links(
    endpoint: &Endpoint,
    links: &Arc<Links>,
    directory: &Arc<DirectoryDriver>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for index in links.dialed() {
        let (endpoint, links, directory) =
            (endpoint.clone(), Arc::clone(links), Arc::clone(directory));
        tasks.spawn(async move {
            let greet = |link| {
                let directory = Arc::clone(&directory);
                async move { directory.greet(link).await }
            };
            links.keep(endpoint, index, greet).await;
        });
    }
    tasks
}
