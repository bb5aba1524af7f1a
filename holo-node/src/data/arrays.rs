//! The arrays that this node knows, the shards of them that it holds, and how they are read.
//!
//! Reads take no queue and no lock of the replication machine: they look the shard up in a snapshot, pass the
//! group's gate, copy handles or bytes, and pass the gate again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use holo_core::placement::{ClusterView, partition_of};
use holo_core::replication::GroupId;
use holo_core::{
    Action, ArrayDescriptor, ArrayId, Authorized, DType, ErrorCode, Failure, Instant, PartitionId,
    Policy, PublicKey, ShardIndex, action,
};
use holo_mem::{Shard, Staged, Store, StoreUsage};
use parking_lot::Mutex;

use super::gates::{Gate, Gates, not_primary};

/// Everything that a node holds of arrays.
#[derive(Debug)]
pub(crate) struct Arrays {
    partition_bits: u8,
    policy: ArcSwap<Policy>,
    view: ArcSwap<ClusterView>,
    store: Store,
    pub(super) gates: Gates,
    /// Read by the data path without a lock.
    known: ArcSwap<BTreeMap<ArrayId, Arc<KnownArray>>>,
    /// Serializes changes of `known` with those of the store.
    changing: Mutex<()>,
    /// No array with an id from here on has been heard of.
    next_id: AtomicU64,
}

/// One array as this node sees it.
#[derive(Debug)]
pub(crate) struct KnownArray {
    /// Its descriptor.
    pub(crate) descriptor: Arc<ArrayDescriptor>,
    /// Its shards by the partition that they fall into.
    shards: BTreeMap<PartitionId, Vec<ShardIndex>>,
}

/// An array that the caller was authorized for.
#[derive(Debug)]
pub(crate) struct Access<A> {
    /// The array.
    array: Arc<KnownArray>,
    authorized: Authorized<A>,
}

impl<A: Action> Access<A> {
    /// The array.
    pub(crate) fn descriptor(&self) -> &ArrayDescriptor {
        debug_assert_eq!(self.authorized.tenant(), self.array.descriptor.tenant, "by `access`");
        &self.array.descriptor
    }

    /// Its element type.
    pub(crate) fn dtype(&self) -> DType {
        self.array.descriptor.layout.dtype()
    }
}

impl Arrays {
    /// No arrays yet.
    pub(crate) fn new(
        partition_bits: u8,
        view: Arc<ClusterView>,
        policy: Arc<Policy>,
        memory_bytes: u64,
    ) -> Self {
        Self {
            partition_bits,
            policy: ArcSwap::new(policy),
            view: ArcSwap::new(view),
            store: Store::new(memory_bytes),
            gates: Gates::default(),
            known: ArcSwap::default(),
            changing: Mutex::new(()),
            next_id: AtomicU64::new(1),
        }
    }

    /// Checks that `key` may do `A` to the array with this id.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] alike for what does not exist and for what belongs to another tenant;
    /// [`ErrorCode::NotReady`] for what is so new that this node has not heard of it;
    /// [`ErrorCode::Denied`] and [`ErrorCode::Unauthenticated`] from the policy.
    pub(crate) fn access<A: Action>(
        &self,
        key: PublicKey,
        id: ArrayId,
    ) -> Result<Access<A>, Failure> {
        let policy = self.policy.load();
        let tenant = policy.principal(key)?.tenant;
        // Asked before we look: what was heard of by then is found, or was removed.
        let heard = self.has_heard_of(id);
        let array =
            self.known.load().get(&id).filter(|array| array.descriptor.tenant == tenant).cloned();
        let array = array.ok_or_else(|| match heard {
            true => not_found(id),
            false => not_heard_of(id),
        })?;
        let authorized = policy.authorize::<A>(key, array.descriptor.name.as_str())?;
        Ok(Access { array, authorized })
    }

    /// Reads one shard with `read`, which copies bytes or handles and may run more than once.
    ///
    /// # Errors
    ///
    /// Those of `read`; [`ErrorCode::OutOfRange`] past the last shard, [`ErrorCode::WrongNode`] when another node is
    /// its primary, [`ErrorCode::NotReady`] while the replicas have not confirmed this one, [`ErrorCode::DataLost`].
    pub(crate) fn read<A: Action, T>(
        &self,
        access: &Access<A>,
        index: ShardIndex,
        now: impl Fn() -> Instant,
        read: impl FnOnce(&Shard) -> Result<T, holo_mem::MemError>,
    ) -> Result<T, Failure> {
        let (group, gate) = self.gate(access.descriptor(), index)?;
        let entered = gate.enter(now()).map_err(|failure| name_group(failure, group))?;
        let shard = self.shard(access.descriptor(), index)?;
        let value = read(&shard)?;
        gate.leave(entered, now()).map_err(|failure| name_group(failure, group))?;
        Ok(value)
    }

    /// Reserves fresh frames for `len` bytes from `offset` of a shard that this node is the primary of.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfCapacity`] with the numbers, [`ErrorCode::OutOfRange`], [`ErrorCode::WrongNode`].
    pub(crate) fn stage(
        &self,
        access: &Access<action::Write>,
        index: ShardIndex,
        offset: u64,
        len: u64,
    ) -> Result<Staged, Failure> {
        Ok(self.writable(access, index)?.1.stage(offset, len)?)
    }

    /// The group and pages of a shard that this node is the primary of.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OutOfRange`] past the last shard, [`ErrorCode::WrongNode`], [`ErrorCode::DataLost`].
    pub(crate) fn writable(
        &self,
        access: &Access<action::Write>,
        index: ShardIndex,
    ) -> Result<(GroupId, Arc<Shard>), Failure> {
        let (group, gate) = self.gate(access.descriptor(), index)?;
        if !gate.is_primary() {
            return Err(name_group(not_primary(), group));
        }
        Ok((group, self.shard(access.descriptor(), index)?))
    }

    /// Indexes of the shards of an array that this node is the primary of, in order.
    pub(crate) fn led<A: Action>(&self, access: &Access<A>) -> Vec<ShardIndex> {
        let class = access.descriptor().class();
        let led = access.array.shards.iter().filter(|(partition, _)| {
            let gate = self.gates.find(GroupId { partition: **partition, class });
            gate.is_some_and(|gate| gate.is_primary())
        });
        let mut shards: Vec<ShardIndex> = led.flat_map(|(_, shards)| shards).copied().collect();
        shards.sort_unstable();
        shards
    }

    /// Whether this node is the primary of a shard.
    pub(crate) fn leads<A: Action>(&self, access: &Access<A>, index: ShardIndex) -> bool {
        self.gate(access.descriptor(), index).is_ok_and(|(_, gate)| gate.is_primary())
    }

    /// Who may do what.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Gives idle memory back to the system. Blocks: call it on a worker.
    pub(crate) fn trim(&self) {
        self.store.trim();
    }

    /// Memory in use.
    pub(crate) fn usage(&self) -> StoreUsage {
        self.store.usage()
    }

    /// Takes over a new policy.
    pub(super) fn set_policy(&self, policy: Arc<Policy>) {
        self.policy.store(policy);
    }

    /// Takes over a new view.
    pub(super) fn set_view(&self, view: Arc<ClusterView>) {
        self.view.store(view);
    }

    /// What there is to know of an array, which takes time for one of many shards; `None` when it is known.
    pub(super) fn prepare(&self, descriptor: ArrayDescriptor) -> Option<Arc<KnownArray>> {
        if self.known.load().contains_key(&descriptor.id) {
            return None;
        }
        let mut shards: BTreeMap<PartitionId, Vec<ShardIndex>> = BTreeMap::new();
        for index in (0..descriptor.layout.shards()).map(ShardIndex) {
            let partition = partition_of(self.partition_bits, &descriptor.placement_key, index);
            shards.entry(partition).or_default().push(index);
        }
        Some(Arc::new(KnownArray { descriptor: Arc::new(descriptor), shards }))
    }

    /// Learns of arrays; their shards are zeros wherever this node is a member of their group.
    pub(super) fn add_all(&self, arrays: Vec<Arc<KnownArray>>) {
        if arrays.is_empty() {
            return;
        }
        let _changing = self.changing.lock();
        let mut next = BTreeMap::clone(&self.known.load());
        let mut next_id = 0;
        for array in arrays {
            let (id, class) = (array.descriptor.id, array.descriptor.class());
            if next.contains_key(&id) {
                continue;
            }
            for (partition, shards) in &array.shards {
                let gate = self.gates.find(GroupId { partition: *partition, class });
                if gate.is_some_and(|gate| gate.is_member()) {
                    self.install(&array.descriptor, shards);
                }
            }
            next_id = next_id.max(id.0 + 1);
            next.insert(id, array);
        }
        self.known.store(Arc::new(next));
        self.next_id.fetch_max(next_id, Ordering::SeqCst);
    }

    /// Forgets an array and gives its memory back. What is not known is no error.
    pub(super) fn remove(&self, id: ArrayId) {
        let _changing = self.changing.lock();
        self.next_id.fetch_max(id.0 + 1, Ordering::SeqCst);
        let mut next = BTreeMap::clone(&self.known.load());
        if next.remove(&id).is_some() {
            self.known.store(Arc::new(next));
            self.store.remove(id);
        }
    }

    /// The catalog's news of all arrays with lower ids have been taken over.
    pub(super) fn hear_below(&self, next: ArrayId) {
        self.next_id.fetch_max(next.0, Ordering::SeqCst);
    }

    /// Whether the catalog's news about an array have reached this node: that it was made, or removed again.
    pub(super) fn has_heard_of(&self, id: ArrayId) -> bool {
        id.0 < self.next_id.load(Ordering::SeqCst)
    }

    /// A node joins a group: its shards are here from now on, as zeros where they were not.
    pub(super) fn enter_group(&self, group: GroupId) {
        let _changing = self.changing.lock();
        for (array, shards) in self.of_group(group) {
            self.install(&array.descriptor, &shards);
        }
    }

    /// A node leaves a group: its shards leave with their memory.
    pub(super) fn leave_group(&self, group: GroupId) {
        let _changing = self.changing.lock();
        for (array, shards) in self.of_group(group) {
            self.store.remove_shards(array.descriptor.id, shards.into_iter());
        }
    }

    /// What this node holds of a group is void: zeros from now on.
    pub(super) fn clear_group(&self, group: GroupId) {
        for (_, _, shard) in self.shards_of_group(group) {
            shard.clear();
        }
    }

    /// The shards of a group that are here, by array and index.
    pub(super) fn shards_of_group(&self, group: GroupId) -> Vec<(ArrayId, ShardIndex, Arc<Shard>)> {
        let mut found = Vec::new();
        for (array, shards) in self.of_group(group) {
            let id = array.descriptor.id;
            let here = shards
                .into_iter()
                .filter_map(|index| self.store.shard(id, index).map(|shard| (id, index, shard)));
            found.extend(here);
        }
        found
    }

    /// How many shards a group has, here or not.
    pub(super) fn shard_count(&self, group: GroupId) -> usize {
        self.of_group(group).iter().map(|(_, shards)| shards.len()).sum()
    }

    /// The pages of a shard, whatever this node is in its group.
    pub(super) fn pages(&self, array: ArrayId, index: ShardIndex) -> Option<Arc<Shard>> {
        self.store.shard(array, index)
    }

    /// The group of a shard; `None` for an array or shard that there is not.
    pub(super) fn group_of(&self, array: ArrayId, index: ShardIndex) -> Option<GroupId> {
        let known = self.known.load();
        let descriptor = &known.get(&array)?.descriptor;
        (index.0 < descriptor.layout.shards()).then(|| self.group(descriptor, index))
    }

    fn of_group(&self, group: GroupId) -> Vec<(Arc<KnownArray>, Vec<ShardIndex>)> {
        let known = self.known.load();
        let of_class = known.values().filter(|array| array.descriptor.class() == group.class);
        of_class
            .filter_map(|array| {
                let shards = array.shards.get(&group.partition)?;
                Some((Arc::clone(array), shards.clone()))
            })
            .collect()
    }

    fn install(&self, descriptor: &ArrayDescriptor, shards: &[ShardIndex]) {
        let (tenant, id, layout) = (descriptor.tenant, descriptor.id, &descriptor.layout);
        if let Err(full) = self.store.install(tenant, id, layout, shards.iter().copied()) {
            // The catalog's leader reckons with every node's memory before it promises any; an operation on what is
            // missing here waits, and its group goes on without this replica.
            tracing::error!(array = %descriptor.name, %full, "no room for shards of this node");
        }
    }

    fn shard(
        &self,
        descriptor: &ArrayDescriptor,
        index: ShardIndex,
    ) -> Result<Arc<Shard>, Failure> {
        self.store.shard(descriptor.id, index).ok_or_else(|| {
            let message = format!("shard {index} of {} found no room here", descriptor.name);
            Failure::new(ErrorCode::OutOfCapacity, message).retry_after_ms(200)
        })
    }

    /// The group of a shard that exists, with its gate here.
    fn gate(
        &self,
        descriptor: &ArrayDescriptor,
        index: ShardIndex,
    ) -> Result<(GroupId, Arc<Gate>), Failure> {
        if index.0 >= descriptor.layout.shards() {
            let message = format!(
                "shard {index} of {}, which has {}",
                descriptor.name,
                descriptor.layout.shards()
            );
            return Err(Failure::new(ErrorCode::OutOfRange, message));
        }
        let group = self.group(descriptor, index);
        if let Some(gate) = self.gates.find(group).filter(|gate| gate.is_member()) {
            return Ok((group, gate));
        }
        // Lost data is lost wherever one asks.
        self.view.load().primary_of(descriptor, index)?;
        Err(name_group(not_primary(), group))
    }

    fn group(&self, descriptor: &ArrayDescriptor, index: ShardIndex) -> GroupId {
        let partition = partition_of(self.partition_bits, &descriptor.placement_key, index);
        GroupId { partition, class: descriptor.class() }
    }
}

pub(super) fn not_found(id: ArrayId) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("array #{id}: not found")).help("see `holo array ls`")
}

/// Whoever made the array may come here before the catalog's news do, and so may anybody after a start of this node.
fn not_heard_of(id: ArrayId) -> Failure {
    let message = format!("this node has not heard of array #{id} yet");
    Failure::new(ErrorCode::NotReady, message)
}

fn name_group(failure: Failure, group: GroupId) -> Failure {
    failure.context(format!("group {group}"))
}
