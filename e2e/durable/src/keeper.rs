//! Who looks after the brokers of a run: starts them, kills them, and starts those again that ended by themselves.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::broker::{Broker, Program};
use crate::scene::Scene;

/// Exit code of a broker whose prefix somebody else took, or that lost its bucket: try again later (`EX_TEMPFAIL`).
const LOST: i32 = 75;
/// What ends a process that does not listen to it.
const SIGTERM: i32 = rustix::process::Signal::TERM.as_raw();
/// A broker that ended by itself is started again after up to so many seconds.
const RESTART: f64 = 2.0;
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_millis(5);
/// When nobody serves after so long, no broker has come back.
const BACK: Duration = Duration::from_secs(60);

/// How a broker was when it was killed: the places in [`Keeper::kills`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Serving,
    Starting,
    Draining,
}

/// The brokers of a run.
pub(crate) struct Keeper {
    pub(crate) scene: Scene,
    pub(crate) brokers: Vec<Broker>,
    pub(crate) random: StdRng,
    /// Brokers killed while they served, while they started, and while they drained.
    pub(crate) kills: [u32; 3],
    /// Times a broker ended because another one took its prefix.
    pub(crate) fenced: u32,
    /// From each look for somebody who serves until somebody did.
    back: Vec<Duration>,
    /// When a broker that ended by itself is started again.
    restarts: Vec<Option<Instant>>,
}

impl Keeper {
    /// So many brokers that are not started; what they write goes into `folder`.
    pub(crate) fn new(program: &Program, count: usize, seed: u64, folder: &Path) -> anyhow::Result<Self> {
        let brokers = (1..=count).map(|number| Broker::new(program.clone(), number, folder));
        let brokers = brokers.collect::<anyhow::Result<Vec<_>>>()?;
        let addresses: Vec<_> = brokers.iter().map(|broker| broker.address).collect();
        let (scene, random) = (Scene::new(&addresses, seed), StdRng::seed_from_u64(seed));
        Ok(Self { scene, brokers, random, kills: [0; 3], fenced: 0, back: Vec::new(), restarts: vec![None; count] })
    }

    /// A time between the two, in seconds, evenly over the magnitudes.
    pub(crate) fn moment(&mut self, (least, most): (f64, f64)) -> Duration {
        Duration::from_secs_f64((least.ln() + self.random.random::<f64>() * (most / least).ln()).exp())
    }

    /// Starts a broker that is to be a new one, as a new pod is.
    pub(crate) fn start(&mut self, number: usize) -> anyhow::Result<()> {
        self.brokers[number].is_replaced();
        self.restart(number)
    }

    fn restart(&mut self, number: usize) -> anyhow::Result<()> {
        self.restarts[number] = None;
        // Before it is: what it does stands behind.
        self.scene.recorder.done(format!("broker {} is started", number + 1));
        self.brokers[number].start()
    }

    /// Kills a broker without a warning.
    pub(crate) fn kill(&mut self, number: usize, when: When) -> anyhow::Result<()> {
        if when != When::Draining {
            self.look()?;
        }
        self.scene.recorder.done(format!("broker {} is killed", number + 1));
        let ended = self.brokers[number].kill()?;
        // One that drained in time has ended well; one that was told to stop before it listened to that was ended by the system.
        let is_asked = |status: &ExitStatus| status.success() || when == When::Draining && status.signal() == Some(SIGTERM);
        if let Some(status) = ended.filter(|status| !is_asked(status)) {
            self.ended(number, status);
        }
        self.restarts[number] = None;
        self.kills[when as usize] += 1;
        Ok(())
    }

    /// Tells a broker to stop, gives it `time`, and kills it if it has not ended by then.
    pub(crate) fn stop(&mut self, number: usize, time: Duration) -> anyhow::Result<()> {
        self.scene.recorder.done(format!("broker {} is told to stop", number + 1));
        self.brokers[number].terminate()?;
        let until = Instant::now() + time;
        while Instant::now() < until && self.brokers[number].runs()? {
            std::thread::sleep(LOOK);
        }
        self.kill(number, When::Draining)
    }

    /// Lets `time` pass and looks after the brokers meanwhile.
    pub(crate) fn wait(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            std::thread::sleep(LOOK.min(until.saturating_duration_since(Instant::now())));
            self.look()?;
        }
        Ok(())
    }

    /// Sees who ended by itself, and starts it again after a while.
    pub(crate) fn look(&mut self) -> anyhow::Result<()> {
        for number in 0..self.brokers.len() {
            if let Some(status) = self.brokers[number].ended()? {
                self.ended(number, status);
                self.restarts[number] = Some(Instant::now() + Duration::from_secs_f64(RESTART * self.random.random::<f64>()));
            }
            if self.restarts[number].is_some_and(|at| Instant::now() > at) {
                self.restart(number)?;
            }
        }
        Ok(())
    }

    /// It ended and was not killed, which is allowed to one of several.
    fn ended(&mut self, number: usize, status: ExitStatus) {
        let what = format!("broker {} ended by itself, {status}", number + 1);
        if self.brokers.len() > 1 && status.code() == Some(LOST) {
            self.fenced += 1;
            self.scene.recorder.done(what);
        } else {
            self.scene.recorder.failed(format!("{what}:\n{}", self.brokers[number].log()));
        }
    }

    /// Waits until somebody serves. False: nobody does, and there is no use in going on.
    pub(crate) fn wait_until_served(&mut self) -> anyhow::Result<bool> {
        let begin = Instant::now();
        while !self.brokers.iter().any(|broker| broker.is_awake() && broker.serves()) {
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

    /// How long it took until somebody served, in milliseconds: the middle and the longest.
    pub(crate) fn back_ms(&mut self) -> (u64, u64) {
        self.back.sort();
        let milliseconds = |time: Option<&Duration>| time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        (milliseconds(self.back.get(self.back.len() / 2)), milliseconds(self.back.last()))
    }
}
