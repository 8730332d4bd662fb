//! Which room may know which.

use crate::{File, Tree, Violation};

/// Each crate of ours by its folder, and the folders it may depend on. `server` wires all rooms.
const ARROWS: [(&str, &[&str]); 26] = [
    ("broker/packet", &[]),
    ("broker/listener", &["broker/packet"]),
    ("broker/session", &["broker/packet"]),
    ("broker/access", &["broker/packet"]),
    ("broker/routing", &["broker/packet"]),
    ("broker/storage", &["broker/packet"]),
    ("broker/bucket", &["e2e/servers"]),
    ("broker/cluster", &["broker/packet", "broker/storage"]),
    ("broker/import", &["broker/packet", "broker/storage"]),
    ("broker/offline", &["broker/packet", "broker/storage", "broker/cluster"]),
    ("broker/admin", &["broker/packet"]),
    ("broker/image", &[]),
    (
        "broker/server",
        &[
            "broker/packet",
            "broker/listener",
            "broker/session",
            "broker/access",
            "broker/routing",
            "broker/storage",
            "broker/bucket",
            "broker/cluster",
            "broker/import",
            "broker/offline",
            "broker/admin",
            "e2e/servers",
        ],
    ),
    ("operator", &["broker/access", "broker/server"]),
    (
        "broker/simulation",
        &["broker/packet", "broker/listener", "broker/access", "broker/storage", "broker/bucket", "broker/cluster", "broker/server"],
    ),
    ("broker/fuzz", &["broker/packet", "broker/listener", "broker/session", "broker/routing", "broker/access"]),
    ("e2e/conformance", &["broker/packet", "e2e/binary"]),
    ("e2e/load", &["e2e/servers"]),
    ("e2e/clients", &["e2e/binary"]),
    ("e2e/durable", &["broker/packet", "e2e/binary", "e2e/servers"]),
    ("e2e/observe", &["e2e/binary", "e2e/servers"]),
    ("e2e/kubernetes", &["broker/packet", "operator", "e2e/binary", "e2e/cluster", "e2e/durable", "e2e/observe", "e2e/servers"]),
    ("e2e/binary", &[]),
    ("e2e/servers", &[]),
    ("e2e/cluster", &[]),
    ("e2e/tidy", &[]),
];

/// Rooms that do no I/O and know no clock, and what would bring one in.
const PURE: [&str; 3] = ["broker/packet", "broker/session", "broker/routing"];
const IO: [&str; 8] = ["tokio", "async-trait", "axum", "futures-util", "hyper", "mio", "rustls", "socket2"];

/// A crate depends only on the rooms its arrows point to.
pub fn between_rooms(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (manifest, folder) in manifests(tree) {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == folder) else {
            found.push(Violation::new(&manifest.path, 1, "arrows", "say in ARROWS of e2e/tidy which rooms this crate may know"));
            continue;
        };
        for (line, name) in dependencies(manifest, &["dependencies", "dev-dependencies", "build-dependencies"]) {
            let Some(target) = ours(&name) else { continue };
            if target != folder && !allowed.contains(&target.as_str()) {
                let remedy =
                    format!("{folder} must not know {target}: declare a trait in {folder}, or move the shared word to broker/packet");
                found.push(Violation::new(&manifest.path, line, "arrows", remedy));
            }
        }
    }
    found
}

/// The pure rooms stay so. What only their tests use is free.
pub fn rooms_without_io(tree: &Tree) -> Vec<Violation> {
    let mut found = Vec::new();
    for (manifest, folder) in manifests(tree).filter(|(_, folder)| PURE.contains(folder)) {
        for (line, name) in dependencies(manifest, &["dependencies", "build-dependencies"]) {
            if IO.contains(&name.as_str()) {
                let remedy = format!("{folder} does no I/O and knows no clock: take time as an argument and leave {name} to broker/server");
                found.push(Violation::new(&manifest.path, line, "pure", remedy));
            }
        }
    }
    found
}

fn manifests(tree: &Tree) -> impl Iterator<Item = (&File, &str)> {
    tree.files.iter().filter_map(|file| Some((file, file.path.strip_suffix("/Cargo.toml")?)))
}

/// The folder of a crate of ours.
fn ours(name: &str) -> Option<String> {
    match name.strip_prefix("bucketmq")? {
        "" => Some("broker/server".to_owned()),
        "-operator" => Some("operator".to_owned()),
        "-e2e-clients" => Some("e2e/clients".to_owned()),
        "-local-cluster" => Some("e2e/cluster".to_owned()),
        room => {
            let room = room.strip_prefix('-')?;
            let parent = if ["binary", "conformance", "durable", "kubernetes", "load", "observe", "servers", "tidy"].contains(&room) {
                "e2e"
            } else {
                "broker"
            };
            Some(format!("{parent}/{room}"))
        }
    }
}

/// The dependencies in these tables, those of `[target.'...']` included, with the line they stand on.
fn dependencies(manifest: &File, tables: &[&str]) -> Vec<(usize, String)> {
    let Ok(parsed) = manifest.text.parse::<toml::Table>() else { return Vec::new() };
    let of = |table: &toml::Table| -> Vec<String> {
        tables.iter().filter_map(|name| table.get(*name)?.as_table()).flat_map(|table| table.keys().cloned()).collect()
    };
    let mut names = of(&parsed);
    if let Some(targets) = parsed.get("target").and_then(toml::Value::as_table) {
        names.extend(targets.values().filter_map(toml::Value::as_table).flat_map(of));
    }
    names.into_iter().map(|name| (line_of(manifest, &name), name)).collect()
}

fn line_of(manifest: &File, name: &str) -> usize {
    let stands = |line: &str| {
        let after = line.trim_start_matches('[').split_once(name).filter(|(before, _)| before.is_empty() || before.ends_with('.'));
        after.is_some_and(|(_, rest)| rest.starts_with([' ', '=', '.', ']']))
    };
    manifest.lines().find(|(_, line)| stands(line)).map_or(1, |(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrow_that_points_back_is_found_with_its_line() {
        let tree = Tree::of(&[
            ("broker/packet/Cargo.toml", "[dependencies]\nbucketmq-session = { workspace = true }\n"),
            ("broker/session/Cargo.toml", "[dependencies]\nbucketmq-packet = { workspace = true }\n"),
            ("broker/routing/Cargo.toml", "[dev-dependencies]\nserde = \"1\"\nbucketmq = { workspace = true }\n"),
        ]);
        let found = between_rooms(&tree);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].path.as_str(), found[0].line), ("broker/packet/Cargo.toml", 2));
        assert!(found[0].remedy.contains("must not know broker/session"), "{}", found[0]);
        assert_eq!((found[1].path.as_str(), found[1].line), ("broker/routing/Cargo.toml", 3));
    }

    #[test]
    fn a_new_crate_has_to_say_what_it_may_know() {
        let found = between_rooms(&Tree::of(&[("broker/somewhere/Cargo.toml", "[dependencies]\n")]));
        assert!(found[0].remedy.contains("ARROWS"), "{}", found[0]);
    }

    #[test]
    fn a_pure_room_has_a_runtime_only_in_its_tests() {
        let tree = Tree::of(&[
            ("broker/session/Cargo.toml", "[dependencies.tokio]\nversion = \"1\"\n[dev-dependencies]\nmio = \"1\"\n"),
            ("broker/storage/Cargo.toml", "[dependencies]\ntokio = \"1\"\n"),
            ("broker/routing/Cargo.toml", "[target.'cfg(unix)'.dependencies]\nsocket2 = \"1\"\n"),
        ]);
        let found: Vec<_> = rooms_without_io(&tree).into_iter().map(|violation| (violation.path, violation.line)).collect();
        assert_eq!(found, [("broker/session/Cargo.toml".to_owned(), 1), ("broker/routing/Cargo.toml".to_owned(), 2)]);
    }
}
