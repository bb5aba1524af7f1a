//! What commands, answers and states have in common.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::catalog::command::{NewNode, Settings};
use crate::catalog::nodes::check_member;
use crate::catalog::proof::IssuerCertificate;
use crate::catalog::targets::TargetTable;
use crate::replication::{
    Class, ConfigChange, GroupConfig, Incarnation, NodeNumber, Proposal, ReplicaId,
};
use crate::wire::IssuerBody;
use crate::wire::catalog::{
    ConfigBody, GrantBody, NewNodeBody, PrincipalRecordBody, ProposalBody, SettingsRecordBody,
    TargetTableBody,
};
use crate::{
    Epoch, ErrorCode, Failure, Grant, Member, NodeId, Principal, PublicKey, TenantId, UnixMillis,
    Verb, limits,
};

pub(super) fn malformed(what: &str) -> Failure {
    Failure::new(ErrorCode::Malformed, format!("catalog: {what}"))
}

/// Something of a later version than this program.
pub(super) fn too_new(what: &str) -> Failure {
    Failure::new(ErrorCode::VersionMismatch, format!("catalog: {what} of a later version"))
        .help("run the newest release on every node before you use what is new in it")
}

/// Reads a message of at most `bytes_max` bytes.
pub(super) fn read<M: Message + Default>(bytes: &[u8], bytes_max: usize) -> Result<M, Failure> {
    check_size(bytes, bytes_max)?;
    M::decode(bytes).map_err(|source| malformed(&source.to_string()))
}

pub(super) fn check_size(bytes: &[u8], bytes_max: usize) -> Result<(), Failure> {
    if bytes.len() > bytes_max {
        let message = format!("catalog: {} bytes, at most {bytes_max}", bytes.len());
        return Err(Failure::new(ErrorCode::TooLarge, message));
    }
    Ok(())
}

pub(super) fn required<T>(field: Option<T>, what: &str) -> Result<T, Failure> {
    field.ok_or_else(|| malformed(&format!("{what} is missing")))
}

pub(super) fn small(number: u32, what: &str) -> Result<u8, Failure> {
    u8::try_from(number).ok().ok_or_else(|| malformed(&format!("{what} {number}")))
}

pub(super) fn array<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], Failure> {
    bytes
        .try_into()
        .ok()
        .ok_or_else(|| malformed(&format!("{what} of {} bytes, {N} needed", bytes.len())))
}

pub(super) fn key(bytes: &[u8]) -> Result<PublicKey, Failure> {
    PublicKey::from_slice(bytes)
}

pub(super) fn all<B, T>(
    bodies: Vec<B>,
    read: impl FnMut(B) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    bodies.into_iter().map(read).collect()
}

pub(super) fn from_replica(replica: ReplicaId) -> u64 {
    u64::from(replica.node.0) << 32 | u64::from(replica.incarnation.0)
}

pub(super) fn to_replica(packed: u64) -> ReplicaId {
    let [a, b, c, d, e, f, g, h] = packed.to_le_bytes();
    ReplicaId {
        node: NodeNumber(u32::from_le_bytes([e, f, g, h])),
        incarnation: Incarnation(u32::from_le_bytes([a, b, c, d])),
    }
}

pub(super) fn to_class(replicas: u32, min_in_sync: u32) -> Result<Class, Failure> {
    Class::new(replicas, min_in_sync)
        .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })
}

impl From<&GroupConfig> for ConfigBody {
    fn from(config: &GroupConfig) -> Self {
        Self {
            group: Some(config.group.into()),
            epoch: config.epoch.0,
            primary: from_replica(config.primary),
            in_sync: config.in_sync.iter().copied().map(from_replica).collect(),
            learners: config.learners.iter().copied().map(from_replica).collect(),
            lost: config.lost,
        }
    }
}

impl TryFrom<ConfigBody> for GroupConfig {
    type Error = Failure;

    /// Checks a config that came from outside: [`ErrorCode::Malformed`].
    fn try_from(body: ConfigBody) -> Result<Self, Failure> {
        // Without the room to grow that a list being read has: there may be a million of these.
        let replicas = |packed: Vec<u64>| {
            let mut replicas: Vec<ReplicaId> = packed.into_iter().map(to_replica).collect();
            replicas.shrink_to_fit();
            replicas
        };
        let config = Self {
            group: required(body.group, "a config's group")?.try_into()?,
            epoch: Epoch(body.epoch),
            primary: to_replica(body.primary),
            in_sync: replicas(body.in_sync),
            learners: replicas(body.learners),
            lost: body.lost,
        };
        config.check()?;
        Ok(config)
    }
}

impl From<&Proposal> for ProposalBody {
    fn from(proposal: &Proposal) -> Self {
        let (change, replica) = match proposal.change {
            ConfigChange::AddLearner(replica) => (1, from_replica(replica)),
            ConfigChange::AddInSync(replica) => (2, from_replica(replica)),
            ConfigChange::Remove(replica) => (3, from_replica(replica)),
            ConfigChange::TakeOver => (4, 0),
            ConfigChange::Handover(replica) => (5, from_replica(replica)),
        };
        Self {
            group: Some(proposal.group.into()),
            epoch: proposal.epoch.0,
            by: from_replica(proposal.by),
            change,
            replica,
        }
    }
}

impl TryFrom<ProposalBody> for Proposal {
    type Error = Failure;

    /// Checks a proposal that came from outside: [`ErrorCode::Malformed`], or [`ErrorCode::VersionMismatch`] for a
    /// change of a later version.
    fn try_from(body: ProposalBody) -> Result<Self, Failure> {
        let replica = to_replica(body.replica);
        let change = match body.change {
            1 => ConfigChange::AddLearner(replica),
            2 => ConfigChange::AddInSync(replica),
            3 => ConfigChange::Remove(replica),
            4 => ConfigChange::TakeOver,
            5 => ConfigChange::Handover(replica),
            0 => return Err(malformed("a proposal without a change")),
            _ => return Err(too_new("a change of a config")),
        };
        Ok(Self {
            group: required(body.group, "a proposal's group")?.try_into()?,
            epoch: Epoch(body.epoch),
            by: to_replica(body.by),
            change,
        })
    }
}

pub(super) fn from_new_node(node: &NewNode) -> NewNodeBody {
    NewNodeBody {
        id: node.id.0.0.to_vec(),
        name: node.name.clone(),
        address: node.address.clone(),
        zone: node.zone.clone(),
        weight_milli: node.weight_milli,
        agent: node.agent.clone(),
    }
}

pub(super) fn to_new_node(body: NewNodeBody) -> Result<NewNode, Failure> {
    let member = Member {
        node: NodeId(key(&body.id)?),
        name: body.name,
        address: body.address,
        zone: body.zone,
        weight_milli: body.weight_milli,
    };
    check_member(&member).map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })?;
    if body.agent.len() > limits::AGENT_BYTES_MAX {
        return Err(malformed("a program's name"));
    }
    Ok(NewNode {
        id: member.node,
        name: member.name,
        address: member.address,
        zone: member.zone,
        weight_milli: member.weight_milli,
        agent: body.agent,
    })
}

pub(super) fn from_principal(principal: &Principal) -> PrincipalRecordBody {
    let grants = principal.grants.iter().map(|grant| GrantBody {
        verb: grant.verb.name().to_owned(),
        pattern: grant.pattern.clone(),
    });
    PrincipalRecordBody {
        key: principal.key.0.to_vec(),
        name: principal.name.clone(),
        tenant: principal.tenant.0,
        grants: grants.collect(),
    }
}

pub(super) fn to_principal(body: PrincipalRecordBody) -> Result<Principal, Failure> {
    if body.grants.len() > limits::GRANTS_MAX || body.name.len() > limits::NODE_NAME_BYTES_MAX {
        return Err(malformed("a principal"));
    }
    let grants = all(body.grants, |grant| {
        if grant.pattern.len() > limits::GRANT_PATTERN_BYTES_MAX {
            return Err(malformed("a grant's pattern"));
        }
        let verb = Verb::parse(&grant.verb).ok().ok_or_else(|| too_new("a verb"))?;
        Ok(Grant { verb, pattern: grant.pattern })
    });
    Ok(Principal {
        key: key(&body.key)?,
        name: body.name,
        tenant: TenantId(body.tenant),
        grants: grants?,
    })
}

pub(super) fn from_settings(settings: Settings) -> SettingsRecordBody {
    SettingsRecordBody {
        repair_delay_ms: settings.repair_delay_ms,
        voter_delay_ms: settings.voter_delay_ms,
        replicas_default: u32::from(settings.replicas_default),
        voters_max: u32::from(settings.voters_max),
    }
}

pub(super) fn to_settings(body: SettingsRecordBody) -> Result<Settings, Failure> {
    Ok(Settings {
        repair_delay_ms: body.repair_delay_ms,
        voter_delay_ms: body.voter_delay_ms,
        replicas_default: small(body.replicas_default, "copies by default")?,
        voters_max: small(body.voters_max, "voters at most")?,
    })
}

impl From<&IssuerCertificate> for IssuerBody {
    fn from(certificate: &IssuerCertificate) -> Self {
        Self {
            key: certificate.issuer.0.to_vec(),
            not_after_unix_ms: certificate.not_after.0,
            signature: certificate.signature.to_vec(),
        }
    }
}

impl TryFrom<IssuerBody> for IssuerCertificate {
    type Error = Failure;

    /// Checks the form of a certificate that came from outside: [`ErrorCode::Malformed`]. Whether the root signed it is
    /// another question.
    fn try_from(body: IssuerBody) -> Result<Self, Failure> {
        Ok(Self {
            issuer: key(&body.key)?,
            not_after: UnixMillis(body.not_after_unix_ms),
            signature: array(&body.signature, "an issuer's signature")?,
        })
    }
}

pub(super) fn from_tables(tables: &BTreeMap<u8, TargetTable>) -> Vec<TargetTableBody> {
    let tables = tables.iter().map(|(replicas, table)| {
        // A place among at most 10,000 nodes takes two bytes, a number may take five.
        let nodes: BTreeSet<NodeNumber> = table.all_holders().iter().copied().collect();
        let places: BTreeMap<NodeNumber, u32> = nodes.iter().copied().zip(0u32..).collect();
        let holders = table.all_holders().iter().filter_map(|number| places.get(number).copied());
        TargetTableBody {
            replicas: u32::from(*replicas),
            copies: u32::from(table.copies()),
            holders: holders.collect(),
            nodes: nodes.into_iter().map(|number| number.0).collect(),
        }
    });
    tables.collect()
}

pub(super) fn to_tables(
    bodies: Vec<TargetTableBody>,
) -> Result<BTreeMap<u8, TargetTable>, Failure> {
    let mut tables = BTreeMap::new();
    for body in bodies {
        let replicas = small(body.replicas, "copies wanted")?;
        let nodes = &body.nodes;
        let holders = all(body.holders, |place| {
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            required(nodes.get(place).copied().map(NodeNumber), "a holder")
        })?;
        let table = TargetTable::new(small(body.copies, "copies")?, holders)
            .map_err(|failure| Failure { code: ErrorCode::Malformed, ..failure })?;
        if tables.insert(replicas, table).is_some() {
            return Err(malformed("two tables for one number of copies"));
        }
    }
    Ok(tables)
}
