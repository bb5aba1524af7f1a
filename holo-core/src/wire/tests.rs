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

#[test]
fn an_empty_body_is_survived() {
    decode_as_everything(&[]);
}

proptest! {
    #[test]
    fn noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        decode_as_everything(&noise);
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
