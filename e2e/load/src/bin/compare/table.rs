//! Markdown of the results.

use std::fmt::Write;

use crate::results::{Measured, Results};
use crate::rows::{Bar, Metric, ROWS, Row};

/// The broker the bars are for.
const SUBJECT: &str = "bucketmq";
/// The broker the ratios are against.
const REFERENCE: &str = "mosquitto";

/// RESULTS.md.
pub fn document(results: &Results) -> String {
    let machine = &results.machine;
    let mut out = String::from("# What BucketMQ costs beside other brokers\n\n");
    let _ = writeln!(
        out,
        "Made by `compare --write`. {}, {} cores, {:.0} GB, Linux {}; {}. Generator and broker on the same cores, everything over \
         127.0.0.1.",
        machine.cpu, machine.cores, machine.memory_gb, machine.kernel, machine.date
    );
    for (name, version) in &machine.brokers {
        let _ = writeln!(out, "- {name}: {version}");
    }
    out.push_str(
        "\nFigures are medians over alternating rounds, each with a fresh process. CPU is that of the whole broker process by the \
         kernel's accounting, per message received by subscribers (per connection for idle ones). A row with lost, duplicated or reordered \
         messages does not count as met. KB are 1,024 bytes, MB a million.\n\n",
    );
    out.push_str(&markdown(results));
    out
}

/// The table alone.
pub fn markdown(results: &Results) -> String {
    let brokers: Vec<&str> = results.machine.brokers.iter().map(|(name, _)| name.as_str()).collect();
    let mut out = String::from("| scenario | figure |");
    brokers.iter().for_each(|broker| out.push_str(&format!(" {broker} |")));
    let _ = writeln!(out, " {SUBJECT} / {REFERENCE} | bar | met | goal | met |");
    out.push_str(&"|---".repeat(brokers.len() + 7));
    out.push_str("|\n");
    let mut notes = String::new();
    for row in ROWS {
        let Some(measured) = results.rows.get(row.name) else { continue };
        for (at, metric) in row.metrics.iter().enumerate() {
            let _ = write!(out, "| {} | {} |", if at == 0 { row.title } else { "" }, metric.name);
            for broker in &brokers {
                let text = measured.median(metric.name, broker).map_or("-".to_owned(), |value| metric.unit.show(value));
                let _ = write!(out, " {text} |");
            }
            let (subject, reference) = (measured.median(metric.name, SUBJECT), measured.median(metric.name, REFERENCE));
            let ratio = subject.zip(reference).filter(|(_, reference)| *reference > 0.0).map(|(subject, reference)| subject / reference);
            let _ = write!(out, " {} |", ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x")));
            for bar in [metric.bar, metric.goal] {
                let text = bar.map_or("-".to_owned(), |bar| describe(bar, metric));
                let _ = write!(out, " {text} | {} |", verdict(bar, metric, measured));
            }
            out.push('\n');
        }
        note_faults(row, measured, &mut notes);
    }
    if !notes.is_empty() {
        let _ = write!(out, "\nWhat went wrong (all rounds):\n{notes}");
    }
    out
}

fn note_faults(row: &Row, measured: &Measured, notes: &mut String) {
    for (broker, faults) in &measured.faults {
        let _ = writeln!(notes, "- {}, {broker}: {}", row.title, faults.join("; "));
    }
}

fn describe(bar: Bar, metric: &Metric) -> String {
    match bar {
        Bar::AtMostTimes(times) => format!("<= {times}x"),
        Bar::AtLeastTimes(times) => format!(">= {times}x"),
        Bar::AtMost(limit) => format!("<= {}", metric.unit.show(limit)),
        Bar::NoLessThan(broker) => format!(">= {broker}"),
        Bar::NoMoreThan(broker) => format!("<= {broker}"),
    }
}

fn verdict(bar: Option<Bar>, metric: &Metric, measured: &Measured) -> &'static str {
    let of = |broker: &str| measured.median(metric.name, broker);
    let Some((bar, subject)) = bar.zip(of(SUBJECT)) else { return "-" };
    let met = match bar {
        Bar::AtMostTimes(times) => of(REFERENCE).map(|reference| subject <= reference * times),
        Bar::AtLeastTimes(times) => of(REFERENCE).map(|reference| subject >= reference * times),
        Bar::AtMost(limit) => Some(subject <= limit),
        Bar::NoLessThan(broker) => of(broker).map(|other| subject >= other),
        Bar::NoMoreThan(broker) => of(broker).map(|other| subject <= other),
    };
    match met {
        None => "-",
        Some(_) if measured.faults.contains_key(SUBJECT) => "**no** (see below)",
        Some(true) => "yes",
        Some(false) => "**no**",
    }
}
