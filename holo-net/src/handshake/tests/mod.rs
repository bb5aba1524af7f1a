//! The handshake without sockets: every message in our hands.

mod downgrade;
mod second_implementation;
mod vectors;

use std::time::Duration;

use holo_core::Role;
use proptest::prelude::*;
use snow::types::Random;

use super::*;
use crate::Identity;

const CLUSTER: ClusterId = ClusterId([0x33; 32]);
const NOW: UnixMillis = UnixMillis(1_000_000);
const EXPECTED: Expected = Expected { key: None, role: Role::Node };

fn party(role: Role, primitives: Primitives) -> Party {
    let identity = Identity::generate(role, CLUSTER, Duration::from_secs(60), NOW).unwrap();
    Party {
        credentials: identity.credentials(NOW),
        cluster: CLUSTER,
        now: NOW,
        version: QUIC_VERSION,
        primitives,
    }
}

fn client(suite: Suite) -> Handshake {
    Handshake::client(
        party(Role::Client, production),
        suite,
        EXPECTED,
        b"client parameters".to_vec(),
    )
}

fn server() -> Handshake {
    Handshake::server(
        party(Role::Node, production),
        Arc::new(Suite::ALL),
        b"server parameters".to_vec(),
    )
}

/// The four messages with their length prefixes, and the secrets of both levels as each side has them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Run {
    messages: Vec<Vec<u8>>,
    client_secrets: Vec<[u8; 32]>,
    server_secrets: Vec<[u8; 32]>,
}

/// Runs a handshake; `change` sees each message before it arrives.
fn run(
    client: &mut Handshake,
    server: &mut Handshake,
    mut change: impl FnMut(usize, &mut Vec<u8>),
) -> Result<Run, Refusal> {
    let mut run = Run::default();
    for _step in 0..8 {
        for client_sends in [true, false] {
            let (from, to) = if client_sends {
                (&mut *client, &mut *server)
            } else {
                (&mut *server, &mut *client)
            };
            let mut message = Vec::new();
            let secret = from.transmit(&mut message);
            let secrets =
                if client_sends { &mut run.client_secrets } else { &mut run.server_secrets };
            secrets.extend(secret.map(|secret| match secret {
                LevelSecret::Handshake(level) | LevelSecret::Application(level) => *level,
            }));
            if !message.is_empty() {
                change(run.messages.len(), &mut message);
                run.messages.push(message.clone());
                to.receive(&message)?;
            }
        }
    }
    Ok(run)
}

fn both_done(client: &Handshake, server: &Handshake) -> bool {
    client.is_done() && server.is_done()
}

#[test]
fn both_sides_end_with_the_same_secrets_and_know_each_other() {
    for suite in Suite::ALL {
        let (mut client, mut server) = (client(suite), server());
        let run = run(&mut client, &mut server, |_, _| {}).unwrap();
        assert!(both_done(&client, &server));
        assert_eq!(run.messages.len(), 4);
        assert_eq!(run.client_secrets.len(), 2);
        assert_eq!(run.client_secrets, run.server_secrets);
        assert_ne!(run.client_secrets[0], run.client_secrets[1]);
        assert_eq!(client.peer().unwrap().role, Role::Node);
        assert_eq!(server.peer().unwrap().role, Role::Client);
        assert_eq!(client.peer_parameters(), Some(&b"server parameters"[..]));
        assert_eq!(server.peer_parameters(), Some(&b"client parameters"[..]));
        assert_eq!((client.suite(), server.suite()), (Some(suite), Some(suite)));
    }
}

#[test]
fn no_two_handshakes_share_a_secret() {
    let secrets =
        || run(&mut client(Suite::HybridAes256), &mut server(), |_, _| {}).unwrap().client_secrets;
    let (first, second) = (secrets(), secrets());
    assert!(first.iter().all(|secret| !second.contains(secret)));
}

#[test]
fn a_changed_byte_anywhere_leaves_no_finished_handshake() {
    for suite in [Suite::HybridAes256, Suite::ClassicalAes256] {
        let lengths: Vec<usize> = run(&mut client(suite), &mut server(), |_, _| {})
            .unwrap()
            .messages
            .iter()
            .map(Vec::len)
            .collect();
        for (which, len) in lengths.into_iter().enumerate() {
            // Every byte of the short messages, every eleventh of the long ones.
            for at in (0..len).step_by(if len > 300 { 11 } else { 1 }) {
                let (mut client, mut server) = (client(suite), server());
                let result = run(&mut client, &mut server, |index, message| {
                    if index == which {
                        message[at] ^= 1 << (at % 8);
                    }
                });
                assert!(
                    !both_done(&client, &server),
                    "{suite:?} message {which} byte {at}: {result:?}"
                );
            }
        }
    }
}

#[test]
fn messages_may_arrive_one_byte_at_a_time() {
    let (mut client, mut server) = (client(Suite::HybridAes256), server());
    let mut messages = 0;
    for _step in 0..4 {
        for client_sends in [true, false] {
            let (from, to) =
                if client_sends { (&mut client, &mut server) } else { (&mut server, &mut client) };
            let mut message = Vec::new();
            from.transmit(&mut message);
            messages += usize::from(!message.is_empty());
            for byte in message {
                to.receive(&[byte]).unwrap();
            }
        }
    }
    assert_eq!(messages, 4);
    assert!(both_done(&client, &server));
}

#[test]
fn a_suite_that_was_changed_on_its_way_is_found_out() {
    for (offered, changed) in [
        (Suite::HybridAes256, Suite::HybridChaCha20),
        (Suite::HybridAes256, Suite::ClassicalAes256),
        (Suite::ClassicalAes256, Suite::HybridAes256),
    ] {
        let (mut client, mut server) = (client(offered), server());
        let result = run(&mut client, &mut server, |index, message| {
            if index == 0 {
                message[2] = changed.to_byte();
            }
        });
        assert!(
            result.is_err() && !client.is_done() && !server.is_done(),
            "{offered:?} to {changed:?}"
        );
    }
}

#[test]
fn another_application_protocol_is_refused() {
    let result = run(&mut client(Suite::HybridAes256), &mut server(), |index, message| {
        if index == 0 {
            let len = message.len();
            assert_eq!(&message[len - 6..], APPLICATION_PROTOCOL);
            message[len - 1] = b'9';
        }
    });
    assert_eq!(result.unwrap_err(), Refusal::Protocol);
}

#[test]
fn a_peer_of_another_version_cannot_finish() {
    let mut old = client(Suite::HybridAes256);
    old.party.version += 1;
    let mut server = server();
    assert_eq!(run(&mut old, &mut server, |_, _| {}).unwrap_err(), Refusal::Cipher);
    assert!(!both_done(&old, &server));
}

#[test]
fn a_key_that_makes_the_shared_secret_trivial_is_refused() {
    let (mut client, mut server) = (client(Suite::ClassicalAes256), server());
    let result = run(&mut client, &mut server, |index, message| {
        if index == 0 {
            // The all-zero point: every private key gives the all-zero secret with it.
            message[3..35].fill(0);
        }
    });
    // The server can only fall silent here: its next step is to write.
    assert!(result.is_ok() && !client.is_done());
    assert_eq!(server.receive(&[0]), Err(Refusal::Internal));
}

#[test]
fn a_kem_key_that_is_none_is_refused() {
    let (mut client, mut server) = (client(Suite::HybridAes256), server());
    let result = run(&mut client, &mut server, |index, message| {
        if index == 0 {
            // Coefficients beyond the modulus, which FIPS 203 says to check for.
            message[35..35 + 1184].fill(0xff);
        }
    });
    assert!(result.is_ok() && !client.is_done());
    assert_eq!(server.receive(&[0]), Err(Refusal::Internal));
}

#[test]
fn a_failed_handshake_stays_failed() {
    let mut hello = Vec::new();
    client(Suite::HybridAes256).transmit(&mut hello);
    let mut server = server();
    assert_eq!(server.receive(&[1, 0, 0x77]), Err(Refusal::Suite));
    assert_eq!(server.receive(&hello), Err(Refusal::Suite));
    let mut out = Vec::new();
    assert!(server.transmit(&mut out).is_none() && out.is_empty());
}

#[test]
fn what_is_reassembled_for_a_stranger_is_bounded() {
    let mut server = server();
    server.receive(&u16::MAX.to_le_bytes()).unwrap();
    let mut taken = 2;
    let refusal = loop {
        match server.receive(&[0; 100]) {
            Ok(()) => taken += 100,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::Malformed);
    assert!(taken <= limits::HANDSHAKE_BYTES_MAX);
    assert_eq!(server.inbox.capacity(), 0);
}

#[test]
fn bytes_before_their_time_are_refused() {
    let mut hello = Vec::new();
    client(Suite::HybridAes256).transmit(&mut hello);
    hello.push(0);
    assert_eq!(server().receive(&hello), Err(Refusal::Malformed));
    assert_eq!(client(Suite::HybridAes256).receive(&[0]), Err(Refusal::Malformed));
}

#[test]
fn certificates_are_checked_from_the_general_to_the_particular() {
    let attempt = |expected: Expected, now: UnixMillis, cluster: ClusterId| {
        let mut party = party(Role::Client, production);
        (party.now, party.cluster) = (now, cluster);
        let mut client = Handshake::client(party, Suite::HybridAes256, expected, Vec::new());
        run(&mut client, &mut server(), |_, _| {}).unwrap_err()
    };
    let nobody = Expected { key: Some(holo_core::PublicKey([1; 32])), role: Role::Client };
    let end = UnixMillis(NOW.0 + 60_000);
    let other = ClusterId([0x44; 32]);
    assert_eq!(attempt(nobody, end, other), Refusal::Expired { not_after: end });
    assert_eq!(attempt(nobody, NOW, other), Refusal::Cluster { theirs: CLUSTER });
    assert!(matches!(attempt(nobody, NOW, CLUSTER), Refusal::Identity { .. }));
    let wrong_role = Expected { key: None, role: Role::Client };
    assert_eq!(attempt(wrong_role, NOW, CLUSTER), Refusal::Role { theirs: Role::Node });
}

#[test]
fn a_certificate_for_another_static_key_is_refused() {
    // A member's certificate, taken from elsewhere, with a static key of one's own.
    let stolen = party(Role::Client, production).credentials.certificate;
    let mut thief = party(Role::Client, production);
    let own = Identity::generate(Role::Client, CLUSTER, Duration::from_secs(60), NOW).unwrap();
    let own = own.credentials(NOW);
    thief.credentials = Arc::new(Credentials::for_testing_only(&own, stolen));
    let mut client = Handshake::client(thief, Suite::HybridAes256, EXPECTED, Vec::new());
    assert_eq!(run(&mut client, &mut server(), |_, _| {}).unwrap_err(), Refusal::Certificate);
}

/// Bytes that a seed decides.
struct SeededRandom(blake3::OutputReader);

impl SeededRandom {
    fn new(seed: &str) -> Self {
        Self(
            blake3::Hasher::new_derive_key("holocompute net test vectors")
                .update(seed.as_bytes())
                .finalize_xof(),
        )
    }
}

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(dest);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_refused_or_wait_for_more(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        cut in 1usize..3000,
    ) {
        crate::fuzzing::handshake(&bytes, cut);
    }

    #[test]
    fn a_genuine_start_with_any_end_is_refused_or_waits_for_more(
        keep in 0usize..1300,
        end in prop::collection::vec(any::<u8>(), 0..1500),
    ) {
        let mut bytes = Vec::new();
        client(Suite::HybridAes256).transmit(&mut bytes);
        bytes.truncate(keep);
        bytes.extend_from_slice(&end);
        crate::fuzzing::handshake(&bytes, 500);
    }
}
