//! The rows of the table: what each measures and what it must reach.

use serde::{Deserialize, Serialize};

use super::measure::{self, Measured, Setup};

/// One row, run on its own with a fresh bucket and a fresh broker.
pub struct Row {
    /// For `--rows`.
    pub name: &'static str,
    /// What the table says.
    pub title: fn(&super::Scale) -> String,
    /// Measures it.
    pub run: fn(&Setup<'_>) -> anyhow::Result<Measured>,
    /// What is read off.
    pub figures: &'static [Figure],
}

/// One figure of a row.
pub struct Figure {
    /// What it is.
    pub name: &'static str,
    /// In what it is counted.
    pub unit: Unit,
    /// What it must reach.
    pub bar: Option<Bar>,
}

/// What a figure is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Bar {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Bar {
    /// Whether `value` reaches it.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
        }
    }
}

/// How a figure is written.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// A million bytes.
    Megabytes,
    /// Bytes.
    Bytes,
    /// Many a second.
    Rate,
    /// Few a second.
    PerSecond,
    /// So many times.
    Times,
    /// A whole number.
    Count,
    /// A small number.
    Number,
}

impl Unit {
    /// The text of the table.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Microseconds => format!("{value:.2} us"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::Seconds => format!("{value:.2} s"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Bytes => format!("{value:.0} B"),
            Self::Rate if value >= 10_000.0 => format!("{:.0}k/s", value / 1e3),
            Self::Rate => format!("{value:.0}/s"),
            Self::PerSecond => format!("{value:.2}/s"),
            Self::Times => format!("{value:.2}x"),
            Self::Count => format!("{value:.0}"),
            Self::Number => format!("{value:.4}"),
        }
    }
}

const fn bar(name: &'static str, unit: Unit, bar: Bar) -> Figure {
    Figure { name, unit, bar: Some(bar) }
}

const fn plain(name: &'static str, unit: Unit) -> Figure {
    Figure { name, unit, bar: None }
}

use Bar::{AtLeast, AtMost};
use Unit::{Bytes, Count, Megabytes, Microseconds, Milliseconds, Number, PerSecond, Rate, Seconds, Times};

/// All rows, in the order of the table.
pub const ROWS: &[Row] = &[
    Row {
        name: "start",
        title: |_| "process just started, empty bucket, 16 shards".to_owned(),
        run: measure::start,
        figures: &[bar("RSS", Megabytes, AtMost(48.0)), plain("until it lets Clients in", Seconds), plain("requests", Count)],
    },
    Row {
        name: "idle",
        title: |scale| format!("idle for {:.0} s, 16 shards", scale.idle_seconds),
        run: measure::idle,
        figures: &[
            bar("requests per shard", PerSecond, AtMost(1.0)),
            plain("PUT and LIST", PerSecond),
            plain("GET and HEAD", PerSecond),
            plain("CPU of one core", Number),
        ],
    },
    Row {
        name: "latency",
        title: |_| "1 publisher, 1 in flight, to a Session that is away, QoS 1".to_owned(),
        run: measure::latency,
        figures: &[bar("PUBACK p50", Milliseconds, AtMost(45.0)), plain("PUBACK p99", Milliseconds)],
    },
    Row {
        name: "throughput",
        title: |scale| format!("{} publishers x 20 in flight, each to a Session that is away, QoS 1", scale.publishers),
        run: |setup| measure::throughput(setup, 1),
        figures: &[
            bar("acknowledged", Rate, AtLeast(50_000.0)),
            bar("broker CPU/msg", Microseconds, AtMost(20.0)),
            plain("PUBACK p99", Milliseconds),
            plain("requests/msg", Number),
            plain("drained", Rate),
        ],
    },
    Row {
        name: "throughput-2",
        title: |_| "the same at QoS 2".to_owned(),
        run: |setup| measure::throughput(setup, 2),
        figures: &[
            plain("acknowledged", Rate),
            plain("broker CPU/msg", Microseconds),
            bar("CPU of QoS 1", Times, AtMost(2.5)),
            plain("PUBREC p99", Milliseconds),
            plain("requests/msg", Number),
            plain("drained", Rate),
        ],
    },
    Row {
        name: "paced",
        title: |scale| format!("{} publishers, {:.0} msg/s altogether, to Sessions that are away, QoS 1", scale.publishers, scale.rate),
        run: measure::paced,
        figures: &[
            bar("PUBACK p99", Milliseconds, AtMost(150.0)),
            plain("PUBACK p50", Milliseconds),
            bar("PUT, busiest shard", PerSecond, AtMost(35.0)),
            plain("PUT, all shards", PerSecond),
            plain("broker CPU/msg", Microseconds),
            plain("sent late p99", Milliseconds),
        ],
    },
    Row {
        name: "queue",
        title: |scale| format!("{} messages for {} Sessions that are away, then taken", scale.queued, scale.queue_sessions),
        run: measure::queue,
        figures: &[
            bar("RSS grows, queued", Megabytes, AtMost(100.0)),
            plain("RSS grows, most", Megabytes),
            plain("queued", Rate),
            bar("drained", Rate, AtLeast(50_000.0)),
            bar("bytes PUT / payload", Times, AtMost(3.2)),
            plain("of it until queued", Times),
            plain("of that logs", Times),
            plain("and tables", Times),
            plain("requests/msg", Number),
            plain("broker CPU/msg", Microseconds),
            plain("close", Seconds),
        ],
    },
    Row {
        name: "recovery",
        title: |scale| format!("{} Sessions, {} messages: kill -9, start", scale.recovery_sessions, scale.queued),
        run: measure::recovery,
        figures: &[
            bar("first CONNACK with its Session", Seconds, AtMost(3.0)),
            bar("every shard serves", Seconds, AtMost(10.0)),
            plain("all taken by all", Seconds),
            plain("RSS after it", Megabytes),
        ],
    },
    Row {
        name: "transient",
        title: |_| "100 pub -> 1 sub without Sessions that last, with a bucket / without, in turn".to_owned(),
        run: measure::transient,
        figures: &[
            bar("CPU/msg, QoS 0", Times, AtMost(1.05)),
            bar("CPU/msg, QoS 1", Times, AtMost(1.05)),
            bar("rate, QoS 0", Times, AtLeast(0.95)),
            bar("rate, QoS 1", Times, AtLeast(0.95)),
        ],
    },
    Row {
        name: "sessions",
        title: |scale| format!("{} idle connections", scale.idle_sessions),
        run: measure::sessions,
        figures: &[
            bar("a Session that lasts more than one that does not", Bytes, AtMost(1024.0)),
            plain("one that lasts", Bytes),
            plain("one that does not", Bytes),
        ],
    },
    Row {
        name: "cost-1k",
        title: |scale| format!("{} connected Sessions that last get {:.0} msg/s, QoS 1", scale.publishers, scale.cost_rates[0]),
        run: |setup| measure::cost(setup, setup.scale.cost_rates[0], "0s"),
        figures: COST,
    },
    Row {
        name: "cost-1k-250ms",
        title: |scale| format!("the same {:.0} msg/s with `bucket.min_flush_interval = \"250ms\"`", scale.cost_rates[0]),
        run: |setup| measure::cost(setup, setup.scale.cost_rates[0], "250ms"),
        figures: COST,
    },
    Row {
        name: "cost-50k",
        title: |scale| format!("{} connected Sessions that last get {:.0} msg/s, QoS 1", scale.publishers, scale.cost_rates[1]),
        run: |setup| measure::cost(setup, setup.scale.cost_rates[1], "0s"),
        figures: COST,
    },
];

const COST: &[Figure] = &[
    plain("messages", Rate),
    plain("PUT and LIST", PerSecond),
    plain("GET and HEAD", PerSecond),
    plain("stored", Megabytes),
    plain("PUBACK p99", Milliseconds),
    plain("broker CPU/msg", Microseconds),
];
