//! A few rounds with each store: the command runs hundreds. The last of them shows that losses are found.

use std::time::Duration;

use bucketmq_binary::find;
use bucketmq_durable::broker::{Place, Program};
use bucketmq_durable::crash::run;
use bucketmq_durable::crowd::Level;
use bucketmq_durable::run::{Plan, Report};
use bucketmq_servers::{Options, Versitygw};

fn a_few(place: Place, level: Level, rounds: u32) -> Report {
    let bucketmq = find(None).expect("cargo build --workspace --bins");
    let program = Program::BucketMq(bucketmq, place, Vec::new());
    let patience = Duration::from_secs(60);
    run(&Plan { program, rounds, seed: 7, level, patience, history: None }, |_| {}).expect("it runs")
}

fn keeps_everything(report: &Report) {
    assert!(report.verdict.is_clean() && report.verdict.counts.acknowledged > 0, "{:#?}", report.verdict);
}

#[test]
fn nothing_acknowledged_is_lost_with_an_s3_server() {
    let server = match Versitygw::start(Options::default()) {
        Ok(server) => server,
        Err(error) if error.to_string().contains("is missing") => {
            eprintln!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error:#}"),
    };
    keeps_everything(&a_few(Place::S3(server.access().clone(), "crash".to_owned()), Level::Two, 8));
}

#[test]
fn nothing_acknowledged_is_lost_with_a_directory() {
    let folder = tempfile::tempdir().expect("a directory");
    keeps_everything(&a_few(Place::Directory(folder.path().to_owned()), Level::Mixed, 8));
}

#[test]
fn losses_are_found_where_nothing_is_kept() {
    let program = Program::BucketMq(find(None).expect("cargo build --workspace --bins"), Place::Memory, Vec::new());
    let plan = Plan { program, rounds: 3, seed: 7, level: Level::Mixed, patience: Duration::from_secs(5), history: None };
    let report = run(&plan, |_| {}).expect("it runs");
    assert!(!report.verdict.is_clean(), "{:#?}", report.verdict);
    assert!(report.verdict.told.iter().all(|told| !told.history.is_empty()));
}
