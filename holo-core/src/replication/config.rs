//! Who holds a group: replica ids, classes, and the configs that only the catalog changes.

use std::cmp::Ordering;
use std::fmt;

use crate::{Count, Epoch, ErrorCode, Failure, PartitionId, limits};

/// A node's number in the catalog: given at admission, never reused. Short, where a key would be long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNumber(pub u32);

impl fmt::Display for NodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One life of a node's process; the catalog gives it at start. What was in memory ends with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// A replica: a node in one life. A node that restarts is a new replica, and comes back as a learner. Ordered by node,
/// then by life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplicaId {
    /// The node.
    pub node: NodeNumber,
    /// Its life.
    pub incarnation: Incarnation,
}

impl ReplicaId {
    /// The order of replicas as one number: every message looks its sender up.
    fn rank(self) -> u64 {
        u64::from(self.node.0) << 32 | u64::from(self.incarnation.0)
    }
}

impl Ord for ReplicaId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for ReplicaId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node.0, self.incarnation.0)
    }
}

/// How many copies the arrays of a group want, and how many must be in sync for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// Copies wanted, 1 to [`limits::REPLICAS_MAX`].
    pub replicas: u8,
    /// In-sync copies without which nothing is written, 1 to `replicas`.
    pub min_in_sync: u8,
}

impl Class {
    /// Checks the two numbers.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`].
    pub fn new(replicas: u32, min_in_sync: u32) -> Result<Self, Failure> {
        let parts = u8::try_from(replicas).ok().zip(u8::try_from(min_in_sync).ok());
        match parts {
            Some((replicas, min_in_sync))
                if (1..=limits::REPLICAS_MAX).contains(&usize::from(replicas))
                    && (1..=replicas).contains(&min_in_sync) =>
            {
                Ok(Self { replicas, min_in_sync })
            }
            _ => {
                let message = format!(
                    "{} of which {min_in_sync} must be in sync",
                    Count(u64::from(replicas)).of("copy")
                );
                Err(Failure::new(ErrorCode::InvalidArgument, message).help(format!(
                    "ask for 1 to {} copies, and for 1 to that many in sync",
                    limits::REPLICAS_MAX
                )))
            }
        }
    }
}

/// One replication group: the shards of one class that fall into one partition. Ordered by partition, then by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupId {
    /// The slice of the ring.
    pub partition: PartitionId,
    /// The class of the arrays.
    pub class: Class,
}

impl GroupId {
    /// The order of groups as one number: every message looks its group up.
    fn rank(self) -> u64 {
        let class = u64::from(self.class.replicas) << 8 | u64::from(self.class.min_in_sync);
        u64::from(self.partition.0) << 16 | class
    }
}

impl Ord for GroupId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for GroupId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/r{}m{}", self.partition, self.class.replicas, self.class.min_in_sync)
    }
}

/// Who holds a group in one epoch. Only the catalog makes one, each time with the next epoch.
///
/// # Invariants
///
/// No replica is named twice; the primary is in sync; while it is not lost, somebody is in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The group.
    pub group: GroupId,
    /// Its version; 1 for the first.
    pub epoch: Epoch,
    /// Who orders operations.
    pub primary: ReplicaId,
    /// Replicas that hold every committed operation, the primary among them, in ascending order.
    pub in_sync: Vec<ReplicaId>,
    /// Replicas that are being brought up, in ascending order.
    pub learners: Vec<ReplicaId>,
    /// The last in-sync copy is gone: reads answer `DataLost` until an operator decides. `in_sync` names the last
    /// holders then.
    pub lost: bool,
}

/// What a config lets a replica do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigRole {
    /// It orders operations.
    Primary,
    /// It holds every committed operation.
    Backup,
    /// It is being brought up.
    Learner,
}

impl GroupConfig {
    /// What `replica` may do; `None` for nothing.
    pub fn role_of(&self, replica: ReplicaId) -> Option<ConfigRole> {
        if self.primary == replica {
            Some(ConfigRole::Primary)
        } else if self.in_sync.contains(&replica) {
            Some(ConfigRole::Backup)
        } else if self.learners.contains(&replica) {
            Some(ConfigRole::Learner)
        } else {
            None
        }
    }

    /// In-sync replicas, then learners.
    pub fn members(&self) -> impl Iterator<Item = ReplicaId> {
        self.in_sync.iter().chain(&self.learners).copied()
    }

    /// The earlier life of `me`'s node that is in sync, if one is.
    pub fn past_life(&self, me: ReplicaId) -> Option<Incarnation> {
        let in_sync = self.in_sync.iter().filter(|_| !self.lost);
        let past = in_sync.filter(|it| it.node == me.node && it.incarnation < me.incarnation);
        past.map(|it| it.incarnation).next()
    }

    /// Whether any replica of `node` is named.
    pub fn names(&self, node: NodeNumber) -> bool {
        self.members().any(|member| member.node == node)
    }

    /// Checks a config that came from outside.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Malformed`] when an invariant is broken.
    pub fn check(&self) -> Result<(), Failure> {
        let ascending = |ids: &[ReplicaId]| ids.windows(2).all(|pair| pair[0] < pair[1]);
        let sound = self.epoch.0 > 0
            && self.in_sync.len() + self.learners.len() <= limits::GROUP_MEMBERS_MAX
            && ascending(&self.in_sync)
            && ascending(&self.learners)
            && self.in_sync.contains(&self.primary)
            && !self.learners.iter().any(|learner| self.in_sync.contains(learner));
        if sound {
            Ok(())
        } else {
            Err(Failure::new(ErrorCode::Malformed, format!("config of group {}", self.group)))
        }
    }

    /// The bytes that a proof is about: the same for the same config on every machine, different for any other.
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + 8 * (self.in_sync.len() + self.learners.len()));
        bytes.extend_from_slice(&self.group.partition.0.to_le_bytes());
        bytes.extend_from_slice(&[self.group.class.replicas, self.group.class.min_in_sync]);
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.push(u8::from(self.lost));
        let mut push = |id: &ReplicaId| {
            bytes.extend_from_slice(&id.node.0.to_le_bytes());
            bytes.extend_from_slice(&id.incarnation.0.to_le_bytes());
        };
        push(&self.primary);
        let in_sync = u32::try_from(self.in_sync.len()).unwrap_or(u32::MAX);
        // The count in the place of a replica parts the two lists.
        push(&ReplicaId { node: NodeNumber(in_sync), incarnation: Incarnation(0) });
        self.in_sync.iter().for_each(&mut push);
        self.learners.iter().for_each(&mut push);
        bytes
    }
}

/// Says whether the catalog has made a config; the only way by which a config is believed.
///
/// Signatures stay outside the machines: the node checks the catalog's, the simulator a cheap stand-in.
pub trait ConfigVerifier: fmt::Debug + Send + Sync {
    /// Whether `proof` is the catalog's for exactly this config.
    fn is_proven(&self, config: &GroupConfig, proof: &[u8]) -> bool;
}

/// A wanted change of one group's config: a compare-and-set on the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The group.
    pub group: GroupId,
    /// The epoch that the proposer knows; the catalog refuses any other.
    pub epoch: Epoch,
    /// Who proposes.
    pub by: ReplicaId,
    /// What shall change.
    pub change: ConfigChange,
}

/// The changes of a config. All but [`Self::TakeOver`] come only from the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// A replica to bring up.
    AddLearner(ReplicaId),
    /// A learner that holds every committed operation becomes in sync.
    AddInSync(ReplicaId),
    /// A backup or a learner leaves.
    Remove(ReplicaId),
    /// An in-sync backup becomes the primary in place of one that fell silent, which leaves.
    TakeOver,
    /// An in-sync backup becomes the primary; the proposer stays as a backup.
    Handover(ReplicaId),
}
