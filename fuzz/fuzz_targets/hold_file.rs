//! Any bytes as a file that a stopped node left, and as its records: read as written, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holo_fuzz::bounded(bytes, holo_node::fuzzing::hold_file));
