//! A task that does nothing: what a call costs by itself.
#![no_std]

#[holo_guest::task]
fn noop(_args: &[u8]) {}
