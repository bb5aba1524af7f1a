//! Any bytes as messages of replicas, and as what one leaves in a file: refused, or the same when written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holo_fuzz::bounded(bytes, holo_core::fuzzing::replication));
