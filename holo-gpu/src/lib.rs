//! holo-gpu
