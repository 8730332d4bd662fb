//! The road of a PUBLISH through the broker: gather a run, authorize, match, hold, keep, deliver, acknowledge. The page to read first.
//!
//! Packets that lie side by side in the read buffer and name the same topic form a *run*. A run is authorized and matched once, and each
//! subscriber's lock is taken once for all of it. Nothing is copied but into the subscribers' output; a message becomes a shared value
//! only when somebody has to keep it (a queue, a Session that may send it again, the retained messages).

mod run;

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::Waker;

use bucketmq_packet::message::Message;
use bucketmq_packet::{
    AcknowledgeLevel, PacketType, ProtocolVersion, Publish, QoS, ReasonCode, Sender, Violation, decode_publish, packet_length, topic,
};
use bucketmq_routing::{Matched, Matches};
use bucketmq_session::{AliasError, AliasesIn, put_ack, put_ack_with_reason};
use bucketmq_storage::{Batch, Position, SessionNumber, ShardId};

use crate::broker::Broker;
use crate::client::{ClientRef, Flow};
use crate::config::Limits;
use crate::connection::{Closing, Connection};
use crate::deliver::Wakes;
use crate::durable::outbox::Outbox;
use crate::durable::waits::Waits;
use crate::metrics::Dropped;
use crate::retained;

use run::RUN_ITEMS_MAX;
pub use run::{Item, Run, Scratch, Single};

/// A publisher waits this long for a subscriber with a full output before QoS 0 messages are dropped for it.
pub const HOLD_MS_MAX: u64 = 100;
/// Matches with more subscribers than this are shared by all publishers instead of being remembered by each:
/// 10,000 publishers to 10,000 subscribers would otherwise remember 100 million pairs.
const OWN_MATCHES_MAX: usize = 64;

/// What a connection remembers of its last topic.
#[derive(Debug)]
pub struct MatchCache {
    topic: String,
    access_generation: u64,
    routing_generation: u64,
    verdict: Verdict,
    matches: Arc<Matches<ClientRef>>,
}

impl MatchCache {
    /// Matches again when Subscriptions have changed since.
    #[inline]
    fn refresh(&mut self, broker: &Broker) {
        let routing_generation = broker.routing_generation.load(Ordering::Acquire);
        if self.routing_generation != routing_generation && self.verdict == Verdict::Allowed {
            self.matches = broker.matches(&self.topic, OWN_MATCHES_MAX);
            self.routing_generation = routing_generation;
        }
    }
}

/// Whether a topic may be published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    /// By the access rules.
    Denied,
    /// More levels than the broker takes.
    TooDeep,
}

/// How far a run got.
pub enum Progress {
    /// The first packet is not complete.
    Incomplete,
    /// This many bytes are done with.
    Used(usize),
    /// A subscriber is full: nothing was done; try again when the hold is over.
    Held,
}

fn violation(reason_code: ReasonCode, clause: &'static str, detail: &'static str) -> Violation {
    Violation { reason_code, clause, detail, packet_type: Some(PacketType::Publish) }
}

impl Connection {
    /// Handles the run of PUBLISH packets at the front of `input`.
    pub(crate) fn publish_run(&mut self, input: &[u8], limits: &Limits, scratch: &mut Scratch) -> Result<Progress, Closing> {
        scratch.clear_run();
        let now = scratch.now;
        let mut used = 0;
        let mut all_plain = true;
        let mut largest = 0;
        let mut retains = false;
        let mut counts = [0u64; 3];
        while used < input.len() && input[used] >> 4 == PacketType::Publish as u8 && scratch.items.len() < RUN_ITEMS_MAX {
            let step = self.gather(input, used, now, limits, scratch);
            let item = match step {
                Ok(Some(item)) => item,
                Ok(None) => break,
                // What came before is handled first; the next run begins with the offender.
                Err(_) if !scratch.items.is_empty() => break,
                Err(closing) => return Err(closing),
            };
            used = item.end as usize;
            largest = largest.max((item.end - item.start) as usize);
            all_plain &= item.plain;
            retains |= item.retain;
            counts[item.qos as usize] += 1;
            scratch.items.push(item);
        }
        if scratch.items.is_empty() {
            return Ok(Progress::Incomplete);
        }

        let broker = self.terms.broker.clone();
        let mut cache = self.look_up(&broker, &scratch.topic, limits);
        if cache.verdict == Verdict::Allowed && self.hold_for_full(&cache.matches) {
            self.cache = Some(cache);
            return Ok(Progress::Held);
        }
        let through_outbox = self.goes_through_outbox(counts);
        if through_outbox && !self.direct.is_durable(&*broker.store) {
            // After a crash what is in the outbox comes first, so what was sent before it has to be kept before it.
            self.hold_until(self.direct.clone());
            self.cache = Some(cache);
            return Ok(Progress::Held);
        }
        let retained_before = through_outbox && retains && cache.verdict == Verdict::Allowed;
        self.retained_written &= retained_before;
        if retained_before && !self.retained_is_durable(&broker, input, used, limits, scratch) {
            self.cache = Some(cache);
            return Ok(Progress::Held);
        }
        for (qos, count) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().zip(counts) {
            broker.metrics.message_received(qos, count);
            scratch.published[qos as usize] += count;
        }
        broker.metrics.received(PacketType::Publish, scratch.items.len() as u64);
        if counts[2] > 0 || counts[1] > 0 {
            self.account_inbound(scratch, counts[1])?;
        }
        if through_outbox && cache.verdict == Verdict::Allowed {
            self.send_run(&broker, &input[..used], scratch);
        }
        let mut reason_code = ReasonCode::Success;
        if cache.verdict == Verdict::Allowed {
            let Scratch { topic, items, owned_forward, kept, wakes, .. } = scratch;
            let run =
                Run { topic, version: self.terms.version, bytes: &input[..used], items, owned_forward, kept, all_plain, largest, now };
            if retains && !retained_before {
                keep_retained(&broker, &run, limits, &mut wakes.waits);
                cache.refresh(&broker);
            }
            let here = !through_outbox || counts[0] > 0;
            if here && !route(&broker, &run, &cache.matches, self.terms.client.number, limits, wakes) && !through_outbox {
                reason_code = ReasonCode::NoMatchingSubscribers;
            }
        } else {
            let count = scratch.items.len() as u64;
            reason_code = match cache.verdict {
                // A valid Topic Name that this Server does not take (5.0 3.4.2.1).
                Verdict::TooDeep => {
                    broker.metrics.dropped(Dropped::TopicLevels, count);
                    ReasonCode::TopicNameInvalid
                }
                Verdict::Allowed | Verdict::Denied => {
                    broker.metrics.dropped(Dropped::NotAuthorized, count);
                    broker.metrics.denied.add(count);
                    self.denied()?
                }
            };
        }
        if self.terms.client.stored && scratch.items.iter().any(|item| item.qos == QoS::ExactlyOnce && item.duplicate) {
            // What it was the first time may not be durable yet.
            let shard = self.terms.client.shard;
            scratch.wakes.waits.add(shard, broker.store.position(shard));
        }
        let waits = scratch.wakes.waits.take();
        if self.terms.client.stored && !through_outbox && counts[1] > 0 {
            self.direct.merge(&waits);
        }
        let is_too_much = !waits.is_empty() && broker.store.unwritten_bytes() > limits.unwritten_bytes.as_u64();
        let not_answered = is_too_much.then(|| waits.clone());
        if counts[1] + counts[2] > 0 {
            self.acknowledge(&scratch.items, reason_code, counts, waits);
        }
        if let Some(waits) = not_answered.filter(|_| self.pledges.is_none()) {
            // No acknowledgement holds this Client back.
            self.hold_until(waits);
        }
        if cache.matches.plain.len() <= OWN_MATCHES_MAX {
            self.cache = Some(cache);
        }
        Ok(Progress::Used(used))
    }

    /// Decodes one packet at `start` if it is whole and belongs to the run.
    #[inline]
    fn gather(&mut self, input: &[u8], start: usize, now: u64, limits: &Limits, scratch: &mut Scratch) -> Result<Option<Item>, Closing> {
        let rest = &input[start..];
        let Some(length) = packet_length(rest)? else { return Ok(None) };
        if length > self.terms.max_packet_size as usize {
            return Err(violation(ReasonCode::PacketTooLarge, "MQTT-3.2.2-15", "larger than the Maximum Packet Size in CONNACK").into());
        }
        if rest.len() < length {
            return Ok(None);
        }
        let publish = decode_publish(&rest[..length], self.terms.version, Sender::Client)?;
        if !self.join(&publish, limits, scratch)? {
            return Ok(None);
        }
        let base = input.as_ptr() as usize;
        let offset = |slice: &[u8]| (slice.as_ptr() as usize - base) as u32;
        let end = (start + length) as u32;
        let mut expiry = publish.properties.message_expiry_interval;
        let cap = limits.message_expiry_max.as_secs();
        if cap > 0 {
            expiry = Some(expiry.unwrap_or(u32::MAX).min(u32::try_from(cap).unwrap_or(u32::MAX)));
        }
        let mut item = Item {
            start: start as u32,
            end,
            payload: end - publish.payload.len() as u32,
            forward: (0, 0),
            owned_forward: 0,
            expires_at: expiry.map_or(0, |seconds| now + u64::from(seconds) * 1000),
            id: publish.packet_id.map_or(0, |id| id.get()),
            qos: publish.qos,
            retain: publish.retain,
            plain: publish.qos == QoS::AtMostOnce && !publish.retain && expiry.is_none() && publish.properties.topic_alias.is_none(),
            duplicate: false,
        };
        match publish.properties.forward {
            std::borrow::Cow::Borrowed([]) => {}
            std::borrow::Cow::Borrowed(slice) => item.forward = (offset(slice), offset(slice) + slice.len() as u32),
            std::borrow::Cow::Owned(bytes) => {
                scratch.owned_forward.push(bytes);
                item.owned_forward = scratch.owned_forward.len() as u32;
            }
        }
        Ok(Some(item))
    }

    /// Checks what a PUBLISH may be here and whether it names the run's topic. The first packet names it.
    #[inline]
    fn join(&mut self, publish: &Publish<'_>, limits: &Limits, scratch: &mut Scratch) -> Result<bool, Closing> {
        if publish.qos as u8 > self.terms.max_qos {
            return Err(violation(ReasonCode::QoSNotSupported, "MQTT-3.2.2-11", "QoS above the Maximum QoS in CONNACK").into());
        }
        if publish.retain && !limits.retained_enabled {
            return Err(violation(ReasonCode::RetainNotSupported, "MQTT-3.2.2-14", "RETAIN is not available on this Server").into());
        }
        let Some(alias) = publish.properties.topic_alias else {
            return Ok(name_run(scratch, publish.topic));
        };
        let maximum = limits.topic_alias_maximum;
        let aliases = self.aliases_in.get_or_insert_with(|| Box::new(AliasesIn::default()));
        let refused = |error| match error {
            AliasError::OutOfRange => violation(ReasonCode::TopicAliasInvalid, "MQTT-3.3.2-9", "Topic Alias above the maximum in CONNACK"),
            AliasError::Unknown => violation(ReasonCode::ProtocolError, "MQTT-3.3.2-8", "Topic Alias without a mapping"),
        };
        if publish.topic.is_empty() {
            let topic = aliases.get(alias, maximum).map_err(refused)?;
            return Ok(name_run(scratch, topic));
        }
        aliases.set(alias, publish.topic, maximum).map_err(refused)?;
        Ok(name_run(scratch, publish.topic))
    }

    /// What `topic` matches and whether it may be published to; remembered from the last run when nothing has changed.
    fn look_up(&mut self, broker: &Broker, topic: &str, limits: &Limits) -> Box<MatchCache> {
        let access_generation = broker.access.generation();
        let mut cache = self.cache.take();
        if let Some(known) = &mut cache
            && known.access_generation == access_generation
            && known.topic == topic
        {
            known.refresh(broker);
            return cache.expect("just looked at");
        }
        let routing_generation = broker.routing_generation.load(Ordering::Acquire);
        let verdict = if topic::levels(topic) > usize::from(limits.max_topic_levels) {
            Verdict::TooDeep
        } else if self.terms.principal.may_publish(topic) {
            Verdict::Allowed
        } else {
            Verdict::Denied
        };
        let matches = if verdict == Verdict::Allowed { broker.matches(topic, OWN_MATCHES_MAX) } else { Arc::default() };
        let mut cache = cache.unwrap_or_else(|| {
            Box::new(MatchCache { topic: String::new(), access_generation, routing_generation, verdict, matches: Arc::default() })
        });
        cache.topic.clear();
        cache.topic.push_str(topic);
        cache.access_generation = access_generation;
        cache.routing_generation = routing_generation;
        cache.verdict = verdict;
        cache.matches = matches;
        cache
    }

    /// True when the run has to wait for a subscriber. A hold that has lasted its time lets the run pass and the subscriber lag.
    fn hold_for_full(&mut self, matches: &Matches<ClientRef>) -> bool {
        for matched in &matches.plain {
            if matched.subscriber.flow() == Flow::Full && matched.subscriber != self.terms.client {
                if self.hold_is_over(&matched.subscriber) {
                    matched.subscriber.set_flow(Flow::Lagging);
                    continue;
                }
                self.hold(matched.subscriber.clone());
                return true;
            }
        }
        for group in &matches.shared {
            // One member with room is enough.
            let mut full =
                group.members().iter().map(|member| &member.subscriber).filter(|member| member.connected.load(Ordering::Relaxed));
            if full.clone().any(|member| member.flow() != Flow::Full || *member == self.terms.client) {
                continue;
            }
            match full.next() {
                Some(member) if self.hold_is_over(member) => member.set_flow(Flow::Lagging),
                Some(member) => {
                    self.hold(member.clone());
                    return true;
                }
                None => {}
            }
        }
        false
    }

    /// Receive Maximum and QoS 2 duplicates.
    fn account_inbound(&mut self, scratch: &mut Scratch, qos1: u64) -> Result<(), Closing> {
        let mut unacknowledged = self.unacknowledged + qos1 as usize;
        if scratch.items.iter().any(|item| item.qos == QoS::ExactlyOnce) {
            let mut state = self.terms.client.lock();
            if state.epoch != self.terms.epoch {
                return Err(Closing::TakenOver);
            }
            for item in scratch.items.iter_mut().filter(|item| item.qos == QoS::ExactlyOnce) {
                let id = bucketmq_packet::PacketIdentifier::new(item.id).expect("decoding refuses 0");
                // [MQTT-4.3.3-10] The same identifier again before PUBREL: acknowledged once more, not handed on.
                item.duplicate = !state.session.incoming.begin(id);
            }
            unacknowledged += state.session.incoming.len();
        } else if self.terms.version == ProtocolVersion::V5 && unacknowledged > usize::from(self.terms.receive_maximum) {
            unacknowledged += self.terms.client.lock().session.incoming.len();
        }
        // [MQTT-3.3.4-7] [MQTT-3.3.4-8] A Client that keeps to the rule never has more than Receive Maximum in one unacknowledged batch.
        if self.terms.version == ProtocolVersion::V5 && unacknowledged > usize::from(self.terms.receive_maximum) {
            return Err(violation(
                ReasonCode::ReceiveMaximumExceeded,
                "MQTT-3.3.4-7",
                "more QoS 1 and 2 in flight than the Receive Maximum in CONNACK",
            )
            .into());
        }
        self.unacknowledged += qos1 as usize;
        Ok(())
    }

    /// What a publisher without the right gets to hear.
    fn denied(&self) -> Result<ReasonCode, Closing> {
        use bucketmq_access::OnDeny;
        match self.terms.broker.access.on_deny() {
            OnDeny::Disconnect => Err(violation(ReasonCode::NotAuthorized, "5.4.2", "publishing to this topic is not allowed").into()),
            OnDeny::Drop => Ok(ReasonCode::Success),
            OnDeny::Reject => Ok(ReasonCode::NotAuthorized),
        }
    }

    /// PUBACK [MQTT-4.3.2-4] and PUBREC [MQTT-4.3.3-8] for the run, written with the batch.
    fn acknowledge(&mut self, items: &[Item], reason_code: ReasonCode, counts: [u64; 3], mut waits: Waits) {
        let version = self.terms.version;
        if self.terms.acknowledge == AcknowledgeLevel::Buffered {
            waits.take();
        }
        let at_once = self.confirmed && self.pledges.is_none() && (waits.is_empty() || waits.is_durable(&*self.terms.broker.store));
        if reason_code.is_error() && counts[2] > 0 {
            // [MQTT-4.3.3-9] After a PUBREC with an error the identifier is free.
            let mut state = self.terms.client.lock();
            let mut batch = Batch::default();
            for id in
                items.iter().filter(|item| item.qos == QoS::ExactlyOnce).filter_map(|item| bucketmq_packet::PacketIdentifier::new(item.id))
            {
                state.session.incoming.finish(id);
                batch.finish(self.terms.client.number, id);
            }
            if self.terms.client.stored {
                self.terms.broker.store.write(self.terms.client.shard, batch);
            }
        }
        let mut owed = Vec::new();
        let out = if at_once { self.writing_mut() } else { &mut owed };
        for item in items {
            let kind = match item.qos {
                QoS::AtMostOnce => continue,
                QoS::AtLeastOnce => PacketType::PubAck,
                QoS::ExactlyOnce => PacketType::PubRec,
            };
            let Some(id) = bucketmq_packet::PacketIdentifier::new(item.id) else { continue };
            if reason_code == ReasonCode::Success || version != ProtocolVersion::V5 {
                put_ack(kind, id, out);
            } else {
                let reason = if item.duplicate && !reason_code.is_error() { ReasonCode::Success } else { reason_code };
                put_ack_with_reason(kind, id, reason, version, out);
            }
        }
        if !at_once {
            self.pledges.get_or_insert_default().owe(waits, counts[1] as usize, &owed);
        }
        self.terms.broker.metrics.sent(PacketType::PubAck, counts[1]);
        self.terms.broker.metrics.sent(PacketType::PubRec, counts[2]);
    }
}

#[inline]
fn name_run(scratch: &mut Scratch, topic: &str) -> bool {
    if scratch.items.is_empty() {
        scratch.topic.clear();
        scratch.topic.push_str(topic);
        return true;
    }
    scratch.topic == topic
}

/// Keeps what is retained. The matches that the run then goes to have to be newer than this: a Subscription reads the retained messages after
/// it is in the trie, so that one made in between misses neither the old value's successor nor the message.
fn keep_retained(broker: &Broker, run: &Run<'_>, limits: &Limits, waits: &mut Waits) {
    let shard = broker.shards.of(run.topic);
    for (place, item) in run.items.iter().enumerate().filter(|(_, item)| item.retain && !item.duplicate) {
        let position = retained::keep(broker, run, place, item, limits);
        // At QoS 0 no answer waits; it is written all the same, or an older value would come back.
        if broker.store.outlives_process() {
            waits.add(shard, position);
        }
    }
    // With its twin in `subscribe_one`: of a write here and a look at the trie, and a Subscription there and a look at the retained messages,
    // one sees the other.
    fence(Ordering::SeqCst);
}

/// Hands the run to all that match. False: nobody matched.
fn route(broker: &Broker, run: &Run<'_>, matches: &Matches<ClientRef>, from: SessionNumber, limits: &Limits, wakes: &mut Wakes) -> bool {
    if broker.sheds_qos0() && run.items.iter().all(|item| item.qos == QoS::AtMostOnce) {
        broker.metrics.dropped(Dropped::Memory, run.items.len() as u64);
        return true;
    }
    if matches.plain.is_empty() && matches.shared.is_empty() {
        // Nobody has to be interested in the broker's own figures.
        if !run.topic.starts_with("$SYS/") {
            broker.metrics.dropped(Dropped::NoSubscribers, run.items.len() as u64);
        }
        return false;
    }
    for matched in &matches.plain {
        // [MQTT-3.8.3-3] No Local.
        if matched.no_local && from == matched.subscriber.number {
            continue;
        }
        broker.deliver_run(run, matched, limits, wakes);
    }
    for group in &matches.shared {
        broker.deliver_shared(run, group, from, limits, wakes);
    }
    true
}

/// Who publishes what the broker itself has to say.
pub const BROKER_ITSELF: SessionNumber = SessionNumber(0);

impl Broker {
    /// Publishes a message of the broker's own, such as a `$SYS` topic or, without a bucket, a Will.
    pub fn publish_own(&self, message: &Arc<Message>) {
        let mut wakes = Wakes::since(self.moment());
        publish_single(self, &Single::new(message, self.wall_ms()), BROKER_ITSELF, &mut wakes, &mut |_, work| {
            work();
            None
        });
        wakes.wake_all();
    }
}

/// Does what it is given in a shard, or not, when that shard has it already: the position of what was done.
type StoreIn<'a> = dyn FnMut(ShardId, &mut dyn FnMut()) -> Option<Position> + 'a;

/// Publishes one message on its own. What it brings to Sessions that outlive the broker is done in `store_in`, once for each of their shards;
/// the position it gives, if it did it, joins those to wait for in `wakes`.
pub fn publish_single(broker: &Broker, single: &Single, from: SessionNumber, wakes: &mut Wakes, store_in: &mut StoreIn<'_>) {
    let limits = broker.limits.load();
    let run = single.run();
    let found = match from == BROKER_ITSELF && single.retains() {
        true => retain_single(broker, &run, &limits, wakes, store_in),
        false => None,
    };
    let retained_in = found.is_some().then(|| broker.shards.of(run.topic));
    let matches = found.unwrap_or_else(|| broker.matches(run.topic, OWN_MATCHES_MAX));
    if matches.plain.is_empty() && matches.shared.is_empty() {
        // Nobody has to be interested in the broker's own figures.
        if !run.topic.starts_with("$SYS/") {
            broker.metrics.dropped(Dropped::NoSubscribers, 1);
        }
        return;
    }
    // [MQTT-3.8.3-3] No Local.
    let wanted = |matched: &&Matched<ClientRef>| !(matched.no_local && matched.subscriber.number == from);
    let is_stored = |matched: &&Matched<ClientRef>| matched.subscriber.stored && Some(matched.subscriber.shard) != retained_in;
    let mut stored: Vec<_> = matches.plain.iter().filter(wanted).filter(is_stored).collect();
    for matched in matches.plain.iter().filter(wanted).filter(|matched| !matched.subscriber.stored) {
        broker.deliver_run(&run, matched, &limits, wakes);
    }
    stored.sort_by_key(|matched| matched.subscriber.shard);
    for of_shard in stored.chunk_by(|one, next| one.subscriber.shard == next.subscriber.shard) {
        let shard = of_shard[0].subscriber.shard;
        let position = store_in(shard, &mut || {
            for matched in of_shard {
                broker.deliver_run(&run, matched, &limits, wakes);
            }
        });
        if let Some(position) = position {
            wakes.waits.add(shard, position);
        }
    }
    for group in &matches.shared {
        broker.deliver_shared(&run, group, from, &limits, wakes);
    }
}

/// Retains a message of the broker's own, and brings it to the Sessions in the shard of its topic, which has to know both or neither: a Will that is
/// offered again after a crash must not take the place of what was retained after it. What matched comes back when that was done now.
fn retain_single(
    broker: &Broker,
    run: &Run<'_>,
    limits: &Limits,
    wakes: &mut Wakes,
    store_in: &mut StoreIn<'_>,
) -> Option<Arc<Matches<ClientRef>>> {
    let shard = broker.shards.of(run.topic);
    let mut found = None;
    let position = store_in(shard, &mut || {
        keep_retained(broker, run, limits, &mut wakes.waits);
        let matches = broker.matches(run.topic, OWN_MATCHES_MAX);
        for matched in matches.plain.iter().filter(|matched| matched.subscriber.stored && matched.subscriber.shard == shard) {
            broker.deliver_run(run, matched, limits, wakes);
        }
        found = Some(matches);
    });
    if let Some(position) = position {
        wakes.waits.add(shard, position);
    }
    found
}

impl Connection {
    /// True when the QoS 1 and 2 of a run goes through the outbox: QoS 2 of a Session that outlives the broker, and whatever such a Session
    /// publishes while something of its own is still on that way (order).
    fn goes_through_outbox(&self, counts: [u64; 3]) -> bool {
        let client = &self.terms.client;
        let has_rows = |outbox: &Outbox| client.rows.load(Ordering::Acquire) > 0 || !outbox.has_applied(client.rows_before);
        counts[1] + counts[2] > 0
            && self.terms.broker.outboxes.get(client.shard.index()).is_some_and(|outbox| client.stored && counts[2] > 0 || has_rows(outbox))
    }

    /// A retained message that goes through the outbox stands in its topic's shard first: it is written here, and the run waits until that is
    /// durable. True: it is.
    fn retained_is_durable(&mut self, broker: &Broker, input: &[u8], used: usize, limits: &Limits, scratch: &mut Scratch) -> bool {
        if std::mem::take(&mut self.retained_written) {
            return true;
        }
        {
            let state = self.terms.client.lock();
            for item in scratch.items.iter_mut().filter(|item| item.qos == QoS::ExactlyOnce) {
                // What comes again was kept when it came first; another may have taken its place.
                item.duplicate = bucketmq_packet::PacketIdentifier::new(item.id).is_some_and(|id| state.session.incoming.contains(id));
            }
        }
        let Scratch { topic, items, owned_forward, kept, now, .. } = scratch;
        let version = self.terms.version;
        let run = Run { topic, version, bytes: &input[..used], items, owned_forward, kept, all_plain: false, largest: used, now: *now };
        let mut waits = Waits::default();
        keep_retained(broker, &run, limits, &mut waits);
        if waits.is_durable(&*broker.store) {
            return true;
        }
        self.retained_written = true;
        self.hold_until(waits);
        false
    }

    /// Puts the QoS 1 and 2 of the run into the outbox, with the Packet Identifiers of QoS 2, in one batch. They are done with then.
    fn send_run(&self, broker: &Broker, bytes: &[u8], scratch: &mut Scratch) {
        let client = &self.terms.client;
        let mut batch = Batch::default();
        let mut messages = Vec::new();
        {
            let Scratch { topic, items, owned_forward, kept, now, .. } = &mut *scratch;
            let version = self.terms.version;
            let run = Run { topic, version, bytes, items, owned_forward, kept, all_plain: false, largest: bytes.len(), now: *now };
            for (place, item) in run.items.iter().enumerate().filter(|(_, item)| item.qos > QoS::AtMostOnce && !item.duplicate) {
                messages.push(run.message(place));
                if item.qos == QoS::ExactlyOnce
                    && client.stored
                    && let Some(id) = bucketmq_packet::PacketIdentifier::new(item.id)
                {
                    batch.begin(client.number, id);
                }
            }
        }
        if !messages.is_empty() {
            let position = broker.send_through_outbox(client.shard, batch, messages.into_iter(), client.number, Some(client));
            scratch.wakes.waits.add(client.shard, position);
        }
        for item in scratch.items.iter_mut().filter(|item| item.qos > QoS::AtMostOnce) {
            item.duplicate = true;
        }
    }
}

/// Wakes everybody in `wakers`.
pub fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
