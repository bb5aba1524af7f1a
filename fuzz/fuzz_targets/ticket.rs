//! Any bytes as a ticket, as its text and as its content: refused, or the same when written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holo_fuzz::bounded(bytes, holo_core::fuzzing::ticket));
