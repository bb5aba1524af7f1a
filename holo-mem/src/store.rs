//! All arrays of a node: which shards are here, and what memory is promised to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use holo_core::{ArrayId, ArrayLayout, PAGE_BYTES, ShardIndex, TenantId};
use parking_lot::{Mutex, RwLock};

use crate::{
    arena::{Arena, Budget},
    error::MemError,
    shard::Shard,
};

const PAGE: u64 = PAGE_BYTES as u64;

/// A node's memory: an arena for each tenant within one budget, and the shards of the arrays that live here.
///
/// # What a reservation promises
///
/// Installing an array reserves a frame for each of its pages. Reservations may fill the budget but for the
/// *staging reserve*: an eighth of the budget, or the largest shard that is here if that is more. Staged bytes,
/// copies on write, and frames that readers still hold draw from whatever is not in use. So with nothing else in
/// flight every page of every installed array can be written, and any whole shard replaced; when much is in flight
/// a write may find [`MemError::OutOfCapacity`], and succeeds when that has settled.
#[derive(Debug)]
pub struct Store {
    budget: Arc<Budget>,
    arenas: Mutex<BTreeMap<TenantId, Arc<Arena>>>,
    arrays: RwLock<BTreeMap<ArrayId, Installed>>,
}

/// One array's shards on this node.
#[derive(Debug)]
struct Installed {
    tenant: TenantId,
    layout: ArrayLayout,
    shards: BTreeMap<ShardIndex, Arc<Shard>>,
    /// Pages of all `shards`.
    pages: u64,
}

impl Store {
    /// A store without arrays. `budget_bytes` bounds the frames of all tenants together.
    pub fn new(budget_bytes: u64) -> Self {
        Self {
            budget: Arc::new(Budget::new(budget_bytes)),
            arenas: Mutex::new(BTreeMap::new()),
            arrays: RwLock::new(BTreeMap::new()),
        }
    }

    /// Reserves memory for `shards` of an array and makes them readable, as zeros. Shards that are here already stay
    /// as they are, so that repeating a call changes nothing.
    ///
    /// # Errors
    ///
    /// [`MemError::OutOfCapacity`] when the reservations would eat into the staging reserve, [`MemError::OutOfRange`]
    /// for a shard past the array's end, [`MemError::LayoutConflict`] when the id is in use for something else,
    /// [`MemError::Map`] when the tenant's first arena cannot be mapped. Nothing is reserved then.
    pub fn install(
        &self,
        tenant: TenantId,
        array: ArrayId,
        layout: &ArrayLayout,
        shards: impl Iterator<Item = ShardIndex>,
    ) -> Result<(), MemError> {
        let arena = self.arena(tenant)?;
        let mut arrays = self.arrays.write();
        let present = arrays.get(&array);
        if present.is_some_and(|here| here.tenant != tenant || here.layout != *layout) {
            return Err(MemError::LayoutConflict { array });
        }
        let free = self.unreserved(&arrays, largest_shard_bytes(layout));
        let mut new = BTreeSet::new();
        let mut pages = 0;
        for shard in shards {
            if shard.0 >= layout.shards() {
                return Err(past_the_end(layout, shard));
            }
            let known = present.is_some_and(|here| here.shards.contains_key(&shard));
            if known || new.contains(&shard) {
                continue;
            }
            pages += u64::from(layout.pages_in_shard(shard));
            // A hopeless request is counted to its end, so that the error has its size, but not stored.
            if pages * PAGE <= free {
                new.insert(shard);
            }
        }
        let need = pages * PAGE;
        if need > free {
            return Err(MemError::OutOfCapacity { need, have: free });
        }
        let here = arrays.entry(array).or_insert_with(|| Installed {
            tenant,
            layout: layout.clone(),
            shards: BTreeMap::new(),
            pages: 0,
        });
        here.pages += pages;
        here.shards.extend(new.into_iter().map(|shard| {
            (shard, Arc::new(Shard::new(Arc::clone(&arena), layout.bytes_in_shard(shard))))
        }));
        Ok(())
    }

    /// A shard that is here.
    pub fn shard(&self, array: ArrayId, shard: ShardIndex) -> Option<Arc<Shard>> {
        self.arrays.read().get(&array)?.shards.get(&shard).cloned()
    }

    /// The shards of an array that are here, in order.
    pub fn array_shards(&self, array: ArrayId) -> Vec<(ShardIndex, Arc<Shard>)> {
        let arrays = self.arrays.read();
        let shards = arrays.get(&array).map(|here| &here.shards);
        shards.into_iter().flatten().map(|(index, shard)| (*index, Arc::clone(shard))).collect()
    }

    /// Forgets an array and its reservation; false when it is not here. Frames that somebody still reads or sends
    /// return when they are done.
    pub fn remove(&self, array: ArrayId) -> bool {
        // Dropped after the lock: returning thousands of frames takes its time.
        let removed = self.arrays.write().remove(&array);
        removed.is_some()
    }

    /// Forgets some shards of an array and their reservation; what is not here is passed over.
    pub fn remove_shards(&self, array: ArrayId, shards: impl Iterator<Item = ShardIndex>) {
        let mut removed = Vec::new();
        let mut arrays = self.arrays.write();
        if let Some(here) = arrays.get_mut(&array) {
            for shard in shards {
                if let Some(pages) = here.shards.remove(&shard) {
                    here.pages -= u64::from(here.layout.pages_in_shard(shard));
                    removed.push(pages);
                }
            }
            if here.shards.is_empty() {
                arrays.remove(&array);
            }
        }
        // After the lock: returning thousands of frames takes its time.
        drop(arrays);
        drop(removed);
    }

    /// The arena of a tenant; the first call maps it.
    ///
    /// # Errors
    ///
    /// [`MemError::Map`] when the system refuses.
    pub fn arena(&self, tenant: TenantId) -> Result<Arc<Arena>, MemError> {
        let mut arenas = self.arenas.lock();
        if let Some(arena) = arenas.get(&tenant) {
            return Ok(Arc::clone(arena));
        }
        let arena = Arena::within(&self.budget)?;
        arenas.insert(tenant, Arc::clone(&arena));
        Ok(arena)
    }

    /// Gives idle memory of every tenant back to the system, as [`Arena::trim`]. The node calls it about once a
    /// second, from a thread that may block.
    pub fn trim(&self) {
        self.budget.trim();
    }

    /// What is used and promised at this moment.
    pub fn usage(&self) -> StoreUsage {
        let arrays = self.arrays.read();
        StoreUsage {
            frame_bytes: self.budget.bytes_used(),
            frame_bytes_max: self.budget.bytes_max(),
            resident_bytes: self.budget.bytes_resident(),
            reserved_bytes: reserved(&arrays),
            reserved_bytes_max: self
                .budget
                .bytes_max()
                .saturating_sub(self.staging_reserve(&arrays, 0)),
            shards: arrays.values().map(|here| here.shards.len() as u64).sum(),
        }
    }

    /// Bytes that may still be reserved when the largest new shard has `largest` bytes.
    fn unreserved(&self, arrays: &BTreeMap<ArrayId, Installed>, largest: u64) -> u64 {
        let promised = reserved(arrays) + self.staging_reserve(arrays, largest);
        self.budget.bytes_max().saturating_sub(promised)
    }

    fn staging_reserve(&self, arrays: &BTreeMap<ArrayId, Installed>, largest: u64) -> u64 {
        let eighth = (self.budget.bytes_max() / 8).next_multiple_of(PAGE);
        let here = arrays.values().filter(|array| !array.shards.is_empty());
        let largest_here = here.map(|array| largest_shard_bytes(&array.layout)).max();
        eighth.max(largest).max(largest_here.unwrap_or(0))
    }
}

/// Promised bytes, in whole frames.
fn reserved(arrays: &BTreeMap<ArrayId, Installed>) -> u64 {
    arrays.values().map(|array| array.pages).sum::<u64>() * PAGE
}

/// Bytes of a shard in whole frames; only the last one may be smaller.
fn largest_shard_bytes(layout: &ArrayLayout) -> u64 {
    u64::from(layout.pages_in_shard(ShardIndex(0))) * PAGE
}

fn past_the_end(layout: &ArrayLayout, shard: ShardIndex) -> MemError {
    let shard_bytes = layout.shard_elems() * layout.dtype().size() as u64;
    let offset = shard.0.saturating_mul(shard_bytes);
    MemError::OutOfRange { offset, len: shard_bytes, bytes: layout.bytes() }
}

/// A node's memory in numbers, all in bytes but for the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreUsage {
    /// In frames that somebody owns: pages, staged bytes, bytes being read or sent.
    pub frame_bytes: u64,
    /// The budget, in whole frames.
    pub frame_bytes_max: u64,
    /// In memory: frames that are owned, and idle ones kept for reuse.
    pub resident_bytes: u64,
    /// Promised to the pages of installed arrays, written or not.
    pub reserved_bytes: u64,
    /// The most that can be promised, with the staging reserve that the largest shard here asks for.
    pub reserved_bytes_max: u64,
    /// Shards here.
    pub shards: u64,
}

#[cfg(test)]
mod tests;
