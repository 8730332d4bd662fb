//! The figures of all rounds, and the file that keeps them between runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bucketmq_load::machine::Machine;
use bucketmq_load::report::Report;
use serde::{Deserialize, Serialize};

use crate::rows::Row;
use crate::table;

/// Everything that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// On what.
    pub machine: Machine,
    /// By the name of the row.
    pub rows: BTreeMap<String, Measured>,
}

/// What was measured for one row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// When.
    pub date: String,
    /// Figures of each round, by metric and broker.
    pub figures: BTreeMap<String, BTreeMap<String, Vec<f64>>>,
    /// What went wrong, by broker.
    pub faults: BTreeMap<String, Vec<String>>,
}

impl Measured {
    /// Median over the rounds.
    pub fn median(&self, metric: &str, broker: &str) -> Option<f64> {
        let mut values = self.figures.get(metric)?.get(broker)?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(values[middle]),
            _ => Some((values[middle - 1] + values[middle]) / 2.0),
        }
    }
}

/// What makes a report no good.
pub fn faults(report: &Report) -> Vec<String> {
    let counts = [("lost", report.lost), ("duplicated", report.duplicated), ("reordered", report.reordered), ("refused", report.refused)];
    let mut faults: Vec<String> =
        counts.iter().filter_map(|(name, count)| count.filter(|&count| count > 0).map(|count| format!("{count} {name}"))).collect();
    faults.extend(report.failures.iter().cloned());
    faults
}

impl Results {
    /// None yet.
    pub fn new(machine: Machine) -> Results {
        Results { machine, rows: BTreeMap::new() }
    }

    /// Enters a run.
    pub fn add(&mut self, row: &Row, broker: &str, outcome: &anyhow::Result<Report>) {
        let measured = self.rows.entry(row.name.to_owned()).or_default();
        measured.date.clone_from(&self.machine.date);
        let faults = match outcome {
            Ok(report) => {
                for metric in row.metrics {
                    if let Some(value) = (metric.value)(report) {
                        measured.figures.entry(metric.name.to_owned()).or_default().entry(broker.to_owned()).or_default().push(value);
                    }
                }
                faults(report)
            }
            Err(error) => vec![format!("failed: {error:#}")],
        };
        for fault in faults {
            let known = measured.faults.entry(broker.to_owned()).or_default();
            if !known.contains(&fault) {
                known.push(fault);
            }
        }
    }

    /// Writes RESULTS.md and results.json, keeping rows that were not run now, and returns what they hold.
    pub fn write(mut self) -> anyhow::Result<Results> {
        let folder = folder();
        let file = folder.join("results.json");
        if let Ok(earlier) = fs::read(&file)
            && let Ok(earlier) = serde_json::from_slice::<Results>(&earlier)
        {
            for (name, measured) in earlier.rows {
                self.rows.entry(name).or_insert(measured);
            }
            for (name, version) in earlier.machine.brokers {
                if !self.machine.brokers.iter().any(|(known, _)| *known == name) {
                    self.machine.brokers.push((name, version));
                }
            }
        }
        let mut json = serde_json::to_string_pretty(&self)?;
        json.push('\n');
        fs::write(&file, json).with_context(|| format!("cannot write {}", file.display()))?;
        let document = table::document(&self);
        fs::write(folder.join("RESULTS.md"), &document)?;
        println!("{document}");
        Ok(self)
    }
}

/// `e2e/load` of the checkout this was built in.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
