//! What a Client sends, and the answers that belong to it.

use std::time::{Duration, Instant};

use bucketmq_packet::{
    Ack, Disconnect, Packet, PacketIdentifier, PacketType, ReasonCode, RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe,
};

use super::Client;
use crate::ensure;
use crate::message::{Message, qos};
use crate::outcome::Outcome;
use crate::reply::{Acked, Reply};

/// A filter with its options, as SUBSCRIBE carries it.
#[derive(Debug, Clone, Copy)]
pub struct Filter<'a> {
    filter: &'a str,
    options: SubscriptionOptions,
}

/// A filter with a QoS and no options.
pub fn filter(filter: &str, quality: u8) -> Filter<'_> {
    Filter { filter, options: SubscriptionOptions::with_qos(qos(quality)) }
}

impl Filter<'_> {
    /// Sets No Local.
    pub fn no_local(mut self) -> Self {
        self.options.no_local = true;
        self
    }

    /// Sets Retain As Published.
    pub fn retain_as_published(mut self) -> Self {
        self.options.retain_as_published = true;
        self
    }

    /// Sets Retain Handling to "if new" or "never".
    pub fn retain_handling(mut self, handling: RetainHandling) -> Self {
        self.options.retain_handling = handling;
        self
    }
}

impl Client {
    /// Sends PUBACK, PUBREC, PUBREL or PUBCOMP.
    pub fn acknowledge(&mut self, packet_type: PacketType, packet_id: u16) {
        self.acknowledge_with(packet_type, packet_id, ReasonCode::Success);
    }

    /// As [`Self::acknowledge`], with a Reason Code.
    pub fn acknowledge_with(&mut self, packet_type: PacketType, packet_id: u16, code: ReasonCode) {
        let ack = Ack::new(PacketIdentifier::new(packet_id).expect("identifiers in tests are not 0"), code);
        let mut out = Vec::new();
        ack.encode(packet_type, self.version, &mut out);
        self.send(&out);
    }

    /// Sends a PUBLISH and nothing else; gives a QoS 1 or 2 message an identifier if it has none. Returns the identifier.
    pub fn start_publish(&mut self, message: &Message) -> u16 {
        let mut message = message.clone();
        if message.qos > 0 && message.packet_id == 0 {
            message.packet_id = self.fresh_id();
        }
        self.send(&message.encode(self.version));
        message.packet_id
    }

    /// Publishes to the end of the handshake; the Reason Code of PUBACK or PUBREC.
    pub fn publish(&mut self, message: &Message) -> Outcome<u8> {
        let packet_id = self.start_publish(message);
        self.finish_publish(message.qos, packet_id)
    }

    /// The rest of a handshake whose PUBLISH was sent.
    pub fn finish_publish(&mut self, qos: u8, packet_id: u16) -> Outcome<u8> {
        match qos {
            0 => Ok(0),
            1 => self.acknowledged(PacketType::PubAck, packet_id),
            _ => {
                let code = self.acknowledged(PacketType::PubRec, packet_id)?;
                if code < 0x80 {
                    self.acknowledge(PacketType::PubRel, packet_id);
                    self.acknowledged(PacketType::PubComp, packet_id)?;
                }
                Ok(code)
            }
        }
    }

    /// Sends SUBSCRIBE and nothing else.
    pub fn start_subscribe(&mut self, filters: &[Filter<'_>], identifier: Option<u32>) -> u16 {
        let packet_id = self.fresh_id();
        let subscribe = Subscribe {
            packet_id: PacketIdentifier::new(packet_id).expect("fresh identifiers are not 0"),
            subscription_identifier: identifier,
            user_properties: Vec::new(),
            filters: filters.iter().map(|filter| (filter.filter, filter.options)).collect(),
        };
        let mut out = Vec::new();
        subscribe.encode(self.version, &mut out);
        self.send(&out);
        packet_id
    }

    /// The SUBACK or UNSUBACK of `packet_id`.
    pub fn codes(&mut self, packet_type: PacketType, packet_id: u16) -> Outcome<Acked> {
        let ack = self.awaiting(packet_type.name(), |reply| match reply {
            Reply::Codes(found, ack) if *found == packet_type => Some(ack.clone()),
            _ => None,
        })?;
        // [MQTT-2.2.1-6]
        ensure!(ack.packet_id == packet_id, "{} names identifier {} instead of {packet_id}", packet_type.name(), ack.packet_id);
        Ok(ack)
    }

    /// SUBSCRIBE with options and Subscription Identifier; the Reason Codes.
    pub fn subscribe_with(&mut self, filters: &[Filter<'_>], identifier: Option<u32>) -> Outcome<Vec<u8>> {
        let packet_id = self.start_subscribe(filters, identifier);
        let codes = self.codes(PacketType::SubAck, packet_id)?.codes;
        // [MQTT-3.8.4-6]
        ensure!(codes.len() == filters.len(), "SUBACK has {} codes for {} filters", codes.len(), filters.len());
        Ok(codes)
    }

    /// SUBSCRIBE of one filter that has to be granted as asked.
    pub fn subscribe(&mut self, name: &str, quality: u8) -> Outcome {
        self.subscribed(filter(name, quality), None)
    }

    /// SUBSCRIBE of one filter with options that has to be granted.
    pub fn subscribed(&mut self, asked: Filter<'_>, identifier: Option<u32>) -> Outcome {
        let codes = self.subscribe_with(&[asked], identifier)?;
        ensure!(codes == [asked.options.qos as u8], "SUBSCRIBE to {:?} was answered {codes:02X?}", asked.filter);
        Ok(())
    }

    /// UNSUBSCRIBE; the Reason Codes, none before 5.0.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Outcome<Vec<u8>> {
        let packet_id = self.fresh_id();
        let unsubscribe = Unsubscribe {
            packet_id: PacketIdentifier::new(packet_id).expect("fresh identifiers are not 0"),
            user_properties: Vec::new(),
            filters: filters.to_vec(),
        };
        let mut out = Vec::new();
        unsubscribe.encode(self.version, &mut out);
        self.send(&out);
        Ok(self.codes(PacketType::UnsubAck, packet_id)?.codes)
    }

    /// PINGREQ and its PINGRESP.
    pub fn ping(&mut self) -> Outcome {
        self.send(&[0xC0, 0]);
        self.awaiting("PINGRESP", |reply| (*reply == Reply::PingResp).then_some(()))
    }

    /// DISCONNECT with a Reason Code, and the close.
    pub fn disconnect_with(mut self, code: ReasonCode) -> Outcome {
        let mut out = Vec::new();
        Packet::Disconnect(Disconnect::new(code)).encode(self.version, &mut out);
        self.send(&out);
        self.closed()?;
        Ok(())
    }

    /// DISCONNECT as it should be; returns when the broker has closed.
    pub fn disconnect(self) -> Outcome {
        self.disconnect_with(ReasonCode::Success)
    }

    /// Ends the connection without a word of MQTT; returns when the broker has noticed, so that what is published next finds the Client away.
    pub fn cut(mut self) {
        self.stream.end();
        let deadline = Instant::now() + Duration::from_secs(1);
        // What was on its way is lost, as it is when a network fails.
        let mut lost = Vec::new();
        while Instant::now() < deadline && !matches!(self.stream.read(&mut lost, Duration::from_millis(100)), Ok(Some(0)) | Err(_)) {}
    }
}
