//! What Subscriptions cost: memory and time to add them, time to match. Prints medians; takes the number of Subscriptions as an argument.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bucketmq_packet::QoS;
use bucketmq_routing::{Matches, Options, Subscriptions};

const BATCH: usize = 10_000;
const BATCHES: usize = 51;

/// Resident memory of this process, allocator and all.
fn rss_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number of KiB") * 1024
}

fn topic(number: usize) -> String {
    format!("site/{:03}/line/{:02}/device/{number:07}/temperature", number % 997, number % 37)
}

fn ns_each(duration: Duration, count: usize) -> f64 {
    duration.as_nanos() as f64 / count as f64
}

fn print_match(what: &str, subscriptions: &Subscriptions<Arc<u64>>, topic_of: impl Fn(usize) -> String) {
    let mut out = Matches::new();
    let mut seed = 1_usize;
    let mut found = 0;
    let mut times: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let topics: Vec<String> = (0..BATCH)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    topic_of(seed >> 33)
                })
                .collect();
            let start = Instant::now();
            for topic in &topics {
                subscriptions.matches(black_box(topic), &mut out);
                found += out.plain.len();
            }
            ns_each(start.elapsed(), BATCH)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("match, {what}: {:.0} ns, {:.2} subscribers found", times[BATCHES / 2], found as f64 / (BATCH * BATCHES) as f64);
}

fn main() {
    let count: usize = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1_000_000);
    let subscribers: Vec<Arc<u64>> = (0..count as u64).map(Arc::new).collect();
    let mut subscriptions = Subscriptions::new();
    let options = Options::new(QoS::AtLeastOnce);

    let before = rss_bytes();
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for (number, subscriber) in subscribers.iter().enumerate() {
        let filter = topic(number);
        let one = Instant::now();
        subscriptions.subscribe(&filter, subscriber.clone(), options);
        slowest = slowest.max(one.elapsed());
    }
    let bytes = (rss_bytes() - before) as f64 / count as f64;
    println!(
        "{count} exact filters of {} bytes: {:.0} ns and {bytes:.0} bytes each, {:.0} beside the text; slowest {slowest:.1?}",
        topic(0).len(),
        ns_each(start.elapsed(), count),
        bytes - topic(0).len() as f64,
    );
    print_match("exact only, found", &subscriptions, |random| topic(random % count));
    print_match("exact only, one topic again and again", &subscriptions, |_| topic(count / 2));
    print_match("exact only, not found", &subscriptions, |random| topic(count + random % count));

    subscriptions.subscribe("#", subscribers[0].clone(), options);
    subscriptions.subscribe("site/+/line/+/device/+/humidity", subscribers[0].clone(), options);
    print_match("one # and one filter of 7 levels beside", &subscriptions, |random| topic(random % count));
    subscriptions.unsubscribe("#", &subscribers[0]);

    let wildcards = count / 10;
    let before = rss_bytes();
    let start = Instant::now();
    for (number, subscriber) in subscribers.iter().take(wildcards).enumerate() {
        subscriptions.subscribe(&format!("site/+/line/+/device/{:07}/#", number * 10), subscriber.clone(), options);
    }
    println!(
        "{wildcards} filters with + and #: {:.0} ns and {:.0} bytes each",
        ns_each(start.elapsed(), wildcards),
        (rss_bytes() - before) as f64 / wildcards as f64
    );
    print_match("those beside", &subscriptions, |random| topic(random % count));
    print_match("those beside, one topic again and again", &subscriptions, |_| topic(count / 2));

    let start = Instant::now();
    for (number, subscriber) in subscribers.iter().enumerate() {
        subscriptions.unsubscribe(&topic(number), subscriber);
    }
    println!("removing the exact ones: {:.0} ns each", ns_each(start.elapsed(), count));

    let mut fan_out = Subscriptions::new();
    for subscriber in subscribers.iter().take(10_000) {
        fan_out.subscribe("news", subscriber.clone(), options);
    }
    fan_out.subscribe("#", subscribers[0].clone(), options);
    let mut out = Matches::new();
    let start = Instant::now();
    for _ in 0..100 {
        fan_out.matches(black_box("news"), &mut out);
    }
    println!("match, 10,000 subscribers of one filter and #: {:.1} ns each", ns_each(start.elapsed(), 100 * out.plain.len()));
}
