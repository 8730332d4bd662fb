//! A fleet that moves from Mosquitto: what a real one wrote when it ended is there when a broker starts on the bucket.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bucketmq_packet::{Packet, QoS, ReasonCode};

use crate::client::{Broker, Came, Client, binary, connect, tcp, until};
use crate::durable::STORED;

const SESSIONS: usize = 1_000;
const RETAINED: usize = 10_000;
/// Connections at one time.
const SIDE_BY_SIDE: usize = 8;

/// Mosquitto, killed when it is dropped.
pub struct Mosquitto {
    child: Child,
    pub address: SocketAddr,
}

impl Mosquitto {
    /// One with its file in `folder`, and with `more` in its configuration. None: it is not installed.
    pub fn start(folder: &Path, more: &str) -> Option<Self> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nuser root\nset_tcp_nodelay true\nlog_type error\n{more}",
            address.port(),
            folder.display()
        );
        std::fs::write(folder.join("mosquitto.conf"), config).unwrap();
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let conf = folder.join("mosquitto.conf");
        let started = Command::new("mosquitto").arg("-c").arg(conf).env("PATH", path).stderr(Stdio::null()).spawn();
        let Ok(child) = started else {
            let _ = std::io::stderr().write_all(b"mosquitto is not installed: nothing tested\n");
            return None;
        };
        let mosquitto = Self { child, address };
        until(|| TcpStream::connect(address).ok());
        Some(mosquitto)
    }

    /// Stops it, so that it writes its file.
    fn stop(mut self) {
        Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resume(address: SocketAddr, number: usize) -> (Client, bool) {
    let mut client = Client::reading(tcp(address));
    client.send(&Packet::Connect(connect(&format!("device-{number}"), false, None)));
    let Came::ConnAck(ReasonCode::Success, present) = client.next() else { panic!("no CONNACK") };
    (client, present)
}

/// Does it for every Session, some at a time.
fn each_session(work: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for first in 0..SIDE_BY_SIDE {
            let work = &work;
            scope.spawn(move || (first..SESSIONS).step_by(SIDE_BY_SIDE).for_each(work));
        }
    });
}

fn retained(number: usize) -> (String, Vec<u8>) {
    (format!("kept/{}/{number}", number % 100), format!("value {number}").into_bytes())
}

fn import(file: &Path, bucket: &str, more: &[&str]) -> std::process::Output {
    binary().args(["import", "mosquitto-db", file.to_str().unwrap(), "--bucket", bucket]).args(more).output().unwrap()
}

#[test]
fn a_thousand_sessions_and_ten_thousand_retained_messages_arrive_whole() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mosquitto) = Mosquitto::start(folder.path(), "") else { return };
    let address = mosquitto.address;
    each_session(|number| {
        let (mut client, _) = resume(address, number);
        client.subscribe(&format!("fleet/{number}/+"), QoS::AtLeastOnce);
    });
    let mut publisher = Client::open(address, "publisher", true, None).unwrap();
    for number in 0..RETAINED {
        let (topic, payload) = retained(number);
        publisher.retain(&topic, &payload);
    }
    for number in 0..SESSIONS {
        publisher.publish_acknowledged(&format!("fleet/{number}/work"), format!("for {number}").as_bytes());
    }
    mosquitto.stop();
    let file = folder.path().join("mosquitto.db");

    // While a broker has the bucket nothing is touched.
    let mut broker = Broker::start(STORED);
    let bucket = format!("file://{}/bucket", broker.folder.path().display());
    broker.signal("TERM");
    broker.wait();
    let first = import(&file, &bucket, &["--json"]);
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let report: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    let brought = ["sessions", "subscriptions", "messages", "retained"].map(|key| report[key].as_u64().unwrap() as usize);
    assert_eq!(brought, [SESSIONS, SESSIONS, SESSIONS, RETAINED], "{report:#}");
    // Once more changes nothing.
    let again = String::from_utf8(import(&file, &bucket, &[]).stdout).unwrap();
    assert!(again.contains("0 Sessions") && again.contains(&format!("{SESSIONS} session in bucket")), "{again}");

    broker.start_again();
    each_session(|number| {
        let (mut client, present) = resume(broker.address, number);
        assert!(present, "device-{number}");
        assert_eq!(client.next(), Came::Publish(format!("fleet/{number}/work"), format!("for {number}").into_bytes()));
        client.acknowledge();
    });
    let mut all = broker.client("all");
    all.subscribe("kept/#", QoS::AtMostOnce);
    let mut expected: HashMap<String, Vec<u8>> = (0..RETAINED).map(retained).collect();
    while !expected.is_empty() {
        let Came::Publish(topic, payload) = all.next() else { panic!("{} did not come", expected.len()) };
        assert_eq!(expected.remove(&topic), Some(payload), "{topic}");
    }
    assert_eq!(broker.client("later").publish_acknowledged("fleet/7/work", b"new"), Came::PubAck(ReasonCode::Success));
    assert_eq!(resume(broker.address, 7).0.next(), Came::Publish("fleet/7/work".into(), b"new".to_vec()));

    let refused = import(&file, &bucket, &[]);
    assert_eq!(refused.status.code(), Some(75), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is using the bucket"));
}

#[test]
fn a_file_that_is_none_of_mosquitto_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.db");
    std::fs::write(&file, b"something else").unwrap();
    let output = import(&file, &format!("file://{}/bucket", folder.path().display()), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("other.db"), "{}", String::from_utf8_lossy(&output.stderr));
    let missing = import(&folder.path().join("none.db"), "memory://", &[]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("none.db"));
}
