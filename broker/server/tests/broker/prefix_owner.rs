//! Brokers that were given one prefix by mistake, or on purpose: `[bucket] owner` and `adopt`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bucket_health::until_reason;
use crate::bucket_tools::{Bucket, stop};
use crate::client::{Broker, pass, until};
use crate::durable::STORED;

/// The configuration of another broker at the bucket of `first`.
fn another(first: &Broker, more: &str) -> String {
    let bucket = format!("{}/bucket", first.folder.path().display());
    format!("{}{more}", STORED.replace("@FOLDER@/bucket", &bucket))
}

fn owned(owner: &str) -> String {
    format!("{STORED}owner = \"{owner}\"\n")
}

fn record(broker: &Broker) -> Value {
    serde_json::from_slice(&std::fs::read(broker.path("bucket/prefix-owner")).unwrap()).unwrap()
}

#[test]
fn a_broker_of_another_owner_waits_alive_and_says_whose_the_prefix_is_until_it_may_adopt_it() {
    let mut first = Broker::start(&owned("cluster/prod/fleet"));
    assert_eq!(record(&first), json!({ "format": 1, "owner": "cluster/prod/fleet" }));
    // Also when the first one has the shards no more.
    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(0), "{}", first.log());

    let mut second = Broker::begin(&another(&first, "owner = \"cluster/prod/other\"\n"), |_| {});
    let text = until_reason(&second, "PrefixInUse");
    assert!(text.contains("\"cluster/prod/fleet\"") && text.contains("adopt = "), "{text}");
    let ready = second.readyz();
    assert_eq!((&ready["ready"], &ready["awaiting"]), (&json!(false), &json!(["listeners", "prefix"])), "{ready}");
    assert!(second.get("/livez").starts_with("HTTP/1.1 200"));
    pass(Duration::from_secs(6));
    assert_eq!(second.log().matches("the prefix belongs to").count(), 1, "{}", second.log());
    second.signal("TERM");
    assert_eq!(second.wait().code(), Some(0), "{}", second.log());
    assert_eq!(record(&first)["owner"], "cluster/prod/fleet");

    let text = std::fs::read_to_string(second.path("broker.toml")).unwrap();
    let adopting = text.replace("owner = \"cluster/prod/other\"", "owner = \"cluster/prod/other\"\nadopt = \"cluster/prod/fleet\"");
    std::fs::write(second.path("broker.toml"), adopting).unwrap();
    second.start_again();
    assert_eq!(record(&first)["owner"], "cluster/prod/other");
    // Who had it before waits now, and goes on when it is given back.
    first.begin_again();
    until_reason(&first, "PrefixInUse");
    second.signal("TERM");
    second.wait();
    std::fs::remove_file(first.path("bucket/prefix-owner")).unwrap();
    first.until_ready();
    assert!(first.log().contains("the bucket can be used"), "{}", first.log());
    assert_eq!(record(&first)["owner"], "cluster/prod/fleet");
}

#[test]
fn brokers_of_one_owner_replace_each_other_as_ever() {
    let mut old = Broker::start(&format!("{}[cluster]\nmember = \"old\"\n", owned("fleet")));
    let more = "owner = \"fleet\"\n[cluster]\nmember = \"new\"\ntakeover = \"new\"\n";
    let new = Broker::start(&another(&old, more));
    old.until_readyz("\"owner\":\"new\"");
    assert_eq!(old.readyz()["bucket"]["reason"], "Healthy");
    stop(new);
    old.until_ready();
}

#[test]
fn who_names_no_owner_neither_writes_nor_minds_the_record() {
    let mut broker = Broker::start(STORED);
    assert!(!broker.path("bucket/prefix-owner").exists());
    broker.signal("TERM");
    broker.wait();
    std::fs::write(broker.path("bucket/prefix-owner"), "{\"format\":1,\"owner\":\"somebody\"}").unwrap();
    broker.start_again();
    assert_eq!(record(&broker)["owner"], "somebody");
}

#[test]
fn a_record_that_this_release_does_not_know_ends_the_start_and_is_left_alone() {
    let mut broker = Broker::start(&owned("fleet"));
    broker.signal("TERM");
    broker.wait();
    let unknown = "{\"format\":2,\"owner\":\"fleet\"}";
    std::fs::write(broker.path("bucket/prefix-owner"), unknown).unwrap();
    broker.begin_again();
    assert_eq!(broker.wait().code(), Some(1), "{}", broker.log());
    assert!(broker.log().contains("prefix-owner: format 2"), "{}", broker.log());
    assert_eq!(std::fs::read_to_string(broker.path("bucket/prefix-owner")).unwrap(), unknown);
}

#[test]
fn delete_with_an_owner_spares_the_prefixes_of_others_and_inspect_tells_whose_it_is() {
    for bucket in [Bucket::directory(), Bucket::s3()] {
        stop(bucket.broker_with("prod", "owner = \"fleet\"\n"));
        assert_eq!(bucket.done("prod", &["inspect"])["prefix_owner"], "fleet");
        let told = bucket.tool("prod", &["inspect"]);
        assert!(String::from_utf8(told.stdout).unwrap().contains("the prefix belongs to fleet"));
        let refused = bucket.tool("prod", &["delete", "--yes", "--owner", "other"]);
        let errors = String::from_utf8(refused.stderr).unwrap();
        assert!(refused.status.code() == Some(75) && errors.contains("the prefix belongs to fleet"), "{errors}");
        assert_eq!(bucket.done("prod", &["inspect"])["prefix_owner"], "fleet", "nothing is gone");
        // A copy is for whoever comes first, and a restore changes nothing of it.
        bucket.done("prod", &["clone", &bucket.url("copy")]);
        assert!(bucket.done("copy", &["inspect"])["prefix_owner"].is_null());
        bucket.done("prod", &["snapshot", "one"]);
        bucket.done("prod", &["restore", "one"]);
        assert_eq!(bucket.done("prod", &["inspect"])["prefix_owner"], "fleet");
        assert!(bucket.done("prod", &["delete", "--yes", "--owner", "fleet"])["deleted"].as_u64().unwrap() > 16);
        assert_eq!(bucket.tool("prod", &["inspect"]).status.code(), Some(1), "there is nothing");
        // Whoever does it again, because nobody told how it went, is not told of a mistake.
        assert_eq!(bucket.done("prod", &["delete", "--yes", "--owner", "fleet"])["deleted"], 0);
        assert!(bucket.done("copy", &["delete", "--yes", "--owner", "fleet"])["deleted"].as_u64().unwrap() > 16, "it is nobody's");
        until(|| bucket.is_empty("prod").then_some(()));
    }
}
