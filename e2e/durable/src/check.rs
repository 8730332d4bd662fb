//! What was promised against what came. Pure.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::publisher::Published;
use crate::subscriber::Received;

/// Broken promises told one by one; the rest is counted.
const TOLD_MAX: usize = 20;

/// How the promise was kept.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// Messages that were acknowledged to their publishers.
    pub acknowledged: u64,
    /// Deliveries of those that were owed: to each subscriber each.
    pub owed: u64,
    /// Deliveries owed that never came.
    pub lost: u64,
    /// QoS 2 messages that came more than once.
    pub duplicated: u64,
    /// Messages that came before an earlier one of the same publisher.
    pub reordered: u64,
    /// Sessions that were not there.
    pub sessions_lost: u64,
    /// Retained messages older than the last acknowledged one.
    pub retained_stale: u64,
    /// Handshakes that did not come to an end.
    pub unfinished: u64,
    /// QoS 1 messages that came more than once, as they may.
    pub repeated_qos1: u64,
    /// The first broken promises.
    pub told: Vec<String>,
}

impl Verdict {
    /// True when every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.sessions_lost + self.retained_stale + self.unfinished == 0
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.told.len() < TOLD_MAX {
            self.told.push(what());
        }
    }
}

/// Looks at everything. `retained`: what a new Subscription got for each publisher of retained messages (None: nothing).
pub fn verdict(published: &[Published], received: &[Received], retained: &[(u32, Option<u32>)]) -> Verdict {
    let mut verdict = Verdict::default();
    for one in published {
        verdict.acknowledged += one.acknowledged.len() as u64;
        verdict.sessions_lost += u64::from(one.sessions_lost);
        verdict.unfinished += one.unfinished as u64;
        if one.sessions_lost + one.unfinished as u32 > 0 {
            verdict.tell(|| format!("publisher {}: {} Sessions lost, {} unfinished", one.publisher, one.sessions_lost, one.unfinished));
        }
    }
    for subscriber in received {
        verdict.sessions_lost += u64::from(subscriber.sessions_lost);
        if subscriber.sessions_lost > 0 {
            verdict.tell(|| format!("subscriber {}: {} Sessions lost", subscriber.subscriber, subscriber.sessions_lost));
        }
        let mut by_publisher: HashMap<u32, Vec<u32>> = HashMap::new();
        for (publisher, number) in &subscriber.messages {
            by_publisher.entry(*publisher).or_default().push(*number);
        }
        for one in published.iter().filter(|one| retained.iter().all(|(publisher, _)| *publisher != one.publisher)) {
            let numbers = by_publisher.remove(&one.publisher).unwrap_or_default();
            look_at(&mut verdict, one, subscriber.subscriber, &numbers);
        }
    }
    for (publisher, value) in retained {
        let last = published.iter().find(|one| one.publisher == *publisher).and_then(|one| one.acknowledged.iter().max());
        if last.is_some_and(|last| value.is_none_or(|value| value < *last)) {
            verdict.retained_stale += 1;
            verdict.tell(|| format!("retained message of publisher {publisher}: {value:?}, acknowledged up to {last:?}"));
        }
    }
    verdict
}

fn look_at(verdict: &mut Verdict, one: &Published, subscriber: u32, numbers: &[u32]) {
    let mut seen = HashSet::new();
    let mut newest = None;
    for number in numbers {
        if !seen.insert(*number) {
            if one.qos == 2 {
                verdict.duplicated += 1;
                verdict.tell(|| format!("subscriber {subscriber} got {number} of publisher {} at QoS 2 twice", one.publisher));
            } else {
                verdict.repeated_qos1 += 1;
            }
            continue;
        }
        if newest.is_some_and(|newest| *number < newest) {
            verdict.reordered += 1;
            verdict.tell(|| format!("subscriber {subscriber} got {number} of publisher {} behind {newest:?}", one.publisher));
        }
        newest = newest.max(Some(*number));
    }
    verdict.owed += one.acknowledged.len() as u64;
    for number in one.acknowledged.iter().filter(|number| !seen.contains(number)) {
        verdict.lost += 1;
        verdict.tell(|| format!("subscriber {subscriber} never got {number} of publisher {} at QoS {}", one.publisher, one.qos));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(qos: u8, acknowledged: &[u32]) -> Published {
        Published { publisher: 1, qos, acknowledged: acknowledged.to_vec(), ..Published::default() }
    }

    fn subscriber(numbers: &[u32]) -> Received {
        Received { messages: numbers.iter().map(|number| (1, *number)).collect(), ..Received::default() }
    }

    #[test]
    fn what_keeps_the_promise_is_clean() {
        let clean = verdict(&[publisher(2, &[0, 1, 3])], &[subscriber(&[0, 1, 2, 3])], &[]);
        assert!(clean.is_clean(), "{clean:?}");
        assert_eq!((clean.acknowledged, clean.owed), (3, 3));
        let repeated = verdict(&[publisher(1, &[0, 1])], &[subscriber(&[0, 1, 0, 1])], &[(9, None)]);
        assert!(repeated.is_clean() && repeated.repeated_qos1 == 2, "{repeated:?}");
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        assert_eq!(verdict(&[publisher(1, &[0, 1])], &[subscriber(&[0])], &[]).lost, 1);
        assert_eq!(verdict(&[publisher(2, &[0])], &[subscriber(&[0, 0])], &[]).duplicated, 1);
        assert_eq!(verdict(&[publisher(1, &[0, 1])], &[subscriber(&[1, 0])], &[]).reordered, 1);
        assert_eq!(verdict(&[publisher(1, &[5])], &[], &[(1, Some(4))]).retained_stale, 1);
        assert_eq!(verdict(&[publisher(1, &[5])], &[], &[(1, None)]).retained_stale, 1);
        assert_eq!(verdict(&[Published { sessions_lost: 1, ..publisher(1, &[]) }], &[], &[]).sessions_lost, 1);
        assert_eq!(verdict(&[Published { unfinished: 2, ..publisher(1, &[]) }], &[], &[]).unfinished, 2);
        assert_eq!(verdict(&[], &[Received { sessions_lost: 1, ..subscriber(&[]) }], &[]).sessions_lost, 1);
    }
}
