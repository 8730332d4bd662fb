//! What the memory store costs: queues and retained messages, time and memory. Prints medians of several rounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucketmq_packet::QoS;
use bucketmq_storage::{MemoryStore, Message, QueueEntry, RetainedCursor, RetainedLimit, Sequence, SessionNumber, Shards, Store};

const ROUNDS: usize = 7;
const SESSIONS: u64 = 1_000;
const ENTRIES: u64 = 1_000_000;
const PAGE: usize = 256;

/// Resident memory of this process, allocator and all.
fn rss_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of KiB") * 1024
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn ns_each(duration: Duration, count: usize) -> f64 {
    duration.as_nanos() as f64 / count as f64
}

fn topic(number: usize) -> String {
    format!("site/{:03}/line/{:02}/device/{number:07}/temperature", number % 997, number % 37)
}

fn message(topic: &str, payload: &[u8]) -> Arc<Message> {
    Message::new(topic, payload, b"", QoS::AtLeastOnce, false, None)
}

/// Queues: `messages` are appended in turn to all Sessions, then paged out and removed.
fn queues(what: &str, messages: &[Arc<Message>]) {
    let shards = Shards::default();
    let sessions: Vec<SessionNumber> =
        (0..SESSIONS).map(|number| SessionNumber::new(shards.of(&format!("client-{number}")), number)).collect();
    let (mut append, mut drain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let store: &dyn Store = &MemoryStore::new(shards);
        let start = Instant::now();
        for number in 0..ENTRIES {
            let message = messages[number as usize % messages.len()].clone();
            let entry = QueueEntry { message, identifiers: Box::default(), share: 0, qos: QoS::AtLeastOnce, retain: false };
            store.append(sessions[(number % SESSIONS) as usize], Sequence(number / SESSIONS), entry);
        }
        append.push(ns_each(start.elapsed(), ENTRIES as usize));
        let start = Instant::now();
        let mut taken = 0;
        for session in &sessions {
            let mut from = Sequence(0);
            loop {
                let page = store.try_page(*session, from, PAGE, usize::MAX).expect("in memory");
                let Some((last, _)) = page.last() else { break };
                taken += page.len();
                from = Sequence(last.0 + 1);
                store.remove_through(*session, *last);
                black_box(&page);
            }
        }
        drain.push(ns_each(start.elapsed(), ENTRIES as usize));
        assert_eq!(taken, ENTRIES as usize);
    }
    println!("queues, {what}: append {:.0} ns, page and remove {:.0} ns each", median(append), median(drain));
}

fn walk(store: &dyn Store, filter: &str, page: usize) -> (usize, Duration, Duration) {
    let (mut found, mut slowest, mut cursor) = (0, Duration::ZERO, None::<RetainedCursor>);
    let start = Instant::now();
    loop {
        let one = Instant::now();
        let next = store.try_retained_page(filter, cursor.as_ref(), page, usize::MAX).expect("in memory");
        slowest = slowest.max(one.elapsed());
        found += black_box(next.messages).len();
        cursor = next.next;
        if cursor.is_none() {
            return (found, start.elapsed(), slowest);
        }
    }
}

fn retained(count: usize, in_order: bool) {
    let place = |number: usize| if in_order { number } else { number * 7_919 % count };
    let payload = [0_u8; 16];
    let topics: Vec<String> = (0..count).map(|number| topic(place(number))).collect();
    let memory = MemoryStore::new(Shards::default());
    let store: &dyn Store = &memory;
    let set = |topic: &String| store.set_retained(message(topic, &payload), RetainedLimit::NONE).expect("room");

    let before = rss_bytes();
    let start = Instant::now();
    topics.iter().for_each(|topic| {
        black_box(set(topic));
    });
    let first = ns_each(start.elapsed(), count);
    let bytes = (rss_bytes() - before) as f64 / count as f64;
    let start = Instant::now();
    topics.iter().for_each(|topic| {
        black_box(set(topic));
    });
    let again = ns_each(start.elapsed(), count);
    let order = if in_order { "in order" } else { "in no order" };
    let content = topics[0].len() + payload.len();
    println!("{count} retained, {order}: made and set in {first:.0} ns, again in {again:.0} ns; {content} bytes take {bytes:.0}");
    for filter in ["#", "site/+/line/+/device/+/temperature", "site/007/#", "+/+/line/00/#", "+/+/+/+/+/+/humidity"] {
        let rounds: Vec<_> = (0..ROUNDS).map(|_| walk(store, filter, PAGE)).collect();
        let time = median(rounds.iter().map(|(_, time, _)| time.as_secs_f64() * 1e3).collect());
        let slowest = median(rounds.iter().map(|(_, _, slowest)| slowest.as_secs_f64() * 1e6).collect());
        println!("  {filter}: {} found in {time:.2} ms, longest piece {slowest:.0} us", rounds[0].0);
    }
    let start = Instant::now();
    for topic in &topics {
        black_box(store.try_retained_page(topic, None, 1, usize::MAX));
    }
    println!("  exact topic: {:.0} ns", ns_each(start.elapsed(), count));
}

fn main() {
    // Memory is told by what the process has grown, so each measurement of it wants a process of its own: `retained 1000000 in-order`.
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "retained") {
        let count = arguments.get(at + 1).and_then(|count| count.parse().ok()).unwrap_or(100_000);
        retained(count, arguments.iter().any(|argument| argument == "in-order"));
        return;
    }
    let topics: Vec<String> = (0..ENTRIES as usize).map(topic).collect();
    let start = Instant::now();
    let own: Vec<Arc<Message>> = topics.iter().map(|topic| message(topic, &[0; 64])).collect();
    println!("making a message: {:.0} ns", ns_each(start.elapsed(), own.len()));
    queues("each message in one queue", &own);
    queues("one message in all queues", &own[..1]);
}
