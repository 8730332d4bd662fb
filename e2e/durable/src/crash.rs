//! Rounds of kill -9 under load: one broker, killed while it serves, starts or drains.

use std::time::Duration;

use rand::Rng;

use crate::keeper::{Keeper, When};
use crate::run::{Plan, Report, Rounds};

/// From when a broker serves, it lives for a time between these, in seconds: mostly it dies young.
const LIFE: (f64, f64) = (0.005, 3.0);
/// A broker that is killed while it starts lives for a time between these, counted from its start.
const START: (f64, f64) = (0.005, 1.0);
/// A broker that is killed while it drains has this time to.
const DRAIN: (f64, f64) = (0.001, 0.5);
/// How often it dies while it starts, how often of the other times while it drains, and how often it stays away for a while.
const WHILE_STARTING: f64 = 0.2;
const WHILE_DRAINING: f64 = 0.125;
const STAYS_AWAY: f64 = 0.2;
/// The last life of a broker, in peace.
const PEACE: Duration = Duration::from_secs(2);

/// Runs `plan`; `progress` is told after each round.
pub fn run(plan: &Plan, progress: impl FnMut(u32)) -> anyhow::Result<Report> {
    crate::run::run(plan, &mut Crash, progress)
}

struct Crash;

impl Rounds for Crash {
    const BROKERS: usize = 1;

    fn round(&mut self, keeper: &mut Keeper) -> anyhow::Result<bool> {
        if keeper.random.random_bool(WHILE_STARTING) {
            let life = keeper.moment(START);
            keeper.wait(life)?;
            keeper.kill(0, When::Starting)?;
            keeper.start(0)?;
            return Ok(true);
        }
        if !keeper.wait_until_served()? {
            return Ok(false);
        }
        let life = keeper.moment(LIFE);
        keeper.wait(life)?;
        if keeper.random.random_bool(WHILE_DRAINING) {
            let time = keeper.moment(DRAIN);
            keeper.stop(0, time)?;
        } else {
            keeper.kill(0, When::Serving)?;
        }
        if keeper.random.random_bool(STAYS_AWAY) {
            let pause = keeper.moment(LIFE);
            keeper.wait(pause)?;
        }
        keeper.start(0)?;
        Ok(true)
    }

    fn settle(&mut self, keeper: &mut Keeper) -> anyhow::Result<()> {
        keeper.wait_until_served()?;
        keeper.wait(PEACE)
    }
}
