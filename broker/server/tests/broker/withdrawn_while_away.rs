//! A right that is withdrawn while the Client is away is withdrawn from its Session.

use bucketmq_packet::QoS;

use crate::client::{Broker, Came, Client, users_file};

const SECURED: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\n[access]\nusers_file = \"users\"\n\
                       [access.roles.writer]\nrules = [\"allow connect\", \"allow publish work/#\"]\n\
                       [access.roles.reader]\nrules = [\"allow connect\", \"allow subscribe work/#\"]\n";

#[test]
fn what_is_published_after_a_right_was_withdrawn_does_not_wait_for_a_session_that_is_away() {
    let broker = Broker::start_with_users(SECURED, &users_file(&[("ann", "writer"), ("cid", "reader")]));
    let open = |user: &str, clean| Client::open(broker.address, user, clean, Some((user, "secret"))).unwrap();
    open("cid", false).subscribe("work/#", QoS::AtLeastOnce);
    broker.until_away(1);
    broker.reconfigure(|text| text.replace("allow subscribe work/#", "allow subscribe other/#"));
    open("ann", true).publish_acknowledged("work/1", b"not for cid any more");
    assert_eq!(open("cid", false).take_all(), []);
}

#[test]
fn a_right_that_was_withdrawn_while_no_broker_was_there_is_withdrawn_when_one_starts() {
    let config = format!("{SECURED}[bucket]\nurl = \"file://@FOLDER@/bucket\"\n");
    let mut broker = Broker::start_with_users(&config, &users_file(&[("ann", "writer"), ("bob", "reader"), ("cid", "reader")]));
    let open = |broker: &Broker, user: &str, clean| Client::open(broker.address, user, clean, Some((user, "secret"))).unwrap();
    for user in ["bob", "cid"] {
        open(&broker, user, false).subscribe("work/#", QoS::AtLeastOnce);
    }
    broker.until_away(2);
    broker.signal("TERM");
    broker.wait();
    std::fs::write(broker.path("users"), users_file(&[("ann", "writer"), ("bob", "reader"), ("cid", "writer")])).unwrap();
    broker.start_again();
    assert_eq!(broker.metric("mqtt_subscriptions{kind=\"plain\"}"), 1);
    open(&broker, "ann", true).publish_acknowledged("work/1", b"for bob");
    assert_eq!(open(&broker, "bob", false).next(), Came::Publish("work/1".into(), b"for bob".to_vec()));
    assert_eq!(open(&broker, "cid", false).take_all(), []);
}
