//! A CONNECT being put together, and what becomes of it.

use bucketmq_packet::{Connect, ConnectProperties, ProtocolVersion};

use crate::client::Client;
use crate::ensure;
use crate::message::Message;
use crate::outcome::{Outcome, failed};
use crate::reply::{Accepted, Reply};
use crate::run::Run;

/// A CONNECT being put together.
#[derive(Debug, Clone)]
pub struct Connecting<'r, 't> {
    run: &'r Run<'t>,
    address: String,
    client_id: String,
    clean_start: bool,
    keep_alive: u16,
    username: Option<String>,
    password: Option<String>,
    will: Option<Message>,
    will_delay: u32,
    manual: bool,
    expiry: Option<u32>,
    receive_maximum: Option<u16>,
    maximum_packet_size: Option<u32>,
    alias_maximum: u16,
    problem_information: bool,
    response_information: bool,
    authentication_method: Option<String>,
    authentication_data: Option<Vec<u8>>,
}

impl<'r, 't> Connecting<'r, 't> {
    /// Clean Start 1, Keep Alive 60 s, nothing else.
    pub fn new(run: &'r Run<'t>, address: String, client_id: String) -> Self {
        Self {
            run,
            address,
            client_id,
            clean_start: true,
            keep_alive: 60,
            username: None,
            password: None,
            will: None,
            will_delay: 0,
            manual: false,
            expiry: None,
            receive_maximum: None,
            maximum_packet_size: None,
            alias_maximum: 0,
            problem_information: true,
            response_information: false,
            authentication_method: None,
            authentication_data: None,
        }
    }

    /// Connects to another address than the main one.
    pub fn at(mut self, address: &str) -> Self {
        self.address = address.into();
        self
    }

    /// Uses exactly this Client Identifier.
    pub fn client_id(mut self, client_id: &str) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Clean Start 0, Clean Session 0.
    pub fn resume(mut self) -> Self {
        self.clean_start = false;
        if !self.run.v5() {
            self.run.keeps(&self.client_id);
        }
        self
    }

    /// A Session that is resumed and outlives this connection: Clean Start 0 with an expiry of two minutes, or Clean Session 0.
    pub fn kept(self) -> Self {
        self.expiry(120).resume()
    }

    /// Sets the Session Expiry Interval.
    pub fn expiry(mut self, seconds: u32) -> Self {
        self.expiry = Some(seconds);
        self
    }

    /// Sets the Keep Alive.
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// Sets User Name and Password.
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.username = Some(username.into());
        self.password = Some(password.into());
        self
    }

    /// Sets a Password without a User Name.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the Will.
    pub fn will(mut self, will: Message) -> Self {
        self.will = Some(will);
        self
    }

    /// Sets the Will Delay Interval.
    pub fn will_delay(mut self, seconds: u32) -> Self {
        self.will_delay = seconds;
        self
    }

    /// Acknowledgements are the test's.
    pub fn manual(mut self) -> Self {
        self.manual = true;
        self
    }

    /// Sets the Receive Maximum.
    pub fn receive_maximum(mut self, maximum: u16) -> Self {
        self.receive_maximum = Some(maximum);
        self
    }

    /// Sets the Maximum Packet Size.
    pub fn maximum_packet_size(mut self, bytes: u32) -> Self {
        self.maximum_packet_size = Some(bytes);
        self
    }

    /// Sets the Topic Alias Maximum.
    pub fn alias_maximum(mut self, maximum: u16) -> Self {
        self.alias_maximum = maximum;
        self
    }

    /// Request Problem Information 0.
    pub fn no_problem_information(mut self) -> Self {
        self.problem_information = false;
        self
    }

    /// Request Response Information 1.
    pub fn response_information(mut self) -> Self {
        self.response_information = true;
        self
    }

    /// Sets the Authentication Method.
    pub fn authentication_method(mut self, method: &str) -> Self {
        self.authentication_method = Some(method.into());
        self
    }

    /// Sets the Authentication Data.
    pub fn authentication_data(mut self, data: &[u8]) -> Self {
        self.authentication_data = Some(data.into());
        self
    }

    /// The CONNECT.
    pub fn encode(&self) -> Vec<u8> {
        let v5 = self.run.v5();
        let connect = Connect {
            version: self.run.version,
            clean_start: self.clean_start,
            keep_alive: self.keep_alive,
            client_id: &self.client_id,
            username: self.username.as_deref(),
            password: self.password.as_deref().map(str::as_bytes),
            will: self.will.as_ref().map(|will| will.will(self.will_delay)),
            properties: if v5 {
                ConnectProperties {
                    session_expiry_interval: self.expiry,
                    receive_maximum: self.receive_maximum,
                    maximum_packet_size: self.maximum_packet_size,
                    topic_alias_maximum: self.alias_maximum,
                    request_response_information: self.response_information,
                    request_problem_information: self.problem_information,
                    authentication_method: self.authentication_method.as_deref(),
                    authentication_data: self.authentication_data.as_deref(),
                    user_properties: Vec::new(),
                }
            } else {
                ConnectProperties::default()
            },
        };
        let mut out = Vec::new();
        connect.encode(self.run.version, &mut out);
        out
    }

    /// Sends CONNECT and reads nothing.
    pub fn start(&self) -> Outcome<Client> {
        let mut client = self.run.raw_at(&self.address)?;
        client.manual = self.manual;
        client.alias_maximum = self.alias_maximum;
        client.maximum_packet_size = self.maximum_packet_size;
        client.send(&self.encode());
        Ok(client)
    }

    /// Connects; CONNACK has to be 0x00.
    pub fn open(&self) -> Outcome<(Client, Accepted)> {
        let mut client = self.start()?;
        match client.reply()? {
            Reply::ConnAck(accepted) if accepted.code == 0 => Ok((client, *accepted)),
            other => failed(format!("{} instead of CONNACK 0x00", other.name())),
        }
    }

    /// Connects; the Client.
    pub fn client(&self) -> Outcome<Client> {
        Ok(self.open()?.0)
    }

    /// Connects; Session Present has to be as said (3.1 has no such flag).
    pub fn present(&self, expected: bool) -> Outcome<Client> {
        let (client, accepted) = self.open()?;
        if self.run.version != ProtocolVersion::V3_1 {
            ensure!(accepted.session_present == expected, "Session Present is {} and should be {expected}", accepted.session_present);
        }
        Ok(client)
    }

    /// Is refused, with one of these Reason Codes if the broker says why (`must_say`: it has to).
    pub fn refused(&self, named: &[u8], must_say: bool) -> Outcome {
        let mut client = self.start()?;
        match client.closed()? {
            None if must_say => failed("closed without the CONNACK that says why"),
            Some(code) if !named.contains(&code) => failed(format!("refused with 0x{code:02X} instead of {named:02X?}")),
            _ => Ok(()),
        }
    }
}
