//! A plan into a store: each Session becomes visible whole, with its queue behind it, and everything is durable when it is done.

use std::collections::HashMap;
use std::sync::Arc;

use bucketmq_packet::message::Message;
use bucketmq_storage::record::applied::Applied;
use bucketmq_storage::record::group::Group;
use bucketmq_storage::record::handshake::Handshake;
use bucketmq_storage::record::outbox::{OutboxNumber, Row, Target};
use bucketmq_storage::record::session::{Presence, Session, SessionKey};
use bucketmq_storage::record::subscription::Subscription;
use bucketmq_storage::record::will::Will;
use bucketmq_storage::{
    Batch, DurableError, DurableStore, Position, ReadError, RetainedFull, RetainedLimit, SessionNumber, ShardId, Store,
};
use thiserror::Error;

use crate::outstanding::{Outstanding, RECORD_BYTES};
use crate::plan::{Plan, PlannedSession};
use crate::report::{Reason, Report};

/// Bytes of messages in one batch of a queue.
const BATCH_BYTES: usize = 1024 * 1024;
/// Entries in one batch of a queue.
const BATCH_ENTRIES: usize = 4096;
/// Bytes that wait in memory for the bucket: two batches for each of 16 shards at most.
const UNWRITTEN_BYTES: usize = 32 * BATCH_BYTES;

/// How to write.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// Milliseconds since 1970. Numbers of Sessions begin here: one that ended long ago never had such a number.
    pub now: u64,
    /// What the bucket has of the same Client Identifier or topic gives way, instead of staying. QoS 2 messages that are on their way from a Session stay on it.
    pub replace: bool,
}

/// The import stopped. What was written so far is sound: started again, it goes on with what is not in the bucket.
#[derive(Debug, Error)]
pub enum WriteError {
    /// What is in the bucket could not be read.
    #[error("the bucket cannot be read")]
    Read(#[from] ReadError),
    /// The bucket did not take it.
    #[error("the bucket cannot be written: is a broker using it?")]
    Write(#[from] DurableError),
    /// Cannot happen: there is no limit.
    #[error("a retained message was refused")]
    Full(#[from] RetainedFull),
}

/// Writes `plan` and waits until all of it is durable. Nobody else may be using the store. The plan is made for the number of shards the store has.
pub async fn write(store: &DurableStore, plan: Plan, options: WriteOptions) -> Result<Report, WriteError> {
    let Plan { sessions, retained, report } = plan;
    let mut writing = Writing::begin(store, options, report).await?;
    for (topic, message) in retained {
        writing.retained(&topic, message).await?;
    }
    for session in sessions {
        writing.session(session).await?;
    }
    writing.outstanding.settle(store).await?;
    Ok(writing.report)
}

/// What a shard has.
#[derive(Debug, Default)]
struct Known {
    /// Sessions by key.
    sessions: HashMap<SessionKey, SessionNumber>,
    /// Filters of the Sessions that have some.
    filters: HashMap<SessionKey, Vec<String>>,
    /// Rows written here now.
    rows: u64,
}

struct Writing<'a> {
    store: &'a DurableStore,
    options: WriteOptions,
    shards: Vec<Known>,
    next_number: u64,
    /// Of outbox rows: above all that is known, as if a broker had opened the store.
    epoch: u64,
    outstanding: Outstanding,
    report: Report,
}

impl<'a> Writing<'a> {
    async fn begin(store: &'a DurableStore, options: WriteOptions, report: Report) -> Result<Self, WriteError> {
        let (mut shards, mut last_number, mut epoch) = (Vec::new(), 0, 0);
        for shard in store.shards().all() {
            let mut known = Known::default();
            for (key, session) in store.records::<Session>(shard).await? {
                known.sessions.insert(key, session.number);
            }
            if options.replace {
                for ((key, filter), _) in store.records::<Subscription>(shard).await? {
                    known.filters.entry(key).or_default().push(filter);
                }
            }
            let groups = store.records::<Group>(shard).await?.into_iter().map(|(_, group)| group.number);
            let numbers = known.sessions.values().copied().chain(groups).map(SessionNumber::counter);
            last_number = numbers.fold(last_number, u64::max);
            let rows = store.outbox(shard).await?.into_iter().map(|(number, _)| number.epoch);
            let marks = store.records::<Applied>(shard).await?.into_iter().map(|(_, applied)| applied.number.epoch);
            epoch = rows.chain(marks).fold(epoch, u64::max);
            shards.push(known);
        }
        let next_number = options.now.max(last_number + 1);
        Ok(Self { store, options, shards, next_number, epoch: epoch + 1, outstanding: Outstanding::new(UNWRITTEN_BYTES), report })
    }

    async fn retained(&mut self, topic: &str, message: Option<Arc<Message>>) -> Result<(), WriteError> {
        if !self.options.replace {
            // A Topic Name is a filter that matches itself.
            let found = self.store.retained_page(topic, None, 1, usize::MAX).await?;
            if !found.messages.is_empty() {
                self.report.skip(Reason::RetainedInBucket, topic);
                return Ok(());
            }
        }
        let bytes = message.as_ref().map_or(0, |message| message.len());
        let position = match message {
            Some(message) => {
                self.report.retained += 1;
                self.store.set_retained(message, RetainedLimit::NONE)?
            }
            None => self.store.remove_retained(topic),
        };
        self.wrote(self.store.shards().of(topic), position, bytes + RECORD_BYTES).await
    }

    async fn session(&mut self, session: PlannedSession) -> Result<(), WriteError> {
        let PlannedSession {
            client_id,
            shard,
            owner,
            expiry_interval,
            away_since,
            last_share,
            subscriptions,
            queue,
            sent,
            inbound,
            outbox,
            ..
        } = session;
        debug_assert_eq!(shard, self.store.shards().of(&client_id), "planned for another number of shards");
        let key = SessionKey::of(&client_id);
        let existing = self.shards[shard.index()].sessions.get(&key).copied();
        if existing.is_some() && !self.options.replace {
            self.report.skip(Reason::SessionInBucket, client_id);
            return Ok(());
        }
        let number = SessionNumber::new(shard, self.next_number);
        self.next_number += 1;
        self.report.sessions += 1;
        self.report.sessions_replaced += u64::from(existing.is_some());
        self.report.sessions_without_owner += u64::from(owner.is_none());
        self.report.subscriptions += subscriptions.len() as u64;
        self.report.messages += queue.len() as u64;
        self.report.messages_in_flight += queue.iter().filter(|entry| sent.is_some_and(|sent| entry.sequence < sent)).count() as u64;
        self.report.incoming += inbound.len() as u64;

        // The queue first, in pieces. Without a Session it is deleted at the next opening; with its Session it is there as a whole.
        let (mut batch, mut entries, mut bytes) = (Batch::default(), 0, 0);
        for planned in queue {
            entries += 1;
            bytes += planned.entry.message.len() + RECORD_BYTES;
            if planned.released {
                batch.put(&(number, planned.sequence), &Handshake::Released);
            }
            batch.append(number, planned.sequence, planned.entry);
            if entries >= BATCH_ENTRIES || bytes >= BATCH_BYTES {
                self.put(shard, std::mem::take(&mut batch), bytes).await?;
                (entries, bytes) = (0, 0);
            }
        }
        if let Some(sent) = sent {
            batch.sent(number, sent);
        }
        if let Some(existing) = existing {
            for filter in self.shards[shard.index()].filters.remove(&key).unwrap_or_default() {
                batch.delete::<Subscription>(&(key, filter));
            }
            batch.delete::<Will>(&key).remove_session(existing);
        }
        for id in inbound {
            batch.begin(number, id);
        }
        for message in outbox {
            bytes += message.len() + RECORD_BYTES;
            let known = &mut self.shards[shard.index()];
            let row = OutboxNumber { epoch: self.epoch, counter: known.rows };
            known.rows += 1;
            batch.send(row, Row { target: Target::Shards(Vec::new()), publisher: number, message });
        }
        bytes += subscriptions.keys().map(|filter| filter.len() + RECORD_BYTES).sum::<usize>() + client_id.len() + RECORD_BYTES;
        for (filter, subscription) in subscriptions {
            batch.put(&(key, filter), &subscription);
        }
        let presence = Presence::Away(away_since);
        batch.put(&key, &Session { client_id, owner, number, expiry_interval, presence, last_share });
        self.shards[shard.index()].sessions.insert(key, number);
        self.put(shard, batch, bytes).await
    }

    async fn put(&mut self, shard: ShardId, batch: Batch, bytes: usize) -> Result<(), WriteError> {
        let position = self.store.write(shard, batch);
        self.wrote(shard, position, bytes).await
    }

    async fn wrote(&mut self, shard: ShardId, position: Position, bytes: usize) -> Result<(), WriteError> {
        Ok(self.outstanding.wrote(self.store, shard, position, bytes).await?)
    }
}
