//! Which arrays there are: descriptors, and the pure state machine of their names per tenant.
//!
//! # Invariants
//!
//! 1. A name belongs to at most one array of a tenant; ids are unique across tenants, and no new array gets an id that
//!    was seen before.
//! 2. Every lookup is keyed by the caller's tenant: another tenant's array and no array at all are the same answer.
//!
//! # Not here
//!
//! Who may ask ([`crate::Policy`]), where shards lie ([`crate::placement`]), their bytes (`holo-mem`).

mod descriptor;

use std::collections::BTreeMap;

pub use descriptor::ArrayDescriptor;

use crate::wire::{Allocate, ArrayRef};
use crate::{
    ArrayId, ArrayLayout, ArrayName, Authorized, ColocationId, DType, ErrorCode, Failure, Shape,
    TenantId, UnixMillis, action, limits,
};

/// The arrays of a cluster by tenant and name.
///
/// Planning and installing are apart: the plan is an immutable descriptor that every node can be told, and a node
/// installs it or refuses it. What cannot be planned changes nothing.
#[derive(Clone, Debug)]
pub struct Directory {
    arrays: BTreeMap<ArrayId, ArrayDescriptor>,
    names: BTreeMap<(TenantId, ArrayName), ArrayId>,
    next: ArrayId,
}

impl Directory {
    /// No arrays; the first one gets id 1.
    pub fn new() -> Self {
        Self { arrays: BTreeMap::new(), names: BTreeMap::new(), next: ArrayId(1) }
    }

    /// Adds a planned array. Installing the same descriptor again changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::AlreadyExists`] when the tenant has another array of that name, [`ErrorCode::Conflict`] when the
    /// id is taken or was used before, [`ErrorCode::OutOfCapacity`] past [`limits::ARRAYS_MAX`] arrays.
    pub fn install(&mut self, array: ArrayDescriptor) -> Result<(), Failure> {
        if self.arrays.get(&array.id) == Some(&array) {
            return Ok(());
        }
        if array.id < self.next {
            self.refuse_taken_name(array.tenant, &array.name)?;
            return Err(used_id(array.id));
        }
        self.install_earlier(array)
    }

    /// Adds an array that existed before this directory was made, such as one that a member remembers from before a
    /// restart: its id may lie below the next one as long as no array has it now. Installing the same descriptor again
    /// changes nothing.
    ///
    /// The caller sees to it that the array was not removed meanwhile; a directory does not remember what it forgot.
    ///
    /// # Errors
    ///
    /// As [`Self::install`], but for [`ErrorCode::Conflict`], which is left for an id that another array has.
    pub fn install_earlier(&mut self, array: ArrayDescriptor) -> Result<(), Failure> {
        match self.arrays.get(&array.id) {
            Some(known) if *known == array => return Ok(()),
            known => {
                self.refuse_taken_name(array.tenant, &array.name)?;
                if known.is_some() {
                    return Err(used_id(array.id));
                }
            }
        }
        if self.arrays.len() >= limits::ARRAYS_MAX {
            let message = format!("the cluster has {} arrays", limits::ARRAYS_MAX);
            return Err(Failure::new(ErrorCode::OutOfCapacity, message).help("free some of them"));
        }
        let Some(next) = array.id.0.checked_add(1) else {
            return Err(Failure::new(ErrorCode::InvalidArgument, "the last array id of all"));
        };
        self.raise_next_id(ArrayId(next));
        self.names.insert((array.tenant, array.name.clone()), array.id);
        self.arrays.insert(array.id, array);
        Ok(())
    }

    /// Gives no new array an id below `next`: somebody has seen those. A lower `next` than ours changes nothing.
    pub fn raise_next_id(&mut self, next: ArrayId) {
        self.next = self.next.max(next);
    }

    /// Removes an array and returns what it was. No new array gets its id.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] when the tenant has no such array.
    pub fn forget(&mut self, tenant: TenantId, id: ArrayId) -> Result<ArrayDescriptor, Failure> {
        let owned = self.arrays.get(&id).is_some_and(|array| array.tenant == tenant);
        let removed = if owned { self.arrays.remove(&id) } else { None };
        let array = removed.ok_or_else(|| not_found(&format!("#{id}")))?;
        self.names.remove(&(tenant, array.name.clone()));
        Ok(array)
    }

    /// Checks a request and says what array it makes; nothing changes yet.
    ///
    /// A new colocation group gets a placement key of its own, derived from the cluster's secret, so that nobody can
    /// aim an array at a node. An array `like` another takes over its group, key and shard length, so its creator must be
    /// allowed to read that one: `may_read` is for `like`, or nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] when `authorized` names another array than the request, [`ErrorCode::InvalidArgument`],
    /// [`ErrorCode::ShapeOverflow`], [`ErrorCode::NotFound`] alike for a `like` that there is not and for one that
    /// `may_read` does not cover, [`ErrorCode::AlreadyExists`], [`ErrorCode::NotYet`] for more than one copy.
    pub fn plan_allocate(
        &self,
        authorized: &Authorized<action::Allocate>,
        may_read: Option<&Authorized<action::Read>>,
        request: &Allocate,
        now: UnixMillis,
        cluster_secret: &[u8; 32],
    ) -> Result<ArrayDescriptor, Failure> {
        let name = ArrayName::new(&request.name)?;
        if authorized.resource() != name.as_str() {
            let message = format!("the permission is for {:?}, not {name}", authorized.resource());
            return Err(Failure::new(ErrorCode::Denied, message));
        }
        let tenant = authorized.tenant();
        if request.replicas > 1 {
            let message = format!(
                "{} copies of {name}: this version keeps one copy of each array",
                request.replicas
            );
            return Err(Failure::new(ErrorCode::NotYet, message).help(
                "leave the number of replicas away; replication comes with the next release",
            ));
        }
        let shape = Shape::new(&request.shape)?;
        let dtype = DType::from_byte(request.dtype).map_err(|failure| Failure {
            code: ErrorCode::InvalidArgument,
            ..failure.context(format!("array {name}"))
        })?;
        self.refuse_taken_name(tenant, &name)?;
        let like = if request.like.is_empty() {
            None
        } else {
            let covers = |may: &Authorized<action::Read>| {
                may.tenant() == tenant && may.resource() == request.like
            };
            if !may_read.is_some_and(covers) {
                return Err(not_found(&request.like));
            }
            Some(self.find(tenant, &ArrayRef { name: request.like.clone(), id: 0 })?)
        };
        let shard_elems = shard_elems(request, &shape, like)?;
        let layout = ArrayLayout::new(shape, dtype, shard_elems)?;
        if shard_elems.saturating_mul(dtype.size() as u64) > limits::SHARD_BYTES_MAX {
            let message = format!(
                "a shard of {shard_elems} {dtype} has more than {} bytes",
                limits::SHARD_BYTES_MAX
            );
            return Err(
                Failure::new(ErrorCode::InvalidArgument, message).help("use shorter shards")
            );
        }
        let id = self.next;
        let (colocation, placement_key) = like.map_or_else(
            || {
                let colocation = ColocationId(id.0);
                (colocation, placement_key(cluster_secret, colocation))
            },
            |like| (like.colocation, like.placement_key),
        );
        let replicas = 1;
        Ok(ArrayDescriptor {
            id,
            name,
            tenant,
            layout,
            colocation,
            placement_key,
            replicas,
            min_in_sync: 1,
            created: now,
        })
    }

    /// The tenant's array of a name, or of an id when it is not 0.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`], the same whether there is no such array or another tenant's.
    pub fn find(&self, tenant: TenantId, array: &ArrayRef) -> Result<&ArrayDescriptor, Failure> {
        let id = if array.id == 0 {
            // A name that could not be given to an array is not found either: one answer for all.
            let name = ArrayName::new(&array.name).ok();
            name.and_then(|name| self.names.get(&(tenant, name)).copied())
        } else {
            Some(ArrayId(array.id))
        };
        let found = id.and_then(|id| self.arrays.get(&id)).filter(|found| found.tenant == tenant);
        found.ok_or_else(|| match array.id {
            0 => not_found(&array.name),
            id => not_found(&format!("#{id}")),
        })
    }

    /// The tenant's arrays in order of their names.
    pub fn list(&self, tenant: TenantId) -> impl Iterator<Item = &ArrayDescriptor> {
        self.names
            .iter()
            .filter(move |((owner, _), _)| *owner == tenant)
            .filter_map(|(_, id)| self.arrays.get(id))
    }

    /// The id that the next array gets: more than any that was ever installed, and no less than
    /// [`Self::raise_next_id`] asked for.
    pub fn next_id(&self) -> ArrayId {
        self.next
    }

    fn refuse_taken_name(&self, tenant: TenantId, name: &ArrayName) -> Result<(), Failure> {
        if self.names.contains_key(&(tenant, name.clone())) {
            return Err(Failure::new(ErrorCode::AlreadyExists, format!("array {name}: exists"))
                .help(format!("use another name, or remove it with `holo array rm {name}`")));
        }
        Ok(())
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

fn shard_elems(
    request: &Allocate,
    shape: &Shape,
    like: Option<&ArrayDescriptor>,
) -> Result<u64, Failure> {
    let Some(like) = like else {
        return Ok(match request.shard_elems {
            0 => ArrayLayout::SHARD_ELEMS_DEFAULT,
            elems => elems,
        });
    };
    if shape.elems() != like.layout.elems() {
        let message = format!(
            "shape {shape} has {} elements, {} has {}",
            shape.elems(),
            like.name,
            like.layout.elems()
        );
        return Err(Failure::new(ErrorCode::InvalidArgument, message)
            .help("arrays that lie beside each other have the same number of elements"));
    }
    let elems = like.layout.shard_elems();
    if request.shard_elems != 0 && request.shard_elems != elems {
        let message =
            format!("{} elements a shard, {} has {elems}", request.shard_elems, like.name);
        return Err(Failure::new(ErrorCode::InvalidArgument, message)
            .help("leave the shard length away: it comes from the array to lie beside"));
    }
    Ok(elems)
}

fn placement_key(cluster_secret: &[u8; 32], colocation: ColocationId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("holocompute 2026 placement key of a group");
    hasher.update(cluster_secret);
    hasher.update(&colocation.0.to_le_bytes());
    *hasher.finalize().as_bytes()
}

fn used_id(id: ArrayId) -> Failure {
    Failure::new(ErrorCode::Conflict, format!("array id {id} was given out before"))
        .help("try the allocation again")
}

fn not_found(what: &str) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("array {what}: not found"))
        .help("see `holo array ls`")
}

#[cfg(test)]
mod tests;
