//! Networks that lose datagrams.

use holo_core::Role;

use crate::party::{Pair, echo, identity, options};

#[tokio::test]
async fn handshakes_and_transfers_survive_the_loss_of_three_datagrams_in_ten() {
    for seed in 0..6 {
        let with_retry = seed % 2 == 0;
        let mut node = options(identity(Role::Node)).danger_lossy_for_testing_only(300, seed);
        if with_retry {
            node.retry_above = 0;
        }
        let client =
            options(identity(Role::Client)).danger_lossy_for_testing_only(300, seed + 1000);
        let pair = Pair::with(node, client).await;
        assert_eq!(pair.node.retries_sent() > 0, with_retry);
        echo(&pair.connection, 30_000).await;
    }
}

#[tokio::test]
async fn an_endpoint_under_load_lets_newcomers_prove_their_address_first() {
    let mut node = options(identity(Role::Node));
    node.retry_above = 0;
    let pair = Pair::with(node, options(identity(Role::Client))).await;
    assert_eq!(pair.node.retries_sent(), 1);
    echo(&pair.connection, 1000).await;
    pair.close().await;
}
