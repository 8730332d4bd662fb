//! The receiving side at QoS 2: which Packet Identifiers have been handed on and wait for their PUBREL.

use bucketmq_packet::PacketIdentifier;

/// Identifiers received with a QoS 2 PUBLISH whose PUBREL has not come [MQTT-4.3.3-10]. Part of the Session (5.0 4.1).
#[derive(Debug, Default)]
pub struct Incoming {
    // At most Receive Maximum of them, usually a handful: a sorted vector beats a hash set and costs nothing when empty.
    waiting: Vec<u16>,
}

impl Incoming {
    /// A QoS 2 PUBLISH arrived. True: first time, hand it on. False: it was handed on already [MQTT-4.3.3-10].
    pub fn begin(&mut self, id: PacketIdentifier) -> bool {
        match self.waiting.binary_search(&id.get()) {
            Ok(_) => false,
            Err(place) => {
                self.waiting.insert(place, id.get());
                true
            }
        }
    }

    /// PUBREL arrived, or PUBREC went out with an error: the identifier is free again. False: it was unknown.
    pub fn finish(&mut self, id: PacketIdentifier) -> bool {
        match self.waiting.binary_search(&id.get()) {
            Ok(place) => {
                self.waiting.remove(place);
                if self.waiting.is_empty() && self.waiting.capacity() > 64 {
                    self.waiting = Vec::new();
                }
                true
            }
            Err(_) => false,
        }
    }

    /// True when this identifier waits for its PUBREL.
    pub fn contains(&self, id: PacketIdentifier) -> bool {
        self.waiting.binary_search(&id.get()).is_ok()
    }

    /// How many identifiers wait: what counts against the Receive Maximum granted to the Client [MQTT-3.3.4-7].
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True when none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
