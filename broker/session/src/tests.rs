//! The Session by hand, with time by hand: what leaves it is decoded again and compared with what the clauses say.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;

use bucketmq_packet::message::Message;
use bucketmq_packet::{Packet, PacketIdentifier, PacketType, ProtocolVersion, QoS, ReasonCode, Sender, decode};
use proptest::prelude::*;

use crate::{Acknowledged, Delivered, Delivery, DropReason, Link, LinkParameters, Orphan, Overflow, QueueLimits, Session, VecBacklog};

const NOW: u64 = 1_000_000;
const LIMITS: QueueLimits = QueueLimits { messages: 100, bytes: 1 << 20, overflow: Overflow::DropOldest };

fn parameters(version: ProtocolVersion, receive_maximum: u16) -> LinkParameters {
    LinkParameters { version, receive_maximum, maximum_packet_size: u32::MAX, topic_alias_maximum: 0, output_limit: 1 << 20 }
}

/// What the Client saw of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Publish { id: u16, dup: bool, qos: QoS, retain: bool, topic: String, payload: String, expiry: Option<u32>, alias: Option<u16> },
    Release(u16),
}

/// A Session with its backlog and its clock.
struct Bench {
    session: Session,
    backlog: VecBacklog,
    limits: QueueLimits,
    now: u64,
    dropped: Vec<DropReason>,
}

impl Bench {
    fn new(expiry_interval: u32, receive_maximum: u16) -> Self {
        let mut bench = Self::away(expiry_interval);
        bench.attach(receive_maximum);
        bench
    }

    fn away(expiry_interval: u32) -> Self {
        Self { session: Session::new(expiry_interval), backlog: VecBacklog::default(), limits: LIMITS, now: NOW, dropped: Vec::new() }
    }

    fn attach(&mut self, receive_maximum: u16) {
        self.session.attach(Link::new(parameters(ProtocolVersion::V5, receive_maximum)));
    }

    fn deliver(&mut self, payload: &str, qos: QoS) -> Delivered {
        self.deliver_as(payload, qos, None, 0)
    }

    fn deliver_as(&mut self, payload: &str, qos: QoS, expires_at: Option<u64>, share: u32) -> Delivered {
        let message = || Message::new("t", payload.as_bytes(), b"", qos, false, expires_at);
        let delivery = Delivery {
            topic: "t",
            payload: payload.as_bytes(),
            forward: b"",
            expires_at,
            qos,
            retain: false,
            identifiers: &[],
            share,
            message: &message,
        };
        self.session.deliver(self.now, &delivery, &self.limits, &mut self.backlog, Vec::new)
    }

    fn take_orphans(&mut self, filter: Option<&str>) -> Vec<Orphan> {
        self.session.take_orphans(filter, &mut self.backlog)
    }

    /// Pumps and gives what has left since the last look.
    fn seen(&mut self) -> Vec<Seen> {
        let dropped = &mut self.dropped;
        self.session.pump(self.now, &mut self.backlog, Vec::new, |reason| dropped.push(reason));
        let version = self.session.link().map_or(ProtocolVersion::V5, |link| link.parameters().version);
        let mut bytes = Vec::new();
        self.session.take_output(&mut bytes);
        let mut rest = &bytes[..];
        let mut seen = Vec::new();
        while let Some((packet, length)) = decode(rest, version, Sender::Server, u32::MAX).unwrap() {
            rest = &rest[length..];
            seen.push(match packet {
                Packet::Publish(publish) => Seen::Publish {
                    id: publish.packet_id.map_or(0, PacketIdentifier::get),
                    dup: publish.dup,
                    qos: publish.qos,
                    retain: publish.retain,
                    topic: publish.topic.to_owned(),
                    payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
                    expiry: publish.properties.message_expiry_interval,
                    alias: publish.properties.topic_alias,
                },
                Packet::PubRel(ack) => Seen::Release(ack.packet_id.get()),
                other => panic!("{other:?}"),
            });
        }
        assert!(rest.is_empty());
        seen
    }

    /// (identifier, DUP, payload) of the PUBLISHes that have left; identifiers of PUBRELs as (id, false, "PUBREL").
    fn brief(&mut self) -> Vec<(u16, bool, String)> {
        let brief = |seen| match seen {
            Seen::Publish { id, dup, payload, .. } => (id, dup, payload),
            Seen::Release(id) => (id, false, "PUBREL".to_owned()),
        };
        self.seen().into_iter().map(brief).collect()
    }
}

fn id(value: u16) -> PacketIdentifier {
    PacketIdentifier::new(value).unwrap()
}

fn sent(expected: &[(u16, bool, &str)]) -> Vec<(u16, bool, String)> {
    expected.iter().map(|(id, dup, payload)| (*id, *dup, (*payload).to_owned())).collect()
}

use QoS::{AtLeastOnce as Q1, AtMostOnce as Q0, ExactlyOnce as Q2};

#[test]
fn messages_leave_in_order_with_growing_identifiers() {
    let mut bench = Bench::new(60, 10);
    assert_eq!(bench.deliver("a", Q1), Delivered::Sent);
    assert_eq!(bench.deliver("b", Q2), Delivered::Sent);
    assert_eq!(bench.deliver("c", Q0), Delivered::Sent);
    assert_eq!(bench.brief(), sent(&[(1, false, "a"), (2, false, "b"), (0, false, "c")]));
}

/// [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1]
#[test]
fn resume_sends_again_in_order_with_the_same_identifiers_and_dup() {
    let mut bench = Bench::new(60, 10);
    for payload in ["a", "b", "c"] {
        bench.deliver(payload, Q1);
    }
    bench.brief();
    assert_eq!(bench.session.handle_puback(id(2)), Acknowledged::Finished);
    bench.session.detach();
    bench.deliver("d", Q1);
    bench.attach(10);
    assert_eq!(bench.brief(), sent(&[(1, true, "a"), (3, true, "c"), (4, false, "d")]));
}

/// [MQTT-4.3.3-6]
#[test]
fn after_pubrec_only_pubrel_is_sent_again() {
    let mut bench = Bench::new(60, 10);
    bench.deliver("a", Q2);
    bench.brief();
    assert_eq!(bench.session.handle_pubrec(id(1), ReasonCode::Success, &mut bench.backlog), Acknowledged::Release);
    assert_eq!(
        bench.session.handle_pubrec(id(1), ReasonCode::Success, &mut bench.backlog),
        Acknowledged::Release,
        "a repeated PUBREC is answered again"
    );
    bench.session.detach();
    bench.attach(10);
    assert_eq!(bench.brief(), sent(&[(1, false, "PUBREL")]));
    assert_eq!(bench.session.handle_pubcomp(id(1)), Acknowledged::Finished);
    assert_eq!(bench.session.handle_pubcomp(id(1)), Acknowledged::Unknown);
    assert_eq!(bench.session.inflight(), 0);
}

/// [MQTT-4.4.0-2]
#[test]
fn an_error_code_ends_the_delivery() {
    let mut bench = Bench::new(60, 1);
    bench.deliver("a", Q2);
    bench.deliver("b", Q1);
    bench.brief();
    assert_eq!(bench.session.handle_pubrec(id(1), ReasonCode::QuotaExceeded, &mut bench.backlog), Acknowledged::Finished);
    assert_eq!(bench.brief(), sent(&[(2, false, "b")]), "the quota is free again");
}

#[test]
fn acknowledgements_of_the_wrong_kind_or_number_change_nothing() {
    let mut bench = Bench::new(60, 10);
    bench.deliver("a", Q1);
    bench.deliver("b", Q2);
    bench.brief();
    assert_eq!(bench.session.handle_puback(id(2)), Acknowledged::Unknown);
    assert_eq!(bench.session.handle_pubrec(id(1), ReasonCode::Success, &mut bench.backlog), Acknowledged::Unknown);
    assert_eq!(bench.session.handle_pubcomp(id(2)), Acknowledged::Unknown);
    assert_eq!(bench.session.handle_puback(id(77)), Acknowledged::Unknown);
    assert_eq!(bench.session.inflight(), 2);
}

/// [MQTT-3.3.4-9] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
#[test]
fn receive_maximum_holds_qos_1_and_2_back_and_lets_qos_0_pass() {
    let mut bench = Bench::new(60, 2);
    assert_eq!(
        [bench.deliver("a", Q1), bench.deliver("b", Q2), bench.deliver("c", Q1)],
        [Delivered::Sent, Delivered::Sent, Delivered::Queued]
    );
    assert_eq!(bench.deliver("d", Q0), Delivered::Sent);
    assert_eq!(bench.brief(), sent(&[(1, false, "a"), (2, false, "b"), (0, false, "d")]));
    bench.session.handle_puback(id(1));
    assert_eq!(bench.brief(), sent(&[(3, false, "c")]));
    // Resumed with less: never more than that, PUBRELs counted.
    bench.session.handle_pubrec(id(2), ReasonCode::Success, &mut bench.backlog);
    bench.session.detach();
    bench.attach(1);
    assert_eq!(bench.brief(), sent(&[(2, false, "PUBREL")]));
    bench.session.handle_pubcomp(id(2));
    assert_eq!(bench.brief(), sent(&[(3, true, "c")]));
}

/// [MQTT-3.3.2-6] [MQTT-3.3.2-5]
#[test]
fn expiry_counts_down_while_waiting_and_drops_what_never_left() {
    let mut bench = Bench::away(60);
    bench.deliver_as("long", Q1, Some(NOW + 100_000), 0);
    bench.deliver_as("short", Q1, Some(NOW + 5_000), 0);
    bench.now += 30_500;
    bench.attach(10);
    let seen = bench.seen();
    assert!(matches!(&seen[..], [Seen::Publish { payload, expiry: Some(70), .. }] if payload == "long"), "{seen:?}");
    assert_eq!(bench.dropped, [DropReason::Expired]);
    assert_eq!(bench.deliver_as("late", Q0, Some(bench.now), 0), Delivered::Dropped(DropReason::Expired));
}

/// [MQTT-4.3.3-7]
#[test]
fn what_has_been_sent_does_not_expire() {
    let mut bench = Bench::new(60, 10);
    bench.deliver_as("a", Q2, Some(NOW + 1_000), 0);
    bench.brief();
    bench.session.detach();
    bench.now += 10_000;
    bench.attach(10);
    assert_eq!(bench.brief(), sent(&[(1, true, "a")]));
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[test]
fn a_message_too_large_for_the_client_is_dropped_and_takes_no_quota() {
    let mut bench = Bench::away(60);
    bench.session.attach(Link::new(LinkParameters { maximum_packet_size: 30, ..parameters(ProtocolVersion::V5, 1) }));
    assert_eq!(bench.deliver(&"x".repeat(40), Q1), Delivered::Dropped(DropReason::TooLarge));
    assert_eq!(bench.deliver("fits", Q1), Delivered::Sent);
    assert_eq!(bench.deliver(&"y".repeat(40), Q1), Delivered::Queued);
    assert_eq!(bench.deliver("too", Q1), Delivered::Queued);
    bench.brief();
    bench.session.handle_puback(id(1));
    assert_eq!(bench.brief().last().unwrap().2, "too");
    assert_eq!(bench.dropped, [DropReason::TooLarge]);
}

#[test]
fn a_full_queue_does_what_its_policy_says() {
    let fill = |overflow| {
        let mut bench = Bench::away(60);
        bench.limits = QueueLimits { messages: 2, bytes: 1 << 20, overflow };
        bench.deliver("a", Q1);
        bench.deliver("b", Q1);
        let outcome = bench.deliver("c", Q1);
        bench.attach(10);
        (outcome, bench.brief().into_iter().map(|(_, _, payload)| payload).collect::<Vec<_>>())
    };
    assert_eq!(fill(Overflow::DropOldest), (Delivered::QueuedDropping(1), vec!["b".to_owned(), "c".to_owned()]));
    assert_eq!(fill(Overflow::RejectNew), (Delivered::Dropped(DropReason::QueueFull), vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(fill(Overflow::Disconnect).0, Delivered::Dropped(DropReason::QueueFull));
    // With a connection the policy ends it.
    let mut bench = Bench::new(60, 1);
    bench.limits = QueueLimits { messages: 1, bytes: 1 << 20, overflow: Overflow::Disconnect };
    bench.deliver("sent", Q1);
    bench.deliver("waits", Q1);
    assert_eq!(bench.deliver("one too many", Q1), Delivered::DroppedDisconnect);
}

#[test]
fn bytes_bound_the_queue_as_well() {
    let mut bench = Bench::away(60);
    bench.limits = QueueLimits { messages: 100, bytes: 30, overflow: Overflow::DropOldest };
    for _ in 0..5 {
        bench.deliver("ten bytes!", Q1);
    }
    assert_eq!((bench.session.waiting(), bench.session.waiting_bytes()), (2, 22));
}

#[test]
fn a_transient_session_keeps_no_message_it_has_sent() {
    let mut bench = Bench::new(0, 10);
    let made = Cell::new(0);
    let message = || {
        made.set(made.get() + 1);
        Message::new("t", b"a", b"", Q1, false, None)
    };
    let delivery = Delivery {
        topic: "t",
        payload: b"a",
        forward: b"",
        expires_at: None,
        qos: Q1,
        retain: false,
        identifiers: &[],
        share: 0,
        message: &message,
    };
    bench.session.deliver(NOW, &delivery, &LIMITS, &mut bench.backlog, Vec::new);
    assert_eq!(made.get(), 0);
}

/// [MQTT-4.8.2-4] [MQTT-4.8.2-5]
#[test]
fn what_a_leaving_member_has_not_acknowledged_goes_on_but_qos_2_in_delivery_stays() {
    let mut bench = Bench::new(0, 2);
    let (subscription, _) = bench.session.subscribe("$share/g/t", true, bucketmq_packet::SubscriptionOptions::with_qos(Q2), None);
    for (payload, qos) in [("one", Q1), ("two", Q2), ("three", Q2)] {
        bench.deliver_as(payload, qos, None, subscription.share);
    }
    bench.brief();
    let orphans = bench.take_orphans(None);
    let payloads: Vec<_> = orphans.iter().map(|orphan| orphan.message.payload()).collect();
    assert_eq!(payloads, [&b"one"[..], b"three"]);
    assert!(bench.take_orphans(None).is_empty(), "each goes once");
    assert_eq!(bench.session.handle_pubrec(id(2), ReasonCode::Success, &mut bench.backlog), Acknowledged::Release);
}

/// [MQTT-3.1.2-26] [MQTT-3.1.2-27]
#[test]
fn topics_get_aliases_up_to_what_the_client_grants() {
    let mut bench = Bench::away(60);
    bench.session.attach(Link::new(LinkParameters { topic_alias_maximum: 1, ..parameters(ProtocolVersion::V5, 10) }));
    bench.deliver("a", Q0);
    bench.deliver("b", Q1);
    let forms: Vec<_> = bench
        .seen()
        .into_iter()
        .map(|seen| match seen {
            Seen::Publish { topic, alias, .. } => (topic, alias),
            Seen::Release(_) => unreachable!(),
        })
        .collect();
    assert_eq!(forms, [("t".to_owned(), Some(1)), (String::new(), Some(1))]);
}

#[test]
fn a_full_output_keeps_qos_1_in_the_queue() {
    let mut bench = Bench::away(60);
    bench.session.attach(Link::new(LinkParameters { output_limit: 1, ..parameters(ProtocolVersion::V3_1_1, 10) }));
    assert_eq!(bench.deliver("a", Q1), Delivered::Sent);
    assert_eq!(bench.deliver("b", Q1), Delivered::Queued);
    let mut bytes = Vec::new();
    assert!(bench.session.take_output(&mut bytes));
    assert!(bench.session.wants_pump());
    assert_eq!(bench.brief(), sent(&[(2, false, "b")]));
}

#[test]
fn a_replaced_subscription_is_told_from_a_new_one() {
    let mut session = Session::new(0);
    let options = bucketmq_packet::SubscriptionOptions::with_qos(Q1);
    assert!(session.subscribe("a/b", false, options, None).1.is_none());
    assert!(session.subscribe("a/b", false, options, Some(3)).1.is_some());
    assert_eq!(session.subscriptions().len(), 1);
    assert_eq!(session.unsubscribe("a/b").unwrap().identifier, Some(3));
    assert!(session.unsubscribe("a/b").is_none());
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25] An alias is worth having only where the packet still fits with it.
#[test]
fn a_message_that_fits_without_an_alias_leaves_without_it() {
    let link = |maximum_packet_size| {
        Link::new(LinkParameters { maximum_packet_size, topic_alias_maximum: 5, ..parameters(ProtocolVersion::V5, 1) })
    };
    let aliases =
        |bench: &mut Bench| bench.seen().iter().map(|seen| matches!(seen, Seen::Publish { alias: Some(_), .. })).collect::<Vec<_>>();
    // 1 + 1 of the fixed header, 2 + 1 of topic, 2 of identifier, 1 of properties' length, 10 of payload; an alias takes 3 more.
    for (maximum_packet_size, aliased) in [(18, false), (20, false), (21, true)] {
        let mut waited = Bench::away(60);
        assert_eq!(waited.deliver("ten bytes!", Q1), Delivered::Queued);
        waited.session.attach(link(maximum_packet_size));
        assert_eq!(aliases(&mut waited), [aliased], "waited, {maximum_packet_size} bytes");
        let mut live = Bench::away(60);
        live.session.attach(link(maximum_packet_size));
        assert_eq!(live.deliver("ten bytes!", Q1), Delivered::Sent);
        assert_eq!(aliases(&mut live), [aliased], "live, {maximum_packet_size} bytes");
    }
}

#[test]
fn a_message_larger_than_the_whole_queue_is_refused_and_costs_no_other() {
    for overflow in [Overflow::DropOldest, Overflow::RejectNew] {
        let mut bench = Bench::away(60);
        bench.limits = QueueLimits { messages: 100, bytes: 30, overflow };
        bench.deliver("a", Q1);
        bench.deliver("b", Q1);
        assert_eq!(bench.deliver(&"x".repeat(40), Q1), Delivered::Dropped(DropReason::QueueFull));
        assert_eq!((bench.session.waiting(), bench.session.waiting_bytes()), (2, 4));
    }
}

/// [MQTT-3.10.4-3] [MQTT-3.3.4-9] The Client still holds what it was sent: it counts until it is acknowledged.
#[test]
fn unsubscribing_from_a_share_finishes_what_was_begun_and_gives_the_rest_away() {
    let mut bench = Bench::new(60, 1);
    let share = bench.session.subscribe("$share/g/t", true, bucketmq_packet::SubscriptionOptions::with_qos(Q2), None).0.share;
    bench.deliver_as("begun", Q1, None, share);
    bench.deliver_as("waits", Q1, None, share);
    bench.deliver("own", Q1);
    assert_eq!(bench.brief(), sent(&[(1, false, "begun")]));
    let orphans = bench.take_orphans(Some("$share/g/t"));
    assert_eq!(orphans.iter().map(|orphan| orphan.message.payload()).collect::<Vec<_>>(), [&b"waits"[..]]);
    assert_eq!(bench.brief(), [], "one is in flight and one is granted");
    assert_eq!(bench.session.handle_puback(id(1)), Acknowledged::Finished);
    assert_eq!(bench.brief(), sent(&[(3, false, "own")]));
}

#[test]
fn orphans_are_only_those_of_the_filter_that_is_left() {
    let mut bench = Bench::new(60, 1);
    let options = bucketmq_packet::SubscriptionOptions::with_qos(Q1);
    let [first, second] = ["$share/g/t", "$share/h/t"].map(|filter| bench.session.subscribe(filter, true, options, None).0.share);
    bench.deliver("sent", Q1);
    bench.deliver_as("first", Q1, None, first);
    bench.deliver_as("second", Q1, None, second);
    bench.deliver("own", Q1);
    let orphans = bench.take_orphans(Some("$share/h/t"));
    assert_eq!(
        orphans.iter().map(|orphan| (&*orphan.filter, orphan.message.payload())).collect::<Vec<_>>(),
        [("$share/h/t", &b"second"[..])]
    );
    assert_eq!((bench.session.waiting(), bench.session.waiting_bytes()), (2, 10));
}

/// A Client that is away keeps no QoS 1 message from the others of its share; what it had begun at QoS 2 waits for it [MQTT-4.8.2-4].
#[test]
fn a_member_that_is_away_gives_up_unacknowledged_qos_1() {
    let mut bench = Bench::new(60, 10);
    let share = bench.session.subscribe("$share/g/t", true, bucketmq_packet::SubscriptionOptions::with_qos(Q2), None).0.share;
    bench.deliver_as("one", Q1, None, share);
    bench.deliver_as("two", Q2, None, share);
    bench.brief();
    bench.session.detach();
    let orphans = bench.take_orphans(None);
    assert_eq!(orphans.iter().map(|orphan| orphan.message.payload()).collect::<Vec<_>>(), [&b"one"[..]]);
    bench.attach(10);
    assert_eq!(bench.brief(), sent(&[(2, true, "two")]));
}

/// [MQTT-2.2.1-3] The identifier follows the sequence through all 65,535 and round again.
#[test]
fn identifiers_go_round_and_skip_zero() {
    let mut bench = Bench::new(60, 1);
    for sequence in 0..65_540u32 {
        bench.deliver("a", Q1);
        let expected = (sequence % 65_535 + 1) as u16;
        assert!(matches!(bench.seen()[..], [Seen::Publish { id, dup: false, .. }] if id == expected), "message {sequence}");
        assert_eq!(bench.session.handle_puback(id(expected)), Acknowledged::Finished);
    }
}

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6]
#[test]
fn order_is_kept_from_the_window_through_the_backlog() {
    let mut bench = Bench::new(60, 1);
    bench.limits = QueueLimits { messages: 10_000, bytes: 1 << 20, overflow: Overflow::DropOldest };
    for number in 0..3_000u32 {
        bench.deliver(&number.to_string(), Q1);
    }
    assert!(!bench.backlog.0.is_empty(), "more than the window holds");
    assert_eq!(bench.session.waiting(), 2_999);
    for number in 0..3_000u16 {
        assert_eq!(bench.brief(), sent(&[(number + 1, false, &number.to_string())]));
        if number == 500 {
            bench.session.detach();
            bench.attach(1);
            assert_eq!(bench.brief(), sent(&[(501, true, "500")]));
        }
        assert_eq!(bench.session.handle_puback(id(number + 1)), Acknowledged::Finished);
    }
    assert_eq!((bench.session.waiting(), bench.session.waiting_bytes(), bench.session.inflight()), (0, 0, 0));
    assert!(bench.backlog.0.is_empty());
}

/// A Client that acknowledges everything but one message stops at the end of the window, and no identifier comes twice [MQTT-2.2.1-3].
#[test]
fn an_acknowledgement_that_never_comes_stops_the_window_and_loses_nothing() {
    let mut bench = Bench::new(60, 2);
    bench.limits.messages = 10_000;
    bench.deliver("never", Q1);
    bench.brief();
    let mut next = 0u32;
    for number in 0..2_000u32 {
        bench.deliver(&number.to_string(), Q1);
        for (packet_id, _, payload) in bench.brief() {
            assert_eq!(payload, next.to_string());
            next += 1;
            bench.session.handle_puback(id(packet_id));
        }
    }
    assert!(next < 2_000 && bench.session.waiting() == u64::from(2_000 - next));
    bench.session.handle_puback(id(1));
    loop {
        let left = bench.brief();
        if left.is_empty() {
            break;
        }
        for (packet_id, _, payload) in left {
            assert_eq!(payload, next.to_string());
            next += 1;
            bench.session.handle_puback(id(packet_id));
        }
    }
    assert_eq!(next, 2_000);
}

/// What the oldest is: the first of the window that has not left, then the first of the backlog.
#[test]
fn drop_oldest_takes_from_the_window_before_the_backlog_and_never_what_was_sent() {
    let mut bench = Bench::new(60, 1);
    bench.limits.messages = 1_500;
    for number in 0..1_501u32 {
        assert!(matches!(bench.deliver(&number.to_string(), Q1), Delivered::Sent | Delivered::Queued));
    }
    assert!(!bench.backlog.0.is_empty());
    for number in 1_501..3_000u32 {
        assert_eq!(bench.deliver(&number.to_string(), Q1), Delivered::QueuedDropping(1));
    }
    assert_eq!(bench.session.waiting(), 1_500);
    assert_eq!(bench.brief()[0].2, "0");
    bench.session.handle_puback(id(1));
    assert_eq!(bench.brief(), sent(&[(1_501, false, "1500")]));
}

/// QoS 0 may go some way beyond the limit, because its publishers are held only then; never without end.
#[test]
fn a_full_output_holds_back_what_waits_and_at_last_drops_qos_0() {
    let mut bench = Bench::away(60);
    bench.deliver("waited", Q1);
    bench.session.attach(Link::new(LinkParameters { output_limit: 5, ..parameters(ProtocolVersion::V5, 10) }));
    let large = "x".repeat(100_000);
    let taken = (0..100).take_while(|_| bench.deliver(&large, Q0) == Delivered::Sent).count();
    assert!((1..20).contains(&taken), "{taken} times 100 kB");
    assert!(!bench.session.link().unwrap().has_room_for_qos0());
    assert_eq!(bench.deliver("more", Q0), Delivered::Dropped(DropReason::OutputFull));
    bench.session.pump(NOW, &mut bench.backlog, Vec::new, |_| panic!("nothing is dropped"));
    assert_eq!(bench.session.waiting(), 1);
    assert!(bench.session.take_output(&mut Vec::new()));
    assert_eq!(bench.brief(), sent(&[(1, false, "waited")]));
}

#[test]
fn a_transient_session_gives_up_what_it_sent_and_keeps_its_share_for_others() {
    let mut bench = Bench::new(0, 10);
    bench.deliver("lost with the connection", Q1);
    bench.brief();
    bench.session.detach();
    bench.attach(10);
    assert_eq!(bench.brief(), []);
    assert_eq!(bench.session.inflight(), 0);
}

/// QoS 0 in the queue of a Session that was away leaves in its turn, once, without an identifier [MQTT-2.2.1-2] [MQTT-3.3.1-2].
#[test]
fn waiting_qos_0_is_over_once_it_has_left() {
    let mut bench = Bench::away(60);
    for (payload, qos) in [("a", Q1), ("b", Q0), ("c", Q2)] {
        bench.deliver(payload, qos);
    }
    bench.attach(10);
    assert_eq!(bench.brief(), sent(&[(1, false, "a"), (0, false, "b"), (3, false, "c")]));
    assert_eq!(bench.session.inflight(), 2);
    bench.session.detach();
    bench.attach(10);
    assert_eq!(bench.brief(), sent(&[(1, true, "a"), (3, true, "c")]));
}

/// Byte by byte: 3.1.1 3.3 and 5.0 3.3.
#[test]
fn each_version_is_written_as_it_is_specified() {
    let bytes = |version| {
        let mut bench = Bench::away(60);
        bench.session.attach(Link::new(parameters(version, 10)));
        let message = || Message::new("a/b", b"hi", &[0x01, 0x01], Q1, true, Some(NOW + 1_500));
        let delivery = Delivery {
            topic: "a/b",
            payload: b"hi",
            forward: &[0x01, 0x01],
            expires_at: Some(NOW + 1_500),
            qos: Q1,
            retain: true,
            identifiers: &[7, 200],
            share: 0,
            message: &message,
        };
        let mut all = Vec::new();
        bench.session.deliver(NOW, &delivery, &LIMITS, &mut bench.backlog, Vec::new);
        bench.session.take_output(&mut all);
        bench.session.detach();
        bench.session.attach(Link::new(parameters(version, 10)));
        bench.session.pump(NOW, &mut bench.backlog, Vec::new, |_| {});
        let mut again = Vec::new();
        bench.session.take_output(&mut again);
        assert_eq!((again[0], &again[1..]), (all[0] | 0x08, &all[1..]), "sent again it differs in DUP alone");
        all
    };
    let old = [0x33, 9, 0, 3, b'a', b'/', b'b', 0, 1, b'h', b'i'];
    assert_eq!(bytes(ProtocolVersion::V3_1), old);
    assert_eq!(bytes(ProtocolVersion::V3_1_1), old);
    let properties = [0x02, 0, 0, 0, 2, 0x0B, 7, 0x0B, 0xC8, 0x01, 0x01, 0x01];
    let new = [&[0x33, 22, 0, 3, b'a', b'/', b'b', 0, 1, 12][..], &properties, b"hi"].concat();
    assert_eq!(bytes(ProtocolVersion::V5), new);
}

/// [MQTT-2.1.3-1] and 5.0 3.5.2.1: a Reason Code stands only where the version has a place for it.
#[test]
fn acknowledgements_carry_a_reason_code_in_5_0_alone() {
    let bytes = |kind, reason_code, version| {
        let mut out = Vec::new();
        crate::put_ack_with_reason(kind, id(258), reason_code, version, &mut out);
        out
    };
    let missing = ReasonCode::PacketIdentifierNotFound;
    assert_eq!(bytes(PacketType::PubRel, missing, ProtocolVersion::V5), [0x62, 3, 1, 2, 0x92]);
    assert_eq!(bytes(PacketType::PubRel, missing, ProtocolVersion::V3_1_1), [0x62, 2, 1, 2]);
    assert_eq!(bytes(PacketType::PubAck, ReasonCode::Success, ProtocolVersion::V5), [0x40, 2, 1, 2]);
    assert_eq!(bytes(PacketType::PubComp, missing, ProtocolVersion::V5), [0x70, 3, 1, 2, 0x92]);
}

/// [MQTT-4.3.3-10]
#[test]
fn a_qos_2_message_is_handed_on_once_until_its_pubrel() {
    let mut session = Session::new(60);
    assert!(session.incoming.begin(id(5)));
    assert!(!session.incoming.begin(id(5)));
    session.detach();
    assert!(session.incoming.contains(id(5)), "it belongs to the Session, not the connection");
    assert!(session.incoming.finish(id(5)) && !session.incoming.finish(id(5)));
    assert!(session.incoming.begin(id(5)));
}

#[derive(Debug, Clone)]
enum Event {
    Deliver(bool),
    /// Acknowledges the oldest, or a later one, of what the Client has received.
    Acknowledge(usize),
    Reconnect(u16),
    Disconnect,
    Look,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<bool>().prop_map(Event::Deliver),
        4 => (0usize..4).prop_map(Event::Acknowledge),
        1 => (1u16..5).prop_map(Event::Reconnect),
        1 => Just(Event::Disconnect),
        2 => Just(Event::Look),
    ]
}

proptest! {
    /// Whatever happens in between: everything accepted arrives, in order and QoS 2 once; never more in flight than granted.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(events in prop::collection::vec(event(), 1..200)) {
        let mut bench = Bench::away(60);
        bench.limits.messages = 10_000;
        let mut granted = 0;
        let mut count = 0u32;
        let mut bytes = 0u64;
        let bytes_of = |number: u32| 1 + number.to_string().len() as u64;
        // Acknowledged with PUBACK or PUBREC: not to be published again.
        let mut over: Vec<u16> = Vec::new();
        // What the Client holds: handshakes by identifier, and the order in which messages came for the first time.
        let mut open: VecDeque<(u16, QoS, bool)> = VecDeque::new();
        let mut arrived: Vec<u32> = Vec::new();
        let finish = |bench: &mut Bench, open: &mut VecDeque<(u16, QoS, bool)>, over: &mut Vec<u16>, place: usize| {
            let (packet_id, qos, released) = open[place];
            over.push(packet_id);
            if qos == Q1 {
                assert_eq!(bench.session.handle_puback(id(packet_id)), Acknowledged::Finished);
                open.remove(place);
            } else if released {
                assert_eq!(bench.session.handle_pubcomp(id(packet_id)), Acknowledged::Finished);
                open.remove(place);
            } else {
                assert_eq!(bench.session.handle_pubrec(id(packet_id), ReasonCode::Success, &mut bench.backlog), Acknowledged::Release);
                open[place].2 = true;
            }
        };
        let look = |bench: &mut Bench, open: &mut VecDeque<(u16, QoS, bool)>, arrived: &mut Vec<u32>, over: &[u16], granted: usize, count: u32, bytes: u64| {
            for seen in bench.seen() {
                match seen {
                    Seen::Publish { id, dup, qos, payload, .. } => {
                        let number: u32 = payload.parse().unwrap();
                        assert_eq!(u32::from(id), number + 1, "the identifier is the message's for ever");
                        assert!(!over.contains(&id), "published again after PUBACK or PUBREC");
                        if !arrived.contains(&number) {
                            assert!(arrived.last().is_none_or(|last| *last < number), "out of order");
                            arrived.push(number);
                        } else {
                            assert!(dup);
                        }
                        assert!(!open.iter().any(|(other, ..)| *other == id), "identifier in use");
                        open.push_back((id, qos, false));
                        assert!(open.len() <= granted, "{} in flight of {granted}", open.len());
                    }
                    // A handshake that is half done is finished whatever the new quota is.
                    Seen::Release(id) => open.push_back((id, Q2, true)),
                }
            }
            assert_eq!(bench.session.inflight() as usize, open.len());
            assert_eq!(bench.session.waiting(), u64::from(count) - arrived.len() as u64);
            assert_eq!(bench.session.waiting_bytes(), bytes - arrived.iter().map(|number| bytes_of(*number)).sum::<u64>());
        };
        for event in events {
            match event {
                Event::Deliver(twice) => {
                    let outcome = bench.deliver(&count.to_string(), if twice { Q2 } else { Q1 });
                    prop_assert!(matches!(outcome, Delivered::Sent | Delivered::Queued));
                    count += 1;
                    bytes += bytes_of(count - 1);
                    if granted == 0 {
                        prop_assert_eq!(bench.session.waiting(), u64::from(count) - arrived.len() as u64);
                        prop_assert_eq!(bench.session.waiting_bytes(), bytes - arrived.iter().map(|number| bytes_of(*number)).sum::<u64>());
                    }
                }
                Event::Acknowledge(place) => {
                    if granted > 0 {
                        look(&mut bench, &mut open, &mut arrived, &over, granted, count, bytes);
                        if place < open.len() {
                            finish(&mut bench, &mut open, &mut over, place);
                        }
                    }
                }
                Event::Reconnect(receive_maximum) => {
                    if granted > 0 {
                        look(&mut bench, &mut open, &mut arrived, &over, granted, count, bytes);
                    }
                    bench.session.detach();
                    bench.attach(receive_maximum);
                    granted = usize::from(receive_maximum);
                    open.clear();
                }
                Event::Disconnect => {
                    if granted > 0 {
                        look(&mut bench, &mut open, &mut arrived, &over, granted, count, bytes);
                    }
                    bench.session.detach();
                    granted = 0;
                    open.clear();
                }
                Event::Look => if granted > 0 { look(&mut bench, &mut open, &mut arrived, &over, granted, count, bytes) },
            }
        }
        if granted == 0 {
            bench.attach(3);
            granted = 3;
            open.clear();
        }
        // Let it drain.
        for _ in 0..(count as usize * 3 + 3) {
            look(&mut bench, &mut open, &mut arrived, &over, granted, count, bytes);
            if !open.is_empty() {
                finish(&mut bench, &mut open, &mut over, 0);
            }
        }
        prop_assert_eq!(arrived, (0..count).collect::<Vec<_>>());
        prop_assert_eq!((bench.session.waiting(), bench.session.waiting_bytes(), bench.session.inflight()), (0, 0, 0));
        prop_assert!(bench.backlog.0.is_empty());
    }
}

#[test]
fn a_shared_message_is_one_allocation_for_all() {
    let message = Message::new("t", b"a", b"", Q1, false, None);
    let mut first = Bench::away(60);
    let mut second = Bench::away(60);
    for bench in [&mut first, &mut second] {
        let delivery = Delivery {
            topic: "t",
            payload: b"a",
            forward: b"",
            expires_at: None,
            qos: Q1,
            retain: false,
            identifiers: &[],
            share: 0,
            message: &|| message.clone(),
        };
        bench.session.deliver(NOW, &delivery, &LIMITS, &mut bench.backlog, Vec::new);
    }
    assert_eq!(Arc::strong_count(&message), 3);
}

/// What waits behind the window goes on as well; the rest of the queue stays in order.
#[test]
fn a_leaving_member_gives_up_what_waits_in_its_backlog() {
    let mut bench = Bench::away(60);
    let share = bench.session.subscribe("$share/g/t", true, bucketmq_packet::SubscriptionOptions::with_qos(Q2), None).0.share;
    for (payload, share) in [("one", 0), ("two", share), ("three", share), ("four", 0)] {
        assert_eq!(bench.deliver_as(payload, Q1, None, share), Delivered::Queued);
    }
    let orphans = bench.take_orphans(Some("$share/g/t"));
    assert_eq!(orphans.iter().map(|orphan| orphan.message.payload()).collect::<Vec<_>>(), [&b"two"[..], b"three"]);
    assert_eq!((bench.session.waiting(), bench.session.waiting_bytes()), (2, 9));
    bench.attach(10);
    assert_eq!(bench.brief(), sent(&[(1, false, "one"), (4, false, "four")]));
}

/// A Client may go through as many Shared Subscriptions as it likes: what it has left is forgotten, unless something in flight came through it.
#[test]
fn shares_that_were_left_are_forgotten() {
    let mut bench = Bench::new(60, 10);
    let options = bucketmq_packet::SubscriptionOptions::with_qos(Q1);
    let mut numbers = std::collections::HashSet::new();
    for round in 0..1_000 {
        let filter = format!("$share/g{round}/t");
        let share = bench.session.subscribe(&filter, true, options, None).0.share;
        assert!(numbers.insert(share), "a number is never used again");
        if round == 500 {
            bench.deliver_as("held", Q1, None, share);
        }
        assert!(bench.session.unsubscribe(&filter).is_some());
        assert!(bench.take_orphans(Some(&filter)).is_empty());
    }
    assert!(bench.session.shares_known() < 40, "{}", bench.session.shares_known());
    let orphans = bench.take_orphans(None);
    assert_eq!(orphans.iter().map(|orphan| &*orphan.filter).collect::<Vec<_>>(), ["$share/g500/t"]);
}
