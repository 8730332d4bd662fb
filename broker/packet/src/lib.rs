//! Bytes to MQTT Control Packets and back, 3.1 to 5.0.
