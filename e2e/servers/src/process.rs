//! A server's process: in a process group of its own, with its output in a file, and killed whatever happens to us.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

/// How many lines of a log a failure shows.
const LOG_LINES: usize = 60;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processor time, of all threads, user and system, in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory now.
    pub rss_bytes: u64,
    /// The most there was.
    pub rss_bytes_max: u64,
}

/// A running process. Dropping it kills its group; so does the end of this process, even by a signal that cannot be caught.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    watchdog: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`. `scratch` goes away with this process if nobody removes it before.
    pub(crate) fn start(name: &'static str, mut command: Command, log: PathBuf, scratch: &Path) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt;

        let output = File::options().create(true).append(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        // A test that is killed runs no destructor. Its end of this pipe closes all the same, and then `read` returns. The watchdog has a group of
        // its own, so that Ctrl-C does not end it before it has done its work. Without `--`: dash's `kill` takes it for a number.
        let script = r#"read -r _; kill -9 "-$1"; rm -rf -- "$2""#;
        let watchdog = Command::new("sh")
            .args(["-c", script, "watchdog", &child.id().to_string()])
            .arg(scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self { name, child, watchdog, log }),
            Err(error) => {
                kill_group(&mut child);
                Err(error).context("start sh")
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        // The watchdog first: it must not kill by a number that may belong to somebody else by then. It may have ended by itself.
        self.watchdog.kill().ok();
        self.watchdog.wait().ok();
        kill_group(&mut self.child);
    }

    /// Reads `/proc`.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let path = format!("/proc/{}", self.pid());
        let stat = std::fs::read_to_string(format!("{path}/stat"))?;
        // The second field, the name, may hold blanks and ends with the last parenthesis.
        let (_, fields) = stat.rsplit_once(") ").context("read /proc/PID/stat")?;
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or_default()).sum();
        let cpu = Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second());
        let status = std::fs::read_to_string(format!("{path}/status"))?;
        let bytes = |name: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in /proc/PID/status"))?;
            Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
        };
        Ok(Usage { cpu, rss_bytes: bytes("VmRSS:")?, rss_bytes_max: bytes("VmHWM:")? })
    }

    /// The end of what it has printed.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("-- the end of the log of {}:\n{}\n--", self.name, self.log());
        }
    }
}

/// It may have ended by itself.
fn kill_group(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
        && child.try_wait().is_ok_and(|status| status.is_none())
    {
        kill_process_group(group, Signal::KILL).ok();
    }
    child.wait().ok();
}
