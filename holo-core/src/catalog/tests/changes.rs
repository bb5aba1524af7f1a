//! Followers, snapshots, and bytes that come from outside.

use prost::Message;

use super::*;
use crate::wire::catalog::{ChangesBody, ClusterBody, CommandBody, ConfigBody, NodeBody};

/// A cluster in which everything has happened once.
fn lived_in() -> Lab {
    let mut lab = Lab::new(4);
    let a = lab.array("a", 2, 1);
    lab.array("b", 3, 2);
    lab.array("c", 1, 1);
    let ticket = NewTicket {
        key: public(5),
        role: crate::Role::Node,
        expires: UnixMillis(90_000),
        name_hint: "n105".into(),
    };
    lab.ok(admin(), Operation::CreateTicket(ticket));
    lab.ok(admin(), Operation::PutPrincipal(principal(20, 2, &[(Verb::Run, "x*")])));
    let not_after = UnixMillis(90_000);
    let statement = issuer_statement(lab.state.cluster(), public(7), not_after);
    let certificate =
        IssuerCertificate { issuer: public(7), not_after, signature: sign(2, &statement) };
    lab.ok(Authority::Nobody, Operation::PutIssuer(certificate));
    let by = Authority::Node(number(2));
    lab.ok(by, Operation::LeaseSessions { node: number(2), count: 100 });
    lab.ok(Authority::Node(number(1)), Operation::ExpireSessions { below: 5 });
    lab.now = 2000;
    lab.drain(3);
    lab.change(2, NodeChange::Cordon);
    lab.start(4);
    lab.ok(admin(), Operation::RemoveArray { tenant: TenantId(1), array: a.id });
    lab
}

#[test]
fn a_state_goes_there_and_back() {
    let state = lived_in().state;
    assert!(!state.lost_groups().is_empty());
    let bytes = state.encode();
    let read = CatalogState::decode(&bytes).unwrap();
    assert_eq!(read, state);
    assert_eq!(read.encode(), bytes);
    assert_eq!(CatalogState::decode(&CatalogState::new().encode()).unwrap(), CatalogState::new());
}

#[test]
fn a_restored_state_goes_on_as_the_original() {
    let mut lab = lived_in();
    let mut twin = lab.clone();
    twin.state = CatalogState::decode(&lab.state.encode()).unwrap();
    for lab in [&mut lab, &mut twin] {
        lab.replan(&[]);
        lab.settle();
        lab.start(1);
        lab.array("z", 2, 1);
    }
    assert_eq!(lab.state, twin.state);
    assert_eq!(lab.state.encode(), twin.state.encode());
}

#[test]
fn a_follower_keeps_up_step_by_step_and_in_leaps() {
    let mut lab = Lab::bare(3);
    let mut steps = CatalogState::decode(&lab.state.encode()).unwrap();
    let mut leaps = steps.clone();
    let work: [fn(&mut Lab); 6] = [
        |lab| lab.replan(&[1, 2]),
        |lab| drop(lab.array("a", 2, 1)),
        |lab| {
            lab.start(2);
        },
        |lab| lab.drain(3),
        |lab| {
            lab.settle();
        },
        |lab| {
            let array = lab.state.arrays().next().unwrap().id;
            lab.ok(admin(), Operation::RemoveArray { tenant: TenantId(1), array });
        },
    ];
    for step in work {
        step(&mut lab);
        let changes = lab.state.changes_since(steps.version()).unwrap();
        let changes = Changes::decode(&changes.encode()).unwrap();
        steps.merge(changes.clone()).unwrap();
        steps.check().unwrap();
        assert_eq!(steps, lab.state);
        // The same again does no harm.
        steps.merge(changes).unwrap();
        assert_eq!(steps, lab.state);
    }
    leaps.merge(lab.state.changes_since(leaps.version()).unwrap()).unwrap();
    assert_eq!(leaps, lab.state);
    // A follower knows what changed, too.
    let known = steps.changes_since(lab.state.version() - 1).unwrap();
    assert_eq!(known.removed_arrays().len(), 1);
}

#[test]
fn a_gap_or_another_cluster_is_refused_and_changes_nothing() {
    let mut lab = Lab::bare(2);
    let mut late = CatalogState::decode(&lab.state.encode()).unwrap();
    let before = late.clone();
    lab.replan(&[1]);
    let version = lab.state.version();
    lab.replan(&[2]);
    let gap = lab.state.changes_since(version).unwrap();
    assert_eq!(late.merge(gap).unwrap_err().code, ErrorCode::Conflict);
    assert_eq!(late, before);
    let other = Bootstrap { root: public(3), ..bootstrap(vec![new_node(101, "")]) };
    let mut stranger = CatalogState::new();
    let operation = Operation::Bootstrap(other);
    stranger.apply(50, Command { at: UnixMillis(1), by: Authority::Nobody, operation });
    assert_eq!(late.merge(stranger.whole()).unwrap_err().code, ErrorCode::ClusterMismatch);
    assert_eq!(late, before);
    assert_eq!(lab.state.changes_since(version + 1000), None);
    // An old snapshot does not set a follower back.
    let mut ahead = lab.state.clone();
    ahead.merge(before.whole()).unwrap();
    assert_eq!(ahead, lab.state);
}

#[test]
fn who_lags_too_far_gets_everything() {
    let mut lab = Lab::bare(2);
    let start = lab.state.version();
    let mut noted = 0;
    while noted <= crate::limits::CATALOG_CHANGES_MAX {
        let many = vec![0u8; 4096];
        for (index, _) in many.iter().enumerate() {
            lab.state
                .log
                .note(crate::catalog::changes::Subject::Array(crate::ArrayId(index as u64)));
        }
        lab.set_up(2, noted % 8192 != 0);
        noted += 4096;
    }
    assert_eq!(lab.state.changes_since(start), None);
    assert!(lab.state.changes_since(lab.state.version() - 1).is_some());
    let whole = Changes::decode(&lab.state.whole().encode()).unwrap();
    assert!(whole.is_whole());
    let mut follower = CatalogState::new();
    follower.merge(whole).unwrap();
    assert_eq!(follower, lab.state);
}

#[test]
fn fields_of_a_later_version_are_passed_over() {
    let lab = lived_in();
    let mut bytes = lab.state.encode();
    // Field 200, a varint, and field 201, four bytes.
    bytes.extend_from_slice(&[0xc0, 0x0c, 0x07, 0xca, 0x0c, 0x04, 1, 2, 3, 4]);
    assert_eq!(CatalogState::decode(&bytes).unwrap(), lab.state);
    let command =
        Command { at: UnixMillis(1), by: admin(), operation: Operation::RevokeTicket(public(5)) };
    let mut bytes = command.encode();
    bytes.extend_from_slice(&[0xc0, 0x0c, 0x07]);
    assert_eq!(Command::decode(&bytes).unwrap(), command);
}

/// [`CommandBody`] as a later version might have it.
#[derive(Clone, PartialEq, Message)]
struct LaterCommand {
    #[prost(uint64, tag = "1")]
    at_unix_ms: u64,
    #[prost(uint32, tag = "3")]
    by_node: u32,
    #[prost(message, optional, tag = "22")]
    lease_sessions: Option<LaterLease>,
    #[prost(string, tag = "900")]
    reason: String,
}

#[derive(Clone, PartialEq, Message)]
struct LaterLease {
    #[prost(uint32, tag = "1")]
    node: u32,
    #[prost(uint32, tag = "2")]
    count: u32,
    #[prost(uint64, tag = "900")]
    until_unix_ms: u64,
}

#[test]
fn a_leader_of_the_version_before_hands_on_what_it_does_not_know() {
    // It once proposed what it had understood of a command, without the rest.
    let lease = LaterLease { node: 2, count: 7, until_unix_ms: 99 };
    let later = LaterCommand {
        at_unix_ms: 5,
        by_node: 2,
        lease_sessions: Some(lease),
        reason: "new in it".into(),
    };
    let proposed = Command::restamp(&later.encode_to_vec(), UnixMillis(1234));
    let here = Command::decode(&proposed).unwrap();
    assert_eq!((here.at, here.by), (UnixMillis(1234), Authority::Node(number(2))));
    assert_eq!(here.operation, Operation::LeaseSessions { node: number(2), count: 7 });
    let there = LaterCommand::decode(proposed.as_slice()).unwrap();
    assert_eq!(there, LaterCommand { at_unix_ms: 1234, ..later });
}

#[test]
fn an_operation_of_a_later_version_is_never_skipped() {
    let body = CommandBody { at_unix_ms: 1, by_node: 1, ..CommandBody::default() };
    let mut bytes = body.encode_to_vec();
    // Field 99 with an empty message.
    bytes.extend_from_slice(&[0x9a, 0x06, 0x00]);
    assert_eq!(Command::decode(&bytes).unwrap_err().code, ErrorCode::VersionMismatch);
}

#[test]
fn states_that_break_an_invariant_are_refused() {
    let whole = |spoil: fn(&mut ChangesBody)| {
        let mut body = ChangesBody::decode(lived_in().state.encode().as_slice()).unwrap();
        spoil(&mut body);
        CatalogState::decode(&body.encode_to_vec())
    };
    assert!(whole(|_| ()).is_ok());
    let spoils: [fn(&mut ChangesBody); 13] = [
        |body| body.whole = false,
        |body| body.nodes[1].replica = 0,
        |body| body.nodes[1] = NodeBody { replica: body.nodes[1].replica, ..body.nodes[0].clone() },
        |body| body.nodes[0].state = 0,
        |body| body.next_node = 2,
        |body| drop(body.groups.pop()),
        |body| body.groups[0].in_sync.clear(),
        |body| body.groups[0].epoch = 0,
        |body| body.groups[0].group.as_mut().unwrap().partition = 16,
        |body| {
            body.arrays[0].array.as_mut().unwrap().name =
                body.arrays[1].array.as_ref().unwrap().name.clone();
        },
        |body| body.next_array = 0,
        |body| body.tables.as_mut().unwrap().tables[0].holders[0] = 77,
        |body| body.voters.as_mut().unwrap().numbers = vec![9],
    ];
    for (index, spoil) in spoils.into_iter().enumerate() {
        // The next id is raised by the arrays that are there; that one is healed, all others are refused.
        let read = whole(spoil);
        if index == 10 {
            assert!(read.is_ok());
        } else {
            assert_eq!(read.unwrap_err().code, ErrorCode::Malformed, "{index}");
        }
    }
}

#[test]
fn a_state_whose_parts_contradict_each_other_is_refused() {
    let body = || ChangesBody::decode(lived_in().state.encode().as_slice()).unwrap();
    let spoils: [fn(&mut ChangesBody, &mut ChangesBody); 4] = [
        // An array takes the name of another, and gives it back to nobody.
        |body, later| {
            let mut thief = body.arrays[1].clone();
            let name = body.arrays[0].array.as_ref().unwrap().name.clone();
            thief.array.as_mut().unwrap().name = name;
            later.arrays = vec![thief, body.arrays[1].clone()];
        },
        // It is gone, and the name that it had taken with it.
        |body, later| {
            let mut thief = body.arrays[1].clone();
            let name = body.arrays[0].array.as_ref().unwrap().name.clone();
            thief.array.as_mut().unwrap().name = name;
            body.arrays.push(thief);
            later.gone_arrays = vec![body.arrays[1].array.as_ref().unwrap().id];
        },
        // The ring shrinks below groups that were in it.
        |body, later| {
            let class = |group: &ConfigBody| group.group.map(|it| (it.replicas, it.min_in_sync));
            let first = class(&body.groups[0]);
            body.groups.retain(|group| class(group) == first);
            body.groups.retain(|group| {
                group.group.is_some_and(|it| it.partition < 7 || it.partition == 15)
            });
            body.arrays.clear();
            body.tables = None;
            let cluster = body.cluster.clone().unwrap();
            later.cluster = Some(ClusterBody { partition_bits: 3, ..cluster });
        },
        // A cluster without a name is none.
        |body, _later| body.cluster.as_mut().unwrap().name.clear(),
    ];
    for (index, spoil) in spoils.into_iter().enumerate() {
        let (mut body, mut later) = (body(), ChangesBody::default());
        spoil(&mut body, &mut later);
        let bytes = [body.encode_to_vec(), later.encode_to_vec()].concat();
        let read = CatalogState::decode_in_parts(&bytes, body.encoded_len());
        assert_eq!(read.map_err(|failure| failure.code), Err(ErrorCode::Malformed), "{index}");
    }
}

#[test]
fn commands_and_answers_beyond_their_bounds_are_refused() {
    let huge = vec![0; crate::limits::CATALOG_COMMAND_BYTES_MAX + 1];
    assert_eq!(Command::decode(&huge).unwrap_err().code, ErrorCode::TooLarge);
    assert_eq!(Answer::decode(&huge).unwrap_err().code, ErrorCode::TooLarge);
}
