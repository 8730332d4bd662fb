//! The figures of all runs, and the files that keep them: `durable.json`, `DURABLE.md` made of it, the picture, and the cost table of the README.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::measure::Measured;
use super::plot::{self, Point};
use super::rows::{Bar, Figure, ROWS, Row};
use super::{Scale, cost};
use crate::machine::Machine;

/// Between these lines the README holds the table of costs.
const README_MARKS: (&str, &str) = ("<!-- cost: made by `load durable` -->\n", "<!-- end of cost -->\n");

/// Everything that was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Results {
    /// On what.
    pub machine: Machine,
    /// What else the machine did.
    #[serde(default)]
    pub note: String,
    /// By the name of the row.
    pub rows: BTreeMap<String, Figures>,
    /// Memory against queued messages: with a bucket, in memory.
    #[serde(default)]
    pub memory: (Vec<Point>, Vec<Point>),
}

/// What was measured for one row.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Figures {
    /// When.
    pub date: String,
    /// What was done.
    pub title: String,
    /// Values of each round.
    pub values: BTreeMap<String, Vec<f64>>,
    /// The share of the processors' time that others used before each round.
    #[serde(default)]
    pub busy: Vec<f64>,
    /// What must not be, of all rounds.
    pub faults: Vec<String>,
}

impl Results {
    /// Enters a round of `row`.
    pub fn add(&mut self, row: &Row, scale: &Scale, busy: f64, measured: anyhow::Result<Measured>) {
        let figures = self.rows.entry(row.name.to_owned()).or_default();
        figures.date.clone_from(&self.machine.date);
        figures.title = (row.title)(scale);
        figures.busy.push(busy);
        match measured {
            Ok(measured) => {
                for (name, value) in measured.values {
                    figures.values.entry(name.to_owned()).or_default().push(value);
                }
                figures.faults.extend(measured.faults);
                if let Some((with_bucket, in_memory)) = measured.memory {
                    self.memory = (plot::thin(&with_bucket), plot::thin(&in_memory));
                }
            }
            Err(error) => figures.faults.push(format!("failed: {error:#}")),
        }
    }

    /// Median of a figure over its rounds.
    pub fn median(&self, row: &str, figure: &str) -> Option<f64> {
        let values = self.rows.get(row)?.values.get(figure)?;
        (!values.is_empty()).then(|| super::median(values.clone()))
    }

    /// Every fault, with its row.
    pub fn faults(&self) -> Vec<String> {
        self.rows.iter().flat_map(|(row, figures)| figures.faults.iter().map(move |fault| format!("{row}: {fault}"))).collect()
    }

    /// Rows that were measured before and not now.
    fn keep(&mut self, earlier: Self) {
        for (name, figures) in earlier.rows {
            self.rows.entry(name).or_insert(figures);
        }
        if self.memory.0.is_empty() {
            self.memory = earlier.memory;
        }
        if self.note.is_empty() {
            self.note = earlier.note;
        }
    }

    /// Writes all files, with rows measured before where they were not measured now.
    pub fn write(mut self) -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = folder.join("durable.json");
        if let Ok(earlier) = fs::read(&file) {
            self.keep(serde_json::from_slice(&earlier).with_context(|| format!("{} is not understood", file.display()))?);
        }
        write(&file, &(serde_json::to_string_pretty(&self)? + "\n"))?;
        write(&folder.join("DURABLE.md"), &self.document())?;
        let root: PathBuf = folder.ancestors().nth(2).context("the checkout")?.to_owned();
        if !self.memory.0.is_empty() {
            write(&root.join("broker/docs/queue-memory.svg"), &plot::svg(&self.memory.0, &self.memory.1))?;
        }
        let readme = root.join("README.md");
        let text = fs::read_to_string(&readme)?;
        if let (Some(costs), Some(text)) = (cost::table(&self), between(&text, README_MARKS)) {
            write(&readme, &format!("{}{costs}{}", text.0, text.1))?;
        }
        Ok(self)
    }

    /// DURABLE.md.
    pub fn document(&self) -> String {
        let machine = &self.machine;
        let mut out = String::from("# What durable costs\n\n");
        let _ = writeln!(
            out,
            "Made by `load durable`. {}, {} cores, {:.0} GB, Linux {}; {}. Broker, generator, S3 server (versitygw) and the proxy that adds 30 ms to \
             each write and 15 ms to each read share these cores; payloads are {} bytes. Times are therefore upper bounds; CPU is that of \
             the broker's process alone. Every acknowledged message was taken by its Session afterwards and counted: a row with one lost, \
             twice or out of order does not count as met. Figures are medians over their rounds, with the least and the most where there were several.\n",
            machine.cpu,
            machine.cores,
            machine.memory_gb,
            machine.kernel,
            machine.date,
            super::flow::PAYLOAD
        );
        if !self.note.is_empty() {
            let _ = writeln!(out, "{}\n", self.note);
        }
        out.push_str(&self.table());
        out.push_str("\n![memory against queued messages](../../broker/docs/queue-memory.svg)\n");
        if let Some(costs) = cost::table(self) {
            let _ = write!(out, "\n## What the requests cost\n\n{costs}");
        }
        out
    }

    /// The table alone.
    pub fn table(&self) -> String {
        let mut out = String::from("| row | what | figure | bar | measured | met |\n|---|---|---|---|---|---|\n");
        let mut notes = String::new();
        for row in ROWS {
            let Some(figures) = self.rows.get(row.name) else { continue };
            for (at, figure) in row.figures.iter().enumerate() {
                let (name, title) = if at == 0 { (row.name, figures.title.as_str()) } else { ("", "") };
                let _ = writeln!(out, "| {name} | {title} | {} | {} |", figure.name, cells(figure, figures));
            }
            if let Some(busy) = figures.busy.iter().copied().reduce(f64::max).filter(|busy| *busy > super::BUSY) {
                let _ = writeln!(
                    notes,
                    "- {}: others used {:.0} % of the processors before it, so its times say little",
                    row.name,
                    busy * 100.0
                );
            }
            for fault in &figures.faults {
                let _ = writeln!(notes, "- {}: {fault}", row.name);
            }
        }
        if !notes.is_empty() {
            let _ = write!(out, "\nWhat to know of some rows:\n\n{notes}");
        }
        out
    }
}

/// Bar, value and verdict of one figure.
fn cells(figure: &Figure, figures: &Figures) -> String {
    let bar = figure.bar.map_or("-".to_owned(), |bar| match bar {
        Bar::AtMost(limit) => format!("<= {}", figure.unit.show(limit)),
        Bar::AtLeast(limit) => format!(">= {}", figure.unit.show(limit)),
    });
    let Some(values) = figures.values.get(figure.name).filter(|values| !values.is_empty()) else { return format!("{bar} | - | -") };
    let median = super::median(values.clone());
    let mut shown = figure.unit.show(median);
    if values.len() > 1 {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let _ = write!(shown, " ({} to {})", figure.unit.show(least), figure.unit.show(most));
    }
    let met = match figure.bar {
        None => "-",
        Some(_) if !figures.faults.is_empty() => "**no** (see below)",
        Some(bar) if bar.is_met(median) => "yes",
        Some(_) => "**no**",
    };
    format!("{bar} | {shown} | {met}")
}

/// What stands before and behind the part between `marks`, the marks included.
fn between<'a>(text: &'a str, (begin, end): (&str, &str)) -> Option<(&'a str, &'a str)> {
    let from = text.find(begin)? + begin.len();
    let to = from + text[from..].find(end)?;
    Some((&text[..from], &text[to..]))
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_says_what_is_met_and_a_fault_forbids_it() {
        let mut results = Results::default();
        let row = &ROWS[0];
        let measured = |rss| Measured { values: vec![("RSS", rss)], ..Measured::default() };
        results.add(row, &Scale::quick(), 0.0, Ok(measured(20.0)));
        results.add(row, &Scale::quick(), 0.0, Ok(measured(30.0)));
        assert!(results.table().contains("| <= 48.0 MB | 25.0 MB (20.0 MB to 30.0 MB) | yes |"), "{}", results.table());
        results.add(row, &Scale::quick(), 0.0, Ok(measured(90.0)));
        results.add(row, &Scale::quick(), 0.0, Ok(measured(90.0)));
        assert!(results.table().contains("| 60.0 MB (20.0 MB to 90.0 MB) | **no** |"), "{}", results.table());
        results.add(row, &Scale::quick(), 0.0, Err(anyhow::anyhow!("no broker")));
        assert!(results.table().contains("**no** (see below)") && results.table().contains("- start: failed: no broker"));
    }

    #[test]
    fn part_between_the_marks_is_replaced() {
        assert_eq!(between("a<old>b", ("<", ">")), Some(("a<", ">b")));
        assert_eq!(between("a old b", ("<", ">")), None);
    }
}
