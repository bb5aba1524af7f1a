//! Who this process is: a long-lived Ed25519 key, and the short-lived X25519 key that it certifies.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::agreement;
use ed25519_dalek::SigningKey;
use holo_core::{ClusterId, ErrorCode, Failure, PublicKey, Role, UnixMillis};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::certificate::{CERTIFICATE_BYTES, Certificate};
use crate::clock::whole_millis;

#[cfg(test)]
mod tests;

/// Bytes of an identity file: it is a handful of short lines.
const FILE_BYTES_MAX: u64 = 4096;
const FILE_HEAD: &str =
    "# HoloCompute identity: whoever reads this file can act as this party.\nversion = 1\n";

/// An Ed25519 identity with its role and cluster, and a fresh X25519 static key certified by it.
///
/// The static key lives for `lifetime`; half-way through, the next handshake makes a new one, so that a process that
/// runs for months never shows an old certificate. Connections end with the certificate they began with.
pub struct Identity {
    signing: SigningKey,
    role: Role,
    cluster: ClusterId,
    lifetime: Duration,
    renews: bool,
    current: Mutex<Arc<Credentials>>,
}

impl Identity {
    /// Makes a new identity that nobody knows yet.
    ///
    /// `lifetime` is how long each static key is good for, counted from `now`.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Randomness`] when the system gives no random bytes.
    pub fn generate(
        role: Role,
        cluster: ClusterId,
        lifetime: Duration,
        now: UnixMillis,
    ) -> Result<Self, IdentityError> {
        let mut seed = Zeroizing::new([0; 32]);
        fill_random(&mut *seed)?;
        Self::from_seed(&seed, role, cluster, lifetime, now)
    }

    /// The identity of an Ed25519 seed.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Randomness`] when the system gives no random bytes for the static key.
    pub fn from_seed(
        seed: &[u8; 32],
        role: Role,
        cluster: ClusterId,
        lifetime: Duration,
        now: UnixMillis,
    ) -> Result<Self, IdentityError> {
        let signing = SigningKey::from_bytes(seed);
        let credentials = Credentials::make(&signing, role, cluster, lifetime, now)?;
        Ok(Self {
            signing,
            role,
            cluster,
            lifetime,
            renews: true,
            current: Mutex::new(Arc::new(credentials)),
        })
    }

    /// Writes the identity to a new file that only its owner may read.
    ///
    /// The static key is not written: the next load makes a fresh one.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Exists`] when there is a file already; it is left as it is. [`IdentityError::File`] when the
    /// file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let file_error = |source| IdentityError::File { path: path.to_owned(), source };
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
        {
            Ok(file) => file,
            Err(source) if source.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(IdentityError::Exists { path: path.to_owned(), source });
            }
            Err(source) => return Err(file_error(source)),
        };
        let text = self.to_text();
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(file_error)
    }

    /// Reads an identity and makes a fresh static key, good for `lifetime` from `now`.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Exposed`] when others than the owner may read the file, [`IdentityError::Format`] when it is no
    /// identity, [`IdentityError::File`] when it cannot be read.
    pub fn load(path: &Path, lifetime: Duration, now: UnixMillis) -> Result<Self, IdentityError> {
        let file_error = |source| IdentityError::File { path: path.to_owned(), source };
        let format_error = |why| IdentityError::Format { path: path.to_owned(), why };
        let file = File::open(path).map_err(file_error)?;
        let metadata = file.metadata().map_err(file_error)?;
        if !metadata.is_file() {
            return Err(format_error("it is not a regular file"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(IdentityError::Exposed {
                path: path.to_owned(),
                mode: metadata.mode() & 0o777,
            });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(1024));
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(file_error)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format_error("it is longer than 4096 bytes"));
        }
        let parsed = ParsedFile::parse(&bytes).map_err(format_error)?;
        Self::from_seed(&parsed.seed, parsed.role, parsed.cluster, lifetime, now)
    }

    /// The Ed25519 public key: the name of this party.
    pub fn key(&self) -> PublicKey {
        PublicKey(self.signing.verifying_key().to_bytes())
    }

    /// What it may be in the cluster.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Keeps the first static key for ever, so that a test can watch it expire.
    #[doc(hidden)]
    #[must_use]
    pub fn danger_without_renewal_for_testing_only(mut self) -> Self {
        self.renews = false;
        self
    }

    /// The static key to use for a handshake at `now`; a new one when half of the old one's life is over.
    pub(crate) fn credentials(&self, now: UnixMillis) -> Arc<Credentials> {
        let mut current = self.current.lock();
        let renew_at = current.made_at.0.saturating_add(whole_millis(self.lifetime) / 2);
        if self.renews && now.0 >= renew_at {
            match Credentials::make(&self.signing, self.role, self.cluster, self.lifetime, now) {
                Ok(fresh) => *current = Arc::new(fresh),
                // The old one is still good for half of its life; the next handshake tries again.
                Err(error) => tracing::warn!(%error, "static key not renewed"),
            }
        }
        Arc::clone(&current)
    }

    /// A key for one purpose, the same after every restart; it says nothing about the identity's seed.
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(purpose, self.signing.as_bytes()))
    }

    fn to_text(&self) -> Zeroizing<String> {
        // One allocation of the final size: growth would leave copies of the seed behind.
        let mut text = Zeroizing::new(String::with_capacity(512));
        text.push_str(FILE_HEAD);
        text.push_str("role = \"");
        text.push_str(role_name(self.role));
        text.push_str("\"\ncluster = \"");
        text.push_str(&self.cluster.to_hex());
        text.push_str("\"\nseed = \"");
        for byte in self.signing.as_bytes() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text.push_str("\"\n");
        text
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("key", &self.key())
            .field("role", &self.role)
            .field("cluster", &self.cluster)
            .field("seed", &"<redacted>")
            .finish_non_exhaustive()
    }
}

/// A static key and the certificate that goes with it.
pub(crate) struct Credentials {
    pub(crate) static_private: Zeroizing<[u8; 32]>,
    pub(crate) certificate: [u8; CERTIFICATE_BYTES],
    pub(crate) not_after: UnixMillis,
    made_at: UnixMillis,
}

impl Credentials {
    fn make(
        signing: &SigningKey,
        role: Role,
        cluster: ClusterId,
        lifetime: Duration,
        now: UnixMillis,
    ) -> Result<Self, IdentityError> {
        let mut static_private = Zeroizing::new([0; 32]);
        fill_random(&mut *static_private)?;
        Self::with_static_key(signing, role, cluster, lifetime, now, static_private)
    }

    pub(crate) fn with_static_key(
        signing: &SigningKey,
        role: Role,
        cluster: ClusterId,
        lifetime: Duration,
        now: UnixMillis,
        static_private: Zeroizing<[u8; 32]>,
    ) -> Result<Self, IdentityError> {
        let not_after = UnixMillis(now.0.saturating_add(whole_millis(lifetime)));
        let private = agreement::PrivateKey::from_private_key(&agreement::X25519, &*static_private)
            .map_err(|source| IdentityError::StaticKey(source.to_string()))?;
        let public = private
            .compute_public_key()
            .map_err(|source| IdentityError::StaticKey(source.to_string()))?;
        let public: [u8; 32] =
            public.as_ref().try_into().map_err(|source: std::array::TryFromSliceError| {
                IdentityError::StaticKey(source.to_string())
            })?;
        let certificate = Certificate::issue(signing, role, cluster, not_after, &public);
        Ok(Self { static_private, certificate, not_after, made_at: now })
    }

    /// The same static key under a certificate that may not fit it.
    #[cfg(test)]
    pub(crate) fn for_testing_only(own: &Self, certificate: [u8; CERTIFICATE_BYTES]) -> Self {
        Self { certificate, static_private: own.static_private.clone(), ..*own }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Why there is no identity to work with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The system gave no random bytes. Nothing was made.
    #[error("no random bytes from the system: {0}")]
    Randomness(#[source] getrandom::Error),
    /// The crypto library refused a fresh static key: a bug or a broken build. Nothing was made.
    #[error("no static key: {0}")]
    StaticKey(String),
    /// The file could not be read or written; a new file may be half-written.
    #[error("identity file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// There is a file already; it was left as it is.
    #[error("identity file {} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Others than the owner may read the file.
    #[error("identity file {} has mode {mode:o}: others than its owner may read it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no identity of a version that we read.
    #[error("identity file {}: {why}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let message = error.to_string();
        match error {
            IdentityError::Randomness(_) | IdentityError::StaticKey(_) => {
                Self::new(ErrorCode::Internal, message)
            }
            IdentityError::File { source, .. } => Self::new(ErrorCode::of_file(source.kind()), message)
                .help("check the path; a client's is in HOLO_IDENTITY or --identity, and `holo init` and `holo dev` print theirs"),
            IdentityError::Exists { .. } => Self::new(ErrorCode::AlreadyExists, message)
                .help("an identity is never overwritten; move the file away to make a new one"),
            IdentityError::Exposed { path, .. } => Self::new(ErrorCode::ConfigInvalid, message)
                .help(format!("run chmod 600 {}", path.display())),
            IdentityError::Format { .. } => Self::new(ErrorCode::ConfigInvalid, message)
                .help("name the file that `holo init`, `holo dev` or `holo principal add --new` made"),
        }
    }
}

struct ParsedFile {
    role: Role,
    cluster: ClusterId,
    seed: Zeroizing<[u8; 32]>,
}

impl ParsedFile {
    fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(bytes).ok().ok_or("it is not UTF-8 text")?;
        let (mut version, mut role, mut cluster, mut seed) = (None, None, None, None);
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line.split_once('=').ok_or("a line is not `name = value`")?;
            let value = value.trim();
            let field = match name.trim() {
                "version" => &mut version,
                "role" => &mut role,
                "cluster" => &mut cluster,
                "seed" => &mut seed,
                _ => return Err("a line has an unknown name"),
            };
            if field.replace(value).is_some() {
                return Err("a name stands there twice");
            }
        }
        if version != Some("1") {
            return Err("version 1 is needed");
        }
        let role = match unquoted(role)? {
            "node" => Role::Node,
            "client" => Role::Client,
            _ => return Err("the role is neither node nor client"),
        };
        let cluster = ClusterId::from_hex(unquoted(cluster)?)
            .ok()
            .ok_or("the cluster is not 64 hexadecimal digits")?;
        let seed = seed_from_hex(unquoted(seed)?).ok_or("the seed is not 64 hexadecimal digits")?;
        Ok(Self { role, cluster, seed })
    }
}

fn unquoted(value: Option<&str>) -> Result<&str, &'static str> {
    value
        .and_then(|value| value.strip_prefix('"')?.strip_suffix('"'))
        .ok_or("role, cluster or seed is missing or not in quotes")
}

fn seed_from_hex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(seed)
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Node => "node",
        Role::Client => "client",
    }
}

fn fill_random(bytes: &mut [u8]) -> Result<(), IdentityError> {
    getrandom::fill(bytes).map_err(IdentityError::Randomness)
}
