//! The arrays: creating, removing, finding and listing them.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::catalog::changes::Subject;
use crate::catalog::command::{Answer, Authority};
use crate::catalog::planner::check_copies;
use crate::catalog::state::CatalogState;
use crate::replication::Class;
use crate::wire::{Allocate, ArrayRef};
use crate::{
    ArrayDescriptor, ArrayId, ArrayLayout, ArrayName, ColocationId, Count, DType, ErrorCode,
    Failure, PublicKey, Shape, TenantId, Verb, limits,
};

/// An array to be created. Its id is given when the command is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewArray {
    /// Its name.
    pub name: ArrayName,
    /// Whose.
    pub tenant: TenantId,
    /// Shape, dtype and shard length.
    pub layout: ArrayLayout,
    /// The array to lie beside.
    pub like: Option<ArrayName>,
    /// Copies, and how many must be in sync; those of `like`, where there is one.
    pub class: Class,
    /// Key of the hash that places its shards ([`placement_key`]); that of `like` counts instead, where there is one.
    pub placement_key: [u8; 32],
    /// Drawn once per request: the same again makes nothing twice.
    pub token: u64,
}

/// Derives the placement key of a new colocation group, which nobody can guess who does not know the cluster's secret.
pub fn placement_key(cluster_secret: &[u8; 32], tenant: TenantId, token: u64) -> [u8; 32] {
    let mut hasher =
        blake3::Hasher::new_derive_key("holocompute 2026 placement key of a catalog's array");
    hasher.update(cluster_secret);
    hasher.update(&tenant.0.to_le_bytes());
    hasher.update(&token.to_le_bytes());
    *hasher.finalize().as_bytes()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArrayRecord {
    pub(super) descriptor: ArrayDescriptor,
    pub(super) token: u64,
}

/// Arrays by id, and ids by tenant and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arrays {
    /// Each apart, as the room for them in the tree is half empty when they come one by one.
    by_id: BTreeMap<ArrayId, Box<ArrayRecord>>,
    by_name: BTreeMap<TenantId, BTreeMap<ArrayName, ArrayId>>,
    /// How many arrays a class has, where it has any; derived.
    of_class: BTreeMap<Class, usize>,
    next: ArrayId,
}

impl Arrays {
    pub(super) fn new() -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_name: BTreeMap::new(),
            of_class: BTreeMap::new(),
            next: ArrayId(1),
        }
    }

    pub(super) fn next(&self) -> ArrayId {
        self.next
    }

    pub(super) fn raise_next(&mut self, next: ArrayId) {
        self.next = self.next.max(next);
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &ArrayRecord> {
        self.by_id.values().map(Box::as_ref)
    }

    pub(super) fn get(&self, id: ArrayId) -> Option<&ArrayRecord> {
        self.by_id.get(&id).map(Box::as_ref)
    }

    pub(super) fn named(&self, tenant: TenantId, name: &ArrayName) -> Option<&ArrayRecord> {
        let id = self.by_name.get(&tenant)?.get(name)?;
        self.get(*id)
    }

    /// Whether there is an array of a class.
    pub(super) fn has_class(&self, class: Class) -> bool {
        self.of_class.contains_key(&class)
    }

    /// Adds or replaces the array of an id.
    pub(super) fn put(&mut self, record: ArrayRecord) {
        let array = &record.descriptor;
        self.remove(array.id);
        self.raise_next(ArrayId(array.id.0.saturating_add(1)));
        self.by_name.entry(array.tenant).or_default().insert(array.name.clone(), array.id);
        *self.of_class.entry(array.class()).or_default() += 1;
        self.by_id.insert(array.id, Box::new(record));
    }

    pub(super) fn remove(&mut self, id: ArrayId) -> Option<Box<ArrayRecord>> {
        let record = self.by_id.remove(&id)?;
        let array = &record.descriptor;
        if let Some(names) = self.by_name.get_mut(&array.tenant) {
            names.remove(&array.name);
            if names.is_empty() {
                self.by_name.remove(&array.tenant);
            }
        }
        if let Some(count) = self.of_class.get_mut(&array.class()) {
            *count -= 1;
            if *count == 0 {
                self.of_class.remove(&array.class());
            }
        }
        Some(record)
    }
}

impl CatalogState {
    /// Turns a principal's request into a command's content: defaults filled in, bounds checked. Nothing changes yet.
    ///
    /// `cluster_secret` keeps placement unpredictable; `token` is drawn anew for each request, so that nobody chooses
    /// where shards go by choosing the request's own token.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unauthenticated`], [`ErrorCode::Denied`], [`ErrorCode::InvalidArgument`], [`ErrorCode::ShapeOverflow`],
    /// [`ErrorCode::AlreadyExists`], [`ErrorCode::NotFound`] alike for a `like` that there is not and one that the
    /// principal may not read.
    pub fn prepare_array(
        &self,
        principal: PublicKey,
        request: &Allocate,
        cluster_secret: &[u8; 32],
        token: u64,
    ) -> Result<NewArray, Failure> {
        let name = ArrayName::new(&request.name)?;
        let by = Authority::Principal(principal);
        let caller = self.check_verb(by, Verb::Allocate, name.as_str())?;
        let tenant = caller.tenant;
        let known = self.arrays.named(tenant, &name);
        if request.token == 0 || known.is_none_or(|known| known.token != request.token) {
            self.refuse_taken_array(tenant, &name)?;
        }
        let shape = Shape::new(&request.shape)?;
        let dtype = DType::from_byte(request.dtype).map_err(|failure| Failure {
            code: ErrorCode::InvalidArgument,
            ..failure.context(format!("array {name}"))
        })?;
        let like = if request.like.is_empty() {
            None
        } else {
            let beside = ArrayRef { name: request.like.clone(), id: 0 };
            let known = self.array(tenant, &beside)?;
            if !caller.may(Verb::Read, known.name.as_str()) {
                return Err(array_not_found(&request.like));
            }
            Some(known)
        };
        let class = match like {
            Some(like) => check_like_class(like, request)?,
            None => self.resolve_class(request.replicas, request.min_in_sync)?,
        };
        let shard_elems = match (like, request.shard_elems) {
            (Some(like), 0) => like.layout.shard_elems(),
            (None, 0) => ArrayLayout::SHARD_ELEMS_DEFAULT,
            (_, elems) => elems,
        };
        let layout = ArrayLayout::new(shape, dtype, shard_elems)?;
        let new = NewArray {
            name,
            tenant,
            layout,
            like: like.map(|like| like.name.clone()),
            class,
            placement_key: placement_key(cluster_secret, tenant, token),
            token: if request.token == 0 { token } else { request.token },
        };
        check_layout(&new, like)?;
        Ok(new)
    }

    /// The class of an array that asks for so many copies, of which so many in sync; 0 asks for the default, which is
    /// [`crate::catalog::Settings::replicas_default`] as far as there are nodes, and 1 in sync.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`]; [`ErrorCode::OutOfCapacity`] when fewer nodes could hold it than must be in sync.
    pub fn resolve_class(&self, replicas: u32, min_in_sync: u32) -> Result<Class, Failure> {
        let nodes = self.holders_possible().len();
        let by_default = usize::from(self.settings.replicas_default).min(nodes.max(1));
        let replicas = match replicas {
            0 => u32::try_from(by_default).unwrap_or(1).max(min_in_sync),
            asked => asked,
        };
        let class = Class::new(replicas, min_in_sync.max(1))?;
        check_copies(class.replicas, self.partition_bits)?;
        if usize::from(class.min_in_sync) > nodes {
            let copies = Count(u64::from(class.min_in_sync)).of("copy");
            let message = format!("{copies} in sync on {}", Count::from(nodes).of("node"));
            return Err(Failure::new(ErrorCode::OutOfCapacity, message)
                .help("add nodes, or ask for fewer copies in sync"));
        }
        Ok(class)
    }

    pub(super) fn create_array(&mut self, by: Authority, new: NewArray) -> Result<Answer, Failure> {
        let caller = self.check_verb(by, Verb::Allocate, new.name.as_str())?;
        self.refuse_while_closing()?;
        if caller.tenant != new.tenant {
            return Err(Failure::new(ErrorCode::Denied, "the array is for another tenant"));
        }
        if let Some(known) = self.arrays.named(new.tenant, &new.name)
            && known.token == new.token
            && known.descriptor.layout == new.layout
        {
            return Ok(Answer::Created(known.descriptor.clone()));
        }
        self.refuse_taken_array(new.tenant, &new.name)?;
        let like = match &new.like {
            None => None,
            Some(name) => {
                let known = self.arrays.named(new.tenant, name).map(|record| &record.descriptor);
                let readable = known.filter(|_| caller.may(Verb::Read, name.as_str()));
                Some(readable.ok_or_else(|| array_not_found(name.as_str()))?)
            }
        };
        check_layout(&new, like)?;
        if self.arrays.len() >= limits::CATALOG_ARRAYS_MAX {
            let message = format!("the cluster has {} arrays", limits::CATALOG_ARRAYS_MAX);
            return Err(Failure::new(ErrorCode::OutOfCapacity, message).help("free some of them"));
        }
        let id = self.arrays.next();
        if id.0 == u64::MAX {
            return Err(Failure::new(ErrorCode::OutOfCapacity, "the last array id of all"));
        }
        let (class, colocation, key) = match like {
            Some(like) => (like.class(), like.colocation, like.placement_key),
            None => (new.class, ColocationId(id.0), new.placement_key),
        };
        self.make_groups(class)?;
        let descriptor = ArrayDescriptor {
            id,
            name: new.name,
            tenant: new.tenant,
            layout: new.layout,
            colocation,
            placement_key: key,
            replicas: class.replicas,
            min_in_sync: class.min_in_sync,
            created: self.now,
        };
        self.arrays.put(ArrayRecord { descriptor: descriptor.clone(), token: new.token });
        self.touch(Subject::Array(id));
        Ok(Answer::Created(descriptor))
    }

    pub(super) fn remove_array(
        &mut self,
        by: Authority,
        tenant: TenantId,
        id: ArrayId,
    ) -> Result<Answer, Failure> {
        // Whose it is comes first: nobody learns which ids or names others have.
        let caller = self.caller(by)?;
        let known = self.arrays.get(id).map(|record| &record.descriptor);
        let known = known.filter(|array| array.tenant == tenant && array.tenant == caller.tenant);
        let name = known.ok_or_else(|| array_not_found(&format!("#{id}")))?.name.clone();
        self.check_verb(by, Verb::Free, name.as_str())?;
        self.refuse_while_closing()?;
        let removed = self.arrays.remove(id).ok_or_else(|| array_not_found(&format!("#{id}")))?;
        self.touch(Subject::Array(id));
        self.reset_empty_lost(removed.descriptor.class());
        self.release_draining();
        self.open_if_settled();
        Ok(Answer::Removed(removed.descriptor))
    }

    /// The tenant's array of a name, or of an id when it is not 0.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`], the same whether there is no such array or another tenant's.
    pub fn array(&self, tenant: TenantId, array: &ArrayRef) -> Result<&ArrayDescriptor, Failure> {
        let found = match array.id {
            0 => ArrayName::new(&array.name).ok().and_then(|name| self.arrays.named(tenant, &name)),
            id => self.arrays.get(ArrayId(id)),
        };
        let found = found.map(|record| &record.descriptor).filter(|found| found.tenant == tenant);
        found.ok_or_else(|| match array.id {
            0 => array_not_found(&array.name),
            id => array_not_found(&format!("#{id}")),
        })
    }

    /// The array of an id, whosever it is: for nodes, which hold the shards of all tenants.
    pub fn array_by_id(&self, id: ArrayId) -> Option<&ArrayDescriptor> {
        self.arrays.get(id).map(|record| &record.descriptor)
    }

    /// Up to `limit` of the tenant's arrays in order of their names, from the first one after `after`.
    pub fn list<'a>(
        &'a self,
        tenant: TenantId,
        after: Option<&'a ArrayName>,
        limit: usize,
    ) -> impl Iterator<Item = &'a ArrayDescriptor> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let names = self.arrays.by_name.get(&tenant).into_iter();
        names
            .flat_map(move |names| names.range::<ArrayName, _>((from, Bound::Unbounded)))
            .take(limit)
            .filter_map(|(_, id)| self.array_by_id(*id))
    }

    /// All arrays of all tenants in order of their ids.
    pub fn arrays(&self) -> impl Iterator<Item = &ArrayDescriptor> {
        self.arrays.records().map(|record| &record.descriptor)
    }

    /// How many arrays there are.
    pub fn array_count(&self) -> usize {
        self.arrays.len()
    }

    fn refuse_taken_array(&self, tenant: TenantId, name: &ArrayName) -> Result<(), Failure> {
        if self.arrays.named(tenant, name).is_some() {
            return Err(Failure::new(ErrorCode::AlreadyExists, format!("array {name}: exists"))
                .help(format!("use another name, or remove it with `holo array rm {name}`")));
        }
        Ok(())
    }
}

/// Checks what the layout has to fit: the bound on shards, and the array to lie beside.
fn check_layout(new: &NewArray, like: Option<&ArrayDescriptor>) -> Result<(), Failure> {
    let refuse = |why: String, help: &str| {
        Err(Failure::new(ErrorCode::InvalidArgument, why).help(help.to_owned()))
    };
    let layout = &new.layout;
    let shard_bytes = layout.shard_elems().saturating_mul(layout.dtype().size() as u64);
    if shard_bytes > limits::SHARD_BYTES_MAX {
        let message = format!(
            "a shard of {} {} has more than {} bytes",
            layout.shard_elems(),
            layout.dtype(),
            limits::SHARD_BYTES_MAX
        );
        return refuse(message, "use shorter shards");
    }
    let Some(like) = like else { return Ok(()) };
    if layout.elems() != like.layout.elems() {
        let message = format!(
            "shape {} has {} elements, {} has {}",
            layout.shape(),
            layout.elems(),
            like.name,
            like.layout.elems()
        );
        return refuse(
            message,
            "arrays that lie beside each other have the same number of elements",
        );
    }
    if layout.shard_elems() != like.layout.shard_elems() {
        let message = format!(
            "{} elements a shard, {} has {}",
            layout.shard_elems(),
            like.name,
            like.layout.shard_elems()
        );
        return refuse(
            message,
            "leave the shard length away: it comes from the array to lie beside",
        );
    }
    Ok(())
}

fn check_like_class(like: &ArrayDescriptor, request: &Allocate) -> Result<Class, Failure> {
    let class = like.class();
    let fits = |asked: u32, has: u8| asked == 0 || asked == u32::from(has);
    if fits(request.replicas, class.replicas) && fits(request.min_in_sync, class.min_in_sync) {
        return Ok(class);
    }
    let message = format!(
        "{} has {}, {} of them in sync",
        like.name,
        Count(u64::from(class.replicas)).of("copy"),
        class.min_in_sync
    );
    Err(Failure::new(ErrorCode::InvalidArgument, message)
        .help("leave the number of copies away: it comes from the array to lie beside"))
}

fn array_not_found(what: &str) -> Failure {
    Failure::new(ErrorCode::NotFound, format!("array {what}: not found"))
        .help("see `holo array ls`")
}
