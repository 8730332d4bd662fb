//! Files made by hand, after the code of Mosquitto that writes and reads them, and one that Mosquitto 2.0.11 wrote. Of those
//! made by hand a test in `tests/mosquitto` asks Mosquitto 2.0.11 what it reads in formats 2 to 5; that a Mosquitto of that age wrote such a file
//! is not proven, nor what other machines write.

use super::*;

/// Written by Mosquitto 2.0.11 on a 64-bit little-endian machine, all Clients without user name.
const REAL: &[u8] = include_bytes!("golden/2.0.11.db");

/// A file under construction.
struct Writer {
    version: u32,
    bytes: Vec<u8>,
}

impl Writer {
    fn new(version: u32) -> Self {
        let mut bytes = b"\x00\xB5\x00mosquitto db\0\0\0\0".to_vec();
        bytes.extend_from_slice(&version.to_be_bytes());
        Self { version, bytes }
    }

    fn chunk(mut self, kind: u16, parts: &[&[u8]]) -> Self {
        let body = parts.concat();
        match self.version {
            5.. => self.bytes.extend_from_slice(&u32::from(kind).to_be_bytes()),
            _ => self.bytes.extend_from_slice(&kind.to_be_bytes()),
        }
        self.bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        self.bytes.extend_from_slice(&body);
        self
    }

    fn read(&self) -> Contents {
        read(&mut &self.bytes[..]).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn be16(value: u16) -> [u8; 2] {
    value.to_be_bytes()
}

fn id(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}

/// Formats 2 to 4: 3 has no user name and port of the publisher, 2 no time in the client chunk.
fn old(version: u32) -> Writer {
    let source: &[u8] = if version == 4 { b"\0\x01p\0\x04user\x07\x5b" } else { b"\0\x01p" };
    let time: &[u8] = if version == 2 { b"" } else { &1_500_000_000_u64.to_le_bytes() };
    Writer::new(version)
        .chunk(1, &[&[1, 8], &id(9)])
        .chunk(2, &[&id(7), source, &be16(11), &be16(12), b"\0\x03a/b", &[2, 1], &5_u32.to_be_bytes(), b"hello"])
        .chunk(6, &[b"\0\x06client", &be16(300), time])
        .chunk(3, &[b"\0\x06client", &id(7), &be16(300), &[2, 0, 1, 5, 1]])
        .chunk(3, &[b"\0\x06client", &id(7), &be16(301), &[1, 1, 1, 11, 0]])
        .chunk(5, &[b"\0\x06client", b"\0\x03a/+", &[1]])
        .chunk(4, &[&id(7)])
}

#[test]
fn files_of_mosquitto_before_1_6_are_read() {
    for version in 2..=4 {
        let contents = old(version).read();
        assert_eq!(contents.config, Config { shutdown: true, last_store_id: 9 });
        let message = StoredMessage {
            store_id: 7,
            topic: "a/b".into(),
            payload: b"hello".to_vec(),
            properties: Vec::new(),
            expiry_time: None,
            source_id: "p".into(),
            source_username: (version == 4).then(|| "user".into()),
            source_mid: 11,
            source_port: if version == 4 { 1883 } else { 0 },
            qos: QoS::ExactlyOnce,
            retain: true,
        };
        assert_eq!(contents.messages, HashMap::from([(7, message)]));
        let in_flight = ClientMessage {
            store_id: 7,
            mid: 300,
            qos: QoS::ExactlyOnce,
            direction: Direction::Out,
            state: State::WaitForPubrec,
            dup: true,
            retain: false,
            identifiers: Vec::new(),
        };
        let queued = ClientMessage { mid: 301, qos: QoS::AtLeastOnce, state: State::Queued, dup: false, retain: true, ..in_flight.clone() };
        let [client] = &contents.clients[..] else { panic!("{contents:?}") };
        assert_eq!((client.id.as_str(), client.last_mid, client.session_expiry_interval), ("client", 300, u32::MAX));
        assert_eq!(client.disconnected_at, (version > 2).then_some(1_500_000_000));
        assert_eq!(client.messages, [in_flight, queued]);
        let [subscription] = &contents.subscriptions[..] else { panic!("{contents:?}") };
        assert_eq!((subscription.client_id.as_str(), subscription.filter.as_str()), ("client", "a/+"));
        assert_eq!((subscription.qos, subscription.identifier), (QoS::AtLeastOnce, None));
        assert_eq!(contents.retained, [7]);
        assert!(contents.passed_over.is_empty() && contents.strays.is_empty());
    }
}

#[test]
fn a_time_of_32_bits_is_read() {
    for time in [1_500_000_000_u32.to_le_bytes(), 1_500_000_000_u32.to_be_bytes()] {
        let contents = Writer::new(3).chunk(6, &[b"\0\x01c", &be16(1), &time]).read();
        assert_eq!(contents.clients[0].disconnected_at, Some(1_500_000_000));
    }
}

/// How a machine writes a number.
type Order = fn(u64) -> [u8; 8];

/// Formats 5 and 6. `number` writes what stands in the order of the machine, `padding` is what a struct of that machine has at its end.
fn new(version: u32, number: Order, padding: &[u8]) -> Writer {
    let config_padding = if padding.is_empty() { &[0; 2][..] } else { &[0; 6] };
    let user: &[u8] = if version == 6 { b"\x07\x5b\0\x05" } else { b"" };
    let (client_padding, name): (&[u8], &[u8]) = if version == 6 { (padding, b"alice") } else { (b"", b"") };
    let expiry = 4_294_967_295_u64 + 1_700_000_000;
    Writer::new(version)
        .chunk(1, &[&number(9), &[0, 8], config_padding])
        .chunk(
            2,
            &[
                &[&number(7)[..], &number(4_000_000_500), &5_u32.to_be_bytes(), &be16(11), &be16(1), &be16(4), &be16(3)].concat(),
                &[&be16(1883)[..], &[2, 1], b"p", b"user", b"a/b", b"hello"].concat(),
                // Length, expiry, content type, user property.
                b"\x10\x02\0\0\0\x05\x03\0\x01x\x26\0\x01k\0\x01v",
            ],
        )
        .chunk(2, &[&[&number(8)[..], &[0; 8], &[0; 4], &[0; 2], &[0; 4], &be16(1), &[0; 2], &[0, 0], b"t"].concat()])
        .chunk(6, &[&number(expiry), &u32::MAX.to_be_bytes(), &be16(300), &be16(6), user, client_padding, b"client", name])
        .chunk(3, &[&number(7), &be16(300), &be16(6), &[2, 7, 0x01, 0], b"client", b"\x03\x0b\xff\x7f"])
        .chunk(3, &[&number(8), &be16(0), &be16(6), &[0, 11, 0x10, 1], b"client"])
        .chunk(5, &[&77_u32.to_be_bytes(), &be16(6), &be16(3), &[2, 12], &[0xAA; 2], b"client", b"a/+"])
        .chunk(4, &[&number(7)])
}

#[test]
fn files_of_mosquitto_since_1_6_are_read_whatever_machine_wrote_them() {
    let machines: [(Order, &[u8]); 3] = [(u64::to_le_bytes, &[0xEE; 4]), (u64::to_be_bytes, &[0; 4]), (u64::to_le_bytes, b"")];
    for (version, (number, padding)) in [5, 6].into_iter().flat_map(|version| machines.map(|machine| (version, machine))) {
        let contents = new(version, number, padding).read();
        assert!(contents.passed_over.is_empty() && contents.strays.is_empty(), "{contents:?}");
        assert!(!contents.config.shutdown);
        let store_id = contents.retained[0];
        let message = &contents.messages[&store_id];
        assert_eq!((message.topic.as_str(), &message.payload[..], message.expiry_time), ("a/b", &b"hello"[..], Some(4_000_000_500)));
        assert_eq!((message.source_id.as_str(), message.source_username.as_deref(), message.source_port), ("p", Some("user"), 1883));
        assert_eq!((message.qos, message.retain, message.source_mid), (QoS::ExactlyOnce, true, 11));
        assert_eq!(message.properties, b"\x03\0\x01x\x26\0\x01k\0\x01v", "the expiry has a field of its own");
        let [client] = &contents.clients[..] else { panic!("{contents:?}") };
        assert_eq!(client.username.as_deref(), (version == 6).then_some("alice"));
        assert_eq!(client.session_expiry_time, Some(4_294_967_295 + 1_700_000_000), "in seconds, beyond 32 bits");
        assert_eq!((client.last_mid, client.listener_port), (300, if version == 6 { 1883 } else { 0 }));
        let [incoming, queued] = &client.messages[..] else { panic!("{client:?}") };
        assert_eq!((incoming.direction, incoming.state, incoming.store_id), (Direction::In, State::WaitForPubrel, store_id));
        assert_eq!((incoming.dup, incoming.retain, &incoming.identifiers[..]), (true, false, &[16_383][..]));
        assert_eq!((queued.direction, queued.state, queued.qos), (Direction::Out, State::Queued, QoS::AtMostOnce));
        assert_eq!((queued.dup, queued.retain, queued.mid), (false, true, 0));
        assert_eq!(contents.messages[&queued.store_id].topic, "t");
        let [subscription] = &contents.subscriptions[..] else { panic!("{contents:?}") };
        assert_eq!((subscription.client_id.as_str(), subscription.filter.as_str()), ("client", "a/+"));
        assert_eq!((subscription.no_local, subscription.retain_as_published, subscription.identifier), (true, true, Some(77)));
    }
}

/// They stand in files, too, so that a Mosquitto can be asked what it reads there. `MAKE_GOLDEN` writes them anew.
#[test]
fn files_made_by_hand_are_those_that_mosquitto_is_asked_about() {
    let made = [old(2), old(3), old(4), new(5, u64::to_le_bytes, b"\0\0\0\0")];
    for (writer, version) in made.iter().zip(2..) {
        let path = format!("{}/src/mosquitto/golden/by-hand-{version}.db", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("MAKE_GOLDEN").is_some() {
            std::fs::write(&path, &writer.bytes).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == writer.bytes, "{path}");
    }
}

#[test]
fn a_user_name_with_memory_behind_it_is_none_and_makes_the_next_uncertain() {
    let mut file = Writer::new(6);
    let names: [(&str, &[u8]); 6] =
        [("a", b"alice"), ("b", b"alice\0\x7F\xFFmemory"), ("c", b"alice"), ("d", b"bob"), ("e", b"alice"), ("f", b"")];
    for (client, name) in names {
        let name_len = be16(name.len() as u16);
        file = file.chunk(6, &[&[0; 8], &[0xFF; 4], &be16(1), &be16(1), &be16(1883), &name_len, &[0; 4], client.as_bytes(), name]);
    }
    let names: Vec<_> = file.read().clients.into_iter().map(|client| (client.username, client.username_uncertain)).collect();
    let alice = Some("alice".to_owned());
    assert_eq!(
        names,
        [(alice.clone(), false), (None, false), (alice.clone(), true), (Some("bob".into()), false), (alice, false), (None, false)]
    );
}

#[test]
fn what_makes_no_sense_is_passed_over_and_named() {
    let client = [&[0_u8; 8][..], &[0xFF; 4], &be16(1), &be16(1), &[0; 8]].concat();
    let file = Writer::new(6)
        .chunk(1, &[&id(1), &[0, 8], &[0; 6]])
        .chunk(9, &[b"from the future"])
        .chunk(6, &[&client, b"\xFF"])
        .chunk(6, &[&client, b"c"])
        .chunk(3, &[&id(7), &be16(1), &be16(1), &[3, 3, 0, 1], b"c"])
        .chunk(3, &[&id(7), &be16(1), &be16(1), &[1, 12, 0, 1], b"c"])
        .chunk(3, &[&id(7), &be16(1), &be16(1), &[1, 3, 0, 2], b"c"])
        .chunk(3, &[&id(7), &be16(1), &be16(1), &[1, 3, 0, 1], b"x"])
        .chunk(5, &[&[0; 4], &be16(1), &be16(2), &[0, 0, 0, 0], b"c", b"a\0"]);
    let contents = file.read();
    let named: Vec<_> = contents.passed_over.iter().map(ToString::to_string).collect();
    assert_eq!(
        named,
        [
            "unknown (9) chunk at byte 47: its kind is not known",
            "client chunk at byte 70: its Client Identifier is no UTF-8 string",
            "client message chunk at byte 136: its QoS is none there can be",
            "client message chunk at byte 161: its state is none there can be",
            "client message chunk at byte 186: its direction is none there can be",
            "subscription chunk at byte 236: its Topic Filter is no UTF-8 string",
        ]
    );
    assert_eq!((contents.clients.len(), contents.strays), (1, vec!["x".to_owned()]));
}

#[test]
fn what_is_no_such_file_is_refused_with_what_to_do() {
    let refused = |bytes: &[u8]| read(&mut &bytes[..]).expect_err("refused").to_string();
    assert!(refused(b"").contains("mosquitto.db by default"));
    assert!(refused(b"{\"clients\": []} and much more of it").contains("no persistence file"));
    assert!(refused(&Writer::new(7).bytes).contains("has format 7"));
    assert!(refused(&Writer::new(1).bytes).contains("has format 1"));
    assert!(refused(&Writer::new(6).chunk(1, &[&id(1), &[0, 4], &[0; 6]]).bytes).contains("have 4 bytes"));
    let long = refused(&Writer::new(6).chunk(4, &[&[0; 9]]).bytes);
    assert!(long.starts_with("retained chunk at byte 23: it has 1 bytes more") && long.contains("stop Mosquitto"), "{long}");
    let short = refused(&Writer::new(6).chunk(3, &[&[0; 7]]).bytes);
    assert!(short.starts_with("client message chunk at byte 23: it is too short"), "{short}");
}

/// Gives zeros for ever behind its beginning, and counts what was taken.
struct Endless<'a>(&'a [u8], u64);

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = if self.0.is_empty() { buffer.len() } else { self.0.read(buffer)? };
        self.1 += count as u64;
        Ok(count)
    }
}

#[test]
fn a_length_is_not_believed() {
    for kind in 1..=6_u32 {
        let mut bytes = Writer::new(6).bytes;
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&u32::MAX.to_be_bytes());
        let mut input = Endless(&bytes, 0);
        let error = read(&mut input).expect_err("too long").to_string();
        assert!(error.contains("4294967295 bytes, more than there can be"), "{error}");
        assert!(input.1 < 100_000, "{} bytes taken", input.1);
    }
    // A length there can be, and no bytes.
    let mut bytes = Writer::new(6).bytes;
    bytes.extend_from_slice(b"\0\0\0\x02\x10\0\0\0\0\0");
    let mut chunks = Chunks::new(&bytes[..]).unwrap();
    let error = chunks.next().unwrap_err().to_string();
    assert!(error.starts_with("message chunk at byte 23: the file ends inside it"), "{error}");
}

#[test]
fn a_file_of_mosquitto_2_0_11_is_read() {
    let contents = read(&mut &REAL[..]).unwrap();
    assert_eq!((contents.version, contents.config.shutdown), (6, true));
    assert!(contents.passed_over.is_empty() && contents.strays.is_empty());
    let mut ids: Vec<_> = contents.clients.iter().map(|client| client.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["five", "four", "publisher"]);
    let five = contents.clients.iter().find(|client| client.id == "five").unwrap();
    assert_eq!((five.session_expiry_interval, five.session_expiry_time), (3600, None), "it was connected");
    let out: Vec<_> = five.messages.iter().map(|message| (message.mid, message.qos as u8, message.state)).collect();
    assert_eq!(
        out,
        [
            (1, 2, State::WaitForPubcomp),
            (2, 2, State::WaitForPubrec),
            (3, 1, State::WaitForPuback),
            (4, 1, State::Queued),
            (5, 2, State::Queued)
        ]
    );
    let publisher = contents.clients.iter().find(|client| client.id == "publisher").unwrap();
    let [incoming] = &publisher.messages[..] else { panic!("{publisher:?}") };
    assert_eq!((incoming.mid, incoming.direction, incoming.state), (500, Direction::In, State::WaitForPubrel));
    assert_eq!(contents.messages[&incoming.store_id].payload, b"not released");
    assert_eq!(contents.retained.len(), 2);
    assert_eq!(contents.subscriptions.len(), 3);
}

#[test]
fn a_file_cut_off_anywhere_is_read_to_there_or_refused() {
    for bytes in [REAL, &old(3).bytes, &old(4).bytes, &new(5, u64::to_le_bytes, b"").bytes, &new(6, u64::to_be_bytes, &[0; 4]).bytes] {
        let mut whole = 0;
        for length in 0..bytes.len() {
            match read(&mut &bytes[..length]) {
                Ok(_) => whole += 1,
                Err(Error::NotMosquitto) => assert!(length < 23),
                Err(Error::Chunk { fault: Fault::CutOff, offset, .. }) => assert!(offset <= length as u64),
                Err(error) => panic!("{length}: {error}"),
            }
        }
        assert!(whole > 2, "between two chunks a file looks whole");
    }
}

#[test]
fn no_wrong_byte_makes_the_reader_panic_or_take_much() {
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let held = |contents: &Contents| {
        let messages = contents.messages.values().map(|message| message.payload.len() + message.topic.len() + message.properties.len());
        messages.sum::<usize>() + contents.clients.iter().map(|client| client.id.len()).sum::<usize>()
    };
    let try_one = |bytes: &[u8]| {
        if let Ok(contents) = read(&mut &bytes[..]) {
            assert!(held(&contents) <= bytes.len());
            let _ = crate::plan(contents, bucketmq_storage::Shards::default(), 1_800_000_000_000);
        }
    };
    for bytes in [REAL, &old(4).bytes, &new(6, u64::to_le_bytes, &[0; 4]).bytes] {
        let mut damaged = bytes.to_vec();
        for place in 0..bytes.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF, bytes[place] ^ 1 << (place % 8)] {
                damaged[place] = value;
                try_one(&damaged);
            }
            damaged[place] = bytes[place];
        }
        for _ in 0..20_000 {
            let mut damaged = bytes.to_vec();
            for _ in 0..1 + next() % 8 {
                let place = next() as usize % damaged.len();
                damaged[place] = next() as u8;
            }
            let cut = (next() % 128).saturating_sub(64) as usize;
            damaged.truncate(damaged.len() - cut);
            try_one(&damaged);
        }
    }
}
