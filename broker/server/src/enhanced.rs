//! Enhanced authentication (5.0 4.12): AUTH packets between CONNECT and CONNACK, and again on a live connection.
//!
//! What is said in them is `access`'s; here they become packets, in their order and within their bounds.

use std::io;

use bucketmq_access::{Attempt, Exchange, Principal, Refusal, Step};
use bucketmq_listener::Transport;
use bucketmq_packet::{Auth, Packet, PacketType, ProtocolVersion, ReasonCode, Sender, Violation, decode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tracing::{debug, info};

use crate::broker::Broker;
use crate::connection::{Closing, Connection, unexpected};

/// The largest AUTH taken from somebody who is not known yet: 4 KiB of data, and as much again three times over for what may stand beside it.
const AUTH_BYTES_MAX: u32 = 16 * 1024;
/// Bytes read at a time; AUTH seldom needs more.
const READ_BYTES: usize = 512;

/// What CONNACK repeats and adds [MQTT-4.12.0-5].
#[derive(Debug)]
pub(crate) struct Proof {
    /// Authentication Method.
    pub(crate) method: &'static str,
    /// Authentication Data, by which the Client knows us.
    pub(crate) data: Vec<u8>,
}

/// Why there is nobody to give a Session to.
#[derive(Debug)]
pub(crate) enum Unproven {
    /// The method says no.
    Refused(Refusal),
    /// The Client broke a rule.
    Violation(Violation),
    /// It is not there any more, or does not want to be.
    Gone,
}

impl From<Refusal> for Unproven {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Violation> for Unproven {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl From<io::Error> for Unproven {
    fn from(error: io::Error) -> Self {
        debug!(error = %error, "socket failed during authentication");
        Self::Gone
    }
}

/// The exchange of a Client that has sent CONNECT and waits for CONNACK.
pub(crate) struct Dialogue<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) transport: &'a mut Transport,
    /// What has come behind CONNECT; at the end, what has come behind the last AUTH.
    pub(crate) input: &'a mut Vec<u8>,
    /// Largest packet we take, and the Client.
    pub(crate) max_packet_size: u32,
    pub(crate) client_max_packet_size: u32,
    /// That of CONNECT is that of the whole exchange.
    pub(crate) deadline: Instant,
}

impl Dialogue<'_> {
    /// Asks and listens until the method knows who it is, or the deadline is over. `data`: from CONNECT.
    pub(crate) async fn lead(self, exchange: Exchange, attempt: &Attempt<'_>, data: Option<&[u8]>) -> Result<(Principal, Proof), Unproven> {
        let led = tokio::time::timeout_at(self.deadline, self.lead_to_the_end(exchange, attempt, data)).await;
        led.unwrap_or_else(|_| {
            debug!(client_id = attempt.client_id, remote_addr = ?attempt.remote_addr, "no end of the authentication within the deadline");
            Err(Unproven::Gone)
        })
    }

    async fn lead_to_the_end(
        mut self,
        mut exchange: Exchange,
        attempt: &Attempt<'_>,
        data: Option<&[u8]>,
    ) -> Result<(Principal, Proof), Unproven> {
        let Some(method) = exchange.method().authentication_method() else { return Err(Unproven::Gone) };
        let mut step = self.broker.access.proceed(&mut exchange, attempt, data)?;
        loop {
            match step {
                Step::Accept(principal, data) => {
                    // What is left is usually nothing, and stays with the connection.
                    self.input.shrink_to_fit();
                    return Ok((principal, Proof { method, data }));
                }
                Step::Continue(challenge) => {
                    let mut bytes = Vec::new();
                    if !put_auth(ReasonCode::ContinueAuthentication, method, &challenge, self.client_max_packet_size, &mut bytes) {
                        return Err(Unproven::Refused(too_large(&exchange)));
                    }
                    self.transport.write_all(&bytes).await?;
                    self.transport.flush().await?;
                    self.broker.metrics.sent(PacketType::Auth, 1);
                    self.broker.metrics.bytes_sent.add(bytes.len() as u64);
                }
            }
            let data = self.answer(method).await?;
            step = self.broker.access.proceed(&mut exchange, attempt, data.as_deref())?;
        }
    }

    /// The data of the next AUTH.
    async fn answer(&mut self, method: &str) -> Result<Option<Vec<u8>>, Unproven> {
        loop {
            if let Some(first) = self.input.first()
                && ![PacketType::Auth as u8, PacketType::Disconnect as u8].contains(&(first >> 4))
            {
                // [MQTT-3.1.2-30] Nothing else before CONNACK.
                return Err(Violation::protocol_error("MQTT-3.1.2-30", "neither AUTH nor DISCONNECT during authentication").into());
            }
            match decode(self.input, ProtocolVersion::V5, Sender::Client, self.max_packet_size.min(AUTH_BYTES_MAX))? {
                Some((Packet::Auth(auth), used)) => {
                    self.broker.metrics.received(PacketType::Auth, 1);
                    if auth.reason_code != ReasonCode::ContinueAuthentication {
                        return Err(Violation::protocol_error("MQTT-4.12.0-3", "AUTH does not continue the authentication").into());
                    }
                    if auth.authentication_method != Some(method) {
                        return Err(Violation::protocol_error("MQTT-4.12.0-5", "AUTH names another method than CONNECT").into());
                    }
                    let data = auth.authentication_data.map(<[u8]>::to_vec);
                    self.input.drain(..used);
                    return Ok(data);
                }
                Some((packet, _)) => {
                    self.broker.metrics.received(packet.packet_type(), 1);
                    return Err(Unproven::Gone);
                }
                None => {}
            }
            self.input.reserve(READ_BYTES);
            let count = self.transport.read_buf(self.input).await?;
            self.broker.metrics.bytes_received.add(count as u64);
            if count == 0 {
                return Err(Unproven::Gone);
            }
        }
    }
}

impl Connection {
    /// AUTH on a live connection: re-authentication (4.12.1). Other packets go on meanwhile, with the rights the Client has.
    pub(crate) fn handle_auth(&mut self, auth: &Auth<'_>) -> Result<(), Closing> {
        let violation = |clause, detail| Err(unexpected(PacketType::Auth, clause, detail));
        let Some(method) = self.terms.principal.method().authentication_method() else {
            return violation("MQTT-4.12.0-7", "AUTH without an Authentication Method in CONNECT");
        };
        if auth.authentication_method != Some(method) {
            return violation("MQTT-4.12.1-1", "AUTH names another method than CONNECT");
        }
        let mut exchange = match (auth.reason_code, self.exchange.take()) {
            (ReasonCode::ContinueAuthentication, Some(exchange)) => exchange,
            (ReasonCode::ReAuthenticate, None) => match self.terms.broker.access.exchange(method) {
                Some(exchange) => Box::new(exchange),
                // The users file was taken out of the configuration.
                None => return Err(Closing::Server(ReasonCode::NotAuthorized)),
            },
            _ => return violation("4.12.1", "AUTH continues what was not begun, or begins again what is under way"),
        };
        let broker = self.terms.broker.clone();
        let client = self.terms.client.clone();
        let username = self.terms.principal.username().map(str::to_owned);
        let attempt = Attempt {
            client_id: &client.id,
            // The Session belongs to this user: nobody else can be proven.
            username: username.as_deref(),
            password: None,
            certificate_identity: None,
            anonymous_role: None,
            listener: self.terms.listener.name(),
            remote_addr: None,
        };
        let (reason_code, data) = match broker.access.proceed(&mut exchange, &attempt, auth.authentication_data) {
            Ok(Step::Continue(challenge)) => {
                self.exchange = Some(exchange);
                // [MQTT-4.12.0-2]
                (ReasonCode::ContinueAuthentication, challenge)
            }
            Ok(Step::Accept(principal, data)) => {
                broker.metrics.authenticated(principal.method().name(), true);
                self.take_principal(principal);
                (ReasonCode::Success, data)
            }
            Err(refusal) => {
                broker.metrics.authenticated(refusal.method.name(), false);
                info!(client_id = %client.id, reason_code = ?refusal.reason_code, detail = %refusal, "re-authentication refused");
                // [MQTT-4.12.1-2]
                return Err(Closing::Server(refusal.reason_code));
            }
        };
        let client_max_packet_size = self.terms.client_max_packet_size;
        if !put_auth(reason_code, method, &data, client_max_packet_size, self.writing_mut()) {
            return Err(Closing::Server(ReasonCode::PacketTooLarge));
        }
        broker.metrics.sent(PacketType::Auth, 1);
        Ok(())
    }
}

/// Appends AUTH with the method of CONNECT [MQTT-4.12.0-5], unless it is larger than the Client takes [MQTT-3.1.2-24].
fn put_auth(reason_code: ReasonCode, method: &str, data: &[u8], client_max_packet_size: u32, out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let authentication_data = Some(data).filter(|data| !data.is_empty());
    Auth { reason_code, authentication_method: Some(method), authentication_data, ..Auth::default() }.encode(ProtocolVersion::V5, out);
    let fits = out.len() - before <= client_max_packet_size as usize;
    if !fits {
        out.truncate(before);
    }
    fits
}

fn too_large(exchange: &Exchange) -> Refusal {
    let detail = "the Client takes no packet as large as the challenge";
    Refusal { reason_code: ReasonCode::PacketTooLarge, method: exchange.method(), detail }
}
