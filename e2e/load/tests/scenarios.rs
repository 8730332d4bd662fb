//! Every scenario, small, against a real Mosquitto: all messages arrive once and in order, and the line of JSON says so.
//!
//! Where Mosquitto is not installed there is nothing to test against, and the tests say that.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bucketmq_load::report::Report;

struct Mosquitto {
    child: Child,
    port: u16,
    tls_port: u16,
    dir: PathBuf,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Mosquitto {
    fn start() -> Option<Mosquitto> {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("bucketmq-load-test-{}-{port}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory for the test");
        let config = dir.join("mosquitto.conf");
        bucketmq_load::certificates::write(&dir).expect("certificates are written");
        let (tls_port, folder) = (free_port(), dir.display());
        let mut text = "allow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\nlog_type error\n".to_owned();
        text += &format!("listener {port} 127.0.0.1\n");
        text += &format!("listener {tls_port} 127.0.0.1\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n");
        fs::write(&config, text).expect("the configuration is written");
        let child = Command::new("mosquitto").arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let Ok(child) = child else {
            eprintln!("mosquitto is not installed: nothing tested");
            return None;
        };
        let mosquitto = Mosquitto { child, port, tls_port, dir };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(mosquitto);
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("mosquitto does not listen");
    }

    fn load(&self, arguments: &str) -> Report {
        let output = Command::new(env!("CARGO_BIN_EXE_load"))
            .args(["--address", &format!("127.0.0.1:{}", self.port)])
            .args(arguments.split_whitespace())
            .args(["--broker-pid", &self.child.id().to_string()])
            .output()
            .expect("load can be run");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Report = serde_json::from_slice(&output.stdout).expect("one line of JSON");
        assert!(report.failures.is_empty(), "{arguments}: {:?}", report.failures);
        report
    }

    fn assert_complete(&self, arguments: &str, deliveries: u64) {
        let report = self.load(arguments);
        let wrong = (report.lost, report.duplicated, report.reordered, report.refused);
        assert_eq!(wrong, (Some(0), Some(0), Some(0), Some(0)), "{arguments}");
        let published = report.published.expect("a flow publishes");
        assert!(published > 0, "{arguments}");
        assert_eq!(report.messages, Some(published * deliveries), "{arguments}");
        assert!(report.broker_cpu_us_per_message.is_some_and(|cost| cost > 0.0), "{arguments}");
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn flows_deliver_everything_once_and_in_order() {
    let Some(broker) = Mosquitto::start() else { return };
    for protocol in ["3.1.1", "5"] {
        for qos in 0..3 {
            let common = format!("--protocol {protocol} --qos {qos} --seconds 0.3");
            broker.assert_complete(&format!("fan-in --publishers 5 --subscribers 2 {common}"), 2);
            broker.assert_complete(&format!("fan-out --subscribers 5 --payload 300 {common}"), 5);
            broker.assert_complete(&format!("pairs --publishers 6 --threads 2 {common}"), 1);
            broker.assert_complete(&format!("shared --publishers 3 --subscribers 3 --threads 2 {common}"), 1);
            broker.assert_complete(&format!("fan-in --publishers 4 --topics 12 --rate 500 {common}"), 1);
        }
    }
}

#[test]
fn subscriber_qos_below_the_publishers_is_served() {
    let Some(broker) = Mosquitto::start() else { return };
    broker.assert_complete("fan-in --qos 2 --subscriber-qos 0 --publishers 3 --seconds 0.3", 1);
    broker.assert_complete("fan-in --qos 1 --subscriber-qos 2 --publishers 3 --seconds 0.3", 1);
}

#[test]
fn paced_run_keeps_its_rate_and_times_every_message() {
    let Some(broker) = Mosquitto::start() else { return };
    let report = broker.load("fan-in --qos 1 --rate 1000 --seconds 1");
    assert!(report.published.is_some_and(|published| (990..=1001).contains(&published)), "{report:?}");
    assert!(report.p50_ms <= report.p99_ms && report.p99_ms <= report.p999_ms && report.p50_ms > Some(0.0), "{report:?}");
}

#[test]
fn retained_and_queued_messages_come_back_completely() {
    let Some(broker) = Mosquitto::start() else { return };
    for protocol in ["3.1.1", "5"] {
        for qos in 0..3 {
            let report = broker.load(&format!("retained --topics 500 --qos {qos} --protocol {protocol}"));
            assert_eq!((report.messages, report.lost, report.duplicated), (Some(500), Some(0), Some(0)), "{report:?}");
            let report = broker.load(&format!("offline --subscribers 20 --messages 10 --qos {qos} --protocol {protocol}"));
            assert_eq!((report.messages, report.lost, report.duplicated), (Some(200), Some(0), Some(0)), "{report:?}");
            assert!(report.store_rate > Some(0.0) && report.drain_rate > Some(0.0), "{report:?}");
        }
    }
}

#[test]
fn tls_carries_the_same_scenarios() {
    let Some(broker) = Mosquitto::start() else { return };
    let tls = format!("--address 127.0.0.1:{} --tls-ca {}/ca.pem", broker.tls_port, broker.dir.display());
    for qos in 0..3 {
        broker.assert_complete(&format!("fan-in --publishers 5 --subscribers 2 --payload 300 --qos {qos} --seconds 0.3 {tls}"), 2);
    }
    let report = broker.load(&format!("offline --subscribers 20 --messages 10 {tls}"));
    assert_eq!((report.messages, report.lost), (Some(200), Some(0)), "{report:?}");
    let report = broker.load(&format!("connections --connections 50 --seconds 0.1 --protocol 5 {tls}"));
    assert!(report.tls && report.broker_cpu_us_per_connect > Some(0.0), "{report:?}");
}

#[test]
fn idle_connections_are_weighed() {
    let Some(broker) = Mosquitto::start() else { return };
    let report = broker.load("connections --connections 300 --seconds 0.1 --protocol 5");
    assert!(report.broker_cpu_us_per_connect > Some(0.0) && report.broker_rss_bytes_per_connection.is_some(), "{report:?}");
}

#[test]
fn storm_and_soak_end_steady() {
    let Some(broker) = Mosquitto::start() else { return };
    assert_eq!(broker.load("storm --connections 1000").steady, Some(true));
    let report = broker.load("soak --connections 60 --seconds 3 --kills 20");
    assert!(report.kills > Some(30) && report.messages > Some(1000) && report.steady == Some(true), "{report:?}");
}
