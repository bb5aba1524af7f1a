//! What a node does not do, and for whom.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use holo_client::{Cluster, ErrorCode};
use holo_core::wire::{
    GetRange, GroupBody, Kind, ModulePush, PayloadBody, PeerBatch, PrincipalBody, PutRange,
    RaftEnvelope, StagePayload,
};
use holo_core::{ClusterId, Failure, Role, ShardIndex};
use holo_net::{Connection, Endpoint, EndpointOptions, Expected, Identity, Request};
use prost::Message;

use crate::harness::{Harness, PATIENCE, now, until};

const HOUR: Duration = Duration::from_secs(3600);

async fn connect(
    identity: Identity,
    address: SocketAddr,
) -> Result<(Endpoint, Connection), Failure> {
    let options = EndpointOptions::new("127.0.0.1:0".parse().unwrap(), identity);
    let endpoint = Endpoint::bind(options, None).unwrap();
    let expected = Expected { key: None, role: Role::Node };
    let connection = endpoint.connect(address, expected, PATIENCE).await?;
    Ok((endpoint, connection))
}

async fn call(connection: &Connection, kind: Kind, body: impl Message) -> Result<Bytes, Failure> {
    connection.call(Request::new(kind, PATIENCE, body.encode_to_vec())).await
}

async fn refusal_of_bulk(connection: &Connection, kind: Kind, body: impl Message) -> Failure {
    let request = Request::new(kind, PATIENCE, body.encode_to_vec());
    connection.bulk(request, Vec::new()).await.map(|_reply| ()).unwrap_err()
}

/// Bytes for a group, as node 1 would stage them.
fn staged_by_the_first() -> StagePayload {
    StagePayload {
        group: Some(GroupBody { partition: 0, replicas: 2, min_in_sync: 1 }),
        payload: Some(PayloadBody { node: 1, incarnation: 1, number: 1 }),
        ..StagePayload::default()
    }
}

/// A client for somebody else, with these grants.
async fn somebody(
    harness: &Harness,
    cluster: &Cluster,
    path: &Path,
    tenant: u32,
    grants: &[&str],
) -> Cluster {
    let key = cluster.create_identity(path).unwrap();
    let grants = grants.iter().map(ToString::to_string).collect();
    let name = "somebody".to_owned();
    let principal = PrincipalBody { key: key.0.to_vec(), name, tenant, grants };
    cluster.put_principal(principal).await.unwrap();
    until("the node knows them", async || harness.client_as(path).await.ok()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_nobody_configured_is_refused_whatever_it_asks() {
    let harness = Harness::start(1).await;
    let stranger =
        Identity::generate(Role::Client, harness.prepared.cluster_id, HOUR, now()).unwrap();
    let path = harness.dir.path().join("stranger.identity");
    stranger.save(&path).unwrap();
    let refused = harness.client_as(&path).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_party_of_another_cluster_is_refused() {
    let harness = Harness::start(1).await;
    let foreign = Identity::generate(Role::Client, ClusterId([9; 32]), HOUR, now()).unwrap();
    let path = harness.dir.path().join("foreign.identity");
    foreign.save(&path).unwrap();
    let refused = harness.client_as(&path).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ClusterMismatch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_not_speak_as_a_member() {
    let harness = Harness::start(2).await;
    let client = Identity::load(&harness.prepared.client_identity, HOUR, now()).unwrap();
    let (_endpoint, connection) = connect(client, harness.prepared.addresses[0]).await.unwrap();
    for kind in [
        Kind::Replicate,
        Kind::Beat,
        Kind::Raft,
        Kind::CatalogPropose,
        Kind::VoterSecrets,
        Kind::Heartbeat,
        Kind::SnapshotIndex,
    ] {
        let refused = call(&connection, kind, PeerBatch::default()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Denied, "{kind:?}: {refused}");
    }
    for kind in [Kind::FetchPayload, Kind::SnapshotPages, Kind::CatalogFollow] {
        let refused = refusal_of_bulk(&connection, kind, PeerBatch::default()).await;
        assert_eq!(refused.code, ErrorCode::Denied, "{kind:?}: {refused}");
    }
    let refused = refusal_of_bulk(&connection, Kind::StagePayload, staged_by_the_first()).await;
    assert_eq!(refused.code, ErrorCode::Denied, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_may_speak_for_nobody_but_itself() {
    let harness = Harness::start(3).await;
    // The second node's key, used against the third.
    let second = harness.dir.path().join("n2/node.identity");
    let member = Identity::load(&second, HOUR, now()).unwrap();
    let (_endpoint, connection) = connect(member, harness.prepared.addresses[2]).await.unwrap();
    let third = harness.nodes[2].as_ref().unwrap().ready(PATIENCE).await.unwrap();
    let to = u64::from(third.node.0);
    let vote = RaftEnvelope { from: 1, to, body: Bytes::new() };
    let refused = call(&connection, Kind::Raft, vote).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Denied, "{refused}");
    let refused = refusal_of_bulk(&connection, Kind::StagePayload, staged_by_the_first()).await;
    assert_eq!(refused.code, ErrorCode::Denied, "{refused}");
    let to_incarnation = third.incarnation.0 + 1;
    let batch = PeerBatch { from_incarnation: 1, to_incarnation, messages: Vec::new() };
    let refused = call(&connection, Kind::Replicate, batch).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_does_not_vote_has_no_say_in_the_agreement() {
    let harness = Harness::start(2).await;
    for node in harness.nodes.iter().flatten() {
        node.ready(PATIENCE).await.unwrap();
    }
    // Of two nodes only the first votes.
    let second = harness.dir.path().join("n2/node.identity");
    let member = Identity::load(&second, HOUR, now()).unwrap();
    let (_endpoint, connection) = connect(member, harness.prepared.addresses[0]).await.unwrap();
    let vote = RaftEnvelope { from: 2, to: 1, body: Bytes::new() };
    let refused = call(&connection, Kind::Raft, vote).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Denied, "{refused}");
    assert!(refused.message.contains("does not vote"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_array_and_nothing_look_alike() {
    let harness = Harness::start(1).await;
    let ann = harness.dir.path().join("ann.identity");
    let mine = harness.client().await;
    let array = mine.array("secret/plans").shape([100]).create::<u8>().await.unwrap();
    let grants = ["ALLOCATE", "READ", "WRITE", "FREE", "RUN"];
    let theirs = somebody(&harness, &mine, &ann, 2, &grants).await;
    assert!(theirs.arrays().await.unwrap().is_empty());
    for name in ["secret/plans", "secret/nothing"] {
        let refused = theirs.open_any(name).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NotFound);
        assert_eq!(
            refused.to_string().replace(name, "?"),
            theirs.open_any("other").await.unwrap_err().to_string().replace("other", "?")
        );
        assert_eq!(theirs.remove(name).await.unwrap_err().code(), ErrorCode::NotFound);
    }
    // By its id, on the data path, past every lookup of names.
    let (_endpoint, connection) =
        connect(Identity::load(&ann, HOUR, now()).unwrap(), harness.prepared.addresses[0])
            .await
            .unwrap();
    let removed = mine.array("secret/past").shape([100]).create::<u8>().await.unwrap();
    mine.remove("secret/past").await.unwrap();
    for array in [array.descriptor().id.0, removed.descriptor().id.0] {
        let read = GetRange { array, shard: 0, offset: 0, len: 8 };
        let refused = until("the node has heard of them and of the arrays", async || {
            let refused = call(&connection, Kind::Get, read.clone()).await.unwrap_err();
            let knows = ![ErrorCode::Unauthenticated, ErrorCode::NotReady].contains(&refused.code);
            knows.then_some(refused)
        })
        .await;
        assert_eq!(refused.code, ErrorCode::NotFound);
        let write = PutRange { array, shard: 0, offset: 0, data: vec![1].into(), key: None };
        assert_eq!(
            call(&connection, Kind::Put, write).await.unwrap_err().code,
            ErrorCode::NotFound
        );
    }
    // The same name is free for another tenant.
    theirs.array("secret/plans").shape([5]).create::<u8>().await.unwrap();
    assert_eq!(mine.open::<u8>("secret/plans").await.unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_for_a_prefix_ends_at_the_prefix() {
    let harness = Harness::start(1).await;
    let bob = harness.dir.path().join("bob.identity");
    let grants = ["ALLOCATE:demo/*", "READ:demo/*", "WRITE:demo/*"];
    let cluster = somebody(&harness, &harness.client().await, &bob, 1, &grants).await;
    cluster
        .array("demo/a")
        .shape([8])
        .create::<u8>()
        .await
        .unwrap()
        .write(0, &[1, 2])
        .await
        .unwrap();
    let denied = cluster.array("other/a").shape([8]).create::<u8>().await.unwrap_err();
    assert_eq!(denied.code(), ErrorCode::Denied);
    let not_run = cluster.expr("sum(x)").input("x", "demo/a").run().await.unwrap_err();
    assert_eq!(not_run.code(), ErrorCode::Denied);
    assert_eq!(cluster.remove("demo/a").await.unwrap_err().code(), ErrorCode::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_beyond_the_shard_or_to_another_than_the_primary_changes_nothing() {
    let harness = Harness::start(2).await;
    let cluster = harness.client().await;
    let array = cluster.array("t/a").shape([100]).create::<u8>().await.unwrap();
    array.fill(1).await.unwrap();
    let view = cluster.refresh().await.unwrap();
    let (primary, _) = view.primary_of(array.descriptor(), ShardIndex(0)).unwrap();
    let write = |shard, offset, bytes: &[u8]| PutRange {
        array: array.descriptor().id.0,
        shard,
        offset,
        data: bytes.to_vec().into(),
        key: None,
    };
    for (index, view) in view.members().iter().enumerate() {
        let client = Identity::load(&harness.prepared.client_identity, HOUR, now()).unwrap();
        let address = view.member.address.parse().unwrap();
        let (_endpoint, connection) = connect(client, address).await.unwrap();
        if index != primary {
            let refused = call(&connection, Kind::Put, write(0, 0, &[9])).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::WrongNode);
            continue;
        }
        for (shard, offset) in [(0, 100), (0, u64::MAX), (1, 0), (u64::MAX, 0)] {
            let write = write(shard, offset, &[9]);
            let refused = call(&connection, Kind::Put, write).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::OutOfRange, "{shard} {offset}");
        }
        assert_eq!(array.read(..).await.unwrap(), [1; 100]);
        call(&connection, Kind::Put, write(0, 99, &[9])).await.unwrap();
    }
    assert_eq!(array.read(..99).await.unwrap(), [1; 99]);
    assert_eq!(array.get(99).await.unwrap(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_holds_data_stops_only_when_it_shall_at_once() {
    let harness = Harness::start(2).await;
    let cluster = harness.client().await;
    let array = cluster.array("t/a").shape([100]).shard_elems(1).create::<u8>().await.unwrap();
    array.fill(1).await.unwrap();
    let second = harness.nodes[1].as_ref().unwrap();
    let refused = cluster.shutdown(second.id(), false).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::DrainRefused, "{refused}");
    assert!(refused.failure().help.as_ref().is_some_and(|help| help.contains("holo drain n2")));
    assert_eq!(array.sum().await.unwrap(), 100);
    cluster.shutdown(second.id(), true).await.unwrap();
    let why = tokio::time::timeout(PATIENCE, second.stopped()).await.unwrap();
    assert!(why.is_none(), "{why:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn module_bytes_under_another_hash_are_refused() {
    let harness = Harness::start(1).await;
    let client = Identity::load(&harness.prepared.client_identity, HOUR, now()).unwrap();
    let (_endpoint, connection) = connect(client, harness.prepared.addresses[0]).await.unwrap();
    let bytes = Bytes::from(wat::parse_str("(module)").unwrap());
    let head = ModulePush { module: blake3::hash(b"something else").as_bytes().to_vec() };
    let request = Request::new(Kind::ModulePush, PATIENCE, head.encode_to_vec());
    let refused = connection.bulk(request, vec![bytes]).await.map(|_reply| ()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Corrupt);
}
