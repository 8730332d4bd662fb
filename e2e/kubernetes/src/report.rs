//! What came of the cases.

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

/// One figure of a case.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What it is.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `s`, `MB`, `writes`.
    pub unit: &'static str,
    /// The most it may be, where something was promised.
    pub bar: Option<f64>,
}

impl Measured {
    /// A time without a promise.
    pub fn time(name: &str, time: Duration) -> Self {
        Self { name: name.to_owned(), value: time.as_secs_f64(), unit: "s", bar: None }
    }

    /// A count or size without a promise.
    pub fn amount(name: &str, value: f64, unit: &'static str) -> Self {
        Self { name: name.to_owned(), value, unit, bar: None }
    }

    /// The same with what was promised.
    pub fn at_most(self, bar: f64) -> Self {
        Self { bar: Some(bar), ..self }
    }

    /// Whether the promise is kept.
    pub fn is_kept(&self) -> bool {
        self.bar.is_none_or(|bar| self.value <= bar)
    }
}

/// How a case ended.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Its name.
    pub case: &'static str,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What it measured.
    pub measured: Vec<Measured>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// The figures as a table in Markdown.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::from("| case | what | measured | bar |\n|---|---|---|---|\n");
    for outcome in outcomes {
        for measured in &outcome.measured {
            let bar = measured.bar.map(|bar| format!("{bar} {}", measured.unit)).unwrap_or_default();
            let verdict = if measured.is_kept() { "" } else { " **missed**" };
            text.push_str(&format!(
                "| {} | {} | {:.2} {}{verdict} | {bar} |\n",
                outcome.case, measured.name, measured.value, measured.unit
            ));
        }
    }
    text
}

/// Prints a line on the standard output.
pub fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    // Whoever has closed it does not want to know.
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}
