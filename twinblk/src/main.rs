//! twinblk.
fn main() {}
