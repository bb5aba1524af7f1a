use proptest::prelude::*;

use super::*;
use crate::wire::ArrayInfo;
use crate::{Action, Grant, Policy, Principal, PublicKey};

const SECRET: [u8; 32] = [42; 32];

/// Permission of tenant `tenant` for `A` on `name`.
fn permit<A: Action>(tenant: u32, name: &str) -> Authorized<A> {
    let key = PublicKey([1; 32]);
    let grants = vec![Grant::any(A::VERB)];
    let principal = Principal { key, name: "ann".into(), tenant: TenantId(tenant), grants };
    Policy::new([principal]).authorize(key, name).unwrap()
}

fn request(name: &str, shape: &[u64]) -> Allocate {
    Allocate {
        name: name.into(),
        shape: shape.to_vec(),
        dtype: u32::from(DType::F64.to_byte()),
        ..Allocate::default()
    }
}

fn plan(
    directory: &Directory,
    tenant: u32,
    request: &Allocate,
) -> Result<ArrayDescriptor, Failure> {
    let may_read = permit(tenant, &request.like);
    let may = permit(tenant, &request.name);
    directory.plan_allocate(&may, Some(&may_read), request, UnixMillis(99), &SECRET)
}

fn create(directory: &mut Directory, tenant: u32, request: &Allocate) -> ArrayDescriptor {
    let array = plan(directory, tenant, request).unwrap();
    directory.install(array.clone()).unwrap();
    array
}

fn by_name(name: &str) -> ArrayRef {
    ArrayRef { name: name.into(), id: 0 }
}

fn by_id(id: ArrayId) -> ArrayRef {
    ArrayRef { name: String::new(), id: id.0 }
}

#[test]
fn an_array_is_found_by_name_and_id_until_it_is_forgotten() {
    let mut directory = Directory::new();
    let array = create(&mut directory, 1, &request("demo/a", &[10, 20]));
    assert_eq!((array.id, array.replicas, array.created), (ArrayId(1), 1, UnixMillis(99)));
    assert_eq!(array.layout.shard_elems(), ArrayLayout::SHARD_ELEMS_DEFAULT);
    assert_eq!(directory.find(TenantId(1), &by_name("demo/a")).unwrap(), &array);
    assert_eq!(directory.find(TenantId(1), &by_id(array.id)).unwrap(), &array);
    directory.install(array.clone()).unwrap();
    assert_eq!(directory.list(TenantId(1)).collect::<Vec<_>>(), [&array]);
    assert_eq!(directory.forget(TenantId(1), array.id).unwrap(), array);
    assert_eq!(
        directory.find(TenantId(1), &by_name("demo/a")).unwrap_err().code,
        ErrorCode::NotFound
    );
    assert_eq!(directory.forget(TenantId(1), array.id).unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(
        directory.install(array).unwrap_err().code,
        ErrorCode::Conflict,
        "ids never come back"
    );
    assert_eq!(create(&mut directory, 1, &request("demo/a", &[1])).id, ArrayId(2));
}

#[test]
fn another_tenants_array_and_none_at_all_are_the_same_answer() {
    let mut directory = Directory::new();
    let array = create(&mut directory, 1, &request("a", &[8]));
    let stranger = TenantId(2);
    let theirs = directory.find(stranger, &by_id(array.id)).unwrap_err();
    let missing = directory.find(TenantId(1), &by_id(ArrayId(77))).unwrap_err();
    assert_eq!(theirs.to_string().replace("#1", "#"), missing.to_string().replace("#77", "#"));
    let by_name_theirs = directory.find(stranger, &by_name("a")).unwrap_err();
    let mut empty = Directory::new();
    assert_eq!(by_name_theirs, empty.find(stranger, &by_name("a")).unwrap_err());
    assert_eq!(directory.forget(stranger, array.id), empty.forget(stranger, array.id));
    assert_eq!(directory.list(stranger).count(), 0);
    let beside = Allocate { like: "a".into(), ..request("b", &[8]) };
    assert_eq!(plan(&directory, 2, &beside).unwrap_err().code, ErrorCode::NotFound);
    // The same name is free for them.
    assert_eq!(create(&mut directory, 2, &request("a", &[8])).id, ArrayId(2));
    assert_eq!(directory.find(TenantId(1), &by_name("a")).unwrap().id, ArrayId(1));
}

#[test]
fn arrays_beside_each_other_share_group_key_and_shard_length() {
    let mut directory = Directory::new();
    let a = create(&mut directory, 1, &Allocate { shard_elems: 100, ..request("a", &[50, 4]) });
    let beside = |name: &str, shape: &[u64]| Allocate {
        like: "a".into(),
        dtype: u32::from(DType::Bool.to_byte()),
        ..request(name, shape)
    };
    let b = create(&mut directory, 1, &beside("b", &[200]));
    assert_eq!((b.colocation, b.placement_key), (a.colocation, a.placement_key));
    assert_eq!((b.layout.shard_elems(), b.layout.shards()), (100, a.layout.shards()));
    let c = create(&mut directory, 1, &request("c", &[200]));
    assert_ne!(c.colocation, a.colocation);
    assert_ne!(c.placement_key, a.placement_key);
    let other_secret = directory
        .plan_allocate(&permit(1, "d"), None, &request("d", &[1]), UnixMillis(0), &[43; 32])
        .unwrap();
    assert_ne!(
        other_secret.placement_key,
        plan(&directory, 1, &request("d", &[1])).unwrap().placement_key
    );
    let longer = plan(&directory, 1, &beside("e", &[201])).unwrap_err();
    assert_eq!(longer.code, ErrorCode::InvalidArgument);
    let recut = plan(&directory, 1, &Allocate { shard_elems: 10, ..beside("e", &[200]) });
    assert_eq!(recut.unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn requests_that_cannot_be_are_refused_and_change_nothing() {
    let mut directory = Directory::new();
    create(&mut directory, 1, &request("a", &[8]));
    for (bad, code) in [
        (request("", &[8]), ErrorCode::InvalidArgument),
        (request("../a", &[8]), ErrorCode::InvalidArgument),
        (request("a", &[8]), ErrorCode::AlreadyExists),
        (request("b", &[u64::MAX, 3]), ErrorCode::ShapeOverflow),
        (request("b", &[1; 9]), ErrorCode::ShapeOverflow),
        (Allocate { dtype: 99, ..request("b", &[8]) }, ErrorCode::InvalidArgument),
        (Allocate { replicas: 2, ..request("b", &[8]) }, ErrorCode::NotYet),
        (Allocate { like: "nope".into(), ..request("b", &[8]) }, ErrorCode::NotFound),
        (Allocate { shard_elems: u64::MAX, ..request("b", &[8]) }, ErrorCode::InvalidArgument),
    ] {
        let refused = plan(&directory, 1, &bad).unwrap_err();
        assert_eq!(refused.code, code, "{bad:?}");
    }
    let other =
        directory.plan_allocate(&permit(1, "x"), None, &request("y", &[8]), UnixMillis(0), &SECRET);
    assert_eq!(other.unwrap_err().code, ErrorCode::Denied, "the permission is for x");
    assert_eq!(directory.next_id(), ArrayId(2));
}

#[test]
fn of_two_plans_for_one_name_or_id_the_first_wins() {
    let mut directory = Directory::new();
    let first = plan(&directory, 1, &request("a", &[8])).unwrap();
    let same_name = plan(&directory, 1, &request("a", &[9])).unwrap();
    let same_id = plan(&directory, 1, &request("b", &[9])).unwrap();
    directory.install(first).unwrap();
    assert_eq!(directory.install(same_name).unwrap_err().code, ErrorCode::AlreadyExists);
    assert_eq!(directory.install(same_id).unwrap_err().code, ErrorCode::Conflict);
    let last = ArrayDescriptor {
        id: ArrayId(u64::MAX),
        ..plan(&directory, 1, &request("c", &[1])).unwrap()
    };
    assert_eq!(directory.install(last).unwrap_err().code, ErrorCode::InvalidArgument);
}

#[test]
fn who_may_not_read_an_array_learns_nothing_by_lying_beside_it() {
    let mut directory = Directory::new();
    create(&mut directory, 1, &request("secret", &[8]));
    let may = permit(1, "b");
    let beside = |like: &str, may_read: Option<&Authorized<action::Read>>| {
        let request = Allocate { like: like.into(), ..request("b", &[7]) };
        directory.plan_allocate(&may, may_read, &request, UnixMillis(0), &SECRET)
    };
    let missing = beside("nothing", Some(&permit(1, "nothing"))).unwrap_err();
    let same = |failure: Failure| {
        let shown = failure.to_string().replace("secret", "nothing");
        assert_eq!((failure.code, shown), (ErrorCode::NotFound, missing.to_string()));
    };
    same(beside("secret", None).unwrap_err());
    same(beside("secret", Some(&permit(1, "other"))).unwrap_err());
    same(beside("secret", Some(&permit(2, "secret"))).unwrap_err());
    // Who may read it is told that the lengths differ.
    let told = beside("secret", Some(&permit(1, "secret"))).unwrap_err();
    assert_eq!(told.code, ErrorCode::InvalidArgument);
}

#[test]
fn an_array_from_before_keeps_its_id_and_new_ones_get_ids_that_nobody_has_seen() {
    // The directory's node was restarted; a member remembers array 3 and that ids up to 9 were given out.
    let mut before = Directory::new();
    before.raise_next_id(ArrayId(3));
    let old = create(&mut before, 1, &request("old", &[8]));
    assert_eq!(old.id, ArrayId(3));
    let mut directory = Directory::new();
    directory.raise_next_id(ArrayId(10));
    assert_eq!(directory.install(old.clone()).unwrap_err().code, ErrorCode::Conflict);
    directory.install_earlier(old.clone()).unwrap();
    directory.install_earlier(old.clone()).unwrap();
    directory.install(old.clone()).unwrap();
    assert_eq!(directory.find(TenantId(1), &by_name("old")).unwrap(), &old);
    directory.raise_next_id(ArrayId(4));
    assert_eq!(directory.next_id(), ArrayId(10), "a lower id changes nothing");
    assert_eq!(create(&mut directory, 1, &request("new", &[8])).id, ArrayId(10));
    // Neither an id nor a name is ever shared.
    let same_id = ArrayDescriptor { name: ArrayName::new("x").unwrap(), ..old.clone() };
    assert_eq!(directory.install_earlier(same_id).unwrap_err().code, ErrorCode::Conflict);
    let same_name = ArrayDescriptor { id: ArrayId(4), ..old.clone() };
    assert_eq!(directory.install_earlier(same_name).unwrap_err().code, ErrorCode::AlreadyExists);
    let later = ArrayDescriptor { id: ArrayId(20), name: ArrayName::new("l").unwrap(), ..old };
    directory.install_earlier(later).unwrap();
    assert_eq!(directory.next_id(), ArrayId(21));
}

#[test]
fn descriptors_cross_the_wire_whole_and_broken_ones_are_refused() {
    let directory = Directory::new();
    let array = plan(&directory, 7, &request("demo/a", &[3, 5])).unwrap();
    let info = ArrayInfo::from(&array);
    assert_eq!(ArrayDescriptor::try_from(info.clone()).unwrap(), array);
    for (bad, code) in [
        (ArrayInfo { id: 0, ..info.clone() }, ErrorCode::Malformed),
        (ArrayInfo { replicas: 0, ..info.clone() }, ErrorCode::Malformed),
        (ArrayInfo { replicas: 257, ..info.clone() }, ErrorCode::Malformed),
        (ArrayInfo { placement_key: vec![0; 31], ..info.clone() }, ErrorCode::Malformed),
        (ArrayInfo { dtype: 0, ..info.clone() }, ErrorCode::Malformed),
        (ArrayInfo { name: "a//b".into(), ..info.clone() }, ErrorCode::InvalidArgument),
        (ArrayInfo { shape: vec![u64::MAX, 2], ..info.clone() }, ErrorCode::ShapeOverflow),
        (ArrayInfo { shard_elems: 0, ..info }, ErrorCode::InvalidArgument),
    ] {
        assert_eq!(ArrayDescriptor::try_from(bad.clone()).unwrap_err().code, code, "{bad:?}");
    }
}

proptest! {
    /// Against the plainest model: a list of (tenant, name).
    #[test]
    fn names_are_unique_per_tenant_and_ids_for_ever(steps in proptest::collection::vec((0u32..2, 0u8..4, any::<bool>()), 0..60)) {
        let mut directory = Directory::new();
        let mut model: Vec<(u32, String, ArrayId)> = Vec::new();
        let mut used = std::collections::BTreeSet::new();
        for (tenant, name, remove) in steps {
            let name = format!("n{name}");
            let at = model.iter().position(|(t, n, _)| *t == tenant && *n == name);
            if remove {
                let found = directory.find(TenantId(tenant), &by_name(&name)).map(|array| array.id);
                prop_assert_eq!(found.is_ok(), at.is_some());
                if let Ok(id) = found {
                    directory.forget(TenantId(tenant), id).unwrap();
                    model.remove(at.unwrap());
                }
            } else {
                let planned = plan(&directory, tenant, &request(&name, &[4]));
                prop_assert_eq!(planned.is_ok(), at.is_none());
                if let Ok(array) = planned {
                    prop_assert!(used.insert(array.id));
                    model.push((tenant, name, array.id));
                    directory.install(array).unwrap();
                }
            }
            for tenant in 0..2 {
                let mut expected: Vec<_> = model.iter().filter(|(t, _, _)| *t == tenant).map(|(_, n, id)| (n.clone(), *id)).collect();
                expected.sort();
                let listed: Vec<_> = directory.list(TenantId(tenant)).map(|a| (a.name.as_str().to_owned(), a.id)).collect();
                prop_assert_eq!(listed, expected);
            }
        }
    }
}
