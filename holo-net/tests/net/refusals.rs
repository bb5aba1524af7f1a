//! Who is refused, and what both sides hear.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use holo_core::{ClusterId, ErrorCode, Failure, PublicKey, Role, UnixMillis};
use holo_net::{Endpoint, EndpointOptions, Expected, Identity, Suite};

use crate::party::{CLUSTER, Echo, HOUR, PATIENCE, WHILE, expect_node, identity, now, options};

/// What a dial ends with when nothing but these differs.
async fn refusal(node: EndpointOptions, client: EndpointOptions, expected: Expected) -> Failure {
    let service = Arc::new(Echo::default());
    let node = Endpoint::bind(node, Some(Arc::clone(&service) as _)).unwrap();
    let client = Endpoint::bind(client, None).unwrap();
    let failure = client.connect(node.local_addr(), expected, PATIENCE).await.unwrap_err();
    assert!(client.connections().is_empty());
    client.close().await;
    node.close().await;
    assert_eq!(service.calls.load(std::sync::atomic::Ordering::SeqCst), 0);
    failure
}

fn node() -> EndpointOptions {
    options(identity(Role::Node))
}

fn client() -> EndpointOptions {
    options(identity(Role::Client))
}

#[tokio::test]
async fn another_key_than_the_dialled_one_is_refused() {
    let expected = Expected { key: Some(PublicKey([9; 32])), role: Role::Node };
    let failure = refusal(node(), client(), expected).await;
    assert_eq!(failure.code, ErrorCode::IdentityMismatch);
    assert!(failure.message.contains("09090909"), "{failure}");
}

#[tokio::test]
async fn another_role_than_the_dialled_one_is_refused() {
    let expected = Expected { key: None, role: Role::Client };
    assert_eq!(refusal(node(), client(), expected).await.code, ErrorCode::IdentityMismatch);
}

#[tokio::test]
async fn a_node_of_another_cluster_is_refused_by_the_dialler_and_says_both_clusters() {
    let other = Identity::generate(Role::Node, ClusterId([0x22; 32]), HOUR, now()).unwrap();
    let failure = refusal(options(other), client(), expect_node()).await;
    assert_eq!(failure.code, ErrorCode::ClusterMismatch);
    assert!(
        failure.message.contains("22222222") && failure.message.contains("11111111"),
        "{failure}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_either_side() {
    let expired = |role| {
        let past = UnixMillis(now().0 - 7_200_000);
        let identity = Identity::generate(role, CLUSTER, HOUR, past).unwrap();
        options(identity.danger_without_renewal_for_testing_only())
    };
    let by_dialler = refusal(expired(Role::Node), client(), expect_node()).await;
    assert_eq!(by_dialler.code, ErrorCode::CertificateExpired);
    assert!(by_dialler.message.contains("the peer's certificate"), "{by_dialler}");
    let by_acceptor = refusal(node(), expired(Role::Client), expect_node()).await;
    assert_eq!(by_acceptor.code, ErrorCode::CertificateExpired);
    assert!(by_acceptor.message.contains("our certificate"), "{by_acceptor}");
}

#[tokio::test]
async fn an_old_static_key_is_renewed_before_it_is_shown() {
    let past = UnixMillis(now().0 - 7_200_000);
    let node = options(Identity::generate(Role::Node, CLUSTER, HOUR, past).unwrap());
    let node = Endpoint::bind(node, Some(Arc::new(Echo::default()))).unwrap();
    let client = Endpoint::bind(client(), None).unwrap();
    let connection = client.connect(node.local_addr(), expect_node(), PATIENCE).await.unwrap();
    assert!(connection.peer().not_after > now());
    client.close().await;
    node.close().await;
}

#[tokio::test]
async fn a_suite_outside_the_allow_list_is_refused() {
    for (accepted, offered) in [
        (vec![Suite::HybridAes256], Suite::HybridChaCha20),
        (vec![Suite::HybridChaCha20], Suite::HybridAes256),
        (Suite::HYBRID.to_vec(), Suite::ClassicalAes256),
        (vec![Suite::ClassicalAes256], Suite::HybridAes256),
    ] {
        let (mut node, mut client) = (node(), client());
        node.suites_accepted = accepted;
        client.suite_offered = offered;
        let failure = refusal(node, client, expect_node()).await;
        assert_eq!(failure.code, ErrorCode::SuiteRefused, "{offered:?}");
    }
}

#[tokio::test]
async fn another_transport_version_is_refused() {
    let other = client().danger_other_version_for_testing_only(0x686f_0002);
    assert_eq!(refusal(node(), other, expect_node()).await.code, ErrorCode::VersionMismatch);
    // The version of TLS, which we must never speak.
    let tls = client().danger_other_version_for_testing_only(1);
    assert_eq!(refusal(node(), tls, expect_node()).await.code, ErrorCode::VersionMismatch);
}

#[tokio::test]
async fn a_refusal_by_the_service_reaches_the_dialler_word_for_word() {
    let refuse = Failure::new(ErrorCode::Denied, "client key 77aa is not registered")
        .help("run `holo key add`")
        .retry_after_ms(1500);
    let service = Echo { refuse: Some(refuse.clone()), ..Echo::default() };
    let node = Endpoint::bind(node(), Some(Arc::new(service))).unwrap();
    let client = Endpoint::bind(client(), None).unwrap();
    let failure = client.connect(node.local_addr(), expect_node(), PATIENCE).await.unwrap_err();
    assert_eq!(failure, refuse.context(node.local_addr()));
    assert!(node.connections().is_empty());
    client.close().await;
    node.close().await;
}

#[tokio::test]
async fn a_dead_address_is_unreachable_once_the_deadline_has_passed() {
    let client = Endpoint::bind(client(), None).unwrap();
    let dead = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    let failure =
        client.connect(address, expect_node(), Duration::from_millis(200)).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unreachable);
    assert!(failure.message.contains(&address.to_string()), "{failure}");
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let failure = client.connect(nowhere, expect_node(), PATIENCE).await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::InvalidArgument);
    client.close().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_a_clear_error() {
    let holder = Endpoint::bind(node(), Some(Arc::new(Echo::default()))).unwrap();
    let mut second = node();
    second.listen = holder.local_addr();
    let failure = Failure::from(Endpoint::bind(second, None).unwrap_err());
    assert_eq!(failure.code, ErrorCode::ConfigInvalid);
    assert!(failure.message.contains(&holder.local_addr().to_string()), "{failure}");
    holder.close().await;
}

#[tokio::test]
async fn a_connection_ends_with_the_certificate_that_it_began_with() {
    tokio::join!(end_with_certificate_of(Role::Node), end_with_certificate_of(Role::Client));
}

async fn end_with_certificate_of(short_side: Role) {
    let make = |role| {
        let lifetime = if role == short_side { WHILE } else { HOUR };
        let identity = Identity::generate(role, CLUSTER, lifetime, now()).unwrap();
        options(identity.danger_without_renewal_for_testing_only())
    };
    let pair = crate::party::Pair::with(make(Role::Node), make(Role::Client)).await;
    crate::party::echo(&pair.connection, 100).await;
    let accepted = pair.node.connections().remove(0);
    for side in [&pair.connection, &accepted] {
        assert_eq!(side.closed().await.code, ErrorCode::CertificateExpired);
    }
    pair.close().await;
}
