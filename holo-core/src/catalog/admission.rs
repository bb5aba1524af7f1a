//! How a node comes in: the first ones, tickets, joining, and starting.

use crate::catalog::changes::Subject;
use crate::catalog::command::{
    Admission, Answer, Authority, Bootstrap, NewNode, NewTicket, Registration, Settings,
};
use crate::catalog::nodes::{BootId, NodeRecord, NodeState, Ticket, check_member};
use crate::catalog::planner::check_copies;
use crate::catalog::principals::check_principal;
use crate::catalog::state::CatalogState;
use crate::catalog::statement::{is_signed_by, join_statement};
use crate::replication::{Incarnation, NodeNumber};
use crate::{ClusterId, ErrorCode, Failure, Member, PublicKey, Role, UnixMillis, Verb, limits};

/// What grants of ADMIT are about.
const TICKETS: &str = "tickets";

impl CatalogState {
    pub(super) fn bootstrap(&mut self, first: &Bootstrap) -> Result<Answer, Failure> {
        let cluster = ClusterId(*blake3::hash(&first.root.0).as_bytes());
        if self.is_bootstrapped() {
            if self.root == first.root && self.cluster_name == first.cluster_name {
                return Ok(Answer::Done);
            }
            let message = format!("this is cluster {} already", self.cluster_name);
            return Err(Failure::new(ErrorCode::AlreadyExists, message));
        }
        check_bootstrap(first)?;
        // A trial on a copy, which is empty: founders and principals are checked against each other as they come.
        let mut made = Self::new();
        made.now = self.now;
        made.cluster_name.clone_from(&first.cluster_name);
        made.cluster = cluster;
        made.root = first.root;
        made.partition_bits = first.partition_bits;
        made.settings = first.settings;
        for founder in &first.founders {
            made.add_node(founder)?;
        }
        for principal in &first.principals {
            check_principal(principal)?;
            made.principals.insert(principal.key, principal.clone());
            made.touch(Subject::Principal(Box::new(principal.key)));
        }
        made.voters = vec![NodeNumber(1)];
        made.touch(Subject::Cluster);
        made.touch(Subject::Settings);
        made.touch(Subject::Voters);
        made.version = self.version;
        *self = made;
        Ok(Answer::Done)
    }

    pub(super) fn create_ticket(
        &mut self,
        by: Authority,
        new: &NewTicket,
    ) -> Result<Answer, Failure> {
        self.check_verb(by, Verb::Admit, TICKETS)?;
        if new.role != Role::Node {
            return Err(Failure::new(ErrorCode::NotYet, "tickets are for nodes only")
                .help("add the client's key with `holo principal add`"));
        }
        if new.name_hint.len() > limits::NODE_NAME_BYTES_MAX {
            return Err(Failure::new(
                ErrorCode::InvalidArgument,
                "the ticket's node has too long a name",
            ));
        }
        if new.expires <= self.now {
            return Err(Failure::new(ErrorCode::InvalidArgument, "the ticket has expired already"));
        }
        let ticket = Ticket {
            role: new.role,
            expires: new.expires,
            name_hint: new.name_hint.clone(),
            used_by: None,
        };
        match self.tickets.get(&new.key) {
            Some(known) if Ticket { used_by: None, ..known.clone() } == ticket => {
                return Ok(Answer::Done);
            }
            Some(_) => {
                return Err(Failure::new(ErrorCode::AlreadyExists, "another ticket has this key"));
            }
            None => {}
        }
        let now = self.now;
        let over: Vec<PublicKey> = self
            .tickets
            .iter()
            .filter(|(_, ticket)| ticket.expires <= now)
            .map(|(key, _)| *key)
            .collect();
        if self.tickets.len() - over.len() >= limits::TICKETS_MAX {
            let message = format!("{} tickets are open", limits::TICKETS_MAX);
            return Err(Failure::new(ErrorCode::OutOfCapacity, message).help("revoke some of them"));
        }
        for key in over {
            self.tickets.remove(&key);
            self.touch(Subject::Ticket(Box::new(key)));
        }
        self.tickets.insert(new.key, ticket);
        self.touch(Subject::Ticket(Box::new(new.key)));
        Ok(Answer::Done)
    }

    pub(super) fn revoke_ticket(
        &mut self,
        by: Authority,
        key: PublicKey,
    ) -> Result<Answer, Failure> {
        self.check_verb(by, Verb::Admit, TICKETS)?;
        if let Some(number) = self.tickets.get(&key).and_then(|ticket| ticket.used_by) {
            let message = format!("node {number} has joined with this ticket");
            return Err(Failure::new(ErrorCode::Conflict, message)
                .help("evict the node if it should not be here"));
        }
        if self.tickets.remove(&key).is_some() {
            self.touch(Subject::Ticket(Box::new(key)));
        }
        Ok(Answer::Done)
    }

    /// Checks a joiner's ticket and signature at `now`, as applying its admission will: cheap before dear, and before
    /// anything is proposed.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::TicketInvalid`] for a ticket that is unknown, used by another node, expired or wrongly signed.
    pub fn check_admission(&self, admission: &Admission, now: UnixMillis) -> Result<(), Failure> {
        let refuse = |why: String| {
            Err(Failure::new(ErrorCode::TicketInvalid, why)
                .help("ask an operator for a new one: `holo ticket create`"))
        };
        let Some(ticket) = self.tickets.get(&admission.ticket) else {
            return refuse("the ticket is not of this cluster, or was withdrawn".to_owned());
        };
        let again = ticket
            .used_by
            .and_then(|number| self.nodes.get(&number))
            .is_some_and(|node| node.id == admission.node.id);
        if ticket.used_by.is_some() && !again {
            return refuse("the ticket was used already".to_owned());
        }
        if ticket.expires <= now && !again {
            return refuse("the ticket has expired".to_owned());
        }
        if !ticket.name_hint.is_empty() && ticket.name_hint != admission.node.name {
            return refuse(format!(
                "the ticket is for a node named {}, not {}",
                ticket.name_hint, admission.node.name
            ));
        }
        let statement = join_statement(self.cluster, admission.node.id, ticket.role);
        if !is_signed_by(admission.ticket, &statement, &admission.signature) {
            return refuse("the ticket's signature does not fit".to_owned());
        }
        Ok(())
    }

    pub(super) fn admit(&mut self, admission: &Admission) -> Result<Answer, Failure> {
        self.check_admission(admission, self.now)?;
        let used_by = self.tickets.get(&admission.ticket).and_then(|ticket| ticket.used_by);
        if let Some(number) = used_by {
            self.living(number)?;
            return Ok(Answer::Admitted(number));
        }
        let number = self.add_node(&admission.node)?;
        if let Some(ticket) = self.tickets.get_mut(&admission.ticket) {
            ticket.used_by = Some(number);
        }
        self.touch(Subject::Ticket(Box::new(admission.ticket)));
        Ok(Answer::Admitted(number))
    }

    fn add_node(&mut self, new: &NewNode) -> Result<NodeNumber, Failure> {
        let member = Member {
            node: new.id,
            name: new.name.clone(),
            address: new.address.clone(),
            zone: new.zone.clone(),
            weight_milli: new.weight_milli,
        };
        check_member(&member)?;
        check_agent(&new.agent)?;
        self.refuse_taken(&member, None)?;
        let living = self.nodes.values().filter(|node| node.state.is_living()).count();
        if living >= limits::NODES_MAX {
            let message = format!("the cluster has {living} nodes");
            return Err(Failure::new(ErrorCode::OutOfCapacity, message));
        }
        let number = self.next_node;
        let Some(next) = number.0.checked_add(1) else {
            return Err(Failure::new(ErrorCode::OutOfCapacity, "the last node number of all"));
        };
        self.next_node = NodeNumber(next);
        let record = NodeRecord {
            number,
            id: new.id,
            name: member.name,
            address: member.address,
            zone: member.zone,
            weight_milli: new.weight_milli,
            agent: new.agent.clone(),
            incarnation: Incarnation(0),
            boot: BootId::default(),
            state: NodeState::Joining,
            up: false,
            up_changed: self.now,
            closed: false,
            joined: self.now,
        };
        self.nodes.insert(number, record);
        self.touch(Subject::Node(number));
        Ok(number)
    }

    pub(super) fn register(
        &mut self,
        by: Authority,
        start: &Registration,
    ) -> Result<Answer, Failure> {
        let number = start.node;
        self.check_itself(by, number)?;
        check_agent(&start.agent)?;
        let node = self.living(number)?;
        let known = node.incarnation;
        if node.boot == start.boot && known.0 > 0 {
            return Ok(Answer::Registered { incarnation: known });
        }
        if start.after.is_some_and(|after| after != known) {
            return Err(past_life(number));
        }
        let mut member = node.to_member();
        if !start.address.is_empty() {
            member.address.clone_from(&start.address);
            check_member(&member)?;
            self.refuse_taken(&member, Some(number))?;
        }
        let next = known.0.checked_add(1);
        let incarnation = Incarnation(next.ok_or_else(|| {
            Failure::new(ErrorCode::OutOfCapacity, "the node has started too often")
        })?);
        let now = self.now;
        if let Some(node) = self.nodes.get_mut(&number) {
            node.address = member.address;
            node.agent.clone_from(&start.agent);
            node.boot = start.boot;
            node.incarnation = incarnation;
            node.closed = false;
            // Also where nobody had found it down: who judges it counts this as a beat of its new life.
            node.up = true;
            node.up_changed = now;
            if node.state == NodeState::Joining {
                node.state = NodeState::Active;
            }
        }
        self.touch(Subject::Node(number));
        if start.keeps {
            self.retire_earlier_lives(number, incarnation);
        } else {
            self.remove_node_from_groups(number, Some(incarnation), false);
        }
        self.start_empty_groups();
        self.open_if_settled();
        Ok(Answer::Registered { incarnation })
    }
}

/// A command in the name of a process that is no more.
pub(super) fn past_life(number: NodeNumber) -> Failure {
    let message = format!("node {number} has started again since");
    Failure::new(ErrorCode::Conflict, message).help("stop the process that was replaced")
}

fn check_agent(agent: &str) -> Result<(), Failure> {
    if agent.len() > limits::AGENT_BYTES_MAX {
        return Err(Failure::new(ErrorCode::InvalidArgument, "the program has too long a name"));
    }
    Ok(())
}

fn check_bootstrap(first: &Bootstrap) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
    if first.cluster_name.is_empty() || first.cluster_name.len() > limits::NODE_NAME_BYTES_MAX {
        return refuse(format!("a cluster's name has 1 to {} bytes", limits::NODE_NAME_BYTES_MAX));
    }
    if first.partition_bits > limits::PARTITION_BITS_MAX {
        return refuse(format!("2^{} partitions", first.partition_bits));
    }
    check_copies(first.settings.replicas_default, first.partition_bits)?;
    if first.founders.is_empty() || first.founders.len() > limits::NODES_MAX {
        return refuse(format!("a cluster of {} nodes", first.founders.len()));
    }
    if first.principals.len() > limits::PRINCIPALS_MAX {
        return refuse(format!("{} principals", first.principals.len()));
    }
    let holds_role = |grant: &crate::Grant| grant.verb == Verb::Role;
    if !first.principals.iter().any(|principal| principal.grants.iter().any(holds_role)) {
        return refuse("nobody is granted ROLE, so nobody could ever be added".to_owned());
    }
    check_settings(&first.settings)
}

/// Checks settings that an operator wants.
pub(super) fn check_settings(settings: &Settings) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::new(ErrorCode::InvalidArgument, why));
    if !(1..=limits::REPLICAS_MAX).contains(&usize::from(settings.replicas_default)) {
        return refuse(format!("{} copies by default", settings.replicas_default));
    }
    if !matches!(settings.voters_max, 1 | 3 | 5 | 7) {
        return refuse(format!("{} voters; 1, 3, 5 or 7 are possible", settings.voters_max));
    }
    Ok(())
}
