//! Any bytes as an answer of the catalog: refused, or the same when written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holo_fuzz::bounded(bytes, holo_core::fuzzing::catalog_answer));
