//! The operator as a process of this machine, with a ServiceAccount of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};

/// Until it says that it has seen everything.
const READY: Duration = Duration::from_secs(60);
/// From SIGTERM to its end.
const STOP: Duration = Duration::from_secs(20);

/// An operator that runs; it ends with this.
pub struct Operator {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

/// How it is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// More flags.
    pub flags: Vec<String>,
    /// The name of this process, as a pod's.
    pub name: Option<String>,
}

impl Options {
    /// With these flags.
    pub fn with(flags: &[&str]) -> Self {
        Self { flags: flags.iter().map(|flag| (*flag).to_owned()).collect(), name: None }
    }
}

impl Operator {
    /// Starts `binary`; what it writes goes into `folder`.
    pub fn start(binary: &Path, kubeconfig: &Path, folder: &Path, options: &Options) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = folder.join(format!("operator-{}.log", address.port()));
        let file = std::fs::File::create(&log)?;
        let has = |flag: &str| options.flags.iter().any(|given| given.starts_with(flag));
        let mut command = Command::new(binary);
        command.arg("run").args(["--listen", &address.to_string()]).args(["--log-format", "text"]);
        if !has("--leader-elect") {
            command.args(["--leader-elect", "false"]);
        }
        command.args(&options.flags).env("KUBECONFIG", kubeconfig).env("NO_COLOR", "1");
        if let Some(name) = &options.name {
            command.env("POD_NAME", name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start {}", binary.display()))?;
        Ok(Self { child, address, log })
    }

    /// Where it tells how it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until everything was seen, and says how long that took.
    pub async fn wait_ready(&mut self) -> anyhow::Result<Duration> {
        let begin = Instant::now();
        loop {
            if self.readiness().await.is_ok_and(|(code, _)| code == 200) {
                return Ok(begin.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the operator ended with {status}:\n{}", self.log_text());
            }
            ensure!(begin.elapsed() < READY, "the operator is not ready:\n{}", self.log_text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What `/readyz` says.
    pub async fn readiness(&self) -> anyhow::Result<(u16, Value)> {
        let answer = reqwest::get(format!("http://{}/readyz", self.address)).await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// The value of a metric, all series together; 0 when there is none.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = reqwest::get(format!("http://{}/metrics", self.address)).await?.text().await?;
        let series = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let text = self.proc("status")?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }

    /// CPU time it has used.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let text = self.proc("stat")?;
        let after = text.rsplit_once(')').context("no name")?.1;
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
    }

    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let id = self.child.id().context("the operator has ended")?;
        Ok(std::fs::read_to_string(format!("/proc/{id}/{file}"))?)
    }

    /// SIGTERM, and its end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let id = self.child.id().context("the operator has ended")?;
        let id = rustix::process::Pid::from_raw(i32::try_from(id)?).context("no process")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(STOP, self.child.wait()).await.context("the operator does not end")??;
        ensure!(status.success(), "the operator ended with {status}:\n{}", self.log_text());
        Ok(())
    }

    /// kill -9.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it wrote.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}
