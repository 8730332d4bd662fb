//! Every expression of alerts and dashboards, asked of a real Prometheus that scrapes a live broker.

use std::collections::BTreeSet;

use anyhow::ensure;
use bucketmq_observe::BROKER;
use bucketmq_observe::asked::{SOON, alerts_are_quiet, dashboards_are_full, scraped};
use bucketmq_observe::prometheus::{Prometheus, wait_until};
use bucketmq_observe::scene::Scene;

/// So many scrapes are enough for a rate of what nobody has done yet.
const QUIET_SCRAPES: u32 = 3;
/// So many are enough for a rate over what Grafana's interval would be.
const BUSY_SCRAPES: u32 = 15;

#[test]
fn every_expression_says_something_about_a_live_broker_and_no_alert_disturbs_it() {
    let mut scene = Scene::start().expect("a broker");
    let prometheus = Prometheus::start(&BROKER, scene.admin).expect("a Prometheus");

    // A counter that is not there before its first event would be an empty panel, and an alert that misses that event.
    scraped(&prometheus, &BROKER, QUIET_SCRAPES).expect("scrapes");
    alerts_are_quiet(&prometheus, &BROKER, |_| true).expect("alerts");
    dashboards_are_full(&prometheus, &BROKER, |_| true).expect("dashboards");

    scene.begin_traffic().expect("Clients");
    scraped(&prometheus, &BROKER, BUSY_SCRAPES).expect("scrapes");
    dashboards_are_full(&prometheus, &BROKER, f64::is_finite).expect("dashboards");
    runbooks_name_metrics_that_exist(&scene.metrics().expect("metrics")).expect("runbooks");
    alerts_are_quiet(&prometheus, &BROKER, f64::is_finite).expect("alerts");

    scene.end_traffic().expect("Clients end");
    scene.lose_bucket();
    becomes_active(&prometheus, "MqttBucketUnreachable").expect("an alert about the bucket");
    scene.lose_broker();
    becomes_active(&prometheus, "MqttBrokerDown").expect("an alert about the broker");
}

fn becomes_active(prometheus: &Prometheus, name: &str) -> anyhow::Result<()> {
    let active = || Ok(prometheus.alerts()?.iter().any(|alert| alert.name == name && alert.state != "inactive" && alert.health == "ok"));
    wait_until(name, SOON, active)
}

fn runbooks_name_metrics_that_exist(metrics: &str) -> anyhow::Result<()> {
    let known: BTreeSet<_> = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    ensure!(known.contains("mqtt_build_info"), "the broker shows no metrics");
    for entry in std::fs::read_dir(BROKER.folder().join("runbooks"))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path)?;
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        for word in words.filter(|word| word.starts_with("mqtt_")) {
            ensure!(known.contains(word), "{}: the broker has no metric {word}", path.display());
        }
    }
    Ok(())
}
