//! A few rounds with each store: the command runs hundreds.

use bucketmq_durable::broker::{Store, find};
use bucketmq_durable::crash::{Plan, run};

fn a_few(store: Store, rounds: u32) -> bucketmq_durable::crash::Report {
    let bucketmq = find(None).expect("cargo build --workspace --bins");
    run(&Plan { bucketmq, rounds, seed: 7 }, store, |_| {}).expect("it runs")
}

#[test]
fn nothing_acknowledged_is_lost_with_an_s3_server() {
    let report = a_few(Store::s3().expect("versitygw: e2e/servers/install"), 8);
    assert!(report.verdict.is_clean() && report.verdict.acknowledged > 0, "{:#?}", report.verdict);
}

#[test]
fn nothing_acknowledged_is_lost_with_a_directory() {
    let report = a_few(Store::directory().expect("a directory"), 8);
    assert!(report.verdict.is_clean() && report.verdict.acknowledged > 0, "{:#?}", report.verdict);
}

#[test]
fn losses_are_found_where_nothing_is_kept() {
    let report = a_few(Store::Nowhere, 3);
    assert!(report.verdict.lost + report.verdict.sessions_lost > 0, "{:#?}", report.verdict);
}
