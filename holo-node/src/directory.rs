//! Drives the directory of arrays: the member with index 0 serializes allocations and removals, and every member
//! knows every array.
//!
//! The replicated catalog takes this role over. Until then an allocation needs every member, and says so when one is
//! missing. When the directory node restarts it learns the arrays back from the others; what any restarted node held
//! is reported as lost, never as zeros.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use holo_core::ArrayDescriptor;
use holo_core::wire::{
    Allocate, ArrayInfo, ArrayInstall, ArrayList, ArrayRef, Decode, Empty, Kind,
};
use holo_core::{ArrayId, Epoch, Failure, PartitionId, PublicKey, action};
use holo_net::{Connection, Request};
use prost::Message;
use tokio::sync::Mutex;

use crate::arrays::{Arrays, Birth};
use crate::clock::Clock;
use crate::links::Links;

/// How long a member may take to install or forget an array.
const MEMBER_DEADLINE: Duration = Duration::from_secs(10);

/// How long an allocation waits for a member that is just starting.
const LINK_PATIENCE: Duration = Duration::from_secs(2);

/// The driver of the directory. Only the node with index 0 changes anything through it.
#[derive(Debug)]
pub(crate) struct DirectoryDriver {
    arrays: Arc<Arrays>,
    links: Arc<Links>,
    secret: [u8; 32],
    clock: Clock,
    /// Arrays removed since this process started: a member that missed the removal does not bring them back. Held
    /// locked through every change, so that changes come one after another.
    removed: Mutex<BTreeSet<ArrayId>>,
}

impl DirectoryDriver {
    /// An empty directory.
    pub(crate) fn new(
        arrays: Arc<Arrays>,
        links: Arc<Links>,
        secret: [u8; 32],
        clock: Clock,
    ) -> Self {
        Self { arrays, links, secret, clock, removed: Mutex::default() }
    }

    /// Creates an array on every member, or on none.
    ///
    /// # Errors
    ///
    /// Those of planning it; [`ErrorCode::OutOfCapacity`] of the member that is short;
    /// [`ErrorCode::Unreachable`] when a member is away; [`ErrorCode::WrongNode`] on any other node.
    pub(crate) async fn allocate(
        &self,
        key: PublicKey,
        request: Allocate,
    ) -> Result<ArrayInfo, Failure> {
        let authority = self.arrays.own_authority()?;
        let may = self.arrays.policy().authorize::<action::Allocate>(key, &request.name)?;
        // Before the lock: a link opens only after its greeting, which takes the lock, too.
        let waiting = self.links.dialed().map(|index| self.links.link_within(index, LINK_PATIENCE));
        let links = join_all(waiting).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut removed = self.removed.lock().await;
        let (now, secret) = (self.clock.wall(), &self.secret);
        let may_read = self.arrays.policy().authorize::<action::Read>(key, &request.like).ok();
        let descriptor = self.arrays.directory(|known| {
            known.plan_allocate(&may, may_read.as_ref(), &request, now, secret)
        })?;
        let info = ArrayInfo::from(&descriptor);
        let id = descriptor.id;
        self.arrays.install(&authority, descriptor, Birth::New)?;
        let install = ArrayInstall { array: Some(info.clone()), earlier: false };
        for (installed, link) in links.iter().enumerate() {
            if let Err(failure) = call(link, Kind::ArrayInstall, &install).await {
                // Including the one that failed: it may have installed it before its answer was lost.
                for link in links.iter().take(installed + 1) {
                    self.forget_at(link, id).await;
                }
                self.arrays.forget(&authority, id);
                removed.insert(id);
                return Err(failure);
            }
        }
        Ok(info)
    }

    /// Removes an array from every member.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`], [`ErrorCode::Denied`], [`ErrorCode::WrongNode`] on any other node. A member that is away
    /// forgets it when it is back.
    pub(crate) async fn remove(&self, key: PublicKey, request: ArrayRef) -> Result<(), Failure> {
        let authority = self.arrays.own_authority()?;
        let tenant = self.arrays.policy().principal(key)?.tenant;
        let mut removed = self.removed.lock().await;
        let found = self.arrays.directory(|known| known.find(tenant, &request).cloned())?;
        let (id, name) = (found.id, found.name);
        let _may = self.arrays.policy().authorize::<action::Free>(key, name.as_str())?;
        removed.insert(id);
        self.arrays.forget(&authority, id);
        for index in self.links.dialed() {
            if let Ok(link) = self.links.link(index) {
                self.forget_at(&link, id).await;
            }
        }
        Ok(())
    }

    /// Brings the directory and a member that has just connected to the same view.
    ///
    /// # Errors
    ///
    /// Those of the calls: the link is then not used.
    pub(crate) async fn greet(&self, link: Connection) -> Result<(), Failure> {
        // On every other node a link is for traffic between members, and there is nothing to agree on.
        let Ok(authority) = self.arrays.own_authority() else { return Ok(()) };
        let removed = self.removed.lock().await;
        let theirs = ArrayList::decode_body(&call(&link, Kind::ArrayList, &Empty {}).await?)?;
        self.arrays.raise_next_id(ArrayId(theirs.next_id));
        let mut held = BTreeSet::new();
        for info in theirs.arrays {
            let descriptor = ArrayDescriptor::try_from(info)?;
            held.insert(descriptor.id);
            if removed.contains(&descriptor.id) {
                self.forget_at(&link, descriptor.id).await;
            } else {
                // Unknown here: this process started after the array was made, and what it held of it is gone.
                self.arrays.install(&authority, descriptor, Birth::Earlier)?;
            }
        }
        for known in self.arrays.all() {
            if !held.contains(&known.id) {
                let array = Some(ArrayInfo::from(&*known));
                call(&link, Kind::ArrayInstall, &ArrayInstall { array, earlier: true }).await?;
            }
        }
        drop(removed);
        Ok(())
    }

    async fn forget_at(&self, link: &Connection, id: ArrayId) {
        let request = ArrayRef { name: String::new(), id: id.0 };
        if let Err(failure) = call(link, Kind::ArrayForget, &request).await {
            tracing::warn!(peer = %link.peer().key.short(), array = %id, code = %failure.code, "forget not confirmed");
            // The greeting of the next link brings both to the same view.
            link.close(failure.code, "forget not confirmed");
        }
    }
}

/// What the caller may read, by name; everything for a member.
pub(crate) fn visible(arrays: &Arrays, key: PublicKey) -> Result<ArrayList, Failure> {
    let policy = arrays.policy();
    let tenant = policy.principal(key)?.tenant;
    if policy.authorize::<action::Member>(key, "directory").is_ok() {
        let next_id = arrays.directory(|known| known.next_id().0);
        let all = arrays.all().iter().map(|known| ArrayInfo::from(&**known)).collect();
        return Ok(ArrayList { arrays: all, next_id });
    }
    let may_read = |known: &&ArrayDescriptor| {
        policy.authorize::<action::Read>(key, known.name.as_str()).is_ok()
    };
    let arrays = arrays
        .directory(|known| known.list(tenant).filter(may_read).map(ArrayInfo::from).collect());
    // How many arrays other tenants have had is nobody's business.
    Ok(ArrayList { arrays, next_id: 0 })
}

/// The descriptor that a reference names, for a caller who may read it.
///
/// # Errors
///
/// [`ErrorCode::NotFound`] alike for nothing and for another tenant's array.
pub(crate) fn lookup(
    arrays: &Arrays,
    key: PublicKey,
    reference: &ArrayRef,
) -> Result<ArrayInfo, Failure> {
    let tenant = arrays.policy().principal(key)?.tenant;
    let found = arrays.directory(|known| known.find(tenant, reference).cloned())?;
    let _may = arrays.policy().authorize::<action::Read>(key, found.name.as_str())?;
    Ok(ArrayInfo::from(&found))
}

async fn call(link: &Connection, kind: Kind, body: &impl Message) -> Result<Bytes, Failure> {
    let body = Bytes::from(body.encode_to_vec());
    let request = Request {
        kind,
        partition: PartitionId(0),
        epoch: Epoch(0),
        deadline: MEMBER_DEADLINE,
        body,
    };
    link.call(request).await
}
