//! Any bytes as what operators ask and hear: refused, or the same when written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holo_fuzz::bounded(bytes, holo_core::fuzzing::administration));
