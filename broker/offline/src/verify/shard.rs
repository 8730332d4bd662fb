//! The records of one shard, one after the other: what each says, and what it says about the others.

use std::collections::{HashMap, HashSet};

use bucketmq_packet::topic::{check_filter, check_name};
use bucketmq_storage::record::applied::Applied;
use bucketmq_storage::record::cursor::Cursor;
use bucketmq_storage::record::estate::Estate;
use bucketmq_storage::record::format::Format;
use bucketmq_storage::record::group::Group;
use bucketmq_storage::record::growth::Growth;
use bucketmq_storage::record::handshake::Handshake;
use bucketmq_storage::record::inbound::Inbound;
use bucketmq_storage::record::outbox;
use bucketmq_storage::record::payload::{Payload, Released};
use bucketmq_storage::record::queue::{Chunk, Content};
use bucketmq_storage::record::retained::Retained;
use bucketmq_storage::record::session::{Session, SessionKey};
use bucketmq_storage::record::subscription::Subscription;
use bucketmq_storage::record::will::Will;
use bucketmq_storage::record::{DecodeError, Kind, Record};
use bucketmq_storage::{SessionNumber, ShardId, Shards};

use super::{Finding, RecordName, Remedy, Report};

/// What is referred to comes before what refers to it.
pub(super) const ORDER: [Kind; 16] = [
    Kind::Format,
    Kind::Session,
    Kind::Group,
    Kind::Estate,
    Kind::Payload,
    Kind::Released,
    Kind::Cursor,
    Kind::Growth,
    Kind::Queue,
    Kind::Subscription,
    Kind::Inbound,
    Kind::Handshake,
    Kind::Will,
    Kind::Retained,
    Kind::Outbox,
    Kind::Applied,
];

/// What a queue has, counted.
#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    messages: u64,
    bytes: u64,
    next: u64,
}

/// A shard that is being looked at.
pub(super) struct Check<'a> {
    shard: ShardId,
    shards: Shards,
    report: &'a mut Report,
    sessions: HashSet<SessionKey>,
    /// Queues that somebody has.
    numbers: HashSet<SessionNumber>,
    cursors: HashMap<SessionNumber, Cursor>,
    /// The queue that is being read.
    queue: Option<(SessionNumber, Counted)>,
    payloads: HashSet<u64>,
    formats: u32,
    /// The largest epoch seen of each publisher's shard.
    epochs: HashMap<ShardId, u64>,
}

impl<'a> Check<'a> {
    pub(super) fn new(shard: ShardId, shards: Shards, report: &'a mut Report) -> Self {
        let (sessions, numbers, cursors) = (HashSet::new(), HashSet::new(), HashMap::new());
        let (payloads, epochs) = (HashSet::new(), HashMap::new());
        Self { shard, shards, report, sessions, numbers, cursors, queue: None, payloads, formats: 0, epochs }
    }

    /// The largest epoch that is recorded of each publisher's shard.
    pub(super) fn finish(self) -> Vec<(ShardId, u64)> {
        self.epochs.into_iter().collect()
    }

    fn fault(&mut self, key: &[u8], problem: impl Into<String>, remedy: Remedy) {
        let record = Some(RecordName::of(key));
        self.report.found(Finding { record, problem: problem.into(), remedy, ..Finding::of(self.shard) });
    }

    /// A record that is of no use where it stands.
    fn aside(&mut self, key: &[u8], problem: impl Into<String>) {
        self.fault(key, problem, Remedy::SetAside { key: key.to_vec() });
    }

    /// Looks at a row.
    pub(super) fn row(&mut self, kind: Kind, key: &[u8], value: &[u8]) {
        let looked = match kind {
            Kind::Format => self.decoded::<Format>(key, value).map(|((), format)| self.format(key, &format)),
            Kind::Session => self.decoded::<Session>(key, value).map(|(id, session)| self.session(key, id, &session)),
            Kind::Group => self.decoded::<Group>(key, value).map(|(filter, group)| self.group(key, &filter, group.number)),
            // The queue of a Session that is over, which others have yet to get from.
            Kind::Estate => self.decoded::<Estate>(key, value).map(|(number, _)| _ = self.numbers.insert(number)),
            Kind::Payload => self.decoded::<Payload>(key, value).map(|(number, _)| _ = self.payloads.insert(number)),
            Kind::Released => self.decoded::<Released>(key, value).map(|(number, _)| {
                if !self.payloads.contains(&number) {
                    self.aside(key, "counts the queues of a payload that is not there");
                }
            }),
            Kind::Cursor => self.decoded::<Cursor>(key, value).map(|(number, cursor)| self.cursor(key, number, cursor)),
            Kind::Queue => self.decoded::<Chunk>(key, value).map(|((number, last), chunk)| self.chunk(key, number, last.0, &chunk)),
            Kind::Subscription => self.decoded::<Subscription>(key, value).map(|((session, filter), subscription)| {
                self.subscription(key, session, &filter, &subscription);
            }),
            Kind::Growth => self.decoded::<Growth>(key, value).map(|(_, growth)| self.growth(&growth)),
            Kind::Inbound => self.decoded::<Inbound>(key, value).map(|(number, _)| self.belongs(number)),
            Kind::Handshake => self.decoded::<Handshake>(key, value).map(|((number, _), _)| self.belongs(number)),
            Kind::Will => self.decoded::<Will>(key, value).map(|(_, will)| {
                // Without a Session it is the Will of one that ends with its connection.
                if check_name(&will.topic).is_err() {
                    self.aside(key, format!("{:?} is no Topic Name", will.topic));
                }
            }),
            Kind::Retained => self.decoded::<Retained>(key, value).map(|(topic, retained)| self.retained(key, &topic, &retained)),
            Kind::Outbox => self.decoded::<outbox::Chunk>(key, value).map(|(number, chunk)| {
                self.epoch(self.shard, number.epoch);
                let wrong = chunk.rows.iter().find(|(_, row)| check_name(row.message.topic()).is_err());
                if chunk.rows.first().is_none_or(|(first, _)| *first != number) {
                    self.aside(key, "begins with another message than its key says");
                } else if let Some((_, row)) = wrong {
                    self.aside(key, format!("{:?} is no Topic Name", row.message.topic()));
                }
            }),
            Kind::Applied => self.decoded::<Applied>(key, value).map(|(publisher, applied)| {
                if publisher.0 < self.shards.count() {
                    self.epoch(publisher, applied.number.epoch);
                } else {
                    self.aside(key, format!("there is no shard {publisher}"));
                }
            }),
        };
        if let Err(error) = looked {
            // A later release may know better: what it has written is not damaged.
            match error.fault {
                bucketmq_storage::record::Fault::Version { .. } => self.fault(key, error.to_string(), Remedy::None),
                _ => self.aside(key, error.to_string()),
            }
        }
    }

    #[expect(clippy::unused_self, reason = "reads like its neighbours")]
    fn decoded<R: Record>(&self, key: &[u8], value: &[u8]) -> Result<(R::Key, R), DecodeError> {
        Ok((R::decode_key(key)?, R::decode(value)?))
    }

    /// All rows of `kind` were looked at.
    pub(super) fn end_of(&mut self, kind: Kind) {
        match kind {
            Kind::Format if self.formats == 0 => {
                let problem = "it has no format record, so a broker takes it for new".to_owned();
                self.report.found(Finding { problem, ..Finding::of(self.shard) });
            }
            Kind::Queue => {
                self.end_of_queue();
                let without: Vec<_> = self.cursors.drain().filter(|(_, cursor)| cursor.messages > 0).collect();
                for (number, cursor) in without {
                    self.compare(number, cursor, Counted::default());
                }
            }
            _ => {}
        }
    }

    fn format(&mut self, key: &[u8], format: &Format) {
        self.formats += 1;
        if format.version != Format::CURRENT {
            let problem = format!("format {}, and this release knows format {}", format.version, Format::CURRENT);
            self.fault(key, problem, Remedy::None);
        }
        if format.shard != self.shard || format.shards != self.shards {
            let problem = format!("it says that it is shard {} of {}", format.shard, format.shards.count());
            self.fault(key, problem, Remedy::None);
        }
    }

    fn session(&mut self, key: &[u8], id: SessionKey, session: &Session) {
        if SessionKey::of(&session.client_id) != id || self.shards.of(&session.client_id) != self.shard {
            return self.aside(key, format!("{:?} does not belong here", session.client_id));
        }
        if session.number.shard() != self.shard {
            return self.aside(key, format!("the queue of {:?} is in shard {}", session.client_id, session.number.shard()));
        }
        self.sessions.insert(id);
        if !self.numbers.insert(session.number) {
            self.fault(key, format!("the queue of {:?} is also another one's", session.client_id), Remedy::None);
        }
    }

    fn group(&mut self, key: &[u8], filter: &str, number: SessionNumber) {
        if check_filter(filter).is_ok_and(|filter| filter.share_name.is_some()) {
            self.numbers.insert(number);
        } else {
            self.aside(key, format!("{filter:?} is no Shared Subscription"));
        }
    }

    fn cursor(&mut self, key: &[u8], number: SessionNumber, cursor: Cursor) {
        if !self.numbers.contains(&number) {
            return self.report.left_over += 1;
        }
        if cursor.head > cursor.next {
            self.fault(key, format!("the queue begins at {} and ends before {}", cursor.head.0, cursor.next.0), Remedy::None);
        }
        self.cursors.insert(number, cursor);
    }

    /// Queues that are gone may have grown before.
    fn growth(&mut self, growth: &Growth) {
        for grown in growth.queues.iter().filter(|grown| self.numbers.contains(&grown.session)) {
            grown.bring(&mut self.cursors);
        }
    }

    fn belongs(&mut self, number: SessionNumber) {
        if !self.numbers.contains(&number) {
            self.report.left_over += 1;
        }
    }

    fn chunk(&mut self, key: &[u8], number: SessionNumber, last: u64, chunk: &Chunk) {
        if !self.numbers.contains(&number) {
            return self.report.left_over += 1;
        }
        if self.queue.is_none_or(|(current, _)| current != number) {
            self.end_of_queue();
            self.queue = Some((number, Counted::default()));
        }
        let missing = chunk.entries.iter().find_map(|entry| match entry.content {
            Content::Elsewhere(payload) if !self.payloads.contains(&payload) => Some(payload),
            _ => None,
        });
        if let Some(payload) = missing {
            self.aside(key, format!("names the payload {payload}, which is not there"));
        }
        let end = chunk.entries.last().map_or(0, |entry| entry.sequence.0);
        if end > last {
            return self.aside(key, format!("goes on to {end}, and its key says {last}"));
        }
        let head = self.cursors.get(&number).map_or(0, |cursor| cursor.head.0);
        let Some((_, counted)) = &mut self.queue else { return };
        for entry in chunk.entries.iter().filter(|entry| entry.sequence.0 >= head) {
            counted.messages += 1;
            counted.bytes += u64::from(entry.bytes());
        }
        counted.next = end + 1;
    }

    fn end_of_queue(&mut self) {
        let Some((number, counted)) = self.queue.take() else { return };
        let cursor = self.cursors.remove(&number).unwrap_or_default();
        self.compare(number, cursor, counted);
    }

    fn compare(&mut self, number: SessionNumber, cursor: Cursor, counted: Counted) {
        let right = Cursor {
            messages: counted.messages,
            bytes: counted.bytes,
            next: cursor.next.max(bucketmq_storage::Sequence(counted.next)),
            ..cursor
        };
        if right != cursor {
            let key = Cursor::key(&number);
            let problem = format!(
                "says {} messages and {} bytes up to {}, and there are {} and {} up to {}",
                cursor.messages, cursor.bytes, cursor.next.0, right.messages, right.bytes, right.next.0
            );
            self.fault(&key.clone(), problem, Remedy::WriteCursor { key, cursor: right });
        }
    }

    fn subscription(&mut self, key: &[u8], session: SessionKey, filter: &str, subscription: &Subscription) {
        if !self.sessions.contains(&session) {
            return self.aside(key, format!("a Subscription to {filter:?} of a Session that is not there"));
        }
        match check_filter(filter) {
            Err(_) => self.aside(key, format!("{filter:?} is no Topic Filter")),
            Ok(parsed) if parsed.share_name.is_some() != (subscription.share > 0) => {
                self.fault(key, format!("{filter:?} is shared or is not, and its record says otherwise"), Remedy::None);
            }
            Ok(_) => {}
        }
    }

    fn retained(&mut self, key: &[u8], topic: &str, retained: &Retained) {
        if retained.message.topic() != topic || self.shards.of(topic) != self.shard {
            self.aside(key, format!("the retained message of {:?} does not belong here", retained.message.topic()));
        } else if check_name(topic).is_err() {
            self.aside(key, format!("{topic:?} is no Topic Name"));
        }
    }

    fn epoch(&mut self, publisher: ShardId, epoch: u64) {
        let known = self.epochs.entry(publisher).or_default();
        *known = (*known).max(epoch);
    }
}
