//! Plans of contents made by hand.

use super::*;
use crate::mosquitto::{Fault, Kind, PassedOver, Subscription as Subscribed};

const NOW: u64 = 1_800_000_000_000;

fn client(id: &str, messages: Vec<ClientMessage>) -> Client {
    Client {
        id: id.into(),
        username: None,
        username_uncertain: false,
        session_expiry_interval: u32::MAX,
        session_expiry_time: None,
        disconnected_at: None,
        last_mid: 0,
        listener_port: 0,
        messages,
    }
}

fn message(store_id: u64, topic: &str, expiry_time: Option<u64>, retain: bool) -> (u64, StoredMessage) {
    let message = StoredMessage {
        store_id,
        topic: topic.into(),
        payload: store_id.to_string().into_bytes(),
        properties: b"\x01\x01".to_vec(),
        expiry_time,
        source_id: "publisher".into(),
        source_username: None,
        source_mid: 0,
        source_port: 0,
        qos: QoS::ExactlyOnce,
        retain,
    };
    (store_id, message)
}

fn out(store_id: u64, mid: u16, qos: QoS, state: State) -> ClientMessage {
    let direction = Direction::Out;
    ClientMessage { store_id, mid, qos, direction, state, dup: false, retain: false, identifiers: vec![5] }
}

fn incoming(store_id: u64, mid: u16, state: State) -> ClientMessage {
    ClientMessage { direction: Direction::In, identifiers: Vec::new(), ..out(store_id, mid, QoS::ExactlyOnce, state) }
}

fn subscribed(client_id: &str, filter: &str) -> Subscribed {
    Subscribed {
        client_id: client_id.into(),
        filter: filter.into(),
        qos: QoS::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        identifier: Some(9),
    }
}

fn planned(contents: Contents) -> Plan {
    plan(contents, Shards::default(), NOW)
}

/// The only Session of a Client with these messages, each of which has content.
fn one(messages: Vec<ClientMessage>) -> (PlannedSession, Report) {
    let stored = messages.iter().map(|one| message(one.store_id, "t", None, false)).collect();
    let mut plan = planned(Contents { clients: vec![client("c", messages)], messages: stored, ..Contents::default() });
    (plan.sessions.remove(0), plan.report)
}

fn sequences(session: &PlannedSession) -> Vec<u64> {
    session.queue.iter().map(|entry| entry.sequence.0).collect()
}

#[test]
fn a_message_in_flight_keeps_its_packet_identifier_and_what_waits_follows() {
    let (qos1, qos2) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    let (session, report) = one(vec![
        out(1, 65_530, qos2, State::WaitForPubcomp),
        out(2, 65_534, qos2, State::WaitForPubrec),
        out(3, 65_535, qos1, State::WaitForPuback),
        out(4, 1, qos2, State::ResendPubrel),
        out(5, 4, qos1, State::PublishQos1),
        out(6, 0, QoS::AtMostOnce, State::Queued),
        out(7, 5, qos1, State::Queued),
    ]);
    assert_eq!(sequences(&session), [65_529, 65_533, 65_534, 65_535, 65_538, 65_539, 65_540]);
    let identifiers: Vec<_> = session.queue.iter().take(5).map(|entry| entry.sequence.0 % 65_535 + 1).collect();
    assert_eq!(identifiers, [65_530, 65_534, 65_535, 1, 4]);
    let released: Vec<_> = session.queue.iter().map(|entry| entry.released).collect();
    assert_eq!(released, [true, false, false, true, false, false, false]);
    assert_eq!(session.sent, Some(Sequence(65_539)));
    assert_eq!((&*session.queue[0].entry.identifiers, session.queue[0].entry.message.properties()), (&[5][..], &b"\x01\x01"[..]));
    assert_eq!(report, Report::default());
}

#[test]
fn without_a_message_in_flight_a_queue_begins_at_its_beginning() {
    let (session, _) = one(vec![out(1, 40_000, QoS::AtLeastOnce, State::Queued), out(2, 0, QoS::AtMostOnce, State::Queued)]);
    assert_eq!((sequences(&session), session.sent), (vec![0, 1], None));
}

#[test]
fn identifiers_that_run_backwards_are_changed_and_noted() {
    let messages = [9, 8, 10].map(|mid| out(mid.into(), mid, QoS::AtLeastOnce, State::WaitForPuback));
    let (session, report) = one(messages.to_vec());
    assert_eq!(sequences(&session), [8, 9, 10]);
    assert_eq!(report.notes[&Reason::PacketIdentifierChanged].examples, ["c: 8", "c: 10"]);
}

#[test]
fn what_was_taken_from_a_client_is_handed_on_and_its_identifier_stays_in_use() {
    let (session, _) = one(vec![
        incoming(1, 500, State::WaitForPubrel),
        incoming(2, 501, State::ResendPubcomp),
        incoming(3, 502, State::SendPubrec),
        incoming(4, 503, State::Queued),
    ]);
    let ids: Vec<_> = session.inbound.iter().map(|id| id.get()).collect();
    assert_eq!(ids, [500, 502, 503], "what is over is not in use");
    let payloads: Vec<_> = session.outbox.iter().map(|message| message.payload().to_vec()).collect();
    assert_eq!(payloads, [b"1", b"3", b"4"]);
    assert!(session.queue.is_empty());
}

#[test]
fn a_retained_message_on_its_way_takes_the_place_of_the_one_before() {
    let mut cleared = message(4, "cleared", None, true);
    cleared.1.payload.clear();
    let stored = HashMap::from([
        message(1, "a", None, true),
        message(2, "a", None, true),
        message(3, "cleared", None, true),
        cleared,
        message(5, "b", None, false),
    ]);
    let messages = vec![incoming(2, 1, State::WaitForPubrel), incoming(4, 2, State::WaitForPubrel), incoming(5, 3, State::WaitForPubrel)];
    let plan = planned(Contents { clients: vec![client("c", messages)], messages: stored, retained: vec![1, 3], ..Contents::default() });
    assert_eq!(plan.retained.len(), 2);
    assert_eq!(plan.retained["a"].as_ref().unwrap().payload(), b"2");
    assert_eq!(plan.retained["cleared"], None);
    assert_eq!(plan.sessions[0].outbox.len(), 3);
}

#[test]
fn what_has_expired_is_left_out_but_a_delivery_that_began_at_qos_2() {
    let stored = HashMap::from([
        message(1, "t", Some(NOW / 1000), true),
        message(2, "t", Some(NOW / 1000 + 1), true),
        message(3, "$SYS/x", None, true),
        message(4, "t/+", None, true),
    ]);
    let messages = vec![
        out(1, 1, QoS::ExactlyOnce, State::WaitForPubrec),
        out(1, 2, QoS::AtLeastOnce, State::WaitForPuback),
        out(1, 3, QoS::ExactlyOnce, State::Queued),
        out(2, 4, QoS::AtLeastOnce, State::Queued),
        out(77, 5, QoS::AtLeastOnce, State::Queued),
        out(4, 6, QoS::AtLeastOnce, State::Queued),
        incoming(1, 9, State::WaitForPubrel),
    ];
    let retained = vec![1, 3, 4, 2, 77];
    let plan = planned(Contents { clients: vec![client("c", messages)], messages: stored, retained, ..Contents::default() });
    let session = &plan.sessions[0];
    assert_eq!((sequences(session), session.sent), (vec![0, 1], Some(Sequence(1))));
    assert_eq!(session.queue[1].entry.message.expires_at(), Some(NOW + 1000));
    assert_eq!((session.inbound.len(), session.outbox.len()), (1, 0), "the identifier is answered all the same");
    assert_eq!(plan.retained.keys().collect::<Vec<_>>(), ["t"]);
    let skipped: Vec<_> = plan.report.skipped.iter().map(|(reason, count)| (*reason, count.count)).collect();
    assert_eq!(
        skipped,
        [
            (Reason::MessageExpired, 3),
            (Reason::MessageMissing, 1),
            (Reason::MessageInvalid, 1),
            (Reason::RetainedExpired, 1),
            (Reason::RetainedMissing, 1),
            (Reason::RetainedInvalid, 2)
        ]
    );
}

#[test]
fn a_session_goes_on_until_mosquitto_would_have_ended_it() {
    let seconds = NOW / 1000;
    let expiring = |id: &str, session_expiry_interval, session_expiry_time| Client {
        session_expiry_interval,
        session_expiry_time,
        ..client(id, Vec::new())
    };
    let clients = vec![
        expiring("for ever", u32::MAX, None),
        expiring("connected", 100, None),
        expiring("away", 100, Some(seconds + 40)),
        expiring("over", 100, Some(seconds)),
        expiring("not persistent", 0, None),
        expiring("persistent_client_expiration", u32::MAX, Some(seconds + 7)),
        expiring("clock went back", 100, Some(seconds + 500)),
        Client { disconnected_at: Some(seconds - 50), ..client("left", Vec::new()) },
        client("local.host.name", Vec::new()),
    ];
    let plan = planned(Contents { clients, ..Contents::default() });
    let found: Vec<_> = plan
        .sessions
        .iter()
        .map(|session| (session.client_id.as_str(), session.expiry_interval, (NOW - session.away_since) / 1000))
        .collect();
    assert_eq!(
        found,
        [
            ("for ever", u32::MAX, 0),
            ("connected", 100, 0),
            ("away", 100, 60),
            ("persistent_client_expiration", 7, 0),
            ("clock went back", 500, 0),
            ("left", u32::MAX, 50),
            ("local.host.name", u32::MAX, 0)
        ]
    );
    assert_eq!(plan.report.skipped[&Reason::SessionExpired].examples, ["over"]);
    assert_eq!(plan.report.skipped[&Reason::SessionNotPersistent].examples, ["not persistent"]);
    assert_eq!(plan.report.notes[&Reason::PerhapsBridge].examples, ["local.host.name"]);
}

#[test]
fn subscriptions_come_along_and_shared_ones_get_a_number() {
    let subscriptions = vec![
        subscribed("c", "a/#"),
        subscribed("c", "$share/g/b"),
        subscribed("c", "$share/h/b"),
        subscribed("c", "$share/g/b"),
        subscribed("c", "a/#/b"),
        subscribed("nobody", "x"),
    ];
    let passed_over = vec![PassedOver { kind: Kind::Client, offset: 5, fault: Fault::Text("x") }];
    let strays = vec!["nobody".to_owned()];
    let uncertain = Client { username: Some("ann".into()), username_uncertain: true, ..client("c", Vec::new()) };
    let plan = planned(Contents { clients: vec![uncertain], subscriptions, passed_over, strays, ..Contents::default() });
    let session = &plan.sessions[0];
    let found: Vec<_> = session.subscriptions.iter().map(|(filter, one)| (filter.as_str(), one.share, one.options.no_local)).collect();
    assert_eq!(found, [("$share/g/b", 1, false), ("$share/h/b", 2, false), ("a/#", 0, true)]);
    assert_eq!((session.last_share, session.owner.as_deref()), (2, Some("ann")));
    assert!(session.subscriptions.values().all(|one| one.identifier == Some(9) && one.options.retain_as_published));
    let report = &plan.report;
    assert_eq!((report.skipped(Reason::SubscriptionInvalid), report.skipped(Reason::ClientUnknown)), (1, 2));
    assert_eq!((report.skipped(Reason::Unreadable), report.noted(Reason::OwnerUncertain)), (1, 1));
}
