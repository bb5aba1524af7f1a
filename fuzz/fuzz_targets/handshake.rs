//! Any bytes, cut anywhere, as the handshake messages of a stranger: nothing panics and nobody is let in.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    holo_net::fuzzing::handshake(bytes, usize::from(cut));
});
