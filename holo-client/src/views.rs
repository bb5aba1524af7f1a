//! The view of the cluster that all calls share, and where it sends their requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holo_core::placement::ClusterView;
use holo_core::wire::ViewBody;
use holo_core::{ArrayDescriptor, ErrorCode, Failure, Member, NodeId, PartitionId, ShardIndex};
use tokio::sync::watch;

/// Who has to answer a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// One node.
    Node(NodeId),
    /// The primary of a shard.
    Shard(&'a ArrayDescriptor, ShardIndex),
}

/// Where a request goes, under the view of one version.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) partition: PartitionId,
}

/// The newest view that anybody told us.
#[derive(Debug)]
pub(crate) struct Views {
    newest: watch::Sender<Arc<ClusterView>>,
    /// One asks for all who need a newer view. When the last one had an answer.
    asking: tokio::sync::Mutex<Option<tokio::time::Instant>>,
    asked: AtomicU64,
}

/// An answer that is not older than this is as good as a new one: thousands of requests may wait for the same takeover.
const FRESH: Duration = Duration::from_millis(20);

impl Views {
    pub(crate) fn new(view: ClusterView) -> Self {
        let newest = watch::Sender::new(Arc::new(view));
        Self { newest, asking: tokio::sync::Mutex::default(), asked: AtomicU64::new(0) }
    }

    pub(crate) fn newest(&self) -> Arc<ClusterView> {
        Arc::clone(&self.newest.borrow())
    }

    /// Hears of every newer view from here on.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.newest.subscribe()
    }

    /// Takes a view when it is newer than ours; says whether it was.
    pub(crate) fn adopt(&self, view: ClusterView) -> bool {
        self.newest.send_if_modified(|newest| {
            let newer = view.version() > newest.version();
            if newer {
                *newest = Arc::new(view);
            }
            newer
        })
    }

    /// Takes an answer to a question for a view; says whether it was a newer one.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`].
    pub(crate) fn take(&self, body: &ViewBody) -> Result<bool, Failure> {
        Ok(!body.unchanged && self.adopt(ClusterView::from_body(body)?))
    }

    /// How often somebody has asked for a newer view.
    pub(crate) fn turn(&self) -> usize {
        usize::try_from(self.asked.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// Runs `ask` unless somebody else has just asked, and waits for whoever asks.
    pub(crate) async fn once<F>(&self, ask: impl FnOnce() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let before = self.asked.load(Ordering::Acquire);
        let mut answered = self.asking.lock().await;
        let is_fresh = answered.is_some_and(|answered| answered.elapsed() < FRESH);
        if is_fresh || self.asked.load(Ordering::Acquire) != before {
            return Ok(());
        }
        let outcome = ask().await;
        self.asked.fetch_add(1, Ordering::Release);
        *answered = outcome.is_ok().then(tokio::time::Instant::now);
        outcome
    }
}

impl Route {
    /// Where a request to `target` goes.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] for no member, and those of [`ClusterView::primary_of`].
    pub(crate) fn find(view: &ClusterView, target: Target<'_>) -> Result<Self, Failure> {
        match target {
            Target::Node(node) => {
                let member = view.member(node).ok_or_else(|| {
                    Failure::new(ErrorCode::NotFound, format!("node {} is no member", node.short()))
                })?;
                Ok(Self::to(member))
            }
            Target::Shard(array, shard) => {
                let (_, member) = view.primary_of(array, shard)?;
                Ok(Self { partition: view.partition_of(array, shard), ..Self::to(member) })
            }
        }
    }

    pub(crate) fn to(member: &Member) -> Self {
        Self {
            node: member.node,
            name: member.name.clone(),
            address: member.address.clone(),
            partition: PartitionId(0),
        }
    }

    /// Whether a request that went this way would go another way under `view`.
    pub(crate) fn has_moved(&self, view: &ClusterView, target: Target<'_>) -> bool {
        let member = match target {
            Target::Node(node) => view.member(node),
            Target::Shard(array, shard) => {
                view.primary_of(array, shard).ok().map(|(_, member)| member)
            }
        };
        member.is_none_or(|member| member.node != self.node || member.address != self.address)
    }
}
