//! What came of an outage, and which of its promises were broken.

use std::time::Duration;

use serde::Serialize;

use super::during;
use super::watch::{Look, Watch};
use crate::check::{Promise, Verdict};
use crate::history::History;
use crate::results::Table;

/// What is under way when the outage begins may still be acknowledged for so long.
const UNDER_WAY: Duration = Duration::from_secs(1);
/// Messages that need no bucket come at least so often.
const GAP_MAX: Duration = Duration::from_secs(2);
/// An outage as long as this has to be told by `/readyz`.
const TOLD_AFTER: Duration = Duration::from_secs(10);

/// What came of one case.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was done.
    pub case: String,
    /// Messages a second between Clients that need no bucket, before and meanwhile.
    pub transient_rate: (f64, f64),
    /// The longest time none of them came meanwhile, in seconds.
    pub transient_gap: f64,
    /// Acknowledgements of what needs the bucket: a second before, and in all from a second after the beginning to the end.
    pub acknowledged: (f64, u64),
    /// Seconds until `/readyz` said no. None: it did not.
    pub unready_after: Option<f64>,
    /// Seconds after the end until it said yes.
    pub ready_after: Option<f64>,
    /// MiB before, and the most meanwhile.
    pub rss_mib: (f64, f64),
    /// Seconds from the end to the first acknowledgement.
    pub first_acknowledgement: Option<f64>,
    /// The most seconds the metric of the oldest write under way showed meanwhile.
    pub pending_seconds: u64,
    /// What the log said.
    pub log: Vec<String>,
    /// Times it ended by itself and was started again.
    pub restarts: u32,
    /// Broken promises of an outage, in words.
    pub broken: Vec<String>,
    /// The reckoning.
    pub verdict: Verdict,
}

impl Report {
    /// True when every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty() && self.verdict.is_clean()
    }
}

/// From the history of a case with load from `from`, trouble from `begin` to `end`, and what was seen meanwhile.
pub(super) fn of(
    case: &str,
    is_mild: bool,
    history: &History,
    verdict: Verdict,
    (from, begin, end): (Duration, Duration, Duration),
    watch: Watch,
) -> Report {
    let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
    let rate = |from, to| during::transient(history, from, to).len() as f64 / seconds(from, to);
    let is_meanwhile = |look: &&Look| (begin..end).contains(&look.at);
    let mib = |bytes: Option<u64>| bytes.unwrap_or_default() as f64 / f64::from(1 << 20);
    let looks = &watch.looks;
    let mut report = Report {
        case: case.to_owned(),
        transient_rate: (rate(from, begin), rate(begin, end)),
        transient_gap: during::longest_gap(history, begin, end).as_secs_f64(),
        acknowledged: (
            during::acknowledged(history, from, begin) as f64 / seconds(from, begin),
            during::acknowledged(history, begin + UNDER_WAY, end),
        ),
        unready_after: looks.iter().filter(is_meanwhile).find(|look| look.is_ready != Some(true)).map(|look| seconds(begin, look.at)),
        ready_after: looks.iter().find(|look| look.at >= end && look.is_ready == Some(true)).map(|look| seconds(end, look.at)),
        rss_mib: (
            mib(looks.iter().filter(|look| look.at < begin).map(|look| look.rss).next_back()),
            mib(looks.iter().filter(is_meanwhile).map(|look| look.rss).max()),
        ),
        first_acknowledgement: during::first_acknowledgement(history, end).map(|at| seconds(end, at)),
        pending_seconds: looks.iter().filter(is_meanwhile).map(|look| look.pending).max().unwrap_or_default(),
        log: watch.log,
        restarts: watch.restarts,
        broken: Vec::new(),
        verdict,
    };
    report.broken = broken(&report, is_mild, end - begin, watch.why);
    report
}

fn broken(report: &Report, is_mild: bool, lasted: Duration, why: Option<String>) -> Vec<String> {
    let mut broken = Vec::new();
    if report.transient_gap > GAP_MAX.as_secs_f64() {
        broken.push(format!("messages that need no bucket did not come for {:.1} s", report.transient_gap));
    }
    // A slow bucket answers, and acknowledgements go on.
    if report.unready_after.is_none() && !is_mild && lasted > TOLD_AFTER {
        broken.push("/readyz did not say that the bucket does not answer".to_owned());
    }
    if report.ready_after.is_none() {
        broken.push("/readyz did not say that the bucket answers again".to_owned());
    }
    if report.first_acknowledgement.is_none() {
        broken.push("nothing was acknowledged after the end".to_owned());
    }
    if let Some(why) = why {
        broken.push(format!("ended by itself, {} times; the first time: {why}", report.restarts));
    }
    broken
}

/// As RESULTS.md shows them.
pub fn table(reports: &[Report]) -> Table {
    let head = vec![
        "bucket",
        "needs no bucket: /s before, meanwhile",
        "longest gap",
        "acknowledged: /s before, in all meanwhile",
        "`/readyz` says no after",
        "yes again after",
        "RSS before, most",
        "oldest write, metric",
        "log",
        "first acknowledgement after",
        "ended by itself",
        "lost",
        "other promises of a crash broken",
        "kept",
    ];
    let seconds = |time: Option<f64>| time.map_or("never".to_owned(), |time| format!("{time:.1} s"));
    let rows = reports.iter().map(|report| {
        let lost = report.verdict.broken(Promise::Delivered);
        vec![
            report.case.clone(),
            format!("{:.0}, {:.0}", report.transient_rate.0, report.transient_rate.1),
            format!("{:.2} s", report.transient_gap),
            format!("{:.0}, {}", report.acknowledged.0, report.acknowledged.1),
            seconds(report.unready_after),
            seconds(report.ready_after),
            format!("{:.0}, {:.0} MiB", report.rss_mib.0, report.rss_mib.1),
            format!("{} s", report.pending_seconds),
            report.log.join("<br>").replace('|', "\\|"),
            seconds(report.first_acknowledgement),
            report.restarts.to_string(),
            lost.to_string(),
            (report.verdict.broken.values().sum::<u64>() - lost).to_string(),
            if report.is_clean() { "yes" } else { "**no**" }.to_owned(),
        ]
    });
    Table { name: "outages", head, rows: rows.collect() }
}
