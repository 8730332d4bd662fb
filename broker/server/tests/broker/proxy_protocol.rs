//! `proxy_protocol` of the real binary: who may speak for others, and whose address counts. The log tells whose it is.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bucketmq_packet::{Packet, QoS, ReasonCode};

use crate::client::{Broker, Came, Client, connect, encoded, tcp, until, until_closed, users_file};

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 1883\r\n";

/// A header of version 2; `command` is 0 for LOCAL, 1 for PROXY.
fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = (addresses.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, addresses].concat()
}

/// From [2001:db8::7]:4660 to [::1]:1883.
fn v2_of_ipv6() -> Vec<u8> {
    let mut addresses = [0; 36];
    addresses[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    addresses[15] = 7;
    addresses[31] = 1;
    addresses[32..].copy_from_slice(&[0x12, 0x34, 0x07, 0x5b]);
    v2(1, 0x21, &addresses)
}

/// A listener that trusts this machine, or only another one, as a proxy.
fn broker(trusted: &str) -> Broker {
    let config = format!(
        "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nproxy_protocol = [\"{trusted}\"]\nconnect_timeout = \"2s\"\n\
         [access]\nusers_file = \"users\"\n[log]\nlevel = \"debug\"\n"
    );
    Broker::start_with_users(&config, &users_file(&[("ann", "local")]))
}

/// Sends `header` and, as ann, CONNECT.
fn open(broker: &Broker, header: &[u8], id: &str, password: &str) -> Result<Client, Came> {
    let mut stream = tcp(broker.address);
    stream.write_all(header).unwrap();
    Client::over(stream, &connect(id, true, Some(("ann", password))))
}

/// Waits for a line of the log that says all of `parts`.
fn until_logged(broker: &Broker, parts: &[&str]) {
    until(|| broker.log().lines().any(|line| parts.iter().all(|part| line.contains(part))).then_some(()));
}

#[test]
fn the_address_is_the_one_that_a_trusted_proxy_tells_in_either_version() {
    let broker = broker("127.0.0.0/8");
    for (header, id, address) in [(V1.to_vec(), "first", "192.0.2.1:12345"), (v2_of_ipv6(), "second", "[2001:db8::7]:4660")] {
        let refused = open(&broker, &header, id, "wrong").err();
        assert_eq!(refused, Some(Came::ConnAck(ReasonCode::BadUserNameOrPassword, false)));
        until_logged(&broker, &["CONNECT refused", id, address]);
        let mut client = open(&broker, &header, id, "secret").unwrap();
        client.subscribe("t", QoS::AtMostOnce);
        client.publish("t", b"through the proxy", QoS::AtMostOnce);
        assert_eq!(client.next(), Came::Publish("t".to_owned(), b"through the proxy".to_vec()));
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_has_its_own_address() {
    let broker = broker("127.0.0.1/32");
    for (number, header) in [v2(0, 0, &[]), b"PROXY UNKNOWN\r\n".to_vec()].into_iter().enumerate() {
        let mut stream = tcp(broker.address);
        let own = stream.local_addr().unwrap().to_string();
        stream.write_all(&header).unwrap();
        let id = format!("check-{number}");
        assert!(Client::over(stream, &connect(&id, true, Some(("ann", "wrong")))).is_err());
        until_logged(&broker, &["CONNECT refused", &id, &own]);
    }
}

#[test]
fn a_header_may_come_byte_by_byte_and_together_with_connect() {
    let broker = broker("127.0.0.0/8");
    let connect = encoded(&Packet::Connect(connect("slow", true, Some(("ann", "wrong")))));
    for header in [V1.to_vec(), v2_of_ipv6()] {
        let mut stream = tcp(broker.address);
        stream.set_nodelay(true).unwrap();
        let (most, last) = header.split_at(header.len() - 1);
        most.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
        stream.write_all(&[last, &connect].concat()).unwrap();
        let answer = until_closed(&mut stream);
        assert!(matches!(answer[..], [0x20, _, 0, 0x86, ..]), "{answer:02x?}");
    }
}

/// Sends `bytes` and waits for the broker to close without a word.
fn refused_silently(broker: &Broker, bytes: &[u8]) -> TcpStream {
    let mut stream = tcp(broker.address);
    stream.write_all(bytes).unwrap();
    assert_eq!(until_closed(&mut stream), b"", "{}", broker.log());
    stream
}

#[test]
fn a_header_of_somebody_who_is_not_trusted_is_refused() {
    let broker = broker("192.0.2.0/24");
    let connect = encoded(&Packet::Connect(connect("evil", true, Some(("ann", "secret")))));
    for header in [V1.to_vec(), v2_of_ipv6()] {
        let stream = refused_silently(&broker, &[header, connect.clone()].concat());
        until_logged(&broker, &["CONNECT not understood", &stream.local_addr().unwrap().to_string()]);
    }
    assert!(!broker.log().contains("192.0.2.1:12345") && !broker.log().contains("evil"), "{}", broker.log());
    assert_eq!(broker.metric("mqtt_protocol_violations_total"), 2);
    // Whoever does not claim to be somebody else is served.
    open(&broker, b"", "honest", "secret").unwrap();
}

#[test]
fn a_trusted_proxy_that_says_nothing_or_nonsense_is_refused() {
    let broker = broker("127.0.0.1/32");
    let connect = encoded(&Packet::Connect(connect("direct", true, Some(("ann", "secret")))));
    for (header, problem) in [
        (&b""[..], "no PROXY header"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 12345\r\n", "malformed PROXY line"),
        (&v2(1, 0x99, &[0; 12]), "unknown version, command or family"),
    ] {
        refused_silently(&broker, &[header, &connect].concat());
        until_logged(&broker, &["handshake failed", "reason=\"proxy\"", problem]);
    }
    assert!(!broker.log().contains("direct"), "{}", broker.log());
    // Half a header takes a place until the deadline.
    let started = Instant::now();
    refused_silently(&broker, &V1[..20]);
    assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());
    until_logged(&broker, &["handshake failed", "reason=\"timeout\""]);
    until(|| (broker.metric("mqtt_connections{listener=") == 0).then_some(()));
}
