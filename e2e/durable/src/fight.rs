//! Two brokers on one prefix, killed, frozen, told to stop and replaced at random moments, while Clients go from one to the other.
//!
//! Besides what every run has to keep: the prefix changes hands only when something was done to a broker since it did last. A broker that is
//! started again after it was fenced is nothing that was done; so two that fence each other in turn are found.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::keeper::{Keeper, When};
use crate::run::{Plan, Report, Rounds};

/// From when somebody serves, both live for a time between these, in seconds.
const LIFE: (f64, f64) = (0.01, 4.0);
/// A frozen broker thaws after a time between these: mostly after its prefix could have been taken.
const FROZEN: (f64, f64) = (0.3, 20.0);
/// A broker that is told to stop gets this time, and mostly needs less.
const DRAIN: (f64, f64) = (0.1, 20.0);
/// A broker that was killed is started again after a time between these.
const AWAY: (f64, f64) = (0.005, 2.0);
/// Every so many rounds both are left in peace.
const PEACE_EVERY: u32 = 8;
/// So long: a broker that was drained and is not followed takes back what was its own after 10 s.
const PEACE: Duration = Duration::from_secs(15);
/// Between two looks at who serves.
const LOOK: Duration = Duration::from_millis(50);
/// Clients that look for another broker leave one that says nothing for so long.
const SILENCE: Duration = Duration::from_secs(2);

/// What a broker is told when nothing else is: `{pod}` is another name each time it is replaced, and the same when it is started again after it was fenced.
pub const ARGUMENTS: [&str; 4] = ["--member", "{pod}", "--takeover", "new"];

/// Runs `plan`; `progress` is told after each round.
pub fn run(plan: &Plan, progress: impl FnMut(u32)) -> anyhow::Result<Report> {
    crate::run::run(plan, &mut Fight::default(), progress)
}

#[derive(Default)]
struct Fight {
    round: u32,
    frozen: u32,
    handovers: u32,
    /// Who was seen to serve last.
    owner: Option<usize>,
    /// Something was done to a broker since.
    is_justified: bool,
}

impl Rounds for Fight {
    const BROKERS: usize = 2;
    const SILENCE: Option<Duration> = Some(SILENCE);

    fn round(&mut self, keeper: &mut Keeper) -> anyhow::Result<bool> {
        self.round += 1;
        if self.round.is_multiple_of(PEACE_EVERY) {
            self.watch(keeper, PEACE)?;
        }
        if !keeper.wait_until_served()? {
            return Ok(false);
        }
        let life = keeper.moment(LIFE);
        self.watch(keeper, life)?;
        self.is_justified = true;
        let owner = self.owner.unwrap_or_default();
        match keeper.random.random_range(0..10) {
            0..3 => self.replace(keeper, owner)?,
            3..4 => self.replace(keeper, 1 - owner)?,
            4..5 => {
                keeper.kill(owner, When::Serving)?;
                self.replace(keeper, 1 - owner)?;
                self.start(keeper, owner)?;
            }
            5..7 => {
                let time = keeper.moment(DRAIN);
                keeper.stop(owner, time)?;
                self.start(keeper, owner)?;
            }
            _ => self.freeze(keeper, owner)?,
        }
        Ok(true)
    }

    /// Leaves the first one in peace.
    fn settle(&mut self, keeper: &mut Keeper) -> anyhow::Result<()> {
        keeper.kill(1, When::Serving)?;
        if !keeper.brokers[0].is_awake() {
            keeper.start(0)?;
        }
        keeper.wait_until_served()?;
        keeper.wait(SILENCE)
    }

    fn counted(&self) -> (u32, u32) {
        (self.frozen, self.handovers)
    }
}

impl Fight {
    fn start(&mut self, keeper: &mut Keeper, number: usize) -> anyhow::Result<()> {
        let pause = keeper.moment(AWAY);
        self.watch(keeper, pause)?;
        // Meanwhile the other one may have taken over for that.
        self.is_justified = true;
        keeper.start(number)
    }

    fn replace(&mut self, keeper: &mut Keeper, number: usize) -> anyhow::Result<()> {
        keeper.kill(number, When::Serving)?;
        self.start(keeper, number)
    }

    /// Stops a process in the middle of whatever it does, and lets it go on later, when another one may have its prefix.
    fn freeze(&mut self, keeper: &mut Keeper, number: usize) -> anyhow::Result<()> {
        self.frozen += 1;
        keeper.scene.recorder.done(format!("broker {} is frozen", number + 1));
        keeper.brokers[number].freeze(true)?;
        if keeper.random.random() {
            self.replace(keeper, 1 - number)?;
        }
        let time = keeper.moment(FROZEN);
        self.watch(keeper, time)?;
        keeper.scene.recorder.done(format!("broker {} goes on", number + 1));
        keeper.brokers[number].freeze(false)?;
        self.is_justified = true;
        Ok(())
    }

    /// Lets time pass and sees who serves.
    fn watch(&mut self, keeper: &mut Keeper, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        loop {
            self.see(keeper);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            keeper.wait(LOOK.min(left))?;
        }
    }

    fn see(&mut self, keeper: &Keeper) {
        let mut ready = (0..keeper.brokers.len()).filter(|number| keeper.brokers[*number].is_ready());
        // One that was frozen may not have seen yet that it serves no more.
        let (Some(serving), None) = (ready.next(), ready.next()) else { return };
        if self.owner == Some(serving) {
            return;
        }
        if let Some(before) = self.owner.replace(serving) {
            self.handovers += 1;
            let what = format!("broker {} serves, and broker {} did before", serving + 1, before + 1);
            if std::mem::take(&mut self.is_justified) {
                keeper.scene.recorder.done(what);
            } else {
                keeper.scene.recorder.failed(format!("{what}, and nothing was done to them:\n{}", keeper.brokers[serving].log()));
            }
        }
    }
}
