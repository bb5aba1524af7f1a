//! Any bytes as commands, each after two bytes of its length: whatever is applied, the catalog and its copy stay sound.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| holo_fuzz::bounded(bytes, holo_core::fuzzing::catalog_commands));
