//! holo-node
