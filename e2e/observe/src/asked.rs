//! Everything a chart asks, asked of a Prometheus that scrapes who it is about.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::dashboards::{self, Dashboard, filled_in};
use crate::prometheus::{Prometheus, wait_until};
use crate::{Chart, alerts};

/// What Grafana would say: at least four scrapes.
pub const RATE_INTERVAL: &str = "10s";
/// Things happen in this time, on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(40);

/// Waits for so many scrapes more.
pub fn scraped(prometheus: &Prometheus, chart: &Chart, times: u32) -> anyhow::Result<()> {
    let so_far = || {
        anyhow::Ok(prometheus.ask(&format!("count_over_time(up{{job=\"{}\"}}[10m])", chart.job))?.first().map_or(0.0, |(_, count)| *count))
    };
    let wanted = so_far()? + f64::from(times);
    wait_until("it is scraped", SOON, || Ok(so_far()? >= wanted))
}

/// Each panel and each variable has an answer, and each of its values is right.
pub fn dashboards_are_full(prometheus: &Prometheus, chart: &Chart, is_right: fn(f64) -> bool) -> anyhow::Result<()> {
    let all = dashboards::all(chart)?;
    let faults: Vec<_> = all.iter().flat_map(|dashboard| faults(prometheus, chart, dashboard, is_right)).collect();
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// No alert is even pending, each was looked at, and neither side of any comparison is empty.
pub fn alerts_are_quiet(prometheus: &Prometheus, chart: &Chart, is_right: fn(f64) -> bool) -> anyhow::Result<()> {
    wait_until("every alert was looked at", SOON, || Ok(prometheus.alerts()?.iter().all(|alert| alert.health != "unknown")))?;
    let all = prometheus.alerts()?;
    let written = std::fs::read_to_string(alerts::file(chart))?.matches("- alert:").count();
    ensure!(all.len() == written, "{} of {written} alerts are there", all.len());
    for alert in all {
        ensure!((alert.health.as_str(), alert.state.as_str()) == ("ok", "inactive"), "{}: {:#}", alert.name, alert.whole);
        ensure!(prometheus.ask(&alert.expression)?.is_empty(), "{} fires: {}", alert.name, alert.expression);
        for operand in alerts::operands(&alert.expression).into_iter().filter(|operand| !operand.starts_with("absent(")) {
            let values = prometheus.ask(operand).with_context(|| alert.name.clone())?;
            ensure!(!values.is_empty(), "{}: nothing for {operand}", alert.name);
            ensure!(values.iter().all(|(_, value)| is_right(*value)), "{}: no number for {operand}: {values:?}", alert.name);
        }
    }
    Ok(())
}

/// What a dashboard asks in vain, with one chosen and with everything chosen.
fn faults(prometheus: &Prometheus, chart: &Chart, dashboard: &Dashboard, is_right: fn(f64) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let all_of =
        |name: &str| dashboard.variables().find(|variable| variable["name"] == name).and_then(|variable| variable["allValue"].as_str());
    let chosen = chart.variables();
    let everything = chosen.map(|(name, _)| (name, all_of(name).unwrap_or(".*")));
    for values in [&chosen, &everything] {
        for panel in dashboard.panels() {
            for expression in Dashboard::expressions(panel) {
                let asked = filled_in(expression, values, RATE_INTERVAL);
                let fault = match prometheus.ask(&asked) {
                    Err(error) => format!("{error:#}"),
                    Ok(series) if series.is_empty() => "nothing".to_owned(),
                    Ok(series) if series.iter().any(|(_, value)| !is_right(*value)) => format!("no number: {series:?}"),
                    Ok(_) => continue,
                };
                found.push(format!("{}: {}: {asked}: {fault}", dashboard.name, panel["title"]));
            }
        }
        for (name, value) in chosen {
            let query =
                dashboard.variables().find(|variable| variable["name"] == name).and_then(|variable| variable["query"]["query"].as_str());
            let asked = filled_in(query.unwrap_or_default(), values, RATE_INTERVAL);
            let parts = asked.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).and_then(|rest| rest.rsplit_once(", "));
            let Some((metric, label)) = parts else {
                found.push(format!("{}: variable {name}: {asked} is not label_values(METRIC, LABEL)", dashboard.name));
                continue;
            };
            match prometheus.ask(&format!("group by ({label}) ({metric})")) {
                Ok(series) if series.iter().any(|(labels, _)| labels[label] == value) => {}
                other => found.push(format!("{}: variable {name}: no {value}: {other:?}", dashboard.name)),
            }
        }
    }
    found
}
