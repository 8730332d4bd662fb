//! Metrics.

use crate::{Tree, Violation};

/// Name constants of a room's `metrics.rs` begin with `mqtt_`, so that a dashboard finds all of them.
pub fn prefix(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    let of_metrics = |path: &str| path.starts_with("broker/") && (path.ends_with("/metrics.rs") || path.contains("/metrics/"));
    for file in tree.rust().filter(|file| of_metrics(&file.path)) {
        for (number, line) in file.lines() {
            if let Some(name) = name(line).filter(|name| !is_metric_name(name)) {
                let remedy = format!("call it mqtt_{}, in lower case with underscores", name.trim_start_matches("mqtt_"));
                found.push(Violation::new(&file.path, number, "metric", remedy));
            }
        }
    }
    found
}

fn is_metric_name(name: &str) -> bool {
    name.starts_with("mqtt_") && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The first literal of a line that declares a constant text, or makes a metric from a literal.
fn name(line: &str) -> Option<&str> {
    let declares = line.contains("const ") && line.contains(": &str = \"");
    let makes = ["Opts::new(\"", "Desc::new(\""].iter().any(|call| line.contains(call));
    (declares || makes).then(|| line.split('"').nth(1)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_without_the_prefix_is_found() {
        let text = "pub const A: &str = \"mqtt_a_total\";\npub const B: &str = \"b_total\";\nOpts::new(\"mqtt_C\", \"C.\");\nOpts::new(A, \"help\");\n";
        let lines: Vec<_> = prefix(&Tree::of(&[("broker/server/src/metrics.rs", text)])).iter().map(|violation| violation.line).collect();
        assert_eq!(lines, [2, 3]);
        assert!(prefix(&Tree::of(&[("e2e/load/src/metrics.rs", text)])).is_empty());
    }
}
