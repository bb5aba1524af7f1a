//! Coming in: the first command, tickets, joining, starting, stopping cleanly.

use super::*;
use crate::Role;

fn ticket(seed: u8, expires: u64) -> NewTicket {
    NewTicket {
        key: public(seed),
        role: Role::Node,
        expires: UnixMillis(expires),
        name_hint: String::new(),
    }
}

fn admission(lab: &Lab, ticket: u8, node: NewNode) -> Admission {
    let statement = join_statement(lab.state.cluster(), node.id, Role::Node);
    Admission { ticket: public(ticket), node, signature: sign(ticket, &statement) }
}

fn join(admission: &Admission) -> Operation {
    Operation::AdmitNode(admission.clone())
}

#[test]
fn a_cluster_is_made_once() {
    let mut lab = Lab::bare(1);
    let again = bootstrap(vec![new_node(101, "")]);
    lab.ok(Authority::Nobody, Operation::Bootstrap(again.clone()));
    assert_eq!(lab.state.nodes().count(), 1);
    let other = Bootstrap { root: public(3), ..again };
    let refused = lab.refused(Authority::Nobody, Operation::Bootstrap(other));
    assert_eq!(refused.code, ErrorCode::AlreadyExists);
    assert_eq!(lab.state.cluster().0, *blake3::hash(&public(2).0).as_bytes());
    assert_eq!(lab.state.voters(), [number(1)]);
}

#[test]
fn without_a_cluster_there_is_nothing_to_ask() {
    let mut state = CatalogState::new();
    let operation = Operation::CreateTicket(ticket(5, 10));
    let answer = state.apply(1, Command { at: UnixMillis(1), by: admin(), operation });
    assert_eq!(answer.accepted().unwrap_err().code, ErrorCode::Conflict);
}

#[test]
fn a_first_command_that_is_wrong_makes_nothing() {
    let good = bootstrap(vec![new_node(101, "")]);
    let mut clash = good.clone();
    clash.founders.push(NewNode { name: "n101".into(), ..new_node(102, "") });
    let mut powerless = good.clone();
    powerless.principals[0].grants.retain(|grant| grant.verb != Verb::Role);
    let bad = [
        (Bootstrap { cluster_name: String::new(), ..good.clone() }, ErrorCode::InvalidArgument),
        (Bootstrap { partition_bits: 30, ..good.clone() }, ErrorCode::InvalidArgument),
        (Bootstrap { partition_bits: 20, ..good.clone() }, ErrorCode::InvalidArgument),
        (Bootstrap { founders: vec![], ..good.clone() }, ErrorCode::InvalidArgument),
        (Bootstrap { principals: vec![], ..good }, ErrorCode::InvalidArgument),
        (clash, ErrorCode::AlreadyExists),
        (powerless, ErrorCode::InvalidArgument),
    ];
    for (index, (first, code)) in bad.into_iter().enumerate() {
        let mut state = CatalogState::new();
        let operation = Operation::Bootstrap(first);
        let command = Command { at: UnixMillis(1), by: Authority::Nobody, operation };
        let refused = state.apply(1, command).accepted().unwrap_err();
        assert_eq!(refused.code, code, "{index}");
        assert!(!state.is_bootstrapped(), "{index}");
    }
}

#[test]
fn a_ticket_lets_one_node_in_once() {
    let mut lab = Lab::bare(1);
    lab.ok(admin(), Operation::CreateTicket(ticket(5, 2000)));
    let second = admission(&lab, 5, new_node(102, "z"));
    assert_eq!(lab.ok(Authority::Nobody, join(&second)), Answer::Admitted(number(2)));
    // Its answer was lost: it asks again and is told the same, even when the ticket is over by then.
    lab.now = 5000;
    assert_eq!(lab.ok(Authority::Nobody, join(&second)), Answer::Admitted(number(2)));
    let third = admission(&lab, 5, new_node(103, "z"));
    let refused = lab.refused(Authority::Nobody, join(&third));
    assert_eq!((refused.code, refused.message.contains("used")), (ErrorCode::TicketInvalid, true));
    assert_eq!(lab.state.node(number(2)).unwrap().state, NodeState::Joining);
    lab.start(2);
    assert_eq!(lab.state.node(number(2)).unwrap().state, NodeState::Active);
    assert!(lab.state.node(number(2)).unwrap().up);
}

#[test]
fn expired_foreign_withdrawn_and_stolen_tickets_let_nobody_in() {
    let mut lab = Lab::bare(1);
    for seed in [5, 6, 7] {
        lab.ok(admin(), Operation::CreateTicket(ticket(seed, 2000)));
    }
    let node = new_node(102, "");
    let good = admission(&lab, 5, new_node(102, ""));
    // Signed for another cluster.
    let statement = join_statement(crate::ClusterId([7; 32]), node.id, Role::Node);
    let foreign = Admission { signature: sign(5, &statement), ..good.clone() };
    // Overheard, and used for another key.
    let stolen =
        Admission { ticket: good.ticket, node: new_node(103, ""), signature: good.signature };
    // A ticket that was never made.
    let unknown = admission(&lab, 8, new_node(102, ""));
    lab.ok(admin(), Operation::RevokeTicket(public(6)));
    let withdrawn = admission(&lab, 6, new_node(102, ""));
    for (name, bad) in
        [("foreign", foreign), ("stolen", stolen), ("unknown", unknown), ("withdrawn", withdrawn)]
    {
        let refused = lab.refused(Authority::Nobody, join(&bad));
        assert_eq!(refused.code, ErrorCode::TicketInvalid, "{name}");
        assert!(refused.help.is_some(), "{name}");
    }
    lab.now = 2000;
    assert_eq!(lab.refused(Authority::Nobody, join(&good)).code, ErrorCode::TicketInvalid);
    // The catalog's time does not run backwards for a proposer whose clock is slow.
    lab.now = 1500;
    assert_eq!(lab.refused(Authority::Nobody, join(&good)).code, ErrorCode::TicketInvalid);
}

#[test]
fn names_and_addresses_of_living_nodes_are_their_own() {
    let mut lab = Lab::bare(2);
    for seed in 5..9 {
        lab.ok(admin(), Operation::CreateTicket(ticket(seed, 2000)));
    }
    let fresh = new_node(103, "");
    let first = new_node(101, "");
    let clashes = [
        NewNode { name: first.name.clone(), ..fresh.clone() },
        NewNode { address: first.address.clone(), ..fresh.clone() },
        NewNode { id: first.id, ..fresh.clone() },
    ];
    for clash in clashes {
        let refused = lab.refused(Authority::Nobody, join(&admission(&lab, 5, clash)));
        assert_eq!(refused.code, ErrorCode::AlreadyExists);
        assert!(refused.message.contains("n101"), "{refused}");
    }
    // Who has gone leaves its name and address free, and its number never comes back.
    lab.change(2, NodeChange::Leave);
    let heir = NewNode { id: fresh.id, ..new_node(102, "") };
    let admitted = lab.ok(Authority::Nobody, join(&admission(&lab, 5, heir)));
    assert_eq!(admitted, Answer::Admitted(number(3)));
    // Who was put out stays out.
    lab.change(3, NodeChange::Evict { accept_loss: false });
    let back = NewNode { name: "other".into(), address: "x:1".into(), ..fresh };
    let refused = lab.refused(Authority::Nobody, join(&admission(&lab, 6, back)));
    assert_eq!(refused.code, ErrorCode::Denied);
    // Who left by itself may come back.
    let returning = NewNode { name: "again".into(), address: "y:1".into(), ..new_node(102, "") };
    let admitted = lab.ok(Authority::Nobody, join(&admission(&lab, 7, returning)));
    assert_eq!(admitted, Answer::Admitted(number(4)));
}

#[test]
fn a_ticket_may_be_for_one_name_only() {
    let mut lab = Lab::bare(1);
    let named = NewTicket { name_hint: "n102".into(), ..ticket(5, 2000) };
    lab.ok(admin(), Operation::CreateTicket(named));
    let other = admission(&lab, 5, new_node(103, ""));
    assert_eq!(lab.refused(Authority::Nobody, join(&other)).code, ErrorCode::TicketInvalid);
    let meant = admission(&lab, 5, new_node(102, ""));
    lab.ok(Authority::Nobody, join(&meant));
}

#[test]
fn making_a_ticket_needs_admit_and_a_future() {
    let mut lab = Lab::bare(1);
    lab.ok(admin(), Operation::PutPrincipal(principal(20, 2, &[(Verb::Read, "*")])));
    let reader = Authority::Principal(public(20));
    let node = Authority::Node(number(1));
    for by in [Authority::Nobody, reader, node] {
        let refused = lab.refused(by, Operation::CreateTicket(ticket(5, 2000)));
        assert_eq!(refused.code, ErrorCode::Denied);
    }
    let refused = lab.refused(admin(), Operation::CreateTicket(ticket(5, 1000)));
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    let client = NewTicket { role: Role::Client, ..ticket(5, 2000) };
    assert_eq!(lab.refused(admin(), Operation::CreateTicket(client)).code, ErrorCode::NotYet);
    lab.ok(admin(), Operation::CreateTicket(ticket(5, 2000)));
    lab.ok(admin(), Operation::CreateTicket(ticket(5, 2000)));
    let refused = lab.refused(admin(), Operation::CreateTicket(ticket(5, 3000)));
    assert_eq!(refused.code, ErrorCode::AlreadyExists);
}

#[test]
fn open_tickets_are_bounded_and_old_ones_make_room() {
    let mut lab = Lab::bare(1);
    let made = |index: usize, expires: u64| {
        let key = PublicKey(*blake3::hash(&(index as u64).to_le_bytes()).as_bytes());
        Operation::CreateTicket(NewTicket { key, ..ticket(5, expires) })
    };
    for index in 0..crate::limits::TICKETS_MAX {
        lab.ok(admin(), made(index, 2000));
    }
    let refused = lab.refused(admin(), made(5000, 3000));
    assert_eq!(refused.code, ErrorCode::OutOfCapacity);
    lab.now = 2000;
    lab.ok(admin(), made(5000, 3000));
    assert_eq!(lab.state.tickets().count(), 1);
}

#[test]
fn a_process_gets_its_incarnation_once_however_often_it_asks() {
    let mut lab = Lab::bare(1);
    let first = lab.state.node(number(1)).unwrap().incarnation;
    let by = Authority::Node(number(1));
    let start = registration(1, 77);
    let told = lab.ok(by, Operation::Register(start.clone()));
    let expected = Answer::Registered { incarnation: Incarnation(first.0 + 1) };
    assert_eq!(told, expected);
    assert_eq!(lab.ok(by, Operation::Register(start)), expected);
    let refused = lab.refused(Authority::Node(number(2)), Operation::Register(registration(1, 78)));
    assert_eq!(refused.code, ErrorCode::Denied);
}

/// A request of a process that had ended arrived after its successor had registered, and put the living one out.
#[test]
fn a_registration_that_arrives_late_or_twice_does_not_put_out_a_newer_process() {
    let mut lab = Lab::bare(1);
    let by = Authority::Node(number(1));
    let first = lab.state.node(number(1)).unwrap().incarnation;
    let start = Registration { after: Some(first), ..registration(1, 70) };
    let told = lab.ok(by, Operation::Register(start.clone()));
    let newer = Registration { after: Some(Incarnation(first.0 + 1)), ..registration(1, 71) };
    let newest = lab.ok(by, Operation::Register(newer.clone()));
    assert_ne!(told, newest);
    assert_eq!(lab.refused(by, Operation::Register(start)).code, ErrorCode::Conflict);
    assert_eq!(lab.ok(by, Operation::Register(newer.clone())), newest, "the living one may ask");
    let other = Registration { boot: BootId([72; 16]), ..newer };
    assert_eq!(lab.refused(by, Operation::Register(other)).code, ErrorCode::Conflict);
    assert_eq!(lab.state.node(number(1)).unwrap().boot, BootId([71; 16]));
}

/// A node that had started again within seconds was found down at once: its new life had not been heard of yet, and
/// nobody had missed the old one. What it was being brought was begun twice.
#[test]
fn a_registration_counts_as_a_sign_of_life_also_of_a_node_that_nobody_missed() {
    let mut lab = Lab::bare(1);
    assert!(lab.state.node(number(1)).unwrap().up);
    lab.now += 60_000;
    lab.ok(Authority::Node(number(1)), Operation::Register(registration(1, 70)));
    let node = lab.state.node(number(1)).unwrap();
    assert_eq!((node.up, node.up_changed), (true, UnixMillis(lab.now)));
}

#[test]
fn a_node_may_come_back_at_another_address_that_is_free() {
    let mut lab = Lab::bare(2);
    let moved = Registration { address: "10.9.9.9:1".into(), ..registration(1, 70) };
    lab.ok(Authority::Node(number(1)), Operation::Register(moved));
    assert_eq!(lab.state.node(number(1)).unwrap().address, "10.9.9.9:1");
    let taken = Registration { address: "10.9.9.9:1".into(), ..registration(2, 71) };
    let refused = lab.refused(Authority::Node(number(2)), Operation::Register(taken));
    assert_eq!(refused.code, ErrorCode::AlreadyExists);
}
