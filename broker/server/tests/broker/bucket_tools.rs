//! `bucketmq bucket` as a person uses it: on a directory and on a real S3 server, before, beside and after a broker.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use bucketmq_packet::{Connect, Packet, PacketType, Publish, QoS, ReasonCode, Will};
use bucketmq_servers::{Credentials, Kind, Options, Server};
use bucketmq_storage::Shards;
use serde_json::Value;

use crate::client::{Broker, Came, Client, binary, connect, publish, run, tcp};
use crate::durable::resume;

/// Sessions that are away while messages come for them.
const AWAY: [&str; 3] = ["one", "two", "three"];
/// The publisher, whose Session lasts.
const METER: &str = "meter";
/// Rows that every target has are written off within this time.
const ROWS_GONE: Duration = Duration::from_secs(20);

/// Somewhere to keep state, under several names.
pub struct Bucket {
    folder: tempfile::TempDir,
    server: Option<Server>,
}

impl Bucket {
    pub fn directory() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: None }
    }

    pub fn s3() -> Self {
        Self::of(Kind::Versitygw)
    }

    fn of(kind: Kind) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: Some(kind.start(Options::default()).unwrap()) }
    }

    /// Of what is the same everywhere a directory shows more.
    fn is_quick(&self) -> bool {
        self.server.is_none()
    }

    pub fn url(&self, name: &str) -> String {
        let Some(server) = &self.server else { return format!("file://{}/{name}", self.folder.path().display()) };
        let (bucket, endpoint) = (server.bucket(), server.endpoint());
        match server.credentials() {
            Credentials::S3 { region, .. } => format!("s3://{bucket}/{name}?region={region}&endpoint={endpoint}"),
            Credentials::Azure { account, .. } => format!("az://{account}/{bucket}/{name}?endpoint={endpoint}"),
            Credentials::Gcs { .. } => format!("gs://{bucket}/{name}?anonymous=true&endpoint={endpoint}"),
        }
    }

    /// Where the objects of `name` lie on this host, in a directory and on versitygw.
    fn files(&self, name: &str) -> PathBuf {
        match &self.server {
            None => self.folder.path().join(name),
            Some(server) => server.data().join(server.bucket()).join(name),
        }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let Some(server) = &self.server else { return Vec::new() };
        server.access().environment().into_iter().filter(|(name, _)| name.contains("KEY")).collect()
    }

    /// Whether no object of `name` is left.
    pub fn is_empty(&self, name: &str) -> bool {
        objects(&self.files(name)) == 0
    }

    pub fn broker(&self, name: &str) -> Broker {
        self.broker_with(name, "")
    }

    /// The same with more in `[bucket]`.
    pub fn broker_with(&self, name: &str, more: &str) -> Broker {
        let listener = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n";
        let environment: String = self.environment().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let config = format!("{listener}[bucket]\nurl = \"{}\"\n{more}", self.url(name));
        Broker::start_with(&config, |folder| std::fs::write(folder.join("environment"), environment).unwrap())
    }

    /// Runs `bucketmq bucket`.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Output {
        binary().arg("bucket").args(arguments).args(["--bucket", &self.url(name)]).envs(self.environment()).output().unwrap()
    }

    /// The same where it has to succeed: what it answers.
    pub fn done(&self, name: &str, arguments: &[&str]) -> Value {
        let output = self.tool(name, &[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}{}", texts(&output).0, texts(&output).1);
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// How many lines there are of each kind.
    fn exported(&self, name: &str, more: &[&str]) -> BTreeMap<String, usize> {
        let output = self.tool(name, &[&["export"], more].concat());
        assert!(output.status.success(), "{}", texts(&output).1);
        let mut kinds = BTreeMap::new();
        for line in texts(&output).0.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            *kinds.entry(line["kind"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        kinds
    }
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

pub fn stop(mut broker: Broker) {
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
}

/// Files below `folder`, but for those that are no objects.
fn objects(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |path: PathBuf| match path.is_dir() {
        true if path.ends_with(".bucketmq") => 0,
        true => objects(&path),
        false => 1,
    };
    entries.map(|entry| count(entry.unwrap().path())).sum()
}

fn exactly_once(client: &mut Client, topic: &str, payload: &str) {
    client.publish(topic, payload.as_bytes(), QoS::ExactlyOnce);
    finish(client);
}

/// PUBREC comes, PUBREL goes, PUBCOMP comes.
fn finish(client: &mut Client) {
    assert_eq!(client.next(), Came::Step(PacketType::PubRec, 7, ReasonCode::Success));
    client.step(PacketType::PubRel, 7);
    assert_eq!(client.next(), Came::Step(PacketType::PubComp, 7, ReasonCode::Success));
}

/// Takes `count` messages to their end, after which there is no other.
fn take(broker: &Broker, id: &str, count: usize) -> Vec<String> {
    let (mut client, present) = resume(broker, id);
    assert!(present, "{id}");
    let (mut taken, mut released, mut exactly) = (Vec::new(), 0, 0);
    while taken.len() < count || released < exactly {
        match client.next() {
            Came::Publish(_, payload) => {
                taken.push(String::from_utf8(payload).unwrap());
                let last = client.last.unwrap();
                if last.qos == QoS::ExactlyOnce {
                    exactly += 1;
                    client.step(PacketType::PubRec, last.packet_id.unwrap().get());
                } else {
                    client.acknowledge();
                }
            }
            Came::Step(PacketType::PubRel, packet_id, _) => {
                released += 1;
                client.step(PacketType::PubComp, packet_id);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(client.is_quiet(), "{id} gets more than {taken:?}");
    taken
}

fn expected(id: &str, numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(|number| format!("{id}-{number}")).collect()
}

/// Sessions with four messages each, one more whose publisher has not seen the end of its handshake, retained messages and a Will.
fn fill(broker: &Broker) {
    for id in AWAY {
        resume(broker, id).0.subscribe(&format!("work/{id}"), QoS::ExactlyOnce);
    }
    broker.until_away(AWAY.len() as u64);
    let will = Will {
        topic: "will",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        retain: false,
        delay_interval: 3600,
        message_expiry_interval: None,
        forward: std::borrow::Cow::Borrowed(b""),
    };
    drop(Client::over(tcp(broker.address), &Connect { will: Some(will), ..connect("willing", false, None) }).unwrap());
    let (mut meter, _) = resume(broker, METER);
    for number in 1..=3 {
        let message = Publish { retain: true, ..publish("", b"", QoS::AtLeastOnce) };
        meter.send(&Packet::Publish(Publish { topic: &format!("kept/{number}"), payload: b"old", ..message }));
        meter.next();
    }
    for id in AWAY {
        for number in [1, 2] {
            let sent = meter.publish_acknowledged(&format!("work/{id}"), format!("{id}-{number}").as_bytes());
            assert_eq!(sent, Came::PubAck(ReasonCode::Success));
        }
        for number in [3, 4] {
            exactly_once(&mut meter, &format!("work/{id}"), &format!("{id}-{number}"));
        }
    }
    meter.publish("work/one", b"one-5", QoS::ExactlyOnce);
    assert_eq!(meter.next(), Came::Step(PacketType::PubRec, 7, ReasonCode::Success));
}

/// Everything is there as it was filled, once, and what comes next comes, once.
fn serves_what_was_filled(broker: &Broker) {
    let (mut meter, present) = resume(broker, METER);
    assert!(present);
    // It has not heard that PUBREL arrived, and sends the message again.
    meter.send(&Packet::Publish(Publish { dup: true, ..publish("work/one", b"one-5", QoS::ExactlyOnce) }));
    finish(&mut meter);
    for id in AWAY {
        exactly_once(&mut meter, &format!("work/{id}"), &format!("{id}-6"));
    }
    assert_eq!(take(broker, "one", 6), expected("one", 1..=6));
    for id in ["two", "three"] {
        assert_eq!(take(broker, id, 5), [expected(id, 1..=4), expected(id, 6..=6)].concat());
    }
    assert_eq!(retained(broker), ["old", "old", "old"]);
}

fn retained(broker: &Broker) -> Vec<String> {
    let mut reader = broker.client("reader");
    reader.subscribe("kept/#", QoS::AtMostOnce);
    reader.take_all().into_iter().map(|(_, payload)| String::from_utf8(payload).unwrap()).collect()
}

/// From the first message to the last object of a bucket.
fn life(bucket: &Bucket) {
    // A broker before, so that epochs are not what a new bucket begins with.
    stop(bucket.broker("prod"));
    let broker = bucket.broker("prod");
    fill(&broker);
    stop(broker);
    let first = bucket.done("prod", &["snapshot", "first"]);
    assert!(first["held_ms"].is_null() && first["shards"].as_array().unwrap().len() == 16, "{first}");

    let broker = bucket.broker("prod");
    assert_eq!(take(&broker, "one", 5), expected("one", 1..=5));
    let (mut meter, _) = resume(&broker, METER);
    meter.step(PacketType::PubRel, 7);
    assert_eq!(meter.next(), Came::Step(PacketType::PubComp, 7, ReasonCode::Success));
    exactly_once(&mut meter, "work/two", "two-later");
    meter.retain("kept/1", b"");
    meter.retain("kept/2", b"new");
    works_beside(bucket, &broker);
    stop(broker);
    let second = bucket.is_quick().then(|| bucket.done("prod", &["snapshot", "second"]));

    // By name: as it was, and what is there now is not lost.
    let restored = bucket.done("prod", &["restore", "first"]);
    let before = restored["before"].as_str().unwrap();
    assert!(before.ends_with("-before-restore") && restored["epoch"].as_u64().unwrap() > 2, "{restored}");
    let broker = bucket.broker("prod");
    serves_what_was_filled(&broker);
    stop(broker);

    copies(bucket);
    if let Some(second) = second {
        comes_back_by_time(bucket, &second);
        copies_what_is_there_now(bucket);
        snapshots_go_with_what_only_they_hold(bucket);
    }
    let gone = bucket.done("prod", &["delete", "--yes"]);
    assert!(gone["deleted"].as_u64().unwrap() > 100, "{gone}");
    if bucket.server.as_ref().is_none_or(|server| server.access().kind == Kind::Versitygw) {
        assert_eq!(objects(&bucket.files("prod")), 0);
    }
    assert!(texts(&bucket.tool("prod", &["inspect"])).1.contains("no broker has used"));
    assert_eq!(bucket.done("copy", &["verify"])["faults"], 0, "what lies beside it is untouched");
}

/// The last one before a time, which is the second. What was done after it, and by the restore, is undone.
fn comes_back_by_time(bucket: &Bucket, second: &Value) {
    let at = second["made_at_ms"].as_u64().unwrap() + 1;
    let at = humantime::format_rfc3339_millis(std::time::UNIX_EPOCH + Duration::from_millis(at)).to_string();
    assert_eq!(bucket.done("prod", &["restore", &at])["snapshot"], second["name"]);
    let broker = bucket.broker("prod");
    assert!(resume(&broker, "one").0.is_quiet());
    assert_eq!(take(&broker, "two", 5), [expected("two", 1..=4), vec!["two-later".into()]].concat());
    let mut kept = retained(&broker);
    kept.sort_unstable();
    assert_eq!(kept, ["new", "old"]);
    stop(broker);
}

/// What reads does so; what changes state ends with 75 and names the broker.
fn works_beside(bucket: &Bucket, broker: &Broker) {
    let began = Instant::now();
    let inspected = loop {
        let inspected = bucket.done("prod", &["inspect"]);
        // A row leaves the outbox some time after its message has come.
        if inspected["total"]["outbox_rows"] == 0 || began.elapsed() > ROWS_GONE {
            break inspected;
        }
    };
    assert_eq!((inspected["total"]["sessions"].as_u64(), inspected["total"]["outbox_rows"].as_u64()), (Some(5), Some(0)), "{inspected}");
    assert_eq!(bucket.done("prod", &["inspect", "--client-id", "two"])["queue"]["messages"], 5);
    assert_eq!(bucket.done("prod", &["verify"])["faults"], 0);
    assert_eq!(bucket.exported("prod", &[])["queued"], 9);
    assert_eq!(bucket.done("prod", &["snapshots"])["snapshots"].as_array().unwrap().len(), 1);
    let commands = [&["restore", "first"][..], &["delete", "--yes"], &["repair", "--abandon", "3"], &["upgrade"]];
    std::thread::scope(|scope| {
        for arguments in &commands[..if bucket.is_quick() { 4 } else { 2 }] {
            scope.spawn(move || {
                let refused = bucket.tool("prod", arguments);
                let (_, errors) = texts(&refused);
                assert_eq!(refused.status.code(), Some(75), "{arguments:?}: {errors}");
                assert!(errors.contains("owns this bucket and lives"), "{arguments:?}: {errors}");
            });
        }
    });
    assert_eq!(broker.client("still").publish_acknowledged("t", b"x"), Came::PubAck(ReasonCode::NoMatchingSubscribers));
}

/// A copy of a snapshot is whole, and a broker of its own serves it; so is its export.
fn copies(bucket: &Bucket) {
    let kinds = bucket.exported("prod", &["--snapshot", "first"]);
    let counted = ["session", "subscription", "queued", "retained", "will", "packet_identifier"].map(|kind| kinds[kind]);
    assert_eq!(counted, [5, 3, 13, 3, 1, 1], "{kinds:?}");

    let target = bucket.url("copy");
    let cloned = bucket.done("prod", &["clone", &target, "--snapshot", "first"]);
    assert!(cloned["records"].as_u64().unwrap() > 40 && cloned["epoch"].as_u64().unwrap() > 2, "{cloned}");
    assert_eq!(bucket.exported("copy", &[]), kinds);
    let broker = bucket.broker("copy");
    serves_what_was_filled(&broker);
    stop(broker);
    let again = bucket.tool("prod", &["clone", &target]);
    assert!(again.status.code() == Some(1) && texts(&again).1.contains("has to be empty"), "{}", texts(&again).1);
}

/// Without a name it copies what is there now, and leaves no snapshot behind.
fn copies_what_is_there_now(bucket: &Bucket) {
    let names = |listed: Value| listed["snapshots"].as_array().unwrap().len();
    let before = names(bucket.done("prod", &["snapshots"]));
    bucket.done("prod", &["clone", &bucket.url("now")]);
    assert_eq!(names(bucket.done("prod", &["snapshots"])), before);
    assert_eq!(bucket.exported("now", &[]), bucket.exported("prod", &[]));
}

fn snapshots_go_with_what_only_they_hold(bucket: &Bucket) {
    let listed = bucket.done("prod", &["snapshots"]);
    let before = objects(&bucket.files("prod"));
    let names = listed["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["name"].as_str().unwrap());
    let arguments: Vec<&str> = ["snapshots"].into_iter().chain(names.flat_map(|name| ["--delete", name])).collect();
    bucket.done("prod", &arguments);
    assert!(objects(&bucket.files("prod")) < before);
    assert_eq!(bucket.done("prod", &["verify"])["faults"], 0);
    let broker = bucket.broker("prod");
    assert!(resume(&broker, "three").1);
    stop(broker);
}

#[test]
fn a_bucket_is_brought_back_copied_exported_and_deleted_in_a_directory() {
    life(&Bucket::directory());
}

#[test]
fn a_bucket_is_brought_back_copied_exported_and_deleted_on_s3() {
    life(&Bucket::s3());
}

#[test]
fn a_bucket_is_brought_back_copied_exported_and_deleted_on_azure() {
    life(&Bucket::of(Kind::Azurite));
}

#[test]
fn a_bucket_is_brought_back_copied_exported_and_deleted_on_google_cloud_storage() {
    life(&Bucket::of(Kind::FakeGcs));
}

/// The largest table of `shard`.
fn table(bucket: &Bucket, shard: &str) -> PathBuf {
    let folder = bucket.files("prod").join("shards").join(shard).join("compacted");
    let tables = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    tables.max_by_key(|path| path.metadata().unwrap().len()).unwrap()
}

#[test]
fn a_damaged_object_is_named_its_shard_is_given_up_and_all_others_are_served() {
    let bucket = Bucket::directory();
    let broker = bucket.broker("prod");
    fill(&broker);
    let (mut meter, _) = resume(&broker, METER);
    // So many blocks that the end of the table says nothing about its middle.
    for _ in 0..16 {
        meter.publish_acknowledged("work/two", &[b'x'; 16_384]);
    }
    stop(broker);
    assert_eq!(bucket.done("prod", &["verify"])["faults"], 0);
    let snapshot = bucket.done("prod", &["snapshot", "whole"]);
    let shard = Shards::default().of("two").to_string();
    let file = table(&bucket, &shard);
    let whole = std::fs::read(&file).unwrap();
    let flipped: Vec<u8> = whole.iter().enumerate().map(|(at, byte)| if at == whole.len() / 2 { byte ^ 1 } else { *byte }).collect();
    for damaged in [Some(&flipped[..]), Some(&whole[..whole.len() / 2]), Some(b""), None] {
        match damaged {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let verified = bucket.tool("prod", &["verify"]);
        let (text, _) = texts(&verified);
        let object = format!("shard {shard}: object shards/{shard}/compacted/{}: ", file.file_name().unwrap().to_str().unwrap());
        assert!(verified.status.code() == Some(1) && text.contains(&object), "{text}");
        assert!(text.contains(&format!("repair --abandon {shard}")), "{text}");
    }
    // Nothing of it can be mended, and nothing is done to it.
    let left = bucket.tool("prod", &["repair"]);
    assert!(left.status.code() == Some(1) && texts(&left).0.contains("left as it is"), "{}", texts(&left).0);
    let other = if shard == "00" { "01" } else { "00" };
    let sound = bucket.tool("prod", &["repair", "--abandon", other]);
    assert!(sound.status.code() == Some(1) && texts(&sound).1.contains("can be read whole"), "{}", texts(&sound).1);
    let abandoned = bucket.done("prod", &["repair", "--abandon", &shard]);
    assert_eq!(abandoned["abandoned"][0]["snapshots"], 1, "{abandoned}");
    let aside = abandoned["abandoned"][0]["to"].as_str().unwrap().to_owned();
    assert!(objects(&bucket.files("prod").join(&aside)) > 3);
    assert_eq!(bucket.done("prod", &["verify"])["faults"], 0);
    let broker = bucket.broker("prod");
    assert!(!resume(&broker, "two").1, "its Session is gone");
    assert_eq!(take(&broker, "one", 5), expected("one", 1..=5));
    let (mut meter, _) = resume(&broker, METER);
    meter.step(PacketType::PubRel, 7);
    assert_eq!(meter.next(), Came::Step(PacketType::PubComp, 7, ReasonCode::Success));
    exactly_once(&mut meter, "work/three", "three-5");
    assert_eq!(take(&broker, "three", 5), expected("three", 1..=5));
    stop(broker);
    // A snapshot that wants the lost object is refused, and usable again when the object is back where the shard is now.
    let refused = bucket.tool("prod", &["restore", "whole"]);
    assert!(
        refused.status.code() == Some(1) && texts(&refused).1.contains(file.file_name().unwrap().to_str().unwrap()),
        "{}",
        texts(&refused).1
    );
    std::fs::write(bucket.files("prod").join(&aside).join("compacted").join(file.file_name().unwrap()), &whole).unwrap();
    assert_eq!(bucket.done("prod", &["restore", "whole"])["snapshot"], snapshot["name"]);
    assert_eq!(bucket.done("prod", &["verify"])["faults"], 0);
    let broker = bucket.broker("prod");
    assert_eq!(take(&broker, "three", 4), expected("three", 1..=4));
    assert!(resume(&broker, "two").1, "its Session is back");
}

#[test]
fn wrong_words_are_answered_with_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let empty = format!("file://{}", folder.path().display());
    for (arguments, code, says) in [
        (&["bucket", "inspect"][..], 2, "--bucket URL"),
        (&["bucket", "inspect", "--bucket", "s4://x"], 78, "\"s4\" is not a scheme"),
        (&["bucket", "verify", "--bucket", "file:///no/such"], 1, "there is no such directory"),
        (&["bucket", "verify", "--bucket", &empty], 1, "no broker has used this bucket and prefix"),
        (&["bucket", "restore", "x", "--bucket", &empty], 1, "no broker has used this bucket and prefix"),
        (&["bucket", "delete", "--yes", "--bucket", &empty], 1, "no broker has used this bucket and prefix"),
        (&["bucket", "snapshot", "a/b", "--bucket", &empty], 2, "letters, digits"),
        (&["bucket", "clone", "memory://", "--bucket", &empty], 1, "no broker has used this bucket and prefix"),
        (&["bucket", "clone", &empty, "--bucket", &empty], 2, "lie in each other"),
        (&["bucket", "policy", "--bucket", "s3://fleet/prod"], 0, ""),
    ] {
        let (ended, out, errors) = run(arguments, folder.path(), "");
        assert!(ended == code && errors.contains(says), "{arguments:?} ended with {ended}: {out}{errors}");
        assert!(code != 0 || out.contains("arn:aws:s3:::fleet/prod/*"), "{out}");
    }
    // Half of a copy is nobody's state.
    let half = folder.path().join("half");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("root"), "{\"format\":1,\"folder\":\"\"}").unwrap();
    let half = format!("file://{}", half.display());
    for command in ["inspect", "verify", "snapshot", "export"] {
        let (code, _, errors) = run(&["bucket", command, "--bucket", &half], folder.path(), "");
        assert!(code == 1 && errors.contains("has not come to its end"), "{command}: {errors}");
    }
    let (code, _, errors) = run(&["bucket", "delete", "--bucket", &half], folder.path(), "something else\n");
    assert!(code == 1 && errors.contains("nothing is deleted"), "{errors}");
    let (code, out, errors) = run(&["bucket", "delete", "--bucket", &half], folder.path(), &format!("{half}\n"));
    assert!(code == 0 && out.contains("1 object deleted"), "{out}{errors}");
}
