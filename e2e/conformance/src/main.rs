//! Every normative statement of MQTT, tested against any broker.
fn main() {}
