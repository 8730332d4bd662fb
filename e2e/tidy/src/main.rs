//! House rules as tests.
fn main() {}
