//! Commands as bytes.

use prost::Message;

use crate::catalog::arrays::NewArray;
use crate::catalog::closing::{CloseId, Held};
use crate::catalog::codec::parts::{
    all, array, from_new_node, from_principal, from_replica, from_settings, from_tables, key,
    malformed, read, required, small, to_class, to_new_node, to_principal, to_replica, to_settings,
    to_tables, too_new,
};
use crate::catalog::command::{
    Admission, Authority, Bootstrap, Command, Liveness, NewTicket, NodeChange, Operation,
    Registration, TableUpdate,
};
use crate::catalog::nodes::BootId;
use crate::catalog::resume::{PastReplica, Resumption};
use crate::group::Seq;
use crate::replication::{Incarnation, NodeNumber, ReplicaId};
use crate::wire::catalog::{
    AdmissionBody, BootstrapBody, CommandBody, GroupsBody, HeldBody, HeldGroupBody, LeaseBody,
    LivenessBody, NewArrayBody, NodeChangeBody, NumbersBody, OperationBody, ProposalsBody,
    RegistrationBody, ResumeBody, ResumptionBody, SettleBody, TablesBody, TenantArrayBody,
    TicketRecordBody,
};
use crate::{
    ArrayId, ArrayLayout, ArrayName, DType, Epoch, Failure, Role, Shape, TableVersion, TenantId,
    UnixMillis, limits,
};

impl Command {
    /// Its bytes: an entry of the catalog's log.
    pub fn encode(&self) -> Vec<u8> {
        let (by_principal, by_node) = match self.by {
            Authority::Nobody => (Vec::new(), 0),
            Authority::Principal(key) => (key.0.to_vec(), 0),
            Authority::Node(number) => (Vec::new(), number.0),
        };
        let operation = Some(from_operation(&self.operation));
        CommandBody { at_unix_ms: self.at.0, by_principal, by_node, operation }.encode_to_vec()
    }

    /// The bytes of a command with another time, as the leader of the catalog proposes what another node sent. The rest
    /// stays as it is, whatever a later version has written into it: of a field that is there twice the last one counts.
    pub fn restamp(bytes: &[u8], at: UnixMillis) -> Vec<u8> {
        let time = CommandBody { at_unix_ms: at.0, ..CommandBody::default() };
        [bytes, &time.encode_to_vec()].concat()
    }

    /// Reads a command.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorCode::TooLarge`], [`crate::ErrorCode::Malformed`], the errors of its parts, and
    /// [`crate::ErrorCode::VersionMismatch`] for an operation of a later version. A voter that meets one of these in its
    /// log must stop: to go on without the command would be to become another catalog.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let body: CommandBody = read(bytes, limits::CATALOG_COMMAND_BYTES_MAX)?;
        let by = match (body.by_principal.is_empty(), body.by_node) {
            (true, 0) => Authority::Nobody,
            (true, number) => Authority::Node(NodeNumber(number)),
            (false, 0) => Authority::Principal(key(&body.by_principal)?),
            (false, _) => return Err(malformed("a command of two authorities")),
        };
        let operation = body.operation.ok_or_else(|| too_new("a command"))?;
        let operation = to_operation(operation)?;
        Ok(Self { at: UnixMillis(body.at_unix_ms), by, operation })
    }
}

fn from_operation(operation: &Operation) -> OperationBody {
    match operation {
        Operation::Bootstrap(first) => OperationBody::Bootstrap(from_bootstrap(first)),
        Operation::CreateTicket(ticket) => OperationBody::CreateTicket(TicketRecordBody {
            key: ticket.key.0.to_vec(),
            role: ticket.role as u32,
            expires_unix_ms: ticket.expires.0,
            name_hint: ticket.name_hint.clone(),
            used_by: 0,
        }),
        Operation::RevokeTicket(key) => OperationBody::RevokeTicket(key.0.to_vec()),
        Operation::AdmitNode(admission) => OperationBody::AdmitNode(AdmissionBody {
            ticket: admission.ticket.0.to_vec(),
            node: Some(from_new_node(&admission.node)),
            signature: admission.signature.to_vec(),
        }),
        Operation::Register(start) => OperationBody::Register(from_registration(start)),
        Operation::SetUp(verdicts) => {
            let of = |up: bool| {
                let these = verdicts.iter().filter(move |verdict| verdict.up == up);
                these.map(|verdict| from_replica(verdict.replica)).collect()
            };
            OperationBody::SetUp(LivenessBody { up: of(true), down: of(false) })
        }
        Operation::SetNodeState { node, change } => {
            OperationBody::SetNodeState(from_change(*node, change))
        }
        Operation::ProposeChanges { reporter, proposals } => {
            OperationBody::ProposeChanges(ProposalsBody {
                reporter: from_replica(*reporter),
                proposals: proposals.iter().map(Into::into).collect(),
            })
        }
        Operation::ApplyTable(update) => OperationBody::ApplyTable(TablesBody {
            base_version: update.base_version.0,
            version: update.version.0,
            tables: from_tables(&update.tables),
        }),
        Operation::CreateArray(new) => OperationBody::CreateArray(from_new_array(new)),
        Operation::RemoveArray { tenant, array } => {
            OperationBody::RemoveArray(TenantArrayBody { tenant: tenant.0, array: array.0 })
        }
        Operation::LeaseSessions { node, count } => {
            OperationBody::LeaseSessions(LeaseBody { node: node.0, count: *count })
        }
        Operation::ExpireSessions { below } => OperationBody::ExpireSessions(*below),
        Operation::PutPrincipal(principal) => {
            OperationBody::PutPrincipal(from_principal(principal))
        }
        Operation::RemovePrincipal(key) => OperationBody::RemovePrincipal(key.0.to_vec()),
        Operation::AcceptLoss(groups) => {
            let groups = groups.iter().copied().map(Into::into).collect();
            OperationBody::AcceptLoss(GroupsBody { groups })
        }
        Operation::FinishDrain { node } => OperationBody::FinishDrain(node.0),
        Operation::Settings(settings) => OperationBody::Settings(from_settings(*settings)),
        Operation::SetVoters(voters) => {
            let numbers = voters.iter().map(|number| number.0).collect();
            OperationBody::SetVoters(NumbersBody { numbers })
        }
        Operation::PutIssuer(issuer) => OperationBody::PutIssuer(issuer.into()),
        Operation::BeginClose => OperationBody::BeginClose(true),
        Operation::AbortClose => OperationBody::AbortClose(true),
        Operation::Hold { close, reporter, holds } => {
            OperationBody::Hold(from_held(*close, *reporter, holds))
        }
        Operation::FinishClose(close) => OperationBody::FinishClose(close.0),
        Operation::Reopen { close, reporter, holds } => {
            OperationBody::Reopen(from_held(*close, *reporter, holds))
        }
        Operation::Resume { reporter, found } => OperationBody::Resume(ResumeBody {
            reporter: from_replica(*reporter),
            found: found.iter().map(from_resumption).collect(),
        }),
        Operation::Settle { close, groups } => OperationBody::Settle(SettleBody {
            close: close.0,
            groups: groups.iter().copied().map(Into::into).collect(),
        }),
    }
}

fn to_operation(body: OperationBody) -> Result<Operation, Failure> {
    Ok(match body {
        OperationBody::Bootstrap(body) => Operation::Bootstrap(to_bootstrap(body)?),
        OperationBody::CreateTicket(body) => Operation::CreateTicket(NewTicket {
            key: key(&body.key)?,
            role: to_role(body.role)?,
            expires: UnixMillis(body.expires_unix_ms),
            name_hint: body.name_hint,
        }),
        OperationBody::RevokeTicket(bytes) => Operation::RevokeTicket(key(&bytes)?),
        OperationBody::AdmitNode(body) => Operation::AdmitNode(Admission {
            ticket: key(&body.ticket)?,
            node: to_new_node(required(body.node, "the node")?)?,
            signature: array(&body.signature, "a joiner's signature")?,
        }),
        OperationBody::Register(body) => Operation::Register(to_registration(body)?),
        OperationBody::SetUp(body) => {
            let verdict = |up| move |packed| Liveness { replica: to_replica(packed), up };
            let up = body.up.into_iter().map(verdict(true));
            Operation::SetUp(up.chain(body.down.into_iter().map(verdict(false))).collect())
        }
        OperationBody::SetNodeState(body) => {
            Operation::SetNodeState { node: NodeNumber(body.node), change: to_change(&body)? }
        }
        OperationBody::ProposeChanges(body) => Operation::ProposeChanges {
            reporter: to_replica(body.reporter),
            proposals: all(body.proposals, TryInto::try_into)?,
        },
        OperationBody::ApplyTable(body) => Operation::ApplyTable(TableUpdate {
            base_version: TableVersion(body.base_version),
            version: TableVersion(body.version),
            tables: to_tables(body.tables)?,
        }),
        OperationBody::CreateArray(body) => Operation::CreateArray(to_new_array(body)?),
        OperationBody::RemoveArray(body) => {
            Operation::RemoveArray { tenant: TenantId(body.tenant), array: ArrayId(body.array) }
        }
        OperationBody::LeaseSessions(body) => {
            Operation::LeaseSessions { node: NodeNumber(body.node), count: body.count }
        }
        OperationBody::ExpireSessions(below) => Operation::ExpireSessions { below },
        OperationBody::PutPrincipal(body) => Operation::PutPrincipal(to_principal(body)?),
        OperationBody::RemovePrincipal(bytes) => Operation::RemovePrincipal(key(&bytes)?),
        OperationBody::AcceptLoss(body) => {
            Operation::AcceptLoss(all(body.groups, TryInto::try_into)?)
        }
        OperationBody::FinishDrain(node) => Operation::FinishDrain { node: NodeNumber(node) },
        OperationBody::Settings(body) => Operation::Settings(to_settings(body)?),
        OperationBody::SetVoters(body) => {
            Operation::SetVoters(body.numbers.into_iter().map(NodeNumber).collect())
        }
        OperationBody::PutIssuer(body) => Operation::PutIssuer(body.try_into()?),
        OperationBody::BeginClose(_) => Operation::BeginClose,
        OperationBody::AbortClose(_) => Operation::AbortClose,
        OperationBody::Hold(body) => {
            let (close, reporter, holds) = to_held(body)?;
            Operation::Hold { close, reporter, holds }
        }
        OperationBody::FinishClose(close) => Operation::FinishClose(CloseId(close)),
        OperationBody::Reopen(body) => {
            let (close, reporter, holds) = to_held(body)?;
            Operation::Reopen { close, reporter, holds }
        }
        OperationBody::Resume(body) => Operation::Resume {
            reporter: to_replica(body.reporter),
            found: all(body.found, to_resumption)?,
        },
        OperationBody::Settle(body) => Operation::Settle {
            close: CloseId(body.close),
            groups: all(body.groups, TryInto::try_into)?,
        },
    })
}

fn from_bootstrap(first: &Bootstrap) -> BootstrapBody {
    BootstrapBody {
        cluster_name: first.cluster_name.clone(),
        root: first.root.0.to_vec(),
        partition_bits: u32::from(first.partition_bits),
        founders: first.founders.iter().map(from_new_node).collect(),
        principals: first.principals.iter().map(from_principal).collect(),
        settings: Some(from_settings(first.settings)),
    }
}

fn to_bootstrap(body: BootstrapBody) -> Result<Bootstrap, Failure> {
    Ok(Bootstrap {
        cluster_name: body.cluster_name,
        root: key(&body.root)?,
        partition_bits: small(body.partition_bits, "bits of partitions")?,
        founders: all(body.founders, to_new_node)?,
        principals: all(body.principals, to_principal)?,
        settings: to_settings(required(body.settings, "the settings")?)?,
    })
}

fn from_registration(start: &Registration) -> RegistrationBody {
    RegistrationBody {
        node: start.node.0,
        boot: start.boot.0.to_vec(),
        agent: start.agent.clone(),
        address: start.address.clone(),
        after: start.after.map(|life| life.0),
        keeps: start.keeps,
    }
}

fn to_registration(body: RegistrationBody) -> Result<Registration, Failure> {
    Ok(Registration {
        node: NodeNumber(body.node),
        boot: BootId(array(&body.boot, "a boot id")?),
        agent: body.agent,
        address: body.address,
        after: body.after.map(Incarnation),
        keeps: body.keeps,
    })
}

fn from_resumption(found: &Resumption) -> ResumptionBody {
    let Resumption { past: PastReplica { group, life, at }, is_whole } = *found;
    ResumptionBody { group: Some(group.into()), life: life.0, at: at.0, is_whole }
}

fn to_resumption(body: ResumptionBody) -> Result<Resumption, Failure> {
    let past = PastReplica {
        group: required(body.group, "the group of a resumption")?.try_into()?,
        life: Incarnation(body.life),
        at: Epoch(body.at),
    };
    Ok(Resumption { past, is_whole: body.is_whole })
}

fn from_held(close: CloseId, reporter: ReplicaId, holds: &[Held]) -> HeldBody {
    let holds = holds.iter().map(|held| HeldGroupBody {
        group: Some(held.group.into()),
        epoch: held.epoch.0,
        seq: held.seq.0,
        bytes: held.bytes,
        at: held.at.0,
    });
    HeldBody { close: close.0, reporter: from_replica(reporter), holds: holds.collect() }
}

fn to_held(body: HeldBody) -> Result<(CloseId, ReplicaId, Vec<Held>), Failure> {
    let holds = all(body.holds, |body| {
        Ok(Held {
            group: required(body.group, "the group of a hold")?.try_into()?,
            epoch: Epoch(body.epoch),
            seq: Seq(body.seq),
            bytes: body.bytes,
            at: Epoch(body.at),
        })
    });
    Ok((CloseId(body.close), to_replica(body.reporter), holds?))
}

pub(super) fn to_role(number: u32) -> Result<Role, Failure> {
    let role = u8::try_from(number).ok().and_then(Role::from_byte);
    role.ok_or_else(|| malformed(&format!("role {number}")))
}

fn from_change(node: NodeNumber, change: &NodeChange) -> NodeChangeBody {
    let body = NodeChangeBody { node: node.0, ..NodeChangeBody::default() };
    match change {
        NodeChange::Cordon => NodeChangeBody { change: 1, ..body },
        NodeChange::Uncordon => NodeChangeBody { change: 2, ..body },
        NodeChange::Drain { deadline } => {
            let deadline_unix_ms = deadline.map(|deadline| deadline.0);
            NodeChangeBody { change: 3, deadline_unix_ms, ..body }
        }
        NodeChange::Undrain => NodeChangeBody { change: 4, ..body },
        NodeChange::Evict { accept_loss } => {
            NodeChangeBody { change: 5, accept_loss: *accept_loss, ..body }
        }
        NodeChange::Leave => NodeChangeBody { change: 6, ..body },
        NodeChange::Reweigh { weight_milli } => {
            NodeChangeBody { change: 7, weight_milli: *weight_milli, ..body }
        }
    }
}

fn to_change(body: &NodeChangeBody) -> Result<NodeChange, Failure> {
    Ok(match body.change {
        1 => NodeChange::Cordon,
        2 => NodeChange::Uncordon,
        3 => NodeChange::Drain { deadline: body.deadline_unix_ms.map(UnixMillis) },
        4 => NodeChange::Undrain,
        5 => NodeChange::Evict { accept_loss: body.accept_loss },
        6 => NodeChange::Leave,
        7 => NodeChange::Reweigh { weight_milli: body.weight_milli },
        0 => return Err(malformed("a node's state without a change")),
        _ => return Err(too_new("a change of a node's state")),
    })
}

fn from_new_array(new: &NewArray) -> NewArrayBody {
    NewArrayBody {
        name: new.name.as_str().to_owned(),
        tenant: new.tenant.0,
        shape: new.layout.shape().dims().to_vec(),
        dtype: u32::from(new.layout.dtype().to_byte()),
        shard_elems: new.layout.shard_elems(),
        like: new.like.as_ref().map(|like| like.as_str().to_owned()).unwrap_or_default(),
        replicas: u32::from(new.class.replicas),
        min_in_sync: u32::from(new.class.min_in_sync),
        placement_key: new.placement_key.to_vec(),
        token: new.token,
    }
}

fn to_new_array(body: NewArrayBody) -> Result<NewArray, Failure> {
    let shape = Shape::new(&body.shape)?;
    let dtype = DType::from_byte(body.dtype)?;
    let like = if body.like.is_empty() { None } else { Some(ArrayName::new(&body.like)?) };
    Ok(NewArray {
        name: ArrayName::new(&body.name)?,
        tenant: TenantId(body.tenant),
        layout: ArrayLayout::new(shape, dtype, body.shard_elems)?,
        like,
        class: to_class(body.replicas, body.min_in_sync)?,
        placement_key: array(&body.placement_key, "a placement key")?,
        token: body.token,
    })
}
