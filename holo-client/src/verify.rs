//! Whether all copies of the data are equal.
//!
//! Each holder of a group is asked how far it has applied the group's operations and what its pages contain. Copies at
//! the same point must be the same; those at different points are asked again, until the writes under way have arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holo_core::placement::ClusterView;
use holo_core::replication::GroupId;
use holo_core::wire::{DigestQuery, GroupBody, GroupDigests, Kind, ReplicaDigest};
use holo_core::{ErrorCode, Failure, PartitionId, limits};

use crate::call::Call;
use crate::retry::Effect;
use crate::session::wait;
use crate::views::Target;
use crate::{Cluster, Error, Result};

/// Between two rounds of questions about the groups that are still open.
const PAUSE: Duration = Duration::from_millis(100);

/// What a comparison of all copies of all groups has shown: see [`Cluster::verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Groups whose copies, two or more, are equal.
    pub equal: u64,
    /// Copies of those groups.
    pub copies: u64,
    /// Bytes of pages in those copies.
    pub bytes: u64,
    /// Groups with one copy in sync, which its holder has read: there is nothing to compare it with.
    pub single: u64,
    /// Groups that nobody holds: their data is lost, or not back from disk.
    pub unheld: u64,
    /// Groups whose copies differ at the same point of their history: one of them is damaged.
    pub different: Vec<ComparedGroup>,
    /// Groups that could not be compared: writes kept arriving, or a holder did not answer, the only one perhaps.
    pub open: Vec<ComparedGroup>,
}

impl Verification {
    /// Whether every copy was read, and those of one group are equal. What nobody holds is in [`Self::unheld`].
    pub fn is_clean(&self) -> bool {
        self.different.is_empty() && self.open.is_empty()
    }
}

/// A group with what its holders said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedGroup {
    /// The group.
    pub group: GroupId,
    /// Its holders, the primary first.
    pub copies: Vec<ComparedCopy>,
}

/// What one holder of a group said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedCopy {
    /// Name of the node.
    pub node: String,
    /// What its copy contains; [`ErrorCode::NotReady`] when it does not hold the group in sync as far as it knows.
    pub said: Result<ReplicaDigest, Failure>,
}

/// What the asked members said, by their index in the view.
type Answers = BTreeMap<usize, Result<BTreeMap<GroupId, ReplicaDigest>, Failure>>;

impl Cluster {
    /// Compares all copies of all groups, byte by byte through BLAKE3 digests that their holders make anew. Groups at which
    /// writes are under way are looked at again, for the time of one request.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Denied`] without CONFIG. What does not answer is no error: it is in [`Verification::open`].
    pub async fn verify(&self) -> Result<Verification> {
        let call = self.reading();
        call.session().refresh(call.deadline()).await?;
        let mut view = self.view();
        let mut wanted = all_groups(&view);
        let mut answers = self.ask(&call, &view, None).await?;
        let until = call.deadline();
        let mut found = Verification::default();
        loop {
            let open = compare(&view, &wanted, &answers, &mut found);
            // What only nodes have that are down nobody will tell, however long it is asked for.
            let may_settle =
                open.iter().any(|it| holders(&view, it.group).any(|index| is_up(&view, index)));
            if !may_settle || until.remaining() < PAUSE {
                found.open = open;
                return Ok(found);
            }
            wanted = open.iter().map(|it| it.group).collect();
            wait(PAUSE).await;
            // The old view will do where nobody tells a newer one.
            drop(call.session().refresh(until).await);
            view = self.view();
            answers = self.ask(&call, &view, Some(&wanted)).await?;
        }
    }

    /// Asks all holders of these groups, or of all groups, at the same time.
    async fn ask(
        &self,
        call: &Call<'_>,
        view: &ClusterView,
        groups: Option<&BTreeSet<GroupId>>,
    ) -> Result<Answers> {
        let holds = |index: &usize| match groups {
            Some(groups) => groups.iter().any(|group| holders(view, *group).any(|it| it == *index)),
            None => true,
        };
        let asked = (0..view.members().len())
            .filter(holds)
            .map(|index| async move { (index, self.ask_member(call, view, index, groups).await) });
        let answers: Answers = futures_util::future::join_all(asked).await.into_iter().collect();
        for answer in answers.values() {
            if let Err(failure) = answer
                && matches!(failure.code, ErrorCode::Denied | ErrorCode::Unauthenticated)
            {
                return Err(Error::from(failure.clone()));
            }
        }
        Ok(answers)
    }

    async fn ask_member(
        &self,
        call: &Call<'_>,
        view: &ClusterView,
        index: usize,
        groups: Option<&BTreeSet<GroupId>>,
    ) -> Result<BTreeMap<GroupId, ReplicaDigest>, Failure> {
        let bodies = |groups: &[GroupId]| groups.iter().map(|group| (*group).into()).collect();
        let parts: Vec<Vec<GroupBody>> = match groups {
            None => vec![Vec::new()],
            Some(groups) => {
                let groups: Vec<GroupId> = groups.iter().copied().collect();
                groups.chunks(limits::DIGEST_GROUPS_MAX).map(bodies).collect()
            }
        };
        let mut said = BTreeMap::new();
        for groups in parts {
            let mut query = DigestQuery { after: None, groups };
            loop {
                let (target, kind) =
                    (Target::Node(view.members()[index].member.node), Kind::GroupDigests);
                let asked =
                    call.session().call(target, kind, Effect::Read, &query, call.deadline());
                let answer: GroupDigests = asked.await?;
                let more = answer.more && !answer.replicas.is_empty();
                for body in answer.replicas {
                    query.after = body.group;
                    let replica = ReplicaDigest::try_from(body)?;
                    said.insert(replica.group, replica);
                }
                if !more {
                    break;
                }
            }
        }
        Ok(said)
    }
}

fn all_groups(view: &ClusterView) -> BTreeSet<GroupId> {
    let partitions = (0..view.partitions()).map(PartitionId);
    partitions
        .flat_map(|partition| view.classes().map(move |class| GroupId { partition, class }))
        .collect()
}

fn holders(view: &ClusterView, group: GroupId) -> impl Iterator<Item = usize> {
    view.holders(group.class, group.partition).iter().map(|index| usize::from(*index))
}

fn is_up(view: &ClusterView, index: usize) -> bool {
    view.members().get(index).is_some_and(|member| member.up)
}

/// Enters into `found` what the answers settle, and gives the groups that stay open.
fn compare(
    view: &ClusterView,
    wanted: &BTreeSet<GroupId>,
    answers: &Answers,
    found: &mut Verification,
) -> Vec<ComparedGroup> {
    let mut open = Vec::new();
    for group in wanted {
        let copies: Vec<ComparedCopy> =
            holders(view, *group).map(|index| copy(view, *group, index, answers)).collect();
        let first = match copies.as_slice() {
            [] => {
                found.unheld += 1;
                continue;
            }
            [ComparedCopy { said: Ok(_), .. }] => {
                found.single += 1;
                continue;
            }
            [first, ..] => first,
        };
        let said: Vec<&ReplicaDigest> =
            copies.iter().filter_map(|copy| copy.said.as_ref().ok()).collect();
        let comparable = said.len() == copies.len()
            && said.windows(2).all(|pair| pair[0].is_comparable_with(pair[1]));
        let equal = said.windows(2).all(|pair| pair[0].pages == pair[1].pages);
        match (comparable, equal, &first.said) {
            (true, true, Ok(said)) => {
                found.equal += 1;
                found.copies += copies.len() as u64;
                found.bytes += said.bytes * copies.len() as u64;
            }
            (true, false, _) => {
                found.different.push(ComparedGroup { group: *group, copies });
            }
            _ => open.push(ComparedGroup { group: *group, copies }),
        }
    }
    open
}

fn copy(view: &ClusterView, group: GroupId, index: usize, answers: &Answers) -> ComparedCopy {
    let node = view.members().get(index).map_or_else(String::new, |it| it.member.name.clone());
    let said = match answers.get(&index) {
        Some(Ok(said)) => said.get(&group).copied().ok_or_else(|| {
            let message = format!("node {node} does not hold group {group} in sync");
            Failure::new(ErrorCode::NotReady, message)
        }),
        Some(Err(failure)) => Err(failure.clone()),
        None => Err(Failure::new(ErrorCode::NotReady, format!("node {node} was not asked"))),
    };
    ComparedCopy { node, said }
}

#[cfg(test)]
mod tests {
    use holo_core::Epoch;
    use holo_core::group::Seq;
    use holo_core::replication::Class;

    use super::*;
    use crate::shares::tests::members;

    const CLASS: Class = Class { replicas: 2, min_in_sync: 1 };

    fn group(partition: u32) -> GroupId {
        GroupId { partition: PartitionId(partition), class: CLASS }
    }

    /// Four partitions: two copies, two copies, one copy, none.
    fn view() -> ClusterView {
        let holders = vec![vec![0, 1], vec![1, 2], vec![2], vec![]];
        let classes = BTreeMap::from([(CLASS, holders)]);
        ClusterView::new(1, "lab", 2, members(), classes).unwrap()
    }

    fn replica(partition: u32, applied: u64, pages: u8) -> ReplicaDigest {
        ReplicaDigest {
            group: group(partition),
            epoch: Epoch(3),
            applied: Seq(applied),
            shards: [1; 32],
            pages: [pages; 32],
            bytes: 10,
        }
    }

    fn answers(said: [&[ReplicaDigest]; 3]) -> Answers {
        let said = said.iter().map(|it| Ok(it.iter().map(|it| (it.group, *it)).collect()));
        said.enumerate().collect()
    }

    fn judge(answers: &Answers) -> Verification {
        let (view, mut found) = (view(), Verification::default());
        found.open = compare(&view, &all_groups(&view), answers, &mut found);
        found
    }

    fn named(groups: &[ComparedGroup]) -> Vec<GroupId> {
        groups.iter().map(|it| it.group).collect()
    }

    #[test]
    fn copies_at_the_same_point_must_be_the_same() {
        let (a, b) = (replica(0, 7, 1), replica(1, 9, 2));
        let c = replica(2, 1, 4);
        let found = judge(&answers([&[a], &[a, b], &[b, c]]));
        assert!(found.is_clean(), "{found:?}");
        assert_eq!((found.equal, found.copies, found.bytes), (2, 4, 40));
        assert_eq!((found.single, found.unheld), (1, 1));
        let damaged = replica(1, 9, 3);
        let found = judge(&answers([&[a], &[a, b], &[damaged, c]]));
        assert_eq!((found.equal, named(&found.different)), (1, vec![group(1)]));
        assert!(found.open.is_empty() && !found.is_clean());
        let names: Vec<&str> =
            found.different[0].copies.iter().map(|copy| copy.node.as_str()).collect();
        assert_eq!(names, ["n2", "n3"], "the primary comes first");
    }

    #[test]
    fn copies_at_different_points_say_nothing_and_stay_open() {
        let (a, b, c) = (replica(0, 7, 1), replica(1, 9, 2), replica(2, 1, 4));
        let late = ReplicaDigest { applied: Seq(6), ..replica(0, 7, 5) };
        let elsewhere = ReplicaDigest { shards: [2; 32], ..replica(1, 9, 5) };
        let found = judge(&answers([&[late], &[a, b], &[elsewhere, c]]));
        assert_eq!(named(&found.open), [group(0), group(1)]);
        assert_eq!((found.equal, found.different.len()), (0, 0));
        let earlier = ReplicaDigest { epoch: Epoch(2), ..a };
        assert_eq!(named(&judge(&answers([&[earlier], &[a, b], &[b, c]])).open), [group(0)]);
    }

    #[test]
    fn who_does_not_answer_or_does_not_hold_the_group_leaves_it_open() {
        let (a, b, c) = (replica(0, 7, 1), replica(1, 9, 2), replica(2, 1, 4));
        let mut answers = answers([&[], &[a, b], &[b, c]]);
        let found = judge(&answers);
        assert_eq!((found.equal, named(&found.open)), (1, vec![group(0)]));
        answers.insert(2, Err(Failure::new(ErrorCode::Unreachable, "silent")));
        let found = judge(&answers);
        // The last one has no other copy: it was counted as if it had been read.
        assert_eq!(named(&found.open), [group(0), group(1), group(2)]);
        assert_eq!(found.single, 0);
        let said = found.open[1].copies[1].said.as_ref().unwrap_err();
        assert_eq!(said.code, ErrorCode::Unreachable);
    }
}
