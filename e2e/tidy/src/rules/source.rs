//! What Rust code does not hold.

use crate::{File, Tree, Violation, code};

/// Nothing is left for later: what is not there yet is not there at all.
pub fn unfinished(tree: &Tree) -> Vec<Violation> {
    macros(tree.rust(), &["todo!", "unimplemented!", "dbg!"], "unfinished", "write it or leave it out")
}

/// Libraries of the broker speak through `tracing`; the command line and `main.rs` print.
pub fn print_in_library(tree: &Tree) -> Vec<Violation> {
    let library = |file: &&File| {
        let path = file.path.as_str();
        let prints = ["/cli.rs", "/main.rs", "/build.rs"].iter().any(|end| path.ends_with(end))
            || ["/cli/", "/bin/", "/benches/", "/examples/"].iter().any(|part| path.contains(part));
        path.starts_with("broker/") && !prints
    };
    macros(tree.rust().filter(library), &["println!", "print!", "eprintln!", "eprint!"], "print", "log it by tracing, facts as fields")
}

fn macros<'a>(files: impl Iterator<Item = &'a File>, names: &[&str], rule: &'static str, remedy: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in files {
        for (number, line) in file.code_lines() {
            for name in names.iter().filter(|name| has_word(&line, name)) {
                found.push(Violation::new(&file.path, number, rule, format!("{name} has no place here: {remedy}")));
            }
        }
    }
    found
}

/// True where `word` does not continue another one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

/// A lint is silenced with a reason.
pub fn silenced_without_reason(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.rust() {
        let source = code::without_comments_and_literals(&file.text);
        for opening in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for (at, _) in source.match_indices(opening) {
                let attribute = &source[at..at + source[at..].find(")]").unwrap_or(source.len() - at)];
                if !attribute.contains("reason") {
                    let line = source[..at].matches('\n').count() + 1;
                    found.push(Violation::new(&file.path, line, "silenced", "mend what the lint says, or add `reason = \"...\"`"));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rule: super::super::Rule, path: &str, text: &str) -> Vec<usize> {
        rule(&Tree::of(&[(path, text)])).iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn unfinished_code_is_found_and_talk_about_it_is_not() {
        assert_eq!(lines(unfinished, "broker/a.rs", "fn a() {\n    todo!()\n}\n"), [2]);
        assert_eq!(lines(unfinished, "e2e/a.rs", "// todo!()\nlet a = \"dbg!\"; // unimplemented!\n"), [] as [usize; 0]);
    }

    #[test]
    fn libraries_do_not_print_and_commands_do() {
        let text = "println!();\neprintln!();\nmy_print!();\n";
        assert_eq!(lines(print_in_library, "broker/storage/src/lib.rs", text), [1, 2]);
        assert_eq!(lines(print_in_library, "broker/server/src/cli/client.rs", text), [] as [usize; 0]);
        assert_eq!(lines(print_in_library, "e2e/load/src/main.rs", text), [] as [usize; 0]);
    }

    #[test]
    fn a_silenced_lint_has_a_reason() {
        assert_eq!(lines(silenced_without_reason, "a.rs", "#[allow(dead_code)]\nfn a() {}\n"), [1]);
        assert_eq!(lines(silenced_without_reason, "a.rs", "\n#![expect(\n    dead_code,\n)]\n"), [2]);
        assert_eq!(lines(silenced_without_reason, "a.rs", "#[allow(dead_code, reason = \"generated\")]\n"), [] as [usize; 0]);
        assert_eq!(
            lines(silenced_without_reason, "a.rs", "#[allow(\n    dead_code,\n    reason = \"generated (twice)\"\n)]\n"),
            [] as [usize; 0]
        );
    }
}
