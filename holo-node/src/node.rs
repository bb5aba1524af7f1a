//! Composition: from a config to a node that answers.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::future::{OptionFuture, join};
use holo_core::catalog::CloseStage;
use holo_core::replication::ReplicaId;
use holo_core::wire::NodeLoad;
use holo_core::{ErrorCode, Failure, NodeId, Role};
use holo_gpu::GpuWorker;
use holo_net::{Endpoint, EndpointOptions, Identity};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::background::Background;
use crate::clock::Clock;
use crate::compute::Compute;
use crate::config::Config;
use crate::control::{Control, Phase};
use crate::data::{Arrays, DataPlane};
use crate::hold;
use crate::home::Home;
use crate::links::pause_for;
use crate::process;
use crate::service::NodeService;

/// How long a certificate of a connection is good for.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How long a GPU may take for one shard before its process is killed.
const GPU_WATCHDOG: Duration = Duration::from_secs(60);
/// How long a node that starts waits for another process to leave its port, and how often it looks. One that has left it
/// and holds the directory still writes down what its successor goes on from.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(20);
const PREDECESSOR_LOOK: Duration = Duration::from_millis(50);

/// How often idle memory is looked at.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);
/// Idle memory that is not worth giving back.
const IDLE_BYTES_KEPT: u64 = 64 << 20;

/// A running node.
#[derive(Debug)]
pub struct Node {
    endpoint: Endpoint,
    service: Arc<NodeService>,
    /// Outlives what runs on it.
    _background: Background,
    /// Dropped, and so ended, with the node.
    tasks: JoinSet<()>,
}

impl Node {
    /// Starts the node of a directory inside the current tokio runtime. It answers when this returns, and finds its
    /// place in its cluster by itself: it joins if it has a ticket, registers as soon as a majority of the catalog's
    /// voters answers, and then serves data. [`Self::ready`] waits for that.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::ConfigInvalid`] when the directory is no node's, [`ErrorCode::Conflict`] when another process runs it,
    /// [`ErrorCode::FileFailed`], also for files that the last process left and that are missing, [`ErrorCode::Corrupt`],
    /// and those of binding the port.
    pub async fn start(config: Config) -> Result<Self, Failure> {
        let clock = Clock::start();
        let file = config.home.join("node.identity");
        let identity = Identity::load(&file, CERTIFICATE_LIFETIME, clock.wall())?;
        if identity.role() != Role::Node {
            let message = format!("identity {}: it is of a {}", file.display(), identity.role());
            return Err(Failure::new(ErrorCode::ConfigInvalid, message));
        }
        await_predecessor(&config, &clock).await;
        if !config.temporary {
            hold::check_kept(&Home::at(&config.home))?;
        }
        let me = NodeId(identity.key());
        let name = config.name.clone();
        let mut options = EndpointOptions::new(config.listen, identity);
        options.suites_accepted.clone_from(&config.suites);
        options.suite_offered = config.suites.first().copied().unwrap_or(options.suite_offered);
        options.profile = config.profile;
        let background = Background::start()?;
        options.background = Some(background.handle().clone());
        let (memory_bytes, workers) = (config.memory_bytes, config.workers);
        let control = Control::new(me, config, clock.clone())?;
        control.open().await?;
        let compute = Arc::new(Compute::start(workers, gpu_worker()?, clock.clone())?);
        let service = Arc::new(NodeService {
            me,
            name,
            control: Arc::clone(&control),
            compute,
            clock,
            data: OnceLock::new(),
            endpoint: Mutex::new(None),
        });
        let endpoint =
            Endpoint::bind(options, Some(Arc::clone(&service) as Arc<dyn holo_net::Service>));
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(error) => {
                control.stop().await;
                control.leave_directory();
                return Err(error.into());
            }
        };
        *service.endpoint.lock() = Some(endpoint.clone());
        control.start(endpoint.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_trim(Arc::downgrade(&service)));
        tasks.spawn(begin_data(Arc::clone(&service), memory_bytes, background.handle().clone()));
        tracing::info!(name = %service.name, node = %me.short(), address = %endpoint.local_addr(), "node answers");
        Ok(Self { endpoint, service, _background: background, tasks })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.service.me
    }

    /// Waits until the node is a member in its present life.
    ///
    /// # Errors
    ///
    /// Why it never will be; [`ErrorCode::NotReady`] when it is not within `deadline`, with what it waits for.
    pub async fn ready(&self, deadline: Duration) -> Result<ReplicaId, Failure> {
        let mut phase = self.service.control.phase();
        let settled = phase
            .wait_for(|phase| matches!(phase, Phase::Ready(_) | Phase::Stopping | Phase::Over(_)));
        let settled = tokio::time::timeout(deadline, settled).await;
        match settled.map(|phase| phase.map(|phase| phase.clone())) {
            Ok(Ok(Phase::Ready(replica))) => Ok(replica),
            Ok(Ok(Phase::Over(failure))) => Err(failure),
            Ok(_) => Err(Failure::new(ErrorCode::ShuttingDown, "the node is stopping")),
            Err(_elapsed) => {
                Err(Failure::new(ErrorCode::NotReady, self.service.control.standing_text()))
            }
        }
    }

    /// Resolves when the node ends: because somebody asked it to through the network, or because it cannot go on, which
    /// is then said.
    pub async fn stopped(&self) -> Option<Failure> {
        let mut phase = self.service.control.phase();
        let over = phase.wait_for(|phase| matches!(phase, Phase::Stopping | Phase::Over(_))).await;
        match over.as_deref() {
            Ok(Phase::Over(failure)) => Some(failure.clone()),
            _ => None,
        }
    }

    /// Refuses new work, tells the peers, writes down what its next life may go on from, and ends.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::FileFailed`] and [`ErrorCode::OutOfCapacity`] when not everything could be written down: of the former
    /// others have copies. What nobody else has is waited for. Whoever drops this does not wait, and loses that.
    pub async fn shutdown(mut self) -> Result<(), Failure> {
        // Who was there while this node still took part.
        let heard = self.service.data.get().map(|data| data.heard()).unwrap_or_default();
        self.service.control.end(Phase::Stopping);
        self.tasks.shutdown().await;
        if let Some(data) = self.service.data.get() {
            data.stop();
        }
        self.service.control.stop().await;
        *self.service.endpoint.lock() = None;
        self.endpoint.close().await;
        self.leave_behind(&heard).await
    }

    /// Writes what this node held down for its next life: it may be all that is left, when others stop as well. Its peers
    /// know that it is gone: nobody waits for it. Dropping this ends it with the page that is being written.
    async fn leave_behind(&self, heard: &BTreeSet<ReplicaId>) -> Result<(), Failure> {
        let control = &self.service.control;
        let Some(data) = self.service.data.get() else { return Ok(()) };
        let me = data.me();
        // After a close of the cluster everything is on disk already; and whoever was put out or replaced has nothing that
        // counts.
        if control.close_stage(me) == CloseStage::Stop || control.to_resume(me).is_none() {
            return Ok(());
        }
        let Some(kept) = data.kept().cloned() else { return Ok(()) };
        let (groups, missing) = data.leave_behind(heard);
        let all = groups.len() + missing.len();
        if all == 0 {
            return Ok(());
        }
        tracing::info!(groups = all, "writes down what it held for when it starts again");
        let (count, bytes) = hold::leave(kept, me.incarnation, groups).await?;
        tracing::info!(groups = count, of = all, bytes, "kept for its next start");
        match missing.first() {
            None => Ok(()),
            Some(group) => {
                tracing::error!(groups = ?missing, "operations of these groups found no memory here before the end");
                let message = format!(
                    "not all that this node held is written down: no memory for {group} and {} more",
                    missing.len() - 1
                );
                Err(Failure::new(ErrorCode::OutOfCapacity, message))
            }
        }
    }
}

impl Drop for Node {
    /// Ends like a process that was killed, unless [`Node::shutdown`] was called.
    fn drop(&mut self) {
        if let Some(data) = self.service.data.get() {
            data.stop();
        }
        self.service.control.let_go();
        *self.service.endpoint.lock() = None;
        self.service.control.leave_directory();
    }
}

/// Waits for the process that ran this node before: one that was told to stop takes some seconds to take leave of its
/// peers. One that does not stop is an error later, as is a port that is somebody else's.
async fn await_predecessor(config: &Config, clock: &Clock) {
    let home = Home::at(&config.home);
    let is_locked = || home.lock().is_err_and(|failure| failure.code == ErrorCode::Conflict);
    let is_bound = || {
        UdpSocket::bind(config.listen)
            .is_err_and(|source| source.kind() == std::io::ErrorKind::AddrInUse)
    };
    if !is_locked() && !is_bound() {
        return;
    }
    tracing::info!(home = %config.home.display(), listen = %config.listen, "waits for another process to leave the directory or the port");
    let mut until = clock.now().after(PREDECESSOR_PATIENCE);
    loop {
        let (locked, bound) = (is_locked(), is_bound());
        if !locked && !bound {
            return;
        }
        let is_over = clock.now() >= until;
        if is_over && (bound || config.listen.port() == 0) {
            return;
        }
        if is_over {
            tracing::info!(home = %config.home.display(), "the process before still writes down what it held");
            until = clock.now().after(PREDECESSOR_PATIENCE);
        }
        pause_for(PREDECESSOR_LOOK).await;
    }
}

/// Starts the data plane when this process knows who it is, and then keeps what is on disk.
async fn begin_data(service: Arc<NodeService>, memory_bytes: u64, background: Handle) {
    match try_begin_data(&service, memory_bytes, background).await {
        Ok(Some(me)) => {
            let Some(data) = service.data.get().cloned() else { return };
            let control = Arc::clone(&service.control);
            drop(service);
            let resuming = data
                .kept()
                .cloned()
                .map(|kept| hold::resume(Arc::clone(&control), Arc::clone(&data), kept, me));
            join(hold::keep(control, data, me), OptionFuture::from(resuming)).await;
        }
        Ok(None) => {}
        Err(failure) => service.control.end(Phase::Over(failure)),
    }
}

async fn try_begin_data(
    service: &Arc<NodeService>,
    memory_bytes: u64,
    background: Handle,
) -> Result<Option<ReplicaId>, Failure> {
    let control = &service.control;
    let Some((me, view)) = control.registered().await else { return Ok(None) };
    let bits = u8::try_from(view.partitions().trailing_zeros()).unwrap_or(u8::MAX);
    let arrays = Arc::new(Arrays::new(bits, view, control.policy(), memory_bytes));
    let data = DataPlane::start(
        me,
        control.config.timers.replication.clone(),
        control.config_verifier()?,
        arrays,
        Arc::clone(control) as Arc<_>,
        service.clock.clone(),
        background,
    )?;
    if service.data.set(Arc::clone(&data)).is_err() {
        return Err(Failure::new(ErrorCode::Internal, "there is a data plane already"));
    }
    if let Some(cluster) = control.cluster_id().filter(|_| !control.config.temporary) {
        data.set_kept(hold::Kept::new(Home::at(&control.config.home), cluster, me.node)?);
    }
    let (data, clock) = (Arc::downgrade(&data), service.clock.clone());
    let of_load = Weak::clone(&data);
    let unreadable = Arc::downgrade(control);
    control.report_load(move || {
        let unreadable = unreadable.upgrade().map_or(0, |control| control.unreadable());
        let load = of_load.upgrade().map(|data| load(&data, &clock, unreadable));
        load.unwrap_or_default()
    });
    control.feed(move |news| {
        if let Some(data) = data.upgrade() {
            data.take_news(news);
        }
    });
    Ok(Some(me))
}

fn load(data: &DataPlane, clock: &Clock, unreadable: u64) -> NodeLoad {
    let (usage, load, process) = (data.arrays.usage(), data.load(), process::usage());
    NodeLoad {
        frame_bytes: usage.frame_bytes,
        frame_bytes_max: usage.frame_bytes_max,
        reserved_bytes: usage.reserved_bytes,
        reserved_bytes_max: usage.reserved_bytes_max,
        groups_primary: load.groups_primary,
        groups_backup: load.groups_backup,
        copies_out: load.copies_out,
        copied_bytes: load.copied_bytes,
        fetched_bytes: load.fetched_bytes,
        resident_bytes: process.resident_bytes,
        cpu_ms: process.cpu_ms,
        uptime_ms: clock.now().0 / 1_000_000,
        holds_unreadable: unreadable,
    }
}

/// Gives memory that nobody uses back to the system, a moment after it was freed.
async fn keep_trim(service: Weak<NodeService>) {
    loop {
        holo_catalog::rest(TRIM_INTERVAL).await;
        let Some(service) = service.upgrade() else { return };
        let Some(data) = service.data.get() else { continue };
        let usage = data.arrays.usage();
        if usage.resident_bytes.saturating_sub(usage.frame_bytes) > IDLE_BYTES_KEPT {
            let arrays = Arc::clone(&data.arrays);
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
