//! What a connection does with each packet but PUBLISH, SUBSCRIBE, UNSUBSCRIBE and AUTH, which have files of their own.

use bucketmq_packet::{Ack, Disconnect, Packet, PacketType, ReasonCode, Sender, decode};
use bucketmq_session::{Acknowledged, put_ack_with_reason};
use bucketmq_storage::Batch;

use super::{Closing, Connection, unexpected};
use crate::client::State;
use crate::config::Limits;
use crate::deliver::StoreBacklog;
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
                        if self.hold.is_some() {
                            break;
                        }
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
        self.settle(&mut state);
        drop(state);
        self.terms.broker.metrics.received(PacketType::PubAck, count as u64);
        count * 4
    }

    /// Tells the bucket whose delivery is over.
    fn settle(&self, state: &mut State) {
        if self.terms.client.stored {
            state.session.settle(&mut StoreBacklog::new(&self.terms.broker, &self.terms.client));
        }
    }

    fn handle_packet(&mut self, packet: Packet<'_>, limits: &Limits, scratch: &mut Scratch) -> Result<(), Closing> {
        self.terms.broker.metrics.received(packet.packet_type(), 1);
        match packet {
            Packet::PubAck(ack) => {
                let mut state = self.terms.client.lock();
                state.session.handle_puback(ack.packet_id);
                self.settle(&mut state);
            }
            Packet::PubRec(ack) => {
                let outcome = {
                    let mut state = self.terms.client.lock();
                    let mut backlog = StoreBacklog::new(&self.terms.broker, &self.terms.client);
                    let outcome = state.session.handle_pubrec(ack.packet_id, ack.reason_code, &mut backlog);
                    self.settle(&mut state);
                    outcome
                };
                let version = self.terms.version;
                let reason_code = match outcome {
                    Acknowledged::Release => ReasonCode::Success,
                    Acknowledged::Unknown if !ack.reason_code.is_error() => ReasonCode::PacketIdentifierNotFound,
                    Acknowledged::Unknown | Acknowledged::Finished => return Ok(()),
                };
                // [MQTT-4.3.3-4] From PUBREL on the Client may use the identifier for nothing else but this: that PUBREC came has to be known for good.
                let waits = self.all_of_client();
                self.answer(waits, |out| put_ack_with_reason(PacketType::PubRel, ack.packet_id, reason_code, version, out));
                self.terms.broker.metrics.sent(PacketType::PubRel, 1);
            }
            Packet::PubComp(ack) => {
                let mut state = self.terms.client.lock();
                state.session.handle_pubcomp(ack.packet_id);
                self.settle(&mut state);
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
        if known && self.terms.client.stored {
            let mut batch = Batch::default();
            batch.finish(self.terms.client.number, ack.packet_id);
            self.terms.broker.store.write(self.terms.client.shard, batch);
        }
        let reason_code = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        // Otherwise a message sent under the identifier that is free now could be taken for the old one after a crash.
        let waits = self.all_of_client();
        self.answer(waits, |out| put_ack_with_reason(PacketType::PubComp, ack.packet_id, reason_code, version, out));
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
