//! What a connection does with each packet but PUBLISH, SUBSCRIBE, UNSUBSCRIBE and AUTH, which have files of their own.

use bucketmq_packet::{Ack, Disconnect, Packet, PacketType, ReasonCode, Sender, decode};
use bucketmq_session::{Acknowledged, put_ack, put_ack_with_reason};

use super::{Closing, Connection, unexpected};
use crate::config::Limits;
use crate::publish::{Progress, Scratch};

impl Connection {
    /// Handles the whole packets at the front of `input`; so many bytes of it are done with.
    pub(super) fn handle_packets(&mut self, input: &[u8], limits: &Limits, scratch: &mut Scratch) -> Result<usize, Closing> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            if rest[0] >> 4 == PacketType::Publish as u8 {
                match self.publish_run(rest, limits, scratch)? {
                    Progress::Incomplete | Progress::Held => break,
                    Progress::Used(count) => {
                        self.batch_messages += scratch.run_length();
                        self.hold_over = None;
                        used += count;
                    }
                }
            } else if matches!(rest[0], 0x40) && rest.len() >= 4 && rest[1] == 2 {
                used += self.handle_pubacks(rest);
            } else {
                let Some((packet, count)) = decode(rest, self.terms.version, Sender::Client, self.terms.max_packet_size)? else { break };
                self.handle_packet(packet, limits, scratch)?;
                used += count;
            }
        }
        Ok(used)
    }

    /// A run of PUBACKs without Reason Code, under one lock.
    fn handle_pubacks(&mut self, input: &[u8]) -> usize {
        let mut count = 0;
        let mut state = self.terms.client.lock();
        while let Some([0x40, 2, high, low]) = input.get(count * 4..count * 4 + 4) {
            let Some(id) = bucketmq_packet::PacketIdentifier::new(u16::from_be_bytes([*high, *low])) else { break };
            state.session.handle_puback(id);
            count += 1;
        }
        drop(state);
        self.terms.broker.metrics.received(PacketType::PubAck, count as u64);
        count * 4
    }

    fn handle_packet(&mut self, packet: Packet<'_>, limits: &Limits, scratch: &mut Scratch) -> Result<(), Closing> {
        self.terms.broker.metrics.received(packet.packet_type(), 1);
        match packet {
            Packet::PubAck(ack) => {
                self.terms.client.lock().session.handle_puback(ack.packet_id);
            }
            Packet::PubRec(ack) => {
                let outcome = self.terms.client.lock().session.handle_pubrec(ack.packet_id, ack.reason_code);
                let version = self.terms.version;
                let reason_code = match outcome {
                    Acknowledged::Release => ReasonCode::Success,
                    Acknowledged::Unknown if !ack.reason_code.is_error() => ReasonCode::PacketIdentifierNotFound,
                    Acknowledged::Unknown | Acknowledged::Finished => return Ok(()),
                };
                // [MQTT-4.3.3-4]
                put_ack_with_reason(PacketType::PubRel, ack.packet_id, reason_code, version, self.writing_mut());
                self.terms.broker.metrics.sent(PacketType::PubRel, 1);
            }
            Packet::PubComp(ack) => {
                self.terms.client.lock().session.handle_pubcomp(ack.packet_id);
            }
            Packet::PubRel(ack) => self.handle_pubrel(&ack),
            Packet::Subscribe(subscribe) => self.handle_subscribe(&subscribe, limits, scratch)?,
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(&unsubscribe),
            // [MQTT-3.12.4-1]
            Packet::PingReq => self.write_packet(&Packet::PingResp),
            Packet::Disconnect(disconnect) => return Err(self.handle_disconnect(&disconnect, limits)),
            Packet::Auth(auth) => self.handle_auth(&auth)?,
            // [MQTT-3.1.0-2] A second CONNECT.
            Packet::Connect(_) => return Err(unexpected(PacketType::Connect, "MQTT-3.1.0-2", "second CONNECT")),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp | Packet::Publish(_) => {
                return Err(unexpected(packet.packet_type(), "MQTT-4.13.1-1", "a Client never sends this packet"));
            }
        }
        Ok(())
    }

    /// PUBREL: the identifier is free, PUBCOMP goes out whatever happened before [MQTT-4.3.3-11].
    fn handle_pubrel(&mut self, ack: &Ack<'_>) {
        let known = self.terms.client.lock().session.incoming.finish(ack.packet_id);
        let version = self.terms.version;
        let out = self.writing_mut();
        if known {
            put_ack(PacketType::PubComp, ack.packet_id, out);
        } else {
            put_ack_with_reason(PacketType::PubComp, ack.packet_id, ReasonCode::PacketIdentifierNotFound, version, out);
        }
        self.terms.broker.metrics.sent(PacketType::PubComp, 1);
    }

    fn handle_disconnect(&mut self, disconnect: &Disconnect<'_>, limits: &Limits) -> Closing {
        if let Some(interval) = disconnect.session_expiry_interval {
            // [MQTT-3.1.2-23] [MQTT-3.14.2-2] Zero in CONNECT cannot become more here.
            if self.terms.expires_at_once && interval > 0 {
                return unexpected(PacketType::Disconnect, "MQTT-3.1.2-23", "Session Expiry Interval was 0 in CONNECT");
            }
            let capped = crate::connect::cap_expiry(interval, limits);
            self.terms.client.lock().session.expiry_interval = capped;
        }
        Closing::Disconnect { with_will: disconnect.reason_code != ReasonCode::Success }
    }
}
