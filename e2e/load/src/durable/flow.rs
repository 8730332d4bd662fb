//! What the rows have in common: Sessions that are away, messages for them, and their coming back.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::place::Broker;
use crate::clients::{self, Client, Greeting};
use crate::histogram::Histogram;
use crate::process::Usage;
use crate::publisher::{Plan, Publisher};
use crate::report::Report;
use crate::scenario::{self, offline::connect_gently, run_workers};
use crate::subscriber::{Subscriber, Tracking};
use crate::tracking::Ordered;
use crate::wire::{self, Templates, Version};
use crate::worker::{Deliveries, Pace, Progress, Worker};

/// Bytes of a payload, as the bars want it.
pub const PAYLOAD: usize = 256;
/// Connections being established at one time.
const CONNECTING: usize = 1_000;
/// Connections at one time while many Sessions are made or taken.
pub const BATCH: usize = 5_000;
/// Connections from one source address: beyond it the kernel looks long for a free port.
const PER_SOURCE: usize = 1_500;
/// Sessions last a day.
const EXPIRY: u32 = 86_400;

/// Messages that are published to Sessions.
#[derive(Debug, Clone)]
pub struct Load {
    /// Publishing connections.
    pub publishers: usize,
    /// Sessions, each with a topic of its own; the publishers share them out evenly.
    pub sessions: usize,
    /// QoS.
    pub qos: u8,
    /// In flight for each publisher.
    pub window: u32,
    /// How much.
    pub amount: Amount,
    /// Messages a second altogether; None: as fast as acknowledgements allow.
    pub rate: Option<f64>,
}

/// How much is published.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// For so long.
    Time(Duration),
    /// So many to each Session.
    Each(usize),
}

/// What became of a load.
#[derive(Debug, Default)]
pub struct Published {
    /// By topic.
    pub sent: Vec<u64>,
    /// With their handshakes over.
    pub acknowledged: u64,
    /// Until the last acknowledgement.
    pub seconds: f64,
    /// Until PUBACK or PUBREC.
    pub latency: Histogram,
    /// How late the generator sent.
    pub lateness: Histogram,
    /// Processor time of the broker, microseconds.
    pub broker_us: f64,
    /// What was wrong.
    pub faults: Vec<String>,
}

impl Published {
    /// Messages sent to all topics.
    pub fn total(&self) -> u64 {
        self.sent.iter().sum()
    }
}

/// What Sessions that came back got.
#[derive(Debug, Default)]
pub struct Drained {
    /// Messages.
    pub received: u64,
    /// From the first CONNECT to the last message.
    pub seconds: f64,
    /// Messages that never came.
    pub lost: u64,
    /// Messages that came again.
    pub duplicated: u64,
    /// Messages that came behind a later one.
    pub reordered: u64,
    /// Sessions that were not there.
    pub absent: u64,
}

impl Drained {
    /// What is wrong with it; `after_crash`: messages at QoS 1 may come again.
    pub fn faults(&self, after_crash: bool) -> Vec<String> {
        let repeated = if after_crash { 0 } else { self.duplicated };
        let counts = [("lost", self.lost), ("duplicated", repeated), ("out of order", self.reordered), ("Sessions not there", self.absent)];
        counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect()
    }
}

/// The topic of Session `number`.
fn topic(number: usize) -> String {
    format!("durable/{number:06}")
}

/// The Client Identifier of Session `number`.
pub fn client_id(number: usize) -> String {
    format!("session-{number:06}")
}

/// CONNECT of MQTT 5 for a Session that lasts, or one that ends with its connection.
pub fn connect(client_id: &str, lasts: bool) -> Vec<u8> {
    let session_expiry = if lasts { EXPIRY } else { 0 };
    wire::Connect { version: Version::V5, client_id, clean: !lasts, keep_alive: 0, session_expiry, will: None }.encode()
}

/// Connects Sessions `first..first + count`, which stay connected. They subscribe to their topics when `subscribe` says at which QoS.
pub fn connect_sessions(broker: &Broker, first: usize, count: usize, lasts: bool, subscribe: Option<u8>) -> anyhow::Result<Vec<Client>> {
    let target = broker.target(count / PER_SOURCE);
    let greeting = |number| Greeting {
        connect: connect(&client_id(first + number), lasts),
        subscribe: subscribe.map(|qos| wire::subscribe(Version::V5, &topic(first + number), qos)),
    };
    clients::establish(&target, count, CONNECTING, greeting).with_context(|| broker.log())
}

/// Makes `count` Sessions that last, subscribe at `qos`, and go away.
pub fn make_sessions(broker: &Broker, count: usize, qos: u8) -> anyhow::Result<()> {
    let mut made = 0;
    while made < count {
        let batch = (count - made).min(BATCH);
        for mut client in connect_sessions(broker, made, batch, true, Some(qos))? {
            client.stream.write_all(&wire::DISCONNECT_PACKET)?;
        }
        made += batch;
    }
    Ok(())
}

/// The connections that will publish `load`.
pub fn publishers(broker: &Broker, load: &Load, lasts: bool) -> anyhow::Result<Vec<Publisher>> {
    ensure!(load.sessions.is_multiple_of(load.publishers), "the Sessions divide evenly among the publishers");
    let each = load.sessions / load.publishers;
    let greeting = |number| Greeting { connect: connect(&format!("publisher-{number:05}"), lasts), subscribe: None };
    let clients = clients::establish(&broker.target(0), load.publishers, CONNECTING, greeting)?;
    let publisher = |(number, client): (usize, Client)| {
        let first = number * each;
        let names: Vec<String> = (first..first + each).map(topic).collect();
        let plan = Plan {
            templates: Templates::new(Version::V5, &names, first as u32, PAYLOAD, load.qos, false),
            first_source: first as u32,
            qos: load.qos,
            window: load.window.min(u32::from(client.receive_maximum)),
            batch: None,
            limit: match load.amount {
                Amount::Time(_) => None,
                Amount::Each(messages) => Some((messages * each) as u64),
            },
            paced: load.rate.is_some(),
            stamped: false,
            timed: load.qos > 0,
        };
        Publisher::new(client.stream, plan)
    };
    Ok(clients.into_iter().enumerate().map(publisher).collect())
}

/// Publishes `load` on `publishers`, to `subscribers` that are connected if there are some.
pub fn publish(
    broker: &Broker,
    load: &Load,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    progress: &Progress,
) -> anyhow::Result<(Published, Drained)> {
    let worker = Worker {
        publishers,
        subscribers,
        gather: Duration::from_micros(100),
        duration: match load.amount {
            Amount::Time(time) => Some(time),
            Amount::Each(_) => None,
        },
        pace: load.rate.map(|rate| Pace { rate, tick: 0 }),
        ..Worker::default()
    };
    let before = Usage::of(broker.pid())?;
    let outcomes = run_workers(vec![worker], progress).with_context(|| broker.log())?;
    let broker_us = Usage::of(broker.pid())?.since(before).total_us();
    let sent = scenario::published(&outcomes);
    let drained = judge(&outcomes, &sent, progress);
    let mut published = Published { broker_us, acknowledged: progress.acknowledged(), sent, ..Published::default() };
    for outcome in outcomes {
        published.seconds = published.seconds.max(outcome.published_at as f64 / 1e9);
        published.latency.merge(&outcome.acknowledged.latency);
        published.lateness.merge(&outcome.lateness);
        let refused: u64 = outcome.worker.publishers.iter().map(|publisher| publisher.refused).sum();
        if refused > 0 {
            published.faults.push(format!("{refused} refused"));
        }
    }
    if published.acknowledged < published.total() {
        published.faults.push(format!("{} not acknowledged", published.total() - published.acknowledged));
    }
    Ok((published, drained))
}

/// Sessions `sessions` come back all at once and take what waits for them; `published`: messages to each topic.
pub fn drain(broker: &Broker, sessions: std::ops::Range<usize>, published: &[u64]) -> anyhow::Result<Drained> {
    let expected = published[sessions.clone()].iter().sum();
    let mut worker = Worker::default();
    let streams = connect_gently(&broker.target(sessions.len() / PER_SOURCE), sessions.len())?;
    for (number, stream) in sessions.clone().zip(streams) {
        let tracking = Tracking::Ordered(Ordered::new(number as u32, 1));
        worker.subscribers.push(Subscriber::new(stream, tracking, PAYLOAD, false));
    }
    let progress = Progress::new(1, Deliveries::Total(expected));
    for (number, subscriber) in sessions.zip(worker.subscribers.iter_mut()) {
        subscriber.send(&connect(&client_id(number), true))?;
    }
    let outcomes = run_workers(vec![worker], &progress).with_context(|| broker.log())?;
    Ok(judge(&outcomes, published, &progress))
}

fn judge(outcomes: &[crate::worker::Outcome], published: &[u64], progress: &Progress) -> Drained {
    let mut report = Report::default();
    scenario::judge(&mut report, outcomes, published);
    Drained {
        received: progress.received(),
        seconds: outcomes.iter().map(|outcome| outcome.last_message).max().unwrap_or(0) as f64 / 1e9,
        lost: report.lost.unwrap_or(0),
        duplicated: report.duplicated.unwrap_or(0),
        reordered: report.reordered.unwrap_or(0),
        absent: outcomes.iter().flat_map(|outcome| &outcome.worker.subscribers).map(|subscriber| subscriber.absent).sum(),
    }
}
