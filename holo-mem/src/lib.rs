//! holo-mem
