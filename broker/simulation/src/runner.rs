//! Runs seeds, each in a process of its own.
//!
//! A process for each, because what a process remembers (counters behind hash maps and random numbers, addresses) must be the same whatever ran before;
//! addresses are the same in each, because nothing may depend on where the system happens to put things.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::plant::Plant;
use crate::report::Report;

/// How seeds are run.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// What is planted.
    pub plant: Option<Plant>,
    /// Processes at one time.
    pub jobs: usize,
    /// A process that takes longer is stuck.
    pub patience: Duration,
    /// Go on after the first failure.
    pub keep_going: bool,
}

/// Runs `seeds`; `each` gets every report as it comes.
pub fn run_all(seeds: std::ops::Range<u64>, terms: Terms, each: impl Fn(&Report) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let order = Mutex::new(());
    std::thread::scope(|scope| {
        for _ in 0..terms.jobs.max(1) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(seed, terms).unwrap_or_else(|error| Report::broken(seed, format!("{error:#}")));
                    let _one_at_a_time = order.lock();
                    each(&report);
                    if !report.failures.is_empty() && !terms.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Runs one seed.
pub fn run(seed: u64, terms: Terms) -> anyhow::Result<Report> {
    let mut child = command(seed, terms.plant)?.stdout(Stdio::piped()).spawn().context("the simulation does not start")?;
    let mut output = child.stdout.take().context("no output")?;
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    if !ends_within(&mut child, terms.patience)? {
        child.kill()?;
        child.wait()?;
        anyhow::bail!("no end within {:?}: something turns in a circle", terms.patience);
    }
    let status = child.wait()?;
    let text = reading.join().map_err(|_| anyhow::anyhow!("the output could not be read"))??;
    serde_json::from_str(&text).with_context(|| format!("no report ({status})"))
}

fn ends_within(child: &mut Child, patience: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + patience;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}

/// The process that is the simulation: no environment, and every address where it was the last time.
fn command(seed: u64, plant: Option<Plant>) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0("simulation").env_clear().args(["one", "--seed", &seed.to_string()]);
    if let Some(plant) = plant {
        command.args(["--plant", plant.name()]);
    }
    // SAFETY: between fork and exec only this system call is made, which takes a number and touches no memory.
    unsafe {
        command.pre_exec(|| {
            // Where it is refused, traces of two runs may differ in the order of hash tables; everything else stays the same.
            libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
            Ok(())
        });
    }
    Ok(command)
}
