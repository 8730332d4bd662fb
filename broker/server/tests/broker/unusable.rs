//! A bucket that cannot be used when a broker starts: with `on_unusable = "wait"` the broker lives, says why, and heals by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bucketmq_packet::{QoS, ReasonCode};
use bucketmq_servers::{Fault, FaultProxy, Options, ProxyOptions, Server, Versitygw};
use serde_json::json;

use crate::bucket_health::until_reason;
use crate::client::{Broker, Came, pass, until};
use crate::durable::{STORED, resume};

/// Time within which a broker that waits has tried again, and opened what it found.
const HEALED: Duration = Duration::from_secs(15);

struct Scene {
    server: Server,
    proxy: FaultProxy,
}

impl Scene {
    fn new() -> Self {
        let server = Versitygw::start(Options::default()).unwrap();
        let proxy = FaultProxy::start(&server, ProxyOptions::default()).unwrap();
        Self { server, proxy }
    }

    /// A broker whose bucket, called `name`, is behind the proxy.
    fn begin(&self, name: &str, on_unusable: &str) -> Broker {
        begin(&format!("s3://{name}/prod?region=us-east-1&endpoint={}", self.proxy.endpoint()), on_unusable, |key| {
            self.proxy.access().environment().into_iter().find(|(name, _)| *name == key).unwrap().1
        })
    }
}

fn begin(url: &str, on_unusable: &str, value: impl Fn(&str) -> String) -> Broker {
    let environment: String =
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].iter().map(|name| format!("{name}={}\n", value(name))).collect();
    let config = format!(
        "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n[bucket]\nurl = \"{url}\"\non_unusable = \"{on_unusable}\"\n\
         request_timeout = \"4s\"\nattempt_timeout = \"2s\"\nconnect_timeout = \"1s\"\nmax_attempts = 2\n"
    );
    Broker::begin(&config, |folder| std::fs::write(folder.join("environment"), environment).unwrap())
}

/// It lives, says `reason`, and is not ready.
fn expect_waiting(broker: &Broker, reason: &str, awaiting: &str) -> String {
    let text = until_reason(broker, reason);
    let ready = broker.readyz();
    assert!(ready["ready"] == false && ready["bucket"]["healthy"] == false, "{ready}");
    assert!(ready["awaiting"].as_array().unwrap().contains(&json!(awaiting)), "{ready}");
    assert!(broker.get("/livez").starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(broker.address).is_err(), "Clients would hang");
    text
}

fn serves(broker: &mut Broker) {
    let began = Instant::now();
    broker.until_ready();
    assert!(began.elapsed() < HEALED, "{:?}", began.elapsed());
    assert_eq!(broker.readyz()["bucket"]["reason"], "Healthy");
    let (mut client, _) = resume(broker, "client");
    client.subscribe("served", QoS::AtLeastOnce);
    assert_eq!(broker.client("publisher").publish_acknowledged("served", b"x"), Came::PubAck(ReasonCode::Success));
}

fn warnings(broker: &Broker) -> usize {
    broker.log().matches("the bucket cannot be used: trying again").count()
}

#[test]
fn a_bucket_that_is_away_at_the_start_is_waited_for_and_each_reason_is_logged_once() {
    let scene = Scene::new();
    scene.proxy.refuse(true);
    let mut broker = scene.begin(scene.server.bucket(), "wait");
    let text = expect_waiting(&broker, "Unreachable", "bucket");
    assert!(text.contains("the connection is refused"), "{text}");
    pass(Duration::from_secs(9));
    assert_eq!(expect_waiting(&broker, "Unreachable", "bucket"), text);
    assert_eq!(warnings(&broker), 1, "{}", broker.log());
    scene.proxy.inject(Fault::AccessDenied.always());
    scene.proxy.refuse(false);
    let denied = expect_waiting(&broker, "AccessDenied", "bucket");
    assert!(denied.contains("bucketmq bucket policy"), "{denied}");
    assert_eq!(warnings(&broker), 2, "{}", broker.log());
    scene.proxy.heal();
    serves(&mut broker);
    assert_eq!(broker.log().matches("the bucket can be used").count(), 1, "{}", broker.log());
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
}

#[test]
fn a_bucket_that_does_not_exist_yet_is_used_once_it_does() {
    let scene = Scene::new();
    let mut broker = scene.begin("made-later", "wait");
    let text = expect_waiting(&broker, "NotFound", "bucket");
    assert!(text.contains("there is no such bucket"), "{text}");
    scene.server.create_bucket("made-later").unwrap();
    serves(&mut broker);
}

#[test]
fn shards_that_cannot_be_opened_for_now_are_given_back_and_opened_later() {
    let scene = Scene::new();
    let mut broker = scene.begin(scene.server.bucket(), "wait");
    broker.until_ready();
    let (mut away, _) = resume(&broker, "away");
    away.subscribe("t", QoS::AtLeastOnce);
    drop(away);
    broker.until_away(1);
    assert_eq!(broker.client("publisher").publish_acknowledged("t", b"kept"), Came::PubAck(ReasonCode::Success));
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());

    // Of the folder of the shards, whose error comes back, and of a shard, whose requests are made again and again.
    for (key, is_given_back) in [("prod/root", true), ("shards/03/", false)] {
        let begun = broker.log().len();
        scene.proxy.inject(Fault::AccessDenied.always().key_containing(key));
        broker.begin_again();
        expect_waiting(&broker, "AccessDenied", "bucket");
        pass(Duration::from_secs(8));
        expect_waiting(&broker, "AccessDenied", "bucket");
        let log = broker.log()[begun..].to_owned();
        assert_eq!(log.matches("the bucket cannot be used: trying again").count(), 1, "{log}");
        assert_eq!(log.contains("the shards are released"), is_given_back, "{log}");
        scene.proxy.heal();
        serves(&mut broker);
        let log = broker.log()[begun..].to_owned();
        assert_eq!(log.matches("the bucket can be used").count(), 1, "{log}");
        broker.signal("TERM");
        assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
    }
    broker.start_again();
    let (mut away, present) = resume(&broker, "away");
    assert!(present);
    assert_eq!(away.next(), Came::Publish("t".into(), b"kept".to_vec()));
}

#[test]
fn what_a_later_release_wrote_is_waited_for_too_and_nothing_is_done_to_it() {
    let config = format!("{STORED}on_unusable = \"wait\"\n");
    let mut broker = Broker::start(&config);
    broker.signal("TERM");
    broker.wait();
    let object = broker.path("bucket/own/00");
    let sound = std::fs::read(&object).unwrap();
    std::fs::write(&object, "{\"format\":2}").unwrap();
    broker.begin_again();
    let text = expect_waiting(&broker, "FormatUnknown", "bucket");
    assert!(text.contains("own/00: format 2"), "{text}");
    assert_eq!(std::fs::read_to_string(&object).unwrap(), "{\"format\":2}");
    std::fs::write(&object, sound).unwrap();
    broker.until_ready();
}

#[test]
fn a_broker_that_waits_for_its_bucket_ends_at_once_when_it_is_told() {
    let scene = Scene::new();
    for fault in [None, Some(Fault::Hang), Some(Fault::AccessDenied)] {
        scene.proxy.heal();
        scene.proxy.refuse(fault.is_none());
        fault.map(|fault| scene.proxy.inject(fault.always()));
        let mut broker = scene.begin(scene.server.bucket(), "wait");
        until(|| broker.get("/livez").starts_with("HTTP/1.1 200").then_some(()));
        pass(Duration::from_millis(2500));
        let told = Instant::now();
        broker.signal("TERM");
        assert_eq!(broker.wait().code(), Some(0), "{fault:?}: {}", broker.log());
        assert!(told.elapsed() < Duration::from_secs(3), "{fault:?}: {:?}", told.elapsed());
    }
}

#[test]
fn without_it_a_broker_ends_and_says_why_as_ever() {
    let scene = Scene::new();
    scene.proxy.inject(Fault::AccessDenied.always());
    let mut broker = scene.begin(scene.server.bucket(), "exit");
    assert_eq!(broker.wait().code(), Some(1), "{}", broker.log());
    let log = broker.log();
    assert!(log.contains("cannot keep what was acknowledged") && log.contains("AccessDenied") && warnings(&broker) == 0, "{log}");
}

/// A server that says yes to every write, whatever its condition, and has no object to show.
fn yes_man() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    address
}

fn answer(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = head[from..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let _ = reader.read_exact(&mut vec![0; length]);
    let body = if head.starts_with("GET") { "<ListBucketResult><KeyCount>0</KeyCount></ListBucketResult>" } else { "" };
    let mut stream = stream;
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

#[test]
fn a_bucket_that_breaks_a_rule_is_unsuitable_and_its_text_does_not_depend_on_chance() {
    let url = format!("s3://yes/prod?region=us-east-1&endpoint=http://{}", yes_man());
    let mut broker = begin(&url, "wait", |_| "of-nobody".to_owned());
    let text = expect_waiting(&broker, "Unsuitable", "bucket");
    assert!(text.contains("If-None-Match") && !text.contains("succeeded"), "{text}");
    broker.signal("TERM");
    assert_eq!(broker.wait().code(), Some(0), "{}", broker.log());
}

#[test]
fn a_fenced_broker_ends_with_75_whatever_it_does_at_the_start() {
    let mut broker = Broker::start(&format!("{STORED}on_unusable = \"wait\"\n"));
    let object = broker.path("bucket/own/00");
    let text = std::fs::read_to_string(&object).unwrap();
    let incarnation = text.split("\"incarnation\":\"").nth(1).unwrap()[..32].to_owned();
    std::fs::write(&object, text.replace(&incarnation, &"0".repeat(32))).unwrap();
    assert_eq!(broker.wait().code(), Some(75), "{}", broker.log());
}
