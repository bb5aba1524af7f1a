//! What the leader of the catalog finds due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::Instant;
use crate::catalog::{Duty, Leader, LeaderView, Step};

const DOWN_AFTER: Duration = Duration::from_secs(3);
const HOUR: u64 = 3600 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// A cluster, its leader, and when the leader heard whom.
struct Led {
    lab: Lab,
    leader: Leader,
    heard: BTreeMap<ReplicaId, Instant>,
    voters: BTreeSet<NodeNumber>,
    me: ReplicaId,
    now: u64,
}

impl Led {
    /// Node 1 leads from the first second on, long after everybody has registered.
    fn new(lab: Lab) -> Self {
        let leader = Leader::new(Instant(SECOND), DOWN_AFTER);
        let me = lab.state.node(number(1)).unwrap().replica();
        let (heard, voters) = (BTreeMap::new(), BTreeSet::new());
        let mut led = Self { lab, leader, heard, voters, me, now: SECOND };
        led.lab.now += 3_600_000;
        led
    }

    fn hear(&mut self, nodes: &[u32]) {
        for node in nodes {
            let replica = self.lab.state.node(number(*node)).unwrap().replica();
            self.heard.insert(replica, Instant(self.now));
        }
    }

    fn wait(&mut self, nanos: u64) {
        self.now += nanos;
        self.lab.now += nanos / 1_000_000;
    }

    fn try_due(&mut self, duty: Duty) -> Result<Vec<Step>, Failure> {
        let view = LeaderView {
            state: &self.lab.state,
            now: Instant(self.now),
            wall: UnixMillis(self.lab.now),
            node: Some(self.me.node),
            me: Some(self.me),
            voters: &self.voters,
            heard: &|replica| self.heard.get(&replica).copied(),
        };
        self.leader.due(duty, &view)
    }

    fn due(&mut self, duty: Duty) -> Vec<Step> {
        self.try_due(duty).unwrap()
    }

    /// Who is judged anew, and how.
    fn verdicts(&mut self) -> Vec<(u32, bool)> {
        let steps = self.due(Duty::Liveness);
        let verdicts = steps.iter().flat_map(|step| match step {
            Step::Judge(verdicts) => verdicts.clone(),
            other => panic!("{other:?}"),
        });
        verdicts.map(|verdict| (verdict.replica.node.0, verdict.up)).collect()
    }

    fn apply(&mut self, steps: &[Step]) {
        for operation in steps.iter().flat_map(Step::operations) {
            self.lab.ok(Authority::Node(number(1)), operation);
        }
    }
}

#[test]
fn a_leader_judges_nobody_down_before_it_has_listened_for_long_enough() {
    let mut led = Led::new(Lab::new(3));
    led.wait(2 * SECOND);
    assert_eq!(led.verdicts(), [], "two seconds of silence may be its own");
    led.wait(SECOND);
    led.hear(&[2]);
    assert_eq!(led.verdicts(), [(3, false)], "node 1 judges, and node 2 was heard");
    let steps = led.due(Duty::Liveness);
    led.apply(&steps);
    assert_eq!(led.verdicts(), []);
    led.hear(&[3]);
    assert_eq!(led.verdicts(), [(3, true)]);
}

#[test]
fn a_process_that_got_no_time_listens_anew() {
    let mut led = Led::new(Lab::new(2));
    led.wait(60 * SECOND);
    led.leader.listen_anew(Instant(led.now));
    assert_eq!(led.verdicts(), []);
    led.wait(3 * SECOND);
    assert_eq!(led.verdicts(), [(2, false)]);
}

#[test]
fn a_registration_counts_as_a_beat_and_an_earlier_lifes_beat_as_none() {
    let mut led = Led::new(Lab::new(2));
    led.wait(10 * SECOND);
    led.hear(&[2]);
    led.lab.start(2);
    assert_eq!(led.verdicts(), [], "it has said a moment ago that it is there");
    led.wait(2 * SECOND);
    assert_eq!(led.verdicts(), []);
    led.wait(SECOND);
    assert_eq!(led.verdicts(), [(2, false)], "only its earlier life was heard");
}

#[test]
fn a_drain_ends_when_nothing_is_left_and_the_node_votes_no_more() {
    let mut led = Led::new(Lab::new(4));
    led.lab.array("a", 2, 1);
    led.voters = [number(1), number(2)].into();
    led.lab.drain(2);
    assert_eq!(led.due(Duty::Drains), []);
    let total = led.lab.state.groups_of(number(2)).len() as u64;
    assert_eq!(led.leader.drain_meter(number(2)).unwrap().total(), total);
    let steps = led.due(Duty::Placement);
    led.apply(&steps);
    led.lab.settle();
    assert_eq!(led.due(Duty::Drains), [], "it still votes");
    led.voters = [number(1)].into();
    assert_eq!(led.due(Duty::Drains), [Step::EndDrain(number(2))]);
    led.apply(&[Step::EndDrain(number(2))]);
    assert_eq!(led.due(Duty::Drains), []);
    assert!(led.leader.drain_meter(number(2)).is_none());
}

#[test]
fn groups_are_placed_anew_when_a_node_is_missing_for_the_delay_and_not_before() {
    let mut led = Led::new(Lab::new(3));
    led.lab.array("a", 2, 1);
    assert_eq!(led.due(Duty::Placement), []);
    led.lab.set_up(3, false);
    assert_eq!(led.due(Duty::Placement), [], "it may be back at once");
    led.wait(10 * SECOND);
    let steps = led.due(Duty::Placement);
    assert!(matches!(steps.as_slice(), [Step::Place(_)]), "{steps:?}");
    assert_eq!(led.due(Duty::Placement).len(), 1, "as long as it is not applied");
    led.apply(&steps);
    assert_eq!(led.due(Duty::Placement), []);
    for table in led.lab.state.targets().values() {
        assert!(!table.all_holders().contains(&number(3)));
    }
}

#[test]
fn that_nobody_could_hold_anything_is_said_once_for_every_change() {
    let mut led = Led::new(Lab::new(1));
    led.lab.array("a", 1, 1);
    led.lab.set_up(1, false);
    led.wait(10 * SECOND);
    assert_eq!(led.try_due(Duty::Placement).unwrap_err().code, ErrorCode::OutOfCapacity);
    assert_eq!(led.due(Duty::Placement), []);
    led.lab.set_up(1, true);
    assert_eq!(led.due(Duty::Placement), [], "the table is as it was");
}

#[test]
fn nothing_moves_while_the_cluster_closes() {
    let mut led = Led::new(Lab::new(3));
    led.lab.array("a", 2, 1);
    led.lab.ok(admin(), Operation::BeginClose);
    led.lab.set_up(3, false);
    led.wait(60 * SECOND);
    assert_eq!(led.due(Duty::Placement), []);
}

#[test]
fn sessions_end_a_week_after_the_mark_that_is_above_them() {
    let mut led = Led::new(Lab::new(1));
    led.lab.ok(Authority::Node(number(1)), Operation::LeaseSessions { node: number(1), count: 10 });
    let mark = led.lab.state.next_session();
    let mut ended = None;
    for hour in 0..=7 * 24 {
        assert_eq!(ended, None, "after {hour} hours");
        for step in led.due(Duty::Sessions) {
            let Step::ExpireSessions(below) = step else { panic!("{step:?}") };
            ended = Some((hour, below));
        }
        assert_eq!(led.due(Duty::Sessions), [], "once an hour");
        led.wait(HOUR);
        led.lab.ok(
            Authority::Node(number(1)),
            Operation::LeaseSessions { node: number(1), count: 10 },
        );
    }
    assert_eq!(ended, Some((7 * 24, mark)));
}

#[test]
fn a_close_ends_when_everything_is_on_disk_and_nobody_is_replaced_right_after_it() {
    let mut lab = Lab::new(3);
    lab.array("a", 2, 1);
    let close = closing::begin(&mut lab);
    let mut led = Led::new(lab);
    assert_eq!(led.due(Duty::Close), [], "nothing is on disk yet");
    closing::hold_all(&mut led.lab, close);
    assert!(!led.leader.is_coming_back(&led.lab.state, Instant(led.now)));
    let steps = led.due(Duty::Close);
    assert_eq!(steps, [Step::Close(CloseStep::Finish(close))]);
    led.apply(&steps);
    led.wait(HOUR);
    led.me = led.lab.start(1);
    assert!(led.leader.is_coming_back(&led.lab.state, Instant(led.now)));
    assert_eq!(led.due(Duty::Close), [], "what came back has none of its copies yet");
    led.wait(9 * SECOND);
    assert!(led.leader.is_coming_back(&led.lab.state, Instant(led.now)));
    led.wait(SECOND);
    assert!(!led.leader.is_coming_back(&led.lab.state, Instant(led.now)));
}
