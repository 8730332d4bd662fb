//! What a message costs in a store in a bucket: `cargo run --release -p bucketmq-storage --example cost`.
//!
//! A bucket in memory that takes 30 ms for a PUT and 15 ms for a GET; 1,000 disconnected Sessions over 16 shards; every message is waited for,
//! twenty at a time for each Session, then all are read back in pages and removed. Prints rates, processor time per message, requests and bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bucketmq_packet::QoS;
use bucketmq_packet::message::{Message, QueueEntry};
use bucketmq_storage::durable::Place;
use bucketmq_storage::{DurableStore, Sequence, SessionNumber, ShardId, Shards, Store};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::throttle::{ThrottleConfig, ThrottledStore};

const SESSIONS: u64 = 1_000;
const IN_FLIGHT: u64 = 20;
const PAYLOAD: usize = 256;

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name in brackets").split_whitespace().collect();
    let ticks = |field: &str| field.parse::<u64>().expect("a number");
    Duration::from_millis((ticks(fields[11]) + ticks(fields[12])) * 10)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096 / 1024 / 1024
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let messages: u64 = std::env::args().nth(1).map_or(1_000_000, |count| count.parse().expect("a number of messages"));
    let config = ThrottleConfig {
        wait_put_per_call: Duration::from_millis(30),
        wait_get_per_call: Duration::from_millis(15),
        wait_list_per_call: Duration::from_millis(15),
        ..ThrottleConfig::default()
    };
    let bucket = Arc::new(ThrottledStore::new(InMemory::new(), config));
    let place = Place { bucket, prefix: Path::from("cost"), shards: Shards::default() };
    let started = Instant::now();
    let store = Arc::new(DurableStore::open(&place).await.expect("it opens"));
    println!("opened 16 shards in {:.2} s, {} MB resident", started.elapsed().as_secs_f64(), resident());

    let (started, cpu_before) = (Instant::now(), cpu());
    let waited = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..SESSIONS)
        .map(|session| {
            let (store, waited) = (store.clone(), waited.clone());
            tokio::spawn(async move {
                let number = SessionNumber::new(ShardId((session % 16) as u16), session);
                let topic = format!("devices/{session}/state");
                let each = messages / SESSIONS;
                for first in (0..each).step_by(IN_FLIGHT as usize) {
                    let begun = Instant::now();
                    let mut position = None;
                    for sequence in first..(first + IN_FLIGHT).min(each) {
                        let message = Message::new(&topic, &[7; PAYLOAD], b"", QoS::AtLeastOnce, false, None);
                        let entry = QueueEntry { message, identifiers: Box::default(), share: 0, qos: QoS::AtLeastOnce, retain: false };
                        position = Some(store.append(number, Sequence(sequence), entry));
                    }
                    if let Some(position) = position {
                        store.wait_durable(number.shard(), position).await.expect("durable");
                    }
                    waited.fetch_add(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    let report = |what: &str, started: Instant, cpu_before: Duration| {
        let (elapsed, spent) = (started.elapsed().as_secs_f64(), (cpu() - cpu_before).as_secs_f64());
        println!(
            "{what}: {:.0} messages/s, {:.1} us CPU each, {} MB resident",
            messages as f64 / elapsed,
            spent * 1e6 / messages as f64,
            resident()
        );
    };
    report("stored", started, cpu_before);
    println!("mean wait {:.0} ms", waited.load(Ordering::Relaxed) as f64 / 1e3 / (messages / IN_FLIGHT) as f64);

    let (started, cpu_before) = (Instant::now(), cpu());
    let readers: Vec<_> = (0..SESSIONS)
        .map(|session| {
            let store = store.clone();
            tokio::spawn(async move {
                let number = SessionNumber::new(ShardId((session % 16) as u16), session);
                let mut next = 0;
                loop {
                    let page = store.page(number, Sequence(next), 256, 1 << 20).await.expect("readable");
                    let Some((last, _)) = page.last() else { break next };
                    next = last.0 + 1;
                    store.remove_through(number, *last);
                }
            })
        })
        .collect();
    let mut read = 0;
    for reader in readers {
        read += reader.await.expect("no panic");
    }
    assert_eq!(read, messages / SESSIONS * SESSIONS);
    report("drained", started, cpu_before);
    let started = Instant::now();
    Arc::try_unwrap(store).unwrap_or_else(|_| unreachable!("the readers are done")).close().await.expect("closes");
    println!("closed in {:.2} s", started.elapsed().as_secs_f64());
}
