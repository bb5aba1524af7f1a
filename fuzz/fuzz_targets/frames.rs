//! Any bytes as RPC frames: nothing panics, and how the network cuts them makes no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    holo_net::fuzzing::frames(bytes, usize::from(cut));
});
