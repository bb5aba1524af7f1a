//! States and changes as bytes.

use prost::Message;

use crate::catalog::arrays::ArrayRecord;
use crate::catalog::changes::{ChangeLog, Changes, CloseFacts, ClusterFacts};
use crate::catalog::closing::{CloseId, GroupHold};
use crate::catalog::codec::command::to_role;
use crate::catalog::codec::fields::Fields;
use crate::catalog::codec::parts::{
    all, array, check_size, from_new_node, from_principal, from_replica, from_settings,
    from_tables, key, malformed, read, required, small, to_new_node, to_principal, to_replica,
    to_settings, to_tables, too_new,
};
use crate::catalog::command::NewNode;
use crate::catalog::nodes::{BootId, NodeRecord, NodeState, Ticket};
use crate::catalog::state::CatalogState;
use crate::group::Seq;
use crate::replication::{GroupId, NodeNumber};
use crate::wire::catalog::{
    ArrayRecordBody, ChangesBody, CloseBody, ClusterBody, HoldBody, NodeBody, NumbersBody,
    SessionsBody, TablesBody, TicketRecordBody,
};
use crate::{ArrayId, Epoch, Failure, PublicKey, TableVersion, UnixMillis, limits};

/// About so much of a state is read at once.
const PART_BYTES: usize = 64 << 10;

impl CatalogState {
    /// The whole state as bytes: a snapshot. Equal states have equal bytes.
    ///
    /// Part by part: the bytes of messages one after the other are those of one that has everything, and all parts at
    /// once would take as much memory as the state, twice.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in self.whole_in_parts() {
            bytes.extend_from_slice(&part.encode());
        }
        bytes.shrink_to_fit();
        bytes
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    ///
    /// As [`Changes::decode`]; [`crate::ErrorCode::Malformed`] for a part of a state, and for one that breaks an
    /// invariant.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        Self::decode_in_parts(bytes, PART_BYTES)
    }

    /// As [`Self::decode`], in parts of about so many bytes.
    pub(crate) fn decode_in_parts(bytes: &[u8], part_bytes: usize) -> Result<Self, Failure> {
        check_size(bytes, limits::CATALOG_STATE_BYTES_MAX)?;
        let mut state = Self::new();
        let (mut version, mut whole) = (0, false);
        for part in Fields::of(bytes).parts(part_bytes) {
            let changes = Changes::decode(part?)?;
            version = version.max(changes.to);
            whole |= changes.whole;
            state.absorb_part(changes)?;
            // Nobody follows this state yet.
            state.log = ChangeLog::new(0);
        }
        if !whole {
            return Err(malformed("a part where the whole was expected"));
        }
        state.version = version;
        state.log = ChangeLog::new(version);
        state.pack_groups();
        state.check()?;
        Ok(state)
    }
}

impl Changes {
    /// Their bytes.
    pub fn encode(&self) -> Vec<u8> {
        let keys = |keys: &[PublicKey]| keys.iter().map(|key| key.0.to_vec()).collect();
        let arrays = self.arrays.iter().map(|record| ArrayRecordBody {
            array: Some((&record.descriptor).into()),
            token: record.token,
        });
        let numbers =
            |numbers: &[NodeNumber]| numbers.iter().map(|number| number.0).collect::<Vec<u32>>();
        ChangesBody {
            from: self.from,
            to: self.to,
            whole: self.whole,
            now_unix_ms: self.now.0,
            next_node: self.next_node.0,
            next_array: self.next_array.0,
            cluster: self.cluster.as_ref().map(|facts| ClusterBody {
                name: facts.name.clone(),
                root: facts.root.0.to_vec(),
                partition_bits: u32::from(facts.partition_bits),
            }),
            settings: self.settings.map(from_settings),
            voters: self.voters.as_ref().map(|voters| NumbersBody { numbers: numbers(voters) }),
            sessions: self.sessions.map(|(next, expired_below)| SessionsBody {
                first: next,
                count: 0,
                expired_below,
            }),
            tables: self.tables.as_ref().map(|(version, tables)| TablesBody {
                base_version: 0,
                version: version.0,
                tables: from_tables(tables),
            }),
            nodes: self.nodes.iter().map(from_node).collect(),
            gone_nodes: numbers(&self.gone_nodes),
            tickets: self.tickets.iter().map(from_ticket).collect(),
            gone_tickets: keys(&self.gone_tickets),
            groups: self.groups.iter().map(Into::into).collect(),
            arrays: arrays.collect(),
            gone_arrays: self.gone_arrays.iter().map(|id| id.0).collect(),
            principals: self.principals.iter().map(from_principal).collect(),
            gone_principals: keys(&self.gone_principals),
            issuers: self.issuers.iter().map(Into::into).collect(),
            gone_issuers: keys(&self.gone_issuers),
            close: self.close.map(|facts| CloseBody {
                id: facts.id.0,
                since_unix_ms: facts.since.0,
                finished: facts.finished,
            }),
            holds: self.holds.iter().map(from_hold).collect(),
            gone_holds: self.gone_holds.iter().map(|group| (*group).into()).collect(),
        }
        .encode_to_vec()
    }

    /// Reads changes, or a whole state.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorCode::TooLarge`], [`crate::ErrorCode::Malformed`], the errors of the parts, and
    /// [`crate::ErrorCode::VersionMismatch`] for what only a later version can read.
    pub fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let body: ChangesBody = read(bytes, limits::CATALOG_STATE_BYTES_MAX)?;
        let keys = |keys: Vec<Vec<u8>>| all(keys, |bytes| key(&bytes));
        let numbers =
            |numbers: Vec<u32>| numbers.into_iter().map(NodeNumber).collect::<Vec<NodeNumber>>();
        let tables = body
            .tables
            .map(|body| to_tables(body.tables).map(|tables| (TableVersion(body.version), tables)))
            .transpose()?;
        Ok(Self {
            from: body.from,
            to: body.to,
            whole: body.whole,
            now: UnixMillis(body.now_unix_ms),
            cluster: body.cluster.map(to_cluster).transpose()?,
            settings: body.settings.map(to_settings).transpose()?,
            voters: body.voters.map(|voters| numbers(voters.numbers)),
            sessions: body.sessions.map(|sessions| (sessions.first, sessions.expired_below)),
            tables,
            next_node: NodeNumber(body.next_node),
            next_array: ArrayId(body.next_array),
            nodes: all(body.nodes, to_node)?,
            gone_nodes: numbers(body.gone_nodes),
            tickets: all(body.tickets, to_ticket)?,
            gone_tickets: keys(body.gone_tickets)?,
            groups: all(body.groups, TryInto::try_into)?,
            arrays: all(body.arrays, to_array)?,
            gone_arrays: body.gone_arrays.into_iter().map(ArrayId).collect(),
            principals: all(body.principals, to_principal)?,
            gone_principals: keys(body.gone_principals)?,
            issuers: all(body.issuers, TryInto::try_into)?,
            gone_issuers: keys(body.gone_issuers)?,
            close: body.close.map(|body| CloseFacts {
                id: CloseId(body.id),
                since: UnixMillis(body.since_unix_ms),
                finished: body.finished,
            }),
            holds: all(body.holds, to_hold)?,
            gone_holds: all(body.gone_holds, TryInto::try_into)?,
        })
    }
}

fn from_hold((group, hold): &(GroupId, GroupHold)) -> HoldBody {
    HoldBody {
        group: Some((*group).into()),
        epoch: hold.epoch.0,
        seq: hold.seq.0,
        bytes: hold.bytes,
        holders: hold.holders.iter().copied().map(from_replica).collect(),
    }
}

fn to_hold(body: HoldBody) -> Result<(GroupId, GroupHold), Failure> {
    if body.holders.len() > limits::GROUP_MEMBERS_MAX {
        return Err(malformed("a group that too many hold"));
    }
    let hold = GroupHold {
        epoch: Epoch(body.epoch),
        seq: Seq(body.seq),
        bytes: body.bytes,
        holders: body.holders.into_iter().map(to_replica).collect(),
    };
    Ok((required(body.group, "the group of a hold")?.try_into()?, hold))
}

fn to_cluster(body: ClusterBody) -> Result<ClusterFacts, Failure> {
    let partition_bits = small(body.partition_bits, "bits of partitions")?;
    let has_name = (1..=limits::NODE_NAME_BYTES_MAX).contains(&body.name.len());
    if partition_bits > limits::PARTITION_BITS_MAX || !has_name {
        return Err(malformed("the cluster"));
    }
    Ok(ClusterFacts { name: body.name, root: key(&body.root)?, partition_bits })
}

fn from_ticket((key, ticket): &(PublicKey, Ticket)) -> TicketRecordBody {
    TicketRecordBody {
        key: key.0.to_vec(),
        role: ticket.role as u32,
        expires_unix_ms: ticket.expires.0,
        name_hint: ticket.name_hint.clone(),
        used_by: ticket.used_by.map_or(0, |number| number.0),
    }
}

fn to_ticket(body: TicketRecordBody) -> Result<(PublicKey, Ticket), Failure> {
    let ticket = Ticket {
        role: to_role(body.role)?,
        expires: UnixMillis(body.expires_unix_ms),
        name_hint: body.name_hint,
        used_by: (body.used_by != 0).then_some(NodeNumber(body.used_by)),
    };
    Ok((key(&body.key)?, ticket))
}

fn from_node(node: &NodeRecord) -> NodeBody {
    let (state, since, deadline) = match node.state {
        NodeState::Joining => (1, UnixMillis(0), None),
        NodeState::Active => (2, UnixMillis(0), None),
        NodeState::Cordoned => (3, UnixMillis(0), None),
        NodeState::Draining { since, deadline } => (4, since, deadline),
        NodeState::Drained => (5, UnixMillis(0), None),
        NodeState::Evicted => (6, UnixMillis(0), None),
        NodeState::Left => (7, UnixMillis(0), None),
    };
    NodeBody {
        node: Some(from_new_node(&NewNode {
            id: node.id,
            name: node.name.clone(),
            address: node.address.clone(),
            zone: node.zone.clone(),
            weight_milli: node.weight_milli,
            agent: node.agent.clone(),
        })),
        replica: from_replica(node.replica()),
        boot: node.boot.0.to_vec(),
        state,
        draining_since_unix_ms: since.0,
        drain_deadline_unix_ms: deadline.map(|deadline| deadline.0),
        up: node.up,
        up_changed_unix_ms: node.up_changed.0,
        closed: node.closed,
        joined_unix_ms: node.joined.0,
    }
}

fn to_node(body: NodeBody) -> Result<NodeRecord, Failure> {
    let new = to_new_node(required(body.node, "a node's facts")?)?;
    let replica = to_replica(body.replica);
    if replica.node.0 == 0 {
        return Err(malformed("node 0"));
    }
    let state = match body.state {
        1 => NodeState::Joining,
        2 => NodeState::Active,
        3 => NodeState::Cordoned,
        4 => NodeState::Draining {
            since: UnixMillis(body.draining_since_unix_ms),
            deadline: body.drain_deadline_unix_ms.map(UnixMillis),
        },
        5 => NodeState::Drained,
        6 => NodeState::Evicted,
        7 => NodeState::Left,
        0 => return Err(malformed("a node without a state")),
        _ => return Err(too_new("a node's state")),
    };
    Ok(NodeRecord {
        number: replica.node,
        id: new.id,
        name: new.name,
        address: new.address,
        zone: new.zone,
        weight_milli: new.weight_milli,
        agent: new.agent,
        incarnation: replica.incarnation,
        boot: BootId(array(&body.boot, "a boot id")?),
        state,
        up: body.up,
        up_changed: UnixMillis(body.up_changed_unix_ms),
        closed: body.closed,
        joined: UnixMillis(body.joined_unix_ms),
    })
}

fn to_array(body: ArrayRecordBody) -> Result<ArrayRecord, Failure> {
    let descriptor = required(body.array, "an array's descriptor")?.try_into()?;
    Ok(ArrayRecord { descriptor, token: body.token })
}
