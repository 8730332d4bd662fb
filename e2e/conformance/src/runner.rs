//! Runs the tests side by side and tells how they end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bucketmq_packet::ProtocolVersion;

use crate::outcome::{Outcome, failed};
use crate::results::{Results, Verdict, version_name};
use crate::run::{Run, Target};
use crate::tests::{self, Test};

/// What is run, and how.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Part of the name of every test that is run.
    pub filter: String,
    /// Versions that are spoken.
    pub versions: Vec<ProtocolVersion>,
    /// Tests at a time.
    pub jobs: usize,
    /// One line for each test, not only for those that did not pass.
    pub verbose: bool,
}

impl Plan {
    fn cases(&self) -> Vec<(&'static Test, ProtocolVersion)> {
        tests::all()
            .flat_map(|test| self.versions.iter().map(move |version| (test, *version)))
            .filter(|(test, version)| test.shows(*version).is_some() && test.name.contains(&self.filter))
            .collect()
    }
}

/// Runs the plan against `target`. Progress goes to stderr.
pub fn run(broker: &str, target: &Target, plan: &Plan) -> Results {
    let cases = plan.cases();
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Results { broker: broker.into(), ..Results::default() });
    let started = Instant::now();
    let nonce = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((test, version)) = cases.get(number) else { return };
                    // Letters and digits, short enough for Client Identifiers of 23 characters together with what tests add.
                    let nonce = format!("{:06x}{number:03x}", nonce & 0xFF_FFFF);
                    let verdict = lasting(Verdict::from(one(target, *version, test, nonce.clone())), &nonce);
                    tell(plan, test.name, *version, &verdict);
                    results.lock().expect("no test panics while it holds the results").record(*version, test.name, verdict);
                }
            });
        }
    });
    let results = results.into_inner().expect("no test panics while it holds the results");
    let (passed, failed, skipped) = results.counts();
    eprintln!("{broker}: {passed} passed, {failed} failed, {skipped} not applicable, in {:.1} s", started.elapsed().as_secs_f64());
    results
}

fn one(target: &Target, version: ProtocolVersion, test: &Test, nonce: String) -> Outcome {
    let run = Run::new(target, version, test.name, nonce);
    let outcome = catch_unwind(AssertUnwindSafe(|| (test.run)(&run))).unwrap_or_else(|_| failed("the test itself panicked"));
    run.tidy_up();
    outcome
}

/// The verdict without the names of this one run, so that equal runs have equal results.
fn lasting(verdict: Verdict, nonce: &str) -> Verdict {
    match verdict {
        Verdict::Failed(why) => Verdict::Failed(why.replace(nonce, "run")),
        other => other,
    }
}

fn tell(plan: &Plan, name: &str, version: ProtocolVersion, verdict: &Verdict) {
    let version = version_name(version);
    match verdict {
        Verdict::Passed if plan.verbose => eprintln!("passed  {version:<5} {name}"),
        Verdict::Passed => {}
        Verdict::Failed(why) => eprintln!("FAILED  {version:<5} {name}: {why}"),
        Verdict::NotApplicable(why) => eprintln!("n/a     {version:<5} {name}: {why}"),
    }
}
