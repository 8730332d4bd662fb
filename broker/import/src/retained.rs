//! Retained messages as a running broker sends them, one after another, into a store.
//!
//! Each topic ends with what came last: a message that comes again takes the place of the one before, and an empty payload clears it. What the bucket
//! had before stays, unless it is to give way. Beside the store itself, which holds every retained message in memory, a topic costs about 40 bytes here.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bucketmq_packet::QoS;
use bucketmq_packet::message::Message;
use bucketmq_packet::topic::check_name;
use bucketmq_storage::{DurableStore, RetainedLimit, Store};

use crate::outstanding::{Outstanding, RECORD_BYTES};
use crate::report::{Reason, Report};
use crate::write::WriteError;

/// Bytes that wait in memory for the bucket. Much, because a broker whose Client does not read may drop what it has for it: Mosquitto drops QoS 0
/// behind 1,000 packets.
const UNWRITTEN_BYTES: usize = 128 * 1024 * 1024;

/// A retained message that is being brought in.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// Topic Name.
    pub topic: &'a str,
    /// Empty: the topic has no retained message any more.
    pub payload: &'a [u8],
    /// Those a Server forwards unaltered, encoded, without their length.
    pub properties: &'a [u8],
    /// Quality of Service.
    pub qos: QoS,
    /// Seconds it may still live.
    pub expiry_interval: Option<u32>,
}

/// Brings retained messages into a store that nobody else is using, or only counts them.
pub struct RetainedImport<'a> {
    /// None: nothing is written.
    store: Option<&'a DurableStore>,
    replace: bool,
    topics: HashMap<ByTopic, Fate>,
    outstanding: Outstanding,
    report: Report,
}

/// What became of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Written,
    Cleared,
    /// The bucket had one, which stays.
    Stays,
}

impl<'a> RetainedImport<'a> {
    /// Into `store`; None: for their number.
    pub fn new(store: Option<&'a DurableStore>, replace: bool) -> Self {
        Self { store, replace, topics: HashMap::new(), outstanding: Outstanding::new(UNWRITTEN_BYTES), report: Report::default() }
    }

    /// What was done so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Topics that came, whatever became of them.
    pub fn topics(&self) -> u64 {
        self.topics.len() as u64
    }

    /// Takes what has come at `now`, milliseconds since 1970. True: nothing came for its topic before.
    pub async fn take(&mut self, taken: Taken<'_>, now: u64) -> Result<bool, WriteError> {
        let topic = taken.topic;
        if check_name(topic).is_err() || topic.starts_with("$SYS/") {
            self.report.skip(Reason::RetainedInvalid, topic);
            return Ok(false);
        }
        let before = self.topics.get(topic).copied();
        if before == Some(Fate::Stays) {
            return Ok(false);
        }
        if before.is_none()
            && let Some(stays) = self.in_bucket(topic).await?
        {
            self.report.skip(Reason::RetainedInBucket, topic);
            self.topics.insert(ByTopic(stays), Fate::Stays);
            return Ok(true);
        }
        let expires_at = taken.expiry_interval.map(|seconds| now + u64::from(seconds) * 1000);
        // Without a store only the topic is remembered.
        let content = if self.store.is_some() { (taken.payload, taken.properties) } else { (&[][..], &[][..]) };
        let message = Message::new(topic, content.0, content.1, taken.qos, true, expires_at);
        let has_expired = !taken.payload.is_empty() && message.is_expired(now);
        if has_expired {
            self.report.skip(Reason::RetainedExpired, topic);
        }
        let fate = if has_expired || taken.payload.is_empty() { Fate::Cleared } else { Fate::Written };
        self.put(message, fate, before).await?;
        Ok(before.is_none())
    }

    /// Waits until all of it is durable.
    pub async fn finish(mut self) -> Result<Report, WriteError> {
        if let Some(store) = self.store {
            self.outstanding.settle(store).await?;
        }
        Ok(self.report)
    }

    async fn in_bucket(&self, topic: &str) -> Result<Option<Arc<Message>>, WriteError> {
        let Some(store) = self.store.filter(|_| !self.replace) else { return Ok(None) };
        // A Topic Name is a filter that matches itself.
        Ok(store.retained_page(topic, None, 1, usize::MAX).await?.messages.pop())
    }

    async fn put(&mut self, message: Arc<Message>, fate: Fate, before: Option<Fate>) -> Result<(), WriteError> {
        if before == Some(Fate::Written) {
            self.report.retained -= 1;
        }
        if fate == Fate::Written {
            self.report.retained += 1;
        }
        // Inserting alone would keep the message before in memory.
        self.topics.remove(message.topic());
        self.topics.insert(ByTopic(message.clone()), fate);
        let Some(store) = self.store else { return Ok(()) };
        let (shard, bytes) = (store.shards().of(message.topic()), message.len() + RECORD_BYTES);
        let position = match fate {
            Fate::Written => store.set_retained(message, RetainedLimit::NONE)?,
            Fate::Cleared | Fate::Stays => store.remove_retained(message.topic()),
        };
        Ok(self.outstanding.wrote(store, shard, position, bytes).await?)
    }
}

/// A message that is found by its topic; the store has the same one.
#[derive(Debug)]
struct ByTopic(Arc<Message>);

impl Borrow<str> for ByTopic {
    fn borrow(&self) -> &str {
        self.0.topic()
    }
}

impl Hash for ByTopic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.topic().hash(state);
    }
}

impl PartialEq for ByTopic {
    fn eq(&self, other: &Self) -> bool {
        self.0.topic() == other.0.topic()
    }
}

impl Eq for ByTopic {}

#[cfg(test)]
mod tests {
    use bucketmq_storage::Shards;
    use bucketmq_storage::durable::Place;
    use object_store::memory::InMemory;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn place() -> Place {
        Place { bucket: Arc::new(InMemory::new()), prefix: "test".into(), shards: Shards::new(2).expect("a power of two") }
    }

    fn taken<'a>(topic: &'a str, payload: &'a str, expiry_interval: Option<u32>) -> Taken<'a> {
        Taken { topic, payload: payload.as_bytes(), properties: b"\x01\x01", qos: QoS::AtLeastOnce, expiry_interval }
    }

    /// Imports `messages`; which of them were the first of their topic, and the report.
    async fn import(store: Option<&DurableStore>, replace: bool, messages: &[Taken<'_>]) -> (Vec<bool>, Report) {
        let mut import = RetainedImport::new(store, replace);
        let mut first = Vec::new();
        for message in messages {
            first.push(import.take(*message, NOW).await.expect("taken"));
        }
        (first, import.finish().await.expect("durable"))
    }

    /// What a broker finds there after a crash.
    async fn found(place: &Place) -> Vec<(String, String)> {
        let store = DurableStore::open(place).await.expect("opens");
        let page = store.retained_page("#", None, usize::MAX, usize::MAX).await.expect("in memory");
        let text = |message: &Arc<Message>| String::from_utf8_lossy(message.payload()).into_owned();
        let mut found: Vec<_> = page.messages.iter().map(|message| (message.topic().to_owned(), text(message))).collect();
        found.sort();
        found
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned())).collect()
    }

    #[tokio::test]
    async fn each_topic_ends_with_what_came_last() {
        let place = place();
        let store = DurableStore::open(&place).await.expect("opens");
        let messages = [
            taken("a", "1", None),
            taken("b", "1", Some(60)),
            taken("a", "2", None),
            taken("c", "1", None),
            taken("c", "", None),
            taken("b", "", None),
            taken("b", "3", None),
            taken("never", "", None),
        ];
        let (first, report) = import(Some(&store), false, &messages).await;
        assert_eq!(first, [true, true, false, true, false, false, false, true]);
        assert_eq!((report.retained, report.skipped.len()), (2, 0));
        std::mem::forget(store);
        assert_eq!(found(&place).await, pairs(&[("a", "2"), ("b", "3")]));
    }

    #[tokio::test]
    async fn what_the_bucket_had_before_stays_unless_it_is_to_give_way() {
        let place = place();
        let store = DurableStore::open(&place).await.expect("opens");
        import(Some(&store), false, &[taken("a", "old", None), taken("b", "old", None)]).await;
        let (_, report) = import(Some(&store), false, &[taken("a", "new", None), taken("a", "newer", None), taken("b", "", None)]).await;
        assert_eq!((report.retained, report.skipped(Reason::RetainedInBucket)), (0, 2));
        std::mem::forget(store);
        assert_eq!(found(&place).await, pairs(&[("a", "old"), ("b", "old")]));
        let store = DurableStore::open(&place).await.expect("opens");
        let (_, report) = import(Some(&store), true, &[taken("a", "new", None), taken("b", "", None)]).await;
        assert_eq!((report.retained, report.skipped.len()), (1, 0));
        std::mem::forget(store);
        assert_eq!(found(&place).await, pairs(&[("a", "new")]));
    }

    #[tokio::test]
    async fn what_expired_and_figures_of_the_broker_are_left_out_by_name() {
        let messages = [taken("a", "1", Some(0)), taken("$SYS/uptime", "1", None), taken("$other", "1", None), taken("b", "1", Some(1))];
        let (first, report) = import(None, false, &messages).await;
        assert_eq!(first, [true, false, true, true]);
        assert_eq!(report.retained, 2);
        assert_eq!((report.skipped(Reason::RetainedExpired), report.skipped(Reason::RetainedInvalid)), (1, 1));
    }
}
