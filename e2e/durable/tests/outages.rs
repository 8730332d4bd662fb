//! Three outages, short: the command has all of them. Its README says what is promised meanwhile.

use std::time::Duration;

use bucketmq_binary::find;
use bucketmq_durable::crowd::Level;
use bucketmq_durable::outages::{Plan, run};

/// Skipped, with the reason, where the machine has not what it takes.
fn keeps_everything_while(case: &str) {
    let plan = Plan {
        bucketmq: find(None).expect("cargo build --workspace --bins"),
        arguments: Vec::new(),
        seed: 7,
        level: Level::Mixed,
        lasts: Duration::from_secs(4),
        patience: Duration::from_secs(60),
        history: None,
        only: vec![case.to_owned()],
    };
    match run(&plan, |_| {}) {
        Ok(reports) => assert!(reports.len() == 1 && reports[0].is_clean(), "{reports:#?}"),
        Err(error) if ["is missing", "mount: "].iter().any(|lack| format!("{error:#}").contains(lack)) => eprintln!("skipped: {error:#}"),
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn nothing_acknowledged_is_lost_while_the_disk_is_full() {
    keeps_everything_while("`file://`, disk full, killed");
}

#[test]
fn nothing_acknowledged_is_lost_while_keys_are_rotated() {
    keeps_everything_while("keys withdrawn, then others in their file");
}

#[test]
fn nothing_acknowledged_is_lost_while_the_clock_is_set() {
    keeps_everything_while("`file://`, clock -1 h, killed");
}
