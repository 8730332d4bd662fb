//! Enhanced authentication with SCRAM: before CONNACK, on a live connection, and by the command line.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bucketmq_access::authentication::{Mechanism, ScramClient};
use bucketmq_packet::{
    Auth, Connect, ConnectProperties, Disconnect, Packet, PacketIdentifier, ProtocolVersion, Publish, PublishProperties, QoS, ReasonCode,
    Sender, decode,
};

use crate::client::{Broker, Came, Client, PATIENCE, run};

const CONFIG: &str = "[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n[access]\nusers_file = \"users\"\n\
                      [access.roles.worker]\nrules = [\"allow connect\", \"allow publish,subscribe work/#\"]\n";
const METHOD: &str = "SCRAM-SHA-256";

/// A broker whose users have the password `secret`: `ann`, `bob` and `long` (SHA-512) with verifiers, `eve` without.
fn broker() -> Broker {
    broker_with("")
}

/// The same with this in its listener.
fn broker_with(listener: &str) -> Broker {
    let folder = tempfile::tempdir().unwrap();
    for (user, options) in [
        ("ann", &["--scram", "--iterations", "4096"][..]),
        ("bob", &["--scram", "--iterations", "4096"]),
        ("long", &["--scram=SCRAM-SHA-512", "--iterations", "4096"]),
        ("eve", &[]),
    ] {
        let (code, _, errors) = run(&[&["passwd", "users", user, "--roles", "worker"], options].concat(), folder.path(), "secret");
        assert_eq!(code, 0, "{errors}");
    }
    Broker::start_with_users(
        &CONFIG.replacen("[access]", &format!("{listener}\n[access]"), 1),
        &std::fs::read_to_string(folder.path().join("users")).unwrap(),
    )
}

/// What the broker said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    ConnAck(ReasonCode, Option<String>, Vec<u8>),
    Auth(ReasonCode, Option<String>, Vec<u8>),
    PubAck(ReasonCode),
    Disconnect(ReasonCode),
    Other,
    Closed,
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
}

/// What CONNECT says besides.
#[derive(Default)]
struct With<'a> {
    username: Option<&'a str>,
    password: Option<&'a str>,
    maximum_packet_size: Option<u32>,
}

impl Peer {
    fn connect(broker: &Broker, method: &str, data: Option<&[u8]>, with: &With<'_>) -> Self {
        let stream = TcpStream::connect(broker.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self { stream, input: Vec::new() };
        peer.send(&Packet::Connect(Connect {
            version: ProtocolVersion::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: "peer",
            username: with.username,
            password: with.password.map(str::as_bytes),
            will: None,
            properties: ConnectProperties {
                authentication_method: Some(method),
                authentication_data: data,
                maximum_packet_size: with.maximum_packet_size,
                ..ConnectProperties::default()
            },
        }));
        peer
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(ProtocolVersion::V5, &mut bytes);
        // A broker that has closed is seen by the next read.
        let _ = self.stream.write_all(&bytes);
    }

    fn auth(&mut self, reason_code: ReasonCode, method: &str, data: Option<&[u8]>) {
        self.send(&Packet::Auth(Auth { reason_code, authentication_method: Some(method), authentication_data: data, ..Auth::default() }));
    }

    fn go_on(&mut self, data: &[u8]) {
        self.auth(ReasonCode::ContinueAuthentication, METHOD, Some(data));
    }

    fn publish(&mut self, topic: &str) -> Said {
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: PacketIdentifier::new(7),
            properties: PublishProperties::default(),
            payload: b"x",
        }));
        self.hear()
    }

    fn hear(&mut self) -> Said {
        let owned = |method: Option<&str>, data: Option<&[u8]>| (method.map(str::to_owned), data.unwrap_or_default().to_vec());
        loop {
            if let Some((packet, length)) = decode(&self.input, ProtocolVersion::V5, Sender::Server, u32::MAX).unwrap() {
                let said = match packet {
                    Packet::ConnAck(ack) => {
                        let (method, data) = owned(ack.properties.authentication_method, ack.properties.authentication_data);
                        Said::ConnAck(ack.reason_code, method, data)
                    }
                    Packet::Auth(auth) => {
                        let (method, data) = owned(auth.authentication_method, auth.authentication_data);
                        Said::Auth(auth.reason_code, method, data)
                    }
                    Packet::PubAck(ack) => Said::PubAck(ack.reason_code),
                    Packet::Disconnect(disconnect) => Said::Disconnect(disconnect.reason_code),
                    _ => Said::Other,
                };
                self.input.drain(..length);
                return said;
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return Said::Closed,
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// The challenge, which has to come with the method.
    fn challenge(&mut self, method: &str) -> Vec<u8> {
        match self.hear() {
            Said::Auth(ReasonCode::ContinueAuthentication, named, data) if named.as_deref() == Some(method) => data,
            other => panic!("{other:?} instead of a challenge"),
        }
    }
}

fn start(user: &str, password: &str) -> (ScramClient, Vec<u8>) {
    ScramClient::start(Mechanism::Sha256, user, password.as_bytes()).unwrap()
}

/// CONNECT and everything up to what the broker makes of the proof.
fn log_in(broker: &Broker, user: &str, password: &str, with: &With<'_>) -> (Peer, Said, ScramClient) {
    let (mut scram, client_first) = start(user, password);
    let mut peer = Peer::connect(broker, METHOD, Some(&client_first), with);
    let proof = scram.prove(&peer.challenge(METHOD)).unwrap();
    peer.go_on(&proof);
    let said = peer.hear();
    (peer, said, scram)
}

/// A Client that is in as `ann`.
fn ann(broker: &Broker) -> Peer {
    let (peer, said, _) = log_in(broker, "ann", "secret", &With::default());
    assert!(matches!(said, Said::ConnAck(ReasonCode::Success, ..)), "{said:?}");
    peer
}

/// The first two steps of a re-authentication: the proof is to be sent.
fn again(peer: &mut Peer, user: &str, password: &str) -> (ScramClient, Vec<u8>) {
    let (mut scram, client_first) = start(user, password);
    peer.auth(ReasonCode::ReAuthenticate, METHOD, Some(&client_first));
    let proof = scram.prove(&peer.challenge(METHOD)).unwrap();
    (scram, proof)
}

fn refused(reason_code: ReasonCode) -> Said {
    Said::ConnAck(reason_code, None, Vec::new())
}

#[test]
fn client_and_broker_prove_themselves() {
    let broker = broker();
    for (mechanism, user) in [(Mechanism::Sha256, "ann"), (Mechanism::Sha512, "long")] {
        // CONNECT has the first message, or only the method.
        for early in [true, false] {
            let (mut scram, client_first) = ScramClient::start(mechanism, user, b"secret").unwrap();
            let method = mechanism.name();
            let mut peer = Peer::connect(&broker, method, early.then_some(&client_first), &With::default());
            if !early {
                assert_eq!(peer.challenge(method), b"");
                peer.auth(ReasonCode::ContinueAuthentication, method, Some(&client_first));
            }
            let proof = scram.prove(&peer.challenge(method)).unwrap();
            peer.auth(ReasonCode::ContinueAuthentication, method, Some(&proof));
            let Said::ConnAck(ReasonCode::Success, named, server_final) = peer.hear() else { panic!("refused") };
            assert_eq!(named.as_deref(), Some(method));
            scram.check(&server_final).unwrap();
            // It is that user, not the anonymous one of the listener.
            assert_eq!(peer.publish("work/1"), Said::PubAck(ReasonCode::NoMatchingSubscribers));
            assert_eq!(peer.publish("other/1"), Said::PubAck(ReasonCode::NotAuthorized));
        }
    }
    assert_eq!(broker.metric("mqtt_auth_total{method=\"scram\",result=\"accepted\"}"), 4);
    assert!(!broker.log().contains("secret"));
}

#[test]
fn who_cannot_prove_it_is_refused_and_learns_nothing() {
    let broker = broker();
    for (user, password) in [("ann", "wrong"), ("nobody", "secret"), ("eve", "secret"), ("long", "secret")] {
        let (mut peer, said, _) = log_in(&broker, user, password, &With::default());
        assert_eq!(said, refused(ReasonCode::NotAuthorized), "{user}");
        assert_eq!(peer.hear(), Said::Closed);
    }
    let challenge = || {
        let mut peer = Peer::connect(&broker, METHOD, Some(b"n,,n=nobody,r=abc"), &With::default());
        String::from_utf8(peer.challenge(METHOD)).unwrap().split_once(",s=").unwrap().1.to_owned()
    };
    assert_eq!(challenge(), challenge(), "a salt that changed would tell that there is no such user");
}

#[test]
fn the_user_name_in_connect_does_not_contradict() {
    let broker = broker();
    // A password beside it is not looked at.
    let with = |username| With { username: Some(username), password: Some("whatever"), ..With::default() };
    assert!(matches!(log_in(&broker, "ann", "secret", &with("ann")).1, Said::ConnAck(ReasonCode::Success, ..)));
    assert_eq!(log_in(&broker, "ann", "secret", &with("bob")).1, refused(ReasonCode::NotAuthorized));
}

#[test]
fn a_method_that_is_not_offered_is_refused() {
    let broker = broker();
    for method in ["SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "PLAIN", ""] {
        let mut peer = Peer::connect(&broker, method, Some(b"n,,n=ann,r=abc"), &With::default());
        assert!(matches!(peer.hear(), Said::ConnAck(ReasonCode::BadAuthenticationMethod, ..)), "{method}");
    }
    let without_users = Broker::start("[[listeners]]\nurl = \"tcp://@ADDRESS@\"\nanonymous = \"local\"\n");
    let mut peer = Peer::connect(&without_users, METHOD, Some(b"n,,n=ann,r=abc"), &With::default());
    assert!(matches!(peer.hear(), Said::ConnAck(ReasonCode::BadAuthenticationMethod, ..)));
}

#[test]
fn nothing_but_auth_and_disconnect_comes_before_connack() {
    let broker = broker();
    let challenged = || {
        let mut peer = Peer::connect(&broker, METHOD, Some(b"n,,n=ann,r=abc"), &With::default());
        peer.challenge(METHOD);
        peer
    };
    let wrong: [fn(&mut Peer); 3] = [
        |peer| peer.send(&Packet::PingReq),
        |peer| peer.auth(ReasonCode::ReAuthenticate, METHOD, Some(b"n,,n=ann,r=abc")),
        |peer| peer.auth(ReasonCode::ContinueAuthentication, "SCRAM-SHA-512", Some(b"c=biws")),
    ];
    for send in wrong {
        let mut peer = challenged();
        send(&mut peer);
        assert!(matches!(peer.hear(), Said::ConnAck(ReasonCode::ProtocolError, ..)));
        assert_eq!(peer.hear(), Said::Closed);
    }
    let mut peer = challenged();
    peer.send(&Packet::Disconnect(Disconnect::default()));
    assert_eq!(peer.hear(), Said::Closed);
    // Rubbish is not a violation of MQTT: the method refuses it.
    let mut peer = challenged();
    peer.go_on(b"rubbish");
    assert!(matches!(peer.hear(), Said::ConnAck(ReasonCode::NotAuthorized, ..)));
}

#[test]
fn silence_ends_with_the_deadline_of_connect() {
    let broker = broker_with("connect_timeout = \"1s\"");
    let started = Instant::now();
    // No CONNECT that is whole stops it, nor a byte now and then.
    let mut peer = Peer::connect(&broker, METHOD, Some(b"n,,n=ann,r=abc"), &With::default());
    assert!(!matches!(peer.hear(), Said::ConnAck(..)));
    let _ = peer.stream.write_all(&[0xF0]);
    assert_eq!(peer.hear(), Said::Closed);
    assert!(started.elapsed() > Duration::from_millis(500) && started.elapsed() < PATIENCE / 2);
}

#[test]
fn what_a_stranger_sends_is_bounded_and_so_is_what_it_is_sent() {
    let broker = broker();
    let name = |length| format!("n,,n={},r=abc", "u".repeat(length)).into_bytes();
    let mut peer = Peer::connect(&broker, METHOD, Some(&name(4000)), &With::default());
    peer.challenge(METHOD);
    let mut peer = Peer::connect(&broker, METHOD, Some(&name(5000)), &With::default());
    assert!(matches!(peer.hear(), Said::ConnAck(ReasonCode::NotAuthorized, ..)));
    let mut peer = Peer::connect(&broker, METHOD, None, &With::default());
    peer.challenge(METHOD);
    peer.go_on(&name(20_000));
    assert!(matches!(peer.hear(), Said::ConnAck(ReasonCode::PacketTooLarge, ..)));
    let small = With { maximum_packet_size: Some(60), ..With::default() };
    let mut peer = Peer::connect(&broker, METHOD, Some(b"n,,n=ann,r=abc"), &small);
    assert!(matches!(peer.hear(), Said::ConnAck(ReasonCode::PacketTooLarge, ..)));
}

#[test]
fn a_live_connection_authenticates_again_while_messages_flow() {
    let broker = broker();
    let mut peer = ann(&broker);
    for _ in 0..2 {
        let (scram, proof) = again(&mut peer, "ann", "secret");
        assert_eq!(peer.publish("work/1"), Said::PubAck(ReasonCode::NoMatchingSubscribers), "with what it had");
        peer.go_on(&proof);
        let Said::Auth(ReasonCode::Success, named, server_final) = peer.hear() else { panic!("refused") };
        assert_eq!(named.as_deref(), Some(METHOD));
        scram.check(&server_final).unwrap();
    }
    assert_eq!(peer.publish("work/1"), Said::PubAck(ReasonCode::NoMatchingSubscribers));
    assert_eq!(peer.publish("other/1"), Said::PubAck(ReasonCode::NotAuthorized));
    assert_eq!(broker.metric("mqtt_auth_total{method=\"scram\",result=\"accepted\"}"), 3);
}

#[test]
fn a_failed_re_authentication_ends_the_connection() {
    let broker = broker();
    // A wrong password, and another user: the Session belongs to the first.
    for (user, password) in [("ann", "wrong"), ("bob", "secret"), ("nobody", "secret")] {
        let mut peer = ann(&broker);
        let (_, proof) = again(&mut peer, user, password);
        peer.go_on(&proof);
        assert_eq!(peer.hear(), Said::Disconnect(ReasonCode::NotAuthorized), "{user}");
        assert_eq!(peer.hear(), Said::Closed);
    }
}

#[test]
fn re_authentication_goes_in_order() {
    let broker = broker();
    let wrong: [fn(&mut Peer); 4] = [
        |peer| peer.auth(ReasonCode::ReAuthenticate, "SCRAM-SHA-512", Some(b"n,,n=ann,r=abc")),
        |peer| peer.auth(ReasonCode::ContinueAuthentication, METHOD, Some(b"n,,n=ann,r=abc")),
        |peer| {
            again(peer, "ann", "secret");
            peer.auth(ReasonCode::ReAuthenticate, METHOD, Some(b"n,,n=ann,r=abc"));
        },
        |peer| {
            again(peer, "ann", "secret");
            peer.auth(ReasonCode::ContinueAuthentication, "SCRAM-SHA-512", Some(b"c=biws"));
        },
    ];
    for send in wrong {
        let mut peer = ann(&broker);
        send(&mut peer);
        assert_eq!(peer.hear(), Said::Disconnect(ReasonCode::ProtocolError));
    }
    // Who named no method in CONNECT has none to authenticate by again.
    let mut client = Client::open(broker.address, "plain", true, Some(("ann", "secret"))).unwrap();
    client.send(&Packet::Auth(Auth {
        reason_code: ReasonCode::ReAuthenticate,
        authentication_method: Some(METHOD),
        authentication_data: Some(b"n,,n=ann,r=abc"),
        ..Auth::default()
    }));
    assert_eq!(client.next(), Came::Disconnect(ReasonCode::ProtocolError));
}

#[test]
fn a_password_that_changes_ends_connections_that_were_proven_by_it() {
    let broker = broker();
    let mut peer = ann(&broker);
    let (code, _, errors) = run(&["passwd", "users", "ann", "--scram", "--iterations", "4096"], broker.folder.path(), "another");
    assert_eq!(code, 0, "{errors}");
    assert_eq!(peer.hear(), Said::Disconnect(ReasonCode::NotAuthorized));
    assert_eq!(log_in(&broker, "ann", "secret", &With::default()).1, refused(ReasonCode::NotAuthorized));
    assert!(matches!(log_in(&broker, "ann", "another", &With::default()).1, Said::ConnAck(ReasonCode::Success, ..)));
}

#[test]
fn the_command_line_proves_the_password_or_sends_it() {
    let broker = broker();
    let port = broker.address.port().to_string();
    let publish = |more: &[&str]| {
        run(&[&["pub", "-h", "127.0.0.1", "-p", &port, "-t", "work/1", "-m", "x", "-q", "1"], more].concat(), broker.folder.path(), "")
    };
    for more in [
        &["-u", "ann", "-P", "secret", "--auth-method", "SCRAM-SHA-256"][..],
        &["-u", "long", "-P", "secret", "--auth-method", "scram-sha-512"],
        &["-u", "ann", "-P", "secret"],
    ] {
        let (code, _, errors) = publish(more);
        assert_eq!(code, 0, "{more:?}: {errors}");
    }
    let (code, _, errors) = publish(&["-u", "ann", "-P", "wrong", "--auth-method", "SCRAM-SHA-256"]);
    assert_eq!((code, errors.contains("0x87")), (0x87, true), "{errors}");
    let (code, _, errors) = publish(&["-u", "ann", "-P", "wrong"]);
    assert_eq!((code, errors.contains("0x86")), (0x86, true), "{errors}");
}
