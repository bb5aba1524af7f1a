//! Test vectors: whole handshakes from fixed seeds, kept as files. Another implementation must make the same bytes.
//!
//! After a deliberate change of the format, run the test with `HOLO_WRITE_VECTORS=1` and read the difference.

use std::fmt::Write as _;
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

use super::second_implementation::{seeded_initiator, seeded_responder};
use super::*;

const INITIATOR_SEED: [u8; 32] = [0xa1; 32];
const INITIATOR_STATIC: [u8; 32] = [0xa2; 32];
const RESPONDER_SEED: [u8; 32] = [0xb1; 32];
const RESPONDER_STATIC: [u8; 32] = [0xb2; 32];

#[test]
fn handshakes_from_fixed_seeds_are_the_ones_on_file() {
    for suite in Suite::ALL {
        let made = transcript(suite);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/vectors")
            .join(format!("{}.txt", suite.short_name()));
        if std::env::var_os("HOLO_WRITE_VECTORS").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(made == kept, "{} differs from what is made now:\n{made}", path.display());
    }
}

fn transcript(suite: Suite) -> String {
    let fixed = |role, seed, static_key, primitives| {
        let credentials = Credentials::with_static_key(
            &SigningKey::from_bytes(&seed),
            role,
            CLUSTER,
            Duration::from_secs(60),
            NOW,
            Zeroizing::new(static_key),
        );
        Party {
            credentials: Arc::new(credentials.unwrap()),
            cluster: CLUSTER,
            now: NOW,
            version: QUIC_VERSION,
            primitives,
        }
    };
    let initiator = fixed(Role::Client, INITIATOR_SEED, INITIATOR_STATIC, seeded_initiator);
    let responder = fixed(Role::Node, RESPONDER_SEED, RESPONDER_STATIC, seeded_responder);
    let mut client = Handshake::client(initiator, suite, EXPECTED, b"client parameters".to_vec());
    let mut server =
        Handshake::server(responder, Arc::new(Suite::ALL), b"server parameters".to_vec());
    let run = run(&mut client, &mut server, |_, _| {}).unwrap();
    assert_eq!(run.client_secrets, run.server_secrets);

    let mut text = format!("# {}\n", suite.name());
    let mut line = |name: &str, bytes: &[u8]| {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{name} = {hex}").unwrap();
    };
    line("cluster", &CLUSTER.0);
    line("initiator Ed25519 seed", &INITIATOR_SEED);
    line("initiator static private key", &INITIATOR_STATIC);
    line("responder Ed25519 seed", &RESPONDER_SEED);
    line("responder static private key", &RESPONDER_STATIC);
    line("not after, Unix ms, little-endian", &(NOW.0 + 60_000).to_le_bytes());
    for (name, message) in ["M1", "M2", "F", "M3"].iter().zip(&run.messages) {
        line(name, message);
    }
    line("handshake level", &run.client_secrets[0]);
    line("application level", &run.client_secrets[1]);
    text
}
