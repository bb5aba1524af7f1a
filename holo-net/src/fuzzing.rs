//! What the fuzz targets and the property tests run: each takes any bytes and must return.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use holo_core::{ClusterId, Role, UnixMillis};

use crate::certificate::Certificate;
use crate::frame::FrameReader;
use crate::handshake::{Handshake, Party, QUIC_VERSION, production};
use crate::{Expected, Identity, Suite};

/// Reads bytes as frames, cut into chunks of `cut` bytes, and checks that how they are cut does not matter.
pub fn frames(bytes: &[u8], cut: usize) {
    let whole = read_frames(bytes, bytes.len());
    let parts = read_frames(bytes, cut);
    assert_eq!(whole, parts, "frames depend on how the network cuts them");
}

/// Hands bytes to both sides of a handshake, as the first message and as the answer to a genuine one.
pub fn handshake(bytes: &[u8], cut: usize) {
    let cut = cut.max(1);
    let mut out = Vec::new();
    let mut server = Handshake::server(party(), Arc::new(Suite::ALL), Vec::new());
    for chunk in bytes.chunks(cut) {
        if server.receive(chunk).is_err() {
            break;
        }
        server.transmit(&mut out);
    }
    assert!(!server.is_done(), "nobody proved anything");

    for suite in Suite::ALL {
        let expected = Expected { key: None, role: Role::Node };
        let mut client = Handshake::client(party(), suite, expected, Vec::new());
        client.transmit(&mut out);
        for chunk in bytes.chunks(cut) {
            if client.receive(chunk).is_err() {
                break;
            }
            client.transmit(&mut out);
        }
        assert!(!client.is_done(), "nobody proved anything");
    }
    assert_eq!(Certificate::verify(bytes, &[1; 32]), None);
}

fn read_frames(bytes: &[u8], cut: usize) -> (Vec<crate::frame::Frame>, bool) {
    let mut reader = FrameReader::new();
    let mut frames = Vec::new();
    for chunk in bytes.chunks(cut.max(1)) {
        reader.push(Bytes::copy_from_slice(chunk));
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_failure) => return (frames, false),
            }
        }
    }
    (frames, true)
}

fn party() -> Party {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    let identity = IDENTITY.get_or_init(|| {
        Identity::from_seed(
            &[1; 32],
            Role::Node,
            ClusterId([2; 32]),
            Duration::from_secs(1),
            UnixMillis(0),
        )
        .expect("the system gives random bytes")
    });
    Party {
        credentials: identity.credentials(UnixMillis(0)),
        cluster: identity.cluster(),
        now: UnixMillis(0),
        version: QUIC_VERSION,
        primitives: production,
    }
}
