//! The memory watermark: above it the broker refuses new connections, further above it drops QoS 0, instead of being killed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bucketmq_listener::Totals;
use tracing::{info, warn};

use crate::broker::Broker;

/// How often resident memory is read.
const INTERVAL: Duration = Duration::from_millis(500);
/// Share of the machine's or cgroup's memory used when no watermark is configured.
const DEFAULT_SHARE: f64 = 0.8;
/// Above the watermark by this factor QoS 0 is dropped as well.
const QOS0_FACTOR: f64 = 1.05;
/// Below the watermark by this factor all is well again.
const RECOVERED_FACTOR: f64 = 0.95;

/// Resident bytes of this process.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// The watermark to use: what is configured, or 80 % of what cgroup or machine allow.
pub fn watermark(configured: u64) -> u64 {
    if configured > 0 {
        return configured;
    }
    let cgroup = cgroup_limit();
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    });
    let available = [cgroup, machine].into_iter().flatten().min().unwrap_or(u64::MAX);
    (available as f64 * DEFAULT_SHARE) as u64
}

/// The smallest memory limit of this process's cgroup and those above it. In a container the path is `/`.
fn cgroup_limit() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let limit = |path: &Path| std::fs::read_to_string(path.join("memory.max")).ok()?.trim().parse::<u64>().ok();
    let root = Path::new("/sys/fs/cgroup");
    root.join(own.trim_start_matches('/')).ancestors().take_while(|path| path.starts_with(root)).filter_map(limit).min()
}

/// Runs until the broker stops.
pub async fn run(broker: Arc<Broker>, totals: Arc<Totals>) {
    let mut shedding = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mark = watermark(broker.limits.load().memory_watermark.as_u64()) as f64;
        let resident = resident_bytes() as f64;
        let now_shedding = if shedding { resident > mark * RECOVERED_FACTOR } else { resident > mark };
        broker.set_shedding(now_shedding, resident > mark * QOS0_FACTOR);
        totals.set_shedding(now_shedding);
        if now_shedding != shedding {
            shedding = now_shedding;
            if shedding {
                warn!(
                    resident_bytes = resident as u64,
                    watermark_bytes = mark as u64,
                    "memory watermark reached, new connections are refused"
                );
            } else {
                info!(resident_bytes = resident as u64, "memory is below the watermark again");
            }
        }
    }
}
