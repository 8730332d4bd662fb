//! What CI asks of the simulation: a seed is the same twice, planted bugs are found, and the first seeds are clean.

use std::process::{Command, Output};

/// Seeds CI runs every time.
const SEEDS: &str = "1..101";
/// Within so many seeds each planted bug has to be found.
const PLANTED: &str = "1..41";

fn simulation(arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_bucketmq-simulation")).args(arguments).output().expect("the simulation starts");
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.success(), text)
}

fn is_found(plant: &str) {
    // A broken fence lets brokers turn in a circle: that is found, too, but nobody wants to wait for it.
    let (clean, text) = simulation(&["run", "--seeds", PLANTED, "--plant", plant, "--patience", "60"]);
    assert!(!clean, "{plant} was not found within seeds {PLANTED}:\n{text}");
    assert!(text.contains("FAILED"), "{plant}: no seed is told\n{text}");
}

#[test]
fn a_seed_is_the_same_twice() {
    // One with several brokers, a rival among them, and one without misfortune.
    for seed in ["2", "16", "104"] {
        let (clean, text) = simulation(&["smoke", "--seed", seed]);
        assert!(clean, "{text}");
    }
}

#[test]
fn the_first_seeds_are_clean() {
    let (clean, text) = simulation(&["run", "--seeds", SEEDS, "--keep-going"]);
    assert!(clean, "{text}");
}

#[test]
fn an_early_acknowledgement_is_found() {
    is_found("early-acknowledgement");
}

#[test]
fn a_lost_fence_is_found() {
    is_found("lost-fence");
}

#[test]
fn an_outbox_number_that_is_used_again_is_found() {
    is_found("reused-number");
}

#[test]
fn a_session_number_that_is_used_again_is_found() {
    is_found("reused-session");
}
