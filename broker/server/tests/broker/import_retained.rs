//! Retained messages of a broker that runs: taken from real ones, they are there, each exactly, when a broker starts on the bucket.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Output, Stdio};

use bucketmq_packet::{Ack, Packet, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode, Sender, decode};

use crate::client::{Broker, Came, Client, binary, connect, encoded, publish, subscribe, tcp, users_file};
use crate::durable::STORED;
use crate::import::Mosquitto;

const RETAINED: usize = 10_000;
/// Payload format, content type, response topic, correlation data, and a user property twice.
const FORWARD: &[u8] = b"\x01\x01\x03\x00\x06text/x\x08\x00\x05reply\x09\x00\x02\x00\xFF\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w";
const EXPIRY: u32 = 3_600;
/// PUBLISH packets without an acknowledgement.
const AT_A_TIME: usize = 20;
/// Mosquitto queues what it has, whatever this machine is doing besides.
const UNLIMITED: &str = "max_queued_messages 0\n";

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    payload: Vec<u8>,
    qos: QoS,
    forward: Vec<u8>,
    expires: bool,
}

type All = BTreeMap<String, Kept>;

/// Of every QoS, with and without properties, with bytes of every value.
fn made(count: usize) -> All {
    let one = |number: usize| {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
        let mut payload = format!("value {number} ").into_bytes();
        payload.extend((0..number % 300).map(|byte| byte as u8));
        let forward = if number.is_multiple_of(2) { FORWARD.to_vec() } else { Vec::new() };
        (format!("kept/{}/{number}", number % 100), Kept { payload, qos, forward, expires: number.is_multiple_of(5) })
    };
    (0..count).map(one).collect()
}

/// Packets both ways on a connection of our own: with all that a PUBLISH has, and acknowledged as its QoS wants it.
struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    fn open(address: SocketAddr) -> Self {
        let mut peer = Self { stream: tcp(address), buffer: Vec::new() };
        peer.send(&Packet::Connect(connect("", true, None)));
        peer.stream.set_nodelay(true).unwrap();
        peer.until(|packet| matches!(packet, Packet::ConnAck(ack) if ack.reason_code == ReasonCode::Success));
        peer
    }

    fn send(&mut self, packet: &Packet<'_>) {
        self.stream.write_all(&encoded(packet)).unwrap();
    }

    /// Reads until `is_last` says so.
    fn until(&mut self, mut is_last: impl FnMut(&Packet<'_>) -> bool) {
        loop {
            while let Some((packet, length)) = decode(&self.buffer, ProtocolVersion::V5, Sender::Server, u32::MAX).unwrap() {
                let answer = match &packet {
                    Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
                        (QoS::AtLeastOnce, Some(id)) => Some(Packet::PubAck(Ack::success(id))),
                        (QoS::ExactlyOnce, Some(id)) => Some(Packet::PubRec(Ack::success(id))),
                        _ => None,
                    },
                    Packet::PubRec(ack) => Some(Packet::PubRel(Ack::success(ack.packet_id))),
                    Packet::PubRel(ack) => Some(Packet::PubComp(Ack::success(ack.packet_id))),
                    _ => None,
                };
                let is_over = is_last(&packet);
                if let Some(answer) = answer {
                    self.stream.write_all(&encoded(&answer)).unwrap();
                }
                self.buffer.drain(..length);
                if is_over {
                    return;
                }
            }
            let mut bytes = [0; 65_536];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "closed");
            self.buffer.extend_from_slice(&bytes[..count]);
        }
    }

    /// Publishes some at a time, and waits until they are acknowledged.
    fn retain_all<'a>(&mut self, all: impl IntoIterator<Item = (&'a String, &'a Kept)>) {
        let all: Vec<_> = all.into_iter().collect();
        for some in all.chunks(AT_A_TIME) {
            let mut bytes = Vec::new();
            let mut unacknowledged = 0;
            for ((topic, kept), id) in some.iter().zip(1..) {
                let properties = PublishProperties {
                    message_expiry_interval: kept.expires.then_some(EXPIRY),
                    forward: Cow::Borrowed(&kept.forward),
                    ..PublishProperties::default()
                };
                let publish = publish(topic, &kept.payload, kept.qos);
                let packet_id = publish.packet_id.and_then(|_| PacketIdentifier::new(id));
                unacknowledged += usize::from(packet_id.is_some());
                bytes.extend(encoded(&Packet::Publish(Publish { retain: true, properties, packet_id, ..publish })));
            }
            bytes.extend(encoded(&Packet::PingReq));
            self.stream.write_all(&bytes).unwrap();
            let mut answered = false;
            self.until(|packet| {
                unacknowledged -= usize::from(matches!(packet, Packet::PubAck(_) | Packet::PubComp(_)));
                answered |= matches!(packet, Packet::PingResp);
                answered && unacknowledged == 0
            });
        }
    }

    /// Every retained message, until there are `count`.
    fn all_retained(&mut self, filter: &str, count: usize) -> All {
        let mut all = All::new();
        self.send(&Packet::Subscribe(subscribe(filter, QoS::ExactlyOnce)));
        self.until(|packet| {
            if let Packet::Publish(publish) = packet {
                assert!(publish.retain, "{}", publish.topic);
                let expiry = publish.properties.message_expiry_interval;
                assert!(expiry.is_none_or(|seconds| (EXPIRY - 600..=EXPIRY).contains(&seconds)), "{}: {expiry:?}", publish.topic);
                let (payload, forward) = (publish.payload.to_vec(), publish.properties.forward.to_vec());
                all.insert(publish.topic.to_owned(), Kept { payload, qos: publish.qos, forward, expires: expiry.is_some() });
            }
            all.len() == count
        });
        all
    }
}

/// Compares without printing thousands.
fn assert_same(found: &All, expected: &All) {
    assert_eq!(found.len(), expected.len());
    for (topic, kept) in expected {
        assert_eq!(found.get(topic), Some(kept), "{topic}");
    }
}

fn import(source: SocketAddr, more: &[&str]) -> Output {
    binary().args(["import", "retained", &format!("mqtt://{source}"), "--quiet", "500ms"]).args(more).output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn report(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", errors(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A bucket of its own, with the broker that is to serve it stopped.
fn target() -> (Broker, String) {
    let mut broker = Broker::start(STORED);
    let bucket = format!("file://{}/bucket", broker.folder.path().display());
    broker.signal("TERM");
    broker.wait();
    (broker, bucket)
}

/// What stands between a Client and a server.
#[derive(Debug, Clone, Copy)]
enum Between {
    /// After so many bytes from the server, both are gone.
    CutAfter(usize),
    /// A Client of MQTT 5.0 gets what a server of 3.1.1 says.
    OnlyV311,
    /// Who asks for `$SYS` is thrown out.
    NoFigures,
}

/// A door to `server` for as long as the test runs.
fn door(server: SocketAddr, between: Between) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            std::thread::spawn(move || pass_on(client, server, between));
        }
    });
    address
}

fn pass_on(mut client: TcpStream, server: SocketAddr, between: Between) {
    let mut first = [0; 4096];
    let count = client.read(&mut first).unwrap_or(0);
    // CONNECT: two bytes of header here, "MQTT" with its length, the version.
    if matches!(between, Between::OnlyV311) && first.get(8) == Some(&5) {
        let _ = client.write_all(b"\x20\x02\x00\x01");
        return;
    }
    let mut upstream = TcpStream::connect(server).unwrap();
    upstream.write_all(&first[..count]).unwrap();
    let (from, to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
    std::thread::spawn(move || to_server(from, to, between));
    let most = if let Between::CutAfter(bytes) = between { bytes as u64 } else { u64::MAX };
    let _ = std::io::copy(&mut (&mut upstream).take(most), &mut client);
    let _ = (client.shutdown(Shutdown::Both), upstream.shutdown(Shutdown::Both));
}

fn to_server(mut client: TcpStream, mut server: TcpStream, between: Between) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        let asks_for_figures = bytes[..count].windows(6).any(|part| part == b"$SYS/#");
        if (matches!(between, Between::NoFigures) && asks_for_figures) || server.write_all(&bytes[..count]).is_err() {
            let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            return;
        }
    }
}

#[test]
fn ten_thousand_retained_messages_of_a_running_mosquitto_arrive_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mosquitto) = Mosquitto::start(folder.path(), UNLIMITED) else { return };
    let all = made(RETAINED);
    Peer::open(mosquitto.address).retain_all(&all);
    let (mut broker, bucket) = target();
    let first = report(&import(mosquitto.address, &["--bucket", &bucket, "--json"]));
    assert_eq!((&first["retained"], &first["skipped"]), (&RETAINED.into(), &serde_json::json!({})), "{first:#}");
    let again = import(mosquitto.address, &["--bucket", &bucket]);
    let told = String::from_utf8_lossy(&again.stdout);
    assert!(told.starts_with("0 retained") && told.contains(&format!("{RETAINED} retained in bucket")), "{told}");

    broker.start_again();
    assert_same(&Peer::open(broker.address).all_retained("#", RETAINED), &all);
    let refused = import(mosquitto.address, &["--bucket", &bucket]);
    assert_eq!(refused.status.code(), Some(75), "{}", errors(&refused));
    // Nobody needs the bucket for that.
    let counted = report(&import(mosquitto.address, &["--dry-run", "--json", "--bucket", &bucket]));
    assert_eq!(counted["retained"], RETAINED);
}

#[test]
fn what_mosquitto_drops_is_not_taken_for_all() {
    const QUEUED: &str = "max_queued_messages 100\nmax_inflight_messages 10\nsys_interval 1\n";
    let folder = tempfile::tempdir().unwrap();
    let Some(mosquitto) = Mosquitto::start(folder.path(), QUEUED) else { return };
    // With 3.1.1 a Client cannot ask for more than ten at a time.
    let all: All = made(600).into_iter().map(|(topic, kept)| (topic, Kept { qos: QoS::AtLeastOnce, ..kept })).collect();
    Peer::open(mosquitto.address).retain_all(&all);
    crate::client::pass(std::time::Duration::from_secs(2));
    let (mut broker, bucket) = target();
    let part = import(mosquitto.address, &["--bucket", &bucket, "-V", "311"]);
    assert_eq!(part.status.code(), Some(1), "{}", errors(&part));
    assert!(errors(&part).contains("counts 600 topics") && errors(&part).contains("-t"), "{}", errors(&part));
    let filters: Vec<String> = (0..100).map(|part| format!("-tkept/{part}/#")).collect();
    let mut words = vec!["--bucket", &bucket, "--json", "--quiet", "50ms", "-V", "311"];
    words.extend(filters.iter().map(String::as_str));
    let rest = binary().args(["import", "retained", &format!("mqtt://{}", mosquitto.address)]).args(words).output().unwrap();
    let rest = report(&rest);
    let (came, stayed) = (rest["retained"].as_u64().unwrap(), rest["skipped"]["retained_in_bucket"]["count"].as_u64().unwrap());
    assert_eq!(came + stayed, 600, "{rest:#}");
    broker.start_again();
    assert_eq!(Peer::open(broker.address).all_retained("#", 600).len(), 600);
}

#[test]
fn what_the_bucket_has_stays_unless_it_is_to_give_way() {
    let source = Broker::start(STORED);
    let all = made(2_000);
    let mut publisher = Peer::open(source.address);
    publisher.retain_all(&all);
    let (mut broker, bucket) = target();
    let first = report(&import(source.address, &["--bucket", &bucket, "--json", "-t", "kept/+/#"]));
    assert_eq!(first["retained"], all.len());
    let mut later = all.clone();
    later.insert("kept/0/0".to_owned(), Kept { payload: b"newer".to_vec(), ..all["kept/0/0"].clone() });
    publisher.retain_all(&later);

    let kept = report(&import(source.address, &["--bucket", &bucket, "--json"]));
    assert_eq!((kept["retained"].as_u64(), &kept["skipped"]["retained_in_bucket"]["count"]), (Some(0), &all.len().into()));
    broker.start_again();
    assert_same(&Peer::open(broker.address).all_retained("#", all.len()), &all);
    broker.signal("TERM");
    broker.wait();

    let replaced = report(&import(source.address, &["--bucket", &bucket, "--json", "--replace"]));
    assert_eq!(replaced["retained"], later.len());
    broker.start_again();
    assert_same(&Peer::open(broker.address).all_retained("#", later.len()), &later);
}

#[test]
fn what_is_retained_and_cleared_meanwhile_ends_as_it_is_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mosquitto) = Mosquitto::start(folder.path(), UNLIMITED) else { return };
    let mut all = made(50);
    let mut publisher = Peer::open(mosquitto.address);
    publisher.retain_all(&all);
    let (mut broker, bucket) = target();
    let mut child = binary()
        .args(["import", "retained", &format!("mqtt://{}", mosquitto.address), "--quiet", "3s", "--bucket", &bucket, "-d", "-t", "kept/#"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("received SUBACK")), "never subscribed");
    let changed = Kept { payload: b"newer".to_vec(), ..all["kept/1/1"].clone() };
    let cleared = Kept { payload: Vec::new(), ..changed.clone() };
    let names = ["kept/1/1", "kept/new", "kept/2/2"].map(str::to_owned);
    publisher.retain_all(names.iter().zip([&changed, &changed, &cleared]));
    // Not retained, and of a topic that is.
    publisher.send(&Packet::Publish(publish("kept/3/3", b"passing", QoS::AtMostOnce)));
    all.insert("kept/1/1".to_owned(), changed.clone());
    all.insert("kept/new".to_owned(), changed);
    all.remove("kept/2/2");
    let told: Vec<String> = lines.collect();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{told:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "50 retained messages\n");
    broker.start_again();
    assert_same(&Peer::open(broker.address).all_retained("#", all.len()), &all);
}

#[test]
fn a_broker_that_dies_in_the_middle_is_told_and_what_came_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mosquitto) = Mosquitto::start(folder.path(), UNLIMITED) else { return };
    let all = made(3_000);
    Peer::open(mosquitto.address).retain_all(&all);
    let (mut broker, bucket) = target();
    let cut = import(door(mosquitto.address, Between::CutAfter(200_000)), &["--bucket", &bucket, "--json"]);
    assert_eq!(cut.status.code(), Some(1), "{}", errors(&cut));
    assert!(cut.stdout.is_empty(), "no report of half an import");
    let told = errors(&cut);
    let came: u64 = told
        .lines()
        .find(|line| line.contains(" retained messages came"))
        .and_then(|line| line.split(' ').next()?.parse().ok())
        .expect(&told);
    assert!(came > 100 && came < 3_000 && told.contains("connection was lost") && told.contains("started again"), "{told}");

    let rest = report(&import(mosquitto.address, &["--bucket", &bucket, "--json"]));
    assert_eq!((rest["skipped"]["retained_in_bucket"]["count"].as_u64(), rest["retained"].as_u64()), (Some(came), Some(3_000 - came)));
    broker.start_again();
    assert_same(&Peer::open(broker.address).all_retained("#", all.len()), &all);
}

#[test]
fn an_import_that_takes_too_long_ends_and_what_came_stays() {
    let source = Broker::start(STORED);
    let all = made(200);
    Peer::open(source.address).retain_all(&all);
    let (mut broker, bucket) = target();
    let url = format!("mqtt://{}", source.address);
    let late = binary().args(["import", "retained", &url, "--quiet", "1h", "--timeout", "2s", "--bucket", &bucket]).output().unwrap();
    assert_eq!(late.status.code(), Some(1), "{}", errors(&late));
    assert!(errors(&late).contains("timed out\n200 retained messages came: they stay"), "{}", errors(&late));
    broker.start_again();
    assert_same(&Peer::open(broker.address).all_retained("#", all.len()), &all);
}

#[test]
fn a_broker_that_knows_3_1_1_only_is_asked_in_3_1_1() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mosquitto) = Mosquitto::start(folder.path(), UNLIMITED) else { return };
    let all: All = made(300).into_iter().map(|(topic, kept)| (topic, Kept { forward: Vec::new(), expires: false, ..kept })).collect();
    Peer::open(mosquitto.address).retain_all(&all);
    let old = door(mosquitto.address, Between::OnlyV311);
    let (mut broker, bucket) = target();
    let output = import(old, &["--bucket", &bucket, "--json"]);
    assert!(errors(&output).contains("by MQTT 3.1.1"), "{}", errors(&output));
    assert_eq!(report(&output)["retained"], 300);
    broker.start_again();
    assert_same(&Peer::open(broker.address).all_retained("#", all.len()), &all);
    let insisted = import(old, &["--dry-run", "-V", "5"]);
    assert_eq!(insisted.status.code(), Some(1), "{}", errors(&insisted));
}

#[test]
fn a_server_that_throws_out_who_asks_for_its_figures_has_given_everything() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mosquitto) = Mosquitto::start(folder.path(), UNLIMITED) else { return };
    Peer::open(mosquitto.address).retain_all(&made(100));
    let strict = door(mosquitto.address, Between::NoFigures);
    assert_eq!(report(&import(strict, &["--dry-run", "--json"]))["retained"], 100);
    let asked = import(strict, &["--dry-run", "-t", "$SYS/#"]);
    assert!(asked.status.code() == Some(1) && errors(&asked).contains("connection was lost"), "{}", errors(&asked));
}

const SECURED: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\n[access]\nusers_file = \"users\"\n[access.roles.reader]\n\
                       rules = [\"allow connect\", \"allow subscribe,publish work/#\"]\n";

#[test]
fn who_may_not_is_told_and_the_bucket_is_not_touched() {
    let source = Broker::start_with_users(SECURED, &users_file(&[("ann", "reader")]));
    let mut client = Client::open(source.address, "a", true, Some(("ann", "secret"))).unwrap();
    client.retain("work/1", b"value");
    assert_eq!(client.publish_acknowledged("work/2", b"x"), Came::PubAck(ReasonCode::NoMatchingSubscribers));
    let folder = tempfile::tempdir().unwrap();
    let bucket = format!("file://{}/bucket", folder.path().display());
    let ask = |url: &str, more: &[&str]| {
        let output = binary().args(["import", "retained", url, "--quiet", "200ms", "--bucket", &bucket]).args(more).output().unwrap();
        let told = errors(&output);
        assert!(!told.contains("s3cret") && !told.contains("secret") && !told.contains("ann"), "{told}");
        (output.status.code(), told)
    };
    let address = source.address;
    let (code, told) = ask(&format!("mqtt://ann:s3cret@{address}"), &[]);
    assert!(code == Some(1) && told.contains("0x86"), "{told}");
    assert!(!folder.path().join("bucket").exists(), "nothing was written");
    for broken in [format!("mqtt://ann:s3/cret@{address}"), format!("mqtt://ann:s3cret@{address}/topic"), format!("ann:s3cret@{address}")] {
        let (code, told) = ask(&broken, &[]);
        assert_eq!(code, Some(2), "{told}");
    }
    let (code, told) = ask(&format!("mqtt://ann:secret@{address}"), &["-t", "work/#", "-t", "other/#"]);
    assert!(code == Some(1) && told.contains("other/#") && told.contains("0x87"), "{told}");
    let (code, told) = ask(&format!("mqtt://ann:secret@{address}"), &["-t", "other/#", "-V", "311"]);
    assert!(code == Some(1) && told.contains("0x80"), "{told}");
    let (code, told) = ask(&format!("mqtt://ann:secret@{address}"), &["-t", "work/#", "--replace"]);
    assert_eq!(code, Some(0), "{told}");
}
