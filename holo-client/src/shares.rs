//! Which node runs which shards: pure.

use std::collections::BTreeMap;

use holo_core::placement::ClusterView;
use holo_core::{ArrayDescriptor, Failure, ShardIndex};

use crate::views::{Route, Target};

/// Shards that one request names: their partial results fit one answer.
const SHARDS_PER_REQUEST_MAX: u64 = 16_384;

/// Consecutive shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShardSpan {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// Shards that one node is asked to run.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) route: Route,
    /// The node's place among the members.
    pub(crate) order: usize,
    /// Ascending, with gaps between them.
    pub(crate) spans: Vec<ShardSpan>,
    pub(crate) shards: u64,
}

/// Splits shards of an array by their primaries.
///
/// # Errors
///
/// Those of [`ClusterView::primary_of`].
pub(crate) fn split(
    view: &ClusterView,
    array: &ArrayDescriptor,
    spans: &[ShardSpan],
) -> Result<Vec<Share>, Failure> {
    let mut open: BTreeMap<usize, Share> = BTreeMap::new();
    let mut full = Vec::new();
    for shard in spans.iter().flat_map(|span| span.shards()) {
        let (order, member) = view.primary_of(array, ShardIndex(shard))?;
        let empty = || Share { route: Route::to(member), order, spans: Vec::new(), shards: 0 };
        let share = open.entry(order).or_insert_with(empty);
        if share.shards == SHARDS_PER_REQUEST_MAX {
            full.push(std::mem::replace(share, empty()));
        }
        share.push(shard);
    }
    full.extend(open.into_values());
    full.sort_by_key(|share| share.order);
    Ok(full)
}

/// Puts spans that were taken apart in order again.
pub(crate) fn joined(mut spans: Vec<ShardSpan>) -> Vec<ShardSpan> {
    spans.sort_by_key(|span| span.first);
    let mut joined: Vec<ShardSpan> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if last.first + last.count == span.first => last.count += span.count,
            _ => joined.push(span),
        }
    }
    joined
}

impl Share {
    /// As it crosses the wire: pairs of a first shard and a count.
    pub(crate) fn to_pairs(&self) -> Vec<u64> {
        self.spans.iter().flat_map(|span| [span.first, span.count]).collect()
    }

    /// Whether the node is still the primary of all of them.
    pub(crate) fn stays(&self, view: &ClusterView, array: &ArrayDescriptor) -> bool {
        let mut shards = self.spans.iter().flat_map(|span| span.shards());
        shards.all(|shard| !self.route.has_moved(view, Target::Shard(array, ShardIndex(shard))))
    }

    fn push(&mut self, shard: u64) {
        self.shards += 1;
        match self.spans.last_mut() {
            Some(last) if last.first + last.count == shard => last.count += 1,
            _ => self.spans.push(ShardSpan { first: shard, count: 1 }),
        }
    }
}

impl ShardSpan {
    fn shards(self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use holo_core::placement::MemberView;
    use holo_core::replication::{Class, NodeNumber};
    use holo_core::wire::ArrayInfo;
    use holo_core::{ErrorCode, Member, NodeId, PublicKey};

    use super::*;

    /// Three nodes in service.
    pub(crate) fn members() -> Vec<MemberView> {
        let member = |number: u8| MemberView {
            member: Member {
                node: NodeId(PublicKey([number; 32])),
                name: format!("n{number}"),
                address: format!("10.0.0.{number}:7400"),
                zone: String::new(),
                weight_milli: 1000,
            },
            number: NodeNumber(u32::from(number)),
            state: "active".to_owned(),
            up: true,
        };
        (1..=3).map(member).collect()
    }

    /// Every shard's primary is the node that `pick` gives for its partition; nobody for 9.
    fn view(version: u64, pick: impl Fn(u16) -> u16) -> ClusterView {
        let holders = (0..16).map(|partition| match pick(partition) {
            9 => Vec::new(),
            index => vec![index],
        });
        let class = Class { replicas: 1, min_in_sync: 1 };
        let classes = BTreeMap::from([(class, holders.collect())]);
        ClusterView::new(version, "lab", 4, members(), classes).unwrap()
    }

    fn array(shards: u64) -> ArrayDescriptor {
        let info = ArrayInfo {
            id: 1,
            name: "a".into(),
            shape: vec![shards * 8],
            dtype: u32::from(holo_core::DType::I64.to_byte()),
            shard_elems: 8,
            colocation: 1,
            placement_key: vec![3; 32],
            replicas: 1,
            created_unix_ms: 1,
            tenant: 1,
            min_in_sync: 1,
        };
        ArrayDescriptor::try_from(info).unwrap()
    }

    fn all(shards: u64) -> Vec<ShardSpan> {
        vec![ShardSpan { first: 0, count: shards }]
    }

    #[test]
    fn every_shard_goes_to_its_primary_and_to_nobody_else() {
        let (view, array) = (view(1, |partition| partition % 3), array(500));
        let shares = split(&view, &array, &all(500)).unwrap();
        assert_eq!(shares.iter().map(|share| share.shards).sum::<u64>(), 500);
        for share in &shares {
            assert!(share.stays(&view, &array));
            let counted: u64 = share.to_pairs().chunks(2).map(|pair| pair[1]).sum();
            assert_eq!(counted, share.shards);
        }
        let spans = shares.iter().flat_map(|share| share.spans.clone()).collect();
        assert_eq!(joined(spans), all(500));
    }

    #[test]
    fn a_share_whose_shard_moved_does_not_stay_and_is_split_anew() {
        let (before, array) = (view(1, |partition| partition % 3), array(200));
        let after = view(2, |partition| if partition % 3 == 1 { 2 } else { partition % 3 });
        let shares = split(&before, &array, &all(200)).unwrap();
        let stays: Vec<bool> = shares.iter().map(|share| share.stays(&after, &array)).collect();
        assert_eq!(stays, [true, false, true]);
        let again = split(&after, &array, &shares[1].spans).unwrap();
        assert_eq!((again.len(), again[0].order, again[0].shards), (1, 2, shares[1].shards));
    }

    #[test]
    fn a_request_names_a_bounded_number_of_shards() {
        let (view, array) = (view(1, |_| 0), array(40_000));
        let shares = split(&view, &array, &all(40_000)).unwrap();
        let counts: Vec<u64> = shares.iter().map(|share| share.shards).collect();
        assert_eq!(counts, [16_384, 16_384, 7_232]);
    }

    #[test]
    fn a_shard_that_nobody_holds_is_lost() {
        let refused = split(&view(1, |_| 9), &array(1), &all(1)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::DataLost);
    }
}
