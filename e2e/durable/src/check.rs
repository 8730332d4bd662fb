//! What was promised against what happened. Pure: a history in, a verdict out.
//!
//! The promises: who was acknowledged a Subscription gets every message that was sent after that and acknowledged; at QoS 2 once; first arrivals
//! stand in the order in which they were sent; a retained topic holds what was last acknowledged or something later; a Session of which something was
//! acknowledged is there; a Will whose CONNECT rests in an acknowledgement comes when its connection ends without DISCONNECT; handshakes end.

mod explain;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bucketmq_packet::topic;

pub use verdict::{Counts, Promise, Told, Verdict};

use crate::history::{ClientNumber, Event, History, Kind, Message, Stream, What};

/// Broken promises of a kind told one by one; the rest is counted.
const TOLD_MAX: u64 = 5;

/// The end of a connection is seen at its two ends within this time, and delays are counted in seconds.
const EARLY: Duration = Duration::from_millis(1_200);

/// An arrival as far as it is judged.
struct Arrival {
    number: u32,
    dup: bool,
    at: Duration,
}

/// What is known of one message.
#[derive(Clone, Copy, Default)]
struct Fate {
    /// Place of the first PUBLISH in the history.
    sent: Option<usize>,
    acknowledged: bool,
    /// Of Wills.
    armed: Option<usize>,
    /// When its connection ended, and when it may come.
    due: Option<(Duration, Duration)>,
}

#[derive(Default)]
struct Gathered {
    fates: Vec<Vec<Fate>>,
    arrivals: HashMap<(ClientNumber, u32), Vec<Arrival>>,
    subscriptions: Vec<(usize, ClientNumber, Arc<str>, u8)>,
    /// What a new Subscription found, by stream.
    retained: HashMap<u32, (ClientNumber, Option<u32>)>,
}

struct Checker<'a> {
    history: &'a History,
    verdict: Verdict,
    with_history: bool,
}

/// Judges everything, the first broken promises with their history.
pub fn check(history: &History) -> Verdict {
    judge(history, true)
}

/// The same without telling, for looking again and again whether all has come.
pub fn count(history: &History) -> Verdict {
    judge(history, false)
}

fn judge(history: &History, with_history: bool) -> Verdict {
    let mut checker = Checker { history, verdict: Verdict::default(), with_history };
    let gathered = checker.gather();
    for (stream, number) in history.streams.iter().zip(0..) {
        checker.stream(&gathered, stream, number);
    }
    checker.verdict
}

impl Checker<'_> {
    fn broken(&mut self, promise: Promise, what: impl FnOnce(&Self) -> String, history: impl FnOnce(&History) -> Vec<String>) {
        let count = self.verdict.broken.entry(promise).or_default();
        *count += 1;
        if self.with_history && *count <= TOLD_MAX {
            let (what, history) = (what(self), history(self.history));
            self.verdict.told.push(Told { promise, what, history });
        }
    }

    /// One pass over the events; what stands by itself is judged on the way.
    fn gather(&mut self) -> Gathered {
        let history = self.history;
        let mut gathered = Gathered { fates: vec![Vec::new(); history.streams.len()], ..Gathered::default() };
        for (place, event) in history.events.iter().enumerate() {
            let counts = &mut self.verdict.counts;
            match &event.what {
                What::Connected { present, owed } => {
                    counts.connections += 1;
                    counts.sessions_kept += u64::from(*present && *owed);
                    if *owed && !present {
                        self.alone(event, Promise::SessionKept, "its Session is not there");
                    }
                }
                What::Subscribed { filter, qos } => gathered.subscriptions.push((place, event.client, filter.clone(), *qos)),
                What::Sent { message, dup, .. } => {
                    counts.sent_again += u64::from(*dup);
                    gathered.fate(*message).sent.get_or_insert(place);
                }
                What::Acknowledged(message) => {
                    counts.acknowledged += 1;
                    gathered.fate(*message).acknowledged = true;
                }
                What::Refused(..) => counts.refused += 1,
                What::Armed(message) => gathered.fate(*message).armed = Some(place),
                What::Due { message, delay } => {
                    gathered.fate(*message).due = Some((event.at, event.at + Duration::from_secs(u64::from(*delay))));
                }
                What::Arrived { message, dup, retain, .. } => {
                    counts.arrived += 1;
                    // What comes because somebody subscribes is not a delivery that was owed.
                    if !retain {
                        let arrival = Arrival { number: message.number, dup: *dup, at: event.at };
                        gathered.arrivals.entry((event.client, message.stream)).or_default().push(arrival);
                    }
                }
                What::RetainedFound { stream, number } => drop(gathered.retained.insert(*stream, (event.client, *number))),
                What::Unfinished(_) => self.alone(event, Promise::HandshakeEnded, "a handshake did not end"),
                What::Nonsense(what) => self.alone(event, Promise::Sense, what),
                What::Failed(what) => self.alone(event, Promise::BrokerThere, what),
                What::Gone(_) | What::Completed(_) | What::Repeated(_) | What::Done(_) => {}
            }
        }
        gathered
    }

    /// An event that breaks a promise by itself.
    fn alone(&mut self, event: &Event, promise: Promise, what: &str) {
        let message = event.what.message();
        let what = |checker: &Self| format!("{}: {what}", checker.client(event.client));
        self.broken(promise, what, |history| explain::around(history, event.at, event.client, message));
    }

    fn stream(&mut self, gathered: &Gathered, stream: &Stream, number: u32) {
        if matches!(stream.kind, Kind::Retained | Kind::Cleared) {
            self.retained(gathered, stream, number);
        }
        if !matches!(stream.kind, Kind::Transient | Kind::Cleared) {
            self.deliveries(gathered, stream, number);
        }
    }

    /// To everybody whose Subscriptions match.
    fn deliveries(&mut self, gathered: &Gathered, stream: &Stream, number: u32) {
        let mut subscribers: BTreeMap<ClientNumber, (usize, u8)> = BTreeMap::new();
        for (place, client, filter, qos) in &gathered.subscriptions {
            if topic::matches(filter, &stream.topic) {
                subscribers.entry(*client).or_insert((*place, *qos));
            }
        }
        for (client, (since, granted)) in subscribers {
            let arrivals = gathered.arrivals.get(&(client, number)).map_or(&[][..], Vec::as_slice);
            let times = self.arrivals(stream, number, (client, granted), arrivals);
            if stream.kind == Kind::Will {
                self.too_early(gathered, number, client, arrivals);
            }
            for (fate, at) in gathered.fates[number as usize].iter().zip(0..) {
                let is_will = stream.kind == Kind::Will;
                let (is_owed, promise) = match is_will {
                    true => (fate.due.is_some() && fate.armed.is_some_and(|armed| armed > since), Promise::WillFired),
                    false => (fate.acknowledged && fate.sent.is_some_and(|sent| sent > since), Promise::Delivered),
                };
                if !is_owed {
                    continue;
                }
                let counts = &mut self.verdict.counts;
                *(if is_will { &mut counts.wills_owed } else { &mut counts.owed }) += 1;
                if times.get(at as usize).is_none_or(|times| *times == 0) {
                    let message = Message { stream: number, number: at };
                    let what = |checker: &Self| format!("{} never got {}", checker.client(client), checker.name(message));
                    self.broken(promise, what, |history| explain::of(history, &[message], client));
                }
            }
        }
    }

    /// Looks at what one subscriber got of one stream; answers how often it got each message.
    fn arrivals(&mut self, stream: &Stream, number: u32, (client, granted): (ClientNumber, u8), arrivals: &[Arrival]) -> Vec<u32> {
        let mut times: Vec<u32> = Vec::new();
        let mut newest: Option<u32> = None;
        for arrival in arrivals {
            let at = arrival.number as usize;
            if times.len() <= at {
                times.resize(at + 1, 0);
            }
            times[at] += 1;
            let message = Message { stream: number, number: arrival.number };
            if times[at] > 1 {
                if stream.qos == 2 && granted == 2 {
                    let count = times[at];
                    let what = |checker: &Self| format!("{} got {} {count} times", checker.client(client), checker.name(message));
                    self.broken(Promise::Once, what, |history| explain::of(history, &[message], client));
                } else {
                    self.verdict.counts.repeated_qos1 += 1;
                    self.verdict.counts.repeated_without_dup += u64::from(!arrival.dup);
                }
                continue;
            }
            // Each Will is a publication of its own.
            if stream.kind != Kind::Will
                && let Some(newest) = newest.filter(|newest| arrival.number < *newest)
            {
                let what = |checker: &Self| format!("{} got {} behind number {newest}", checker.client(client), checker.name(message));
                let messages = [message, Message { stream: number, number: newest }];
                self.broken(Promise::InOrder, what, |history| explain::of(history, &messages, client));
            }
            newest = newest.max(Some(arrival.number));
        }
        times
    }

    /// Wills that did not wait. What came before its Client saw the end of its connection says nothing: the broker may have seen it sooner.
    fn too_early(&mut self, gathered: &Gathered, number: u32, client: ClientNumber, arrivals: &[Arrival]) {
        for arrival in arrivals {
            let due = gathered.fates[number as usize].get(arrival.number as usize).and_then(|fate| fate.due);
            if due.is_some_and(|(ended, due)| arrival.at >= ended && arrival.at + EARLY < due) {
                let message = Message { stream: number, number: arrival.number };
                let what = |checker: &Self| format!("{} got {} too early", checker.client(client), checker.name(message));
                self.broken(Promise::WillFired, what, |history| explain::of(history, &[message], client));
            }
        }
    }

    /// What a new Subscription found, if one looked.
    fn retained(&mut self, gathered: &Gathered, stream: &Stream, number: u32) {
        let fates = &gathered.fates[number as usize];
        let Some((client, found)) = gathered.retained.get(&number).copied() else { return };
        let Some((_, last)) = fates.iter().zip(0..).filter(|(fate, _)| fate.acknowledged).last() else { return };
        let is_sent = |number: u32| fates.get(number as usize).is_some_and(|fate| fate.sent.is_some());
        let is_fresh = match found {
            Some(found) => found >= last && is_sent(found) && !stream.clears(found),
            None => (last..).take_while(|number| is_sent(*number)).any(|number| stream.clears(number)),
        };
        if !is_fresh {
            let message = Message { stream: number, number: last };
            let found = found.map_or("nothing".to_owned(), |found| format!("number {found}"));
            let what = |checker: &Self| format!("the topic retains {found}; the last acknowledged is {}", checker.name(message));
            self.broken(Promise::RetainedFresh, what, |history| explain::of(history, &[message], client));
        }
    }

    fn client(&self, number: ClientNumber) -> &str {
        &self.history.clients[usize::from(number)]
    }

    fn name(&self, message: Message) -> String {
        let stream = &self.history.streams[message.stream as usize];
        format!("message {} of {} to {} at QoS {}", message.number, self.client(stream.publisher), stream.topic, stream.qos)
    }
}

impl Gathered {
    fn fate(&mut self, message: Message) -> &mut Fate {
        let fates = &mut self.fates[message.stream as usize];
        let number = message.number as usize;
        if fates.len() <= number {
            fates.resize(number + 1, Fate::default());
        }
        &mut fates[number]
    }
}
