//! Planning: pure, sticky, repeatable, and obeyed step by step.

use std::collections::BTreeSet;

use super::*;
use crate::TableVersion;

fn holders(plan: &Plan, replicas: u8) -> BTreeSet<NodeNumber> {
    plan.tables[&replicas].all_holders().iter().copied().collect()
}

#[test]
fn planning_twice_gives_the_same() {
    let mut lab = Lab::new(5);
    lab.array("a", 3, 2);
    assert!(lab.plan().changed.is_empty());
    lab.change(2, NodeChange::Reweigh { weight_milli: 3000 });
    lab.change(4, NodeChange::Cordon);
    lab.drain(5);
    lab.replan(&[]);
    let again = lab.plan();
    assert!(again.changed.is_empty(), "{:?}", again.changed);
    assert_eq!(again, lab.plan());
}

#[test]
fn a_plan_is_applied_at_the_version_that_it_was_made_from() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    lab.drain(3);
    let updates = lab.plan().updates();
    assert_eq!(updates.len(), 3);
    let by = Authority::Node(number(1));
    for update in &updates {
        lab.ok(by, Operation::ApplyTable(update.clone()));
        // Its answer was lost.
        lab.ok(by, Operation::ApplyTable(update.clone()));
    }
    let stale = lab.refused(by, Operation::ApplyTable(updates[0].clone()));
    assert_eq!(stale.code, ErrorCode::Conflict);
    let version = lab.state.table_version();
    let earlier = TableVersion(version.0 - 1);
    let backwards = TableUpdate { base_version: version, version: earlier, ..updates[1].clone() };
    assert_eq!(lab.refused(by, Operation::ApplyTable(backwards)).code, ErrorCode::Conflict);
    let next = |update: &TableUpdate| TableUpdate {
        base_version: version,
        version: TableVersion(version.0 + 1),
        ..update.clone()
    };
    let refused = lab.refused(Authority::Node(number(2)), Operation::ApplyTable(next(&updates[0])));
    assert_eq!(refused.code, ErrorCode::Denied);
    lab.ok(admin(), Operation::ApplyTable(next(&updates[0])));
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let mut lab = Lab::new(3);
    let base_version = lab.state.table_version();
    let version = TableVersion(base_version.0 + 1);
    let wrong = |replicas: u8, copies: u8, holders: Vec<u32>| {
        let table =
            TargetTable::new(copies, holders.into_iter().map(NodeNumber).collect()).unwrap();
        Operation::ApplyTable(TableUpdate {
            base_version,
            version,
            tables: [(replicas, table)].into(),
        })
    };
    let by = Authority::Node(number(1));
    let cases = [
        // Another number of partitions, more copies than wanted, a number of copies that cannot be.
        (wrong(1, 1, vec![1; 15]), ErrorCode::InvalidArgument),
        (wrong(1, 2, [1, 2].repeat(16)), ErrorCode::InvalidArgument),
        (wrong(9, 1, vec![1; 16]), ErrorCode::InvalidArgument),
        // A node that there is not.
        (wrong(1, 1, vec![7; 16]), ErrorCode::Conflict),
    ];
    for (operation, code) in cases {
        assert_eq!(lab.refused(by, operation).code, code);
    }
    assert!(TargetTable::new(2, vec![number(1), number(1)]).is_err());
    assert!(TargetTable::new(2, vec![number(1)]).is_err());
    assert!(TargetTable::new(0, vec![]).is_err());
    lab.drain(3);
    assert_eq!(lab.refused(by, wrong(1, 1, vec![3; 16])).code, ErrorCode::Conflict);
}

#[test]
fn a_newcomer_gets_its_share_and_all_follow() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    lab.ok(
        admin(),
        Operation::CreateTicket(NewTicket {
            key: public(5),
            role: crate::Role::Node,
            expires: UnixMillis(9000),
            name_hint: String::new(),
        }),
    );
    let node = new_node(104, "z4");
    let statement = join_statement(lab.state.cluster(), node.id, crate::Role::Node);
    let signature = sign(5, &statement);
    lab.ok(
        Authority::Nobody,
        Operation::AdmitNode(Admission { ticket: public(5), node, signature }),
    );
    // Before it has started it is not planned for.
    assert!(lab.plan().changed.is_empty());
    lab.start(4);
    let plan = lab.plan();
    let arriving = plan.moves.iter().filter(|it| it.add.contains(&number(4))).count();
    assert!((6..=10).contains(&arriving), "{arriving} of 16 groups x 2 copies / 4 nodes");
    assert!(plan.bytes > 0);
    lab.replan(&[]);
    lab.settle();
    assert!(lab.plan().moves.is_empty());
    assert_eq!(lab.state.groups_of(number(4)).len(), arriving);
    for config in lab.state.groups() {
        let targets = lab.state.target(2).unwrap().holders(config.group.partition);
        assert_eq!(config.primary.node, targets[0]);
        assert_eq!(config.in_sync.len(), 2);
        assert!(config.learners.is_empty());
    }
}

#[test]
fn a_silent_node_is_planned_around_after_the_repair_delay() {
    let mut lab = Lab::new(4);
    lab.array("a", 2, 1);
    lab.now = 10_000;
    lab.set_up(4, false);
    let delay = lab.state.settings().repair_delay_ms;
    lab.now = 10_000 + delay - 1;
    assert!(lab.plan().changed.is_empty());
    lab.now += 1;
    let plan = lab.plan();
    assert!(!holders(&plan, 2).contains(&number(4)));
    // Its state is not touched: when it answers again it gets its share again.
    lab.set_up(4, true);
    assert!(lab.plan().changed.is_empty());
}

#[test]
fn a_cordoned_node_keeps_what_it_has_and_gets_nothing() {
    let mut lab = Lab::new(4);
    lab.array("a", 2, 1);
    let held = lab.state.groups_of(number(4)).clone();
    lab.change(4, NodeChange::Cordon);
    assert!(lab.plan().changed.is_empty());
    lab.drain(3);
    let plan = lab.plan();
    // Three copies on the three nodes that remain need each of them: a copy counts for more than a cordon.
    assert_eq!(holders(&plan, 3), [number(1), number(2), number(4)].into());
    for (replicas, table) in plan.tables.iter().filter(|(replicas, _)| **replicas < 3) {
        let before = lab.state.target(*replicas).unwrap();
        for partition in (0..16).map(PartitionId) {
            let gained = table.holders(partition).contains(&number(4))
                && !before.holders(partition).contains(&number(4));
            assert!(!gained, "{partition} of {replicas} copies");
            let distinct: BTreeSet<_> = table.holders(partition).iter().collect();
            assert_eq!(distinct.len(), usize::from(table.copies()));
        }
    }
    let kept =
        held.iter().filter(|group| plan.tables[&2].holders(group.partition).contains(&number(4)));
    assert_eq!(kept.count(), held.len());
    assert!(!holders(&plan, 2).contains(&number(3)));
}

#[test]
fn a_cordoned_newcomer_is_not_there() {
    let mut lab = Lab::bare(3);
    lab.change(3, NodeChange::Cordon);
    lab.replan(&[1, 2]);
    for table in lab.state.targets().values() {
        assert!(!table.all_holders().contains(&number(3)));
    }
}

#[test]
fn with_nobody_to_plan_for_there_is_no_plan() {
    let mut lab = Lab::bare(1);
    lab.now = 100_000;
    lab.set_up(1, false);
    let late = UnixMillis(1_000_000);
    assert_eq!(plan_with(&lab.state, late, &[1]).unwrap_err().code, ErrorCode::OutOfCapacity);
    let silly = plan_with(&lab.state, UnixMillis(100_000), &[9]).unwrap_err();
    assert_eq!(silly.code, ErrorCode::InvalidArgument);
}

#[test]
fn primaries_follow_shares_and_zones_are_kept_apart() {
    let lab = Lab::new(4);
    for (replicas, table) in lab.state.targets() {
        let mut primaries = std::collections::BTreeMap::new();
        for partition in (0..16).map(PartitionId) {
            *primaries.entry(table.holders(partition)[0]).or_insert(0) += 1;
        }
        assert!(
            primaries.values().all(|count| (2..=6).contains(count)),
            "{replicas}: {primaries:?}"
        );
    }
}

#[test]
fn a_surplus_copy_stays_while_a_wanted_one_is_missing() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    let config = lab.config(0, class(2, 1));
    let backup = config.in_sync.iter().copied().find(|it| *it != config.primary).unwrap();
    let spare = (1..=3).map(number).find(|it| !config.names(*it)).unwrap();
    // The table wants the primary and the spare, which does not answer.
    let mut holders = lab.state.target(2).unwrap().all_holders().to_vec();
    holders[0] = config.primary.node;
    holders[1] = spare;
    let base_version = lab.state.table_version();
    let update = TableUpdate {
        base_version,
        version: TableVersion(base_version.0 + 1),
        tables: [(2, TargetTable::new(2, holders).unwrap())].into(),
    };
    lab.set_up(spare.0, false);
    lab.ok(admin(), Operation::ApplyTable(update));
    assert_eq!(lab.state.next_change(config.group), None);
    lab.set_up(spare.0, true);
    let add = ConfigChange::AddLearner(lab.state.node(spare).unwrap().replica());
    assert_eq!(lab.state.next_change(config.group), Some(add));
    lab.propose(config.primary, config.group, add);
    // One learner at a time, and nothing goes before it has caught up.
    assert_eq!(lab.state.next_change(config.group), None);
    let learner = lab.state.node(spare).unwrap().replica();
    lab.propose(config.primary, config.group, ConfigChange::AddInSync(learner));
    assert_eq!(lab.state.next_change(config.group), Some(ConfigChange::Remove(backup)));
}
