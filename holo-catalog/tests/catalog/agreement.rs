use std::time::Duration;

use bytes::Bytes;
use holo_catalog::{COMMAND_BYTES_MAX, CatalogError, ControlLog, Quorum, VoterId};
use holo_core::{ErrorCode, Failure};
use tokio::time::Instant;

use crate::world::{LONG, World, command, eventually, ids, number, pass};

const SHORT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn a_single_voter_elects_itself_and_commits() {
    let world = World::of(1).await;
    let voter = world.voter(1);
    let proposed = voter.propose(command(0), LONG).await.unwrap();
    assert_eq!(proposed.answer, "1");
    assert!(voter.is_leader());
    assert_eq!(voter.leader(), Some(VoterId(1)));
    assert_eq!(*voter.applied().borrow(), proposed.index);
    assert_eq!(voter.read_index(LONG).await.unwrap(), proposed.index);
    assert_eq!(voter.standing().borrow().voters, ids([1]));
}

#[tokio::test(start_paused = true)]
async fn initializing_twice_changes_nothing() {
    let world = World::of(1).await;
    world.voter(1).propose(command(0), LONG).await.unwrap();
    world.voter(1).initialize().await.unwrap();
    assert_eq!(world.settle().await, [command(0)]);
}

#[tokio::test(start_paused = true)]
async fn a_voter_of_a_catalog_with_others_is_not_initialized_again() {
    let world = World::of(3).await;
    let failure = world.voter(2).initialize().await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Conflict);
}

#[tokio::test(start_paused = true)]
async fn three_voters_elect_one_leader_and_apply_the_same_commands_in_the_same_order() {
    let world = World::of(3).await;
    for number in 0..20 {
        world.propose(command(number)).await.unwrap();
    }
    let wanted: Vec<_> = (0..20).map(command).collect();
    assert_eq!(world.settle().await, wanted);
    let leaders = (1..=3).filter(|id| world.voter(*id).is_leader()).count();
    assert_eq!(leaders, 1);
    let leader = number(&world.leader().await);
    for id in 1..=3 {
        assert_eq!(world.voter(id).leader(), Some(VoterId(leader)));
    }
    assert_eq!(world.voter(leader).answering(), ids(1..=3));
}

#[tokio::test(start_paused = true)]
async fn a_dead_leader_is_replaced_within_two_seconds_and_takes_no_commit_with_it() {
    let mut world = World::of(3).await;
    for round in 0..5 {
        world.propose(command(round)).await.unwrap();
        let dead = number(&world.leader().await);
        world.crash(dead).await;
        let died = Instant::now();
        world.propose(Bytes::from(format!("after {round}"))).await.unwrap();
        assert!(died.elapsed() < Duration::from_secs(2), "{:?}", died.elapsed());
        world.open(dead).await.unwrap();
        let commands = world.settle().await;
        assert_eq!(commands.len(), 2 * (round + 1));
        assert_eq!(commands[2 * round], command(round));
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_cut_off_from_the_others_commits_nothing_and_says_that_it_has_no_quorum() {
    let world = World::of(3).await;
    let old = world.leader().await;
    old.propose(command(0), LONG).await.unwrap();
    world.isolate(number(&old));
    // It does not know yet that nobody hears it, so it cannot tell what becomes of this one.
    let unknown = old.propose(command(1), SHORT).await.unwrap_err();
    assert!(matches!(unknown, CatalogError::OutcomeUnknown { .. }), "{unknown}");
    // By now it does.
    let refused = old.propose(command(2), SHORT).await.unwrap_err();
    let me = ids([number(&old)]);
    assert_eq!(refused, CatalogError::NoQuorum(Quorum { sets: vec![ids(1..=3)], answering: me }));
    let failure = Failure::from(refused);
    assert_eq!(failure.code, ErrorCode::NoQuorum);
    assert!(failure.message.contains("1 of 3 voters answer"), "{failure}");
    assert!(!old.is_leader());
    let unread = old.read_index(SHORT).await.unwrap_err();
    assert!(matches!(unread, CatalogError::NoQuorum(_)), "{unread}");

    let new = world.leader_but(Some(number(&old))).await;
    new.propose(command(3), LONG).await.unwrap();
    world.heal();
    eventually("the old leader follows", || old.leader() == Some(VoterId(number(&new)))).await;
    assert_eq!(world.settle().await, [command(0), command(3)]);
}

/// The library lets such a leader lead for ever: its heartbeats arrive, and keep the others from electing another one.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_heard_and_hears_nobody_is_replaced_within_four_seconds() {
    for voters in [3, 5] {
        let world = World::of(voters).await;
        world.propose(command(0)).await.unwrap();
        let deaf = world.leader().await;
        world.deafen(number(&deaf));
        let since = Instant::now();
        let new = world.leader_but(Some(number(&deaf))).await;
        new.propose(command(1), LONG).await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
        // And it stays so, though the old one still speaks now and then.
        pass(Duration::from_secs(20)).await;
        assert!(new.is_leader());
        world.heal();
        eventually("the old one follows", || deaf.leader() == Some(VoterId(number(&new)))).await;
        assert_eq!(world.settle().await, [command(0), command(1)]);
    }
}

/// Nobody else can lead then: only this one has the last command, or knows that the others vote.
#[tokio::test(start_paused = true)]
async fn a_leader_that_was_without_a_majority_for_long_leads_the_voters_that_come_back() {
    let mut world = World::of(3).await;
    let leader = world.leader().await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != number(&leader)).collect();
    for id in &others {
        world.crash(*id).await;
    }
    leader.propose(command(0), SHORT).await.unwrap_err();
    pass(Duration::from_secs(30)).await;
    world.open(others[0]).await.unwrap();
    world.propose(command(1)).await.unwrap();
    world.open(others[1]).await.unwrap();
    assert_eq!(world.settle().await.last(), Some(&command(1).to_vec()));
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_everything_says_that_there_is_no_quorum() {
    let world = World::of(3).await;
    world.propose(command(0)).await.unwrap();
    let survivor = world.leader().await;
    for id in [1, 2, 3].into_iter().filter(|id| *id != number(&survivor)) {
        world.stop(id).await;
    }
    pass(Duration::from_secs(5)).await;
    let refused = survivor.propose(command(1), SHORT).await.unwrap_err();
    assert!(matches!(refused, CatalogError::NoQuorum(_)), "{refused}");
    let refused = survivor.change_voters(ids([number(&survivor)]), SHORT).await.unwrap_err();
    assert!(matches!(refused, CatalogError::NoQuorum(_)), "{refused}");
    // What was agreed on can still be read, as of the index that goes with it.
    survivor.with_state(|ledger, index| {
        assert_eq!(ledger.commands.len(), 1);
        assert!(index.0 > 0);
    });
}

#[tokio::test(start_paused = true)]
async fn other_voters_name_the_leader() {
    let world = World::of(3).await;
    let leader = number(&world.leader().await);
    for id in (1..=3).filter(|id| *id != leader) {
        let voter = world.voter(id);
        let wanted = CatalogError::NotLeader { leader: VoterId(leader) };
        assert_eq!(voter.propose(command(0), LONG).await.unwrap_err(), wanted);
        assert_eq!(voter.read_index(LONG).await.unwrap_err(), wanted);
        assert_eq!(voter.change_voters(ids([1]), LONG).await.unwrap_err(), wanted);
        assert_eq!(Failure::from(wanted).code, ErrorCode::WrongNode);
    }
}

#[tokio::test(start_paused = true)]
async fn a_voter_that_waits_for_a_read_index_has_all_that_was_acknowledged() {
    let world = World::of(3).await;
    for round in 0..30 {
        world.propose(command(round)).await.unwrap();
        let index = world.leader().await.read_index(LONG).await.unwrap();
        for id in 1..=3 {
            let voter = world.voter(id);
            voter.wait_applied(index, LONG).await.unwrap();
            voter.with_state(|ledger, _| assert_eq!(ledger.commands.len(), round + 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proposal_waits_for_an_election() {
    let world = World::of(3).await;
    let dead = number(&world.leader().await);
    world.stop(dead).await;
    let asked: Vec<_> = world.alive().into_iter().map(|id| world.voter(id.0)).collect();
    eventually("the survivors stand for election", || {
        asked.iter().all(|voter| voter.leader() != Some(VoterId(dead)))
    })
    .await;
    let answers =
        futures_util::future::join_all(asked.iter().map(|voter| voter.propose(command(0), LONG)))
            .await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    let elsewhere = answers.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(elsewhere, CatalogError::NotLeader { .. }), "{elsewhere}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_is_too_large_is_refused_and_the_largest_is_agreed_on() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    let bytes = COMMAND_BYTES_MAX + 1;
    let refused = leader.propose(vec![0; bytes].into(), LONG).await.unwrap_err();
    assert_eq!(refused, CatalogError::TooLarge { bytes });
    leader.propose(vec![1; COMMAND_BYTES_MAX].into(), LONG).await.unwrap();
    leader.propose(vec![2; COMMAND_BYTES_MAX].into(), LONG).await.unwrap();
    assert_eq!(world.settle().await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_proposals_at_once_are_each_answered_with_their_own_answer() {
    let world = World::of(3).await;
    let leader = world.leader().await;
    let answers = futures_util::future::join_all(
        (0..200).map(|number| leader.propose(command(number), LONG)),
    )
    .await;
    let commands = world.settle().await;
    for (number, answer) in answers.into_iter().enumerate() {
        let place: usize = std::str::from_utf8(&answer.unwrap().answer).unwrap().parse().unwrap();
        assert_eq!(commands[place - 1], command(number));
    }
}

#[tokio::test(start_paused = true)]
async fn more_proposals_than_may_wait_are_refused_and_do_nothing() {
    let world = World::of(1).await;
    let voter = world.leader().await;
    let answers = futures_util::future::join_all(
        (0..1100).map(|number| voter.propose(command(number), LONG)),
    )
    .await;
    let busy = |answer: &Result<_, _>| matches!(answer, Err(CatalogError::Busy { .. }));
    assert_eq!(answers.iter().filter(|answer| busy(answer)).count(), 1100 - 1024);
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(done, 1024);
    assert_eq!(world.settle().await.len(), done);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_voter_says_so() {
    let world = World::of(1).await;
    let voter = world.voter(1);
    let standing = voter.standing();
    world.stop(1).await;
    assert!(standing.borrow().stopped);
    assert_eq!(voter.propose(command(0), LONG).await.unwrap_err(), CatalogError::Stopped);
    assert_eq!(voter.read_index(LONG).await.unwrap_err(), CatalogError::Stopped);
    let waited = voter.wait_applied(holo_catalog::LogIndex(99), LONG).await;
    assert_eq!(waited.unwrap_err(), CatalogError::Stopped);
    let failure = voter.handle(VoterId(2), Bytes::new()).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Malformed);
}
