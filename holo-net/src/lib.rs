//! holo-net
