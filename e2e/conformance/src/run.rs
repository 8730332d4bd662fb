//! One run of one test: where the broker is, which version is spoken, and names nobody else uses.

use std::cell::RefCell;
use std::time::Duration;

use bucketmq_packet::ProtocolVersion;

use crate::client::Client;
use crate::connecting::Connecting;
use crate::message::Message;
use crate::outcome::{Outcome, not_applicable};
use crate::reply::Accepted;
use crate::stream::Stream;

/// The broker under test.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port` of a listener that lets everybody in.
    pub address: String,
    /// `ws://host:port/path` of the same broker.
    pub websocket: Option<String>,
    /// `host:port` of a broker with maximum QoS 1, no retained messages and a keep alive cap; and whatever else it can switch off.
    pub restricted: Option<String>,
    /// `host:port` of a listener that asks for a password, see [`crate::secured`].
    pub secured: Option<String>,
    /// How long an answer may take.
    pub wait: Duration,
}

/// What a test gets.
#[derive(Debug)]
pub struct Run<'t> {
    /// Where.
    pub target: &'t Target,
    /// In which version.
    pub version: ProtocolVersion,
    test: &'static str,
    nonce: String,
    retained: RefCell<Vec<Message>>,
    kept: RefCell<Vec<String>>,
}

impl<'t> Run<'t> {
    /// A run whose names contain `nonce`: a few letters and digits.
    pub fn new(target: &'t Target, version: ProtocolVersion, test: &'static str, nonce: String) -> Self {
        Self { target, version, test, nonce, retained: RefCell::default(), kept: RefCell::default() }
    }

    /// Is 5.0 spoken?
    pub fn v5(&self) -> bool {
        self.version == ProtocolVersion::V5
    }

    /// A Client Identifier of this run: letters and digits, at most 23.
    pub fn id(&self, who: &str) -> String {
        let id = format!("{}{}{who}", self.nonce, self.version.number());
        assert!(id.len() <= 23, "{id} is too long");
        id
    }

    /// A topic, or filter, of this run.
    pub fn topic(&self, name: &str) -> String {
        format!("conformance/{}-{}/{}/{name}", self.nonce, self.version.number(), self.test)
    }

    /// A message on a topic of this run.
    pub fn message(&self, name: &str, payload: impl AsRef<[u8]>) -> Message {
        Message::new(self.topic(name), payload)
    }

    /// A CONNECT of Client `who`, to be completed.
    pub fn connect(&self, who: &str) -> Connecting<'_, 't> {
        Connecting::new(self, self.target.address.clone(), self.id(who))
    }

    /// A connected Client.
    pub fn client(&self, who: &str) -> Outcome<Client> {
        self.connect(who).client()
    }

    /// A connected Client with one Subscription to a topic or filter of this run.
    pub fn subscriber(&self, name: &str, quality: u8) -> Outcome<Client> {
        let mut client = self.client("subscriber")?;
        client.subscribe(&self.topic(name), quality)?;
        Ok(client)
    }

    /// A connection on which nothing was sent.
    pub fn raw(&self) -> Outcome<Client> {
        self.raw_at(&self.target.address)
    }

    /// The same somewhere else.
    pub fn raw_at(&self, address: &str) -> Outcome<Client> {
        Ok(Client::new(Stream::connect(address, self.target.wait)?, self.version, self.target.wait))
    }

    /// A retained message is set, and removed when the run is over.
    pub fn retain(&self, client: &mut Client, message: &Message) -> Outcome {
        self.retained.borrow_mut().push(message.clone());
        client.publish(&message.clone().retain())?;
        Ok(())
    }

    /// The broker with limits, and what it says of itself to a 5.0 Client.
    pub fn restricted(&self) -> Outcome<(String, Accepted)> {
        let Some(address) = self.target.restricted.clone() else { return not_applicable("needs --restricted") };
        let run = Run::new(self.target, ProtocolVersion::V5, self.test, self.nonce.clone());
        let probe = run.connect(&format!("p{}", self.version.number())).at(&address);
        let (client, accepted) = probe.open()?;
        client.disconnect()?;
        Ok((address, accepted))
    }

    /// The listener that asks for a password.
    pub fn secured(&self) -> Outcome<String> {
        self.target.secured.clone().map_or_else(|| not_applicable("needs --secured"), Ok)
    }

    /// A Session of this Client Identifier will stay in the broker unless the run removes it.
    pub fn keeps(&self, client_id: &str) {
        self.kept.borrow_mut().push(client_id.into());
    }

    /// Removes what the test left behind in the broker.
    pub fn tidy_up(&self) {
        let clean = || -> Outcome {
            for who in self.kept.take() {
                self.connect("").client_id(&who).client()?.disconnect()?;
            }
            let retained = self.retained.take();
            if !retained.is_empty() {
                let mut client = self.client("tidy")?;
                for message in retained {
                    client.publish(&Message::new(message.topic, "").qos(1).retain())?;
                }
                client.disconnect()?;
            }
            Ok(())
        };
        // The verdict is already given; a broker that will not be tidied keeps what it has.
        let _ = clean();
    }
}
