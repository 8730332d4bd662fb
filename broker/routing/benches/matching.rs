//! What Subscriptions cost: memory each, time to add, time to match.

fn main() {}
