//! The catalog's part when the whole cluster stops and starts again: the operator's word, and the leader's duty.

use holo_core::catalog::{Answer, Authority, Close, CloseStep, GroupHold, NodeRecord, Operation};
use holo_core::replication::{GroupId, ReplicaId};

use super::Catalog;
use crate::env::{Env, HeldGroup, node_number};
use crate::founding;

impl Catalog {
    /// The close of the cluster that is under way, or not undone yet.
    pub(crate) fn close(&self) -> Option<&Close> {
        self.state.close()
    }

    /// Who has a group on disk for which nobody has offered it back yet.
    pub(crate) fn awaited(&self, group: GroupId) -> Option<&GroupHold> {
        self.state.awaited(group)
    }

    /// Begins to stop the whole cluster, or takes that back; says whether it was done.
    pub(crate) fn ask_to_close(&mut self, env: &mut Env, cancel: bool) -> bool {
        let operation = if cancel { Operation::AbortClose } else { Operation::BeginClose };
        self.has_closed = true;
        let answer = self.perform(env, founding::OPERATOR, operation);
        env.say(|| format!("operator: stop the cluster, taken back {cancel}: {answer:?}"));
        answer == Answer::Done
    }

    /// The first node that runs, as far as the catalog knows.
    pub(super) fn first_running(&self) -> Option<ReplicaId> {
        let living = self.state.nodes().filter(|it| it.up && it.incarnation.0 > 0);
        living.map(NodeRecord::replica).find(|it| !self.state.is_closed_for(*it))
    }

    /// The leader's part in a close.
    pub(super) fn take_close_step(&mut self, env: &mut Env, step: &CloseStep) {
        let Some(operation) = step.operation() else { return };
        let finishes = matches!(operation, Operation::FinishClose(_));
        if finishes && let Some(close) = self.state.close() {
            for (group, hold) in &close.holds {
                if let Some(group) = env.group_index(*group) {
                    env.watch.closed(env.now, group, hold.seq);
                    env.held.push(HeldGroup { group, close: close.id, hold: hold.clone() });
                }
            }
        }
        env.say(|| format!("leader: {operation:?}"));
        self.perform(env, Authority::Node(node_number(0)), operation);
        if finishes {
            // All sessions are over: clients lease new ones.
            env.next_session = self.lease_sessions(env, 1 << 16);
        }
    }

    pub(super) fn tell_refusal(&mut self, env: &mut Env, by: ReplicaId, operation: Operation) {
        let answer = self.perform(env, Authority::Node(by.node), operation);
        if let Answer::Refused(failure) = answer {
            env.say(|| format!("catalog refuses what {by} has on disk: {failure}"));
        }
    }
}
