//! What a Mosquitto file is here: Sessions with their Subscriptions and queues, handshakes that go on where they stood, retained messages.
//!
//! - A message in flight keeps its Packet Identifier [MQTT-4.4.0-1]: here it follows from the place in the queue, so places are chosen for it.
//! - A QoS 2 message Mosquitto has taken and not handed on, because it waits for PUBREL, is handed on when the broker starts: its identifier stays
//!   in use, so that the Client's PUBLISH or PUBREL finds what it expects, and an outbox row carries the content.
//! - A Session belongs to the user of its Client. Mosquitto's time of expiry stands, whatever it was made of.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_packet::topic::{check_filter, check_name};
use bucketmq_packet::{PacketIdentifier, QoS, RetainHandling, SubscriptionOptions};
use bucketmq_storage::record::subscription::Subscription;
use bucketmq_storage::{Sequence, ShardId, Shards};

use crate::mosquitto::{Client, ClientMessage, Contents, Direction, State, StoredMessage};
use crate::report::{Reason, Report};

/// Packet Identifiers in use at once span less: it is what a Session's window takes.
const SPAN_MAX: u64 = 65_000;
const IDENTIFIERS: u64 = 65_535;

/// What is to be written.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the file's order.
    pub sessions: Vec<PlannedSession>,
    /// By topic. None: there is a QoS 2 message on its way that clears it.
    pub retained: BTreeMap<String, Option<Arc<Message>>>,
    /// What is left out so far. The numbers of what is written are counted in [`write()`](crate::write()).
    pub report: Report,
}

/// A Session.
#[derive(Debug, PartialEq, Eq)]
pub struct PlannedSession {
    /// Client Identifier.
    pub client_id: String,
    /// Its shard.
    pub shard: ShardId,
    /// The only user that may resume it; None: only a Client without a user name may.
    pub owner: Option<String>,
    /// Session Expiry Interval in seconds.
    pub expiry_interval: u32,
    /// Since when the Client is away, milliseconds since 1970.
    pub away_since: u64,
    /// The last number given to a Shared Subscription.
    pub last_share: u32,
    /// By Topic Filter.
    pub subscriptions: BTreeMap<String, Subscription>,
    /// Oldest first.
    pub queue: Vec<PlannedEntry>,
    /// Everything before it may have been sent.
    pub sent: Option<Sequence>,
    /// Packet Identifiers of QoS 2 messages taken from the Client, PUBREL not yet here.
    pub inbound: Vec<PacketIdentifier>,
    /// Their messages, to be handed on.
    pub outbox: Vec<Arc<Message>>,
}

/// A message in a queue.
#[derive(Debug, PartialEq, Eq)]
pub struct PlannedEntry {
    /// Its place, which is its Packet Identifier, too.
    pub sequence: Sequence,
    /// What waits.
    pub entry: QueueEntry,
    /// QoS 2, and PUBREC has come: PUBREL is due.
    pub released: bool,
}

/// Plans the import of `contents` at `now`, milliseconds since 1970, into a store of `shards`.
pub fn plan(contents: Contents, shards: Shards, now: u64) -> Plan {
    let Contents { clients, messages, subscriptions, retained, passed_over, strays, version: _, config: _ } = contents;
    let mut planning = Planning { messages: Messages { stored: messages, made: HashMap::new() }, now, plan: Plan::default() };
    for passed_over in passed_over {
        planning.plan.report.skip(Reason::Unreadable, passed_over.to_string());
    }
    for client_id in strays {
        planning.plan.report.skip(Reason::ClientUnknown, client_id);
    }
    planning.retained(retained);
    let mut by_client: HashMap<String, Vec<crate::mosquitto::Subscription>> = HashMap::new();
    for subscription in subscriptions {
        by_client.entry(subscription.client_id.clone()).or_default().push(subscription);
    }
    for client in clients {
        let subscriptions = by_client.remove(&client.id).unwrap_or_default();
        planning.session(client, subscriptions, shards);
    }
    let mut unknown: Vec<_> = by_client.into_values().flatten().collect();
    unknown.sort_by(|one, other| (&one.client_id, &one.filter).cmp(&(&other.client_id, &other.filter)));
    for subscription in unknown {
        planning.plan.report.skip(Reason::ClientUnknown, subscription.client_id);
    }
    planning.plan
}

struct Planning {
    messages: Messages,
    now: u64,
    plan: Plan,
}

impl Planning {
    fn retained(&mut self, retained: Vec<u64>) {
        for store_id in retained {
            let report = &mut self.plan.report;
            let Some(message) = self.messages.get(store_id, true) else {
                report.skip(Reason::RetainedMissing, store_id.to_string());
                continue;
            };
            let topic = message.topic().to_owned();
            if check_name(&topic).is_err() || topic.starts_with("$SYS/") {
                report.skip(Reason::RetainedInvalid, topic);
            } else if message.is_expired(self.now) {
                report.skip(Reason::RetainedExpired, topic);
            } else if !message.payload().is_empty() {
                self.plan.retained.insert(topic, Some(message));
            }
        }
    }

    fn session(&mut self, client: Client, subscriptions: Vec<crate::mosquitto::Subscription>, shards: Shards) {
        let Some((expiry_interval, away_since)) = self.expiry(&client) else { return };
        let mut session = PlannedSession {
            shard: shards.of(&client.id),
            owner: client.username,
            expiry_interval,
            away_since,
            last_share: 0,
            subscriptions: BTreeMap::new(),
            queue: Vec::new(),
            sent: None,
            inbound: Vec::new(),
            outbox: Vec::new(),
            client_id: client.id,
        };
        if client.username_uncertain {
            self.plan.report.note(Reason::OwnerUncertain, &session.client_id);
        }
        // Unless `local_clientid` says otherwise.
        if session.client_id.starts_with("local.") {
            self.plan.report.note(Reason::PerhapsBridge, &session.client_id);
        }
        for subscription in subscriptions {
            self.subscription(&mut session, subscription);
        }
        let (outgoing, incoming): (Vec<_>, Vec<_>) = client.messages.into_iter().partition(|message| message.direction == Direction::Out);
        for message in incoming {
            self.incoming(&mut session, &message);
        }
        self.outgoing(&mut session, outgoing);
        self.plan.sessions.push(session);
    }

    /// Expiry interval, and when it began to count. None: the Session is not brought along.
    fn expiry(&mut self, client: &Client) -> Option<(u32, u64)> {
        let (interval, now) = (client.session_expiry_interval, self.now);
        let Some(ends_at) = client.session_expiry_time.map(|seconds| seconds * 1000) else {
            if interval == 0 {
                self.plan.report.skip(Reason::SessionNotPersistent, &client.id);
                return None;
            }
            // It was connected, or lasts for ever.
            return Some((interval, client.disconnected_at.map_or(now, |seconds| seconds.saturating_mul(1000).min(now))));
        };
        if ends_at <= now {
            self.plan.report.skip(Reason::SessionExpired, &client.id);
            return None;
        }
        let began_at = ends_at.checked_sub(u64::from(interval) * 1000);
        match began_at.filter(|began_at| interval != u32::MAX && *began_at <= now) {
            Some(began_at) => Some((interval, began_at)),
            // `persistent_client_expiration` ends it earlier than its interval, or clocks differ: what is left counts.
            None => Some((u32::try_from((ends_at - now).div_ceil(1000)).unwrap_or(u32::MAX), now)),
        }
    }

    fn subscription(&mut self, session: &mut PlannedSession, subscription: crate::mosquitto::Subscription) {
        let crate::mosquitto::Subscription { filter, qos, no_local, retain_as_published, identifier, client_id: _ } = subscription;
        let Ok(parsed) = check_filter(&filter) else {
            self.plan.report.skip(Reason::SubscriptionInvalid, format!("{}: {filter}", session.client_id));
            return;
        };
        let shared = parsed.share_name.is_some();
        let share = match (shared, session.subscriptions.get(&filter)) {
            (false, _) => 0,
            (true, Some(known)) => known.share,
            (true, None) => {
                session.last_share += 1;
                session.last_share
            }
        };
        // Mosquitto does not keep Retain Handling; it means nothing after SUBSCRIBE. [MQTT-3.8.3-4] No Local is not for Shared Subscriptions.
        let retain_handling = RetainHandling::SendAtSubscribe;
        let options = SubscriptionOptions { qos, no_local: no_local && !shared, retain_as_published, retain_handling };
        session.subscriptions.insert(filter, Subscription { options, identifier, share });
    }

    /// A QoS 2 message from the Client.
    fn incoming(&mut self, session: &mut PlannedSession, message: &ClientMessage) {
        // PUBREL has come, and Mosquitto has handed the message on: if PUBCOMP was lost, PUBREL comes again and is answered whatever we know.
        let over = message.state == State::ResendPubcomp;
        let Some(id) = PacketIdentifier::new(message.mid).filter(|_| message.qos == QoS::ExactlyOnce && !over) else { return };
        if !session.inbound.contains(&id) {
            session.inbound.push(id);
        }
        let Some(message) = self.content(session, message.store_id) else { return };
        if message.is_expired(self.now) {
            self.plan.report.skip(Reason::MessageExpired, message.topic());
            return;
        }
        if message.retain() && !message.topic().starts_with("$SYS/") {
            let kept = (!message.payload().is_empty()).then(|| message.clone());
            self.plan.retained.insert(message.topic().to_owned(), kept);
        }
        session.outbox.push(message);
    }

    /// Messages to the Client: first what is in flight, as Mosquitto would send it.
    fn outgoing(&mut self, session: &mut PlannedSession, messages: Vec<ClientMessage>) {
        let in_flight = |message: &ClientMessage| message.qos > QoS::AtMostOnce && message.mid > 0 && message.state != State::Queued;
        let (sent, waiting): (Vec<_>, Vec<_>) = messages.into_iter().partition(in_flight);
        let (mut next, mut oldest) = (0, None);
        for message in sent {
            let qos2 = message.qos == QoS::ExactlyOnce;
            let released = qos2 && matches!(message.state, State::ResendPubrel | State::WaitForPubcomp);
            let Some(content) = self.content(session, message.store_id) else { continue };
            // A QoS 2 delivery that has begun is brought to its end.
            if !qos2 && content.is_expired(self.now) {
                self.plan.report.skip(Reason::MessageExpired, content.topic());
                continue;
            }
            let mut sequence = place_for(message.mid, next);
            if oldest.is_some_and(|oldest| sequence - oldest >= SPAN_MAX) {
                self.plan.report.note(Reason::PacketIdentifierChanged, format!("{}: {}", session.client_id, message.mid));
                sequence = next;
            }
            oldest.get_or_insert(sequence);
            next = sequence + 1;
            session.queue.push(PlannedEntry { sequence: Sequence(sequence), entry: entry(&message, content), released });
            session.sent = Some(Sequence(next));
        }
        for message in waiting {
            let Some(content) = self.content(session, message.store_id) else { continue };
            if content.is_expired(self.now) {
                self.plan.report.skip(Reason::MessageExpired, content.topic());
                continue;
            }
            session.queue.push(PlannedEntry { sequence: Sequence(next), entry: entry(&message, content), released: false });
            next += 1;
        }
    }

    fn content(&mut self, session: &PlannedSession, store_id: u64) -> Option<Arc<Message>> {
        let Some(message) = self.messages.get(store_id, false) else {
            self.plan.report.skip(Reason::MessageMissing, format!("{}: {store_id}", session.client_id));
            return None;
        };
        if check_name(message.topic()).is_err() {
            self.plan.report.skip(Reason::MessageInvalid, format!("{}: {}", session.client_id, message.topic()));
            return None;
        }
        Some(message)
    }
}

fn entry(message: &ClientMessage, content: Arc<Message>) -> QueueEntry {
    let identifiers = message.identifiers.clone().into();
    QueueEntry { message: content, identifiers, share: 0, qos: message.qos, retain: message.retain }
}

/// The first place from `next` on whose Packet Identifier is `mid`, which is not 0.
fn place_for(mid: u16, next: u64) -> u64 {
    let wanted = u64::from(mid) - 1;
    next + (wanted + IDENTIFIERS - next % IDENTIFIERS) % IDENTIFIERS
}

/// Contents as they were found, and as they were made; each is in memory once.
struct Messages {
    stored: HashMap<u64, StoredMessage>,
    made: HashMap<u64, Arc<Message>>,
}

impl Messages {
    /// The message `store_id`. A retained one has RETAIN 1 whatever the file says.
    fn get(&mut self, store_id: u64, retained: bool) -> Option<Arc<Message>> {
        if let Some(message) = self.made.get(&store_id) {
            return Some(message.clone());
        }
        let StoredMessage { topic, payload, properties, expiry_time, qos, retain, .. } = self.stored.remove(&store_id)?;
        let expires_at = expiry_time.map(|seconds| seconds.saturating_mul(1000));
        let message = Message::new(&topic, &payload, &properties, qos, retain || retained, expires_at);
        self.made.insert(store_id, message.clone());
        Some(message)
    }
}

#[cfg(test)]
mod tests;
