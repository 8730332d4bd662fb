//! Faults planted one by one, and what must not be taken for one.

use super::{Promise, Verdict, check, count};
use crate::history::{ClientNumber, Event, History, Kind, Message, Stream, What};

const PUBLISHER: ClientNumber = 1;
const SUBSCRIBER: ClientNumber = 2;

/// A history with one publisher, one subscriber and one stream.
struct Scene(History);

impl Scene {
    fn new(qos: u8, kind: Kind) -> Self {
        let mut history = History::new();
        history.clients.extend(["publisher".to_owned(), "subscriber".to_owned()]);
        history.streams.push(Stream { publisher: PUBLISHER, topic: "messages/1".into(), qos, kind });
        Self(history)
    }

    fn subscribed(qos: u8, kind: Kind) -> Self {
        Self::new(qos, kind).then(SUBSCRIBER, What::Subscribed { filter: "messages/#".into(), qos: 2 })
    }

    fn then(mut self, client: ClientNumber, what: What) -> Self {
        let at = std::time::Duration::from_millis(self.0.events.len() as u64);
        self.0.events.push(Event { at, client, what });
        self
    }

    fn sent(self, number: u32) -> Self {
        self.then(PUBLISHER, What::Sent { message: message(number), packet_id: 1, dup: false })
    }

    fn acknowledged(self, number: u32) -> Self {
        self.sent(number).then(PUBLISHER, What::Acknowledged(message(number)))
    }

    fn arrived(self, number: u32) -> Self {
        self.then(SUBSCRIBER, What::Arrived { message: message(number), packet_id: 1, qos: 2, dup: false, retain: false })
    }

    fn retained(self, number: Option<u32>) -> Self {
        self.then(SUBSCRIBER, What::RetainedFound { stream: 0, number })
    }

    fn check(&self) -> Verdict {
        let verdict = check(&self.0);
        assert_eq!(verdict.broken, count(&self.0).broken);
        verdict
    }

    /// That `promise` is broken once, nothing else is, and its history is told.
    #[track_caller]
    fn breaks(&self, promise: Promise) {
        let verdict = self.check();
        assert_eq!(verdict.broken.iter().map(|(promise, count)| (*promise, *count)).collect::<Vec<_>>(), [(promise, 1)]);
        assert!(!verdict.told[0].what.is_empty() && !verdict.told[0].history.is_empty(), "{verdict:#?}");
    }

    #[track_caller]
    fn is_clean(&self) -> Verdict {
        let verdict = self.check();
        assert!(verdict.is_clean(), "{verdict:#?}");
        verdict
    }
}

fn message(number: u32) -> Message {
    Message { stream: 0, number }
}

#[test]
fn what_keeps_its_promises_is_clean() {
    let scene = Scene::subscribed(2, Kind::Live).acknowledged(0).arrived(0).sent(1).acknowledged(2).arrived(2);
    let counts = scene.is_clean().counts;
    assert_eq!((counts.acknowledged, counts.owed, counts.arrived), (2, 2, 2));
}

#[test]
fn an_acknowledged_message_that_never_came_is_lost() {
    let scene = Scene::subscribed(1, Kind::Live).acknowledged(0).acknowledged(1).arrived(0);
    scene.breaks(Promise::Delivered);
    let told = &scene.check().told[0];
    assert!(told.what.contains("subscriber never got message 1 of publisher to messages/1 at QoS 1"), "{}", told.what);
    assert!(told.history.iter().any(|line| line.contains("gets its acknowledgement")), "{:?}", told.history);
}

#[test]
fn a_message_that_was_not_acknowledged_need_not_come() {
    Scene::subscribed(2, Kind::Live).sent(0).is_clean();
    Scene::subscribed(2, Kind::Live).sent(0).arrived(0).is_clean();
}

#[test]
fn who_subscribes_later_is_owed_only_what_is_sent_later() {
    let late = |scene: Scene| scene.then(SUBSCRIBER, What::Subscribed { filter: "messages/#".into(), qos: 2 });
    late(Scene::new(1, Kind::Live).acknowledged(0)).is_clean();
    late(Scene::new(1, Kind::Live).sent(0)).then(PUBLISHER, What::Acknowledged(message(0))).is_clean();
    late(Scene::new(1, Kind::Live)).acknowledged(0).breaks(Promise::Delivered);
}

#[test]
fn another_filter_owes_nothing() {
    let scene = Scene::new(1, Kind::Live).then(SUBSCRIBER, What::Subscribed { filter: "other/#".into(), qos: 2 });
    assert_eq!(scene.acknowledged(0).is_clean().counts.owed, 0);
}

#[test]
fn qos_2_comes_once() {
    Scene::subscribed(2, Kind::Live).acknowledged(0).arrived(0).arrived(0).breaks(Promise::Once);
    Scene::subscribed(2, Kind::Live).acknowledged(0).arrived(0).then(SUBSCRIBER, What::Repeated(message(0))).is_clean();
}

#[test]
fn qos_1_may_come_twice_and_is_counted() {
    let counts = Scene::subscribed(1, Kind::Live).acknowledged(0).arrived(0).arrived(0).is_clean().counts;
    assert_eq!((counts.repeated_qos1, counts.repeated_without_dup), (1, 1));
    let granted_1 = Scene::new(2, Kind::Live).then(SUBSCRIBER, What::Subscribed { filter: "messages/#".into(), qos: 1 });
    assert_eq!(granted_1.acknowledged(0).arrived(0).arrived(0).is_clean().counts.repeated_qos1, 1);
}

#[test]
fn first_arrivals_stand_in_order() {
    Scene::subscribed(1, Kind::Live).acknowledged(0).acknowledged(1).arrived(1).arrived(0).breaks(Promise::InOrder);
    Scene::subscribed(1, Kind::Live).acknowledged(0).acknowledged(1).arrived(0).arrived(1).arrived(0).arrived(1).is_clean();
}

#[test]
fn a_retained_topic_holds_the_last_acknowledged_or_a_later_one() {
    let scene = || Scene::new(1, Kind::Retained).acknowledged(0).acknowledged(1).sent(2);
    scene().retained(Some(0)).breaks(Promise::RetainedFresh);
    scene().retained(None).breaks(Promise::RetainedFresh);
    scene().retained(Some(3)).breaks(Promise::RetainedFresh);
    scene().retained(Some(1)).is_clean();
    scene().retained(Some(2)).is_clean();
}

#[test]
fn a_topic_that_was_cleared_holds_nothing() {
    let scene = || Scene::new(1, Kind::Cleared).acknowledged(0).acknowledged(1);
    scene().retained(Some(0)).breaks(Promise::RetainedFresh);
    scene().retained(None).is_clean();
    scene().acknowledged(2).retained(None).breaks(Promise::RetainedFresh);
    scene().acknowledged(2).sent(3).retained(None).is_clean();
}

#[test]
fn what_comes_because_somebody_subscribes_is_no_delivery() {
    let retained = What::Arrived { message: message(0), packet_id: 1, qos: 2, dup: false, retain: true };
    Scene::subscribed(2, Kind::Retained).acknowledged(0).arrived(0).then(SUBSCRIBER, retained).is_clean();
}

#[test]
fn a_session_that_was_promised_is_there() {
    let connected = |present, owed| Scene::new(1, Kind::Live).then(SUBSCRIBER, What::Connected { present, owed });
    connected(false, true).breaks(Promise::SessionKept);
    connected(false, false).is_clean();
    assert_eq!(connected(true, true).is_clean().counts.sessions_kept, 1);
}

#[test]
fn a_will_comes_when_its_connection_ends() {
    let armed = || Scene::subscribed(2, Kind::Will).then(PUBLISHER, What::Armed(message(0)));
    armed().is_clean();
    let due = || armed().then(PUBLISHER, What::Due { message: message(0), delay: 0 });
    due().breaks(Promise::WillFired);
    assert_eq!(due().arrived(0).is_clean().counts.wills_owed, 1);
    due().arrived(0).arrived(0).breaks(Promise::Once);
    // Its CONNECT was not acknowledged by anything.
    Scene::subscribed(2, Kind::Will).then(PUBLISHER, What::Due { message: message(0), delay: 0 }).is_clean();
}

#[test]
fn a_will_waits_for_its_delay() {
    let due = |delay| {
        Scene::subscribed(2, Kind::Will).then(PUBLISHER, What::Armed(message(0))).then(PUBLISHER, What::Due { message: message(0), delay })
    };
    due(9).arrived(0).breaks(Promise::WillFired);
    due(0).arrived(0).is_clean();
}

#[test]
fn what_stands_by_itself_breaks_a_promise() {
    Scene::new(2, Kind::Live).then(PUBLISHER, What::Unfinished(message(0))).breaks(Promise::HandshakeEnded);
    Scene::new(2, Kind::Live).then(SUBSCRIBER, What::Nonsense("what is this".into())).breaks(Promise::Sense);
    Scene::new(2, Kind::Live).then(0, What::Failed("the broker ended".into())).breaks(Promise::BrokerThere);
}

#[test]
fn nothing_is_promised_to_transient_clients() {
    Scene::subscribed(1, Kind::Transient).acknowledged(0).is_clean();
}
