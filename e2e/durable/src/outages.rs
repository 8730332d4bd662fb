//! What happens while the bucket does not answer, or answers with errors: a broker behind a proxy that makes it so.

pub mod clock;
mod disk;
mod during;
mod keys;
mod report;
mod site;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use bucketmq_servers::{Fault, Options, Server, Versitygw};

pub use report::{Report, table};

use crate::broker::{Broker, Program};
use crate::check::check;
use crate::crowd::{Crowd, Level};
use crate::outages::site::{Site, Trouble};
use crate::outages::watch::Watch;
use crate::scene::Scene;

/// The load before the outage, and the one after it.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(5);
/// A broker starts in this time, and has to acknowledge again in this time.
const BACK: Duration = Duration::from_secs(60);

/// Name, what is done, and whether the broker is killed before it is over.
const CASES: [(&str, Trouble, bool); 26] = [
    ("unreachable", Trouble::Refuse, false),
    ("unreachable, killed", Trouble::Refuse, true),
    ("no answer", Trouble::All(Fault::Hang), false),
    ("no answer, killed", Trouble::All(Fault::Hang), true),
    ("slow: 5 s", Trouble::Slow(Duration::from_secs(5)), false),
    ("slow: 5 s, killed", Trouble::Slow(Duration::from_secs(5)), true),
    ("503 SlowDown", Trouble::All(Fault::SlowDown), false),
    ("503 SlowDown, killed", Trouble::All(Fault::SlowDown), true),
    ("403", Trouble::All(Fault::AccessDenied), false),
    ("403, killed", Trouble::All(Fault::AccessDenied), true),
    ("read-only: 403 to writes", Trouble::Writes(Fault::ReadOnly), false),
    ("full: 500 to writes", Trouble::Writes(Fault::InternalError), false),
    ("full: 507 to writes", Trouble::Writes(Fault::Full), false),
    ("writes applied, not answered", Trouble::Writes(Fault::ResponseLost), false),
    ("writes applied, not answered, killed", Trouble::Writes(Fault::ResponseLost), true),
    ("`file://`, disk full", Trouble::FullDisk, false),
    ("`file://`, disk full, killed", Trouble::FullDisk, true),
    ("keys withdrawn, then others in their file", Trouble::KeysWithdrawn, false),
    ("keys withdrawn, killed, then others in their file", Trouble::KeysWithdrawn, true),
    ("others in the file of the keys, then those withdrawn", Trouble::KeysReplaced, false),
    ("clock +1 h", Trouble::Clock(3600), false),
    ("clock +1 h, killed", Trouble::Clock(3600), true),
    ("clock -1 h", Trouble::Clock(-3600), false),
    ("clock -1 h, killed", Trouble::Clock(-3600), true),
    ("`file://`, clock +1 h, killed", Trouble::ClockOfDirectory(3600), true),
    ("`file://`, clock -1 h, killed", Trouble::ClockOfDirectory(-3600), true),
];

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The binary.
    pub bucketmq: PathBuf,
    /// What else to say on its command line.
    pub arguments: Vec<String>,
    /// Decides what Clients do.
    pub seed: u64,
    /// At which QoS is published.
    pub level: Level,
    /// How long each outage lasts.
    pub lasts: Duration,
    /// When nothing at all has come for so long, what has not come is lost.
    pub patience: Duration,
    /// Where all that happened is written, the last case winning.
    pub history: Option<PathBuf>,
    /// Names of cases; none: all.
    pub only: Vec<String>,
}

/// Runs the cases; `progress` is told the name of each, and what came of it.
pub fn run(plan: &Plan, mut progress: impl FnMut(&Report)) -> anyhow::Result<Vec<Report>> {
    let names = CASES.map(|(name, ..)| name);
    ensure!(plan.only.iter().all(|only| names.contains(&only.as_str())), "the cases are: {}", names.join("; "));
    let server = Versitygw::start(Options::default())?;
    let mut reports = Vec::new();
    for (number, (name, trouble, is_killed)) in CASES.into_iter().enumerate() {
        if plan.only.is_empty() || plan.only.iter().any(|only| only == name) {
            let report = case(plan, &server, &format!("case-{number}"), (name, trouble, is_killed)).with_context(|| name.to_owned())?;
            progress(&report);
            reports.push(report);
        }
    }
    Ok(reports)
}

fn case(plan: &Plan, server: &Server, prefix: &str, (name, trouble, is_killed): (&str, Trouble, bool)) -> anyhow::Result<Report> {
    let folder = tempfile::Builder::new().prefix("bucketmq-durable-").tempdir()?;
    let mut site = Site::new(trouble, server, plan.seed, folder.path())?;
    let program = Program::BucketMq(plan.bucketmq.clone(), site.place(prefix), plan.arguments.clone());
    let mut broker = Broker::new(program, 1, folder.path())?;
    broker.environment = site.environment();
    let scene = Scene::new(&[broker.address], plan.seed);
    let recorder = scene.recorder.clone();
    broker.start()?;
    ensure!(broker.wait(BACK)?, "the broker does not start:\n{}", broker.log());
    let mut crowd = Crowd::start(&scene, plan.level).with_context(|| broker.log())?;
    crowd.add_transient();
    let mut watch = Watch::new(recorder.clone());

    watch.look_after(&mut broker, BEFORE)?;
    let begin = recorder.now();
    recorder.done(format!("{name}: begins"));
    site.begin(trouble)?;
    watch.look_after(&mut broker, plan.lasts)?;
    if is_killed {
        recorder.done("the broker is killed");
        broker.kill()?;
    }
    let end = recorder.now();
    site.end(trouble)?;
    recorder.done(format!("{name}: ends"));
    if is_killed {
        broker.start()?;
    }
    let is_back = || recorder.read(|history| during::first_acknowledgement(history, end)).is_some();
    while !is_back() && recorder.now() < end + BACK {
        watch.look_after(&mut broker, Duration::from_millis(200))?;
    }
    watch.look_after(&mut broker, AFTER)?;
    crowd.drain(plan.patience);
    crowd.end().unwrap_or_else(|error| recorder.failed(format!("{error:#}")));
    watch.log = broker.warnings();
    broker.kill()?;
    if let Some(file) = &plan.history {
        recorder.read(|history| history.write(file)).with_context(|| format!("write {}", file.display()))?;
    }
    let is_mild = trouble.is_mild();
    Ok(recorder.read(|history| report::of(name, is_mild, history, check(history), (begin - BEFORE.min(begin), begin, end), watch)))
}
