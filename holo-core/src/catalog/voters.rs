//! Which nodes should vote in the catalog.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::changes::Subject;
use crate::catalog::command::{Answer, Authority};
use crate::catalog::nodes::NodeState;
use crate::catalog::state::CatalogState;
use crate::replication::NodeNumber;
use crate::{ErrorCode, Failure, UnixMillis};

/// A node that could vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterCandidate {
    /// The node.
    pub node: NodeNumber,
    /// Its failure domain.
    pub zone: String,
    /// It answers, and is not about to leave.
    pub dependable: bool,
    /// It answers now; one that votes and is away for a moment is dependable all the same.
    pub up: bool,
}

/// The nodes that should vote: 1 of up to two candidates, 3 of up to four, 5 from five on, 7 from seven on, never more
/// than `voters_max`, an odd number.
///
/// Those that vote stay as long as they are dependable, unless a zone without a voter can take over from one with two
/// more. One that is not dependable gives way to one that is, and stays where there is none: a vote that may come back
/// is better than none. Who answers now comes first where fewer shall vote than could: a vote that is left to one who is
/// away could not be given to anybody else. Then come zones with few voters, then low numbers, so every voter comes to
/// the same choice.
pub fn choose_voters(
    candidates: &[VoterCandidate],
    current: &[NodeNumber],
    voters_max: u8,
) -> Vec<NodeNumber> {
    let wanted = match candidates.len() {
        0 => 0,
        1 | 2 => 1,
        3 | 4 => 3,
        5 | 6 => 5,
        _ => 7,
    };
    let wanted = wanted.min(usize::from(voters_max.max(1)));
    let mut chosen: BTreeSet<NodeNumber> = BTreeSet::new();
    // Dependable voters, dependable others, then voters and others that are not.
    for (dependable, votes) in [(true, true), (true, false), (false, true), (false, false)] {
        while chosen.len() < wanted {
            let in_zone = zone_counts(candidates, &chosen);
            let next = candidates
                .iter()
                .filter(|it| it.dependable == dependable && current.contains(&it.node) == votes)
                .filter(|it| !chosen.contains(&it.node))
                .min_by_key(|it| {
                    (!it.up, in_zone.get(it.zone.as_str()).copied().unwrap_or(0), it.node)
                });
            let Some(next) = next else { break };
            chosen.insert(next.node);
        }
    }
    spread(candidates, &mut chosen);
    chosen.into_iter().collect()
}

/// Moves votes from zones with two more than another that could take one.
fn spread(candidates: &[VoterCandidate], chosen: &mut BTreeSet<NodeNumber>) {
    for _ in 0..chosen.len() {
        let in_zone = zone_counts(candidates, chosen);
        let count = |zone: &str| in_zone.get(zone).copied().unwrap_or(0);
        let from = candidates
            .iter()
            .filter(|it| chosen.contains(&it.node))
            .max_by_key(|it| (count(&it.zone), it.node));
        let to = candidates
            .iter()
            .filter(|it| it.dependable && !chosen.contains(&it.node))
            .min_by_key(|it| (count(&it.zone), it.node));
        let (Some(from), Some(to)) = (from, to) else { return };
        if count(&from.zone) < count(&to.zone) + 2 {
            return;
        }
        chosen.remove(&from.node);
        chosen.insert(to.node);
    }
}

fn zone_counts<'a>(
    candidates: &'a [VoterCandidate],
    chosen: &BTreeSet<NodeNumber>,
) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for it in candidates.iter().filter(|it| chosen.contains(&it.node)) {
        *counts.entry(it.zone.as_str()).or_insert(0) += 1;
    }
    counts
}

impl CatalogState {
    /// The nodes that should vote, at `now` of whoever leads. A voter counts as dead after
    /// [`crate::catalog::Settings::voter_delay_ms`]. Those who vote go on where a majority of the others is not there:
    /// the change could not be agreed to, and nothing else after it.
    pub fn wanted_voters(&self, now: UnixMillis) -> Vec<NodeNumber> {
        let delay = self.settings.voter_delay_ms;
        let candidates: Vec<VoterCandidate> = self
            .nodes
            .values()
            .filter(|node| matches!(node.state, NodeState::Active | NodeState::Cordoned))
            .map(|node| VoterCandidate {
                node: node.number,
                zone: node.zone.clone(),
                // Who votes may be away for a moment; who shall begin to vote has to be here.
                dependable: node.up
                    || (self.voters.contains(&node.number) && !node.is_missing(now, delay)),
                up: node.up,
            })
            .collect();
        let chosen = choose_voters(&candidates, &self.voters, self.settings.voters_max);
        let here = chosen.iter().filter(|it| self.nodes.get(it).is_some_and(|node| node.up));
        if here.count() * 2 > chosen.len() { chosen } else { self.voters.clone() }
    }

    pub(super) fn set_voters(
        &mut self,
        by: Authority,
        voters: &[NodeNumber],
    ) -> Result<Answer, Failure> {
        self.check_voter(by)?;
        let wanted: BTreeSet<NodeNumber> = voters.iter().copied().collect();
        if wanted.is_empty() || wanted.len() != voters.len() || wanted.len() > 7 {
            let message = format!("{} voters", voters.len());
            return Err(Failure::new(ErrorCode::InvalidArgument, message));
        }
        for number in &wanted {
            self.living(*number)?;
        }
        let wanted: Vec<NodeNumber> = wanted.into_iter().collect();
        if self.voters != wanted {
            self.voters = wanted;
            self.touch(Subject::Voters);
        }
        Ok(Answer::Done)
    }
}
