//! The primitives that Noise runs on, plugged into snow: X25519 and ML-KEM-768 from aws-lc-rs, the rest snow's own.
//!
//! aws-lc-rs and not RustCrypto: its ML-KEM is the formally verified one, it refuses the all-zero shared secret that
//! snow's default takes, and a handshake costs two thirds. Tests hold it against `ml-kem` and `x25519-dalek`.

use aws_lc_rs::{agreement, kem};
use snow::params::{CipherChoice, DHChoice, HashChoice, KemChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Kem, Random};
use zeroize::Zeroizing;

/// Makes the resolver of one handshake.
pub(crate) type Primitives = fn() -> Box<dyn CryptoResolver + Send>;

pub(crate) const KEM_PUBLIC_BYTES: usize = 1184;
pub(crate) const KEM_CIPHERTEXT_BYTES: usize = 1088;
pub(crate) const KEM_SECRET_BYTES: usize = 32;

/// What the product uses.
pub(crate) fn production() -> Box<dyn CryptoResolver + Send> {
    Box::new(Resolver)
}

struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::default())),
            DHChoice::Curve448 => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }

    fn resolve_kem(&self, _placeholder: &KemChoice) -> Option<Box<dyn Kem>> {
        Some(Box::new(MlKem768 { private: None, public: [0; KEM_PUBLIC_BYTES] }))
    }
}

#[derive(Default)]
struct X25519 {
    key: Option<agreement::PrivateKey>,
    private: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, private: &[u8]) {
        // snow gives no way to fail here: without a key, `dh` fails instead.
        self.key = None;
        self.public = [0; 32];
        let Ok(key) = agreement::PrivateKey::from_private_key(&agreement::X25519, private) else {
            return;
        };
        let Ok(public) = key.compute_public_key() else { return };
        self.private.copy_from_slice(private);
        self.public.copy_from_slice(public.as_ref());
        self.key = Some(key);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *private)?;
        self.set(&*private);
        if self.key.is_some() { Ok(()) } else { Err(snow::Error::Dh) }
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.private
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let key = self.key.as_ref().ok_or(snow::Error::Dh)?;
        let public = public.get(..32).ok_or(snow::Error::Dh)?;
        let out = out.get_mut(..32).ok_or(snow::Error::Dh)?;
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, public);
        agreement::agree(key, peer, snow::Error::Dh, |secret| {
            out.copy_from_slice(secret);
            Ok(())
        })
    }
}

struct MlKem768 {
    private: Option<kem::DecapsulationKey>,
    public: [u8; KEM_PUBLIC_BYTES],
}

impl Kem for MlKem768 {
    fn name(&self) -> &'static str {
        "ML-KEM-768"
    }

    fn pub_len(&self) -> usize {
        KEM_PUBLIC_BYTES
    }

    fn ciphertext_len(&self) -> usize {
        KEM_CIPHERTEXT_BYTES
    }

    fn shared_secret_len(&self) -> usize {
        KEM_SECRET_BYTES
    }

    fn generate(&mut self, _rng: &mut dyn Random) {
        // snow gives no way to fail here: without a key, the public key is zeros, which every peer refuses, and
        // `decapsulate` fails.
        self.private = None;
        self.public = [0; KEM_PUBLIC_BYTES];
        let Ok(private) = kem::DecapsulationKey::generate(&kem::ML_KEM_768) else { return };
        let public = private.encapsulation_key().and_then(|public| public.key_bytes());
        let Ok(public) = public else { return };
        if public.as_ref().len() == KEM_PUBLIC_BYTES {
            self.public.copy_from_slice(public.as_ref());
            self.private = Some(private);
        }
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn encapsulate(
        &self,
        public: &[u8],
        secret_out: &mut [u8],
        ciphertext_out: &mut [u8],
    ) -> Result<(usize, usize), snow::Error> {
        // The constructor runs FIPS 203's modulus check on the peer's key.
        let key = kem::EncapsulationKey::new(&kem::ML_KEM_768, public).or(Err(snow::Error::Kem))?;
        let (ciphertext, secret) = key.encapsulate().or(Err(snow::Error::Kem))?;
        copy_exact(secret_out, secret.as_ref(), KEM_SECRET_BYTES)?;
        copy_exact(ciphertext_out, ciphertext.as_ref(), KEM_CIPHERTEXT_BYTES)?;
        Ok((KEM_SECRET_BYTES, KEM_CIPHERTEXT_BYTES))
    }

    fn decapsulate(&self, ciphertext: &[u8], secret_out: &mut [u8]) -> Result<usize, snow::Error> {
        let key = self.private.as_ref().ok_or(snow::Error::Kem)?;
        let secret = key.decapsulate(ciphertext.into()).or(Err(snow::Error::Kem))?;
        copy_exact(secret_out, secret.as_ref(), KEM_SECRET_BYTES)?;
        Ok(KEM_SECRET_BYTES)
    }
}

pub(crate) fn copy_exact(to: &mut [u8], from: &[u8], len: usize) -> Result<(), snow::Error> {
    let (Some(to), true) = (to.get_mut(..len), from.len() == len) else {
        return Err(snow::Error::Kem);
    };
    to.copy_from_slice(from);
    Ok(())
}
