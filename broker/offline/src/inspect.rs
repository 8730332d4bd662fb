//! What is in a bucket, in numbers, and one Session as a person wants to see it.

use std::collections::{BTreeMap, HashMap};

use bucketmq_packet::PacketIdentifier;
use bucketmq_storage::offline::{Facts, Objects, Reader};
use bucketmq_storage::record::cursor::Cursor;
use bucketmq_storage::record::format::Format;
use bucketmq_storage::record::growth::Growth;
use bucketmq_storage::record::handshake::Handshake;
use bucketmq_storage::record::inbound::Inbound;
use bucketmq_storage::record::outbox;
use bucketmq_storage::record::queue::{Chunk, Content};
use bucketmq_storage::record::session::{Presence, Session, SessionKey};
use bucketmq_storage::record::subscription::Subscription;
use bucketmq_storage::record::will::Will;
use bucketmq_storage::record::{Kind, Record};
use bucketmq_storage::{ReadError, SessionNumber, ShardId};
use futures_util::StreamExt;
use futures_util::stream::iter;
use serde::Serialize;
use serde_json::{Value, json};

use crate::exclusive::{OwnError, prefix_owner};
use crate::site::Site;
use crate::{Progress, SHARDS_AT_ONCE, chain, json};

/// Messages of a Session's queue that are shown.
const MESSAGES_SHOWN: usize = 10;

/// One shard.
#[derive(Debug, Clone, Serialize)]
pub struct ShardReport {
    /// Which.
    pub shard: u16,
    /// Why it cannot be read; then nothing else is known of it.
    pub error: Option<String>,
    /// Its objects and its manifest.
    pub objects: Option<Facts>,
    /// What it holds.
    pub contents: Option<Contents>,
}

/// What is in a shard, or in all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Rows by kind.
    pub records: BTreeMap<String, u64>,
    /// Bytes of their keys and values.
    pub record_bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Those that were connected when they were last written.
    pub sessions_connected: u64,
    /// Messages in queues.
    pub queued_messages: u64,
    /// Their topics, properties and payloads.
    pub queued_bytes: u64,
    /// Retained messages.
    pub retained: u64,
    /// Rows of the outbox.
    pub outbox_rows: u64,
}

impl Contents {
    fn add(&mut self, other: &Self) {
        for (kind, count) in &other.records {
            *self.records.entry(kind.clone()).or_default() += count;
        }
        self.record_bytes += other.record_bytes;
        self.sessions += other.sessions;
        self.sessions_connected += other.sessions_connected;
        self.queued_messages += other.queued_messages;
        self.queued_bytes += other.queued_bytes;
        self.retained += other.retained;
        self.outbox_rows += other.outbox_rows;
    }

    fn count(&self, kind: Kind) -> u64 {
        self.records.get(&kind.to_string()).copied().unwrap_or(0)
    }
}

/// The whole.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Format of the records.
    pub format: u32,
    /// The release that made the shards.
    pub made_by: String,
    /// Into how many shards the prefix is divided.
    pub shards_count: u16,
    /// The folder they are in.
    pub folder: String,
    /// The broker that owns them.
    pub owner: Option<String>,
    /// For whom the prefix is, if anybody has said so.
    pub prefix_owner: Option<String>,
    /// Everything together.
    pub total: Contents,
    /// Objects of all shards.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// One by one.
    pub shards: Vec<ShardReport>,
}

/// Counts what is in `site`, or in one shard of it.
pub async fn inspect(site: &Site, only: Option<ShardId>, progress: Progress<'_>) -> Result<Report, OwnError> {
    let mut report = Report {
        format: 0,
        made_by: String::new(),
        shards_count: site.place.shards.count(),
        folder: site.root.folder().to_owned(),
        owner: site.owner.clone(),
        prefix_owner: prefix_owner(&site.place).await?,
        total: Contents::default(),
        objects: 0,
        object_bytes: 0,
        shards: Vec::new(),
    };
    let shards = site.place.shards.all().filter(|shard| only.is_none_or(|only| only == *shard));
    let reading = shards.map(|shard| async move {
        progress(&format!("shard {shard} of {}", site.place.shards.count()));
        (shard, read_shard(site, shard).await)
    });
    let mut read = iter(reading).buffered(SHARDS_AT_ONCE);
    while let Some((shard, outcome)) = read.next().await {
        let mut of_shard = ShardReport { shard: shard.0, error: None, objects: None, contents: None };
        match outcome {
            Ok((format, facts, contents)) => {
                report.format = report.format.max(format.version);
                report.made_by = format.made_by;
                report.total.add(&contents);
                report.objects += facts.objects;
                report.object_bytes += facts.bytes;
                (of_shard.objects, of_shard.contents) = (Some(facts), Some(contents));
            }
            Err(error) => of_shard.error = Some(chain(&*error.source)),
        }
        report.shards.push(of_shard);
    }
    Ok(report)
}

async fn read_shard(site: &Site, shard: ShardId) -> Result<(Format, Facts, Contents), ReadError> {
    let facts = Objects::new(&site.place, &site.root, shard).facts().await?;
    let reader = Reader::open(&site.place, &site.root, shard, site.now()).await?;
    let outcome = async {
        let none = || ReadError { shard, source: "it has no format record".into() };
        let format = reader.record::<Format>(&()).await?.ok_or_else(none)?;
        Ok((format, facts, count(&reader).await?))
    };
    let outcome = outcome.await;
    reader.close().await;
    outcome
}

async fn count(reader: &Reader) -> Result<Contents, ReadError> {
    let mut contents = Contents::default();
    for kind in Kind::ALL {
        let mut rows = reader.rows(kind).await?;
        let mut count = 0;
        while let Some(row) = rows.next().await? {
            count += 1;
            contents.record_bytes += (row.key.len() + row.value.len()) as u64;
            // What cannot be read is for `verify` to tell.
            match kind {
                Kind::Session => {
                    let connected = Session::decode(&row.value).is_ok_and(|session| session.presence == Presence::Connected);
                    contents.sessions_connected += u64::from(connected);
                }
                Kind::Outbox => contents.outbox_rows += outbox::Chunk::decode(&row.value).map_or(0, |chunk| chunk.rows.len() as u64),
                _ => {}
            }
        }
        contents.records.insert(kind.to_string(), count);
    }
    for cursor in cursors(reader).await?.values() {
        contents.queued_messages += cursor.messages;
        contents.queued_bytes += cursor.bytes;
    }
    contents.sessions = contents.count(Kind::Session);
    contents.retained = contents.count(Kind::Retained);
    Ok(contents)
}

/// Where each queue stands: its cursor, and what it has grown since that was written.
pub(crate) async fn cursors(reader: &Reader) -> Result<HashMap<SessionNumber, Cursor>, ReadError> {
    let mut cursors: HashMap<_, _> = reader.records::<Cursor>().await?.into_iter().collect();
    let mut rows = reader.rows(Kind::Growth).await?;
    while let Some(row) = rows.next().await? {
        let growth = Growth::decode(&row.value).map_err(|error| ReadError { shard: reader.shard(), source: Box::new(error) })?;
        growth.queues.iter().for_each(|grown| grown.bring(&mut cursors));
    }
    Ok(cursors)
}

/// One Session with everything that belongs to it; `None` when there is none of this Client Identifier.
pub async fn session(site: &Site, client_id: &str) -> Result<Option<Value>, ReadError> {
    let shard = site.place.shards.of(client_id);
    let reader = Reader::open(&site.place, &site.root, shard, site.now()).await?;
    let outcome = describe(&reader, client_id).await;
    reader.close().await;
    outcome
}

async fn describe(reader: &Reader, client_id: &str) -> Result<Option<Value>, ReadError> {
    let key = SessionKey::of(client_id);
    let Some(session) = reader.record::<Session>(&key).await? else { return Ok(None) };
    let number = session.number;
    let wrong = |error| ReadError { shard: reader.shard(), source: Box::new(error) };
    let mut subscriptions = Vec::new();
    let mut rows = reader.rows_of(&Subscription::key(&(key, String::new()))).await?;
    while let Some(row) = rows.next().await? {
        let (_, filter) = Subscription::decode_key(&row.key).map_err(wrong)?;
        subscriptions.push(subscription(&filter, &Subscription::decode(&row.value).map_err(wrong)?));
    }
    let cursor = cursors(reader).await?.remove(&number).unwrap_or_default();
    let inbound = reader.record::<Inbound>(&number).await?.map_or_else(Vec::new, |inbound| inbound.ids);
    let inbound: Vec<u16> = inbound.into_iter().map(PacketIdentifier::get).collect();
    let mut released = Vec::new();
    let mut rows = reader.rows_of(&prefix_of(Kind::Handshake, number)).await?;
    while let Some(row) = rows.next().await? {
        released.push(Handshake::decode_key(&row.key).map_err(wrong)?.1.0);
    }
    let will = reader.record::<Will>(&key).await?;
    let (connected, away_since, ends_at) = match session.presence {
        Presence::Connected => (true, None, None),
        Presence::Away(since) => {
            let ends = (session.expiry_interval != u32::MAX).then(|| since.saturating_add(u64::from(session.expiry_interval) * 1000));
            (false, Some(json::time(since)), ends.map(json::time))
        }
    };
    Ok(Some(json!({
        "client_id": session.client_id,
        "shard": reader.shard().0,
        "owner": session.owner,
        "connected": connected,
        "away_since": away_since,
        "expiry_interval": (session.expiry_interval != u32::MAX).then_some(session.expiry_interval),
        "ends_at": ends_at,
        "subscriptions": subscriptions,
        "queue": {
            "messages": cursor.messages,
            "bytes": cursor.bytes,
            "first": cursor.head.0,
            "next": cursor.next.0,
            "may_have_been_sent_before": cursor.sent.0,
            "oldest": oldest(reader, number, &cursor).await?,
        },
        "packet_identifiers_from_client": inbound,
        "released": released,
        "will": will.as_ref().map(will_of),
    })))
}

fn prefix_of(kind: Kind, number: SessionNumber) -> Vec<u8> {
    [kind.prefix(), &number.0.to_be_bytes()].concat()
}

async fn oldest(reader: &Reader, number: SessionNumber, cursor: &Cursor) -> Result<Vec<Value>, ReadError> {
    let mut shown = Vec::new();
    let mut rows = reader.rows_of(&prefix_of(Kind::Queue, number)).await?;
    while shown.len() < MESSAGES_SHOWN
        && let Some(row) = rows.next().await?
    {
        let chunk = Chunk::decode(&row.value).map_err(|error| ReadError { shard: reader.shard(), source: Box::new(error) })?;
        for entry in chunk.entries.iter().filter(|entry| entry.sequence >= cursor.head) {
            let Content::Here(message) = &entry.content else { continue };
            if shown.len() < MESSAGES_SHOWN {
                let bytes = message.payload().len();
                shown.push(
                    json!({ "sequence": entry.sequence.0, "topic": message.topic(), "qos": entry.qos as u8, "payload_bytes": bytes }),
                );
            }
        }
    }
    Ok(shown)
}

pub(crate) fn subscription(filter: &str, subscription: &Subscription) -> Value {
    let options = subscription.options;
    json!({
        "filter": filter,
        "qos": options.qos as u8,
        "no_local": options.no_local,
        "retain_as_published": options.retain_as_published,
        "retain_handling": options.retain_handling as u8,
        "identifier": subscription.identifier,
    })
}

pub(crate) fn will_of(will: &Will) -> Value {
    let mut value = json!({
        "topic": will.topic,
        "qos": will.qos as u8,
        "retain": will.retain,
        "delay_interval": will.delay_interval,
        "message_expiry_interval": will.message_expiry_interval,
        "owner": will.owner,
        "due_at": will.due_at.map(json::time),
    });
    let (name, payload) = json::bytes("payload", &will.payload);
    value[name] = payload;
    value
}
