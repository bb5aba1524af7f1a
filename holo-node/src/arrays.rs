//! The arrays that this node knows, and the one way to change their bytes.
//!
//! A write goes through three steps: its bytes are staged into frames, a small operation is proposed to the
//! sequencer of the shard's group, and the operation is applied in the order that the sequencer gives it. With one
//! replica the three happen on the caller's thread; replication adds messages between the second and the third and
//! changes no caller.
//!
//! Reads take no queue: they look the shard up in a snapshot and copy under its page lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use bytes::Bytes;
use holo_core::group::{GroupSequencer, Input, Op, Output, PageSpan, StagingId, Ticket};
use holo_core::placement::Membership;
use holo_core::{
    Action, ArrayId, Authorized, DType, Epoch, ErrorCode, Failure, Instant, NodeId, PAGE_BYTES,
    PartitionId, Policy, PublicKey, ShardIndex, action, limits,
};
use holo_core::{ArrayDescriptor, Directory};
use holo_mem::{Shard, Staged, Store, StoreUsage};
use parking_lot::Mutex;

/// The member that serializes allocations and removals.
const DIRECTORY_INDEX: usize = 0;

/// Everything that a node holds of arrays.
#[derive(Debug)]
pub(crate) struct Arrays {
    membership: Arc<Membership>,
    me: usize,
    policy: Arc<Policy>,
    store: Store,
    /// The data path's view, read without a lock.
    known: ArcSwap<BTreeMap<ArrayId, Arc<KnownArray>>>,
    /// Names; its lock serializes installs and removals, so that all three views change together.
    directory: Mutex<Directory>,
    groups: BTreeMap<PartitionId, Mutex<Group>>,
    next_staging: AtomicU64,
}

/// One array as this node sees it.
#[derive(Debug)]
pub(crate) struct KnownArray {
    /// Its descriptor.
    pub(crate) descriptor: Arc<ArrayDescriptor>,
    /// This node restarted after the array was created: the shards that it held are gone.
    pub(crate) lost: bool,
}

/// Whether an array is new, or older than this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Birth {
    /// Created right now: its shards are zeros.
    New,
    /// Created before this node started: what it held is lost.
    Earlier,
}

impl<A: Action> Access<A> {
    /// The array.
    pub(crate) fn descriptor(&self) -> &ArrayDescriptor {
        &self.array.descriptor
    }

    /// Its element type.
    pub(crate) fn dtype(&self) -> DType {
        self.array.descriptor.layout.dtype()
    }
}

/// Proof that a change of arrays comes from the node that keeps the directory.
#[derive(Debug)]
pub(crate) struct DirectoryAuthority(());

#[derive(Debug)]
struct Group {
    sequencer: GroupSequencer,
    /// Bytes whose publishing operation has been proposed.
    staged: BTreeMap<StagingId, Staged>,
    next_ticket: u64,
}

/// An array that the caller was authorized for.
#[derive(Debug)]
pub(crate) struct Access<A> {
    /// The array.
    pub(crate) array: Arc<KnownArray>,
    authorized: Authorized<A>,
}

impl Arrays {
    /// No arrays yet; a sequencer for every partition that this node is the primary of.
    pub(crate) fn new(
        membership: Arc<Membership>,
        me: NodeId,
        policy: Arc<Policy>,
        memory_bytes: u64,
    ) -> Result<Self, Failure> {
        let me = membership.index_of(me).ok_or_else(|| {
            Failure::new(
                ErrorCode::ConfigInvalid,
                format!("this node, {}, is not among the members", me.short()),
            )
            .help("the member's `node` must be the public key of the identity file")
        })?;
        let mine = (0..membership.table().partitions()).map(PartitionId);
        let mine = mine.filter(|partition| membership.table().primary(*partition) == me);
        let groups = mine.map(|partition| (partition, Mutex::new(Group::new(partition)))).collect();
        Ok(Self {
            membership,
            me,
            policy,
            store: Store::new(memory_bytes),
            known: ArcSwap::default(),
            directory: Mutex::new(Directory::new()),
            groups,
            next_staging: AtomicU64::new(1),
        })
    }

    /// Checks that `key` may do `A` to the array with this id.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] alike for what does not exist and for what belongs to another tenant;
    /// [`ErrorCode::Denied`] and [`ErrorCode::Unauthenticated`] from the policy.
    pub(crate) fn access<A: Action>(
        &self,
        key: PublicKey,
        id: ArrayId,
    ) -> Result<Access<A>, Failure> {
        let tenant = self.policy.principal(key)?.tenant;
        let array =
            self.known.load().get(&id).filter(|array| array.descriptor.tenant == tenant).cloned();
        let array = array.ok_or_else(|| not_found(id))?;
        let authorized = self.policy.authorize::<A>(key, array.descriptor.name.as_str())?;
        Ok(Access { array, authorized })
    }

    /// The pages of one shard, for reading or running.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DataLost`], [`ErrorCode::OutOfRange`] past the last shard, [`ErrorCode::WrongNode`] when another
    /// node is its primary.
    pub(crate) fn shard<A>(
        &self,
        access: &Access<A>,
        index: ShardIndex,
    ) -> Result<Arc<Shard>, Failure> {
        let descriptor = &access.array.descriptor;
        if let Some(shard) = self.store.shard(descriptor.id, index) {
            return Ok(shard);
        }
        if index.0 >= descriptor.layout.shards() {
            let message = format!(
                "shard {index} of {}, which has {}",
                descriptor.name,
                descriptor.layout.shards()
            );
            return Err(Failure::new(ErrorCode::OutOfRange, message));
        }
        let (primary, member) = self.membership.primary_of(descriptor, index);
        if primary != self.me {
            let message =
                format!("shard {index} of {} lies on node {}", descriptor.name, member.name);
            return Err(
                Failure::new(ErrorCode::WrongNode, message).help("fetch the placement table again")
            );
        }
        let message = format!(
            "shard {index} of {} died with its only copy on node {}",
            descriptor.name, member.name
        );
        Err(Failure::new(ErrorCode::DataLost, message).help(
            "remove the array and fill it again; replicated arrays come with the next release",
        ))
    }

    /// Indexes of the shards of an array that this node is the primary of.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::DataLost`] when they were lost.
    pub(crate) fn held<A>(&self, access: &Access<A>) -> Result<Vec<ShardIndex>, Failure> {
        let descriptor = &access.array.descriptor;
        if access.array.lost && self.membership.shards_of(descriptor, self.me).next().is_some() {
            let message = format!("the shards of {} on this node died with it", descriptor.name);
            return Err(Failure::new(ErrorCode::DataLost, message)
                .help("remove the array and fill it again"));
        }
        Ok(self.store.array_shards(descriptor.id).into_iter().map(|(index, _)| index).collect())
    }

    /// Reserves fresh frames for `len` bytes from `offset` of a shard.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfCapacity`] with the numbers, [`ErrorCode::OutOfRange`], and those of [`Self::shard`].
    pub(crate) fn stage(
        &self,
        access: &Access<action::Write>,
        shard: ShardIndex,
        offset: u64,
        len: u64,
    ) -> Result<Staged, Failure> {
        Ok(self.shard(access, shard)?.stage(offset, len)?)
    }

    /// Makes staged bytes the content of the shard, in one step.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Overloaded`] when the group's queue is full, [`ErrorCode::WrongNode`] for an old epoch,
    /// [`ErrorCode::NotFound`] when the array was removed meanwhile.
    pub(crate) fn publish(
        &self,
        access: &Access<action::Write>,
        shard: ShardIndex,
        epoch: Epoch,
        now: Instant,
        staged: Staged,
    ) -> Result<(), Failure> {
        let staging = StagingId(self.next_staging.fetch_add(1, Ordering::Relaxed));
        let (offset, len) = (staged.offset(), staged.len());
        let Some(pages) = PageSpan::of_bytes(offset, len) else { return Ok(()) };
        let op =
            Op::Publish { array: access.array.descriptor.id, shard, staging, pages, offset, len };
        self.propose(access, shard, epoch, now, op, Some(staged))
    }

    /// Writes a few bytes.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`], and [`ErrorCode::OutOfRange`] when the bytes leave the shard.
    pub(crate) fn write(
        &self,
        access: &Access<action::Write>,
        shard: ShardIndex,
        epoch: Epoch,
        now: Instant,
        (offset, bytes): (u64, Bytes),
    ) -> Result<(), Failure> {
        let pages = self.shard(access, shard)?;
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > pages.bytes()) {
            let message =
                format!("{} bytes at {offset} of a shard of {}", bytes.len(), pages.bytes());
            return Err(Failure::new(ErrorCode::OutOfRange, message));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() > limits::OP_BYTES_MAX {
            let mut staged = self.stage(access, shard, offset, bytes.len() as u64)?;
            let mut rest = bytes.as_ref();
            for buffer in staged.buffers() {
                let (part, tail) = rest.split_at(buffer.len());
                buffer.copy_from_slice(part);
                rest = tail;
            }
            return self.publish(access, shard, epoch, now, staged);
        }
        let op = Op::Write { array: access.array.descriptor.id, shard, offset, bytes };
        self.propose(access, shard, epoch, now, op, None)
    }

    /// Learns of an array and reserves memory for the shards that this node is the primary of.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfCapacity`] with the numbers; then nothing has changed.
    pub(crate) fn install(
        &self,
        _authority: &DirectoryAuthority,
        descriptor: ArrayDescriptor,
        birth: Birth,
    ) -> Result<(), Failure> {
        let mut directory = self.directory.lock();
        if self.known.load().contains_key(&descriptor.id) {
            return Ok(());
        }
        if birth == Birth::New {
            let shards = self.shards_within_budget(&descriptor);
            self.store.install(
                descriptor.tenant,
                descriptor.id,
                &descriptor.layout,
                shards.into_iter(),
            )?;
        }
        let added = match birth {
            Birth::New => directory.install(descriptor.clone()),
            Birth::Earlier => directory.install_earlier(descriptor.clone()),
        };
        if let Err(taken) = added {
            self.store.remove(descriptor.id);
            return Err(taken);
        }
        let id = descriptor.id;
        let array = Arc::new(KnownArray {
            descriptor: Arc::new(descriptor),
            lost: birth == Birth::Earlier,
        });
        let mut next = BTreeMap::clone(&self.known.load());
        next.insert(id, array);
        self.known.store(Arc::new(next));
        Ok(())
    }

    /// Forgets an array and gives its memory back. What is not known is no error.
    pub(crate) fn forget(&self, _authority: &DirectoryAuthority, id: ArrayId) {
        let mut directory = self.directory.lock();
        let mut next = BTreeMap::clone(&self.known.load());
        let Some(removed) = next.remove(&id) else { return };
        // Both views hold the same arrays: what was known here has its name there.
        let _descriptor = directory.forget(removed.descriptor.tenant, id);
        self.known.store(Arc::new(next));
        self.store.remove(id);
    }

    /// Descriptors of all tenants' arrays, by id.
    pub(crate) fn all(&self) -> Vec<Arc<ArrayDescriptor>> {
        self.known.load().values().map(|array| Arc::clone(&array.descriptor)).collect()
    }

    /// Gives no new array an id below `next`.
    pub(crate) fn raise_next_id(&self, next: ArrayId) {
        self.directory.lock().raise_next_id(next);
    }

    /// Asks the directory: names, ids, lists.
    pub(crate) fn directory<T>(&self, ask: impl FnOnce(&Directory) -> T) -> T {
        ask(&self.directory.lock())
    }

    /// Who may do what.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Index of this node among the members.
    pub(crate) fn index(&self) -> usize {
        self.me
    }

    /// The authority over arrays of the node that keeps the directory, which has to be this one.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::WrongNode`], naming the one that does.
    pub(crate) fn own_authority(&self) -> Result<DirectoryAuthority, Failure> {
        match self.membership.members().first() {
            Some(_) if self.me == DIRECTORY_INDEX => Ok(DirectoryAuthority(())),
            first => {
                let name = first.map_or("?", |member| member.name.as_str());
                Err(Failure::new(ErrorCode::WrongNode, format!("node {name} keeps the directory")))
            }
        }
    }

    /// The authority over arrays of the member with this key, which has to be the one that keeps the directory.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] for any other member, and for clients.
    pub(crate) fn authority_of(&self, key: PublicKey) -> Result<DirectoryAuthority, Failure> {
        let may = self.policy.authorize::<action::Member>(key, "directory")?;
        match self.membership.members().get(DIRECTORY_INDEX) {
            Some(member) if member.node.0 == may.principal() => Ok(DirectoryAuthority(())),
            _ => {
                let message = format!("{} does not keep the directory", key.short());
                Err(Failure::new(ErrorCode::Denied, message))
            }
        }
    }

    /// Gives idle memory back to the system. Blocks: call it on a worker.
    pub(crate) fn trim(&self) {
        self.store.trim();
    }

    /// Memory in use.
    pub(crate) fn usage(&self) -> StoreUsage {
        self.store.usage()
    }

    /// Partitions that this node is the primary of.
    pub(crate) fn partitions(&self) -> usize {
        self.groups.len()
    }

    /// The shards of an array that lie here, but not many more than the budget could ever hold: an array may have
    /// 2^31 shards, and then the answer is clear long before the last one.
    fn shards_within_budget(&self, descriptor: &ArrayDescriptor) -> Vec<ShardIndex> {
        let budget = self.store.usage().frame_bytes_max;
        let mut wanted = 0u64;
        if self.groups.is_empty() {
            // A member without partitions would look at every one of 2^31 shards to find none.
            return Vec::new();
        }
        let held = self.membership.shards_of(descriptor, self.me);
        let within = held.take_while(|shard| {
            let within = wanted <= budget;
            wanted += descriptor.layout.bytes_in_shard(*shard).next_multiple_of(PAGE_BYTES as u64);
            within
        });
        within.collect()
    }

    fn propose(
        &self,
        access: &Access<action::Write>,
        shard: ShardIndex,
        epoch: Epoch,
        now: Instant,
        op: Op,
        staged: Option<Staged>,
    ) -> Result<(), Failure> {
        debug_assert_eq!(
            access.authorized.tenant(),
            access.array.descriptor.tenant,
            "checked in `access`"
        );
        let partition = self.membership.partition_of(&access.array.descriptor, shard);
        let group = self.groups.get(&partition).ok_or_else(|| {
            Failure::new(
                ErrorCode::WrongNode,
                format!("partition {partition} has its primary elsewhere"),
            )
        })?;
        let mut group = group.lock();
        group.propose(&self.store, epoch, now, op, staged)
    }
}

impl Group {
    fn new(partition: PartitionId) -> Self {
        Self {
            sequencer: GroupSequencer::new(partition, Epoch(1)),
            staged: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    /// Drives the sequencer until the proposed operation has its outcome.
    fn propose(
        &mut self,
        store: &Store,
        epoch: Epoch,
        now: Instant,
        op: Op,
        staged: Option<Staged>,
    ) -> Result<(), Failure> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        if let (Op::Publish { staging, .. }, Some(staged)) = (&op, staged) {
            self.staged.insert(*staging, staged);
        }
        let staging = match op {
            Op::Publish { staging, .. } => Some(staging),
            Op::Write { .. } | Op::Update { .. } | Op::Fill { .. } => None,
        };
        let epoch = if epoch == Epoch(0) { self.sequencer.epoch() } else { epoch };
        let mut answer = self.sequencer.handle_input(now, Input::Propose { ticket, epoch, op });
        while let Some(output) = self.sequencer.poll_output() {
            match output {
                Output::Apply { seq, op } => {
                    let outcome = self.apply(store, &op);
                    self.sequencer.handle_input(now, Input::Applied { seq, outcome })?;
                }
                Output::Reply { ticket: of, outcome } if of == ticket => answer = outcome,
                Output::Reply { .. } => {}
            }
        }
        if let Some(staging) = staging {
            // Still there only when the proposal was refused.
            self.staged.remove(&staging);
        }
        answer
    }

    fn apply(&mut self, store: &Store, op: &Op) -> Result<(), Failure> {
        let pages = |array: ArrayId, shard: ShardIndex| {
            store.shard(array, shard).ok_or_else(|| not_found(array))
        };
        match op {
            Op::Publish { array, shard, staging, .. } => {
                let staged = self.staged.remove(staging);
                let staged = staged
                    .ok_or_else(|| Failure::new(ErrorCode::Internal, "staged bytes are gone"))?;
                Ok(pages(*array, *shard)?.publish(staged)?)
            }
            Op::Write { array, shard, offset, bytes } => {
                Ok(pages(*array, *shard)?.write(*offset, bytes)?)
            }
            Op::Update { .. } | Op::Fill { .. } => {
                Err(Failure::new(ErrorCode::NotYet, "this node does not apply updates and fills"))
            }
        }
    }
}

fn not_found(id: ArrayId) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("array #{id}: not found")).help("see `holo array ls`")
}
