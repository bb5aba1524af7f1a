//! Rights, settings, sessions.

use super::*;
use crate::action;

fn put(principal: Principal) -> Operation {
    Operation::PutPrincipal(principal)
}

#[test]
fn the_policy_is_the_principals_and_the_living_nodes() {
    let mut lab = Lab::bare(2);
    lab.ok(admin(), put(principal(20, 3, &[(Verb::Read, "demo/*")])));
    lab.change(2, NodeChange::Leave);
    let policy = lab.state.policy();
    let may = policy.authorize::<action::Read>(public(20), "demo/a").unwrap();
    assert_eq!(may.tenant(), TenantId(3));
    assert!(policy.authorize::<action::Member>(public(101), "n").is_ok());
    assert!(policy.authorize::<action::Member>(public(102), "n").is_err());
    lab.ok(admin(), Operation::RemovePrincipal(public(20)));
    lab.ok(admin(), Operation::RemovePrincipal(public(20)));
    let policy = lab.state.policy();
    assert!(policy.authorize::<action::Read>(public(20), "demo/a").is_err());
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let mut lab = Lab::bare(1);
    let grants = [(Verb::Role, "tenants/3"), (Verb::Read, "demo/*"), (Verb::Write, "demo/x")];
    lab.ok(admin(), put(principal(20, 3, &grants)));
    let by = Authority::Principal(public(20));
    lab.ok(by, put(principal(21, 3, &[(Verb::Read, "demo/part*"), (Verb::Write, "demo/x")])));
    let beyond = [
        principal(22, 3, &[(Verb::Read, "*")]),
        principal(22, 3, &[(Verb::Read, "dem*")]),
        principal(22, 3, &[(Verb::Write, "demo/x*")]),
        principal(22, 3, &[(Verb::Run, "demo/a")]),
        principal(22, 4, &[(Verb::Read, "demo/a")]),
        // Taking over somebody of another tenant.
        Principal { key: public(1), ..principal(1, 3, &[(Verb::Read, "demo/a")]) },
    ];
    for wish in beyond {
        assert_eq!(lab.refused(by, put(wish.clone())).code, ErrorCode::Denied, "{wish:?}");
    }
    assert_eq!(lab.refused(by, Operation::RemovePrincipal(public(1))).code, ErrorCode::Denied);
    lab.ok(by, Operation::RemovePrincipal(public(21)));
    assert_eq!(
        lab.refused(Authority::Node(number(1)), put(principal(22, 3, &[]))).code,
        ErrorCode::Denied
    );
}

#[test]
fn principals_that_could_not_be_are_refused() {
    let mut lab = Lab::bare(1);
    let good = principal(20, 3, &[(Verb::Read, "a")]);
    let grant = |verb, pattern: &str| vec![Grant { verb, pattern: pattern.to_owned() }];
    let bad = [
        Principal { tenant: TenantId(0), ..good.clone() },
        Principal { name: String::new(), ..good.clone() },
        Principal { name: "a\nb".into(), ..good.clone() },
        Principal { grants: grant(Verb::Member, "*"), ..good.clone() },
        Principal { grants: grant(Verb::Read, ""), ..good.clone() },
        Principal { grants: grant(Verb::Read, "a**"), ..good.clone() },
        Principal { grants: grant(Verb::Read, "*a"), ..good },
    ];
    for wish in bad {
        let refused = lab.refused(admin(), put(wish.clone()));
        assert!(matches!(refused.code, ErrorCode::InvalidArgument | ErrorCode::Denied), "{wish:?}");
    }
}

#[test]
fn somebody_remains_who_can_add_principals() {
    let mut lab = Lab::bare(1);
    let refused = lab.refused(admin(), Operation::RemovePrincipal(public(1)));
    assert_eq!(refused.code, ErrorCode::Conflict);
    let weaker = Principal { key: public(1), ..principal(1, 1, &[(Verb::Read, "*")]) };
    assert_eq!(lab.refused(admin(), put(weaker)).code, ErrorCode::Conflict);
    lab.ok(admin(), put(principal(20, 1, &[(Verb::Role, "*")])));
    lab.ok(admin(), Operation::RemovePrincipal(public(1)));
    assert_eq!(lab.refused(admin(), put(principal(21, 1, &[]))).code, ErrorCode::Unauthenticated);
}

#[test]
fn settings_are_checked() {
    let mut lab = Lab::bare(1);
    let good = Settings { replicas_default: 3, repair_delay_ms: 60_000, ..Settings::default() };
    lab.ok(admin(), Operation::Settings(good));
    assert_eq!(lab.state.settings(), good);
    for bad in [
        Settings { replicas_default: 0, ..good },
        Settings { replicas_default: 8, ..good },
        Settings { voters_max: 2, ..good },
    ] {
        let refused = lab.refused(admin(), Operation::Settings(bad));
        assert_eq!(refused.code, ErrorCode::InvalidArgument);
    }
    let by_node = lab.refused(Authority::Node(number(1)), Operation::Settings(good));
    assert_eq!(by_node.code, ErrorCode::Denied);
}

#[test]
fn session_ids_are_given_once_and_expire_from_below() {
    let mut lab = Lab::bare(2);
    let lease = |node, count| Operation::LeaseSessions { node: number(node), count };
    let by = |node| Authority::Node(number(node));
    assert_eq!(lab.ok(by(1), lease(1, 10)), Answer::Sessions { first: 1, count: 10 });
    assert_eq!(lab.ok(by(2), lease(2, 5)), Answer::Sessions { first: 11, count: 5 });
    assert_eq!(lab.refused(by(1), lease(2, 5)).code, ErrorCode::Denied);
    assert_eq!(lab.refused(by(1), lease(1, 0)).code, ErrorCode::InvalidArgument);
    assert_eq!(lab.refused(by(1), lease(1, u32::MAX)).code, ErrorCode::InvalidArgument);
    lab.ok(by(1), Operation::ExpireSessions { below: 8 });
    lab.ok(by(1), Operation::ExpireSessions { below: 3 });
    assert_eq!(lab.state.sessions_expired_below(), 8);
    assert_eq!(lab.refused(by(2), Operation::ExpireSessions { below: 9 }).code, ErrorCode::Denied);
    let future = Operation::ExpireSessions { below: 17 };
    assert_eq!(lab.refused(by(1), future).code, ErrorCode::InvalidArgument);
}
