//! `bucketmq-durable`: kills brokers, breaks buckets, and says what is left of what was acknowledged.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bucketmq_durable::broker::{Place, Program, find};
use bucketmq_durable::check::{Promise, Verdict};
use bucketmq_durable::crash::{self, Plan, Report};
use bucketmq_durable::crowd::Level;
use bucketmq_durable::outages;
use bucketmq_durable::results::Table;
use bucketmq_servers::{Options, Versitygw};
use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes: 0 every promise was kept, 1 one was broken, 2 it could not be run.
A broken promise is told on stderr with what happened to its message, event by event.";

const CRASH_EXAMPLES: &str = "\
Examples:
  bucketmq-durable crash --rounds 200 --seed 1
  bucketmq-durable crash --brokers 2 -- --log-level debug
      two brokers fight for one prefix; what follows -- goes to each, {n} being its number
  bucketmq-durable crash --rounds 10 --broker mosquitto
      a broker that is known to lose what it acknowledged: the checker has to find it";

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
    /// How often a broker is killed.
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// How many brokers fight for one prefix.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    brokers: u8,
    /// Which broker is killed.
    #[arg(long, value_enum, default_value_t = Which::Bucketmq)]
    broker: Which,
    /// Where it keeps its state.
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

/// Ok(true): every promise was kept.
fn run_crash(arguments: CrashArguments) -> anyhow::Result<bool> {
    let CrashArguments { common, rounds, brokers, broker, store } = arguments;
    // Both live as long as the run.
    let server = if broker == Which::Bucketmq && store == Store::S3 { Some(Versitygw::start(Options::default())?) } else { None };
    let folder = tempfile::tempdir()?;
    let (name, program) = match broker {
        Which::Mosquitto => ("Mosquitto", Program::Mosquitto("/usr/sbin/mosquitto".into())),
        Which::Bucketmq => {
            let (name, place) = match (&server, store) {
                (Some(server), _) => ("versitygw (`s3://`)", Place::S3(server.access().clone(), "crash".to_owned())),
                (None, Store::Memory) => ("`memory://`", Place::Memory),
                (None, _) => ("a directory (`file://`)", Place::Directory(folder.path().to_owned())),
            };
            (name, Program::BucketMq(find(common.bucketmq)?, place, common.arguments))
        }
    };
    let patience = Duration::from_secs(common.patience);
    let plan =
        Plan { program, brokers: usize::from(brokers), rounds, seed: common.seed, level: common.qos, patience, history: common.history };
    let report = crash::run(&plan, |round| {
        if round % 10 == 0 {
            eprintln!("{round} of {rounds} rounds");
        }
    })?;
    let brokers = if brokers == 1 { "1 broker" } else { "2 brokers" };
    let table = crash_table(format!("{name}, {brokers}, QoS {}, seed {}", common.qos.name(), common.seed), &report);
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

fn crash_table(name: String, report: &Report) -> Table {
    let counts = &report.verdict.counts;
    let broken = |promise| report.verdict.broken(promise).to_string();
    let [serving, starting, draining] = report.kills;
    let other = [Promise::HandshakeEnded, Promise::BrokerThere, Promise::Sense].map(|promise| report.verdict.broken(promise));
    let row = vec![
        name,
        format!("{serving} + {starting} + {draining}"),
        report.fenced.to_string(),
        format!("{}, {} ms", report.back_ms.0, report.back_ms.1),
        counts.acknowledged.to_string(),
        (counts.owed + counts.wills_owed).to_string(),
        counts.sessions_kept.to_string(),
        broken(Promise::Delivered),
        broken(Promise::Once),
        broken(Promise::InOrder),
        broken(Promise::SessionKept),
        broken(Promise::RetainedFresh),
        broken(Promise::WillFired),
        other.iter().sum::<u64>().to_string(),
        format!("{} ({})", counts.repeated_qos1, counts.repeated_without_dup),
    ];
    let head = vec![
        "run",
        "kills: serving + starting + draining",
        "fenced",
        "back after: middle, longest",
        "acknowledged",
        "deliveries owed",
        "Sessions resumed",
        "lost",
        "QoS 2 twice",
        "out of order",
        "Sessions lost",
        "retained too old",
        "Wills lost",
        "other",
        "QoS 1 twice (with DUP 0)",
    ];
    Table { name: "crash", head, rows: vec![row] }
}

fn run_outages(arguments: OutagesArguments) -> anyhow::Result<bool> {
    let OutagesArguments { common, seconds, case } = arguments;
    let plan = outages::Plan {
        bucketmq: find(common.bucketmq)?,
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
