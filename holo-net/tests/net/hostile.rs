//! Networks that read, repeat and change what passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holo_core::wire::Kind;
use holo_core::{ErrorCode, Role};
use holo_net::{Endpoint, NetError, Suite};
use parking_lot::Mutex;

use crate::party::{Echo, PATIENCE, echo, expect_node, identity, options, request};
use crate::relay::{Relay, Way};

#[tokio::test]
async fn a_listener_learns_neither_contents_nor_who_talks() {
    for suite in Suite::HYBRID {
        let (node, mut client) = (options(identity(Role::Node)), options(identity(Role::Client)));
        client.suite_offered = suite;
        let canary = *b"a canary that must not be seen: 4f1c";
        let secrets =
            [canary.to_vec(), node.identity.key().0.to_vec(), client.identity.key().0.to_vec()];
        let node = Endpoint::bind(node, Some(Arc::new(Echo::default()))).unwrap();
        let client = Endpoint::bind(client, None).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let recorder = Arc::clone(&heard);
        let relay = Relay::new(
            node.local_addr(),
            Box::new(move |_way, datagram| {
                recorder.lock().push(datagram.clone());
                vec![datagram]
            }),
        )
        .await;
        let connection = client.connect(relay.address, expect_node(), PATIENCE).await.unwrap();
        let small = connection.call(request(Kind::Get, canary.to_vec())).await.unwrap();
        assert_eq!(small, &canary[..]);
        let bulk = vec![bytes::Bytes::from(canary.repeat(3000))];
        let (_, mut back) =
            connection.bulk(request(Kind::WriteShard, canary.to_vec()), bulk).await.unwrap();
        while back.chunk().await.unwrap().is_some() {}
        client.close().await;
        node.close().await;

        let heard = heard.lock();
        let total: usize = heard.iter().map(Vec::len).sum();
        assert!(total > 2 * 3000 * canary.len(), "the listener heard all of it: {total} bytes");
        for datagram in heard.iter() {
            for secret in &secrets {
                // Half of a secret is enough to give it away, wherever a packet may cut it.
                let half = &secret[..secret.len() / 2];
                assert!(!datagram.windows(half.len()).any(|window| window == half), "{suite:?}");
            }
        }
    }
}

#[tokio::test]
async fn repeated_datagrams_change_nothing() {
    let service = Arc::new(Echo::default());
    let node =
        Endpoint::bind(options(identity(Role::Node)), Some(Arc::clone(&service) as _)).unwrap();
    let client = Endpoint::bind(options(identity(Role::Client)), None).unwrap();
    let mut past: Vec<Vec<u8>> = Vec::new();
    let relay = Relay::new(
        node.local_addr(),
        Box::new(move |way, datagram| {
            let mut out = vec![datagram.clone(), datagram.clone()];
            if way == Way::ToNode {
                // And one of long ago, the first flight among them.
                let old = past.len() / 2;
                out.extend(past.get(old).cloned());
                past.push(datagram);
            }
            out
        }),
    )
    .await;
    let connection = client.connect(relay.address, expect_node(), PATIENCE).await.unwrap();
    for number in 0..200u32 {
        let body = number.to_le_bytes().to_vec();
        assert_eq!(connection.call(request(Kind::Put, body.clone())).await.unwrap(), body);
    }
    assert_eq!(service.calls.load(Ordering::SeqCst), 200, "no request ran twice");
    echo(&connection, 300_000).await;
    client.close().await;
    node.close().await;
}

#[tokio::test]
async fn flipped_bits_are_loss_and_nothing_worse() {
    let service = Arc::new(Echo::default());
    let node =
        Endpoint::bind(options(identity(Role::Node)), Some(Arc::clone(&service) as _)).unwrap();
    let client = Endpoint::bind(options(identity(Role::Client)), None).unwrap();
    let mut count = 0usize;
    let relay = Relay::new(
        node.local_addr(),
        Box::new(move |_way, mut datagram| {
            count += 1;
            // From the first datagram of the handshake on, a fifth of all, a different bit each time.
            if count.is_multiple_of(5) {
                let bit = count * 7919 % (datagram.len() * 8);
                datagram[bit / 8] ^= 1 << (bit % 8);
            }
            vec![datagram]
        }),
    )
    .await;
    let connection = client.connect(relay.address, expect_node(), PATIENCE).await.unwrap();
    for number in 0..100u32 {
        let body = number.to_le_bytes().to_vec();
        assert_eq!(connection.call(request(Kind::Put, body.clone())).await.unwrap(), body);
    }
    assert_eq!(service.calls.load(Ordering::SeqCst), 100);
    echo(&connection, 100_000).await;
    client.close().await;
    node.close().await;
}

#[tokio::test]
async fn noise_from_strangers_disturbs_nobody() {
    let node =
        Endpoint::bind(options(identity(Role::Node)), Some(Arc::new(Echo::default()))).unwrap();
    let client = Endpoint::bind(options(identity(Role::Client)), None).unwrap();
    let connection = client.connect(node.local_addr(), expect_node(), PATIENCE).await.unwrap();
    let stranger = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..300usize {
        let mut noise = vec![0; 1 + round * 37 % 1400];
        blake3::Hasher::new()
            .update(&round.to_string().into_bytes())
            .finalize_xof()
            .fill(&mut noise);
        if round % 3 == 0 && noise.len() > 5 {
            // Looks like a first packet of our version.
            noise[0] = 0xc0;
            noise[1..5].copy_from_slice(&[0x68, 0x6f, 0, 1]);
        }
        stranger.send_to(&noise, node.local_addr()).unwrap();
    }
    echo(&connection, 10_000).await;
    let second = client.connect(node.local_addr(), expect_node(), PATIENCE).await.unwrap();
    echo(&second, 10_000).await;
    client.close().await;
    node.close().await;
}

#[tokio::test]
async fn peers_of_a_killed_node_hear_from_its_successor_that_it_is_gone() {
    let seed = [0x5e; 32];
    let make = || {
        holo_net::Identity::from_seed(
            &seed,
            Role::Node,
            crate::party::CLUSTER,
            crate::party::HOUR,
            crate::party::now(),
        )
        .unwrap()
    };
    let node = Endpoint::bind(options(make()), Some(Arc::new(Echo::default()))).unwrap();
    let address = node.local_addr();
    let dead = Arc::new(AtomicBool::new(false));
    let silent = Arc::clone(&dead);
    let relay = Relay::new(
        address,
        Box::new(
            move |_way, datagram| {
                if silent.load(Ordering::SeqCst) { Vec::new() } else { vec![datagram] }
            },
        ),
    )
    .await;
    let client = Endpoint::bind(options(identity(Role::Client)), None).unwrap();
    let connection = client.connect(relay.address, expect_node(), PATIENCE).await.unwrap();
    echo(&connection, 100).await;
    // A kill says no goodbye.
    dead.store(true, Ordering::SeqCst);
    node.close().await;
    drop(node);
    let successor = loop {
        let mut successor = options(make());
        successor.listen = address;
        match Endpoint::bind(successor, Some(Arc::new(Echo::default()))) {
            Ok(successor) => break successor,
            // The killed one's socket goes when its last task has been dropped.
            Err(NetError::Bind { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    dead.store(false, Ordering::SeqCst);
    let failure = connection.call(request(Kind::Get, "still there?")).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::ConnectionLost);
    assert!(failure.message.contains("restarted"), "{failure}");
    client.close().await;
    successor.close().await;
}
