//! The lock file.

use crate::{Tree, Violation};

/// Where two versions would mean two TLS or HTTP stacks: twice the code to trust, and types that do not fit together.
const ONCE: [&str; 6] = ["axum", "h2", "http", "hyper", "rustls", "tokio-rustls"];

/// One version of each of these.
pub fn one_version(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| file.name() == "Cargo.lock") {
        for name in ONCE {
            let entry = format!("name = \"{name}\"");
            let lines: Vec<_> = file.lines().filter(|(_, line)| *line == entry).map(|(number, _)| number).collect();
            if let [_, second, ..] = lines.as_slice() {
                let remedy =
                    format!("{name} is locked in {} versions: `cargo tree --invert {name}` says by whom; bring them to one", lines.len());
                found.push(Violation::new(&file.path, *second, "lock-file", remedy));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_tls_stack_is_found() {
        let once = "[[package]]\nname = \"rustls\"\nversion = \"0.23.0\"\n";
        assert!(one_version(&Tree::of(&[("Cargo.lock", once)])).is_empty());
        let found = one_version(&Tree::of(&[("Cargo.lock", &once.repeat(2))]));
        assert_eq!((found.len(), found[0].line), (1, 5));
    }

    #[test]
    fn other_packages_may_come_twice() {
        assert!(one_version(&Tree::of(&[("Cargo.lock", "name = \"syn\"\nname = \"syn\"\n")])).is_empty());
    }
}
