//! Random histories against what must always hold, and noise against every reader.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// One thing that may happen; numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
struct Event {
    kind: u8,
    a: u8,
    b: u8,
}

fn event() -> impl Strategy<Value = Event> {
    (0u8..32, any::<u8>(), any::<u8>()).prop_map(|(kind, a, b)| Event { kind, a, b })
}

/// What was seen so far and may never change back.
#[derive(Default)]
struct Seen {
    arrays: BTreeSet<crate::ArrayId>,
    removed: BTreeSet<crate::ArrayId>,
    nodes: BTreeMap<NodeNumber, NodeId>,
}

impl Seen {
    fn look(&mut self, before: &CatalogState, after: &CatalogState) {
        for config in after.groups() {
            if let Some(old) = before.group(config.group) {
                assert_step(old, config);
            } else {
                assert_eq!(config.epoch.0, 1);
            }
        }
        let arrays: BTreeSet<_> = after.arrays().map(|array| array.id).collect();
        for id in &arrays {
            assert!(!self.removed.contains(id), "array {id} came back");
            let newest = self.arrays.last().is_none_or(|last| id > last);
            assert!(newest || self.arrays.contains(id), "array {id} is late");
        }
        self.removed.extend(self.arrays.difference(&arrays));
        self.arrays.extend(arrays);
        for node in after.nodes() {
            let known = self.nodes.entry(node.number).or_insert(node.id);
            assert_eq!(*known, node.id, "number {} was given twice", node.number);
            let old = before.node(node.number).map_or(0, |old| old.incarnation.0);
            assert!(node.incarnation.0 >= old);
        }
        assert!(after.now() >= before.now());
    }
}

/// A config stays as it was, or its epoch grows by one, or by two where a node is put out and one that drains goes with it.
/// Nobody is in sync who was neither in sync nor a learner, but for the one replica on which lost data starts anew.
///
/// A past life of a node that nobody else in sync goes on for is followed by its present one, alone.
fn assert_step(old: &GroupConfig, new: &GroupConfig) {
    if old.epoch == new.epoch {
        assert_eq!(old, new);
        return;
    }
    let steps = new.epoch.0 - old.epoch.0;
    assert!((1..=2).contains(&steps), "{old:?} -> {new:?}");
    assert!(!new.in_sync.is_empty());
    let known = |id: &&ReplicaId| old.in_sync.contains(id) || old.learners.contains(id);
    let strangers = new.in_sync.iter().filter(|id| !known(id)).count();
    if old.lost || new.in_sync.iter().all(|id| !old.in_sync.contains(id)) {
        // Everything that the group had is gone: it starts on one replica, or stays lost.
        assert!(new.lost || new.in_sync == [new.primary], "{old:?} -> {new:?}");
        assert!(new.learners.is_empty(), "{old:?} -> {new:?}");
    } else {
        assert_eq!(strangers, 0, "{old:?} -> {new:?}");
        let promoted = new.in_sync.iter().filter(|id| old.learners.contains(id)).count();
        assert!(promoted <= 1);
    }
}

fn happen(lab: &mut Lab, event: Event) {
    let Event { kind, a, b } = event;
    let nodes: Vec<NodeNumber> = lab.state.nodes().map(|node| node.number).collect();
    let node = nodes[usize::from(a) % nodes.len()];
    let set = |change| Operation::SetNodeState { node, change };
    let (by, operation) = match kind {
        0 | 1 => {
            lab.boots = lab.boots.wrapping_add(1).max(1);
            (Authority::Node(node), Operation::Register(registration(node.0, lab.boots)))
        }
        2 => {
            let replica = lab.state.node(node).unwrap().replica();
            let by = lab.state.voters().first().copied().unwrap_or_default();
            (Authority::Node(by), Operation::SetUp(vec![Liveness { replica, up: b % 2 == 0 }]))
        }
        3 => (admin(), set(NodeChange::Drain { deadline: None })),
        4 => (admin(), set(NodeChange::Undrain)),
        5 => (admin(), set(NodeChange::Evict { accept_loss: b % 3 == 0 })),
        6 => (admin(), set(NodeChange::Cordon)),
        7 => (admin(), set(NodeChange::Leave)),
        8 => {
            let by = lab.state.voters().first().copied().unwrap_or_default();
            (Authority::Node(by), Operation::FinishDrain { node })
        }
        9 => {
            let Ok(plan) = plan_with(&lab.state, UnixMillis(lab.now), &[1, 2, 3]) else { return };
            for update in plan.updates() {
                lab.apply(admin(), Operation::ApplyTable(update));
            }
            return;
        }
        10 | 11 => {
            lab.tokens += 1;
            let name = format!("a{}", a % 6);
            let replicas = u32::from(b % 3) + 1;
            let min_in_sync = if b.is_multiple_of(2) { 1 } else { replicas };
            let request = Lab::request(&name, replicas, min_in_sync);
            let Ok(new) = lab.state.prepare_array(public(1), &request, &SECRET, lab.tokens) else {
                return;
            };
            (admin(), Operation::CreateArray(new))
        }
        12 => {
            let arrays: Vec<_> = lab.state.arrays().map(|array| array.id).collect();
            let Some(array) = arrays.get(usize::from(b) % arrays.len().max(1)) else { return };
            (admin(), Operation::RemoveArray { tenant: TenantId(1), array: *array })
        }
        13 => {
            let lost = lab.state.lost_groups().iter().copied().collect();
            (admin(), Operation::AcceptLoss(lost))
        }
        14 => {
            lab.now += u64::from(b) * 100;
            let wanted = lab.state.wanted_voters(UnixMillis(lab.now));
            let by = lab.state.voters().first().copied().unwrap_or_default();
            (Authority::Node(by), Operation::SetVoters(wanted))
        }
        15 => (
            admin(),
            if b.is_multiple_of(5) { Operation::AbortClose } else { Operation::BeginClose },
        ),
        16..=20 => return close(lab, node, b),
        21 | 22 => {
            lab.boots = lab.boots.wrapping_add(1).max(1);
            let start = Registration { keeps: true, ..registration(node.0, lab.boots) };
            (Authority::Node(node), Operation::Register(start))
        }
        23..=26 => return resume(lab, node, b),
        _ => return propose(lab, node, b),
    };
    lab.apply(by, operation);
}

/// A node tells what it has found of its earlier lives: mostly what the catalog asks for.
fn resume(lab: &mut Lab, node: NodeNumber, pick: u8) {
    let me = lab.state.node(node).unwrap().replica();
    let past = match lab.state.to_resume(me).unwrap_or_default() {
        past if past.is_empty() && pick.is_multiple_of(4) => anything(&lab.state),
        past => past,
    };
    let found = past.into_iter().zip(0u8..=255).map(|(mut past, place)| {
        match pick.wrapping_add(place) % 11 {
            0 => past.life.0 += 1,
            1 => past.at.0 += 1,
            2 => past.at.0 -= 1,
            _ => {}
        }
        Resumption { past, is_whole: !pick.wrapping_add(place).is_multiple_of(5) }
    });
    let reporter = match pick % 16 {
        0 => ReplicaId { incarnation: Incarnation(me.incarnation.0.saturating_sub(1)), ..me },
        _ => me,
    };
    let found: Vec<Resumption> = found.collect();
    let before = lab.state.clone();
    let operation = Operation::Resume { reporter, found: found.clone() };
    let answer = lab.apply(Authority::Node(node), operation);
    assert_resumed(&before, &lab.state, reporter, &found, answer.accepted().is_ok());
}

/// The first life of everything, as if the reporter had lived it.
fn anything(state: &CatalogState) -> Vec<PastReplica> {
    let first = |config: &GroupConfig| PastReplica {
        group: config.group,
        life: Incarnation(1),
        at: config.epoch,
    };
    state.groups().map(first).collect()
}

/// Whatever a node says of its past, it changes nothing but what its own earlier lives were in sync with; and it gets no
/// group of which another in-sync replica answers.
fn assert_resumed(
    before: &CatalogState,
    after: &CatalogState,
    me: ReplicaId,
    found: &[Resumption],
    is_taken: bool,
) {
    for old in before.groups() {
        let new = after.group(old.group).unwrap();
        let fits = |it: &&Resumption| {
            it.past.group == old.group
                && it.past.at == old.epoch
                && old.in_sync.contains(&ReplicaId { incarnation: it.past.life, ..me })
                && it.past.life < me.incarnation
        };
        let fit = found.iter().filter(|_| is_taken && !old.lost).find(fits);
        let carried = old.in_sync.iter().any(|it| it.node != me.node && before.is_up(*it));
        match fit {
            None => assert_eq!(old, new),
            Some(Resumption { is_whole: true, .. }) if carried => assert_eq!(old, new),
            Some(Resumption { is_whole: true, .. }) => {
                assert_eq!((new.epoch.0, new.primary), (old.epoch.0 + 1, me));
                assert_eq!((new.in_sync.as_slice(), new.lost), ([me].as_slice(), false));
            }
            Some(_) => {
                let is_past =
                    |it: &ReplicaId| it.node == me.node && it.incarnation < me.incarnation;
                assert!(new.lost || !new.members().any(|it| is_past(&it)), "{old:?} -> {new:?}");
                let kept = old.in_sync.iter().filter(|it| !is_past(it));
                assert!(new.lost || kept.clone().count() == 0 || kept.eq(&new.in_sync));
            }
        }
    }
}

/// A step of a close, mostly one that fits.
fn close(lab: &mut Lab, node: NodeNumber, pick: u8) {
    let Some(close) = lab.state.close().cloned() else { return };
    let voter = Authority::Node(lab.state.voters().first().copied().unwrap_or_default());
    let reporter = lab.state.node(node).unwrap().replica();
    if !close.finished {
        for group in close.holds.keys() {
            let config = lab.state.group(*group).unwrap().clone();
            for reporter in config.in_sync {
                let seq = crate::group::Seq(7);
                let (epoch, at) = (config.epoch, config.epoch);
                let holds = vec![Held { group: *group, epoch, seq, bytes: 1, at }];
                let id = close.id;
                let hold = Operation::Hold { close: id, reporter, holds };
                lab.apply(Authority::Node(reporter.node), hold);
            }
        }
        if pick.is_multiple_of(2) {
            lab.apply(voter, Operation::FinishClose(close.id));
        }
        return;
    }
    let ours = close.holds.iter().filter(|(_, hold)| hold.is_held_by(node));
    let holds = ours.map(|(group, hold)| Held {
        group: *group,
        epoch: hold.epoch,
        seq: hold.seq,
        bytes: 1,
        at: lab.state.group(*group).unwrap().epoch,
    });
    let holds = holds.collect();
    let reopen = Operation::Reopen { close: close.id, reporter, holds };
    lab.apply(Authority::Node(node), reopen);
    if pick.is_multiple_of(2) {
        let back = close.holds.keys().filter(|group| lab.state.awaited(**group).is_none());
        let groups = back.copied().collect();
        lab.apply(voter, Operation::Settle { close: close.id, groups });
    }
}

/// Any change of any group by any life of a node, past ones too.
fn propose(lab: &mut Lab, node: NodeNumber, pick: u8) {
    let groups: Vec<GroupId> = lab.state.groups().map(|config| config.group).collect();
    let Some(group) = groups.get(usize::from(pick) * 7 % groups.len().max(1)).copied() else {
        return;
    };
    let config = lab.state.group(group).unwrap();
    let of_node = lab.state.node(node).unwrap().replica();
    let by = if pick.is_multiple_of(2) { config.primary } else { of_node };
    let change = match pick % 6 {
        0 => ConfigChange::AddLearner(of_node),
        1 => ConfigChange::TakeOver,
        2 => ConfigChange::Remove(of_node),
        3 => ConfigChange::AddInSync(of_node),
        4 => config
            .learners
            .first()
            .copied()
            .map_or(ConfigChange::Handover(of_node), ConfigChange::AddInSync),
        _ => lab.state.next_change(group).unwrap_or(ConfigChange::TakeOver),
    };
    let proposals = vec![Proposal { group, epoch: config.epoch, by, change }];
    lab.apply(Authority::Node(by.node), Operation::ProposeChanges { reporter: by, proposals });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        events in proptest::collection::vec(event(), 1..80),
        at in any::<proptest::sample::Index>(),
        flip: u8,
    ) {
        let mut lab = Lab::new(5);
        lab.array("first", 2, 1);
        let mut seen = Seen::default();
        let mut follower = CatalogState::decode(&lab.state.encode()).unwrap();
        for event in events {
            let before = lab.state.clone();
            happen(&mut lab, event);
            seen.look(&before, &lab.state);
            assert_released(&lab.state);
            let changes = lab.state.changes_since(follower.version()).unwrap();
            follower.merge(Changes::decode(&changes.encode()).unwrap()).unwrap();
            prop_assert_eq!(&follower, &lab.state);
        }
        let bytes = lab.state.encode();
        let read = CatalogState::decode(&bytes).unwrap();
        prop_assert_eq!(&read, &lab.state);
        prop_assert_eq!(read.encode(), bytes);
        survive_spoiled(&lab.history, at, flip);
        if lab.state.close().is_none()
            && let Ok(plan) = plan(&lab.state, UnixMillis(lab.now))
        {
            for update in plan.updates() {
                lab.ok(admin(), Operation::ApplyTable(update));
            }
            prop_assert!(lab.plan().changed.is_empty());
        }
    }

    #[test]
    fn whatever_has_happened_without_arrays_every_node_but_one_can_be_drained(
        events in proptest::collection::vec(event(), 1..60),
        stays in any::<proptest::sample::Index>(),
    ) {
        let mut lab = Lab::new(4);
        lab.array("first", 2, 2);
        for event in events {
            happen(&mut lab, event);
        }
        drain_all_but(&mut lab, stays);
    }

    #[test]
    fn noise_is_survived(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(&noise);
    }

    #[test]
    fn flipped_bytes_are_survived(at in any::<proptest::sample::Index>(), flip in 1u8.., cut in any::<proptest::sample::Index>()) {
        let mut lab = Lab::new(2);
        lab.array("a", 2, 1);
        let mut bytes = lab.state.encode();
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        survive(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        survive(&bytes);
        let first = Operation::Bootstrap(bootstrap(vec![new_node(101, "a")]));
        let mut bytes = Command { at: UnixMillis(7), by: admin(), operation: first }.encode();
        let place = at.index(bytes.len());
        bytes[place] ^= flip;
        survive(&bytes);
    }
}

/// What of a history was spoiled on its way, and what that makes of it, harms no catalog that applies it.
fn survive_spoiled(history: &History, at: proptest::sample::Index, flip: u8) {
    let mut bytes = history.bytes().to_vec();
    bytes[at.index(history.bytes().len())] ^= flip;
    crate::fuzzing::catalog_commands(&bytes);
}

/// Whatever lets a draining node out of groups without data has done so.
fn assert_released(state: &CatalogState) {
    let mut again = state.clone();
    again.release_draining();
    assert_eq!(&again, state);
}

/// Everybody goes on with what nobody else does; the rest is taken over by those who do.
fn replace_past_lives(lab: &mut Lab, living: &[(u32, NodeState)]) {
    for (node, _) in living {
        let me = lab.state.node(number(*node)).unwrap().replica();
        lab.resume_all(me, true);
        for past in lab.state.to_resume(me).unwrap() {
            let (group, old) = (past.group, ReplicaId { incarnation: past.life, ..me });
            let config = lab.state.group(group).unwrap();
            if !lab.state.is_up(config.primary) {
                let by = *config.in_sync.iter().find(|it| lab.state.is_up(**it)).unwrap();
                assert_eq!(lab.propose(by, group, ConfigChange::TakeOver).refusal, None);
            }
            let config = lab.state.group(group).unwrap();
            if config.in_sync.contains(&old) {
                let answer = lab.propose(config.primary, group, ConfigChange::Remove(old));
                assert_eq!(answer.refusal, None);
            }
        }
    }
}

/// Removes all arrays, and drains all nodes but one.
fn drain_all_but(lab: &mut Lab, stays: proptest::sample::Index) {
    let arrays: Vec<_> = lab.state.arrays().map(|array| array.id).collect();
    if lab.state.close().is_some() || lab.state.voters().is_empty() {
        return;
    }
    for array in arrays {
        lab.ok(admin(), Operation::RemoveArray { tenant: TenantId(1), array });
    }
    let living = lab.state.nodes().filter(|node| node.state.is_living());
    let living: Vec<(u32, NodeState)> = living.map(|node| (node.number.0, node.state)).collect();
    for (node, state) in &living {
        match state {
            NodeState::Cordoned => lab.change(*node, NodeChange::Uncordon),
            NodeState::Draining { .. } | NodeState::Drained => {
                lab.change(*node, NodeChange::Undrain)
            }
            _ => Answer::Done,
        };
        let replica = lab.state.node(number(*node)).unwrap().replica();
        let by = Authority::Node(lab.state.voters()[0]);
        lab.ok(by, Operation::SetUp(vec![Liveness { replica, up: true }]));
        if !lab.state.node(number(*node)).unwrap().up {
            // A close has ended its process.
            lab.start(*node);
        }
    }
    replace_past_lives(lab, &living);
    let stays = living[stays.index(living.len())].0;
    for (node, _) in living.iter().filter(|(node, _)| *node != stays) {
        lab.drain(*node);
        for update in lab.plan().updates() {
            lab.ok(admin(), Operation::ApplyTable(update));
        }
        lab.settle();
        assert_eq!(lab.state.drain_progress(number(*node)).groups_left, 0);
        let by = Authority::Node(lab.state.voters()[0]);
        lab.ok(by, Operation::FinishDrain { node: number(*node) });
    }
    for config in lab.state.groups() {
        assert!(!config.lost && config.in_sync.len() == 1, "{config:?}");
    }
}

/// Hands bytes to all readers of the catalog.
fn survive(bytes: &[u8]) {
    crate::fuzzing::catalog_state(bytes);
    crate::fuzzing::catalog_answer(bytes);
    crate::fuzzing::catalog_commands(bytes);
    let mut history = History::default();
    history.note(bytes);
    crate::fuzzing::catalog_commands(history.bytes());
}
