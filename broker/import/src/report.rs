//! What an import did, and what it did not do, in numbers and with the first names of each.

use std::collections::BTreeMap;

use serde::Serialize;

/// Names kept for each reason.
const EXAMPLES_MAX: usize = 20;

/// Outcome of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Sessions written.
    pub sessions: u64,
    /// Sessions that took the place of one in the bucket.
    pub sessions_replaced: u64,
    /// Sessions without an owner among them: only a Client without a user name can resume those.
    pub sessions_without_owner: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Messages that wait for a Client.
    pub messages: u64,
    /// Messages among them that were sent and not yet acknowledged.
    pub messages_in_flight: u64,
    /// QoS 2 messages taken from a Client that has not sent PUBREL yet; they are delivered when the broker starts.
    pub incoming: u64,
    /// Retained messages.
    pub retained: u64,
    /// What was left out.
    pub skipped: BTreeMap<Reason, Count>,
    /// What was brought along and deserves a look.
    pub notes: BTreeMap<Reason, Count>,
}

/// How often something was so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// So often.
    pub count: u64,
    /// Client Identifiers, topics, filters or places in the file: the first of them.
    pub examples: Vec<String>,
}

/// Why something was left out, or deserves a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A Session that was over before the import.
    SessionExpired,
    /// A Session with expiry interval 0: it ended with its connection, or it is a bridge of Mosquitto's.
    SessionNotPersistent,
    /// The bucket has a Session of this Client Identifier.
    SessionInBucket,
    /// A message or Subscription of a Client the file does not know.
    ClientUnknown,
    /// A Subscription to what is no Topic Filter.
    SubscriptionInvalid,
    /// A queued message that has expired.
    MessageExpired,
    /// A queued message whose content is not in the file.
    MessageMissing,
    /// A queued message whose topic is no Topic Name.
    MessageInvalid,
    /// A retained message that has expired.
    RetainedExpired,
    /// A retained message whose content is not in the file.
    RetainedMissing,
    /// A retained message whose topic is no Topic Name, or one of the broker's own figures.
    RetainedInvalid,
    /// The bucket has a retained message of this topic.
    RetainedInBucket,
    /// A part of the file that makes no sense, by its place.
    Unreadable,
    /// A note: a message in flight goes out with another Packet Identifier, so that the Client may take it for a new one.
    PacketIdentifierChanged,
    /// A note: Mosquitto wrote the user name of another Client here, or this Client's own. Nobody can tell.
    OwnerUncertain,
    /// A note: a Client Identifier as Mosquitto gives its bridges. If it is one, nobody will take its messages: end the Session.
    PerhapsBridge,
}

impl Report {
    pub(crate) fn skip(&mut self, reason: Reason, example: impl Into<String>) {
        Self::count(&mut self.skipped, reason, example.into());
    }

    pub(crate) fn note(&mut self, reason: Reason, example: impl Into<String>) {
        Self::count(&mut self.notes, reason, example.into());
    }

    /// How often something was left out for `reason`.
    pub fn skipped(&self, reason: Reason) -> u64 {
        self.skipped.get(&reason).map_or(0, |count| count.count)
    }

    /// How often `reason` was noted.
    pub fn noted(&self, reason: Reason) -> u64 {
        self.notes.get(&reason).map_or(0, |count| count.count)
    }

    fn count(counts: &mut BTreeMap<Reason, Count>, reason: Reason, example: String) {
        let count = counts.entry(reason).or_default();
        count.count += 1;
        if count.examples.len() < EXAMPLES_MAX && !count.examples.contains(&example) {
            count.examples.push(example);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_all_and_names_the_first() {
        let mut report = Report { sessions: 2, ..Report::default() };
        for number in 0..100 {
            report.skip(Reason::SessionExpired, format!("client-{number}"));
            report.skip(Reason::MessageExpired, "a");
        }
        assert_eq!((report.skipped(Reason::SessionExpired), report.noted(Reason::SessionExpired)), (100, 0));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["sessions"], 2);
        assert_eq!(json["skipped"]["session_expired"]["examples"].as_array().unwrap().len(), EXAMPLES_MAX);
        assert_eq!(json["skipped"]["message_expired"], serde_json::json!({ "count": 100, "examples": ["a"] }));
    }
}
