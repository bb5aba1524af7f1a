//! holo-client
