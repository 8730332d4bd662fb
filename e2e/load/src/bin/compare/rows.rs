//! The rows of the table: what is run, what is read off, and what it must reach.

use bucketmq_load::report::Report;

/// One scenario.
pub struct Row {
    /// Short name, for `--scenario`.
    pub name: &'static str,
    /// What the table says.
    pub title: &'static str,
    /// Arguments of `load`; none: the process is only started.
    pub arguments: &'static [&'static str],
    /// Whether the connections use TLS.
    pub tls: bool,
    /// The figures.
    pub metrics: &'static [Metric],
}

/// One figure of a scenario.
pub struct Metric {
    /// What it is.
    pub name: &'static str,
    /// In what it is counted.
    pub unit: Unit,
    /// Where it stands in a report.
    pub value: fn(&Report) -> Option<f64>,
    /// What it must reach.
    pub bar: Option<Bar>,
    /// What is hoped for beyond that.
    pub goal: Option<Bar>,
}

/// What a figure is measured against.
#[derive(Clone, Copy)]
pub enum Bar {
    /// At most so many times the reference broker's figure.
    AtMostTimes(f64),
    /// At least so many times.
    AtLeastTimes(f64),
    /// At most this, in the figure's unit.
    AtMost(f64),
    /// No less than the broker of this name.
    NoLessThan(&'static str),
    /// No more than the broker of this name.
    NoMoreThan(&'static str),
}

/// How figures are written.
#[derive(Clone, Copy)]
pub enum Unit {
    Microseconds,
    Milliseconds,
    Seconds,
    PerSecond,
    Kilobytes,
    Megabytes,
}

impl Unit {
    /// The figure with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Microseconds if value < 10.0 => format!("{value:.2} us"),
            Unit::Microseconds => format!("{value:.1} us"),
            Unit::Milliseconds => format!("{value:.2} ms"),
            Unit::Seconds => format!("{value:.3} s"),
            Unit::PerSecond if value >= 1e6 => format!("{:.2}M/s", value / 1e6),
            Unit::PerSecond => format!("{:.0}k/s", value / 1e3),
            Unit::Kilobytes => format!("{value:.2} KB"),
            Unit::Megabytes => format!("{value:.1} MB"),
        }
    }
}

const fn cpu(bar: f64, goal: f64) -> Metric {
    Metric {
        name: "CPU/msg",
        unit: Unit::Microseconds,
        value: |report| report.broker_cpu_us_per_message,
        bar: Some(Bar::AtMostTimes(bar)),
        goal: Some(Bar::AtMost(goal)),
    }
}

const fn rate(bar: f64) -> Metric {
    Metric { name: "rate", unit: Unit::PerSecond, value: |report| report.throughput, bar: Some(Bar::AtLeastTimes(bar)), goal: None }
}

const fn latency(name: &'static str, value: fn(&Report) -> Option<f64>, bar: Option<f64>, goal: Option<f64>) -> Metric {
    let bar = match bar {
        Some(times) => Some(Bar::AtMostTimes(times)),
        None => None,
    };
    let goal = match goal {
        Some(limit) => Some(Bar::AtMost(limit)),
        None => None,
    };
    Metric { name, unit: Unit::Milliseconds, value, bar, goal }
}

const fn connection_rss(bar: Bar, goal: f64) -> Metric {
    Metric {
        name: "RSS each",
        unit: Unit::Kilobytes,
        value: |report| report.broker_rss_bytes_per_connection.map(|bytes| bytes / 1024.0),
        bar: Some(bar),
        goal: Some(Bar::AtMost(goal)),
    }
}

/// All rows, in the order of the table.
///
/// At QoS 0 publishers write 8 messages at once, as many as the publishers at QoS 1 have in flight. Larger batches would cost a
/// broker that reads in large chunks next to nothing per message, and say little about what clients on a network do to it.
pub const ROWS: &[Row] = &[
    Row {
        name: "fan-in-qos0",
        title: "fan-in, 100 pub -> 1 sub, 16 B, QoS 0",
        arguments: &["fan-in", "--qos", "0", "--batch", "8"],
        tls: false,
        metrics: &[cpu(0.24, 0.80), rate(4.5)],
    },
    Row {
        name: "fan-in-qos1",
        title: "same, QoS 1 (8 in flight per publisher)",
        arguments: &["fan-in", "--qos", "1", "--window", "8"],
        tls: false,
        metrics: &[cpu(0.15, 1.0), rate(6.0)],
    },
    Row {
        name: "fan-in-qos2",
        title: "same, QoS 2",
        arguments: &["fan-in", "--qos", "2", "--window", "8"],
        tls: false,
        metrics: &[cpu(0.17, 1.9), rate(5.5)],
    },
    Row {
        name: "fan-in-256",
        title: "fan-in, 256 B, QoS 0",
        arguments: &["fan-in", "--qos", "0", "--payload", "256", "--batch", "8"],
        tls: false,
        metrics: &[cpu(0.24, 0.72), rate(4.3)],
    },
    Row {
        name: "fan-out",
        title: "fan-out, 1 pub -> 500 subs, QoS 0",
        arguments: &["fan-out", "--qos", "0", "--subscribers", "500", "--batch", "8"],
        tls: false,
        metrics: &[cpu(0.16, 0.55), rate(5.6)],
    },
    Row {
        name: "pairs",
        title: "500 pairs, QoS 1, window 2",
        arguments: &["pairs", "--qos", "1", "--publishers", "500", "--window", "2"],
        tls: false,
        metrics: &[cpu(0.45, 6.0), rate(2.0)],
    },
    Row {
        name: "paced",
        title: "fan-in QoS 1 at 5,000/s (what is due goes out every 1 ms)",
        arguments: &["fan-in", "--qos", "1", "--rate", "5000", "--pace-tick-us", "1000"],
        tls: false,
        metrics: &[latency("p50", |report| report.p50_ms, Some(1.1), None), latency("p99", |report| report.p99_ms, Some(1.1), Some(1.4))],
    },
    Row {
        name: "paced-exact",
        title: "fan-in QoS 1 at 5,000/s (each message when it is due)",
        arguments: &["fan-in", "--qos", "1", "--rate", "5000"],
        tls: false,
        metrics: &[latency("p50", |report| report.p50_ms, None, None), latency("p99", |report| report.p99_ms, None, None)],
    },
    Row {
        name: "offline",
        title: "1,000 sessions x 100 queued QoS 1",
        arguments: &["offline", "--qos", "1", "--subscribers", "1000", "--messages", "100"],
        tls: false,
        metrics: &[
            Metric {
                name: "store",
                unit: Unit::PerSecond,
                value: |report| report.store_rate,
                bar: Some(Bar::AtLeastTimes(4.0)),
                goal: Some(Bar::NoLessThan("flashmq")),
            },
            Metric {
                name: "drain",
                unit: Unit::PerSecond,
                value: |report| report.drain_rate,
                bar: Some(Bar::AtLeastTimes(4.0)),
                goal: Some(Bar::NoLessThan("flashmq")),
            },
        ],
    },
    Row {
        name: "retained",
        title: "100k retained, set and taken at QoS 1, one `#`",
        arguments: &["retained", "--qos", "1", "--topics", "100000", "--keep"],
        tls: false,
        metrics: &[
            Metric {
                name: "set",
                unit: Unit::PerSecond,
                value: |report| report.store_rate,
                bar: Some(Bar::AtLeastTimes(1.8)),
                goal: Some(Bar::NoLessThan("flashmq")),
            },
            Metric {
                name: "take all",
                unit: Unit::Seconds,
                value: |report| report.drain_seconds,
                bar: Some(Bar::AtMostTimes(0.4)),
                goal: Some(Bar::NoMoreThan("flashmq")),
            },
        ],
    },
    Row {
        name: "idle",
        title: "idle connections (MQTT 5)",
        arguments: &["connections", "--protocol", "5", "--seconds", "3", "--connections", "{connections}"],
        tls: false,
        metrics: &[
            connection_rss(Bar::AtMost(3.0), 2.0),
            Metric {
                name: "CPU to connect",
                unit: Unit::Microseconds,
                value: |report| report.broker_cpu_us_per_connect,
                bar: Some(Bar::AtMostTimes(1.3)),
                goal: None,
            },
        ],
    },
    Row {
        name: "tls-idle",
        title: "idle TLS connection (MQTT 5)",
        arguments: &["connections", "--protocol", "5", "--seconds", "3", "--connections", "{tls_connections}"],
        tls: true,
        metrics: &[
            connection_rss(Bar::AtMostTimes(1.0), 12.0),
            Metric {
                name: "CPU to connect",
                unit: Unit::Microseconds,
                value: |report| report.broker_cpu_us_per_connect,
                bar: None,
                goal: None,
            },
        ],
    },
    Row {
        name: "started",
        title: "process just started",
        arguments: &[],
        tls: false,
        metrics: &[Metric {
            name: "RSS",
            unit: Unit::Megabytes,
            value: |report| report.broker_rss_bytes_before.map(|bytes| bytes as f64 / 1e6),
            bar: Some(Bar::AtMost(12.0)),
            goal: None,
        }],
    },
];
