//! What a run prints: one line of JSON. Fields that do not apply are left out.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;
use crate::options::Options;
use crate::process::{self, Usage};
use crate::wire::Version;

/// The result of one run. Units stand at the end of the names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// Address of the broker.
    pub address: String,
    /// 3.1.1 or 5.
    pub protocol: String,
    /// Whether connections used TLS.
    pub tls: bool,
    /// Threads of the generator.
    pub threads: u8,
    /// Bytes of payload.
    pub payload: usize,
    /// QoS of the publishers.
    pub qos: u8,
    /// QoS of the subscriptions.
    pub subscriber_qos: u8,
    /// Publishing connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publishers: Option<usize>,
    /// Subscribing connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribers: Option<usize>,
    /// Idle connections, connections of a soak, cycles of a storm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<usize>,
    /// Distinct topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topics: Option<usize>,
    /// Messages in flight per publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// Messages per second asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,

    /// From the first message sent to the last one received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// Messages sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<u64>,
    /// Messages received by subscribers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Messages received per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<f64>,
    /// Messages that never came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Messages that came again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicated: Option<u64>,
    /// Messages that came after a later one of the same source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reordered: Option<u64>,
    /// Messages the broker refused by a Reason Code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<u64>,

    /// Median latency end to end. Paced runs count from when a message was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 99 % are not above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// 99.9 % are not above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_ms: Option<f64>,
    /// The largest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<f64>,
    /// How late the generator itself sent paced messages, 99 %; part of the latencies above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_p99_ms: Option<f64>,

    /// Retained or queued messages accepted per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_rate: Option<f64>,
    /// Seconds it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_seconds: Option<f64>,
    /// Retained or queued messages given out per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_rate: Option<f64>,
    /// Seconds it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_seconds: Option<f64>,
    /// Connections established per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_per_second: Option<f64>,
    /// Processor time of the broker for each connection established.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_cpu_us_per_connect: Option<f64>,

    /// Processor time of the broker per message received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_cpu_us_per_message: Option<f64>,
    /// Of that, in user mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_user_us_per_message: Option<f64>,
    /// Of that, in the kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_system_us_per_message: Option<f64>,
    /// Processors the broker kept busy on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_cpus: Option<f64>,
    /// Resident memory before the scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_rss_bytes_before: Option<u64>,
    /// Resident memory at its end, with everything still connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_rss_bytes_after: Option<u64>,
    /// The most that was ever resident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_rss_bytes_peak: Option<u64>,
    /// Resident memory when the connections were closed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_rss_bytes_closed: Option<u64>,
    /// Growth of resident memory per connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_rss_bytes_per_connection: Option<f64>,
    /// Processor time of the generator per message received (or per connection).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_cpu_us_per_message: Option<f64>,
    /// Processors the generator kept busy on average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_cpus: Option<f64>,

    /// Resident memory when a first tenth of a storm had passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_rss_bytes_warm: Option<u64>,
    /// Connections a soak killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kills: Option<u64>,

    /// Soak and storm: whether memory stayed steady and nothing else was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steady: Option<bool>,
    /// What was wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

impl Report {
    /// The parameters of a run.
    pub fn new(scenario: &str, options: &Options) -> Report {
        Report {
            scenario: scenario.to_owned(),
            address: options.address.clone(),
            protocol: match options.protocol {
                Version::V3_1_1 => "3.1.1".to_owned(),
                Version::V5 => "5".to_owned(),
            },
            tls: options.tls_ca.is_some(),
            threads: options.threads,
            payload: options.payload,
            qos: options.qos,
            subscriber_qos: options.subscriber_qos(),
            rate: options.rate,
            ..Report::default()
        }
    }

    /// Enters the percentiles.
    pub fn set_latency(&mut self, latency: &Histogram, lateness: &Histogram) {
        let at = |histogram: &Histogram, share| histogram.quantile(share).map(|ns| ns as f64 / 1e6);
        self.p50_ms = at(latency, 0.5);
        self.p99_ms = at(latency, 0.99);
        self.p999_ms = at(latency, 0.999);
        self.max_ms = (latency.total() > 0).then(|| latency.largest() as f64 / 1e6);
        self.late_p99_ms = at(lateness, 0.99);
    }

    /// Enters what broker and generator used for `messages`.
    pub fn set_cost(&mut self, cost: &Cost, messages: u64) {
        let each = |us: f64| (messages > 0).then(|| us / messages as f64);
        if let Some(broker) = cost.broker {
            self.broker_cpu_us_per_message = each(broker.total_us());
            if let Some(user) = broker.user_share() {
                self.broker_user_us_per_message = each(broker.total_us() * user);
                self.broker_system_us_per_message = each(broker.total_us() * (1.0 - user));
            }
            self.broker_cpus = Some(broker.total_us() / 1e6 / cost.elapsed.as_secs_f64());
        }
        self.generator_cpu_us_per_message = each(cost.generator.total_us());
        self.generator_cpus = Some(cost.generator.total_us() / 1e6 / cost.elapsed.as_secs_f64());
    }

    /// Enters the broker's memory at the end.
    pub fn set_memory_after(&mut self, broker: Option<u32>) {
        self.broker_rss_bytes_after = broker.and_then(|pid| process::rss_bytes(pid).ok());
        self.broker_rss_bytes_peak = broker.and_then(|pid| process::peak_rss_bytes(pid).ok());
    }

    /// Prints the line.
    pub fn print(&self) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

/// Processor time being measured.
#[derive(Debug)]
pub struct Meter {
    broker: Option<(u32, Usage)>,
    generator: Usage,
    start: Instant,
}

/// Processor time that was used.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// By the broker, when its process is known.
    pub broker: Option<Usage>,
    /// By this process.
    pub generator: Usage,
    /// Meanwhile passed.
    pub elapsed: Duration,
}

impl Meter {
    /// Begins to measure.
    pub fn start(broker: Option<u32>) -> std::io::Result<Meter> {
        let broker = broker.map(|pid| Usage::of(pid).map(|usage| (pid, usage))).transpose()?;
        Ok(Meter { broker, generator: Usage::of(std::process::id())?, start: Instant::now() })
    }

    /// What was used since then.
    pub fn stop(&self) -> std::io::Result<Cost> {
        let broker = self.broker.map(|(pid, earlier)| Usage::of(pid).map(|usage| usage.since(earlier))).transpose()?;
        let generator = Usage::of(std::process::id())?.since(self.generator);
        Ok(Cost { broker, generator, elapsed: self.start.elapsed() })
    }
}
