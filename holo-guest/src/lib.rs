//! holo-guest
