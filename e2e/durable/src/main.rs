//! `bucketmq-durable`: kills brokers, breaks buckets, and says what is left of what was acknowledged.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bucketmq_durable::broker::{Place, Program};
use bucketmq_durable::check::Verdict;
use bucketmq_durable::crowd::Level;
use bucketmq_durable::run::{self, Plan, Report};
use bucketmq_durable::{crash, fight, outages};
use bucketmq_servers::{Options, Versitygw};
use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes: 0 every promise was kept, 1 one was broken, 2 it could not be run.
A broken promise is told on stderr with what happened to its message, event by event.";

const CRASH_EXAMPLES: &str = "\
Examples:
  bucketmq-durable crash --rounds 200 --seed 1
  bucketmq-durable crash --rounds 10 --broker mosquitto
      a broker that is known to lose what it acknowledged: the checker has to find it";

const FIGHT_EXAMPLES: &str = "\
Examples:
  bucketmq-durable fight --rounds 200 --seed 1
  bucketmq-durable fight -- --member {pod} --takeover never
      what follows -- goes to each broker; {pod} is another name whenever one is replaced";

/// Kills brokers and breaks their bucket under load, and looks what is left of what they acknowledged.
#[derive(Debug, Parser)]
#[command(name = "bucketmq-durable", version, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rounds of kill -9 under QoS 1 and QoS 2 load.
    #[command(after_help = CRASH_EXAMPLES)]
    Crash(CrashArguments),
    /// The same with two brokers on one prefix, killed, frozen, told to stop and replaced.
    #[command(after_help = FIGHT_EXAMPLES)]
    Fight(FightArguments),
    /// A table of what happens while the bucket does not answer, or answers with errors.
    Outages(OutagesArguments),
}

#[derive(Debug, Args)]
struct Common {
    /// The bucketmq binary; without it the newest of the target folder.
    #[arg(long, value_name = "FILE")]
    bucketmq: Option<PathBuf>,
    /// Decides all moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// At which QoS is published.
    #[arg(long, value_enum, default_value_t = Level::Mixed)]
    qos: Level,
    /// When nothing at all has come for so many seconds, what has not come is lost.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Writes all that happened into this file, an event a line; of outages, the last case.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Writes the table into RESULTS.md.
    #[arg(long)]
    write: bool,
    /// What else to say on the broker's command line.
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Debug, Args)]
struct CrashArguments {
    #[command(flatten)]
    common: Common,
    /// How often the broker is killed.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Which broker is killed.
    #[arg(long, value_enum, default_value_t = Which::Bucketmq)]
    broker: Which,
    /// Where it keeps its state.
    #[arg(long, value_enum, default_value_t = Store::S3)]
    store: Store,
}

#[derive(Debug, Args)]
struct FightArguments {
    #[command(flatten)]
    common: Common,
    /// How often something is done to a broker.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// What they fight for.
    #[arg(long, value_enum, default_value_t = Store::S3)]
    store: Store,
}

#[derive(Debug, Args)]
struct OutagesArguments {
    #[command(flatten)]
    common: Common,
    /// How many seconds each outage lasts.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Only this case; may be repeated.
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// BucketMQ.
    Bucketmq,
    /// /usr/sbin/mosquitto, which saves its state once a second.
    Mosquitto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Store {
    /// versitygw, a real S3 server.
    S3,
    /// A local directory.
    File,
    /// Nowhere: shows that losses are found.
    Memory,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Crash(arguments) => run_crash(arguments),
        Command::Fight(arguments) => run_fight(arguments),
        Command::Outages(arguments) => run_outages(arguments),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// Where state is kept; it lives as long as the run.
struct Kept {
    place: Place,
    name: &'static str,
    _server: Option<bucketmq_servers::Server>,
    _folder: tempfile::TempDir,
}

impl Store {
    fn make(self) -> anyhow::Result<Kept> {
        let server = if self == Self::S3 { Some(Versitygw::start(Options::default())?) } else { None };
        let folder = tempfile::tempdir()?;
        let (name, place) = match (&server, self) {
            (Some(server), _) => ("versitygw (`s3://`)", Place::S3(server.access().clone(), "crash".to_owned())),
            (None, Self::Memory) => ("`memory://`", Place::Memory),
            (None, _) => ("a directory (`file://`)", Place::Directory(folder.path().to_owned())),
        };
        Ok(Kept { place, name, _server: server, _folder: folder })
    }
}

/// Ok(true): every promise was kept.
fn run_crash(arguments: CrashArguments) -> anyhow::Result<bool> {
    let CrashArguments { common, rounds, broker, store } = arguments;
    if broker == Which::Mosquitto {
        let program = Program::Mosquitto("/usr/sbin/mosquitto".into());
        return finish(&common, "crash", "Mosquitto", crash::run(&common.plan(program, rounds), progress(rounds))?);
    }
    let kept = store.make()?;
    let plan = common.plan(common.bucketmq(&kept, common.arguments.clone())?, rounds);
    finish(&common, "crash", kept.name, crash::run(&plan, progress(rounds))?)
}

fn run_fight(arguments: FightArguments) -> anyhow::Result<bool> {
    let FightArguments { common, rounds, store } = arguments;
    let kept = store.make()?;
    let said = if common.arguments.is_empty() { fight::ARGUMENTS.map(str::to_owned).to_vec() } else { common.arguments.clone() };
    let name = format!("{}, `{}`", kept.name, said.join(" "));
    let plan = common.plan(common.bucketmq(&kept, said)?, rounds);
    finish(&common, "fight", &name, fight::run(&plan, progress(rounds))?)
}

impl Common {
    fn bucketmq(&self, kept: &Kept, arguments: Vec<String>) -> anyhow::Result<Program> {
        Ok(Program::BucketMq(bucketmq_binary::find(self.bucketmq.clone())?, kept.place.clone(), arguments))
    }

    fn plan(&self, program: Program, rounds: u32) -> Plan {
        let patience = Duration::from_secs(self.patience);
        Plan { program, rounds, seed: self.seed, level: self.qos, patience, history: self.history.clone() }
    }
}

fn progress(rounds: u32) -> impl FnMut(u32) {
    move |round| {
        if round % 10 == 0 {
            eprintln!("{round} of {rounds} rounds");
        }
    }
}

/// Tells what came of it. Ok(true): every promise was kept.
fn finish(common: &Common, name: &'static str, place: &str, report: Report) -> anyhow::Result<bool> {
    let table = run::table(name, format!("{place}, QoS {}, seed {}", common.qos.name(), common.seed), &report);
    if common.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{:.0} s, of which {:.1} s until everything had come", report.seconds, report.drained_seconds);
        table.print();
    }
    tell(&report.verdict);
    if common.write {
        table.write(&results_file())?;
    }
    Ok(report.verdict.is_clean())
}

fn run_outages(arguments: OutagesArguments) -> anyhow::Result<bool> {
    let OutagesArguments { common, seconds, case } = arguments;
    let plan = outages::Plan {
        bucketmq: bucketmq_binary::find(common.bucketmq)?,
        arguments: common.arguments,
        seed: common.seed,
        level: common.qos,
        lasts: Duration::from_secs(seconds),
        patience: Duration::from_secs(common.patience),
        history: common.history,
        only: case,
    };
    let reports = outages::run(&plan, |report| {
        eprintln!("{}: {}", report.case, if report.is_clean() { "kept" } else { "broken" });
        for broken in &report.broken {
            eprintln!("  {broken}");
        }
        tell(&report.verdict);
    })?;
    let table = outages::table(&reports);
    if common.json {
        println!("{}", serde_json::to_string(&reports)?);
    } else {
        table.print();
    }
    if common.write {
        table.write(&results_file())?;
    }
    Ok(reports.iter().all(outages::Report::is_clean))
}

/// The first broken promises of each kind, with their history.
fn tell(verdict: &Verdict) {
    for (promise, count) in &verdict.broken {
        eprintln!("{}: {count}", promise.broken());
    }
    for told in &verdict.told {
        eprintln!("\n{}: {}", told.promise.broken(), told.what);
        for line in &told.history {
            eprintln!("  {line}");
        }
    }
}

fn results_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md")
}
