//! What operators ask of the cluster: nodes, tickets, drains, the ring, settings. Any member takes such a request and
//! passes it on to the leader of the catalog.

use std::path::Path;

use holo_core::wire::{
    AdminAction, AdminReply, AdminRequest, AdminResult, CloseOrder, CloseReport, ClusterReport,
    DrainReport, Empty, Kind, LossOrder, LossReport, NodeOrder, NodeRef, PrincipalBody,
    PrincipalRef, RingOrder, RingReport, SettingsBody, TicketBody, TicketList, TicketOrder,
    TicketRef,
};
use holo_core::{ErrorCode, PublicKey};

use crate::introduce::new_identity;
use crate::retry::Effect;
use crate::{Cluster, Error, Result};

/// Nodes are named as in [`NodeRef`]: by name, number, or the first 8 or more digits of the id.
///
/// All fail with [`ErrorCode::NoQuorum`] while fewer than half of the catalog's voters answer, with
/// [`ErrorCode::Denied`] without the grant that [`AdminAction`] names, and with the errors of the link.
impl Cluster {
    /// Makes a ticket for one node.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] for a lifetime that is too long, [`ErrorCode::OutOfCapacity`] for too many tickets.
    pub async fn create_ticket(&self, order: TicketOrder) -> Result<TicketBody> {
        let action = AdminAction::CreateTicket(order);
        let mut tickets = tickets(self.admin(Effect::Whole, action).await?)?;
        tickets.pop().ok_or_else(|| unexpected("no ticket"))
    }

    /// All tickets, without their texts.
    ///
    /// # Errors
    ///
    /// As all of them.
    pub async fn tickets(&self) -> Result<Vec<TicketBody>> {
        tickets(self.admin(Effect::Read, AdminAction::ListTickets(Empty {})).await?)
    }

    /// Withdraws the ticket whose key begins with these digits, at least 8.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`].
    pub async fn revoke_ticket(&self, key: &str) -> Result<()> {
        let action = AdminAction::RevokeTicket(TicketRef { key: key.to_owned() });
        self.admin(Effect::Whole, action).await.map(drop)
    }

    /// Changes the state of a node.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`]; [`ErrorCode::DrainRefused`] and [`ErrorCode::LastCopy`] with what stands in the way;
    /// [`ErrorCode::Conflict`] when it is in a state that does not allow it.
    pub async fn change_node(&self, order: NodeOrder) -> Result<()> {
        self.admin(Effect::Whole, AdminAction::ChangeNode(order)).await.map(drop)
    }

    /// What a drain of a node would do, and why it could not be done.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`].
    pub async fn plan_drain(&self, node: &str) -> Result<DrainReport> {
        drain(self.admin(Effect::Read, AdminAction::PlanDrain(reference(node))).await?)
    }

    /// How the drain of a node goes.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`].
    pub async fn watch_drain(&self, node: &str) -> Result<DrainReport> {
        drain(self.admin(Effect::Read, AdminAction::WatchDrain(reference(node))).await?)
    }

    /// All about the cluster that its catalog knows.
    ///
    /// # Errors
    ///
    /// As all of them.
    pub async fn report(&self) -> Result<ClusterReport> {
        report(self.admin(Effect::Read, AdminAction::ClusterStatus(Empty {})).await?)
    }

    /// All about one node that the catalog knows.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`].
    pub async fn report_node(&self, node: &str) -> Result<ClusterReport> {
        report(self.admin(Effect::Read, AdminAction::ShowNode(reference(node))).await?)
    }

    /// The placement tables.
    ///
    /// # Errors
    ///
    /// As all of them.
    pub async fn ring(&self) -> Result<RingReport> {
        ring(self.admin(Effect::Read, AdminAction::ShowRing(Empty {})).await?)
    }

    /// The placement tables as they would become.
    ///
    /// # Errors
    ///
    /// As all of them.
    pub async fn plan_ring(&self) -> Result<RingReport> {
        ring(self.admin(Effect::Read, AdminAction::PlanRing(Empty {})).await?)
    }

    /// Makes the plan from the tables of version `base_version` the tables.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Conflict`] when the tables are of another version by now.
    pub async fn apply_ring(&self, base_version: u64) -> Result<RingReport> {
        ring(self.admin(Effect::Whole, AdminAction::ApplyRing(RingOrder { base_version })).await?)
    }

    /// Changes the settings that are named, and returns all.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`].
    pub async fn settings(&self, change: SettingsBody) -> Result<SettingsBody> {
        match self.admin(Effect::Read, AdminAction::Settings(change)).await? {
            Some(AdminResult::Settings(settings)) => Ok(settings),
            _ => Err(unexpected("no settings")),
        }
    }

    /// What is lost because its last copy has died, and what only waits for nodes that may come back.
    ///
    /// # Errors
    ///
    /// As all of them.
    pub async fn plan_loss(&self) -> Result<LossReport> {
        loss(self.admin(Effect::Read, AdminAction::PlanLoss(Empty {})).await?)
    }

    /// Gives up the data of the groups that [`Self::plan_loss`] has shown as lost: they start again, empty.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Conflict`] when nothing is lost, or something else by now; [`ErrorCode::OutOfCapacity`] while no node
    /// is there to hold them.
    pub async fn accept_loss(&self, plan: &LossReport) -> Result<LossReport> {
        let order = LossOrder { mark: plan.mark.clone() };
        loss(self.admin(Effect::Whole, AdminAction::AcceptLoss(order)).await?)
    }

    /// Begins to stop the whole cluster: its nodes take no writes, write down what they hold and end. Started again, they
    /// have it all. With `cancel` it goes on after all, unless everything is on disk already.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Conflict`] while a node is being drained, data is lost, or not everything is back since the last time.
    pub async fn close_cluster(&self, cancel: bool) -> Result<()> {
        let action = AdminAction::CloseCluster(CloseOrder { cancel });
        self.admin(Effect::Whole, action).await.map(drop)
    }

    /// How the stop of the whole cluster goes, or its start afterwards.
    ///
    /// # Errors
    ///
    /// As all of them.
    pub async fn watch_close(&self) -> Result<CloseReport> {
        match self.admin(Effect::Read, AdminAction::WatchClose(Empty {})).await? {
            Some(AdminResult::Close(report)) => Ok(report),
            _ => Err(unexpected("no word of a stop")),
        }
    }

    /// Makes a key of this cluster for somebody else in a new file. It may do nothing until [`Self::put_principal`]
    /// names it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::AlreadyExists`] when there is such a file, [`ErrorCode::FileFailed`].
    pub fn create_identity(&self, path: &Path) -> Result<PublicKey> {
        new_identity(self.reading().session().options(), path)
    }

    /// Adds a principal, or replaces the one with its key.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] for what is no grant, [`ErrorCode::Denied`] for one that the asker does not hold.
    pub async fn put_principal(&self, principal: PrincipalBody) -> Result<()> {
        self.admin(Effect::Read, AdminAction::PutPrincipal(principal)).await.map(drop)
    }

    /// Removes a principal: its key may do nothing from then on.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NotFound`], [`ErrorCode::Conflict`] for the last one that may add others.
    pub async fn remove_principal(&self, key: PublicKey) -> Result<()> {
        let action = AdminAction::RemovePrincipal(PrincipalRef { key: key.0.to_vec() });
        self.admin(Effect::Whole, action).await.map(drop)
    }

    /// All principals.
    ///
    /// # Errors
    ///
    /// As all of them.
    pub async fn principals(&self) -> Result<Vec<PrincipalBody>> {
        match self.admin(Effect::Read, AdminAction::ListPrincipals(Empty {})).await? {
            Some(AdminResult::Principals(list)) => Ok(list.principals),
            _ => Err(unexpected("no principals")),
        }
    }

    async fn admin(&self, effect: Effect, action: AdminAction) -> Result<Option<AdminResult>> {
        let request = AdminRequest { on_behalf_of: Vec::new(), action: Some(action) };
        let call = match effect {
            Effect::Read => self.reading(),
            Effect::Keyed | Effect::Whole | Effect::Parts => self.changing(),
        };
        let asked = call.session().ask_any(Kind::Admin, effect, &request, call.deadline()).await;
        let reply: AdminReply = asked?;
        Ok(reply.result)
    }
}

fn reference(node: &str) -> NodeRef {
    NodeRef { node: node.to_owned() }
}

fn tickets(result: Option<AdminResult>) -> Result<Vec<TicketBody>> {
    match result {
        Some(AdminResult::Tickets(TicketList { tickets })) => Ok(tickets),
        _ => Err(unexpected("no tickets")),
    }
}

fn drain(result: Option<AdminResult>) -> Result<DrainReport> {
    match result {
        Some(AdminResult::Drain(drain)) => Ok(drain),
        _ => Err(unexpected("no drain")),
    }
}

fn report(result: Option<AdminResult>) -> Result<ClusterReport> {
    match result {
        Some(AdminResult::Cluster(report)) => Ok(report),
        _ => Err(unexpected("no report")),
    }
}

fn ring(result: Option<AdminResult>) -> Result<RingReport> {
    match result {
        Some(AdminResult::Ring(ring)) => Ok(ring),
        _ => Err(unexpected("no ring")),
    }
}

fn loss(result: Option<AdminResult>) -> Result<LossReport> {
    match result {
        Some(AdminResult::Loss(loss)) => Ok(loss),
        _ => Err(unexpected("no losses")),
    }
}

fn unexpected(what: &str) -> Error {
    Error::new(ErrorCode::Malformed, format!("the answer to an operator's request holds {what}"))
}
