//! From an accepted socket to an open Session: CONNECT within its deadline, who it is, which Session, CONNACK.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bucketmq_access::{Attempt, Exchange, Principal};
use bucketmq_listener::{Accepted, ListenerHandle, Transport};
use bucketmq_packet::connect::version_hint;
use bucketmq_packet::{
    ConnAck, ConnAckProperties, Connect, Packet, PacketType, ProtocolVersion, QoS, ReasonCode, Sender, Violation, decode, topic,
};
use bucketmq_session::{Gate, Link, LinkParameters, Session, Will};
use bucketmq_storage::Batch;
use bucketmq_storage::record::session::Presence;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{debug, info};

use crate::broker::Broker;
use crate::client::{Client, ClientRef, State};
use crate::config::Limits;
use crate::connection::{Connection, Opened, Terms, level};
use crate::deliver::StoreBacklog;
use crate::durable::records;
use crate::durable::waits::Waits;
use crate::enhanced::{Dialogue, Proof, Unproven};
use crate::rate::Rates;
use crate::session_end::Ended;

/// First bytes read of a new connection; CONNECT seldom needs more.
const CONNECT_BYTES: usize = 512;

/// A CONNECT that is not accepted: what CONNACK says, when one may be sent at all.
#[derive(Debug)]
struct Refused {
    version: Option<ProtocolVersion>,
    reason_code: ReasonCode,
    clause: &'static str,
    detail: &'static str,
}

/// Serves one accepted socket from CONNECT to its end.
pub async fn serve(broker: Arc<Broker>, accepted: Accepted) {
    // Boxed and dropped before the long life of the connection begins: an idle connection does not carry it.
    let Some(connection) = Box::pin(open(broker, accepted)).await else { return };
    connection.run().await;
}

async fn open(broker: Arc<Broker>, accepted: Accepted) -> Option<Connection> {
    let Accepted { mut transport, listener, remote_addr, tls, connect_deadline, permit } = accepted;
    let listener_config = listener.config();
    let max_packet_size = u32::try_from(broker.limits.load().max_packet_size.as_u64()).unwrap_or(u32::MAX);
    let mut buffer = Vec::with_capacity(CONNECT_BYTES);
    let read = tokio::time::timeout_at(connect_deadline, read_connect(&mut transport, &mut buffer, max_packet_size)).await;
    let used = match read {
        Ok(Ok(Some(used))) => used,
        Ok(Ok(None)) => return None,
        Ok(Err(ReadError::Io(error))) => {
            debug!(remote_addr = ?remote_addr, error = %error, "socket failed before CONNECT");
            return None;
        }
        Ok(Err(ReadError::Violation(violation))) => {
            broker.metrics.violations.add(1);
            debug!(remote_addr = ?remote_addr, clause = violation.clause, detail = violation.detail, "CONNECT not understood");
            refuse(&broker, &mut transport, refusal_of(&buffer, &violation), u32::MAX).await;
            return None;
        }
        Err(_) => {
            // [MQTT-3.1.0-1] Whoever does not send CONNECT in time is closed (3.1.4).
            debug!(remote_addr = ?remote_addr, "no CONNECT within the deadline");
            return None;
        }
    };
    broker.metrics.bytes_received.add(buffer.len() as u64);
    broker.metrics.received(PacketType::Connect, 1);
    let Ok(Some((Packet::Connect(connect), _))) = decode(&buffer, ProtocolVersion::V5, Sender::Client, max_packet_size) else {
        return None;
    };
    let version = connect.version;
    let assigned = connect.client_id.is_empty().then(assigned_client_id);
    let client_id = assigned.as_deref().unwrap_or(connect.client_id);
    let client_max_packet_size = connect.properties.maximum_packet_size.unwrap_or(u32::MAX);
    let mut pending = buffer[used..].to_vec();
    let outcome = match check(&broker, &connect, &listener) {
        Err(refused) => Err(refused),
        Ok(exchange) => {
            let attempt = Attempt {
                client_id,
                username: connect.username,
                password: connect.password,
                certificate_identity: tls.as_ref().and_then(|tls| tls.identity.as_deref()),
                anonymous_role: listener_config.anonymous_role(),
                listener: listener.name(),
                remote_addr: remote_addr.map(|address| address.ip()),
            };
            let identified = match exchange {
                None => broker.access.authenticate(attempt).await.map(|principal| (principal, None)).map_err(Unproven::Refused),
                Some(exchange) => {
                    let (broker, transport, input, deadline) = (&*broker, &mut transport, &mut pending, connect_deadline);
                    let dialogue = Dialogue { broker, transport, input, max_packet_size, client_max_packet_size, deadline };
                    let led = dialogue.lead(exchange, &attempt, connect.properties.authentication_data).await;
                    led.map(|(principal, proof)| (principal, Some(proof)))
                }
            };
            match identified {
                Ok((principal, proof)) => {
                    broker.metrics.authenticated(principal.method().name(), true);
                    Ok((principal, proof))
                }
                Err(Unproven::Refused(refusal)) => {
                    broker.metrics.authenticated(refusal.method.name(), false);
                    info!(client_id = connect.client_id, remote_addr = ?remote_addr, reason_code = ?refusal.reason_code, detail = %refusal, "CONNECT refused");
                    Err(Refused {
                        version: Some(version),
                        reason_code: refusal.reason_code,
                        clause: "MQTT-3.1.4-2",
                        detail: "not accepted",
                    })
                }
                Err(Unproven::Violation(Violation { reason_code, clause, detail, .. })) => {
                    broker.metrics.violations.add(1);
                    // [MQTT-3.14.0-1] No DISCONNECT before CONNACK: that says it.
                    Err(Refused { version: Some(version), reason_code, clause, detail })
                }
                Err(Unproven::Gone) => return None,
            }
        }
    };
    let opened =
        outcome.and_then(|(principal, proof)| open_session(&broker, &connect, assigned.as_deref(), principal, proof.as_ref(), &listener));
    match opened {
        Ok((terms, connack, resting)) => {
            let connection = Connection::new(Opened { transport, permit, pending, connack, terms });
            connection.rest_on(resting).await
        }
        Err(refused) => {
            debug!(client_id = connect.client_id, remote_addr = ?remote_addr, reason_code = ?refused.reason_code, clause = refused.clause, "CONNECT refused");
            refuse(&broker, &mut transport, Some(refused), client_max_packet_size).await;
            None
        }
    }
}

enum ReadError {
    Io(io::Error),
    Violation(Violation),
}

/// Reads until CONNECT is whole. `Ok(None)`: the socket was closed before.
async fn read_connect(transport: &mut Transport, buffer: &mut Vec<u8>, max_packet_size: u32) -> Result<Option<usize>, ReadError> {
    loop {
        if buffer.len() == buffer.capacity() {
            buffer.reserve(buffer.len());
        }
        let count = transport.read_buf(buffer).await.map_err(ReadError::Io)?;
        if count == 0 {
            return Ok(None);
        }
        // [MQTT-3.1.0-1] The first packet must be CONNECT.
        if buffer[0] >> 4 != PacketType::Connect as u8 {
            return Err(ReadError::Violation(Violation {
                reason_code: ReasonCode::ProtocolError,
                clause: "MQTT-3.1.0-1",
                detail: "the first packet is not CONNECT",
                packet_type: None,
            }));
        }
        match decode(buffer, ProtocolVersion::V5, Sender::Client, max_packet_size) {
            Ok(Some((_, used))) => return Ok(Some(used)),
            Ok(None) => {}
            Err(violation) => return Err(ReadError::Violation(violation)),
        }
    }
}

/// What to answer to a CONNECT that could not be decoded: CONNACK when its version is known, silence otherwise [MQTT-3.1.4-1].
fn refusal_of(buffer: &[u8], violation: &Violation) -> Option<Refused> {
    let version = version_hint(buffer)?;
    // Before 5.0 CONNACK has no code for malformed packets.
    let sayable = version == ProtocolVersion::V5
        || matches!(violation.reason_code, ReasonCode::UnsupportedProtocolVersion | ReasonCode::ClientIdentifierNotValid);
    sayable.then_some(Refused {
        version: Some(version),
        reason_code: violation.reason_code,
        clause: violation.clause,
        detail: violation.detail,
    })
}

/// Sends CONNACK with an error and closes [MQTT-3.1.4-2] [MQTT-3.2.2-7].
async fn refuse(broker: &Broker, transport: &mut Transport, refused: Option<Refused>, client_max_packet_size: u32) {
    let Some(Refused { version: Some(version), reason_code, detail, .. }) = refused else { return };
    let mut bytes = Vec::new();
    let mut properties = ConnAckProperties::default();
    if !detail.is_empty() {
        properties.reason_string = Some(detail);
    }
    // [MQTT-3.2.2-6] Session Present is 0 with an error.
    ConnAck { session_present: false, reason_code, properties }.encode(version, &mut bytes);
    // [MQTT-3.2.2-19] No Reason String that makes the packet larger than the Client takes.
    if bytes.len() > client_max_packet_size as usize {
        bytes.clear();
        ConnAck { session_present: false, reason_code, properties: ConnAckProperties::default() }.encode(version, &mut bytes);
    }
    broker.metrics.sent(PacketType::ConnAck, 1);
    let goodbye = async {
        transport.write_all(&bytes).await?;
        transport.flush().await?;
        transport.shutdown().await?;
        let mut sink = [0; 1024];
        while transport.read(&mut sink).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), goodbye).await;
}

/// What can be refused before anybody is asked who this is. An exchange, if the Client wants enhanced authentication.
fn check(broker: &Broker, connect: &Connect<'_>, listener: &ListenerHandle) -> Result<Option<Exchange>, Refused> {
    let limits = broker.limits.load();
    let refused = |reason_code, clause, detail| Err(Refused { version: Some(connect.version), reason_code, clause, detail });
    if broker.is_draining() {
        // [MQTT-3.2.2-8] 0x8B is for DISCONNECT only.
        return refused(ReasonCode::ServerUnavailable, "MQTT-3.1.4-2", "the broker is shutting down");
    }
    if broker.sheds_connections() {
        return refused(ReasonCode::ServerBusy, "MQTT-3.1.4-2", "memory is short");
    }
    if connect.client_id.is_empty()
        && connect.version < ProtocolVersion::V5
        && (!connect.clean_start || connect.version == ProtocolVersion::V3_1)
    {
        // [3.1.1 MQTT-3.1.3-8] An empty Client Identifier asks for a Session that nobody could resume; 3.1 has no empty one.
        return refused(ReasonCode::ClientIdentifierNotValid, "3.1.1 MQTT-3.1.3-8", "empty Client Identifier without Clean Session");
    }
    let exchange = connect.properties.authentication_method.map(|name| broker.access.exchange(name));
    if matches!(exchange, Some(None)) {
        // [MQTT-4.12.0-1] A method the Server does not support.
        return refused(ReasonCode::BadAuthenticationMethod, "MQTT-4.12.0-1", "no such Authentication Method");
    }
    if let Some(will) = &connect.will {
        if will.qos as u8 > max_qos(&limits, listener) {
            // [MQTT-3.2.2-12]
            return refused(ReasonCode::QoSNotSupported, "MQTT-3.2.2-12", "Will QoS above the Maximum QoS");
        }
        if will.retain && !limits.retained_enabled {
            // [MQTT-3.2.2-13]
            return refused(ReasonCode::RetainNotSupported, "MQTT-3.2.2-13", "retained Will where RETAIN is not available");
        }
        if topic::check_name(will.topic).is_err() {
            return refused(ReasonCode::TopicNameInvalid, "MQTT-3.1.3-11", "Will Topic is not a Topic Name");
        }
        if topic::levels(will.topic) > limits.max_topic_levels as usize {
            return refused(ReasonCode::TopicNameInvalid, "MQTT-3.1.3-11", "Will Topic has too many levels");
        }
    }
    Ok(exchange.flatten())
}

/// The largest QoS this listener grants.
pub fn max_qos(limits: &Limits, listener: &ListenerHandle) -> u8 {
    listener.config().max_qos.min(limits.max_qos)
}

/// A Session Expiry Interval within the configured cap (0: no cap).
pub fn cap_expiry(interval: u32, limits: &Limits) -> u32 {
    match u32::try_from(limits.session_expiry_max.as_secs()).unwrap_or(u32::MAX) {
        0 => interval,
        cap => interval.min(cap),
    }
}

/// An identifier for a Client that brought none [MQTT-3.1.3-6]: 128 random bits.
fn assigned_client_id() -> String {
    format!("bucketmq-{:032x}", rand::random::<u128>())
}

fn open_session(
    broker: &Arc<Broker>,
    connect: &Connect<'_>,
    assigned: Option<&str>,
    principal: Principal,
    proof: Option<&Proof>,
    listener: &Arc<ListenerHandle>,
) -> Result<(Terms, Vec<u8>, Resting), Refused> {
    let limits = broker.limits.load();
    let version = connect.version;
    let v5 = version == ProtocolVersion::V5;
    if let Some(will) = &connect.will
        && !principal.may_publish(will.topic)
    {
        return Err(Refused {
            version: Some(version),
            reason_code: ReasonCode::NotAuthorized,
            clause: "MQTT-3.1.4-2",
            detail: "publishing the Will is not allowed",
        });
    }
    let client_id = assigned.unwrap_or(connect.client_id);
    if broker.store.is_refused(broker.shards.of(client_id)) {
        return Err(Refused {
            version: Some(version),
            reason_code: ReasonCode::ServerUnavailable,
            clause: "MQTT-3.2.2-8",
            detail: "the shard of this Client cannot be read",
        });
    }
    let asked = match (v5, connect.clean_start) {
        (true, _) => connect.properties.session_expiry_interval.unwrap_or(0),
        (false, true) => 0,
        // [3.1.1 MQTT-3.1.2-4] A Session without Clean Session lasts; the configured cap says how long.
        (false, false) => u32::MAX,
    };
    let expiry = cap_expiry(asked, &limits);
    if (expiry > 0 || connect.will.is_some()) && broker.store.unwritten_bytes() > limits.unwritten_bytes.as_u64() {
        // What has to be stored for this Client would only add to what the bucket does not take.
        return Err(Refused {
            version: Some(version),
            reason_code: ReasonCode::ServerUnavailable,
            clause: "MQTT-3.2.2-8",
            detail: "too much waits for the bucket to keep another Session or Will",
        });
    }
    let receive_maximum = connect.properties.receive_maximum.unwrap_or(u16::MAX).min(limits.max_inflight);
    let parameters = LinkParameters {
        version,
        receive_maximum,
        maximum_packet_size: connect.properties.maximum_packet_size.unwrap_or(u32::MAX),
        topic_alias_maximum: connect.properties.topic_alias_maximum.min(limits.topic_alias_maximum_out),
        output_limit: u32::try_from(limits.output_buffer_bytes.as_u64()).unwrap_or(u32::MAX),
    };
    let will = connect.will.as_ref().map(|will| {
        Box::new(Will {
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
            delay_interval: will.delay_interval,
            message_expiry_interval: will.message_expiry_interval,
            forward: will.forward.as_ref().into(),
        })
    });
    let (keep_alive, told_keep_alive) = keep_alive(connect, &limits);
    let qos_max = max_qos(&limits, listener);
    let max_packet_size = u32::try_from(limits.max_packet_size.as_u64()).unwrap_or(u32::MAX);
    let properties = ConnAckProperties {
        // [MQTT-3.2.2-21] Told when it is not what the Client asked for.
        session_expiry_interval: (expiry != asked).then_some(expiry),
        receive_maximum: Some(limits.receive_maximum),
        maximum_qos: QoS::try_from(qos_max).ok().filter(|qos| *qos < QoS::ExactlyOnce),
        retain_available: (!limits.retained_enabled).then_some(false),
        maximum_packet_size: Some(max_packet_size),
        // [MQTT-3.2.2-16]
        assigned_client_identifier: assigned,
        topic_alias_maximum: (limits.topic_alias_maximum > 0).then_some(limits.topic_alias_maximum),
        wildcard_subscription_available: (!limits.wildcard_subscriptions).then_some(false),
        subscription_identifiers_available: (!limits.subscription_identifiers).then_some(false),
        shared_subscription_available: (!limits.shared_subscriptions).then_some(false),
        server_keep_alive: told_keep_alive,
        // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
        authentication_method: proof.map(|proof| proof.method),
        authentication_data: proof.map(|proof| proof.data.as_slice()),
        ..ConnAckProperties::default()
    };
    let connack = |session_present| {
        let mut bytes = Vec::with_capacity(64);
        ConnAck { session_present, reason_code: ReasonCode::Success, properties: properties.clone() }.encode(version, &mut bytes);
        bytes
    };
    if connack(false).len() > parameters.maximum_packet_size as usize {
        // [MQTT-3.1.2-24] What it says cannot be left out, and a Client that takes less than this could not be told anything.
        return Err(Refused { version: Some(version), reason_code: ReasonCode::PacketTooLarge, clause: "MQTT-3.1.2-24", detail: "" });
    }
    let take =
        Take { broker, client_id, clean_start: connect.clean_start, expiry, parameters, will, keep_alive, owner: principal.username() };
    let Some((client, epoch, session_present, resting)) = take.open() else {
        return Err(Refused {
            version: Some(version),
            reason_code: ReasonCode::NotAuthorized,
            clause: "MQTT-3.1.4-2",
            detail: "the Session belongs to somebody else",
        });
    };
    broker.metrics.connections_opened.add(1);
    let connack = connack(session_present);
    broker.metrics.sent(PacketType::ConnAck, 1);
    let rates = Rates::new(u64::from(limits.messages_rate), limits.bytes_rate.as_u64());
    let terms = Terms {
        broker: broker.clone(),
        client,
        acknowledge: level(&principal, listener, &limits),
        principal,
        version,
        epoch,
        max_packet_size,
        client_max_packet_size: parameters.maximum_packet_size,
        receive_maximum: limits.receive_maximum,
        max_qos: qos_max,
        expires_at_once: asked == 0,
        listener: listener.clone(),
        rates,
    };
    Ok((terms, connack, resting))
}

/// Keep Alive in force, and what CONNACK must say when it is not the Client's [MQTT-3.2.2-22] [MQTT-3.1.2-21].
fn keep_alive(connect: &Connect<'_>, limits: &Limits) -> (u16, Option<u16>) {
    let asked = connect.keep_alive;
    if connect.version != ProtocolVersion::V5 {
        return (asked, None);
    }
    let default = u16::try_from(limits.keep_alive_default.as_secs()).unwrap_or(u16::MAX);
    let cap = match u16::try_from(limits.keep_alive_max.as_secs()).unwrap_or(u16::MAX) {
        0 => u16::MAX,
        cap => cap,
    };
    let used = if asked == 0 { default } else { asked }.min(cap);
    (used, (used != asked).then_some(used))
}

/// What CONNACK rests on.
#[derive(Default)]
pub struct Resting {
    /// Until this is durable it is not sent.
    waits: Waits,
    /// What the Session may do from then on.
    gate: Option<Gate>,
}

/// CONNACK waits this long for the bucket; then the Client is told that the Server is unavailable.
const CONNACK_DEADLINE: Duration = Duration::from_secs(30);

impl Connection {
    /// Waits for what CONNACK rests on. None: it took too long, and the connection is closed.
    async fn rest_on(self, resting: Resting) -> Option<Self> {
        let Resting { waits, gate } = resting;
        let broker = self.terms.broker.clone();
        if !matches!(tokio::time::timeout(CONNACK_DEADLINE, waits.wait(&*broker.store)).await, Ok(Ok(()))) {
            self.refuse_late().await;
            return None;
        }
        if let Some(gate) = gate {
            let mut state = self.terms.client.lock();
            if state.epoch == self.terms.epoch {
                state.session.open_gate(gate);
            }
        }
        Some(self)
    }
}

/// Everything [`Take::open`] needs to give a connection its Session.
struct Take<'a> {
    broker: &'a Arc<Broker>,
    client_id: &'a str,
    clean_start: bool,
    expiry: u32,
    parameters: LinkParameters,
    will: Option<Box<Will>>,
    keep_alive: u16,
    owner: Option<&'a str>,
}

impl Take<'_> {
    /// Gives the Session: resumed, or new after the old one has ended, and what CONNACK rests on. None: it belongs to another principal.
    fn open(mut self) -> Option<(ClientRef, u32, bool, Resting)> {
        let broker = self.broker;
        let outcome = broker.registry.replace(self.client_id, |existing| {
            let mut ended = None;
            if let Some(client) = existing {
                let mut state = client.lock();
                if !state.ended {
                    // Identity: a Session is resumed, or ended by Clean Start, only by the principal it belongs to (5.0 5.4).
                    if client.owner.as_deref() != self.owner {
                        return (None, None);
                    }
                    // [MQTT-3.1.2-4] Clean Start ends what is there; [MQTT-3.1.2-5] otherwise it is resumed. A Session with expiry 0 ends with
                    // its connection, so there is nothing to resume when that is taken over.
                    let ends_with_connection = state.session.is_transient() && client.connected.load(Ordering::Relaxed);
                    if !self.clean_start && !ends_with_connection {
                        let (epoch, farewell, resting) = self.resume(client, &mut state);
                        return (None, Some((client.clone(), epoch, true, Some(farewell), resting)));
                    }
                    ended = Some(Ended::end(broker, client, &mut state, true));
                }
            }
            // A Session that ends by Clean Start, or has just expired, must not come back after a crash.
            let end = ended.as_ref().and_then(|ended| ended.position).or_else(|| broker.last_end(self.client_id));
            let client = self.create(end.is_some());
            let resting = Resting { waits: end.map(|(shard, position)| Waits::one(shard, position)).unwrap_or_default(), gate: None };
            (Some(client.clone()), Some((client, 1, false, ended, resting)))
        });
        let (client, epoch, session_present, farewell, resting) = outcome?;
        if let Some(farewell) = farewell {
            farewell.carry_out(broker);
        }
        broker.drain_groups_for(&client);
        Some((client, epoch, session_present, resting))
    }

    /// `had_rows`: a Session of this Client before it may have messages in the outbox.
    fn create(&mut self, had_rows: bool) -> ClientRef {
        let broker = self.broker;
        let shard = broker.shards.of(self.client_id);
        let mut session = Session::new(self.expiry);
        session.will = self.will.take();
        session.attach(Link::new(self.parameters));
        let outlives = broker.store.outlives_process();
        let stored = outlives && !session.is_transient();
        if stored {
            session.store();
        }
        let mut client = Client::new(self.client_id, self.owner.map(Arc::from), shard, broker.next_number(shard), session, stored);
        if had_rows {
            client.rows_before = broker.rows_so_far(shard);
        }
        {
            let mut state = client.lock();
            state.epoch = 1;
            let mut batch = Batch::default();
            if stored {
                records::put_session(&mut batch, &client, &state.session, Presence::Connected);
            }
            if let Some(will) = state.session.will.as_deref().filter(|_| outlives) {
                records::put_will(&mut batch, &client, will, None);
            }
            if stored || outlives && state.session.will.is_some() {
                // Nobody waits: a Session that is lost before it is written shows as Session Present 0.
                broker.store.write(shard, batch);
            }
        }
        self.mark_connected(&client);
        ClientRef(Arc::new(client))
    }

    fn mark_connected(&self, client: &Client) {
        let second = self.broker.second();
        client.last_seen.store(second, Ordering::Relaxed);
        // [MQTT-3.1.2-22] One and a half times the Keep Alive, rounded up.
        client.keep_alive_limit.store((u32::from(self.keep_alive) * 3).div_ceil(2), Ordering::Relaxed);
        client.due.store(u32::MAX, Ordering::Relaxed);
        client.connected.store(true, Ordering::Relaxed);
    }

    fn resume(&mut self, client: &ClientRef, state: &mut State) -> (u32, Ended, Resting) {
        let had_will = state.session.will.is_some();
        let mut farewell = Ended::replace_connection(client, state, self.broker);
        state.epoch += 1;
        state.session.expiry_interval = self.expiry;
        state.session.will = self.will.take();
        state.session.attach(Link::new(self.parameters));
        self.mark_connected(client);
        let mut resting = Resting::default();
        if client.stored {
            let broker = self.broker;
            let mut batch = Batch::default();
            records::put_session(&mut batch, client, &state.session, Presence::Connected);
            match &state.session.will {
                Some(will) => records::put_will(&mut batch, client, will, None),
                None if had_will => records::delete_will(&mut batch, client),
                None => {}
            }
            farewell.write_with(broker, client, batch);
            resting.gate = state.session.ask(&mut StoreBacklog::new(broker, client));
            // Otherwise a crash would count the old expiry and fire the old Will.
            resting.waits.add(client.shard, broker.store.position(client.shard));
        }
        (state.epoch, farewell, resting)
    }
}
