//! The dashboards of a chart as JSON, and the expressions in them.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Chart;

/// A dashboard.
pub struct Dashboard {
    /// The name of its file.
    pub name: String,
    /// What is in it.
    pub json: Value,
}

/// All of a chart.
pub fn all(chart: &Chart) -> anyhow::Result<Vec<Dashboard>> {
    let folder = chart.folder().join("dashboards");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let json = serde_json::from_str(&std::fs::read_to_string(&path)?).with_context(|| name.clone())?;
        found.push(Dashboard { name, json });
    }
    ensure!(!found.is_empty(), "no dashboards in {}", folder.display());
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

impl Dashboard {
    /// All that is drawn, without the rows.
    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        self.all_panels().filter(|panel| panel["type"] != "row")
    }

    /// The rows, too.
    pub fn all_panels(&self) -> impl Iterator<Item = &Value> {
        self.json["panels"].as_array().into_iter().flatten()
    }

    /// What is asked for a panel.
    pub fn expressions(panel: &Value) -> impl Iterator<Item = &str> {
        panel["targets"].as_array().into_iter().flatten().filter_map(|target| target["expr"].as_str())
    }

    /// The variables.
    pub fn variables(&self) -> impl Iterator<Item = &Value> {
        self.json["templating"]["list"].as_array().into_iter().flatten()
    }
}

/// `text` as Grafana asks it, with these values of the variables and this interval.
pub fn filled_in(text: &str, values: &[(&str, &str)], rate_interval: &str) -> String {
    values.iter().fold(text.replace("$__rate_interval", rate_interval), |text, (name, value)| text.replace(&format!("${name}"), value))
}
