//! Events in any order at one Session: what leaves it decodes, no identifier is in use twice, no quota is exceeded, and nothing waits for ever.
#![no_main]

use std::collections::BTreeSet;

use bucketmq_packet::message::Message;
use bucketmq_packet::{Packet, PacketIdentifier, ProtocolVersion, QoS, ReasonCode, Sender, SubscriptionOptions, decode};
use bucketmq_session::{Delivery, Link, LinkParameters, Overflow, QueueLimits, Session, VecBacklog};
use libfuzzer_sys::fuzz_target;

const LIMITS: QueueLimits = QueueLimits { messages: 20, bytes: 400, overflow: Overflow::DropOldest };

struct Client {
    session: Session,
    backlog: VecBacklog,
    version: ProtocolVersion,
    receive_maximum: u16,
    /// PUBLISHes received on this connection and not answered to their end. Answers that make no sense are given too; the Session ignores them.
    open: BTreeSet<u16>,
}

impl Client {
    fn look(&mut self, now: u64) {
        self.session.pump(now, &mut self.backlog, Vec::new, |_| {});
        let mut bytes = Vec::new();
        self.session.take_output(&mut bytes);
        let mut rest = &bytes[..];
        while let Some((packet, length)) = decode(rest, self.version, Sender::Server, u32::MAX).expect("what leaves is well-formed") {
            rest = &rest[length..];
            match packet {
                Packet::Publish(publish) => {
                    if let Some(id) = publish.packet_id {
                        assert!(self.open.insert(id.get()), "an identifier is in use twice");
                        assert!(self.open.len() <= usize::from(self.receive_maximum), "more than the Receive Maximum");
                    }
                }
                Packet::PubRel(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(rest.is_empty());
    }
}

fuzz_target!(|data: &[u8]| {
    let mut client = Client {
        session: Session::new(60),
        backlog: VecBacklog::default(),
        version: ProtocolVersion::V5,
        receive_maximum: 1,
        open: BTreeSet::new(),
    };
    let share = client.session.subscribe("$share/g/t", true, SubscriptionOptions::with_qos(QoS::ExactlyOnce), None).0.share;
    let mut now = 1_000;
    let mut bytes = data.iter().copied();
    while let (Some(event), Some(value)) = (bytes.next(), bytes.next()) {
        let id = PacketIdentifier::new(u16::from(value) + 1).expect("not 0");
        match event % 10 {
            0..=2 => {
                let qos = QoS::try_from(event % 10).expect("0 to 2");
                let payload = vec![b'x'; usize::from(value % 64)];
                let expires_at = (value & 0x40 != 0).then_some(now + u64::from(value));
                let message = || Message::new("t", &payload, b"", qos, false, expires_at);
                let share = if value & 0x80 != 0 { share } else { 0 };
                let delivery = Delivery {
                    topic: "t",
                    payload: &payload,
                    forward: b"",
                    expires_at,
                    qos,
                    retain: false,
                    identifiers: &[],
                    share,
                    message: &message,
                };
                client.session.deliver(now, &delivery, &LIMITS, &mut client.backlog, Vec::new);
            }
            3 => {
                client.session.handle_puback(id);
                client.open.remove(&id.get());
            }
            4 => {
                let code = if value & 1 == 0 { ReasonCode::Success } else { ReasonCode::QuotaExceeded };
                client.session.handle_pubrec(id, code);
                if code.is_error() {
                    client.open.remove(&id.get());
                }
            }
            5 => {
                client.session.handle_pubcomp(id);
                client.open.remove(&id.get());
            }
            6 => {
                client.session.detach();
                client.version = if value & 1 == 0 { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
                client.receive_maximum = u16::from(value % 8) + 1;
                client.session.attach(Link::new(LinkParameters {
                    version: client.version,
                    receive_maximum: client.receive_maximum,
                    maximum_packet_size: if value & 2 == 0 { u32::MAX } else { 40 },
                    topic_alias_maximum: if client.version == ProtocolVersion::V5 { u16::from(value & 4) } else { 0 },
                    output_limit: 200,
                }));
                client.open.clear();
            }
            7 => client.session.detach(),
            8 => {
                // Orphans are over for this Session, whatever the Client still answers.
                client.session.take_orphans(None);
                client.open.clear();
            }
            _ => now += u64::from(value),
        }
        assert!(client.session.waiting() <= LIMITS.messages && client.session.waiting_bytes() <= LIMITS.bytes);
        if client.session.link().is_some() {
            client.look(now);
        }
    }
});
