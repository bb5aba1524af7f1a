//! Any bytes as a batch of messages between two nodes: refused, or the same when written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holo_fuzz::bounded(bytes, holo_node::fuzzing::batch));
