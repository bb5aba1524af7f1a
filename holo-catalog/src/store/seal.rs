//! What one value of the file looks like: encrypted, or at least checksummed, and bound to its place.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use holo_core::{ErrorCode, Failure};

use crate::options::AtRestKey;

/// First byte of a value that is only checksummed.
const PLAIN: u8 = 0;
/// First byte of a value that is encrypted.
const SEALED: u8 = 1;
const CHECKSUM_BYTES: usize = 16;
const SALT_BYTES: usize = 16;
const COUNTER_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const PLAIN_HEAD_BYTES: usize = 1 + CHECKSUM_BYTES;
const SEALED_HEAD_BYTES: usize = 1 + SALT_BYTES + COUNTER_BYTES;
/// What the keys of values are derived for; part of the format.
const VALUE_KEY_CONTEXT: &str = "holo-catalog 2026 key of the values of one process";
/// What the name of an at-rest key is derived for; part of the format.
const KEY_NAME_CONTEXT: &str = "holo-catalog 2026 name of an at-rest key";

/// Seals and opens values. Every process start has a key of its own, derived from the at-rest key and a random salt
/// that stands in each value, so that a counter is enough for nonces never to repeat.
pub(super) struct Sealer {
    current: Option<Current>,
}

struct Current {
    root: AtRestKey,
    salt: [u8; SALT_BYTES],
    key: LessSafeKey,
    counter: AtomicU64,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("encrypts", &self.current.is_some()).finish()
    }
}

impl Sealer {
    /// # Errors
    ///
    /// [`ErrorCode::Internal`] when the system gives no randomness.
    pub(super) fn new(root: Option<AtRestKey>) -> Result<Self, Failure> {
        let Some(root) = root else {
            return Ok(Self { current: None });
        };
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)
            .map_err(|source| Failure::new(ErrorCode::Internal, format!("randomness: {source}")))?;
        let key = value_key(&root, &salt)?;
        Ok(Self { current: Some(Current { root, salt, key, counter: AtomicU64::new(0) }) })
    }

    /// What tells at-rest keys apart without telling them: 16 bytes, all zero without a key.
    pub(super) fn key_name(&self) -> [u8; 16] {
        let mut name = [0; 16];
        if let Some(current) = &self.current {
            let derived = blake3::derive_key(KEY_NAME_CONTEXT, current.root.bytes());
            name.copy_from_slice(&derived[..16]);
        }
        name
    }

    /// The bytes to store for `value` at `place`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Internal`] when the cipher refuses.
    pub(super) fn seal(&self, place: &[u8], value: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut stored = vec![0; self.sealed_bytes(value.len())];
        self.seal_into(place, value, &mut stored)?;
        Ok(stored)
    }

    /// How many bytes are stored for a value of `bytes` bytes.
    pub(super) fn sealed_bytes(&self, bytes: usize) -> usize {
        match self.current {
            Some(_) => SEALED_HEAD_BYTES + bytes + TAG_BYTES,
            None => PLAIN_HEAD_BYTES + bytes,
        }
    }

    /// As [`Sealer::seal`], into `stored` of [`Sealer::sealed_bytes`] bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Internal`] when the cipher refuses or `stored` has another length.
    pub(super) fn seal_into(
        &self,
        place: &[u8],
        value: &[u8],
        stored: &mut [u8],
    ) -> Result<(), Failure> {
        let internal = |what: String| Failure::new(ErrorCode::Internal, what);
        if stored.len() != self.sealed_bytes(value.len()) {
            return Err(internal(format!("room of {} bytes for a value", stored.len())));
        }
        let Some(current) = &self.current else {
            write_plain(place, value, stored);
            return Ok(());
        };
        let counter = current.counter.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let (head, rest) = stored.split_at_mut(SEALED_HEAD_BYTES);
        let (body, end) = rest.split_at_mut(value.len());
        head[0] = SEALED;
        head[1..=SALT_BYTES].copy_from_slice(&current.salt);
        head[1 + SALT_BYTES..].copy_from_slice(&counter);
        body.copy_from_slice(value);
        let tag = current
            .key
            .seal_in_place_separate_tag(nonce(&counter), Aad::from(place), body)
            .map_err(|source| internal(format!("encryption: {source}")))?;
        end.copy_from_slice(tag.as_ref());
        Ok(())
    }

    /// As [`Sealer::seal`], but never encrypted: for what must be readable before a key is believed.
    pub(super) fn seal_plain(&self, place: &[u8], value: &[u8]) -> Vec<u8> {
        let mut stored = vec![0; PLAIN_HEAD_BYTES + value.len()];
        write_plain(place, value, &mut stored);
        stored
    }

    /// The value that was stored at `place`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Corrupt`] when these are not the bytes that were stored there, with this key.
    pub(super) fn open(&self, place: &[u8], stored: &[u8]) -> Result<Vec<u8>, Failure> {
        match (stored.first(), &self.current) {
            (Some(&PLAIN), None) => self.open_plain(place, stored),
            (Some(&SEALED), Some(current)) if stored.len() >= SEALED_HEAD_BYTES + TAG_BYTES => {
                let (head, body) = stored.split_at(SEALED_HEAD_BYTES);
                let (salt, counter) = head[1..].split_at(SALT_BYTES);
                let derived = (salt != current.salt).then(|| value_key(&current.root, salt));
                let derived = derived.transpose()?;
                let key = derived.as_ref().unwrap_or(&current.key);
                let mut value = body.to_vec();
                let bytes = key
                    .open_in_place(nonce(counter), Aad::from(place), &mut value)
                    .map_err(|_unspecified| corrupt(place))?
                    .len();
                value.truncate(bytes);
                Ok(value)
            }
            _ => Err(corrupt(place)),
        }
    }

    /// The value that [`Sealer::seal_plain`] stored at `place`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::Corrupt`] when these are not the bytes that were stored there.
    pub(super) fn open_plain(&self, place: &[u8], stored: &[u8]) -> Result<Vec<u8>, Failure> {
        let (Some(&PLAIN), Some((expected, value))) = (
            stored.first(),
            stored.get(1..).and_then(|rest| rest.split_at_checked(CHECKSUM_BYTES)),
        ) else {
            return Err(corrupt(place));
        };
        if checksum(place, value) != expected {
            return Err(corrupt(place));
        }
        Ok(value.to_vec())
    }
}

/// Fills `stored`, which has room for exactly that, with a checksummed value.
fn write_plain(place: &[u8], value: &[u8], stored: &mut [u8]) {
    let (head, body) = stored.split_at_mut(PLAIN_HEAD_BYTES);
    head[0] = PLAIN;
    head[1..].copy_from_slice(&checksum(place, value));
    body.copy_from_slice(value);
}

fn corrupt(place: &[u8]) -> Failure {
    Failure::new(
        ErrorCode::Corrupt,
        format!("the value at `{}` is not what was written", place.escape_ascii()),
    )
}

fn checksum(place: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(place.len() as u64).to_le_bytes());
    hasher.update(place);
    hasher.update(value);
    let mut checksum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut checksum);
    checksum
}

fn value_key(root: &AtRestKey, salt: &[u8]) -> Result<LessSafeKey, Failure> {
    let mut hasher = blake3::Hasher::new_derive_key(VALUE_KEY_CONTEXT);
    hasher.update(root.bytes());
    hasher.update(salt);
    let derived = zeroize::Zeroizing::new(*hasher.finalize().as_bytes());
    let key = UnboundKey::new(&AES_256_GCM, derived.as_slice())
        .map_err(|source| Failure::new(ErrorCode::Internal, format!("a derived key: {source}")))?;
    Ok(LessSafeKey::new(key))
}

/// The counter and four zero bytes.
fn nonce(counter: &[u8]) -> Nonce {
    let mut bytes = [0; 12];
    bytes[..COUNTER_BYTES].copy_from_slice(counter);
    Nonce::assume_unique_for_key(bytes)
}
