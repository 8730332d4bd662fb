//! What files are called, where they stand, how they open, and their white space.

use crate::{Tree, Violation};

/// What may stand at the root: the house's own rooms (some of them still to come) and the files tools look for there.
const TOP_LEVEL: [&str; 23] = [
    ".cargo",
    ".ci",
    ".dockerignore",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "Dockerfile",
    "LICENSE",
    "NOTICE",
    "README.md",
    "SECURITY.md",
    "broker",
    "charts",
    "clippy.toml",
    "crds",
    "e2e",
    "operator",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "terraform",
];

const SAYS_NOTHING: [&str; 5] = ["common", "helpers", "misc", "util", "utils"];

/// Every Rust file opens with what it is and what it promises.
pub fn opening_comment(tree: &Tree) -> Vec<Violation> {
    tree.rust()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| Violation::new(&file.path, 1, "opening-comment", "open the file with `//!`: what it is, what it promises"))
        .collect()
}

/// No drawer for odds and ends.
pub fn name_says_nothing(tree: &Tree) -> Vec<Violation> {
    let says_nothing = |path: &&String| path.split('/').any(|part| SAYS_NOTHING.contains(&part.strip_suffix(".rs").unwrap_or(part)));
    tree.paths
        .iter()
        .filter(says_nothing)
        .map(|path| Violation::new(path, 1, "name", "name it after what it holds; what all share lives in `packet`"))
        .collect()
}

/// Only what is meant to be there stands at the root.
pub fn top_level(tree: &Tree) -> Vec<Violation> {
    let mut entries: Vec<_> =
        tree.paths.iter().filter_map(|path| path.split('/').next()).filter(|entry| !TOP_LEVEL.contains(entry)).collect();
    entries.dedup();
    entries
        .into_iter()
        .map(|entry| {
            Violation::new(entry, 1, "top-level", "move it into the room it belongs to, or add it to TOP_LEVEL in e2e/tidy with the reason")
        })
        .collect()
}

/// Inputs of fuzz targets are what they are, byte by byte.
const CORPUS: &str = "broker/fuzz/corpus/";

/// Unix line ends, nothing behind the last word, one newline at the end.
pub fn white_space(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.starts_with(CORPUS)) {
        let mut broken = |line, remedy: &str| found.push(Violation::new(&file.path, line, "white-space", remedy));
        for (number, line) in file.text.split('\n').enumerate().map(|(index, line)| (index + 1, line)) {
            if line.ends_with('\r') {
                broken(number, "end the line with LF alone");
            } else if line.ends_with([' ', '\t']) {
                broken(number, "remove the blanks at the end");
            }
        }
        if !file.text.is_empty() && (!file.text.ends_with('\n') || file.text.ends_with("\n\n")) {
            broken(file.text.lines().count(), "end the file with one newline");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_opening_comment_is_named() {
        let tree = Tree::of(&[("broker/a.rs", "//! Right.\n"), ("broker/b.rs", "// Wrong.\n"), ("broker/c.txt", "other\n")]);
        assert_eq!(opening_comment(&tree).iter().map(|violation| violation.path.as_str()).collect::<Vec<_>>(), ["broker/b.rs"]);
    }

    #[test]
    fn drawers_for_odds_and_ends_are_named() {
        let tree = Tree::of(&[("broker/util.rs", ""), ("broker/common/mod.rs", ""), ("broker/utility.rs", "")]);
        assert_eq!(name_says_nothing(&tree).len(), 2);
    }

    #[test]
    fn a_stranger_at_the_root_is_named_once() {
        let tree = Tree::of(&[("broker/a.rs", ""), ("notes/a.md", ""), ("notes/b.md", ""), ("README.md", "")]);
        assert_eq!(top_level(&tree).iter().map(|violation| violation.path.as_str()).collect::<Vec<_>>(), ["notes"]);
    }

    #[test]
    fn blanks_carriage_returns_and_missing_newlines_are_found() {
        for (text, lines) in
            [("a\nb\n", vec![]), ("a \nb\t\n", vec![1, 2]), ("a\r\nb\n", vec![1]), ("a\nb", vec![2]), ("a\n\n", vec![2]), ("", vec![])]
        {
            let found = white_space(&Tree::of(&[("a.txt", text)]));
            assert_eq!(found.iter().map(|violation| violation.line).collect::<Vec<_>>(), lines, "{text:?}");
        }
    }
}
