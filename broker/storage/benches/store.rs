//! What the memory store costs.

fn main() {}
