//! Licences of everything that is compiled in.

use anyhow::Context;
use serde_json::Value;

use crate::Violation;

/// Licences that ask for no more than a notice, or only for changes to the files they came with.
const ALLOWED: [&str; 15] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Judges every package of `metadata`, the output of `cargo metadata --format-version 1`.
pub fn check(metadata: &str) -> anyhow::Result<Vec<Violation>> {
    let metadata: Value = serde_json::from_str(metadata).context("read cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata without packages")?;
    let forbidden = |package: &&Value| !package["license"].as_str().is_some_and(is_allowed);
    let violation = |package: &Value| {
        let name = package["name"].as_str().unwrap_or("?");
        let licence = package["license"].as_str().unwrap_or("none");
        let remedy = format!("{name} has licence {licence}: do without it, or add the licence to ALLOWED in e2e/tidy with the reason");
        Violation::new("Cargo.lock", 1, "licence", remedy)
    };
    Ok(packages.iter().filter(forbidden).map(violation).collect())
}

/// SPDX: `AND` binds closer than `OR`; `A/B` is the old way to write `A OR B`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    any(&mut rest) && rest.is_empty()
}

fn any(rest: &mut &[&str]) -> bool {
    let mut allowed = all(rest);
    while let Some(tail) = rest.strip_prefix(&["OR"]) {
        *rest = tail;
        allowed |= all(rest);
    }
    allowed
}

fn all(rest: &mut &[&str]) -> bool {
    let mut allowed = one(rest);
    while let Some(tail) = rest.strip_prefix(&["AND"]) {
        *rest = tail;
        allowed &= one(rest);
    }
    allowed
}

fn one(rest: &mut &[&str]) -> bool {
    match **rest {
        ["(", ref tail @ ..] => {
            *rest = tail;
            let allowed = any(rest);
            *rest = rest.strip_prefix(&[")"]).unwrap_or_default();
            allowed
        }
        [licence, "WITH", exception, ref tail @ ..] => {
            *rest = tail;
            ALLOWED.contains(&format!("{licence} WITH {exception}").as_str())
        }
        [licence, ref tail @ ..] => {
            *rest = tail;
            ALLOWED.contains(&licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_writes_them() {
        for (expression, allowed) in [
            ("MIT", true),
            ("MIT OR GPL-3.0", true),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND GPL-3.0", false),
            ("GPL-3.0 OR MIT AND ISC", true),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("AGPL-3.0", false),
            ("", false),
        ] {
            assert_eq!(is_allowed(expression), allowed, "{expression}");
        }
    }

    #[test]
    fn a_package_without_a_licence_is_named() {
        let found = check(r#"{"packages":[{"name":"a","license":"MIT"},{"name":"b","license":null}]}"#).expect("metadata");
        assert_eq!(found.len(), 1);
        assert!(found[0].remedy.starts_with("b has licence none"), "{}", found[0]);
    }
}
