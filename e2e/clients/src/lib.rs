//! Real MQTT clients against the real binary.
