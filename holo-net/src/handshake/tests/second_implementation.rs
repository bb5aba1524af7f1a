//! The same primitives by other hands: `x25519-dalek` and `ml-kem`, with randomness that a seed decides.

use ml_kem::kem::{Decapsulate, KeyExport, TryKeyInit};
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use snow::params::{CipherChoice, DHChoice, HashChoice, KemChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Kem, Random};
use x25519_dalek::{PublicKey, StaticSecret};

use super::super::primitives::{
    KEM_CIPHERTEXT_BYTES, KEM_PUBLIC_BYTES, KEM_SECRET_BYTES, copy_exact,
};
use super::*;

/// The initiator's primitives, with its randomness.
pub(super) fn seeded_initiator() -> Box<dyn CryptoResolver + Send> {
    Box::new(Seeded("initiator"))
}

/// The responder's primitives, with its randomness.
pub(super) fn seeded_responder() -> Box<dyn CryptoResolver + Send> {
    Box::new(Seeded("responder"))
}

struct Seeded(&'static str);

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom::new(self.0)))
    }

    fn resolve_dh(&self, _choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(Dalek { secret: [0; 32], public: [0; 32] }))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }

    fn resolve_kem(&self, _choice: &KemChoice) -> Option<Box<dyn Kem>> {
        let mut message = [0; 32];
        SeededRandom::new(&format!("{} encapsulation", self.0)).0.fill(&mut message);
        Some(Box::new(RustCryptoKem { key: None, public: [0; KEM_PUBLIC_BYTES], message }))
    }
}

struct Dalek {
    secret: [u8; 32],
    public: [u8; 32],
}

impl Dh for Dalek {
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
        self.secret.copy_from_slice(private);
        self.public = PublicKey::from(&StaticSecret::from(self.secret)).to_bytes();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut private = [0; 32];
        rng.try_fill_bytes(&mut private)?;
        self.set(&private);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public: [u8; 32] = public[..32].try_into().unwrap();
        let shared = StaticSecret::from(self.secret).diffie_hellman(&PublicKey::from(public));
        out[..32].copy_from_slice(shared.as_bytes());
        if shared.was_contributory() { Ok(()) } else { Err(snow::Error::Dh) }
    }
}

struct RustCryptoKem {
    key: Option<DecapsulationKey>,
    public: [u8; KEM_PUBLIC_BYTES],
    message: [u8; 32],
}

impl Kem for RustCryptoKem {
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

    fn generate(&mut self, rng: &mut dyn Random) {
        let mut seed = [0; 64];
        rng.try_fill_bytes(&mut seed).unwrap();
        let key = DecapsulationKey::from_seed(seed.into());
        self.public.copy_from_slice(&key.encapsulation_key().to_bytes());
        self.key = Some(key);
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
        let key = EncapsulationKey::new_from_slice(public).or(Err(snow::Error::Kem))?;
        let (ciphertext, secret) = key.encapsulate_deterministic(&self.message.into());
        copy_exact(secret_out, &secret, KEM_SECRET_BYTES)?;
        copy_exact(ciphertext_out, &ciphertext, KEM_CIPHERTEXT_BYTES)?;
        Ok((KEM_SECRET_BYTES, KEM_CIPHERTEXT_BYTES))
    }

    fn decapsulate(&self, ciphertext: &[u8], secret_out: &mut [u8]) -> Result<usize, snow::Error> {
        let key = self.key.as_ref().ok_or(snow::Error::Kem)?;
        let secret = key.decapsulate_slice(ciphertext).or(Err(snow::Error::Kem))?;
        copy_exact(secret_out, &secret, KEM_SECRET_BYTES)?;
        Ok(KEM_SECRET_BYTES)
    }
}

fn dh_of(resolver: &dyn CryptoResolver) -> Box<dyn Dh> {
    resolver.resolve_dh(&DHChoice::Curve25519).unwrap()
}

fn kem_of(resolver: &dyn CryptoResolver) -> Box<dyn Kem> {
    resolver.resolve_kem(&KemChoice::Kyber1024).unwrap()
}

#[test]
fn both_implementations_of_x25519_agree() {
    let mut rng = SeededRandom::new("x25519");
    for _ in 0..50 {
        let (mut ours, mut theirs) = (dh_of(&*production()), dh_of(&*seeded_initiator()));
        let mut private = [0; 32];
        rng.0.fill(&mut private);
        ours.set(&private);
        theirs.set(&private);
        assert_eq!(ours.pubkey(), theirs.pubkey());
        let mut peer = dh_of(&*production());
        peer.generate(&mut rng).unwrap();
        let (mut first, mut second) = ([0; 32], [0; 32]);
        ours.dh(peer.pubkey(), &mut first).unwrap();
        theirs.dh(peer.pubkey(), &mut second).unwrap();
        assert_eq!(first, second);
        assert!(
            ours.dh(&[0; 32], &mut first).is_err() && theirs.dh(&[0; 32], &mut second).is_err()
        );
    }
}

#[test]
fn what_one_implementation_of_ml_kem_seals_the_other_opens() {
    for turn in 0..20 {
        let (mut opener, sealer) = if turn % 2 == 0 {
            (kem_of(&*production()), kem_of(&*seeded_responder()))
        } else {
            (kem_of(&*seeded_responder()), kem_of(&*production()))
        };
        opener.generate(&mut SeededRandom::new(&format!("kem {turn}")));
        let (mut sealed, mut opened) = ([0; KEM_SECRET_BYTES], [0; KEM_SECRET_BYTES]);
        let mut ciphertext = [0; KEM_CIPHERTEXT_BYTES];
        sealer.encapsulate(opener.pubkey(), &mut sealed, &mut ciphertext).unwrap();
        opener.decapsulate(&ciphertext, &mut opened).unwrap();
        assert_eq!(sealed, opened);
        ciphertext[turn] ^= 1;
        opener.decapsulate(&ciphertext, &mut opened).unwrap();
        assert_ne!(sealed, opened, "implicit rejection gives another secret");
    }
}

#[test]
fn a_handshake_between_the_two_implementations_finishes() {
    for suite in Suite::ALL {
        for (ours, theirs) in [
            (production as Primitives, seeded_responder as Primitives),
            (seeded_initiator as Primitives, production as Primitives),
        ] {
            let mut client =
                Handshake::client(party(Role::Client, ours), suite, EXPECTED, Vec::new());
            let mut server =
                Handshake::server(party(Role::Node, theirs), Arc::new(Suite::ALL), Vec::new());
            let run = run(&mut client, &mut server, |_, _| {}).unwrap();
            assert!(both_done(&client, &server));
            assert_eq!(run.client_secrets, run.server_secrets);
        }
    }
}
