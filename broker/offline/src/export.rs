//! Everything as JSON lines, one for each record, for programs and people that know nothing of shards. `broker/docs/bucket-tools.md` has the schema.

use std::io::{self, Write};

use bucketmq_storage::offline::Reader;
use bucketmq_storage::record::cursor::Cursor;
use bucketmq_storage::record::estate::Estate;
use bucketmq_storage::record::group::Group;
use bucketmq_storage::record::handshake::Handshake;
use bucketmq_storage::record::inbound::Inbound;
use bucketmq_storage::record::outbox::{self, OutboxNumber, Row};
use bucketmq_storage::record::queue::{Chunk, Content};
use bucketmq_storage::record::retained::Retained;
use bucketmq_storage::record::session::{Presence, Session, SessionKey};
use bucketmq_storage::record::subscription::Subscription;
use bucketmq_storage::record::will::Will;
use bucketmq_storage::record::{DecodeError, Kind, Record};
use bucketmq_storage::{ReadError, SessionNumber};
use serde_json::{Value, json};
use std::collections::HashMap;
use thiserror::Error;

use crate::inspect::{cursors, subscription, will_of};
use crate::site::Site;
use crate::snapshot::Snapshot;
use crate::{Progress, json};

/// The version of the schema; every line carries the shard it came from.
pub const SCHEMA: u32 = 1;
/// Lines between two words about how far it is.
const PROGRESS_EVERY: u64 = 10_000;

/// The export is not whole.
#[derive(Debug, Error)]
pub enum ExportError {
    /// A shard.
    #[error(transparent)]
    Shard(#[from] ReadError),
    /// Where it is written to.
    #[error("it cannot be written")]
    Write(#[from] io::Error),
}

/// Writes everything in `site`, as it is now or as it was at `snapshot`, to `out`: how many lines.
pub async fn export(
    site: &Site,
    snapshot: Option<&Snapshot>,
    out: &mut (dyn Write + Send),
    progress: Progress<'_>,
) -> Result<u64, ExportError> {
    let head = json!({
        "kind": "export",
        "schema": SCHEMA,
        "release": env!("CARGO_PKG_VERSION"),
        "shards": site.place.shards.count(),
        "snapshot": snapshot.map(|snapshot| &snapshot.name),
    });
    writeln!(out, "{head}")?;
    let mut lines = 1;
    for shard in site.place.shards.all() {
        let reader = crate::clone::open(site, snapshot, shard).await?;
        let outcome = export_shard(&reader, out, &mut lines, progress).await;
        reader.close().await;
        outcome?;
    }
    out.flush()?;
    Ok(lines)
}

/// Names instead of numbers.
#[derive(Default)]
struct Names {
    clients: HashMap<SessionNumber, String>,
    sessions: HashMap<SessionKey, String>,
    cursors: HashMap<SessionNumber, Cursor>,
}

async fn export_shard(reader: &Reader, out: &mut (dyn Write + Send), lines: &mut u64, progress: Progress<'_>) -> Result<(), ExportError> {
    let shard = reader.shard();
    let mut names = Names { cursors: cursors(reader).await?, ..Names::default() };
    // Who is named comes before what belongs to it.
    const ORDER: [Kind; 10] = [
        Kind::Session,
        Kind::Group,
        Kind::Estate,
        Kind::Subscription,
        Kind::Will,
        Kind::Queue,
        Kind::Inbound,
        Kind::Handshake,
        Kind::Retained,
        Kind::Outbox,
    ];
    for kind in ORDER {
        if kind == Kind::Queue {
            for mut value in names.queues() {
                value["shard"] = shard.0.into();
                writeln!(out, "{value}")?;
                *lines += 1;
            }
        }
        let mut rows = reader.rows(kind).await?;
        while let Some(row) = rows.next().await? {
            let values = names.values(kind, &row.key, &row.value).map_err(|error| ReadError { shard, source: Box::new(error) })?;
            for mut value in values {
                value["kind"] = kind_name(kind).into();
                value["shard"] = shard.0.into();
                writeln!(out, "{value}")?;
                *lines += 1;
                if lines.is_multiple_of(PROGRESS_EVERY) {
                    progress(&format!("shard {shard}: {lines} lines in all"));
                }
            }
        }
    }
    Ok(())
}

fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Queue => "queued".into(),
        Kind::Group => "shared_queue".into(),
        Kind::Estate => "left_to_shares".into(),
        Kind::Inbound => "packet_identifier".into(),
        other => other.to_string(),
    }
}

impl Names {
    /// Whose queue: a Client, or a Shared Subscription.
    fn of(&self, number: SessionNumber) -> Value {
        self.clients.get(&number).map_or(Value::Null, |name| name.as_str().into())
    }

    fn values(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<Vec<Value>, DecodeError> {
        Ok(match kind {
            Kind::Session => {
                let (id, session) = (Session::decode_key(key)?, Session::decode(value)?);
                self.clients.insert(session.number, session.client_id.clone());
                self.sessions.insert(id, session.client_id.clone());
                let away_since = match session.presence {
                    Presence::Connected => None,
                    Presence::Away(since) => Some(json::time(since)),
                };
                let expiry = (session.expiry_interval != u32::MAX).then_some(session.expiry_interval);
                vec![json!({ "client_id": session.client_id, "owner": session.owner, "expiry_interval": expiry, "away_since": away_since })]
            }
            Kind::Group => {
                let (filter, group) = (Group::decode_key(key)?, Group::decode(value)?);
                self.clients.insert(group.number, filter.clone());
                vec![json!({ "filter": filter })]
            }
            Kind::Estate => {
                let (number, estate) = (Estate::decode_key(key)?, Estate::decode(value)?);
                let filters: Vec<&str> = estate.shares.iter().map(|(_, filter)| filter.as_str()).collect();
                self.clients.insert(number, filters.join(" "));
                vec![json!({ "filters": filters, "first": estate.from.0 })]
            }
            Kind::Subscription => {
                let ((session, filter), record) = (Subscription::decode_key(key)?, Subscription::decode(value)?);
                let mut value = subscription(&filter, &record);
                value["client_id"] = self.sessions.get(&session).map_or(Value::Null, |name| name.as_str().into());
                vec![value]
            }
            Kind::Will => {
                let (session, will) = (Will::decode_key(key)?, Will::decode(value)?);
                let mut value = will_of(&will);
                value["client_id"] = self.sessions.get(&session).map_or(Value::Null, |name| name.as_str().into());
                vec![value]
            }
            Kind::Queue => {
                let ((number, _), chunk) = (Chunk::decode_key(key)?, Chunk::decode(value)?);
                self.queued(number, &chunk)
            }
            Kind::Inbound => {
                let (number, inbound) = (Inbound::decode_key(key)?, Inbound::decode(value)?);
                let of = self.of(number);
                inbound.ids.iter().map(|id| json!({ "client_id": of, "packet_identifier": id.get() })).collect()
            }
            Kind::Handshake => {
                let (number, sequence) = Handshake::decode_key(key)?;
                let released = Handshake::decode(value)? == Handshake::Released;
                vec![json!({ "client_id": self.of(number), "sequence": sequence.0, "released": released })]
            }
            Kind::Retained => vec![json!({ "message": json::message(&Retained::decode(value)?.message) })],
            Kind::Outbox => {
                let line = |(number, row): &(OutboxNumber, Row)| {
                    json!({ "publisher": self.of(row.publisher), "epoch": number.epoch, "counter": number.counter,
                        "message": json::message(&row.message) })
                };
                outbox::Chunk::decode(value)?.rows.iter().map(line).collect()
            }
            // How a shard keeps its own books.
            Kind::Format | Kind::Payload | Kind::Released | Kind::Applied | Kind::Cursor | Kind::Growth => Vec::new(),
        })
    }

    /// Where the queues stand, of those that are named.
    fn queues(&self) -> Vec<Value> {
        let mut queues: Vec<_> = self.cursors.iter().filter(|(number, _)| self.clients.contains_key(number)).collect();
        queues.sort_unstable_by_key(|(number, _)| number.0);
        queues
            .into_iter()
            .map(|(number, cursor)| {
                json!({ "kind": "queue", "of": self.of(*number), "messages": cursor.messages, "bytes": cursor.bytes,
                    "first": cursor.head.0, "next": cursor.next.0, "may_have_been_sent_before": cursor.sent.0 })
            })
            .collect()
    }

    fn queued(&self, number: SessionNumber, chunk: &Chunk) -> Vec<Value> {
        let head = self.cursors.get(&number).copied().unwrap_or_default().head;
        let wanted = chunk.entries.iter().filter(|entry| entry.sequence >= head);
        wanted
            .map(|entry| {
                let message = match &entry.content {
                    Content::Here(message) => json::message(message),
                    Content::Elsewhere(payload) => json!({ "payload_number": payload }),
                };
                json!({ "of": self.of(number), "sequence": entry.sequence.0, "qos": entry.qos as u8, "retain": entry.retain,
                    "subscription_identifiers": entry.identifiers, "message": message })
            })
            .collect()
    }
}
