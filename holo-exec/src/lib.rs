//! holo-exec
