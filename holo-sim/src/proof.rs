//! The catalog's certificates: a keyed hash in the place of signatures.

use bytes::Bytes;
use holo_core::replication::{ConfigVerifier, GroupConfig, ReplicaId};

use crate::rng::mix;

/// Makes and checks proofs of one run's catalog. Whoever lacks the key cannot make one: the simulator's forgers do not
/// look into it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyedProof {
    key: u64,
}

impl KeyedProof {
    /// Proofs under `key`.
    pub(crate) fn new(key: u64) -> Self {
        Self { key }
    }

    /// The catalog's proof of a config.
    pub(crate) fn prove(&self, config: &GroupConfig) -> Bytes {
        Bytes::copy_from_slice(&self.digest(config).to_le_bytes())
    }

    fn digest(&self, config: &GroupConfig) -> u64 {
        let mut digest = mix(self.key ^ u64::from(config.group.partition.0));
        let mut add = |word: u64| digest = mix(digest.rotate_left(7) ^ word);
        let class = config.group.class;
        add(u64::from(class.replicas) << 8 | u64::from(class.min_in_sync));
        add(config.epoch.0 << 1 | u64::from(config.lost));
        let word = |id: &ReplicaId| u64::from(id.node.0) << 32 | u64::from(id.incarnation.0);
        add(word(&config.primary));
        add(config.in_sync.len() as u64);
        config.in_sync.iter().chain(&config.learners).for_each(|id| add(word(id)));
        digest
    }
}

impl ConfigVerifier for KeyedProof {
    fn is_proven(&self, config: &GroupConfig, proof: &[u8]) -> bool {
        proof == self.digest(config).to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use holo_core::replication::{Class, GroupId, Incarnation, NodeNumber};
    use holo_core::{Epoch, PartitionId};

    use super::*;

    #[test]
    fn a_proof_is_for_one_config_under_one_key() {
        let id = |node| ReplicaId { node: NodeNumber(node), incarnation: Incarnation(1) };
        let config = GroupConfig {
            group: GroupId {
                partition: PartitionId(3),
                class: Class { replicas: 2, min_in_sync: 1 },
            },
            epoch: Epoch(4),
            primary: id(0),
            in_sync: vec![id(0), id(1)],
            learners: vec![id(2)],
            lost: false,
        };
        let proofs = KeyedProof::new(9);
        let proof = proofs.prove(&config);
        assert!(proofs.is_proven(&config, &proof));
        assert!(!KeyedProof::new(8).is_proven(&config, &proof));
        let mut other = config.clone();
        other.in_sync.push(id(2));
        other.learners.clear();
        assert!(!proofs.is_proven(&other, &proof));
        assert!(!proofs.is_proven(&GroupConfig { epoch: Epoch(5), ..config }, &proof));
    }
}
