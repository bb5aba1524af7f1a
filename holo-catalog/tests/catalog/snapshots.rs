use std::time::Duration;

use bytes::Bytes;
use holo_catalog::ControlLog;

use crate::recovery::OFTEN;
use crate::world::{LONG, Weather, World, command, ids, pass};

#[tokio::test(start_paused = true)]
async fn a_voter_that_was_away_for_too_long_is_sent_a_snapshot() {
    let mut world = World::new(1);
    world.compact(OFTEN);
    world.found(3).await;
    let away = (1..=3).find(|id| !world.voter(*id).is_leader()).unwrap();
    world.stop(away).await;
    for number in 0..100 {
        world.propose(command(number)).await.unwrap();
    }
    assert_eq!(world.snapshot_pieces(), 0);
    world.open(away).await.unwrap();
    let wanted: Vec<_> = (0..100).map(command).collect();
    assert_eq!(world.settle().await, wanted);
    assert!(world.snapshot_pieces() > 0);
    // It keeps what it was sent.
    world.stop(away).await;
    let again = world.open(away).await.unwrap();
    again.with_state(|ledger, _| assert!(ledger.commands.len() > 80));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_sent_a_snapshot_in_pieces_over_a_bad_network() {
    let mut world = World::new(7);
    world.compact(OFTEN);
    world.found(1).await;
    for number in 0..40_u8 {
        world.voter(1).propose(Bytes::from(vec![number; 100_000]), LONG).await.unwrap();
    }
    world.weather(Weather { delay_max: Duration::from_millis(20), lost_permille: 150 });
    for id in 2..=3 {
        world.open(id).await.unwrap();
    }
    world.voter(1).change_voters(ids(1..=3), LONG * 10).await.unwrap();
    world.weather(Weather::default());
    pass(Duration::from_secs(1)).await;
    assert_eq!(world.settle().await.len(), 40);
    assert!(world.snapshot_pieces() >= 2 * 4_000_000 / (512 << 10));
}
