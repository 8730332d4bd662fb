//! The checker against histories made by hand: each promise kept, and broken.

use super::*;
use crate::history::Message;
use crate::scenario::Lives;

/// Client 0 is the witness, 1 publishes.
struct Story {
    history: History,
    profiles: Vec<Profile>,
}

fn profile(lives: Lives, filter: &str, reader: bool) -> Profile {
    Profile {
        v5: true,
        lives,
        publishing: None,
        subscribes: vec![(filter.to_owned(), 2)],
        will: None,
        keep_alive: 3,
        receive_maximum: 10,
        answers_ms: (0, 0),
        leaves_per_million: [0; 3],
        away_ms: (0, 0),
        first_ms: (0, 0),
        gives_up_per_mille: 0,
        reader,
    }
}

impl Story {
    /// A broker from 0 on, and the witness subscribed to everything at 10.
    fn new() -> Self {
        let mut story = Self { history: History::default(), profiles: vec![profile(Lives::Forever, "#", false)] };
        story.at(0, Event::Up { host: 0, started: 0 });
        story.joins(0, 10, false);
        for filter in ["t/#", "w/#"] {
            story.at(10, Event::Subscribing { client: 0, filter: filter.to_owned() });
            story.at(10, Event::Subscribed { client: 0, filter: filter.to_owned(), qos: 2 });
        }
        story
    }

    fn with(mut self, profile: Profile) -> Self {
        self.profiles.push(profile);
        self
    }

    fn at(&mut self, at: u64, event: Event) {
        self.history.add(at, event);
    }

    fn joins(&mut self, client: usize, at: u64, present: bool) {
        self.at(at, Event::Connect { client, will: None, clean: false });
        self.at(at, Event::Connected { client, host: 0, present });
    }

    fn publishes(&mut self, at: u64, qos: u8, topic: &str, acknowledged: bool) -> usize {
        self.history.messages.push(Message {
            publisher: 1,
            topic: topic.to_owned(),
            qos,
            retain: topic.starts_with('r'),
            empty: false,
            expiry: None,
            will_delay: topic.starts_with('w').then_some(0),
            sent: at,
            sent_again: None,
            acknowledged: acknowledged.then_some((at + 5, 0)),
            finished: acknowledged,
            abandoned: false,
        });
        self.history.messages.len() - 1
    }

    fn receives(&mut self, client: usize, at: u64, message: usize, retain: bool) {
        let qos = self.history.messages[message].qos;
        self.at(at, Event::Received { client, message, qos, dup: false, retain, expiry: None, fresh: true, host: 0 });
    }

    fn broken(&self) -> String {
        check(&self.history, &self.profiles).join("\n")
    }
}

#[test]
fn what_was_acknowledged_has_to_come_and_what_was_not_may() {
    let mut story = Story::new();
    let first = story.publishes(100, 1, "t/1", true);
    story.publishes(101, 1, "t/1", false);
    story.receives(0, 110, first, false);
    assert_eq!(story.broken(), "");
    story.publishes(102, 1, "t/1", true);
    assert!(story.broken().starts_with("client 0 never got 2 of t/1"), "{}", story.broken());
}

#[test]
fn quality_of_service_2_comes_once_and_1_may_come_again() {
    let mut story = Story::new();
    let (once, twice) = (story.publishes(100, 1, "t/1", true), story.publishes(101, 2, "t/1", true));
    story.receives(0, 110, once, false);
    story.receives(0, 111, once, false);
    story.receives(0, 112, twice, false);
    assert_eq!(story.broken(), "");
    story.receives(0, 113, twice, false);
    assert_eq!(story.broken(), "client 0 got 1 of t/1 2 times at QoS 2");
}

#[test]
fn messages_of_a_topic_keep_their_order_and_those_of_two_topics_need_not() {
    let mut story = Story::new();
    let (first, other, second) =
        (story.publishes(100, 1, "t/1", true), story.publishes(101, 1, "t/2", true), story.publishes(102, 1, "t/1", true));
    for message in [first, second, other, first] {
        story.receives(0, 110, message, false);
    }
    assert_eq!(story.broken(), "");
    let mut story = Story::new();
    let (first, second) = (story.publishes(100, 1, "t/1", true), story.publishes(101, 1, "t/1", true));
    story.receives(0, 110, second, false);
    story.receives(0, 111, first, false);
    assert_eq!(story.broken(), "at 111 client 0 got 0 of t/1 behind Some(1)");
}

#[test]
fn a_session_that_was_promised_is_there_and_one_that_is_over_is_not() {
    let visit = |away: u64, present| {
        let mut story = Story::new().with(profile(Lives::Seconds(5), "t/1", false));
        story.joins(1, 100, false);
        story.at(110, Event::Subscribing { client: 1, filter: "t/1".to_owned() });
        story.at(110, Event::Subscribed { client: 1, filter: "t/1".to_owned(), qos: 1 });
        story.at(10_000, Event::Ended { client: 1, how: End::Goodbye });
        story.joins(1, 10_000 + away, present);
        story.broken()
    };
    assert_eq!(visit(1_000, true), "");
    assert_eq!(visit(20_000, false), "");
    assert!(visit(1_000, false).contains("its Session is gone"));
    assert!(visit(20_000, true).contains("its Session is still there"));
}

#[test]
fn a_will_is_published_when_its_connection_broke_and_only_then() {
    let life = |how, fires, behind: Option<bool>| {
        let mut story = Story::new().with(profile(Lives::Connection, "x", false));
        let will = story.publishes(100, 2, "w/1", false);
        story.at(100, Event::Connect { client: 1, will: Some(will), clean: true });
        story.at(100, Event::Connected { client: 1, host: 0, present: false });
        // The weather is fair: what is published is acknowledged at once.
        for at in [200, 9_000] {
            let message = story.publishes(at, 1, "t/1", true);
            story.receives(0, at + 1, message, false);
        }
        if let Some(acknowledged) = behind {
            story.publishes(7_900, 1, "t/2", acknowledged);
        }
        story.at(8_000, Event::Ended { client: 1, how });
        if fires {
            story.receives(0, 8_100, will, false);
        }
        story.joins(0, 30_000, true);
        story.broken()
    };
    assert_eq!(life(End::Goodbye, false, None), "");
    assert_eq!(life(End::Cut, true, None), "");
    assert!(life(End::Goodbye, true, None).contains("was published although DISCONNECT came"));
    assert!(life(End::Goodbye, true, Some(true)).contains("was published although DISCONNECT came"));
    assert_eq!(life(End::Goodbye, true, Some(false)), "", "the broker may not have come to it");
    assert!(life(End::Cut, false, None).contains("was never published"));
}

#[test]
fn what_is_retained_is_the_last_that_was_acknowledged_or_something_later() {
    let read = |value: Option<usize>| {
        let mut story = Story::new().with(profile(Lives::Connection, "r/#", true));
        for at in [100, 101] {
            story.publishes(at, 1, "r/1", true);
        }
        story.publishes(102, 1, "r/1", false);
        story.joins(1, 200, false);
        story.at(201, Event::Subscribing { client: 1, filter: "r/#".to_owned() });
        story.at(202, Event::Subscribed { client: 1, filter: "r/#".to_owned(), qos: 1 });
        if let Some(value) = value {
            story.receives(1, 203, value, true);
        }
        story.broken()
    };
    assert_eq!(read(Some(1)), "");
    assert_eq!(read(Some(2)), "");
    assert!(read(Some(0)).contains("0 is retained on r/1"));
    assert!(read(None).contains("nothing is retained on r/1"));
}

#[test]
fn qos_1_that_is_sent_again_behind_qos_2_may_be_retained_once_more_and_nothing_else_may() {
    // A QoS 1 message, then one at QoS 2 that was acknowledged; the first was sent again at `again`.
    let read = |qos: [u8; 2], again: Option<u64>, clears: bool, comes: bool| {
        let mut story = Story::new().with(profile(Lives::Connection, "r/#", true));
        let (first, _) = (story.publishes(100, qos[0], "r/1", true), story.publishes(101, qos[1], "r/1", true));
        (story.history.messages[first].sent_again, story.history.messages[first].empty) = (again, clears);
        story.joins(1, 200, false);
        story.at(201, Event::Subscribing { client: 1, filter: "r/#".to_owned() });
        story.at(202, Event::Subscribed { client: 1, filter: "r/#".to_owned(), qos: 1 });
        if comes {
            story.receives(1, 203, first, true);
        }
        story.broken()
    };
    assert_eq!(read([1, 2], Some(150), false, true), "");
    assert!(read([1, 2], None, false, true).contains("0 is retained on r/1"), "it was not sent again");
    assert!(read([1, 2], Some(100), false, true).contains("0 is retained on r/1"), "it was sent again before the other one");
    assert!(read([2, 2], Some(150), false, true).contains("0 is retained on r/1"), "QoS 2 is known when it comes again");
    assert!(read([1, 1], Some(150), false, true).contains("0 is retained on r/1"), "the other one comes again behind it");
    // It may also clear what is retained.
    assert_eq!(read([1, 2], Some(150), true, false), "");
    assert!(read([1, 2], None, true, false).contains("nothing is retained on r/1"));
    assert!(read([1, 2], Some(150), false, false).contains("nothing is retained on r/1"));
}

#[test]
fn what_is_shared_comes_to_a_member_that_stays_or_to_another_one() {
    let share = |came_to: Option<usize>, brokers_ask: bool| {
        let mut story =
            Story::new().with(profile(Lives::Forever, "$share/g/t/2", false)).with(profile(Lives::Seconds(1), "$share/g/t/2", false));
        story.history.brokers_ask = brokers_ask;
        for client in [1, 2] {
            story.joins(client, 20, false);
            story.at(20, Event::Subscribing { client, filter: "$share/g/t/2".to_owned() });
        }
        // SUBACK for the one that goes got lost.
        story.at(21, Event::Subscribed { client: 1, filter: "$share/g/t/2".to_owned(), qos: 1 });
        let message = story.publishes(100, 1, "t/2", true);
        story.receives(0, 110, message, false);
        if let Some(client) = came_to {
            story.receives(client, 110, message, false);
        }
        story.broken()
    };
    for brokers_ask in [false, true] {
        assert_eq!(share(Some(1), brokers_ask), "");
        assert_eq!(share(Some(2), brokers_ask), "");
        assert!(share(None, brokers_ask).contains("no member of the share got 0 of t/2"));
    }
}

#[test]
fn topic_filters_match_as_the_specification_says() {
    let cases = [
        ("t/#", "t/1/2", true),
        ("t/#", "t", true),
        ("t/1/+", "t/1/2", true),
        ("t/+", "t/1/2", false),
        ("t/1", "t/2", false),
        ("$share/g/t/+", "t/1", true),
    ];
    for (filter, topic, expected) in cases {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}
