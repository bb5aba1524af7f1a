//! Nodes and tickets, and what operators do with nodes.

use std::collections::BTreeSet;

use crate::catalog::changes::Subject;
use crate::catalog::command::{Answer, Authority, Liveness, NodeChange};
use crate::catalog::state::CatalogState;
use crate::replication::{Incarnation, NodeNumber, ReplicaId};
use crate::wire::NodeEntry;
use crate::{Count, ErrorCode, Failure, Member, NodeId, Role, UnixMillis, Verb, limits};

/// Drawn once per process, so that a registration that is sent twice counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 16]);

/// A node, living or remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its number, never reused.
    pub number: NodeNumber,
    /// Its key.
    pub id: NodeId,
    /// Its name, unique among the living.
    pub name: String,
    /// Where it listens, unique among the living.
    pub address: String,
    /// Failure domain.
    pub zone: String,
    /// Relative capacity in thousandths.
    pub weight_milli: u32,
    /// Name and version of its program.
    pub agent: String,
    /// Its present life; 0 before the first.
    pub incarnation: Incarnation,
    /// Of the process that lives it.
    pub boot: BootId,
    /// Where it stands.
    pub state: NodeState,
    /// Whether the catalog's leader hears from it.
    pub up: bool,
    /// When `up` last changed.
    pub up_changed: UnixMillis,
    /// A close of the whole cluster has ended its present life.
    pub closed: bool,
    /// When it was admitted.
    pub joined: UnixMillis,
}

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Admitted, not started yet.
    Joining,
    /// A full member.
    Active,
    /// Keeps its partitions, with what new arrays put into them, and gets no more of them.
    Cordoned,
    /// Being emptied.
    Draining {
        /// Since when.
        since: UnixMillis,
        /// When it should be done.
        deadline: Option<UnixMillis>,
    },
    /// Empty: it can be switched off.
    Drained,
    /// Put out. Its key never comes back.
    Evicted,
    /// Gone by its own will. Its key may join again, under a new number.
    Left,
}

impl NodeState {
    /// The word for people and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining { .. } => "draining",
            Self::Drained => "drained",
            Self::Evicted => "evicted",
            Self::Left => "left",
        }
    }

    /// Whether it is a node of the cluster, and no mere memory.
    pub fn is_living(self) -> bool {
        !matches!(self, Self::Evicted | Self::Left)
    }

    /// Whether it may hold replicas: those that it has, or new ones of groups that the plan gives it.
    pub fn may_hold(self) -> bool {
        matches!(self, Self::Active | Self::Cordoned)
    }
}

impl NodeRecord {
    /// It in its present life.
    pub fn replica(&self) -> ReplicaId {
        ReplicaId { node: self.number, incarnation: self.incarnation }
    }

    /// As a member of a ring.
    pub fn to_member(&self) -> Member {
        Member {
            node: self.id,
            name: self.name.clone(),
            address: self.address.clone(),
            zone: self.zone.clone(),
            weight_milli: self.weight_milli,
        }
    }

    /// Whether it has not answered for `delay_ms` at `now`.
    pub fn is_missing(&self, now: UnixMillis, delay_ms: u64) -> bool {
        !self.up && now.0.saturating_sub(self.up_changed.0) >= delay_ms
    }
}

/// A ticket: who holds its seed may join once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// What its bearer becomes.
    pub role: Role,
    /// When it ends.
    pub expires: UnixMillis,
    /// The name that the node must take; empty for any.
    pub name_hint: String,
    /// Who joined with it.
    pub used_by: Option<NodeNumber>,
}

/// Says that a node's state does not allow a change, and what does.
fn unfit_state(name: &str, state: NodeState, change: &NodeChange) -> Failure {
    let wanted = match change {
        NodeChange::Cordon => "cordoned",
        NodeChange::Uncordon => "uncordoned",
        NodeChange::Drain { .. } => "drained",
        _ => "undrained",
    };
    let help = match state {
        NodeState::Draining { .. } | NodeState::Drained => {
            format!("`holo undrain {name}` takes it back into service")
        }
        NodeState::Cordoned => format!("`holo node uncordon {name}` takes it back into service"),
        NodeState::Joining => format!("start it first: `holo agent --dir DIR` on {name}"),
        NodeState::Active | NodeState::Evicted | NodeState::Left => {
            format!("see `holo node show {name}`")
        }
    };
    let message = format!("node {name} is {} and cannot be {wanted}", state.name());
    Failure::new(ErrorCode::Conflict, message).help(help)
}

/// Checks name, address, zone and weight by the rules of the ring.
pub(super) fn check_member(member: &Member) -> Result<(), Failure> {
    Member::try_from(NodeEntry::from(member))
        .map(drop)
        .map_err(|failure| Failure { code: ErrorCode::InvalidArgument, ..failure })
}

impl CatalogState {
    pub(super) fn set_up(
        &mut self,
        by: Authority,
        verdicts: &[Liveness],
    ) -> Result<Answer, Failure> {
        self.check_voter(by)?;
        if verdicts.len() > limits::NODES_MAX {
            return Err(Failure::new(ErrorCode::TooLarge, format!("{} verdicts", verdicts.len())));
        }
        let now = self.now;
        for verdict in verdicts {
            let number = verdict.replica.node;
            let Some(node) = self.nodes.get_mut(&number) else { continue };
            let about_now = node.replica() == verdict.replica && node.state.is_living();
            // A process that said that it stops is not up because a late beat of it was heard.
            let gone = node.closed && verdict.up;
            if about_now && !gone && node.up != verdict.up {
                node.up = verdict.up;
                node.up_changed = now;
                self.touch(Subject::Node(number));
            }
        }
        self.start_empty_groups();
        self.release_draining();
        Ok(Answer::Done)
    }

    pub(super) fn set_node_state(
        &mut self,
        by: Authority,
        number: NodeNumber,
        change: &NodeChange,
    ) -> Result<Answer, Failure> {
        let answer = self.change_node(by, number, change)?;
        self.start_empty_groups();
        // Those that drain already as well: there may be fewer nodes left for what they hold.
        self.release_draining();
        Ok(answer)
    }

    fn change_node(
        &mut self,
        by: Authority,
        number: NodeNumber,
        change: &NodeChange,
    ) -> Result<Answer, Failure> {
        let node = self.living(number)?;
        let itself = *change == NodeChange::Leave && by == Authority::Node(number);
        if !itself {
            self.check_verb(by, Verb::Drain, &node.name)?;
        }
        let (name, state) = (node.name.clone(), node.state);
        let next = match (change, state) {
            (NodeChange::Cordon, NodeState::Active | NodeState::Cordoned) => NodeState::Cordoned,
            (NodeChange::Uncordon, NodeState::Active | NodeState::Cordoned) => NodeState::Active,
            (NodeChange::Drain { .. }, NodeState::Drained) => NodeState::Drained,
            (NodeChange::Drain { deadline }, NodeState::Draining { since, .. }) => {
                NodeState::Draining { since, deadline: *deadline }
            }
            (NodeChange::Drain { deadline }, NodeState::Active | NodeState::Cordoned) => {
                if self.close.is_some() {
                    let message = "the cluster was told to stop, and is not whole again";
                    return Err(Failure::new(ErrorCode::ShuttingDown, message)
                        .help("drain when `holo status` says that it is"));
                }
                if let Some(refusal) = self.drain_refusals(number).into_iter().next() {
                    return Err(refusal);
                }
                NodeState::Draining { since: self.now, deadline: *deadline }
            }
            (
                NodeChange::Undrain,
                NodeState::Draining { .. } | NodeState::Drained | NodeState::Active,
            ) => NodeState::Active,
            (NodeChange::Evict { accept_loss }, _) => return self.evict(number, *accept_loss),
            (NodeChange::Leave, _) => return self.leave(number),
            (NodeChange::Reweigh { weight_milli }, _) => {
                return self.reweigh(number, *weight_milli);
            }
            (
                NodeChange::Cordon
                | NodeChange::Uncordon
                | NodeChange::Drain { .. }
                | NodeChange::Undrain,
                _,
            ) => {
                return Err(unfit_state(&name, state, change));
            }
        };
        self.put_state(number, next);
        Ok(Answer::Done)
    }

    pub(super) fn finish_drain(
        &mut self,
        by: Authority,
        number: NodeNumber,
    ) -> Result<Answer, Failure> {
        self.check_voter(by)?;
        let node = self.living(number)?;
        let (name, state) = (node.name.clone(), node.state);
        match state {
            NodeState::Drained => return Ok(Answer::Done),
            NodeState::Draining { .. } => {}
            _ => {
                let message = format!("node {name} is {}, not draining", state.name());
                return Err(Failure::new(ErrorCode::Conflict, message));
            }
        }
        self.refuse_holder(number, &name)?;
        self.put_state(number, NodeState::Drained);
        Ok(Answer::Done)
    }

    fn leave(&mut self, number: NodeNumber) -> Result<Answer, Failure> {
        let name = self.living(number)?.name.clone();
        self.refuse_holder(number, &name)?;
        self.refuse_last_voter(number, &name)?;
        let held: BTreeSet<_> = self.only_held_by(number).into_iter().collect();
        if !held.is_empty() {
            return Err(self.last_copy_refusal(number, &held));
        }
        self.put_state(number, NodeState::Left);
        self.bury(number);
        self.forget_holder(number);
        self.open_if_settled();
        Ok(Answer::Done)
    }

    fn reweigh(&mut self, number: NodeNumber, weight_milli: u32) -> Result<Answer, Failure> {
        let member = Member { weight_milli, ..self.living(number)?.to_member() };
        check_member(&member)?;
        if let Some(node) = self.nodes.get_mut(&number) {
            node.weight_milli = weight_milli;
        }
        self.touch(Subject::Node(number));
        Ok(Answer::Done)
    }

    fn evict(&mut self, number: NodeNumber, accept_loss: bool) -> Result<Answer, Failure> {
        let name = self.living(number)?.name.clone();
        let others =
            self.nodes.values().any(|node| node.number != number && node.state.is_living());
        if !others {
            let message = format!("node {name} is the last one");
            return Err(Failure::new(ErrorCode::DrainRefused, message)
                .help("stop the cluster instead: `holo shutdown --cluster`"));
        }
        self.refuse_last_voter(number, &name)?;
        let last_copies = self.last_copies(number);
        if !accept_loss && !last_copies.is_empty() {
            return Err(self.last_copy_refusal(number, &last_copies));
        }
        self.put_state(number, NodeState::Evicted);
        self.bury(number);
        self.remove_node_from_groups(number, None, accept_loss);
        self.forget_holder(number);
        self.open_if_settled();
        Ok(Answer::Done)
    }

    /// A node that has gone is not up, votes no more, and old tombstones make room.
    fn bury(&mut self, number: NodeNumber) {
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&number) {
            node.up = false;
            node.up_changed = now;
            node.closed = false;
        }
        if self.voters.contains(&number) {
            self.voters.retain(|voter| *voter != number);
            self.touch(Subject::Voters);
        }
        let buried = self.nodes.values().filter(|node| !node.state.is_living());
        let buried: Vec<NodeNumber> = buried.map(|node| node.number).collect();
        let surplus = buried.len().saturating_sub(limits::TOMBSTONES_MAX);
        for old in buried.into_iter().take(surplus) {
            self.nodes.remove(&old);
            self.touch(Subject::Node(old));
        }
    }

    fn refuse_last_voter(&self, number: NodeNumber, name: &str) -> Result<(), Failure> {
        if self.voters == [number] {
            let message = format!("node {name} is the only one that votes in the catalog");
            let drain = format!("`holo drain {name}` gives its vote to another node first");
            // Where nobody else is in service, that would be refused.
            let others = self.nodes.values().filter(|node| node.number != number);
            let alone = !others.into_iter().any(|node| node.up && node.state.may_hold());
            let help = match self.back_into_service().filter(|_| alone) {
                Some(undrain) => format!("{undrain}; then {drain}"),
                None => format!("{drain}; `holo status` shows the voters"),
            };
            return Err(Failure::new(ErrorCode::DrainRefused, message).help(help));
        }
        Ok(())
    }

    fn refuse_holder(&self, number: NodeNumber, name: &str) -> Result<(), Failure> {
        let held = self.groups_of(number).len();
        if held > 0 {
            let message = format!("node {name} still holds {}", Count::from(held).of("group"));
            return Err(Failure::new(ErrorCode::Conflict, message)
                .help(format!("drain it first: `holo drain {name}`")));
        }
        Ok(())
    }

    fn put_state(&mut self, number: NodeNumber, state: NodeState) {
        if let Some(node) = self.nodes.get_mut(&number)
            && node.state != state
        {
            node.state = state;
            self.touch(Subject::Node(number));
        }
    }

    /// The living node of a number.
    pub(super) fn living(&self, number: NodeNumber) -> Result<&NodeRecord, Failure> {
        self.nodes.get(&number).filter(|node| node.state.is_living()).ok_or_else(|| {
            Failure::new(ErrorCode::NotFound, format!("node {number}: not found"))
                .help("see `holo node ls`")
        })
    }

    /// Refuses a name, address or key that another living node has, and the key of one that was put out.
    pub(super) fn refuse_taken(
        &self,
        member: &Member,
        but: Option<NodeNumber>,
    ) -> Result<(), Failure> {
        let others = self.nodes.values().filter(|node| Some(node.number) != but);
        for node in others {
            if !node.state.is_living() {
                if node.state == NodeState::Evicted && node.id == member.node {
                    let message =
                        format!("key {} was evicted as node {}", node.id.short(), node.name);
                    return Err(Failure::new(ErrorCode::Denied, message)
                        .help("make a new identity for the node, and a new ticket"));
                }
                continue;
            }
            let taken = [
                ("key", node.id == member.node),
                ("name", node.name == member.name),
                ("address", node.address == member.address),
            ];
            if let Some((what, _)) = taken.iter().find(|(_, same)| *same) {
                let message = format!(
                    "the {what} of node {} ({}) is taken by node {}",
                    member.name, member.address, node.name
                );
                return Err(Failure::new(ErrorCode::AlreadyExists, message)
                    .help("choose another, or evict the node that has it"));
            }
        }
        Ok(())
    }

    /// Nodes whose state lets them hold replicas.
    pub(super) fn holders_possible(&self) -> BTreeSet<NodeNumber> {
        let nodes = self.nodes.values().filter(|node| node.state.may_hold());
        nodes.map(|node| node.number).collect()
    }
}
