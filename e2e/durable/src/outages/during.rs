//! What a history says of a part of its time.

use std::time::Duration;

use crate::history::{History, Kind, What};

/// When messages came that need no bucket.
pub(super) fn transient(history: &History, from: Duration, to: Duration) -> Vec<Duration> {
    let is_transient = |what: &What| match what {
        What::Arrived { message, .. } => history.streams[message.stream as usize].kind == Kind::Transient,
        _ => false,
    };
    let events = history.events.iter().filter(|event| (from..to).contains(&event.at) && is_transient(&event.what));
    events.map(|event| event.at).collect()
}

/// The longest time in which none of them came.
pub(super) fn longest_gap(history: &History, from: Duration, to: Duration) -> Duration {
    let times = transient(history, from, to);
    let gaps = std::iter::once(from).chain(times.iter().copied()).zip(times.iter().copied().chain([to]));
    gaps.map(|(before, after)| after - before).max().unwrap_or(to - from)
}

fn acknowledgements(history: &History) -> impl Iterator<Item = Duration> {
    let needs_bucket = |what: &What| match what {
        What::Acknowledged(message) => history.streams[message.stream as usize].kind != Kind::Transient,
        _ => false,
    };
    history.events.iter().filter(move |event| needs_bucket(&event.what)).map(|event| event.at)
}

/// How much was acknowledged of what needs the bucket.
pub(super) fn acknowledged(history: &History, from: Duration, to: Duration) -> u64 {
    acknowledgements(history).filter(|at| (from..to).contains(at)).count() as u64
}

/// When the first of that was acknowledged.
pub(super) fn first_acknowledgement(history: &History, from: Duration) -> Option<Duration> {
    acknowledgements(history).find(|at| *at >= from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Event, Message, Stream};

    #[test]
    fn what_needs_the_bucket_is_told_from_what_does_not() {
        let mut history = History::new();
        for kind in [Kind::Transient, Kind::Live] {
            history.streams.push(Stream { publisher: 1, topic: "a".into(), qos: 1, kind });
        }
        let arrived = |stream| What::Arrived { message: Message { stream, number: 0 }, packet_id: 1, qos: 1, dup: false, retain: false };
        let acknowledged_of = |stream| What::Acknowledged(Message { stream, number: 0 });
        let all = [(1, arrived(0)), (2, arrived(1)), (3, acknowledged_of(0)), (4, acknowledged_of(1)), (9, arrived(0))];
        history.events = all.into_iter().map(|(at, what)| Event { at: Duration::from_secs(at), client: 1, what }).collect();
        let seconds = Duration::from_secs;
        assert_eq!(transient(&history, seconds(0), seconds(20)), [seconds(1), seconds(9)]);
        assert_eq!(longest_gap(&history, seconds(0), seconds(20)), seconds(11));
        assert_eq!(longest_gap(&history, seconds(10), seconds(20)), seconds(10));
        assert_eq!(acknowledged(&history, seconds(0), seconds(20)), 1);
        assert_eq!(first_acknowledgement(&history, seconds(2)), Some(seconds(4)));
        assert_eq!(first_acknowledgement(&history, seconds(5)), None);
    }
}
