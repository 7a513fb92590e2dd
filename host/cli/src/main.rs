//! The `sentinel` binary.
fn main() {}
