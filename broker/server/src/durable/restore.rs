//! Everything found in the bucket at the start, put back: Sessions with their Subscriptions, queues and handshakes, Wills, Shared Subscriptions, and
//! the rows of the outboxes. Clocks go on by the wall clock; those of a Session found connected start now.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context;
use bucketmq_packet::{PacketIdentifier, topic};
use bucketmq_routing::Options;
use bucketmq_session::{BacklogMeter, Found, Session, Subscription, Will};
use bucketmq_storage::record::applied::Applied;
use bucketmq_storage::record::estate::Estate;
use bucketmq_storage::record::group::Group;
use bucketmq_storage::record::handshake::Handshake;
use bucketmq_storage::record::inbound::Inbound;
use bucketmq_storage::record::outbox::{OutboxNumber, Row};
use bucketmq_storage::record::session::{Presence, SessionKey};
use bucketmq_storage::record::{session, subscription, will};
use bucketmq_storage::{Batch, DurableStore, SessionNumber, ShardId, Store};
use tracing::{info, warn};

use super::outbox::Outbox;
use super::records;
use crate::broker::Broker;
use crate::client::{Client, ClientRef};

/// One shard's records, but for queues and retained messages.
struct Records {
    sessions: Vec<(SessionKey, session::Session)>,
    subscriptions: HashMap<SessionKey, Vec<(String, subscription::Subscription)>>,
    wills: HashMap<SessionKey, will::Will>,
    groups: Vec<(String, Group)>,
    estates: Vec<(SessionNumber, Estate)>,
    incoming: HashMap<SessionNumber, Vec<PacketIdentifier>>,
    released: HashMap<SessionNumber, Vec<u64>>,
    rows: Vec<(OutboxNumber, Row)>,
    applied: Vec<(ShardId, Applied)>,
}

impl Records {
    async fn read(store: &DurableStore, shard: ShardId) -> anyhow::Result<Self> {
        let mut subscriptions: HashMap<SessionKey, Vec<_>> = HashMap::new();
        for ((session, filter), record) in store.records::<subscription::Subscription>(shard).await? {
            subscriptions.entry(session).or_default().push((filter, record));
        }
        let mut released: HashMap<SessionNumber, Vec<_>> = HashMap::new();
        for ((session, sequence), _) in store.records::<Handshake>(shard).await? {
            released.entry(session).or_default().push(sequence.0);
        }
        Ok(Self {
            sessions: store.records(shard).await?,
            subscriptions,
            wills: store.records(shard).await?.into_iter().collect(),
            groups: store.records(shard).await?,
            estates: store.records(shard).await?,
            incoming: store.records::<Inbound>(shard).await?.into_iter().map(|(session, inbound)| (session, inbound.ids)).collect(),
            released,
            rows: store.outbox(shard).await?,
            applied: store.records(shard).await?,
        })
    }

    /// The largest number given to a Session or a group here, as far as something of it is left.
    fn last_number(&self) -> u64 {
        let sessions = self.sessions.iter().map(|(_, session)| session.number);
        let groups = self.groups.iter().map(|(_, group)| group.number);
        let estates = self.estates.iter().map(|(number, _)| *number);
        sessions.chain(groups).chain(estates).map(SessionNumber::counter).max().unwrap_or(0)
    }
}

/// What a broker starts with.
pub struct Restored {
    shards: Vec<(ShardId, Records)>,
    /// The first number no Session has had.
    pub next_number: u64,
    /// An outbox for each shard.
    pub outboxes: Vec<Outbox>,
}

impl Restored {
    /// Reads all shards, side by side; `epochs` are those of this owner. `not_before_ms`: no owner before wrote later by its clock.
    pub async fn read(store: &Arc<DurableStore>, epochs: &[u64], not_before_ms: u64) -> anyhow::Result<Self> {
        let reading: Vec<_> = store
            .shards()
            .all()
            .filter(|shard| !store.is_refused(*shard))
            .map(|shard| {
                let store = store.clone();
                (shard, tokio::spawn(async move { Records::read(&store, shard).await }))
            })
            .collect();
        let mut shards = Vec::with_capacity(reading.len());
        for (shard, records) in reading {
            let records = records.await.context("a task that reads a shard ended")?;
            shards.push((shard, records.with_context(|| format!("shard {shard}"))?));
        }
        // An epoch never comes back: that of this owner, and above all that is known, whoever wrote it.
        let rows = shards.iter().flat_map(|(_, records)| records.rows.iter().map(|(number, _)| number.epoch));
        let marks = shards.iter().flat_map(|(_, records)| records.applied.iter().map(|(_, applied)| applied.number.epoch));
        let epoch_min = rows.chain(marks).max().unwrap_or(0) + 1;
        let last_number = shards.iter().map(|(_, records)| records.last_number()).max().unwrap_or(0);
        let outboxes = store
            .shards()
            .all()
            .map(|publisher| {
                let mut applied = vec![OutboxNumber::default(); usize::from(store.shards().count())];
                for (target, records) in &shards {
                    if let Some((_, mark)) = records.applied.iter().find(|(shard, _)| *shard == publisher) {
                        applied[target.index()] = mark.number;
                    }
                }
                let own = shards.iter_mut().find(|(shard, _)| *shard == publisher);
                let rows = own.map(|(_, records)| std::mem::take(&mut records.rows)).unwrap_or_default();
                Outbox::new(epoch_min.max(epochs[publisher.index()]), rows, applied)
            })
            .collect();
        // Numbers of Sessions that ended are not known any more: time tells a number that none of them had.
        Ok(Self { shards, next_number: not_before_ms.max(last_number + 1), outboxes })
    }

    /// Puts everything into `broker`, which has no Clients yet.
    pub fn put_into(self, broker: &Broker, store: &DurableStore) {
        let now = broker.wall_ms();
        let mut sessions = 0;
        for (shard, mut records) in self.shards {
            for (filter, group) in records.groups.drain(..) {
                broker.groups.found(&filter, group.number, &store.cursor(group.number));
            }
            broker.estates.lock().append(&mut records.estates);
            let mut batch = Batch::default();
            for (key, record) in records.sessions.drain(..) {
                let found = Found {
                    incoming: records.incoming.remove(&record.number).unwrap_or_default(),
                    released: records.released.remove(&record.number).unwrap_or_default(),
                    last_share: record.last_share,
                    ..queue_of(store, record.number)
                };
                let session = Session::found(record.expiry_interval, found);
                let subscriptions = records.subscriptions.remove(&key).unwrap_or_default();
                let will = records.wills.remove(&key);
                restore_session(broker, shard, record, session, subscriptions, will, now, &mut batch);
                sessions += 1;
            }
            // Wills of Sessions that ended with their connection, and so with the broker.
            for (key, will) in records.wills {
                batch.delete::<will::Will>(&key);
                let will = owned(will);
                broker.metrics.wills.add(1);
                broker.send_through_outbox(shard, std::mem::take(&mut batch), std::iter::once(will.message(now)), SessionNumber(0), None);
            }
            broker.store.write(shard, batch);
        }
        broker.groups.found_all(&*broker.store);
        broker.look_at_absent();
        info!(sessions, retained = broker.store.retained_usage().messages, "state found in the bucket");
    }
}

fn queue_of(store: &DurableStore, number: SessionNumber) -> Found {
    let cursor = store.cursor(number);
    let backlog = BacklogMeter { first: cursor.head.0, entries: cursor.messages, bytes: cursor.bytes };
    Found { next: cursor.next.0, sent: cursor.sent.0, backlog, ..Found::default() }
}

#[expect(clippy::too_many_arguments, reason = "the parts of one Session, each from another kind of record")]
fn restore_session(
    broker: &Broker,
    shard: ShardId,
    record: session::Session,
    mut session: Session,
    subscriptions: Vec<(String, subscription::Subscription)>,
    will: Option<will::Will>,
    now: u64,
    batch: &mut Batch,
) {
    let mut routed = Vec::new();
    for (filter, subscription::Subscription { options, identifier, share }) in subscriptions {
        session.found_subscription(&filter, Subscription { options, identifier, share });
        routed.push((filter, options, identifier));
    }
    let away_since = match record.presence {
        Presence::Away(since) => since,
        Presence::Connected => now,
    };
    let expiry = record.expiry_interval;
    let ends_at = (expiry != u32::MAX).then(|| away_since.saturating_add(u64::from(expiry) * 1000));
    let will_at = will.as_ref().map(|will| {
        let delay = u64::from(will.delay_interval.min(expiry)) * 1000;
        will.due_at.unwrap_or(now.saturating_add(delay))
    });
    session.will = will.map(|will| Box::new(owned(will)));
    let owner: Option<Arc<str>> = record.owner.as_deref().map(Arc::from);
    let mut client = Client::new(&record.client_id, owner, shard, record.number, session, true);
    client.rows_before = broker.rows_so_far(shard);
    let client = ClientRef(Arc::new(client));
    {
        let mut state = client.lock();
        // Found connected: the clocks start now, and once only.
        if record.presence == Presence::Connected {
            records::put_session(batch, &client, &state.session, Presence::Away(now));
            if let Some(will) = &state.session.will {
                records::put_will(batch, &client, will, will_at);
            }
        }
        let second_of = |at: u64| broker.second().saturating_add(u32::try_from(at.saturating_sub(now).div_ceil(1000)).unwrap_or(u32::MAX));
        state.expiry_due = ends_at.map(second_of);
        state.will_due = will_at.map(second_of);
        let due = [state.will_due, state.expiry_due].into_iter().flatten().min().unwrap_or(u32::MAX);
        client.due.store(due, Ordering::Relaxed);
    }
    broker.registry.replace(&record.client_id, |_| (Some(client.clone()), ()));
    broker.route(|routes| {
        for (filter, options, identifier) in &routed {
            let Ok(parsed) = topic::check_filter(filter) else {
                warn!(client_id = &*client.id, filter, "a stored Subscription is not one there can be and is passed over");
                continue;
            };
            let options = Options {
                qos: options.qos,
                no_local: options.no_local,
                retain_as_published: options.retain_as_published,
                subscription_identifier: *identifier,
            };
            match parsed.share_name {
                Some(share) => routes.subscribe_shared(share, parsed.filter, client.clone(), options),
                None => routes.subscribe(parsed.filter, client.clone(), options),
            };
        }
    });
    for (filter, ..) in routed.iter().filter(|(filter, ..)| filter.starts_with("$share/")) {
        broker.groups.join(filter);
    }
}

fn owned(record: will::Will) -> Will {
    Will {
        topic: record.topic.into(),
        payload: record.payload.into(),
        qos: record.qos,
        retain: record.retain,
        delay_interval: record.delay_interval,
        message_expiry_interval: record.message_expiry_interval,
        forward: record.forward.into(),
    }
}
