//! Arrays as the catalog knows them: looked up anywhere, made and removed at the leader.

use std::collections::BTreeMap;
use std::time::Duration;

use holo_core::catalog::{Answer, Authority, CatalogState, NewArray, Operation, Step, plan_with};
use holo_core::placement::partition_of;
use holo_core::replication::NodeNumber;
use holo_core::wire::{Allocate, ArrayInfo, ArrayList, ArrayRef};
use holo_core::{
    ArrayDescriptor, ByteCount, Count, ErrorCode, Failure, PAGE_BYTES, PartitionId, PublicKey,
    ShardIndex, action, limits,
};

use super::Control;
use crate::home::fill_random;
use crate::links::pause_for;

/// How long the catalog may take for one command.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long to wait for nodes that have not told this leader how they do.
const LOADS_PATIENCE: Duration = Duration::from_secs(2);
const LOADS_STEP: Duration = Duration::from_millis(20);
/// After so long the nodes' own figures count an array that was made.
const PROMISED_FOR: Duration = Duration::from_secs(5);
/// After so long the nodes' own figures do not count an array that was removed.
const FREED_WITHIN: Duration = Duration::from_secs(2);
/// When the nodes have told their figures again.
const LOADS_NEXT_MS: u32 = 1_100;
/// Shards that are placed one by one to see what each node needs; beyond, an even spread is taken.
const SHARDS_PLACED_MAX: u64 = 1 << 16;

impl Control {
    /// What a reference names, for a caller who may read it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`] alike for nothing and for another tenant's array; [`ErrorCode::Denied`].
    pub(crate) fn array_info(
        &self,
        key: PublicKey,
        array: &ArrayRef,
    ) -> Result<ArrayInfo, Failure> {
        let policy = self.policy();
        let tenant = policy.principal(key)?.tenant;
        let found = self.copy.read(|state| state.array(tenant, array).cloned())?;
        let _may = policy.authorize::<action::Read>(key, found.name.as_str())?;
        Ok(ArrayInfo::from(&found))
    }

    /// What the caller may read, by name.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Unauthenticated`].
    pub(crate) fn array_list(&self, key: PublicKey) -> Result<ArrayList, Failure> {
        let policy = self.policy();
        let tenant = policy.principal(key)?.tenant;
        let may_read = |array: &&ArrayDescriptor| {
            policy.authorize::<action::Read>(key, array.name.as_str()).is_ok()
        };
        let arrays = self.copy.read(|state| {
            let listed = state.list(tenant, None, limits::CATALOG_ARRAYS_MAX).filter(may_read);
            listed.take(limits::ARRAYS_MAX).map(ArrayInfo::from).collect()
        });
        // How many arrays other tenants have had is nobody's business.
        Ok(ArrayList { arrays, next_id: 0 })
    }

    /// Creates an array, on the catalog's leader.
    ///
    /// # Errors
    ///
    /// Those of [`CatalogState::prepare_array`]; [`ErrorCode::OutOfCapacity`] with the numbers, also for more copies than
    /// there are nodes; [`ErrorCode::NoQuorum`].
    pub(super) async fn allocate(
        &self,
        key: PublicKey,
        request: &Allocate,
    ) -> Result<ArrayInfo, Failure> {
        let _may = self.policy().authorize::<action::Allocate>(key, &request.name)?;
        let secrets = self.secrets.read().clone().ok_or_else(super::propose::not_a_voter)?;
        let mut token = [0; 8];
        fill_random(&mut token)?;
        let token = u64::from_le_bytes(token);
        let new = self.copy.read(|state| {
            let new = state.prepare_array(key, request, &secrets.placement, token)?;
            check_copies(state, &new, request)?;
            Ok::<_, Failure>(new)
        })?;
        self.have_table(new.class.replicas).await?;
        self.wait_for_loads().await;
        let needs = self.copy.read(|state| needs(state, &new));
        // The same request again: what it needs is promised, or the nodes' figures count it.
        let like_new = ArrayRef { name: new.name.as_str().to_owned(), id: 0 };
        let made = self.copy.read(|state| state.array(new.tenant, &like_new).is_ok());
        if !made {
            self.check_room(&new, &needs)?;
        }
        let created =
            self.propose(Authority::Principal(key), Operation::CreateArray(new), PATIENCE).await?;
        let Answer::Created(array) = created else {
            return Err(Failure::new(ErrorCode::Internal, "an array was made and is not told"));
        };
        let mut duties = self.duties.lock();
        if !made && duties.promised.iter().all(|(_, promised, _)| *promised != array.id) {
            duties.promised.push_back((self.clock.now(), array.id, needs));
        }
        drop(duties);
        tracing::info!(array = %array.name, id = %array.id, copies = array.replicas, "array created");
        Ok(ArrayInfo::from(&array))
    }

    /// Removes an array, on the catalog's leader.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`], [`ErrorCode::Denied`], [`ErrorCode::NoQuorum`].
    pub(super) async fn remove_array(
        &self,
        key: PublicKey,
        array: &ArrayRef,
    ) -> Result<(), Failure> {
        let policy = self.policy();
        let tenant = policy.principal(key)?.tenant;
        let found = self.copy.read(|state| state.array(tenant, array).cloned())?;
        let _may = policy.authorize::<action::Free>(key, found.name.as_str())?;
        let remove = Operation::RemoveArray { tenant, array: found.id };
        self.propose(Authority::Principal(key), remove, PATIENCE).await?;
        let mut duties = self.duties.lock();
        duties.promised.retain(|(_, array, _)| *array != found.id);
        duties.freed_at = Some(self.clock.now());
        drop(duties);
        tracing::info!(array = %found.name, id = %found.id, "array removed");
        Ok(())
    }

    /// Sees to it that there is a target table for so many copies.
    async fn have_table(&self, replicas: u8) -> Result<(), Failure> {
        // Somebody else may plan at the same time: then that plan has to be looked at.
        for _ in 0..8 {
            let now = self.clock.wall();
            let planned = self.copy.read(|state| {
                let missing = state.target(replicas).is_none();
                missing.then(|| plan_with(state, now, &[replicas]))
            });
            let Some(plan) = planned.transpose()? else { return Ok(()) };
            match self.take(&Step::Place(plan)).await {
                Err(failure) if failure.code == ErrorCode::Conflict => {}
                taken => return taken,
            }
        }
        Err(Failure::new(ErrorCode::Conflict, "the placement is changing all the time")
            .retry_after_ms(500))
    }

    /// Waits until every node that answers has told this leader how it does.
    async fn wait_for_loads(&self) {
        let until = self.clock.now().after(LOADS_PATIENCE);
        while self.clock.now() < until {
            let known = self.copy.read(|state| {
                let health = self.health.lock();
                let mut up = state.nodes().filter(|node| node.up && node.state.may_hold());
                up.all(|node| health.load(node.replica()).is_some())
            });
            if known {
                return;
            }
            pause_for(LOADS_STEP).await;
        }
    }

    fn check_room(&self, new: &NewArray, needs: &BTreeMap<NodeNumber, u64>) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut duties = self.duties.lock();
        while duties.promised.front().is_some_and(|(at, ..)| now.since(*at) > PROMISED_FOR) {
            duties.promised.pop_front();
        }
        let promised = |node: &NodeNumber| {
            let promises = duties.promised.iter().filter_map(|(.., nodes)| nodes.get(node));
            promises.fold(0u64, |sum, bytes| sum.saturating_add(*bytes))
        };
        self.copy.read(|state| {
            let health = self.health.lock();
            for (number, need) in needs {
                let Some(node) = state.node(*number) else { continue };
                let load = health.load(node.replica()).filter(|load| load.reserved_bytes_max > 0);
                // One that has not told is not held against anybody.
                let Some(load) = load else { continue };
                let used = load.reserved_bytes.saturating_add(promised(number));
                let free = load.reserved_bytes_max.saturating_sub(used);
                if *need > free {
                    // What was promised or freed a moment ago may be in the figures twice or still: an empty node's is
                    // sure, and enough where that one is too small.
                    let may_pass = *need <= load.reserved_bytes_max;
                    let most = ByteCount(load.reserved_bytes_max);
                    let room = match may_pass {
                        true => format!("has {} of {most} left", ByteCount(free)),
                        false => format!("takes {most} at most"),
                    };
                    let message = format!(
                        "array {} needs {} on node {}, which {room}",
                        new.name,
                        ByteCount(*need),
                        node.name
                    );
                    let full = Failure::new(ErrorCode::OutOfCapacity, message)
                        .help("free arrays, ask for fewer copies, or add nodes or memory");
                    // What was freed a moment ago shows in the node's next figures; nothing that is freed helps what
                    // an empty node could not hold.
                    let stale = may_pass
                        && (promised(number) > 0
                            || duties.freed_at.is_some_and(|at| now.since(at) < FREED_WITHIN));
                    return Err(if stale { full.retry_after_ms(LOADS_NEXT_MS) } else { full });
                }
            }
            Ok(())
        })
    }
}

/// Refuses more copies than there are nodes, where somebody asked for them by number.
fn check_copies(state: &CatalogState, new: &NewArray, request: &Allocate) -> Result<(), Failure> {
    let nodes =
        state.nodes().filter(|node| node.state.may_hold() && node.incarnation.0 > 0).count();
    if request.replicas == 0 || usize::from(new.class.replicas) <= nodes {
        return Ok(());
    }
    let copies = |count| Count(count).of("copy");
    let nodes = nodes as u64;
    let message = format!(
        "{} of {} on {}",
        copies(u64::from(new.class.replicas)),
        new.name,
        Count(nodes).of("node")
    );
    Err(Failure::new(ErrorCode::OutOfCapacity, message)
        .help(format!("ask for at most {}, or add nodes", copies(nodes))))
}

/// Bytes that each node will have to promise to an array.
fn needs(state: &CatalogState, new: &NewArray) -> BTreeMap<NodeNumber, u64> {
    let mut needs: BTreeMap<NodeNumber, u64> = BTreeMap::new();
    let Some(table) = state.target(new.class.replicas) else { return needs };
    let layout = &new.layout;
    if layout.shards() > SHARDS_PLACED_MAX {
        let each = layout.bytes() >> state.partition_bits();
        for holder in table.all_holders() {
            let need = needs.entry(*holder).or_insert(0);
            *need = need.saturating_add(each);
        }
        return needs;
    }
    let like = new.like.as_ref().and_then(|name| {
        let like = ArrayRef { name: name.as_str().to_owned(), id: 0 };
        state.array(new.tenant, &like).ok()
    });
    let key = like.map_or(new.placement_key, |like| like.placement_key);
    for shard in (0..layout.shards()).map(ShardIndex) {
        let bytes = u64::from(layout.pages_in_shard(shard)) * PAGE_BYTES as u64;
        let partition: PartitionId = partition_of(state.partition_bits(), &key, shard);
        for holder in table.holders(partition) {
            let need = needs.entry(*holder).or_insert(0);
            *need = need.saturating_add(bytes);
        }
    }
    needs
}
