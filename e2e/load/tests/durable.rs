//! `load durable --quick`: every row runs with the real broker and a real S3 server, and nothing acknowledged is lost. Never how fast: the
//! build is not optimized and the machine is shared.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The broker that was built beside the tool.
fn bucketmq() -> &'static Path {
    let binary = Path::new(env!("CARGO_BIN_EXE_load")).with_file_name("bucketmq");
    assert!(binary.is_file(), "{} is missing: cargo build --workspace --bins", binary.display());
    Box::leak(binary.into_boxed_path())
}

#[test]
fn every_row_runs_and_nothing_acknowledged_is_lost() {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["durable", "--quick", "--json", "--bucketmq"])
        .arg(bucketmq())
        .output()
        .expect("load can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let results: Value = serde_json::from_slice(&output.stdout).expect("one line of JSON");
    let rows = results["rows"].as_object().expect("rows");
    let listed = Command::new(env!("CARGO_BIN_EXE_load")).args(["durable", "--list"]).output().expect("load can be run");
    assert_eq!(rows.len(), String::from_utf8_lossy(&listed.stdout).lines().count(), "{said}");
    for (name, row) in rows {
        assert_eq!(row["faults"], Value::Array(Vec::new()), "{name}: {said}");
        let values = row["values"].as_object().expect("values");
        assert!(!values.is_empty() && values.values().flatten_values().all(f64::is_finite), "{name}: {row}");
    }
    let value = |row: &str, figure: &str| rows[row]["values"][figure][0].as_f64().unwrap_or_else(|| panic!("{row}, {figure}: {said}"));
    // Counts, which do not depend on how fast the machine is.
    assert!(value("start", "requests") > 16.0, "the proxy counts what opening sixteen shards needs");
    assert!(value("paced", "PUT, busiest shard") > 0.0 && value("paced", "PUT, all shards") >= value("paced", "PUT, busiest shard"));
    assert!(value("queue", "bytes PUT / payload") >= 1.0, "every byte was written at least once");
    assert!(value("latency", "PUBACK p50") >= 30.0, "an acknowledgement waits for a PUT of 30 ms");
    assert!(value("cost-1k", "PUT and LIST") > 0.0 && value("cost-1k", "stored") > 0.0);
}

#[test]
fn row_that_does_not_exist_is_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_load")).args(["durable", "--rows", "start,nothing"]).output().expect("load can be run");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no row nothing"));
}

/// Numbers in lists.
trait Flatten {
    fn flatten_values(self) -> impl Iterator<Item = f64>;
}

impl<'a, I: Iterator<Item = &'a Value>> Flatten for I {
    fn flatten_values(self) -> impl Iterator<Item = f64> {
        self.flat_map(|list| list.as_array().into_iter().flatten()).filter_map(Value::as_f64)
    }
}
