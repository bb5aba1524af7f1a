//! What operators ask for.
//!
//! Everything is done by the leader of the catalog. Another voter passes a request on in the operator's name; a node that
//! does not vote passes questions on in its own name, which may see the cluster's state, and sends the asker to a voter
//! with anything else: it must not be able to act in an operator's name.

mod loss;
mod nodes;
mod people;
mod report;
mod ring;

use std::time::Duration;

use bytes::Bytes;
use holo_core::catalog::{Answer, Authority, CatalogState, NodeRecord, Operation};
use holo_core::wire::{AdminAction, AdminReply, AdminRequest, AdminResult, Decode, Kind};
use holo_core::{Action, ErrorCode, Failure, PublicKey, action};
use holo_net::{Peer, Request};
use prost::Message;

use super::Control;
use crate::links::pause_for;

/// How long the catalog may take for one command.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a request waits for a leader.
const LEADER_PATIENCE: Duration = Duration::from_secs(3);
const LEADER_STEP: Duration = Duration::from_millis(50);
/// How long a leader may take for a request that was passed on.
const PASS_DEADLINE: Duration = Duration::from_secs(20);
/// What STATUS, CONFIG and the like are asked on where it is the cluster.
const CLUSTER: &str = "cluster";
/// What ADMIT is asked on.
const TICKETS: &str = "tickets";

impl Control {
    /// Answers an operator, or a voter that passes an operator's request on. Within `deadline` it is found out who leads.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::WrongNode`] where the asker has to go to a voter, [`ErrorCode::NoQuorum`] when nobody leads,
    /// [`ErrorCode::Denied`], and those of the action.
    pub(crate) async fn serve_admin(
        &self,
        peer: &Peer,
        body: Bytes,
        deadline: Duration,
    ) -> Result<AdminReply, Failure> {
        let request = AdminRequest::decode_body(&body)?;
        let malformed = || Failure::new(ErrorCode::Malformed, "a request without an action");
        let action = request.action.ok_or_else(malformed)?;
        let passed_on = self.node_number(peer.key);
        let key = if request.on_behalf_of.is_empty() {
            peer.key
        } else {
            let votes = passed_on.is_some_and(|number| self.voters().contains(&number));
            if !votes {
                // It may have voted a moment ago; whoever asked it goes to another one.
                return Err(match passed_on {
                    Some(_) => super::propose::not_a_voter(),
                    None => Failure::new(ErrorCode::Denied, "only voters speak for operators"),
                });
            }
            PublicKey::from_slice(&request.on_behalf_of)?
        };
        if self.leads_within(LEADER_PATIENCE.min(deadline)).await? {
            return self.perform(key, action).await;
        }
        if passed_on.is_some() {
            return Err(Failure::new(ErrorCode::WrongNode, "this node does not lead the catalog")
                .retry_after_ms(100));
        }
        self.pass_on(key, &action, &body, PASS_DEADLINE.min(deadline)).await
    }

    /// Whether this node leads the catalog; waits while it votes and nobody does.
    async fn leads_within(&self, patience: Duration) -> Result<bool, Failure> {
        let until = self.clock.now().after(patience);
        loop {
            match self.leader() {
                Some(leader) => return Ok(Some(leader) == self.number() && self.is_leader()),
                None if self.clock.now() >= until => {
                    return Err(self.no_leader());
                }
                None => pause_for(LEADER_STEP).await,
            }
        }
    }

    async fn pass_on(
        &self,
        key: PublicKey,
        action: &AdminAction,
        body: &[u8],
        deadline: Duration,
    ) -> Result<AdminReply, Failure> {
        let votes = self.number().is_some_and(|me| self.voters().contains(&me));
        let on_behalf_of = if votes && self.vote_of_now().is_some() {
            key.0.to_vec()
        } else if only_looks(action) {
            let _may = self.policy().authorize::<action::Status>(key, CLUSTER)?;
            Vec::new()
        } else {
            return Err(super::propose::not_a_voter());
        };
        let leader = self.leader().ok_or_else(|| self.no_leader())?;
        // Behind the bytes as they came, so that what only a later version knows of the action arrives there, too.
        let on_behalf_of = AdminRequest { on_behalf_of, action: None }.encode_to_vec();
        let body = Bytes::from([body, &on_behalf_of].concat());
        let link = self.links.needed(leader)?;
        let request = Request::new(Kind::Admin, deadline, body);
        AdminReply::decode_body(&self.call_voter(leader, &link, request).await?)
    }

    /// Does what was asked, on the leader.
    async fn perform(&self, key: PublicKey, action: AdminAction) -> Result<AdminReply, Failure> {
        let result = match action {
            AdminAction::CreateTicket(order) => {
                AdminResult::Tickets(self.create_ticket(key, &order).await?)
            }
            AdminAction::ListTickets(_) => AdminResult::Tickets(self.list_tickets(key)?),
            AdminAction::RevokeTicket(ticket) => {
                self.revoke_ticket(key, &ticket.key).await?;
                return Ok(AdminReply::default());
            }
            AdminAction::ChangeNode(order) => {
                self.change_node(key, &order).await?;
                return Ok(AdminReply::default());
            }
            AdminAction::PlanDrain(node) => AdminResult::Drain(self.plan_drain(key, &node.node)?),
            AdminAction::WatchDrain(node) => AdminResult::Drain(self.watch_drain(key, &node.node)?),
            AdminAction::ClusterStatus(_) => AdminResult::Cluster(self.cluster_report(key, None)?),
            AdminAction::ShowNode(node) => {
                AdminResult::Cluster(self.cluster_report(key, Some(&node.node))?)
            }
            AdminAction::ShowRing(_) => AdminResult::Ring(self.show_ring(key)?),
            AdminAction::PlanRing(_) => AdminResult::Ring(self.plan_ring(key)?),
            AdminAction::ApplyRing(order) => {
                AdminResult::Ring(self.apply_ring(key, order.base_version).await?)
            }
            AdminAction::PutPrincipal(principal) => {
                self.put_principal(key, principal).await?;
                return Ok(AdminReply::default());
            }
            AdminAction::RemovePrincipal(principal) => {
                let gone = PublicKey::from_slice(&principal.key)?;
                self.command(key, Operation::RemovePrincipal(gone)).await?;
                return Ok(AdminReply::default());
            }
            AdminAction::ListPrincipals(_) => AdminResult::Principals(self.list_principals(key)?),
            AdminAction::Settings(wanted) => {
                AdminResult::Settings(self.change_settings(key, wanted).await?)
            }
            AdminAction::AcceptLoss(order) => {
                AdminResult::Loss(self.accept_loss(key, &order.mark).await?)
            }
            AdminAction::PlanLoss(_) => AdminResult::Loss(self.plan_loss(key)?),
            AdminAction::Allocate(request) => {
                AdminResult::Array(self.allocate(key, &request).await?)
            }
            AdminAction::RemoveArray(array) => {
                self.remove_array(key, &array).await?;
                return Ok(AdminReply::default());
            }
            AdminAction::CloseCluster(order) => {
                self.close_cluster(key, order.cancel).await?;
                return Ok(AdminReply::default());
            }
            AdminAction::WatchClose(_) => AdminResult::Close(self.watch_close(key)?),
        };
        Ok(AdminReply { result: Some(result) })
    }

    /// Has a command of an operator agreed on. The catalog checks once more that the operator may.
    async fn command(&self, key: PublicKey, operation: Operation) -> Result<Answer, Failure> {
        self.propose(Authority::Principal(key), operation, PATIENCE).await
    }

    fn may<A: Action>(&self, key: PublicKey, resource: &str) -> Result<(), Failure> {
        self.policy().authorize::<A>(key, resource).map(drop)
    }
}

/// Whether an action changes nothing and needs no more than STATUS.
fn only_looks(action: &AdminAction) -> bool {
    matches!(
        action,
        AdminAction::PlanDrain(_)
            | AdminAction::WatchDrain(_)
            | AdminAction::ClusterStatus(_)
            | AdminAction::ShowNode(_)
            | AdminAction::ShowRing(_)
            | AdminAction::PlanRing(_)
            | AdminAction::WatchClose(_)
    )
}

/// The living node of a name, a number, or the start of an id.
fn find_node<'a>(state: &'a CatalogState, text: &str) -> Result<&'a NodeRecord, Failure> {
    let living = || state.nodes().filter(|node| node.state.is_living());
    if let Some(node) = state.node_named(text) {
        return Ok(node);
    }
    if let Some(node) = living().find(|node| text == node.number.0.to_string()) {
        return Ok(node);
    }
    let by_id = |node: &&NodeRecord| text.len() >= 8 && node.id.to_string().starts_with(text);
    let mut found = living().filter(by_id);
    match (found.next(), found.next()) {
        (Some(node), None) => Ok(node),
        (Some(_), Some(_)) => {
            Err(Failure::new(ErrorCode::InvalidArgument, format!("node {text}: there are several"))
                .help("give more digits of its id, or its name"))
        }
        (None, _) => {
            let failure = Failure::new(ErrorCode::NotFound, format!("node {text}: not found"));
            let nearest = holo_core::nearest(text, living().map(|node| node.name.as_str()));
            Err(failure.help(match nearest {
                Some(name) => format!("did you mean {name}? `holo node ls` lists all"),
                None => "see `holo node ls`".to_owned(),
            }))
        }
    }
}
