//! The certificate: an Ed25519 key vouches for an X25519 static key, a role, a cluster and an end.
//!
//! ```text
//! Ed25519 public key 32 | role 1 | cluster id 32 | not after, Unix ms, little-endian 8 | signature 64
//! ```
//!
//! The signature covers a domain string, the X25519 public key and every field before it. The X25519 key itself is not
//! repeated: it travels in the Noise message, which also proves possession of it.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use holo_core::{ClusterId, PublicKey, Role, UnixMillis};

/// Bytes of an encoded certificate.
pub(crate) const CERTIFICATE_BYTES: usize = FIELDS_BYTES + Signature::BYTE_SIZE;

const FIELDS_BYTES: usize = 32 + 1 + 32 + 8;
const DOMAIN: &[u8] = b"holocompute net v1: certificate of a static key\0";

/// What a verified certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) key: PublicKey,
    pub(crate) role: Role,
    pub(crate) cluster: ClusterId,
    pub(crate) not_after: UnixMillis,
}

impl Certificate {
    /// Signs these facts for `static_public`, and encodes them.
    pub(crate) fn issue(
        signing: &SigningKey,
        role: Role,
        cluster: ClusterId,
        not_after: UnixMillis,
        static_public: &[u8; 32],
    ) -> [u8; CERTIFICATE_BYTES] {
        let mut encoded = [0; CERTIFICATE_BYTES];
        encoded[..32].copy_from_slice(signing.verifying_key().as_bytes());
        encoded[32] = role as u8;
        encoded[33..65].copy_from_slice(&cluster.0);
        encoded[65..FIELDS_BYTES].copy_from_slice(&not_after.0.to_le_bytes());
        let signature = signing.sign(&signed_message(static_public, &encoded[..FIELDS_BYTES]));
        encoded[FIELDS_BYTES..].copy_from_slice(&signature.to_bytes());
        encoded
    }

    /// Reads a certificate and checks its signature over `static_public`; `None` when it does not hold.
    ///
    /// Whether it has expired and what its facts are good for is for the caller to say.
    pub(crate) fn verify(encoded: &[u8], static_public: &[u8; 32]) -> Option<Self> {
        let encoded: &[u8; CERTIFICATE_BYTES] = encoded.try_into().ok()?;
        let (fields, signature) = encoded.split_at(FIELDS_BYTES);
        let key: [u8; 32] = fields[..32].try_into().ok()?;
        let role = Role::from_byte(fields[32])?;
        let cluster = ClusterId(fields[33..65].try_into().ok()?);
        let not_after = UnixMillis(u64::from_le_bytes(fields[65..].try_into().ok()?));
        let verifying = VerifyingKey::from_bytes(&key).ok()?;
        let signature = Signature::from_slice(signature).ok()?;
        verifying.verify_strict(&signed_message(static_public, fields), &signature).ok()?;
        Some(Self { key: PublicKey(key), role, cluster, not_after })
    }
}

fn signed_message(static_public: &[u8; 32], fields: &[u8]) -> Vec<u8> {
    [DOMAIN, static_public, fields].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ([u8; CERTIFICATE_BYTES], [u8; 32]) {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let static_public = [9; 32];
        let cluster = ClusterId([3; 32]);
        (
            Certificate::issue(&signing, Role::Node, cluster, UnixMillis(1234), &static_public),
            static_public,
        )
    }

    #[test]
    fn a_certificate_says_what_was_signed() {
        let (encoded, static_public) = sample();
        let certificate = Certificate::verify(&encoded, &static_public).unwrap();
        assert_eq!(certificate.role, Role::Node);
        assert_eq!(certificate.cluster, ClusterId([3; 32]));
        assert_eq!(certificate.not_after, UnixMillis(1234));
        assert_eq!(certificate.key.0, SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes());
    }

    #[test]
    fn every_flipped_bit_voids_a_certificate() {
        let (encoded, static_public) = sample();
        for bit in 0..CERTIFICATE_BYTES * 8 {
            let mut changed = encoded;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Certificate::verify(&changed, &static_public), None, "bit {bit}");
        }
    }

    #[test]
    fn a_certificate_is_worth_nothing_with_another_static_key() {
        let (encoded, _) = sample();
        assert_eq!(Certificate::verify(&encoded, &[8; 32]), None);
        assert_eq!(Certificate::verify(&encoded[..CERTIFICATE_BYTES - 1], &[9; 32]), None);
        assert_eq!(Certificate::verify(&[], &[9; 32]), None);
    }
}
