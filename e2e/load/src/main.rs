//! Load tool for MQTT brokers.
fn main() {}
