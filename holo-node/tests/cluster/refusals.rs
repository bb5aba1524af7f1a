//! What a node does not do, and for whom.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holo_client::ErrorCode;
use holo_core::wire::{ArrayInstall, GetRange, Kind, ModulePush, PutRange};
use holo_core::{ClusterId, Epoch, Failure, PublicKey, Role, UnixMillis};
use holo_net::{Connection, Endpoint, EndpointOptions, Expected, Identity, Request};
use prost::Message;

use crate::harness::{Harness, PATIENCE};

const HOUR: Duration = Duration::from_secs(3600);
/// Certificates are made for an hour from the real now; tests only need any time.
fn now() -> UnixMillis {
    let since_1970 = std::fs::metadata("/proc/self").unwrap().modified().unwrap();
    let millis = since_1970.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    UnixMillis(u64::try_from(millis).unwrap())
}

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

async fn call(
    connection: &Connection,
    kind: Kind,
    body: impl Message,
    epoch: Epoch,
) -> Result<bytes::Bytes, Failure> {
    let mut request = Request::new(kind, PATIENCE, body.encode_to_vec());
    request.epoch = epoch;
    connection.call(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_nobody_configured_is_refused_whatever_it_asks() {
    let harness = Harness::start(1, "32MiB");
    let stranger =
        Identity::generate(Role::Client, harness.prepared.cluster_id, HOUR, now()).unwrap();
    let path = harness.dir.path().join("stranger.identity");
    stranger.save(&path).unwrap();
    let refused = harness.client_as(&path).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_party_of_another_cluster_is_refused() {
    let harness = Harness::start(1, "32MiB");
    let foreign = Identity::generate(Role::Client, ClusterId([9; 32]), HOUR, now()).unwrap();
    let path = harness.dir.path().join("foreign.identity");
    foreign.save(&path).unwrap();
    let refused = harness.client_as(&path).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ClusterMismatch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_not_speak_as_a_member() {
    let harness = Harness::start(2, "32MiB");
    let client = Identity::load(&harness.prepared.client_identity, HOUR, now()).unwrap();
    let (_endpoint, connection) = connect(client, harness.prepared.addresses[0]).await.unwrap();
    for kind in [Kind::ArrayInstall, Kind::ArrayForget] {
        let refused = call(&connection, kind, ArrayInstall::default(), Epoch(0)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Denied, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_directory_node_may_install_arrays() {
    let harness = Harness::start(3, "32MiB");
    // The second member's key, used against the third: a member, but not the one that keeps the directory.
    let second = harness.dir.path().join("n2.identity");
    let member = Identity::load(&second, HOUR, now()).unwrap();
    let (_endpoint, connection) = connect(member, harness.prepared.addresses[2]).await.unwrap();
    let refused =
        call(&connection, Kind::ArrayInstall, ArrayInstall::default(), Epoch(0)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_array_and_nothing_look_alike() {
    let ann_dir = tempfile::TempDir::new().unwrap();
    let ann = ann_dir.path().join("ann.identity");
    let key: Arc<std::sync::Mutex<Option<PublicKey>>> = Arc::default();
    let harness = Harness::start_with(1, "32MiB", |text| {
        // The cluster's id is in the config: make a second client of it, of another tenant.
        let id = text.split("cluster_id = \"").nth(1).unwrap().get(..64).unwrap();
        let identity =
            Identity::generate(Role::Client, ClusterId::from_hex(id).unwrap(), HOUR, now())
                .unwrap();
        identity.save(&ann).unwrap();
        *key.lock().unwrap() = Some(identity.key());
        let grants = "[\"ALLOCATE\", \"READ\", \"WRITE\", \"FREE\", \"RUN\"]";
        format!(
            "{text}\n[[clients]]\nkey = \"{}\"\nname = \"ann\"\ntenant = 2\ngrants = {grants}\n",
            identity.key()
        )
    });
    let mine = harness.client().await;
    let array = mine.array("secret/plans").shape([100]).create::<u8>().await.unwrap();
    let theirs = harness.client_as(&ann).await.unwrap();
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
    let id = array.descriptor().id.0;
    for array in [id, id + 1000] {
        let read = GetRange { array, shard: 0, offset: 0, len: 8 };
        let refused = call(&connection, Kind::Get, read, Epoch(0)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::NotFound);
        let write = PutRange { array, shard: 0, offset: 0, data: vec![1].into(), key: None };
        assert_eq!(
            call(&connection, Kind::Put, write, Epoch(0)).await.unwrap_err().code,
            ErrorCode::NotFound
        );
    }
    // The same name is free for another tenant.
    theirs.array("secret/plans").shape([5]).create::<u8>().await.unwrap();
    assert_eq!(mine.open::<u8>("secret/plans").await.unwrap().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_for_a_prefix_ends_at_the_prefix() {
    let harness = Harness::start_with(1, "32MiB", |text| {
        let (before, _) = text.split_once("grants = ").unwrap();
        format!("{before}grants = [\"ALLOCATE:demo/*\", \"READ:demo/*\", \"WRITE:demo/*\"]\n")
    });
    let cluster = harness.client().await;
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
async fn a_write_of_another_epoch_or_beyond_the_shard_changes_nothing() {
    let harness = Harness::start(1, "32MiB");
    let cluster = harness.client().await;
    let array = cluster.array("t/a").shape([100]).create::<u8>().await.unwrap();
    let client = Identity::load(&harness.prepared.client_identity, HOUR, now()).unwrap();
    let (_endpoint, connection) = connect(client, harness.prepared.addresses[0]).await.unwrap();
    let id = array.descriptor().id.0;
    let write = |shard, offset, bytes: &[u8]| PutRange {
        array: id,
        shard,
        offset,
        data: bytes.to_vec().into(),
        key: None,
    };
    let refused = call(&connection, Kind::Put, write(0, 0, &[9]), Epoch(7)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongNode);
    for (shard, offset) in [(0, 100), (0, u64::MAX), (1, 0), (u64::MAX, 0)] {
        let refused =
            call(&connection, Kind::Put, write(shard, offset, &[9]), Epoch(1)).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::OutOfRange, "{shard} {offset}");
    }
    assert_eq!(array.read(..).await.unwrap(), [0; 100]);
    call(&connection, Kind::Put, write(0, 99, &[9]), Epoch(1)).await.unwrap();
    assert_eq!(array.get(99).await.unwrap(), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_shutdown_says_not_yet_and_only_now_stops_the_node() {
    let harness = Harness::start(2, "32MiB");
    let cluster = harness.client().await;
    let node = cluster.membership().members()[1].node;
    let refused = cluster.shutdown(node, false).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotYet);
    cluster.shutdown(node, true).await.unwrap();
    harness.nodes[1].as_ref().unwrap().stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn module_bytes_under_another_hash_are_refused() {
    let harness = Harness::start(1, "32MiB");
    let client = Identity::load(&harness.prepared.client_identity, HOUR, now()).unwrap();
    let (_endpoint, connection) = connect(client, harness.prepared.addresses[0]).await.unwrap();
    let bytes = bytes::Bytes::from(wat::parse_str("(module)").unwrap());
    let head = ModulePush { module: blake3::hash(b"something else").as_bytes().to_vec() };
    let request = Request::new(Kind::ModulePush, PATIENCE, head.encode_to_vec());
    let refused = connection.bulk(request, vec![bytes]).await.map(|_reply| ()).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Corrupt);
}
