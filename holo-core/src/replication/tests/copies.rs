//! Who copies when, and what becomes of a learner that cannot: one host that leads several groups, each with a learner
//! that is played by the test.

use super::*;
use crate::replication::{AppendAck, AppendNack, LogPosition, SnapshotOffer};

/// The host, which keeps one snapshot at a time.
#[derive(Debug)]
struct Leader {
    host: Host,
    now: Instant,
    epoch: Epoch,
    groups: Vec<GroupId>,
    /// By group: the snapshots that it froze, and has not dropped.
    kept: Vec<Vec<SnapshotId>>,
    /// Offers, each with its group.
    offers: Vec<(usize, SnapshotOffer)>,
}

/// Group `at` is brought up on this node.
fn learner(at: usize) -> ReplicaId {
    replica(u32::try_from(at).unwrap() + 2)
}

impl Leader {
    fn new(groups: u32) -> Self {
        let timers = Timers { copies_max: 1, ..Timers::default() };
        let class = Class { replicas: 2, min_in_sync: 1 };
        let groups: Vec<GroupId> =
            (0..groups).map(|n| GroupId { partition: PartitionId(n), class }).collect();
        let mut leader = Self {
            host: Host::new(replica(1), timers, Arc::new(EpochProof)).unwrap(),
            now: Instant(1_000_000_000),
            epoch: Epoch(1),
            kept: vec![Vec::new(); groups.len()],
            groups,
            offers: Vec::new(),
        };
        for at in 0..leader.groups.len() {
            leader.input(Input::Config(claim(&leader.config(at))));
        }
        leader.pass(200);
        leader
    }

    fn config(&self, at: usize) -> Arc<GroupConfig> {
        Arc::new(GroupConfig {
            group: self.groups[at],
            epoch: self.epoch,
            primary: replica(1),
            in_sync: vec![replica(1)],
            learners: vec![learner(at)],
            lost: false,
        })
    }

    fn input(&mut self, input: Input) {
        self.host.handle_input(self.now, input).unwrap();
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.host.poll_output() {
            self.host.assert_invariants();
            let at = |group| self.groups.iter().position(|known| *known == group).unwrap();
            match output {
                Output::TakeSnapshot { group, snapshot, .. } => {
                    self.kept[at(group)].push(snapshot);
                }
                Output::DropSnapshot { group, snapshot } => {
                    self.kept[at(group)].retain(|kept| *kept != snapshot);
                }
                Output::Send { message: Message::SnapshotOffer(offer), .. } => {
                    self.offers.push((at(offer.group), offer));
                }
                _ => {}
            }
        }
    }

    /// Lets time pass; every learner is heard, and those for which `says` gives nothing only that they are there.
    fn pass_while(&mut self, millis: u64, says: impl Fn(&Self, usize) -> Option<Message>) {
        let end = self.now.after(Duration::from_millis(millis));
        while self.now < end {
            self.now = self.now.after(Duration::from_millis(10));
            if self.host.poll_timeout().is_some_and(|at| at <= self.now) {
                self.host.handle_timeout(self.now);
                self.drain();
            }
            for at in 0..self.groups.len() {
                let message = says(self, at).unwrap_or_else(|| self.needs_snapshot(at, Seq(0)));
                self.input(Input::Message { from: learner(at), message });
            }
        }
    }

    fn pass(&mut self, millis: u64) {
        self.pass_while(millis, |_, _| None);
    }

    /// "I have no state"; with the place of the copy that failed, if one did.
    fn needs_snapshot(&self, at: usize, have: Seq) -> Message {
        let (group, epoch) = (self.groups[at], self.epoch);
        Message::AppendNack(AppendNack { group, epoch, have, needs_snapshot: true, claim: None })
    }

    fn ack(&self, at: usize, matched: Seq, based: bool) -> Message {
        let (group, epoch) = (self.groups[at], self.epoch);
        Message::AppendAck(AppendAck { group, epoch, matched, committed: Seq(0), based })
    }

    /// Where the snapshot ends that a group's learner was offered last.
    fn offered(&self, at: usize) -> LogPosition {
        let mut offers = self.offers.iter().rev();
        offers.find(|(group, _)| *group == at).map(|(_, offer)| offer.at).unwrap()
    }

    /// The learner takes up its offer, and cannot fetch what it was offered.
    fn fail(&mut self, at: usize) {
        let place = self.offered(at).seq;
        let (begins, fails) = (self.ack(at, place, false), self.needs_snapshot(at, place));
        for message in [begins, fails] {
            self.input(Input::Message { from: learner(at), message });
        }
    }

    /// Which groups the host keeps a snapshot for.
    fn copying(&self) -> Vec<usize> {
        (0..self.kept.len()).filter(|at| !self.kept[*at].is_empty()).collect()
    }
}

#[test]
fn a_learner_that_cannot_copy_gives_its_place_to_the_next_one() {
    let mut leader = Leader::new(3);
    assert_eq!(leader.copying(), [0]);
    for next in [1, 2, 0, 1] {
        leader.fail((next + 2) % 3);
        leader.pass(200);
        assert_eq!(leader.copying(), [next], "whoever waits longest");
    }
}

#[test]
fn those_who_wait_to_copy_are_served_in_the_order_of_their_coming() {
    let mut leader = Leader::new(4);
    // The second one has lost interest and comes again, behind the others.
    let place = leader.offered(0).seq;
    let based = leader.ack(1, Seq(1), true);
    leader.input(Input::Message { from: learner(1), message: based });
    let done = leader.ack(0, place, true);
    leader.input(Input::Message { from: learner(0), message: done });
    let served: Vec<usize> = leader.offers.iter().map(|(at, _)| *at).collect();
    assert_eq!(leader.copying(), [2], "{served:?}");
    let message = leader.needs_snapshot(1, Seq(0));
    leader.input(Input::Message { from: learner(1), message });
    for (done, next) in [(2, 3), (3, 1)] {
        let place = leader.offered(done).seq;
        let message = leader.ack(done, place, true);
        leader.input(Input::Message { from: learner(done), message });
        assert_eq!(leader.copying(), [next]);
    }
}

#[test]
fn after_each_failure_the_same_learner_is_offered_a_copy_later() {
    let mut leader = Leader::new(1);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        leader.fail(0);
        assert_eq!(leader.copying(), [0; 0], "what failed is not kept");
        let began = leader.now;
        while leader.copying().is_empty() {
            leader.pass(10);
        }
        pauses.push(leader.now.since(began));
    }
    assert!(pauses[..7].is_sorted_by(|a, b| *a < *b), "{pauses:?}");
    assert!(pauses[0] <= Duration::from_millis(200), "one failure costs little: {pauses:?}");
    assert!(pauses[8] <= Duration::from_secs(8), "it is never given up: {pauses:?}");
    let done = leader.ack(0, leader.offered(0).seq, true);
    leader.input(Input::Message { from: learner(0), message: done });
    let again = leader.needs_snapshot(0, Seq(0));
    leader.input(Input::Message { from: learner(0), message: again });
    assert_eq!(leader.copying(), [0]);
    leader.fail(0);
    leader.pass(200);
    assert_eq!(leader.copying(), [0], "a copy that came makes up for the failures before");
}

#[test]
fn a_copy_that_a_learner_never_takes_up_is_withdrawn_for_the_next_one() {
    let mut leader = Leader::new(2);
    leader.pass(2700);
    assert_eq!(leader.copying(), [0]);
    leader.pass(300);
    assert_eq!(leader.copying(), [1], "it is heard, and hears nothing");
}

#[test]
fn a_copy_that_goes_on_is_kept_however_long_it_takes() {
    let mut leader = Leader::new(2);
    let copies =
        |leader: &Leader, at: usize| (at == 0).then(|| leader.ack(0, leader.offered(0).seq, false));
    leader.pass_while(200, copies);
    let offered = leader.offers.len();
    leader.pass_while(30_000, copies);
    assert_eq!(leader.copying(), [0]);
    assert_eq!(leader.offers.len(), offered, "and is offered once");
}

/// A learner had everything, missed an epoch and began from nothing; it was offered a snapshot that ends before what it had
/// had. With that in place it was promoted, and lacked what was committed with it in mind.
#[test]
fn what_a_learner_had_in_an_earlier_epoch_does_not_make_it_a_member() {
    let mut leader = Leader::new(1);
    let (group, learner) = (leader.groups[0], learner(0));
    let place = leader.offered(0).seq;
    let write =
        Input::Propose { ticket: Ticket(1), group, request: None, op: add(1), payload: None };
    leader.input(write);
    let whole = leader.ack(0, place.next(), true);
    leader.input(Input::Message { from: learner, message: whole });
    leader.epoch = Epoch(2);
    leader.input(Input::Config(claim(&leader.config(0))));
    let known = |leader: &Leader| leader.host.group_summary(group).unwrap().learners[0].matched;
    assert_eq!(known(&leader), Seq(0));
    for has in [place, place.next()] {
        let restored = leader.ack(0, has, true);
        leader.input(Input::Message { from: learner, message: restored });
        assert_eq!(known(&leader), has);
    }
}
