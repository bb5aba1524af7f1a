//! Whatever bytes come in, a decoder gives a checked value or an error: it never panics.

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::{ArrayDescriptor, Failure, Member, PlacementTable, PublicKey, TableVersion};

/// Decodes `bytes` as everything that a peer may send, and turns what it can into checked values.
fn decode_as_everything(bytes: &[u8]) {
    let checked = [
        ArrayInfo::decode_body(bytes).and_then(ArrayDescriptor::try_from).is_ok(),
        NodeEntry::decode_body(bytes).and_then(Member::try_from).is_ok(),
        TableBody::decode_body(bytes).and_then(|body| PlacementTable::from_body(&body, 3)).is_ok(),
        HelloReply::decode_body(bytes).is_ok(),
        FailureBody::decode_body(bytes).map(Failure::from).is_ok(),
        crate::expr::Program::decode(bytes).is_ok(),
        Hello::decode_body(bytes).is_ok(),
        NodeStatus::decode_body(bytes).is_ok(),
        Allocate::decode_body(bytes).is_ok(),
        ArrayRef::decode_body(bytes).is_ok(),
        ArrayList::decode_body(bytes).is_ok(),
        GetRange::decode_body(bytes).is_ok(),
        PutRange::decode_body(bytes).is_ok(),
        WriteShard::decode_body(bytes).is_ok(),
        RunShards::decode_body(bytes).is_ok(),
        RunReply::decode_body(bytes).is_ok(),
        CallModule::decode_body(bytes).is_ok(),
        CombineModule::decode_body(bytes).is_ok(),
        ModuleStatus::decode_body(bytes).is_ok(),
    ];
    // An empty body is a message of defaults, and only those that need nothing are valid.
    if bytes.is_empty() {
        assert_eq!(checked[..3], [false; 3]);
    }
}

fn hello() -> Vec<u8> {
    let members: Vec<Member> = (0..3u8)
        .map(|n| Member {
            node: crate::NodeId(PublicKey([n; 32])),
            name: format!("n{n}"),
            address: format!("h{n}:1"),
            zone: String::new(),
            weight_milli: 1000,
        })
        .collect();
    let table = PlacementTable::compute(&members, 3, 2, None, TableVersion(1)).unwrap();
    let members = members.iter().map(NodeEntry::from).collect();
    HelloReply { members, table: Some(table.to_body()), ..HelloReply::default() }.encode_to_vec()
}

#[test]
fn secrets_are_not_shown() {
    let seed = "6".repeat(64);
    let secrets = VoterSecrets { placement_secret: vec![6; 32], issuer_seed: vec![6; 32] };
    assert_eq!(format!("{secrets:?}"), "VoterSecrets(<redacted>)");
    let ticket = TicketBody { text: seed.clone(), node_name: "n1".into(), ..TicketBody::default() };
    let reply =
        AdminReply { result: Some(AdminResult::Tickets(TicketList { tickets: vec![ticket] })) };
    let shown = format!("{reply:?}");
    assert!(
        !shown.contains(&seed) && shown.contains("<redacted>") && shown.contains("n1"),
        "{shown}"
    );
}

/// Requests and replies of every shape that administration has.
fn administration() -> Vec<Vec<u8>> {
    let name = || "n1".to_owned();
    let failure = || FailureBody::from(Failure::new(crate::ErrorCode::NotReady, "not yet"));
    let actions = [
        AdminAction::CreateTicket(TicketOrder { lifetime_ms: 70_000, node_name: name() }),
        AdminAction::RevokeTicket(TicketRef { key: "01234567".into() }),
        AdminAction::ChangeNode(NodeOrder {
            node: name(),
            kind: 7,
            weight_milli: 500,
            ..NodeOrder::default()
        }),
        AdminAction::Allocate(Allocate {
            name: name(),
            shape: vec![3, 1 << 40],
            dtype: 2,
            ..Allocate::default()
        }),
        AdminAction::PutPrincipal(PrincipalBody {
            key: vec![1; 32],
            grants: vec!["READ:demo/*".into()],
            ..PrincipalBody::default()
        }),
        AdminAction::Settings(SettingsBody {
            repair_delay_ms: Some(0),
            voters_max: Some(5),
            ..SettingsBody::default()
        }),
        AdminAction::AcceptLoss(LossOrder { mark: vec![7; 32] }),
        AdminAction::WatchClose(Empty {}),
    ];
    let node = NodeReport {
        member: Some(MemberEntry { node: vec![1; 32], name: name(), ..MemberEntry::default() }),
        load: Some(NodeLoad { frame_bytes: 1 << 40, ..NodeLoad::default() }),
        clock_ahead_ms: -5,
        ..NodeReport::default()
    };
    let drain = DrainReport {
        name: name(),
        refusals: vec![failure()],
        receivers: vec![ReceiverBody { number: 2, groups: 9 }],
        warnings: vec!["one copy less".into()],
        ..DrainReport::default()
    };
    let table = RingTable { replicas: 2, in_use: true, shares: vec![RingShare::default(); 3] };
    let array = ArrayInfo {
        id: 7,
        name: name(),
        shape: vec![1000],
        dtype: u32::from(crate::DType::F64.to_byte()),
        shard_elems: 10,
        placement_key: vec![3; 32],
        replicas: 2,
        tenant: 1,
        ..ArrayInfo::default()
    };
    let results = [
        AdminResult::Drain(drain.clone()),
        AdminResult::Cluster(ClusterReport {
            nodes: vec![node],
            drains: vec![drain],
            voters: vec![1, 300],
            ..ClusterReport::default()
        }),
        AdminResult::Ring(RingReport { tables: vec![table], moves: 5, ..RingReport::default() }),
        AdminResult::Loss(LossReport { groups: 3, arrays: vec![name()], ..LossReport::default() }),
        AdminResult::Array(array),
        AdminResult::Close(CloseReport {
            stage: "closing".into(),
            refusal: Some(failure()),
            ..CloseReport::default()
        }),
    ];
    let requests = actions.into_iter().map(|action| {
        AdminRequest { on_behalf_of: vec![5; 32], action: Some(action) }.encode_to_vec()
    });
    let replies =
        results.into_iter().map(|result| AdminReply { result: Some(result) }.encode_to_vec());
    requests.chain(replies).collect()
}

#[test]
fn an_empty_body_is_survived() {
    decode_as_everything(&[]);
    crate::fuzzing::administration(&[]);
}

proptest! {
    #[test]
    fn noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        decode_as_everything(&noise);
        crate::fuzzing::administration(&noise);
    }

    #[test]
    fn flipped_bytes_of_administration_are_survived(at in any::<proptest::sample::Index>(), flip in 1u8.., cut in any::<proptest::sample::Index>()) {
        for mut bytes in administration() {
            let place = at.index(bytes.len());
            bytes[place] ^= flip;
            crate::fuzzing::administration(&bytes);
            bytes.truncate(cut.index(bytes.len()));
            crate::fuzzing::administration(&bytes);
        }
    }

    #[test]
    fn flipped_bytes_are_survived(at in any::<proptest::sample::Index>(), flip in 1u8.., cut in any::<proptest::sample::Index>()) {
        let mut bytes = hello();
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        decode_as_everything(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        decode_as_everything(&bytes);
    }
}
