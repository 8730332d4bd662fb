//! What a run with crashes and one with two brokers have in common: the crowd comes, rounds are made, everything drains, and it is judged.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::broker::Program;
use crate::check::{Promise, Verdict, check};
use crate::crowd::{Crowd, Level};
use crate::keeper::Keeper;
use crate::results::Table;

/// A broker that does not serve after so long has not started.
const START: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which broker.
    pub program: Program,
    /// How often something is done to a broker.
    pub rounds: u32,
    /// Decides the moments.
    pub seed: u64,
    /// At which QoS is published.
    pub level: Level,
    /// When nothing at all has come for so long, what has not come is lost.
    pub patience: Duration,
    /// Where all that happened is written.
    pub history: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Decided the moments.
    pub seed: u64,
    /// Times a broker was killed while it served, while it started, and while it drained.
    pub kills: [u32; 3],
    /// Times a broker was frozen for a while.
    pub frozen: u32,
    /// Times another broker than before served.
    pub handovers: u32,
    /// Times a broker ended because another one took its prefix.
    pub fenced: u32,
    /// Seconds in all.
    pub seconds: f64,
    /// Seconds from the end of the load until everything had come.
    pub drained_seconds: f64,
    /// Until somebody served again, in milliseconds: the middle and the longest.
    pub back_ms: (u64, u64),
    /// The reckoning.
    pub verdict: Verdict,
}

/// What is done to the brokers.
pub(crate) trait Rounds {
    /// How many there are.
    const BROKERS: usize;
    /// Of several, Clients leave one that says nothing for so long.
    const SILENCE: Option<Duration> = None;

    /// Does something to one. False: nobody came back, and there is no use in going on.
    fn round(&mut self, keeper: &mut Keeper) -> anyhow::Result<bool>;
    /// Leaves one broker in peace.
    fn settle(&mut self, keeper: &mut Keeper) -> anyhow::Result<()>;
    /// Times a broker was frozen, and times another one than before served.
    fn counted(&self) -> (u32, u32) {
        (0, 0)
    }
}

/// Runs `plan`; `progress` is told after each round.
pub(crate) fn run<R: Rounds>(plan: &Plan, rounds: &mut R, mut progress: impl FnMut(u32)) -> anyhow::Result<Report> {
    let started = Instant::now();
    let folder = tempfile::Builder::new().prefix("bucketmq-durable-").tempdir()?;
    let mut keeper = Keeper::new(&plan.program, R::BROKERS, plan.seed, folder.path())?;
    keeper.scene.silence = R::SILENCE;
    let scene = keeper.scene.clone();
    // At the beginning one alone, so that all can subscribe.
    keeper.start(0)?;
    ensure!(keeper.brokers[0].wait(START)?, "the broker does not start:\n{}", keeper.brokers[0].log());
    let crowd = Crowd::start(&scene, plan.level).with_context(|| keeper.brokers[0].log())?;
    for number in 1..R::BROKERS {
        keeper.start(number)?;
    }
    let mut round = 0;
    while round < plan.rounds && rounds.round(&mut keeper)? {
        round += 1;
        progress(round);
    }
    rounds.settle(&mut keeper)?;
    let draining = Instant::now();
    crowd.drain(plan.patience);
    let drained_seconds = draining.elapsed().as_secs_f64();
    if let Err(error) = crowd.end() {
        scene.recorder.failed(format!("{error:#}\n{}", keeper.brokers[0].log()));
    }
    keeper.look()?;
    if let Some(file) = &plan.history {
        scene.recorder.read(|history| history.write(file)).with_context(|| format!("write {}", file.display()))?;
    }
    let ((frozen, handovers), back_ms) = (rounds.counted(), keeper.back_ms());
    let Keeper { kills, fenced, .. } = keeper;
    let (seed, seconds, verdict) = (plan.seed, started.elapsed().as_secs_f64(), scene.recorder.read(check));
    Ok(Report { seed, kills, frozen, handovers, fenced, seconds, drained_seconds, back_ms, verdict })
}

/// As the table `name` of RESULTS.md shows it.
pub fn table(name: &'static str, run: String, report: &Report) -> Table {
    let counts = &report.verdict.counts;
    let broken = |promise| report.verdict.broken(promise).to_string();
    let [serving, starting, draining] = report.kills;
    let other = [Promise::HandshakeEnded, Promise::BrokerThere, Promise::Sense].map(|promise| report.verdict.broken(promise));
    let columns = [
        ("run", run),
        ("kills: serving + starting + draining", format!("{serving} + {starting} + {draining}")),
        ("frozen", report.frozen.to_string()),
        ("hand-overs", report.handovers.to_string()),
        ("fenced", report.fenced.to_string()),
        ("back after: middle, longest", format!("{}, {} ms", report.back_ms.0, report.back_ms.1)),
        ("acknowledged", counts.acknowledged.to_string()),
        ("deliveries owed", (counts.owed + counts.wills_owed).to_string()),
        ("Sessions resumed", counts.sessions_kept.to_string()),
        ("lost", broken(Promise::Delivered)),
        ("QoS 2 twice", broken(Promise::Once)),
        ("out of order", broken(Promise::InOrder)),
        ("Sessions lost", broken(Promise::SessionKept)),
        ("retained too old", broken(Promise::RetainedFresh)),
        ("Wills lost or early", broken(Promise::WillFired)),
        ("other", other.iter().sum::<u64>().to_string()),
        ("QoS 1 twice (with DUP 0)", format!("{} ({})", counts.repeated_qos1, counts.repeated_without_dup)),
    ];
    // One broker neither hands over nor is fenced.
    let is_shown = |title: &str| name == "fight" || !["frozen", "hand-overs", "fenced"].contains(&title);
    let (head, row) = columns.into_iter().filter(|(title, _)| is_shown(title)).unzip();
    Table { name, head, rows: vec![row] }
}
