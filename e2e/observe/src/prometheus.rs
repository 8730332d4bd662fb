//! A Prometheus that scrapes one broker, or operator, each second.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{Chart, alerts, http};

/// It is there in this time, on a machine that is busy.
const START: Duration = Duration::from_secs(30);
/// How often it is looked whether something has come.
const LOOK: Duration = Duration::from_millis(200);

/// The program of this name that `e2e/observe/install` has built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".cache"));
    let path = base.or_else(home).context("neither XDG_CACHE_HOME nor a home directory")?.join("bucketmq/prometheus").join(name);
    ensure!(path.exists(), "{} is missing: run `e2e/observe/install`", path.display());
    Ok(path)
}

/// Prometheus with the alerts of the chart.
pub struct Prometheus {
    address: SocketAddr,
    process: Process,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `target` as a ServiceMonitor would have it.
    pub fn start(chart: &Chart, target: SocketAddr) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("alerts.yaml"), alerts::rendered(chart)?)?;
        let config = configuration(chart, target);
        let file = folder.path().join("prometheus.yaml");
        std::fs::write(&file, config)?;
        let address = http::free_address()?;
        let mut command = Command::new(program("prometheus")?);
        command.arg(format!("--config.file={}", file.display())).arg(format!("--web.listen-address={address}"));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display())).arg("--log.level=warn");
        let process = Process::start(&command, &folder.path().join("log"))?;
        let prometheus = Self { address, process, _folder: folder };
        let ready = || Ok(http::get(address, "/-/ready").is_ok_and(|(status, _)| status == 200));
        wait_until("Prometheus is ready", START, ready).with_context(|| prometheus.process.log())?;
        Ok(prometheus)
    }

    /// The result of `expression` now: one value for each series.
    pub fn ask(&self, expression: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        let data = self.data(&format!("/api/v1/query?query={}", utf8_percent_encode(expression, NON_ALPHANUMERIC)))?;
        let value = |pair: &Value| pair[1].as_str().and_then(|text| text.parse().ok()).with_context(|| format!("{expression}: {pair}"));
        match data["resultType"].as_str() {
            Some("vector") => {
                let series = data["result"].as_array().into_iter().flatten();
                series.map(|series| Ok((series["metric"].clone(), value(&series["value"])?))).collect()
            }
            Some("scalar") => Ok(vec![(Value::Null, value(&data["result"])?)]),
            other => bail!("{expression}: a result of type {other:?}"),
        }
    }

    /// All alerts as they are now.
    pub fn alerts(&self) -> anyhow::Result<Vec<Alert>> {
        let data = self.data("/api/v1/rules?type=alert")?;
        let groups = data["groups"].as_array().into_iter().flatten();
        let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let alert = |rule: &Value| Alert {
            name: text(&rule["name"]),
            expression: text(&rule["query"]),
            state: text(&rule["state"]),
            health: text(&rule["health"]),
            whole: rule.clone(),
        };
        Ok(rules.map(alert).collect())
    }

    fn data(&self, path: &str) -> anyhow::Result<Value> {
        let (status, body) = http::get(self.address, path)?;
        ensure!(status == 200, "{path}: {status}: {body}");
        let mut answer: Value = serde_json::from_str(&body)?;
        // A warning means that an expression does not mean what it says, such as a rate of a gauge.
        for remarks in ["warnings", "infos"] {
            ensure!(answer[remarks].as_array().is_none_or(Vec::is_empty), "{path}: {}", answer[remarks]);
        }
        Ok(answer["data"].take())
    }
}

/// An alerting rule.
pub struct Alert {
    /// Its name.
    pub name: String,
    /// Its expression, as Prometheus writes it.
    pub expression: String,
    /// `inactive`, `pending`, `firing`, or `unknown` before it was looked at.
    pub state: String,
    /// `ok`, `err`, or `unknown` before it was looked at.
    pub health: String,
    /// All that is known about it.
    pub whole: Value,
}

fn configuration(chart: &Chart, target: SocketAddr) -> String {
    let Chart { namespace, job, pod, .. } = chart;
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [alerts.yaml]
scrape_configs:
- job_name: {job}
  static_configs:
  - targets: ['{target}']
    labels: {{namespace: {namespace}, service: {job}, pod: {pod}, endpoint: http, container: main}}
"
    )
}

/// Runs `promtool` with these words, in this folder.
pub fn promtool(words: &[&str], folder: &Path) -> anyhow::Result<String> {
    let output = Command::new(program("promtool")?).args(words).current_dir(folder).output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "promtool {}: {said}", words.join(" "));
    Ok(said)
}

/// Waits until `holds` says so.
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let until = Instant::now() + limit;
    while !holds()? {
        ensure!(Instant::now() < until, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK);
    }
    Ok(())
}
