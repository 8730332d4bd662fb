//! What the figures were measured on.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Machine, versions, date.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// How many of them.
    pub cores: usize,
    /// Memory in GB.
    pub memory_gb: f64,
    /// Version of the kernel.
    pub kernel: String,
    /// Name and version of each broker.
    pub brokers: Vec<(String, String)>,
    /// When.
    pub date: String,
}

/// Describes the machine this runs on, and what runs on it: name and version of each broker.
pub fn describe(brokers: Vec<(String, String)>) -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let after_colon = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kilobytes = after_colon(&meminfo, "MemTotal").and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    Machine {
        cpu: after_colon(&cpuinfo, "model name").unwrap_or_else(|| "unknown processor".to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_gb: kilobytes.unwrap_or(0.0) / 1024.0 / 1024.0,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        brokers,
        date: today(),
    }
}

/// The share of all processors' time that was used over `time` from now on, 0 to 1.
pub fn busy_share(time: Duration) -> std::io::Result<f64> {
    let before = processor_times()?;
    thread::sleep(time);
    let after = processor_times()?;
    let (all, idle) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    Ok(if all == 0 { 0.0 } else { 1.0 - idle as f64 / all as f64 })
}

/// All ticks and the idle ones of them, from the first line of `/proc/stat`.
fn processor_times() -> std::io::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> =
        text.lines().next().unwrap_or("").split_ascii_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    Ok((ticks.iter().take(8).sum(), ticks.iter().skip(3).take(2).sum()))
}

/// The date in UTC.
fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
