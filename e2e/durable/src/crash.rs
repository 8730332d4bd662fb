//! Rounds of kill -9 under load, and the reckoning.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use crate::broker::{Broker, Program};
use crate::check::{Verdict, check};
use crate::crowd::{Crowd, Level};
use crate::scene::Scene;

/// From when a broker serves, it lives for a time between these, in seconds: mostly it dies young.
const LIFE: (f64, f64) = (0.005, 3.0);
/// A broker that is killed while it starts lives for a time between these, counted from its start.
const START: (f64, f64) = (0.005, 1.0);
/// A broker that is killed while it drains has this time to.
const DRAIN: (f64, f64) = (0.001, 0.5);
/// A broker that does not serve after so long has not come back.
const BACK: Duration = Duration::from_secs(60);
/// Exit code of a broker whose prefix somebody else took, or that lost its bucket: try again later (`EX_TEMPFAIL`).
pub const LOST: i32 = 75;
/// What ends a process that does not listen to it.
const SIGTERM: i32 = rustix::process::Signal::TERM.as_raw();
/// Who starts it again then waits up to so many seconds.
const RESTART: f64 = 2.0;
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(5);
/// The last life of a broker, in peace.
const PEACE: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which broker.
    pub program: Program,
    /// One, or two that fight for one prefix.
    pub brokers: usize,
    /// How often one is killed.
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
    /// Times a broker ended because somebody else took its prefix.
    pub fenced: u32,
    /// Seconds in all.
    pub seconds: f64,
    /// Seconds from the end of the load until everything had come.
    pub drained_seconds: f64,
    /// From the start of a broker after a kill until it answered CONNECT, in milliseconds: the middle and the longest.
    pub back_ms: (u64, u64),
    /// The reckoning.
    pub verdict: Verdict,
}

/// How a broker is killed: the places in [`Report::kills`].
#[derive(Debug, Clone, Copy)]
enum How {
    Serving,
    Starting,
    Draining,
}

struct Rounds<'a> {
    plan: &'a Plan,
    scene: Scene,
    brokers: Vec<Broker>,
    /// When a broker that ended by itself is started again.
    restarts: Vec<Option<Instant>>,
    random: StdRng,
    kills: [u32; 3],
    fenced: u32,
    back: Vec<Duration>,
}

/// Runs `plan`; `progress` is told after each round.
pub fn run(plan: &Plan, mut progress: impl FnMut(u32)) -> anyhow::Result<Report> {
    let started = Instant::now();
    let folder = tempfile::Builder::new().prefix("bucketmq-durable-").tempdir()?;
    let brokers = (1..=plan.brokers).map(|number| Broker::new(plan.program.clone(), number, folder.path()));
    let brokers = brokers.collect::<anyhow::Result<Vec<_>>>()?;
    let addresses: Vec<_> = brokers.iter().map(|broker| broker.address).collect();
    let scene = Scene::new(&addresses, plan.seed);
    let (restarts, random) = (vec![None; plan.brokers], StdRng::seed_from_u64(plan.seed));
    let mut rounds = Rounds { plan, scene: scene.clone(), brokers, restarts, random, kills: [0; 3], fenced: 0, back: Vec::new() };
    // At the beginning one alone, so that all can subscribe.
    rounds.start(0)?;
    ensure!(rounds.brokers[0].wait(BACK)?, "the broker does not start:\n{}", rounds.brokers[0].log());
    let crowd = Crowd::start(&scene, plan.level).with_context(|| rounds.brokers[0].log())?;
    for number in 1..plan.brokers {
        rounds.start(number)?;
    }
    let mut round = 0;
    while round < plan.rounds && rounds.round()? {
        round += 1;
        progress(round);
    }
    rounds.settle()?;
    let draining = Instant::now();
    crowd.drain(plan.patience);
    let drained_seconds = draining.elapsed().as_secs_f64();
    if let Err(error) = crowd.end() {
        scene.recorder.failed(format!("{error:#}\n{}", rounds.brokers[0].log()));
    }
    rounds.look()?;
    let Rounds { kills, fenced, mut back, .. } = rounds;
    back.sort();
    let milliseconds = |time: Option<&Duration>| time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let back_ms = (milliseconds(back.get(back.len() / 2)), milliseconds(back.last()));
    if let Some(file) = &plan.history {
        scene.recorder.read(|history| history.write(file)).with_context(|| format!("write {}", file.display()))?;
    }
    let verdict = scene.recorder.read(check);
    Ok(Report { seed: plan.seed, kills, fenced, seconds: started.elapsed().as_secs_f64(), drained_seconds, back_ms, verdict })
}

impl Rounds<'_> {
    /// Between the two, evenly over the magnitudes.
    fn moment(&mut self, (least, most): (f64, f64)) -> Duration {
        Duration::from_secs_f64((least.ln() + self.random.random::<f64>() * (most / least).ln()).exp())
    }

    fn start(&mut self, number: usize) -> anyhow::Result<()> {
        self.restarts[number] = None;
        // Before it is: what it does stands behind.
        self.scene.recorder.done(format!("broker {} is started", number + 1));
        self.brokers[number].start()
    }

    fn kill(&mut self, number: usize, how: How) -> anyhow::Result<()> {
        if !matches!(how, How::Draining) {
            self.look()?;
        }
        self.scene.recorder.done(format!("broker {} is killed", number + 1));
        let ended = self.brokers[number].kill()?;
        // One that drained in time has ended well; one that was told to stop before it listened to that was ended by the system.
        let is_asked = |status: &ExitStatus| status.success() || matches!(how, How::Draining) && status.signal() == Some(SIGTERM);
        if let Some(status) = ended.filter(|status| !is_asked(status)) {
            self.ended(number, status);
        }
        self.restarts[number] = None;
        self.kills[how as usize] += 1;
        Ok(())
    }

    /// False: the broker did not come back, and there is no use in going on.
    fn round(&mut self) -> anyhow::Result<bool> {
        let number = self.random.random_range(0..self.brokers.len());
        if self.random.random_bool(0.2) {
            // While it starts; another one may be serving meanwhile.
            if !self.brokers[number].is_started() {
                self.start(number)?;
            }
            let life = self.moment(START);
            self.wait(life)?;
            self.kill(number, How::Starting)?;
            self.start(number)?;
            return Ok(true);
        }
        if !self.wait_until_served()? {
            return Ok(false);
        }
        let life = self.moment(LIFE);
        self.wait(life)?;
        if self.random.random_bool(0.125) {
            self.scene.recorder.done(format!("broker {} is told to stop", number + 1));
            self.brokers[number].terminate()?;
            std::thread::sleep(self.moment(DRAIN));
            self.kill(number, How::Draining)?;
        } else {
            self.kill(number, How::Serving)?;
        }
        // Sometimes there is nobody for a while: the other one dies as well.
        if self.random.random_bool(0.2) {
            let other = (number + 1) % self.brokers.len();
            if other != number {
                self.kill(other, How::Serving)?;
            }
            let pause = self.moment(LIFE);
            self.wait(pause)?;
            if other != number {
                self.start(other)?;
            }
        }
        self.start(number)?;
        Ok(true)
    }

    /// Lets `life` pass and looks after the brokers meanwhile.
    fn wait(&mut self, life: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + life;
        while Instant::now() < until {
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
            self.look()?;
        }
        Ok(())
    }

    /// Starts again who ended by itself, after a while.
    fn look(&mut self) -> anyhow::Result<()> {
        for number in 0..self.brokers.len() {
            if let Some(status) = self.brokers[number].ended()? {
                self.ended(number, status);
                self.restarts[number] = Some(Instant::now() + Duration::from_secs_f64(RESTART * self.random.random::<f64>()));
            }
            if self.restarts[number].is_some_and(|at| Instant::now() > at) {
                self.start(number)?;
            }
        }
        Ok(())
    }

    /// It ended and was not killed, which is allowed to one of two.
    fn ended(&mut self, number: usize, status: ExitStatus) {
        let what = format!("broker {} ended by itself, {status}", number + 1);
        if self.brokers.len() > 1 && status.code() == Some(LOST) {
            self.fenced += 1;
            self.scene.recorder.done(what);
        } else {
            self.scene.recorder.failed(format!("{what}:\n{}", self.brokers[number].log()));
        }
    }

    fn wait_until_served(&mut self) -> anyhow::Result<bool> {
        let begin = Instant::now();
        while !self.brokers.iter().any(|broker| broker.is_started() && broker.serves()) {
            if begin.elapsed() > BACK {
                let logs: Vec<String> = self.brokers.iter().map(Broker::log).collect();
                self.scene.recorder.failed(format!("nobody serves after {BACK:?}:\n{}", logs.join("\n--\n")));
                return Ok(false);
            }
            std::thread::sleep(LOOK);
            self.look()?;
        }
        self.back.push(begin.elapsed());
        Ok(true)
    }

    /// Leaves one broker alone, in peace.
    fn settle(&mut self) -> anyhow::Result<()> {
        for number in 1..self.plan.brokers {
            self.kill(number, How::Serving)?;
        }
        if !self.brokers[0].is_started() {
            self.start(0)?;
        }
        self.wait_until_served()?;
        self.wait(PEACE)
    }
}
