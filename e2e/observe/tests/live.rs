//! Every expression of alerts and dashboards, asked of a real Prometheus that scrapes a live broker.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_observe::alerts::operands;
use bucketmq_observe::dashboards::{self, Dashboard, filled_in};
use bucketmq_observe::prometheus::{Prometheus, wait_until};
use bucketmq_observe::scene::Scene;
use bucketmq_observe::{JOB, NAMESPACE, POD, alerts, chart};

/// So many scrapes are enough for a rate of what nobody has done yet.
const QUIET_SCRAPES: u32 = 3;
/// So many are enough for a rate over [`RATE_INTERVAL`].
const BUSY_SCRAPES: u32 = 15;
/// What Grafana would say: at least four scrapes.
const RATE_INTERVAL: &str = "10s";
/// Things happen in this time, on a machine that is busy.
const SOON: Duration = Duration::from_secs(40);

#[test]
fn every_expression_says_something_about_a_live_broker_and_no_alert_disturbs_it() {
    let mut scene = Scene::start().expect("a broker");
    let prometheus = Prometheus::start(scene.admin).expect("a Prometheus");

    // A counter that is not there before its first event would be an empty panel, and an alert that misses that event.
    scraped(&prometheus, QUIET_SCRAPES).expect("scrapes");
    alerts_are_quiet(&prometheus, |_| true).expect("alerts");
    dashboards_are_full(&prometheus, |_| true);

    scene.begin_traffic().expect("Clients");
    scraped(&prometheus, BUSY_SCRAPES).expect("scrapes");
    dashboards_are_full(&prometheus, f64::is_finite);
    runbooks_name_metrics_that_exist(&scene.metrics().expect("metrics")).expect("runbooks");
    alerts_are_quiet(&prometheus, f64::is_finite).expect("alerts");

    scene.end_traffic().expect("Clients end");
    scene.lose_bucket();
    becomes_active(&prometheus, "MqttBucketUnreachable").expect("an alert about the bucket");
    scene.lose_broker();
    becomes_active(&prometheus, "MqttBrokerDown").expect("an alert about the broker");
}

fn scraped(prometheus: &Prometheus, times: u32) -> anyhow::Result<()> {
    let so_far =
        || anyhow::Ok(prometheus.ask(&format!("count_over_time(up{{job=\"{JOB}\"}}[10m])"))?.first().map_or(0.0, |(_, count)| *count));
    let wanted = so_far()? + f64::from(times);
    wait_until("the broker is scraped", SOON, || Ok(so_far()? >= wanted))
}

fn dashboards_are_full(prometheus: &Prometheus, is_right: fn(f64) -> bool) {
    let all = dashboards::all().expect("dashboards");
    let faults: Vec<_> = all.iter().flat_map(|dashboard| faults(prometheus, dashboard, is_right)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// No alert is even pending, each was looked at, and neither side of any comparison is empty.
fn alerts_are_quiet(prometheus: &Prometheus, is_right: fn(f64) -> bool) -> anyhow::Result<()> {
    wait_until("every alert was looked at", SOON, || Ok(prometheus.alerts()?.iter().all(|alert| alert.health != "unknown")))?;
    let alerts = prometheus.alerts()?;
    let written = std::fs::read_to_string(alerts::file())?.matches("- alert:").count();
    ensure!(alerts.len() == written, "{} of {written} alerts are there", alerts.len());
    for alert in alerts {
        ensure!((alert.health.as_str(), alert.state.as_str()) == ("ok", "inactive"), "{}: {:#}", alert.name, alert.whole);
        ensure!(prometheus.ask(&alert.expression)?.is_empty(), "{} fires: {}", alert.name, alert.expression);
        for operand in operands(&alert.expression).into_iter().filter(|operand| !operand.starts_with("absent(")) {
            let values = prometheus.ask(operand).with_context(|| alert.name.clone())?;
            ensure!(!values.is_empty(), "{}: nothing for {operand}", alert.name);
            ensure!(values.iter().all(|(_, value)| is_right(*value)), "{}: no number for {operand}: {values:?}", alert.name);
        }
    }
    Ok(())
}

/// What a dashboard asks in vain, with the broker chosen and with everything chosen.
fn faults(prometheus: &Prometheus, dashboard: &Dashboard, is_right: fn(f64) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let all_of =
        |name: &str| dashboard.variables().find(|variable| variable["name"] == name).and_then(|variable| variable["allValue"].as_str());
    let names = ["namespace", "broker", "pod"];
    let everything: Vec<_> = names.iter().map(|name| (*name, all_of(name).unwrap_or(".*"))).collect();
    let chosen = [("namespace", NAMESPACE), ("broker", JOB), ("pod", POD)];
    for values in [&chosen[..], &everything] {
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

fn becomes_active(prometheus: &Prometheus, name: &str) -> anyhow::Result<()> {
    let active = || Ok(prometheus.alerts()?.iter().any(|alert| alert.name == name && alert.state != "inactive" && alert.health == "ok"));
    wait_until(name, SOON, active)
}

fn runbooks_name_metrics_that_exist(metrics: &str) -> anyhow::Result<()> {
    let known: BTreeSet<_> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    ensure!(known.contains("mqtt_build_info"), "the broker shows no metrics");
    for entry in std::fs::read_dir(chart().join("runbooks"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for word in words.filter(|word| word.starts_with("mqtt_")) {
            ensure!(known.contains(word), "{}: the broker has no metric {word}", path.display());
        }
    }
    Ok(())
}
