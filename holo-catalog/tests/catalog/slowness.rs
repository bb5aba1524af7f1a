//! Voters that answer later than the library is willing to wait, which is one heartbeat of 100 ms.

use std::time::Duration;

use holo_catalog::ControlLog;

use crate::world::{LONG, World, command, number};

/// Three voters of which one is dead, and the one that does not lead takes `time` for every answer.
async fn a_slow_one_counts(time: Duration) -> (World, u64, u64) {
    let world = World::of(3).await;
    let leader = number(&world.leader().await);
    let mut others = (1..=3).filter(|id| *id != leader);
    let (dead, slow) = (others.next().unwrap(), others.next().unwrap());
    world.stop(dead).await;
    world.slow_down(slow, time);
    (world, leader, slow)
}

/// A busy machine answered every append after more than a heartbeat: each was given up and sent again, no answer was
/// ever heard, and nothing was agreed on any more.
#[tokio::test(start_paused = true)]
async fn a_voter_that_takes_longer_than_a_heartbeat_counts_and_is_sent_each_command_once() {
    for millis in [90, 110, 150, 250, 390] {
        let (world, leader, slow) = a_slow_one_counts(Duration::from_millis(millis)).await;
        let leader = world.voter(leader);
        for n in 0..5 {
            world.watch(slow, &command(n));
            leader.propose(command(n), LONG).await.unwrap();
            assert_eq!(world.carried(), 1, "{millis} ms: command {n}");
            assert!(leader.is_leader(), "{millis} ms");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_slow_voter_is_asked_follows_when_it_has_answered() {
    let (world, leader, _) = a_slow_one_counts(Duration::from_millis(250)).await;
    let leader = world.voter(leader);
    let term = leader.standing().borrow().term;
    for round in 0..10 {
        let proposed = (0..8).map(|n| leader.propose(command(round * 8 + n), LONG));
        for proposed in futures_util::future::join_all(proposed).await {
            proposed.unwrap();
        }
    }
    assert_eq!(leader.with_state(|ledger, _| ledger.commands.len()), 80);
    assert_eq!(leader.standing().borrow().term, term, "it was led all the while");
}

/// An answer that never comes must not be awaited for ever.
#[tokio::test(start_paused = true)]
async fn an_append_that_was_lost_is_sent_again() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    let other = (1..=3).find(|id| *id != number(&leader)).unwrap();
    let third = (1..=3).find(|id| ![number(&leader), other].contains(id)).unwrap();
    world.stop(third).await;
    for n in 0..20 {
        world.isolate(other);
        let (proposed, ()) = tokio::join!(leader.propose(command(n), LONG), async {
            crate::world::pass(Duration::from_millis(20 * n as u64)).await;
            world.heal();
        });
        proposed.unwrap();
        assert!(leader.is_leader());
    }
}
