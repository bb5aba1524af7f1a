//! Proofs of configs: a voter signs them in batches, a follower makes each one's proof from a batch's signature.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use ed25519_dalek::{Signer, SigningKey};
use holo_core::catalog::{IssuerCertificate, IssuerVerifier, Signed, config_root, is_signed_by};
use holo_core::replication::{ConfigVerifier, GroupConfig, GroupId};
use holo_core::{ClusterId, Epoch, ErrorCode, Failure, PublicKey, UnixMillis};
use parking_lot::{Mutex, RwLock};

use crate::clock::Clock;
use crate::home::SharedSecrets;

/// Signatures that are remembered as genuine.
const GENUINE_KEPT: usize = 16;

/// A proof with the config that it is about.
pub(crate) type Proven = (GroupId, Epoch, Bytes);

/// Signs for the catalog.
pub(crate) struct Prover {
    key: SigningKey,
    cluster: ClusterId,
}

impl fmt::Debug for Prover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prover").field("issuer", &self.issuer()).finish_non_exhaustive()
    }
}

impl Prover {
    pub(crate) fn new(secrets: &SharedSecrets, cluster: ClusterId) -> Self {
        Self { key: SigningKey::from_bytes(&secrets.issuer_seed), cluster }
    }

    /// The key that it signs with.
    pub(crate) fn issuer(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// Signs any statement.
    pub(crate) fn sign(&self, statement: &[u8]) -> [u8; 64] {
        self.key.sign(statement).to_bytes()
    }

    /// The signature over a batch of configs; `None` for an empty one.
    pub(crate) fn sign_batch(&self, configs: &[GroupConfig]) -> Option<[u8; 64]> {
        config_root(configs).statement(self.cluster).map(|statement| self.sign(&statement))
    }

    /// Proofs of configs.
    pub(crate) fn prove(&self, configs: &[GroupConfig]) -> Vec<Proven> {
        let signature = self.sign_batch(configs);
        signature.map_or_else(Vec::new, |it| proofs(configs, self.issuer(), &it))
    }
}

/// Makes the proofs of a batch from its signature.
///
/// # Errors
///
/// [`ErrorCode::IdentityMismatch`] when the issuer did not sign this batch.
pub(crate) fn check_batch(
    configs: &[GroupConfig],
    cluster: ClusterId,
    issuer: &[u8],
    signature: &[u8],
) -> Result<Vec<Proven>, Failure> {
    let Some(statement) = config_root(configs).statement(cluster) else { return Ok(Vec::new()) };
    let refuse =
        || Failure::new(ErrorCode::IdentityMismatch, "configs that the catalog did not sign");
    let issuer = PublicKey::from_slice(issuer)?;
    let signature: [u8; 64] = signature.try_into().ok().ok_or_else(refuse)?;
    if !is_signed_by(issuer, &statement, &signature) {
        return Err(refuse());
    }
    Ok(proofs(configs, issuer, &signature))
}

fn proofs(configs: &[GroupConfig], issuer: PublicKey, signature: &[u8; 64]) -> Vec<Proven> {
    let tree = config_root(configs);
    let proof = |(index, config): (usize, &GroupConfig)| {
        let proof = tree.proof(index, issuer, signature)?;
        Some((config.group, config.epoch, Bytes::from(proof.encode())))
    };
    configs.iter().enumerate().filter_map(proof).collect()
}

/// Says whether the catalog made a config; shared with the data plane.
#[derive(Debug)]
pub(crate) struct Verifier {
    issuers: RwLock<IssuerVerifier>,
    /// The latest that were found genuine: a batch's configs come one by one, and checking a signature takes longer than
    /// all else that is done with one.
    genuine: Mutex<VecDeque<Signed>>,
    clock: Clock,
}

impl Verifier {
    /// Believes issuers that this root vouches for.
    pub(crate) fn new(root: PublicKey, clock: Clock) -> Self {
        let issuers = RwLock::new(IssuerVerifier::new(root));
        Self { issuers, genuine: Mutex::default(), clock }
    }

    /// Takes over issuers. One that is expired or not vouched for is left out.
    pub(crate) fn learn<'a>(
        &self,
        issuers: impl IntoIterator<Item = &'a IssuerCertificate>,
        now: UnixMillis,
    ) {
        let mut verifier = self.issuers.write();
        for certificate in issuers {
            if let Err(failure) = verifier.trust(certificate, now) {
                tracing::warn!(issuer = %certificate.issuer.short(), %failure, "an issuer is not believed");
            }
        }
    }
}

impl ConfigVerifier for Verifier {
    fn is_proven(&self, config: &GroupConfig, proof: &[u8]) -> bool {
        let signed = self.issuers.read().signed(config, proof, self.clock.wall());
        let Some(signed) = signed else { return false };
        if self.genuine.lock().contains(&signed) {
            return true;
        }
        if !signed.is_genuine() {
            return false;
        }
        let mut genuine = self.genuine.lock();
        genuine.truncate(GENUINE_KEPT - 1);
        genuine.push_front(signed);
        true
    }
}

#[cfg(test)]
mod tests {
    use holo_core::PartitionId;
    use holo_core::replication::{Class, Incarnation, NodeNumber, ReplicaId};
    use zeroize::Zeroizing;

    use super::*;
    use crate::home::sign_issuer;

    fn configs(count: u32) -> Vec<GroupConfig> {
        let primary = ReplicaId { node: NodeNumber(1), incarnation: Incarnation(1) };
        let config = |partition| GroupConfig {
            group: GroupId {
                partition: PartitionId(partition),
                class: Class { replicas: 1, min_in_sync: 1 },
            },
            epoch: Epoch(4),
            primary,
            in_sync: vec![primary],
            learners: Vec::new(),
            lost: false,
        };
        (0..count).map(config).collect()
    }

    #[test]
    fn a_follower_makes_the_same_proofs_as_the_voter_and_all_are_believed() {
        let clock = Clock::start();
        let (root_seed, now) = ([3; 32], clock.wall());
        let root = PublicKey(SigningKey::from_bytes(&root_seed).verifying_key().to_bytes());
        let cluster = ClusterId(*blake3::hash(&root.0).as_bytes());
        let issuer_seed = Zeroizing::new([4; 32]);
        let secrets = SharedSecrets { placement: Zeroizing::new([5; 32]), issuer_seed };
        let prover = Prover::new(&secrets, cluster);
        let verifier = Verifier::new(root, clock);
        let configs = configs(5);
        let signature = prover.sign_batch(&configs).unwrap();
        let made = check_batch(&configs, cluster, &prover.issuer().0, &signature).unwrap();
        assert_eq!(made, prover.prove(&configs));
        assert!(!verifier.is_proven(&configs[0], &made[0].2), "its issuer is not known yet");
        verifier.learn(&[sign_issuer(&root_seed, &[4; 32], now)], now);
        for (config, (_, _, proof)) in configs.iter().zip(&made) {
            assert!(verifier.is_proven(config, proof));
        }
        assert!(!verifier.is_proven(&configs[1], &made[0].2), "each proof is about one config");
        let mut broken = made[0].2.to_vec();
        *broken.last_mut().unwrap() ^= 1;
        assert!(!verifier.is_proven(&configs[0], &broken), "another signature was remembered");
        let mut forged = configs;
        forged[2].epoch = Epoch(5);
        let refused = check_batch(&forged, cluster, &prover.issuer().0, &signature).unwrap_err();
        assert_eq!(refused.code, ErrorCode::IdentityMismatch);
    }
}
