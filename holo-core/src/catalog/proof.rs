//! How a node knows that a config is the catalog's: one signature over the Merkle root of a batch, and a path to it.
//!
//! The cluster's root key vouches for the voters' signing keys ([`IssuerCertificate`]); a voter signs the root of each
//! batch of applied changes; each config travels with its path. A proof is about one config with its epoch: an old one
//! replayed proves what was true in its epoch and nothing else.
//!
//! ```text
//! proof: version 1 | issuer 32 | leaf index u32 | leaves u32 | path: length u8, 32 each | signature 64
//! ```
//!
//! Leaves and inner nodes are hashed under different keys, and the number of leaves is signed, so no inner node passes
//! for a leaf and no path has another shape.

use std::collections::BTreeMap;

use crate::catalog::changes::Subject;
use crate::catalog::command::Answer;
use crate::catalog::state::CatalogState;
use crate::catalog::statement::is_signed_by;
use crate::replication::GroupConfig;
use crate::{ClusterId, ErrorCode, Failure, PublicKey, UnixMillis, limits};

const PROOF_VERSION: u8 = 1;
/// A path is as long as the binary logarithm of the most leaves.
const PATH_MAX: usize = 32;
const ROOT_DOMAIN: &[u8] = b"holocompute catalog v1: root of a batch of configs\0";
const ISSUER_DOMAIN: &[u8] = b"holocompute catalog v1: a key signs for the catalog\0";

/// The Merkle tree of a batch of configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MerkleBatch {
    /// From the leaves to the root.
    levels: Vec<Vec<[u8; 32]>>,
}

/// The tree of these configs, in this order; [`MerkleBatch::proof`] takes the place of each.
pub fn config_root(batch: &[GroupConfig]) -> MerkleBatch {
    let mut levels = vec![batch.iter().map(leaf).collect::<Vec<_>>()];
    while let Some(last) = levels.last()
        && last.len() > 1
    {
        // One that is left over goes up as it is.
        let next = last.chunks(2).map(|pair| match pair {
            [left, right] => inner(left, right),
            _ => pair.first().copied().unwrap_or_default(),
        });
        let next = next.collect();
        levels.push(next);
    }
    MerkleBatch { levels }
}

impl MerkleBatch {
    /// How many configs it has.
    pub fn leaves(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// What an issuer signs; `None` for an empty batch.
    pub fn statement(&self, cluster: ClusterId) -> Option<Vec<u8>> {
        let root = self.levels.last()?.first()?;
        let leaves = u32::try_from(self.leaves()).ok()?;
        Some(root_statement(cluster, leaves, root))
    }

    /// The proof of the config at `index`, with the issuer's signature over [`Self::statement`]; `None` past the last one.
    pub fn proof(
        &self,
        index: usize,
        issuer: PublicKey,
        signature: &[u8; 64],
    ) -> Option<CatalogProof> {
        let leaves = u32::try_from(self.leaves()).ok()?;
        if index >= self.leaves() {
            return None;
        }
        let mut path = Vec::with_capacity(self.levels.len());
        let mut place = index;
        for level in &self.levels[..self.levels.len() - 1] {
            path.extend(level.get(place ^ 1).copied());
            place /= 2;
        }
        let index = u32::try_from(index).ok()?;
        Some(CatalogProof { issuer, index, leaves, path, signature: *signature })
    }
}

/// The proof that travels with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogProof {
    issuer: PublicKey,
    index: u32,
    leaves: u32,
    path: Vec<[u8; 32]>,
    signature: [u8; 64],
}

impl CatalogProof {
    /// Who signed.
    pub fn issuer(&self) -> PublicKey {
        self.issuer
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(106 + 32 * self.path.len());
        bytes.push(PROOF_VERSION);
        bytes.extend_from_slice(&self.issuer.0);
        bytes.extend_from_slice(&self.index.to_le_bytes());
        bytes.extend_from_slice(&self.leaves.to_le_bytes());
        bytes.push(u8::try_from(self.path.len()).unwrap_or(u8::MAX));
        bytes.extend(self.path.iter().flatten());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads a proof; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, bytes) = bytes.split_first()?;
        let (issuer, bytes) = bytes.split_first_chunk::<32>()?;
        let (index, bytes) = bytes.split_first_chunk::<4>()?;
        let (leaves, bytes) = bytes.split_first_chunk::<4>()?;
        let (length, bytes) = bytes.split_first()?;
        let length = usize::from(*length);
        if *version != PROOF_VERSION || length > PATH_MAX || bytes.len() != 32 * length + 64 {
            return None;
        }
        let (path, signature) = bytes.split_at(32 * length);
        let (path, _) = path.as_chunks::<32>();
        Some(Self {
            issuer: PublicKey(*issuer),
            index: u32::from_le_bytes(*index),
            leaves: u32::from_le_bytes(*leaves),
            path: path.to_vec(),
            signature: signature.try_into().ok()?,
        })
    }

    /// What its issuer must have signed if it proves this config for this cluster; `None` when it proves another.
    /// Whether the issuer may is [`IssuerVerifier`]'s.
    pub fn signed(&self, cluster: ClusterId, config: &GroupConfig) -> Option<Signed> {
        let root = self.root_of(leaf(config))?;
        let statement = root_statement(cluster, self.leaves, &root);
        Some(Signed { issuer: self.issuer, statement, signature: self.signature })
    }

    /// The root that the path leads to; `None` when the path has another length than the tree.
    fn root_of(&self, leaf: [u8; 32]) -> Option<[u8; 32]> {
        if self.index >= self.leaves {
            return None;
        }
        let (mut place, mut width, mut hash) = (self.index, self.leaves, leaf);
        let mut path = self.path.iter();
        while width > 1 {
            if place % 2 == 1 {
                hash = inner(path.next()?, &hash);
            } else if place + 1 < width {
                hash = inner(&hash, path.next()?);
            }
            place /= 2;
            width = width.div_ceil(2);
        }
        path.next().is_none().then_some(hash)
    }
}

/// A statement with the signature that shall be its issuer's. All configs of a batch lead to the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    issuer: PublicKey,
    statement: Vec<u8>,
    signature: [u8; 64],
}

impl Signed {
    /// Whether the signature is the issuer's.
    pub fn is_genuine(&self) -> bool {
        is_signed_by(self.issuer, &self.statement, &self.signature)
    }
}

fn leaf(config: &GroupConfig) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("holocompute 2026 catalog: a config as a leaf");
    hasher.update(&config.canonical_bytes());
    *hasher.finalize().as_bytes()
}

fn inner(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("holocompute 2026 catalog: two hashes as one");
    hasher.update(left);
    hasher.update(right);
    *hasher.finalize().as_bytes()
}

fn root_statement(cluster: ClusterId, leaves: u32, root: &[u8; 32]) -> Vec<u8> {
    [ROOT_DOMAIN, &cluster.0, &leaves.to_le_bytes(), root].concat()
}

/// The cluster's root key vouches for a voter's signing key, until some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerCertificate {
    /// The signing key.
    pub issuer: PublicKey,
    /// When it ends.
    pub not_after: UnixMillis,
    /// By the root key over [`issuer_statement`].
    pub signature: [u8; 64],
}

/// What the root key signs to let a key sign for the catalog.
pub fn issuer_statement(cluster: ClusterId, issuer: PublicKey, not_after: UnixMillis) -> Vec<u8> {
    [ISSUER_DOMAIN, &cluster.0, &issuer.0, &not_after.0.to_le_bytes()].concat()
}

impl IssuerCertificate {
    /// Whether `root` signed it for this cluster.
    pub fn is_signed_by(&self, cluster: ClusterId, root: PublicKey) -> bool {
        let statement = issuer_statement(cluster, self.issuer, self.not_after);
        is_signed_by(root, &statement, &self.signature)
    }
}

/// Believes configs that an issuer signed whom the root key vouches for.
#[derive(Clone, Debug)]
pub struct IssuerVerifier {
    cluster: ClusterId,
    root: PublicKey,
    issuers: BTreeMap<PublicKey, UnixMillis>,
}

impl IssuerVerifier {
    /// Believes nothing yet. The cluster's id is BLAKE3 of `root`.
    pub fn new(root: PublicKey) -> Self {
        let cluster = ClusterId(*blake3::hash(&root.0).as_bytes());
        Self { cluster, root, issuers: BTreeMap::new() }
    }

    /// Believes this issuer from now on.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::IdentityMismatch`] when the root did not sign it, [`ErrorCode::CertificateExpired`],
    /// [`ErrorCode::OutOfCapacity`] past [`limits::ISSUERS_MAX`] issuers.
    pub fn trust(
        &mut self,
        certificate: &IssuerCertificate,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        if certificate.not_after <= now {
            return Err(Failure::new(ErrorCode::CertificateExpired, "an issuer's certificate"));
        }
        if self.issuers.get(&certificate.issuer).is_some_and(|end| *end >= certificate.not_after) {
            return Ok(());
        }
        if !certificate.is_signed_by(self.cluster, self.root) {
            let message =
                format!("the root does not vouch for issuer {}", certificate.issuer.short());
            return Err(Failure::new(ErrorCode::IdentityMismatch, message));
        }
        self.forget_expired(now);
        if self.issuers.len() >= limits::ISSUERS_MAX {
            return Err(Failure::new(ErrorCode::OutOfCapacity, "too many issuers"));
        }
        self.issuers.insert(certificate.issuer, certificate.not_after);
        Ok(())
    }

    /// Whether an issuer that the root vouches for at `now` signed this config.
    #[cfg(test)]
    pub(super) fn is_proven(&self, config: &GroupConfig, proof: &[u8], now: UnixMillis) -> bool {
        self.signed(config, proof, now).is_some_and(|signed| signed.is_genuine())
    }

    /// What has to be genuine for this config to be proven at `now`; `None` when nothing proves it, as the issuer is not
    /// one that the root vouches for or the proof is about another config.
    pub fn signed(&self, config: &GroupConfig, proof: &[u8], now: UnixMillis) -> Option<Signed> {
        let proof = CatalogProof::decode(proof)?;
        self.issuers.get(&proof.issuer).filter(|end| **end > now)?;
        proof.signed(self.cluster, config)
    }

    fn forget_expired(&mut self, now: UnixMillis) {
        self.issuers.retain(|_, end| *end > now);
    }
}

impl CatalogState {
    pub(super) fn put_issuer(&mut self, certificate: IssuerCertificate) -> Result<Answer, Failure> {
        if !certificate.is_signed_by(self.cluster, self.root) {
            let message =
                format!("the root does not vouch for issuer {}", certificate.issuer.short());
            return Err(Failure::new(ErrorCode::IdentityMismatch, message));
        }
        if certificate.not_after <= self.now {
            return Err(Failure::new(ErrorCode::CertificateExpired, "an issuer's certificate"));
        }
        let known = self.issuers.get(&certificate.issuer);
        if known.is_some_and(|known| known.not_after >= certificate.not_after) {
            return Ok(Answer::Done);
        }
        let now = self.now;
        let over: Vec<PublicKey> =
            self.issuers.values().filter(|it| it.not_after <= now).map(|it| it.issuer).collect();
        if self.issuers.len() - over.len() >= limits::ISSUERS_MAX {
            return Err(Failure::new(ErrorCode::OutOfCapacity, "too many issuers"));
        }
        for key in over {
            self.issuers.remove(&key);
            self.touch(Subject::Issuer(Box::new(key)));
        }
        self.touch(Subject::Issuer(Box::new(certificate.issuer)));
        self.issuers.insert(certificate.issuer, certificate);
        Ok(Answer::Done)
    }
}
