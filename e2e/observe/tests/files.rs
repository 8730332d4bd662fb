//! What can be said about alerts, runbooks and dashboards without a broker.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use bucketmq_observe::dashboards::{self, Dashboard};
use bucketmq_observe::{BROKER, Chart, OPERATOR, alerts, prometheus};
use serde_json::Value;

/// The charts.
const CHARTS: [&Chart; 2] = [&BROKER, &OPERATOR];
/// The first schema of dashboards that need not be migrated by the Grafana of today.
const SCHEMA_VERSION: u64 = 42;
/// Units of Grafana that are in use. One that it does not know would be shown as text behind the number.
const UNITS: [&str; 10] = ["short", "s", "bytes", "Bps", "mps", "pps", "cps", "ops", "reqps", "dateTimeFromNow"];
/// Columns of a dashboard.
const COLUMNS: u64 = 24;

/// What each panel selects by.
fn selector(chart: &Chart) -> String {
    let [namespace, job, pod] = chart.variables().map(|(name, _)| name);
    format!("namespace=~\"${namespace}\",job=~\"${job}\",pod=~\"${pod}\"")
}

fn rules(chart: &Chart) -> String {
    std::fs::read_to_string(alerts::file(chart)).expect("the alerts")
}

/// The text of each alert, by its name.
fn alerts_of(text: &str) -> Vec<(&str, &str)> {
    let name = |part: &str| part.lines().next().map_or(0, str::len);
    text.split("- alert: ").skip(1).map(|part| part.split_at(name(part))).collect()
}

#[test]
fn the_rules_load_as_they_stand_and_as_the_chart_renders_them() {
    for chart in CHARTS {
        prometheus::promtool(&["check", "rules", "--lint=all", "--lint-fatal", "files/alerts.yaml"], &chart.folder()).expect("the rules");
        let folder = tempfile::tempdir().expect("a folder");
        let rendered = alerts::rendered(chart).expect("the rules");
        let left = rendered
            .lines()
            .filter(|line| !line.starts_with('#'))
            .find(|line| ["NAMESPACE", "JOB", "RUNBOOKS"].iter().any(|name| line.contains(name)));
        assert_eq!(left, None, "something was not put in");
        std::fs::write(folder.path().join("rules.yaml"), rendered).expect("a file");
        prometheus::promtool(&["check", "rules", "rules.yaml"], folder.path()).expect("the rules");
    }
}

#[test]
fn the_unit_tests_of_the_rules_pass() {
    for chart in CHARTS {
        prometheus::promtool(&["test", "rules", "tests/alerts_test.yaml"], &chart.folder()).expect("the unit tests");
    }
}

#[test]
fn each_alert_has_a_unit_test_that_shows_it_firing_and_one_that_shows_it_quiet() {
    for chart in CHARTS {
        let tests = std::fs::read_to_string(chart.folder().join("tests/alerts_test.yaml")).expect("the unit tests");
        let parts: Vec<_> = tests.split("- name: ").skip(1).collect();
        for (name, _) in alerts_of(&rules(chart)) {
            let of_it = |part: &&&str| part.lines().next() == Some(name);
            let shows = |what: &str| parts.iter().filter(of_it).any(|part| part.contains(what));
            assert!(shows(&format!(r#"ALERTS{{alertname="{name}",alertstate="firing""#)), "no unit test shows {name} firing");
            assert!(shows("exp_samples: []"), "no unit test shows {name} quiet");
        }
    }
}

#[test]
fn each_alert_says_what_it_means_and_has_a_runbook() {
    CHARTS.into_iter().for_each(explained);
}

fn explained(chart: &Chart) {
    let text = rules(chart);
    let mut named = BTreeSet::new();
    for (name, rule) in alerts_of(&text) {
        for key in ["labels: {severity: ", "summary: ", "description: "] {
            assert!(rule.contains(key), "{name} has no {key}");
        }
        assert!(["warning", "critical"].iter().any(|severity| rule.contains(&format!("{{severity: {severity}}}"))), "{name}: severity");
        assert!(rule.contains(&format!("runbook_url: RUNBOOKS/{name}.md")), "{name} has no runbook_url of its own");
        assert!(rule.contains(r#"namespace="NAMESPACE",job="JOB""#), "{name} looks at brokers of others");
        named.insert(name.to_owned());
    }
    let mut there = BTreeSet::new();
    for entry in std::fs::read_dir(chart.folder().join("runbooks")).expect("runbooks") {
        let path = entry.expect("a runbook").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a runbook");
        assert!(text.starts_with(&format!("# {name}\n")), "{} does not begin with its name", path.display());
        there.insert(name);
    }
    assert_eq!(named, there, "alerts and runbooks");
}

#[test]
fn dashboards_keep_their_rules() {
    let mut uids = BTreeSet::new();
    let all = CHARTS.into_iter().flat_map(|chart| dashboards::all(chart).expect("dashboards").into_iter().map(move |one| (chart, one)));
    for (chart, dashboard) in all {
        whole(&dashboard, chart).with_context(|| dashboard.name.clone()).expect("its head");
        for panel in dashboard.panels() {
            drawn(panel, &selector(chart)).with_context(|| format!("{}: {}", dashboard.name, panel["title"])).expect("a panel");
        }
        apart(&dashboard).with_context(|| dashboard.name.clone()).expect("its places");
        assert!(uids.insert(dashboard.json["uid"].to_string()), "{}: another one has its uid", dashboard.name);
    }
}

fn whole(dashboard: &Dashboard, chart: &Chart) -> anyhow::Result<()> {
    let json = &dashboard.json;
    let uid = json["uid"].as_str().unwrap_or_default();
    ensure!(uid == format!("bucketmq-{}", dashboard.name.trim_end_matches(".json")), "uid {uid}");
    ensure!(json["tags"].as_array().is_some_and(|tags| tags.contains(&"mqtt".into())), "no tag mqtt");
    ensure!(json["schemaVersion"].as_u64().is_some_and(|version| version >= SCHEMA_VERSION), "schemaVersion");
    ensure!(json["refresh"] == "30s" && json["id"].is_null(), "refresh, or an id of one Grafana");
    ensure!(json.get("__inputs").is_none() && json.get("__requires").is_none(), "exported for sharing");
    let names: Vec<_> = dashboard.variables().map(|variable| variable["name"].as_str().unwrap_or_default()).collect();
    ensure!(names == ["datasource", "namespace", chart.variable, "pod"], "variables {names:?}");
    ensure!(dashboard.variables().skip(1).all(|variable| variable["multi"] == true && variable["includeAll"] == true), "multi and All");
    Ok(())
}

fn drawn(panel: &Value, selector: &str) -> anyhow::Result<()> {
    let says = |text: &Value| text.as_str().is_some_and(|text| !text.trim().is_empty());
    ensure!(says(&panel["title"]) && says(&panel["description"]), "title and description");
    let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
    ensure!(UNITS.contains(&unit), "unit {unit:?}");
    ensure!(Dashboard::expressions(panel).next().is_some(), "no expression");
    let targets = panel["targets"].as_array().into_iter().flatten();
    ensure!(targets.chain([panel]).all(|part| part["datasource"]["uid"] == "${datasource}"), "datasource");
    for expression in Dashboard::expressions(panel) {
        let metrics = expression.matches("mqtt_").count();
        ensure!(
            metrics > 0 && expression.matches(selector).count() == metrics,
            "not each metric is selected by the variables: {expression}"
        );
        let ranges = expression.split('[').skip(1).filter_map(|rest| rest.split(']').next());
        for range in ranges {
            ensure!(range == "$__rate_interval" || (range == "1d" && expression.contains("increase(")), "range {range}: {expression}");
        }
    }
    Ok(())
}

/// No id twice, and no two panels in one place.
fn apart(dashboard: &Dashboard) -> anyhow::Result<()> {
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard.all_panels() {
        ensure!(ids.insert(panel["id"].as_u64().context("id")?), "{}: its id is taken", panel["title"]);
        let side = |name: &str| panel["gridPos"][name].as_u64().with_context(|| format!("{}: gridPos {name}", panel["title"]));
        let (x, y, w, h) = (side("x")?, side("y")?, side("w")?, side("h")?);
        ensure!(w > 0 && h > 0 && x + w <= COLUMNS, "{}: wider than the dashboard", panel["title"]);
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            ensure!(taken.insert(place), "{}: lies on another panel", panel["title"]);
        }
    }
    Ok(())
}
