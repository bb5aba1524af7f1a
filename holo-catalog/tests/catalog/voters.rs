use std::time::Duration;

use holo_catalog::{CatalogError, ControlLog, VoterId};

use crate::world::{LONG, World, command, eventually, ids, number, pass};

#[tokio::test(start_paused = true)]
async fn a_catalog_grows_from_one_to_five_and_shrinks_to_one_again() {
    let mut world = World::of(1).await;
    let mut agreed = 0;
    for count in [3, 5, 3, 1] {
        for id in 1..=count {
            if !world.alive().contains(&VoterId(id)) {
                world.open(id).await.unwrap();
            }
        }
        world.propose(command(agreed)).await.unwrap();
        agreed += 1;
        let leader = world.leader().await;
        leader.change_voters(ids(1..=count), LONG).await.unwrap();
        eventually("the new voters are known to all of them", || {
            (1..=count).all(|id| {
                let standing = world.voter(id).standing();
                let standing = standing.borrow();
                standing.voters == ids(1..=count)
                    && standing.learners.is_empty()
                    && !standing.changing
            })
        })
        .await;
        for id in world.alive() {
            if id.0 > count {
                world.stop(id.0).await;
            }
        }
        world.propose(command(agreed)).await.unwrap();
        agreed += 1;
        let wanted: Vec<_> = (0..agreed).map(command).collect();
        assert_eq!(world.settle().await, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_voter_is_replaced() {
    let mut world = World::of(3).await;
    world.propose(command(0)).await.unwrap();
    let dead = (1..=3).find(|id| !world.voter(*id).is_leader()).unwrap();
    world.stop(dead).await;
    world.open(4).await.unwrap();
    let voters = ids((1..=4).filter(|id| *id != dead));
    world.leader().await.change_voters(voters.clone(), LONG).await.unwrap();
    world.propose(command(1)).await.unwrap();
    assert_eq!(world.settle().await, [command(0), command(1)]);
    assert_eq!(world.voter(4).standing().borrow().voters, voters);
    // And the newcomer counts: without it there were no majority.
    let other = (1..=3).find(|id| *id != dead && !world.voter(*id).is_leader()).unwrap();
    world.stop(other).await;
    world.propose(command(2)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_by_a_newcomer() {
    let mut world = World::of(3).await;
    let dead = number(&world.leader().await);
    world.stop(dead).await;
    world.open(4).await.unwrap();
    let voters = ids((1..=4).filter(|id| *id != dead));
    world.leader().await.change_voters(voters.clone(), LONG).await.unwrap();
    world.propose(command(0)).await.unwrap();
    assert_eq!(world.settle().await, [command(0)]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_can_leave() {
    let world = World::of(3).await;
    let leaving = number(&world.leader().await);
    let staying = ids((1..=3).filter(|id| *id != leaving));
    world.voter(leaving).change_voters(staying.clone(), LONG).await.unwrap();
    let successor = world.leader_but(Some(leaving)).await;
    assert!(staying.contains(&VoterId(number(&successor))));
    successor.propose(command(0), LONG).await.unwrap();
    assert_eq!(successor.standing().borrow().voters, staying);
}

/// Voters that were removed without a word took themselves for voters whose leader had died: their state stood still,
/// and their nodes proposed to nobody. Now they are told, with what was agreed on right after, and then forgotten.
#[tokio::test(start_paused = true)]
async fn voters_that_are_removed_hear_of_it_and_of_nothing_later() {
    for leader_leaves in [false, true] {
        let world = World::of(4).await;
        let leader = number(&world.leader().await);
        let leaves = |id: u64| (id == leader) == leader_leaves;
        let removed: Vec<u64> = (1..=4).filter(|id| leaves(*id)).take(2).collect();
        let staying = ids((1..=4).filter(|id| !removed.contains(id)));
        world.voter(leader).change_voters(staying.clone(), LONG).await.unwrap();
        let last = world.propose(command(0)).await.unwrap().index;
        for id in &removed {
            let voter = world.voter(*id);
            voter.wait_applied(last, LONG).await.unwrap();
            assert_eq!(voter.standing().borrow().voters, staying);
        }
        eventually("nobody is a member without a vote", || {
            staying.iter().all(|id| world.voter(id.0).standing().borrow().learners.is_empty())
        })
        .await;
        eventually("those who were removed believe in no leader", || {
            removed.iter().all(|id| world.voter(*id).leader().is_none())
        })
        .await;
        let after = world.propose(command(1)).await.unwrap().index;
        for id in &removed {
            let refused = world.voter(*id).propose(command(2), Duration::ZERO).await.unwrap_err();
            assert!(matches!(refused, CatalogError::NoQuorum(_)), "{refused}");
            assert!(*world.voter(*id).applied().borrow() < after);
        }
        // And they may come back.
        let next = number(&world.leader().await);
        world.voter(next).change_voters(ids(1..=4), LONG).await.unwrap();
        world.propose(command(3)).await.unwrap();
        assert_eq!(world.settle().await, [command(0), command(1), command(3)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_former_voter_that_is_dead_is_waited_for_only_so_long() {
    let world = World::of(4).await;
    let leader = world.leader().await;
    let removed = (1..=4).find(|id| *id != number(&leader)).unwrap();
    world.stop(removed).await;
    leader.change_voters(ids((1..=4).filter(|id| *id != removed)), LONG).await.unwrap();
    eventually("it is no member", || leader.standing().borrow().learners.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_that_nobody_reaches_changes_nothing() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    let refused = leader.change_voters(ids(1..=4), Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(refused, CatalogError::NotCaughtUp { voter: VoterId(4), .. }), "{refused}");
    eventually("no learner stays behind", || {
        let standing = leader.standing();
        let standing = standing.borrow();
        standing.voters == ids(1..=3) && standing.learners.is_empty()
    })
    .await;
    world.propose(command(0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sets_that_cannot_vote_are_refused() {
    let world = World::of(1).await;
    for voters in [ids([]), ids(1..=8)] {
        let refused = world.voter(1).change_voters(voters, LONG).await.unwrap_err();
        assert!(matches!(refused, CatalogError::ChangeRefused { .. }), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_changes_at_once_one_is_refused() {
    let mut world = World::of(1).await;
    for id in 2..=3 {
        world.open(id).await.unwrap();
    }
    let leader = world.voter(1);
    let (first, second) = tokio::join!(
        leader.change_voters(ids([1, 2]), LONG),
        leader.change_voters(ids([1, 3]), LONG),
    );
    first.unwrap();
    let refused = second.unwrap_err();
    assert!(matches!(refused, CatalogError::ChangeRefused { .. }), "{refused}");
    assert_eq!(leader.standing().borrow().voters, ids([1, 2]));
}

/// A leader that dies between the joint set and the new one leaves a catalog that needs both majorities; its successor
/// finishes what it began, whoever asked for it.
#[tokio::test(start_paused = true)]
async fn a_change_that_a_dying_leader_left_half_way_is_finished_by_the_next_one() {
    let mut finished = 0;
    for wait_ms in [0, 1, 2, 5, 10, 20, 50, 100, 160, 200, 300] {
        let mut world = World::of(3).await;
        world.weather(crate::world::Weather {
            delay_max: Duration::from_millis(40),
            lost_permille: 0,
        });
        for id in 4..=5 {
            world.open(id).await.unwrap();
        }
        let leader = world.leader().await;
        let dying = number(&leader);
        let change = leader.change_voters(ids(1..=5), LONG);
        let died = async {
            eventually("the new voters learn", || !leader.standing().borrow().learners.is_empty())
                .await;
            pass(Duration::from_millis(wait_ms)).await;
            world.isolate(dying);
        };
        let ((), _change) = tokio::join!(died, async {
            tokio::time::timeout(Duration::from_secs(5), change).await
        });
        world.stop(dying).await;
        let successor = world.leader().await;
        eventually("one set of voters, not two", || {
            world.alive().into_iter().filter(|id| id.0 <= 3).all(|id| {
                let standing = world.voter(id.0).standing();
                let standing = standing.borrow();
                !standing.changing && standing.leader.is_some()
            })
        })
        .await;
        let voters = successor.standing().borrow().voters.clone();
        assert!(voters == ids(1..=3) || voters == ids(1..=5), "{voters:?}");
        finished += usize::from(voters == ids(1..=5));
        world.propose(command(0)).await.unwrap();
    }
    assert!(finished > 0);
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_was_removed_does_not_disturb_the_others() {
    let world = World::of(4).await;
    let leader = world.leader().await;
    let removed = (1..=4).find(|id| *id != number(&leader)).unwrap();
    let staying = ids((1..=4).filter(|id| *id != removed));
    // It does not hear that it was removed, and stands for election again and again.
    world.isolate(removed);
    leader.change_voters(staying, LONG).await.unwrap();
    let term = leader.standing().borrow().term;
    world.heal();
    pass(Duration::from_secs(20)).await;
    assert!(leader.is_leader());
    assert_eq!(leader.standing().borrow().term, term);
    leader.propose(command(0), LONG).await.unwrap();
}
