//! Looking after a broker during an outage: is it ready, how large is it, does it live.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::history::Recorder;

/// How long the oldest write to the bucket has taken so far.
const PENDING: &str = "mqtt_bucket_write_pending_seconds";
/// Between two looks.
const EVERY: Duration = Duration::from_millis(100);
/// A broker that ended by itself is started again after this time.
const RESTART: Duration = Duration::from_secs(1);

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) at: Duration,
    /// None: nobody answered.
    pub(super) is_ready: Option<bool>,
    /// Resident bytes.
    pub(super) rss: u64,
    /// Seconds the oldest write under way has taken so far, as its metric says.
    pub(super) pending: u64,
}

pub(super) struct Watch {
    recorder: Recorder,
    pub(super) looks: Vec<Look>,
    /// Times the broker ended by itself.
    pub(super) restarts: u32,
    /// How, and what it said, the first time.
    pub(super) why: Option<String>,
    /// What the broker warned of.
    pub(super) log: Vec<String>,
    restart_at: Option<Instant>,
}

impl Watch {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder, looks: Vec::new(), restarts: 0, why: None, log: Vec::new(), restart_at: None }
    }

    /// Looks again and again for so long, and starts the broker when it has ended.
    pub(super) fn look_after(&mut self, broker: &mut Broker, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if let Some(status) = broker.ended()? {
                self.recorder.done(format!("the broker ended by itself, {status}"));
                self.restarts += 1;
                self.why.get_or_insert_with(|| format!("{status}; {}", broker.log().lines().last().unwrap_or_default()));
                self.restart_at = Some(Instant::now() + RESTART);
            }
            if self.restart_at.is_some_and(|at| Instant::now() > at) {
                self.restart_at = None;
                self.recorder.done("the broker is started again");
                broker.start()?;
            }
            let pending = broker.get("/metrics").map(|text| metric(&text, PENDING)).unwrap_or_default();
            let rss = broker.pid().and_then(rss).unwrap_or_default();
            self.looks.push(Look {
                at: self.recorder.now(),
                is_ready: broker.get("/readyz").ok().map(|answer| answer.starts_with("HTTP/1.1 200")),
                rss,
                pending,
            });
            std::thread::sleep(EVERY);
        }
        Ok(())
    }
}

/// The value of a metric without labels.
fn metric(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

fn rss(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
