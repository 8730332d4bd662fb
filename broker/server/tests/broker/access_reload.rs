//! Users and roles that change under live Sessions, by a signal or by the file alone: what is withdrawn stops, everything else goes on.

use bucketmq_packet::{Connect, ConnectProperties, QoS, ReasonCode, Will};

use crate::client::{Broker, Came, Client, connect, tcp, until, users_file};

const SECURED: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"guest\"\n[access]\nusers_file = \"users\"\n\
                       [access.roles.worker]\nrules = [\"allow connect\", \"allow publish,subscribe work/#\", \"allow publish,subscribe more/#\"]\n\
                       [access.roles.reader]\nrules = [\"allow connect\", \"allow subscribe work/#\"]\n\
                       [access.roles.guest]\nrules = [\"allow connect\", \"allow subscribe news\"]\n";

/// What becomes of a user's line; None: it goes.
type Change<'a> = &'a dyn Fn(&str) -> Option<String>;

struct Scene {
    broker: Broker,
    users: String,
}

impl Scene {
    /// ann and bob are workers, cid is a reader.
    fn new() -> Self {
        let users = users_file(&[("ann", "worker"), ("bob", "worker"), ("cid", "reader")]);
        Self { broker: Broker::start_with_users(SECURED, &users), users }
    }

    fn client(&self, user: &str) -> Client {
        Client::open(self.broker.address, user, true, Some((user, "secret"))).unwrap()
    }

    /// Changes the line of `user`; the broker finds it by itself.
    fn change_user(&self, user: &str, change: Change<'_>) {
        let lines =
            self.users.lines().filter_map(|line| if line.starts_with(&format!("{user}:")) { change(line) } else { Some(line.to_owned()) });
        let text: String = lines.map(|line| line + "\n").collect();
        std::fs::write(self.broker.path("users"), text).unwrap();
    }
}

#[test]
fn a_right_that_a_role_loses_stops_on_live_sessions_and_the_others_go_on() {
    let scene = Scene::new();
    let broker = &scene.broker;
    let (mut ann, mut bob) = (scene.client("ann"), scene.client("bob"));
    ann.subscribe("work/#", QoS::AtMostOnce);
    ann.subscribe("more/#", QoS::AtMostOnce);
    bob.publish("work/1", b"heard", QoS::AtMostOnce);
    assert_eq!(ann.next(), Came::Publish("work/1".to_owned(), b"heard".to_vec()));
    let ready = broker.reconfigure(|text| text.replace("\"allow publish,subscribe work/#\", ", ""));
    assert!(ready.contains("\"ok\":true"), "{ready}");
    until(|| (broker.metric("mqtt_subscriptions{kind=\"plain\"}") == 1).then_some(()));
    assert_eq!(bob.publish_acknowledged("work/1", b"forbidden"), Came::PubAck(ReasonCode::NotAuthorized));
    assert_eq!(bob.publish_acknowledged("more/1", b"allowed"), Came::PubAck(ReasonCode::Success));
    assert_eq!(ann.next(), Came::Publish("more/1".to_owned(), b"allowed".to_vec()));
    assert_eq!(ann.subscribe("work/1", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::NotAuthorized]));
    // What comes back has to be asked for again.
    broker.reconfigure(|text| {
        text.replace(
            "rules = [\"allow connect\", \"allow publish,subscribe more/#\"]",
            "rules = [\"allow connect\", \"allow publish,subscribe #\"]",
        )
    });
    assert_eq!(bob.publish_acknowledged("work/1", b"nobody asked"), Came::PubAck(ReasonCode::NoMatchingSubscribers));
    assert_eq!(ann.subscribe("work/#", QoS::AtMostOnce), Came::SubAck(vec![ReasonCode::Success]));
    assert_eq!(broker.metric("mqtt_connections_opened_total"), 2, "nobody had to connect again");
}

#[test]
fn a_changed_configuration_file_is_found_without_a_signal() {
    let scene = Scene::new();
    let mut bob = scene.client("bob");
    assert_eq!(bob.publish_acknowledged("work/1", b""), Came::PubAck(ReasonCode::NoMatchingSubscribers));
    let text = std::fs::read_to_string(scene.broker.path("broker.toml")).unwrap();
    let text = text.replace("\"allow publish,subscribe work/#\", ", "");
    // As an editor does it: another file in its place.
    std::fs::write(scene.broker.path("new.toml"), text).unwrap();
    std::fs::rename(scene.broker.path("new.toml"), scene.broker.path("broker.toml")).unwrap();
    until(|| (bob.publish_acknowledged("work/1", b"") == Came::PubAck(ReasonCode::NotAuthorized)).then_some(()));
}

#[test]
fn a_user_who_is_removed_shut_out_or_given_another_password_is_disconnected_and_no_one_else() {
    let others = users_file(&[("bob", "worker")]);
    let change_password = |_: &str| Some(others.trim().to_owned());
    let changes: [(&str, Change<'_>, ReasonCode); 3] = [
        ("removed", &|_| None, ReasonCode::BadUserNameOrPassword),
        ("shut out", &|line| Some(format!("{line}:enabled=false")), ReasonCode::BadUserNameOrPassword),
        ("another password", &change_password, ReasonCode::Success),
    ];
    for (what, change, then) in changes {
        let scene = Scene::new();
        let (mut ann, mut bob) = (scene.client("ann"), scene.client("bob"));
        let mut guest = Client::open(scene.broker.address, "guest", true, None).unwrap();
        ann.subscribe("work/#", QoS::AtMostOnce);
        scene.change_user("bob", change);
        assert_eq!(bob.next(), Came::Disconnect(ReasonCode::NotAuthorized), "{what}");
        assert_eq!(bob.next(), Came::Closed, "{what}");
        // A new hash of the same word is another password to who is connected, and lets in who comes.
        let again = Client::open(scene.broker.address, "bob", true, Some(("bob", "secret")));
        assert_eq!(again.err(), (then != ReasonCode::Success).then_some(Came::ConnAck(then, false)), "{what}");
        assert!(ann.is_quiet() && guest.is_quiet(), "{what}");
        ann.publish("work/1", b"still here", QoS::AtMostOnce);
        assert_eq!(ann.next(), Came::Publish("work/1".to_owned(), b"still here".to_vec()), "{what}");
    }
}

#[test]
fn a_user_with_other_roles_stays_connected_with_the_rights_of_those() {
    let scene = Scene::new();
    let mut bob = scene.client("bob");
    bob.subscribe("work/#", QoS::AtMostOnce);
    bob.subscribe("more/#", QoS::AtMostOnce);
    scene.change_user("bob", &|line| Some(line.replace(":worker", ":reader")));
    until(|| (scene.broker.metric("mqtt_subscriptions{kind=\"plain\"}") == 1).then_some(()));
    assert_eq!(bob.publish_acknowledged("work/1", b""), Came::PubAck(ReasonCode::NotAuthorized));
    scene.client("ann").publish("work/1", b"to readers", QoS::AtMostOnce);
    assert_eq!(bob.next(), Came::Publish("work/1".to_owned(), b"to readers".to_vec()));
}

#[test]
fn a_users_file_that_is_broken_leaves_everybody_as_they_are_and_readyz_says_why() {
    let scene = Scene::new();
    let broker = &scene.broker;
    let mut bob = scene.client("bob");
    let before = broker.get("/readyz");
    scene.change_user("bob", &|line| Some(line.replace(":worker", ":nonsense")));
    let ready = broker.until_readyz("\"ok\":false");
    assert!(ready.contains("nonsense") && ready.contains("bob") && ready.contains("\"ready\":true"), "{ready}");
    let hash = |ready: &str| ready.split("\"users_hash\":\"").nth(1).map(|rest| rest[..64].to_owned()).unwrap();
    assert_eq!(hash(&ready), hash(&before));
    assert_eq!(bob.publish_acknowledged("work/1", b""), Came::PubAck(ReasonCode::NoMatchingSubscribers));
    scene.client("ann");
    // Repaired with one user less, by a signal.
    scene.change_user("bob", &|_| None);
    broker.signal("HUP");
    assert_eq!(bob.next(), Came::Disconnect(ReasonCode::NotAuthorized));
    broker.until_readyz("\"ok\":true");
}

#[test]
fn a_session_that_was_away_when_its_right_was_withdrawn_has_lost_the_subscription() {
    let scene = Scene::new();
    let broker = &scene.broker;
    let open = || Client::open(broker.address, "cid", false, Some(("cid", "secret"))).unwrap();
    open().subscribe("work/#", QoS::AtLeastOnce);
    broker.until_away(1);
    broker.reconfigure(|text| text.replace("\"allow subscribe work/#\"", "\"allow subscribe other/#\""));
    let mut cid = open();
    until(|| (broker.metric("mqtt_subscriptions{kind=\"plain\"}") == 0).then_some(()));
    scene.client("ann").publish_acknowledged("work/1", b"secret");
    assert!(cid.is_quiet());
}

#[test]
fn a_will_that_may_no_longer_be_published_stays_unsaid() {
    let scene = Scene::new();
    let broker = &scene.broker;
    let will = |topic| Will {
        topic,
        payload: b"gone",
        qos: QoS::AtMostOnce,
        retain: false,
        delay_interval: 0,
        message_expiry_interval: None,
        forward: (&[][..]).into(),
    };
    let open = |user: &'static str, topic| {
        let properties = ConnectProperties::default();
        let connect = Connect { will: Some(will(topic)), properties, ..connect(user, true, Some((user, "secret"))) };
        Client::over(tcp(broker.address), &connect).unwrap()
    };
    let (ann, bob) = (open("ann", "more/ann"), open("bob", "work/bob"));
    let mut cid = scene.client("cid");
    broker.reconfigure(|text| {
        text.replace("publish,subscribe more/#", "subscribe more/#").replace("allow subscribe work/#", "allow subscribe #")
    });
    cid.subscribe("#", QoS::AtMostOnce);
    drop(ann);
    until(|| (broker.metric("mqtt_sessions{state=\"connected\"}") == 2).then_some(()));
    drop(bob);
    assert_eq!(cid.next(), Came::Publish("work/bob".to_owned(), b"gone".to_vec()));
    assert_eq!(broker.metric("mqtt_wills_published_total"), 1);
}

/// A users file that is read again says nothing about a configuration that was refused.
#[test]
fn a_refused_configuration_stays_told_until_it_is_repaired() {
    let scene = Scene::new();
    let broker = &scene.broker;
    let ready = broker.reconfigure(|text| format!("{text}[limits]\nno_such_key = 1\n"));
    assert!(ready.contains("no_such_key"), "{ready}");
    let users = |ready: &str| ready.split("\"users_hash\":").nth(1).map(|rest| rest[..20].to_owned());
    let before = users(&ready);
    scene.change_user("cid", &|_| None);
    let ready = until(|| Some(broker.get("/readyz")).filter(|ready| users(ready) != before));
    assert!(ready.contains("no_such_key"), "{ready}");
    let ready = broker.reconfigure(|text| text.replace("[limits]\nno_such_key = 1\n", ""));
    assert!(ready.contains("\"ok\":true"), "{ready}");
}
