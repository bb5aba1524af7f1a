//! Arrays: names, ids, classes, neighbours, pages.

use super::*;
use crate::ArrayName;
use crate::wire::ArrayRef;

fn by_name(name: &str) -> ArrayRef {
    ArrayRef { name: name.to_owned(), id: 0 }
}

fn prepare(lab: &Lab, request: &Allocate, token: u64) -> NewArray {
    lab.state.prepare_array(public(1), request, &SECRET, token).unwrap()
}

#[test]
fn an_array_makes_the_groups_of_its_class_once() {
    let mut lab = Lab::new(3);
    let a = lab.array("a", 2, 1);
    assert_eq!(lab.state.groups().count(), 16);
    assert_eq!(lab.state.classes(), [class(2, 1)].into());
    for config in lab.state.groups() {
        assert_eq!((config.epoch.0, config.in_sync.len()), (1, 2));
        let targets = lab.state.target(2).unwrap().holders(config.group.partition);
        assert_eq!(config.primary.node, targets[0]);
    }
    lab.array("b", 2, 1);
    lab.array("c", 1, 1);
    assert_eq!(lab.state.groups().count(), 32);
    assert_eq!((a.id.0, a.replicas, a.min_in_sync), (1, 2, 1));
}

#[test]
fn a_request_that_is_sent_twice_makes_one_array() {
    let mut lab = Lab::new(2);
    let new = prepare(&lab, &Lab::request("a", 1, 1), 7);
    let first = lab.ok(admin(), Operation::CreateArray(new.clone()));
    assert_eq!(lab.ok(admin(), Operation::CreateArray(new.clone())), first);
    let other = NewArray { token: 8, ..new };
    let refused = lab.refused(admin(), Operation::CreateArray(other));
    assert_eq!(refused.code, ErrorCode::AlreadyExists);
}

#[test]
fn ids_are_never_given_twice() {
    let mut lab = Lab::new(2);
    let a = lab.array("a", 1, 1);
    let remove = Operation::RemoveArray { tenant: TenantId(1), array: a.id };
    assert_eq!(lab.ok(admin(), remove.clone()), Answer::Removed(a.clone()));
    assert_eq!(lab.refused(admin(), remove).code, ErrorCode::NotFound);
    let again = lab.array("a", 1, 1);
    assert!(again.id > a.id && again.placement_key != a.placement_key);
}

#[test]
fn another_tenants_array_and_none_are_the_same_answer() {
    let mut lab = Lab::new(2);
    let a = lab.array("secret/name", 1, 1);
    let everything = [(Verb::Allocate, "*"), (Verb::Read, "*"), (Verb::Free, "free/*")];
    lab.ok(admin(), Operation::PutPrincipal(principal(20, 2, &everything)));
    let other = Authority::Principal(public(20));
    for (tenant, array) in
        [(2, a.id), (1, a.id), (2, crate::ArrayId(999)), (1, crate::ArrayId(999))]
    {
        let refused =
            lab.refused(other, Operation::RemoveArray { tenant: TenantId(tenant), array });
        assert_eq!(refused.code, ErrorCode::NotFound);
        assert!(!refused.message.contains("secret"), "{refused}");
    }
    let absent = lab.state.array(TenantId(2), &by_name("nope")).unwrap_err();
    let hidden = lab.state.array(TenantId(2), &by_name("secret/name")).unwrap_err();
    assert_eq!(absent.code, hidden.code);
    let by_id = ArrayRef { name: String::new(), id: a.id.0 };
    assert_eq!(lab.state.array(TenantId(2), &by_id).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(lab.state.array(TenantId(1), &by_id).unwrap(), &a);
    // Names of another tenant may be the same.
    let new = lab
        .state
        .prepare_array(public(20), &Lab::request("secret/name", 1, 1), &SECRET, 1)
        .unwrap();
    lab.ok(other, Operation::CreateArray(new.clone()));
    // And nobody creates for somebody else.
    let forged = NewArray { tenant: TenantId(1), token: 5, ..new };
    assert_eq!(lab.refused(other, Operation::CreateArray(forged)).code, ErrorCode::Denied);
}

#[test]
fn a_clients_own_token_makes_one_array_and_chooses_no_place() {
    let mut lab = Lab::new(3);
    let request = Allocate { token: 9, ..Lab::request("a", 1, 1) };
    let (new, again) = (prepare(&lab, &request, 70), prepare(&lab, &request, 71));
    assert_ne!(new.placement_key, again.placement_key, "a token of the client's places nothing");
    let Answer::Created(a) = lab.ok(admin(), Operation::CreateArray(new)) else { panic!() };
    // The second one was on its way already, the third comes when the array is there.
    for resent in [again, prepare(&lab, &request, 72)] {
        let Answer::Created(same) = lab.ok(admin(), Operation::CreateArray(resent)) else {
            panic!()
        };
        assert_eq!(same, a);
    }
    for token in [0, 10] {
        let other = Allocate { token, ..request.clone() };
        let refused = lab.state.prepare_array(public(1), &other, &SECRET, 9).unwrap_err();
        assert_eq!(refused.code, ErrorCode::AlreadyExists, "{token}");
    }
}

#[test]
fn a_neighbour_takes_over_key_group_and_class() {
    let mut lab = Lab::new(3);
    let a = lab.array("a", 3, 2);
    let beside = Allocate { like: "a".into(), shard_elems: 0, ..Lab::request("b", 0, 0) };
    let new = prepare(&lab, &beside, 50);
    let Answer::Created(b) = lab.ok(admin(), Operation::CreateArray(new)) else { panic!() };
    assert_eq!((b.colocation, b.placement_key), (a.colocation, a.placement_key));
    assert_eq!((b.class(), b.layout.shard_elems()), (a.class(), 10));
    let bad = [
        (Allocate { replicas: 2, ..beside.clone() }, ErrorCode::InvalidArgument),
        (Allocate { shape: vec![999], ..beside.clone() }, ErrorCode::InvalidArgument),
        (Allocate { shard_elems: 20, ..beside.clone() }, ErrorCode::InvalidArgument),
        (Allocate { like: "nope".into(), ..beside.clone() }, ErrorCode::NotFound),
    ];
    for (request, code) in bad {
        let request = Allocate { name: "c".into(), ..request };
        let refused = lab.state.prepare_array(public(1), &request, &SECRET, 51).unwrap_err();
        assert_eq!(refused.code, code, "{request:?}");
    }
    // Who may not read the neighbour is told that there is none.
    let blind = principal(20, 1, &[(Verb::Allocate, "*"), (Verb::Read, "x/*")]);
    lab.ok(admin(), Operation::PutPrincipal(blind));
    let request = Allocate { name: "c".into(), ..beside.clone() };
    let refused = lab.state.prepare_array(public(20), &request, &SECRET, 52).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    let forged = NewArray {
        name: ArrayName::new("c").unwrap(),
        ..prepare(&lab, &Allocate { name: "d".into(), ..beside }, 53)
    };
    let refused = lab.refused(Authority::Principal(public(20)), Operation::CreateArray(forged));
    assert_eq!(refused.code, ErrorCode::NotFound);
}

#[test]
fn copies_by_default_are_two_as_far_as_there_are_nodes() {
    let resolve = |nodes, replicas, min| Lab::bare(nodes).state.resolve_class(replicas, min);
    assert_eq!(resolve(1, 0, 0).unwrap(), class(1, 1));
    assert_eq!(resolve(2, 0, 0).unwrap(), class(2, 1));
    assert_eq!(resolve(5, 0, 0).unwrap(), class(2, 1));
    assert_eq!(resolve(5, 3, 2).unwrap(), class(3, 2));
    // More copies than nodes are a wish for later; more in sync than nodes could never be written.
    assert_eq!(resolve(1, 3, 1).unwrap(), class(3, 1));
    assert_eq!(resolve(1, 2, 2).unwrap_err().code, ErrorCode::OutOfCapacity);
    assert_eq!(resolve(3, 2, 3).unwrap_err().code, ErrorCode::InvalidArgument);
    assert_eq!(resolve(3, 9, 1).unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn without_a_table_or_enough_nodes_that_answer_nothing_is_made() {
    let mut lab = Lab::bare(2);
    let new = prepare(&lab, &Lab::request("a", 2, 2), 1);
    let refused = lab.refused(admin(), Operation::CreateArray(new.clone()));
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.retry_after_ms.is_some());
    lab.replan(&[2]);
    lab.set_up(2, false);
    let refused = lab.refused(admin(), Operation::CreateArray(new.clone()));
    assert_eq!(refused.code, ErrorCode::OutOfCapacity);
    assert_eq!(lab.state.groups().count(), 0);
    lab.set_up(2, true);
    lab.ok(admin(), Operation::CreateArray(new));
}

#[test]
fn lists_come_in_pages_by_name() {
    let mut lab = Lab::new(1);
    for index in 0..25 {
        lab.array(&format!("a{index:02}"), 1, 1);
    }
    let mut after: Option<ArrayName> = None;
    let mut pages = Vec::new();
    loop {
        let page: Vec<ArrayName> = lab
            .state
            .list(TenantId(1), after.as_ref(), 10)
            .map(|array| array.name.clone())
            .collect();
        let Some(last) = page.last().cloned() else { break };
        pages.push(page);
        after = Some(last);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    let names: Vec<&str> = pages.iter().flatten().map(ArrayName::as_str).collect();
    let expected: Vec<String> = (0..25).map(|index| format!("a{index:02}")).collect();
    assert_eq!(names, expected);
    assert_eq!(lab.state.list(TenantId(2), None, 10).count(), 0);
}

#[test]
fn who_may_not_allocate_creates_nothing() {
    let mut lab = Lab::new(1);
    let new = prepare(&lab, &Lab::request("a", 1, 1), 1);
    lab.ok(admin(), Operation::PutPrincipal(principal(20, 1, &[(Verb::Allocate, "x/*")])));
    for by in [Authority::Principal(public(20)), Authority::Node(number(1)), Authority::Nobody] {
        let refused = lab.refused(by, Operation::CreateArray(new.clone()));
        assert_eq!(refused.code, ErrorCode::Denied);
    }
    let stranger = Authority::Principal(public(77));
    let refused = lab.refused(stranger, Operation::CreateArray(new));
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
}

#[test]
fn keys_depend_on_secret_tenant_and_token() {
    let key = placement_key(&SECRET, TenantId(1), 1);
    assert_eq!(key, placement_key(&SECRET, TenantId(1), 1));
    assert_ne!(key, placement_key(&[8; 32], TenantId(1), 1));
    assert_ne!(key, placement_key(&SECRET, TenantId(2), 1));
    assert_ne!(key, placement_key(&SECRET, TenantId(1), 2));
}
