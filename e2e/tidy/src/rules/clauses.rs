//! Clause identifiers: each one written in code or prose stands in the conformance tables.

use std::collections::HashSet;

use crate::{Tree, Violation};

const TABLE_5_0: &str = "e2e/conformance/statements/mqtt-5.0.toml";
const TABLE_3_1_1: &str = "e2e/conformance/statements/mqtt-3.1.1.toml";
/// What stands before an identifier of the older text.
const OLDER: &str = "3.1.1 ";

/// A bare identifier is a statement of 5.0, one after `3.1.1` a statement of 3.1.1. In e2e/conformance itself the place says which, so there it may be
/// either.
pub fn exist(tree: &Tree) -> Vec<Violation> {
    let (Some(newer), Some(older)) = (table(tree, TABLE_5_0), table(tree, TABLE_3_1_1)) else {
        return vec![Violation::new(TABLE_5_0, 1, "clause", "the tables of statements are gone: mend the paths in e2e/tidy")];
    };
    let mut found = Vec::new();
    let prose_or_code = |path: &str| path.ends_with(".rs") || path.ends_with(".md");
    for file in tree.files.iter().filter(|file| prose_or_code(&file.path) && !file.path.starts_with("e2e/tidy/")) {
        let either = file.path.starts_with("e2e/conformance/");
        for (number, line) in file.lines() {
            for (at, id) in identifiers(line) {
                let is_older = line[..at].ends_with(OLDER);
                let known = if either {
                    newer.contains(id) || older.contains(id)
                } else if is_older {
                    older.contains(id)
                } else {
                    newer.contains(id)
                };
                if !known {
                    let version = if is_older { "3.1.1" } else { "5.0" };
                    let remedy = match older.contains(id) {
                        true if !is_older => format!("{id} is a statement of 3.1.1: write [3.1.1 {id}]"),
                        _ => format!("MQTT {version} has no statement {id}: look it up in e2e/conformance/statements"),
                    };
                    found.push(Violation::new(&file.path, number, "clause", remedy));
                }
            }
        }
    }
    found
}

fn table(tree: &Tree, path: &str) -> Option<HashSet<String>> {
    Some(tree.get(path)?.text.parse::<toml::Table>().ok()?.keys().cloned().collect())
}

/// `MQTT-` followed by a digit, up to where digits, dots and dashes end. A dot or dash that ends the sentence is not part of it.
fn identifiers(line: &str) -> impl Iterator<Item = (usize, &str)> {
    line.match_indices("MQTT-").filter_map(|(at, prefix)| {
        let tail = &line[at + prefix.len()..];
        let end = tail.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(tail.len());
        let number = tail[..end].trim_end_matches(['.', '-']);
        number.starts_with(|c: char| c.is_ascii_digit()).then(|| (at, &line[at..at + prefix.len() + number.len()]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::of(&[
            (TABLE_5_0, "\"MQTT-3.1.0-1\" = {}\n"),
            (TABLE_3_1_1, "\"MQTT-3.1.0-1\" = {}\n\"MQTT-3-8.3-4\" = {}\n"),
            (path, text),
        ]);
        exist(&tree).into_iter().map(|violation| violation.remedy).collect()
    }

    #[test]
    fn a_bare_identifier_is_of_5_0() {
        assert!(found("broker/a.rs", "// [MQTT-3.1.0-1] ![MQTT-3.1.0-1] MQTT-over-WebSocket\n").is_empty());
        assert_eq!(
            found("broker/a.rs", "// As MQTT-3.1.0-1 says, [MQTT-3.1.0-2].\n"),
            ["MQTT 5.0 has no statement MQTT-3.1.0-2: look it up in e2e/conformance/statements"]
        );
    }

    #[test]
    fn an_identifier_after_3_1_1_is_of_3_1_1() {
        assert!(found("broker/a.rs", "refuse(\"3.1.1 MQTT-3-8.3-4\") // [3.1.1 MQTT-3.1.0-1]\n").is_empty());
        assert_eq!(found("broker/a.rs", "// [MQTT-3-8.3-4]\n"), ["MQTT-3-8.3-4 is a statement of 3.1.1: write [3.1.1 MQTT-3-8.3-4]"]);
        assert_eq!(found("broker/a.rs", "// [3.1.1 MQTT-3.1.0-7]\n").len(), 1);
    }

    #[test]
    fn the_conformance_tests_may_name_either() {
        assert!(found("e2e/conformance/src/a.rs", "\"MQTT-3-8.3-4\"\n").is_empty());
        assert_eq!(found("e2e/conformance/src/a.rs", "\"MQTT-3-8.3-5\"\n").len(), 1);
    }

    #[test]
    fn prose_is_read_too_and_other_files_are_not() {
        assert_eq!(found("broker/ARCHITECTURE.md", "[MQTT-1-1]\n").len(), 1);
        assert!(found("broker/a.toml", "MQTT-1-1\n").is_empty());
    }
}
