//! holo-cli
fn main() {}
