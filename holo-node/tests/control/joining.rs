//! Who may join, and who is refused, with nothing half-done.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use holo_client::Cluster;
use holo_core::catalog::join_statement;
use holo_core::wire::{Decode, JoinReply, JoinRequest, Kind, TicketOrder, ViewQuery, WIRE_VERSION};
use holo_core::{ErrorCode, Failure, JoinTicket, NodeId, Role, UnixMillis};
use holo_net::{Connection, Endpoint, EndpointOptions, Expected, Identity, Request};
use holo_node::{JoinOptions, Joined, NodeSettings, join};
use prost::Message;

use crate::harness::{Harness, PATIENCE, now, until};

async fn ticket(client: &Cluster) -> String {
    client.create_ticket(TicketOrder::default()).await.unwrap().text
}

fn node(name: &str) -> JoinOptions {
    let node = NodeSettings {
        name: Some(name.to_owned()),
        listen: Some("127.0.0.1:0".to_owned()),
        memory: Some("64MiB".to_owned()),
        workers: Some(1),
        profile: Some("same-host".to_owned()),
        ..NodeSettings::default()
    };
    JoinOptions { node, deadline: PATIENCE }
}

async fn try_join(home: &Path, ticket: &str, options: &JoinOptions) -> Result<Joined, Failure> {
    join(home, ticket, options).await
}

#[tokio::test]
async fn a_node_joins_with_one_command_and_a_ticket_is_good_once() {
    let harness = Harness::start(1).await;
    let client = harness.client().await;
    let text = ticket(&client).await;
    let home = harness.dir.path().join("late");
    let joined = try_join(&home, &text, &node("late")).await.unwrap();
    assert_eq!((joined.number.0, joined.cluster_name.as_str()), (2, "dev"));
    assert_eq!(joined.cluster, harness.prepared.cluster_id);
    let late = crate::harness::start(&home).await.unwrap();
    assert_eq!(late.ready(PATIENCE).await.unwrap().node.0, 2);

    let second = harness.dir.path().join("second");
    let refused = try_join(&second, &text, &node("second")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TicketInvalid, "{refused}");
    assert!(refused.message.contains("used") && refused.help.is_some(), "{refused}");
    assert!(!second.exists(), "nothing is half-done");
    let listed = client.tickets().await.unwrap();
    assert_eq!(listed.iter().map(|ticket| ticket.used_by).collect::<Vec<_>>(), [2]);
    assert!(listed[0].text.is_empty(), "a ticket's text is told once");
    let revoked = client.revoke_ticket(&hex(&listed[0].key)).await.unwrap_err();
    assert_eq!(revoked.code(), ErrorCode::Conflict);
    late.shutdown().await.unwrap();
}

#[tokio::test]
async fn tickets_that_are_over_damaged_withdrawn_or_of_another_cluster_are_refused() {
    let harness = Harness::start(1).await;
    let client = harness.client().await;
    let text = ticket(&client).await;
    let known = JoinTicket::parse(&text).unwrap();
    let home = harness.dir.path().join("n");

    let over = JoinTicket { expires: UnixMillis(1_000_000), ..known.clone() }.to_text().unwrap();
    let cut = text[..text.len() - 3].to_owned();
    // First contact is pinned: whoever listens at the address must be of the ticket's cluster.
    let foreign = JoinTicket { cluster: holo_core::ClusterId([1; 32]), ..known.clone() };
    let foreign = foreign.to_text().unwrap();
    let never = JoinTicket { seed: [9; 32], ..known }.to_text().unwrap();
    for (text, code, word) in [
        (&over, ErrorCode::TicketInvalid, "expired"),
        (&cut, ErrorCode::TicketInvalid, "checksum"),
        (&"holo".to_owned(), ErrorCode::TicketInvalid, "holo1"),
        (&foreign, ErrorCode::ClusterMismatch, ""),
        (&never, ErrorCode::TicketInvalid, "not of this cluster"),
    ] {
        let refused = try_join(&home, text, &node("n")).await.unwrap_err();
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.message.contains(word), "{refused}");
        assert!(!home.exists(), "nothing is half-done");
    }

    let key = client.tickets().await.unwrap().remove(0).key;
    client.revoke_ticket(&hex(&key)).await.unwrap();
    let refused = try_join(&home, &text, &node("n")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::TicketInvalid, "{refused}");
    assert!(client.tickets().await.unwrap().is_empty());
    let none = client.revoke_ticket("0123456789").await.unwrap_err();
    assert_eq!(none.code(), ErrorCode::NotFound);
}

#[tokio::test]
async fn a_name_or_address_that_another_node_has_is_refused_and_the_ticket_is_still_good() {
    let harness = Harness::start(1).await;
    let client = harness.client().await;
    let text = ticket(&client).await;
    let home = harness.dir.path().join("twin");
    let refused = try_join(&home, &text, &node("n1")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::AlreadyExists, "{refused}");
    assert!(refused.message.contains("name"), "{refused}");
    let mut same_address = node("twin");
    same_address.node.advertise = Some(harness.prepared.addresses[0].to_string());
    let refused = try_join(&home, &text, &same_address).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::AlreadyExists, "{refused}");
    assert!(refused.message.contains("address"), "{refused}");
    assert!(!home.exists());
    try_join(&home, &text, &node("twin")).await.unwrap();
}

#[tokio::test]
async fn nobody_answering_is_said_with_the_addresses_that_were_tried() {
    let dir = tempfile::TempDir::new().unwrap();
    let ticket = JoinTicket {
        cluster: holo_core::ClusterId([1; 32]),
        seed: [2; 32],
        role: Role::Node,
        expires: UnixMillis(u64::MAX),
        addresses: vec!["127.0.0.1:9".to_owned()],
    };
    let mut options = node("n");
    options.deadline = Duration::from_millis(300);
    let home = dir.path().join("n");
    let refused = try_join(&home, &ticket.to_text().unwrap(), &options).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unreachable, "{refused}");
    assert!(refused.message.contains("127.0.0.1:9"), "{refused}");
    assert!(!home.exists());
}

/// A node that is no member, and speaks for itself.
struct Stranger {
    id: NodeId,
    endpoint: Endpoint,
    connection: Connection,
}

impl Stranger {
    async fn come(harness: &Harness) -> Self {
        let cluster = harness.prepared.cluster_id;
        let identity =
            Identity::generate(Role::Node, cluster, Duration::from_secs(3600), now()).unwrap();
        let id = NodeId(identity.key());
        let options = EndpointOptions::new("127.0.0.1:0".parse().unwrap(), identity);
        let endpoint = Endpoint::bind(options, None).unwrap();
        let expected = Expected { key: None, role: Role::Node };
        let connection =
            endpoint.connect(harness.prepared.addresses[0], expected, PATIENCE).await.unwrap();
        Self { id, endpoint, connection }
    }

    fn request(&self, ticket: &JoinTicket) -> JoinRequest {
        let key = SigningKey::from_bytes(&ticket.seed);
        let statement = join_statement(ticket.cluster, self.id, Role::Node);
        JoinRequest {
            ticket: key.verifying_key().to_bytes().to_vec(),
            signature: key.sign(&statement).to_bytes().to_vec(),
            node: self.id.0.0.to_vec(),
            name: "stranger".to_owned(),
            address: "127.0.0.1:7999".to_owned(),
            zone: String::new(),
            weight_milli: 1000,
            agent: "holo test".to_owned(),
            wire_version: u32::from(WIRE_VERSION),
            unix_ms: now().0,
            nonce: vec![7; 16],
        }
    }

    async fn ask(&self, kind: Kind, body: &impl Message) -> Result<Bytes, Failure> {
        let body = Bytes::from(body.encode_to_vec());
        self.connection.call(Request::new(kind, PATIENCE, body)).await
    }

    async fn join(&self, request: &JoinRequest) -> Result<JoinReply, Failure> {
        JoinReply::decode_body(&self.ask(Kind::Join, request).await?)
    }
}

#[tokio::test]
async fn a_stranger_gets_the_join_request_and_nothing_else() {
    let harness = Harness::start(1).await;
    let stranger = Stranger::come(&harness).await;
    for kind in [
        Kind::View,
        Kind::Hello,
        Kind::Status,
        Kind::OpenSession,
        Kind::ArrayList,
        Kind::Raft,
        Kind::CatalogPropose,
        Kind::VoterSecrets,
        Kind::Heartbeat,
        Kind::Replicate,
        Kind::Admin,
    ] {
        let refused = stranger.ask(kind, &ViewQuery::default()).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Denied, "{kind:?}");
    }
    let body = Bytes::new();
    let follow = Request::new(Kind::CatalogFollow, PATIENCE, body);
    let refused = stranger.connection.bulk(follow, Vec::new()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Denied);
    stranger.endpoint.close().await;
}

#[tokio::test]
async fn a_wrong_clock_another_version_and_forged_requests_are_refused_by_name() {
    let harness = Harness::start(1).await;
    let client = harness.client().await;
    let ticket = JoinTicket::parse(&ticket(&client).await).unwrap();
    let stranger = Stranger::come(&harness).await;
    let good = stranger.request(&ticket);
    let mut wrong = Vec::new();
    let mut late = good.clone();
    late.unix_ms -= 61_000;
    wrong.push((late, ErrorCode::ClockSkew, "apart"));
    let mut newer = good.clone();
    newer.wire_version = 9;
    wrong.push((newer, ErrorCode::VersionMismatch, "version 9"));
    let mut other = good.clone();
    other.node = vec![3; 32];
    wrong.push((other, ErrorCode::IdentityMismatch, "another node"));
    let mut forged = good.clone();
    forged.signature[5] ^= 1;
    wrong.push((forged, ErrorCode::TicketInvalid, "signature"));
    let mut short = good.clone();
    short.nonce.pop();
    wrong.push((short, ErrorCode::Malformed, "nonce"));
    for name in ["n 0/..", "../n", "n\u{1b}[2J", "", &"n".repeat(65)] {
        let named = JoinRequest { name: name.to_owned(), ..good.clone() };
        wrong.push((named, ErrorCode::InvalidArgument, "no name for a node"));
    }
    for (request, code, word) in wrong {
        let refused = stranger.join(&request).await.unwrap_err();
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.message.contains(word), "{refused}");
    }
    let first = stranger.join(&good).await.unwrap();
    // Its answer was lost: the same node with the same ticket is let in again under the same number.
    assert_eq!(stranger.join(&good).await.unwrap().number, first.number);
    assert_eq!(client.tickets().await.unwrap().len(), 1);
    stranger.endpoint.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_ticket_is_checked_before_the_catalog_is_asked_for_anything() {
    // Strangers without a ticket reached the catalog's log.
    let mut harness = Harness::start(3).await;
    let client = harness.client().await;
    let ticket = JoinTicket::parse(&ticket(&client).await).unwrap();
    // Who has heard of this has heard of the ticket.
    client.array("later").shape([8]).create::<u8>().await.unwrap();
    // The one that is left knows the ticket, and nothing can be agreed on any more.
    let address = harness.prepared.addresses[0].to_string();
    until("it knows the ticket", async || {
        let view = harness.client_at(std::slice::from_ref(&address)).await.view();
        view.classes().next().map(drop)
    })
    .await;
    harness.kill(1);
    harness.kill(2);
    let unknown = JoinTicket { seed: [9; 32], ..ticket.clone() };
    let refused = refused_at(&harness, |stranger| stranger.request(&unknown)).await;
    assert_eq!(refused.code, ErrorCode::TicketInvalid, "{refused}");
    let forged = |stranger: &Stranger| {
        let mut request = stranger.request(&ticket);
        request.signature[5] ^= 1;
        request
    };
    let refused = refused_at(&harness, forged).await;
    assert_eq!(refused.code, ErrorCode::TicketInvalid, "{refused}");
    let refused = refused_at(&harness, |stranger| stranger.request(&ticket)).await;
    let to_be_agreed_on = [ErrorCode::NoQuorum, ErrorCode::DeadlineExceeded];
    assert!(to_be_agreed_on.contains(&refused.code), "{refused}");
}

/// What a stranger hears; it comes again when its connection breaks, as one does on a machine that is busy.
async fn refused_at(harness: &Harness, request: impl Fn(&Stranger) -> JoinRequest) -> Failure {
    until("an answer", async || {
        let stranger = Stranger::come(harness).await;
        let answer = stranger.join(&request(&stranger)).await.unwrap_err();
        stranger.endpoint.close().await;
        (answer.code != ErrorCode::ConnectionLost).then_some(answer)
    })
    .await
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
