//! A subscriber that stops reading: the real binary's memory stays within its bounds, QoS 0 is dropped and counted, and QoS 1 waits until the
//! subscriber reads on. Over every transport, because each has buffers of its own.

use std::io::{Read, Write};

use bucketmq_packet::QoS;

use crate::client::{Broker, Came, Client, connect, tcp};
use crate::tls::{Authority, HOST};
use crate::websocket::WebSocket;

const LIMITS: &str = "[limits]\noutput_buffer_bytes = \"256KiB\"\n[sys_topics]\ninterval = \"0s\"\n";
/// Two sockets' buffers take some megabytes of it, and the bound below far less than the rest.
const FLOOD: usize = 40 << 20;
const PAYLOAD: usize = 8 << 10;
const JOBS: usize = 300;
/// What the subscriber may cost: 256 KiB in its task, twice that and 1 MiB in the Session, 300 jobs of 8 KiB in the queue, which are 4.3 MB; and as
/// much again for what an allocator keeps.
const BOUND: u64 = 9 << 20;

fn stops_and_reads_on<S: Read + Write>(broker: &Broker, stream: S) {
    let mut subscriber = Client::over(stream, &connect("slow", true, None)).unwrap();
    subscriber.subscribe("flood", QoS::AtMostOnce);
    subscriber.subscribe("jobs", QoS::AtLeastOnce);
    let mut publisher = Client::open(broker.endpoint("plain"), "publisher", true, None).unwrap();
    // Whatever the first large packets need is there before it is measured.
    publisher.publish("nobody", &[7; PAYLOAD], QoS::AtMostOnce);
    assert!(publisher.is_quiet());
    let before = broker.resident();

    let floods = FLOOD / PAYLOAD;
    for number in 0..floods {
        publisher.publish("flood", &[7; PAYLOAD], QoS::AtMostOnce);
        if number % (floods / JOBS) == 0 && number / (floods / JOBS) < JOBS {
            let mut job = vec![0; PAYLOAD];
            job[..8].copy_from_slice(&((number / (floods / JOBS)) as u64).to_be_bytes());
            publisher.publish_acknowledged("jobs", &job);
        }
    }
    assert!(publisher.is_quiet());
    let grown = broker.resident().saturating_sub(before);
    assert!(grown < BOUND, "{grown} bytes more for one who does not read");
    let dropped = broker.dropped("output_full") as usize;
    assert!(dropped > floods / 2, "{dropped} of {floods} dropped");
    assert!(broker.metric("mqtt_session_queue_messages") > 0);

    let (mut jobs, mut flooded) = (0, 0);
    while jobs < JOBS {
        match subscriber.next() {
            Came::Publish(topic, payload) if topic == "jobs" => {
                assert_eq!(payload[..8], (jobs as u64).to_be_bytes(), "in order, each once");
                subscriber.acknowledge();
                jobs += 1;
            }
            Came::Publish(..) => flooded += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
    // It keeps up again, and nothing was lost without being counted.
    publisher.publish("flood", b"after", QoS::AtMostOnce);
    loop {
        match subscriber.next() {
            Came::Publish(_, payload) if payload == b"after" => break,
            Came::Publish(topic, _) if topic == "flood" => flooded += 1,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(flooded + dropped, floods);
    assert_eq!(broker.metric("mqtt_session_queue_messages"), 0);
    assert_eq!(broker.dropped("queue_full"), 0);
}

fn listener(name: &str, scheme: &str, lines: &str) -> String {
    format!("[[listeners]]\nname = \"{name}\"\nurl = \"{scheme}://127.0.0.1:0\"\nanonymous = \"local\"\n{lines}")
}

const CERTIFICATE: &str = "[listeners.tls]\ncertificates = [{ cert = \"server.pem\", key = \"server.key\" }]\n";

#[test]
fn over_tcp_one_who_does_not_read_costs_bounded_memory_and_loses_qos_0_only() {
    let broker = Broker::start(&(listener("plain", "tcp", "") + LIMITS));
    stops_and_reads_on(&broker, tcp(broker.endpoint("plain")));
}

#[test]
fn over_tls_one_who_does_not_read_costs_bounded_memory_and_loses_qos_0_only() {
    let authority = Authority::new();
    let config = listener("plain", "tcp", "") + &listener("secure", "tls", CERTIFICATE) + LIMITS;
    let broker = Broker::start_with(&config, |folder| authority.issue(folder, "server", HOST));
    stops_and_reads_on(&broker, authority.connect(broker.endpoint("secure"), None).unwrap());
}

#[test]
fn over_websocket_one_who_does_not_read_costs_bounded_memory_and_loses_qos_0_only() {
    let authority = Authority::new();
    let config = listener("plain", "tcp", "") + &listener("web", "wss", CERTIFICATE) + LIMITS;
    let broker = Broker::start_with(&config, |folder| authority.issue(folder, "server", HOST));
    stops_and_reads_on(&broker, WebSocket::open(authority.connect(broker.endpoint("web"), None).unwrap()));
}
